//! What a node counts and measures, under Fabric's metric names where Fabric has one.
//!
//! Each node has one [`Metrics`] with its own registry, so that several nodes can live in one
//! process. Values are kept whether or not they are served: touching one costs an atomic addition.
//! Handles that belong to a channel are resolved once, by [`Metrics::channel`], and then kept by
//! whoever runs the channel.
//!
//! Names that Fabric has and that are missing here belong to services that are missing as well
//! (chaincode, private data, CouchDB). `logging_entries_checked` is missing for good: a disabled
//! log statement costs nothing here, not even being counted.
//!
//! Our own metrics begin with `selvedge_`.

mod channel;
mod group;
mod grpc;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::{Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, Registry, TextEncoder};

pub use channel::ChannelMetrics;
pub use grpc::{GrpcMetrics, GrpcMetricsLayer, GrpcMetricsService};

use crate::logging::LogControl;
use channel::ChannelFamilies;
use group::Group;

/// Why a metric could not be set up or printed; a mistake in the program, not of the operator.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// All metrics of one node. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

type Update = Arc<dyn Fn(&Metrics) + Send + Sync>;

struct Inner {
    registry: Registry,
    updates: Mutex<Vec<Update>>,
    log_entries: IntCounterVec,
    gossip: GossipMetrics,
    deliver: DeliverMetrics,
    endorser: EndorserMetrics,
    grpc: GrpcMetrics,
    certificate_expiry: GaugeVec,
    channels: ChannelFamilies,
}

impl Metrics {
    /// New metrics, all at zero. `version` is the value of `fabric_version`.
    pub fn new(version: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let group = Group::new(&registry);
        group
            .gauges(
                "fabric_version",
                "The active version of Fabric.",
                &["version"],
            )?
            .with_label_values(&[version])
            .set(1.0);
        let inner = Inner {
            gossip: GossipMetrics::new(&group)?,
            deliver: DeliverMetrics::new(&group)?,
            endorser: EndorserMetrics::new(&group)?,
            grpc: GrpcMetrics::new(&group)?,
            certificate_expiry: group.gauges(
                "selvedge_certificate_expiry_timestamp_seconds",
                "When a certificate of this peer expires, seconds since 1970.",
                &["certificate"],
            )?,
            channels: ChannelFamilies::new(&group)?,
            log_entries: group.counters(
                "logging_entries_written",
                "Number of log entries that are written",
                &["level"],
            )?,
            updates: Mutex::default(),
            registry,
        };
        inner.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(Self(Arc::new(inner)))
    }

    /// Calls `update` each time before the metrics are printed: for totals that are counted
    /// elsewhere, see [`advance_to`].
    pub fn before_encoding(&self, update: impl Fn(&Self) + Send + Sync + 'static) {
        self.0.updates.lock().push(Arc::new(update));
    }

    /// Serves what `log` counts as `logging_entries_written`.
    pub fn observe_log(&self, log: LogControl) {
        self.before_encoding(move |metrics| {
            for (level, total) in log.entries_written() {
                if total > 0 {
                    advance_to(
                        &metrics.0.log_entries.with_label_values(&[level.name()]),
                        total,
                    );
                }
            }
        });
    }

    /// Gossip as a whole.
    #[must_use]
    pub fn gossip(&self) -> &GossipMetrics {
        &self.0.gossip
    }

    /// The deliver service.
    #[must_use]
    pub fn deliver(&self) -> &DeliverMetrics {
        &self.0.deliver
    }

    /// The endorser service.
    #[must_use]
    pub fn endorser(&self) -> &EndorserMetrics {
        &self.0.endorser
    }

    /// The gRPC server.
    #[must_use]
    pub fn grpc(&self) -> &GrpcMetrics {
        &self.0.grpc
    }

    /// The handles of one channel. Takes locks: keep the result.
    #[must_use]
    pub fn channel(&self, channel_id: &str) -> ChannelMetrics {
        self.0.channels.of(channel_id)
    }

    /// Notes when one of the peer's certificates (`enrollment`, `tls_server`, `tls_client`)
    /// expires.
    pub fn set_certificate_expiry(&self, certificate: &str, expires_at: SystemTime) {
        let seconds = expires_at
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        self.0
            .certificate_expiry
            .with_label_values(&[certificate])
            .set(seconds);
    }

