//! The last blocks, kept in memory for those who follow the chain closely.

use std::collections::VecDeque;

use selvedge_protos::common::Block;

/// Blocks with consecutive numbers, together at most so many bytes.
#[derive(Debug)]
pub(crate) struct RecentBlocks {
    first: u64,
    /// Each with its encoded length.
    blocks: VecDeque<(Block, u64)>,
    held: u64,
    capacity: u64,
}

impl RecentBlocks {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            first: 0,
            blocks: VecDeque::new(),
            held: 0,
            capacity,
        }
    }

    /// Adds the next block. One that does not fit empties the cache.
    pub(crate) fn push(&mut self, number: u64, block: Block, length: u64) {
        if self.first + self.blocks.len() as u64 != number {
            self.blocks.clear();
            self.held = 0;
        }
        if self.blocks.is_empty() {
            self.first = number;
        }
        self.held += length;
        self.blocks.push_back((block, length));
        while self.held > self.capacity
            && let Some((_, length)) = self.blocks.pop_front()
        {
            self.held -= length;
            self.first += 1;
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<Block> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.blocks.get(index).map(|(block, _)| block.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_blocks_within_its_capacity() {
        let mut recent = RecentBlocks::new(10);
        let held = |recent: &RecentBlocks| {
            let numbers = (0..30).filter(|number| recent.get(*number).is_some());
            numbers.collect::<Vec<_>>()
        };
        for number in 5..9 {
            recent.push(number, Block::default(), 4);
        }
        assert_eq!(held(&recent), [7, 8]);
        recent.push(9, Block::default(), 11);
        assert!(held(&recent).is_empty());
        recent.push(10, Block::default(), 1);
        assert_eq!(held(&recent), [10]);
        recent.push(20, Block::default(), 1);
        assert_eq!(held(&recent), [20]);
    }
}
