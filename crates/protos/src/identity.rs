//! Serialized identities, and the id that gossip knows a peer by.

use prost::{DecodeError, Message};

use crate::msp::SerializedIdentity;
use crate::sha256_of_parts;

/// The PKI-ID of a serialized identity: SHA-256 over MSP id and certificate bytes as they stand in
/// the message, which Fabric does not parse for this (internal/pkg/peer message crypto service).
pub fn pki_id(serialized: &[u8]) -> Result<[u8; 32], DecodeError> {
    let identity = SerializedIdentity::decode(serialized)?;
    Ok(sha256_of_parts([
        identity.mspid.as_bytes(),
        identity.id_bytes.as_ref(),
    ]))
}
