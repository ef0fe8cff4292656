//! What came of a simulation.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use selvedge_gossip::config::Rules;
use selvedge_gossip::event::FrameClass;
use selvedge_gossip::send_queue::Pushed;
use serde::Serialize;

use crate::options::{Options, Place};

/// Of many values: half are at most `p50`, 99 of 100 at most `p99`, all at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Quantiles {
    /// Of `values`, which need not be in order; zeros if there are none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil().max(1.0);
            values.get(rank as usize - 1).copied().unwrap_or(0.0)
        };
        Self {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// The result. Serializes to the object that `--output json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `selvedge` or `fabric`.
    pub rules: &'static str,
    /// The seed that gives this report again.
    pub seed: u64,
    /// Peers.
    pub peers: usize,
    /// Organisations.
    pub orgs: usize,
    /// Channels.
    pub channels: usize,
    /// Blocks of each channel.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: usize,
    /// Where the peers stood.
    pub place: Place,
    /// For each block: milliseconds from the first peer that had it to the last. Peers that lie do not count, here
    /// and below.
    pub reach_all_ms: Quantiles,
    /// For each block: milliseconds until 99 of 100 peers had it.
    pub reach_99_percent_ms: Quantiles,
    /// For each block: milliseconds until half of the peers had it.
    pub reach_half_ms: Quantiles,
    /// For each block and peer: milliseconds from the first peer that had it.
    pub every_peer_ms: Quantiles,
    /// Bytes sent by a peer for each block of each channel, on average, all messages counted.
    pub bytes_per_peer_per_block: f64,
    /// Messages, likewise.
    pub messages_per_peer_per_block: f64,
    /// Whole blocks received by a peer that is no leader, for each block.
    pub block_copies_per_peer_per_block: f64,
    /// New blocks by the way they came.
    pub arrivals: BTreeMap<&'static str, u64>,
    /// Bytes by kind of message.
    pub bytes_by_kind: BTreeMap<&'static str, u64>,
    /// Frames that found no room in a peer's send queue, or made room there for others.
    pub frames_dropped: FramesDropped,
    /// What the cores dropped, and why.
    pub drops: BTreeMap<String, u64>,
    /// Peers that did not get everything, times the channels where that is so.
    pub incomplete: usize,
    /// Simulated seconds in all.
    pub simulated_seconds: f64,
    /// How often a peer took another one for dead that was up and could be reached, and had been for a minute.
    pub false_suspicions: u64,
    /// What must never happen, and did.
    pub violations: Vec<String>,
    /// Shares of peers reached: `(milliseconds, share of all pairs of block and peer)`.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// Frames that were dropped, by class.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FramesDropped {
    /// Those that say who is alive and who leads.
    pub liveness: u64,
    /// Other small ones.
    pub control: u64,
    /// Blocks.
    pub bulk: u64,
}

impl AddAssign for FramesDropped {
    fn add_assign(&mut self, other: Self) {
        self.liveness += other.liveness;
        self.control += other.control;
        self.bulk += other.bulk;
    }
}

impl fmt::Display for FramesDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            liveness,
            control,
            bulk,
        } = self;
        write!(
            f,
            "{bulk} frames with blocks, {control} of control, {liveness} of liveness dropped"
        )
    }
}

/// What is measured while a simulation runs.
#[derive(Debug)]
pub(crate) struct Measures {
    /// For each block of each channel: when each peer had it, in nanoseconds.
    arrivals: Vec<Vec<u64>>,
    blocks: u64,
    pub(crate) bytes: BTreeMap<&'static str, u64>,
    pub(crate) messages: u64,
    pub(crate) block_copies: u64,
    frames_dropped: FramesDropped,
    pub(crate) false_suspicions: u64,
    pub(crate) violations: Vec<String>,
}

/// Violations that are told; one is enough to find out more.
const MAX_VIOLATIONS: usize = 20;

impl Measures {
    pub(crate) fn new(options: &Options) -> Self {
        let blocks = usize::try_from(options.blocks).unwrap_or(0) * options.channels;
        Self {
            arrivals: vec![Vec::new(); blocks],
            blocks: options.blocks,
            bytes: BTreeMap::new(),
            messages: 0,
            block_copies: 0,
            frames_dropped: FramesDropped::default(),
            false_suspicions: 0,
            violations: Vec::new(),
        }
    }

    pub(crate) fn arrived(&mut self, channel: usize, number: u64, now: u64) {
        let index = channel as u64 * self.blocks + number.saturating_sub(1);
        let times = usize::try_from(index)
            .ok()
            .and_then(|index| self.arrivals.get_mut(index));
        if let Some(times) = times {
            times.push(now);
        }
    }

    /// A send queue got a frame of this class.
    pub(crate) fn pushed(&mut self, class: FrameClass, pushed: Pushed) {
        let dropped = &mut self.frames_dropped;
        dropped.bulk += pushed.evicted.bulk as u64;
        dropped.control += pushed.evicted.control as u64;
        let refused = match class {
            FrameClass::Liveness => &mut dropped.liveness,
            FrameClass::Control => &mut dropped.control,
            FrameClass::Bulk => &mut dropped.bulk,
        };
        *refused += u64::from(!pushed.accepted);
    }

