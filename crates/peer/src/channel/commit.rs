//! The committer of a channel: takes blocks in order and makes them durable.
//!
//! Blocks that wait together are written together with one sync, up to [`BATCH_BLOCKS`] and
//! [`BATCH_BYTES`]. A config block is written alone, since it must be in force before the next block is
//! looked at, and since one whose configuration cannot be used must not take others with it.
//! Transactions are not validated yet: blocks are stored as the ordering service made them.
//!
//! The committer stops at the first block that cannot be written; what came before it in the same
//! batch is written.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use selvedge_channel::{BlockFault, BlockRef, ChannelConfig, ConfigError, VerifiedBlock};
use selvedge_gossip::event::Arrival;
use selvedge_ledger::LedgerError;
use selvedge_protos::common::Block;
use selvedge_protos::envelope::OpenedEnvelope;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Channel, ChannelEvent};
use crate::metrics::ChannelMetrics;

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
    /// Starts the committer of `channel` as one of `tasks`. It ends when `stop` is cancelled, after
    /// the batch that it is writing, or when it fails, which it reports.
    pub fn start(
        channel: Arc<Channel>,
        metrics: ChannelMetrics,
        events: mpsc::Sender<ChannelEvent>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_BLOCKS);
        let committer = Committer {
            channel,
            metrics,
            events,
            receiver,
            held_back: None,
        };
        tasks.spawn(committer.run(stop));
        Self(sender)
    }

    /// Hands over the next block. Fails only if the queue is full (256 blocks) or the committer has
    /// stopped.
    pub fn push(&self, block: VerifiedBlock, how: Arrival) -> Result<(), VerifiedBlock> {
        let queued = Queued {
            block,
            how,
            since: Instant::now(),
        };
        self.0
            .try_send(queued)
            .map_err(|refused| refused.into_inner().block)
    }
}

/// A block that waits.
#[derive(Debug)]
struct Queued {
    block: VerifiedBlock,
    how: Arrival,
    since: Instant,
}

struct Committer {
    channel: Arc<Channel>,
    metrics: ChannelMetrics,
    events: mpsc::Sender<ChannelEvent>,
    receiver: mpsc::Receiver<Queued>,
    /// Taken from the queue, but part of the next batch.
    held_back: Option<Queued>,
}

