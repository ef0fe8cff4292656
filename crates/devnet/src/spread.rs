//! How blocks spread: when each peer had each block, and what way it came.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Instant;

use crate::summary::{Arrivals, Delays, Quantiles};

/// Delays that are kept for the quantiles; the oldest go first.
const MAX_DELAYS: usize = 1 << 20;
/// Blocks that some peers have and others lack; of those beyond, the lowest are given up.
const MAX_INCOMPLETE: usize = 1 << 16;

/// How a block came to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the ordering node.
    Orderer,
    /// Pushed by another peer.
    Push,
    /// Pulled from another peer.
    Pull,
    /// By state transfer.
    State,
}

/// Gathers commits of all peers.
#[derive(Debug)]
pub struct Spread {
    peers: usize,
    counted: RangeInclusive<u64>,
    incomplete: BTreeMap<u64, Vec<Instant>>,
    every_peer: VecDeque<f64>,
    last_peer: VecDeque<f64>,
    /// Blocks that all peers have.
    complete: u64,
    arrivals: Arrivals,
}

impl Spread {
    /// For so many peers; other blocks than the counted ones are left out.
    pub fn new(peers: usize, counted: RangeInclusive<u64>) -> Self {
        Self {
            peers,
            counted,
            incomplete: BTreeMap::new(),
            every_peer: VecDeque::new(),
            last_peer: VecDeque::new(),
            complete: 0,
            arrivals: Arrivals::default(),
        }
    }

    /// Notes the way that a block has come to some peer. Each peer must report a block once at most.
    pub fn arrived(&mut self, number: u64, way: Way) {
        if !self.counted.contains(&number) {
            return;
        }
        match way {
            Way::Orderer => self.arrivals.orderer += 1,
            Way::Push => self.arrivals.push += 1,
            Way::Pull => self.arrivals.pull += 1,
            Way::State => self.arrivals.state += 1,
        }
    }

    /// Notes when some peer has committed a block. Each peer must report a block once at most.
    pub fn committed(&mut self, number: u64, at: Instant) {
        if !self.counted.contains(&number) {
            return;
        }
        let times = self.incomplete.entry(number).or_default();
        times.push(at);
        if times.len() < self.peers {
            if self.incomplete.len() > MAX_INCOMPLETE {
                self.incomplete.pop_first();
            }
            return;
        }
        self.complete += 1;
        let mut times = self.incomplete.remove(&number).unwrap_or_default();
        times.sort_unstable();
        let mut times = times.into_iter();
        let Some(first) = times.next() else { return };
        let mut latest = None;
        for time in times {
            let delay = time.duration_since(first).as_secs_f64() * 1000.0;
            keep(&mut self.every_peer, delay);
            latest = Some(delay);
        }
        if let Some(delay) = latest {
            keep(&mut self.last_peer, delay);
        }
    }

    /// Delays of the blocks that all peers have.
    pub fn delays(&self) -> Delays {
        self.latest_delays(MAX_DELAYS)
    }

    /// The same of the latest only: of so many pairs of block and peer, of so many blocks.
    pub fn latest_delays(&self, count: usize) -> Delays {
        let quantiles = |delays: &VecDeque<f64>| {
            let mut delays: Vec<f64> = delays.iter().rev().take(count).copied().collect();
            Quantiles::of(&mut delays)
        };
        Delays {
            every_peer: quantiles(&self.every_peer),
            last_peer: quantiles(&self.last_peer),
        }
    }

    /// How many blocks all peers have committed.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// What ways the blocks came.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals
    }
}

fn keep(delays: &mut VecDeque<f64>, delay: f64) {
    if delays.len() == MAX_DELAYS {
        delays.pop_front();
    }
    delays.push_back(delay);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn delays_count_from_the_first_peer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut spread = Spread::new(3, 1..=2);
        spread.committed(0, at(0));
        spread.committed(1, at(7));
        spread.committed(1, at(2));
        assert_eq!((spread.delays(), spread.complete()), (Delays::default(), 0));
        spread.committed(2, at(10));
        spread.committed(1, at(22));
        spread.committed(3, at(30));
        let delays = spread.delays();
        assert_eq!((delays.every_peer.p50, delays.every_peer.max), (5.0, 20.0));
        assert_eq!((delays.last_peer.p50, delays.last_peer.max), (20.0, 20.0));
        assert_eq!(spread.complete(), 1);
    }

    #[test]
    fn arrivals_are_counted_by_their_way() {
        let mut spread = Spread::new(3, 1..=2);
        for (number, way) in [
            (0, Way::State),
            (1, Way::Push),
            (1, Way::Orderer),
            (2, Way::Orderer),
            (2, Way::Pull),
            (3, Way::Orderer),
        ] {
            spread.arrived(number, way);
        }
        let expected = Arrivals {
            orderer: 2,
            push: 1,
            pull: 1,
            state: 0,
        };
        assert_eq!(spread.arrivals(), expected);
    }

    #[test]
    fn a_single_peer_has_no_delays() {
        let mut spread = Spread::new(1, 1..=u64::MAX);
        spread.committed(1, Instant::now());
        assert_eq!(spread.delays(), Delays::default());
        assert!(spread.incomplete.is_empty());
    }

    #[test]
    fn memory_is_bounded_when_a_peer_never_gets_blocks() {
        let mut spread = Spread::new(2, 0..=u64::MAX);
        let now = Instant::now();
        for number in 0..(MAX_INCOMPLETE as u64 + 100) {
            spread.committed(number, now);
        }
        assert!(spread.incomplete.len() <= MAX_INCOMPLETE);
    }
}
