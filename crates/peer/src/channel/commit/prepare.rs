//! The first half of a committer: whatever can be done with a block before its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_validation::PreparedBlock;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::Queued;
use crate::channel::Channel;

/// A block whose signatures are checked.
pub(super) struct Prepared {
    pub queued: Queued,
    pub prepared: PreparedBlock,
    /// What the preparation took.
    pub took: Duration,
    /// Dropped when the block is committed.
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
            let queued = tokio::select! {
                queued = self.queue.recv() => queued?,
                // The other half has failed, and may have done so with room for what was prepared.
                () = self.prepared.closed() => return None,
            };
            let validator = self.channel.validator();
            let block = queued.block.clone();
            let started = Instant::now();
            let preparing =
                tokio::task::spawn_blocking(move || validator.prepare(block.block())).await;
            let prepared = match preparing {
                Ok(prepared) => prepared,
                Err(panic) => {
                    self.prepared.send(Err(panic)).await.ok()?;
                    return None;
                }
            };
            let (committed, told) = oneshot::channel();
            let next = Prepared {
                prepared,
                took: started.elapsed(),
                committed,
                queued,
            };
            let is_config = next.queued.block.is_config();
            self.prepared.send(Ok(next)).await.ok()?;
            if is_config {
                let _ = told.await;
            }
        }
    }
}
