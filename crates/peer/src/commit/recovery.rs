//! Bringing state and history level with the block files: from the verdicts in the blocks, without
//! validating anew.

use std::collections::BTreeMap;

use selvedge_ledger::BlockStore;
use selvedge_ledger::state::StateDatabase;
use selvedge_ledger::store::Durability;

use super::changes::{self, Changes, CommittedTransactions};
use super::private::{Defined, MissingFinder};
use super::{CommitError, Committer, LedgerState, read};

/// Blocks between two lines of the log.
const TOLD_EVERY: u64 = 1000;

/// How far a database is.
#[derive(Debug, Clone, Copy)]
pub struct LevelProgress<'a> {
    /// The channel.
    pub channel: &'a str,
    /// What it is: the state, the history, or the accounts of missing private data.
    pub database: &'static str,
    /// The number of blocks in it.
    pub height: u64,
    /// The number of blocks that there are for it.
    pub of: u64,
}

/// Applies the blocks up to `last` to an empty state, without a history. Returns before if it is told to stop.
pub fn fill_state(
    blocks: &BlockStore,
    state: &StateDatabase,
    last: u64,
    stopped: &dyn Fn() -> bool,
) -> Result<(), CommitError> {
    let state = LedgerState::new(state.clone());
    for number in 0..=last {
        if stopped() {
            break;
        }
        let block = read(blocks, number)?;
        let transactions = CommittedTransactions::read(blocks.channel(), number, &block)?;
        let batch = transactions.batch(&state)?;
        let Changes { updates, .. } = changes::of_batch(number, batch, &state, None)?;
        state.database().commit(&updates, Durability::Process)?;
    }
    Ok(())
}

impl Committer {
    /// Applies the blocks that the state lacks, and those that the history lacks beyond.
    pub(super) fn bring_level(&mut self) -> Result<(), CommitError> {
        let height = self.blocks.height();
        let savepoint = self.state.database().savepoint()?;
        if let Some(savepoint) = savepoint.filter(|savepoint| *savepoint >= height) {
            return Err(CommitError::StateAhead {
                channel: self.blocks.channel().to_owned(),
                savepoint,
                height,
            });
        }
        let first = savepoint.map_or(0, |savepoint| savepoint + 1);
        if self.options.history {
            self.bring_history_level(first)?;
        }
        self.bring_missing_data_level(first)?;
        for number in first..height {
            let block = read(&self.blocks, number)?;
            let transactions = CommittedTransactions::read(self.blocks.channel(), number, &block)?;
            let batch = transactions.batch(&self.state)?;
            let Changes {
                mut updates,
                defined,
            } = changes::of_batch(number, batch, &self.state, None)?;
            if self.options.history {
                updates.add_history(transactions.history());
            }
            if let Some(finder) = self.missing_finder(&self.state) {
                let missing = finder.of_block(number, &block, &defined)?;
                updates.add_missing_data(missing, &self.state.database().missing_data())?;
            }
            let turn = self.wait_for_turn(self.snapshots.as_deref())?;
            self.state
                .database()
                .commit(&updates, Durability::Process)?;
            drop(turn);
            self.tell_snapshots(number);
            self.tell_progress("state", number, height);
        }
        Ok(())
    }

    /// Adds the blocks to the history that are in the state already.
    fn bring_history_level(&self, height: u64) -> Result<(), CommitError> {
        let history = self.state.database().history();
        for number in history.height()?..height {
            let block = read(&self.blocks, number)?;
            let transactions = CommittedTransactions::read(self.blocks.channel(), number, &block)?;
            history.add(transactions.history())?;
            self.tell_progress("history", number, height);
        }
        Ok(())
    }

    /// Accounts for the private data that the blocks lack that are in the state already.
    fn bring_missing_data_level(&self, height: u64) -> Result<(), CommitError> {
        let Some(finder) = self.missing_finder(&self.state) else {
            return Ok(());
        };
        let missing = self.state.database().missing_data();
        let first = missing.height()?;
        let first_block = self.blocks.first_block();
        if first >= height.max(first_block) {
            return Ok(());
        }
        if first < first_block {
            finder.account_for_snapshot(&missing, first_block)?;
        }
        let mut definitions: BTreeMap<u64, Vec<Defined>> = BTreeMap::new();
        for row in finder.config_history.rows() {
            let row = row?;
            if let Some((chaincode, block)) = row.chaincode_and_block() {
                let defined = (chaincode.to_owned(), row.package.clone());
                definitions.entry(block).or_default().push(defined);
            }
        }
        for number in first.max(first_block)..height {
            let block = read(&self.blocks, number)?;
            let defined = definitions.remove(&number).unwrap_or_default();
            missing.add(finder.of_block(number, &block, &defined)?)?;
            self.tell_progress("accounts of missing private data", number, height);
        }
        Ok(())
    }

    /// Finds missing private data, if the peer's organisation is known.
    pub(super) fn missing_finder(&self, state: &LedgerState) -> Option<MissingFinder<'_>> {
        let organization = self.options.organization.as_ref()?;
        Some(MissingFinder {
            organization,
            config_history: state.database().config_history(),
        })
    }

    fn tell_progress(&self, database: &'static str, number: u64, of: u64) {
        let progress = LevelProgress {
            channel: self.blocks.channel(),
            database,
            height: number + 1,
            of,
        };
        if let Some(observer) = &self.options.observer {
            observer.tell(&progress);
        }
        if progress.height.is_multiple_of(TOLD_EVERY) {
            let LevelProgress {
                channel, height, ..
            } = progress;
            tracing::info!(channel, height, of, "Bringing the {database} level");
        }
    }
}
