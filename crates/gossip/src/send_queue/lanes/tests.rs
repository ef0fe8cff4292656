use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn lane(name: &str) -> Option<ChannelId> {
    Some(ChannelId::from(name))
}

fn frame(length: usize) -> Bytes {
    Bytes::from(vec![0; length])
}

fn filled(frames: &[(&str, usize)]) -> Lanes<Bytes> {
    let mut lanes = Lanes::<Bytes>::default();
    for (name, length) in frames {
        lanes.push(lane(name), frame(*length));
    }
    lanes
}

/// What leaves, in order.
fn drain(lanes: &mut Lanes<Bytes>) -> Vec<(Option<ChannelId>, usize)> {
    std::iter::from_fn(|| lanes.pop())
        .map(|(lane, frame)| (lane, frame.len()))
        .collect()
}

fn lanes_of(frames: &[(Option<ChannelId>, usize)]) -> String {
    let names = frames.iter().flat_map(|(lane, _)| lane);
    names.map(ChannelId::as_str).collect()
}

#[test]
fn equal_frames_take_turns_and_stay_in_order_in_their_lane() {
    let mut lanes = filled(&[("a", 10), ("a", 11), ("a", 12), ("b", 10), ("c", 10)]);
    lanes.push(lane("b"), frame(11));
    let left = drain(&mut lanes);
    assert_eq!(lanes_of(&left), "abcaba");
    let of_a: Vec<_> = left.iter().filter(|(it, _)| *it == lane("a")).collect();
    assert_eq!(
        of_a.iter().map(|(_, length)| *length).collect::<Vec<_>>(),
        [10, 11, 12]
    );
    assert_eq!(lanes.size(), Size::default());
    assert!(lanes.waiting.is_empty(), "empty lanes are forgotten");
}

#[test]
fn turns_are_by_bytes() {
    let mut lanes = filled(&[("L", 1000), ("L", 1000)]);
    for _ in 0..20 {
        lanes.push(lane("s"), frame(100));
    }
    // The tenth small frame is due when the large one is, which stood in front of it.
    assert_eq!(lanes_of(&drain(&mut lanes)), "sssssssssLssssssssssLs");
}

#[test]
fn who_comes_late_owes_nothing_and_has_nothing_saved() {
    let mut lanes = filled(&[("a", 100), ("a", 100), ("a", 100), ("a", 100)]);
    lanes.pop();
    lanes.pop();
    for _ in 0..3 {
        lanes.push(lane("b"), frame(100));
    }
    assert_eq!(lanes_of(&drain(&mut lanes)), "ababb");
}

#[test]
fn nobody_wins_by_being_empty_for_a_moment() {
    // Of the large ones there is never more than one in the lane, which is empty when it has left.
    let mut lanes = filled(&[("L", 1000)]);
    let mut bytes = [0, 0];
    for _ in 0..1100 {
        if lanes.size_of(lane("L").as_ref()).frames == 0 {
            lanes.push(lane("L"), frame(1000));
        }
        while lanes.size_of(lane("s").as_ref()).frames < 2 {
            lanes.push(lane("s"), frame(10));
        }
        let (left, frame) = lanes.pop().unwrap();
        bytes[usize::from(left == lane("s"))] += frame.len();
    }
    let [large, small] = bytes;
    assert!(large.abs_diff(small) <= 1000, "{large} and {small} bytes");
}

#[test]
fn empty_frames_do_not_hold_up_others() {
    let mut lanes = filled(&[("a", 3)]);
    for _ in 0..10 {
        lanes.push(lane("e"), Bytes::new());
    }
    assert_eq!(lanes_of(&drain(&mut lanes)), "eeaeeeeeeee");
}

#[test]
fn the_back_of_the_longest_lane_gives_way() {
    let mut lanes = filled(&[("a", 300), ("a", 301), ("b", 100), ("b", 101), ("b", 102)]);
    let limit = |frames, bytes| Size { frames, bytes };
    // Bytes are short: "a" holds more of them. Frames are short: "b" does.
    assert_eq!(lanes.shrink(limit(5, 800), Size::default()), Some(1));
    assert_eq!(lanes.size_of(lane("a").as_ref()), limit(1, 300));
    assert_eq!(lanes.shrink(limit(3, 800), Size::default()), Some(1));
    assert_eq!(lanes.size_of(lane("b").as_ref()), limit(2, 201));
    assert_eq!(lanes.shrink(limit(3, 800), Size::default()), Some(0));
    // Who holds no more than is spared gives nothing, and then nobody does.
    assert_eq!(lanes.shrink(limit(3, 200), limit(1, 250)), None);
    assert_eq!(lanes.size(), limit(3, 501));
    assert_eq!(lanes.shrink(limit(0, 0), Size::default()), Some(3));
    assert_eq!(lanes.size(), Size::default());
    assert!(lanes.pop().is_none());
}

proptest! {
    /// As long as lanes wait, none has had more than another, but for one frame of each.
    #[test]
    fn lanes_that_wait_get_equally_many_bytes(
        lengths in prop::collection::vec(prop::collection::vec(1_usize..1000, 1..40), 2..6),
    ) {
        let mut lanes = Lanes::<Bytes>::default();
        for (number, lengths) in lengths.iter().enumerate() {
            for length in lengths {
                lanes.push(lane(&number.to_string()), frame(*length));
            }
        }
        let mut had = vec![0_usize; lengths.len()];
        while lanes.waiting.len() == lengths.len() {
            let (left, frame) = lanes.pop().unwrap();
            had[left.unwrap().as_str().parse::<usize>().unwrap()] += frame.len();
            let (least, most) = (had.iter().min().unwrap(), had.iter().max().unwrap());
            prop_assert!(most - least <= 1000, "{had:?}");
        }
    }

    /// The sums are right, no lane is empty, and what a lane is left with is at its front.
    #[test]
    fn sums_and_order_hold_whatever_is_done(
        steps in prop::collection::vec((0_u8..3, 0_u8..4, 0_usize..50), 0..200),
    ) {
        let mut lanes = Lanes::<Bytes>::default();
        for (number, (step, name, length)) in (0_u8..).zip(steps) {
            match step {
                0 => { lanes.pop(); }
                1 => lanes.push(lane(&name.to_string()), vec![number; length].into()),
                _ => {
                    let limit = Size { frames: length / 5, bytes: length * 5 };
                    let spared = Size { frames: usize::from(name), bytes: usize::from(name) * 20 };
                    let before = lanes.size();
                    match lanes.shrink(limit, spared) {
                        Some(dropped) => {
                            prop_assert_eq!(lanes.size().frames + dropped, before.frames);
                            prop_assert!(lanes.size().excess_over(limit).is_none());
                        }
                        None => prop_assert_eq!(lanes.size(), before),
                    }
                }
            }
            let mut all = Size::default();
            for waiting in &lanes.waiting {
                prop_assert!(!waiting.frames.is_empty());
                prop_assert_eq!(waiting.frames.iter().fold(Size::default(), Size::with), waiting.size);
                all = waiting.frames.iter().fold(all, Size::with);
                let numbers: Vec<_> = waiting.frames.iter().filter_map(|it| it.first()).collect();
                prop_assert!(numbers.is_sorted());
            }
            prop_assert_eq!(all, lanes.size());
        }
    }
}
