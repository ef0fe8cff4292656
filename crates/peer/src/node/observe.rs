//! Health checks, and metrics of what is counted elsewhere. Nothing here runs unless an operator asks.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_transport::ConnectionCounters;
use selvedge_transport::gossip::GossipMetrics as StreamCounters;
use tokio::sync::{mpsc, oneshot};

use crate::channel::Channels;
use crate::gossip::{Command, GossipStatus};
use crate::health::ChannelHealth;
use crate::metrics::{Metrics, advance_to};
use crate::operations::{AlreadyRegistered, HealthChecks};

/// Registers the components `channels` and `ordering_service`.
pub(super) fn register_health(
    checks: &HealthChecks,
    health: &ChannelHealth,
    channels: &Channels,
) -> Result<(), AlreadyRegistered> {
    let (ordering, stopped, channels) = (health.clone(), health.clone(), channels.clone());
    checks.register("channels", move || {
        std::future::ready(stopped.check_channels(&channels))
    })?;
    checks.register("ordering_service", move || {
        std::future::ready(ordering.check_ordering())
    })
}

/// Brings the counters of connections and streams, and how the ordering service fares, into the
/// metrics.
pub(super) fn count(
    metrics: &Metrics,
    connections: Arc<ConnectionCounters>,
    streams: Arc<StreamCounters>,
    health: ChannelHealth,
) {
    let fetching = Mutex::new(BTreeSet::new());
    metrics.before_encoding(move |metrics| {
        let grpc = metrics.grpc();
        advance_to(&grpc.connections_opened, connections.opened());
        advance_to(&grpc.connections_closed, connections.closed());
        advance_to(&grpc.connections_refused, connections.refused());
        advance_to(&grpc.handshakes_failed, connections.failed_handshakes());

        let gossip = metrics.gossip();
        advance_to(&gossip.messages_sent, streams.frames_sent());
        advance_to(&gossip.messages_received, streams.frames_received());
        let overflow = streams
            .control_overflowed()
            .saturating_add(streams.bulk_overflowed());
        advance_to(&gossip.overflow_count, overflow);
        advance_to(&gossip.dials, streams.dials());
        advance_to(&gossip.dials_failed, streams.dials_failed());
        advance_to(&gossip.streams_replaced, streams.streams_replaced());
        for (reason, total) in [
            ("queue_full", overflow),
            ("unreachable", streams.unreachable_dropped()),
            ("not_accepted", streams.refused()),
            ("stream_ended", streams.abandoned()),
            ("handshake_failed", streams.handshakes_failed()),
        ] {
            if total > 0 {
                advance_to(&gossip.dropped(reason), total);
            }
        }
        show_ordering(metrics, &health, &mut fetching.lock());
    });
}

/// `shown` are the channels that were shown the last time.
fn show_ordering(metrics: &Metrics, health: &ChannelHealth, shown: &mut BTreeSet<String>) {
    let mut fetching = BTreeSet::new();
    for (channel, missed) in health.ordering_unreachable() {
        metrics.channel(&channel).set_ordering_unreachable(missed);
        fetching.insert(channel);
    }
    for channel in shown.difference(&fetching) {
        metrics.channel(channel).forget_ordering_unreachable();
    }
    *shown = fetching;
}

/// Has gossip asked for what it knows before the metrics are served.
pub(super) fn ask_gossip(metrics: &Metrics, commands: mpsc::Sender<Command>) {
    let known = Arc::new(Mutex::new(BTreeSet::new()));
    metrics.before_serving(move |metrics| {
        let (commands, known) = (commands.clone(), known.clone());
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            if commands.send(Command::Status(reply)).await.is_err() {
                return;
            }
            if let Ok(status) = answer.await {
                show(&metrics, &status, &mut known.lock());
            }
        })
    });
}

