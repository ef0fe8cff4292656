//! The Deliver service over real connections: what is handed out, to whom, and until when.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvedge_devnet::material::TlsFolder;
use selvedge_msp::SigningIdentity;
use selvedge_peer::access::AccessControl;
use selvedge_peer::channel::{Channel, ChannelEvent, Channels};
use selvedge_peer::metrics::Metrics;
use selvedge_peer::services::deliver::{DeliverOptions, DeliverService};
use selvedge_protos::Message;
use selvedge_protos::common::{
    Block, ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status,
};
use selvedge_protos::orderer::seek_info::{SeekBehavior, SeekContentType};
use selvedge_protos::orderer::seek_position::Type as Position;
use selvedge_protos::orderer::{
    SeekInfo, SeekNewest, SeekNextCommit, SeekOldest, SeekPosition, SeekSpecified,
};
use selvedge_protos::protos::deliver_response::Type;
use selvedge_protos::protos::{DeliverResponse, FilteredBlock, TxValidationCode};
use selvedge_transport::services::protos::deliver_client::DeliverClient;
use selvedge_transport::services::protos::deliver_server::DeliverServer;
use selvedge_transport::{
    ClientAuth, ClientTls, ConnectOptions, ServerOptions, ServerTls, TlsIdentity, bind,
    certificates_from_pem, channel, serve,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::{Code, Streaming};

use crate::support::{
    CHANNEL, Chain, Network, as_ordered, commit_by_queue, join, now, read, remove_organization,
    soon, transaction_id, until,
};

/// The height of the ledger at the start.
const BLOCKS: u64 = 5;

/// A peer of Org1 with five blocks, as far as Deliver needs one.
struct Bench {
    network: Network,
    chain: Chain,
    channel: Arc<Channel>,
    metrics: Metrics,
    address: String,
    tls: Option<ClientTls>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _channels: Channels,
    _events: mpsc::Receiver<ChannelEvent>,
}

/// What is unlike the usual.
#[derive(Default)]
struct Setup {
    concurrency: Option<NonZeroUsize>,
    tls: bool,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let network = Network::new();
        let (channels, events) = network.channels("data");
        join(&channels, network.genesis_bytes()).await.unwrap();
        let channel = channels.get(CHANNEL).unwrap();
        let mut chain = Chain::new(&network);
        let blocks = [
            chain.push(&["a", "b"]),
            chain.push(&["c"]),
            chain.push_config(|_| ()),
            chain.push(&["d"]),
        ];
        commit_by_queue(&channel, &blocks).await;

        let metrics = Metrics::new("1").unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let service = DeliverService::new(
            channels.clone(),
            AccessControl::new(network.msp(1)),
            metrics.clone(),
            DeliverOptions {
                time_window: Duration::from_secs(900),
                bind_to_tls: setup.tls,
                concurrency: setup.concurrency,
            },
            tasks.clone(),
            stop.clone(),
        );
        let org = network.org(1);
        let (server, tls) = if setup.tls {
            let files = org.node_tls("peer0");
            let authority = certificates_from_pem(&read(&files.authority)).unwrap();
            let server = ServerTls::new(identity(&files), ClientAuth::Require, authority.clone());
            let client = identity(&org.user_tls("User1"));
            let client = ClientTls::new(&authority, Some(client), None);
            (Some(server.unwrap()), Some(client.unwrap()))
        } else {
            (None, None)
        };
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Routes::new(DeliverServer::new(service));
        let options = ServerOptions {
            shutdown_grace: Duration::from_secs(1),
            ..Default::default()
        };
        let shutdown = stop.clone().cancelled_owned();
        tokio::spawn(serve(listener, server, routes, options, shutdown));
        Self {
            network,
            chain,
            channel,
            metrics,
            address,
            tls,
            tasks,
            stop,
            _channels: channels,
            _events: events,
        }
    }

    fn client(&self) -> DeliverClient<tonic::transport::Channel> {
        let endpoint = self.address.parse().unwrap();
        let channel = channel(&endpoint, self.tls.clone(), &ConnectOptions::default());
        DeliverClient::new(channel)
    }

    /// Sends one request on a new stream.
    async fn ask(&self, seek: &Seek<'_>) -> Answers {
        self.open(seek).await.unwrap()
    }

    async fn open(&self, seek: &Seek<'_>) -> Result<Answers, tonic::Status> {
        let (requests, stream) = mpsc::channel(4);
        requests.send(seek.envelope()).await.unwrap();
        let stream = ReceiverStream::new(stream);
        let mut client = self.client();
        let answers = if seek.filtered {
            client.deliver_filtered(stream).await
        } else {
            client.deliver(stream).await
        };
        Ok(Answers {
            requests,
            stream: answers?.into_inner(),
        })
    }

    /// The status that ends the answer, and the numbers of the blocks before.
    async fn outcome(&self, seek: &Seek<'_>) -> (Vec<u64>, Status) {
        self.ask(seek).await.rest().await
    }
}