    pub(crate) fn violated(&mut self, what: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(what);
        }
    }

    /// Delays in milliseconds: of each block until this share of so many `peers` had it, as far as they did.
    fn reach(&self, peers: usize, share: f64) -> Quantiles {
        let rank = ((share * peers as f64).ceil() as usize).max(1);
        let delays = self.arrivals.iter().filter_map(|times| {
            let first = times.first()?;
            let reached = times.get(rank - 1)?;
            Some(milliseconds(reached - first))
        });
        Quantiles::of(delays.collect())
    }

    fn every_peer(&self) -> Vec<f64> {
        let mut delays = Vec::new();
        for times in &self.arrivals {
            if let Some((first, rest)) = times.split_first() {
                delays.extend(rest.iter().map(|time| milliseconds(time - first)));
            }
        }
        delays.sort_by(f64::total_cmp);
        delays
    }

    /// The report, as far as it follows from what was measured.
    pub(crate) fn report(self, options: &Options, honest: usize, simulated_seconds: f64) -> Report {
        let peers = options.peers;
        let per_peer_and_block = |count: u64| {
            count as f64 / peers as f64 / options.blocks as f64 / options.channels as f64
        };
        let followers = (peers - options.orgs).max(1);
        let every_peer = self.every_peer();
        Report {
            rules: match options.rules {
                Rules::Selvedge => "selvedge",
                Rules::Fabric => "fabric",
            },
            seed: options.seed,
            peers,
            orgs: options.orgs,
            channels: options.channels,
            blocks: options.blocks,
            block_size: options.block_size,
            place: options.place,
            reach_all_ms: self.reach(honest, 1.0),
            reach_99_percent_ms: self.reach(honest, 0.99),
            reach_half_ms: self.reach(honest, 0.5),
            curve: curve(&every_peer),
            every_peer_ms: Quantiles::of(every_peer),
            bytes_per_peer_per_block: per_peer_and_block(self.bytes.values().sum()),
            messages_per_peer_per_block: per_peer_and_block(self.messages),
            block_copies_per_peer_per_block: per_peer_and_block(self.block_copies) * peers as f64
                / followers as f64,
            arrivals: BTreeMap::new(),
            bytes_by_kind: self.bytes,
            frames_dropped: self.frames_dropped,
            drops: BTreeMap::new(),
            incomplete: 0,
            simulated_seconds,
            false_suspicions: self.false_suspicions,
            violations: self.violations,
        }
    }
}

/// At most 200 points of the distribution of sorted delays.
fn curve(delays: &[f64]) -> Vec<(f64, f64)> {
    let count = delays.len();
    let points = count.min(200);
    (1..=points)
        .filter_map(|point| {
            let rank = count * point / points;
            let delay = delays.get(rank.checked_sub(1)?)?;
            Some((*delay, rank as f64 / count as f64))
        })
        .collect()
}

fn milliseconds(nanos: u64) -> f64 {
    // To the microsecond: more is not meant, and it keeps the report short.
    (nanos as f64 / 1e3).round() / 1e3
}

/// A table for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rules,
            peers,
            orgs,
            channels,
            blocks,
            block_size,
            ..
        } = self;
        writeln!(
            f,
            "{rules} rules: {peers} peers, {orgs} organisations, {channels} channels, \
             {blocks} blocks of {block_size} bytes, seed {}",
            self.seed
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<24}{:>12}{:>12}{:>12}",
            "milliseconds until", "p50", "p99", "max"
        )?;
        for (name, it) in [
            ("half of the peers", self.reach_half_ms),
            ("99 % of the peers", self.reach_99_percent_ms),
            ("all peers", self.reach_all_ms),
            ("a peer", self.every_peer_ms),
        ] {
            writeln!(
                f,
                "{name:<24}{:>12.1}{:>12.1}{:>12.1}",
                it.p50, it.p99, it.max
            )?;
        }
        writeln!(f)?;
        writeln!(f, "for each peer and block")?;
        let copies = self.block_copies_per_peer_per_block;
        writeln!(
            f,
            "{:<24}{:>12.0}",
            "bytes sent", self.bytes_per_peer_per_block
        )?;
        writeln!(
            f,
            "{:<24}{:>12.1}",
            "messages sent", self.messages_per_peer_per_block
        )?;
        writeln!(f, "{:<24}{copies:>12.2}", "whole blocks received")?;
        writeln!(f)?;
        let arrivals: Vec<String> = self
            .arrivals
            .iter()
            .map(|(how, count)| format!("{how} {count}"))
            .collect();
        writeln!(f, "new blocks by {}", arrivals.join(", "))?;
        writeln!(f, "full send queues: {}", self.frames_dropped)?;
        if self.incomplete > 0 {
            writeln!(f, "{} ledgers are not complete", self.incomplete)?;
        }
        if self.false_suspicions > 0 {
            writeln!(
                f,
                "{} times a living peer was taken for dead",
                self.false_suspicions
            )?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let hundred = (1..=100).rev().map(f64::from).collect();
        let expected = Quantiles {
            p50: 50.0,
            p99: 99.0,
            max: 100.0,
        };
        assert_eq!(Quantiles::of(hundred), expected);
        assert_eq!(Quantiles::of(vec![]).max, 0.0);
    }

    #[test]
    fn a_curve_ends_with_everybody() {
        let delays: Vec<f64> = (0..1000).map(f64::from).collect();
        let curve = curve(&delays);
        assert_eq!(curve.len(), 200);
        assert_eq!(curve.last(), Some(&(999.0, 1.0)));
    }

    #[test]
    fn reach_counts_from_the_first_peer() {
        let options = Options {
            peers: 4,
            blocks: 1,
            ..Options::default()
        };
        let mut measures = Measures::new(&options);
        for time in [10_000_000, 11_000_000, 13_000_000, 20_000_000] {
            measures.arrived(0, 1, time);
        }
        assert_eq!(measures.reach(4, 0.5).max, 1.0);
        assert_eq!(measures.reach(4, 1.0).max, 10.0);
        assert_eq!(measures.every_peer(), [1.0, 3.0, 10.0]);
    }
}