impl Committer {
    async fn run(mut self, stop: CancellationToken) {
        while let Some(batch) = self.next_batch(&stop).await {
            let (channel, metrics) = (self.channel.clone(), self.metrics.clone());
            let committing =
                tokio::task::spawn_blocking(move || commit(&channel, &batch, &metrics));
            let Outcome { committed, failure } = match committing.await {
                Ok(outcome) => outcome,
                Err(panic) => return self.fail(&panic).await,
            };
            if let Some(committed) = committed
                && self.report(committed).await.is_err()
            {
                return;
            }
            if let Some(failure) = failure {
                return self.fail(&failure).await;
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
        let alone = first.block.is_config();
        let mut bytes = first.block.bytes().len();
        let mut batch = vec![first];
        while !alone && batch.len() < BATCH_BLOCKS {
            let Ok(queued) = self.receiver.try_recv() else {
                break;
            };
            bytes = bytes.saturating_add(queued.block.bytes().len());
            if bytes > BATCH_BYTES || queued.block.is_config() {
                self.held_back = Some(queued);
                break;
            }
            batch.push(queued);
        }
        Some(batch)
    }

    /// A new configuration is told before the height, so that whoever learns of the height judges by
    /// the rules that came with it.
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

/// What came of a batch. Both may be set: blocks were written, the one after them cannot be.
#[derive(Default)]
struct Outcome {
    committed: Option<Committed>,
    failure: Option<CommitError>,
}

/// What a batch has brought.
struct Committed {
    blocks: Vec<(u64, Arrival)>,
    /// The configuration before, if the batch was a config block.
    before: Option<Arc<ChannelConfig>>,
}

/// Writes a batch, as far as it continues the chain. The configuration of a config block is built
/// before anything is written, so that one that cannot be used is not committed.
fn commit(channel: &Channel, batch: &[Queued], metrics: &ChannelMetrics) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome::default();
    let Some(mut tip) = channel.tip() else {
        outcome.failure = Some(CommitError::Empty);
        return outcome;
    };
    let mut config = None;
    let mut sound = Vec::with_capacity(batch.len());
    for queued in batch {
        match check(channel, &queued.block, &tip) {
            Ok(next) => config = next,
            Err(failure) => {
                outcome.failure = Some(failure);
                break;
            }
        }
        tip = queued.block.block_ref();
        sound.push(queued);
    }
    if sound.is_empty() {
        return outcome;
    }
    // As in Fabric a configuration is in force before its block can be read: whoever follows the
    // ledger is judged by it when the block is there.
    let before = config.map(|config| channel.reconfigure(config, tip.number));
    let blocks: Vec<_> = sound
        .iter()
        .map(|queued| queued.block.block().clone())
        .collect();
    if let Err(error) = channel.ledger().append_batch(&blocks) {
        if before.is_some() {
            channel.restore();
        }
        outcome.failure = Some(error.into());
        return outcome;
    }
    if before.is_some() {
        channel.settle();
    }
    note(channel, &sound, metrics, started.elapsed());
    outcome.committed = Some(Committed {
        before,
        blocks: sound
            .iter()
            .map(|queued| (queued.block.number(), queued.how))
            .collect(),
    });
    outcome
}

/// Whether a block continues the chain, and the configuration that it brings.
fn check(
    channel: &Channel,
    block: &VerifiedBlock,
    tip: &BlockRef,
) -> Result<Option<ChannelConfig>, CommitError> {
    block.follows(tip)?;
    if !block.is_config() {
        return Ok(None);
    }
    let unusable = |source| CommitError::Config {
        block: block.number(),
        source,
    };
    let next = ChannelConfig::from_block(block.block()).map_err(unusable)?;
    channel.config().check_successor(&next).map_err(unusable)?;
    Ok(Some(next))
}

/// Logs and measures what was written in `took`. A sync is shared by a batch, so each block is
/// charged its part of the writing.
fn note(channel: &Channel, written: &[&Queued], metrics: &ChannelMetrics, took: Duration) {
    let blocks = u32::try_from(written.len()).unwrap_or(u32::MAX).max(1);
    let share = (took / blocks).as_secs_f64();
    let took = took.as_millis();
    for Queued { block, since, .. } in written {
        let block = block.block();
        let (number, count) = (
            block.header.as_ref().map_or(0, |header| header.number),
            block.data.as_ref().map_or(0, |data| data.data.len()),
        );
        tracing::info!(
            target: "kvledger",
            "[{}] Committed block [{number}] with {count} transaction(s) in {took}ms",
            channel.id()
        );
        metrics.block_storage_time.observe(share);
        metrics
            .state_commit_duration
            .observe(since.elapsed().as_secs_f64());
        if let Some(age) = age(block) {
            metrics.block_delay.observe(age.as_secs_f64());
        }
    }
}

/// How long ago the client made the last transaction of a block, which is the newest unless clients'
/// clocks are apart. A clock ahead of ours counts as now.
fn age(block: &Block) -> Option<Duration> {
    let last = block.data.as_ref()?.data.last()?;
    let opened = OpenedEnvelope::decode(last.clone()).ok()?;
    let timestamp = opened.channel_header.timestamp?;
    let since_epoch = Duration::new(
        u64::try_from(timestamp.seconds).ok()?,
        u32::try_from(timestamp.nanos)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)?,
    );
    let made = UNIX_EPOCH.checked_add(since_epoch)?;
    Some(SystemTime::now().duration_since(made).unwrap_or_default())
}
