//! The committer of a channel: takes blocks in order, validates them and makes them part of the ledger.
//!
//! ```text
//!  gossip --> queue --> prepare --> prepared groups --> validate, write --> events
//!             (256)     signatures        (2)           state, versions
//! ```
//!
//! Two tasks share the work, each on a blocking thread: one prepares the next blocks, which needs no state
//! and takes most of the time, while the other judges and writes. Each takes a block alone, or, while
//! catching up, a group of small ones, which are written with one sync. Blocks after a config block are
//! prepared when it is committed, since it says by which rules. What waits is bounded by the queue here,
//! and more narrowly by gossip's commit window.
//!
//! The committer stops at the first block that cannot be committed: one on which there is no verdict,
//! one that does not continue the chain, or one that the disk does not take. The blocks before it are
//! committed.

mod prepare;
mod report;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_channel::{BlockFault, BlockRef, ChannelConfig, VerifiedBlock};
use selvedge_gossip::event::Arrival;
use selvedge_validation::{PreparedBlock, Validator};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Channel, ChannelEvent};
use crate::commit::{self, Committer as LedgerCommitter, ValidatedBlock};
use crate::metrics::ChannelMetrics;
use prepare::{Preparation, Prepared};

/// Blocks that may wait for the committer; gossip holds back what is more.
pub const QUEUE_BLOCKS: usize = 256;
/// Prepared groups of blocks that wait for their turn.
const PREPARED_GROUPS: usize = 2;

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
        let (prepared, waiting) = mpsc::channel(PREPARED_GROUPS);
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

    /// Hands over the next block, and what gossip says of its way here. Fails only if the queue is full (256
    /// blocks) or the committer has stopped.
    pub fn push(
        &self,
        block: VerifiedBlock,
        how: Arrival,
        delay: Duration,
    ) -> Result<(), VerifiedBlock> {
        let queued = Queued {
            block,
            how,
            delay,
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
    /// From the first sign of it to its arrival.
    delay: Duration,
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
            let (channel, metrics) = (self.channel.clone(), self.metrics.clone());
            let mut committing =
                tokio::task::spawn_blocking(move || commit(&channel, next, &metrics));
            let committed = tokio::select! {
                committed = &mut committing => committed,
                () = stop.cancelled() => {
                    self.channel.snapshots().release();
                    committing.await
                }
            };
            let (committed, failure) = match committed {
                Ok(committed) => committed,
                Err(panic) => return self.fail(&panic).await,
            };
            for committed in committed {
                if self.report(committed).await.is_err() {
                    return;
                }
            }
            match failure {
                None => {}
                Some(CommitError::Commit(commit::CommitError::Stopped { .. })) => return,
                Some(reason) => return self.fail(&reason).await,
            }
        }
    }

    /// A new configuration is told before the height, so that whoever learns of the height judges by
    /// the rules that came with it.
    async fn report(
        &self,
        committed: Committed,
    ) -> Result<(), mpsc::error::SendError<ChannelEvent>> {
        let channel = self.channel.clone();
        let Committed {
            number,
            how,
            before,
        } = committed;
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

/// A block that has become part of the ledger.
struct Committed {
    number: u64,
    how: Arrival,
    /// The configuration before, if the block brought one.
    before: Option<Arc<ChannelConfig>>,
}

/// Validates blocks and writes them. Returns those that are part of the ledger now, and why the others are
/// not, if so.
fn commit(
    channel: &Channel,
    prepared: Prepared,
    metrics: &ChannelMetrics,
) -> (Vec<Committed>, Option<CommitError>) {
    let Prepared {
        blocks,
        took,
        committed,
    } = prepared;
    let mut group = Group {
        channel,
        metrics,
        took,
        waiting: VecDeque::new(),
        done: Vec::new(),
    };
    let failure = group.commit(blocks).err();
    // Whoever waits for the blocks' rules may look at them now.
    drop(committed);
    (group.done, failure)
}

/// Blocks on their way into the ledger.
struct Group<'a> {
    channel: &'a Channel,
    metrics: &'a ChannelMetrics,
    /// What the preparation of each took.
    took: Duration,
    /// Those that are staged.
    waiting: VecDeque<Queued>,
    done: Vec<Committed>,
}

impl Group<'_> {
    fn commit(&mut self, blocks: Vec<(Queued, PreparedBlock)>) -> Result<(), CommitError> {
        let mut tip = self.channel.tip().ok_or(CommitError::Empty)?;
        let committer = &mut *self.channel.committer().lock();
        for (queued, prepared) in blocks {
            let next = queued.block.block_ref();
            let validated = match self.validate(committer, &tip, &queued, prepared) {
                Ok(validated) => validated,
                Err(error) => {
                    // The blocks before it are sound.
                    self.write(committer, None)?;
                    return Err(error);
                }
            };
            tip = next;
            match validated.next_validator().cloned() {
                None => {
                    committer.stage(validated);
                    self.waiting.push_back(queued);
                }
                Some(validator) => {
                    self.write(committer, None)?;
                    self.write_config(committer, validator, validated, queued)?;
                }
            }
        }
        self.write(committer, None)
    }

    fn validate(
        &self,
        committer: &mut LedgerCommitter,
        tip: &BlockRef,
        queued: &Queued,
        prepared: PreparedBlock,
    ) -> Result<ValidatedBlock, CommitError> {
        queued.block.follows(tip)?;
        Ok(committer.validate(queued.block.block().clone(), prepared)?)
    }

    /// As in Fabric a configuration is in force before its block can be read: whoever follows the ledger is
    /// judged by it when the block is there.
    fn write_config(
        &mut self,
        committer: &mut LedgerCommitter,
        validator: Arc<Validator>,
        validated: ValidatedBlock,
        queued: Queued,
    ) -> Result<(), CommitError> {
        let (channel, number) = (self.channel, queued.block.number());
        let before = channel.reconfigure(validator, number);
        committer.stage(validated);
        self.waiting.push_back(queued);
        let written = self.write(committer, Some(before));
        // The state may have failed when the block was written already.
        if channel.ledger().height() > number {
            channel.settle();
        } else {
            channel.restore();
        }
        written
    }

    /// Writes what is staged. `before` is the configuration before, if that is a config block.
    fn write(
        &mut self,
        committer: &mut LedgerCommitter,
        mut before: Option<Arc<ChannelConfig>>,
    ) -> Result<(), CommitError> {
        let written = committer.write_staged(&mut |block| {
            let height = block.number.saturating_add(1);
            self.channel.committed.send_replace(height);
            let Some(queued) = self.waiting.pop_front() else {
                return;
            };
            report::report(self.channel.id(), &queued, &block, self.took, self.metrics);
            self.done.push(Committed {
                number: block.number,
                how: queued.how,
                before: before.take(),
            });
        });
        Ok(written?)
    }
}
