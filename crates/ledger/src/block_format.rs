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

use std::io::{self, ErrorKind, IoSlice, Write};

use bytes::{Buf, Bytes};
use selvedge_protos::common::{Block, BlockData, BlockHeader, BlockMetadata};

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

/// A block as it is going to lie in a file.
pub(crate) struct Record<'a> {
    header: &'a BlockHeader,
    envelopes: &'a [Bytes],
    slots: &'a [Bytes],
    /// Of the block, without the length prefix.
    block_length: u64,
}

impl<'a> Record<'a> {
    pub(crate) fn new(
        header: &'a BlockHeader,
        data: &'a BlockData,
        metadata: Option<&'a BlockMetadata>,
    ) -> Self {
        let envelopes = &data.data[..];
        let slots = metadata.map_or(&[][..], |metadata| &metadata.metadata);
        Self {
            header,
            envelopes,
            slots,
            block_length: header_length(header) + list_length(envelopes) + list_length(slots),
        }
    }

    /// The length of the whole record in bytes.
    pub(crate) fn length(&self) -> u64 {
        varint_length(self.block_length) + self.block_length
    }

    /// Where the envelopes lie in the record.
    pub(crate) fn spans(&self) -> Vec<EnvelopeSpan> {
        let mut offset = varint_length(self.block_length)
            + header_length(self.header)
            + varint_length(self.envelopes.len() as u64);
        let mut span = |envelope: &Bytes| {
            let length = bytes_length(envelope);
            offset += length;
            EnvelopeSpan {
                offset: offset - length,
                length,
            }
        };
        self.envelopes.iter().map(&mut span).collect()
    }

    /// Writes the record, without putting it together first.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let items = || self.envelopes.iter().chain(self.slots);
        let mut numbers = Vec::with_capacity(128 + 4 * items().count());
        // For each item, where what comes before it ends in `numbers`.
        let mut ends = Vec::with_capacity(items().count());
        push_varint(self.block_length, &mut numbers);
        push_varint(self.header.number, &mut numbers);
        for hash in [&self.header.data_hash, &self.header.previous_hash] {
            push_varint(hash.len() as u64, &mut numbers);
            numbers.extend_from_slice(hash);
        }
        for list in [self.envelopes, self.slots] {
            push_varint(list.len() as u64, &mut numbers);
            for item in list {
                push_varint(item.len() as u64, &mut numbers);
                ends.push(numbers.len());
            }
        }
        let mut pieces = Vec::with_capacity(2 * ends.len() + 1);
        let mut start = 0;
        for (item, end) in items().zip(ends) {
            pieces.push(IoSlice::new(numbers.get(start..end).unwrap_or_default()));
            pieces.push(IoSlice::new(item));
            start = end;
        }
        pieces.push(IoSlice::new(numbers.get(start..).unwrap_or_default()));
        write_all(&mut pieces, out)
    }
}

fn write_all(mut pieces: &mut [IoSlice<'_>], out: &mut impl Write) -> io::Result<()> {
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match out.write_vectored(pieces) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut pieces, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn header_length(header: &BlockHeader) -> u64 {
    varint_length(header.number)
        + bytes_length(&header.data_hash)
        + bytes_length(&header.previous_hash)
}

fn list_length(list: &[Bytes]) -> u64 {
    let items: u64 = list.iter().map(bytes_length).sum();
    varint_length(list.len() as u64) + items
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

/// Appends `value` as a protobuf varint.
pub(crate) fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_length(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

/// How long `bytes` is with its length before it.
pub(crate) fn bytes_length(bytes: &Bytes) -> u64 {
    let length = bytes.len() as u64;
    varint_length(length) + length
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
