//! The channels of a peer: each a ledger, the configuration in force, and a committer.

mod commit;
mod registry;
mod snapshot_join;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_channel::{BlockRef, BlockVerifier, ChannelConfig, last_config_number};
use selvedge_gossip::event::Arrival;
use selvedge_ledger::snapshot::{ChannelSnapshots, SnapshotError};
use selvedge_ledger::state::{StateDatabase, StateError};
use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_protos::Message;
use selvedge_protos::common::Block;
use selvedge_validation::{Options, StatedVerdicts, Validator};
use tokio::sync::watch;

use crate::commit::{CommitOptions, Committer, LedgerState, fill_state};
use crate::query::ChannelReader;

pub use commit::{CommitError, CommitQueue};
pub use registry::{Channels, Genesis, JoinError};
pub use snapshot_join::SnapshotJoinError;

/// What happened in a channel, for those who follow along.
#[derive(Clone)]
pub enum ChannelEvent {
    /// The channel is open: at the start of the peer, or because it was joined.
    Opened(Arc<Channel>),
    /// A block has become part of its ledger.
    Committed {
        /// The channel.
        channel: Arc<Channel>,
        /// The block.
        number: u64,
        /// How it came.
        how: Arrival,
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
    /// The state cannot be opened.
    #[error("channel {channel}: {source}")]
    State {
        /// The channel.
        channel: String,
        /// What the state says.
        source: StateError,
    },
    /// Blocks and state cannot be brought level, or the configuration cannot be used, for instance because
    /// it demands an unknown capability.
    #[error("channel {channel}: {source}")]
    Commit {
        /// The channel.
        channel: String,
        /// What is wrong.
        source: Box<crate::commit::CommitError>,
    },
    /// The folder of block files has the name of another channel.
    #[error("channel {channel}: the ledger of that name has the blocks of channel {found}")]
    WrongChannel {
        /// The name of the folder.
        channel: String,
        /// What the configuration says.
        found: String,
    },
    /// The folder of the snapshots or the requests for them cannot be used.
    #[error("channel {channel}: snapshots: {source}")]
    Snapshots {
        /// The channel.
        channel: String,
        /// What is wrong.
        source: SnapshotError,
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
            | Self::State { channel, .. }
            | Self::Commit { channel, .. }
            | Self::WrongChannel { channel, .. }
            | Self::Snapshots { channel, .. }
            | Self::Missing { channel, .. } => channel,
        }
    }
}

impl ChannelError {
    /// Whether the state alone is in the way, so that a new one could be made.
    fn is_of_the_state(&self) -> bool {
        match self {
            Self::State { source, .. } => source.is_damage(),
            Self::Commit { source, .. } => match &**source {
                crate::commit::CommitError::StateAhead { .. } => true,
                crate::commit::CommitError::State(error) => error.is_damage(),
                _ => false,
            },
            Self::Ledger { .. }
            | Self::WrongChannel { .. }
            | Self::Snapshots { .. }
            | Self::Missing { .. } => false,
        }
    }
}

/// How channels are kept.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    /// How many threads check signatures at a time, in each channel (`peer.validatorPoolSize`).
    pub workers: NonZeroUsize,
    /// By channel, the verdicts that the operator has stated.
    pub stated: BTreeMap<String, StatedVerdicts>,
    /// Whether the history of keys is kept (`ledger.history.enableHistoryDatabase`).
    pub history: bool,
    /// The MSP of the peer's organisation, to tell which missing private data it is entitled to.
    pub organization: Option<Arc<str>>,
}

impl Default for ChannelOptions {
    /// As many threads as there are cores, no stated verdicts, a history, no organisation.
    fn default() -> Self {
        Self {
            workers: Options::default().workers,
            stated: BTreeMap::new(),
            history: true,
            organization: None,
        }
    }
}

impl ChannelOptions {
    fn of(&self, channel: &str) -> CommitOptions {
        CommitOptions {
            validation: Options {
                workers: self.workers,
                stated: self.stated.get(channel).cloned().unwrap_or_default(),
            },
            history: self.history,
            organization: self.organization.clone(),
            observer: None,
        }
    }
}

/// One channel: its ledger and the rules in force.
pub struct Channel {
    id: Arc<str>,
    ledger: BlockStore,
    state: Arc<LedgerState>,
    snapshots: Arc<ChannelSnapshots>,
    committer: Mutex<Committer>,
    /// How many blocks are in the ledger with all that they change.
    committed: watch::Sender<u64>,
    rules: ArcSwap<Rules>,
}

/// What is in force.
struct Rules {
    /// Holds the configuration too.
    validator: Arc<Validator>,
    verifier: Arc<BlockVerifier>,
    /// The block of the configuration; it may still be on its way to the disk.
    since: u64,
    /// While that block is being written: what was in force before, and since which block.
    before: Option<(u64, Arc<Validator>)>,
}

