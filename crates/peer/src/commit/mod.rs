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

pub mod replay;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::{ChannelConfig, ConfigError, last_config_number};
use selvedge_ledger::state::{Namespace, StateDatabase, StateError, StateUpdates, VersionedValue};
use selvedge_ledger::store::Durability;
use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_protos::Message;
use selvedge_protos::block::{header_hash, metadata, metadata_slot};
use selvedge_protos::common::{
    Block, BlockMetadataIndex, ChannelHeader, ConfigEnvelope, Envelope, Metadata, Payload,
};
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::mvcc::{self, MvccError, Update, UpdateBatch};
use selvedge_validation::{
    LegacyLifecycle, Options, PreparedBlock, SourceError, TransactionKind, TxVerdict,
    ValidationError, Validator, block_to_live,
};

pub use state::LedgerState;

/// The metadata slots of a committed block.
const SLOTS: usize = BlockMetadataIndex::CommitHash as usize + 1;

/// Why a block did not become part of the ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no verdict on a transaction, or the ledger failed while one was sought.
    #[error(transparent)]
    Validation(#[from] ValidationError),
    /// Likewise, when versions were compared.
    #[error(transparent)]
    Mvcc(#[from] MvccError),
    /// The block files failed, or refused the block.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The state failed. If its block is in the block files already, the state is brought level when the
    /// ledger is opened again.
    #[error(transparent)]
    State(#[from] StateError),
    /// A look-up in the state failed.
    #[error("state for block {block}: {source}")]
    Source {
        /// The block.
        block: u64,
        /// What the state says.
        source: SourceError,
    },
    /// The configuration in a block cannot be used.
    #[error("the configuration in block {block} cannot be used: {source}")]
    Config {
        /// The block.
        block: u64,
        /// What is wrong.
        source: ConfigError,
    },
    /// The channel has rules that are not served.
    #[error(transparent)]
    LegacyLifecycle(#[from] LegacyLifecycle),
    /// The state is ahead of the block files.
    #[error(
        "channel {channel}: the state has block {savepoint}, the block files end before block {height}: \
         remove the state, it is built anew"
    )]
    StateAhead {
        /// The channel.
        channel: String,
        /// The last block in the state.
        savepoint: u64,
        /// The height of the block files.
        height: u64,
    },
    /// An earlier block is in the block files and its changes are not in the state, so nothing can be
    /// validated.
    #[error("channel {channel}: the state has failed at an earlier block: open the ledger again")]
    Behind {
        /// The channel.
        channel: String,
    },
    /// A block of the ledger is not there, or says what no committed block says.
    #[error("channel {channel}: block {block} of the ledger: {reason}")]
    Block {
        /// The channel.
        channel: String,
        /// The block.
        block: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What became of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedBlock {
    /// Its number.
    pub number: u64,
    /// SHA-256 of its header.
    pub header_hash: [u8; 32],
    /// The data hash in its header.
    pub data_hash: Bytes,
    /// The commit hash; the first block of a channel has none.
    pub commit_hash: Option<[u8; 32]>,
    /// Id and code of each transaction; `None` where its channel header does not parse.
    pub transactions: Vec<(Option<Arc<str>>, TxValidationCode)>,
}

/// The ledger of one channel. Blocks are committed one after the other, on a thread that may wait for
/// the disk.
#[derive(Debug)]
pub struct Committer {
    blocks: BlockStore,
    state: LedgerState,
    commit_hash: Option<[u8; 32]>,
    /// Whether the last block is in the block files and not in the state.
    is_behind: bool,
    validator: Arc<Validator>,
    options: Options,
}

impl Committer {
    /// Takes over a ledger that has its first block at least, and brings the state level with the
    /// block files. Costs a pass over the blocks that the state lacks.
    pub fn open(
        blocks: BlockStore,
        state: StateDatabase,
        options: Options,
    ) -> Result<Self, CommitError> {
        let newest = blocks.height().saturating_sub(1);
        let tip = read(&blocks, newest)?;
        let config = match newest {
            0 => 0,
            _ => last_config_number(&tip).map_err(unusable(newest))?,
        };
        let config =
            ChannelConfig::from_block(&read(&blocks, config)?).map_err(unusable(config))?;
        let mut committer = Self {
            commit_hash: stored_commit_hash(&blocks, &tip)?,
            blocks,
            state: LedgerState::new(state),
            is_behind: false,
            validator: Arc::new(Validator::new(Arc::new(config), options.clone())?),
            options,
        };
        committer.bring_state_level()?;
        Ok(committer)
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
    pub fn state(&self) -> &LedgerState {
        &self.state
    }

    /// Validates and commits the next block. After an error of the state nothing more is committed until the
    /// ledger is opened again. That the block is genuine the caller has verified. `prepared` is what
    /// [`Validator::prepare`] made of it.
    pub fn commit(
        &mut self,
        mut block: Block,
        prepared: PreparedBlock,
    ) -> Result<CommittedBlock, CommitError> {
        if self.is_behind {
            return Err(CommitError::Behind {
                channel: self.blocks.channel().to_owned(),
            });
        }
        let number = prepared.number();
        let verdicts = self
            .validator
            .decide(prepared, &self.state, &self.blocks_ids())?;
        let resolved = mvcc::resolve(number, &verdicts, &self.state, &self.options.stated)?;
        let filter = resolved.transactions_filter();
        let commit_hash = (number == 1 || self.commit_hash.is_some()).then(|| {
            mvcc::commit_hash(
                self.commit_hash.as_ref().map(|h| &h[..]),
                &filter,
                &resolved.updates,
            )
        });
        set_slot(
            &mut block,
            BlockMetadataIndex::TransactionsFilter,
            filter.into(),
        );
        if let Some(hash) = commit_hash {
            let message = Metadata {
                value: Bytes::copy_from_slice(&hash),
                signatures: Vec::new(),
            };
            let message = message.encode_to_vec().into();
            set_slot(&mut block, BlockMetadataIndex::CommitHash, message);
        }
        let next = self.next_validator(number, &verdicts, &resolved.codes)?;
        let updates = self.state_updates(number, resolved.updates)?;
        self.blocks.append(&block)?;
        self.is_behind = true;
        self.state
            .database()
            .commit(&updates, Durability::Process)?;
        self.is_behind = false;
        self.commit_hash = commit_hash;
        if let Some(next) = next {
            self.validator = next;
        }
        let header = block.header.unwrap_or_default();
        let envelopes = block.data.unwrap_or_default().data;
        let ids = verdicts.into_iter().zip(&envelopes);
        let ids = ids.map(|(verdict, envelope)| stated_id(verdict.txid, envelope));
        Ok(CommittedBlock {
            number,
            header_hash: header_hash(&header),
            data_hash: header.data_hash,
            commit_hash,
            transactions: ids.zip(resolved.codes).collect(),
        })
    }

    fn blocks_ids(&self) -> state::LedgerIds<'_> {
        state::LedgerIds(&self.blocks)
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
        let config = ConfigEnvelope::decode(envelope.clone())
            .ok()
            .and_then(|envelope| envelope.config)
            .ok_or_else(|| broken("its config transaction holds no configuration"))?;
        let config = ChannelConfig::from_config(self.blocks.channel(), config);
        let config = Arc::new(config.map_err(unusable(number))?);
        let validator = Validator::new(config, self.options.clone())?;
        Ok(Some(Arc::new(validator)))
    }

    /// Applies the blocks that the state lacks.
    fn bring_state_level(&mut self) -> Result<(), CommitError> {
        let height = self.blocks.height();
        let savepoint = self.state.database().savepoint()?;
        if let Some(savepoint) = savepoint.filter(|savepoint| *savepoint >= height) {
            return Err(CommitError::StateAhead {
                channel: self.blocks.channel().to_owned(),
                savepoint,
                height,
            });
        }
        for number in savepoint.map_or(0, |savepoint| savepoint + 1)..height {
            let block = read(&self.blocks, number)?;
            let rwsets = self.committed_rwsets(number, &block)?;
            let valid = rwsets.iter().map(|(position, rwset)| (*position, rwset));
            let updates = mvcc::collect(number, valid, &self.state)?;
            let updates = self.state_updates(number, updates)?;
            self.state
                .database()
                .commit(&updates, Durability::Process)?;
        }
        Ok(())
    }

    /// The read-write sets of the transactions that a committed block calls valid.
    fn committed_rwsets(
        &self,
        number: u64,
        block: &Block,
    ) -> Result<Vec<(usize, selvedge_validation::TxRwSet)>, CommitError> {
        const VALID: u8 = TxValidationCode::Valid as u8;
        let broken = |reason| CommitError::Block {
            channel: self.blocks.channel().to_owned(),
            block: number,
            reason,
        };
        let filter = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
        let envelopes = block.data.as_ref().map_or(&[][..], |data| &data.data);
        if filter.len() != envelopes.len() {
            return Err(broken(
                "it has no verdicts, so it was stored without validation",
            ));
        }
        let valid = filter.iter().zip(envelopes).enumerate();
        let valid = valid.filter(|(_, (code, _))| **code == VALID);
        valid
            .map(|(position, (_, envelope))| {
                let rwset = mvcc::committed_rwset(envelope);
                let rwset = rwset.ok_or_else(|| broken("a valid transaction has no results"))?;
                Ok((position, rwset))
            })
            .collect()
    }

    /// The update batch as the state takes it, with the blocks in which private keys expire.
    fn state_updates(&self, block: u64, batch: UpdateBatch) -> Result<StateUpdates, CommitError> {
        let mut updates = StateUpdates::new(block);
        let mut lifetimes = BTreeMap::new();
        for (chaincode, batch) in batch.namespaces {
            for (key, update) in batch.public {
                change(
                    &mut updates,
                    Namespace::public(&chaincode),
                    &key,
                    update,
                    None,
                );
            }
            for (collection, batch) in batch.collections {
                let namespace = Namespace::hashed(&chaincode, &collection);
                if !lifetimes.contains_key(&collection) {
                    let lifetime = self.lifetime(block, &chaincode, &collection)?;
                    lifetimes.insert(collection.clone(), lifetime);
                }
                let lifetime = lifetimes.get(&collection).copied().flatten();
                let expires = lifetime.and_then(|blocks| block.checked_add(blocks)?.checked_add(1));
                for (key, update) in batch {
                    change(&mut updates, namespace, &key, update, expires);
                }
            }
            lifetimes.clear();
        }
        Ok(updates)
    }

    fn lifetime(
        &self,
        block: u64,
        chaincode: &str,
        collection: &str,
    ) -> Result<Option<u64>, CommitError> {
        let config = self.validator.config();
        block_to_live(chaincode, collection, config, &self.state)
            .map_err(|source| CommitError::Source { block, source })
    }
}

fn change(
    updates: &mut StateUpdates,
    namespace: Namespace<'_>,
    key: &[u8],
    update: Update,
    expires: Option<u64>,
) {
    let Update {
        value,
        metadata,
        version,
    } = update;
    match value {
        None => updates.delete(namespace, key),
        Some(value) => {
            let value = VersionedValue {
                value,
                metadata,
                version,
            };
            updates.put_expiring(namespace, key, value, expires);
        }
    }
}

/// The id in a transaction's channel header, which may be empty; `None` if there is no telling.
fn stated_id(found: Arc<str>, envelope: &Bytes) -> Option<Arc<str>> {
    let is_readable = || {
        let envelope = Envelope::decode(envelope.clone()).ok()?;
        let header = Payload::decode(envelope.payload).ok()?.header?;
        ChannelHeader::decode(header.channel_header).ok()
    };
    (!found.is_empty() || is_readable().is_some()).then_some(found)
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

/// The commit hash in a block's metadata; `None` if it has none, as the first block of a channel.
fn stored_commit_hash(blocks: &BlockStore, block: &Block) -> Result<Option<[u8; 32]>, CommitError> {
    let value = metadata(block, BlockMetadataIndex::CommitHash).map(|metadata| metadata.value);
    let hash = value.ok().and_then(|value| match value.len() {
        0 => Some(None),
        _ => <[u8; 32]>::try_from(&value[..]).ok().map(Some),
    });
    hash.ok_or_else(|| CommitError::Block {
        channel: blocks.channel().to_owned(),
        block: block.header.as_ref().map_or(0, |header| header.number),
        reason: "its commit hash does not parse",
    })
}

/// Sets one metadata slot; a committed block has all that Fabric knows.
fn set_slot(block: &mut Block, slot: BlockMetadataIndex, bytes: Bytes) {
    let slots = &mut block.metadata.get_or_insert_default().metadata;
    if slots.len() < SLOTS {
        slots.resize(SLOTS, Bytes::new());
    }
    if let Some(slot) = slots.get_mut(slot as usize) {
        *slot = bytes;
    }
}
