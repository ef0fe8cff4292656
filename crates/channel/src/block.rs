//! A block as it arrives, and the type that says that it has been checked.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_protos::block::header_bytes;
use selvedge_protos::common::{Block, BlockData, BlockHeader, BlockMetadata};
use selvedge_protos::{sha256, sha256_of_parts};

use crate::envelope::{channel_header, check_well_formed, config_transaction};
use crate::error::BlockFault;
use selvedge_protos::wire::{Fields, Value, WireError};

/// The most transactions that a block may hold. Entries are counted before they are stored, since an
/// empty one takes two bytes on the wire and many more in memory.
pub const MAX_TRANSACTIONS: usize = 1 << 18;

/// The most metadata slots that a block may hold; Fabric uses five.
pub const MAX_METADATA_SLOTS: usize = 64;

/// Which block a peer holds last: what the next block must build on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Its number.
    pub number: u64,
    /// The hash of its header.
    pub header_hash: [u8; 32],
}

/// A block that has passed the checks of [`BlockVerifier`](crate::BlockVerifier), or was read back
/// from a ledger that holds only such blocks. Nothing else can make one.
///
/// It carries the bytes as they arrived: they are stored and forwarded, never encoded again. Clones
/// share everything.
#[derive(Clone)]
pub struct VerifiedBlock(Arc<ReceivedBlock>);

impl VerifiedBlock {
    pub(crate) fn vouch_for(block: ReceivedBlock) -> Self {
        Self(Arc::new(block))
    }

    /// The number of the block.
    pub fn number(&self) -> u64 {
        self.0.header.number
    }

    /// The hash of the header, which the next block names as its previous hash.
    pub fn header_hash(&self) -> [u8; 32] {
        self.0.header_hash
    }

    /// The hash that the header names as that of the block before; empty in a genesis block.
    pub fn previous_hash(&self) -> &Bytes {
        &self.0.header.previous_hash
    }

    /// Number and header hash.
    pub fn block_ref(&self) -> BlockRef {
        self.0.block_ref()
    }

    /// The encoded `common.Block` as it was received.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The decoded block; its byte fields share [`bytes`](Self::bytes).
    pub fn block(&self) -> &Block {
        &self.0.block
    }

    /// Whether the block holds exactly one transaction and that is a config transaction
    /// (Fabric: `protoutil.IsConfigBlock`).
    pub fn is_config(&self) -> bool {
        self.0.is_config()
    }

    /// Checks that the block is the next one after `previous`.
    pub fn follows(&self, previous: &BlockRef) -> Result<(), BlockFault> {
        self.0.follows(previous)
    }
}

impl fmt::Debug for VerifiedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedBlock")
            .field("number", &self.number())
            .field("bytes", &self.bytes().len())
            .finish_non_exhaustive()
    }
}

/// A block header whose signatures have been checked, from a stream that carries no block data.
///
/// It proves that the ordering service made this block, not that anyone can provide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attestation(BlockRef);

impl Attestation {
    pub(crate) fn vouch_for(block: BlockRef) -> Self {
        Self(block)
    }

    /// Number and header hash of the attested block.
    pub fn block_ref(&self) -> BlockRef {
        self.0
    }

    /// The number of the attested block.
    pub fn number(&self) -> u64 {
        self.0.number
    }
}

/// A block that is decoded, with its header hashed, and nothing checked yet.
#[derive(Debug)]
pub(crate) struct ReceivedBlock {
    pub bytes: Bytes,
    pub block: Block,
    /// The header once more, since `block` has it as an option.
    pub header: BlockHeader,
    pub header_bytes: Vec<u8>,
    header_hash: [u8; 32],
}

impl ReceivedBlock {
    /// Decodes a block in one pass. Envelopes and metadata are slices of `bytes`.
    pub fn decode(bytes: Bytes) -> Result<Self, BlockFault> {
        let block = decode_block(&bytes)?;
        let header = block.header.clone().ok_or(BlockFault::NoHeader)?;
        let header_bytes = header_bytes(&header);
        Ok(Self {
            header_hash: sha256(&header_bytes),
            bytes,
            block,
            header,
            header_bytes,
        })
    }

