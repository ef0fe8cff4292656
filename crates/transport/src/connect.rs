//! Outgoing connections. No proxy is ever used, as in Fabric.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::{TlsConnector, TlsStream};
use tonic::body::Body;
use tower::Service;

use crate::io::{TlsPeer, Wire};
use crate::tls::{ClientTls, HandshakeError, TlsError};

/// HTTP/2 windows: what a server may send before it is read, bytes. They are fixed: measuring
/// would ping, and Go servers close connections whose clients ping more than they permit.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// For TCP and TLS together. `peer.gossip.dialTimeout`, `peer.deliveryclient.connTimeout`: 3 s.
    pub timeout: Duration,
    /// A server that was silent for so long is pinged (`peer.keepalive.client.interval`). Fabric's
    /// servers close connections that ping more than once a minute.
    pub keepalive_interval: Duration,
    /// How long it has for the answer (`peer.keepalive.client.timeout`).
    pub keepalive_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            keepalive_interval: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("`{0}` is not an address of the form host:port")]
    Endpoint(String),
    /// TCP failed, or the name did not resolve.
    #[error("cannot connect to {endpoint}: {source}")]
    Tcp {
        /// What was dialled.
        endpoint: Endpoint,
        /// The system's reason.
        source: io::Error,
    },
    /// No connection in time.
    #[error("cannot connect to {endpoint}: no connection within {timeout:?}")]
    Timeout {
        /// What was dialled.
        endpoint: Endpoint,
        /// The limit.
        timeout: Duration,
    },
    /// No TLS session.
    #[error("cannot connect to {endpoint}: {source}")]
    Handshake {
        /// What was dialled.
        endpoint: Endpoint,
        /// What was wrong with it.
        source: HandshakeError,
    },
    /// The name cannot be in a certificate.
    #[error("cannot connect to {endpoint}: {source}")]
    Name {
        /// What was dialled.
        endpoint: Endpoint,
        /// What was wrong with it.
        source: TlsError,
    },
    /// The other side does not speak HTTP/2.
    #[error("cannot connect to {endpoint}: {source}")]
    Http2 {
        /// What was dialled.
        endpoint: Endpoint,
        /// The protocol's reason.
        source: hyper::Error,
    },
}

/// A node's address, `host:port`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    authority: Authority,
    port: u16,
}

impl Endpoint {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl std::str::FromStr for Endpoint {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let invalid = || ConnectError::Endpoint(text.to_owned());
        let authority: Authority = text.parse().map_err(|_| invalid())?;
        let port = authority.port_u16().ok_or_else(invalid)?;
        if authority.host().is_empty() || text.contains('@') {
            return Err(invalid());
        }
        Ok(Self { authority, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

/// One HTTP/2 connection to one server. Clones share it; it is closed, with all requests on it,
/// when the last clone is dropped. It never reconnects, so what is known of the other side stays
/// true. Generated clients take it in place of a channel.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Body>,
    scheme: Scheme,
    authority: Authority,
    peer: TlsPeer,
    _task: Arc<AbortOnDrop>,
}

impl Connection {
    /// Who the other side is.
    pub fn peer(&self) -> &TlsPeer {
        &self.peer
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(
            request
                .uri()
                .path_and_query()
                .cloned()
                .unwrap_or(PathAndQuery::from_static("/")),
        );
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        Box::pin(self.requests.send_request(request))
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes one connection. Cancelling the future leaves nothing behind.
pub async fn dial(
    endpoint: &Endpoint,
    tls: Option<&ClientTls>,
    options: &ConnectOptions,
) -> Result<Connection, ConnectError> {
    let (wire, peer) = open(endpoint, tls, options).await?;
    let (requests, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|source| ConnectError::Http2 {
            endpoint: endpoint.clone(),
            source,
        })?;
    let address = peer.address;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%address, %error, "connection ended");
        }
    });
    Ok(Connection {
        requests,
        scheme: scheme(tls),
        authority: endpoint.authority.clone(),
        peer,
        _task: Arc::new(AbortOnDrop(task.abort_handle())),
    })
}

/// A channel that connects on first use, and again when the connection is lost.
pub fn channel(
    endpoint: &Endpoint,
    tls: Option<ClientTls>,
    options: &ConnectOptions,
) -> tonic::transport::Channel {
    let connector = Connector {
        endpoint: endpoint.clone(),
        tls,
        options: options.clone(),
    };
    // The connector knows where to go; the URI serves for the request headers.
    let origin = Uri::builder()
        .scheme(scheme(connector.tls.as_ref()))
        .authority(endpoint.authority.clone())
        .path_and_query("/")
        .build()
        .unwrap_or_default();
    tonic::transport::Endpoint::from(origin)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

fn scheme(tls: Option<&ClientTls>) -> Scheme {
    if tls.is_some() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    }
}

/// Opens the socket of a channel.
#[derive(Clone)]
struct Connector {
    endpoint: Endpoint,
    tls: Option<ClientTls>,
    options: ConnectOptions,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (wire, _) = open(&this.endpoint, this.tls.as_ref(), &this.options).await?;
            Ok(TokioIo::new(wire))
        })
    }
}

/// TCP and TLS, within the time limit.
async fn open(
    endpoint: &Endpoint,
    tls: Option<&ClientTls>,
    options: &ConnectOptions,
) -> Result<(Wire, TlsPeer), ConnectError> {
    tokio::time::timeout(options.timeout, open_unlimited(endpoint, tls))
        .await
        .unwrap_or_else(|_| {
            Err(ConnectError::Timeout {
                endpoint: endpoint.clone(),
                timeout: options.timeout,
            })
        })
}

async fn open_unlimited(
    endpoint: &Endpoint,
    tls: Option<&ClientTls>,
) -> Result<(Wire, TlsPeer), ConnectError> {
    let tcp = |source| ConnectError::Tcp {
        endpoint: endpoint.clone(),
        source,
    };
    let stream = TcpStream::connect((endpoint.host(), endpoint.port()))
        .await
        .map_err(tcp)?;
    let _ = stream.set_nodelay(true);
    let address = stream.peer_addr().map_err(tcp)?;
    let Some(tls) = tls else {
        let peer = TlsPeer {
            address,
            secure: false,
            certificate: None,
            own_certificate_hash: None,
        };
        return Ok((Wire::Plain(stream), peer));
    };
    let name = tls
        .server_name(endpoint.host())
        .map_err(|source| ConnectError::Name {
            endpoint: endpoint.clone(),
            source,
        })?;
    let stream = TlsConnector::from(tls.config())
        .connect(name, stream)
        .await
        .map_err(|e| {
            let source = HandshakeError::from_io(&e);
            ConnectError::Handshake {
                endpoint: endpoint.clone(),
                source,
            }
        })?;
    let wire = Wire::Tls(Box::new(TlsStream::Client(stream)));
    let peer = TlsPeer {
        address,
        secure: true,
        certificate: wire.peer_certificate(),
        own_certificate_hash: tls.identity().map(|identity| identity.certificate_hash()),
    };
    Ok((wire, peer))
}
