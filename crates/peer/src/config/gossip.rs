//! `peer.gossip`: its types, and how they are read (gossip/gossip, gossip/service, gossip/state,
//! gossip/privdata).

use std::time::Duration;

pub use selvedge_gossip::config::ElectionConfig;

use super::reader::Reader;

/// `peer.gossip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipConfig {
    /// Peers of the own organisation to connect to at the start.
    pub bootstrap: Vec<String>,
    /// Whether the organisation elects its leader.
    pub use_leader_election: bool,
    /// Whether this peer is a leader by decree.
    pub org_leader: bool,
    /// How often the membership is compared with that of the last look, for the log.
    pub membership_tracker_interval: Duration,
    /// The endpoint told to peers of the own organisation: `peer.gossip.endpoint`, or else the
    /// peer's address.
    pub endpoint: String,
    /// The endpoint told to other organisations; without one they do not learn of this peer.
    pub external_endpoint: Option<String>,
    /// How many recent blocks the pull store keeps.
    pub max_block_count_to_store: usize,
    /// A batch of messages leaves at the latest after this time.
    pub max_propagation_burst_latency: Duration,
    /// A batch leaves when it has this many messages.
    pub max_propagation_burst_size: usize,
    /// How often a message is pushed.
    pub propagate_iterations: usize,
    /// How many peers a message is pushed to.
    pub propagate_peer_num: usize,
    /// Time between two pull rounds.
    pub pull_interval: Duration,
    /// How many peers a pull round asks.
    pub pull_peer_num: usize,
    /// Time between two requests for state information.
    pub request_state_info_interval: Duration,
    /// Time between two announcements of our own state.
    pub publish_state_info_interval: Duration,
    /// How long the certificate is part of alive messages, from the start.
    pub publish_cert_period: Duration,
    /// Accepted for compatibility: blocks are always verified, as in Fabric, which does not use
    /// this key either.
    pub skip_block_verification: bool,
    /// Limit for dialing a peer.
    pub dial_timeout: Duration,
    /// Limit for the handshake with a peer.
    pub conn_timeout: Duration,
    /// Messages received from one peer that may wait.
    pub recv_buff_size: usize,
    /// Messages to one peer that may wait.
    pub send_buff_size: usize,
    /// How long a pull round collects digests.
    pub digest_wait_time: Duration,
    /// How long a responder remembers the nonce of a hello.
    pub request_wait_time: Duration,
    /// How long a pull round waits for the items that it asked for.
    pub response_wait_time: Duration,
    /// Time between two alive messages of ours.
    pub alive_time_interval: Duration,
    /// A peer not heard of for this long counts as dead.
    pub alive_expiration_timeout: Duration,
    /// Time between two attempts to reach dead peers.
    pub reconnect_interval: Duration,
    /// Attempts to reach a bootstrap peer or anchor peer.
    pub max_connection_attempts: usize,
    /// Alive messages are forgotten after this many times the expiration timeout.
    pub msg_expiration_factor: u32,
    /// `peer.gossip.election`.
    pub election: ElectionConfig,
    /// `peer.gossip.pvtData`.
    pub pvt_data: PvtDataConfig,
    /// `peer.gossip.state`.
    pub state: StateTransferConfig,
}

impl GossipConfig {
    /// How often Fabric looks for peers whose alive messages have expired: a tenth of the timeout.
    #[must_use]
    pub fn alive_expiration_check_interval(&self) -> Duration {
        self.alive_expiration_timeout / 10
    }

    /// How long leadership messages are kept: ten times the leader's alive threshold.
    #[must_use]
    pub fn leadership_expiration(&self) -> Duration {
        self.election.leader_alive_threshold.saturating_mul(10)
    }
}

