//! From what the transport reports to events of the core: decoding and verification of messages, on
//! several tasks, in order for each peer.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_gossip::crypto::{Crypto, Identity};
use selvedge_gossip::event::Event;
use selvedge_gossip::message::{self, MessageError};
use selvedge_gossip::types::{Endpoint, PkiId};
use selvedge_transport::gossip::{DisconnectReason, GossipEvent};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{IdentityTable, PeerBlock};
use crate::metrics::Metrics;

/// Events of one worker that may wait before the transport stops reading.
const QUEUE: usize = 64;

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
        let workers: Vec<_> = (0..workers.max(1))
            .map(|_| self.clone().start_worker())
            .collect();
        while let Some(Some(event)) = stop.run_until_cancelled(transport.recv()).await {
            let peer = match &event {
                GossipEvent::Connected(info) => info.pki_id,
                GossipEvent::Disconnected { pki_id, .. } => *pki_id,
                GossipEvent::IdentityChanged { old, .. } => *old,
                GossipEvent::Frame { from, .. } => *from,
            };
            let index = peer.last().map_or(0, |byte| usize::from(*byte)) % workers.len();
            let Some(worker) = workers.get(index) else {
                continue;
            };
            if worker.send(event).await.is_err() {
                return;
            }
        }
    }

    fn start_worker(self) -> mpsc::Sender<GossipEvent> {
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                let Some(event) = self.translate(event) else {
                    continue;
                };
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
        });
        sender
    }

    fn translate(&self, event: GossipEvent) -> Option<Event<PeerBlock>> {
        match event {
            GossipEvent::Connected(info) => {
                let identity = Identity::check(&info.identity, &*self.crypto).ok()?;
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
            GossipEvent::Frame { from, bytes } => self.message(PkiId(from), bytes),
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