fn identity(files: &TlsFolder) -> TlsIdentity {
    TlsIdentity::from_pem(&read(&files.certificate), &read(&files.key)).unwrap()
}

/// A stream as the client has it.
struct Answers {
    requests: mpsc::Sender<Envelope>,
    stream: Streaming<DeliverResponse>,
}

impl Answers {
    async fn next(&mut self) -> Result<Option<Type>, tonic::Status> {
        let answer = soon(self.stream.message()).await?;
        Ok(answer.map(|answer| answer.r#type.unwrap()))
    }

    async fn block(&mut self) -> Block {
        match self.next().await {
            Ok(Some(Type::Block(block))) => block,
            other => panic!("no block: {other:?}"),
        }
    }

    async fn rest(&mut self) -> (Vec<u64>, Status) {
        let mut numbers = Vec::new();
        loop {
            match self.next().await.unwrap().unwrap() {
                Type::Block(block) => numbers.push(block.header.unwrap().number),
                Type::FilteredBlock(block) => numbers.push(block.number),
                Type::Status(status) => return (numbers, Status::try_from(status).unwrap()),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A request, to be changed before it is signed.
#[derive(Clone)]
struct Seek<'a> {
    signer: &'a SigningIdentity,
    header: ChannelHeader,
    info: SeekInfo,
    filtered: bool,
}

impl<'a> Seek<'a> {
    fn new(signer: &'a SigningIdentity, start: Position, stop: Position) -> Self {
        Self {
            signer,
            header: ChannelHeader {
                r#type: HeaderType::DeliverSeekInfo.into(),
                channel_id: CHANNEL.to_owned(),
                timestamp: Some(now()),
                ..Default::default()
            },
            info: SeekInfo {
                start: Some(SeekPosition {
                    r#type: Some(start),
                }),
                stop: Some(SeekPosition { r#type: Some(stop) }),
                ..Default::default()
            },
            filtered: false,
        }
    }

    fn all(signer: &'a SigningIdentity) -> Self {
        Self::new(signer, oldest(), newest())
    }

    fn fail_if_not_ready(mut self) -> Self {
        self.info.behavior = SeekBehavior::FailIfNotReady.into();
        self
    }

    fn envelope(&self) -> Envelope {
        let signature_header = SignatureHeader {
            creator: self.signer.serialized().clone(),
            nonce: Bytes::from_static(b"nonce"),
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: self.header.encode_to_vec().into(),
                signature_header: signature_header.encode_to_vec().into(),
            }),
            data: self.info.encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        Envelope {
            signature: self.signer.sign(&payload).unwrap(),
            payload,
        }
    }
}

fn oldest() -> Position {
    Position::Oldest(SeekOldest {})
}

fn newest() -> Position {
    Position::Newest(SeekNewest {})
}

fn block(number: u64) -> Position {
    Position::Specified(SeekSpecified { number })
}

#[tokio::test]
async fn blocks_are_handed_out_as_they_are_stored() {
    let bench = Bench::new().await;
    let user = bench.network.user(2);
    let mut answers = bench.ask(&Seek::all(&user)).await;
    for number in 0..BLOCKS {
        let expected = bench.channel.ledger().block(number).unwrap();
        assert_eq!(Some(answers.block().await), expected);
    }
    let end = answers.rest().await;
    assert_eq!(end, (vec![], Status::Success));

    // The stream takes another request.
    let again = Seek::new(&user, block(2), block(3));
    answers.requests.send(again.envelope()).await.unwrap();
    assert_eq!(answers.rest().await, (vec![2, 3], Status::Success));
    drop(answers);
    let metrics = &bench.metrics;
    until("the stream is closed", async || {
        let text = metrics.encode().unwrap();
        text.contains("deliver_streams_closed 1")
    })
    .await;
    let text = metrics.encode().unwrap();
    for line in [
        r#"deliver_blocks_sent{channel="testchannel",data_type="block",filtered="false"} 7"#,
        r#"deliver_requests_completed{channel="testchannel",data_type="block",filtered="false",success="true"} 2"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn what_is_not_there_yet_is_waited_for_or_refused() {
    let mut bench = Bench::new().await;
    let user = bench.network.user(1);
    let ready = Seek::new(&user, block(3), block(7)).fail_if_not_ready();
    assert_eq!(bench.outcome(&ready).await, (vec![3, 4], Status::NotFound));
    let beyond = Seek::new(&user, block(BLOCKS + 1), block(9));
    assert_eq!(bench.outcome(&beyond).await, (vec![], Status::NotFound));
    let backwards = Seek::new(&user, block(3), block(2));
    assert_eq!(
        bench.outcome(&backwards).await,
        (vec![], Status::BadRequest)
    );

    let next = Position::NextCommit(SeekNextCommit {});
    let mut waiting = bench.ask(&Seek::new(&user, next, block(u64::MAX))).await;
    let mut due = bench
        .ask(&Seek::new(&user, block(BLOCKS), block(BLOCKS)))
        .await;
    // Both requests have been taken before the blocks come.
    let metrics = bench.metrics.clone();
    let taken =
        r#"deliver_requests_received{channel="testchannel",data_type="block",filtered="false"} 5"#;
    until("all requests are taken", async || {
        metrics.encode().unwrap().contains(taken)
    })
    .await;
    let new = [bench.chain.push(&["e"]), bench.chain.push(&["f"])];
    commit_by_queue(&bench.channel, &new).await;
    assert_eq!(as_ordered(&waiting.block().await), new[0]);
    assert_eq!(as_ordered(&waiting.block().await), new[1]);
    assert_eq!(due.rest().await, (vec![BLOCKS], Status::Success));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_bad() {
    let bench = Bench::new().await;
    let user = bench.network.user(1);
    let bad = async |change: fn(&mut Seek<'_>)| {
        let mut seek = Seek::all(&user);
        change(&mut seek);
        bench.outcome(&seek).await
    };
    let refused = (vec![], Status::BadRequest);
    assert_eq!(bad(|seek| seek.info.start = None).await, refused);
    assert_eq!(bad(|seek| seek.info.stop = None).await, refused);
    assert_eq!(bad(|seek| seek.header.timestamp = None).await, refused);
    let early = |seek: &mut Seek<'_>| {
        seek.header.timestamp.as_mut().unwrap().seconds -= 901;
    };
    assert_eq!(bad(early).await, refused);
    let late = |seek: &mut Seek<'_>| {
        seek.header.timestamp.as_mut().unwrap().seconds += 960;
    };
    assert_eq!(bad(late).await, refused);
    let nowhere = bad(|seek| seek.header.channel_id = "nowhere".to_owned()).await;
    assert_eq!(nowhere, (vec![], Status::NotFound));

    let mut client = bench.client();
    for payload in [&b""[..], b"\xff", b"\x0a\x02\x0a\xff"] {
        let junk = Envelope {
            payload: Bytes::from_static(payload),
            signature: Bytes::new(),
        };
        let answers = client.deliver(tokio_stream::iter([junk])).await.unwrap();
        let answer = soon(answers.into_inner().message()).await.unwrap().unwrap();
        assert_eq!(
            answer.r#type,
            Some(Type::Status(Status::BadRequest.into())),
            "{payload:?}"
        );
    }
}

#[tokio::test]
async fn only_readers_are_served() {
    let mut bench = Bench::new().await;
    let foreign = bench.network.user(3);
    let forbidden = (vec![], Status::Forbidden);
    assert_eq!(bench.outcome(&Seek::all(&foreign)).await, forbidden);
    let expired = bench.network.expired(1, "client");
    assert_eq!(bench.outcome(&Seek::all(&expired)).await, forbidden);

    // The signature must be the creator's.
    let (user, other) = (bench.network.user(1), bench.network.user(2));
    let mut envelope = Seek::all(&user).envelope();
    envelope.signature = other.sign(&envelope.payload).unwrap();
    let answers = bench.client().deliver(tokio_stream::iter([envelope])).await;
    let answer = soon(answers.unwrap().into_inner().message()).await.unwrap();
    let forged = Some(Type::Status(Status::Forbidden.into()));
    assert_eq!(answer.unwrap().r#type, forged);

    // Who is removed from the channel is served no further.
    let mut following = bench
        .ask(&Seek::new(&other, block(4), block(u64::MAX)))
        .await;
    assert_eq!(following.block().await.header.unwrap().number, 4);
    let removal = bench
        .chain
        .push_config(|config| remove_organization(config, "Org2"));
    commit_by_queue(&bench.channel, &[removal]).await;
    assert_eq!(following.rest().await, forbidden);
}

#[tokio::test]
async fn filtered_blocks_tell_ids_and_verdicts_only() {
    let bench = Bench::new().await;
    let user = bench.network.user(1);
    let mut seek = Seek::new(&user, block(1), block(3));
    seek.filtered = true;
    let mut answers = bench.ask(&seek).await;
    let mut filtered = async || -> FilteredBlock {
        match answers.next().await {
            Ok(Some(Type::FilteredBlock(block))) => block,
            other => panic!("no filtered block: {other:?}"),
        }
    };
    let first = filtered().await;
    assert_eq!((first.number, first.channel_id.as_str()), (1, CHANNEL));
    let ids: Vec<_> = first
        .filtered_transactions
        .iter()
        .map(|transaction| transaction.txid.clone())
        .collect();
    let blocks = &bench.chain.blocks;
    assert_eq!(
        ids,
        [transaction_id(&blocks[1], 0), transaction_id(&blocks[1], 1)]
    );
    let transaction = &first.filtered_transactions[0];
    assert_eq!(transaction.r#type(), HeaderType::EndorserTransaction);
    assert_eq!(
        transaction.tx_validation_code(),
        // No chaincode of that name is defined in the channel.
        TxValidationCode::InvalidChaincode
    );
    filtered().await;
    let config = filtered().await;
    assert_eq!(config.filtered_transactions[0].r#type(), HeaderType::Config);
    assert_eq!(config.filtered_transactions[0].data, None);
    assert_eq!(answers.rest().await, (vec![], Status::Success));
}

#[tokio::test]
async fn attestations_carry_data_only_for_config_blocks() {
    let bench = Bench::new().await;
    let user = bench.network.user(1);
    let mut seek = Seek::new(&user, block(2), block(3));
    seek.info.content_type = SeekContentType::HeaderWithSig.into();
    let mut answers = bench.ask(&seek).await;
    let (transactions, config) = (answers.block().await, answers.block().await);
    let blocks = &bench.chain.blocks;
    assert_eq!(transactions.data, None);
    assert_eq!(transactions.header, blocks[2].header);
    assert_eq!(as_ordered(&transactions).metadata, blocks[2].metadata);
    assert_eq!(as_ordered(&config), blocks[3]);
}

#[tokio::test]
async fn requests_are_bound_to_the_clients_tls_certificate() {
    let bench = Bench::with(Setup {
        tls: true,
        ..Default::default()
    })
    .await;
    let user = bench.network.user(1);
    let hash = |user| {
        let files = bench.network.org(1).user_tls(user);
        identity(&files).certificate_hash().to_vec().into()
    };
    let mut seek = Seek::all(&user);
    let refused = (vec![], Status::BadRequest);
    assert_eq!(bench.outcome(&seek).await, refused, "no hash");
    seek.header.tls_cert_hash = hash("Admin");
    assert_eq!(bench.outcome(&seek).await, refused, "another's hash");
    seek.header.tls_cert_hash = hash("User1");
    let all = (0..BLOCKS).collect::<Vec<_>>();
    assert_eq!(bench.outcome(&seek).await, (all, Status::Success));
}

#[tokio::test]
async fn a_slow_reader_is_waited_for_with_few_blocks_in_hand() {
    let mut bench = Bench::new().await;
    let user = bench.network.user(1);
    // Larger than the windows of a connection.
    let value = "k".repeat(200_000);
    let new: Vec<_> = (0..60).map(|_| bench.chain.push(&[&value])).collect();
    commit_by_queue(&bench.channel, &new).await;
    let mut answers = bench.ask(&Seek::all(&user)).await;
    assert_eq!(answers.block().await.header.unwrap().number, 0);

    let sent = || {
        let text = bench.metrics.encode().unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("deliver_blocks_sent{"));
        let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        count.unwrap_or(0)
    };
    // It comes to a halt while nobody reads, and ends when somebody does.
    let mut before = u64::MAX;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    tick.tick().await;
    while before != sent() {
        before = sent();
        soon(tick.tick()).await;
    }
    assert!(before < 55, "{before} blocks were taken from the disk");
    let (numbers, status) = answers.rest().await;
    assert_eq!((numbers.len(), status), (64, Status::Success));
}

#[tokio::test]
async fn more_streams_than_the_limit_are_refused() {
    let bench = Bench::with(Setup {
        concurrency: NonZeroUsize::new(1),
        ..Default::default()
    })
    .await;
    let user = bench.network.user(1);
    let seek = Seek::new(&user, block(0), block(u64::MAX));
    let mut first = bench.ask(&seek).await;
    first.block().await;
    let refusal = bench.open(&seek).await.err().unwrap();
    assert_eq!(refusal.code(), Code::Unknown);
    assert_eq!(
        refusal.message(),
        "too many requests for /protos.Deliver, exceeding concurrency limit (1)"
    );
    drop(first);
    until("the place is free again", async || {
        bench.open(&seek).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn streams_end_when_the_peer_stops() {
    let bench = Bench::new().await;
    let user = bench.network.user(1);
    let mut answers = bench
        .ask(&Seek::new(&user, block(BLOCKS), block(u64::MAX)))
        .await;
    bench.stop.cancel();
    let end = answers.next().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    bench.tasks.close();
    soon(bench.tasks.wait()).await;
}

#[tokio::test]
async fn private_data_is_not_promised() {
    let bench = Bench::new().await;
    let user = bench.network.user(1);
    let envelope = Seek::all(&user).envelope();
    let refused = bench
        .client()
        .deliver_with_private_data(tokio_stream::iter([envelope]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}
