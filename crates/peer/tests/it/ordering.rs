//! A leading peer and what an ordering service may do to it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use selvedge_gossip::event::Event;
use selvedge_peer::delivery::Delivery;
use selvedge_peer::health::ChannelHealth;
use selvedge_peer::node::Node;
use selvedge_protos::Message;
use selvedge_protos::common::{Block, Envelope, Payload};
use selvedge_protos::orderer::deliver_response::Type;
use selvedge_protos::orderer::seek_position::Type as Position;
use selvedge_protos::orderer::{BroadcastResponse, DeliverResponse, SeekInfo};
use selvedge_protos::protos::SignedProposal;
use selvedge_transport::services::orderer::atomic_broadcast_server::{
    AtomicBroadcast, AtomicBroadcastServer,
};
use selvedge_transport::services::protos::endorser_client::EndorserClient;
use selvedge_transport::{
    ClientAuth, ClientTls, ConnectOptions, ServerOptions, ServerTls, TlsIdentity, bind,
    certificates_from_pem, channel, serve,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::node::{Place, get};
use crate::support::{
    CHANNEL, Chain, Network, as_ordered, demand_capability, join, read, remove_organization, soon,
    until,
};

/// An ordering node that hands out what the test gives it.
pub struct Orderer {
    blocks: watch::Sender<Vec<Block>>,
    _stop: DropGuard,
}

impl Orderer {
    /// The network's ordering node, on a listener whose port its genesis block names.
    fn start(network: &Network, listener: TcpListener) -> Self {
        let files = network.ordering.node_tls("orderer");
        let identity = TlsIdentity::from_pem(&read(&files.certificate), &read(&files.key)).unwrap();
        let tls = ServerTls::new(identity, ClientAuth::Request, Vec::new()).unwrap();
        let blocks = watch::Sender::new(Vec::new());
        let routes = Routes::new(AtomicBroadcastServer::new(Service(blocks.subscribe())));
        let stop = CancellationToken::new();
        let shutdown = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            let options = ServerOptions::default();
            serve(listener, Some(tls), routes, options, shutdown).await
        });
        Self {
            blocks,
            _stop: stop.drop_guard(),
        }
    }

    pub fn has(&self, chain: &Chain) {
        self.blocks.send_replace(chain.blocks.clone());
    }
}