impl Rules {
    fn new(validator: Arc<Validator>, since: u64) -> Self {
        Self {
            verifier: Arc::new(BlockVerifier::new(validator.config().clone())),
            validator,
            since,
            before: None,
        }
    }

    fn config(&self) -> &Arc<ChannelConfig> {
        self.validator.config()
    }
}

impl Channel {
    /// Takes over a ledger, and brings its state level with its blocks, which takes the time of a pass over
    /// those that the state lacks.
    pub fn open(
        ledger: BlockStore,
        state: StateDatabase,
        snapshots: ChannelSnapshots,
        options: CommitOptions,
    ) -> Result<Self, ChannelError> {
        let channel = ledger.channel().to_owned();
        let snapshots = Arc::new(snapshots);
        let told = Some(snapshots.clone());
        let committer = Committer::open_with(ledger.clone(), state, told, options);
        let committer = committer.map_err(|source| ChannelError::Commit {
            channel,
            source: Box::new(source),
        })?;
        let found = committer.validator().config().channel_id();
        if found != ledger.channel() {
            return Err(ChannelError::WrongChannel {
                channel: ledger.channel().to_owned(),
                found: found.to_owned(),
            });
        }
        let blocks = ledger.clone();
        snapshots.remake_lost(move |state, block, stopped| {
            let filled = fill_state(&blocks, state, block, stopped);
            filled.map_err(|error| error.to_string())
        });
        let since = committer.config_block();
        Ok(Self {
            id: ledger.channel().into(),
            committed: watch::Sender::new(ledger.height()),
            ledger,
            snapshots,
            state: committer.state().clone(),
            rules: ArcSwap::from_pointee(Rules::new(committer.validator().clone(), since)),
            committer: Mutex::new(committer),
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

    /// Reads state and history.
    pub fn reader(&self) -> ChannelReader {
        ChannelReader::new(self.ledger.clone(), self.state.clone())
    }

    /// Follows the number of blocks whose changes can be read. The ledger's own height is ahead of it while
    /// a block's changes are being written; whoever was told of a block by this one sees what it did.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Its state, as of the last block.
    pub fn state(&self) -> &Arc<LedgerState> {
        &self.state
    }

    /// Its snapshots. Waits for the disk.
    pub fn snapshots(&self) -> &ChannelSnapshots {
        &self.snapshots
    }

    /// Who writes. Locked while a block is validated and written, so never wait for it on an asynchronous
    /// task.
    pub fn committer(&self) -> &Mutex<Committer> {
        &self.committer
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
        self.rules.load().config().clone()
    }

    /// Checks blocks by the configuration in force.
    pub fn verifier(&self) -> Arc<BlockVerifier> {
        self.rules.load().verifier.clone()
    }

    /// Validates blocks by the configuration in force.
    pub fn validator(&self) -> Arc<Validator> {
        self.rules.load().validator.clone()
    }

    /// The last block of the ledger, and the configuration as of that block: what it takes to verify
    /// the next one. `None` only if the ledger is empty.
    pub fn position(&self) -> Option<(BlockRef, Arc<ChannelConfig>)> {
        loop {
            // In this order: rules are changed before their block is written.
            let tip = self.tip()?;
            let rules = self.rules.load();
            if rules.since <= tip.number {
                return Some((tip, rules.config().clone()));
            }
            match &rules.before {
                Some((since, validator)) if *since <= tip.number => {
                    return Some((tip, validator.config().clone()));
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

    /// Puts the configuration of block `since` into force, which is written next, and returns the one
    /// before.
    fn reconfigure(&self, validator: Arc<Validator>, since: u64) -> Arc<ChannelConfig> {
        let old = self.rules.load();
        let rules = Rules {
            before: Some((old.since, old.validator.clone())),
            ..Rules::new(validator, since)
        };
        self.rules.store(Arc::new(rules));
        old.config().clone()
    }

    /// The block of the last [`Self::reconfigure`] is in the ledger.
    fn settle(&self) {
        let current = self.rules.load();
        let rules = Rules {
            validator: current.validator.clone(),
            verifier: current.verifier.clone(),
            since: current.since,
            before: None,
        };
        self.rules.store(Arc::new(rules));
    }

    /// The block of the last [`Self::reconfigure`] cannot be written: what was in force before is so again.
    fn restore(&self) {
        let current = self.rules.load();
        if let Some((since, validator)) = &current.before {
            let rules = Rules::new(validator.clone(), *since);
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
    let number = last_config_number(&tip).map_err(|source| ChannelError::Commit {
        channel: ledger.channel().to_owned(),
        source: Box::new(crate::commit::CommitError::Config {
            block: newest,
            source,
        }),
    })?;
    Ok((number, read(ledger, number)?))
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
