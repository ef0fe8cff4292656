//! What the core asks for and takes time: dials, verification, reads of the ledger. Each runs on its
//! own and reports by an event. How many run at a time is bounded; the others wait for their turn, in the order
//! in which they came. For what waits the core has bounds of its own: blocks and their bytes that are being
//! verified, requests for blocks of each peer, members that are taken for dead.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::BlockError;
use selvedge_gossip::crypto::{ChannelRef, Crypto, Identity};
use selvedge_gossip::event::{ArrivedBlock, DialOutcome, DialPurpose, Event};
use selvedge_gossip::types::{ChannelId, Endpoint, Peer};
use selvedge_transport::gossip::{GossipTransport, PeerAddress};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::PeerBlock;
use super::dials::Dials;
use crate::channel::Channel;
use crate::logging::LogLimit;

/// Blocks that are being verified at a time.
const VERIFICATIONS: usize = 64;
/// Reads of the ledger for other peers at a time.
const READS: usize = 16;
/// Bytes of blocks in one answer to a peer, unless the first block alone is larger.
const READ_BYTES: usize = 32 << 20;

/// Runs errands. Must be used within a tokio runtime.
pub struct Errands {
    transport: GossipTransport,
    crypto: Arc<dyn Crypto>,
    events: mpsc::Sender<Event<PeerBlock>>,
    tasks: TaskTracker,
    verifications: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    dials: Dials,
}

impl Errands {
    /// `events` gets the results. Errands run as `tasks` and end soon after their receiver has gone.
    pub fn new(
        transport: GossipTransport,
        crypto: Arc<dyn Crypto>,
        events: mpsc::Sender<Event<PeerBlock>>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            transport,
            crypto,
            events,
            tasks,
            verifications: Arc::new(Semaphore::new(VERIFICATIONS)),
            reads: Arc::new(Semaphore::new(READS)),
            dials: Dials::default(),
        }
    }

    /// Finds out who listens at an endpoint, or whether anybody does. The same dial twice at a time is one.
    pub fn dial(&self, endpoint: Endpoint, purpose: DialPurpose) {
        if !self.dials.add(endpoint, purpose) {
            return;
        }
        let (transport, crypto) = (self.transport.clone(), self.crypto.clone());
        let (events, dials) = (self.events.clone(), self.dials.clone());
        self.tasks.spawn(async move {
            while let Some(dial) = dials.next() {
                let (endpoint, purpose) = &dial;
                let outcome = match purpose {
                    DialPurpose::Identify => identify(&transport, &*crypto, endpoint).await,
                    DialPurpose::Ping(_) => ping(&transport, endpoint).await,
                };
                dials.done(&dial);
                let (endpoint, purpose) = dial;
                let dialed = Event::Dialed {
                    endpoint,
                    purpose,
                    outcome,
                };
                if events.send(dialed).await.is_err() {
                    // The core has gone.
                    return;
                }
            }
        });
    }

    /// Verifies a block by the rules in force in its channel.
    pub fn verify(&self, id: ChannelId, channel: &Channel, block: ArrivedBlock) {
        let verifier = channel.verifier();
        in_turn(&self.verifications, &self.tasks, &self.events, move || {
            let verified = verifier.verify_expecting(block.bytes.clone(), block.number);
            match verified {
                Ok(verified) => Event::BlockVerified {
                    channel: id,
                    block: verified.into(),
                    arrived: block,
                },
                Err(reason) => {
                    log_refused_block(&block, &reason);
                    Event::BlockRefused {
                        channel: id,
                        arrived: block,
                    }
                }
            }
        });
    }

    /// Reports a block as refused that cannot be verified now.
    pub fn refuse(&self, channel: ChannelId, arrived: ArrivedBlock) {
        self.tell(Event::BlockRefused { channel, arrived });
    }

    /// Reads blocks `start..=end` for another peer, as far as the ledger has them and they fit into one
    /// answer.
    pub fn read(
        &self,
        id: ChannelId,
        channel: &Channel,
        to: Peer,
        nonce: u64,
        start: u64,
        end: u64,
    ) {
        let ledger = channel.ledger().clone();
        in_turn(&self.reads, &self.tasks, &self.events, move || {
            Event::BlocksRead {
                channel: id,
                to,
                nonce,
                start,
                blocks: read_blocks(&ledger, start, end),
            }
        });
    }

    /// Holds identities against the rules in force now. There may be thousands.
    pub fn revalidate(&self, identities: Vec<Identity>) {
        let (crypto, events) = (self.crypto.clone(), self.events.clone());
        self.tasks.spawn_blocking(move || {
            for identity in identities {
                if crypto.validate(identity.serialized()).is_ok() {
                    continue;
                }
                let event = Event::IdentityRevoked(identity.pki_id());
                if events.blocking_send(event).is_err() {
                    return;
                }
            }
        });
    }

    /// Holds peers against a channel's Readers policy in force now.
    pub fn recheck_readers(&self, channel: ChannelId, peers: Vec<Identity>) {
        let (crypto, events) = (self.crypto.clone(), self.events.clone());
        self.tasks.spawn_blocking(move || {
            for peer in peers {
                let Err(refusal) = crypto.check_reader(&peer, ChannelRef::Name(&channel)) else {
                    continue;
                };
                let pki_id = peer.pki_id();
                tracing::warn!(
                    target: "gossip.channel",
                    "Peer {pki_id:?} isn't eligible for channel {channel} : {refusal}"
                );
                let event = Event::ReaderRefused {
                    channel: channel.clone(),
                    peer: pki_id,
                };
                if events.blocking_send(event).is_err() {
                    return;
                }
            }
        });
    }

    /// Puts an event behind those that wait.
    pub fn tell(&self, event: Event<PeerBlock>) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let _ = events.send(event).await;
        });
    }
}

