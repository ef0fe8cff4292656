//! Private data between peers: pushed at endorsement and acknowledged, asked for at commit and afterwards.
//!
//! ```text
//! endorser  Event::SendWithAck -----> PrivateData ----> Action::StorePrivateData   other peer
//!           Action::SendAcknowledged <---- Ack <------- Event::PrivateDataStored
//!
//! committer Event::FetchPrivateData -> PrivateRequest -> Action::ReadPrivateData   other peer
//!           Action::PrivateDataFetched <- PrivateResponse <- Event::PrivateDataRead
//! ```
//!
//! The core chooses peers, counts acknowledgements, matches responses to requests and keeps the time.
//! What the data is, where it is kept, and who may have it is known outside: of a collection the core knows
//! nothing but an [`Eligibility`], by which the outside says which peers may have it.
//!
//! - **Push** (`push`; Fabric: `SendByCriteria`, `comm.SendWithAck`, `privdata/distributor.go`): a message
//!   goes to eligible peers of the channel, one of each organisation first, then any, and counts as sent
//!   when enough of them have acknowledged it. The nonce of message and acknowledgement is the same.
//! - **Fetch** (`fetch`; Fabric: `privdata/pull.go`): each missing item is asked of a preferred peer (the
//!   endorsers; for reconciliation those that were members of the collection when the data was made),
//!   then of any eligible one, until somebody has it or nobody is left. Reconciliation is the same with
//!   digests that name no transaction.
//! - **What others push and ask for** goes outside at once and comes back with the answer. Whoever pushes or
//!   asks must be of an organisation of the channel; whether it may have what it asks for is for the
//!   outside to say, which gets its identity. A push without a write-set is dropped without an
//!   acknowledgement, as in Fabric.
//!
//! None of these messages is signed: the stream says whom they are of. None is passed on.
//!
//! # Differences from Fabric, on purpose
//!
//! - **A push succeeds when any `min_acks` peers have acknowledged it.** Fabric's distributor names in advance
//!   the peers of which each must acknowledge, though it notes that this would be better. It also waits
//!   for those that need not; here the result is there as soon as it is certain.
//! - **One message with one nonce** goes to all peers of a push. Fabric sends a message of its own to each.
//! - **A peer that cannot be reached is not waited for**, neither for an acknowledgement nor for a response.
//! - **Items that a peer does not have are asked of the next at once.** Fabric waits for the slowest of all
//!   peers that were asked (up to 5 s) before it asks others.
//! - **A response counts only from the peer that was asked, with the nonce of the request, for what it was
//!   asked for.** Fabric looks at the digest alone.
//! - **Bounds** that Fabric does not have: on what other peers push and ask for at a time (all together and
//!   each), on pushes and fetches under way, and on the bytes that one fetch keeps.
//!
//! # Not here yet
//!
//! Private data in state responses; see [`crate::state_transfer`].

mod eligibility;
mod fetch;
mod push;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    Acknowledgement, PrivateDataMessage, PvtDataDigest, PvtDataElement, RemotePvtDataRequest,
    RemotePvtDataResponse,
};

use self::fetch::Fetches;
use self::push::Pushes;
use crate::admission::Admission;
use crate::channel::{ChannelContext, Channels};
use crate::counters::DropReason;
use crate::event::{Action, FrameKind, Payload};
use crate::message::{Message, gossip_message};
use crate::types::{ChannelId, PkiId};

pub use eligibility::{Eligibility, Everybody, Organisations};

