//! How one block lies in a block file (Fabric: `blkstorage/block_serialization.go`).
//!
//! A record is the length of the block as a protobuf varint, then the block, which is not a
//! `common.Block` message but
//!
//! ```text
//! number:varint  data_hash:bytes  previous_hash:bytes
//! count:varint   envelope:bytes ...
//! count:varint   metadata slot:bytes ...
//! ```
//!
//! where `bytes` is a varint length followed by that many bytes.

use bytes::{Buf, Bytes};
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Payload, SignatureHeader,
};
use selvedge_protos::{Message, envelope};

/// The longest encoding of a varint.
pub(crate) const MAX_VARINT_LENGTH: usize = 10;

/// Room is made for at most so many items before they are seen.
const MAX_RESERVED_ITEMS: usize = 1024;

/// Where one envelope lies, relative to the beginning of its record. The span covers the length
/// prefix and the envelope, as Fabric's does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EnvelopeSpan {
    pub offset: u64,
    pub length: u64,
}

/// Why bytes are not a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("a number is cut off or longer than ten bytes")]
    Varint,
    #[error("a length of {length} exceeds the {remaining} bytes that are left")]
    Length { length: u64, remaining: usize },
    #[error("{0} bytes follow the block")]
    TrailingBytes(usize),
}

/// Appends the record of a block to `out` and says where its envelopes lie.
pub(crate) fn write_record(
    header: &BlockHeader,
    data: &BlockData,
    metadata: Option<&BlockMetadata>,
    out: &mut Vec<u8>,
) -> Vec<EnvelopeSpan> {
    let slots = metadata.map_or(&[][..], |metadata| &metadata.metadata);
    let length = block_length(header, data, slots);
    let start = out.len();
    out.reserve(length + MAX_VARINT_LENGTH);

    write_varint(length as u64, out);
    write_varint(header.number, out);
    write_bytes(&header.data_hash, out);
    write_bytes(&header.previous_hash, out);
    write_varint(data.data.len() as u64, out);
    let spans = data
        .data
        .iter()
        .map(|envelope| {
            let offset = out.len() - start;
            write_bytes(envelope, out);
            EnvelopeSpan {
                offset: offset as u64,
                length: (out.len() - start - offset) as u64,
            }
        })
        .collect();
    write_varint(slots.len() as u64, out);
    for slot in slots {
        write_bytes(slot, out);
    }
    spans
}

fn block_length(header: &BlockHeader, data: &BlockData, slots: &[Bytes]) -> usize {
    let lists = [&data.data[..], slots];
    varint_length(header.number)
        + bytes_length(&header.data_hash)
        + bytes_length(&header.previous_hash)
        + lists
            .iter()
            .map(|list| {
                varint_length(list.len() as u64)
                    + list.iter().map(|item| bytes_length(item)).sum::<usize>()
            })
            .sum::<usize>()
}

/// Reads the block of a record; `bytes` is the record without its length prefix, which was
/// `prefix` bytes long. The block shares the memory of `bytes`.
///
/// Header, data and metadata are always there, as in the blocks that Fabric reads back.
pub(crate) fn read_block(
    mut bytes: Bytes,
    prefix: usize,
) -> Result<(Block, Vec<EnvelopeSpan>), FormatError> {
    let total = bytes.len();
    let header = read_header_fields(&mut bytes)?;
    let count = read_count(&mut bytes)?;
    let mut envelopes = Vec::with_capacity(count.min(MAX_RESERVED_ITEMS));
    let mut spans = Vec::with_capacity(count.min(MAX_RESERVED_ITEMS));
    for _ in 0..count {
        let before = bytes.len();
        envelopes.push(read_bytes(&mut bytes)?);
        spans.push(EnvelopeSpan {
            offset: (prefix + total - before) as u64,
            length: (before - bytes.len()) as u64,
        });
    }
    let count = read_count(&mut bytes)?;
    let mut slots = Vec::with_capacity(count.min(MAX_RESERVED_ITEMS));
    for _ in 0..count {
        slots.push(read_bytes(&mut bytes)?);
    }
    if !bytes.is_empty() {
        return Err(FormatError::TrailingBytes(bytes.len()));
    }
    let block = Block {
        header: Some(header),
        data: Some(BlockData { data: envelopes }),
        metadata: Some(BlockMetadata { metadata: slots }),
    };
    Ok((block, spans))
}