/// Does work that blocks when it has one of the `places`, and reports what comes of it. What still waits when
/// nobody listens to `events` any more is not done.
fn in_turn<E: Send + 'static>(
    places: &Arc<Semaphore>,
    tasks: &TaskTracker,
    events: &mpsc::Sender<E>,
    work: impl FnOnce() -> E + Send + 'static,
) {
    let (places, events) = (places.clone(), events.clone());
    let report = events.clone();
    let run = move |place: OwnedSemaphorePermit| {
        let _ = report.blocking_send(work());
        drop(place);
    };
    if let Ok(place) = places.clone().try_acquire_owned() {
        tasks.spawn_blocking(move || run(place));
        return;
    }
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = events.closed() => {}
            place = places.acquire_owned() => {
                if let Ok(place) = place {
                    // Awaited, since those who wait for `tasks` wait for this too.
                    let _ = tokio::task::spawn_blocking(move || run(place)).await;
                }
            }
        }
    });
}

fn log_refused_block(block: &ArrivedBlock, reason: &BlockError) {
    static REFUSED: LogLimit = LogLimit::every_seconds(5);
    if let Some(suppressed) = REFUSED.pass() {
        tracing::warn!(
            target: "gossip.state", peer = %block.from, suppressed,
            "Received a block that does not pass verification: {reason}"
        );
    }
}

async fn identify(
    transport: &GossipTransport,
    crypto: &dyn Crypto,
    endpoint: &Endpoint,
) -> DialOutcome {
    match transport.probe(endpoint.as_str(), None).await {
        Ok(info) => match Identity::check(&info.identity, crypto) {
            Ok(identity) => DialOutcome::Identified(identity),
            Err(_) => DialOutcome::Failed,
        },
        Err(reason) => {
            tracing::debug!(target: "gossip.comm", "{reason}");
            DialOutcome::Failed
        }
    }
}

/// Whoever answers there is good news: a peer whose certificate was renewed comes back with another PKI-ID, which
/// the transport finds out when the peer is sent to.
async fn ping(transport: &GossipTransport, endpoint: &Endpoint) -> DialOutcome {
    match transport.probe(endpoint.as_str(), None).await {
        Ok(_) => DialOutcome::Answered,
        Err(_) => DialOutcome::Failed,
    }
}

fn read_blocks(ledger: &selvedge_ledger::BlockStore, start: u64, end: u64) -> Vec<Bytes> {
    let mut blocks = Vec::new();
    let mut bytes = 0_usize;
    // It may have been joined by a snapshot; those before are asked for in vain.
    if start < ledger.first_block() {
        return blocks;
    }
    for number in start..=end {
        match ledger.block_bytes(number) {
            Ok(Some(block)) if blocks.is_empty() || bytes + block.len() <= READ_BYTES => {
                bytes += block.len();
                blocks.push(block);
            }
            Ok(_) => break,
            Err(reason) => {
                tracing::error!(target: "gossip.state", "a block for another peer cannot be read: {reason}");
                break;
            }
        }
    }
    blocks
}

/// A peer in the words of the transport.
pub fn address(peer: &Peer) -> PeerAddress {
    PeerAddress {
        pki_id: peer.pki_id.0,
        endpoint: peer.endpoint.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc as blocking;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_beyond_the_bound_is_done_in_turn() {
        let (places, tasks) = (Arc::new(Semaphore::new(2)), TaskTracker::new());
        let (events, mut done) = mpsc::channel(1);
        let running = Arc::new(AtomicUsize::new(0));
        for number in 0..20 {
            let running = running.clone();
            in_turn(&places, &tasks, &events, move || {
                let others = running.fetch_add(1, Ordering::SeqCst);
                running.fetch_sub(1, Ordering::SeqCst);
                (number, others)
            });
        }
        let mut numbers = Vec::new();
        for _ in 0..20 {
            let (number, others) = done.recv().await.unwrap();
            assert!(others < 2, "{others} others ran at the same time");
            numbers.push(number);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_waits_when_the_core_has_gone_is_not_done() {
        let (places, tasks) = (Arc::new(Semaphore::new(1)), TaskTracker::new());
        let (events, core) = mpsc::channel(1);
        let (go, hold) = blocking::channel::<()>();
        let done = Arc::new(AtomicUsize::new(0));
        let counted = done.clone();
        in_turn(&places, &tasks, &events, move || {
            let _ = hold.recv();
            counted.fetch_add(1, Ordering::SeqCst);
        });
        for _ in 0..10 {
            let counted = done.clone();
            in_turn(&places, &tasks, &events, move || {
                counted.fetch_add(1, Ordering::SeqCst);
            });
        }
        drop(core);
        drop(go);
        tasks.close();
        let ended = tokio::time::timeout(Duration::from_secs(60), tasks.wait()).await;
        assert!(ended.is_ok(), "nothing is left behind");
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }
}