/// Pushes of others that are being stored at a time.
const MAX_STORES: usize = 1_000;
/// The same for one peer.
const MAX_STORES_OF_A_PEER: usize = 100;
/// Requests of others that are being answered at a time.
const MAX_READS: usize = 200;
/// The same for one peer.
const MAX_READS_OF_A_PEER: usize = 20;
/// A response is cut before it grows beyond this. Go peers accept messages of 100 MiB.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Private data to be pushed.
#[derive(Clone, Debug)]
pub struct SendWithAck {
    /// Comes back with the result.
    pub id: u64,
    /// The channel.
    pub channel: ChannelId,
    /// The message.
    pub data: Box<PrivateDataMessage>,
    /// Who may have it.
    pub eligible: Arc<dyn Eligibility>,
    /// To how many peers at most it goes (`maxPeerCount` of the collection); 0: to nobody, which succeeds.
    pub max_peers: usize,
    /// How many must acknowledge it (`requiredPeerCount`).
    pub min_acks: usize,
    /// How long acknowledgements are waited for (`pvtData.pushAckTimeout`).
    pub timeout: Duration,
}

/// Why a push failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This peer is not in the channel.
    #[error("requested to send for channel {0}, but no such channel exists")]
    UnknownChannel(ChannelId),
    /// Too few eligible peers are known.
    #[error(
        "required to disseminate to at least {required} peers, but know of only {found} eligible peers"
    )]
    TooFewPeers {
        /// That many must acknowledge.
        required: usize,
        /// That many would be sent to.
        found: usize,
    },
    /// Too few peers have acknowledged.
    #[error("{acknowledged} of {required} required peers acknowledged; the others: {failures:?}")]
    TooFewAcks {
        /// That many must.
        required: usize,
        /// That many did.
        acknowledged: usize,
        /// What became of the others.
        failures: Vec<(PkiId, AckFailure)>,
    },
    /// Too many pushes are under way.
    #[error("{0} pushes of private data are under way, more are not started")]
    TooMany(usize),
}

/// Why a peer did not acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckFailure {
    /// It could not store what it was sent, and says why.
    Refused(String),
    /// It did not answer in time.
    TimedOut,
    /// It cannot be reached.
    Unreachable,
}

/// Private data to be fetched from other peers.
#[derive(Clone, Debug)]
pub struct FetchPrivateData {
    /// Comes back with the result.
    pub id: u64,
    /// The channel.
    pub channel: ChannelId,
    /// What is missing.
    pub items: Vec<MissingItem>,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// Private writes of one transaction to one collection.
#[derive(Clone, Debug)]
pub struct MissingItem {
    /// What to ask for; the transaction id is empty in reconciliation.
    pub digest: PvtDataDigest,
    /// Who is asked first.
    pub preferred: Arc<dyn Eligibility>,
    /// Who is asked next: the members of the collection.
    pub eligible: Arc<dyn Eligibility>,
    /// The ledger height from which on others have purged it: its block and the collection's `blockToLive`, less
    /// `pvtData.btlPullMargin`. `None`: it is never purged.
    pub purged_at: Option<u64>,
}

/// What came of a fetch. Each item is in one of the lists. Whether the elements are what was committed to is
/// not known; their hashes must be checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetched {
    /// What other peers had.
    pub elements: Vec<PvtDataElement>,
    /// What has been purged, or is about to be, at a peer that may have had it.
    pub purged: Vec<PvtDataDigest>,
    /// What nobody had.
    pub missing: Vec<PvtDataDigest>,
}

/// The state machine. See the module's documentation.
#[derive(Debug)]
pub struct PrivateData {
    pushes: Pushes,
    fetches: Fetches,
    stores: Admission,
    reads: Admission,
}

impl Default for PrivateData {
    fn default() -> Self {
        Self {
            pushes: Pushes::default(),
            fetches: Fetches::default(),
            stores: Admission::new(MAX_STORES, MAX_STORES_OF_A_PEER),
            reads: Admission::new(MAX_READS, MAX_READS_OF_A_PEER),
        }
    }
}

impl PrivateData {
    /// Pushes private data to other peers.
    pub fn send<B: Payload>(
        &mut self,
        send: SendWithAck,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.pushes.start(send, channels, c);
    }

    /// Asks other peers for private data.
    pub fn fetch<B: Payload>(
        &mut self,
        fetch: FetchPrivateData,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.fetches.start(fetch, channels, c);
    }

