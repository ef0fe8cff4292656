//! The gRPC server.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{TcpListener, ToSocketAddrs};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::incoming::Acceptor;
use crate::tls::ServerTls;

/// HTTP/2 windows: what a client may send before it is read, bytes.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The sum of a request's header fields, bytes.
const MAX_HEADERS: u32 = 64 * 1024;

/// What a server permits. The defaults are Fabric's where Fabric has the setting.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Connections at a time; more are closed at once and counted.
    pub max_connections: usize,
    /// TLS handshakes at a time; more wait in the kernel's backlog.
    pub max_handshakes: usize,
    /// `peer.connectiontimeout`: for the TLS handshake, and again for the first HTTP/2 bytes.
    pub handshake_timeout: Duration,
    /// `peer.keepalive.interval`: a client that was silent for so long is pinged.
    pub keepalive_interval: Duration,
    /// `peer.keepalive.timeout`: how long it has for the answer.
    pub keepalive_timeout: Duration,
    /// Requests at a time on one connection.
    pub max_concurrent_streams: u32,
    /// How long running requests may go on after the stop, before their connections are cut.
    pub shutdown_grace: Duration,
    /// Counts what happens to connections.
    pub counters: Arc<ConnectionCounters>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_handshakes: 256,
            handshake_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(7200),
            keepalive_timeout: Duration::from_secs(20),
            max_concurrent_streams: 1000,
            shutdown_grace: Duration::from_secs(5),
            counters: Arc::default(),
        }
    }
}

/// What has happened to a server's connections since its start.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    failed_handshakes: AtomicU64,
}

impl ConnectionCounters {
    /// Connections that were served (`grpc_comm_conn_opened`).
    pub fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Those of them that have ended (`grpc_comm_conn_closed`).
    pub fn closed(&self) -> u64 {
        self.closed.load(Relaxed)
    }

    /// Connections that were closed because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// TLS handshakes that failed or took too long.
    pub fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Relaxed)
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Relaxed);
    }
}

/// Counts a connection as opened, and as closed when dropped.
pub(crate) struct OpenConnection(Arc<ConnectionCounters>);

impl OpenConnection {
    pub(crate) fn new(counters: Arc<ConnectionCounters>) -> Self {
        counters.opened.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Relaxed);
    }
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}{}", bind_advice(source))]
    Bind {
        /// As it was given.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The HTTP/2 server failed.
    #[error("the gRPC server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

fn bind_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process uses this port, perhaps another peer",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need special rights",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// Listens on `address` (`host:port`). Errors name the address.
pub async fn bind(
    address: impl ToSocketAddrs + std::fmt::Display,
) -> Result<TcpListener, ServeError> {
    let name = address.to_string();
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Bind {
            address: name,
            source,
        })
}

/// Serves `routes` until `shutdown` completes, then lets running requests end.
///
/// Long streams should end themselves when the node stops; whatever still runs after
/// [`ServerOptions::shutdown_grace`] is cut. When this future is dropped all connections are cut.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    routes: Routes,
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let stop = CancellationToken::new();
    let cut = CancellationToken::new();
    let _stop_when_dropped = (stop.clone().drop_guard(), cut.clone().drop_guard());

    let (connections, incoming) = tokio::sync::mpsc::channel(16);
    let acceptor = Acceptor::new(tls, &options, connections, cut.clone());
    tokio::spawn(acceptor.run(listener, stop.clone()));

    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(options.max_concurrent_streams)
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(incoming),
            stop.clone().cancelled_owned(),
        );

    let stopping = async {
        shutdown.await;
        stop.cancel();
        tokio::time::sleep(options.shutdown_grace).await;
        cut.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = server => served.map_err(ServeError::from),
        () = stopping => Ok(()),
    }
}

#[cfg(test)]
mod tests;
