use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use selvedge_channel::{BlockVerifier, ChannelConfig, config_from_block};
use selvedge_protos::common::{Block, Status};
use selvedge_protos::orderer::{SeekSpecified, seek_position};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::testing::*;
use crate::*;

/// A running fetcher of the test chain.
struct Fetching {
    fetcher: BlockFetcher,
    blocks: mpsc::Receiver<Block>,
    status: watch::Receiver<FetchStatus>,
}

impl Fetching {
    /// From block 1 on.
    fn start(ca: &Ca, addresses: OrdererAddresses, options: FetchOptions) -> Self {
        let verifier = TestVerifier::after(&chain(1)[0], ca);
        let (fetcher, blocks) =
            BlockFetcher::start("c", signer(), verifier, addresses, no_overrides(), options);
        let status = fetcher.status();
        Self {
            fetcher,
            blocks,
            status,
        }
    }

    /// The next `count` blocks; their numbers must follow `last`.
    async fn expect(&mut self, last: u64, count: u64) {
        for number in last + 1..=last + count {
            let block = soon(self.blocks.recv()).await.expect("it has ended");
            assert_eq!(block.header.unwrap().number, number);
        }
    }

    async fn status_where(&mut self, condition: impl Fn(&FetchStatus) -> bool) -> FetchStatus {
        let found = soon(self.status.wait_for(|status| condition(status))).await;
        found.unwrap().clone()
    }

    async fn error(&mut self) -> String {
        let status = self
            .status_where(|status| status.last_error.is_some())
            .await;
        status.last_error.unwrap()
    }
}

#[tokio::test]
async fn blocks_come_in_order_from_the_height_on_and_new_ones_follow() {
    let ca = Ca::new();
    let orderer = TestOrderer::start(&ca, &chain(30)).await;
    let mut fetching = Fetching::start(&ca, addresses(&ca, &[&orderer]), options());
    fetching.expect(0, 29).await;
    orderer.cut(b"a new one");
    fetching.expect(29, 1).await;
    let status = fetching
        .status_where(|s| s.next_block == 31 && s.phase == Phase::Receiving)
        .await;
    assert_eq!(
        (status.orderer, status.failures),
        (Some(orderer.address.clone()), 0)
    );

    fetching.fetcher.stop().await;
    assert!(fetching.blocks.recv().await.is_none());
    assert_eq!(fetching.status.borrow().phase, Phase::Stopped);
    assert_eq!(orderer.asked().len(), 1);
}

