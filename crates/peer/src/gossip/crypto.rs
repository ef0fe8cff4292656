//! Whom gossip believes: identities and signatures held against the peer's own MSP and those of its
//! channels (Fabric: internal/peer/gossip, `MSPMessageCryptoService` and `SecurityAdvisor`).

use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_channel::ChannelConfig;
use selvedge_gossip::crypto::{
    ChannelRef, Crypto, Identity, IdentityFacts, IdentitySource, Refusal, SignError, Signer,
};
use selvedge_gossip::types::{ChannelId, OrgId, PkiId};
use selvedge_msp::{Msp, MspError, MspManager, SigningIdentity};
use selvedge_policy::PolicyError;
use selvedge_protos::identity::pki_id;
use selvedge_protos::sha256_of_parts;
use selvedge_transport::gossip::{PeerAuthenticator, PeerIdentity, Refused};

use super::IdentityTable;
use super::memory::Memory;
use crate::access::APPLICATION_READERS;
use crate::channel::{Channel, Channels};

/// Signatures that are remembered to be good, at least: a network of 80 peers on 25 channels has some 2,200
/// live ones. Each takes about 50 bytes.
const SIGNATURES: usize = 20_000;
/// Authors and channels whose MAC is remembered, at least.
const MACS: usize = 20_000;

/// Checks identities and signatures of other peers.
///
/// The same alive and StateInfo messages come from several neighbours, and again in every membership response
/// and snapshot. So good signatures are remembered by a hash over signer, message and signature: that one is
/// right stays so for ever. Whether the signer still counts is asked anew each time.
pub struct PeerCrypto {
    /// The MSP of the peer's own organisation, with a memory: the same few identities sign all the
    /// time.
    local: MspManager,
    signer: SigningIdentity,
    channels: Channels,
    identities: IdentityTable,
    good_signatures: Mutex<Memory<[u8; 32], ()>>,
    macs: Mutex<Macs>,
}

/// By author and MAC: the channel that the MAC is of.
type Macs = Memory<(PkiId, [u8; 32]), Weak<Channel>>;

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
            good_signatures: Mutex::new(Memory::new(SIGNATURES)),
            macs: Mutex::new(Memory::new(MACS)),
        })
    }

    /// The peer's own MSP has the last word on its own members; other identities must be valid in
    /// some channel.
    fn locate(&self, serialized: &Bytes) -> Result<selvedge_msp::Identity, Refusal> {
        self.locate_where(serialized, |_, _| Ok(()))
    }

    /// As [`Self::locate`]; a foreign organisation's member must also be among the readers of such a channel.
    /// Fabric (`MSPMessageCryptoService.Verify`) asks the first channel alone that it comes by, and so now and
    /// then refuses who may read another.
    fn locate_reader(&self, serialized: &Bytes) -> Result<selvedge_msp::Identity, Refusal> {
        self.locate_where(serialized, check_reader)
    }

    fn locate_where(
        &self,
        serialized: &Bytes,
        is_accepted: impl Fn(&ChannelConfig, &selvedge_msp::Identity) -> Result<(), PolicyError>,
    ) -> Result<selvedge_msp::Identity, Refusal> {
        if let Ok(identity) = self.local.deserialize(serialized) {
            self.local.validate(&identity).map_err(refusal)?;
            return Ok(identity);
        }
        let mut reason =
            "no MSP of this peer or of its channels finds the identity valid".to_owned();
        for channel in self.channels.all() {
            let config = channel.config();
            let Ok(identity) = config.msps().deserialize(serialized) else {
                continue;
            };
            if config.msps().validate(&identity).is_err() {
                continue;
            }
            match is_accepted(&config, &identity) {
                Ok(()) => return Ok(identity),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(Refusal(reason))
    }

    /// The channel of ours that a MAC by `author` is of.
    fn channel_by_mac(&self, author: PkiId, mac: &[u8; 32]) -> Option<Arc<Channel>> {
        let key = (author, *mac);
        if let Some(channel) = self.macs.lock().get(&key).and_then(Weak::upgrade) {
            return Some(channel);
        }
        let is_meant = |channel: &Arc<Channel>| ChannelId::from(channel.id()).mac(&author) == *mac;
        let channel = self.channels.all().into_iter().find(is_meant)?;
        self.macs.lock().insert(key, Arc::downgrade(&channel));
        Some(channel)
    }
}

impl Crypto for PeerCrypto {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        let identity = self.locate(serialized)?;
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
        let located = self.locate_reader(identity.serialized())?;
        let signer = identity.pki_id();
        let parts = [
            signer.as_bytes(),
            &signature.len().to_be_bytes(),
            signature,
            message,
        ];
        let key = sha256_of_parts(parts);
        if self.good_signatures.lock().get(&key).is_some() {
            return Ok(());
        }
        located.verify(message, signature).map_err(refusal)?;
        self.good_signatures.lock().insert(key, ());
        Ok(())
    }

    fn check_reader(&self, peer: &Identity, channel: ChannelRef<'_>) -> Result<(), Refusal> {
        let channel = match channel {
            ChannelRef::Name(id) => self.channels.get(id.as_str()),
            ChannelRef::Mac(mac) => self.channel_by_mac(peer.pki_id(), mac),
        };
        match channel {
            Some(channel) => {
                let config = channel.config();
                let identity = config.msps().deserialize(peer.serialized());
                let identity = identity.map_err(refusal)?;
                check_reader(&config, &identity).map_err(refusal)
            }
            None => Ok(()),
        }
    }
}

/// Whether an identity is a valid member of a channel that satisfies its Readers policy.
fn check_reader(
    config: &ChannelConfig,
    identity: &selvedge_msp::Identity,
) -> Result<(), PolicyError> {
    let readers = config.policies().policy(APPLICATION_READERS)?;
    readers.evaluate_identities(std::slice::from_ref(identity))
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
        let refused = |refusal: Refusal| Refused(refusal.0);
        let located = self.locate_reader(identity).map_err(refused)?;
        let verified = located.verify(message, signature);
        verified.map_err(|error| Refused(error.to_string()))
    }

    fn organization_of(&self, pki_id: &[u8; 32]) -> Option<String> {
        let identity = self.identities.identity(&PkiId(*pki_id))?;
        Some(identity.org().to_string())
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
