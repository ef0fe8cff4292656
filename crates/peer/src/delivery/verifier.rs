//! What a block from an ordering node must be to reach the committer.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::{BlockRef, BlockVerifier, ChannelConfig, VerifiedBlock};
use selvedge_orderer_client::{Accepted, Attested, ChainVerifier, ChannelVerifier, Refusal};

/// As [`ChannelVerifier`], but a genuine config block whose configuration this peer cannot use is
/// handed on. It is no fault of the ordering node, and no other one has a better block: the committer
/// must see it, to stop the channel and say why. Nothing is taken after it.
#[derive(Debug, Clone)]
pub(super) struct DeliveryVerifier {
    chain: ChannelVerifier,
    /// The last block that was taken.
    tip: BlockRef,
    ended: bool,
}

impl DeliveryVerifier {
    /// From the last block of the ledger, and the configuration as of that block.
    pub(super) fn new(config: Arc<ChannelConfig>, tip: BlockRef) -> Self {
        Self {
            chain: ChannelVerifier::new(config, tip),
            tip,
            ended: false,
        }
    }

    /// The block, if nothing is wrong with it but the configuration in it.
    fn unusable_config(&self, bytes: Bytes) -> Option<VerifiedBlock> {
        let verifier = BlockVerifier::new(self.chain.config().clone());
        let block = verifier.verify_next(bytes, &self.tip).ok()?;
        block.is_config().then_some(block)
    }
}

impl ChainVerifier for DeliveryVerifier {
    type Block = VerifiedBlock;

    fn next_number(&self) -> u64 {
        if self.ended {
            self.tip.number.saturating_add(1)
        } else {
            self.chain.next_number()
        }
    }

    fn accept(&mut self, bytes: Bytes) -> Result<Accepted<VerifiedBlock>, Refusal> {
        if self.ended {
            let number = self.tip.number;
            return Err(Refusal(format!(
                "the configuration in block [{number}] cannot be used"
            )));
        }
        let accepted = match self.chain.accept(bytes.clone()) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                let block = self.unusable_config(bytes).ok_or(refusal)?;
                self.ended = true;
                Accepted {
                    block,
                    orderers: None,
                }
            }
        };
        self.tip = accepted.block.block_ref();
        Ok(accepted)
    }

    fn attest(&mut self, bytes: Bytes) -> Result<Attested, Refusal> {
        self.chain.attest(bytes)
    }
}
