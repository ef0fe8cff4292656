//! Identities and signatures of the simulated peers.
//!
//! An identity is as large as a real one. A signature is a hash over the signer's PKI-ID and the message,
//! as long as a real one: cheap, and right only for what its signer signed, as long as nobody computes it
//! in another's name; the liars of this simulation do not.

use bytes::Bytes;
use selvedge_gossip::crypto::{Crypto, Identity, IdentityFacts, Refusal, SignError, Signer};
use selvedge_gossip::types::{OrgId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::msp::SerializedIdentity;
use selvedge_protos::sha256_of_parts;

/// Bytes of a certificate in PEM, as `cryptogen` makes them.
const CERTIFICATE_SIZE: usize = 800;
/// Bytes of an ECDSA signature on P-256 in DER.
const SIGNATURE_SIZE: usize = 71;

/// Checks simulated identities and signatures.
pub(crate) struct Keys;

/// The identity of a peer by its name.
pub(crate) fn identity(org: &str, name: &str) -> Result<Identity, Refusal> {
    let mut certificate = name.as_bytes().to_vec();
    certificate.resize(CERTIFICATE_SIZE.max(name.len()), b' ');
    let serialized = SerializedIdentity {
        mspid: org.to_owned(),
        id_bytes: certificate.into(),
    };
    Identity::check(&serialized.encode_to_vec().into(), &Keys)
}

impl Crypto for Keys {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        let identity = SerializedIdentity::decode(serialized.clone())
            .map_err(|error| Refusal(error.to_string()))?;
        Ok(IdentityFacts {
            org: OrgId::new(identity.mspid),
            expires_at: None,
        })
    }

    fn verify(&self, identity: &Identity, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        if signature == signature_of(&identity.pki_id(), message) {
            Ok(())
        } else {
            Err(Refusal("the signature is wrong".to_owned()))
        }
    }
}

/// Signs in the name of one peer.
pub(crate) struct Key(pub(crate) PkiId);

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        Ok(signature_of(&self.0, message).to_vec().into())
    }
}

fn signature_of(signer: &PkiId, message: &[u8]) -> [u8; SIGNATURE_SIZE] {
    let hash = sha256_of_parts([signer.as_bytes(), message]);
    let mut signature = [0; SIGNATURE_SIZE];
    for (byte, hashed) in signature.iter_mut().zip(hash) {
        *byte = hashed;
    }
    signature
}
