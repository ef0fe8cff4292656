//! What to simulate.

use std::time::Duration;

use selvedge_gossip::config::Rules;
use serde::Serialize;

use crate::SimulationError;

/// Up to this many peers everything is simulated; beyond, see [`Options::background`].
pub const FULL_DETAIL: usize = 200;

/// How many members each peer knows, on average, in larger networks.
pub const PARTIAL_VIEW: usize = 100;

/// What a slow peer reads in a second.
pub const SLOW_BITS_PER_SECOND: u64 = 2_000_000;

/// What a narrow link carries in a second, each way: not half of the blocks that there are by default.
pub const NARROW_BITS_PER_SECOND: u64 = 256_000;
/// How long a link stays narrow, at most; at least half as long.
pub const LONGEST_NARROW: Duration = Duration::from_secs(40);

/// Peers times channels, at most: each is a few kilobytes.
const MAX_MEMBERSHIPS: usize = 200_000;
/// Blocks times peers times channels, at most: each is an arrival to be remembered.
const MAX_ARRIVALS: u64 = 200_000_000;
/// Peers that know all others, at most.
const MAX_BACKGROUND: usize = 2_000;
/// Of times that are asked for.
const LONGEST: Duration = Duration::from_secs(1000 * 3600);

/// How long a stream stays half open: until keep-alive finds out.
pub const HALF_OPEN: Duration = Duration::from_secs(20);

/// How long an ordering node is out, at most; at least half as long.
pub const LONGEST_OUTAGE: Duration = Duration::from_secs(60);

/// Where the peers stand: latency and bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// One machine: 50 to 150 µs, 10 Gbit/s a peer.
    Machine,
    /// Three zones of a region: 0.3 ms within a zone, 1 ms between, 1 Gbit/s a peer.
    Region,
    /// Six regions around the planet: 1 ms within a region, 15 to 140 ms between, 200 Mbit/s a peer.
    Planet,
}

/// Two groups of peers that cannot reach each other for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// When it begins, from the first block on.
    pub begin: Duration,
    /// How long it lasts.
    pub length: Duration,
    /// So many of a thousand peers are on the smaller side, chosen at random.
    pub per_mille: u32,
}

