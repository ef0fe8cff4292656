//! What a node counts. Nothing is dropped without one of these going up.

use std::collections::BTreeMap;

use crate::event::Arrival;

/// Why something was not processed, or was forgotten early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// A message that is known or older than one that is known. The normal end of most copies.
    Duplicate,
    /// An alive or StateInfo message of our own that came back.
    OwnMessage,
    /// Of a channel that this peer has not joined.
    UnknownChannel,
    /// Of a peer whose identity or organisation is unknown.
    UnknownIdentity,
    /// From or about an organisation that is not in the channel.
    ForeignOrg,
    /// The asker's self information is not its own.
    AskerMismatch,
    /// From a peer that must not ask this.
    NotEligible,
    /// Asked more often than it is answered.
    TooOften,
    /// Membership is full.
    MembershipFull,
    /// The identity store is full.
    IdentitiesFull,
    /// The emitter's queue is full.
    EmitterFull,
    /// The store of StateInfo messages to relay is full.
    RelayFull,
    /// Too many channels.
    ChannelsFull,
    /// A bounded queue or table of a channel is full.
    ChannelFull,
    /// A nonce that nobody issued, or whose time is over.
    UnknownNonce,
    /// A block outside of the window that is kept or buffered.
    BlockOutsideWindow,
    /// A block that verification refused.
    BlockRefused,
    /// What was sent does not fit what was asked for.
    Unsolicited,
    /// A message that must come from its author came from somebody else.
    NotFromAuthor,
    /// A message without what it is for.
    Malformed,
    /// Too much private data is under way.
    PrivateDataFull,
    /// The local key failed to sign.
    SignFailed,
    /// A message that this version does not handle yet, or that has no business here.
    NotHandled,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    drops: BTreeMap<DropReason, u64>,
    blocks: BTreeMap<Arrival, u64>,
    duplicate_blocks: u64,
    /// Messages of private data.
    pub private_data: PrivateDataCounters,
}

/// Messages of private data since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivateDataCounters {
    /// Sent to other peers, to be acknowledged.
    pub pushed: u64,
    /// Of these acknowledged.
    pub acknowledged: u64,
    /// Of these refused.
    pub refused: u64,
    /// Of these never answered.
    pub unanswered: u64,
    /// Pushed by other peers and handed to the transient store.
    pub received: u64,
    /// Requests sent to other peers.
    pub requested: u64,
    /// Items that came in response.
    pub fetched: u64,
    /// Requests of other peers that were answered.
    pub served: u64,
}

impl Counters {
    /// Counts a drop.
    pub fn dropped(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_default() += 1;
    }

    /// Counts a new block by the way it came.
    pub fn block(&mut self, how: Arrival) {
        *self.blocks.entry(how).or_default() += 1;
    }

    /// Counts a block that was there already.
    pub fn duplicate_block(&mut self) {
        self.duplicate_blocks += 1;
    }

    /// Drops for `reason`.
    pub fn drops_of(&self, reason: DropReason) -> u64 {
        self.drops.get(&reason).copied().unwrap_or(0)
    }

    /// All drops that happened at all.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        self.drops.iter().map(|(reason, count)| (*reason, *count))
    }

    /// New blocks that came this way.
    pub fn blocks_by(&self, how: Arrival) -> u64 {
        self.blocks.get(&how).copied().unwrap_or(0)
    }

    /// Blocks that were there already.
    pub fn duplicate_blocks(&self) -> u64 {
        self.duplicate_blocks
    }
}
