//! Validation and ledger tied together: what it takes to make a block part of a channel's ledger.
//!
//! A block gets its verdicts from [`selvedge_validation`], first those that stand without the state's
//! versions, then the conflicts of versions. Verdicts and commit hash are written into its metadata, the
//! block goes to the block files, and when it is safe there its changes go to the state.
//!
//! The block files are the truth. A state that is behind them is brought level when the ledger is
//! opened: from the verdicts in the blocks, without validating anew.
//!
//! - [`Committer`]: one channel's ledger, taking block after block.
//! - [`LedgerState`]: what validation asks of the state.
//! - [`replay`]: a whole chain into a fresh ledger, the next blocks being prepared while one is committed.
//! - [`verify`](mod@verify): a ledger checked against itself.

pub(crate) mod block;
mod changes;
mod error;
mod position;
mod private;
mod recovery;
pub mod replay;
mod state;
pub mod verify;

use std::sync::Arc;
use std::time::Instant;

use selvedge_channel::{ChannelConfig, ConfigError, decode_config_envelope};
use selvedge_ledger::BlockStore;
use selvedge_ledger::snapshot::ChannelSnapshots;
use selvedge_ledger::state::StateDatabase;
use selvedge_ledger::store::Durability;
use selvedge_protos::block::header_hash;
use selvedge_protos::common::Block;
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::mvcc;
use selvedge_validation::{Options, PreparedBlock, TransactionKind, TxVerdict, Validator};

pub use block::{CommitTimes, CommittedBlock, CommittedTransaction, ValidatedBlock};
pub use error::CommitError;
use position::Position;
pub(crate) use position::config_in_state;
pub(crate) use private::account_for_snapshot;
pub use recovery::{LevelProgress, fill_state};
pub use state::LedgerState;

/// How blocks are committed.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// How they are validated.
    pub validation: Options,
    /// Whether the history of keys is kept (`ledger.history.enableHistoryDatabase`).
    pub history: bool,
    /// The MSP of the peer's organisation, to tell which missing private data it is entitled to; without
    /// it no accounts are kept of what is missing.
    pub organization: Option<Arc<str>>,
    /// Told while databases are brought level with the block files.
    pub observer: Option<LevelObserver>,
}

/// Called for each block, on the thread that opens a ledger.
#[derive(Clone)]
pub struct LevelObserver(Arc<dyn Fn(&LevelProgress<'_>) + Send + Sync>);

impl LevelObserver {
    /// Calls a function.
    pub fn new(observer: impl Fn(&LevelProgress<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observer))
    }

    fn tell(&self, progress: &LevelProgress<'_>) {
        (self.0)(progress);
    }
}

impl std::fmt::Debug for LevelObserver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LevelObserver")
    }
}

impl Default for CommitOptions {
    fn default() -> Self {
        Options::default().into()
    }
}

impl From<Options> for CommitOptions {
    /// With a history, without accounts of missing private data.
    fn from(validation: Options) -> Self {
        Self {
            validation,
            history: true,
            organization: None,
            observer: None,
        }
    }
}

/// The ledger of one channel. Blocks are committed one after the other, on a thread that may wait for
/// the disk.
#[derive(Debug)]
pub struct Committer {
    blocks: BlockStore,
    state: Arc<LedgerState>,
    commit_hash: Option<[u8; 32]>,
    /// Whether the last block is in the block files and not in the state.
    is_behind: bool,
    validator: Arc<Validator>,
    options: CommitOptions,
    config_block: u64,
    snapshots: Option<Arc<ChannelSnapshots>>,
}

impl Committer {
    /// Takes over a ledger that has its first block at least, and brings the state level with the
    /// block files. Costs a pass over the blocks that the state lacks. Makes no snapshots.
    pub fn open(
        blocks: BlockStore,
        state: StateDatabase,
        options: impl Into<CommitOptions>,
    ) -> Result<Self, CommitError> {
        Self::open_with(blocks, state, None, options)
    }

    /// As [`Self::open`]; `snapshots` is told of every block that is in the state.
    pub fn open_with(
        blocks: BlockStore,
        state: StateDatabase,
        snapshots: Option<Arc<ChannelSnapshots>>,
        options: impl Into<CommitOptions>,
    ) -> Result<Self, CommitError> {
        let options = options.into();
        if blocks.first_block() == 0 {
            state.set_expendable();
        }
        let Position {
            config,
            config_block,
            commit_hash,
        } = Position::find(&blocks, &state)?;
        let mut committer = Self {
            commit_hash,
            config_block,
            blocks,
            state: Arc::new(LedgerState::new(state)),
            is_behind: false,
            validator: Arc::new(Validator::new(
                Arc::new(config),
                options.validation.clone(),
            )?),
            options,
            snapshots,
        };
        committer.bring_level()?;
        Ok(committer)
    }

    /// The block of the configuration that was in force when the ledger was opened; 0 if it came with the
    /// snapshot that the channel was joined by.
    pub fn config_block(&self) -> u64 {
        self.config_block
    }

    /// The channel's snapshots, if they are made.
    pub fn snapshots(&self) -> Option<&Arc<ChannelSnapshots>> {
        self.snapshots.as_ref()
    }

    /// Gives verdicts by the configuration in force.
    pub fn validator(&self) -> &Arc<Validator> {
        &self.validator
    }

    /// The blocks.
    pub fn blocks(&self) -> &BlockStore {
        &self.blocks
    }

    /// The state.
    pub fn state(&self) -> &Arc<LedgerState> {
        &self.state
    }

