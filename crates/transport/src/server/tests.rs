use std::net::SocketAddr;

use rcgen::{DnType, SanType};
use selvedge_protos::gossip::{Empty, Envelope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::services::gossip::gossip_client::GossipClient;
use crate::services::gossip::gossip_server::{Gossip, GossipServer};
use crate::testing::{Ca, days_from_now, eventually, soon};
use crate::{
    ClientAuth, ClientTls, ConnectError, ConnectOptions, Endpoint, HandshakeError, TlsIdentity,
    TlsPeer, channel, dial,
};

/// Answers pings, tells the test who pinged, and keeps streams open for ever.
struct Recorder(mpsc::UnboundedSender<TlsPeer>);

#[tonic::async_trait]
impl Gossip for Recorder {
    type GossipStreamStream = tokio_stream::Pending<Result<Envelope, Status>>;

    async fn gossip_stream(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::GossipStreamStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }

    async fn ping(&self, request: Request<Empty>) -> Result<Response<Empty>, Status> {
        let peer = request.extensions().get::<TlsPeer>().unwrap();
        self.0.send(peer.clone()).unwrap();
        Ok(Response::new(Empty {}))
    }
}

struct TestServer {
    address: SocketAddr,
    endpoint: Endpoint,
    seen: mpsc::UnboundedReceiver<TlsPeer>,
    counters: Arc<ConnectionCounters>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
}

impl TestServer {
    async fn start(tls: Option<Arc<ServerTls>>, options: ServerOptions) -> Self {
        Self::on(bind("127.0.0.1:0").await.unwrap(), tls, options)
    }

    fn on(listener: TcpListener, tls: Option<Arc<ServerTls>>, options: ServerOptions) -> Self {
        let address = listener.local_addr().unwrap();
        let (recorder, seen) = mpsc::unbounded_channel();
        let routes = Routes::new(GossipServer::new(Recorder(recorder)));
        let stop = CancellationToken::new();
        let counters = options.counters.clone();
        let shutdown = stop.clone().cancelled_owned();
        let running = tokio::spawn(serve(listener, tls, routes, options, shutdown));
        let endpoint = format!("localhost:{}", address.port()).parse().unwrap();
        Self {
            address,
            endpoint,
            seen,
            counters,
            stop,
            running,
        }
    }

    async fn ping(&mut self, tls: Option<&ClientTls>) -> Result<TlsPeer, ConnectError> {
        let connection = dial(&self.endpoint, tls, &patient()).await?;
        let mut client = GossipClient::new(connection);
        let answer = client.ping(Empty {}).await;
        answer.map_err(|status| ConnectError::Endpoint(status.to_string()))?;
        Ok(self.seen.recv().await.unwrap())
    }

    async fn handshake_error(&mut self, tls: &ClientTls) -> HandshakeError {
        match self.ping(Some(tls)).await.unwrap_err() {
            ConnectError::Handshake { source, .. } => source,
            other => panic!("not a handshake error: {other}"),
        }
    }
}

/// With patience for a busy machine.
fn options() -> ServerOptions {
    ServerOptions {
        handshake_timeout: Duration::from_secs(60),
        shutdown_grace: Duration::from_millis(200),
        ..ServerOptions::default()
    }
}

fn patient() -> ConnectOptions {
    ConnectOptions {
        timeout: Duration::from_secs(60),
        ..ConnectOptions::default()
    }
}

fn server_tls(identity: TlsIdentity) -> Arc<ServerTls> {
    ServerTls::new(identity, ClientAuth::Request, Vec::new()).unwrap()
}

#[tokio::test]
async fn requests_carry_both_certificates() {
    let ca = Ca::new("ca");
    let (identity, client) = (ca.issue(), ca.client());
    let mut server = TestServer::start(Some(server_tls(identity.clone())), options()).await;
    let seen = server.ping(Some(&client)).await.unwrap();
    assert!(seen.secure);
    assert_eq!(
        seen.certificate.as_ref(),
        Some(client.identity().unwrap().certificate())
    );
    assert_eq!(
        seen.certificate_hash(),
        Some(client.identity().unwrap().certificate_hash())
    );
    assert_eq!(seen.own_certificate_hash, Some(identity.certificate_hash()));

    let connection = dial(&server.endpoint, Some(&client), &patient())
        .await
        .unwrap();
    assert_eq!(
        connection.peer().certificate.as_ref(),
        Some(identity.certificate())
    );
    let own = client.identity().unwrap().certificate_hash();
    assert_eq!(connection.peer().own_certificate_hash, Some(own));
}

#[tokio::test]
async fn a_requested_certificate_may_be_missing_or_of_any_ca() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let mut server = TestServer::start(Some(server_tls(ca.issue())), options()).await;
    let without = ClientTls::new(&ca.roots(), None, None).unwrap();
    assert_eq!(server.ping(Some(&without)).await.unwrap().certificate, None);
    let foreign = ClientTls::new(&ca.roots(), Some(other.issue()), None).unwrap();
    let seen = server.ping(Some(&foreign)).await.unwrap();
    assert_eq!(
        seen.certificate.as_ref(),
        Some(foreign.identity().unwrap().certificate())
    );
}