    pub fn block_ref(&self) -> BlockRef {
        BlockRef {
            number: self.header.number,
            header_hash: self.header_hash,
        }
    }

    pub fn envelopes(&self) -> &[Bytes] {
        self.block
            .data
            .as_ref()
            .map(|data| data.data.as_slice())
            .unwrap_or_default()
    }

    pub fn metadata_slots(&self) -> &[Bytes] {
        self.block
            .metadata
            .as_ref()
            .map(|metadata| metadata.metadata.as_slice())
            .unwrap_or_default()
    }

    pub fn is_config(&self) -> bool {
        config_transaction(self.envelopes()).is_some()
    }

    pub fn check_number(&self, expected: u64) -> Result<(), BlockFault> {
        if self.header.number == expected {
            return Ok(());
        }
        Err(BlockFault::WrongNumber {
            expected,
            found: self.header.number,
        })
    }

    pub fn follows(&self, previous: &BlockRef) -> Result<(), BlockFault> {
        self.check_number(previous.number.saturating_add(1))?;
        if self.header.previous_hash.as_ref() == previous.header_hash {
            return Ok(());
        }
        Err(BlockFault::WrongPreviousHash {
            expected: previous.header_hash.into(),
            found: self.header.previous_hash.clone().into(),
        })
    }

    /// The channel that the first transaction names (Fabric: `protoutil.GetChannelIDFromBlock`).
    pub fn check_channel(&self, expected: &str) -> Result<(), BlockFault> {
        let first = self.envelopes().first().ok_or(BlockFault::Empty)?;
        let found = channel_header(first).map_err(BlockFault::ChannelUnreadable)?;
        if found.channel_id == expected {
            return Ok(());
        }
        Err(BlockFault::WrongChannel {
            found: found.channel_id.chars().take(MAX_QUOTED).collect(),
        })
    }

    /// Well-formed transactions, then the data hash. A config block is exempt from the former: a
    /// single envelope has no neighbour to exchange bytes with
    /// (Fabric: `protoutil.BlockDataHash`).
    pub fn check_data(&self) -> Result<(), BlockFault> {
        if self.envelopes().is_empty() {
            return Err(BlockFault::Empty);
        }
        if !self.is_config() {
            for (index, envelope) in self.envelopes().iter().enumerate() {
                check_well_formed(envelope)
                    .map_err(|fault| BlockFault::NotWellFormed { index, fault })?;
            }
        }
        self.check_data_hash()
    }

    pub fn check_data_hash(&self) -> Result<(), BlockFault> {
        let computed = sha256_of_parts(self.envelopes().iter().map(Bytes::as_ref));
        if self.header.data_hash.as_ref() == computed {
            return Ok(());
        }
        Err(BlockFault::WrongDataHash {
            header: self.header.data_hash.clone().into(),
            computed: computed.into(),
        })
    }
}

/// How much of a foreign text an error repeats.
const MAX_QUOTED: usize = 249;

fn decode_block(bytes: &Bytes) -> Result<Block, BlockFault> {
    let mut block = Block::default();
    for field in Fields::of(bytes) {
        let field = field.map_err(BlockFault::malformed("block"))?;
        match (field.number, field.value) {
            (1, Value::Bytes(header)) => {
                merge_header(block.header.get_or_insert_default(), bytes, header)
                    .map_err(BlockFault::malformed("block header"))?;
            }
            (2, Value::Bytes(message)) => {
                let BlockData { data } = block.data.get_or_insert_default();
                let limit = ("transactions", MAX_TRANSACTIONS);
                append_entries(data, bytes, message, "block data", limit)?;
            }
            (3, Value::Bytes(message)) => {
                let BlockMetadata { metadata } = block.metadata.get_or_insert_default();
                let limit = ("metadata slots", MAX_METADATA_SLOTS);
                append_entries(metadata, bytes, message, "block metadata", limit)?;
            }
            _ => {}
        }
    }
    Ok(block)
}