/// `known` are the endpoints of the peers that were shown the last time.
fn show(metrics: &Metrics, status: &GossipStatus, known: &mut BTreeSet<String>) {
    let gossip = metrics.gossip();
    for (reason, total) in status.drops() {
        advance_to(&gossip.dropped(&label(reason)), total);
    }
    advance_to(&gossip.duplicate_blocks, status.counters.duplicate_blocks());
    for channel in &status.channels {
        let metrics = metrics.channel(channel.channel.as_str());
        metrics.set_peers_known(channel.peers.len());
        metrics.set_payload_buffer_size(channel.buffered);
        metrics.set_lag(channel.lag);
    }
    let mut seen = BTreeSet::new();
    for peer in status.peers.iter().chain(&status.dead) {
        let endpoint = peer.endpoint.as_str();
        if !endpoint.is_empty() {
            gossip.peer_seen(endpoint, peer.last_seen);
            seen.insert(endpoint.to_owned());
        }
    }
    for endpoint in known.difference(&seen) {
        gossip.peer_forgotten(endpoint);
    }
    *known = seen;
}

/// The name of a variant as labels are written: `UnknownChannel` is `unknown_channel`.
fn label(variant: impl std::fmt::Debug) -> String {
    let mut label = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use selvedge_gossip::counters::{Counters, DropReason};
    use selvedge_gossip::types::{ChannelId, Endpoint, PkiId};

    use selvedge_orderer_client::{FetchStatus, Phase};

    use super::*;
    use crate::gossip::{ChannelStatus, PeerStatus};

    fn peer(number: u8, endpoint: &str) -> PeerStatus {
        PeerStatus {
            pki_id: PkiId([number; 32]),
            endpoint: Endpoint::from(endpoint),
            org: None,
            last_seen: SystemTime::UNIX_EPOCH + Duration::from_secs(number.into()),
        }
    }

    #[test]
    fn a_channel_in_which_this_peer_leads_no_more_has_no_ordering_service() {
        let (metrics, health) = (Metrics::new("1").unwrap(), ChannelHealth::default());
        let mut shown = BTreeSet::new();
        let mut shows = |channel: &str| {
            show_ordering(&metrics, &health, &mut shown);
            let name = "selvedge_ordering_service_unreachable_seconds";
            let sample = format!("{name}{{channel=\"{channel}\"}}");
            metrics.encode().unwrap().contains(&sample)
        };
        let status = FetchStatus {
            phase: Phase::Pausing,
            orderer: None,
            failures: 1,
            last_error: None,
            next_block: 1,
        };
        for channel in ["one", "two"] {
            health.observe_ordering(channel, &status);
            assert!(shows(channel));
        }
        health.forget_ordering("one");
        assert!(!shows("one"));
        assert!(shows("two"));
        health.observe_ordering("one", &status);
        assert!(shows("one"));
    }

    #[test]
    fn a_status_is_shown_and_peers_that_left_are_not() {
        let metrics = Metrics::new("1").unwrap();
        let mut known = BTreeSet::new();
        let mut counters = Counters::default();
        counters.dropped(DropReason::UnknownChannel);
        counters.duplicate_block();
        let mut status = GossipStatus {
            peers: vec![peer(7, "a:1"), peer(8, "")],
            dead: vec![peer(9, "b:1")],
            channels: vec![ChannelStatus {
                channel: ChannelId::from("ch"),
                buffered: 3,
                lag: 2,
                peers: vec![(PkiId([7; 32]), 12)],
            }],
            counters,
            bytes_sent: 0,
            bytes_received: 0,
            overflowed: 0,
        };
        show(&metrics, &status, &mut known);
        show(&metrics, &status, &mut known);
        let text = metrics.encode().unwrap();
        for line in [
            "selvedge_gossip_dropped_total{reason=\"unknown_channel\"} 1",
            "selvedge_duplicate_blocks_total 1",
            "gossip_membership_total_peers_known{channel=\"ch\"} 1",
            "gossip_payload_buffer_size{channel=\"ch\"} 3",
            "selvedge_ledger_lag_blocks{channel=\"ch\"} 2",
            "selvedge_gossip_peer_last_seen_timestamp_seconds{endpoint=\"a:1\"} 7",
            "selvedge_gossip_peer_last_seen_timestamp_seconds{endpoint=\"b:1\"} 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("peer_last_seen_timestamp_seconds{").count(), 2);

        status.dead.clear();
        show(&metrics, &status, &mut known);
        assert!(!metrics.encode().unwrap().contains("b:1"));
    }
}
