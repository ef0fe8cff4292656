//! A verified block as the gossip core handles it.

use bytes::Bytes;
use selvedge_channel::VerifiedBlock;
use selvedge_gossip::event::Payload;

/// A block that passed verification. Nothing else can become one.
#[derive(Debug, Clone)]
pub struct PeerBlock(VerifiedBlock);

impl PeerBlock {
    /// Takes the block out.
    pub fn into_inner(self) -> VerifiedBlock {
        self.0
    }
}

impl From<VerifiedBlock> for PeerBlock {
    fn from(block: VerifiedBlock) -> Self {
        Self(block)
    }
}

impl Payload for PeerBlock {
    fn number(&self) -> u64 {
        self.0.number()
    }

    fn encoded(&self) -> &Bytes {
        self.0.bytes()
    }
}
