//! What the node's committer makes of blocks: the verdicts and commit hashes of Go peers, no verdict where
//! there is none, and data directories of others.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use selvedge_ledger::state::{Namespace, StateDatabase};
use selvedge_ledger::{LedgerManager, Options};
use selvedge_peer::node::Node;
use selvedge_protos::Message;
use selvedge_protos::block::metadata_slot;
use selvedge_protos::common::{Block, BlockMetadataIndex, Envelope, Payload};
use selvedge_protos::kvrwset::{HashedRwSet, KvWriteHash};
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeActionPayload, ProposalResponsePayload, Transaction,
};
use selvedge_protos::rwset::{CollectionHashedReadWriteSet, TxReadWriteSet};
use serde_json::Value;

use crate::node::{Place, get};
use crate::ordering::Bench;
use crate::support::{
    CHANNEL, Chain, Network, commit_by_queue, join, soon, transaction_id, until, verdicts,
};

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

fn recorded_block(chain: &str, number: u64) -> Bytes {
    let path = testdata(&format!("{chain}/orderer-blocks/{number:06}.block"));
    std::fs::read(path).unwrap().into()
}

#[rstest::rstest]
#[case::raft("raft", "vectors")]
#[case::bft("bft", "bftvectors")]
#[tokio::test(flavor = "multi_thread")]
async fn recorded_chains_get_the_verdicts_and_hashes_of_go_peers(
    #[case] name: &str,
    #[case] id: &str,
) {
    let text = std::fs::read_to_string(testdata(&format!("{name}/expected.json"))).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let expected = expected["blocks"].as_array().unwrap();

    let network = Network::new();
    let (channels, _events) = network.channels("data");
    join(&channels, recorded_block(name, 0)).await.unwrap();
    let channel = channels.get(id).unwrap();
    let blocks: Vec<_> = (1..expected.len() as u64)
        .map(|number| Block::decode(recorded_block(name, number)).unwrap())
        .collect();
    commit_by_queue(&channel, &blocks).await;

    for (number, expected) in (0..).zip(expected) {
        let block = channel.ledger().block(number).unwrap().unwrap();
        let codes = expected["txs"].as_array().unwrap().iter();
        let codes: Vec<_> = codes.map(|tx| tx["code"].as_str().unwrap()).collect();
        assert_eq!(verdicts(&block), codes, "block {number}");
        let hash = metadata_slot(&block, BlockMetadataIndex::CommitHash);
        let hash = selvedge_protos::common::Metadata::decode(hash).unwrap();
        let expected = expected["commitHash"].as_str().unwrap_or_default();
        assert_eq!(hex::encode(hash.value), expected, "block {number}");
    }
}

#[tokio::test]
async fn what_a_valid_transaction_wrote_can_be_read_when_its_block_is_told() {
    let network = Network::new();
    let (channels, _events) = network.channels("data");
    join(&channels, network.genesis_bytes()).await.unwrap();
    let channel = channels.get(CHANNEL).unwrap();
    let mut chain = Chain::new(&network);
    // The definition counts from the block after.
    let mut first = chain.envelopes(&["early"]);
    first.insert(0, chain.definition());
    let blocks = [
        chain.push_envelopes(first, false),
        chain.push(&["a", "b"]),
        chain.push(&["a"]),
    ];
    commit_by_queue(&channel, &blocks).await;

    let of_block = |number| verdicts(&channel.ledger().block(number).unwrap().unwrap());
    assert_eq!(of_block(1), ["VALID", "INVALID_CHAINCODE"]);
    assert_eq!(of_block(2), ["VALID", "VALID"]);
    let query = channel.reader().query().unwrap();
    assert_eq!(query.height(), 4);
    assert_eq!(query.value("kv", "early").unwrap(), None);
    assert_eq!(query.value("kv", "b").unwrap(), Some("value".into()));
    let page = query.range("kv", "", "", 10).unwrap();
    assert_eq!(page.entries.len(), 2);
    assert_eq!(*channel.committed().borrow(), 4);
}