#[tokio::test]
async fn requests_are_signed_and_bound_to_the_client_certificate() {
    let ca = Ca::new();
    let orderer = TestOrderer::start(&ca, &chain(3)).await;
    for tls_identity in [None, Some(ca.issue())] {
        let options = FetchOptions {
            tls_identity: tls_identity
                .clone()
                .map(selvedge_transport::CurrentIdentity::new),
            ..options()
        };
        Fetching::start(&ca, addresses(&ca, &[&orderer]), options)
            .expect(0, 2)
            .await;
        let asked = orderer.asked().pop().unwrap();
        assert_eq!(asked.start(), 1);
        let last = seek_position::Type::Specified(SeekSpecified { number: u64::MAX });
        assert_eq!(asked.seek.stop.unwrap().r#type, Some(last));
        let header = &asked.envelope.channel_header;
        assert_eq!((header.r#type, header.channel_id.as_str()), (5, "c"));
        assert!(header.timestamp.is_some());
        let hash = tls_identity.map(|identity| identity.certificate_hash());
        assert_eq!(
            header.tls_cert_hash,
            hash.map(|h| h.to_vec()).unwrap_or_default()
        );
        assert_eq!(asked.peer.certificate_hash(), hash);
        assert_eq!(asked.envelope.signature_header.nonce.len(), 24);
        let signer = signer();
        assert_eq!(asked.envelope.signature_header.creator, signer.serialized());
        let (payload, signature) = (&asked.envelope.payload_bytes, &asked.envelope.signature);
        signer.identity().verify(payload, signature).unwrap();
    }
}

#[tokio::test]
async fn blocks_that_do_not_verify_are_not_passed_on_and_another_node_is_asked() {
    let ca = Ca::new();
    let blocks = chain(10);
    let mut forged = blocks[5].clone();
    forged.metadata.as_mut().unwrap().metadata[0] = "forged".into();
    let mut cut_differently = blocks[5].clone();
    cut_differently
        .data
        .as_mut()
        .unwrap()
        .data
        .push("more".into());
    let mut fork = next_block(Some(&blocks[3]), b"another block");
    fork.header.as_mut().unwrap().number = 5;
    let headless = Block {
        header: None,
        ..blocks[5].clone()
    };
    let lies = [
        forged,
        cut_differently,
        fork,
        headless,
        blocks[6].clone(),
        blocks[4].clone(),
    ];
    for lie in lies {
        let liar = TestOrderer::start(&ca, &blocks)
            .await
            .conduct(Conduct::Instead(5, lie));
        let mut fetching = Fetching::start(&ca, addresses(&ca, &[&liar]), options());
        fetching.expect(0, 4).await;
        let error = fetching.error().await;
        assert!(error.starts_with("block [5] from orderer ["), "{error}");
        let honest = TestOrderer::start(&ca, &blocks).await;
        fetching.fetcher.update(addresses(&ca, &[&liar, &honest]));
        fetching.expect(4, 5).await;
        assert_eq!(honest.asked().pop().unwrap().start(), 5);
    }
}

#[tokio::test]
async fn a_status_means_another_node() {
    let ca = Ca::new();
    let cases = [
        (Status::ServiceUnavailable, "bad status SERVICE_UNAVAILABLE"),
        (Status::Forbidden, "may not read the channel"),
        (Status::NotFound, "does not know the channel"),
        (
            Status::Success,
            "received success for a seek that should never complete",
        ),
    ];
    for (status, text) in cases {
        let refusing = TestOrderer::start(&ca, &[])
            .await
            .conduct(Conduct::Answer(status));
        let mut fetching = Fetching::start(&ca, addresses(&ca, &[&refusing]), options());
        let error = fetching.error().await;
        assert!(error.contains(text), "{error}");
        let honest = TestOrderer::start(&ca, &chain(3)).await;
        fetching
            .fetcher
            .update(addresses(&ca, &[&refusing, &honest]));
        fetching.expect(0, 2).await;
    }
}

#[tokio::test]
async fn a_node_that_hangs_up_is_followed_by_another_at_the_right_block() {
    let ca = Ca::new();
    let blocks = chain(9);
    let nodes = [
        TestOrderer::start(&ca, &blocks)
            .await
            .conduct(Conduct::HangUpAfter(3)),
        TestOrderer::start(&ca, &blocks)
            .await
            .conduct(Conduct::HangUpAfter(6)),
        TestOrderer::start(&ca, &blocks).await,
    ];
    let all = addresses(&ca, &[&nodes[0], &nodes[1], &nodes[2]]);
    let mut fetching = Fetching::start(&ca, all, options());
    fetching.expect(0, 8).await;
    fetching
        .status_where(|s| s.failures == 0 && s.orderer.as_ref() == Some(&nodes[2].address))
        .await;
}

#[tokio::test]
async fn when_all_are_gone_it_waits_for_one_to_come_back() {
    let ca = Ca::new();
    let first = TestOrderer::start(&ca, &chain(4)).await;
    let mut fetching = Fetching::start(&ca, addresses(&ca, &[&first]), options());
    fetching.expect(0, 3).await;
    first.stop().await;
    fetching.status_where(|status| status.failures > 3).await;
    assert!(fetching.error().await.contains("could not dial endpoint"));
    let _again = TestOrderer::start_at(&first.address, &ca, &chain(6)).await;
    fetching.expect(3, 2).await;
    fetching.status_where(|status| status.failures == 0).await;
}

#[tokio::test]
async fn nodes_of_unknown_cas_are_not_listened_to() {
    let (ca, other) = (Ca::new(), Ca::new());
    let orderer = TestOrderer::start(&other, &chain(3)).await;
    let mut fetching = Fetching::start(&ca, addresses(&ca, &[&orderer]), options());
    let error = fetching.error().await;
    assert!(error.contains("unknown CA"), "{error}");
    assert!(orderer.asked().is_empty());
}

/// Passes bytes on until frozen; then it keeps the connections open and silent.
async fn proxy(to: String) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let frozen = CancellationToken::new();
    let freeze = frozen.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(&to).await.unwrap();
            let copying = tokio::io::copy_bidirectional(&mut client, &mut server);
            let _ = freeze.run_until_cancelled(copying).await;
            kept.push((client, server));
        }
    });
    (address, frozen)
}

