//! What goes into a gossip node and what comes out: the whole interface between the protocol and the
//! world.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvedge_protos::gossip::{PrivateDataMessage, PvtDataDigest, PvtDataElement};

use crate::crypto::Identity;
use crate::message::{Envelope, Message};
use crate::private_data::{FetchPrivateData, Fetched, SendError, SendWithAck};
use crate::types::{ChannelId, Endpoint, OrgId, Peer, PkiId};

/// A verified block as the core sees it. The node wraps its own type, which only block verification can
/// make.
pub trait Payload: Clone {
    /// The number in its header.
    fn number(&self) -> u64;
    /// The encoded `common.Block` as it arrived.
    fn encoded(&self) -> &Bytes;
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Event<B> {
    /// An authenticated stream to a peer is open.
    Connected {
        /// Who it is, validated.
        identity: Identity,
        /// Where it was dialled; `None` if it dialled us.
        endpoint: Option<Endpoint>,
    },
    /// The stream ended. Says nothing about the peer's life.
    Disconnected(PkiId),
    /// Dialling or sending failed, and there was no other stream: the peer is presumed dead (Fabric: `PresumedDead`).
    /// What waited for it is given up by then, so no [`Action::Disconnect`] follows: there may be a stream since.
    Unreachable(PkiId),
    /// At the endpoint of a peer another one of the same organisation answered: the peer has a new
    /// certificate, and the old PKI-ID is gone (Fabric: `IdentitySwitch`).
    IdentityChanged {
        /// Who was expected.
        old: PkiId,
    },
    /// [`Action::Dial`] has ended.
    Dialed {
        /// Where.
        endpoint: Endpoint,
        /// What for.
        purpose: DialPurpose,
        /// What came of it.
        outcome: DialOutcome,
    },
    /// A verified message from the peer at the other end of a stream.
    Message {
        /// That peer.
        from: PkiId,
        /// What it sent.
        message: Message,
    },
    /// A channel was opened (its ledger exists).
    ChannelJoined(ChannelSetup),
    /// Its configuration changed.
    ChannelUpdated(ChannelSetup),
    /// The peer leaves a channel.
    ChannelLeft(ChannelId),
    /// Chaincodes that the peer can execute in a channel, for its StateInfo.
    Chaincodes(ChannelId, Vec<selvedge_protos::gossip::Chaincode>),
    /// A block came from an ordering node, verified. To be reported also of a block that came another way
    /// before: an elected leader of whom that is not heard gives way.
    BlockFromOrderer {
        /// The channel.
        channel: ChannelId,
        /// The block.
        block: B,
    },
    /// The ordering service has been out of reach for so long that an elected leader of this channel should
    /// give way (Fabric: `LeaderElectionService.Yield`). It does if there is somebody else to lead.
    OrdererUnreachable(ChannelId),
    /// [`Action::VerifyBlock`]: it is good.
    BlockVerified {
        /// The channel.
        channel: ChannelId,
        /// The verified block.
        block: B,
        /// As it was in the action.
        arrived: ArrivedBlock,
    },
    /// [`Action::VerifyBlock`]: it is not.
    BlockRefused {
        /// The channel.
        channel: ChannelId,
        /// As it was in the action.
        arrived: ArrivedBlock,
    },
    /// The ledger of a channel has `height` blocks now.
    Committed {
        /// The channel.
        channel: ChannelId,
        /// Blocks in the ledger.
        height: u64,
    },
    /// [`Action::ReadBlocks`]: the blocks that the ledger has, from `start` on without a gap; may be
    /// fewer than were asked for.
    BlocksRead {
        /// The channel.
        channel: ChannelId,
        /// As it was in the action.
        to: Peer,
        /// As it was in the action.
        nonce: u64,
        /// Number of the first.
        start: u64,
        /// Encoded blocks.
        blocks: Vec<Bytes>,
    },
    /// Configuration or revocation lists changed: every known identity of these organisations must prove
    /// itself again, and every one that comes within the next seconds, since it may have been checked before. The
    /// node answers [`Action::Revalidate`].
    Suspect(Vec<OrgId>),
    /// [`Action::Revalidate`]: this identity is no longer valid.
    IdentityRevoked(PkiId),
    /// [`Action::RecheckReaders`]: this peer is no reader of the channel any more.
    ReaderRefused {
        /// The channel.
        channel: ChannelId,
        /// The peer.
        peer: PkiId,
    },
    /// Push private data to other peers. The node answers [`Action::SendAcknowledged`], always.
    SendWithAck(SendWithAck),
    /// Ask other peers for private data. The node answers [`Action::PrivateDataFetched`], always.
    FetchPrivateData(FetchPrivateData),
    /// [`Action::StorePrivateData`] is done.
    PrivateDataStored {
        /// Who pushed it, as it was in the action.
        to: PkiId,
        /// As it was in the action.
        nonce: u64,
        /// What went wrong is told to that peer.
        stored: Result<(), String>,
    },
    /// [`Action::ReadPrivateData`]: what is here and the asker may have.
    PrivateDataRead {
        /// The channel.
        channel: ChannelId,
        /// The asker's PKI-ID.
        to: PkiId,
        /// As it was in the action.
        nonce: u64,
        /// With the digests as they were asked for; may be empty.
        elements: Vec<PvtDataElement>,
    },
    /// A deadline has passed.
    Wakeup,
}

/// What gossip must know of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSetup {
    /// Its name.
    pub channel: ChannelId,
    /// Sequence of the configuration; an older one than known is ignored.
    pub sequence: u64,
    /// The organisations in it, with their anchor peers.
    pub orgs: Vec<ChannelOrg>,
    /// Blocks in the ledger.
    pub height: u64,
    /// Whether blocks from ordering nodes are pushed to other peers
    /// (`peer.deliveryclient.blockGossipEnabled`, and not a BFT channel).
    pub block_gossip: bool,
}

