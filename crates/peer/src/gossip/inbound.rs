//! From what the transport reports to events of the core: decoding and verification of messages, on
//! several threads, in order for each peer.
//!
//! Signatures take most of the time, so the workers are threads of their own: a flood of messages must
//! not hold up the tasks that serve clients and other peers. But to wake a thread for a message and to be woken
//! by it costs more than most messages do. So what comes now and then is handled where it comes in, as long as
//! that takes no more than a twentieth of the time ([`Allowance`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_gossip::crypto::{Crypto, Identity};
use selvedge_gossip::event::Event;
use selvedge_gossip::message::{self, MessageError};
use selvedge_gossip::types::{Endpoint, PkiId};
use selvedge_transport::gossip::{DisconnectReason, GossipEvent, Hold};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{IdentityTable, PeerBlock};
use crate::metrics::Metrics;

/// Events of one worker that may wait before the transport stops reading. Of one peer no more wait than its
/// window in the transport has room for, so it takes many that flood before others wait for them.
const QUEUE: usize = 256;

/// Larger frames always go to a worker, bytes.
const MAX_INLINE: usize = 64 << 10;

/// The workers and what they need.
#[derive(Clone)]
pub struct Inbound {
    pub(crate) crypto: Arc<dyn Crypto>,
    pub(crate) identities: IdentityTable,
    pub(crate) events: mpsc::Sender<Event<PeerBlock>>,
    pub(crate) metrics: Metrics,
}

/// A thread, as its feeder sees it.
struct Worker {
    queue: mpsc::Sender<GossipEvent>,
    /// What it was given and has not handed on yet.
    in_hand: Arc<AtomicUsize>,
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
        let dispatch = self.dispatch(&mut transport, &workers);
        stop.run_until_cancelled(dispatch).await;
        drop((workers, transport));
        threads.close();
        threads.wait().await;
    }

    async fn dispatch(&self, transport: &mut mpsc::Receiver<GossipEvent>, workers: &[Worker]) {
        let mut allowance = Allowance::new(Instant::now());
        while let Some(event) = transport.recv().await {
            let (peer, size) = match &event {
                GossipEvent::Connected(info) => (info.pki_id, info.identity.len()),
                GossipEvent::Disconnected { pki_id, .. } => (*pki_id, 0),
                GossipEvent::IdentityChanged { old, .. } => (*old, 0),
                GossipEvent::Frame { from, bytes, .. } => (*from, bytes.len()),
            };
            let index = peer.last().map_or(0, |byte| usize::from(*byte)) % workers.len();
            let Some(worker) = workers.get(index) else {
                return;
            };
            let started = Instant::now();
            let inline = size <= MAX_INLINE && worker.is_idle() && allowance.is_left(started);
            let taken = if inline {
                let _hold = hold_of(&event);
                let event = self.translate(event);
                allowance.spend(started.elapsed());
                match event {
                    Some(event) => self.events.send(event).await.is_ok(),
                    None => true,
                }
            } else {
                worker.take(event).await
            };
            if !taken {
                return;
            }
        }
    }

    fn start_worker(self, threads: &TaskTracker) -> Worker {
        let (queue, mut receiver) = mpsc::channel(QUEUE);
        let in_hand = Arc::new(AtomicUsize::new(0));
        let done = in_hand.clone();
        threads.spawn_blocking(move || {
            while let Some(event) = receiver.blocking_recv() {
                let _hold = hold_of(&event);
                let event = self.translate(event);
                if event.is_some_and(|event| self.events.blocking_send(event).is_err()) {
                    return;
                }
                done.fetch_sub(1, Ordering::Release);
            }
        });
        Worker { queue, in_hand }
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
            .bytes_received(received.label())
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
        self.metrics.gossip().dropped(reason.reason()).inc();
        tracing::debug!(target: "gossip.gossip", peer = %from, "a message was dropped: {reason}");
    }
}

/// What keeps the peer's stream from bringing more until the core has this.
fn hold_of(event: &GossipEvent) -> Option<Hold> {
    match event {
        GossipEvent::Frame { hold, .. } => Some(hold.clone()),
        _ => None,
    }
}

impl Worker {
    /// Whether the core has, or has in its queue, all that this worker was given: what is handled elsewhere
    /// now does not overtake.
    fn is_idle(&self) -> bool {
        self.in_hand.load(Ordering::Acquire) == 0
    }

    /// `false`: it has ended.
    async fn take(&self, event: GossipEvent) -> bool {
        self.in_hand.fetch_add(1, Ordering::Relaxed);
        self.queue.send(event).await.is_ok()
    }
}

/// Processor time that may be spent where events come in: a twentieth of what passes, and after a pause
/// [`Self::MOST`] at once. Whoever has spent more owes it.
struct Allowance {
    left: Duration,
    owed: Duration,
    counted: Instant,
}

impl Allowance {
    const MOST: Duration = Duration::from_millis(5);

    fn new(now: Instant) -> Self {
        Self {
            left: Self::MOST,
            owed: Duration::ZERO,
            counted: now,
        }
    }

    fn is_left(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.counted) / 20;
        self.counted = now;
        let paid = earned.min(self.owed);
        self.owed -= paid;
        self.left = (self.left + (earned - paid)).min(Self::MOST);
        !self.left.is_zero()
    }

    fn spend(&mut self, time: Duration) {
        self.owed += time.saturating_sub(self.left);
        self.left = self.left.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_flood_gets_a_twentieth_of_the_time() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(now);
        let mut spent = 0;
        for _ in 0..2_000 {
            if allowance.is_left(now) {
                allowance.spend(MILLISECOND);
                spent += 1;
            }
            now += MILLISECOND;
        }
        assert!((100..=106).contains(&spent), "{spent} of 2000 ms");
    }

    #[test]
    fn what_one_message_took_too_much_is_owed() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        assert!(allowance.is_left(now));
        allowance.spend(100 * MILLISECOND);
        assert!(!allowance.is_left(now + 1_900 * MILLISECOND));
        assert!(allowance.is_left(now + 1_901 * MILLISECOND));
        // However long the pause, no more than this at once.
        let later = now + Duration::from_secs(60);
        assert!(allowance.is_left(later));
        allowance.spend(Allowance::MOST);
        assert!(!allowance.is_left(later));
    }
}