#[tokio::test]
async fn a_node_that_is_gone_without_a_word_is_found_by_keepalive() {
    let ca = Ca::new();
    let (near, far) = (
        TestOrderer::start(&ca, &chain(3)).await,
        TestOrderer::start(&ca, &chain(5)).await,
    );
    let (through, freeze) = proxy(near.address.clone()).await;
    let mut options = options();
    options.connect.keepalive_interval = Duration::from_millis(100);
    options.connect.keepalive_timeout = Duration::from_secs(2);
    options.connect.timeout = Duration::from_secs(2);
    let known = OrdererAddresses {
        global: vec![through.clone()],
        ..addresses(&ca, &[])
    };
    let mut fetching = Fetching::start(&ca, known, options);
    fetching.expect(0, 2).await;
    freeze.cancel();
    let status = fetching.status_where(|status| status.failures > 0).await;
    assert_eq!(status.orderer, Some(through));
    fetching.fetcher.update(addresses(&ca, &[&far]));
    fetching.expect(2, 2).await;
}

#[tokio::test]
async fn a_config_block_that_moves_the_nodes_moves_the_connection() {
    let ca = Ca::new();
    let new = TestOrderer::start(&ca, &[]).await;
    let mut blocks = chain(3);
    blocks.push(next_block(
        blocks.last(),
        &config_content(std::slice::from_ref(&new.address)),
    ));
    let old = TestOrderer::start(&ca, &blocks).await;
    blocks.push(next_block(blocks.last(), b"after the move"));
    let moved = TestOrderer::start(&ca, &blocks).await;
    let mut fetching = Fetching::start(&ca, addresses(&ca, &[&old]), options());
    fetching.expect(0, 3).await;
    eventually("the new node is asked", || new.asked_for_blocks() == 1).await;
    assert_eq!(new.asked()[0].start(), 4);
    assert_eq!(fetching.status.borrow().failures, 0);

    fetching.fetcher.update(addresses(&ca, &[&moved]));
    fetching.expect(3, 1).await;
}

#[tokio::test]
async fn without_nodes_it_waits_for_some() {
    let ca = Ca::new();
    let options = FetchOptions {
        retry_initial: Duration::from_secs(3600),
        ..options()
    };
    let mut fetching = Fetching::start(&ca, OrdererAddresses::default(), options);
    assert!(fetching.error().await.contains("no endpoints"));
    let orderer = TestOrderer::start(&ca, &chain(3)).await;
    fetching.fetcher.update(addresses(&ca, &[&orderer]));
    fetching.expect(0, 2).await;
}