    /// Handles a message of private data, or an acknowledgement; gives any other back.
    pub fn handle<B: Payload>(
        &mut self,
        from: PkiId,
        message: Message,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Option<Message> {
        match message {
            Message::Ack { nonce, error } => self.pushes.on_ack(from, nonce, error, c),
            Message::PrivateData(channel, nonce, data) => {
                if channels.admits(&channel, &from, c) {
                    self.on_push(from, channel, nonce, data, c);
                }
            }
            Message::PrivateRequest(channel, nonce, request) => {
                if channels.admits(&channel, &from, c) {
                    self.on_request(from, channel, nonce, *request, c);
                }
            }
            Message::PrivateResponse(channel, nonce, response) => {
                if channels.admits(&channel, &from, c) {
                    let elements = response.elements;
                    self.fetches.on_response(from, nonce, elements, channels, c);
                }
            }
            other => return Some(other),
        }
        None
    }

    fn on_push<B>(
        &mut self,
        from: PkiId,
        channel: ChannelId,
        nonce: u64,
        data: Box<PrivateDataMessage>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let written = data.payload.as_ref().map(|payload| &payload.private_rwset);
        if written.is_none_or(bytes::Bytes::is_empty) {
            return c.ctx.dropped(DropReason::Malformed);
        }
        if !self.stores.admit(from) {
            return c.ctx.dropped(DropReason::PrivateDataFull);
        }
        c.ctx.counters.private_data.received += 1;
        (c.out)(Action::StorePrivateData {
            channel,
            from,
            nonce,
            data,
        });
    }

    /// What a peer pushed was stored, or not: it is told.
    pub fn on_stored<B>(
        &mut self,
        to: PkiId,
        nonce: u64,
        stored: Result<(), String>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        if self.stores.done(&to) {
            let error = stored.err().unwrap_or_default();
            let content = Content::Ack(Acknowledgement { error });
            let message = gossip_message(Tag::Undefined, None, nonce, content);
            c.send(to, &message, FrameKind::Ack);
        }
    }

    fn on_request<B>(
        &mut self,
        from: PkiId,
        channel: ChannelId,
        nonce: u64,
        request: RemotePvtDataRequest,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let Some(asker) = c.ctx.identities.get(&from).cloned() else {
            return c.ctx.dropped(DropReason::UnknownIdentity);
        };
        if !self.reads.admit(from) {
            return c.ctx.dropped(DropReason::PrivateDataFull);
        }
        (c.out)(Action::ReadPrivateData {
            channel,
            asker,
            nonce,
            digests: request.digests,
        });
    }

    /// What a peer asked for was read, as far as it is here and the peer may have it. Its organisation may
    /// have been removed from the channel since it asked.
    pub fn on_read<B: Payload>(
        &mut self,
        channel: &ChannelId,
        to: PkiId,
        nonce: u64,
        mut elements: Vec<PvtDataElement>,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        if !self.reads.done(&to) || !channels.admits(channel, &to, c) {
            return;
        }
        let mut bytes = 0_usize;
        elements.retain(|element| {
            let sum = bytes.saturating_add(element.encoded_len());
            let fits = sum <= MAX_RESPONSE_BYTES;
            if fits {
                bytes = sum;
            }
            fits
        });
        c.ctx.counters.private_data.served += 1;
        let content = Content::PrivateRes(RemotePvtDataResponse { elements });
        let message = gossip_message(Tag::ChanOnly, Some(channel), nonce, content);
        c.send(to, &message, FrameKind::PrivateResponse);
    }

    /// A peer cannot be reached, or is gone for good.
    pub fn unreachable<B: Payload>(
        &mut self,
        peer: &PkiId,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.pushes.unreachable(peer, c);
        self.fetches.unreachable(peer, channels, c);
    }

    /// Does what is due.
    pub fn wake<B: Payload>(&mut self, channels: &Channels<B>, c: &mut ChannelContext<'_, '_, B>) {
        self.pushes.wake(c);
        self.fetches.wake(channels, c);
    }

    /// When [`Self::wake`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.pushes.next_deadline(), self.fetches.next_deadline()];
        deadlines.into_iter().flatten().min()
    }
}