#[tokio::test]
async fn a_required_certificate_must_be_of_a_client_ca_and_cas_can_be_added() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let tls = ServerTls::new(ca.issue(), ClientAuth::Require, ca.roots()).unwrap();
    let mut server = TestServer::start(Some(tls.clone()), options()).await;
    let without = ClientTls::new(&ca.roots(), None, None).unwrap();
    let foreign = ClientTls::new(&ca.roots(), Some(other.issue()), None).unwrap();
    assert!(server.ping(Some(&ca.client())).await.is_ok());
    assert!(server.ping(Some(&without)).await.is_err());
    assert!(server.ping(Some(&foreign)).await.is_err());

    tls.set_client_roots([ca.roots(), other.roots()].concat())
        .unwrap();
    assert!(server.ping(Some(&foreign)).await.is_ok());
    tls.set_client_roots(Vec::new()).unwrap();
    assert!(server.ping(Some(&ca.client())).await.is_err());
    // The client has its answer before the server has counted.
    eventually("three failures counted", || {
        server.counters.failed_handshakes() == 3
    })
    .await;
}

#[tokio::test]
async fn certificates_rotate_without_restart_and_connections_keep_theirs() {
    let ca = Ca::new("ca");
    let (old, new) = (ca.issue(), ca.issue());
    let tls = server_tls(old.clone());
    let mut server = TestServer::start(Some(tls.clone()), options()).await;
    let connection = dial(&server.endpoint, Some(&ca.client()), &patient())
        .await
        .unwrap();
    tls.set_identity(new.clone()).unwrap();
    GossipClient::new(connection.clone())
        .ping(Empty {})
        .await
        .unwrap();
    let seen = server.seen.recv().await.unwrap();
    assert_eq!(seen.own_certificate_hash, Some(old.certificate_hash()));
    let seen = server.ping(Some(&ca.client())).await.unwrap();
    assert_eq!(seen.own_certificate_hash, Some(new.certificate_hash()));
    assert_eq!(tls.identity().certificate(), new.certificate());
}

#[tokio::test]
async fn servers_that_cannot_be_trusted_are_refused_with_the_reason() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let client = ca.client();

    let mut server = TestServer::start(Some(server_tls(other.issue())), options()).await;
    assert_eq!(
        server.handshake_error(&client).await,
        HandshakeError::UnknownCa
    );

    let expired = ca.issue_with(|params| {
        params.not_before = days_from_now(-10);
        params.not_after = days_from_now(-1);
    });
    let mut server = TestServer::start(Some(server_tls(expired)), options()).await;
    assert!(matches!(
        server.handshake_error(&client).await,
        HandshakeError::Expired(_)
    ));

    let early = ca.issue_with(|params| params.not_before = days_from_now(1));
    let mut server = TestServer::start(Some(server_tls(early)), options()).await;
    assert!(matches!(
        server.handshake_error(&client).await,
        HandshakeError::NotYetValid(_)
    ));

    let elsewhere = ca.issue_with(|params| {
        params.subject_alt_names = vec![SanType::DnsName("orderer.example".try_into().unwrap())];
    });
    let mut server = TestServer::start(Some(server_tls(elsewhere)), options()).await;
    assert!(matches!(
        server.handshake_error(&client).await,
        HandshakeError::WrongName(_)
    ));
    let overridden = ClientTls::new(&ca.roots(), None, Some("orderer.example")).unwrap();
    assert!(server.ping(Some(&overridden)).await.is_ok());

    let common_name = ca.issue_with(|params| {
        params.subject_alt_names.clear();
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
    });
    let mut server = TestServer::start(Some(server_tls(common_name)), options()).await;
    let error = server.handshake_error(&client).await;
    assert!(
        error.to_string().contains("the common name does not count"),
        "{error}"
    );
}

#[tokio::test]
async fn without_tls_requests_carry_the_address_alone() {
    let mut server = TestServer::start(None, options()).await;
    let seen = server.ping(None).await.unwrap();
    assert!(!seen.secure && seen.certificate.is_none() && seen.own_certificate_hash.is_none());
    let ca = Ca::new("ca");
    let error = server.handshake_error(&ca.client()).await;
    assert!(
        matches!(error, HandshakeError::NotTls(_) | HandshakeError::Io(_)),
        "{error}"
    );
}

