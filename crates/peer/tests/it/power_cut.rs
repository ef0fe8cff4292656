//! Power cuts at every write of a commit, with recorded blocks: whatever part of the databases is lost,
//! the ledger opens as a whole, nothing committed is gone, and it goes on with a Go peer's commit hashes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use selvedge_ledger::Options;
use selvedge_ledger::state::StateDatabase;
use selvedge_ledger::store::Table;
use selvedge_ledger::testing::{CrashingStore, FailingDisk, contents, open_block_store};
use selvedge_peer::commit::{CommitError, CommitOptions, Committer};
use selvedge_protos::Message;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use serde_json::Value;

const CHANNEL: &str = "vectors";
/// Blocks that are committed while the power is cut.
const WINDOW: usize = 4;
/// The heights at which that begins: the first definitions of chaincodes, a new configuration, repeated
/// transaction ids, a block of 151 transactions between configurations.
const BEGINNINGS: [usize; 4] = [1, 40, 67, 136];

fn testdata(path: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/raft");
    fs::read(folder.join(path)).unwrap()
}

/// The blocks as the ordering nodes made them, but the first, which is declared valid.
fn blocks() -> &'static [Block] {
    static BLOCKS: OnceLock<Vec<Block>> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let last = BEGINNINGS[BEGINNINGS.len() - 1] + WINDOW;
        let read = |number| {
            let bytes = testdata(&format!("orderer-blocks/{number:06}.block"));
            Block::decode(bytes.as_slice()).unwrap()
        };
        let mut blocks: Vec<_> = (0..last).map(read).collect();
        let slots = &mut blocks[0].metadata.as_mut().unwrap().metadata;
        slots[BlockMetadataIndex::TransactionsFilter as usize] = Bytes::from_static(&[0]);
        blocks
    })
}

/// The commit hashes that a Go peer recorded.
fn commit_hashes() -> &'static [Option<String>] {
    static HASHES: OnceLock<Vec<Option<String>>> = OnceLock::new();
    HASHES.get_or_init(|| {
        let recorded: Value = serde_json::from_slice(&testdata("expected.json")).unwrap();
        let blocks = recorded["blocks"].as_array().unwrap();
        let hashes = blocks.iter().map(|block| block["commitHash"].as_str());
        hashes.map(|hash| hash.map(str::to_owned)).collect()
    })
}

/// What is on disk of a ledger, and in its databases.
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
        for file in fs::read_dir(self.files.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), files.path().join(file.file_name())).unwrap();
        }
        Self {
            files,
            index: Arc::new(self.index.with_first(index)),
            state: Arc::new(self.state.with_first(state)),
        }
    }

    fn whole(&self) -> Self {
        let all = |store: &CrashingStore| *store.after_power_cut().end();
        self.with_first(all(&self.index), all(&self.state))
    }

    fn contents(&self) -> Contents {
        let of = |store: &CrashingStore| contents(store).unwrap();
        (of(&self.index), of(&self.state))
    }

    fn open(&self, disk: &FailingDisk) -> Result<Committer, CommitError> {
        // A few blocks a file.
        let options = Options {
            max_file_bytes: 50_000,
            ..Options::default()
        };
        let index = Arc::clone(&self.index) as _;
        let files = self.files.path();
        let blocks = open_block_store(CHANNEL, disk, files, index, &options)?;
        if blocks.height() == 0 {
            blocks.append(&self::blocks()[0])?;
        }
        let state = StateDatabase::on(Arc::clone(&self.state) as _)?;
        Committer::open(blocks, state, CommitOptions::default())
    }

    /// Opens the ledger and commits what it lacks up to a height, so many blocks at a time. The height that
    /// was told.
    fn commit(&self, disk: &FailingDisk, height: usize, group: usize) -> usize {
        let Ok(mut committer) = self.open(disk) else {
            return 0;
        };
        let mut told = committer.blocks().height() as usize;
        for group in blocks()[..height]
            .get(told..)
            .unwrap_or_default()
            .chunks(group)
        {
            let prepared = committer.validator().prepare_all(group);
            let blocks = group.iter().cloned().zip(prepared);
            let committed = committer.commit_all(blocks, |committed| {
                let hash = committed.commit_hash.map(hex::encode);
                assert_eq!(hash, commit_hashes()[told], "block {told}");
                told += 1;
            });
            match committed {
                Ok(()) => {}
                Err(CommitError::Ledger(_)) => return told,
                Err(error) => panic!("block {told}: {error}"),
            }
        }
        told
    }
}

type Contents = (
    BTreeMap<(Table, Bytes), Bytes>,
    BTreeMap<(Table, Bytes), Bytes>,
);

/// A ledger at one of the beginnings, and how its databases are with each further block.
struct Reference {
    beginning: Remains,
    contents: Vec<Contents>,
}

