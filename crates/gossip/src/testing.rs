//! What the unit tests share.

use std::time::Instant;

use bytes::Bytes;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::{Envelope, GossipMessage};
use selvedge_protos::msp::SerializedIdentity;

use crate::context::LocalPeer;
use crate::crypto::{ChannelRef, Crypto, Identity, IdentityFacts, Refusal, SignError, Signer};
use crate::types::{Endpoint, OrgId};

/// An instant to count from. The only place of this crate that looks at a clock; what is tested sees
/// differences alone.
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// The messages that Go peers sent in a real network (`testdata/gossip`).
pub(crate) fn recorded() -> impl Iterator<Item = GossipMessage> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/gossip/messages"
    );
    std::fs::read_dir(folder).unwrap().map(|entry| {
        let frame = std::fs::read(entry.unwrap().path()).unwrap();
        let envelope = Envelope::decode(frame.as_slice()).unwrap();
        GossipMessage::decode(envelope.payload).unwrap()
    })
}

/// Believes every signature, and takes the MSP id for the organisation.
pub(crate) struct Trusting;

impl Crypto for Trusting {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        let identity = SerializedIdentity::decode(serialized.clone())
            .map_err(|error| Refusal(error.to_string()))?;
        Ok(IdentityFacts {
            org: OrgId::new(identity.mspid),
            expires_at: None,
        })
    }

    fn verify(&self, _: &Identity, _: &[u8], _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    fn check_reader(&self, peer: &Identity, channel: ChannelRef<'_>) -> Result<(), Refusal> {
        let no_reader = match channel {
            ChannelRef::Mac(mac) => mac.starts_with(&[0]),
            ChannelRef::Name(_) => peer.serialized().ends_with(b"no reader"),
        };
        match no_reader {
            true => Err(Refusal("no reader".to_owned())),
            false => Ok(()),
        }
    }
}

impl Signer for Trusting {
    fn sign(&self, _: &[u8]) -> Result<Bytes, SignError> {
        Ok(Bytes::from_static(b"signed"))
    }
}

/// A peer whose certificate is its name.
pub(crate) fn local_peer(org: &str, name: &str, external: bool, now: Instant) -> LocalPeer {
    let serialized = SerializedIdentity {
        mspid: org.to_owned(),
        id_bytes: Bytes::copy_from_slice(name.as_bytes()),
    };
    let identity = Identity::check(&serialized.encode_to_vec().into(), &Trusting).unwrap();
    let endpoint = format!("{name}.{org}:7051");
    LocalPeer {
        identity,
        internal_endpoint: Endpoint::from(endpoint.as_str()),
        external_endpoint: Endpoint::from(if external { endpoint.as_str() } else { "" }),
        metadata: Bytes::new(),
        started: now,
        incarnation: 1_000,
    }
}