#[tokio::test]
async fn an_overridden_address_is_used_with_its_own_roots() {
    let (ca, other) = (Ca::new(), Ca::new());
    let orderer = TestOrderer::start(&other, &chain(3)).await;
    let known = OrdererAddresses {
        global: vec!["orderer.example.com:7050".to_owned()],
        ..addresses(&ca, &[])
    };
    let instead = AddressOverride {
        to: orderer.address.clone(),
        tls_roots: vec![other.certificate.clone()],
    };
    let overrides = HashMap::from([("orderer.example.com:7050".to_owned(), instead)]);
    let verifier = TestVerifier::after(&chain(1)[0], &ca);
    let (_fetcher, mut blocks) =
        BlockFetcher::start("c", signer(), verifier, known, overrides, options());
    assert_eq!(blocks.recv().await.unwrap().header.unwrap().number, 1);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_after_the_threshold_it_gives_up() {
    // Addresses without a port fail without any network.
    let addresses = OrdererAddresses {
        global: vec!["nowhere".to_owned()],
        ..OrdererAddresses::default()
    };
    let options = FetchOptions {
        retry_max: Duration::from_secs(60),
        give_up_after: Some(Duration::from_secs(600)),
        ..FetchOptions::default()
    };
    let start = tokio::time::Instant::now();
    let mut fetching = Fetching::start(&Ca::new(), addresses, options);
    fetching.status_where(|status| status.failures == 4).await;
    assert_eq!(start.elapsed().as_millis(), 100 + 120 + 144);
    assert!(fetching.blocks.recv().await.is_none());
    let elapsed = start.elapsed().as_secs();
    assert!((540..=600).contains(&elapsed), "{elapsed} s");
    assert_eq!(fetching.status.borrow().phase, Phase::Stopped);
    assert!(fetching.status.borrow().last_error.is_some());
}

#[tokio::test]
async fn it_does_not_read_ahead_of_its_reader() {
    let ca = Ca::new();
    let mut blocks = chain(1);
    for _ in 0..60 {
        blocks.push(next_block(blocks.last(), &[b'x'; 500_000]));
    }
    let orderer = TestOrderer::start(&ca, &blocks).await;
    let options = FetchOptions {
        buffer: 2,
        ..options()
    };
    let mut fetching = Fetching::start(&ca, addresses(&ca, &[&orderer]), options);
    fetching.status_where(|status| status.next_block == 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fetching.status.borrow().next_block, 3);
    fetching.expect(0, 60).await;
    assert_eq!(orderer.asked().len(), 1);
}

#[tokio::test]
async fn dropping_the_fetcher_or_its_reader_ends_it() {
    let ca = Ca::new();
    let orderer = TestOrderer::start(&ca, &chain(3)).await;
    let Fetching {
        fetcher,
        mut blocks,
        ..
    } = Fetching::start(&ca, addresses(&ca, &[&orderer]), options());
    drop(fetcher);
    while blocks.recv().await.is_some() {}
    let Fetching {
        fetcher: _fetcher,
        blocks,
        mut status,
    } = Fetching::start(&ca, addresses(&ca, &[&orderer]), options());
    drop(blocks);
    status
        .wait_for(|status| status.phase == Phase::Stopped)
        .await
        .unwrap();
}

fn bft(censorship_timeout: Duration) -> FetchOptions {
    FetchOptions {
        mode: Mode::Bft,
        censorship_timeout,
        ..options()
    }
}

#[tokio::test]
async fn a_node_that_withholds_blocks_is_found_out_by_the_headers_of_others() {
    let ca = Ca::new();
    let blocks = chain(8);
    let censor = TestOrderer::start(&ca, &blocks)
        .await
        .conduct(Conduct::WithholdAfter(4));
    let witness = TestOrderer::start(&ca, &blocks)
        .await
        .conduct(Conduct::HeadersOnly);
    let options = bft(Duration::from_millis(300));
    let mut fetching = Fetching::start(&ca, addresses(&ca, &[&censor, &witness]), options);
    fetching.expect(0, 4).await;
    let censorship = format!("block censorship detected, endpoint: {}", censor.address);
    fetching
        .status_where(|status| status.last_error.as_ref() == Some(&censorship))
        .await;
    assert!(witness.asked().iter().any(|asked| asked.is_for_headers()));

    let honest = TestOrderer::start(&ca, &blocks).await;
    fetching
        .fetcher
        .update(addresses(&ca, &[&censor, &witness, &honest]));
    fetching.expect(4, 3).await;
}

#[tokio::test]
async fn forged_headers_and_headers_that_are_not_ahead_raise_no_suspicion() {
    let ca = Ca::new();
    let blocks = chain(5);
    let mut forged = next_block(blocks.last(), b"does not exist");
    forged.metadata.as_mut().unwrap().metadata[0] = "forged".into();
    let mut longer = blocks.clone();
    longer.push(forged);
    let honest = TestOrderer::start(&ca, &blocks).await;
    let mut fetching = Fetching::start(
        &ca,
        addresses(&ca, &[&honest]),
        bft(Duration::from_millis(50)),
    );
    fetching.expect(0, 4).await;
    // From a liar no block 5 can come, whether it is asked for blocks or for headers.
    let liar = TestOrderer::start(&ca, &longer).await;
    fetching.fetcher.update(addresses(&ca, &[&honest, &liar]));
    eventually("the liar was asked", || liar.asked().len() >= 3).await;
    fetching
        .status_where(|s| s.orderer.as_ref() == Some(&honest.address))
        .await;
    let before = liar.asked().len();
    eventually("and asked again", || liar.asked().len() >= before + 3).await;
    let error = fetching
        .status
        .borrow()
        .last_error
        .clone()
        .unwrap_or_default();
    assert!(!error.contains("censorship"), "{error}");
    assert!(fetching.blocks.try_recv().is_err());
}

#[tokio::test]
async fn a_slow_reader_is_no_reason_to_suspect_anybody() {
    let ca = Ca::new();
    let blocks = chain(40);
    let nodes = [
        TestOrderer::start(&ca, &blocks).await,
        TestOrderer::start(&ca, &blocks).await,
    ];
    let options = FetchOptions {
        buffer: 1,
        ..bft(Duration::from_secs(2))
    };
    let mut fetching = Fetching::start(&ca, addresses(&ca, &[&nodes[0], &nodes[1]]), options);
    fetching.status_where(|status| status.next_block == 2).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    fetching.expect(0, 39).await;
    assert_eq!(nodes[0].asked_for_blocks() + nodes[1].asked_for_blocks(), 1);
}

/// The recorded chain of a real ordering service.
fn recorded(network: &str) -> Vec<Block> {
    let folder = testdata(network).join("orderer-blocks");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|f| Block::decode(&std::fs::read(f).unwrap()[..]).unwrap())
        .collect()
}

