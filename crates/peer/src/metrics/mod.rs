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
mod services;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Registry, TextEncoder};

pub use channel::ChannelMetrics;
pub use grpc::{GrpcMetrics, GrpcMetricsLayer, GrpcMetricsService};
pub use services::{DeliverMetrics, EndorserMetrics};

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
type Question = Arc<dyn Fn(Metrics) -> BoxFuture<'static, ()> + Send + Sync>;

/// How long those who know more may take for their answers before metrics are served without.
const PATIENCE: Duration = Duration::from_secs(2);

struct Inner {
    registry: Registry,
    updates: Mutex<Vec<Update>>,
    questions: Mutex<Vec<Question>>,
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
            questions: Mutex::default(),
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

    /// Calls `ask` each time before the metrics are served, and waits a moment for its end: for what
    /// another task must be asked. The future must not hold on to the metrics.
    pub fn before_serving(
        &self,
        ask: impl Fn(Self) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        self.0.questions.lock().push(Arc::new(ask));
    }

    /// As [`Self::encode`], after the questions of [`Self::before_serving`]. Takes two seconds at most
    /// besides.
    pub async fn serve(&self) -> Result<String, MetricsError> {
        let questions = self.0.questions.lock().clone();
        let answers = join_all(questions.iter().map(|ask| ask(self.clone())));
        if tokio::time::timeout(PATIENCE, answers).await.is_err() {
            tracing::warn!(target: "metrics", "some metrics are not up to date: gossip is busy");
        }
        self.encode()
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
    /// Attempts to open a stream to a peer.
    pub dials: IntCounter,
    /// Of these failed, at any stage.
    pub dials_failed: IntCounter,
    /// Streams that took the place of another one to the same peer.
    pub streams_replaced: IntCounter,
    /// Blocks that arrived and were there already.
    pub duplicate_blocks: IntCounter,
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
            dials: group.counter(
                "selvedge_gossip_dials_total",
                "Attempts to open a stream to a peer.",
            )?,
            dials_failed: group.counter(
                "selvedge_gossip_dials_failed_total",
                "Attempts to open a stream to a peer that failed, at any stage.",
            )?,
            streams_replaced: group.counter(
                "selvedge_gossip_streams_replaced_total",
                "Streams that took the place of another one to the same peer.",
            )?,
            duplicate_blocks: group.counter(
                "selvedge_duplicate_blocks_total",
                "Blocks that arrived and were there already.",
            )?,
            bytes_sent: group.counters(
                "selvedge_gossip_bytes_sent_total",
                "Bytes of messages queued for peers, by kind of message.",
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

    /// Bytes queued for peers in messages of one kind (`block`, `alive`, `digest`...). Takes a lock: keep
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
