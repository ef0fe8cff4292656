//! The committer of a channel: takes blocks in order, validates them and makes them part of the ledger.
//!
//! ```text
//!  gossip --> queue --> prepare --> prepared blocks --> validate, write --> events
//!             (256)     signatures        (2)           state, versions
//! ```
//!
//! Two tasks share the work, each with one block at a time on a blocking thread: one prepares the next
//! blocks, which needs no state and takes most of the time, while the other judges and writes. Blocks
//! after a config block are prepared when it is committed, since it says by which rules. What waits is
//! bounded by the queue here, and more narrowly by gossip's commit window.
//!
//! The committer stops at the first block that cannot be committed: one on which there is no verdict,
//! one that does not continue the chain, or one that the disk does not take. The blocks before it are
//! committed.

mod prepare;
mod report;

use std::sync::Arc;
use std::time::Instant;

use selvedge_channel::{BlockFault, ChannelConfig, VerifiedBlock};
use selvedge_gossip::event::Arrival;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Channel, ChannelEvent};
use crate::commit;
use crate::metrics::ChannelMetrics;
use prepare::{Preparation, Prepared};

/// Blocks that may wait for the committer; gossip holds back what is more.
pub const QUEUE_BLOCKS: usize = 256;
/// Prepared blocks that wait for their turn.
const PREPARED_BLOCKS: usize = 2;

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
    /// There is no verdict on the block, or the ledger has failed.
    #[error(transparent)]
    Commit(#[from] commit::CommitError),
}

/// Where gossip hands the blocks of a channel over, in order.
#[derive(Clone, Debug)]
pub struct CommitQueue(mpsc::Sender<Queued>);

impl CommitQueue {
    /// Starts the committer of `channel` as two of `tasks`. They end when `stop` is cancelled, after
    /// the block that is being written, or when a block cannot be committed, which is reported.
    pub fn start(
        channel: Arc<Channel>,
        metrics: ChannelMetrics,
        events: mpsc::Sender<ChannelEvent>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_BLOCKS);
        let (prepared, waiting) = mpsc::channel(PREPARED_BLOCKS);
        let preparation = Preparation {
            channel: channel.clone(),
            queue,
            prepared,
        };
        tasks.spawn(preparation.run(stop.clone()));
        let committer = Committer {
            channel,
            metrics,
            events,
            waiting,
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
    waiting: mpsc::Receiver<Result<Prepared, JoinError>>,
}

impl Committer {
    async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(next)) = stop.run_until_cancelled(self.waiting.recv()).await {
            let next = match next {
                Ok(next) => next,
                Err(panic) => return self.fail(&panic).await,
            };
            let (number, how) = (next.queued.block.number(), next.queued.how);
            let (channel, metrics) = (self.channel.clone(), self.metrics.clone());
            let committing = tokio::task::spawn_blocking(move || commit(&channel, next, &metrics));
            let told = match committing.await {
                Ok(Ok(before)) => self.report(number, how, before).await,
                Ok(Err(reason)) => return self.fail(&reason).await,
                Err(panic) => return self.fail(&panic).await,
            };
            if told.is_err() {
                return;
            }
        }
    }

    /// A new configuration is told before the height, so that whoever learns of the height judges by
    /// the rules that came with it.
    async fn report(
        &self,
        number: u64,
        how: Arrival,
        before: Option<Arc<ChannelConfig>>,
    ) -> Result<(), mpsc::error::SendError<ChannelEvent>> {
        let channel = self.channel.clone();
        if let Some(before) = before {
            let event = ChannelEvent::Reconfigured {
                channel: channel.clone(),
                before,
            };
            self.events.send(event).await?;
        }
        let event = ChannelEvent::Committed {
            channel,
            number,
            how,
        };
        self.events.send(event).await
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

/// Validates a block and writes it. Returns the configuration before, if the block brought one.
fn commit(
    channel: &Channel,
    next: Prepared,
    metrics: &ChannelMetrics,
) -> Result<Option<Arc<ChannelConfig>>, CommitError> {
    let Prepared {
        queued,
        prepared,
        took,
        committed,
    } = next;
    let tip = channel.tip().ok_or(CommitError::Empty)?;
    queued.block.follows(&tip)?;
    let mut committer = channel.committer().lock();
    let validated = committer.validate(queued.block.block().clone(), prepared)?;
    // As in Fabric a configuration is in force before its block can be read: whoever follows the
    // ledger is judged by it when the block is there.
    let validator = validated.next_validator().cloned();
    let before = validator.map(|validator| channel.reconfigure(validator, queued.block.number()));
    let written = committer.write(validated);
    if before.is_some() {
        // The state may have failed when the block was written already.
        if channel.ledger().height() > queued.block.number() {
            channel.settle();
        } else {
            channel.restore();
        }
    }
    let block = written?;
    drop(committer);
    channel
        .committed
        .send_replace(block.number.saturating_add(1));
    report::report(channel.id(), &queued, &block, took, metrics);
    // Whoever waits for the block's rules may look at them now.
    drop(committed);
    Ok(before)
}
