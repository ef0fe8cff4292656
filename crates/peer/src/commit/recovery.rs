//! Bringing state and history level with the block files: from the verdicts in the blocks, without
//! validating anew.

use selvedge_ledger::history::{History, HistoryRows};
use selvedge_ledger::store::Durability;
use selvedge_protos::block::metadata_slot;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::mvcc::{self, CommittedTransaction};

use super::{CommitError, Committer, read};

/// Blocks between two lines of the log.
const TOLD_EVERY: u64 = 1000;

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
            self.tell_progress("state", number, height);
            let block = read(&self.blocks, number)?;
            let valid = self.valid_transactions(number, &block)?;
            let rwsets = valid.iter().map(|(position, tx)| (*position, &tx.rwset));
            let updates = mvcc::collect(number, rwsets, &*self.state)?;
            let mut updates = self.state_updates(number, updates, None)?;
            if self.options.history {
                updates.add_history(history_rows(number, &valid));
            }
            self.state
                .database()
                .commit(&updates, Durability::Process)?;
        }
        Ok(())
    }

    /// Adds the blocks to the history that are in the state already.
    fn bring_history_level(&self, height: u64) -> Result<(), CommitError> {
        let history: History = self.state.database().history();
        for number in history.height()?..height {
            self.tell_progress("history", number, height);
            let block = read(&self.blocks, number)?;
            let valid = self.valid_transactions(number, &block)?;
            history.add(history_rows(number, &valid))?;
        }
        Ok(())
    }

    fn tell_progress(&self, what: &str, number: u64, height: u64) {
        if number.is_multiple_of(TOLD_EVERY) && number > 0 {
            let channel = self.blocks.channel();
            tracing::info!(channel, block = number, height, "Bringing the {what} level");
        }
    }

    /// The transactions that a committed block calls valid, by position.
    fn valid_transactions(
        &self,
        number: u64,
        block: &Block,
    ) -> Result<Vec<(usize, CommittedTransaction)>, CommitError> {
        const VALID: u8 = TxValidationCode::Valid as u8;
        let broken = |reason| CommitError::Block {
            channel: self.blocks.channel().to_owned(),
            block: number,
            reason,
        };
        let filter = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
        let envelopes = block.data.as_ref().map_or(&[][..], |data| &data.data);
        if filter.len() != envelopes.len() {
            return Err(broken(
                "it has no verdicts, so it was stored without validation",
            ));
        }
        let valid = filter.iter().zip(envelopes).enumerate();
        let valid = valid.filter(|(_, (code, _))| **code == VALID);
        valid
            .map(|(position, (_, envelope))| {
                let transaction = CommittedTransaction::read(envelope);
                let unreadable = || broken("a valid transaction has no results");
                Ok((position, transaction.ok_or_else(unreadable)?))
            })
            .collect()
    }
}

fn history_rows(number: u64, valid: &[(usize, CommittedTransaction)]) -> HistoryRows {
    let mut rows = HistoryRows::new(number);
    for (position, transaction) in valid {
        if !transaction.is_config {
            super::add_writes(&mut rows, *position, &transaction.rwset);
        }
    }
    rows
}