/// Fabric's defaults. Those of the protocol's settings stand in `selvedge-gossip`.
impl Default for GossipConfig {
    fn default() -> Self {
        let protocol = selvedge_gossip::config::Config::default();
        Self {
            bootstrap: Vec::new(),
            use_leader_election: protocol.use_leader_election,
            org_leader: false,
            membership_tracker_interval: protocol.membership_tracker_interval,
            endpoint: String::new(),
            external_endpoint: None,
            max_block_count_to_store: usize::try_from(protocol.max_block_count_to_store)
                .unwrap_or(usize::MAX),
            max_propagation_burst_latency: protocol.max_propagation_burst_latency,
            max_propagation_burst_size: protocol.max_propagation_burst_size,
            propagate_iterations: protocol.propagate_iterations,
            propagate_peer_num: protocol.propagate_peer_num,
            pull_interval: protocol.pull_interval,
            pull_peer_num: protocol.pull_peer_num,
            request_state_info_interval: protocol.request_state_info_interval,
            publish_state_info_interval: protocol.publish_state_info_interval,
            publish_cert_period: protocol.publish_cert_period,
            skip_block_verification: false,
            dial_timeout: Duration::from_secs(3),
            conn_timeout: Duration::from_secs(2),
            recv_buff_size: 20,
            send_buff_size: 20,
            digest_wait_time: protocol.digest_wait_time,
            request_wait_time: protocol.request_wait_time,
            response_wait_time: protocol.response_wait_time,
            alive_time_interval: protocol.alive_time_interval,
            alive_expiration_timeout: protocol.alive_expiration_timeout,
            reconnect_interval: protocol.reconnect_interval,
            max_connection_attempts: usize::try_from(protocol.max_connection_attempts)
                .unwrap_or(usize::MAX),
            msg_expiration_factor: protocol.msg_expiration_factor,
            election: ElectionConfig::default(),
            pvt_data: PvtDataConfig::default(),
            state: StateTransferConfig::default(),
        }
    }
}

/// `peer.gossip.pvtData`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PvtDataConfig {
    /// How long to look for the private data of a block before it is committed without.
    pub pull_retry_threshold: Duration,
    /// How far behind the ledger's height the transient store keeps private data, in blocks.
    pub transientstore_max_block_retention: u64,
    /// How long to wait for acknowledgements of a push.
    pub push_ack_timeout: Duration,
    /// Private data that expires within this many blocks is not pulled.
    pub btl_pull_margin: u64,
    /// Missing items that one reconciliation asks for.
    pub reconcile_batch_size: usize,
    /// Pause between two reconciliations.
    pub reconcile_sleep_interval: Duration,
    /// Whether missing private data is looked for after the commit.
    pub reconciliation_enabled: bool,
    /// Whether private data of invalid transactions is left to reconciliation.
    pub skip_pulling_invalid_transactions_during_commit: bool,
    /// Peers that must get private data of the own implicit collection at endorsement.
    pub implicit_required_peer_count: u32,
    /// Peers that are sent private data of the own implicit collection at endorsement.
    pub implicit_max_peer_count: u32,
}

impl Default for PvtDataConfig {
    fn default() -> Self {
        Self {
            pull_retry_threshold: Duration::ZERO,
            transientstore_max_block_retention: 20_000,
            push_ack_timeout: Duration::ZERO,
            btl_pull_margin: 10,
            reconcile_batch_size: 10,
            reconcile_sleep_interval: Duration::from_secs(60),
            reconciliation_enabled: false,
            skip_pulling_invalid_transactions_during_commit: false,
            implicit_required_peer_count: 0,
            implicit_max_peer_count: 1,
        }
    }
}

/// `peer.gossip.state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTransferConfig {
    /// Whether gaps are filled by asking peers for blocks.
    pub enabled: bool,
    /// How often to look for a gap.
    pub check_interval: Duration,
    /// How long to wait for an answer.
    pub response_timeout: Duration,
    /// Blocks in one request.
    pub batch_size: u64,
    /// Size of the buffer that brings blocks into order; it holds up to twice this many.
    pub block_buffer_size: usize,
    /// Attempts for one request.
    pub max_retries: u32,
    /// Requests of other peers that may wait.
    pub channel_size: usize,
}

