//! Power cuts at every step of commits to block files, index and state, each of the databases losing
//! any part of what was not safe.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_protos::kvrwset::Version;

use crate::block_store::{BlockStore, Options};
use crate::state::{Namespace, StateDatabase, StateError, StateUpdates, VersionedValue};
use crate::store::Durability;
use crate::test_support::{CHANNEL, chain, copy_folder, envelope, next_block, scratch};
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
            files: scratch(),
            index: Arc::new(CrashingStore::new()),
            state: Arc::new(CrashingStore::new()),
        }
    }

    /// The same with only so many batches in the databases.
    fn with_first(&self, index: usize, state: usize) -> Self {
        let files = scratch();
        copy_folder(self.files.path(), files.path());
        Self {
            files,
            index: Arc::new(self.index.with_first(index)),
            state: Arc::new(self.state.with_first(state)),
        }
    }

    /// Opens the ledger, brings it level, and commits what it lacks of `blocks`. The number of blocks
    /// that were told to be committed.
    fn commit(&self, disk: &FailingDisk, blocks: &[Block], manner: Manner) -> u64 {
        let Ok(ledger) = Ledger::open(self, disk, manner) else {
            return 0;
        };
        let mut told = ledger.blocks.height();
        let rest = blocks.get(told as usize..).unwrap_or_default();
        for group in rest.chunks(manner.group) {
            if ledger.blocks.append_batch(group).is_err() {
                break;
            }
            for block in group {
                ledger.apply(block).unwrap();
                told += 1;
            }
        }
        told
    }
}

/// How blocks are committed.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// So many are synced together.
    group: usize,
    /// How long a block file becomes.
    max_file_bytes: u64,
}

/// One by one, about two in a file.
const SINGLY: Manner = Manner {
    group: 1,
    max_file_bytes: 500,
};

struct Ledger {
    blocks: BlockStore,
    state: StateDatabase,
}

impl Ledger {
    fn open(
        remains: &Remains,
        disk: &FailingDisk,
        manner: Manner,
    ) -> Result<Self, crate::LedgerError> {
        let options = Options {
            max_file_bytes: manner.max_file_bytes,
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

/// How it should be at a height.
fn reference(blocks: &[Block], height: u64, manner: Manner) -> Remains {
    let remains = Remains::new();
    let blocks = &blocks[..height as usize];
    let told = remains.commit(&FailingDisk::endless(), blocks, manner);
    assert_eq!(told, height);
    remains
}

fn assert_equal(found: &Remains, expected: &Remains) {
    let of = |store: &CrashingStore| contents(store).unwrap();
    assert_eq!(of(&found.index), of(&expected.index));
    assert_eq!(of(&found.state), of(&expected.state));
}

/// Opens what a power cut has left: nothing told is lost, no half block is there, the databases agree;
/// and the ledger goes on as if nothing had been.
fn check<'a>(
    remains: &Remains,
    told: u64,
    blocks: &[Block],
    reference: impl Fn(u64) -> &'a Remains,
    manner: Manner,
) {
    let disk = FailingDisk::endless();
    let ledger = Ledger::open(remains, &disk, manner).unwrap();
    let height = ledger.blocks.height();
    let most = told + manner.group as u64;
    assert!((told..=most).contains(&height), "{told}, {height}");
    for (number, block) in (0..height).zip(blocks) {
        assert_eq!(ledger.blocks.block(number).unwrap().as_ref(), Some(block));
    }
    drop(ledger);
    assert_equal(remains, reference(height));
    assert_eq!(remains.commit(&disk, blocks, manner), blocks.len() as u64);
    assert_equal(remains, reference(blocks.len() as u64));
}

#[test]
fn at_every_operation_with_every_loss() {
    let blocks = chain(BLOCKS);
    let in_one_file = Manner {
        group: 3,
        max_file_bytes: 1 << 20,
    };
    for manner in [SINGLY, in_one_file] {
        let heights = 0..=BLOCKS;
        let references: Vec<_> = heights
            .map(|height| reference(&blocks, height, manner))
            .collect();
        for zeros in [false, true] {
            for budget in 0.. {
                let remains = Remains::new();
                let disk = FailingDisk::by_operation(budget);
                let told = remains.commit(&disk, &blocks, manner);
                let is_complete = disk.used() < budget;
                disk.cut_power(zeros);
                for index in remains.index.after_power_cut() {
                    for state in remains.state.after_power_cut() {
                        let left = remains.with_first(index, state);
                        let reference = |height: u64| &references[height as usize];
                        check(&left, told, &blocks, reference, manner);
                    }
                }
                if is_complete {
                    assert!(told == BLOCKS && budget > 7, "{told}, {budget}");
                    break;
                }
            }
        }
    }
}

/// What is left of what was not synced.
#[derive(Debug, Clone)]
enum Loss {
    All,
    Zeros,
    /// Some sectors survive.
    Sectors(Vec<bool>),
}

fn any_loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::All),
        Just(Loss::Zeros),
        prop::collection::vec(any::<bool>(), 1..20).prop_map(Loss::Sectors),
    ]
}

