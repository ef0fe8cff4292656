//! The last blocks, kept in memory for those who follow the chain closely.

use std::collections::VecDeque;

use bytes::Bytes;

/// Encoded blocks with consecutive numbers, together at most so many bytes.
#[derive(Debug)]
pub(crate) struct RecentBlocks {
    first: u64,
    blocks: VecDeque<Bytes>,
    held: usize,
    capacity: usize,
}

impl RecentBlocks {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            first: 0,
            blocks: VecDeque::new(),
            held: 0,
            capacity,
        }
    }

    /// Adds the next block. One that does not fit empties the cache.
    pub(crate) fn push(&mut self, number: u64, bytes: Bytes) {
        if self.first + self.blocks.len() as u64 != number {
            self.blocks.clear();
            self.held = 0;
        }
        if self.blocks.is_empty() {
            self.first = number;
        }
        self.held += bytes.len();
        self.blocks.push_back(bytes);
        while self.held > self.capacity
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.held -= oldest.len();
            self.first += 1;
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<Bytes> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.blocks.get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_blocks_within_its_capacity() {
        let mut recent = RecentBlocks::new(10);
        for number in 5..9 {
            recent.push(number, vec![0; 4].into());
        }
        let held: Vec<_> = (0..12)
            .filter(|number| recent.get(*number).is_some())
            .collect();
        assert_eq!(held, [7, 8]);

        recent.push(9, vec![0; 11].into());
        assert!((0..12).all(|number| recent.get(number).is_none()));
        recent.push(10, vec![1].into());
        assert_eq!(recent.get(10).as_deref(), Some(&[1][..]));

        recent.push(20, vec![2].into());
        assert_eq!(
            (recent.get(10), recent.get(20)),
            (None, Some(vec![2].into()))
        );
    }
}
