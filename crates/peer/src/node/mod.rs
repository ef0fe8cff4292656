//! A peer from its start to its stop.
//!
//! | file | subject |
//! | --- | --- |
//! | `start` | everything is made and wired, in order |
//! | `settings` | core.yaml's values in the words of gossip, transport and server |
//! | `observe` | health checks, and metrics of what is counted elsewhere |
//! | `certificates` | when the peer's own certificates expire |
//! | `renewal` | TLS certificates that are renewed while the peer runs |

mod certificates;
mod error;
mod observe;
mod renewal;
mod settings;
mod start;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use selvedge_transport::gossip::GossipTransport;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::{Channel, Channels, JoinError};
use crate::conductor::CommittedBlock;
use crate::config::PeerConfig;
use crate::gossip::{Command, GossipStatus};
use crate::logging::LogControl;
use crate::metrics::Metrics;
use crate::operations::OperationsServer;
pub use error::StartError;
use start::Starter;

/// A running peer. Stop it with [`Node::stop`]; if it is dropped, everything is cut off.
pub struct Node {
    address: SocketAddr,
    operations: Option<OperationsServer>,
    channels: Channels,
    commands: mpsc::Sender<Command>,
    committed: broadcast::Sender<CommittedBlock>,
    transport: GossipTransport,
    metrics: Metrics,
    /// The parts that run as long as the peer does.
    parts: JoinSet<()>,
    /// Requests and errands, which end by themselves once the parts have.
    work: TaskTracker,
    /// Ends services: no new requests, streams are closed.
    stop: CancellationToken,
    /// Ends the rest.
    stop_work: CancellationToken,
}

impl Node {
    /// Starts a peer. When this returns the peer listens, and every channel is open that can be.
    ///
    /// If the future is dropped before, what has started is cut off.
    pub async fn start(config: PeerConfig, log: LogControl) -> Result<Self, StartError> {
        Starter::new(config, log)?.start().await
    }

    /// Where the gRPC server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the operations endpoint listens, if it does.
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().map(OperationsServer::address)
    }

    /// The channels.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// One channel.
    pub fn channel(&self, id: &str) -> Option<Arc<Channel>> {
        self.channels.get(id)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Joins a channel by its block 0.
    pub async fn join(&self, genesis: Bytes) -> Result<(), JoinError> {
        let channels = self.channels.clone();
        let joined = self.work.spawn_blocking(move || {
            let genesis = channels.check_genesis(genesis)?;
            channels.join(genesis)
        });
        match joined.await {
            Ok(joined) => joined,
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(JoinError::Stopping),
            },
        }
    }

    /// Blocks as they are committed, from now on. Whoever is too slow misses some.
    pub fn committed_blocks(&self) -> broadcast::Receiver<CommittedBlock> {
        self.committed.subscribe()
    }

    /// What gossip knows now; `None` when the peer is stopping.
    pub async fn gossip_status(&self) -> Option<GossipStatus> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Status(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Waits until a part of the peer has ended that should not.
    pub async fn failed(&mut self) {
        self.parts.join_next().await;
    }

    /// Stops in order: no new requests, running ones end, the block that is being written is
    /// finished, streams are closed. When this returns, nothing of the peer runs any more.
    ///
    /// Requests that do not end are cut after five seconds. A disk that does not answer is waited
    /// for.
    pub async fn stop(mut self) {
        tracing::info!(target: "nodeCmd", "stopping");
        self.stop.cancel();
        self.transport.shutdown().await;
        self.stop_work.cancel();
        while self.parts.join_next().await.is_some() {}
        self.work.close();
        self.work.wait().await;
        if let Some(operations) = self.operations.take() {
            operations.stop().await;
        }
        tracing::info!(target: "nodeCmd", "stopped");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_work.cancel();
        // Streams end at the first poll; that their tasks have ended is not waited for.
        let _ = self.transport.shutdown().now_or_never();
    }
}
