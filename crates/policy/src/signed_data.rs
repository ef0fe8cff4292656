//! Signatures together with what they sign.

use std::collections::HashSet;

use bytes::Bytes;
use selvedge_msp::{Identity, MspManager};

/// A signature, the bytes that were signed, and who is said to have signed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedData {
    /// The signed bytes.
    pub data: Bytes,
    /// A `SerializedIdentity` message.
    pub identity: Bytes,
    /// The signature.
    pub signature: Bytes,
}

/// The different identities whose signatures are valid, in the order of the set (Fabric's
/// `SignatureSetToValidIdentities`). Whether an identity is a valid member of its MSP is left to the
/// principals.
///
/// Of several signatures of one identity the first valid one counts, and those after it are not even
/// checked, so that repeating a signature is no way to make others work. Costs one signature check
/// for each identity at least.
pub fn valid_identities(signed: &[SignedData], msps: &MspManager) -> Vec<Identity> {
    let mut seen: HashSet<(String, Bytes)> = HashSet::new();
    let mut identities = Vec::with_capacity(signed.len());
    for (position, entry) in signed.iter().enumerate() {
        let identity = match msps.deserialize(&entry.identity) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::debug!(position, %error, "invalid identity in signature set");
                continue;
            }
        };
        let key = (
            identity.msp_id().to_owned(),
            identity.certificate_der().clone(),
        );
        if seen.contains(&key) {
            tracing::debug!(position, ?identity, "identity signed more than once");
            continue;
        }
        if let Err(error) = identity.verify(&entry.data, &entry.signature) {
            tracing::debug!(position, ?identity, %error, "invalid signature in signature set");
            continue;
        }
        seen.insert(key);
        identities.push(identity);
    }
    identities
}