/// A simulation. [`Options::default`] is a small network that runs in a second.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything random comes from it.
    pub seed: u64,
    /// Peers in all.
    pub peers: usize,
    /// Organisations that they are spread over, evenly; each has a leader that gets blocks from the
    /// ordering service.
    pub orgs: usize,
    /// Channels, each with all peers.
    pub channels: usize,
    /// Blocks of each channel.
    pub blocks: u64,
    /// Blocks a second, of each channel.
    pub rate: f64,
    /// Bytes of a block.
    pub block_size: usize,
    /// Where the peers stand.
    pub place: Place,
    /// Frames that are lost, of a million.
    pub loss_per_million: u32,
    /// Whose rules the peers follow.
    pub rules: Rules,
    /// `peer.gossip.state.enabled`.
    pub state_transfer: bool,
    /// Start from the bootstrap peers, instead of with a membership that is complete.
    pub cold_start: bool,
    /// Simulate alive messages, StateInfo and identity pull. `None`: in networks of up to [`FULL_DETAIL`] peers.
    pub background: Option<bool>,
    /// A partition.
    pub partition: Option<Partition>,
    /// Restarts of random peers, in an hour. Leaders that were not elected are not restarted.
    pub restarts_per_hour: f64,
    /// Random peers that leave for good, in an hour. To the place of each comes a new one of the same organisation
    /// after a while, with an identity, endpoints and empty ledgers of its own. The first peers do not leave.
    pub churn_per_hour: f64,
    /// Streams between random peers that break, in an hour: what is in flight is lost, and both notice.
    pub breaks_per_hour: f64,
    /// Streams between random peers that are half open for [`HALF_OPEN`], in an hour: one direction carries
    /// nothing, and nobody notices until the stream breaks.
    pub half_open_per_hour: f64,
    /// Links of random peers that become narrow ([`NARROW_BITS_PER_SECOND`]) for up to [`LONGEST_NARROW`], in an hour.
    /// The first peers keep theirs.
    pub narrow_per_hour: f64,
    /// Outages of the ordering node of a random elected leader, in an hour. Each lasts for up to
    /// [`LONGEST_OUTAGE`]; whoever leads then tells its core so, as the node does.
    pub outages_per_hour: f64,
    /// Peers that read slowly, of a thousand; see [`SLOW_BITS_PER_SECOND`]. The first peers do not.
    pub slow_per_mille: u32,
    /// Leaders are elected, a liar perhaps, and fetch from the ordering service while they lead. Otherwise the first peer of
    /// each organisation does.
    ///
    /// An organisation whose elected leader lies gets its blocks from the others, by state transfer. So somewhere
    /// there must be an honest leader: with several organisations nobody of the first one lies, and with one
    /// there can be no liars.
    pub elections: bool,
    /// Peers that lie, of a thousand; leaders do not.
    pub liars_per_mille: u32,
    /// `peer.gossip.sendBuffSize`: frames that wait for one peer.
    pub send_buffer: usize,
    /// How long to wait for the last peers after the last block, at most.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            peers: 10,
            orgs: 1,
            channels: 1,
            blocks: 40,
            rate: 4.0,
            block_size: 20_000,
            place: Place::Region,
            loss_per_million: 0,
            rules: Rules::Selvedge,
            state_transfer: true,
            cold_start: false,
            background: None,
            partition: None,
            restarts_per_hour: 0.0,
            churn_per_hour: 0.0,
            breaks_per_hour: 0.0,
            half_open_per_hour: 0.0,
            narrow_per_hour: 0.0,
            outages_per_hour: 0.0,
            slow_per_mille: 0,
            elections: false,
            liars_per_mille: 0,
            send_buffer: 200,
            patience: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// Refuses what cannot be simulated.
    pub fn check(&self) -> Result<(), SimulationError> {
        let refuse = |option, found: String, expected| {
            Err(SimulationError::Option {
                option,
                found,
                expected,
            })
        };
        if self.peers == 0 || self.peers > 100_000 {
            let found = self.peers.to_string();
            return refuse("peers", found, "between 1 and 100000");
        }
        if self.orgs == 0 || self.orgs > self.peers {
            let expected = "between 1 and the number of peers";
            return refuse("orgs", self.orgs.to_string(), expected);
        }
        if self.channels == 0 || self.channels > 1000 {
            return refuse("channels", self.channels.to_string(), "between 1 and 1000");
        }
        if self.blocks == 0 || self.blocks > 1_000_000 {
            return refuse("blocks", self.blocks.to_string(), "between 1 and 1000000");
        }
        if self.peers * self.channels > MAX_MEMBERSHIPS {
            let found = format!("{} with {} peers", self.channels, self.peers);
            let expected = "so few that peers times channels is at most 200000";
            return refuse("channels", found, expected);
        }
        let arrivals = self.peers as u64 * self.channels as u64 * self.blocks;
        if arrivals > MAX_ARRIVALS {
            let found = format!(
                "{} for {} memberships",
                self.blocks,
                self.peers * self.channels
            );
            let expected = "so few that blocks times peers times channels is at most 200000000";
            return refuse("blocks", found, expected);
        }
        if self.has_background() && self.peers > MAX_BACKGROUND {
            let found = format!("on with {} peers", self.peers);
            return refuse("background", found, "off with more than 2000 peers");
        }
        if !(0.001..=10_000.0).contains(&self.rate) {
            return refuse("rate", self.rate.to_string(), "between 0.001 and 10000");
        }
        if self.block_size > 100 << 20 {
            let found = self.block_size.to_string();
            return refuse("block-size", found, "at most 100 MiB");
        }
        if !(1..=100_000).contains(&self.send_buffer) {
            let found = self.send_buffer.to_string();
            return refuse("send-buffer", found, "between 1 and 100000");
        }
        for (option, parts, of) in [
            ("loss", self.loss_per_million, 1_000_000),
            ("liars", self.liars_per_mille, 1000),
            ("slow", self.slow_per_mille, 1000),
        ] {
            if u64::from(parts) * 10 > of * 9 {
                let found = parts as f64 / of as f64;
                return refuse(option, found.to_string(), "at most 0.9");
            }
        }
        let partition = self.partition.map(|it| it.begin.max(it.length));
        for (option, time) in [("partition", partition), ("patience", Some(self.patience))] {
            if time.is_some_and(|time| time > LONGEST) {
                let found = format!("{:?}", time.unwrap_or_default());
                return refuse(option, found, "times of at most 1000h");
            }
        }
        if self.elections && !self.has_background() {
            let expected = "off where alive and StateInfo messages are not simulated";
            return refuse("elections", "on".to_owned(), expected);
        }
        if self.elections && self.orgs == 1 && self.liars_per_mille > 0 {
            let expected = "off where there are liars and one organisation: its leader may be one";
            return refuse("elections", "on".to_owned(), expected);
        }
        if self.churn_per_hour > 0.0 && !(self.has_background() && self.state_transfer) {
            let found = self.churn_per_hour.to_string();
            let expected = "0 without state transfer, alive and StateInfo messages";
            return refuse("churn", found, expected);
        }
        if self.outages_per_hour > 0.0 && !self.elections {
            let found = self.outages_per_hour.to_string();
            return refuse("outages", found, "0 where leaders are not elected");
        }
        for (option, rate) in [
            ("restarts", self.restarts_per_hour),
            ("churn", self.churn_per_hour),
            ("breaks", self.breaks_per_hour),
            ("half-open", self.half_open_per_hour),
            ("narrow", self.narrow_per_hour),
            ("outages", self.outages_per_hour),
        ] {
            if !(0.0..=1e6).contains(&rate) {
                return refuse(option, rate.to_string(), "between 0 and 1000000 an hour");
            }
        }
        Ok(())
    }

    /// Whether alive messages, StateInfo and identity pull are simulated.
    pub fn has_background(&self) -> bool {
        self.background.unwrap_or(self.peers <= FULL_DETAIL)
    }

    /// The time between two blocks of a channel.
    pub fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_by_name() {
        type Change = fn(&mut Options);
        let refusal = |change: Change| {
            let mut options = Options::default();
            change(&mut options);
            options.check().unwrap_err().to_string()
        };
        let cases: [(Change, &str); 18] = [
            (|it| it.send_buffer = 0, "send-buffer is 0"),
            (|it| it.peers = 0, "peers is 0"),
            (|it| it.peers = 100_001, "peers is 100001"),
            (|it| it.orgs = 0, "orgs is 0"),
            (|it| it.orgs = 11, "orgs is 11"),
            (|it| it.channels = 0, "channels is 0"),
            (
                |it| (it.peers, it.channels) = (1000, 201),
                "channels is 201 with",
            ),
            (|it| it.blocks = 0, "blocks is 0"),
            (
                |it| (it.peers, it.blocks) = (1000, 1_000_000),
                "blocks is 1000000",
            ),
            (|it| it.rate = f64::NAN, "rate is NaN"),
            (
                |it| it.loss_per_million = 1_000_000,
                "loss is 1, must be at most 0.9",
            ),
            (|it| it.liars_per_mille = 950, "liars is 0.95, must be"),
            (
                |it| (it.peers, it.background) = (2001, Some(true)),
                "background is on",
            ),
            (|it| it.patience = Duration::MAX, "patience is"),
            (|it| it.restarts_per_hour = -1.0, "restarts is -1"),
            (
                |it| (it.churn_per_hour, it.state_transfer) = (1.0, false),
                "churn is 1, must be 0",
            ),
            (|it| it.outages_per_hour = 1.0, "outages is 1, must be 0"),
            (
                |it| (it.elections, it.liars_per_mille) = (true, 10),
                "elections is on",
            ),
        ];
        for (change, expected) in cases {
            let message = refusal(change);
            assert!(message.starts_with(expected), "{message}");
        }
        Options::default().check().unwrap();
    }
}
