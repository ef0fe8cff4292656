use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_protos::common::Block;

use super::*;
use crate::Options;
use crate::test_support::{CHANNEL, chain, scratch};
use crate::testing::FailingDisk;

/// Files of about two blocks.
fn options() -> Options {
    Options {
        max_file_bytes: 500,
        ..Options::default()
    }
}

/// A data directory with a channel of so many blocks in several files.
fn directory(blocks: &[Block]) -> tempfile::TempDir {
    let folder = scratch();
    let ledgers = LedgerManager::open(folder.path(), options()).unwrap();
    let store = ledgers.create_channel(CHANNEL, &blocks[0]).unwrap();
    store.append_batch(&blocks[1..]).unwrap();
    ledgers.open_state(CHANNEL).unwrap();
    folder
}

fn open(folder: &Path) -> LedgerManager {
    LedgerManager::open(folder, options()).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = BlockFiles::new(folder.join("ledgersData/chains/chains").join(CHANNEL));
    let numbers = files.numbers().unwrap();
    numbers
        .into_iter()
        .map(|number| files.path(number))
        .collect()
}

/// The chain has these blocks and goes on with the others.
fn assert_goes_on(ledgers: &LedgerManager, blocks: &[Block], height: u64) {
    let store = ledgers.open_channel(CHANNEL).unwrap();
    assert_eq!(store.height(), height);
    let rest = &blocks[height as usize..];
    store.append_batch(rest).unwrap();
    for (number, block) in (0..).zip(blocks) {
        assert_eq!(store.block(number).unwrap().as_ref(), Some(block));
    }
}

#[test]
fn from_a_changed_byte_on_nothing_is_kept() {
    let blocks = chain(7);
    for file in 0..3 {
        for damaged in [20, 200] {
            let folder = directory(&blocks);
            let path = &files(folder.path())[file];
            let mut bytes = fs::read(path).unwrap();
            bytes[damaged] ^= 1;
            fs::write(path, bytes).unwrap();
            let ledgers = open(folder.path());
            let mut passed = 0;
            let damage = ledgers
                .find_damage(CHANNEL, &mut |bytes| passed += bytes)
                .unwrap();
            let Damage { error, cut } = damage.unwrap();
            let LedgerError::Corrupt {
                block, path: named, ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!((block, &named), (cut.height(), path));
            let all: u64 = files(folder.path())
                .iter()
                .map(|file| fs::metadata(file).unwrap().len())
                .sum();
            assert_eq!(passed + cut.lost_bytes(), all);
            if cut.height() == 0 {
                let refused = ledgers.cut(&cut).unwrap_err();
                assert!(
                    matches!(refused, LedgerError::GenesisNotCut { .. }),
                    "{refused}"
                );
                continue;
            }
            ledgers.cut(&cut).unwrap();
            assert!(ledgers.find_damage(CHANNEL, &mut |_| {}).unwrap().is_none());
            assert_goes_on(&ledgers, &blocks, cut.height());
        }
    }
}

#[test]
fn from_a_missing_file_on_nothing_is_kept() {
    let blocks = chain(8);
    let folder = directory(&blocks);
    let missing = files(folder.path())[2].clone();
    fs::remove_file(&missing).unwrap();
    let ledgers = open(folder.path());
    assert!(matches!(
        ledgers.open_channel(CHANNEL),
        Err(LedgerError::MissingFile { .. })
    ));
    let damage = ledgers.find_damage(CHANNEL, &mut |_| {}).unwrap().unwrap();
    assert!(
        matches!(&damage.error, LedgerError::MissingFile { path } if *path == missing),
        "{}",
        damage.error
    );
    assert!(damage.cut.lost_bytes() > 0);
    ledgers.cut(&damage.cut).unwrap();
    assert_goes_on(&ledgers, &blocks, damage.cut.height());
}

#[test]
fn a_sound_chain_is_cut_after_any_block_but_the_last() {
    let blocks = chain(6);
    let folder = directory(&blocks);
    let ledgers = open(folder.path());
    assert!(ledgers.find_damage(CHANNEL, &mut |_| {}).unwrap().is_none());
    for beyond in [5, 6, u64::MAX] {
        let refused = ledgers
            .cut_after(CHANNEL, beyond, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert_eq!(
            refused,
            format!(
                "channel {CHANNEL}: target block number [{beyond}] should be less than the biggest block \
                 number [5]"
            )
        );
    }
    drop(ledgers);
    for last in (0..5).rev() {
        let ledgers = open(folder.path());
        let cut = ledgers.cut_after(CHANNEL, last, &mut |_| {}).unwrap();
        assert_eq!(cut.height(), last + 1);
        ledgers.cut(&cut).unwrap();
        let store = ledgers.open_channel(CHANNEL).unwrap();
        assert_eq!(store.height(), last + 1);
        assert_eq!(
            store
                .transaction_status(&format!("tx-{}", 2 * last + 2))
                .unwrap(),
            None
        );
    }
    assert_goes_on(&open(folder.path()), &blocks, 1);
}

#[test]
fn after_an_end_at_any_operation_there_is_a_chain() {
    let blocks = chain(8);
    for budget in 0.. {
        let folder = directory(&blocks);
        let disk = FailingDisk::by_operation(budget + 3);
        let is_done = {
            let ledgers = LedgerManager::open_on(folder.path(), Arc::new(disk.clone()), options());
            ledgers.is_ok_and(|ledgers| {
                let cut = ledgers.cut_after(CHANNEL, 2, &mut |_| {}).unwrap();
                ledgers.cut(&cut).is_ok()
            })
        };
        disk.cut_power(false);
        let ledgers = open(folder.path());
        assert!(ledgers.find_damage(CHANNEL, &mut |_| {}).unwrap().is_none());
        let store = ledgers.open_channel(CHANNEL).unwrap();
        let height = store.height();
        assert!((3..=8).contains(&height));
        drop(store);
        assert_goes_on(&ledgers, &blocks, height);
        if is_done {
            assert!(height == 3 && budget > 3, "{height}, {budget}");
            break;
        }
    }
}
