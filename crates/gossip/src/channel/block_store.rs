//! The newest blocks of a channel, to be served to those who pull, and who is known to have them.
//!
//! A window as Fabric's (`protoext` data invalidation policy, `maxBlockCountToStore`): a block within
//! that distance of the highest is kept, one further below is refused, and a new highest one drops
//! what it leaves behind. With Fabric's default of 10 that makes 11 blocks. Blocks expire after a
//! hundred pull intervals (Fabric: `BlockExpirationInterval`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::message::Envelope;
use crate::types::PkiId;

/// Most bytes that a channel keeps for pulling, whatever the count; at least the newest block stays.
pub(super) const MAX_BYTES: usize = 64 << 20;
/// How often a peer is sent a block that it asks for beside a pull.
const MAX_SERVED: u8 = 2;

#[derive(Debug)]
struct Stored<B> {
    block: B,
    envelope: Envelope,
    /// Peers that sent this block, were sent it, or said that they have it.
    holders: BTreeSet<PkiId>,
    /// How often it was sent to whom because they asked for it beside a pull.
    served: BTreeMap<PkiId, u8>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct BlockStore<B> {
    distance: u64,
    time_to_live: Duration,
    blocks: BTreeMap<u64, Stored<B>>,
    bytes: usize,
    /// When each block was added, oldest first.
    age: VecDeque<(Instant, u64)>,
}

impl<B: Clone> BlockStore<B> {
    /// Keeps blocks within `distance` of the highest, for `time_to_live`.
    pub fn new(distance: u64, time_to_live: Duration) -> Self {
        Self {
            distance,
            time_to_live,
            blocks: BTreeMap::new(),
            bytes: 0,
            age: VecDeque::new(),
        }
    }

    /// Whether a block of this number would be added (Fabric: `CheckValid`).
    pub fn accepts(&self, number: u64) -> bool {
        let too_low = self
            .highest()
            .is_some_and(|highest| highest.saturating_sub(number) > self.distance);
        !too_low && !self.blocks.contains_key(&number)
    }

    /// Adds a verified block. `false`: it is there already or too far below the highest.
    pub fn add(&mut self, number: u64, block: B, envelope: Envelope, now: Instant) -> bool {
        if !self.accepts(number) {
            return false;
        }
        self.bytes = self.bytes.saturating_add(envelope.frame().len());
        self.age.push_back((now, number));
        self.blocks.insert(
            number,
            Stored {
                block,
                envelope,
                holders: BTreeSet::new(),
                served: BTreeMap::new(),
            },
        );
        self.trim();
        true
    }

    /// The block in its envelope.
    pub fn get(&self, number: u64) -> Option<&Envelope> {
        self.blocks.get(&number).map(|stored| &stored.envelope)
    }

    /// The block and its envelope's size.
    pub fn block(&self, number: u64) -> Option<(B, usize)> {
        let stored = self.blocks.get(&number)?;
        Some((stored.block.clone(), stored.envelope.frame().len()))
    }

    /// The numbers that are here, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.keys().copied()
    }

    /// How many blocks are here.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The size of their envelopes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many peers are remembered as holders of one block, at most.
    pub fn most_holders(&self) -> usize {
        let holders = self.blocks.values().map(|stored| stored.holders.len());
        holders.max().unwrap_or(0)
    }

    /// The highest block that is here.
    pub fn highest(&self) -> Option<u64> {
        self.blocks.last_key_value().map(|(number, _)| *number)
    }

    /// Notes that a peer has a block. Forgotten with the block.
    pub fn held_by(&mut self, number: u64, peer: PkiId) {
        if let Some(stored) = self.blocks.get_mut(&number) {
            stored.holders.insert(peer);
        }
    }

    /// Whether a peer is known to have a block.
    pub fn is_held_by(&self, number: u64, peer: &PkiId) -> bool {
        self.blocks
            .get(&number)
            .is_some_and(|stored| stored.holders.contains(peer))
    }

    /// Whether a peer is sent a block that it asks for beside a pull: twice at most. It has it from now on.
    pub fn may_serve(&mut self, number: u64, peer: PkiId) -> bool {
        let Some(stored) = self.blocks.get_mut(&number) else {
            return false;
        };
        stored.holders.insert(peer);
        let served = stored.served.entry(peer).or_default();
        *served = served.saturating_add(1);
        *served <= MAX_SERVED
    }

    /// Whether a peer is known to have this block or a later one.
    pub fn is_held_from(&self, number: u64, peer: &PkiId) -> bool {
        self.blocks
            .range(number..)
            .any(|(_, stored)| stored.holders.contains(peer))
    }

