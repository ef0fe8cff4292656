//! Authenticated streams between peers: Fabric's `gossip.Gossip` service, both sides of it.
//!
//! A stream begins with a `ConnEstablish` from each side, sent without waiting for the other's: the
//! sender's PKI-ID, its identity, and the hash of the TLS certificate that it uses on this very
//! connection, signed. Whoever relays a handshake cannot relay the connection. After that the
//! stream carries opaque frames (encoded `gossip.Envelope`s) in both directions.
//!
//! [`GossipTransport`] keeps at most one stream in use for each PKI-ID, dials when there is
//! something to send, and reports what happens on one bounded channel of [`GossipEvent`]s. It
//! knows nothing about the meaning of frames, only in which [lane](selvedge_gossip::send_queue) of a peer's queue
//! each one waits.
//!
//! Source of the rules: Fabric's `gossip/comm`. What differs from it is said where it is done.

mod authentication;
mod limit;
mod metrics;
mod outbound;
mod peers;
mod queue;
mod service;
mod stream;
mod transport;
mod window;

pub use authentication::{HandshakeFailure, PeerAuthenticator, PeerIdentity, Refused};
pub use metrics::GossipMetrics;
pub use service::GossipService;
pub use transport::GossipTransport;
pub use window::Hold;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::connect::{ConnectError, ConnectOptions};

/// SHA-256 of a peer's identity: its name in gossip.
pub type PkiId = [u8; 32];

/// How streams behave. The defaults are core.yaml's.
#[derive(Debug, Clone)]
pub struct GossipOptions {
    /// Outgoing connections: `peer.gossip.dialTimeout` and the client keepalive.
    pub connect: ConnectOptions,
    /// `peer.gossip.connTimeout`: for the ping before a stream, and for the other side's
    /// `ConnEstablish`.
    pub handshake_timeout: Duration,
    /// `peer.gossip.sendBuffSize`: frames that wait for one peer.
    pub send_buffer: usize,
    /// Bytes that wait for one peer. A single frame may be larger.
    pub send_buffer_bytes: usize,
    /// `peer.gossip.recvBuffSize`: frames of one stream that the node has in hand ([`Hold`]), 16 MiB of
    /// them at most. With so many the stream is no longer read.
    pub receive_buffer: usize,
    /// The largest frame in either direction, bytes (`peer.maxRecvMsgSize`).
    pub max_frame: usize,
    /// Inbound handshakes at a time.
    pub max_handshakes: usize,
    /// Peers that are connected or being dialled at a time.
    pub max_peers: usize,
    /// How long a peer that could not be reached is left alone at first. Doubled with each failure.
    pub redial_initial: Duration,
    /// The longest such time.
    pub redial_max: Duration,
}

impl Default for GossipOptions {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            handshake_timeout: Duration::from_secs(2),
            send_buffer: 200,
            send_buffer_bytes: 2 * crate::MAX_MESSAGE_SIZE,
            receive_buffer: 20,
            max_frame: crate::MAX_MESSAGE_SIZE,
            max_handshakes: 128,
            max_peers: 4096,
            redial_initial: Duration::from_millis(500),
            redial_max: Duration::from_secs(10),
        }
    }
}

/// A peer to send to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Who it must be.
    pub pki_id: PkiId,
    /// Where it listens, `host:port`.
    pub endpoint: String,
}

/// What became of a frame that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// It waits for its turn, or for the connection.
    Queued,
    /// The peer's queue is full.
    DroppedFull,
    /// The peer could not be reached a moment ago, and it is too early to try again; or there is no stream, and
    /// its endpoint is not known.
    DroppedUnreachable,
    /// There are too many peers, or the transport has stopped, or the frame is too large.
    DroppedRefused,
}

/// A peer that has proven its identity on a stream.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// SHA-256 of its identity.
    pub pki_id: PkiId,
    /// Its MSP id.
    pub organization: String,
    /// Its serialized identity, as sent.
    pub identity: Bytes,
    /// The other end of the connection. For an inbound stream the port is not where it listens.
    pub address: SocketAddr,
    /// What was dialled, if this side dialled.
    pub endpoint: Option<String>,
    /// The signed handshake: bytes and signature. Fabric uses it to judge, by a channel's policies,
    /// whether the peer may read.
    pub signed_handshake: Bytes,
    /// The signature over `signed_handshake`.
    pub handshake_signature: Bytes,
}

/// For [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) fn check_handshake(
    authenticator: &dyn PeerAuthenticator,
    connection: &crate::TlsPeer,
    frame: Bytes,
) -> Result<PeerInfo, HandshakeFailure> {
    authentication::check(authenticator, connection, frame).map(|proven| proven.peer)
}

/// What happened on the streams, in order for each peer.
#[derive(Debug, Clone)]
pub enum GossipEvent {
    /// A stream to this peer is in use. Comes again when a new stream replaces the old one; then
    /// no `Disconnected` comes in between.
    Connected(PeerInfo),
    /// No stream to this peer is left, or there was something to send and none could be made.
    Disconnected {
        /// The peer.
        pki_id: PkiId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A peer was dialled by its old PKI-ID and proved a new one of the same organisation, as after
    /// a renewal of its certificate. What waited for the old one goes to the new one.
    IdentityChanged {
        /// The PKI-ID that was expected.
        old: PkiId,
        /// The PKI-ID that was proven.
        new: PkiId,
    },
    /// A message from an authenticated peer.
    Frame {
        /// Who sent it.
        from: PkiId,
        /// An encoded `gossip.Envelope`, as it was on the wire. Its content is not checked.
        bytes: Bytes,
        /// To be dropped when the node is done with the frame: its stream is not read without end while
        /// others wait.
        hold: Hold,
    },
}

/// Why a peer is no longer connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The peer ended the stream, or the connection broke.
    StreamEnded(String),
    /// It could not be dialled, or did not pass the handshake.
    Unreachable(String),
    /// This side closed it.
    Closed,
}

/// Why a peer could not be reached or trusted.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Connected, but the call failed.
    #[error("{endpoint}: {call} failed: {status}")]
    Call {
        /// What was dialled.
        endpoint: String,
        /// `Ping` or `GossipStream`.
        call: &'static str,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// Connected, but not who it should be.
    #[error("{endpoint}: {failure}")]
    Handshake {
        /// What was dialled.
        endpoint: String,
        /// What was wrong.
        failure: HandshakeFailure,
    },
    /// This side does not take more peers.
    #[error("{0} peers are connected, and no more are permitted")]
    TooManyPeers(usize),
    /// The peer has dialled this side meanwhile, so that no second stream is needed.
    #[error("the peer is connected already")]
    Superfluous,
    /// The transport is being stopped.
    #[error("the gossip transport has stopped")]
    Stopped,
}

#[cfg(test)]
mod tests;
