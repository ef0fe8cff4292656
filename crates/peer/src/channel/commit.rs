//! The committer of a channel: takes blocks in order and makes them durable.
//!
//! Blocks that wait together are written together with one sync, up to [`BATCH_BLOCKS`] and
//! [`BATCH_BYTES`]; a config block ends its batch, since it must be in force before the next block is
//! looked at. Transactions are not validated yet: blocks are stored as the ordering service made
//! them.

use std::sync::Arc;
use std::time::Instant;

use selvedge_channel::{BlockError, BlockRef, ChannelConfig, ConfigError, VerifiedBlock};
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
    Block(#[from] BlockError),
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
pub struct CommitQueue(mpsc::Sender<(VerifiedBlock, Arrival)>);

impl CommitQueue {
    /// Starts the committer of `channel` on the current runtime. It ends when `stop` is cancelled,
    /// after the batch that it is writing, or when it fails, which it reports.
    pub fn start(
        channel: Arc<Channel>,
        events: mpsc::Sender<ChannelEvent>,
        stop: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_BLOCKS);
        let committer = Committer { channel, events, receiver };
        tokio::spawn(committer.run(stop));
        Self(sender)
    }

    /// Hands over the next block. Fails only if more than [`QUEUE_BLOCKS`] wait or the committer has
    /// stopped.
    pub fn push(&self, block: VerifiedBlock, how: Arrival) -> Result<(), VerifiedBlock> {
        self.0.try_send((block, how)).map_err(|refused| refused.into_inner().0)
    }
}

struct Committer {
    channel: Arc<Channel>,
    events: mpsc::Sender<ChannelEvent>,
    receiver: mpsc::Receiver<(VerifiedBlock, Arrival)>,
}

impl Committer {
    async fn run(mut self, stop: CancellationToken) {
        let mut next = None;
        while let Some(batch) = self.next_batch(&mut next, &stop).await {
            let channel = self.channel.clone();
            let written = tokio::task::spawn_blocking(move || commit(&channel, &batch)).await;
            let done = match written {
                Ok(Ok(done)) => done,
                Ok(Err(failure)) => return self.fail(&failure).await,
                Err(panic) => return self.fail(&panic).await,
            };
            if self.report(done).await.is_err() {
                return;
            }
        }
    }

    /// Waits for a block, then takes what waits behind it. `next` is a block that was taken from the
    /// queue but belongs to the following batch.
    async fn next_batch(
        &mut self,
        next: &mut Option<VerifiedBlock>,
        stop: &CancellationToken,
    ) -> Option<Vec<VerifiedBlock>> {
        if stop.is_cancelled() {
            return None;
        }
        let first = match next.take() {
            Some(block) => block,
            None => tokio::select! {
                () = stop.cancelled() => return None,
                received = self.receiver.recv() => received?.0,
            },
        };
        let mut bytes = first.bytes().len();
        let mut batch = vec![first];
        while batch.len() < BATCH_BLOCKS && batch.last().is_some_and(|block| !block.is_config()) {
            let Ok((block, _)) = self.receiver.try_recv() else { break };
            bytes = bytes.saturating_add(block.bytes().len());
            if bytes > BATCH_BYTES {
                *next = Some(block);
                break;
            }
            batch.push(block);
        }
        Some(batch)
    }

    async fn report(&self, done: Done) -> Result<(), mpsc::error::SendError<ChannelEvent>> {
        let channel = self.channel.clone();
        if let Some(before) = done.before {
            self.events.send(ChannelEvent::Reconfigured { channel: channel.clone(), before }).await?;
        }
        self.events.send(ChannelEvent::Committed { channel, height: done.height }).await
    }

    async fn fail(&self, reason: &(dyn std::fmt::Display + Sync)) {
        let channel = self.channel.id();
        tracing::error!(
            target: "committer",
            "[{channel}] this channel stops at height {}: {reason}",
            self.channel.ledger().height()
        );
        let reason = Arc::from(reason.to_string());
        let event = ChannelEvent::Failed { channel: self.channel.clone(), reason };
        // Nobody to tell means that the peer is stopping.
        let _ = self.events.send(event).await;
    }
}

/// What a batch has done.
struct Done {
    height: u64,
    /// The configuration before, if the batch ended with a config block.
    before: Option<Arc<ChannelConfig>>,
}

/// Writes a batch. The configuration of a config block is built before anything is written, so that
/// one that cannot be used is not committed.
fn commit(channel: &Channel, batch: &[VerifiedBlock]) -> Result<Done, CommitError> {
    let started = Instant::now();
    let mut tip = tip(channel)?;
    for block in batch {
        block.follows(&tip)?;
        tip = BlockRef { number: block.number(), header_hash: block.header_hash() };
    }
    let config = match batch.last().filter(|block| block.is_config()) {
        Some(block) => Some((
            ChannelConfig::from_block(block.block())
                .map_err(|source| CommitError::Config { block: block.number(), source })?,
            block.number(),
        )),
        None => None,
    };
    channel.ledger().append_batch(batch.iter().map(|block| block.bytes().as_ref()))?;
    let took = started.elapsed().as_millis();
    for block in batch {
        let count = block.block().data.as_ref().map_or(0, |data| data.data.len());
        let (id, number) = (channel.id(), block.number());
        tracing::info!(
            target: "kvledger",
            "[{id}] Committed block [{number}] with {count} transaction(s) in {took}ms"
        );
    }
    let before = config.map(|(config, number)| channel.reconfigure(config, number));
    Ok(Done { height: channel.ledger().height(), before })
}

fn tip(channel: &Channel) -> Result<BlockRef, LedgerError> {
    let (number, header_hash) = channel.ledger().tip()?;
    Ok(BlockRef { number, header_hash })
}