fn references() -> &'static [Reference] {
    static REFERENCES: OnceLock<Vec<Reference>> = OnceLock::new();
    REFERENCES.get_or_init(|| {
        let ledger = Remains::new();
        let disk = FailingDisk::endless();
        let references = BEGINNINGS.into_iter().map(|beginning| {
            ledger.commit(&disk, beginning, 1);
            Reference {
                beginning: ledger.whole(),
                contents: (beginning..=beginning + WINDOW)
                    .map(|height| {
                        ledger.commit(&disk, height, 1);
                        ledger.contents()
                    })
                    .collect(),
            }
        });
        references.collect()
    })
}

/// Opens what a power cut has left, and goes on. So many blocks may be there that were not told.
fn check(left: &Remains, told: usize, more: usize, beginning: usize, reference: &Reference) {
    let disk = FailingDisk::endless();
    let committer = left.open(&disk).unwrap();
    let height = committer.blocks().height() as usize;
    assert!((told..=told + more).contains(&height), "{told}, {height}");
    drop(committer);
    let contents = &reference.contents[height - beginning];
    assert!(left.contents() == *contents, "at height {height}");
    let end = beginning + WINDOW;
    assert_eq!(left.commit(&disk, end, 1), end);
    assert!(left.contents() == reference.contents[WINDOW]);
}

/// What is left of what was not synced.
#[derive(Debug, Clone, Copy)]
enum Loss {
    All,
    Zeros,
    /// Every third sector survives.
    Sectors,
}

impl Loss {
    fn happen(self, disk: &FailingDisk) {
        match self {
            Self::All => disk.cut_power(false),
            Self::Zeros => disk.cut_power(true),
            Self::Sectors => {
                let mut sector = 0;
                disk.cut_power_in_sectors(|| {
                    sector += 1;
                    sector % 3 == 0
                });
            }
        }
    }
}

fn cut_power_everywhere(which: usize, group: usize) {
    let (beginning, reference) = (BEGINNINGS[which], &references()[which]);
    let losses = match group {
        1 => &[Loss::All, Loss::Zeros][..],
        _ => &[Loss::Zeros, Loss::Sectors],
    };
    for (budget, loss) in (0..).flat_map(|budget| losses.iter().map(move |loss| (budget, loss))) {
        let ledger = reference.beginning.whole();
        let disk = FailingDisk::by_operation(budget);
        let told = ledger
            .commit(&disk, beginning + WINDOW, group)
            .max(beginning);
        let is_complete = disk.used() < budget;
        loss.happen(&disk);
        let (fewest, all) = ledger.index.after_power_cut().into_inner();
        for state in ledger.state.after_power_cut() {
            let index = if state % 2 == 0 { fewest } else { all };
            let left = ledger.with_first(index, state);
            check(&left, told, group, beginning, reference);
        }
        if is_complete {
            assert_eq!(told, beginning + WINDOW);
            assert!(budget > 3 * (WINDOW / group) as u64);
            return;
        }
    }
}

#[test]
fn while_chaincodes_are_defined() {
    cut_power_everywhere(0, 1);
}

#[test]
fn at_a_new_configuration() {
    cut_power_everywhere(1, 1);
}

#[test]
fn among_repeated_transaction_ids() {
    cut_power_everywhere(2, 1);
}

#[test]
fn at_a_large_block_between_configurations() {
    cut_power_everywhere(3, 1);
}

#[test]
fn while_several_blocks_are_written_together() {
    cut_power_everywhere(0, WINDOW);
    cut_power_everywhere(1, 3);
}

#[test]
fn a_database_that_is_lost_is_made_anew() {
    let reference = &references()[3];
    let last = BEGINNINGS[3];
    let whole = reference.beginning.whole();
    let all = |store: &CrashingStore| *store.after_power_cut().end();
    for (index, state) in [(0, all(&whole.state)), (all(&whole.index), 0), (0, 0)] {
        check(&whole.with_first(index, state), last, 0, last, reference);
    }
}

#[test]
fn a_full_disk_under_a_database_stops_commits_until_it_is_opened_anew() {
    for takes_effect in [false, true] {
        for fails_state in [false, true] {
            let (beginning, reference) = (BEGINNINGS[1], &references()[1]);
            let ledger = reference.beginning.whole();
            let mut committer = ledger.open(&FailingDisk::endless()).unwrap();
            let database = if fails_state {
                &ledger.state
            } else {
                &ledger.index
            };
            database.fail_after(0, takes_effect);
            let mut commit = |number: usize| {
                let block = blocks()[number].clone();
                let prepared = committer.validator().prepare(&block);
                committer.commit(block, prepared)
            };
            if fails_state {
                assert!(matches!(commit(beginning), Err(CommitError::State(_))));
                assert!(matches!(commit(beginning), Err(CommitError::Behind { .. })));
            } else {
                commit(beginning).unwrap();
                let blocks = committer.blocks().clone();
                assert!(blocks.wait_for_index().is_err());
                assert!(blocks.poisoned().unwrap().contains("no space left"));
                let block = self::blocks()[beginning + 1].clone();
                let prepared = committer.validator().prepare(&block);
                let refused = committer.commit(block, prepared);
                assert!(matches!(refused, Err(CommitError::Ledger(_))));
            }
            drop(committer);
            database.fail_after(usize::MAX, false);
            check(&ledger.whole(), beginning + 1, 0, beginning, reference);
        }
    }
}
