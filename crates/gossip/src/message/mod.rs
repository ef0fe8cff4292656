//! Messages, from bytes to what the state machines take.
//!
//! ```text
//! frame --decode--> Received --verify--> Message --> core
//! ```
//!
//! [`decode`] bounds, parses and checks the tag (Fabric: `protoext.IsTagLegal`); it needs nothing but the
//! bytes. [`verify`] checks every signature: of the envelope, its secret envelope, and the envelopes
//! nested in membership messages, StateInfo snapshots and identity updates. Both run outside the core, in
//! parallel; the core takes [`Message`] only, whose signed parts are [`Verified`], which nothing but
//! [`verify`] makes. Blocks inside data messages are not verified here, since that needs the channel's
//! configuration: the core asks for it by [`Action::VerifyBlock`](crate::event::Action::VerifyBlock).

mod bounds;
mod build;
mod decode;
mod envelope;
mod error;
mod unreadable;
mod verify;

use std::ops::Deref;

use bytes::Bytes;
use selvedge_protos::gossip::{
    self, PrivateDataMessage, RemotePvtDataRequest, RemotePvtDataResponse,
};

pub use bounds::{MAX_ELEMENTS, MAX_FRAME_SIZE};
pub use build::{gossip_message, own_alive, own_leadership, own_peer_identity, own_state_info};
pub use decode::{Received, decode};
pub use envelope::Envelope;
pub use error::MessageError;
pub use verify::{Verification, check_sender, verify};

use crate::crypto::Identity;
use crate::types::{ChannelId, Endpoint, PeerTime, PkiId};

/// A signed part of a message whose signature was checked. Only [`verify`] and the local signer make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    content: T,
    envelope: Envelope,
    author: Identity,
}

impl<T> Verified<T> {
    /// A message that this peer has just signed.
    fn own(content: T, envelope: Envelope, author: Identity) -> Self {
        Self {
            content,
            envelope,
            author,
        }
    }

    /// Another content under the same signature, for tests of what does not look at it.
    #[cfg(test)]
    pub(crate) fn altered(mut self, alter: impl FnOnce(&mut T)) -> Self {
        alter(&mut self.content);
        self
    }

    /// The envelope that carried it, to be stored, forwarded and nested.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Who signed it.
    pub fn author(&self) -> &Identity {
        &self.author
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

/// "I am here", signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Its author.
    pub pki_id: PkiId,
    /// The external endpoint; empty if it has none.
    pub endpoint: Endpoint,
    /// From the secret, which only the own organisation sees.
    pub internal_endpoint: Option<Endpoint>,
    /// Fabric leaves this empty.
    pub metadata: Bytes,
    /// Incarnation and sequence.
    pub time: PeerTime,
}

/// What a peer says about itself in a channel, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateInfo {
    /// Its author.
    pub pki_id: PkiId,
    /// Names the channel to those who know its name: [`ChannelId::mac`].
    pub channel_mac: [u8; 32],
    /// Incarnation and sequence.
    pub time: PeerTime,
    /// Blocks in its ledger.
    pub ledger_height: u64,
    /// It has left the channel.
    pub left_channel: bool,
    /// Chaincodes that it can execute.
    pub chaincodes: Vec<gossip::Chaincode>,
}

/// A proposal or declaration of leadership, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Its author.
    pub pki_id: PkiId,
    /// Incarnation and sequence.
    pub time: PeerTime,
    /// Declaration, otherwise proposal.
    pub is_declaration: bool,
}

/// An identity announced by its owner, signed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its PKI-ID.
    pub pki_id: PkiId,
}

/// A block inside a data message: the claimed number, its bytes, and the envelope it came in. Not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedBlock {
    /// `seq_num` of the payload.
    pub number: u64,
    /// An encoded `common.Block`. Keeps no more than about twice its size in memory, nor does the envelope.
    pub bytes: Bytes,
    /// The unsigned envelope, to be forwarded and served.
    pub envelope: Envelope,
}

/// What is pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullKind {
    /// Blocks of a channel.
    Blocks(ChannelId),
    /// Identities.
    Identities,
}

/// A step of a pull. `T` is what an update carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullStep<T> {
    /// "What do you have?"
    Hello,
    /// "I have these."
    Digest(Vec<Bytes>),
    /// "Give me these."
    Request(Vec<Bytes>),
    /// "Here they are."
    Update(Vec<T>),
}

/// A pull message with the nonce that ties its conversation together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull<T> {
    /// The inner nonce.
    pub nonce: u64,
    /// Which step.
    pub step: PullStep<T>,
}

/// A block with private data, as in state responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePayload {
    /// The claimed number.
    pub number: u64,
    /// An encoded `common.Block`, not verified. Keeps no more than about twice its size in memory.
    pub bytes: Bytes,
    /// Encoded `PvtDataPayload`s, which keep the whole frame.
    pub private_data: Vec<Bytes>,
}

/// A message that may enter the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A sign of life, of anyone.
    Alive(Verified<Alive>),
    /// "Whom do you know?"
    MembershipRequest {
        /// Comes back in the response.
        nonce: u64,
        /// The asker about itself.
        asker: Box<Verified<Alive>>,
    },
    /// The answer.
    MembershipResponse {
        /// Of the request.
        nonce: u64,
        /// Alive messages of peers that are alive, as far as they verified.
        alive: Vec<Verified<Alive>>,
        /// Last alive messages of peers that are dead.
        dead: Vec<Verified<Alive>>,
    },
    /// Identity pull.
    IdentityPull(Pull<Verified<PeerIdentity>>),
    /// Block pull in a channel.
    BlockPull(ChannelId, Pull<UnverifiedBlock>),
    /// A pushed block.
    Block(ChannelId, UnverifiedBlock),
    /// StateInfo of anyone, in the channel that its MAC names.
    StateInfo(Box<Verified<StateInfo>>),
    /// "Whose StateInfo do you know?"
    StateInfoPullRequest {
        /// MAC of channel and asker.
        channel_mac: [u8; 32],
    },
    /// The answer.
    StateInfoSnapshot(ChannelId, Vec<Verified<StateInfo>>),
    /// "Give me blocks from start to end, both included."
    StateRequest {
        /// The channel.
        channel: ChannelId,
        /// Comes back in the response.
        nonce: u64,
        /// First block.
        start: u64,
        /// Last block.
        end: u64,
    },
    /// The answer.
    StateResponse {
        /// The channel.
        channel: ChannelId,
        /// Of the request.
        nonce: u64,
        /// The blocks; may be empty.
        payloads: Vec<StatePayload>,
    },
    /// Leader election.
    Leadership(ChannelId, Verified<Leadership>),
    /// Private data at endorsement, to be acknowledged.
    PrivateData(ChannelId, u64, Box<PrivateDataMessage>),
    /// A request for private data.
    PrivateRequest(ChannelId, u64, Box<RemotePvtDataRequest>),
    /// The answer.
    PrivateResponse(ChannelId, u64, Box<RemotePvtDataResponse>),
    /// An acknowledgement, with the nonce of what it acknowledges; the error is empty if all went well.
    Ack {
        /// Of the message.
        nonce: u64,
        /// Empty: accepted.
        error: String,
    },
    /// A keep-alive without content. Fabric ignores it.
    Empty,
}
