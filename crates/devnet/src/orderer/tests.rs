use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvedge_channel::{BlockVerifier, ChannelConfig, config_from_block, last_config_number};
use selvedge_msp::SigningIdentity;
use selvedge_protos::Message;
use selvedge_protos::block::header_hash;
use selvedge_protos::common::{Block, Envelope, HeaderType, Status};
use selvedge_protos::orderer::deliver_response::Type as Reply;
use selvedge_protos::orderer::seek_info::{SeekBehavior, SeekContentType};
use selvedge_protos::orderer::seek_position::Type as Position;
use selvedge_protos::orderer::{
    BroadcastResponse, SeekInfo, SeekNewest, SeekNextCommit, SeekOldest, SeekPosition,
    SeekSpecified,
};
use selvedge_transport::services::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_transport::{
    ClientAuth, ClientTls, ConnectOptions, TlsIdentity, certificates_from_pem,
};
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::transport::Channel;

use super::chain::Sequencer;
use super::*;
use crate::messages::{channel_header, sign, signature_header, signed_envelope};
use crate::testing::{CHANNEL, TestNetwork, set_anchors, set_batch_count, signed_update};

/// Nothing here takes nearly as long, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A served ordering node with a client connection.
struct Served {
    network: TestNetwork,
    orderer: Orderer,
    client: AtomicBroadcastClient<Channel>,
}

impl Served {
    async fn start() -> Self {
        let network = TestNetwork::new(1, Duration::from_secs(60));
        let orderer = start(&network).await.unwrap();
        let client = AtomicBroadcastClient::new(connect(&network, &orderer));
        Self {
            network,
            orderer,
            client,
        }
    }

    /// Sends messages on one stream and returns all answers.
    async fn broadcast(&mut self, messages: Vec<Envelope>) -> Vec<BroadcastResponse> {
        let stream = self.client.broadcast(tokio_stream::iter(messages)).await;
        let mut stream = stream.unwrap().into_inner();
        let mut answers = Vec::new();
        while let Some(answer) = timeout(DEADLINE, stream.message()).await.unwrap().unwrap() {
            answers.push(answer);
        }
        answers
    }

    /// The only answer to one message.
    async fn answer(&mut self, message: Envelope) -> (Status, String) {
        let answers = self.broadcast(vec![message]).await;
        let [answer] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        (answer.status.try_into().unwrap(), answer.info.clone())
    }

    async fn order(&mut self, count: u64) {
        let height = self.orderer.store().height();
        for number in 0..count {
            let (status, info) = self
                .answer(self.network.transaction(&format!("k{number}")))
                .await;
            assert_eq!(status, Status::Success, "{info}");
        }
        reach(&self.orderer, height + count).await;
    }

    fn seek(&self, start: Position, stop: Position) -> SeekInfo {
        SeekInfo {
            start: Some(position(start)),
            stop: Some(position(stop)),
            behavior: SeekBehavior::FailIfNotReady as i32,
            ..SeekInfo::default()
        }
    }

    /// The blocks that a request brings, and the status at its end.
    async fn deliver(&mut self, seek: &SeekInfo) -> (Vec<Block>, Status) {
        let reader = self.network.peer(0);
        let request = request(&reader, seek);
        self.deliver_envelope(request).await
    }

    async fn deliver_envelope(&mut self, request: Envelope) -> (Vec<Block>, Status) {
        let mut stream = self.open(request).await;
        let mut blocks = Vec::new();
        loop {
            match next(&mut stream).await {
                Reply::Block(block) => blocks.push(block),
                Reply::Status(status) => return (blocks, status.try_into().unwrap()),
            }
        }
    }

    async fn open(
        &mut self,
        request: Envelope,
    ) -> Streaming<selvedge_protos::orderer::DeliverResponse> {
        let requests = tokio_stream::iter([request]);
        self.client.deliver(requests).await.unwrap().into_inner()
    }
}

async fn next(stream: &mut Streaming<selvedge_protos::orderer::DeliverResponse>) -> Reply {
    let message = timeout(DEADLINE, stream.message()).await;
    message.unwrap().unwrap().unwrap().r#type.unwrap()
}

