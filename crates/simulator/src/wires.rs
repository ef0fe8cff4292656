//! What lies between the peers: latency, bandwidth, loss, partitions.
//!
//! A frame takes its sender's uplink for as long as its size needs, then the link's latency, and does not overtake an
//! earlier one between the same two peers, as on a TCP connection. What waits for the uplink is a matter of
//! `outboxes`, what a receiver is too slow for of `inboxes`.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::rngs::StdRng;

use crate::options::{NARROW_BITS_PER_SECOND, Options, Place};

/// Nanoseconds since the start of the simulation.
pub(crate) type Nanos = u64;

const MICROSECOND: Nanos = 1_000;
const MILLISECOND: Nanos = 1_000_000;

/// How long a frame takes at this bandwidth.
pub(crate) fn transmission(size: usize, bits_per_second: u64) -> Nanos {
    let bits = u64::try_from(size).unwrap_or(u64::MAX).saturating_mul(8);
    bits.saturating_mul(1_000) / (bits_per_second / 1_000_000).max(1)
}

/// One-way latencies between six regions in milliseconds: Virginia, Oregon, Frankfurt, Mumbai, Tokyo,
/// Sydney, from published round-trip times of a cloud provider, halved and rounded.
const PLANET: [[Nanos; 6]; 6] = [
    [1, 33, 45, 95, 73, 99],
    [33, 1, 70, 108, 49, 69],
    [45, 70, 1, 61, 112, 140],
    [95, 108, 61, 1, 64, 76],
    [73, 49, 112, 64, 1, 52],
    [99, 69, 140, 76, 52, 1],
];

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Wires {
    place: Place,
    loss_per_million: u32,
    /// When each peer's uplink is free again.
    uplink: Vec<Nanos>,
    /// When the last frame between two peers arrives.
    last: BTreeMap<(usize, usize), Nanos>,
    /// Peers whose link is narrow.
    narrow: BTreeSet<usize>,
    /// Streams that broke between two peers, the smaller number first.
    broken: BTreeMap<(usize, usize), u32>,
    /// Directions that carry nothing for a while.
    mute: BTreeMap<(usize, usize), Nanos>,
    /// Peers on the smaller side of a partition, while there is one.
    cut_off: Option<Vec<bool>>,
}

/// What becomes of a frame.
pub(crate) enum Carried {
    /// It arrives then.
    At(Nanos),
    /// It is lost.
    Lost,
    /// It is lost, and whoever sent it waits until its stream breaks.
    Unanswered,
}

impl Wires {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            place: options.place,
            loss_per_million: options.loss_per_million,
            uplink: vec![0; options.peers],
            last: BTreeMap::new(),
            narrow: BTreeSet::new(),
            broken: BTreeMap::new(),
            mute: BTreeMap::new(),
            cut_off: None,
        }
    }

    /// The number of the stream between two peers; another one after it has broken.
    pub(crate) fn stream(&self, one: usize, other: usize) -> u32 {
        let pair = (one.min(other), one.max(other));
        self.broken.get(&pair).copied().unwrap_or(0)
    }

    /// The stream between two peers breaks, with all that is in flight.
    pub(crate) fn break_stream(&mut self, one: usize, other: usize) {
        let pair = (one.min(other), one.max(other));
        *self.broken.entry(pair).or_default() += 1;
        self.last.remove(&(one, other));
        self.last.remove(&(other, one));
    }

    /// One direction carries nothing until then.
    pub(crate) fn mute(&mut self, from: usize, to: usize, until: Nanos) {
        self.mute.insert((from, to), until);
    }

    /// A peer's link is narrow from now on, or is so no longer.
    pub(crate) fn set_narrow(&mut self, peer: usize, narrow: bool) {
        match narrow {
            true => self.narrow.insert(peer),
            false => self.narrow.remove(&peer),
        };
    }

    pub(crate) fn part(&mut self, cut_off: Option<Vec<bool>>) {
        self.cut_off = cut_off;
    }

    /// Whether two peers can reach each other.
    pub(crate) fn connected(&self, from: usize, to: usize) -> bool {
        match &self.cut_off {
            Some(cut_off) => cut_off.get(from) == cut_off.get(to),
            None => true,
        }
    }

    /// When a peer's uplink is free again.
    pub(crate) fn uplink_free(&self, from: usize) -> Nanos {
        self.uplink.get(from).copied().unwrap_or(0)
    }

    /// Sends a frame of so many bytes. The uplink must be free.
    pub(crate) fn carry(
        &mut self,
        from: usize,
        to: usize,
        size: usize,
        now: Nanos,
        rng: &mut StdRng,
    ) -> Carried {
        let left = self.leave(from, size, now);
        if self.loss_per_million > 0 && rng.random_range(0..1_000_000) < self.loss_per_million {
            return Carried::Lost;
        }
        if self.mute.get(&(from, to)).is_some_and(|until| now < *until) {
            return Carried::Unanswered;
        }
        let earliest = left + self.latency(from, to, rng);
        let last = self.last.entry((from, to)).or_insert(0);
        *last = earliest.max(*last + 1);
        Carried::At(*last)
    }

    /// The time that a small message takes, there and back.
    pub(crate) fn round_trip(&self, from: usize, to: usize, rng: &mut StdRng) -> Nanos {
        self.latency(from, to, rng) + self.latency(to, from, rng)
    }

    fn leave(&mut self, from: usize, size: usize, now: Nanos) -> Nanos {
        let bits_per_second: u64 = match self.place {
            _ if self.narrow.contains(&from) => NARROW_BITS_PER_SECOND,
            Place::Machine => 10_000_000_000,
            Place::Region => 1_000_000_000,
            Place::Planet => 200_000_000,
        };
        let takes = transmission(size, bits_per_second);
        let Some(free) = self.uplink.get_mut(from) else {
            return now;
        };
        *free = now.max(*free).saturating_add(takes);
        *free
    }

    fn latency(&self, from: usize, to: usize, rng: &mut StdRng) -> Nanos {
        match self.place {
            Place::Machine => rng.random_range(50 * MICROSECOND..150 * MICROSECOND),
            Place::Region => {
                let same_zone = from % 3 == to % 3;
                let base = if same_zone { 300 } else { 1_000 } * MICROSECOND;
                base + rng.random_range(0..base / 2)
            }
            Place::Planet => {
                let row = PLANET.get(from % 6);
                let base = row.and_then(|row| row.get(to % 6)).copied().unwrap_or(1);
                let base = base * MILLISECOND;
                base + rng.random_range(0..base / 10)
            }
        }
    }
}