/// An organisation of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOrg {
    /// Its MSP id.
    pub org: OrgId,
    /// Its anchor peers.
    pub anchor_peers: Vec<Endpoint>,
}

/// How a block reached this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arrival {
    /// From an ordering node.
    Orderer,
    /// Pushed by a peer.
    Push,
    /// Pulled after a digest.
    Pull,
    /// By state transfer.
    StateTransfer,
}

/// A block that a peer sent, not yet verified. It goes out in [`Action::VerifyBlock`] and comes back with
/// the verdict, so that the core keeps nothing in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivedBlock {
    /// The number that the sender claims; verification must insist on it.
    pub number: u64,
    /// The encoded `common.Block`.
    pub bytes: Bytes,
    /// The gossip envelope around it, to be forwarded; `None` after state transfer.
    pub envelope: Option<Envelope>,
    /// Who sent it.
    pub from: PkiId,
    /// How.
    pub how: Arrival,
}

/// Why an endpoint is dialled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DialPurpose {
    /// To learn who listens there: a probe handshake, whose stream ends at once (Fabric:
    /// `comm.Handshake`).
    Identify,
    /// To learn whether a peer that was dead is back: a gRPC `Ping` is enough (Fabric: `comm.Probe`).
    Ping(PkiId),
}

/// What came of [`Action::Dial`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialOutcome {
    /// Nobody answered, or nobody whose identity is valid.
    Failed,
    /// Somebody answered a ping.
    Answered,
    /// This peer answered the probe handshake.
    Identified(Identity),
}

