use std::cell::Cell;
use std::sync::Arc;

use http::uri::PathAndQuery;
use selvedge_gossip::event::FrameClass;
use selvedge_gossip::send_queue::Lane;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::service::Routes;

use super::authentication::own_message;
use super::*;
use crate::codec::RawCodec;
use crate::testing::{Ca, TestAuthenticator, eventually, soon};
use crate::{
    ClientAuth, ClientTls, ConnectOptions, ConnectionCounters, ServerOptions, ServerTls, TlsPeer,
    bind, dial, serve,
};

/// A peer with its server, on loopback.
struct Node {
    transport: GossipTransport,
    events: mpsc::Receiver<GossipEvent>,
    address: PeerAddress,
    server_tls: Option<Arc<ServerTls>>,
    connections: Arc<ConnectionCounters>,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const CONTROL: Lane = Lane {
    class: FrameClass::Control,
    channel: None,
};

fn bulk(channel: &str) -> Lane {
    Lane {
        class: FrameClass::Bulk,
        channel: Some(channel.into()),
    }
}

/// With patience for a busy machine.
fn options() -> GossipOptions {
    let patience = Duration::from_secs(60);
    GossipOptions {
        connect: ConnectOptions {
            timeout: patience,
            ..ConnectOptions::default()
        },
        handshake_timeout: patience,
        redial_initial: Duration::from_millis(50),
        ..GossipOptions::default()
    }
}

/// For what ends by a timeout, and for streams that linger no longer than a test should take.
fn with_handshake_timeout(milliseconds: u64) -> GossipOptions {
    GossipOptions {
        handshake_timeout: Duration::from_millis(milliseconds),
        ..options()
    }
}

impl Node {
    async fn new(name: &str, ca: Option<&Ca>) -> Self {
        Self::with(TestAuthenticator::new(name), ca, options()).await
    }

    async fn with(
        authenticator: TestAuthenticator,
        ca: Option<&Ca>,
        options: GossipOptions,
    ) -> Self {
        let pki_id = authenticator.own_pki_id();
        let client_tls = ca.map(Ca::client);
        let server_tls =
            ca.map(|ca| ServerTls::new(ca.issue(), ClientAuth::Request, Vec::new()).unwrap());
        let (transport, events) = GossipTransport::new(authenticator.shared(), client_tls, options);
        let listener = bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (stop, connections) = (CancellationToken::new(), Arc::default());
        let server = serve(
            listener,
            server_tls.clone(),
            Routes::new(transport.service()),
            ServerOptions {
                shutdown_grace: Duration::ZERO,
                counters: Arc::clone(&connections),
                ..ServerOptions::default()
            },
            stop.clone().cancelled_owned(),
        );
        tokio::spawn(server);
        let address = PeerAddress { pki_id, endpoint };
        Self {
            transport,
            events,
            address,
            server_tls,
            connections,
            stop,
        }
    }

    fn send(&self, to: &Self, text: &str) -> SendOutcome {
        let frame = Bytes::copy_from_slice(text.as_bytes());
        self.transport.send(&to.address, CONTROL, frame)
    }