    /// Everything in Prometheus' text format.
    pub fn encode(&self) -> Result<String, MetricsError> {
        let updates = self.0.updates.lock().clone();
        for update in updates {
            update(self);
        }
        let mut text = String::new();
        TextEncoder::new().encode_utf8(&self.0.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Brings a counter to a total that is counted elsewhere. Totals only grow; a smaller one is
/// ignored.
pub fn advance_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// `gossip_comm_*` and our own about the traffic between peers.
#[derive(Debug, Clone)]
pub struct GossipMetrics {
    /// Messages handed to a stream.
    pub messages_sent: IntCounter,
    /// Messages taken from a stream.
    pub messages_received: IntCounter,
    /// Messages dropped because the queue of a peer was full.
    pub overflow_count: IntCounter,
    bytes_sent: IntCounterVec,
    bytes_received: IntCounterVec,
    dropped: IntCounterVec,
    peer_last_seen: GaugeVec,
}

impl GossipMetrics {
    fn new(group: &Group<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            messages_sent: group.counter("gossip_comm_messages_sent", "Number of messages sent")?,
            messages_received: group.counter(
                "gossip_comm_messages_received",
                "Number of messages received",
            )?,
            overflow_count: group.counter(
                "gossip_comm_overflow_count",
                "Number of outgoing queue buffer overflows",
            )?,
            bytes_sent: group.counters(
                "selvedge_gossip_bytes_sent_total",
                "Bytes of messages sent to peers, by kind of message.",
                &["kind"],
            )?,
            bytes_received: group.counters(
                "selvedge_gossip_bytes_received_total",
                "Bytes of messages received from peers, by kind of message.",
                &["kind"],
            )?,
            dropped: group.counters(
                "selvedge_gossip_dropped_total",
                "Messages and blocks that were dropped, by reason.",
                &["reason"],
            )?,
            peer_last_seen: group.gauges(
                "selvedge_gossip_peer_last_seen_timestamp_seconds",
                "When the last alive message of a peer came, seconds since 1970.",
                &["endpoint"],
            )?,
        })
    }

    /// Bytes sent in messages of one kind (`block`, `alive`, `digest`...). Takes a lock: keep
    /// the result where it is hot. `kind` must come from a fixed set.
    #[must_use]
    pub fn bytes_sent(&self, kind: &str) -> IntCounter {
        self.bytes_sent.with_label_values(&[kind])
    }

    /// Bytes received in messages of one kind; see [`Self::bytes_sent`].
    #[must_use]
    pub fn bytes_received(&self, kind: &str) -> IntCounter {
        self.bytes_received.with_label_values(&[kind])
    }

    /// Drops for one reason; `reason` must come from a fixed set.
    #[must_use]
    pub fn dropped(&self, reason: &str) -> IntCounter {
        self.dropped.with_label_values(&[reason])
    }

    /// Notes that a peer of the membership was heard of. The membership is bounded, and so is
    /// this metric if [`Self::peer_forgotten`] is called for each peer that leaves it.
    pub fn peer_seen(&self, endpoint: &str, at: SystemTime) {
        let seconds = at
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        self.peer_last_seen
            .with_label_values(&[endpoint])
            .set(seconds);
    }

    /// Removes a peer that left the membership.
    pub fn peer_forgotten(&self, endpoint: &str) {
        // Fails only if the peer was never seen.
        let _ = self.peer_last_seen.remove_label_values(&[endpoint]);
    }
}

/// `deliver_*`.
#[derive(Debug, Clone)]
pub struct DeliverMetrics {
    /// Streams opened.
    pub streams_opened: IntCounter,
    /// Streams closed.
    pub streams_closed: IntCounter,
    requests_received: IntCounterVec,
    requests_completed: IntCounterVec,
    blocks_sent: IntCounterVec,
}

impl DeliverMetrics {
    fn new(group: &Group<'_>) -> prometheus::Result<Self> {
        const LABELS: [&str; 3] = ["channel", "filtered", "data_type"];
        Ok(Self {
            streams_opened: group.counter(
                "deliver_streams_opened",
                "The number of GRPC streams that have been opened for the deliver service.",
            )?,
            streams_closed: group.counter(
                "deliver_streams_closed",
                "The number of GRPC streams that have been closed for the deliver service.",
            )?,
            requests_received: group.counters(
                "deliver_requests_received",
                "The number of deliver requests that have been received.",
                &LABELS,
            )?,
            requests_completed: group.counters(
                "deliver_requests_completed",
                "The number of deliver requests that have been completed.",
                &["channel", "filtered", "data_type", "success"],
            )?,
            blocks_sent: group.counters(
                "deliver_blocks_sent",
                "The number of blocks sent by the deliver service.",
                &LABELS,
            )?,
        })
    }

