//! Validation of whole blocks.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use bytes::Bytes;
use selvedge_channel::ChannelConfig;
use selvedge_protos::common::Block;
use selvedge_protos::protos::TxValidationCode;

use crate::decision::decide;
use crate::error::{LegacyLifecycle, ValidationError};
use crate::parallel;
use crate::source::{StateReader, TransactionIds};
use crate::transaction::Opened;
use crate::verdict::TxVerdict;

/// Verdicts stated by an operator, by block number and position in the block.
pub type StatedVerdicts = BTreeMap<(u64, usize), TxValidationCode>;

/// How blocks are validated.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many threads check signatures at a time.
    pub workers: NonZeroUsize,
    /// Verdicts for transactions that are undecidable. Such a transaction gets the stated code without
    /// any check, and later ones of its block take it for one that passed or failed its endorsement
    /// checks accordingly. `VALID` can only be stated for a transaction whose results can be read, and
    /// gives way to `DUPLICATE_TXID` if a valid transaction of the same block has its id.
    pub stated: StatedVerdicts,
}

impl Default for Options {
    /// As many threads as there are cores, and no stated verdicts.
    fn default() -> Self {
        Self {
            workers: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            stated: StatedVerdicts::new(),
        }
    }
}

/// Gives verdicts by one configuration of a channel. After a config block it takes a new one.
pub struct Validator {
    config: Arc<ChannelConfig>,
    options: Options,
}

/// A block whose transactions are opened and whose signatures are checked, which takes no state. So
/// this can be done for the next blocks while this one is committed.
pub struct PreparedBlock {
    number: u64,
    envelopes: Vec<Bytes>,
    /// The configuration that it was prepared by.
    config: Arc<ChannelConfig>,
    transactions: Vec<Opened>,
}

impl Validator {
    /// A validator for the blocks that follow a configuration.
    pub fn new(config: Arc<ChannelConfig>, options: Options) -> Result<Self, LegacyLifecycle> {
        let capabilities = &config.capabilities().application;
        if !capabilities.any_of(&["V2_0", "V2_5"]) {
            return Err(LegacyLifecycle {
                channel: config.channel_id().to_owned(),
            });
        }
        Ok(Self { config, options })
    }

    /// The configuration that it goes by.
    pub fn config(&self) -> &Arc<ChannelConfig> {
        &self.config
    }

    /// Opens all transactions of a block and checks their signatures, on several threads. Blocks the
    /// calling thread, which takes part. Costs for each transaction one signature check and one for each
    /// endorsement, on a cold cache also those of the certificates.
    pub fn prepare(&self, block: &Block) -> PreparedBlock {
        let (number, envelopes) = parts(block);
        PreparedBlock {
            number,
            transactions: self.open(number, &envelopes),
            envelopes,
            config: self.config.clone(),
        }
    }

    /// Likewise of several blocks, the transactions of all of them side by side: for blocks of few
    /// transactions.
    pub fn prepare_all<'a>(
        &self,
        blocks: impl IntoIterator<Item = &'a Block>,
    ) -> Vec<PreparedBlock> {
        let blocks: Vec<_> = blocks.into_iter().map(parts).collect();
        let envelopes = blocks.iter().flat_map(|(number, envelopes)| {
            let envelopes = envelopes.iter();
            envelopes.map(|envelope| (*number, envelope))
        });
        let envelopes: Vec<_> = envelopes.collect();
        let open = |(number, envelope): &(u64, &Bytes)| self.open_one(*number, envelope);
        let mut opened = parallel::map(&envelopes, self.options.workers, open).into_iter();
        let prepared = blocks.into_iter().map(|(number, envelopes)| PreparedBlock {
            number,
            transactions: opened.by_ref().take(envelopes.len()).collect(),
            envelopes,
            config: self.config.clone(),
        });
        prepared.collect()
    }

    fn open(&self, number: u64, envelopes: &[Bytes]) -> Vec<Opened> {
        let open = |envelope: &Bytes| self.open_one(number, envelope);
        parallel::map(envelopes, self.options.workers, open)
    }

    fn open_one(&self, number: u64, envelope: &Bytes) -> Opened {
        match number {
            0 => Opened::open_genesis(envelope),
            _ => Opened::open(envelope, &self.config),
        }
    }

    /// Gives the verdicts on a prepared block, one for each transaction. `state` and `ledger` must be as
    /// of the block before. A block that was prepared by another configuration is prepared again.
    pub fn decide(
        &self,
        block: PreparedBlock,
        state: &impl StateReader,
        ledger: &impl TransactionIds,
    ) -> Result<Vec<TxVerdict>, ValidationError> {
        let transactions = if Arc::ptr_eq(&block.config, &self.config) {
            block.transactions
        } else {
            self.open(block.number, &block.envelopes)
        };
        let stated = &self.options.stated;
        decide(
            &self.config,
            stated,
            block.number,
            transactions,
            state,
            ledger,
        )
    }

    /// Gives the verdicts on a block: [`Validator::prepare`] and [`Validator::decide`] in one.
    pub fn validate_block(
        &self,
        block: &Block,
        state: &impl StateReader,
        ledger: &impl TransactionIds,
    ) -> Result<Vec<TxVerdict>, ValidationError> {
        self.decide(self.prepare(block), state, ledger)
    }
}

/// Number and envelopes.
fn parts(block: &Block) -> (u64, Vec<Bytes>) {
    let (header, data) = (block.header.as_ref(), block.data.as_ref());
    let envelopes = data.map(|data| data.data.clone()).unwrap_or_default();
    (header.map_or(0, |header| header.number), envelopes)
}

impl PreparedBlock {
    /// The block's number.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Validator")
            .field("config", &self.config)
            .field("options", &self.options)
            .finish()
    }
}

impl fmt::Debug for PreparedBlock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PreparedBlock")
            .field("number", &self.number)
            .field("transactions", &self.transactions.len())
            .finish_non_exhaustive()
    }
}