async fn start(network: &TestNetwork) -> Result<Orderer, OrdererError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let files = network.ordering.node_tls("orderer");
    let [certificate, key] =
        [files.certificate, files.key].map(|path| std::fs::read(path).unwrap());
    let identity = TlsIdentity::from_pem(&certificate, &key).unwrap();
    let tls = ServerTls::new(identity, ClientAuth::Request, Vec::new()).unwrap();
    let options = OrdererOptions {
        folder: network.folder.path().join("orderer"),
        channel_id: CHANNEL.to_owned(),
        genesis: network.genesis.clone(),
        signer: network.orderer_identity(),
        tls,
    };
    Orderer::start(listener, options).await
}

fn connect(network: &TestNetwork, orderer: &Orderer) -> Channel {
    let authority = std::fs::read(network.ordering.node_tls("orderer").authority).unwrap();
    let roots = certificates_from_pem(&authority).unwrap();
    let tls = ClientTls::new(&roots, None, None).unwrap();
    let endpoint = orderer.address().to_string().parse().unwrap();
    selvedge_transport::channel(&endpoint, Some(tls), &ConnectOptions::default())
}

async fn reach(orderer: &Orderer, height: u64) {
    let mut heights = orderer.store().subscribe();
    let reached = timeout(DEADLINE, heights.wait_for(|now| *now >= height)).await;
    reached.unwrap().unwrap();
}

fn position(position: Position) -> SeekPosition {
    SeekPosition {
        r#type: Some(position),
    }
}

fn oldest() -> Position {
    Position::Oldest(SeekOldest {})
}

fn newest() -> Position {
    Position::Newest(SeekNewest {})
}

fn number(number: u64) -> Position {
    Position::Specified(SeekSpecified { number })
}

fn request(signer: &SigningIdentity, seek: &SeekInfo) -> Envelope {
    let data = seek.encode_to_vec().into();
    signed_envelope(signer, HeaderType::DeliverSeekInfo, CHANNEL, data).unwrap()
}

fn numbers(blocks: &[Block]) -> Vec<u64> {
    let number = |block: &Block| block.header.as_ref().unwrap().number;
    blocks.iter().map(number).collect()
}

/// Verifies a whole chain as a peer would.
fn verify_chain(blocks: &[Block]) -> BlockVerifier {
    let encode = |block: &Block| Bytes::from(block.encode_to_vec());
    let (genesis, config) = BlockVerifier::trust_genesis(encode(&blocks[0])).unwrap();
    let mut verifier = BlockVerifier::new(Arc::new(config));
    let mut last = genesis.block_ref();
    for block in &blocks[1..] {
        let verified = verifier.verify_next(encode(block), &last).unwrap();
        last = verified.block_ref();
        if verified.is_config() {
            let config = ChannelConfig::from_block(verified.block()).unwrap();
            verifier.config().check_successor(&config).unwrap();
            verifier = BlockVerifier::new(Arc::new(config));
        }
    }
    verifier
}

#[tokio::test]
async fn a_good_transaction_is_taken_and_delivered_in_a_verifiable_block() {
    let mut served = Served::start().await;
    let messages = ["a", "b", "c"].map(|key| served.network.transaction(key));
    let answers = served.broadcast(messages.to_vec()).await;
    assert_eq!(answers.len(), 3);
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == Status::Success as i32)
    );
    reach(&served.orderer, 4).await;
    let (blocks, status) = served.deliver(&served.seek(oldest(), newest())).await;
    assert_eq!(
        (numbers(&blocks), status),
        (vec![0, 1, 2, 3], Status::Success)
    );
    verify_chain(&blocks);
    for (block, message) in blocks[1..].iter().zip(messages) {
        assert_eq!(block.data.as_ref().unwrap().data, [message.encode_to_vec()]);
        assert_eq!(last_config_number(block).unwrap(), 0);
    }
    served.orderer.stop().await.unwrap();
}