impl Default for StateTransferConfig {
    fn default() -> Self {
        let protocol = selvedge_gossip::config::StateConfig::default();
        Self {
            enabled: protocol.enabled,
            check_interval: protocol.check_interval,
            response_timeout: protocol.response_timeout,
            batch_size: protocol.batch_size,
            block_buffer_size: protocol.block_buffer_size,
            max_retries: protocol.max_retries,
            channel_size: protocol.channel_size,
        }
    }
}

/// Reads the section. `own_address` is the endpoint if none is given.
pub(super) fn gossip(reader: &mut Reader<'_>, own_address: &str) -> GossipConfig {
    let default = GossipConfig::default();
    let use_leader_election = reader.flag("peer.gossip.useLeaderElection", false);
    let org_leader = reader.flag("peer.gossip.orgLeader", false);
    if use_leader_election && org_leader {
        reader.wrong(
            "peer.gossip.orgLeader",
            "false, since peer.gossip.useLeaderElection is true: a leader is either elected or set",
        );
    }
    let alive_time_interval =
        reader.interval("peer.gossip.aliveTimeInterval", default.alive_time_interval);
    let alive_expiration_timeout = reader.interval(
        "peer.gossip.aliveExpirationTimeout",
        alive_time_interval.saturating_mul(5),
    );
    GossipConfig {
        bootstrap: reader.addresses("peer.gossip.bootstrap"),
        use_leader_election,
        org_leader,
        membership_tracker_interval: reader.interval(
            "peer.gossip.membershipTrackerInterval",
            default.membership_tracker_interval,
        ),
        endpoint: reader
            .address("peer.gossip.endpoint")
            .unwrap_or_else(|| own_address.to_owned()),
        external_endpoint: reader.address("peer.gossip.externalEndpoint"),
        max_block_count_to_store: reader.positive(
            "peer.gossip.maxBlockCountToStore",
            default.max_block_count_to_store,
        ),
        max_propagation_burst_latency: reader.interval(
            "peer.gossip.maxPropagationBurstLatency",
            default.max_propagation_burst_latency,
        ),
        max_propagation_burst_size: reader.positive(
            "peer.gossip.maxPropagationBurstSize",
            default.max_propagation_burst_size,
        ),
        propagate_iterations: reader.positive(
            "peer.gossip.propagateIterations",
            default.propagate_iterations,
        ),
        propagate_peer_num: reader
            .positive("peer.gossip.propagatePeerNum", default.propagate_peer_num),
        pull_interval: reader.interval("peer.gossip.pullInterval", default.pull_interval),
        pull_peer_num: reader.positive("peer.gossip.pullPeerNum", default.pull_peer_num),
        request_state_info_interval: reader.interval(
            "peer.gossip.requestStateInfoInterval",
            default.request_state_info_interval,
        ),
        publish_state_info_interval: reader.interval(
            "peer.gossip.publishStateInfoInterval",
            default.publish_state_info_interval,
        ),
        publish_cert_period: reader
            .interval("peer.gossip.publishCertPeriod", default.publish_cert_period),
        skip_block_verification: reader.flag("peer.gossip.skipBlockVerification", false),
        dial_timeout: reader.interval("peer.gossip.dialTimeout", default.dial_timeout),
        conn_timeout: reader.interval("peer.gossip.connTimeout", default.conn_timeout),
        recv_buff_size: reader.positive("peer.gossip.recvBuffSize", default.recv_buff_size),
        send_buff_size: reader.positive("peer.gossip.sendBuffSize", default.send_buff_size),
        digest_wait_time: reader.interval("peer.gossip.digestWaitTime", default.digest_wait_time),
        request_wait_time: reader
            .interval("peer.gossip.requestWaitTime", default.request_wait_time),
        response_wait_time: reader
            .interval("peer.gossip.responseWaitTime", default.response_wait_time),
        alive_time_interval,
        alive_expiration_timeout,
        reconnect_interval: reader
            .interval("peer.gossip.reconnectInterval", alive_expiration_timeout),
        max_connection_attempts: reader.positive(
            "peer.gossip.maxConnectionAttempts",
            default.max_connection_attempts,
        ),
        msg_expiration_factor: reader.positive(
            "peer.gossip.msgExpirationFactor",
            default.msg_expiration_factor,
        ),
        election: election(reader),
        pvt_data: pvt_data(reader),
        state: state_transfer(reader),
    }
}