/// Reads the header from the beginning of a record, length prefix included.
pub(crate) fn read_header(mut record: Bytes) -> Result<BlockHeader, FormatError> {
    read_varint(&mut record)?;
    read_header_fields(&mut record)
}

fn read_header_fields(bytes: &mut Bytes) -> Result<BlockHeader, FormatError> {
    let number = read_varint(bytes)?;
    let data_hash = read_bytes(bytes)?;
    let previous_hash = read_bytes(bytes)?;
    Ok(BlockHeader {
        number,
        previous_hash,
        data_hash,
    })
}

/// The length prefix at the beginning of `bytes`: the length, and how many bytes say it.
/// `None` if `bytes` ends within it.
pub(crate) fn read_prefix(bytes: &[u8]) -> Result<Option<(u64, usize)>, FormatError> {
    let mut rest = bytes;
    match read_varint(&mut rest) {
        Ok(length) => Ok(Some((length, bytes.len() - rest.len()))),
        Err(_) if bytes.len() < MAX_VARINT_LENGTH && bytes.iter().all(|byte| byte & 0x80 != 0) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Takes the envelope out of its span.
pub(crate) fn read_envelope(mut span: Bytes) -> Result<Bytes, FormatError> {
    let envelope = read_bytes(&mut span)?;
    if !span.is_empty() {
        return Err(FormatError::TrailingBytes(span.len()));
    }
    Ok(envelope)
}

/// The id under which a transaction is indexed: the one in its channel header, otherwise the one
/// that nonce and creator make. Empty for an envelope that does not parse (Fabric:
/// `protoutil.GetOrComputeTxIDFromEnvelope`, whose errors the block store only logs).
pub(crate) fn transaction_id(envelope: &Bytes) -> String {
    try_transaction_id(envelope.clone()).unwrap_or_default()
}

fn try_transaction_id(envelope: Bytes) -> Option<String> {
    let payload = Envelope::decode(envelope).ok()?.payload;
    let header = Payload::decode(payload).ok()?.header?;
    let channel_header = ChannelHeader::decode(header.channel_header).ok()?;
    if !channel_header.tx_id.is_empty() {
        return Some(channel_header.tx_id);
    }
    let SignatureHeader { creator, nonce } =
        SignatureHeader::decode(header.signature_header).ok()?;
    Some(envelope::transaction_id(&nonce, &creator))
}

pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(crate) fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn bytes_length(bytes: &[u8]) -> usize {
    varint_length(bytes.len() as u64) + bytes.len()
}

/// Reads a varint of at most 64 bits.
pub(crate) fn read_varint(bytes: &mut impl Buf) -> Result<u64, FormatError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().map_err(|_| FormatError::Varint)?;
        if shift == 63 && byte > 1 {
            return Err(FormatError::Varint);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(FormatError::Varint)
}

fn read_bytes(bytes: &mut Bytes) -> Result<Bytes, FormatError> {
    let length = read_varint(bytes)?;
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => Ok(bytes.split_to(length)),
        _ => Err(FormatError::Length {
            length,
            remaining: bytes.len(),
        }),
    }
}

/// A number of items, each of which takes at least one byte.
fn read_count(bytes: &mut Bytes) -> Result<usize, FormatError> {
    let count = read_varint(bytes)?;
    match usize::try_from(count) {
        Ok(count) if count <= bytes.len() => Ok(count),
        _ => Err(FormatError::Length {
            length: count,
            remaining: bytes.len(),
        }),
    }
}

#[cfg(test)]
mod tests;
