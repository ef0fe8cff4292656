//! Counters of the streams.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the streams have done since the start. Counters only grow.
        #[derive(Debug, Default)]
        pub struct GossipMetrics {
            $(pub(super) $name: AtomicU64,)*
        }

        impl GossipMetrics {
            $($(#[$doc])* pub fn $name(&self) -> u64 {
                self.$name.load(Relaxed)
            })*
        }
    };
}

counters! {
    /// Frames written to streams (`gossip_comm_messages_sent`).
    frames_sent,
    /// Bytes of these frames.
    bytes_sent,
    /// Frames read from authenticated peers (`gossip_comm_messages_received`).
    frames_received,
    /// Bytes of these frames.
    bytes_received,
    /// Frames other than bulk that found a full queue, or were pushed out of it by more urgent ones or by a channel
    /// that held less (with the next: `gossip_comm_overflow_count`).
    control_overflowed,
    /// Bulk frames, likewise.
    bulk_overflowed,
    /// Frames for peers that could not be reached.
    unreachable_dropped,
    /// Frames that were never accepted: too large, too many peers, or stopped.
    refused,
    /// Frames that waited when the last stream to their peer ended.
    abandoned,
    /// Attempts to dial a peer.
    dials,
    /// Dials that failed, at any stage.
    dials_failed,
    /// Inbound handshakes that failed.
    handshakes_failed,
    /// Probes that were answered.
    probes_answered,
    /// Streams that took the place of another one to the same peer.
    streams_replaced,
}

impl GossipMetrics {
    pub(super) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Relaxed);
    }
}
