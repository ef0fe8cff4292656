//! Blocks that are validated and wait for the others that they are written with.

use std::sync::Arc;

use selvedge_ledger::TransactionIds;
use selvedge_ledger::store::Durability;

use super::{CommitError, LedgerState, ValidatedBlock};

/// Blocks that follow each other and those in the ledger.
#[derive(Debug, Default)]
pub(super) struct Staged {
    blocks: Vec<ValidatedBlock>,
    /// The ledger with the first of them.
    after: Option<After>,
    /// How many of them that is with.
    applied: usize,
}

/// What the next block is validated with.
#[derive(Debug)]
struct After {
    state: Arc<LedgerState>,
    ids: TransactionIds,
}

impl Staged {
    pub(super) fn push(&mut self, block: ValidatedBlock) {
        self.blocks.push(block);
    }

    /// All blocks; none is staged any more.
    pub(super) fn take(&mut self) -> Vec<ValidatedBlock> {
        std::mem::take(self).blocks
    }

    /// Whether blocks after the last one are judged by other rules.
    pub(super) fn brings_rules(&self) -> bool {
        self.blocks.last().is_some_and(|block| block.next.is_some())
    }

    /// Applies the blocks to a copy of the state, which is made only if there is a block to be validated
    /// after them.
    pub(super) fn apply(&mut self, state: &LedgerState) -> Result<(), CommitError> {
        let blocks = self.blocks.get(self.applied..).unwrap_or_default();
        if blocks.is_empty() {
            return Ok(());
        }
        let after = self.after.get_or_insert_with(|| After {
            state: Arc::new(LedgerState::new(state.database().staging())),
            ids: TransactionIds::default(),
        });
        for block in blocks {
            let database = after.state.database();
            database.commit(&block.updates, Durability::Process)?;
            after.ids.add(&block.block);
        }
        self.applied = self.blocks.len();
        Ok(())
    }

    /// The state after the blocks that were applied; `None` if there are none.
    pub(super) fn state(&self) -> Option<&Arc<LedgerState>> {
        self.after.as_ref().map(|after| &after.state)
    }

    /// The transactions in them.
    pub(super) fn ids(&self) -> Option<&TransactionIds> {
        self.after.as_ref().map(|after| &after.ids)
    }

    /// The commit hash of the last block; `None` if there is none.
    pub(super) fn commit_hash(&self) -> Option<Option<[u8; 32]>> {
        self.blocks.last().map(|block| block.commit_hash)
    }
}
