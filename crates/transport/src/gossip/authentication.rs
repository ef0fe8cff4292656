//! The handshake's content: what a `ConnEstablish` must prove.
//!
//! Rules of `authenticateRemotePeer` in Fabric's gossip/comm/comm_impl.go.

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::gossip::{ConnEstablish, Envelope, GossipMessage, gossip_message};

use super::{PeerInfo, PkiId};
use crate::io::TlsPeer;

/// How this node knows identities; given by the node, which has the MSPs.
pub trait PeerAuthenticator: Send + Sync + 'static {
    /// This node's serialized identity.
    fn own_identity(&self) -> Bytes;

    /// This node's PKI-ID.
    fn own_pki_id(&self) -> PkiId;

    /// Signs with this node's key.
    fn sign(&self, message: &[u8]) -> Result<Bytes, Refused>;

    /// Judges an identity: is it well formed, of a known organisation, valid now?
    fn identify(&self, identity: &Bytes) -> Result<PeerIdentity, Refused>;

    /// Checks a signature by an identity that [`identify`](Self::identify) has accepted.
    fn verify(&self, identity: &Bytes, message: &[u8], signature: &[u8]) -> Result<(), Refused>;

    /// The MSP id of a peer that is known already.
    fn organization_of(&self, pki_id: &PkiId) -> Option<String>;
}

/// Why an identity or a signature does not count, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// An accepted identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// SHA-256 of the identity.
    pub pki_id: PkiId,
    /// Its MSP id.
    pub organization: String,
}

/// What was wrong with a handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFailure {
    /// The other side is silent.
    #[error("timed out waiting for its connection message")]
    Timeout,
    /// The stream ended first.
    #[error("it ended the stream before its connection message: {0}")]
    Ended(String),
    /// Not a gossip message.
    #[error("its connection message does not decode: {0}")]
    Malformed(String),
    /// Another message than `ConnEstablish`.
    #[error("its first message is not a connection message")]
    WrongType,
    /// With TLS, each side must present a certificate.
    #[error("it presented no TLS certificate")]
    NoTlsCertificate,
    /// This side has none to present.
    #[error("this node has no TLS client certificate, and gossip over TLS needs one")]
    NoOwnTlsCertificate,
    /// The certificate in the handshake is not the one of the connection: perhaps someone in between.
    #[error(
        "its connection message names the TLS certificate with hash {}, \
         but the connection has the one with hash {}",
        hex(claimed),
        hex(actual)
    )]
    TlsHash {
        /// What the message says.
        claimed: Bytes,
        /// What the connection has.
        actual: Bytes,
    },
    /// The organisation's rules refuse the identity.
    #[error("its identity is not accepted: {0}")]
    Identity(Refused),
    /// The PKI-ID is not the hash of the identity.
    #[error(
        "it claims the PKI-ID {}, but its identity has {}",
        hex(claimed),
        hex(actual)
    )]
    PkiId {
        /// What the message says.
        claimed: Bytes,
        /// What its identity hashes to.
        actual: PkiId,
    },
    /// The signature is not by this identity.
    #[error("the signature of its connection message is wrong: {0}")]
    Signature(Refused),
    /// It has this node's own identity: a connection to itself, or a copied key.
    #[error("it has this node's own identity")]
    Own,
    /// Another peer listens at the endpoint.
    #[error(
        "authentication failure: expected the peer {}, but found {}",
        hex(expected),
        hex(found)
    )]
    Unexpected {
        /// Who was dialled.
        expected: PkiId,
        /// Who answered.
        found: PkiId,
    },
    /// This node could not sign.
    #[error("this node cannot sign its connection message: {0}")]
    Sign(Refused),
}

fn hex(bytes: &impl AsRef<[u8]>) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in bytes.as_ref().iter().take(32) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// This side's `ConnEstablish`, signed and encoded, for one connection.
pub(super) fn own_message(
    authenticator: &dyn PeerAuthenticator,
    connection: &TlsPeer,
    probe: bool,
) -> Result<Bytes, HandshakeFailure> {
    if connection.secure && connection.own_certificate_hash.is_none() {
        return Err(HandshakeFailure::NoOwnTlsCertificate);
    }
    let hash = connection
        .own_certificate_hash
        .map(|hash| Bytes::copy_from_slice(&hash));
    let message = GossipMessage {
        nonce: 0,
        channel: Bytes::new(),
        tag: selvedge_protos::gossip::gossip_message::Tag::Empty.into(),
        content: Some(gossip_message::Content::Conn(ConnEstablish {
            pki_id: Bytes::copy_from_slice(&authenticator.own_pki_id()),
            identity: authenticator.own_identity(),
            tls_cert_hash: hash.unwrap_or_default(),
            probe,
        })),
    };
    let payload = Bytes::from(message.encode_to_vec());
    let signature = authenticator
        .sign(&payload)
        .map_err(HandshakeFailure::Sign)?;
    Ok(Envelope {
        payload,
        signature,
        secret_envelope: None,
    }
    .encode_to_vec()
    .into())
}

/// A proven `ConnEstablish` of the other side.
pub(super) struct Proven {
    pub(super) peer: PeerInfo,
    /// Whether it wants to know us and no more.
    pub(super) probe: bool,
}

/// Checks the other side's first frame against the connection that it came over.
pub(super) fn check(
    authenticator: &dyn PeerAuthenticator,
    connection: &TlsPeer,
    frame: Bytes,
) -> Result<Proven, HandshakeFailure> {
    let malformed = |e: selvedge_protos::DecodeError| HandshakeFailure::Malformed(e.to_string());
    let envelope = Envelope::decode(frame).map_err(malformed)?;
    let message = GossipMessage::decode(envelope.payload.clone()).map_err(malformed)?;
    let Some(gossip_message::Content::Conn(claim)) = message.content else {
        return Err(HandshakeFailure::WrongType);
    };
    let identity = authenticator
        .identify(&claim.identity)
        .map_err(HandshakeFailure::Identity)?;
    if claim.pki_id != identity.pki_id[..] {
        let claimed = claim.pki_id;
        return Err(HandshakeFailure::PkiId {
            claimed,
            actual: identity.pki_id,
        });
    }
    if identity.pki_id == authenticator.own_pki_id() {
        return Err(HandshakeFailure::Own);
    }
    check_tls(connection, claim.tls_cert_hash)?;
    authenticator
        .verify(&claim.identity, &envelope.payload, &envelope.signature)
        .map_err(HandshakeFailure::Signature)?;
    Ok(Proven {
        probe: claim.probe,
        peer: PeerInfo {
            pki_id: identity.pki_id,
            organization: identity.organization,
            identity: claim.identity,
            address: connection.address,
            endpoint: None,
            signed_handshake: envelope.payload,
            handshake_signature: envelope.signature,
        },
    })
}

fn check_tls(connection: &TlsPeer, claimed: Bytes) -> Result<(), HandshakeFailure> {
    if !connection.secure {
        return Ok(());
    }
    let actual = connection
        .certificate_hash()
        .ok_or(HandshakeFailure::NoTlsCertificate)?;
    if claimed == actual[..] {
        Ok(())
    } else {
        Err(HandshakeFailure::TlsHash {
            claimed,
            actual: Bytes::copy_from_slice(&actual),
        })
    }
}

#[cfg(test)]
mod tests;