    /// Forgets a peer.
    pub fn forget(&mut self, peer: &PkiId) {
        for stored in self.blocks.values_mut() {
            stored.holders.remove(peer);
            stored.served.remove(peer);
        }
    }

    /// Drops what has expired.
    pub fn sweep(&mut self, now: Instant) {
        while let Some((added, number)) = self.age.front().copied() {
            if added + self.time_to_live > now {
                break;
            }
            self.remove(number);
        }
    }

    /// When [`BlockStore::sweep`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.age
            .front()
            .map(|(added, _)| *added + self.time_to_live)
    }

    fn trim(&mut self) {
        let Some(highest) = self.highest() else {
            return;
        };
        let lowest_kept = highest.saturating_sub(self.distance);
        while let Some((lowest, _)) = self.blocks.first_key_value() {
            let lowest = *lowest;
            let too_much = self.bytes > MAX_BYTES && lowest != highest;
            if lowest >= lowest_kept && !too_much {
                break;
            }
            self.remove(lowest);
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(stored) = self.blocks.remove(&number) {
            self.bytes -= stored.envelope.frame().len();
        }
        self.age.retain(|(_, aged)| *aged != number);
    }
}

#[cfg(test)]
mod tests {
    use selvedge_protos::gossip::GossipMessage;

    use super::*;
    use crate::testing::start;

    const TTL: Duration = Duration::from_secs(400);

    fn envelope(size: usize) -> Envelope {
        Envelope::unsigned(&GossipMessage {
            channel: vec![0; size].into(),
            ..GossipMessage::default()
        })
    }

    fn numbers(store: &BlockStore<()>) -> Vec<u64> {
        store.numbers().collect()
    }

    #[test]
    fn eleven_blocks_are_kept_with_fabrics_default() {
        let mut store = BlockStore::new(10, TTL);
        let now = start();
        for number in 0..30 {
            assert!(store.add(number, (), envelope(1), now));
        }
        assert_eq!(numbers(&store), (19..30).collect::<Vec<_>>());
    }

    #[test]
    fn a_known_block_and_one_below_the_window_are_refused() {
        let mut store = BlockStore::new(10, TTL);
        let now = start();
        assert!(store.add(20, (), envelope(1), now));
        assert!(!store.add(20, (), envelope(1), now));
        assert!(!store.add(9, (), envelope(1), now));
        assert!(store.add(10, (), envelope(1), now));
        assert!(store.add(21, (), envelope(1), now));
        assert_eq!(numbers(&store), [20, 21]);
    }

    #[test]
    fn blocks_expire() {
        let mut store = BlockStore::new(10, TTL);
        let now = start();
        store.add(5, (), envelope(1), now);
        store.add(4, (), envelope(1), now + TTL / 2);
        assert_eq!(store.next_deadline(), Some(now + TTL));
        store.sweep(now + TTL);
        assert_eq!(numbers(&store), [4]);
        assert_eq!(store.next_deadline(), Some(now + TTL + TTL / 2));
        store.sweep(now + TTL * 2);
        assert_eq!((numbers(&store), store.next_deadline()), (vec![], None));
        // It may come again, and expires anew.
        assert!(store.add(5, (), envelope(1), now + TTL * 2));
        store.sweep(now + TTL * 2);
        assert_eq!(numbers(&store), [5]);
    }

    #[test]
    fn bytes_are_bounded_and_the_newest_stays() {
        let mut store = BlockStore::new(10, TTL);
        let now = start();
        for number in 0..3 {
            store.add(number, (), envelope(MAX_BYTES / 2 - 100), now);
        }
        assert_eq!(numbers(&store), [1, 2]);
        store.add(3, (), envelope(MAX_BYTES + 1), now);
        assert_eq!(numbers(&store), [3]);
    }

    #[test]
    fn the_queue_of_ages_is_as_long_as_the_window() {
        let mut store = BlockStore::new(10, TTL);
        let now = start();
        for number in 0..10_000 {
            store.add(number, (), envelope(1), now);
        }
        assert_eq!(store.age.len(), 11);
    }

    #[test]
    fn holders_are_known_by_block() {
        let mut store = BlockStore::new(10, TTL);
        let peer = PkiId([1; 32]);
        for number in 1..4 {
            store.add(number, (), envelope(1), start());
        }
        store.held_by(2, peer);
        store.held_by(9, peer);
        assert!(store.is_held_by(2, &peer) && !store.is_held_by(1, &peer));
        assert!(store.is_held_from(1, &peer) && !store.is_held_from(3, &peer));
        store.forget(&peer);
        assert!(!store.is_held_by(2, &peer));
    }
}