#[tokio::test]
async fn bad_messages_are_refused_and_end_the_stream() {
    let mut served = Served::start().await;
    let network = &served.network;
    let user = network.user(0, "User1");
    let data = Bytes::from_static(b"anything");
    let of_kind = |kind, channel| signed_envelope(&user, kind, channel, data.clone()).unwrap();
    let mut forged = network.transaction("a");
    let mut signature = forged.signature.to_vec();
    *signature.last_mut().unwrap() ^= 1;
    forged.signature = signature.into();
    let endorser = HeaderType::EndorserTransaction;
    let by_peer = signed_envelope(&network.peer(0), endorser, CHANNEL, data.clone()).unwrap();
    let big = signed_envelope(&user, endorser, CHANNEL, vec![0; 100_000].into()).unwrap();
    let stranger = TestNetwork::new(1, Duration::from_secs(1)).transaction("a");
    let cases = [
        (Envelope::default(), Status::BadRequest, "channel ID"),
        (
            Envelope {
                payload: vec![0xff; 9].into(),
                ..Envelope::default()
            },
            Status::BadRequest,
            "channel ID",
        ),
        (
            of_kind(endorser, "otherchannel"),
            Status::BadRequest,
            "does not exist",
        ),
        (
            of_kind(HeaderType::Config, CHANNEL),
            Status::BadRequest,
            "processed directly",
        ),
        (
            of_kind(HeaderType::ConfigUpdate, CHANNEL),
            Status::BadRequest,
            "config update",
        ),
        (
            big,
            Status::BadRequest,
            "exceeds maximum allowed 100000 bytes",
        ),
        (forged, Status::Forbidden, "/Channel/Writers"),
        (by_peer, Status::Forbidden, "/Channel/Writers"),
        (stranger, Status::Forbidden, "/Channel/Writers"),
    ];
    for (message, expected, reason) in cases {
        let (status, info) = served.answer(message.clone()).await;
        assert_eq!(status, expected, "{info}");
        assert!(info.contains(reason), "{info}");
        let good = served.network.transaction("good");
        let answers = served.broadcast(vec![message, good]).await;
        assert_eq!(answers.len(), 1, "the stream goes on after {answers:?}");
    }
    assert_eq!(served.orderer.store().height(), 1);
    served.order(1).await;
}

#[tokio::test]
async fn deliver_serves_every_kind_of_range() {
    let mut served = Served::start().await;
    served.order(4).await;
    let cases = [
        (oldest(), oldest(), vec![0], Status::Success),
        (newest(), newest(), vec![4], Status::Success),
        (oldest(), newest(), vec![0, 1, 2, 3, 4], Status::Success),
        (number(2), number(3), vec![2, 3], Status::Success),
        (number(3), newest(), vec![3, 4], Status::Success),
        (number(3), number(2), vec![], Status::BadRequest),
        (number(4), number(9), vec![4], Status::NotFound),
        (number(5), number(9), vec![], Status::NotFound),
        (number(6), number(9), vec![], Status::NotFound),
        (
            Position::NextCommit(SeekNextCommit {}),
            number(9),
            vec![],
            Status::NotFound,
        ),
    ];
    for (start, stop, expected, end) in cases {
        let seek = served.seek(start, stop);
        let (blocks, status) = served.deliver(&seek).await;
        assert_eq!((numbers(&blocks), status), (expected, end), "{seek:?}");
    }
    let none = SeekInfo::default();
    assert_eq!(served.deliver(&none).await.1, Status::BadRequest);
}

#[tokio::test]
async fn deliver_waits_for_blocks_that_are_not_cut_yet() {
    let mut served = Served::start().await;
    let seek = SeekInfo {
        behavior: SeekBehavior::BlockUntilReady as i32,
        ..served.seek(number(1), number(2))
    };
    let mut stream = served.open(request(&served.network.peer(1), &seek)).await;
    served.order(2).await;
    for expected in [1, 2] {
        let Reply::Block(block) = next(&mut stream).await else {
            panic!("no block");
        };
        assert_eq!(numbers(&[block]), [expected]);
    }
    assert_eq!(
        next(&mut stream).await,
        Reply::Status(Status::Success as i32)
    );
}

#[tokio::test]
async fn headers_come_without_data_and_config_blocks_in_full() {
    let mut served = Served::start().await;
    served.order(1).await;
    let seek = SeekInfo {
        content_type: SeekContentType::HeaderWithSig as i32,
        ..served.seek(oldest(), newest())
    };
    let (blocks, status) = served.deliver(&seek).await;
    assert_eq!(status, Status::Success);
    assert_eq!(blocks[0], served.network.genesis);
    assert!(blocks[1].data.is_none());
    let verifier = BlockVerifier::new(Arc::new(served.network.config()));
    let genesis = verify_chain(&blocks[..1]);
    drop(genesis);
    let first = BlockVerifier::trust_genesis(blocks[0].encode_to_vec().into())
        .unwrap()
        .0;
    let header = Bytes::from(blocks[1].encode_to_vec());
    verifier
        .verify_attestation(header, &first.block_ref())
        .unwrap();
}

