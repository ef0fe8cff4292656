//! A whole chain into a fresh ledger.
//!
//! Two threads share the work: one verifies the next blocks and checks their signatures, on as many further
//! threads as validation is told to use, while the other gives verdicts and commits. At most
//! [`BLOCKS_AHEAD`] blocks wait between them. Blocks after a config block wait until it is committed,
//! since it decides by which rules they are judged.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use selvedge_channel::{BlockError, BlockRef, BlockVerifier, VerifiedBlock};
use selvedge_ledger::state::StateError;
use selvedge_ledger::{LedgerError, LedgerManager};
use selvedge_protos::block::metadata_slot;
use selvedge_protos::common::BlockMetadataIndex;
use selvedge_protos::envelope::OpenedEnvelope;
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::{Options, PreparedBlock, Validator};

use super::block::set_verdicts;
use super::{CommitError, CommitTimes, CommittedBlock, CommittedTransaction, Committer};

/// Blocks that are prepared ahead of the commit.
pub const BLOCKS_AHEAD: usize = 2;

/// Why a replay ended before the last block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError<E> {
    /// A block could not be had.
    #[error("{0}")]
    Source(E),
    /// There is no block at all.
    #[error("there is no block to begin with")]
    Empty,
    /// A block is not what an ordering node of the channel would deliver next.
    #[error("block {block}: {source}")]
    Block {
        /// The number that it should have.
        block: u64,
        /// What is wrong.
        source: BlockError,
    },
    /// The ledger could not be made.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The state could not be made.
    #[error(transparent)]
    State(#[from] StateError),
    /// A block was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// By what blocks are judged.
struct Rules {
    verifier: BlockVerifier,
    validator: Arc<Validator>,
}

impl Rules {
    fn of(committer: &Committer) -> Self {
        let validator = committer.validator().clone();
        Self {
            verifier: BlockVerifier::new(validator.config().clone()),
            validator,
        }
    }
}

/// Commits the blocks, encoded, from number 0 on, into a ledger that is made for them, and tells of
/// each. The first is trusted; the others are verified as if an ordering node had delivered them.
pub fn replay<E: Send>(
    blocks: impl IntoIterator<Item = Result<Bytes, E>, IntoIter: Send>,
    ledgers: &LedgerManager,
    options: &Options,
    mut committed: impl FnMut(&CommittedBlock),
) -> Result<Committer, ReplayError<E>> {
    let mut blocks = blocks.into_iter();
    let first = blocks.next().ok_or(ReplayError::Empty)?;
    let first = first.map_err(ReplayError::Source)?;
    let (mut committer, tip, genesis) = begin(first, ledgers, options)?;
    committed(&genesis);
    let (prepared, waiting) = mpsc::sync_channel(BLOCKS_AHEAD);
    let (new_rules, rules) = mpsc::channel();
    let rules = Preparation {
        rules: Rules::of(&committer),
        new_rules: rules,
        tip,
    };
    thread::scope(|scope| {
        // Gone when this closure returns, so that the other thread does not wait for it after an error.
        let new_rules = new_rules;
        scope.spawn(move || rules.run(blocks, &prepared));
        for next in waiting {
            let (block, prepared) = next?;
            let is_config = block.is_config();
            committed(&committer.commit(block.block().clone(), prepared)?);
            if is_config {
                // Nobody waits for rules if no block follows.
                let _ = new_rules.send(Rules::of(&committer));
            }
        }
        Ok::<_, ReplayError<E>>(())
    })?;
    Ok(committer)
}

/// Makes the ledger with the first block, whose transactions its channel's makers declare valid.
fn begin<E>(
    first: Bytes,
    ledgers: &LedgerManager,
    options: &Options,
) -> Result<(Committer, BlockRef, CommittedBlock), ReplayError<E>> {
    let refused = |source| ReplayError::Block { block: 0, source };
    let (verified, config) = BlockVerifier::trust_genesis(first).map_err(refused)?;
    let mut block = verified.block().clone();
    let envelopes = block.data.clone().unwrap_or_default().data;
    if metadata_slot(&block, BlockMetadataIndex::TransactionsFilter).is_empty() {
        let codes = vec![TxValidationCode::Valid as u8; envelopes.len()];
        set_verdicts(&mut block, codes);
    }
    let channel = config.channel_id();
    let store = ledgers.create_channel(channel, &block)?;
    let committer = Committer::open(store, ledgers.open_state(channel)?, options.clone())?;
    let transactions = envelopes.into_iter().map(|envelope| {
        let opened = OpenedEnvelope::decode(envelope).ok();
        CommittedTransaction {
            txid: opened.map(|opened| opened.channel_header.tx_id.into()),
            code: TxValidationCode::Valid,
            kind: None,
            reason: String::new(),
        }
    });
    let genesis = CommittedBlock {
        number: 0,
        header_hash: verified.header_hash(),
        data_hash: block.header.unwrap_or_default().data_hash,
        commit_hash: None,
        transactions: transactions.collect(),
        times: CommitTimes::default(),
    };
    Ok((committer, verified.block_ref(), genesis))
}

/// What is done with blocks before their turn.
struct Preparation {
    rules: Rules,
    new_rules: mpsc::Receiver<Rules>,
    tip: BlockRef,
}

type Prepared<E> = Result<(VerifiedBlock, PreparedBlock), ReplayError<E>>;

impl Preparation {
    /// Prepares blocks until they end, one is refused, or nobody takes them any more.
    fn run<E>(
        mut self,
        blocks: impl Iterator<Item = Result<Bytes, E>>,
        prepared: &mpsc::SyncSender<Prepared<E>>,
    ) {
        for block in blocks {
            let next = block
                .map_err(ReplayError::Source)
                .and_then(|block| self.prepare(block));
            let is_config = matches!(&next, Ok((block, _)) if block.is_config());
            if next.is_err() | prepared.send(next).is_err() {
                return;
            }
            if is_config {
                match self.new_rules.recv() {
                    Ok(rules) => self.rules = rules,
                    Err(_) => return,
                }
            }
        }
    }

    fn prepare<E>(&mut self, bytes: Bytes) -> Prepared<E> {
        let verified = self.rules.verifier.verify_next(bytes, &self.tip);
        let block = verified.map_err(|source| ReplayError::Block {
            block: self.tip.number.saturating_add(1),
            source,
        })?;
        self.tip = block.block_ref();
        let prepared = self.rules.validator.prepare(block.block());
        Ok((block, prepared))
    }
}
