//! The signatures of ordering nodes in a block's metadata.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use selvedge_policy::SignedData;
use selvedge_protos::Message;
use selvedge_protos::common::Consenter;
use selvedge_protos::msp::SerializedIdentity;

use crate::error::BlockFault;
use selvedge_protos::wire::{Fields, Value, WireError, last_bytes, low_32_bits};

/// The most signatures that a block may carry: far above any number of consenters, and a bound on
/// the work that a forged block can cause.
pub const MAX_SIGNATURES: usize = 256;

/// The most bytes that all signatures of a block may cover together. Each covers a copy of the slot's
/// value, so a forged block could multiply its size.
pub const MAX_SIGNED_BYTES: usize = 4 << 20;

/// Who the numbered consenters of a BFT ordering service are.
#[derive(Debug, Default)]
pub(crate) struct Consenters(BTreeMap<u32, Bytes>);

impl Consenters {
    /// Where a number stands twice, the first counts, as in Fabric.
    pub fn new(consenters: &[Consenter]) -> Self {
        let mut identities = BTreeMap::new();
        for consenter in consenters {
            identities.entry(consenter.id).or_insert_with(|| {
                let identity = SerializedIdentity {
                    mspid: consenter.msp_id.clone(),
                    id_bytes: consenter.identity.clone(),
                };
                Bytes::from(identity.encode_to_vec())
            });
        }
        Self(identities)
    }

    fn identity(&self, number: u32) -> Option<&Bytes> {
        self.0.get(&number).filter(|identity| !identity.is_empty())
    }
}

/// What the policy for blocks is to be evaluated on: signer, signed bytes and signature of each entry
/// in metadata slot 0. Nothing is verified here.
///
/// Each signer signs the slot's value, its own header and the block header. With `consenters` (BFT)
/// a signer may be given by number alone; numbers that are not in the configuration are passed over
/// (Fabric: `protoutil.BlockSignatureVerifier`).
pub(crate) fn signed_data(
    slot: &Bytes,
    header_bytes: &[u8],
    consenters: Option<&Consenters>,
) -> Result<Vec<SignedData>, BlockFault> {
    let (value, signatures) = read_metadata(slot)?;
    let mut signed = Vec::with_capacity(signatures.len());
    let mut left = MAX_SIGNED_BYTES;
    for signature in signatures {
        let by_number = signature.header.is_empty() && !signature.identifier_header.is_empty();
        let (own_header, identity) = match consenters {
            Some(consenters) if by_number => {
                let number = read_identifier(signature.identifier_header)
                    .map_err(BlockFault::malformed("identifier header"))?;
                let Some(identity) = consenters.identity(number) else {
                    continue;
                };
                (signature.identifier_header, identity.clone())
            }
            _ => {
                let creator = last_bytes(signature.header, 1)
                    .map_err(BlockFault::malformed("signature header"))?;
                (
                    signature.header,
                    slot.slice_ref(creator.unwrap_or_default()),
                )
            }
        };
        let length = value.len() + own_header.len() + header_bytes.len();
        left = left.checked_sub(length).ok_or(BlockFault::TooMany {
            what: "bytes under its signatures",
            limit: MAX_SIGNED_BYTES,
        })?;
        let mut data = BytesMut::with_capacity(length);
        data.put(value);
        data.put(own_header);
        data.put(header_bytes);
        signed.push(SignedData {
            data: data.freeze(),
            identity,
            signature: slot.slice_ref(signature.signature),
        });
    }
    Ok(signed)
}

/// A `MetadataSignature`.
#[derive(Default)]
struct MetadataSignature<'a> {
    header: &'a [u8],
    signature: &'a [u8],
    identifier_header: &'a [u8],
}

/// Reads a `Metadata` message: its value and its signatures.
fn read_metadata(slot: &[u8]) -> Result<(&[u8], Vec<MetadataSignature<'_>>), BlockFault> {
    let mut value = &[][..];
    let mut signatures = Vec::new();
    for field in Fields::of(slot) {
        let field = field.map_err(BlockFault::malformed("metadata slot SIGNATURES"))?;
        match (field.number, field.value) {
            (1, Value::Bytes(bytes)) => value = bytes,
            (2, Value::Bytes(_)) if signatures.len() == MAX_SIGNATURES => {
                return Err(BlockFault::TooMany {
                    what: "signatures",
                    limit: MAX_SIGNATURES,
                });
            }
            (2, Value::Bytes(bytes)) => {
                let signature =
                    read_signature(bytes).map_err(BlockFault::malformed("metadata signature"))?;
                signatures.push(signature);
            }
            _ => {}
        }
    }
    Ok((value, signatures))
}

fn read_signature(message: &[u8]) -> Result<MetadataSignature<'_>, WireError> {
    let mut signature = MetadataSignature::default();
    for field in Fields::of(message) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Bytes(bytes)) => signature.header = bytes,
            (2, Value::Bytes(bytes)) => signature.signature = bytes,
            (3, Value::Bytes(bytes)) => signature.identifier_header = bytes,
            _ => {}
        }
    }
    Ok(signature)
}

fn read_identifier(message: &[u8]) -> Result<u32, WireError> {
    let mut identifier = 0;
    for field in Fields::of(message) {
        let field = field?;
        if let (1, Value::Varint(value)) = (field.number, field.value) {
            identifier = low_32_bits(value);
        }
    }
    Ok(identifier)
}
