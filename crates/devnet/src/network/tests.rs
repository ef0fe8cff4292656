use std::time::Duration;

use selvedge_ledger::{BlockStore, Options as LedgerOptions};
use selvedge_peer::logging::LogControl;
use selvedge_protos::common::Block;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::options::Output;
use crate::testing::TestNetwork;

const DEADLINE: Duration = Duration::from_secs(120);

fn options(folder: &TempDir) -> Options {
    Options {
        rate: 200.0,
        blocks: Some(5),
        dir: Some(folder.path().join("net")),
        output: Output::Json,
        ..Options::default()
    }
}

async fn run(options: Options, shutdown: CancellationToken) -> Result<Summary, DevnetError> {
    let log = LogControl::detached("error").unwrap();
    timeout(DEADLINE, up(options, log, shutdown)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_ends_with_identical_chains_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    // Keeps the ports between the runs.
    let root = options(&folder).dir.unwrap();
    let _network = NetworkFolder::open_or_create(&root, &options(&folder)).unwrap();
    for run_number in [1, 2] {
        let summary = run(options(&folder), CancellationToken::new())
            .await
            .unwrap();
        assert!(summary.identical, "run {run_number}: {summary}");
        assert_eq!((summary.peers, summary.blocks), (4, 5));
        let arrivals = summary.arrivals;
        let all = arrivals.orderer + arrivals.push + arrivals.pull + arrivals.state;
        assert_eq!(all, 4 * 5, "every block reaches every peer once: {summary}");
        assert_eq!(
            arrivals.orderer,
            2 * 5,
            "only leaders ask the ordering node: {summary}"
        );
        assert!(summary.bytes_sent > 0);
        let delays = summary.delay_ms;
        assert!(delays.every_peer.p50 <= delays.last_peer.p50);
        assert_eq!(delays.every_peer.max, delays.last_peer.max);
    }
    let other = Options {
        orgs: 3,
        ..options(&folder)
    };
    let error = run(other, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("--orgs 2 --peers 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_network_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let options = Options {
        orgs: 1,
        peers: 1,
        blocks: None,
        ..options(&folder)
    };
    let root = options.dir.clone().unwrap();
    let running = tokio::spawn(run(options, shutdown.clone()));
    // The peer's block file grows when blocks reach it.
    let files = root.join("peers/peer0.org1.example.com/data/ledgersData/chains/chains/devnet");
    let grown = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            let length = std::fs::metadata(files.join("blockfile_000000")).map(|file| file.len());
            if length.is_ok_and(|length| length > 200_000) {
                return;
            }
        }
    };
    timeout(DEADLINE, grown).await.unwrap();
    shutdown.cancel();
    let summary = running.await.unwrap().unwrap();
    assert!(summary.identical, "{summary}");
    assert!(summary.blocks > 1);
    assert_eq!(summary.arrivals.orderer, summary.blocks);
}

#[tokio::test]
async fn a_network_that_was_not_made_completely_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("net/crypto")).unwrap();
    let error = run(options(&folder), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no network.json"), "{error}");

    let file = folder.path().join("net/network.json");
    std::fs::write(&file, "{").unwrap();
    let error = run(options(&folder), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, DevnetError::Folder { .. }), "{error}");
}

#[test]
fn ports_are_all_different() {
    let folder = tempfile::tempdir().unwrap();
    let network = NetworkFolder::open_or_create(folder.path(), &Options::default()).unwrap();
    let mut ports: Vec<u16> = network
        .peers()
        .flat_map(|peer| {
            [
                peer.ports.service,
                peer.ports.chaincode,
                peer.ports.operations,
            ]
        })
        .chain([network.orderer_address().port])
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 4 * 3 + 1);
    let again = NetworkFolder::open_or_create(folder.path(), &Options::default()).unwrap();
    assert_eq!(again.genesis, network.genesis);
    assert_eq!(again.orderer_address(), network.orderer_address());
}

#[test]
fn core_yaml_is_understood_without_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let network = NetworkFolder::open_or_create(folder.path(), &Options::default()).unwrap();
    for peer in network.peers() {
        let file = peer.folder.join("core.yaml");
        let yaml = std::fs::read_to_string(&file).unwrap();
        let none = std::iter::empty::<(String, String)>();
        let sources = selvedge_peer::config::Sources::new(&file, &yaml, none).unwrap();
        let loaded = sources.peer().unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(loaded.config.id, peer.name);
        assert_eq!(loaded.config.gossip.org_leader, peer.host == "peer0");
        assert!(!loaded.config.gossip.use_leader_election);
        assert!(loaded.config.gossip.state.enabled);
        assert!(loaded.config.delivery_client.block_gossip_enabled);
    }
}

fn store(folder: &TempDir, name: &str, blocks: &[Block]) -> (String, BlockStore) {
    let [files, index] = ["files", "index"].map(|part| folder.path().join(name).join(part));
    let store = BlockStore::open(CHANNEL, &files, &index, &LedgerOptions::default()).unwrap();
    for block in blocks {
        store.append(block).unwrap();
    }
    (name.to_owned(), store)
}

#[tokio::test]
async fn the_first_differing_block_is_named() {
    let network = TestNetwork::new(1, Duration::from_secs(1));
    let chain = network.extend(std::slice::from_ref(&network.genesis), &["a", "b", "c"]);
    let fork = network.extend(&chain[..2], &["x", "c"]);
    let folder = tempfile::tempdir().unwrap();
    let (_, reference) = store(&folder, "reference", &chain);
    let same = store(&folder, "same", &chain);
    let short = store(&folder, "short", &chain[..3]);
    let forked = store(&folder, "forked", &fork);

    let difference = |peers: Vec<(String, BlockStore)>, last| {
        compare::first_difference(reference.clone(), peers, last)
    };
    assert_eq!(difference(vec![same.clone()], 3).await.unwrap(), None);
    assert_eq!(
        difference(vec![same.clone(), short.clone()], 2)
            .await
            .unwrap(),
        None
    );
    let found = difference(vec![same.clone(), short], 3)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.to_string(), "short lacks block 3");
    let found = difference(vec![same, forked], 3).await.unwrap().unwrap();
    assert!(
        found
            .to_string()
            .starts_with("block 2 of forked is another one"),
        "{found}"
    );
}
