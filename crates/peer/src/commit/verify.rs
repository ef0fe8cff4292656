//! Checking a ledger against itself.
//!
//! The block files are gone through from the first block on. What follows from them is computed anew, into
//! a state aside: verdicts and write-sets give the commit hash of each block, and in the end the state with
//! the histories that lie beside it. That is compared with what the databases hold. Nothing is validated
//! anew, and nothing is repaired.
//!
//! The accounts of missing private data are left out, since they depend on what has come meanwhile.
//!
//! A ledger that begins with a snapshot is verified like any other if that snapshot is given. Without it there
//! is no state to begin with, so neither commit hashes nor the state can be computed: then the blocks, that
//! they have verdicts, the index of them, and the history are verified, which is said.

use std::path::Path;

use bytes::Bytes;
use selvedge_ledger::snapshot::SnapshotError;
use selvedge_ledger::state::{StateDatabase, StateError};
use selvedge_ledger::store::{Durability, StoreError, Table};
use selvedge_ledger::{IndexInspection, InspectedBlock, Inspection, LedgerError};
use selvedge_protos::block::{metadata, metadata_slot};
use selvedge_protos::common::BlockMetadataIndex;
use selvedge_validation::mvcc;

use super::changes::{self, CommittedTransactions};
use super::{CommitError, LedgerState};

/// Differences that are told of one table; further ones are counted.
const TOLD_PER_TABLE: u64 = 20;
/// Bytes of a key or value that are shown.
const SHOWN: usize = 64;

/// The parts of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The block files.
    Blocks,
    /// The verdicts and commit hashes in them.
    Verdicts,
    /// The block index.
    Index,
    /// The state, with the history and whatever else lies in its database.
    State,
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Blocks => "block files",
            Self::Verdicts => "verdicts",
            Self::Index => "index",
            Self::State => "state",
        })
    }
}

/// What is told of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Something is wrong.
    Wrong(Part, String),
    /// Something that the next start puts in order by itself.
    Unfinished(Part, String),
}

/// Whoever is told what is found and how far the verification is.
pub trait Observer {
    /// Something was found.
    fn found(&mut self, finding: Finding);
    /// A block was gone through, of so many bytes.
    fn verified(&mut self, bytes: u64);
}

/// What was gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blocks.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Entries of the state that were compared.
    pub entries: u64,
    /// What was found to be wrong.
    pub wrong: u64,
}

/// Verifies a ledger that nobody has open. `snapshot` is the folder of the one that it begins with, if it
/// does. The state is computed anew in `scratch`, an empty folder with room for it. Costs the time of a
/// rebuild, and the memory of one block.
pub fn verify(
    inspection: &Inspection,
    snapshot: Option<&Path>,
    scratch: &Path,
    observer: &mut impl Observer,
) -> Result<Verified, VerifyError> {
    let first = inspection.first_block()?;
    let state = StateDatabase::open(scratch)?;
    let mut commit_hashes = Vec::new();
    let computes = match snapshot {
        Some(snapshot) => {
            commit_hashes.extend(inspection.fill_from_snapshot(snapshot, &state)?);
            true
        }
        None => first == 0,
    };
    if first > 0 && !computes {
        state.history().begin_at(first)?;
    }
    let mut verification = Verification {
        channel: inspection.channel(),
        state: LedgerState::new(state),
        commit_hashes,
        is_computed: true,
        computes,
        first,
        height: 0,
        told: Told {
            observer,
            verified: Verified::default(),
        },
    };
    verification.run(inspection)?;
    Ok(verification.told.verified)
}

/// Why a ledger could not be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The snapshot cannot be read, or is another one.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The ledger or the state that is computed beside it failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The block files failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The state that is computed failed.
    #[error(transparent)]
    State(#[from] StateError),
}

struct Verification<'a, O> {
    channel: &'a str,
    /// What follows from the blocks so far.
    state: LedgerState,
    /// Of the last block: as it is stored, and, if that is wrong, as it should be.
    commit_hashes: Vec<[u8; 32]>,
    /// Whether all blocks so far could be computed.
    is_computed: bool,
    /// Whether there is a state to begin with; otherwise only the history is computed.
    computes: bool,
    first: u64,
    height: u64,
    told: Told<'a, O>,
}

struct Told<'a, O> {
    observer: &'a mut O,
    verified: Verified,
}

impl<O: Observer> Told<'_, O> {
    fn wrong(&mut self, part: Part, what: String) {
        self.verified.wrong += 1;
        self.observer.found(Finding::Wrong(part, what));
    }

    fn unfinished(&mut self, part: Part, what: String) {
        self.observer.found(Finding::Unfinished(part, what));
    }
}