    /// A request for blocks of a channel that exists arrived. `data_type` is `block`,
    /// `filtered_block`, `block_and_pvtdata` or `header`.
    pub fn request_received(&self, channel: &str, filtered: bool, data_type: &str) {
        self.requests_received
            .with_label_values(&[channel, text_of(filtered), data_type])
            .inc();
    }

    /// A request ended; `success`: with status SUCCESS.
    pub fn request_completed(&self, channel: &str, filtered: bool, data_type: &str, success: bool) {
        self.requests_completed
            .with_label_values(&[channel, text_of(filtered), data_type, text_of(success)])
            .inc();
    }

    /// Blocks sent for one kind of request; keep the result for the length of the request.
    #[must_use]
    pub fn blocks_sent(&self, channel: &str, filtered: bool, data_type: &str) -> IntCounter {
        self.blocks_sent
            .with_label_values(&[channel, text_of(filtered), data_type])
    }
}

/// `endorser_*`.
#[derive(Debug, Clone)]
pub struct EndorserMetrics {
    /// Proposals received.
    pub proposals_received: IntCounter,
    /// Proposals answered with an endorsement or a result.
    pub successful_proposals: IntCounter,
    /// Proposals that are malformed or wrongly signed.
    pub proposal_validation_failures: IntCounter,
    proposal_duration: HistogramVec,
    proposal_acl_failures: IntCounterVec,
    endorsement_failures: IntCounterVec,
    duplicate_transaction_failures: IntCounterVec,
    proposal_simulation_failures: IntCounterVec,
}

impl EndorserMetrics {
    fn new(group: &Group<'_>) -> prometheus::Result<Self> {
        const LABELS: [&str; 2] = ["channel", "chaincode"];
        Ok(Self {
            proposals_received: group.counter(
                "endorser_proposals_received",
                "The number of proposals received.",
            )?,
            successful_proposals: group.counter(
                "endorser_successful_proposals",
                "The number of successful proposals.",
            )?,
            proposal_validation_failures: group.counter(
                "endorser_proposal_validation_failures",
                "The number of proposals that have failed initial validation.",
            )?,
            proposal_duration: group.histograms(
                "endorser_proposal_duration",
                "The time to complete a proposal.",
                &["channel", "chaincode", "success"],
            )?,
            proposal_acl_failures: group.counters(
                "endorser_proposal_acl_failures",
                "The number of proposals that failed ACL checks.",
                &LABELS,
            )?,
            endorsement_failures: group.counters(
                "endorser_endorsement_failures",
                "The number of failed endorsements.",
                &["channel", "chaincode", "chaincodeerror"],
            )?,
            duplicate_transaction_failures: group.counters(
                "endorser_duplicate_transaction_failures",
                "The number of failed proposals due to duplicate transaction ID.",
                &LABELS,
            )?,
            proposal_simulation_failures: group.counters(
                "endorser_proposal_simulation_failures",
                "The number of failed proposal simulations",
                &LABELS,
            )?,
        })
    }

    // Channel and chaincode names come from clients. Call the following only with names that
    // exist here, or a client could fill the memory with labels.

    /// How long a proposal to a chaincode that exists took.
    pub fn proposal_done(&self, channel: &str, chaincode: &str, success: bool, seconds: f64) {
        self.proposal_duration
            .with_label_values(&[channel, chaincode, text_of(success)])
            .observe(seconds);
    }

    /// A proposal whose creator may not do what it asks for.
    pub fn acl_failure(&self, channel: &str, chaincode: &str) {
        self.proposal_acl_failures
            .with_label_values(&[channel, chaincode])
            .inc();
    }

    /// A proposal that was not endorsed; `chaincode_error`: because the chaincode said so.
    pub fn endorsement_failure(&self, channel: &str, chaincode: &str, chaincode_error: bool) {
        self.endorsement_failures
            .with_label_values(&[channel, chaincode, text_of(chaincode_error)])
            .inc();
    }

    /// A proposal with the id of a transaction that is in the ledger.
    pub fn duplicate_transaction(&self, channel: &str, chaincode: &str) {
        self.duplicate_transaction_failures
            .with_label_values(&[channel, chaincode])
            .inc();
    }

    /// A proposal whose execution failed.
    pub fn simulation_failure(&self, channel: &str, chaincode: &str) {
        self.proposal_simulation_failures
            .with_label_values(&[channel, chaincode])
            .inc();
    }
}

fn text_of(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// A gauge that holds a height or a count. Above 2^53 it would lose precision.
fn set_count(gauge: &Gauge, count: u64) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "Prometheus has no other numbers"
    )]
    gauge.set(count as f64);
}

#[cfg(test)]
mod tests;