struct Service(watch::Receiver<Vec<Block>>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for Service {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<DeliverResponse>;

    async fn broadcast(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let envelope = request.into_inner().next().await.unwrap()?;
        let payload = Payload::decode(envelope.payload).unwrap();
        let seek = SeekInfo::decode(payload.data).unwrap();
        let Some(Position::Specified(start)) = seek.start.unwrap().r#type else {
            panic!("peers ask for a number");
        };
        let (answers, stream) = mpsc::channel(16);
        let mut blocks = self.0.clone();
        tokio::spawn(async move {
            let mut next = usize::try_from(start.number).unwrap();
            loop {
                let ready = blocks.wait_for(|blocks| blocks.len() > next).await;
                let Ok(block) = ready.map(|blocks| blocks[next].clone()) else {
                    return;
                };
                let answer = DeliverResponse {
                    r#type: Some(Type::Block(block)),
                };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
                next += 1;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// An ordering node, and a leading peer of Org1 that has joined the channel.
pub struct Bench {
    pub network: Arc<Network>,
    pub orderer: Orderer,
    pub node: Node,
}

impl Bench {
    pub async fn new() -> Self {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Arc::new(Network::with_orderer(CHANNEL, port));
        let orderer = Orderer::start(&network, listener);
        let place = Place {
            leads: true,
            ..Place::new(&network, 1)
        };
        let node = place.joined().await;
        Self {
            network,
            orderer,
            node,
        }
    }

    async fn height(&self, height: u64) {
        let channel = self.node.channel(CHANNEL).unwrap();
        let mut heights = channel.ledger().subscribe();
        soon(heights.wait_for(|it| *it >= height)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_alone_catches_up_without_losing_a_block() {
    let bench = Bench::new().await;
    let mut chain = Chain::new(&bench.network);
    // Many times what gossip takes ahead of the ledger, with changes of configuration in between.
    for number in 1..=600_u32 {
        if number % 50 == 0 {
            chain.push_config(|_| ());
        } else {
            chain.push(&["a"]);
        }
    }
    bench.orderer.has(&chain);
    bench.height(601).await;
    chain.push(&["b"]);
    bench.orderer.has(&chain);
    bench.height(602).await;
    let channel = bench.node.channel(CHANNEL).unwrap();
    let stored = channel.ledger().block(333).unwrap().unwrap();
    assert_eq!(as_ordered(&stored), chain.blocks[333]);
    assert_eq!(channel.config().sequence(), 12);
    drop(channel);
    soon(bench.node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_for_a_newer_peer_stops_the_channel_and_says_so() {
    let bench = Bench::new().await;
    let mut chain = Chain::new(&bench.network);
    chain.push(&["a"]);
    chain.push_config(|config| demand_capability(config, "V9_9"));
    chain.push(&["b"]);
    bench.orderer.has(&chain);
    let operations = bench.node.operations_address().unwrap();
    until("the channel is named", async || {
        let (status, body) = get(operations, "/healthz").await;
        status == 503
            && body.contains("channel testchannel has stopped: block 2, transaction 0")
            && body.contains("V9_9")
    })
    .await;
    let channel = bench.node.channel(CHANNEL).unwrap();
    assert_eq!(channel.ledger().height(), 2);
    until("it no longer leads", async || {
        let (_, text) = get(operations, "/metrics").await;
        text.contains("gossip_leader_election_leader{channel=\"testchannel\"} 0")
            && !text.contains("selvedge_ordering_service_unreachable_seconds{channel")
    })
    .await;
    drop(channel);
    soon(bench.node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_blocks_do_not_get_in_and_the_true_one_does_later() {
    let bench = Bench::new().await;
    let mut chain = Chain::new(&bench.network);
    chain.push(&["a"]);
    let mut forged = chain.clone();
    let block = forged.blocks.last_mut().unwrap();
    // Signed by the ordering node for other content.
    let other = Chain::new(&bench.network).push(&["x"]);
    block.data = other.data;
    bench.orderer.has(&forged);
    let operations = bench.node.operations_address().unwrap();
    let line = "selvedge_ordering_service_unreachable_seconds{channel=\"testchannel\"} ";
    until("the ordering service counts as out of reach", async || {
        let (_, text) = get(operations, "/metrics").await;
        let value = text.lines().find_map(|found| found.strip_prefix(line));
        value.is_some_and(|value| value.parse::<f64>().unwrap() > 0.1)
    })
    .await;
    let channel = bench.node.channel(CHANNEL).unwrap();
    assert_eq!(channel.ledger().height(), 1);
    bench.orderer.has(&chain);
    bench.height(2).await;
    let stored = channel.ledger().block(1).unwrap().unwrap();
    assert_eq!(Some(&as_ordered(&stored)), chain.blocks.last());
    drop(channel);
    soon(bench.node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_organisation_is_removed_goes_on_with_what_it_gets() {
    let bench = Bench::new().await;
    let mut chain = Chain::new(&bench.network);
    chain.push_config(|config| remove_organization(config, "Org1"));
    chain.push(&["a"]);
    bench.orderer.has(&chain);
    bench.height(3).await;
    let (status, _) = get(bench.node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 200);
    soon(bench.node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_mutual_tls_the_channels_say_whose_clients_may_connect() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let network = Network::with_orderer(CHANNEL, port);
    let orderer = Orderer::start(&network, listener);
    let place = Place {
        leads: true,
        mutual_tls: true,
        ..Place::new(&network, 1)
    };
    let node = place.start().await.unwrap();
    let admitted = async |org: usize| {
        let authority = read(&network.org(1).node_tls("peer0").authority);
        let roots = certificates_from_pem(&authority).unwrap();
        let files = network.org(org).user_tls("User1");
        let identity = TlsIdentity::from_pem(&read(&files.certificate), &read(&files.key));
        let tls = ClientTls::new(&roots, Some(identity.unwrap()), None).unwrap();
        let endpoint = node.address().to_string().parse().unwrap();
        let connection = channel(&endpoint, Some(tls), &ConnectOptions::default());
        let mut client = EndorserClient::new(connection);
        let refused = soon(client.process_proposal(SignedProposal::default())).await;
        // Whoever gets through is told what is wrong with the proposal.
        refused
            .unwrap_err()
            .message()
            .starts_with("ChaincodeHeader")
    };
    assert!(admitted(1).await, "the CA of peer.tls.rootcert.file");
    assert!(!admitted(2).await, "no channel knows it yet");

    node.join(network.genesis_bytes()).await.unwrap();
    until("Org2 is welcome", async || admitted(2).await).await;
    assert!(!admitted(3).await, "it is in no channel");

    let mut chain = Chain::new(&network);
    chain.push_config(|config| remove_organization(config, "Org2"));
    orderer.has(&chain);
    until("Org2 is no longer welcome", async || !admitted(2).await).await;
    assert!(admitted(1).await);
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_an_ordering_node_asks_to_give_way_in_the_time_that_is_configured() {
    let network = Network::new();
    let (channels, _channel_events) = network.channels("data");
    join(&channels, network.genesis_bytes()).await.unwrap();
    let channel = channels.get(CHANNEL).unwrap();
    let mut config = Place::new(&network, 1).config();
    config.delivery_client.give_way_after = Duration::from_secs(3600);
    config.delivery_client.reconnect_total_time_threshold = Duration::from_millis(10);
    let (events, mut told) = mpsc::channel(1);
    let health = ChannelHealth::default();
    let delivery = Delivery::new(&config, network.peer(1), None, events, health).unwrap();
    let height = watch::Sender::new(1);
    let running = delivery.start(&channel, height.subscribe()).unwrap();
    let event = soon(told.recv()).await.unwrap();
    assert!(matches!(event, Event::OrdererUnreachable(id) if id.as_str() == CHANNEL));
    soon(running.stop()).await;
}