/// What the outside is asked to do. The core never waits for any of it.
#[derive(Clone, Debug)]
pub enum Action<B> {
    /// Send on the stream to a peer, opening one if there is none.
    Send {
        /// To whom; the stream must be to that PKI-ID.
        to: Peer,
        /// An encoded `gossip.Envelope`.
        frame: Bytes,
        /// What it is: for the queue's policy and the counters.
        kind: FrameKind,
        /// The channel that it names, so that channels get their turns on the way to a peer. Whatever is
        /// [bulk](FrameClass::Bulk) has one.
        channel: Option<ChannelId>,
    },
    /// Dial an endpoint and report by [`Event::Dialed`], always, also after a timeout.
    Dial {
        /// Where.
        endpoint: Endpoint,
        /// What for.
        purpose: DialPurpose,
    },
    /// Close the stream to a peer.
    Disconnect {
        /// Which.
        peer: PkiId,
        /// Why, for the log.
        reason: &'static str,
    },
    /// Verify a block that a peer sent and report by [`Event::BlockVerified`] or
    /// [`Event::BlockRefused`]. The number must be the claimed one.
    VerifyBlock {
        /// The channel.
        channel: ChannelId,
        /// The block.
        block: ArrivedBlock,
    },
    /// Hand the next block of a channel to the committer. Numbers are consecutive from the ledger's
    /// height on.
    Deliver {
        /// The channel.
        channel: ChannelId,
        /// The block.
        block: B,
        /// How it came.
        how: Arrival,
        /// From the first sign of it that this peer had (an announcement, a published height, a later block,
        /// at the latest its own coming) until it was here and verified. Nothing if it came from an ordering
        /// node before any sign.
        delay: Duration,
    },
    /// Read blocks from the ledger for another peer and report by [`Event::BlocksRead`].
    ReadBlocks {
        /// The channel.
        channel: ChannelId,
        /// Who asks.
        to: Peer,
        /// Of the request.
        nonce: u64,
        /// First number.
        start: u64,
        /// Last number, included; the core has bounded it.
        end: u64,
    },
    /// This peer was elected, or leads no longer: from now on it is, or is not, the one of its organisation
    /// that fetches the channel's blocks from the ordering service. Follows only where
    /// [`use_leader_election`](crate::config::Config::use_leader_election) is set; before the first one this
    /// peer does not lead.
    LeadershipChanged {
        /// The channel.
        channel: ChannelId,
        /// Whether it leads.
        leads: bool,
    },
    /// [`Event::SendWithAck`] has ended.
    SendAcknowledged {
        /// As it was in the event.
        id: u64,
        /// Whether enough peers have acknowledged it.
        result: Result<(), SendError>,
    },
    /// [`Event::FetchPrivateData`] has ended.
    PrivateDataFetched {
        /// As it was in the event.
        id: u64,
        /// What came of it.
        fetched: Fetched,
    },
    /// Store private data that a peer pushed, in the transient store, and report by
    /// [`Event::PrivateDataStored`], always.
    StorePrivateData {
        /// The channel.
        channel: ChannelId,
        /// Who pushed it.
        from: PkiId,
        /// Of the message.
        nonce: u64,
        /// It has a payload with a write-set.
        data: Box<PrivateDataMessage>,
    },
    /// Read private data for another peer, as far as that one may have it, and report by
    /// [`Event::PrivateDataRead`], always.
    ReadPrivateData {
        /// The channel.
        channel: ChannelId,
        /// Who asks.
        asker: Identity,
        /// Of the request.
        nonce: u64,
        /// What it asks for.
        digests: Vec<PvtDataDigest>,
    },
    /// A new identity: verifiers may use it from now on.
    IdentityLearned(Identity),
    /// An identity must not be used any more.
    IdentityPurged(PkiId),
    /// Validate an identity again; report by [`Event::IdentityRevoked`] if it fails.
    Revalidate(Identity),
    /// The configuration of a channel has changed: check that its peers are still readers
    /// ([`Crypto::check_reader`](crate::crypto::Crypto::check_reader)) and report those that are not by
    /// [`Event::ReaderRefused`].
    RecheckReaders {
        /// The channel.
        channel: ChannelId,
        /// Those that have published a StateInfo, except this peer.
        peers: Vec<Identity>,
    },
    /// Something for the log and the metrics.
    Notice(Notice),
}