impl<O: Observer> Verification<'_, O> {
    fn run(&mut self, inspection: &Inspection) -> Result<(), CommitError> {
        let mut index = self.open_index(inspection)?;
        let stored = self.open_state(inspection)?;
        let savepoint = match &stored {
            Some(stored) => stored.savepoint()?,
            None => None,
        };
        let first = self.first;
        if !self.computes {
            let begins = format!(
                "the ledger begins with a snapshot and block {first}, so neither commit hashes nor the state \
                 can be computed from its blocks; verified are blocks, verdicts, index and history; give \
                 --snapshot with the folder of that snapshot to verify all"
            );
            self.told.unfinished(Part::State, begins);
        }
        self.height = first;
        // Nothing has been committed since the snapshot.
        if let Some(stored) = stored
            .as_ref()
            .filter(|_| savepoint == first.checked_sub(1))
        {
            self.compare_or_tell(stored)?;
        }
        let mut blocks = inspection.blocks()?;
        loop {
            let block = match blocks.next_block() {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error @ LedgerError::Corrupt { .. }) => {
                    self.told.wrong(Part::Blocks, error.to_string());
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(index) = &mut index {
                index.compare(&block)?;
            }
            self.compute(&block)?;
            let number = block.number;
            if let Some(stored) = stored.as_ref().filter(|_| savepoint == Some(number)) {
                self.compare_or_tell(stored)?;
            }
            self.told.verified.blocks += 1;
            self.height = number + 1;
            self.told.observer.verified(block.length());
        }
        if let Some(incomplete) = blocks.incomplete() {
            self.told.unfinished(Part::Blocks, incomplete);
        }
        let height = self.height;
        if let Some(index) = index {
            self.finish_index(index, height)?;
        }
        if stored.is_some() {
            self.finish_state(savepoint, height);
        }
        Ok(())
    }

    fn open_index<'i>(
        &mut self,
        inspection: &'i Inspection,
    ) -> Result<Option<IndexInspection<'i>>, CommitError> {
        match inspection.index() {
            Ok(Some(index)) => Ok(Some(index)),
            Ok(None) => {
                let absent = "there is none; the next start builds it".to_owned();
                self.told.unfinished(Part::Index, absent);
                Ok(None)
            }
            Err(error @ LedgerError::DamagedIndex { .. }) => {
                self.told.wrong(Part::Index, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn open_state(
        &mut self,
        inspection: &Inspection,
    ) -> Result<Option<StateDatabase>, CommitError> {
        match inspection.state() {
            Ok(Some(state)) => Ok(Some(state)),
            Ok(None) => {
                let absent = "there is none; the next start builds it".to_owned();
                self.told.unfinished(Part::State, absent);
                Ok(None)
            }
            Err(error) if is_damage(&error) => {
                self.told.wrong(Part::State, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Computes what follows from a block, and compares its commit hash.
    fn compute(&mut self, block: &InspectedBlock) -> Result<(), CommitError> {
        let number = block.number;
        let transactions = block.block.data.as_ref().map_or(0, |data| data.data.len());
        self.told.verified.transactions += transactions as u64;
        if !self.is_computed {
            return Ok(());
        }
        let read = CommittedTransactions::read(self.channel, number, &block.block);
        let batch = read.and_then(|read| {
            let batch = self.computes.then(|| read.batch(&self.state)).transpose();
            Ok((batch?, read))
        });
        let (batch, transactions) = match batch {
            Ok(found) => found,
            Err(
                error @ (CommitError::NoVerdicts { .. }
                | CommitError::Block { .. }
                | CommitError::Mvcc(_)),
            ) => {
                self.is_computed = false;
                let after = "nothing that follows from it and the blocks after it can be compared";
                self.told.wrong(Part::Verdicts, format!("{error}; {after}"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Some(batch) = batch else {
            let history = self.state.database().history();
            return Ok(history.add(transactions.history())?);
        };
        self.compare_commit_hash(block, &batch);
        let mut updates = changes::of_batch(number, batch, &self.state, None)?.updates;
        updates.add_history(transactions.history());
        let database = self.state.database();
        Ok(database.commit(&updates, Durability::Process)?)
    }

    /// A commit hash that is wrong is one fault: the next one may follow from it, or from what it should be.
    fn compare_commit_hash(&mut self, block: &InspectedBlock, batch: &mvcc::UpdateBatch) {
        let number = block.number;
        let block = &block.block;
        let slot = metadata(block, BlockMetadataIndex::CommitHash);
        let stored = slot.map(|metadata| metadata.value).unwrap_or_default();
        let filter = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
        let previous = std::mem::take(&mut self.commit_hashes);
        let mut expected = Vec::new();
        // The first block has none; a chain that began without commit hashes has none at all.
        if number == 1 && !stored.is_empty() {
            expected.push(mvcc::commit_hash(None, &filter, batch));
        }
        for previous in &previous {
            expected.push(mvcc::commit_hash(Some(previous), &filter, batch));
        }
        let is_right = match expected.as_slice() {
            [] => stored.is_empty(),
            expected => expected.iter().any(|expected| stored == expected[..]),
        };
        self.commit_hashes.extend(<[u8; 32]>::try_from(&stored[..]));
        if is_right {
            return;
        }
        let shown = |hash: Option<&[u8]>| hash.map_or_else(|| "none".to_owned(), hex::encode);
        let computed = expected.first();
        self.told.wrong(
            Part::Verdicts,
            format!(
                "block {number} has the commit hash {}, its verdicts and write-sets give {}",
                shown(Some(&stored[..]).filter(|stored| !stored.is_empty())),
                shown(computed.map(|hash| &hash[..]))
            ),
        );
        self.commit_hashes.extend(computed);
    }

    fn compare_or_tell(&mut self, stored: &StateDatabase) -> Result<(), CommitError> {
        match self.compare_states(stored) {
            Err(CommitError::State(error)) if is_damage(&error) => {
                self.told.wrong(Part::State, error.to_string());
                Ok(())
            }
            compared => compared,
        }
    }

    /// Compares the database of the state, table by table.
    fn compare_states(&mut self, stored: &StateDatabase) -> Result<(), CommitError> {
        if !self.is_computed {
            return Ok(());
        }
        let history = stored.history().height()?;
        let height = self.state.database().history().height()?;
        let tables = match self.computes {
            true => &StateDatabase::TABLES[..],
            false => &[Table::History],
        };
        for table in tables {
            if *table != Table::History || history == height {
                self.compare_tables(stored, *table)?;
            }
        }
        if history != 0 && history < height {
            let behind = format!("the history has {history} blocks, the state {height}");
            self.told.unfinished(Part::State, behind);
        } else if history > height {
            let ahead = format!("the history has {history} blocks, the state {height}");
            self.told.wrong(Part::State, ahead);
        }
        Ok(())
    }

    fn compare_tables(&mut self, stored: &StateDatabase, table: Table) -> Result<(), CommitError> {
        let name = table.name();
        let mut found = stored.rows(table);
        let mut expected = self.state.database().rows(table);
        let (mut left, mut right) = (found.next().transpose()?, expected.next().transpose()?);
        let mut differences = 0_u64;
        let told = &mut self.told;
        loop {
            let order = match (&left, &right) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((left, _)), Some((right, _))) => left.cmp(right),
            };
            told.verified.entries += 1;
            let what = match (order, &left, &right) {
                (std::cmp::Ordering::Less, Some((key, _)), _) => Some(format!(
                    "{} is there and does not follow from the blocks",
                    shown(key)
                )),
                (std::cmp::Ordering::Greater, _, Some((key, _))) => Some(format!(
                    "{} is not there and follows from the blocks",
                    shown(key)
                )),
                (_, Some((key, left)), Some((_, right))) if left != right => Some(format!(
                    "{} holds {}, {} follows from the blocks",
                    shown(key),
                    shown(left),
                    shown(right)
                )),
                _ => None,
            };
            if let Some(what) = what {
                differences += 1;
                if differences <= TOLD_PER_TABLE {
                    told.wrong(Part::State, format!("{name}: {what}"));
                }
            }
            if order.is_le() {
                left = found.next().transpose()?;
            }
            if order.is_ge() {
                right = expected.next().transpose()?;
            }
        }
        if let Some(more @ 1..) = differences.checked_sub(TOLD_PER_TABLE) {
            told.wrong(Part::State, format!("{name}: {more} more differences"));
        }
        Ok(())
    }

    fn finish_index(&mut self, index: IndexInspection<'_>, height: u64) -> Result<(), CommitError> {
        let savepoint = index.savepoint();
        for finding in index.finish(height)? {
            self.told.wrong(Part::Index, finding);
        }
        let indexed = savepoint.map_or(0, |savepoint| savepoint + 1);
        if indexed < height {
            let behind =
                format!("it has {indexed} of {height} blocks; the next start adds the rest");
            self.told.unfinished(Part::Index, behind);
        }
        Ok(())
    }

    fn finish_state(&mut self, savepoint: Option<u64>, height: u64) {
        let applied = savepoint.map_or(0, |savepoint| savepoint + 1);
        if applied > height {
            let ahead = format!("it has {applied} blocks, the block files have {height}");
            self.told.wrong(Part::State, ahead);
        } else if applied < height {
            let behind =
                format!("it has {applied} of {height} blocks; the next start adds the rest");
            self.told.unfinished(Part::State, behind);
        }
    }
}

fn is_damage(error: &StateError) -> bool {
    matches!(
        error,
        StateError::Store(StoreError::Damaged(_))
            | StateError::Damaged(_)
            | StateError::Format { .. }
    )
}

/// A key or value as text where it is, with what is none in hex.
fn shown(bytes: &Bytes) -> String {
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}{more}\"", shown.escape_ascii())
}
