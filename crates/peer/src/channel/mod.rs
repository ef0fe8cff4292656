//! The channels of a peer: each a ledger, the configuration in force, and a committer.

mod commit;
mod registry;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use selvedge_channel::{BlockRef, BlockVerifier, ChannelConfig, ConfigError, last_config_number};
use selvedge_gossip::event::Arrival;
use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_protos::Message;
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

/// What is in force.
struct Rules {
    /// Holds the configuration too.
    verifier: Arc<BlockVerifier>,
    /// The block of the configuration; it may still be on its way to the disk.
    since: u64,
    /// While that block is being written: what was in force before, and since which block.
    before: Option<(u64, Arc<ChannelConfig>)>,
}

impl Channel {
    /// Reads the configuration in force from the ledger.
    pub fn open(ledger: BlockStore) -> Result<Self, ChannelError> {
        let (number, block) = last_config_block(&ledger)?;
        let config = ChannelConfig::from_block(&block).map_err(unusable(&ledger, number))?;
        let rules = Rules {
            verifier: Arc::new(BlockVerifier::new(Arc::new(config))),
            since: number,
            before: None,
        };
        Ok(Self {
            id: ledger.channel().into(),
            ledger,
            rules: ArcSwap::from_pointee(rules),
        })
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

    /// The configuration in force: that of the last config block in the ledger, or of the one that is
    /// being written.
    pub fn config(&self) -> Arc<ChannelConfig> {
        self.rules.load().verifier.config().clone()
    }

    /// Checks blocks by the configuration in force.
    pub fn verifier(&self) -> Arc<BlockVerifier> {
        self.rules.load().verifier.clone()
    }

    /// The last block of the ledger, and the configuration as of that block: what it takes to verify
    /// the next one. `None` only if the ledger is empty.
    pub fn position(&self) -> Option<(BlockRef, Arc<ChannelConfig>)> {
        loop {
            // In this order: rules are changed before their block is written.
            let tip = self.tip()?;
            let rules = self.rules.load();
            if rules.since <= tip.number {
                return Some((tip, rules.verifier.config().clone()));
            }
            match &rules.before {
                Some((since, config)) if *since <= tip.number => {
                    return Some((tip, config.clone()));
                }
                // The tip is of long ago.
                _ => {}
            }
        }
    }

    /// The last config block in the ledger, encoded. Waits for the disk.
    pub fn config_block(&self) -> Result<Bytes, ChannelError> {
        let (_, block) = last_config_block(&self.ledger)?;
        Ok(block.encode_to_vec().into())
    }

    /// Puts the configuration of block `since` into force, to be written next, and returns the one
    /// before.
    fn reconfigure(&self, config: ChannelConfig, since: u64) -> Arc<ChannelConfig> {
        let old = self.rules.load();
        let before = old.verifier.config().clone();
        let rules = Rules {
            verifier: Arc::new(BlockVerifier::new(Arc::new(config))),
            since,
            before: Some((old.since, before.clone())),
        };
        self.rules.store(Arc::new(rules));
        before
    }

    /// The block of the last [`Self::reconfigure`] is in the ledger.
    fn settle(&self) {
        let current = self.rules.load();
        let rules = Rules {
            verifier: current.verifier.clone(),
            since: current.since,
            before: None,
        };
        self.rules.store(Arc::new(rules));
    }

    /// The block of the last [`Self::reconfigure`] cannot be written: what was in force before is so again.
    fn restore(&self) {
        let current = self.rules.load();
        if let Some((since, config)) = &current.before {
            let rules = Rules {
                verifier: Arc::new(BlockVerifier::new(config.clone())),
                since: *since,
                before: None,
            };
            self.rules.store(Arc::new(rules));
        }
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

/// The last config block of a ledger, by what its last block says.
fn last_config_block(ledger: &BlockStore) -> Result<(u64, Block), ChannelError> {
    let newest = ledger.height().saturating_sub(1);
    let tip = read(ledger, newest)?;
    if newest == 0 {
        return Ok((0, tip));
    }
    let number = last_config_number(&tip).map_err(unusable(ledger, newest))?;
    Ok((number, read(ledger, number)?))
}

fn unusable(ledger: &BlockStore, block: u64) -> impl FnOnce(ConfigError) -> ChannelError {
    let channel = ledger.channel().to_owned();
    move |source| ChannelError::Config {
        channel,
        block,
        source: Box::new(source),
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
