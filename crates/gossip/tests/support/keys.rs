//! Identities and signatures for networks in memory: cheap, and as easy to forge as a test wants.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_gossip::crypto::{Crypto, Identity, IdentityFacts, Refusal, SignError, Signer};
use selvedge_gossip::types::OrgId;
use selvedge_protos::msp::SerializedIdentity;
use selvedge_protos::{Message as _, sha256_of_parts};

/// Every identity is valid unless its certificate says "invalid", and without an end unless it says "until"
/// and nanoseconds since 1970; a signature is a hash of identity and message.
pub struct HashCrypto;

/// The identity of the peer `name` of `org`.
pub fn identity(org: &str, name: &str) -> Identity {
    Identity::check(&serialized(org, name), &HashCrypto).unwrap()
}

/// An encoded identity, valid or not.
pub fn serialized(org: &str, name: &str) -> Bytes {
    let identity = SerializedIdentity {
        mspid: org.to_owned(),
        id_bytes: Bytes::copy_from_slice(name.as_bytes()),
    };
    identity.encode_to_vec().into()
}

/// Signs for an identity.
pub fn signer(identity: &Identity) -> Arc<dyn Signer> {
    Arc::new(HashSigner(identity.serialized().clone()))
}

struct HashSigner(Bytes);

fn signature(serialized: &[u8], message: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&sha256_of_parts([serialized, message]))
}

impl Signer for HashSigner {
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        Ok(signature(&self.0, message))
    }
}

impl Crypto for HashCrypto {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        let identity = SerializedIdentity::decode(serialized.clone())
            .map_err(|error| Refusal(error.to_string()))?;
        if identity.id_bytes.starts_with(b"invalid") {
            return Err(Refusal("certificate of an unknown CA".to_owned()));
        }
        let certificate = String::from_utf8_lossy(&identity.id_bytes);
        let end = certificate.split_once(" until ");
        Ok(IdentityFacts {
            org: OrgId::new(identity.mspid),
            expires_at: end.and_then(|(_, nanos)| nanos.parse().ok()),
        })
    }

    fn verify(&self, identity: &Identity, message: &[u8], found: &[u8]) -> Result<(), Refusal> {
        if signature(identity.serialized(), message) == found {
            Ok(())
        } else {
            Err(Refusal("wrong signature".to_owned()))
        }
    }
}