#[tokio::test]
async fn channels_connect_when_used_and_again_after_a_restart() {
    let ca = Ca::new("ca");
    // Holds the port while nobody listens on it.
    let port = TcpSocket::new_v4().unwrap();
    port.set_reuseaddr(true).unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = bind(port.local_addr().unwrap()).await.unwrap();
    let mut server = TestServer::on(listener, Some(server_tls(ca.issue())), options());
    let channel = channel(&server.endpoint, Some(ca.client()), &patient());
    let mut client = GossipClient::new(channel);
    assert_eq!(server.counters.opened(), 0);
    client.ping(Empty {}).await.unwrap();
    assert!(server.seen.recv().await.unwrap().secure);

    server.stop.cancel();
    server.running.await.unwrap().unwrap();
    let listener = bind(server.address).await.unwrap();
    let (recorder, mut seen) = mpsc::unbounded_channel();
    let routes = Routes::new(GossipServer::new(Recorder(recorder)));
    let again = serve(
        listener,
        Some(server_tls(ca.issue())),
        routes,
        options(),
        std::future::pending::<()>(),
    );
    let again = tokio::spawn(again);
    // What is under way when the server ends fails; then there is a new connection.
    soon(async { while client.ping(Empty {}).await.is_err() {} }).await;
    assert!(seen.recv().await.unwrap().secure);
    again.abort();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = bind(address.clone()).await.unwrap_err().to_string();
    assert!(
        error.contains(&address) && error.contains("another process"),
        "{error}"
    );
}

/// Waits until the server closes a connection on which it was sent `bytes`.
async fn closed_after(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may be faster, and then this fails.
    let _ = stream.write_all(bytes).await;
    let _ = soon(stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn silent_clients_are_closed_at_each_stage() {
    let ca = Ca::new("ca");
    let impatient = || ServerOptions {
        handshake_timeout: Duration::from_millis(300),
        ..options()
    };
    let secure = TestServer::start(Some(server_tls(ca.issue())), impatient()).await;
    closed_after(secure.address, b"").await;
    closed_after(secure.address, b"\x16\x03\x01\x02").await;
    eventually("both counted as failed", || {
        secure.counters.failed_handshakes() == 2
    })
    .await;
    let plain = TestServer::start(None, impatient()).await;
    closed_after(plain.address, b"").await;
    closed_after(plain.address, b"PRI * HTTP/2").await;
    eventually("all counted as closed", || plain.counters.closed() == 2).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_places_come_back() {
    let options = ServerOptions {
        max_connections: 2,
        ..options()
    };
    let mut server = TestServer::start(None, options).await;
    let connect = || async {
        dial(&server.endpoint, None, &patient())
            .await
            .map(GossipClient::new)
    };
    let mut first = connect().await.unwrap();
    let mut second = connect().await.unwrap();
    first.ping(Empty {}).await.unwrap();
    second.ping(Empty {}).await.unwrap();
    closed_after(server.address, b"").await;
    eventually("it is counted", || server.counters.refused() == 1).await;
    drop(first);
    eventually("a place is free", || server.counters.closed() == 1).await;
    server.seen.close();
    assert!(connect().await.is_ok());
}

#[tokio::test]
async fn a_stop_ends_streams_that_do_not_end_themselves() {
    let server = TestServer::start(None, options()).await;
    let connection = dial(&server.endpoint, None, &patient()).await.unwrap();
    let mut client = GossipClient::new(connection);
    let stream = client
        .gossip_stream(tokio_stream::pending::<Envelope>())
        .await
        .unwrap();
    server.stop.cancel();
    soon(server.running).await.unwrap().unwrap();
    assert!(stream.into_inner().message().await.is_err());
    eventually("the connection is closed", || server.counters.closed() == 1).await;
}

#[test]
fn endpoints_have_host_and_port() {
    let endpoint: Endpoint = "peer0.org1.example.com:7051".parse().unwrap();
    assert_eq!(
        (endpoint.host(), endpoint.port()),
        ("peer0.org1.example.com", 7051)
    );
    let endpoint: Endpoint = "[::1]:7051".parse().unwrap();
    assert_eq!(
        (endpoint.host(), endpoint.to_string().as_str()),
        ("::1", "[::1]:7051")
    );
    for wrong in [
        "",
        "localhost",
        ":7051",
        "localhost:",
        "localhost:99999",
        "a@b:1",
        "x/y:1",
    ] {
        assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
    }
}
