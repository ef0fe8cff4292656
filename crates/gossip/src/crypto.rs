//! What the protocol needs of keys and certificates, as traits: the node implements them over MSPs, the
//! simulator over cheap stand-ins.

use std::sync::Arc;

use bytes::Bytes;

use crate::types::{ChannelId, OrgId, PkiId};

/// Signs with the key of the local peer.
pub trait Signer: Send + Sync {
    /// A signature over SHA-256 of `message`: DER, low S.
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError>;
}

/// The signing key failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a gossip message: {0}")]
pub struct SignError(pub String);

/// Judges identities and signatures (Fabric: `api.MessageCryptoService`).
pub trait Crypto: Send + Sync {
    /// Checks that a serialized identity is valid for the local peer or one of its channels
    /// (`ValidateIdentity`, `OrgByPeerIdentity`, `Expiration`). An expired one is refused.
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal>;

    /// Checks `signature` over `message` by an identity that passed [`Self::validate`].
    fn verify(&self, identity: &Identity, message: &[u8], signature: &[u8]) -> Result<(), Refusal>;

    /// Checks that a peer may take part in a channel, that is, satisfies the channel's Readers policy
    /// (Fabric: `VerifyByChannel`). A channel that is not ours says nothing and passes. Whoever takes
    /// organisations for readers, as the default policy does, need not implement this: the channel checks
    /// the organisation.
    fn check_reader(&self, _peer: &Identity, _channel: ChannelRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Says which channel is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelRef<'a> {
    /// By its name.
    Name(&'a ChannelId),
    /// As the author of a StateInfo message does: by [`ChannelId::mac`].
    Mac(&'a [u8; 32]),
}

/// What validation found out about an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFacts {
    /// Its organisation.
    pub org: OrgId,
    /// When its certificate ends, in nanoseconds since 1970; `None` if it has no certificate that ends.
    pub expires_at: Option<u64>,
}

/// Why an identity or a signature was refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Refusal(pub String);

/// An identity that passed [`Crypto::validate`]. Cheap to clone; all instances in one process can share
/// the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Arc<IdentityInner>);

#[derive(Debug, PartialEq, Eq)]
struct IdentityInner {
    pki_id: PkiId,
    serialized: Bytes,
    facts: IdentityFacts,
}

/// The largest serialized identity that is looked at. Certificates are about 1 kB.
pub const MAX_IDENTITY_SIZE: usize = 64 * 1024;

impl Identity {
    /// Validates `serialized` and computes its PKI-ID. This is the only way to make an identity.
    pub fn check(serialized: &Bytes, crypto: &dyn Crypto) -> Result<Self, Refusal> {
        if serialized.len() > MAX_IDENTITY_SIZE {
            return Err(Refusal(format!(
                "identity has {} bytes, at most {MAX_IDENTITY_SIZE} are accepted",
                serialized.len()
            )));
        }
        let pki_id = selvedge_protos::identity::pki_id(serialized)
            .map_err(|error| Refusal(format!("identity does not parse: {error}")))?;
        let facts = crypto.validate(serialized)?;
        Ok(Self(Arc::new(IdentityInner {
            pki_id: PkiId(pki_id),
            serialized: serialized.clone(),
            facts,
        })))
    }

    /// Computed from the identity, never taken from a message.
    pub fn pki_id(&self) -> PkiId {
        self.0.pki_id
    }

    /// The organisation.
    pub fn org(&self) -> &OrgId {
        &self.0.facts.org
    }

    /// `msp.SerializedIdentity` as received.
    pub fn serialized(&self) -> &Bytes {
        &self.0.serialized
    }

    /// When it ends, in nanoseconds since 1970.
    pub fn expires_at(&self) -> Option<u64> {
        self.0.facts.expires_at
    }
}

/// Finds identities by PKI-ID while messages are verified. The core's
/// [`IdentityStore`](crate::identity::IdentityStore) is one; a node that verifies on other threads keeps
/// a copy, updated by [`Action::IdentityLearned`](crate::event::Action::IdentityLearned) and
/// [`Action::IdentityPurged`](crate::event::Action::IdentityPurged).
pub trait IdentitySource {
    /// The identity that goes by `pki_id`, if it is known.
    fn identity(&self, pki_id: &PkiId) -> Option<Identity>;
}
