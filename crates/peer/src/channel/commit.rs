//! The committer of a channel: takes blocks in order and makes them durable.
//!
//! Blocks that wait together are written together with one sync, up to [`BATCH_BLOCKS`] and
//! [`BATCH_BYTES`]; a config block ends its batch, since it must be in force before the next block is
//! looked at. Transactions are not validated yet: blocks are stored as the ordering service made
//! them.

use std::sync::Arc;
use std::time::Instant;

use selvedge_channel::{BlockFault, ChannelConfig, ConfigError, VerifiedBlock};
use selvedge_gossip::event::Arrival;
use selvedge_ledger::LedgerError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Channel, ChannelEvent};

/// Blocks that may wait for the committer; gossip holds back what is more.
pub const QUEUE_BLOCKS: usize = 256;
/// Blocks that one sync makes durable at most.
const BATCH_BLOCKS: usize = 64;
/// Bytes that one sync makes durable, unless one block alone is larger.
const BATCH_BYTES: usize = 16 << 20;

/// Why a channel's committer stopped.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The block does not continue the chain. Verification and ordering come before the committer,
    /// so this is a fork signed by the ordering service, or a fault of this peer.
    #[error(transparent)]
    Block(#[from] BlockFault),
    /// The ledger has no block to continue, though every ledger has its genesis block.
    #[error("the ledger is empty")]
    Empty,
    /// The disk or the block store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The channel's new configuration cannot be used, for instance because it demands a capability
    /// that this peer lacks. The block before it is the last that was committed.
    #[error("the configuration in block {block} cannot be used: {source}")]
    Config {
        /// The config block.
        block: u64,
        /// What is wrong.
        source: ConfigError,
    },
}

/// Where gossip hands the blocks of a channel over, in order.
#[derive(Clone, Debug)]
pub struct CommitQueue(mpsc::Sender<Queued>);

impl CommitQueue {
    /// Starts the committer of `channel` on the current runtime. It ends when `stop` is cancelled,
    /// after the batch that it is writing, or when it fails, which it reports.
    pub fn start(
        channel: Arc<Channel>,
        events: mpsc::Sender<ChannelEvent>,
        stop: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_BLOCKS);
        let committer = Committer {
            channel,
            events,
            receiver,
            held_back: None,
        };
        tokio::spawn(committer.run(stop));
        Self(sender)
    }

    /// Hands over the next block. Fails only if more than [`QUEUE_BLOCKS`] wait or the committer has
    /// stopped.
    pub fn push(&self, block: VerifiedBlock, how: Arrival) -> Result<(), VerifiedBlock> {
        self.0
            .try_send((block, how))
            .map_err(|refused| refused.into_inner().0)
    }
}

struct Committer {
    channel: Arc<Channel>,
    events: mpsc::Sender<ChannelEvent>,
    receiver: mpsc::Receiver<Queued>,
    /// Taken from the queue, but part of the next batch.
    held_back: Option<Queued>,
}

/// A block that waits, and how it came.
type Queued = (VerifiedBlock, Arrival);

impl Committer {
    async fn run(mut self, stop: CancellationToken) {
        while let Some(batch) = self.next_batch(&stop).await {
            let channel = self.channel.clone();
            let committed = tokio::task::spawn_blocking(move || commit(&channel, &batch)).await;
            let committed = match committed {
                Ok(Ok(committed)) => committed,
                Ok(Err(failure)) => return self.fail(&failure).await,
                Err(panic) => return self.fail(&panic).await,
            };
            if self.report(committed).await.is_err() {
                return;
            }
        }
    }

    /// Waits for a block, then takes what waits behind it.
    async fn next_batch(&mut self, stop: &CancellationToken) -> Option<Vec<Queued>> {
        let first = match self.held_back.take() {
            Some(queued) if !stop.is_cancelled() => queued,
            Some(_) => return None,
            None => tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                received = self.receiver.recv() => received?,
            },
        };
        let mut bytes = first.0.bytes().len();
        let mut batch = vec![first];
        while batch.len() < BATCH_BLOCKS
            && batch.last().is_some_and(|(block, _)| !block.is_config())
        {
            let Ok(queued) = self.receiver.try_recv() else {
                break;
            };
            bytes = bytes.saturating_add(queued.0.bytes().len());
            if bytes > BATCH_BYTES {
                self.held_back = Some(queued);
                break;
            }
            batch.push(queued);
        }
        Some(batch)
    }

    async fn report(
        &self,
        committed: Committed,
    ) -> Result<(), mpsc::error::SendError<ChannelEvent>> {
        let Committed { blocks, before } = committed;
        let channel = self.channel.clone();
        if let Some(before) = before {
            self.events
                .send(ChannelEvent::Reconfigured {
                    channel: channel.clone(),
                    before,
                })
                .await?;
        }
        self.events
            .send(ChannelEvent::Committed { channel, blocks })
            .await
    }

    async fn fail(&self, reason: &(dyn std::fmt::Display + Sync)) {
        let channel = self.channel.id();
        tracing::error!(
            target: "committer",
            "[{channel}] this channel stops at height {}: {reason}",
            self.channel.ledger().height()
        );
        let reason = Arc::from(reason.to_string());
        let event = ChannelEvent::Failed {
            channel: self.channel.clone(),
            reason,
        };
        // Nobody to tell means that the peer is stopping.
        let _ = self.events.send(event).await;
    }
}

/// What a batch has brought.
struct Committed {
    blocks: Vec<(u64, Arrival)>,
    /// The configuration before, if the batch ended with a config block.
    before: Option<Arc<ChannelConfig>>,
}

/// Writes a batch. The configuration of a config block is built before anything is written, so that
/// one that cannot be used is not committed.
fn commit(channel: &Channel, batch: &[Queued]) -> Result<Committed, CommitError> {
    let started = Instant::now();
    let mut tip = channel.tip().ok_or(CommitError::Empty)?;
    for (block, _) in batch {
        block.follows(&tip)?;
        tip = block.block_ref();
    }
    let config = match batch.last().filter(|(block, _)| block.is_config()) {
        Some((block, _)) => Some(next_config(channel, block)?),
        None => None,
    };
    let blocks: Vec<_> = batch
        .iter()
        .map(|(block, _)| block.block().clone())
        .collect();
    channel.ledger().append_batch(&blocks)?;
    let took = started.elapsed().as_millis();
    for (block, _) in batch {
        let count = block
            .block()
            .data
            .as_ref()
            .map_or(0, |data| data.data.len());
        let (id, number) = (channel.id(), block.number());
        tracing::info!(
            target: "kvledger",
            "[{id}] Committed block [{number}] with {count} transaction(s) in {took}ms"
        );
    }
    Ok(Committed {
        before: config.map(|config| channel.reconfigure(config, tip.number)),
        blocks: batch
            .iter()
            .map(|(block, how)| (block.number(), *how))
            .collect(),
    })
}

/// The configuration that a config block brings.
fn next_config(channel: &Channel, block: &VerifiedBlock) -> Result<ChannelConfig, CommitError> {
    let unusable = |source| CommitError::Config {
        block: block.number(),
        source,
    };
    let next = ChannelConfig::from_block(block.block()).map_err(unusable)?;
    channel.config().check_successor(&next).map_err(unusable)?;
    Ok(next)
}
