//! Validation and ledger tied together: what it takes to make a block part of a channel's ledger.
//!
//! A block gets its verdicts from [`selvedge_validation`], first those that stand without the state's
//! versions, then the conflicts of versions. Verdicts and commit hash are written into its metadata, the
//! block goes to the block files, and when it is safe there its changes go to the state.
//!
//! Blocks that wait can be written together, with one sync ([`Committer::commit_all`]). Those after the first
//! are validated as if it were in the ledger, from what it changes (`staged`); nobody else sees any of
//! it before the block is safe.
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
mod group;
mod position;
mod private;
mod recovery;
pub mod replay;
mod staged;
mod state;
pub mod verify;

use std::sync::Arc;
use std::time::Instant;

use selvedge_channel::{ChannelConfig, ConfigError, decode_config_envelope};
use selvedge_ledger::BlockStore;
use selvedge_ledger::snapshot::{ChannelSnapshots, Turn};
use selvedge_ledger::state::StateDatabase;
use selvedge_ledger::store::Durability;
use selvedge_protos::common::Block;
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::mvcc;
use selvedge_validation::{Options, PreparedBlock, TransactionKind, TxVerdict, Validator};

pub use block::{CommitTimes, CommittedBlock, CommittedTransaction, ValidatedBlock};
pub use error::CommitError;
pub(crate) use group::GroupSize;
use position::Position;
pub(crate) use position::config_in_state;
pub(crate) use private::account_for_snapshot;
pub use recovery::{LevelProgress, fill_state};
use staged::Staged;
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
    staged: Staged,
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
            staged: Staged::default(),
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

    /// Validates and commits the next blocks, those that need no rules of each other with one sync. What
    /// is committed is told in order, also if a later block is not.
    pub fn commit_all(
        &mut self,
        blocks: impl IntoIterator<Item = (Block, PreparedBlock)>,
        mut told: impl FnMut(CommittedBlock),
    ) -> Result<(), CommitError> {
        for (block, prepared) in blocks {
            let validated = match self.validate(block, prepared) {
                Ok(validated) => validated,
                Err(error) => {
                    self.write_staged(&mut told)?;
                    return Err(error);
                }
            };
            self.stage(validated);
            if self.staged.brings_rules() {
                self.write_staged(&mut told)?;
            }
        }
        self.write_staged(&mut told)
    }

    /// Gives the verdicts on the next block, after those that are staged, and finds out what it changes.
    /// That the block is genuine the caller has verified. `prepared` is what [`Validator::prepare`] made of
    /// it.
    pub fn validate(
        &mut self,
        mut block: Block,
        prepared: PreparedBlock,
    ) -> Result<ValidatedBlock, CommitError> {
        if self.is_behind {
            return Err(CommitError::Behind {
                channel: self.blocks.channel().to_owned(),
            });
        }
        self.staged.apply(&self.state)?;
        let state = self.staged.state().unwrap_or(&self.state);
        let previous = self.staged.commit_hash().unwrap_or(self.commit_hash);
        let number = prepared.number();
        let started = Instant::now();
        let ids = state::LedgerIds {
            blocks: &self.blocks,
            staged: self.staged.ids(),
        };
        let verdicts = self.validator.decide(prepared, &**state, &ids)?;
        let decided = Instant::now();
        let stated = &self.options.validation.stated;
        let resolved = mvcc::resolve(number, &verdicts, &**state, stated)?;
        let filter = resolved.transactions_filter();
        let commit_hash = (number == 1 || previous.is_some()).then(|| {
            let previous = previous.as_ref().map(|hash| &hash[..]);
            mvcc::commit_hash(previous, &filter, &resolved.updates)
        });
        block::set_verdicts(&mut block, filter);
        if let Some(hash) = &commit_hash {
            block::set_commit_hash(&mut block, hash);
        }
        let next = self.next_validator(number, &verdicts, &resolved.codes)?;
        let changes::Changes {
            mut updates,
            defined,
        } = changes::of_batch(number, resolved.updates, state, Some(stated))?;
        if self.options.history {
            updates.add_history(changes::history(number, &verdicts, &resolved.codes));
        }
        if let Some(finder) = self.missing_finder(state) {
            let missing =
                finder.of_verdicts(number, &verdicts, &resolved.codes, &block, &defined)?;
            updates.add_missing_data(missing, &state.database().missing_data())?;
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

    /// Makes a block part of the ledger that was validated as its next one, with those that are staged. After
    /// an error of the state nothing more is committed until the ledger is opened again.
    pub fn write(&mut self, validated: ValidatedBlock) -> Result<CommittedBlock, CommitError> {
        let number = validated.number;
        let mut last = None;
        self.stage(validated);
        self.write_staged(&mut |block| last = Some(block))?;
        last.ok_or_else(|| CommitError::Block {
            channel: self.blocks.channel().to_owned(),
            block: number,
            reason: "it was not written",
        })
    }

    /// Puts a block aside that was validated as the next one, to be written with others. One that brings a
    /// configuration is the last of them.
    pub fn stage(&mut self, validated: ValidatedBlock) {
        self.staged.push(validated);
    }

    /// Makes the staged blocks part of the ledger: all of them safe in the block files, with one sync, then
    /// one after the other in the state. Each is told then. After an error none is staged any more.
    pub fn write_staged(
        &mut self,
        told: &mut impl FnMut(CommittedBlock),
    ) -> Result<(), CommitError> {
        let staged = self.staged.take();
        let Some(last) = staged.last() else {
            return Ok(());
        };
        let (number, next) = (last.number, last.next.clone());
        let started = Instant::now();
        self.blocks
            .append_batch(staged.iter().map(|validated| &validated.block))?;
        let share = u32::try_from(staged.len()).unwrap_or(u32::MAX);
        let appending = started.elapsed() / share;
        self.is_behind = true;
        let snapshots = self.snapshots.clone();
        for validated in staged {
            let turn = self.wait_for_turn(snapshots.as_deref())?;
            let started = Instant::now();
            let database = self.state.database();
            database.commit(&validated.updates, Durability::Process)?;
            drop(turn);
            self.is_behind = validated.number != number;
            self.tell_snapshots(validated.number);
            self.commit_hash = validated.commit_hash;
            told(validated.committed(appending, started.elapsed()));
        }
        if let Some(next) = next {
            self.validator = next;
        }
        Ok(())
    }

    /// Until a block may change the state.
    fn wait_for_turn<'a>(
        &self,
        snapshots: Option<&'a ChannelSnapshots>,
    ) -> Result<Option<Turn<'a>>, CommitError> {
        let turn = snapshots.map(ChannelSnapshots::wait_for_turn).transpose();
        turn.map_err(|_| CommitError::Stopped {
            channel: self.blocks.channel().to_owned(),
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
