//! The check that every block passes, wherever it came from.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_protos::common::BlockMetadataIndex;

use crate::block::{Attestation, BlockRef, ReceivedBlock, VerifiedBlock};
use crate::config::ChannelConfig;
use crate::error::{BlockError, BlockFault};
use crate::signatures::{Consenters, signed_data};

/// The policy that the signatures of a block must satisfy. In a BFT channel it demands a quorum of
/// consenters, each of whom counts once.
pub const BLOCK_VALIDATION: &str = "/Channel/Orderer/BlockValidation";

/// How many metadata slots a block from an ordering node has. Gossip asks for one alone.
const ALL_SLOTS: usize = BlockMetadataIndex::CommitHash as usize + 1;

/// Verifies the blocks of a channel by one state of its configuration.
///
/// A config block is verified by the configuration before it; make a new verifier for the blocks
/// after it. Verifying takes no lock and may run on many threads at once.
#[derive(Debug)]
pub struct BlockVerifier {
    config: Arc<ChannelConfig>,
    consenters: Option<Consenters>,
}

impl BlockVerifier {
    /// A verifier for the blocks under this configuration.
    pub fn new(config: Arc<ChannelConfig>) -> Self {
        let consenters = config
            .allows_consenter_signatures()
            .then(|| Consenters::new(config.orderer().consenters()));
        Self { config, consenters }
    }

    /// The configuration that blocks are verified by.
    pub fn config(&self) -> &Arc<ChannelConfig> {
        &self.config
    }

    /// Verifies a block without knowing which one is due: channel, well-formed transactions, data
    /// hash and signatures. Whether it continues the chain is left to [`VerifiedBlock::follows`].
    pub fn verify(&self, bytes: Bytes) -> Result<VerifiedBlock, BlockError> {
        self.verify_block(bytes, 1, |block| self.check_channel(block))
    }

    /// Verifies a block whose number the sender has claimed, as blocks come by gossip.
    pub fn verify_expecting(&self, bytes: Bytes, number: u64) -> Result<VerifiedBlock, BlockError> {
        self.verify_block(bytes, 1, |block| {
            block.check_number(number)?;
            self.check_channel(block)
        })
    }

    /// Verifies the block after `previous`, as blocks come from an ordering node. Like Fabric's
    /// deliver client this also asks for all metadata slots, and takes the previous hash for proof that
    /// the block is of this channel: what its first transaction names matters only if that brings a
    /// configuration.
    pub fn verify_next(
        &self,
        bytes: Bytes,
        previous: &BlockRef,
    ) -> Result<VerifiedBlock, BlockError> {
        self.verify_block(bytes, ALL_SLOTS, |block| {
            block.follows(previous)?;
            match block.is_config() {
                true => self.check_channel(block),
                false => Ok(()),
            }
        })
    }

    /// Verifies header and signatures of the block after `previous`, without its transactions, which
    /// a stream of headers leaves out. Config blocks come in full on such streams and are for
    /// [`verify_next`](Self::verify_next).
    pub fn verify_attestation(
        &self,
        bytes: Bytes,
        previous: &BlockRef,
    ) -> Result<Attestation, BlockError> {
        self.with_block(bytes, |block| {
            block.follows(previous)?;
            check_slots(&block, ALL_SLOTS)?;
            self.check_signatures(&block)?;
            Ok(Attestation::vouch_for(block.block_ref()))
        })
    }

    /// Takes the first block of a channel, which an operator vouches for by joining the channel with
    /// it: nothing can verify it. It must be numbered 0, hold a usable configuration, and its data
    /// must match its header.
    pub fn trust_genesis(bytes: Bytes) -> Result<(VerifiedBlock, ChannelConfig), BlockError> {
        decode("(new)", bytes, |block| {
            if block.header.number != 0 {
                return Err(BlockFault::NotGenesis);
            }
            if block.envelopes().is_empty() {
                return Err(BlockFault::Empty);
            }
            if !block.is_config() {
                return Err(BlockFault::NotConfig);
            }
            block.check_data_hash()?;
            let config = ChannelConfig::from_block(&block.block)?;
            Ok((VerifiedBlock::vouch_for(block), config))
        })
    }

    /// Takes a block from the ledger, which holds only blocks that were verified before they were
    /// written. The data hash is checked again, against a damaged disk.
    pub fn from_ledger(channel_id: &str, bytes: Bytes) -> Result<VerifiedBlock, BlockError> {
        decode(channel_id, bytes, |block| {
            block.check_data_hash()?;
            Ok(VerifiedBlock::vouch_for(block))
        })
    }

    /// Cheap checks come first, the signatures last: they are what a flood of forged blocks would
    /// make expensive.
    fn verify_block(
        &self,
        bytes: Bytes,
        slots: usize,
        check_place: impl FnOnce(&ReceivedBlock) -> Result<(), BlockFault>,
    ) -> Result<VerifiedBlock, BlockError> {
        self.with_block(bytes, |block| {
            check_place(&block)?;
            check_slots(&block, slots)?;
            block.check_data()?;
            self.check_signatures(&block)?;
            Ok(VerifiedBlock::vouch_for(block))
        })
    }

    fn with_block<T>(
        &self,
        bytes: Bytes,
        check: impl FnOnce(ReceivedBlock) -> Result<T, BlockFault>,
    ) -> Result<T, BlockError> {
        decode(self.config.channel_id(), bytes, check)
    }

    fn check_channel(&self, block: &ReceivedBlock) -> Result<(), BlockFault> {
        block.check_channel(self.config.channel_id())
    }

    fn check_signatures(&self, block: &ReceivedBlock) -> Result<(), BlockFault> {
        let slot = BlockMetadataIndex::Signatures as usize;
        let slot = block
            .metadata_slots()
            .get(slot)
            .cloned()
            .unwrap_or_default();
        let signed = signed_data(&slot, &block.header_bytes, self.consenters.as_ref())?;
        let policy = self
            .config
            .policies()
            .policy(BLOCK_VALIDATION)
            .map_err(|_| BlockFault::NoPolicy {
                policy: BLOCK_VALIDATION,
            })?;
        policy
            .evaluate(&signed)
            .map_err(|source| BlockFault::NotSigned {
                policy: BLOCK_VALIDATION,
                source,
            })
    }
}

fn check_slots(block: &ReceivedBlock, needed: usize) -> Result<(), BlockFault> {
    let found = block.metadata_slots().len();
    if found < needed {
        return Err(BlockFault::NoMetadata { needed, found });
    }
    Ok(())
}

/// Decodes a block and runs a check on it; errors name the channel and, once it is known, the
/// number.
fn decode<T>(
    channel_id: &str,
    bytes: Bytes,
    check: impl FnOnce(ReceivedBlock) -> Result<T, BlockFault>,
) -> Result<T, BlockError> {
    let error = |number, fault| BlockError {
        channel: channel_id.to_owned(),
        number,
        fault: Box::new(fault),
    };
    let block = ReceivedBlock::decode(bytes).map_err(|fault| error(None, fault))?;
    let number = block.header.number;
    check(block).map_err(|fault| error(Some(number), fault))
}
