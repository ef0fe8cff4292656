//! Since when blocks are known to exist, so that it can be told how long each was on its way to this peer.
//!
//! The first sign of a block is whatever shows first that there is one: the block itself as it comes, not yet
//! verified; an announcement or a digest that names it; a StateInfo that counts it; or any of these of a later
//! block, since a block is never ordered before those that it follows. Blocks that are further away than this
//! peer takes them count from the time when they are in reach.
//!
//! Only what is verified is certain. A sign of a peer that is [avoided](super::backoff), since it did not deliver,
//! is forgotten, and so that it does not take the true ones with it, a few peers are remembered for each block.

use std::time::{Duration, Instant};

use super::Channel;
use crate::event::Payload;
use crate::ordered_buffer::Demand;
use crate::types::PkiId;

/// Peers whose sign of one block is remembered.
const MAX_WITNESSES: usize = 3;
/// Signs that are remembered at a time.
pub(super) const MAX_SIGNS: usize = 128;

/// All blocks below `end` exist.
#[derive(Debug, Clone, Copy)]
struct Sign {
    end: u64,
    since: Instant,
    /// Who says so; `None` if a verified block does.
    by: Option<PkiId>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Signs(Vec<Sign>);

impl Signs {
    /// All blocks below `end` exist, says a peer or, without one, a verified block.
    fn note(&mut self, end: u64, by: Option<PkiId>, now: Instant) {
        let covering = || self.0.iter().filter(|sign| sign.end >= end);
        let known = covering().any(|sign| sign.by.is_none() || sign.by == by);
        let enough = by.is_some() && covering().count() >= MAX_WITNESSES;
        if !known && !enough && self.0.len() < MAX_SIGNS {
            let since = now;
            self.0.push(Sign { end, since, by });
        }
    }

    /// How long ago the first sign of a block came.
    pub(super) fn age(&self, number: u64, now: Instant) -> Duration {
        let first = self.0.iter().find(|sign| sign.end > number);
        first.map_or(Duration::ZERO, |sign| {
            now.saturating_duration_since(sign.since)
        })
    }

    /// Forgets the signs of blocks below `next` alone, and those of peers that are not believed.
    fn retain(&mut self, next: u64, believed: impl Fn(&PkiId) -> bool) {
        self.0
            .retain(|sign| sign.end > next && sign.by.as_ref().is_none_or(&believed));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<B: Payload> Channel<B> {
    /// A peer has shown a block.
    pub(super) fn note_sign(&mut self, number: u64, from: PkiId, now: Instant) {
        self.note_end(number.saturating_add(1), Some(from), now);
    }

    fn note_end(&mut self, end: u64, by: Option<PkiId>, now: Instant) {
        let end = end.min(self.buffer.end(Demand::Requested));
        if end > self.buffer.next() {
            self.signs.note(end, by, now);
        }
    }

    /// Looks at what has changed: verified blocks, published heights, peers that are avoided.
    pub(super) fn review_signs(&mut self, now: Instant) {
        let next = self.buffer.next();
        let backoff = &self.backoff;
        self.signs.retain(next, |peer| !backoff.avoids(peer, now));
        let verified = self.buffer.highest().max(self.blocks.highest());
        if let Some(highest) = verified {
            self.note_end(highest.saturating_add(1), None, now);
        }
        let claims = self.claims(now).take_while(|(height, _)| *height > next);
        let claims: Vec<_> = claims.take(MAX_WITNESSES).collect();
        for (height, peer) in claims {
            self.note_end(height, Some(peer), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(number: u8) -> Option<PkiId> {
        Some(PkiId([number; 32]))
    }

    #[test]
    fn a_block_counts_from_the_first_sign_of_it_or_of_a_later_one() {
        let now = start();
        let mut signs = Signs::default();
        signs.note(6, peer(1), now);
        signs.note(8, None, now + SECOND);
        signs.note(8, peer(1), now + SECOND * 2);
        let age = |number| signs.age(number, now + SECOND * 5);
        assert_eq!([4, 5, 6, 7].map(age), [5, 5, 4, 4].map(|it| SECOND * it));
        assert_eq!(age(8), Duration::ZERO);
    }

    #[test]
    fn who_is_not_believed_takes_only_its_own_signs_along() {
        let now = start();
        let mut signs = Signs::default();
        signs.note(100, peer(1), now);
        signs.note(6, peer(2), now + SECOND);
        signs.note(6, None, now + SECOND * 2);
        signs.retain(5, |it| Some(*it) != peer(1));
        assert_eq!(signs.age(5, now + SECOND * 3), SECOND * 2);
        signs.retain(6, |_| true);
        assert_eq!(signs.len(), 0);
    }

    #[test]
    fn few_are_remembered_for_a_block_and_of_each_peer_one_sign() {
        let now = start();
        let mut signs = Signs::default();
        for number in 0..200 {
            signs.note(6, peer(number), now);
            signs.note(6, peer(0), now);
        }
        assert_eq!(signs.len(), MAX_WITNESSES);
        signs.note(6, None, now);
        assert_eq!(signs.len(), MAX_WITNESSES + 1);
        for end in 7..1000 {
            signs.note(end, peer(0), now);
        }
        assert_eq!(signs.len(), MAX_SIGNS);
    }
}
