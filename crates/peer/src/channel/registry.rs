//! All channels of the peer: opened at the start, joined later.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use selvedge_channel::{BlockFault, BlockVerifier, VerifiedBlock};
use selvedge_ledger::{BlockStore, LedgerError, LedgerManager};
use selvedge_protos::Message;
use selvedge_protos::block::metadata_slot;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_protos::envelope::OpenedEnvelope;
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::{LegacyLifecycle, Options, Validator};
use tokio::sync::mpsc;

use super::snapshot_join::{SnapshotJoin, SnapshotJoinError};
use super::{Channel, ChannelError, ChannelEvent, ChannelOptions};
use crate::commit::block::set_verdicts;

/// A block 0 that a channel can be joined with.
pub struct Genesis {
    block: VerifiedBlock,
    channel_id: String,
}

impl Genesis {
    /// The channel that it starts.
    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }
}

/// Why a channel cannot be joined. The wording is that of Fabric's `cscc`.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// What was given is not a block.
    #[error("Failed to reconstruct the genesis block, {0}")]
    NotABlock(#[from] selvedge_protos::DecodeError),
    /// The block does not say which channel it is for.
    #[error("\"JoinChain\" request failed to extract channel id from the block due to [{0}]")]
    NoChannel(String),
    /// The block is not one to join a channel with.
    #[error(
        "\"JoinChain\" for channelID = {channel} failed because of validation of configuration \
         block, because of {fault}"
    )]
    Unfit {
        /// The channel that it names.
        channel: String,
        /// What is wrong with it.
        fault: Box<BlockFault>,
    },
    /// The channel has been joined already.
    #[error(
        "cannot create ledger from genesis block: ledger [{channel}] already exists with state [{}]",
        if *is_paused { "INACTIVE" } else { "ACTIVE" }
    )]
    Exists {
        /// The channel.
        channel: String,
        /// Whether an operator has paused it.
        is_paused: bool,
    },
    /// A channel is being joined by a snapshot.
    #[error("cannot create ledger from genesis block: {0}")]
    Snapshot(Box<SnapshotJoinError>),
    /// Its chaincodes have a lifecycle that is not served.
    #[error("cannot create ledger from genesis block: {0}")]
    LegacyLifecycle(#[from] LegacyLifecycle),
    /// The ledger cannot be made.
    #[error("cannot create ledger from genesis block: {0}")]
    Ledger(LedgerError),
    /// The channel cannot be opened.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The peer is stopping.
    #[error("the peer is stopping")]
    Stopping,
}

/// The peer's channels. Cheap to clone.
#[derive(Clone)]
pub struct Channels(Arc<Inner>);

struct Inner {
    ledgers: LedgerManager,
    options: ChannelOptions,
    open: RwLock<BTreeMap<String, Arc<Channel>>>,
    events: mpsc::Sender<ChannelEvent>,
    snapshot_join: SnapshotJoin,
}

impl Channels {
    /// No channel is open yet. `events` gets [`ChannelEvent::Opened`] for each that is.
    pub fn new(
        ledgers: LedgerManager,
        options: ChannelOptions,
        events: mpsc::Sender<ChannelEvent>,
    ) -> Self {
        Self(Arc::new(Inner {
            ledgers,
            options,
            open: RwLock::default(),
            events,
            snapshot_join: SnapshotJoin::default(),
        }))
    }

