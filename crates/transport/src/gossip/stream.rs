//! The life of one authenticated stream.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::peers::StreamSignals;
use super::queue::PeerQueue;
use super::transport::Shared;
use super::window::Window;
use super::{DisconnectReason, GossipEvent, GossipMetrics, PkiId};
use crate::connect::Connection;

/// Frames to the other side; an error ends an inbound stream with that status.
pub(super) type Outgoing = mpsc::Sender<Result<Bytes, Status>>;

/// A stream that is in use.
pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) pki_id: PkiId,
    pub(super) outbound: bool,
    pub(super) signals: StreamSignals,
    pub(super) queue: Arc<PeerQueue>,
    pub(super) incoming: Streaming<Bytes>,
    pub(super) outgoing: Outgoing,
    /// Keeps an outbound connection open.
    pub(super) connection: Option<Connection>,
}

/// How a stream came to its end.
enum End {
    /// By itself, or by [`StreamSignals::close`].
    Final(DisconnectReason),
    /// Another one has taken over.
    Retired,
}

impl Stream {
    /// Runs the stream to its end and reports it.
    pub(super) async fn run(mut self) {
        let (shared, pki_id, id) = (self.shared.clone(), self.pki_id, self.id);
        match self.serve().await {
            End::Final(reason) => shared.stream_ended(pki_id, id, reason).await,
            End::Retired => self.drain().await,
        }
    }

    async fn serve(&mut self) -> End {
        let linger = self.linger();
        let (shared, queue, signals) = (&self.shared, &self.queue, &self.signals);
        let retirement = async {
            loop {
                signals.retire.notified().await;
                tokio::time::sleep(linger).await;
                if shared.lock_peers().retire(&self.pki_id, self.id) {
                    return;
                }
            }
        };
        let ended = |reason| End::Final(DisconnectReason::StreamEnded(reason));
        tokio::select! {
            reason = read(shared, self.pki_id, &mut self.incoming) => ended(reason),
            () = write(shared, queue, self.id, &self.outgoing) => {
                ended("the stream is closed".to_owned())
            }
            () = signals.close.cancelled() => End::Final(DisconnectReason::Closed),
            () = shared.stop.cancelled() => End::Final(DisconnectReason::Closed),
            () = retirement => End::Retired,
        }
    }

    /// The dialler gives a retired stream up first, so that both sides agree on who does it.
    fn linger(&self) -> std::time::Duration {
        let handshake = self.shared.options.handshake_timeout;
        if self.outbound {
            handshake
        } else {
            handshake.saturating_mul(2)
        }
    }

    /// Says that nothing more will be sent, and reads what is still on its way.
    async fn drain(mut self) {
        drop(self.outgoing);
        let shared = &self.shared;
        tokio::select! {
            _ = read(shared, self.pki_id, &mut self.incoming) => {}
            () = tokio::time::sleep(shared.options.handshake_timeout) => {}
            () = self.signals.close.cancelled() => {}
            () = shared.stop.cancelled() => {}
        }
        drop(self.connection);
    }
}

/// Passes frames to the node as fast as it takes them. Returns the reason for the end.
async fn read(shared: &Shared, pki_id: PkiId, incoming: &mut Streaming<Bytes>) -> String {
    let window = Window::new(shared.options.receive_buffer);
    let gone = || "this node does not listen any more".to_owned();
    loop {
        let bytes = match incoming.message().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return "the peer ended the stream".to_owned(),
            Err(status) => return status.to_string(),
        };
        GossipMetrics::add(&shared.metrics.frames_received, 1);
        GossipMetrics::add(&shared.metrics.bytes_received, bytes.len());
        let Some(hold) = window.hold(bytes.len()).await else {
            return gone();
        };
        let frame = GossipEvent::Frame {
            from: pki_id,
            bytes,
            hold,
        };
        if shared.events.send(frame).await.is_err() {
            return gone();
        }
    }
}

/// Takes frames from the queue as fast as the stream takes them. Returns when the stream is
/// closed. When dropped, no frame is in its hands.
async fn write(shared: &Shared, queue: &PeerQueue, id: u64, outgoing: &Outgoing) {
    loop {
        let Ok(place) = outgoing.reserve().await else {
            return;
        };
        let frame = tokio::select! {
            frame = queue.pop(id) => frame,
            () = outgoing.closed() => return,
        };
        GossipMetrics::add(&shared.metrics.frames_sent, 1);
        GossipMetrics::add(&shared.metrics.bytes_sent, frame.len());
        place.send(Ok(frame));
    }
}
