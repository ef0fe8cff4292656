//! An ordering node for development: one node, one channel, no consensus. Not for production.
//!
//! To its clients it is Fabric's ordering node: the service `AtomicBroadcast` over TLS, the checks
//! on messages and clients, config updates, blocks cut by count, bytes and time, signed and kept in
//! files. What is missing behind that is everything that makes an ordering service: there are no
//! other nodes, so a lost disk is a lost channel.
//!
//! A message comes by Broadcast, is checked against the configuration ([`Refusal`]), waits in a
//! bounded queue, is put in a block by the sequencer (the only task that writes), and goes out by
//! Deliver.
//!
//! What differs from Fabric on purpose: a config update may not touch the consensus type, since this
//! node could not follow it; and the timer of the batch timeout starts anew with each block.

mod admission;
mod chain;
mod cutter;
mod deliver;
#[cfg(test)]
mod tests;
mod writer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use selvedge_channel::{ChannelConfig, ConfigError};
use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_msp::{SignatureError, SigningIdentity};
use selvedge_protos::common::{Block, Envelope, Status};
use selvedge_protos::orderer::{BroadcastResponse, DeliverResponse};
use selvedge_transport::services::orderer::atomic_broadcast_server::{
    AtomicBroadcast, AtomicBroadcastServer,
};
use selvedge_transport::{MAX_MESSAGE_SIZE, ServeError, ServerOptions, ServerTls, serve};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Streaming};

pub use admission::Refusal;
use chain::Chain;
#[cfg(test)]
pub(crate) use writer::BlockWriter;

/// Responses that wait for a slow client of one stream.
const MAX_UNSENT: usize = 8;

/// Why an ordering node cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum OrdererError {
    /// Its blocks cannot be read or written.
    #[error("the ordering node's ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// A configuration of its channel is not usable.
    #[error("the ordering node's channel: {0}")]
    Config(#[from] ConfigError),
    /// It cannot sign a block.
    #[error("the ordering node cannot sign a block: {0}")]
    Signing(#[from] SignatureError),
    /// Its folder holds another chain.
    #[error("{} holds a channel {channel_id:?} with another genesis block; use another folder", folder.display())]
    OtherGenesis {
        /// Its folder.
        folder: PathBuf,
        /// The channel.
        channel_id: String,
    },
    /// Its last block does not tell where the latest configuration is.
    #[error("the last block of the ordering node's ledger names no config block that is there")]
    NoLastConfig,
    /// Its server failed.
    #[error("the ordering node's server: {0}")]
    Serve(#[from] ServeError),
    /// A task of it was cut off, since the process stops.
    #[error("the ordering node was stopped while it wrote")]
    Stopped,
}

/// What an ordering node needs to start.
pub struct OrdererOptions {
    /// Where it keeps its blocks.
    pub folder: PathBuf,
    /// Its one channel.
    pub channel_id: String,
    /// That channel's genesis block.
    pub genesis: Block,
    /// With which it signs blocks.
    pub signer: SigningIdentity,
    /// Its TLS certificate.
    pub tls: Arc<ServerTls>,
}

/// A running ordering node. Dropped, it stops as soon as it can; better is [`Self::stop`].
pub struct Orderer {
    address: SocketAddr,
    chain: Arc<Chain>,
    stop: CancellationToken,
    server: JoinHandle<Result<(), ServeError>>,
    sequencer: JoinHandle<Result<(), OrdererError>>,
}

impl Orderer {
    /// Opens or begins the chain and serves it on `listener`.
    pub async fn start(
        listener: TcpListener,
        options: OrdererOptions,
    ) -> Result<Self, OrdererError> {
        let address = listener.local_addr().map_err(|source| ServeError::Bind {
            address: "the given listener".to_owned(),
            source,
        })?;
        let OrdererOptions {
            folder,
            channel_id,
            genesis,
            signer,
            tls,
        } = options;
        let opened = tokio::task::spawn_blocking(move || {
            Chain::open(&folder, &channel_id, &genesis, signer)
        });
        let (chain, sequencer) = opened.await.map_err(|_| OrdererError::Stopped)??;
        let stop = CancellationToken::new();
        let service = Service {
            chain: chain.clone(),
            stop: stop.clone(),
        };
        let service =
            AtomicBroadcastServer::new(service).max_decoding_message_size(MAX_MESSAGE_SIZE);
        let server = serve(
            listener,
            Some(tls),
            Routes::new(service),
            ServerOptions::default(),
            stop.clone().cancelled_owned(),
        );
        Ok(Self {
            address,
            chain,
            server: tokio::spawn(server),
            sequencer: tokio::spawn(sequencer.run(stop.clone())),
            stop,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its blocks.
    pub fn store(&self) -> &BlockStore {
        self.chain.store()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<ChannelConfig> {
        self.chain.config()
    }

    /// Orders a message as if it had come by Broadcast.
    pub async fn submit(&self, message: Envelope) -> Result<(), Refusal> {
        self.chain.submit(message).await
    }

    /// Ends: what has been taken is put into blocks, streams get a last status.
    pub async fn stop(mut self) -> Result<(), OrdererError> {
        self.stop.cancel();
        (&mut self.sequencer)
            .await
            .map_err(|_| OrdererError::Stopped)??;
        (&mut self.server)
            .await
            .map_err(|_| OrdererError::Stopped)??;
        Ok(())
    }
}

impl Drop for Orderer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Service {
    chain: Arc<Chain>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl AtomicBroadcast for Service {
    type BroadcastStream = ReceiverStream<Result<BroadcastResponse, tonic::Status>>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, tonic::Status> {
        let (sender, receiver) = mpsc::channel(MAX_UNSENT);
        let broadcast = broadcast(self.chain.clone(), request.into_inner(), sender);
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(broadcast).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type DeliverStream = ReceiverStream<Result<DeliverResponse, tonic::Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, tonic::Status> {
        let (sender, receiver) = mpsc::channel(MAX_UNSENT);
        let (chain, stop) = (self.chain.clone(), self.stop.clone());
        tokio::spawn(deliver::serve(chain, request.into_inner(), sender, stop));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One stream of messages; each is answered, and the first that is refused ends the stream.
async fn broadcast(
    chain: Arc<Chain>,
    mut messages: Streaming<Envelope>,
    responses: mpsc::Sender<Result<BroadcastResponse, tonic::Status>>,
) {
    while let Ok(Some(message)) = messages.message().await {
        let response = match chain.submit(message).await {
            Ok(()) => BroadcastResponse {
                status: Status::Success as i32,
                info: String::new(),
            },
            Err(refusal) => {
                let channel = chain.store().channel();
                tracing::warn!(channel, %refusal, "Rejecting broadcast of a message");
                BroadcastResponse {
                    status: refusal.status() as i32,
                    info: refusal.to_string(),
                }
            }
        };
        let refused = response.status != Status::Success as i32;
        if responses.send(Ok(response)).await.is_err() || refused {
            return;
        }
    }
}
