//! Checking a ledger against itself.
//!
//! The block files are gone through from the first block on. What follows from them is computed anew, into
//! a state aside: verdicts and write-sets give the commit hash of each block, and in the end the state with
//! the histories that lie beside it. That is compared with what the databases hold. Nothing is validated
//! anew, and nothing is repaired.
//!
//! The accounts of missing private data are left out, since they depend on what has come meanwhile.

use std::path::Path;

use bytes::Bytes;
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

/// Verifies a ledger that nobody has open. One that begins with a snapshot is verified as far as its blocks
/// and its index go. The state is computed anew in `scratch`, an empty folder with
/// room for it. Costs the time of a rebuild, and the memory of one block.
pub fn verify(
    inspection: &Inspection,
    scratch: &Path,
    observer: &mut impl Observer,
) -> Result<Verified, CommitError> {
    let mut verification = Verification {
        channel: inspection.channel(),
        state: LedgerState::new(StateDatabase::open(scratch)?),
        commit_hashes: Vec::new(),
        is_computed: true,
        height: 0,
        told: Told {
            observer,
            verified: Verified::default(),
        },
    };
    verification.run(inspection)?;
    Ok(verification.told.verified)
}

struct Verification<'a, O> {
    channel: &'a str,
    /// What follows from the blocks so far.
    state: LedgerState,
    /// Of the last block: as it is stored, and, if that is wrong, as it should be.
    commit_hashes: Vec<[u8; 32]>,
    /// Whether all blocks so far could be computed.
    is_computed: bool,
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
        let first = inspection.first_block()?;
        if first > 0 {
            self.is_computed = false;
            let begins = format!(
                "the ledger begins with a snapshot and block {first}, so neither commit hashes nor state can \
                 be computed from its blocks"
            );
            self.told.unfinished(Part::State, begins);
        }
        self.height = first;
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
                match self.compare_states(stored) {
                    Err(CommitError::State(error)) if is_damage(&error) => {
                        self.told.wrong(Part::State, error.to_string());
                    }
                    compared => compared?,
                }
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
        let batch = read.and_then(|read| Ok((read.batch(&self.state)?, read)));
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

    /// Compares the database of the state, table by table.
    fn compare_states(&mut self, stored: &StateDatabase) -> Result<(), CommitError> {
        if !self.is_computed {
            return Ok(());
        }
        let history = stored.history().height()?;
        let height = self.state.database().history().height()?;
        for table in StateDatabase::TABLES {
            if table != Table::History || history == height {
                self.compare_tables(stored, table)?;
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
