//! What other peers and ordering nodes send.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use selvedge_channel::BlockRef;
use selvedge_gossip::crypto::{Crypto, Identity, IdentityFacts, IdentitySource, Refusal};
use selvedge_gossip::message;
use selvedge_gossip::types::{OrgId, PkiId};
use selvedge_orderer_client::{ChainVerifier as _, ChannelVerifier};
use selvedge_transport::TlsPeer;
use selvedge_transport::gossip::{PeerAuthenticator, PeerIdentity, Refused};

use crate::channel;

/// A frame of a gossip stream: decoding, then verification with every signature accepted, so that
/// what lies behind it is reached.
pub fn gossip_message(bytes: &[u8]) {
    if let Ok(received) = message::decode(Bytes::copy_from_slice(bytes)) {
        // Either verdict will do.
        let _ = message::verify(received, &Gullible, &Gullible);
    }
}

/// The first frame of a stream, from somebody whose identity and signature are accepted whatever they are.
pub fn handshake(bytes: &[u8]) {
    let connection = TlsPeer {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7051)),
        secure: true,
        certificate: Some(Bytes::from_static(b"certificate")),
        own_certificate_hash: None,
    };
    let frame = Bytes::copy_from_slice(bytes);
    let checked = selvedge_transport::fuzzing::handshake(&Gullible, &connection, frame);
    if let Ok(peer) = checked {
        assert_eq!(pki_id(&peer.identity), Some(peer.pki_id));
    }
}

/// A response of an ordering node, and the block or header in it.
pub fn deliver_response(bytes: &[u8]) {
    let message = Bytes::copy_from_slice(bytes);
    let Ok(block) = selvedge_orderer_client::fuzzing::response(message) else {
        return;
    };
    let Some(config) = channel() else { return };
    let tip = BlockRef {
        number: 0,
        header_hash: [0; 32],
    };
    let mut verifier = ChannelVerifier::new(config.clone(), tip);
    let _ = verifier.attest(block.clone());
    let _ = verifier.accept(block);
}

/// Believes everybody.
struct Gullible;

impl Crypto for Gullible {
    fn validate(&self, _: &Bytes) -> Result<IdentityFacts, Refusal> {
        Ok(IdentityFacts {
            org: OrgId::from("Org1MSP"),
            expires_at: None,
        })
    }

    fn verify(&self, _: &Identity, _: &[u8], _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }
}

impl IdentitySource for Gullible {
    fn identity(&self, _: &PkiId) -> Option<Identity> {
        None
    }
}

fn pki_id(identity: &[u8]) -> Option<[u8; 32]> {
    selvedge_protos::identity::pki_id(identity).ok()
}

impl PeerAuthenticator for Gullible {
    fn own_identity(&self) -> Bytes {
        Bytes::from_static(b"me")
    }

    fn own_pki_id(&self) -> [u8; 32] {
        [0; 32]
    }

    fn sign(&self, _: &[u8]) -> Result<Bytes, Refused> {
        Ok(Bytes::new())
    }

    fn identify(&self, identity: &Bytes) -> Result<PeerIdentity, Refused> {
        let pki_id = pki_id(identity).ok_or_else(|| Refused("no identity".to_owned()))?;
        Ok(PeerIdentity {
            pki_id,
            organization: "Org1MSP".to_owned(),
        })
    }

    fn verify(&self, _: &Bytes, _: &[u8], _: &[u8]) -> Result<(), Refused> {
        Ok(())
    }

    fn organization_of(&self, _: &[u8; 32]) -> Option<String> {
        None
    }
}