    /// Opens every ledger that exists and is not paused. A channel that cannot be opened is left out, so that it does
    /// not stop the others; the errors say why. Blocks on the disk.
    pub fn open_all(&self) -> Vec<ChannelError> {
        let mut failures = Vec::new();
        let ids = match self.0.ledgers.channels() {
            Ok(ids) => ids,
            Err(source) => {
                return vec![ChannelError::Ledger {
                    channel: "(all)".to_owned(),
                    source,
                }];
            }
        };
        for id in ids {
            if self.0.ledgers.is_paused(&id) {
                tracing::info!(
                    target: "ledgermgmt",
                    "Channel [{id}] is paused, so it is not opened: `selvedge node resume -c {id}` ends that"
                );
                continue;
            }
            let opened = self.0.ledgers.open_channel(&id);
            let channel = opened
                .map_err(|source| ChannelError::Ledger {
                    channel: id.clone(),
                    source,
                })
                .and_then(|ledger| self.open(ledger));
            match channel {
                Ok(channel) => {
                    if self.register(channel).is_err() {
                        return failures;
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
        failures
    }

    /// The channel of that name.
    pub fn get(&self, id: &str) -> Option<Arc<Channel>> {
        self.0.open.read().get(id).cloned()
    }

    /// All channels, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Channel>> {
        self.0.open.read().values().cloned().collect()
    }

    /// The names of all channels, in order.
    pub fn ids(&self) -> Vec<String> {
        self.0.open.read().keys().cloned().collect()
    }

    /// Can a channel be joined with this block? It must be a config block 0 with an Application
    /// group and no capability that this peer lacks.
    pub fn check_genesis(&self, bytes: Bytes) -> Result<Genesis, JoinError> {
        let channel_id = channel_of(&Block::decode(bytes.clone())?)?;
        let trusted = BlockVerifier::trust_genesis(bytes);
        let (block, config) = trusted.map_err(|error| JoinError::Unfit {
            channel: channel_id,
            fault: error.fault,
        })?;
        let channel_id = config.channel_id().to_owned();
        Validator::new(Arc::new(config), Options::default())?;
        Ok(Genesis { block, channel_id })
    }

    /// Makes the ledger of a new channel and opens it. Blocks on the disk and, for a moment, on
    /// those who follow the channel events.
    pub fn join(&self, genesis: Genesis) -> Result<(), JoinError> {
        if let Some(folder) = self.joining_by_snapshot() {
            let going = SnapshotJoinError::InProgress(folder);
            return Err(JoinError::Snapshot(Box::new(going)));
        }
        let id = genesis.channel_id();
        let block = with_verdicts(genesis.block.block().clone());
        let ledger = self.0.ledgers.create_channel(id, &block);
        let ledger = ledger.map_err(|error| match error {
            LedgerError::ChannelExists { channel } => JoinError::Exists {
                is_paused: self.0.ledgers.is_paused(&channel),
                channel,
            },
            error => JoinError::Ledger(error),
        })?;
        self.register(self.open(ledger)?)
    }

    /// A state that cannot be used is made anew, if all blocks are there.
    pub(super) fn open(&self, ledger: BlockStore) -> Result<Channel, ChannelError> {
        let failure = match self.try_open(&ledger) {
            Err(failure) if failure.is_of_the_state() => failure,
            result => return result,
        };
        let id = ledger.channel().to_owned();
        let of_channel = |source| ChannelError::Ledger {
            channel: id.clone(),
            source,
        };
        if ledger.first_block() > 0 {
            return Err(failure);
        }
        tracing::warn!(target: "kvledger", "[{id}] Building the state anew: {failure}");
        self.0.ledgers.remove_state(&id).map_err(of_channel)?;
        self.try_open(&ledger)
    }

    fn try_open(&self, ledger: &BlockStore) -> Result<Channel, ChannelError> {
        let Inner {
            ledgers, options, ..
        } = &*self.0;
        let channel = ledger.channel();
        let state = ledgers.open_state(channel);
        let state = state.map_err(|source| ChannelError::State {
            channel: channel.to_owned(),
            source,
        })?;
        let snapshots = ledgers.open_snapshots(ledger, &state);
        let snapshots = snapshots.map_err(|source| ChannelError::Snapshots {
            channel: channel.to_owned(),
            source,
        })?;
        Channel::open(ledger.clone(), state, snapshots, options.of(channel))
    }

    pub(super) fn ledgers(&self) -> &LedgerManager {
        &self.0.ledgers
    }

    /// The MSP of the peer's organisation.
    pub(super) fn organization(&self) -> Option<&Arc<str>> {
        self.0.options.organization.as_ref()
    }

    pub(super) fn snapshot_join(&self) -> &SnapshotJoin {
        &self.0.snapshot_join
    }

    pub(super) fn register(&self, channel: Channel) -> Result<(), JoinError> {
        let channel = Arc::new(channel);
        self.0
            .open
            .write()
            .insert(channel.id().to_owned(), channel.clone());
        self.0
            .events
            .blocking_send(ChannelEvent::Opened(channel))
            .map_err(|_| JoinError::Stopping)
    }
}

/// The channel that the first transaction of a block names.
fn channel_of(block: &Block) -> Result<String, JoinError> {
    let first = block.data.as_ref().and_then(|data| data.data.first());
    let first = first.ok_or_else(|| {
        JoinError::NoChannel("failed to retrieve channel id - block is empty".to_owned())
    })?;
    let opened = OpenedEnvelope::decode(first.clone())
        .map_err(|error| JoinError::NoChannel(error.to_string()))?;
    Ok(opened.channel_header.channel_id)
}

/// Block 0 comes without verdicts on its transactions; whoever joins with it declares them valid, as
/// Fabric's `cscc` does.
fn with_verdicts(mut block: Block) -> Block {
    if metadata_slot(&block, BlockMetadataIndex::TransactionsFilter).is_empty() {
        let transactions = block.data.as_ref().map_or(0, |data| data.data.len());
        set_verdicts(
            &mut block,
            vec![TxValidationCode::Valid as u8; transactions],
        );
    }
    block
}
