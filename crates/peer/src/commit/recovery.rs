//! Bringing state and history level with the block files: from the verdicts in the blocks, without
//! validating anew.

use selvedge_ledger::store::Durability;

use super::changes::{self, CommittedTransactions};
use super::{CommitError, Committer, read};

/// Blocks between two lines of the log.
const TOLD_EVERY: u64 = 1000;

/// How far a database is.
#[derive(Debug, Clone, Copy)]
pub struct LevelProgress<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The database: `state` or `history`.
    pub database: &'static str,
    /// The number of blocks in it.
    pub height: u64,
    /// The number of blocks that there are for it.
    pub of: u64,
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
        for number in first..height {
            let transactions = self.committed(number)?;
            let batch = transactions.batch(&self.state)?;
            let mut updates = changes::of_batch(number, batch, &self.state, None)?;
            if self.options.history {
                updates.add_history(transactions.history());
            }
            self.state
                .database()
                .commit(&updates, Durability::Process)?;
            self.tell_snapshots(number);
            self.tell_progress("state", number, height);
        }
        Ok(())
    }

    /// Adds the blocks to the history that are in the state already.
    fn bring_history_level(&self, height: u64) -> Result<(), CommitError> {
        let history = self.state.database().history();
        for number in history.height()?..height {
            history.add(self.committed(number)?.history())?;
            self.tell_progress("history", number, height);
        }
        Ok(())
    }

    fn committed(&self, number: u64) -> Result<CommittedTransactions, CommitError> {
        let block = read(&self.blocks, number)?;
        CommittedTransactions::read(self.blocks.channel(), number, &block)
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