/// Gives a transaction hashed writes to a collection that nobody has defined. Its signatures are no longer
/// good, which does not help a Go peer.
fn with_undefined_collection(envelope: &Bytes) -> Bytes {
    let mut envelope = Envelope::decode(envelope.clone()).unwrap();
    let mut payload = Payload::decode(envelope.payload).unwrap();
    let mut transaction = Transaction::decode(payload.data).unwrap();
    let action = &mut transaction.actions[0];
    let mut endorsed = ChaincodeActionPayload::decode(action.payload.clone()).unwrap();
    let inner = endorsed.action.as_mut().unwrap();
    let response = inner.proposal_response_payload.clone();
    let mut response = ProposalResponsePayload::decode(response).unwrap();
    let mut chaincode = ChaincodeAction::decode(response.extension).unwrap();
    let mut results = TxReadWriteSet::decode(chaincode.results).unwrap();

    let hashed = HashedRwSet {
        hashed_writes: vec![KvWriteHash {
            key_hash: vec![1; 32].into(),
            value_hash: vec![2; 32].into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    results.ns_rwset[0]
        .collection_hashed_rwset
        .push(CollectionHashedReadWriteSet {
            collection_name: "nowhere".to_owned(),
            hashed_rwset: hashed.encode_to_vec().into(),
            ..Default::default()
        });
    chaincode.results = results.encode_to_vec().into();
    response.extension = chaincode.encode_to_vec().into();
    inner.proposal_response_payload = response.encode_to_vec().into();
    action.payload = endorsed.encode_to_vec().into();
    payload.data = transaction.encode_to_vec().into();
    envelope.payload = payload.encode_to_vec().into();
    envelope.encode_to_vec().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_stops_where_there_is_no_verdict_and_goes_on_with_a_stated_one() {
    let bench = Bench::new().await;
    let mut chain = Chain::new(&bench.network);
    chain.push(&["a"]);
    let mut envelopes = chain.envelopes(&["b", "c"]);
    envelopes[1] = with_undefined_collection(&envelopes[1]);
    let stopped_at = chain.push_envelopes(envelopes, false);
    chain.push(&["d"]);
    let other = Network::of_channel("other");
    bench.node.join(other.genesis_bytes()).await.unwrap();
    bench.orderer.has(&chain);

    let txid = transaction_id(&stopped_at, 1);
    let reason = format!("block 2, transaction 1 (id {txid:?}) cannot be validated: ");
    let operations = bench.node.operations_address().unwrap();
    let health = async || get(operations, "/healthz").await;
    until("the channel is named", async || health().await.0 == 503).await;
    let (_, body) = health().await;
    let said: Value = serde_json::from_str(&body).unwrap();
    let said = said["failed_checks"][0]["reason"].as_str().unwrap();
    assert!(said.contains(&reason) && said.contains("nowhere"), "{said}");
    assert!(!said.contains("channel other"), "{said}");

    let channel = bench.node.channel(CHANNEL).unwrap();
    assert_eq!(channel.ledger().height(), 2);
    let others = bench.node.channel("other").unwrap();
    let mut second = Chain::of_channel(&other, "other");
    commit_by_queue(&others, &[second.push(&["e"])]).await;
    assert_eq!(others.ledger().height(), 2);
    drop((channel, others));
    soon(bench.node.stop()).await;

    let place = Place {
        leads: true,
        stated: format!(
            "[{{channel: {CHANNEL}, block: 2, transaction: 1, code: INVALID_OTHER_REASON}}]"
        ),
        ..Place::new(&bench.network, 1)
    };
    let node = place.start().await.unwrap();
    let channel = node.channel(CHANNEL).unwrap();
    let mut heights = channel.committed();
    soon(heights.wait_for(|height| *height == 4)).await.unwrap();
    let block = channel.ledger().block(2).unwrap().unwrap();
    assert_eq!(
        verdicts(&block),
        ["INVALID_CHAINCODE", "INVALID_OTHER_REASON"]
    );
    let (status, body) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 200, "{body}");
    drop(channel);
    soon(node.stop()).await;
}

fn state_of(node: &Node, channel: &str) -> Vec<String> {
    let channel = node.channel(channel).unwrap();
    let entries = channel.state().database().entries();
    entries
        .map(|entry| format!("{:?}", entry.unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_a_go_peer_is_taken_over_with_its_state() {
    let network = Network::new();
    let place = Place::new(&network, 1);
    let written =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../ledger/testdata/go-peer/blockfile_000000");
    let chain = place.data.join("ledgersData/chains/chains/labchannel");
    std::fs::create_dir_all(&chain).unwrap();
    std::fs::copy(written, chain.join("blockfile_000000")).unwrap();

    let node = place.start().await.unwrap();
    let (status, body) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 200, "{body}");
    let [channel] = node.channels().ids().try_into().unwrap();
    let state = state_of(&node, &channel);
    let has = |text: &str| state.iter().any(|entry| entry.contains(text));
    assert!(has("CHANNEL_CONFIG_ENV_BYTES"), "{state:?}");
    assert!(has("namespaces/fields/"), "{state:?}");
    let height = node.channel(&channel).unwrap().ledger().height();
    assert_eq!(height, 8);
    soon(node.stop()).await;

    // What was made of it is kept.
    let node = place.start().await.unwrap();
    assert_eq!(state_of(&node, &channel), state);
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_stored_without_validation_is_refused() {
    let network = Network::new();
    let place = Place::new(&network, 1);
    {
        let ledgers = LedgerManager::open(&place.data, Options::default()).unwrap();
        let ledger = ledgers.create_channel(CHANNEL, &network.genesis).unwrap();
        ledger.append(&Chain::new(&network).push(&["a"])).unwrap();
    }
    let node = place.start().await.unwrap();
    assert!(node.channel(CHANNEL).is_none());
    let (status, body) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 503);
    assert!(body.contains("selvedge ledger rebuild"), "{body}");
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_lost_or_damaged_is_made_anew() {
    let network = Network::new();
    let place = Place::new(&network, 1);
    let node = place.joined().await;
    let channel = node.channel(CHANNEL).unwrap();
    commit_by_queue(&channel, &[Chain::new(&network).push(&["a"])]).await;
    drop(channel);
    let state = state_of(&node, CHANNEL);
    soon(node.stop()).await;

    let folder = place.data.join("ledgersData/selvedge/channels");
    let folder = folder.join(CHANNEL).join("state");
    let wrong_format = || {
        let store = selvedge_ledger::store::FjallStore::open(&folder).unwrap();
        let mut batch = selvedge_ledger::store::Batch::default();
        batch.put(
            selvedge_ledger::store::Table::Meta,
            *b"format",
            *b"of another time",
        );
        let disk = selvedge_ledger::store::Durability::Disk;
        selvedge_ledger::store::Store::commit(&store, batch, disk).unwrap();
    };
    let nothing = || std::fs::remove_dir_all(&folder).unwrap();
    let harm: [&dyn Fn(); 2] = [&nothing, &wrong_format];
    for harm in harm {
        harm();
        let node = place.start().await.unwrap();
        assert_eq!(state_of(&node, CHANNEL), state);
        soon(node.stop()).await;
    }
    let state = StateDatabase::open(&folder).unwrap();
    let configuration = Namespace::public("");
    assert!(
        state
            .get(configuration, b"CHANNEL_CONFIG_ENV_BYTES")
            .unwrap()
            .is_some()
    );
}