#[tokio::test]
async fn only_readers_with_a_clock_get_blocks() {
    let mut served = Served::start().await;
    let seek = served.seek(oldest(), oldest());
    let reader = served.network.peer(0);

    let stranger = TestNetwork::new(1, Duration::from_secs(1)).peer(0);
    let (_, status) = served.deliver_envelope(request(&stranger, &seek)).await;
    assert_eq!(status, Status::Forbidden);

    let mut forged = request(&reader, &seek);
    forged.signature = request(&reader, &seek).signature;
    assert_eq!(served.deliver_envelope(forged).await.1, Status::Forbidden);

    let data = Bytes::from(seek.encode_to_vec());
    let kind = HeaderType::DeliverSeekInfo;
    let elsewhere = signed_envelope(&reader, kind, "otherchannel", data.clone()).unwrap();
    assert_eq!(served.deliver_envelope(elsewhere).await.1, Status::NotFound);

    let mut header = channel_header(kind, CHANNEL);
    header.timestamp.as_mut().unwrap().seconds -= 3600;
    let late = sign(&reader, &header, &signature_header(&reader), data.clone()).unwrap();
    assert_eq!(served.deliver_envelope(late).await.1, Status::BadRequest);
    header.timestamp = None;
    let timeless = sign(&reader, &header, &signature_header(&reader), data).unwrap();
    assert_eq!(
        served.deliver_envelope(timeless).await.1,
        Status::BadRequest
    );

    let garbage = signed_envelope(&reader, kind, CHANNEL, vec![0xff; 7].into()).unwrap();
    assert_eq!(served.deliver_envelope(garbage).await.1, Status::BadRequest);

    assert_eq!(served.deliver(&seek).await.1, Status::Success);
}

#[tokio::test]
async fn expired_clients_are_turned_away() {
    let mut served = Served::start().await;
    let client = served.network.expired_client();
    let kind = HeaderType::EndorserTransaction;
    let message = signed_envelope(&client, kind, CHANNEL, Bytes::from_static(b"x")).unwrap();
    let (status, info) = served.answer(message).await;
    assert_eq!(
        (status, info.as_str()),
        (Status::BadRequest, "broadcast client identity expired")
    );
    let seek = served.seek(oldest(), oldest());
    let (blocks, status) = served.deliver_envelope(request(&client, &seek)).await;
    assert_eq!((blocks.len(), status), (0, Status::Forbidden));
}

#[tokio::test]
async fn a_config_update_makes_a_config_block() {
    let mut served = Served::start().await;
    served.order(1).await;
    let admin = served.network.user(0, "Admin");
    let config = served.orderer.config();
    let update = signed_update(config.config(), &[&admin], |config| {
        set_anchors(config, "Org1", &[7051, 9051]);
    });
    let (status, info) = served.answer(update.clone()).await;
    assert_eq!(status, Status::Success, "{info}");
    reach(&served.orderer, 3).await;
    served.order(1).await;

    let (blocks, _) = served.deliver(&served.seek(oldest(), newest())).await;
    assert_eq!(numbers(&blocks), [0, 1, 2, 3]);
    let verifier = verify_chain(&blocks);
    let anchors = &verifier
        .config()
        .application_org("Org1MSP")
        .unwrap()
        .anchor_peers;
    assert_eq!(anchors.len(), 2);
    assert_eq!(verifier.config().sequence(), 1);
    assert_eq!(served.orderer.config().sequence(), 1);
    let last_config = |block: &Block| last_config_number(block).unwrap();
    assert_eq!(
        blocks.iter().map(last_config).collect::<Vec<_>>(),
        [0, 0, 2, 2]
    );
    let envelope = config_from_block(&blocks[2]).unwrap().unwrap();
    assert_eq!(envelope.last_update, Some(update.clone()));

    // The same again was made for an older version.
    let (status, info) = served.answer(update).await;
    assert_eq!(status, Status::BadRequest, "{info}");
    assert!(
        info.contains("at version 1") || info.contains("expected 2"),
        "{info}"
    );
}

