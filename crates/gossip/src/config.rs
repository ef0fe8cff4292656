//! `core.yaml`'s `peer.gossip` as far as the protocol uses it, with Fabric's defaults.
//!
//! Names follow the keys. Where a key is derived from another (`aliveExpirationTimeout` is five alive
//! intervals unless set), whoever reads the file does that; [`Config::default`] holds the results for an
//! empty section. Source: Fabric's `gossip/gossip/config.go`, `gossip/state/config.go` and
//! `gossip/service/config.go`.

use std::time::Duration;

use crate::types::Endpoint;

/// Settings of a gossip node. All fields are public; the values are checked by [`Config::check`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The endpoint published within the organisation (`peer.gossip.endpoint` or `peer.address`).
    pub internal_endpoint: Endpoint,
    /// `externalEndpoint`: published to other organisations; empty: unknown to them.
    pub external_endpoint: Endpoint,
    /// `bootstrap`: peers of the own organisation to connect to at start.
    pub bootstrap: Vec<Endpoint>,

    /// `propagateIterations`: how many times a message is pushed; 0 switches pushing off.
    pub propagate_iterations: usize,
    /// `propagatePeerNum`: to how many peers it is pushed.
    pub propagate_peer_num: usize,
    /// `maxPropagationBurstSize`: this many waiting messages go out at once.
    pub max_propagation_burst_size: usize,
    /// `maxPropagationBurstLatency`: no message waits longer.
    pub max_propagation_burst_latency: Duration,
    /// `maxBlockCountToStore`: blocks kept for pull (Fabric keeps one more than this).
    pub max_block_count_to_store: u64,

    /// `pullInterval`: between rounds of block pull, identity pull and membership requests. Block pull slows
    /// down in calm.
    pub pull_interval: Duration,
    /// `pullPeerNum`: peers asked in a round.
    pub pull_peer_num: usize,
    /// `digestWaitTime`: from the hello until the digests that came are processed.
    pub digest_wait_time: Duration,
    /// `requestWaitTime`: how long the nonce of a hello that came stays valid.
    pub request_wait_time: Duration,
    /// `responseWaitTime`: from the request until the round ends.
    pub response_wait_time: Duration,

    /// `publishCertPeriod`: alive messages carry the identity this long after the start.
    pub publish_cert_period: Duration,
    /// `publishStateInfoInterval`: the tick on which a changed height is published.
    pub publish_state_info_interval: Duration,
    /// `requestStateInfoInterval`: between StateInfo pull requests, which slow down in calm.
    pub request_state_info_interval: Duration,
    /// `membershipTrackerInterval`: how often a channel's membership is compared and logged.
    pub membership_tracker_interval: Duration,

    /// `aliveTimeInterval`: between alive messages.
    pub alive_time_interval: Duration,
    /// `aliveExpirationTimeout`: a peer not heard of for longer is taken for dead.
    pub alive_expiration_timeout: Duration,
    /// How often that is checked: a tenth of the timeout, not a key of its own.
    pub alive_expiration_check_interval: Duration,
    /// `reconnectInterval`: between attempts to reach dead, bootstrap and anchor peers.
    pub reconnect_interval: Duration,
    /// `maxConnectionAttempts`: of bootstrap and anchor peers.
    pub max_connection_attempts: u32,
    /// `msgExpirationFactor`: dead peers are forgotten after this many alive expirations.
    pub msg_expiration_factor: u32,

    /// `useLeaderElection`: the peers of the organisation elect, for each channel, who fetches its blocks from
    /// the ordering service. Otherwise that is decided outside, by `orgLeader`.
    pub use_leader_election: bool,
    /// `orgLeader`: this peer fetches them, by decree.
    pub org_leader: bool,
    /// Leader election (`peer.gossip.election`).
    pub election: ElectionConfig,
    /// State transfer (`peer.gossip.state`).
    pub state: StateConfig,
    /// What bounds memory against hostile peers; not keys of core.yaml.
    pub limits: Limits,
    /// Whose rules apply where the wire leaves a choice; not a key of core.yaml.
    pub rules: Rules,
}

/// Whose rules apply where the wire leaves a choice: when to ask for what is missing, whom to push to,
/// when a batch leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// This project's; each module lists its differences from Fabric.
    #[default]
    Selvedge,
    /// Fabric's own, for comparisons in simulation.
    Fabric,
}

/// `peer.gossip.election`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionConfig {
    /// `startupGracePeriod`: longest wait for a stable membership.
    pub startup_grace_period: Duration,
    /// `membershipSampleInterval`: between two looks at the membership.
    pub membership_sample_interval: Duration,
    /// `leaderAliveThreshold`: a leader silent for longer is taken for gone. Leadership messages are
    /// kept ten times as long.
    pub leader_alive_threshold: Duration,
    /// `leaderElectionDuration`: between a proposal and the declaration.
    pub leader_election_duration: Duration,
}

