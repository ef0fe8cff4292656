//! Whom gossip believes: identities and signatures held against the peer's own MSP and those of its
//! channels (Fabric: internal/peer/gossip, `MSPMessageCryptoService` and `SecurityAdvisor`).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use selvedge_gossip::crypto::{
    Crypto, Identity, IdentityFacts, IdentitySource, Refusal, SignError, Signer,
};
use selvedge_gossip::types::{OrgId, PkiId};
use selvedge_msp::{Msp, MspError, MspManager, SigningIdentity};
use selvedge_policy::SignedData;
use selvedge_protos::identity::pki_id;
use selvedge_transport::gossip::{PeerAuthenticator, PeerIdentity, Refused};

use super::IdentityTable;
use crate::access::APPLICATION_READERS;
use crate::channel::{Channel, Channels};

/// Checks identities and signatures of other peers.
pub struct PeerCrypto {
    /// The MSP of the peer's own organisation, with a memory: the same few identities sign all the
    /// time.
    local: MspManager,
    signer: SigningIdentity,
    channels: Channels,
    identities: IdentityTable,
}

/// An identity and where it is at home: in the peer's own organisation, or in a channel.
struct Located {
    identity: selvedge_msp::Identity,
    channel: Option<Arc<Channel>>,
}

impl PeerCrypto {
    /// `local` is the MSP of the peer's own organisation, `signer` the peer itself,
    /// `identities` are the peers that gossip knows.
    pub fn new(
        local: Msp,
        signer: SigningIdentity,
        channels: Channels,
        identities: IdentityTable,
    ) -> Result<Self, MspError> {
        Ok(Self {
            local: MspManager::new([local])?,
            signer,
            channels,
            identities,
        })
    }

    /// The peer's own MSP has the last word on its own members; other identities must be valid in
    /// some channel.
    fn locate(&self, serialized: &Bytes) -> Result<Located, Refusal> {
        if let Ok(identity) = self.local.deserialize(serialized) {
            self.local.validate(&identity).map_err(refusal)?;
            return Ok(Located {
                identity,
                channel: None,
            });
        }
        for channel in self.channels.all() {
            let config = channel.config();
            let Ok(identity) = config.msps().deserialize(serialized) else {
                continue;
            };
            if config.msps().validate(&identity).is_ok() {
                return Ok(Located {
                    identity,
                    channel: Some(channel),
                });
            }
        }
        Err(Refusal(
            "no MSP of this peer or of its channels finds the identity valid".to_owned(),
        ))
    }
}

impl Crypto for PeerCrypto {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        let identity = self.locate(serialized)?.identity;
        let expires_at = identity.expires_at();
        if expires_at < SystemTime::now() {
            return Err(Refusal(format!(
                "the certificate of {} has expired",
                identity.msp_id()
            )));
        }
        let since_epoch = expires_at.duration_since(UNIX_EPOCH).ok();
        Ok(IdentityFacts {
            org: OrgId::from(identity.msp_id()),
            expires_at: since_epoch.and_then(|end| u64::try_from(end.as_nanos()).ok()),
        })
    }

    fn verify(&self, identity: &Identity, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        self.verify_by(identity.serialized(), message, signature)
    }
}

/// The same for the handshakes of streams.
impl PeerAuthenticator for PeerCrypto {
    fn own_identity(&self) -> Bytes {
        self.signer.serialized().clone()
    }

    fn own_pki_id(&self) -> [u8; 32] {
        pki_id(self.signer.serialized()).unwrap_or_default()
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, Refused> {
        self.signer
            .sign(message)
            .map_err(|error| Refused(error.to_string()))
    }

    fn identify(&self, identity: &Bytes) -> Result<PeerIdentity, Refused> {
        let facts = self
            .validate(identity)
            .map_err(|refusal| Refused(refusal.0))?;
        let pki_id = pki_id(identity).map_err(|error| Refused(error.to_string()))?;
        Ok(PeerIdentity {
            pki_id,
            organization: facts.org.to_string(),
        })
    }

    fn verify(&self, identity: &Bytes, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        self.verify_by(identity, message, signature)
            .map_err(|refusal| Refused(refusal.0))
    }

    fn organization_of(&self, pki_id: &[u8; 32]) -> Option<String> {
        let identity = self.identities.identity(&PkiId(*pki_id))?;
        Some(identity.org().to_string())
    }
}

impl PeerCrypto {
    /// A foreign organisation's member must besides be among the readers of the channel that knows
    /// it.
    fn verify_by(&self, identity: &Bytes, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        let located = self.locate(identity)?;
        let Some(channel) = located.channel else {
            return located.identity.verify(message, signature).map_err(refusal);
        };
        let signed = SignedData {
            data: Bytes::copy_from_slice(message),
            identity: identity.clone(),
            signature: Bytes::copy_from_slice(signature),
        };
        let config = channel.config();
        config
            .policies()
            .evaluate(APPLICATION_READERS, &[signed])
            .map_err(refusal)
    }
}

/// Signs gossip messages with the peer's own key.
pub struct PeerSigner(pub SigningIdentity);

impl Signer for PeerSigner {
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.0
            .sign(message)
            .map_err(|error| SignError(error.to_string()))
    }
}

fn refusal(error: impl std::fmt::Display) -> Refusal {
    Refusal(error.to_string())
}
