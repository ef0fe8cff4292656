//! The HTTP server, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Operations;
use super::router::{Client, router};
use crate::config::{ConfigError, OperationsConfig, OperationsTlsConfig, read_file};
use crate::logging::LogLimit;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may take to end when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections at a time; further ones wait.
const MAX_CONNECTIONS: usize = 128;
const LOGGER: &str = "peer.operations";

/// Why the operations endpoint cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// The address cannot be listened on.
    #[error("operations.listenAddress: cannot listen on {address}: {source}{}", if source.kind() == io::ErrorKind::AddrInUse { "; another process uses this port" } else { "" })]
    Bind {
        /// As configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file of operations.tls cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of operations.tls does not hold what it should.
    #[error("{key}: {path}: {reason}")]
    Tls {
        /// The key of core.yaml.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Client certificates are required and nothing says which ones.
    #[error(
        "operations.tls.clientAuthRequired is true, but operations.tls.clientRootCAs.files names no CA certificate"
    )]
    NoClientCas,
}

/// A running operations endpoint. It stops when dropped.
#[derive(Debug)]
pub struct OperationsServer {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl OperationsServer {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing more, and waits for open requests, at most five seconds.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if timeout(STOP_TIMEOUT, &mut self.task).await.is_err() {
            tracing::warn!(target: LOGGER, "requests were cut off at the stop");
        }
    }
}

impl Drop for OperationsServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

/// Starts the endpoint; `None` if no address is configured.
pub async fn start(
    config: &OperationsConfig,
    operations: Operations,
) -> Result<Option<OperationsServer>, OperationsError> {
    let Some(listen_address) = &config.listen_address else {
        return Ok(None);
    };
    let tls = config.tls.as_ref().map(tls_acceptor).transpose()?;
    // Go listens on all interfaces where the host is empty.
    let bindable = match listen_address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => listen_address.clone(),
    };
    let bind_error = |source| OperationsError::Bind {
        address: listen_address.clone(),
        source,
    };
    let listener = TcpListener::bind(&bindable).await.map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let stop = CancellationToken::new();
    let server = Server {
        router: router(operations),
        tls,
        stop: stop.clone(),
    };
    let task = tokio::spawn(server.run(listener));
    tracing::info!(target: LOGGER, %address, tls = config.tls.is_some(), "operations endpoint listens");
    Ok(Some(OperationsServer {
        address,
        stop,
        task,
    }))
}

/// `cert.file`, `key.file` and `clientRootCAs.files` as a TLS configuration.
fn tls_acceptor(config: &OperationsTlsConfig) -> Result<TlsAcceptor, OperationsError> {
    let pair = config.server.read()?;
    let wrong = |key, path: &PathBuf, reason: String| OperationsError::Tls {
        key,
        path: path.clone(),
        reason,
    };
    let wrong_certificate =
        |reason| wrong("operations.tls.cert.file", &config.server.cert_file, reason);
    let wrong_key = |reason| wrong("operations.tls.key.file", &config.server.key_file, reason);

    let chain = certificates(&pair.cert_pem).map_err(wrong_certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pair.key_pem)
        .map_err(|error| wrong_key(format!("no PEM private key: {error}")))?;

    let mut roots = rustls::RootCertStore::empty();
    for path in &config.client_root_ca_files {
        let key = "operations.tls.clientRootCAs.files";
        let pem = read_file(path, key)?;
        for certificate in certificates(&pem).map_err(|reason| wrong(key, path, reason))? {
            roots
                .add(certificate)
                .map_err(|error| wrong(key, path, error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong_certificate(error.to_string()))?;
    let builder = if roots.is_empty() {
        if config.client_auth_required {
            return Err(OperationsError::NoClientCas);
        }
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = if config.client_auth_required {
            verifier
        } else {
            verifier.allow_unauthenticated()
        };
        builder.with_client_cert_verifier(
            verifier
                .build()
                .map_err(|error| wrong_certificate(error.to_string()))?,
        )
    };
    let mut tls = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong_key(error.to_string()))?;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("no PEM certificates: {error}"))?;
    if certificates.is_empty() {
        return Err("no PEM certificates".to_owned());
    }
    Ok(certificates)
}

struct Server {
    router: Router,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
}

impl Server {
    async fn run(self, listener: TcpListener) {
        static REFUSED: LogLimit = LogLimit::every_seconds(10);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        let server = Arc::new(self);
        loop {
            let accepted = async {
                let slot = slots.clone().acquire_owned().await.ok()?;
                Some((slot, listener.accept().await))
            };
            let (slot, stream) = tokio::select! {
                () = server.stop.cancelled() => break,
                accepted = accepted => match accepted {
                    Some((slot, Ok((stream, _)))) => (slot, stream),
                    Some((_, Err(error))) => {
                        if let Some(suppressed) = REFUSED.pass() {
                            tracing::warn!(target: LOGGER, %error, suppressed, "cannot accept a connection");
                        }
                        // Out of file descriptors, most likely: let some be freed.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                    None => break,
                },
            };
            let server = server.clone();
            connections.spawn(async move {
                server.connection(stream).await;
                drop(slot);
            });
        }
        connections.close();
        connections.wait().await;
    }

    async fn connection(&self, stream: TcpStream) {
        let Some(tls) = &self.tls else {
            return self.requests(stream, Client::Plain).await;
        };
        match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                // A certificate that was presented has been verified.
                let client = match stream.get_ref().1.peer_certificates() {
                    Some([_, ..]) => Client::Verified,
                    _ => Client::Anonymous,
                };
                self.requests(stream, client).await;
            }
            Ok(Err(error)) => tracing::debug!(target: LOGGER, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(target: LOGGER, "TLS handshake took too long"),
        }
    }

    async fn requests(&self, stream: impl AsyncRead + AsyncWrite + Unpin, client: Client) {
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(client)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = &mut connection => result,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(target: LOGGER, %error, "connection ended");
        }
    }
}