fn election(reader: &mut Reader<'_>) -> ElectionConfig {
    let default = ElectionConfig::default();
    ElectionConfig {
        startup_grace_period: reader.interval(
            "peer.gossip.election.startupGracePeriod",
            default.startup_grace_period,
        ),
        membership_sample_interval: reader.interval(
            "peer.gossip.election.membershipSampleInterval",
            default.membership_sample_interval,
        ),
        leader_alive_threshold: reader.interval(
            "peer.gossip.election.leaderAliveThreshold",
            default.leader_alive_threshold,
        ),
        leader_election_duration: reader.interval(
            "peer.gossip.election.leaderElectionDuration",
            default.leader_election_duration,
        ),
    }
}

fn pvt_data(reader: &mut Reader<'_>) -> PvtDataConfig {
    const MAX_PEERS: &str =
        "peer.gossip.pvtData.implicitCollectionDisseminationPolicy.maxPeerCount";
    let default = PvtDataConfig::default();
    let implicit_required_peer_count = reader.number(
        "peer.gossip.pvtData.implicitCollectionDisseminationPolicy.requiredPeerCount",
        default.implicit_required_peer_count,
    );
    let implicit_max_peer_count = reader.number(MAX_PEERS, default.implicit_max_peer_count);
    if implicit_max_peer_count < implicit_required_peer_count {
        reader.wrong(
            MAX_PEERS,
            format!("at least requiredPeerCount, which is {implicit_required_peer_count}"),
        );
    }
    PvtDataConfig {
        pull_retry_threshold: reader.duration(
            "peer.gossip.pvtData.pullRetryThreshold",
            default.pull_retry_threshold,
        ),
        transientstore_max_block_retention: reader.positive(
            "peer.gossip.pvtData.transientstoreMaxBlockRetention",
            default.transientstore_max_block_retention,
        ),
        push_ack_timeout: reader.duration(
            "peer.gossip.pvtData.pushAckTimeout",
            default.push_ack_timeout,
        ),
        btl_pull_margin: reader
            .number("peer.gossip.pvtData.btlPullMargin", default.btl_pull_margin),
        reconcile_batch_size: reader.positive(
            "peer.gossip.pvtData.reconcileBatchSize",
            default.reconcile_batch_size,
        ),
        reconcile_sleep_interval: reader.interval(
            "peer.gossip.pvtData.reconcileSleepInterval",
            default.reconcile_sleep_interval,
        ),
        reconciliation_enabled: reader.flag(
            "peer.gossip.pvtData.reconciliationEnabled",
            default.reconciliation_enabled,
        ),
        skip_pulling_invalid_transactions_during_commit: reader.flag(
            "peer.gossip.pvtData.skipPullingInvalidTransactionsDuringCommit",
            default.skip_pulling_invalid_transactions_during_commit,
        ),
        implicit_required_peer_count,
        implicit_max_peer_count,
    }
}

fn state_transfer(reader: &mut Reader<'_>) -> StateTransferConfig {
    let default = StateTransferConfig::default();
    StateTransferConfig {
        enabled: reader.flag("peer.gossip.state.enabled", default.enabled),
        check_interval: reader.interval("peer.gossip.state.checkInterval", default.check_interval),
        response_timeout: reader.interval(
            "peer.gossip.state.responseTimeout",
            default.response_timeout,
        ),
        batch_size: reader.positive("peer.gossip.state.batchSize", default.batch_size),
        block_buffer_size: reader.positive(
            "peer.gossip.state.blockBufferSize",
            default.block_buffer_size,
        ),
        max_retries: reader.number("peer.gossip.state.maxRetries", default.max_retries),
        channel_size: reader.positive("peer.gossip.state.channelSize", default.channel_size),
    }
}
