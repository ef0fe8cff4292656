//! How keys and values of the state are stored.

use bytes::{Buf, Bytes};
use selvedge_protos::kvrwset::Version;

use super::{Namespace, StateError, VersionedValue};

/// Between the name of a chaincode and that of its collection (Fabric: `privacyenabledstate`).
const HASHED: &str = "$$h";
/// As [`HASHED`], of the keys in clear text.
const CLEAR_TEXT: &str = "$$p";

/// Namespace, zero byte, key.
pub(super) fn state_key(namespace: Namespace<'_>, key: &[u8]) -> Vec<u8> {
    match namespace.collection {
        None => stored_key(namespace.chaincode, key),
        Some(collection) => {
            let name = [namespace.chaincode, HASHED, collection].concat();
            stored_key(&name, key)
        }
    }
}

/// As [`state_key`], of a namespace as it is stored.
pub(super) fn stored_key(namespace: &str, key: &[u8]) -> Vec<u8> {
    [namespace.as_bytes(), &[0], key].concat()
}

/// The chaincode and the collection of a namespace as it is stored; no collection if its keys are public.
pub(crate) fn split_namespace(namespace: &str) -> (&str, Option<&str>) {
    match namespace.split_once(HASHED) {
        Some((chaincode, collection)) => (chaincode, Some(collection)),
        None => (namespace, None),
    }
}

/// Whether the keys of a namespace as it is stored are hashes of private ones.
pub(crate) fn is_hashed_namespace(namespace: &[u8]) -> bool {
    contains(namespace, HASHED)
}

/// Whether a namespace as it is stored has a name of the kind under which a Go peer keeps private keys in
/// clear text. Nothing is kept there in this ledger, but a chaincode may be defined with such a name.
pub(crate) fn is_clear_text_namespace(namespace: &[u8]) -> bool {
    contains(namespace, CLEAR_TEXT)
}

fn contains(namespace: &[u8], part: &str) -> bool {
    let mut windows = namespace.windows(part.len());
    windows.any(|window| window == part.as_bytes())
}

pub(super) fn split_key(bytes: &Bytes) -> Result<(Bytes, Bytes), StateError> {
    let zero = bytes.iter().position(|byte| *byte == 0);
    let zero = zero.ok_or(StateError::Damaged("key"))?;
    Ok((bytes.slice(..zero), bytes.slice(zero + 1..)))
}

/// Block, transaction, length of the metadata, metadata, value.
pub(super) fn encode_value(value: &VersionedValue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + value.metadata.len() + value.value.len());
    bytes.extend(value.version.block_num.to_be_bytes());
    bytes.extend(value.version.tx_num.to_be_bytes());
    bytes.extend((value.metadata.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&value.metadata);
    bytes.extend_from_slice(&value.value);
    bytes
}

pub(super) fn decode_value(mut bytes: Bytes) -> Result<VersionedValue, StateError> {
    let damaged = || StateError::Damaged("value");
    let mut number = || bytes.try_get_u64().map_err(|_| damaged());
    let version = Version {
        block_num: number()?,
        tx_num: number()?,
    };
    let metadata = usize::try_from(number()?).map_err(|_| damaged())?;
    if metadata > bytes.len() {
        return Err(damaged());
    }
    let metadata = bytes.split_to(metadata);
    Ok(VersionedValue {
        value: bytes,
        metadata,
        version,
    })
}

/// A key that was written in one block and is to be deleted with another.
pub(super) struct Expiring {
    pub expires: u64,
    pub written: u64,
    /// As in the table of the state.
    pub key: Vec<u8>,
}

pub(super) fn expiry_prefix(block: u64) -> [u8; 8] {
    block.to_be_bytes()
}

impl Expiring {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = expiry_prefix(self.expires).to_vec();
        bytes.extend(self.written.to_be_bytes());
        bytes.extend_from_slice(&self.key);
        bytes
    }

    pub fn decode(mut bytes: &[u8]) -> Result<Self, StateError> {
        let mut number = || {
            let number = bytes.try_get_u64();
            number.map_err(|_| StateError::Damaged("expiry"))
        };
        Ok(Self {
            expires: number()?,
            written: number()?,
            key: bytes.to_vec(),
        })
    }
}