fn merge_header(header: &mut BlockHeader, all: &Bytes, message: &[u8]) -> Result<(), WireError> {
    for field in Fields::of(message) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(number)) => header.number = number,
            (2, Value::Bytes(hash)) => header.previous_hash = all.slice_ref(hash),
            (3, Value::Bytes(hash)) => header.data_hash = all.slice_ref(hash),
            _ => {}
        }
    }
    Ok(())
}

/// Appends the entries of a message whose one field is `repeated bytes = 1`.
fn append_entries(
    entries: &mut Vec<Bytes>,
    all: &Bytes,
    message: &[u8],
    part: &'static str,
    (what, limit): (&'static str, usize),
) -> Result<(), BlockFault> {
    for field in Fields::of(message) {
        let field = field.map_err(BlockFault::malformed(part))?;
        if let (1, Value::Bytes(entry)) = (field.number, field.value) {
            if entries.len() == limit {
                return Err(BlockFault::TooMany { what, limit });
            }
            entries.push(all.slice_ref(entry));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_protos::Message;

    #[test]
    fn decodes_as_prost_does_and_shares_the_bytes() {
        let block = Block {
            header: Some(BlockHeader {
                number: 7,
                previous_hash: Bytes::from_static(b"previous"),
                data_hash: Bytes::from_static(b"data"),
            }),
            data: Some(BlockData {
                data: vec![Bytes::from_static(b"one"), Bytes::new()],
            }),
            metadata: Some(BlockMetadata {
                metadata: vec![Bytes::new(), Bytes::from_static(b"slot")],
            }),
        };
        let bytes = Bytes::from(block.encode_to_vec());
        let received = ReceivedBlock::decode(bytes.clone()).unwrap();
        assert_eq!(received.block, block);
        let range = bytes.as_ptr_range();
        assert!(range.contains(&received.envelopes()[0].as_ptr()));
    }

    #[test]
    fn parts_that_stand_twice_are_merged() {
        let first = Block {
            header: Some(BlockHeader {
                number: 7,
                ..Default::default()
            }),
            data: Some(BlockData {
                data: vec![Bytes::from_static(b"one")],
            }),
            metadata: None,
        };
        let second = Block {
            header: Some(BlockHeader {
                data_hash: Bytes::from_static(b"data"),
                ..Default::default()
            }),
            data: Some(BlockData {
                data: vec![Bytes::from_static(b"two")],
            }),
            metadata: Some(BlockMetadata::default()),
        };
        let bytes = Bytes::from([first.encode_to_vec(), second.encode_to_vec()].concat());
        let received = ReceivedBlock::decode(bytes.clone()).unwrap();
        assert_eq!(received.block, Block::decode(bytes).unwrap());
    }

    #[test]
    fn entries_are_bounded_before_they_are_stored() {
        let decode = |transactions, slots| {
            let block = Block {
                header: Some(BlockHeader::default()),
                data: Some(BlockData {
                    data: vec![Bytes::new(); transactions],
                }),
                metadata: Some(BlockMetadata {
                    metadata: vec![Bytes::new(); slots],
                }),
            };
            ReceivedBlock::decode(block.encode_to_vec().into()).map(drop)
        };
        assert!(decode(MAX_TRANSACTIONS, MAX_METADATA_SLOTS).is_ok());
        assert!(matches!(
            decode(MAX_TRANSACTIONS + 1, 0),
            Err(BlockFault::TooMany {
                what: "transactions",
                ..
            })
        ));
        assert!(matches!(
            decode(0, MAX_METADATA_SLOTS + 1),
            Err(BlockFault::TooMany {
                what: "metadata slots",
                ..
            })
        ));
    }
}
