//! What a run has shown, for people and for programs.

use std::fmt;

use serde::Serialize;

/// The result of a run; serialises to the object that `--output json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Peers that ran.
    pub peers: usize,
    /// Blocks that every peer has committed, the genesis block not counted.
    pub blocks: u64,
    /// Whether every peer holds the same chain: block hash for block hash, and as long as asked for.
    pub identical: bool,
    /// How long blocks took from the first peer that committed them.
    pub delay_ms: Delays,
    /// How blocks reached peers.
    pub arrivals: Arrivals,
    /// Blocks that reached a peer which had them already.
    pub duplicates: u64,
    /// Bytes that the peers sent to each other.
    pub bytes_sent: u64,
}

/// Delays from the first peer that has a block, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Delays {
    /// To each of the other peers.
    pub every_peer: Quantiles,
    /// To the last peer.
    pub last_peer: Quantiles,
}

/// Quantiles of a set of delays, in milliseconds; all 0 of an empty set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of the delays are at most this.
    pub p50: f64,
    /// 99 of 100 delays are at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Blocks by the way that brought them first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Arrivals {
    /// From the ordering node.
    pub orderer: u64,
    /// Pushed by another peer.
    pub push: u64,
    /// Pulled from another peer.
    pub pull: u64,
    /// By state transfer; left out of the object where it brought none.
    #[serde(skip_serializing_if = "is_zero")]
    pub state: u64,
}

impl Arrivals {
    /// All ways together.
    pub fn total(&self) -> u64 {
        self.orderer + self.push + self.pull + self.state
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Quantiles {
    /// Quantiles by the nearest-rank rule, rounded to microseconds. Sorts `delays`.
    pub fn of(delays: &mut [f64]) -> Self {
        delays.sort_by(f64::total_cmp);
        let rank = |percent: usize| {
            let rank = (delays.len() * percent).div_ceil(100).saturating_sub(1);
            let value = delays.get(rank).copied().unwrap_or_default();
            (value * 1000.0).round() / 1000.0
        };
        Self {
            p50: rank(50),
            p99: rank(99),
            max: rank(100),
        }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, max } = self;
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains = if self.identical {
            "identical chains"
        } else {
            "DIFFERENT CHAINS"
        };
        writeln!(f, "{} peers, {} blocks, {chains}", self.peers, self.blocks)?;
        writeln!(f, "delay to every peer  {}", self.delay_ms.every_peer)?;
        writeln!(f, "delay to last peer   {}", self.delay_ms.last_peer)?;
        let Arrivals {
            orderer,
            push,
            pull,
            state,
        } = self.arrivals;
        writeln!(
            f,
            "arrivals             orderer {orderer}, push {push}, pull {pull}, state transfer {state}"
        )?;
        writeln!(f, "duplicates           {}", self.duplicates)?;
        write!(f, "bytes sent           {}", self.bytes_sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let mut delays: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let found = Quantiles::of(&mut delays);
        assert_eq!((found.p50, found.p99, found.max), (100.0, 198.0, 200.0));
        assert_eq!(Quantiles::of(&mut []), Quantiles::default());
        assert_eq!(Quantiles::of(&mut [0.0004]).p50, 0.0);
        assert_eq!(Quantiles::of(&mut [1.2346]).max, 1.235);
    }

    #[test]
    fn the_json_object_has_the_promised_members() {
        let mut summary = Summary {
            peers: 4,
            blocks: 200,
            identical: true,
            delay_ms: Delays::default(),
            arrivals: Arrivals {
                orderer: 400,
                push: 390,
                pull: 10,
                state: 0,
            },
            duplicates: 3,
            bytes_sent: 1234,
        };
        assert_eq!(
            serde_json::to_string(&summary).unwrap(),
            r#"{"peers":4,"blocks":200,"identical":true,"delay_ms":{"every_peer":{"p50":0.0,"p99":0.0,"max":0.0},"last_peer":{"p50":0.0,"p99":0.0,"max":0.0}},"arrivals":{"orderer":400,"push":390,"pull":10},"duplicates":3,"bytes_sent":1234}"#
        );
        summary.arrivals.state = 1;
        let text = serde_json::to_string(&summary).unwrap();
        assert!(text.contains(r#""pull":10,"state":1}"#), "{text}");
        assert!(summary.to_string().contains("identical chains"));
    }
}
