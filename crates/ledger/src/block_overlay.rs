//! Index entries of blocks that are safe in the block files and not in the index yet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::block_index::{BlockEntries, TransactionEntry};

/// The entries of consecutive blocks. What it has of a transaction id is the first occurrence in these
/// blocks; see [`TransactionEntry::may_be_repeated`].
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    blocks: VecDeque<Arc<BlockEntries>>,
    transactions: HashMap<Arc<[u8]>, TransactionEntry>,
    entries: usize,
}

impl Overlay {
    /// Adds the next block.
    pub(crate) fn push(&mut self, block: Arc<BlockEntries>) {
        self.transactions.reserve(block.transactions.len());
        for (key, entry) in &block.transactions {
            let known = self.transactions.entry(Arc::clone(key));
            known.or_insert(*entry);
        }
        self.entries += block.len();
        self.blocks.push_back(block);
    }

    /// The first blocks, at least one if there is one, with about so many entries together.
    pub(crate) fn first(&self, entries: usize) -> Vec<Arc<BlockEntries>> {
        let mut taken = 0;
        let blocks = self.blocks.iter().take_while(|block| {
            let takes = taken < entries;
            taken += block.len();
            takes
        });
        blocks.cloned().collect()
    }

    /// Takes the first blocks away. What is returned is better dropped where nobody waits.
    pub(crate) fn remove_first(&mut self, count: usize) -> Vec<Arc<BlockEntries>> {
        let removed: Vec<_> = self.blocks.drain(..count.min(self.blocks.len())).collect();
        for block in &removed {
            self.entries -= block.len();
            for (key, entry) in &block.transactions {
                if self.transactions.get(key) == Some(entry) {
                    self.transactions.remove(key);
                }
            }
        }
        removed
    }

    /// The number of entries of all blocks.
    pub(crate) const fn entries(&self) -> usize {
        self.entries
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(crate) fn block(&self, number: u64) -> Option<Arc<BlockEntries>> {
        let first = self.blocks.front()?.number;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.blocks.get(index).cloned()
    }

    pub(crate) fn number_by_hash(&self, header_hash: &[u8]) -> Option<u64> {
        let mut blocks = self.blocks.iter();
        let found = blocks.find(|block| block.block.header_hash == header_hash);
        found.map(|block| block.number)
    }

    pub(crate) fn transaction(&self, key: &[u8]) -> Option<TransactionEntry> {
        self.transactions.get(key).copied()
    }
}