    /// Validates and commits the next block: [`Self::validate`] and [`Self::write`] in one.
    pub fn commit(
        &mut self,
        block: Block,
        prepared: PreparedBlock,
    ) -> Result<CommittedBlock, CommitError> {
        let validated = self.validate(block, prepared)?;
        self.write(validated)
    }

    /// Gives the verdicts on the next block, and finds out what it changes. That the block is genuine the
    /// caller has verified. `prepared` is what [`Validator::prepare`] made of it.
    pub fn validate(
        &self,
        mut block: Block,
        prepared: PreparedBlock,
    ) -> Result<ValidatedBlock, CommitError> {
        if self.is_behind {
            return Err(CommitError::Behind {
                channel: self.blocks.channel().to_owned(),
            });
        }
        let number = prepared.number();
        let started = Instant::now();
        let ids = state::LedgerIds(&self.blocks);
        let verdicts = self.validator.decide(prepared, &*self.state, &ids)?;
        let decided = Instant::now();
        let resolved = mvcc::resolve(
            number,
            &verdicts,
            &*self.state,
            &self.options.validation.stated,
        )?;
        let filter = resolved.transactions_filter();
        let commit_hash = (number == 1 || self.commit_hash.is_some()).then(|| {
            let previous = self.commit_hash.as_ref().map(|hash| &hash[..]);
            mvcc::commit_hash(previous, &filter, &resolved.updates)
        });
        block::set_verdicts(&mut block, filter);
        if let Some(hash) = &commit_hash {
            block::set_commit_hash(&mut block, hash);
        }
        let next = self.next_validator(number, &verdicts, &resolved.codes)?;
        let stated = &self.options.validation.stated;
        let changes::Changes {
            mut updates,
            defined,
        } = changes::of_batch(number, resolved.updates, &self.state, Some(stated))?;
        if self.options.history {
            updates.add_history(changes::history(number, &verdicts, &resolved.codes));
        }
        if let Some(finder) = self.missing_finder() {
            let missing =
                finder.of_verdicts(number, &verdicts, &resolved.codes, &block, &defined)?;
            updates.add_missing_data(missing, &self.state.database().missing_data())?;
        }
        let envelopes = block.data.iter().flat_map(|data| &data.data);
        let transactions = verdicts.into_iter().zip(resolved.codes).zip(envelopes);
        let transactions = transactions
            .map(|((verdict, code), envelope)| CommittedTransaction::new(verdict, code, envelope))
            .collect();
        Ok(ValidatedBlock {
            number,
            commit_hash,
            updates,
            next,
            transactions,
            times: CommitTimes {
                validation: decided.saturating_duration_since(started),
                state_validation: decided.elapsed(),
                ..CommitTimes::default()
            },
            block,
        })
    }

    /// Makes a block part of the ledger that was validated as its next one. After an error of the state
    /// nothing more is committed until the ledger is opened again.
    pub fn write(&mut self, validated: ValidatedBlock) -> Result<CommittedBlock, CommitError> {
        let ValidatedBlock {
            block,
            number,
            commit_hash,
            updates,
            next,
            transactions,
            mut times,
        } = validated;
        let started = Instant::now();
        self.blocks.append(&block)?;
        let appended = Instant::now();
        self.is_behind = true;
        self.state
            .database()
            .commit(&updates, Durability::Process)?;
        self.is_behind = false;
        self.tell_snapshots(number);
        times.blocks = appended.saturating_duration_since(started);
        times.state = appended.elapsed();
        self.commit_hash = commit_hash;
        if let Some(next) = next {
            self.validator = next;
        }
        let header = block.header.unwrap_or_default();
        Ok(CommittedBlock {
            number,
            header_hash: header_hash(&header),
            data_hash: header.data_hash,
            commit_hash,
            transactions,
            times,
        })
    }

    fn tell_snapshots(&self, number: u64) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.committed(number);
        }
    }

    /// The validator for the blocks after a new configuration, if the block brings one.
    fn next_validator(
        &self,
        number: u64,
        verdicts: &[TxVerdict],
        codes: &[TxValidationCode],
    ) -> Result<Option<Arc<Validator>>, CommitError> {
        let valid = verdicts
            .iter()
            .zip(codes)
            .filter(|(_, code)| **code == TxValidationCode::Valid);
        let kinds = valid.filter_map(|(verdict, _)| verdict.transaction.as_ref());
        let envelope = kinds.filter_map(|transaction| match &transaction.kind {
            TransactionKind::Config { envelope } => Some(envelope),
            TransactionKind::Endorser { .. } => None,
        });
        let Some(envelope) = envelope.last() else {
            return Ok(None);
        };
        let broken = |reason| CommitError::Block {
            channel: self.blocks.channel().to_owned(),
            block: number,
            reason,
        };
        let config = decode_config_envelope(envelope.clone())
            .ok()
            .and_then(|envelope| envelope.config)
            .ok_or_else(|| broken("its config transaction holds no configuration"))?;
        let config = ChannelConfig::from_config(self.blocks.channel(), config);
        let config = Arc::new(config.map_err(unusable(number))?);
        let validator = Validator::new(config, self.options.validation.clone())?;
        Ok(Some(Arc::new(validator)))
    }
}

fn unusable(block: u64) -> impl FnOnce(ConfigError) -> CommitError {
    move |source| CommitError::Config { block, source }
}

fn read(blocks: &BlockStore, number: u64) -> Result<Block, CommitError> {
    blocks.block(number)?.ok_or_else(|| CommitError::Block {
        channel: blocks.channel().to_owned(),
        block: number,
        reason: "it is not there",
    })
}