/// What operators want to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A peer became alive.
    PeerAlive(PkiId),
    /// A peer is taken for dead.
    PeerDead {
        /// Which.
        peer: PkiId,
        /// What speaks for it.
        reason: &'static str,
    },
    /// A peer was removed from membership.
    PeerForgotten(PkiId),
    /// Peers of a channel changed since the last look (Fabric's "Membership view has changed").
    MembershipChanged {
        /// The channel.
        channel: ChannelId,
        /// Who came.
        online: Vec<PkiId>,
        /// Who went.
        offline: Vec<PkiId>,
    },
    /// Another peer of our organisation leads a channel now, or nobody is known to.
    LeaderChanged {
        /// The channel.
        channel: ChannelId,
        /// Who leads; may be this peer.
        leader: Option<PkiId>,
    },
    /// The ledger has stood still while other peers say to have blocks which nobody keeps for pull any more. State
    /// transfer is off and this peer does not lead, so they will not come.
    LeftBehind {
        /// The channel.
        channel: ChannelId,
        /// How many blocks it lacks.
        blocks: u64,
    },
    /// Somebody else sends alive messages with this peer's PKI-ID from other endpoints.
    SameIdentityElsewhere {
        /// Its external endpoint.
        endpoint: Endpoint,
    },
    /// A bootstrap or anchor peer is given up, or is not what it was said to be.
    ConnectFailed {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        reason: Arc<str>,
    },
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum FrameKind {
    Alive,
    /// Alive messages that are passed on together; see [`extension`](crate::extension).
    AliveBundle,
    MembershipRequest,
    MembershipResponse,
    Hello,
    Digest,
    Request,
    IdentityUpdate,
    BlockUpdate,
    Block,
    StateInfo,
    StateInfoPullRequest,
    StateInfoSnapshot,
    StateRequest,
    StateResponse,
    Leadership,
    PrivateData,
    PrivateRequest,
    PrivateResponse,
    Ack,
}

/// How a send queue treats a frame when it is short of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameClass {
    /// Says who is alive and who leads: if it comes late, the living are taken for dead. Sent first, dropped last.
    Liveness,
    /// Small, keeps the conversations going.
    Control,
    /// Large, and the receiver can ask again: sent last, dropped first.
    Bulk,
}

impl FrameClass {
    /// All, in the order in which they are sent.
    pub const ALL: [Self; 3] = [Self::Liveness, Self::Control, Self::Bulk];
}

impl FrameKind {
    /// Its class: whatever carries blocks or private data is bulk.
    pub fn class(self) -> FrameClass {
        match self {
            Self::Alive
            | Self::AliveBundle
            | Self::MembershipRequest
            | Self::MembershipResponse
            | Self::Leadership => FrameClass::Liveness,
            Self::Block
            | Self::BlockUpdate
            | Self::StateResponse
            | Self::PrivateData
            | Self::PrivateResponse => FrameClass::Bulk,
            _ => FrameClass::Control,
        }
    }

    /// A short name for labels of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::AliveBundle => "alive_bundle",
            Self::MembershipRequest => "membership_request",
            Self::MembershipResponse => "membership_response",
            Self::Hello => "hello",
            Self::Digest => "digest",
            Self::Request => "request",
            Self::IdentityUpdate => "identity_update",
            Self::BlockUpdate => "block_update",
            Self::Block => "block",
            Self::StateInfo => "state_info",
            Self::StateInfoPullRequest => "state_info_pull_request",
            Self::StateInfoSnapshot => "state_info_snapshot",
            Self::StateRequest => "state_request",
            Self::StateResponse => "state_response",
            Self::Leadership => "leadership",
            Self::PrivateData => "private_data",
            Self::PrivateRequest => "private_request",
            Self::PrivateResponse => "private_response",
            Self::Ack => "ack",
        }
    }
}
