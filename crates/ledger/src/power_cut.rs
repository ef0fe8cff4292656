//! Power cuts at every step of commits to block files, index and state, each of the databases losing
//! any part of what was not safe.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use selvedge_protos::common::Block;
use selvedge_protos::kvrwset::Version;

use crate::block_store::{BlockStore, Options};
use crate::state::{Namespace, StateDatabase, StateError, StateUpdates, VersionedValue};
use crate::store::Durability;
use crate::test_support::{CHANNEL, chain, copy_folder};
use crate::testing::{CrashingStore, FailingDisk, contents, open_block_store};
use crate::transaction_id::transaction_id;

const BLOCKS: u64 = 5;

/// What is left on disk of a ledger, and of its databases.
struct Remains {
    files: tempfile::TempDir,
    index: Arc<CrashingStore>,
    state: Arc<CrashingStore>,
}

impl Remains {
    fn new() -> Self {
        Self {
            files: tempfile::tempdir().unwrap(),
            index: Arc::new(CrashingStore::new()),
            state: Arc::new(CrashingStore::new()),
        }
    }

    /// The same with only so many batches in the databases.
    fn with_first(&self, index: usize, state: usize) -> Self {
        let files = tempfile::tempdir().unwrap();
        copy_folder(self.files.path(), files.path());
        Self {
            files,
            index: Arc::new(self.index.with_first(index)),
            state: Arc::new(self.state.with_first(state)),
        }
    }

    /// Opens the ledger, brings it level, and commits what it lacks of `blocks`. The number of blocks
    /// that were told to be committed.
    fn commit(&self, disk: &FailingDisk, blocks: &[Block]) -> u64 {
        let Ok(ledger) = Ledger::open(self, disk) else {
            return 0;
        };
        let mut told = ledger.blocks.height();
        let rest = blocks.iter().skip(told as usize);
        for block in rest {
            if ledger.blocks.append(block).is_err() {
                break;
            }
            ledger.apply(block).unwrap();
            told += 1;
        }
        told
    }
}

struct Ledger {
    blocks: BlockStore,
    state: StateDatabase,
}

impl Ledger {
    fn open(remains: &Remains, disk: &FailingDisk) -> Result<Self, crate::LedgerError> {
        // Room for about two blocks.
        let options = Options {
            max_file_bytes: 500,
            ..Options::default()
        };
        let index = Arc::clone(&remains.index) as _;
        let files: &Path = remains.files.path();
        let ledger = Self {
            blocks: open_block_store(CHANNEL, disk, files, index, &options)?,
            state: StateDatabase::on(Arc::clone(&remains.state) as _).unwrap(),
        };
        let height = ledger.blocks.height();
        let savepoint = ledger.state.savepoint().unwrap();
        let first = savepoint.map_or(0, |savepoint| savepoint + 1);
        assert!(first <= height, "the state is ahead of the block files");
        for number in first..height {
            let block = ledger.blocks.block(number).unwrap().unwrap();
            ledger.apply(&block).unwrap();
        }
        Ok(ledger)
    }

    fn apply(&self, block: &Block) -> Result<(), StateError> {
        self.state.commit(&updates(block), Durability::Process)
    }
}

/// A key for each transaction, one that every block writes, one that every other block deletes, and
/// private ones that expire.
fn updates(block: &Block) -> StateUpdates {
    let number = block.header.as_ref().unwrap().number;
    let value = |text: &str, metadata: &'static [u8]| VersionedValue {
        value: Bytes::copy_from_slice(text.as_bytes()),
        metadata: Bytes::from_static(metadata),
        version: Version {
            block_num: number,
            tx_num: 0,
        },
    };
    let mut updates = StateUpdates::new(number);
    let name = format!("cc{number}");
    let hashed = Namespace::hashed(&name, "collection");
    for envelope in &block.data.as_ref().unwrap().data {
        let id = transaction_id(envelope);
        updates.put(Namespace::public("cc"), id.as_bytes(), value(&id, b""));
        let expires = Some(number + 2);
        updates.put_expiring(hashed, id.as_bytes(), value(&id, b"m"), expires);
    }
    let common = Namespace::public("cc");
    updates.put(common, b"every", value("v", b""));
    if number.is_multiple_of(2) {
        updates.put(common, b"even", value("v", b""));
    } else {
        updates.delete(common, b"even");
    }
    updates
}

/// How it should be, for each height.
fn references(blocks: &[Block]) -> Vec<Remains> {
    let heights = 0..=blocks.len();
    let references = heights.map(|height| {
        let remains = Remains::new();
        let told = remains.commit(&FailingDisk::endless(), &blocks[..height]);
        assert_eq!(told, height as u64);
        remains
    });
    references.collect()
}

fn assert_equal(found: &Remains, expected: &Remains) {
    let of = |store: &CrashingStore| contents(store).unwrap();
    assert_eq!(of(&found.index), of(&expected.index));
    assert_eq!(of(&found.state), of(&expected.state));
}

/// Opens what a power cut has left: nothing told is lost, no half block is there, the databases agree;
/// and the ledger goes on as if nothing had been.
fn check(remains: &Remains, told: u64, blocks: &[Block], references: &[Remains]) {
    let disk = FailingDisk::endless();
    let ledger = Ledger::open(remains, &disk).unwrap();
    let height = ledger.blocks.height();
    assert!((told..=told + 1).contains(&height), "{told}, {height}");
    for (number, block) in (0..height).zip(blocks) {
        assert_eq!(ledger.blocks.block(number).unwrap().as_ref(), Some(block));
    }
    drop(ledger);
    assert_equal(remains, &references[height as usize]);
    assert_eq!(remains.commit(&disk, blocks), blocks.len() as u64);
    assert_equal(remains, &references[blocks.len()]);
}

#[test]
fn at_every_operation_with_every_loss() {
    let blocks = chain(BLOCKS);
    let references = references(&blocks);
    for zeros in [false, true] {
        for budget in 0.. {
            let remains = Remains::new();
            let disk = FailingDisk::by_operation(budget);
            let told = remains.commit(&disk, &blocks);
            let is_complete = disk.used() < budget;
            disk.cut_power(zeros);
            for index in remains.index.after_power_cut() {
                for state in remains.state.after_power_cut() {
                    let left = remains.with_first(index, state);
                    check(&left, told, &blocks, &references);
                }
            }
            if is_complete {
                assert!(told == BLOCKS && budget > 20, "{told}, {budget}");
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Twice, the second time while the ledger recovers or goes on.
    #[test]
    fn at_any_byte_and_again(
        budgets in [0..2500_u64, 0..2500_u64],
        kept in any::<[(prop::sample::Index, prop::sample::Index); 2]>(),
        zeros in any::<[bool; 2]>(),
    ) {
        let blocks = chain(BLOCKS);
        let mut remains = Remains::new();
        let mut told = 0;
        for ((budget, kept), zeros) in budgets.into_iter().zip(kept).zip(zeros) {
            let disk = FailingDisk::new(budget);
            told = told.max(remains.commit(&disk, &blocks));
            disk.cut_power(zeros);
            let any_of = |store: &CrashingStore, index: prop::sample::Index| {
                let (fewest, all) = store.after_power_cut().into_inner();
                fewest + index.index(all - fewest + 1)
            };
            let index = any_of(&remains.index, kept.0);
            let state = any_of(&remains.state, kept.1);
            remains = remains.with_first(index, state);
        }
        check(&remains, told, &blocks, &references(&blocks));
    }
}
