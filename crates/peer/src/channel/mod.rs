//! The channels of a peer: each a ledger, the configuration in force, and a committer.

mod commit;
mod registry;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use selvedge_channel::{BlockRef, BlockVerifier, ChannelConfig, ConfigError, last_config_number};
use selvedge_gossip::event::Arrival;
use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_protos::common::Block;

pub use commit::{CommitError, CommitQueue};
pub use registry::{Channels, Genesis, JoinError};

/// What happened in a channel, for those who follow along.
#[derive(Clone)]
pub enum ChannelEvent {
    /// The channel is open: at the start of the peer, or because it was joined.
    Opened(Arc<Channel>),
    /// Its ledger has this many blocks now.
    Committed {
        /// The channel.
        channel: Arc<Channel>,
        /// The blocks, in order, and how each came.
        blocks: Vec<(u64, Arrival)>,
    },
    /// A config block took effect.
    Reconfigured {
        /// The channel.
        channel: Arc<Channel>,
        /// The configuration before.
        before: Arc<ChannelConfig>,
    },
    /// The election has made this peer the one that fetches the channel's blocks, or unmade it.
    Leadership {
        /// The channel.
        channel: Arc<Channel>,
        /// Whether it leads.
        leads: bool,
    },
    /// It cannot go on. Everything else does.
    Failed {
        /// The channel.
        channel: Arc<Channel>,
        /// Why.
        reason: Arc<str>,
    },
}

/// A channel that cannot be opened from its ledger.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The ledger failed.
    #[error("channel {channel}: {source}")]
    Ledger {
        /// The channel.
        channel: String,
        /// What the ledger says.
        source: LedgerError,
    },
    /// The configuration cannot be used, for instance because it demands an unknown capability.
    #[error("channel {channel}: the configuration in block {block} cannot be used: {source}")]
    Config {
        /// The channel.
        channel: String,
        /// The config block.
        block: u64,
        /// What is wrong.
        source: Box<ConfigError>,
    },
    /// A block that must be there is not.
    #[error("channel {channel}: block {block} is not in the ledger")]
    Missing {
        /// The channel.
        channel: String,
        /// The block.
        block: u64,
    },
}

impl ChannelError {
    /// The channel that it is about.
    pub fn channel(&self) -> &str {
        match self {
            Self::Ledger { channel, .. }
            | Self::Config { channel, .. }
            | Self::Missing { channel, .. } => channel,
        }
    }
}

/// One channel: its ledger and the rules in force.
pub struct Channel {
    id: Arc<str>,
    ledger: BlockStore,
    rules: ArcSwap<Rules>,
}

/// A configuration with what is derived from it.
struct Rules {
    config: Arc<ChannelConfig>,
    verifier: Arc<BlockVerifier>,
    config_block: u64,
}

impl Rules {
    fn new(config: Arc<ChannelConfig>, config_block: u64) -> Self {
        let verifier = Arc::new(BlockVerifier::new(config.clone()));
        Self {
            config,
            verifier,
            config_block,
        }
    }
}

impl Channel {
    /// Reads the configuration in force from the ledger.
    pub fn open(ledger: BlockStore) -> Result<Self, ChannelError> {
        let id: Arc<str> = ledger.channel().into();
        let newest = ledger.height().saturating_sub(1);
        let tip = read(&ledger, newest)?;
        let unusable = |block| {
            let channel = id.to_string();
            move |source: ConfigError| ChannelError::Config {
                channel,
                block,
                source: Box::new(source),
            }
        };
        let number = match newest {
            0 => 0,
            _ => last_config_number(&tip).map_err(unusable(newest))?,
        };
        let config =
            ChannelConfig::from_block(&read(&ledger, number)?).map_err(unusable(number))?;
        let rules = ArcSwap::from_pointee(Rules::new(Arc::new(config), number));
        Ok(Self { id, ledger, rules })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name, shared.
    pub fn shared_id(&self) -> Arc<str> {
        self.id.clone()
    }

    /// Its blocks.
    pub fn ledger(&self) -> &BlockStore {
        &self.ledger
    }

    /// The last block of the ledger; `None` only if it is empty, which no channel's is.
    pub fn tip(&self) -> Option<BlockRef> {
        let info = self.ledger.info();
        Some(BlockRef {
            number: info.height.checked_sub(1)?,
            header_hash: info.current_block_hash.as_ref().try_into().ok()?,
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<ChannelConfig> {
        self.rules.load().config.clone()
    }

    /// Checks blocks by the configuration in force.
    pub fn verifier(&self) -> Arc<BlockVerifier> {
        self.rules.load().verifier.clone()
    }

    /// The block that holds the configuration in force, read from the ledger.
    pub fn config_block(&self) -> Result<Bytes, ChannelError> {
        let block = self.rules.load().config_block;
        let failed = |source| ChannelError::Ledger {
            channel: self.id.to_string(),
            source,
        };
        let missing = || ChannelError::Missing {
            channel: self.id.to_string(),
            block,
        };
        self.ledger
            .block_bytes(block)
            .map_err(failed)?
            .ok_or_else(missing)
    }

    /// Puts the configuration of block `number` into force and returns the one before.
    fn reconfigure(&self, config: ChannelConfig, number: u64) -> Arc<ChannelConfig> {
        let before = self
            .rules
            .swap(Arc::new(Rules::new(Arc::new(config), number)));
        before.config.clone()
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id)
            .field("height", &self.ledger.height())
            .finish_non_exhaustive()
    }
}

fn read(ledger: &BlockStore, number: u64) -> Result<Block, ChannelError> {
    let channel = || ledger.channel().to_owned();
    ledger
        .block(number)
        .map_err(|source| ChannelError::Ledger {
            channel: channel(),
            source,
        })?
        .ok_or_else(|| ChannelError::Missing {
            channel: channel(),
            block: number,
        })
}
