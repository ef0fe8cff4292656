//! What the next block of a chain must be.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvedge_channel::{BlockRef, BlockVerifier, ChannelConfig, VerifiedBlock};

use crate::addresses::OrdererAddresses;

/// The end of a chain, which knows what may come next. A clone goes its own way from there.
pub trait ChainVerifier: Clone + Send + Sync + 'static {
    /// A verified block.
    type Block: Send + 'static;

    /// The number of the block that is due.
    fn next_number(&self) -> u64;

    /// Takes the next block, or refuses it and stays as it is.
    fn accept(&mut self, bytes: Bytes) -> Result<Accepted<Self::Block>, Refusal>;

    /// Takes the next header with its signatures, as it comes on a stream of headers: a block
    /// without its data, or in full if it is a config block.
    fn attest(&mut self, bytes: Bytes) -> Result<Attested, Refusal>;
}

/// A block that continues the chain.
#[derive(Debug)]
pub struct Accepted<B> {
    /// The block.
    pub block: B,
    /// If it changes the configuration: where ordering nodes are from here on.
    pub orderers: Option<OrdererAddresses>,
}

/// A header that continues the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attested {
    /// Its number.
    pub number: u64,
}

/// Why a block or header was not taken, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    fn because(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// Verifies by a channel's configuration, and follows it through config blocks.
#[derive(Debug, Clone)]
pub struct ChannelVerifier {
    verifier: Arc<BlockVerifier>,
    tip: BlockRef,
}

impl ChannelVerifier {
    /// From the last block of the ledger, and the configuration as of that block.
    pub fn new(config: Arc<ChannelConfig>, tip: BlockRef) -> Self {
        Self {
            verifier: Arc::new(BlockVerifier::new(config)),
            tip,
        }
    }

    /// The configuration after the last block that was taken.
    pub fn config(&self) -> &Arc<ChannelConfig> {
        self.verifier.config()
    }

    /// Takes a block that has passed, and the configuration that it may bring.
    fn advance(&mut self, block: &VerifiedBlock) -> Result<Option<OrdererAddresses>, Refusal> {
        let mut orderers = None;
        if block.is_config() {
            let config = ChannelConfig::from_block(block.block()).map_err(Refusal::because)?;
            self.config()
                .check_successor(&config)
                .map_err(Refusal::because)?;
            orderers = Some(OrdererAddresses::from(&config));
            self.verifier = Arc::new(BlockVerifier::new(Arc::new(config)));
        }
        self.tip = block.block_ref();
        Ok(orderers)
    }
}

impl ChainVerifier for ChannelVerifier {
    type Block = VerifiedBlock;

    fn next_number(&self) -> u64 {
        self.tip.number.saturating_add(1)
    }

    fn accept(&mut self, bytes: Bytes) -> Result<Accepted<VerifiedBlock>, Refusal> {
        let block = self
            .verifier
            .verify_next(bytes, &self.tip)
            .map_err(Refusal::because)?;
        let orderers = self.advance(&block)?;
        Ok(Accepted { block, orderers })
    }

    fn attest(&mut self, bytes: Bytes) -> Result<Attested, Refusal> {
        if has_data(&bytes) {
            let block = self
                .verifier
                .verify_next(bytes, &self.tip)
                .map_err(Refusal::because)?;
            self.advance(&block)?;
        } else {
            let attestation = self
                .verifier
                .verify_attestation(bytes, &self.tip)
                .map_err(Refusal::because)?;
            self.tip = attestation.block_ref();
        }
        Ok(Attested {
            number: self.tip.number,
        })
    }
}

/// Whether a block has data, without decoding what a stranger has put into it.
fn has_data(block: &Bytes) -> bool {
    /// `common.Block` with its data left alone.
    #[derive(Clone, PartialEq, Message)]
    struct Shape {
        #[prost(bytes = "bytes", tag = "2")]
        data: Bytes,
    }
    Shape::decode(block.clone()).is_ok_and(|shape| !shape.data.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use selvedge_protos::common::{Block, BlockData, BlockHeader};

    use super::*;

    #[test]
    fn only_blocks_with_data_have_data() {
        let header = Some(BlockHeader {
            number: 7,
            ..BlockHeader::default()
        });
        let with = |data| {
            Block {
                header: header.clone(),
                data,
                metadata: None,
            }
            .encode_to_vec()
        };
        assert!(!has_data(&with(None).into()));
        assert!(!has_data(&with(Some(BlockData::default())).into()));
        let data = BlockData {
            data: vec![Bytes::from_static(b"x")],
        };
        assert!(has_data(&with(Some(data)).into()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            has_data(&bytes.into());
        }
    }
}
