//! All channels of the peer: opened at the start, joined later.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use selvedge_channel::{BlockError, BlockVerifier, VerifiedBlock};
use selvedge_ledger::LedgerManager;
use tokio::sync::mpsc;

use super::{Channel, ChannelError, ChannelEvent};

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
    /// The block is not one to join a channel with.
    #[error(
        "\"JoinChain\" request failed because of validation of configuration block, because of {0}"
    )]
    Unfit(#[from] BlockError),
    /// The ledger cannot be made.
    #[error("cannot create ledger from genesis block: {0}")]
    Ledger(#[from] selvedge_ledger::LedgerError),
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
    open: RwLock<BTreeMap<String, Arc<Channel>>>,
    events: mpsc::Sender<ChannelEvent>,
}

impl Channels {
    /// No channel is open yet. `events` gets [`ChannelEvent::Opened`] for each that is.
    pub fn new(ledgers: LedgerManager, events: mpsc::Sender<ChannelEvent>) -> Self {
        Self(Arc::new(Inner {
            ledgers,
            open: RwLock::default(),
            events,
        }))
    }

    /// Opens every ledger that exists. A channel that cannot be opened is left out, so that it does
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
            let opened = self.0.ledgers.open_channel(&id);
            let channel = opened
                .map_err(|source| ChannelError::Ledger {
                    channel: id.clone(),
                    source,
                })
                .and_then(Channel::open);
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
        let (block, config) = BlockVerifier::trust_genesis(bytes)?;
        Ok(Genesis {
            block,
            channel_id: config.channel_id().to_owned(),
        })
    }

    /// Makes the ledger of a new channel and opens it. Blocks on the disk and, for a moment, on
    /// those who follow the channel events.
    pub fn join(&self, genesis: Genesis) -> Result<(), JoinError> {
        let id = genesis.channel_id();
        let ledger = self.0.ledgers.create_channel(id, genesis.block.block())?;
        self.register(Channel::open(ledger)?)
    }

    fn register(&self, channel: Channel) -> Result<(), JoinError> {
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
