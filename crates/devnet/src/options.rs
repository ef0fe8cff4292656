//! What a network is made of, as the command line gives it.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::DevnetError;

/// More organisations than this are refused; every peer of every organisation runs in this process.
pub const MAX_ORGANISATIONS: u16 = 50;
/// More peers in one organisation than this are refused.
pub const MAX_PEERS: u16 = 100;
/// More transactions in one block than this are refused.
pub const MAX_BLOCK_SIZE: u32 = 10_000;

/// How the network is built, loaded and reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Peer organisations, from 1.
    pub orgs: u16,
    /// Peers in each organisation, from 1; the first leads, the others are fed by gossip alone.
    pub peers: u16,
    /// Transactions a second that the client of Org1 sends; 0 sends none.
    pub rate: f64,
    /// The most transactions in one block.
    pub block_size: u32,
    /// How long the ordering node waits for a block to fill.
    pub batch_timeout: Duration,
    /// Stop after this many blocks, the genesis block not counted. `None` runs until the shutdown.
    pub blocks: Option<u64>,
    /// Keep key material, genesis block, configuration and ledgers here. `None` uses a temporary
    /// directory that is removed at the end.
    pub dir: Option<PathBuf>,
    /// What is printed.
    pub output: Output,
}

/// The form of the report at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// For people: a live view or plain lines, and a summary.
    #[default]
    Text,
    /// One JSON object on standard output at the end, everything else on standard error.
    Json,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            orgs: 2,
            peers: 2,
            rate: 100.0,
            block_size: 10,
            batch_timeout: Duration::from_millis(500),
            blocks: None,
            dir: None,
            output: Output::default(),
        }
    }
}

impl Options {
    /// Peers of all organisations.
    pub fn total_peers(&self) -> usize {
        usize::from(self.orgs) * usize::from(self.peers)
    }

    /// Refuses values that no network can be built from, naming the option.
    pub fn check(&self) -> Result<(), DevnetError> {
        let refuse = |option, found: String, expected: String| {
            Err(DevnetError::Option {
                option,
                found,
                expected,
            })
        };
        if !(1..=MAX_ORGANISATIONS).contains(&self.orgs) {
            let expected = format!("1 to {MAX_ORGANISATIONS}");
            return refuse("orgs", self.orgs.to_string(), expected);
        }
        if !(1..=MAX_PEERS).contains(&self.peers) {
            let expected = format!("1 to {MAX_PEERS}");
            return refuse("peers", self.peers.to_string(), expected);
        }
        if !(1..=MAX_BLOCK_SIZE).contains(&self.block_size) {
            let expected = format!("1 to {MAX_BLOCK_SIZE}");
            return refuse("block-size", self.block_size.to_string(), expected);
        }
        if !self.rate.is_finite() || !(0.0..=100_000.0).contains(&self.rate) {
            let expected = "0 to 100000 transactions a second".to_owned();
            return refuse("rate", self.rate.to_string(), expected);
        }
        if self.blocks.is_some() && self.rate == 0.0 {
            let expected = "more than 0 together with --blocks, or no block would ever be cut";
            return refuse("rate", self.rate.to_string(), expected.to_owned());
        }
        if self.batch_timeout < Duration::from_millis(1) {
            let expected = "1 ms or more".to_owned();
            return refuse(
                "batch-timeout",
                format!("{:?}", self.batch_timeout),
                expected,
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        Options::default().check().unwrap();
        assert_eq!(Options::default().total_peers(), 4);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let good = Options::default();
        let named = |options: Options| match options.check() {
            Err(DevnetError::Option { option, .. }) => option,
            other => panic!("{other:?}"),
        };
        let orgs = 0;
        assert_eq!(
            named(Options {
                orgs,
                ..good.clone()
            }),
            "orgs"
        );
        let peers = MAX_PEERS + 1;
        assert_eq!(
            named(Options {
                peers,
                ..good.clone()
            }),
            "peers"
        );
        let block_size = 0;
        assert_eq!(
            named(Options {
                block_size,
                ..good.clone()
            }),
            "block-size"
        );
        for rate in [f64::NAN, -1.0, f64::INFINITY] {
            assert_eq!(
                named(Options {
                    rate,
                    ..good.clone()
                }),
                "rate"
            );
        }
        let never = Options {
            rate: 0.0,
            blocks: Some(1),
            ..good.clone()
        };
        assert_eq!(named(never), "rate");
        let batch_timeout = Duration::ZERO;
        assert_eq!(
            named(Options {
                batch_timeout,
                ..good
            }),
            "batch-timeout"
        );
    }
}
