use rstest::rstest;
use selvedge_protos::orderer::{
    SeekNewest, SeekNextCommit, SeekOldest, SeekPosition, SeekSpecified,
};

use super::seek_position::Type;
use super::*;

/// Blocks of the ledger.
const HEIGHT: u64 = 5;

fn oldest() -> Option<Type> {
    Some(Type::Oldest(SeekOldest {}))
}

fn newest() -> Option<Type> {
    Some(Type::Newest(SeekNewest {}))
}

fn next() -> Option<Type> {
    Some(Type::NextCommit(SeekNextCommit {}))
}

fn block(number: u64) -> Option<Type> {
    Some(Type::Specified(SeekSpecified { number }))
}

#[rstest]
#[case::everything(oldest(), newest(), Ok((0, 4)))]
#[case::first(oldest(), oldest(), Ok((0, 0)))]
#[case::only_newest(newest(), newest(), Ok((4, 4)))]
#[case::one(block(2), block(2), Ok((2, 2)))]
#[case::some(block(2), block(3), Ok((2, 3)))]
#[case::one_by_oldest(block(2), oldest(), Ok((2, 2)))]
#[case::for_ever(block(2), block(u64::MAX), Ok((2, u64::MAX)))]
#[case::next_alone(next(), block(5), Ok((5, 5)))]
#[case::from_next_on(next(), block(u64::MAX), Ok((5, u64::MAX)))]
#[case::due(block(5), block(7), Ok((5, 7)))]
#[case::too_far(block(6), block(7), Err(Code::NotFound))]
#[case::too_far_wins(block(6), block(1), Err(Code::NotFound))]
#[case::backwards(block(3), block(2), Err(Code::BadRequest))]
#[case::next_backwards(next(), block(4), Err(Code::BadRequest))]
#[case::stop_at_next_is_block_0(oldest(), next(), Ok((0, 0)))]
#[case::stop_without_type_is_block_0(block(3), None, Ok((3, 0)))]
#[case::start_without_type(None, newest(), Err(Code::NotFound))]
fn ranges_are_fabrics(
    #[case] start: Option<Type>,
    #[case] stop: Option<Type>,
    #[case] expected: Result<(u64, u64), Code>,
) {
    let info = SeekInfo {
        start: Some(SeekPosition { r#type: start }),
        stop: Some(SeekPosition { r#type: stop }),
        ..Default::default()
    };
    assert_eq!(range(&info, 0, HEIGHT), expected);
}

#[rstest]
#[case::everything(3, oldest(), newest(), Err(Code::NotFound))]
#[case::before(3, block(2), block(4), Err(Code::NotFound))]
#[case::from_the_first(3, block(3), newest(), Ok((3, 4)))]
#[case::newest(3, newest(), newest(), Ok((4, 4)))]
#[case::no_block_yet(5, newest(), newest(), Ok((5, 5)))]
#[case::from_the_next(5, block(5), block(u64::MAX), Ok((5, u64::MAX)))]
fn a_ledger_may_begin_after_a_snapshot(
    #[case] first: u64,
    #[case] start: Option<Type>,
    #[case] stop: Option<Type>,
    #[case] expected: Result<(u64, u64), Code>,
) {
    let info = SeekInfo {
        start: Some(SeekPosition { r#type: start }),
        stop: Some(SeekPosition { r#type: stop }),
        ..Default::default()
    };
    assert_eq!(range(&info, first, HEIGHT), expected);
}

#[test]
fn both_ends_must_be_there() {
    let position = Some(SeekPosition { r#type: newest() });
    let only_start = SeekInfo {
        start: position,
        ..Default::default()
    };
    let only_stop = SeekInfo {
        stop: position,
        ..Default::default()
    };
    for info in [only_start, only_stop, SeekInfo::default()] {
        assert_eq!(range(&info, 0, HEIGHT), Err(Code::BadRequest));
    }
}