    /// Sends frames to a peer that takes no events, until it reads no more and the queue is full: until
    /// nothing has left for as long as it takes to refuse a hundred frames. Returns how many were taken,
    /// and how many refused.
    async fn flood(&mut self, to: &Self, channel: &str, frame: &Bytes) -> (usize, u64) {
        let send = || {
            self.transport
                .send(&to.address, bulk(channel), frame.clone())
        };
        assert_eq!(send(), SendOutcome::Queued);
        let connected = soon(self.events.recv()).await;
        assert!(matches!(connected, Some(GossipEvent::Connected(_))));
        let metrics = self.transport.metrics();
        let (mut queued, mut refused, mut in_turn, mut sent) = (1, 0, 0, 0);
        while in_turn < 100 {
            if send() == SendOutcome::Queued {
                queued += 1;
                in_turn = 0;
            } else {
                refused += 1;
                in_turn += 1;
            }
            if metrics.frames_sent() != sent {
                (in_turn, sent) = (0, metrics.frames_sent());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (queued, refused)
    }

    async fn event(&mut self) -> GossipEvent {
        soon(self.events.recv()).await.unwrap()
    }

    async fn connected(&mut self) -> PeerInfo {
        match self.event().await {
            GossipEvent::Connected(peer) => peer,
            other => panic!("not connected: {other:?}"),
        }
    }

    async fn frame(&mut self) -> (PkiId, Bytes) {
        match self.event().await {
            GossipEvent::Frame { from, bytes, .. } => (from, bytes),
            other => panic!("not a frame: {other:?}"),
        }
    }

    async fn disconnected(&mut self) -> DisconnectReason {
        match self.event().await {
            GossipEvent::Disconnected { reason, .. } => reason,
            other => panic!("not disconnected: {other:?}"),
        }
    }
}

/// A stream that a test drives by hand. Errors are those of the opening call.
struct ByHand {
    outgoing: mpsc::Sender<Bytes>,
    incoming: Streaming<Bytes>,
    connection: crate::Connection,
}

impl ByHand {
    async fn open(to: &Node, tls: Option<&ClientTls>) -> Result<Self, tonic::Status> {
        let endpoint = to.address.endpoint.parse().unwrap();
        let connection = dial(&endpoint, tls, &options().connect).await.unwrap();
        let (outgoing, frames) = mpsc::channel(1);
        let mut grpc = tonic::client::Grpc::new(connection.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/gossip.Gossip/GossipStream");
        let request = tonic::Request::new(ReceiverStream::new(frames));
        let incoming = grpc.streaming(request, path, RawCodec).await?.into_inner();
        Ok(Self {
            outgoing,
            incoming,
            connection,
        })
    }

    async fn send(&self, frame: impl Into<Bytes>) {
        self.outgoing.send(frame.into()).await.unwrap();
    }

    /// A proper handshake as `name`.
    async fn introduce(&mut self, name: &str) {
        let peer = TestAuthenticator::new(name);
        self.send(own_message(&peer, self.connection.peer(), false).unwrap())
            .await;
        self.incoming.message().await.unwrap().unwrap();
    }

    /// Reads to the end and returns its status.
    async fn end(mut self) -> Result<(), tonic::Status> {
        let read = async {
            while self.incoming.message().await?.is_some() {}
            Ok(())
        };
        soon(read).await
    }
}

#[tokio::test]
async fn frames_go_both_ways_over_one_stream() {
    let ca = Ca::new("ca");
    for ca in [Some(&ca), None] {
        let (mut a, mut b) = (Node::new("Org1/a", ca).await, Node::new("Org2/b", ca).await);
        assert_eq!(a.send(&b, "hello"), SendOutcome::Queued);
        let (at_a, at_b) = (a.connected().await, b.connected().await);
        assert_eq!(
            (at_a.pki_id, at_a.organization.as_str()),
            (b.address.pki_id, "Org2")
        );
        assert_eq!(
            (at_b.pki_id, at_b.identity),
            (a.address.pki_id, Bytes::from("Org1/a"))
        );
        assert_eq!(at_a.endpoint.as_deref(), Some(b.address.endpoint.as_str()));
        assert_eq!(b.frame().await, (a.address.pki_id, Bytes::from("hello")));
        b.send(&a, "hello yourself");
        assert_eq!(
            a.frame().await,
            (b.address.pki_id, Bytes::from("hello yourself"))
        );
        assert_eq!(a.connections.opened() + b.connections.opened(), 1);
        assert_eq!(a.transport.connected(), [b.address.pki_id]);
        let metrics = b.transport.metrics();
        assert_eq!(
            (metrics.frames_received(), metrics.bytes_received()),
            (1, 5)
        );
        assert_eq!((metrics.frames_sent(), metrics.bytes_sent()), (1, 14));
    }
}

#[tokio::test]
async fn a_probe_tells_who_is_there_and_leaves_nothing() {
    let ca = Ca::new("ca");
    let (a, b) = (
        Node::new("Org1/a", Some(&ca)).await,
        Node::new("Org2/b", Some(&ca)).await,
    );
    let found = a.transport.probe(&b.address.endpoint, None).await.unwrap();
    assert_eq!(
        (found.pki_id, found.identity),
        (b.address.pki_id, Bytes::from("Org2/b"))
    );
    eventually("answered", || b.transport.metrics().probes_answered() == 1).await;
    assert!(a.transport.connected().is_empty() && b.transport.connected().is_empty());
    let unexpected = a
        .transport
        .probe(&b.address.endpoint, Some([7; 32]))
        .await
        .unwrap_err();
    assert!(
        unexpected.to_string().contains("authentication failure"),
        "{unexpected}"
    );
    let own = a
        .transport
        .probe(&a.address.endpoint, None)
        .await
        .unwrap_err();
    assert!(own.to_string().contains("own identity"), "{own}");
    let nobody = a.transport.probe("nowhere", None).await.unwrap_err();
    assert!(nobody.to_string().contains("host:port"), "{nobody}");
}

#[tokio::test]
async fn peers_of_unknown_cas_are_not_talked_to() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let mut a = Node::new("Org1/a", Some(&ours)).await;
    let b = Node::new("Org2/b", Some(&theirs)).await;
    a.send(&b, "hello");
    let DisconnectReason::Unreachable(reason) = a.disconnected().await else {
        panic!()
    };
    assert!(reason.contains("unknown CA"), "{reason}");
    let metrics = a.transport.metrics();
    assert_eq!(
        (metrics.dials_failed(), metrics.unreachable_dropped()),
        (1, 1)
    );
}

#[tokio::test]
async fn inbound_handshakes_that_prove_nothing_are_refused() {
    let ca = Ca::new("ca");
    let node = Node::new("Org1/a", Some(&ca)).await;
    let client = ca.client();
    let forger = TestAuthenticator {
        forge: true,
        ..TestAuthenticator::new("Org2/b")
    };
    let thief = TestAuthenticator {
        claimed_pki_id: Some([7; 32]),
        ..TestAuthenticator::new("Org2/b")
    };
    let honest = TestAuthenticator::new("Org2/b");
    let relayed = |peer: &TlsPeer| TlsPeer {
        own_certificate_hash: Some([7; 32]),
        ..peer.clone()
    };
    let same = |peer: &TlsPeer| peer.clone();
    type View<'a> = &'a dyn Fn(&TlsPeer) -> TlsPeer;
    let cases: [(&TestAuthenticator, View<'_>, &str); 4] = [
        (&forger, &same, "signature"),
        (&thief, &same, "claims the PKI-ID"),
        (
            &TestAuthenticator::new("stranger"),
            &same,
            "unknown authority",
        ),
        (&honest, &relayed, "TLS certificate with hash"),
    ];
    for (count, (author, view, reason)) in (1..).zip(cases) {
        let stream = ByHand::open(&node, Some(&client)).await.unwrap();
        let connection = view(stream.connection.peer());
        stream
            .send(own_message(author, &connection, false).unwrap())
            .await;
        let status = stream.end().await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        assert!(status.message().contains(reason), "{status}");
        assert_eq!(node.transport.metrics().handshakes_failed(), count);
    }
    let bare = ClientTls::new(&ca.roots(), None, None).unwrap();
    let status = ByHand::open(&node, Some(&bare)).await.err().unwrap();
    assert!(status.message().contains("no TLS certificate"), "{status}");
    assert!(node.transport.connected().is_empty());
}

#[tokio::test]
async fn a_dialled_peer_must_be_the_expected_one_or_of_its_organisation() {
    let mut a = Node::new("Org1/a", None).await;
    let b = Node::new("Org2/b", None).await;
    let expected = PeerAddress {
        pki_id: [7; 32],
        ..b.address.clone()
    };
    a.transport.send(&expected, CONTROL, Bytes::from("secret"));
    let DisconnectReason::Unreachable(reason) = a.disconnected().await else {
        panic!()
    };
    assert!(reason.contains("authentication failure"), "{reason}");

    let known = vec![([7; 32], "Org2".to_owned())];
    let authenticator = TestAuthenticator {
        known,
        ..TestAuthenticator::new("Org1/c")
    };
    let mut c = Node::with(authenticator, None, options()).await;
    let mut renewed = Node::new("Org2/renewed", None).await;
    let expected = PeerAddress {
        pki_id: [7; 32],
        ..renewed.address.clone()
    };
    c.transport
        .send(&expected, CONTROL, Bytes::from("for you all the same"));
    match c.event().await {
        GossipEvent::IdentityChanged { old, new } => {
            assert_eq!((old, new), ([7; 32], renewed.address.pki_id));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(c.connected().await.pki_id, renewed.address.pki_id);
    renewed.connected().await;
    assert_eq!(renewed.frame().await.1, "for you all the same");
}

#[tokio::test]
async fn handshakes_that_never_come_end_and_free_their_places() {
    let options = GossipOptions {
        max_handshakes: 2,
        ..with_handshake_timeout(300)
    };
    let node = Node::with(TestAuthenticator::new("Org1/a"), None, options).await;
    for _ in 0..2 {
        let silent = [
            ByHand::open(&node, None).await.unwrap(),
            ByHand::open(&node, None).await.unwrap(),
        ];
        for stream in silent {
            let status = stream.end().await.unwrap_err();
            assert!(status.message().contains("timed out"), "{status}");
        }
    }
}

#[tokio::test]
async fn handshakes_beyond_the_limit_are_refused_and_places_come_back() {
    let options = GossipOptions {
        max_handshakes: 2,
        ..options()
    };
    let node = Node::with(TestAuthenticator::new("Org1/a"), None, options).await;
    let mut first = ByHand::open(&node, None).await.unwrap();
    let _second = ByHand::open(&node, None).await.unwrap();
    let status = ByHand::open(&node, None).await.err().unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    first.introduce("Org2/b").await;
    eventually("connected", || !node.transport.connected().is_empty()).await;
    ByHand::open(&node, None).await.unwrap();
}

#[tokio::test]
async fn a_stranger_cannot_send_much() {
    let node = Node::new("Org1/a", None).await;
    let stream = ByHand::open(&node, None).await.unwrap();
    stream.send(vec![0; 10 * 1024 * 1024]).await;
    let status = stream.end().await.unwrap_err();
    assert!(
        status.message().contains("before the handshake"),
        "{status}"
    );
}

#[tokio::test]
async fn frames_beyond_the_limit_end_the_stream_and_are_not_sent() {
    let limited = GossipOptions {
        max_frame: 200_000,
        ..options()
    };
    let mut node = Node::with(TestAuthenticator::new("Org1/a"), None, limited).await;
    let mut stream = ByHand::open(&node, None).await.unwrap();
    stream.introduce("Org2/b").await;
    node.connected().await;
    stream.send(vec![1; 200_000]).await;
    assert_eq!(node.frame().await.1.len(), 200_000);
    stream.send(vec![1; 200_001]).await;
    let DisconnectReason::StreamEnded(reason) = node.disconnected().await else {
        panic!()
    };
    assert!(reason.contains("too large"), "{reason}");

    let to = PeerAddress {
        pki_id: [7; 32],
        endpoint: "localhost:1".to_owned(),
    };
    let outcome = node.transport.send(&to, bulk("a"), vec![1; 200_001].into());
    assert_eq!(outcome, SendOutcome::DroppedRefused);
    assert_eq!(node.transport.metrics().refused(), 1);
}

#[tokio::test]
async fn a_slow_reader_costs_a_bounded_queue_and_loses_bulk_first() {
    let limited = GossipOptions {
        send_buffer: 10,
        ..options()
    };
    let mut a = Node::with(TestAuthenticator::new("Org1/a"), None, limited).await;
    let mut b = Node::new("Org2/b", None).await;
    let block = Bytes::from(vec![7; 1024 * 1024]);
    let (queued, dropped) = a.flood(&b, "a", &block).await;
    let metrics = a.transport.metrics();
    assert_eq!(metrics.bulk_overflowed(), dropped);
    for n in 0..5 {
        assert_eq!(a.send(&b, &format!("control {n}")), SendOutcome::Queued);
    }
    assert_eq!(
        (metrics.bulk_overflowed(), metrics.control_overflowed()),
        (dropped + 5, 0)
    );

    // Once it reads again, it gets all that was queued, and control before the rest of the bulk.
    let mut frames = Vec::new();
    b.connected().await;
    while frames.len() < queued {
        frames.push(b.frame().await.1);
    }
    let control = frames
        .iter()
        .rposition(|frame| frame.starts_with(b"control"))
        .unwrap();
    assert!(control + 1 < frames.len(), "control went first");
}

#[tokio::test]
async fn a_channel_that_floods_a_slow_reader_delays_and_drops_no_other() {
    let limited = GossipOptions {
        send_buffer: 50,
        ..options()
    };
    let mut a = Node::with(TestAuthenticator::new("Org1/a"), None, limited).await;
    let mut b = Node::new("Org2/b", None).await;
    let response = Bytes::from(vec![7; 1024 * 1024]);
    let (_, dropped) = a.flood(&b, "busy", &response).await;
    let metrics = a.transport.metrics();
    let calm = Bytes::from(vec![8; 20_000]);
    for _ in 0..5 {
        let outcome = a.transport.send(&b.address, bulk("calm"), calm.clone());
        assert_eq!(outcome, SendOutcome::Queued);
    }
    assert_eq!(metrics.bulk_overflowed(), dropped + 5, "the flood gave way");

    let ahead = usize::try_from(metrics.frames_sent()).unwrap();
    b.connected().await;
    for _ in 0..ahead {
        assert_eq!(b.frame().await.1, response);
    }
    for _ in 0..5 {
        assert_eq!(b.frame().await.1, calm);
    }
    for _ in 0..45 {
        assert_eq!(b.frame().await.1, response, "what was queued comes");
    }
}

#[tokio::test]
async fn a_peer_that_floods_stands_in_nobody_elses_way() {
    let few = GossipOptions {
        receive_buffer: 4,
        ..options()
    };
    let many = GossipOptions {
        send_buffer: 200,
        ..options()
    };
    let mut node = Node::with(TestAuthenticator::new("Org1/node"), None, few).await;
    let flooder = Node::with(TestAuthenticator::new("Org2/flooder"), None, many).await;
    let honest = Node::new("Org3/honest", None).await;
    for _ in 0..100 {
        assert_eq!(flooder.send(&node, "flood"), SendOutcome::Queued);
    }
    node.connected().await;
    let mut in_hand = Vec::new();
    while in_hand.len() < 4 {
        in_hand.push(node.event().await);
    }
    // What the node has in hand is all that it gets of the flood, however much more there is.
    honest.send(&node, "honest");
    assert_eq!(node.connected().await.pki_id, honest.address.pki_id);
    assert_eq!(node.frame().await.1, "honest");
    assert!(node.events.try_recv().is_err());
    in_hand.pop();
    assert_eq!(node.frame().await, (flooder.address.pki_id, "flood".into()));
}

#[tokio::test]
async fn peers_that_dial_each_other_at_once_lose_nothing_and_keep_one_stream() {
    let ca = Ca::new("ca");
    let mut replaced = 0;
    let mut rounds = 0;
    // That they dial at once is likely, and not certain.
    while rounds < 2 || replaced == 0 {
        let node = |name: &str| {
            let authenticator = TestAuthenticator::new(&format!("Org1/{name}{rounds}"));
            Node::with(authenticator, Some(&ca), with_handshake_timeout(2000))
        };
        let (mut a, mut b) = (node("a").await, node("b").await);
        let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
        let open = |node: &Node| node.connections.opened() - node.connections.closed();
        let mut sent: usize = 0;
        // Until a stream has ended, so that streams change while frames go.
        while sent < 60 || open(&a) + open(&b) != 1 {
            assert_eq!(a.send(&b, &format!("{sent}")), SendOutcome::Queued);
            assert_eq!(b.send(&a, &format!("{sent}")), SendOutcome::Queued);
            sent += 1;
            while at_a.len().min(at_b.len()) < sent {
                tokio::select! {
                    event = a.event() => at_a.extend(number_of(event)),
                    event = b.event() => at_b.extend(number_of(event)),
                }
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        for mut texts in [at_a, at_b] {
            texts.sort_unstable();
            assert!(texts.into_iter().eq(0..sent));
        }
        eventually("one connection is left", || open(&a) + open(&b) == 1).await;
        assert_eq!(
            a.transport.connected().len() + b.transport.connected().len(),
            2
        );
        replaced += a.transport.metrics().streams_replaced();
        rounds += 1;
        assert!(rounds < 50, "they never dialled at once");
    }
}

/// The number in a frame.
fn number_of(event: GossipEvent) -> Option<usize> {
    match event {
        GossipEvent::Frame { bytes, .. } => {
            Some(std::str::from_utf8(&bytes).unwrap().parse().unwrap())
        }
        GossipEvent::Connected(_) => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_new_stream_replaces_the_old_one_without_a_disconnect() {
    let authenticator = TestAuthenticator::new("Org1/a");
    let mut node = Node::with(authenticator, None, with_handshake_timeout(1000)).await;
    let mut first = ByHand::open(&node, None).await.unwrap();
    first.introduce("Org2/b").await;
    let peer = node.connected().await;
    let mut second = ByHand::open(&node, None).await.unwrap();
    second.introduce("Org2/b").await;
    assert_eq!(node.connected().await.pki_id, peer.pki_id);
    assert_eq!(node.transport.metrics().streams_replaced(), 1);

    let to = PeerAddress {
        pki_id: peer.pki_id,
        endpoint: "localhost:1".to_owned(),
    };
    node.transport
        .send(&to, CONTROL, Bytes::from("to the newest"));
    assert_eq!(
        second.incoming.message().await.unwrap().unwrap(),
        "to the newest"
    );
    first.send("still read").await;
    assert_eq!(node.frame().await.1, "still read");
    first.end().await.unwrap();
    second.send("in use").await;
    assert_eq!(node.frame().await.1, "in use");
    drop(second);
    assert!(matches!(
        node.disconnected().await,
        DisconnectReason::StreamEnded(_)
    ));
}

#[tokio::test]
async fn an_unreachable_peer_is_not_dialled_for_each_message() {
    let mut a = Node::new("Org1/a", None).await;
    let mut b = Node::new("Org2/b", None).await;
    // Nobody listens there, and nobody else can.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = PeerAddress {
        endpoint: closed.local_addr().unwrap().to_string(),
        ..b.address.clone()
    };
    let queued = Cell::new(0);
    let send = |to: &PeerAddress| {
        let outcome = a.transport.send(to, CONTROL, Bytes::from("x"));
        queued.set(queued.get() + u64::from(outcome == SendOutcome::Queued));
        outcome
    };
    assert_eq!(send(&nowhere), SendOutcome::Queued);
    eventually("the dial has failed", || {
        a.transport.metrics().dials_failed() == 1
    })
    .await;
    eventually("the pause has begun", || {
        send(&nowhere) == SendOutcome::DroppedUnreachable
    })
    .await;
    eventually("the pause has ended", || {
        send(&b.address) == SendOutcome::Queued
    })
    .await;
    b.connected().await;
    while !matches!(a.event().await, GossipEvent::Connected(_)) {}
    assert!(a.transport.metrics().dials() <= queued.get());
}

/// Passes bytes on until frozen; then it keeps both connections open and silent.
async fn proxy(to: String) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let frozen = CancellationToken::new();
    let freeze = frozen.clone();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(to).await.unwrap();
        let copying = tokio::io::copy_bidirectional(&mut client, &mut server);
        let _ = freeze.run_until_cancelled(copying).await;
        std::future::pending::<()>().await;
    });
    (address, frozen)
}

#[tokio::test]
async fn half_open_connections_are_found_by_keepalive() {
    let mut options = options();
    options.connect.keepalive_interval = Duration::from_millis(100);
    options.connect.keepalive_timeout = Duration::from_secs(2);
    let mut a = Node::with(TestAuthenticator::new("Org1/a"), None, options).await;
    let b = Node::new("Org2/b", None).await;
    let (endpoint, freeze) = proxy(b.address.endpoint.clone()).await;
    let through = PeerAddress {
        endpoint,
        ..b.address.clone()
    };
    a.transport.send(&through, CONTROL, Bytes::from("x"));
    a.connected().await;
    freeze.cancel();
    assert!(matches!(
        a.disconnected().await,
        DisconnectReason::StreamEnded(_)
    ));
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    let authenticator = TestAuthenticator::new("Org1/a");
    let mut a = Node::with(authenticator, None, with_handshake_timeout(300)).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    let to = PeerAddress {
        pki_id: [7; 32],
        endpoint,
    };
    a.transport.send(&to, CONTROL, Bytes::from("x"));
    let DisconnectReason::Unreachable(reason) = a.disconnected().await else {
        panic!()
    };
    assert!(reason.contains("Ping"), "{reason}");
}

#[tokio::test]
async fn a_rotated_certificate_is_the_one_that_handshakes_name() {
    let ca = Ca::new("ca");
    let mut a = Node::new("Org1/a", Some(&ca)).await;
    let b = Node::new("Org2/b", Some(&ca)).await;
    a.send(&b, "x");
    a.connected().await;
    b.server_tls
        .as_ref()
        .unwrap()
        .set_identity(ca.issue())
        .unwrap();
    a.transport.set_client_tls(ca.client());
    a.transport.close(&b.address.pki_id);
    assert_eq!(a.disconnected().await, DisconnectReason::Closed);
    a.send(&b, "x");
    a.connected().await;
}

#[tokio::test]
async fn dialling_an_endpoint_makes_a_stream_to_whoever_is_there() {
    let mut a = Node::new("Org1/a", None).await;
    let mut b = Node::new("Org2/b", None).await;
    let found = a.transport.dial(&b.address.endpoint).await.unwrap();
    assert_eq!(found.pki_id, b.address.pki_id);
    a.connected().await;
    b.connected().await;
    a.send(&b, "over the same stream");
    assert_eq!(b.frame().await.1, "over the same stream");
    assert_eq!(b.connections.opened(), 1);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_unread_events_or_running_dials() {
    let options = GossipOptions {
        receive_buffer: 1,
        ..options()
    };
    let a = Node::with(TestAuthenticator::new("Org1/a"), None, options).await;
    let b = Node::new("Org2/b", None).await;
    for n in 0..100 {
        b.send(&a, &format!("{n}"));
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    let to = PeerAddress {
        pki_id: [7; 32],
        endpoint,
    };
    a.transport.send(&to, CONTROL, Bytes::from("x"));
    eventually("connected", || !a.transport.connected().is_empty()).await;
    soon(a.transport.shutdown()).await;
    assert_eq!(a.send(&b, "x"), SendOutcome::DroppedRefused);
    assert!(matches!(
        a.transport.dial(&b.address.endpoint).await,
        Err(PeerError::Stopped)
    ));
    eventually("b notices", || b.transport.connected().is_empty()).await;
}
