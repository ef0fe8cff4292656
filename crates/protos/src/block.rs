//! Hashes of blocks, and the slots of their metadata.

use bytes::Bytes;
use prost::DecodeError;

use crate::common::{Block, BlockData, BlockHeader, BlockMetadataIndex, Metadata};
use crate::schema::Kind::{Bytes as Octets, Message as Nested};
use crate::schema::{Schema, decode};
use crate::{sha256, sha256_of_parts};

/// The fields of a [`Metadata`] message.
const METADATA: Schema = Schema(&[(1, Octets), (2, Nested(&METADATA_SIGNATURE))]);
const METADATA_SIGNATURE: Schema = Schema(&[(1, Octets), (2, Octets), (3, Octets)]);

/// The bytes of a block header that are hashed and signed: the DER encoding of
/// `SEQUENCE { number INTEGER, previous_hash OCTET STRING, data_hash OCTET STRING }`
/// (Fabric: `protoutil.BlockHeaderBytes`).
pub fn header_bytes(header: &BlockHeader) -> Vec<u8> {
    let mut content = Vec::with_capacity(96);
    der_unsigned(&mut content, header.number);
    der_element(&mut content, 0x04, &header.previous_hash);
    der_element(&mut content, 0x04, &header.data_hash);
    let mut sequence = Vec::with_capacity(content.len() + 4);
    der_element(&mut sequence, 0x30, &content);
    sequence
}

/// The hash that the next block names as its previous hash.
pub fn header_hash(header: &BlockHeader) -> [u8; 32] {
    sha256(&header_bytes(header))
}

/// The hash over the concatenated envelopes of a block (Fabric: `protoutil.ComputeBlockDataHash`).
///
/// It does not fix where one envelope ends and the next begins; see CVE-2023-46132.
pub fn data_hash(data: &BlockData) -> [u8; 32] {
    sha256_of_parts(data.data.iter().map(Bytes::as_ref))
}

/// The bytes of one metadata slot, empty where the block has none.
pub fn metadata_slot(block: &Block, slot: BlockMetadataIndex) -> Bytes {
    let index = usize::try_from(slot as i32).unwrap_or(usize::MAX);
    let slots = block
        .metadata
        .as_ref()
        .map(|metadata| metadata.metadata.as_slice());
    slots
        .and_then(|slots| slots.get(index))
        .cloned()
        .unwrap_or_default()
}

/// One metadata slot as the [`Metadata`] message that most slots hold.
pub fn metadata(block: &Block, slot: BlockMetadataIndex) -> Result<Metadata, DecodeError> {
    decode(metadata_slot(block, slot), &METADATA)
}

fn der_unsigned(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
    let digits = bytes.get(zeros..).unwrap_or_default();
    if digits.first().is_some_and(|first| first & 0x80 != 0) {
        let mut padded = vec![0];
        padded.extend_from_slice(digits);
        der_element(out, 0x02, &padded);
    } else {
        der_element(out, 0x02, digits);
    }
}

fn der_element(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len();
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let digits = bytes.get(zeros..).unwrap_or_default();
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
        out.extend_from_slice(digits);
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_are_minimal_der() {
        let header = BlockHeader {
            number: 128,
            previous_hash: Bytes::from_static(&[1, 2]),
            data_hash: Bytes::new(),
        };
        assert_eq!(
            header_bytes(&header),
            [0x30, 10, 2, 2, 0, 128, 4, 2, 1, 2, 4, 0]
        );
        let header = BlockHeader {
            number: 0,
            ..header
        };
        assert_eq!(header_bytes(&header), [0x30, 9, 2, 1, 0, 4, 2, 1, 2, 4, 0]);
        let header = BlockHeader {
            number: u64::MAX,
            data_hash: vec![7; 200].into(),
            ..header
        };
        let bytes = header_bytes(&header);
        assert_eq!(bytes[..5], [0x30, 0x81, 218, 2, 9]);
        assert_eq!(bytes.len(), 3 + 218);
    }

    #[test]
    fn the_data_hash_ignores_where_envelopes_are_cut() {
        let one = BlockData {
            data: vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")],
        };
        let other = BlockData {
            data: vec![Bytes::from_static(b"a"), Bytes::from_static(b"bc")],
        };
        assert_eq!(data_hash(&one), data_hash(&other));
        assert_eq!(data_hash(&one), sha256(b"abc"));
    }

    #[test]
    fn a_missing_metadata_slot_is_empty() {
        assert!(metadata_slot(&Block::default(), BlockMetadataIndex::CommitHash).is_empty());
    }
}
