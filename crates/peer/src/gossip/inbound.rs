//! From what the transport reports to events of the core: decoding and verification of messages, on
//! several threads, in order for each peer.
//!
//! Signatures take most of the time, so the workers are threads of their own: a flood of messages must
//! not hold up the tasks that serve clients and other peers.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_gossip::crypto::{Crypto, Identity};
use selvedge_gossip::event::Event;
use selvedge_gossip::message::{self, MessageError};
use selvedge_gossip::types::{Endpoint, PkiId};
use selvedge_transport::gossip::{DisconnectReason, GossipEvent};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{IdentityTable, PeerBlock};
use crate::metrics::Metrics;

/// Events of one worker that may wait before the transport stops reading. Of one peer no more wait than its
/// window in the transport has room for, so it takes many that flood before others wait for them.
const QUEUE: usize = 256;

/// The workers and what they need.
#[derive(Clone)]
pub struct Inbound {
    pub(crate) crypto: Arc<dyn Crypto>,
    pub(crate) identities: IdentityTable,
    pub(crate) events: mpsc::Sender<Event<PeerBlock>>,
    pub(crate) metrics: Metrics,
}

impl Inbound {
    /// Forwards everything that the transport reports until the core has ended or `stop` is cancelled. What concerns
    /// one peer always goes through the same worker.
    pub async fn run(
        self,
        mut transport: mpsc::Receiver<GossipEvent>,
        workers: usize,
        stop: CancellationToken,
    ) {
        let threads = TaskTracker::new();
        let workers: Vec<_> = (0..workers.max(1))
            .map(|_| self.clone().start_worker(&threads))
            .collect();
        self.dispatch(&mut transport, &workers, &stop).await;
        drop((workers, transport));
        threads.close();
        threads.wait().await;
    }

    async fn dispatch(
        &self,
        transport: &mut mpsc::Receiver<GossipEvent>,
        workers: &[mpsc::Sender<GossipEvent>],
        stop: &CancellationToken,
    ) {
        while let Some(Some(event)) = stop.run_until_cancelled(transport.recv()).await {
            let peer = match &event {
                GossipEvent::Connected(info) => info.pki_id,
                GossipEvent::Disconnected { pki_id, .. } => *pki_id,
                GossipEvent::IdentityChanged { old, .. } => *old,
                GossipEvent::Frame { from, .. } => *from,
            };
            let index = peer.last().map_or(0, |byte| usize::from(*byte)) % workers.len();
            let Some(worker) = workers.get(index) else {
                return;
            };
            if worker.send(event).await.is_err() {
                return;
            }
        }
    }

    fn start_worker(self, threads: &TaskTracker) -> mpsc::Sender<GossipEvent> {
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        threads.spawn_blocking(move || {
            while let Some(event) = receiver.blocking_recv() {
                // The stream may bring more when this one is with the core.
                let _hold = match &event {
                    GossipEvent::Frame { hold, .. } => Some(hold.clone()),
                    _ => None,
                };
                let Some(event) = self.translate(event) else {
                    continue;
                };
                if self.events.blocking_send(event).is_err() {
                    return;
                }
            }
        });
        sender
    }

    fn translate(&self, event: GossipEvent) -> Option<Event<PeerBlock>> {
        match event {
            GossipEvent::Connected(info) => {
                let identity = match Identity::check(&info.identity, &*self.crypto) {
                    Ok(identity) => identity,
                    Err(refusal) => {
                        // It passed the handshake a moment ago: the configuration has changed since.
                        self.metrics.gossip().dropped("identity_refused").inc();
                        tracing::warn!(
                            target: "gossip.comm", peer = %info.address,
                            "the identity of a peer is no longer valid: {refusal}"
                        );
                        return None;
                    }
                };
                // Messages follow at once and are verified before the core has answered.
                self.identities.insert(identity.clone());
                let endpoint = info.endpoint.as_deref().map(Endpoint::from);
                Some(Event::Connected { identity, endpoint })
            }
            GossipEvent::Disconnected { pki_id, reason } => Some(match reason {
                DisconnectReason::Unreachable(_) => Event::Unreachable(PkiId(pki_id)),
                DisconnectReason::StreamEnded(_) | DisconnectReason::Closed => {
                    Event::Disconnected(PkiId(pki_id))
                }
            }),
            GossipEvent::IdentityChanged { old, .. } => {
                Some(Event::IdentityChanged { old: PkiId(old) })
            }
            GossipEvent::Frame { from, bytes, .. } => self.message(PkiId(from), bytes),
        }
    }

    fn message(&self, from: PkiId, bytes: Bytes) -> Option<Event<PeerBlock>> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let received = message::decode(bytes)
            .inspect_err(|reason| self.refuse(&from, reason))
            .ok()?;
        self.metrics
            .gossip()
            .bytes_received(received.kind())
            .inc_by(size);
        let verified = message::verify(received, &*self.crypto, &self.identities)
            .inspect_err(|reason| self.refuse(&from, reason))
            .ok()?;
        for reason in &verified.refused {
            self.refuse(&from, reason);
        }
        message::check_sender(&verified.message, &from, &*self.crypto, &self.identities)
            .inspect_err(|reason| self.refuse(&from, reason))
            .ok()?;
        Some(Event::Message {
            from,
            message: verified.message,
        })
    }

    fn refuse(&self, from: &PkiId, reason: &MessageError) {
        self.metrics.gossip().dropped("invalid_message").inc();
        tracing::debug!(target: "gossip.gossip", peer = %from, "a message was dropped: {reason}");
    }
}
