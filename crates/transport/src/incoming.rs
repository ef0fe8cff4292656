//! Accepting connections: bounded in number, with TLS handshakes beside each other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_util::sync::CancellationToken;

use crate::io::{ServerIo, TlsPeer, Wire};
use crate::log_limit::LogLimit;
use crate::server::{ConnectionCounters, OpenConnection, ServerOptions};
use crate::tls::{HandshakeError, ServerTls};

/// Wait after a failed accept: out of file descriptors does not get better at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

/// What each handshake needs.
struct Shared {
    tls: Option<Arc<ServerTls>>,
    timeout: Duration,
    counters: Arc<ConnectionCounters>,
    connections: mpsc::Sender<io::Result<ServerIo>>,
    cut: CancellationToken,
    refusals: LogLimit,
    failures: LogLimit,
}

impl Acceptor {
    pub(crate) fn new(
        tls: Option<Arc<ServerTls>>,
        options: &ServerOptions,
        connections: mpsc::Sender<io::Result<ServerIo>>,
        cut: CancellationToken,
    ) -> Self {
        Self {
            places: Arc::new(Semaphore::new(options.max_connections)),
            handshakes: Arc::new(Semaphore::new(options.max_handshakes)),
            shared: Arc::new(Shared {
                tls,
                timeout: options.handshake_timeout,
                counters: options.counters.clone(),
                connections,
                cut,
                refusals: LogLimit::default(),
                failures: LogLimit::default(),
            }),
        }
    }

    /// Accepts until `stop`. The listener is closed on return.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.accept_all(listener)).await;
    }

    async fn accept_all(&self, listener: TcpListener) {
        // The semaphore is never closed, so the loop ends with `stop` alone.
        while let Ok(handshake) = self.handshakes.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, address)) => self.begin(stream, address, handshake),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn begin(&self, stream: TcpStream, address: SocketAddr, handshake: OwnedSemaphorePermit) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.shared.counters.count_refused();
            if let Some(suppressed) = self.shared.refusals.permit() {
                tracing::warn!(%address, suppressed, "too many connections; refusing new ones");
            }
            return;
        };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let cut = shared.cut.clone();
            let _ = cut
                .run_until_cancelled(shared.admit(stream, address, place, handshake))
                .await;
        });
    }
}

impl Shared {
    async fn admit(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
        handshake: OwnedSemaphorePermit,
    ) {
        let secured = tokio::time::timeout(self.timeout, self.secure(stream, address)).await;
        drop(handshake);
        let reason = match secured {
            Ok(Ok((wire, peer))) => {
                let open = OpenConnection::new(self.counters.clone());
                let io = ServerIo::new(wire, peer, self.timeout, self.cut.clone(), open, place);
                // An error means that the server stops.
                let _ = self.connections.send(Ok(io)).await;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no TLS handshake within {:?}", self.timeout),
        };
        self.counters.count_failed_handshake();
        if let Some(suppressed) = self.failures.permit() {
            // Fabric's phrase (internal/pkg/comm/creds.go).
            tracing::warn!(
                remote_address = %address, suppressed,
                "Server TLS handshake failed with error {reason}"
            );
        }
    }

    async fn secure(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(Wire, TlsPeer), HandshakeError> {
        // Without it small messages wait for acknowledgements; failure only costs delay.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            let peer = TlsPeer {
                address,
                secure: false,
                certificate: None,
                own_certificate_hash: None,
            };
            return Ok((Wire::Plain(stream), peer));
        };
        let current = tls.current();
        let stream = TlsAcceptor::from(current.config.clone())
            .accept(stream)
            .await
            .map_err(|e| HandshakeError::from_io(&e))?;
        let wire = Wire::Tls(Box::new(TlsStream::Server(stream)));
        let peer = TlsPeer {
            address,
            secure: true,
            certificate: wire.peer_certificate(),
            own_certificate_hash: Some(current.identity.certificate_hash()),
        };
        Ok((wire, peer))
    }
}