impl Loss {
    fn happen(&self, disk: &FailingDisk) {
        match self {
            Self::All => disk.cut_power(false),
            Self::Zeros => disk.cut_power(true),
            Self::Sectors(survive) => {
                let mut sectors = survive.iter().copied().cycle();
                disk.cut_power_in_sectors(|| sectors.next().unwrap_or_default());
            }
        }
    }
}

/// Blocks of less than a sector to some sectors, with so many bytes of content and of signatures, and
/// perhaps a commit hash; its end is zeros, since of so few bytes nobody can tell that they were lost.
fn blocks_of_any_size(sizes: &[(usize, usize, bool)]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (number, (content, signatures, has_commit_hash)) in sizes.iter().enumerate() {
        let envelope = envelope(&format!("tx-{number}"), &vec![b'x'; *content]);
        let mut block = next_block(blocks.last(), vec![envelope], &[0]);
        let slots = &mut block.metadata.as_mut().unwrap().metadata;
        slots[BlockMetadataIndex::Signatures as usize] = vec![b's'; *signatures].into();
        if *has_commit_hash {
            let commit_hash = [[b'h'; 31].as_slice(), &[0; 3]].concat();
            slots.extend([Bytes::new(), commit_hash.into()]);
        }
        blocks.push(block);
    }
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Twice, the second time while the ledger recovers or goes on.
    #[test]
    fn at_any_byte_and_again(
        sizes in prop::collection::vec((0..1500_usize, 0..900_usize, any::<bool>()), 5..8),
        shares in any::<[prop::sample::Index; 2]>(),
        kept in any::<[(prop::sample::Index, prop::sample::Index); 2]>(),
        losses in [any_loss(), any_loss()],
        group in 1..5_usize,
        max_file_bytes in prop_oneof![Just(500_u64), Just(4000), Just(1 << 20)],
    ) {
        let manner = Manner { group, max_file_bytes };
        let blocks = blocks_of_any_size(&sizes);
        let mut remains = Remains::new();
        let mut told = 0;
        let most: usize = sizes.iter().map(|size| size.0 + size.1 + 250).sum();
        for ((share, kept), loss) in shares.into_iter().zip(kept).zip(losses) {
            let disk = FailingDisk::new(share.index(most) as u64);
            told = told.max(remains.commit(&disk, &blocks, manner));
            loss.happen(&disk);
            let any_of = |store: &CrashingStore, index: prop::sample::Index| {
                let (fewest, all) = store.after_power_cut().into_inner();
                fewest + index.index(all - fewest + 1)
            };
            let index = any_of(&remains.index, kept.0);
            let state = any_of(&remains.state, kept.1);
            remains = remains.with_first(index, state);
        }
        let references: [OnceCell<Remains>; 8] = Default::default();
        let reference = |height: u64| {
            references[height as usize].get_or_init(|| reference(&blocks, height, manner))
        };
        check(&remains, told, &blocks, reference, manner);
    }
}