#[tokio::test]
async fn a_config_update_without_enough_signatures_is_refused() {
    let mut served = Served::start().await;
    let config = served.orderer.config();
    let [org1, org2] = [0, 1].map(|organization| served.network.user(organization, "Admin"));
    let update = signed_update(config.config(), &[&org1, &org2], |config| {
        set_batch_count(config, 5);
    });
    let (status, info) = served.answer(update).await;
    assert_eq!(status, Status::BadRequest, "{info}");
    assert!(info.contains("/Channel/Orderer/Admins"), "{info}");
    assert_eq!(served.orderer.store().height(), 1);
}

#[tokio::test]
async fn a_config_update_may_not_change_who_orders_or_break_the_channel() {
    let mut served = Served::start().await;
    let config = served.orderer.config();
    let ordering = served.network.ordering_admin();
    let change = |name: &'static str, bytes: &'static [u8]| {
        signed_update(config.config(), &[&ordering], |config| {
            let root = config.channel_group.as_mut().unwrap();
            let orderer = root.groups.get_mut("Orderer").unwrap();
            orderer.values.get_mut(name).unwrap().value = Bytes::from_static(bytes);
        })
    };
    let (status, info) = served.answer(change("ConsensusType", b"\x0a\x03BFT")).await;
    assert_eq!(status, Status::BadRequest, "{info}");
    assert!(info.contains("consensus type"), "{info}");
    let (status, info) = served.answer(change("BatchTimeout", b"\x0a\x03one")).await;
    assert_eq!(status, Status::BadRequest, "{info}");
    assert!(info.contains("unusable configuration"), "{info}");
    served.order(1).await;
}

