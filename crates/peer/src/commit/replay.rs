//! A whole chain into a fresh ledger.
//!
//! Two threads share the work: one verifies the next blocks and checks their signatures, on as many further
//! threads as validation is told to use, while the other gives verdicts and commits. Blocks go from one to the
//! other in groups, of one block each if they are large; at most [`GROUPS_AHEAD`] wait between them. Blocks
//! after a config block wait until it is committed, since it decides by which rules they are judged.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use selvedge_channel::{BlockError, BlockRef, BlockVerifier, VerifiedBlock};
use selvedge_ledger::state::StateError;
use selvedge_ledger::{LedgerError, LedgerManager};
use selvedge_protos::block::metadata_slot;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_protos::envelope::OpenedEnvelope;
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::{Options, PreparedBlock, Validator};

use super::block::set_verdicts;
use super::{CommitError, CommitTimes, CommittedBlock, CommittedTransaction, Committer, GroupSize};

/// Groups of blocks that are prepared ahead of the commit.
pub const GROUPS_AHEAD: usize = 2;

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
    let (prepared, waiting) = mpsc::sync_channel(GROUPS_AHEAD);
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
            let Group { blocks, is_config } = next?;
            committer.commit_all(blocks, |block| committed(&block))?;
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

/// Blocks that follow each other. None but the last is a config block.
struct Group {
    blocks: Vec<(Block, PreparedBlock)>,
    is_config: bool,
}

type Prepared<E> = Result<Group, ReplayError<E>>;

impl Preparation {
    /// Prepares blocks until they end, one is refused, or nobody takes them any more.
    fn run<E>(
        mut self,
        mut blocks: impl Iterator<Item = Result<Bytes, E>>,
        prepared: &mpsc::SyncSender<Prepared<E>>,
    ) {
        loop {
            let (group, refused) = self.verify_group(&mut blocks);
            let is_config = group.last().is_some_and(VerifiedBlock::is_config);
            if !group.is_empty() && prepared.send(Ok(self.prepare(&group, is_config))).is_err() {
                return;
            }
            if let Err(error) = refused {
                // Nobody to tell means that another error came first.
                let _ = prepared.send(Err(error));
                return;
            }
            if group.is_empty() {
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

    /// The next blocks, none at the end, and why there are no more of them, if that is an error.
    fn verify_group<E>(
        &mut self,
        blocks: &mut impl Iterator<Item = Result<Bytes, E>>,
    ) -> (Vec<VerifiedBlock>, Result<(), ReplayError<E>>) {
        let (mut group, mut size) = (Vec::new(), GroupSize::default());
        while size.has_room()
            && let Some(bytes) = blocks.next()
        {
            let verified = bytes
                .map_err(ReplayError::Source)
                .and_then(|bytes| self.verify(bytes));
            match verified {
                Ok(block) => {
                    size.add(&block);
                    group.push(block);
                }
                Err(error) => return (group, Err(error)),
            }
        }
        (group, Ok(()))
    }

    fn verify<E>(&mut self, bytes: Bytes) -> Result<VerifiedBlock, ReplayError<E>> {
        let verified = self.rules.verifier.verify_next(bytes, &self.tip);
        let block = verified.map_err(|source| ReplayError::Block {
            block: self.tip.number.saturating_add(1),
            source,
        })?;
        self.tip = block.block_ref();
        Ok(block)
    }

    fn prepare(&self, group: &[VerifiedBlock], is_config: bool) -> Group {
        let blocks = group.iter().map(VerifiedBlock::block);
        let prepared = self.rules.validator.prepare_all(blocks.clone());
        Group {
            blocks: blocks.cloned().zip(prepared).collect(),
            is_config,
        }
    }
}
