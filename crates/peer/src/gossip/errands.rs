//! What the core asks for and takes time: dials, verification, reads of the ledger. Each runs on its
//! own and reports by an event; how many run at a time is bounded, and what is beyond the bound fails
//! at once, which the core treats like any failure.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::BlockError;
use selvedge_gossip::crypto::{ChannelRef, Crypto, Identity};
use selvedge_gossip::event::{
    ArrivedBlock, DialOutcome, DialPurpose, Event, FrameClass as GossipClass,
};
use selvedge_gossip::types::{ChannelId, Endpoint, Peer};
use selvedge_transport::gossip::{FrameClass, GossipTransport, PeerAddress};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::PeerBlock;
use crate::channel::Channel;
use crate::logging::LogLimit;

/// Blocks that are being verified at a time.
const VERIFICATIONS: usize = 64;
/// Reads of the ledger for other peers at a time.
const READS: usize = 16;
/// Bytes of blocks in one answer to a peer, unless the first block alone is larger.
const READ_BYTES: usize = 32 << 20;
/// Dials at a time.
const DIALS: usize = 64;

/// Runs errands. Must be used within a tokio runtime.
pub struct Errands {
    transport: GossipTransport,
    crypto: Arc<dyn Crypto>,
    events: mpsc::Sender<Event<PeerBlock>>,
    tasks: TaskTracker,
    verifications: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    dials: Arc<Semaphore>,
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
            dials: Arc::new(Semaphore::new(DIALS)),
        }
    }

    /// Finds out who listens at an endpoint, or whether anybody does.
    pub fn dial(&self, endpoint: Endpoint, purpose: DialPurpose) {
        let (transport, crypto) = (self.transport.clone(), self.crypto.clone());
        let (events, dials) = (self.events.clone(), self.dials.clone());
        self.tasks.spawn(async move {
            let permit = dials.try_acquire_owned();
            let outcome = match (&permit, &purpose) {
                (Err(_), _) => DialOutcome::Failed,
                (Ok(_), DialPurpose::Identify) => identify(&transport, crypto, &endpoint).await,
                (Ok(_), DialPurpose::Ping(_)) => ping(&transport, &endpoint).await,
            };
            drop(permit);
            // The core has gone if this fails.
            let _ = events
                .send(Event::Dialed {
                    endpoint,
                    purpose,
                    outcome,
                })
                .await;
        });
    }

    /// Verifies a block by the rules in force in its channel.
    pub fn verify(&self, id: ChannelId, channel: &Channel, block: ArrivedBlock) {
        let Ok(permit) = self.verifications.clone().try_acquire_owned() else {
            return self.refuse(id, block);
        };
        let (verifier, events) = (channel.verifier(), self.events.clone());
        self.tasks.spawn_blocking(move || {
            let verified = verifier.verify_expecting(block.bytes.clone(), block.number);
            let event = match verified {
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
            };
            let _ = events.blocking_send(event);
            drop(permit);
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
        let answer = move |blocks| Event::BlocksRead {
            channel: id,
            to,
            nonce,
            start,
            blocks,
        };
        let Ok(permit) = self.reads.clone().try_acquire_owned() else {
            return self.tell(answer(Vec::new()));
        };
        let (ledger, events) = (channel.ledger().clone(), self.events.clone());
        self.tasks.spawn_blocking(move || {
            let blocks = read_blocks(&ledger, start, end);
            let _ = events.blocking_send(answer(blocks));
            drop(permit);
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
    crypto: Arc<dyn Crypto>,
    endpoint: &Endpoint,
) -> DialOutcome {
    match transport.probe(endpoint.as_str(), None).await {
        Ok(info) => match Identity::check(&info.identity, &*crypto) {
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

/// A class in the words of the transport.
pub fn class(class: GossipClass) -> FrameClass {
    match class {
        GossipClass::Control => FrameClass::Control,
        GossipClass::Bulk => FrameClass::Bulk,
    }
}
