//! The channels of a peer: each a ledger, the configuration in force, and a committer.

mod commit;
mod registry;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use selvedge_channel::{BlockVerifier, ChannelConfig, ConfigError};
use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_protos::common::{Block, BlockMetadataIndex, LastConfig, OrdererBlockMetadata};
use selvedge_protos::{Message, block};

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
        /// Blocks in the ledger.
        height: u64,
    },
    /// A config block took effect.
    Reconfigured {
        /// The channel.
        channel: Arc<Channel>,
        /// The configuration before.
        before: Arc<ChannelConfig>,
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
        source: ConfigError,
    },
    /// A stored block does not parse.
    #[error("channel {channel}: block {block} in the ledger does not parse")]
    Malformed {
        /// The channel.
        channel: String,
        /// The block.
        block: u64,
    },
}

/// One channel: its ledger and the rules in force.
pub struct Channel {
    id: Arc<str>,
    ledger: Arc<BlockStore>,
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
        Self { config, verifier, config_block }
    }
}

impl Channel {
    /// Reads the configuration in force from the ledger.
    pub fn open(ledger: Arc<BlockStore>) -> Result<Self, ChannelError> {
        let id: Arc<str> = ledger.channel_id().into();
        let failed = |source| ChannelError::Ledger { channel: id.to_string(), source };
        let newest = ledger.height().saturating_sub(1);
        let tip = decode(&id, newest, ledger.block_bytes(newest).map_err(failed)?)?;
        let number = last_config(&tip);
        let config_block = decode(&id, number, ledger.block_bytes(number).map_err(failed)?)?;
        let config = ChannelConfig::from_block(&config_block).map_err(|source| {
            ChannelError::Config { channel: id.to_string(), block: number, source }
        })?;
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
    pub fn ledger(&self) -> &Arc<BlockStore> {
        &self.ledger
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
    pub fn config_block(&self) -> Result<Bytes, LedgerError> {
        self.ledger.block_bytes(self.rules.load().config_block)
    }

    /// Puts the configuration of block `number` into force and returns the one before.
    fn reconfigure(&self, config: ChannelConfig, number: u64) -> Arc<ChannelConfig> {
        let before = self.rules.swap(Arc::new(Rules::new(Arc::new(config), number)));
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

fn decode(channel: &str, number: u64, bytes: Bytes) -> Result<Block, ChannelError> {
    Block::decode(bytes)
        .map_err(|_| ChannelError::Malformed { channel: channel.to_owned(), block: number })
}

/// The number of the newest config block as of `block`. Ordering nodes write it into the signed
/// metadata; those before v1.4.1 into a slot of its own (Fabric:
/// `protoutil.GetLastConfigIndexFromBlock`).
fn last_config(block: &Block) -> u64 {
    let signed = block::metadata(block, BlockMetadataIndex::Signatures).unwrap_or_default();
    if let Ok(OrdererBlockMetadata { last_config: Some(LastConfig { index }), .. }) =
        OrdererBlockMetadata::decode(signed.value)
    {
        return index;
    }
    let slot = block::metadata(block, BlockMetadataIndex::LastConfig).unwrap_or_default();
    LastConfig::decode(slot.value).unwrap_or_default().index
}
