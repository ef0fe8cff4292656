//! How many of the blocks that wait are prepared and written together.

use selvedge_channel::VerifiedBlock;

/// Blocks in a group, at most.
const MOST_BLOCKS: usize = 64;
/// With so many bytes a group is large enough: a sync then takes less than what comes before it.
const ENOUGH_BYTES: usize = 256 << 10;

/// The size of a group of blocks.
#[derive(Debug, Default)]
pub(crate) struct GroupSize {
    blocks: usize,
    bytes: usize,
    ends: bool,
}

impl GroupSize {
    /// Counts a block. After a config block none is taken, since it may change the rules for others.
    pub(crate) fn add(&mut self, block: &VerifiedBlock) {
        self.blocks += 1;
        self.bytes = self.bytes.saturating_add(block.bytes().len());
        self.ends |= block.is_config();
    }

    /// Whether another block may be added.
    pub(crate) const fn has_room(&self) -> bool {
        !self.ends && self.blocks < MOST_BLOCKS && self.bytes < ENOUGH_BYTES
    }
}