#[tokio::test]
async fn a_new_batch_size_counts_from_the_next_block_on() {
    let mut served = Served::start().await;
    let config = served.orderer.config();
    let ordering = served.network.ordering_admin();
    let update = signed_update(config.config(), &[&ordering], |config| {
        set_batch_count(config, 2);
    });
    assert_eq!(served.answer(update).await.0, Status::Success);
    reach(&served.orderer, 2).await;
    let messages = ["a", "b", "c", "d"].map(|key| served.network.transaction(key));
    served.broadcast(messages.to_vec()).await;
    reach(&served.orderer, 4).await;
    let (blocks, _) = served.deliver(&served.seek(number(2), number(3))).await;
    let counts = blocks
        .iter()
        .map(|block| block.data.as_ref().unwrap().data.len());
    assert_eq!(counts.collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test]
async fn a_restart_continues_the_chain() {
    let mut served = Served::start().await;
    served.order(2).await;
    let admin = served.network.user(1, "Admin");
    let config = served.orderer.config();
    let update = signed_update(config.config(), &[&admin], |config| {
        set_anchors(config, "Org2", &[9051]);
    });
    assert_eq!(served.answer(update).await.0, Status::Success);
    reach(&served.orderer, 4).await;
    let Served {
        network, orderer, ..
    } = served;
    orderer.stop().await.unwrap();

    let orderer = start(&network).await.unwrap();
    assert_eq!(orderer.store().height(), 4);
    assert_eq!(orderer.config().sequence(), 1);
    let client = AtomicBroadcastClient::new(connect(&network, &orderer));
    let mut served = Served {
        network,
        orderer,
        client,
    };
    served.order(1).await;
    let (blocks, _) = served.deliver(&served.seek(oldest(), newest())).await;
    assert_eq!(blocks.len(), 5);
    verify_chain(&blocks);
    assert_eq!(last_config_number(&blocks[4]).unwrap(), 3);
}

#[tokio::test]
async fn a_folder_with_another_channel_history_is_not_taken() {
    let mut network = TestNetwork::new(1, Duration::from_secs(1));
    start(&network).await.unwrap().stop().await.unwrap();
    network.genesis = TestNetwork::new(1, Duration::from_secs(1)).genesis;
    let error = start(&network).await.err().unwrap();
    assert!(
        matches!(error, OrdererError::OtherGenesis { .. }),
        "{error}"
    );
}

/// A chain without a server, for tests on virtual time.
struct Unserved {
    network: TestNetwork,
    chain: Arc<Chain>,
    stop: CancellationToken,
    sequencer: JoinHandle<Result<(), OrdererError>>,
}

impl Unserved {
    fn start(max_message_count: u32, batch_timeout: Duration) -> Self {
        let network = TestNetwork::new(max_message_count, batch_timeout);
        let folder = network.folder.path().join("orderer");
        let signer = network.orderer_identity();
        let opened = Chain::open(&folder, CHANNEL, &network.genesis, signer);
        let (chain, sequencer): (_, Sequencer) = opened.unwrap();
        let stop = CancellationToken::new();
        Self {
            sequencer: tokio::spawn(sequencer.run(stop.clone())),
            network,
            chain,
            stop,
        }
    }

    async fn submit(&self, messages: impl IntoIterator<Item = Envelope>) {
        for message in messages {
            self.chain.submit(message).await.unwrap();
        }
    }

    async fn reach(&self, height: u64) {
        let mut heights = self.chain.store().subscribe();
        heights.wait_for(|now| *now >= height).await.unwrap();
    }

    /// How many transactions each block has, the genesis block left out.
    fn counts(&self) -> Vec<usize> {
        let store = self.chain.store();
        let count = |number| {
            store
                .block(number)
                .unwrap()
                .unwrap()
                .data
                .unwrap()
                .data
                .len()
        };
        (1..store.height()).map(count).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn full_blocks_are_cut_at_once_and_the_rest_at_the_timeout() {
    let unserved = Unserved::start(3, Duration::from_secs(2));
    let start = Instant::now();
    unserved
        .submit(["a", "b", "c", "d"].map(|key| unserved.network.transaction(key)))
        .await;
    unserved.reach(2).await;
    assert!(start.elapsed() < Duration::from_secs(1));
    unserved.reach(3).await;
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(unserved.counts(), [3, 1]);
    let previous = unserved
        .chain
        .store()
        .header(2)
        .unwrap()
        .unwrap()
        .previous_hash;
    let first = unserved.chain.store().header(1).unwrap().unwrap();
    assert_eq!(previous, header_hash(&first)[..]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_cuts_no_blocks() {
    let unserved = Unserved::start(3, Duration::from_secs(2));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(unserved.chain.store().height(), 1);
}

#[tokio::test(start_paused = true)]
async fn bytes_fill_a_block_too() {
    let unserved = Unserved::start(1000, Duration::from_secs(2));
    let user = unserved.network.user(0, "User1");
    let message = |bytes: usize| {
        let kind = HeaderType::EndorserTransaction;
        signed_envelope(&user, kind, CHANNEL, vec![0; bytes].into()).unwrap()
    };
    unserved
        .submit([9000, 9000, 9000, 30_000, 100].map(message))
        .await;
    unserved.reach(5).await;
    assert_eq!(unserved.counts(), [2, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_in_a_block_after_the_stop() {
    let unserved = Unserved::start(10, Duration::from_secs(3600));
    unserved
        .submit(["a", "b"].map(|key| unserved.network.transaction(key)))
        .await;
    unserved.stop.cancel();
    let network = unserved.network;
    unserved.sequencer.await.unwrap().unwrap();
    assert_eq!(unserved.chain.store().height(), 2);
    let refusal = unserved
        .chain
        .submit(network.transaction("c"))
        .await
        .unwrap_err();
    assert_eq!(refusal.status(), Status::ServiceUnavailable);
}

#[tokio::test(start_paused = true)]
async fn messages_taken_before_a_config_change_are_checked_again() {
    let unserved = Unserved::start(10, Duration::from_secs(3600));
    let admins = [0, 1].map(|organization| unserved.network.user(organization, "Admin"));
    let [org1, org2] = &admins;
    let config = unserved.chain.config();
    let remove = signed_update(config.config(), &[org1, org2], |config| {
        let root = config.channel_group.as_mut().unwrap();
        root.groups
            .get_mut("Application")
            .unwrap()
            .groups
            .remove("Org2");
    });
    let user = unserved.network.user(1, "User1");
    let kind = HeaderType::EndorserTransaction;
    let late = signed_envelope(&user, kind, CHANNEL, Bytes::from_static(b"x")).unwrap();
    // All are admitted before the sequencer runs: nothing here waits.
    unserved
        .submit([unserved.network.transaction("a"), remove, late])
        .await;
    unserved.submit([unserved.network.transaction("b")]).await;
    unserved.stop.cancel();
    unserved.sequencer.await.unwrap().unwrap();
    let store = unserved.chain.store();
    let counts: Vec<_> = (1..store.height())
        .map(|number| {
            store
                .block(number)
                .unwrap()
                .unwrap()
                .data
                .unwrap()
                .data
                .len()
        })
        .collect();
    assert_eq!(counts, [1, 1, 1], "the transaction of Org2 is left out");
    assert_eq!(unserved.chain.config().sequence(), 1);
}