/// `peer.gossip.state`.
#[derive(Clone, Debug)]
pub struct StateConfig {
    /// `enabled`: ask other peers for missing blocks.
    pub enabled: bool,
    /// `checkInterval`: between looks for a gap.
    pub check_interval: Duration,
    /// `responseTimeout`.
    pub response_timeout: Duration,
    /// `batchSize`: blocks of one request (Fabric asks for one more).
    pub batch_size: u64,
    /// `blockBufferSize`: blocks that may wait for an earlier one; at most twice this many.
    pub block_buffer_size: usize,
    /// `maxRetries` of one request. Accepted for Fabric's sake: here no range is given up while anybody has it.
    pub max_retries: u32,
    /// `channelSize`: requests of other peers that wait for the ledger, in each channel.
    pub channel_size: usize,
}

/// Bounds that Fabric does not have. Each is far above what an honest network reaches; what goes beyond
/// is refused and counted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Peers in membership, alive and dead together.
    pub members: usize,
    /// Identities in the store.
    pub identities: usize,
    /// Messages waiting in the emitter.
    pub emitter_queue: usize,
    /// StateInfo messages kept for relaying only, of channels that this peer has not joined.
    pub relayed_state_infos: usize,
    /// Channels.
    pub channels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members: 20_000,
            identities: 40_000,
            emitter_queue: 2_000,
            relayed_state_infos: 20_000,
            channels: 10_000,
        }
    }
}

impl Default for ElectionConfig {
    fn default() -> Self {
        Self {
            startup_grace_period: Duration::from_secs(15),
            membership_sample_interval: Duration::from_secs(1),
            leader_alive_threshold: Duration::from_secs(10),
            leader_election_duration: Duration::from_secs(5),
        }
    }
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            check_interval: Duration::from_secs(10),
            response_timeout: Duration::from_secs(3),
            batch_size: 10,
            block_buffer_size: 20,
            max_retries: 3,
            channel_size: 100,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            internal_endpoint: Endpoint::from(""),
            external_endpoint: Endpoint::from(""),
            bootstrap: Vec::new(),
            propagate_iterations: 1,
            propagate_peer_num: 3,
            max_propagation_burst_size: 10,
            max_propagation_burst_latency: Duration::from_millis(10),
            max_block_count_to_store: 10,
            pull_interval: Duration::from_secs(4),
            pull_peer_num: 3,
            digest_wait_time: Duration::from_secs(1),
            request_wait_time: Duration::from_millis(1500),
            response_wait_time: Duration::from_secs(2),
            publish_cert_period: Duration::from_secs(10),
            publish_state_info_interval: Duration::from_secs(4),
            request_state_info_interval: Duration::from_secs(4),
            membership_tracker_interval: Duration::from_secs(5),
            alive_time_interval: Duration::from_secs(5),
            alive_expiration_timeout: Duration::from_secs(25),
            alive_expiration_check_interval: Duration::from_millis(2500),
            reconnect_interval: Duration::from_secs(25),
            max_connection_attempts: 120,
            msg_expiration_factor: 20,
            use_leader_election: false,
            org_leader: false,
            election: ElectionConfig::default(),
            state: StateConfig::default(),
            limits: Limits::default(),
            rules: Rules::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("gossip configuration: {key} is {found}, must be {expected}")]
pub struct ConfigError {
    /// The key below `peer.gossip`.
    pub key: &'static str,
    /// Its value.
    pub found: String,
    /// What it must be.
    pub expected: &'static str,
}

impl Config {
    /// Refuses values with which the protocol cannot run: an internal endpoint that is not `host:port`
    /// and intervals of zero, which would turn timers into busy loops.
    pub fn check(&self) -> Result<(), ConfigError> {
        let endpoint = self.internal_endpoint.as_str();
        let port = endpoint
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return Err(ConfigError {
                key: "endpoint",
                found: format!("{endpoint:?}"),
                expected: "host:port",
            });
        }
        let intervals = [
            ("pullInterval", self.pull_interval),
            ("publishStateInfoInterval", self.publish_state_info_interval),
            ("requestStateInfoInterval", self.request_state_info_interval),
            (
                "membershipTrackerInterval",
                self.membership_tracker_interval,
            ),
            ("aliveTimeInterval", self.alive_time_interval),
            ("aliveExpirationTimeout", self.alive_expiration_timeout),
            (
                "aliveExpirationTimeout / 10",
                self.alive_expiration_check_interval,
            ),
            ("reconnectInterval", self.reconnect_interval),
            ("state.checkInterval", self.state.check_interval),
            (
                "election.membershipSampleInterval",
                self.election.membership_sample_interval,
            ),
            (
                "election.leaderAliveThreshold",
                self.election.leader_alive_threshold,
            ),
            (
                "election.leaderElectionDuration",
                self.election.leader_election_duration,
            ),
        ];
        for (key, interval) in intervals {
            if interval.is_zero() {
                return Err(ConfigError {
                    key,
                    found: "0".to_owned(),
                    expected: "above 0",
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_need_only_an_endpoint() {
        let mut config = Config::default();
        assert_eq!(config.check().unwrap_err().key, "endpoint");
        config.internal_endpoint = Endpoint::from("peer0:7051");
        config.check().unwrap();
        config.pull_interval = Duration::ZERO;
        assert_eq!(config.check().unwrap_err().key, "pullInterval");
    }
}
