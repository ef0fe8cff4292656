//! The first half of a committer: whatever can be done with a block before its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_validation::PreparedBlock;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::Queued;
use crate::channel::Channel;
use crate::commit::GroupSize;

/// Blocks that follow each other, whose signatures are checked. None but the last is a config block.
pub(super) struct Prepared {
    pub blocks: Vec<(Queued, PreparedBlock)>,
    /// What the preparation of each took.
    pub took: Duration,
    /// Dropped when they are committed.
    pub committed: oneshot::Sender<()>,
}

/// Prepares the blocks of a channel, in order.
pub(super) struct Preparation {
    pub channel: Arc<Channel>,
    pub queue: mpsc::Receiver<Queued>,
    /// Also told of a panic, the last thing that comes.
    pub prepared: mpsc::Sender<Result<Prepared, JoinError>>,
}

impl Preparation {
    pub async fn run(mut self, stop: CancellationToken) {
        // Whatever ends it, the other half ends too and has reported why.
        let _ = stop.run_until_cancelled(self.prepare_all()).await;
    }

    async fn prepare_all(&mut self) -> Option<()> {
        loop {
            let first = tokio::select! {
                queued = self.queue.recv() => queued?,
                // The other half has failed, and may have done so with room for what was prepared.
                () = self.prepared.closed() => return None,
            };
            let group = self.group(first);
            let is_config = group.last().is_some_and(|queued| queued.block.is_config());
            let validator = self.channel.validator();
            let preparing = tokio::task::spawn_blocking(move || {
                let started = Instant::now();
                let blocks = group.iter().map(|queued| queued.block.block());
                let prepared = validator.prepare_all(blocks);
                let share = u32::try_from(group.len()).unwrap_or(u32::MAX);
                let took = started.elapsed() / share;
                (group.into_iter().zip(prepared).collect(), took)
            });
            let (blocks, took) = match preparing.await {
                Ok(prepared) => prepared,
                Err(panic) => {
                    self.prepared.send(Err(panic)).await.ok()?;
                    return None;
                }
            };
            let (committed, told) = oneshot::channel();
            let next = Prepared {
                blocks,
                took,
                committed,
            };
            self.prepared.send(Ok(next)).await.ok()?;
            if is_config {
                let _ = told.await;
            }
        }
    }

    /// A block with those that wait behind it.
    fn group(&mut self, first: Queued) -> Vec<Queued> {
        let mut size = GroupSize::default();
        size.add(&first.block);
        let mut group = vec![first];
        while size.has_room()
            && let Ok(next) = self.queue.try_recv()
        {
            size.add(&next.block);
            group.push(next);
        }
        group
    }
}