/// Every address that the chain ever names, led to a test node.
fn overrides_to(
    orderers: &[&TestOrderer],
    ca: &Ca,
    chain: &[Block],
) -> HashMap<String, AddressOverride> {
    let configs = chain
        .iter()
        .filter(|block| config_from_block(block).unwrap().is_some());
    let named: HashSet<String> = configs
        .map(|block| OrdererAddresses::from(&ChannelConfig::from_block(block).unwrap()))
        .flat_map(|a| {
            a.organizations
                .into_iter()
                .flat_map(|o| o.addresses)
                .chain(a.global)
        })
        .collect();
    assert!(!named.is_empty());
    let tls_roots = vec![ca.certificate.clone()];
    let targets = orderers
        .iter()
        .map(|orderer| orderer.address.clone())
        .cycle();
    let target = |to| AddressOverride {
        to,
        tls_roots: tls_roots.clone(),
    };
    named.into_iter().zip(targets.map(target)).collect()
}

#[tokio::test]
async fn recorded_chains_are_fetched_and_verified_through_their_config_blocks() {
    for (network, mode) in [("raft", Mode::Cft), ("bft", Mode::Bft)] {
        let ca = Ca::new();
        let chain = recorded(network);
        let nodes = [
            TestOrderer::start(&ca, &chain).await,
            TestOrderer::start(&ca, &chain).await,
        ];
        let overrides = overrides_to(&[&nodes[0], &nodes[1]], &ca, &chain);
        let (genesis, config) =
            BlockVerifier::trust_genesis(chain[0].encode_to_vec().into()).unwrap();
        let addresses = OrdererAddresses::from(&config);
        let channel = config.channel_id().to_owned();
        let verifier = ChannelVerifier::new(Arc::new(config), genesis.block_ref());
        let options = FetchOptions { mode, ..options() };
        let (_fetcher, mut blocks) =
            BlockFetcher::start(&channel, signer(), verifier, addresses, overrides, options);
        for expected in &chain[1..] {
            let block = soon(blocks.recv()).await.unwrap();
            assert_eq!(block.block(), expected);
        }
    }
}
