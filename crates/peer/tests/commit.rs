//! Recorded chains, validated and committed: verdicts, commit hashes, blocks and state as a Go peer's.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use selvedge_ledger::LedgerManager;
use selvedge_peer::commit::replay::{ReplayError, replay};
use selvedge_peer::commit::{CommittedBlock, Committer};
use selvedge_protos::Message;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_validation::Options;
use serde_json::Value;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(testdata(path)).unwrap()).unwrap()
}

/// What a Go peer said of each block.
fn expected(chain: &str) -> Vec<Value> {
    let recorded = json(&format!("{chain}/expected.json"));
    recorded["blocks"].as_array().unwrap().clone()
}

fn block_file(chain: &str, kind: &str, number: u64) -> Bytes {
    let path = testdata(&format!("{chain}/{kind}/{number:06}.block"));
    fs::read(path).unwrap().into()
}

fn blocks(chain: &'static str) -> impl Iterator<Item = Result<Bytes, Infallible>> + Send {
    expected(chain).into_iter().map(move |block| {
        let number = block["number"].as_u64().unwrap();
        Ok(block_file(chain, "orderer-blocks", number))
    })
}

fn compare(found: &CommittedBlock, expected: &Value) {
    let number = found.number;
    assert_eq!(expected["number"], number);
    assert_eq!(expected["headerHash"], hex::encode(found.header_hash));
    assert_eq!(expected["dataHash"], hex::encode(&found.data_hash));
    let recorded = expected["txs"].as_array().unwrap();
    let recorded: Vec<_> = recorded
        .iter()
        .map(|tx| (tx["txid"].as_str(), tx["code"].as_str().unwrap()))
        .collect();
    let verdicts: Vec<_> = found
        .transactions
        .iter()
        .map(|it| (it.txid.as_deref(), it.code.as_str_name()))
        .collect();
    assert_eq!(verdicts, recorded, "block {number}");
    let commit_hash = found.commit_hash.map(hex::encode);
    assert_eq!(
        expected["commitHash"].as_str(),
        commit_hash.as_deref(),
        "block {number}"
    );
}

fn replayed(chain: &'static str, ledgers: &LedgerManager) -> Committer {
    let mut recorded = expected(chain).into_iter();
    let committer = replay(blocks(chain), ledgers, &Options::default(), |block| {
        compare(block, &recorded.next().unwrap());
    })
    .unwrap();
    assert!(recorded.next().is_none());
    committer
}

fn ledgers(folder: &Path) -> LedgerManager {
    LedgerManager::open(folder, selvedge_ledger::Options::default()).unwrap()
}

/// Text as it is, other bytes in hex.
fn bytes(recorded: &Value) -> Vec<u8> {
    match recorded {
        Value::String(text) => text.clone().into_bytes(),
        other => hex::decode(other["hex"].as_str().unwrap()).unwrap(),
    }
}

/// Namespace and key to value, metadata and version.
type State = BTreeMap<(Vec<u8>, Vec<u8>), (Vec<u8>, Vec<u8>, (u64, u64))>;

fn recorded_state(chain: &str) -> State {
    let recorded = json(&format!("{chain}/state.json"));
    let mut state = State::new();
    for (namespace, entries) in recorded["public"].as_object().unwrap() {
        for entry in entries.as_array().unwrap() {
            let content = (bytes(&entry["value"]), metadata(entry), version(entry));
            state.insert((namespace.clone().into(), bytes(&entry["key"])), content);
        }
    }
    for (namespace, entries) in recorded["privateHashes"].as_object().unwrap() {
        for entry in entries.as_array().unwrap() {
            let hash = |name: &str| hex::decode(entry[name].as_str().unwrap()).unwrap();
            let content = (hash("valueHash"), metadata(entry), version(entry));
            state.insert((namespace.clone().into(), hash("keyHash")), content);
        }
    }
    state
}

fn metadata(entry: &Value) -> Vec<u8> {
    hex::decode(entry["metadata"].as_str().unwrap_or_default()).unwrap()
}

fn version(entry: &Value) -> (u64, u64) {
    let number = |index: usize| entry["version"][index].as_u64().unwrap();
    (number(0), number(1))
}

fn found_state(committer: &Committer) -> State {
    let entries = committer.state().database().entries();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let version = entry.value.version;
            (
                (entry.namespace.to_vec(), entry.key.to_vec()),
                (
                    entry.value.value.to_vec(),
                    entry.value.metadata.to_vec(),
                    (version.block_num, version.tx_num),
                ),
            )
        })
        .collect()
}

fn compare_states(found: &State, recorded: &State) {
    for (key, content) in recorded {
        let name = (
            String::from_utf8_lossy(&key.0),
            String::from_utf8_lossy(&key.1),
        );
        assert_eq!(found.get(key), Some(content), "{name:?}");
    }
    for key in found.keys() {
        let name = (
            String::from_utf8_lossy(&key.0),
            String::from_utf8_lossy(&key.1),
        );
        assert!(recorded.contains_key(key), "{name:?} should not be there");
    }
}

/// A committed block in the block files against a Go peer's. Signatures may be those of other ordering
/// nodes.
fn compare_files(committer: &Committer, chain: &str, number: u64) {
    let mut found = committer.blocks().block(number).unwrap().unwrap();
    let mut recorded = Block::decode(block_file(chain, "peer-blocks", number)).unwrap();
    for block in [&mut found, &mut recorded] {
        let slots = &mut block.metadata.as_mut().unwrap().metadata;
        slots[BlockMetadataIndex::Signatures as usize] = Bytes::new();
    }
    assert_eq!(found, recorded, "block {number}");
}

#[test]
fn raft_and_then_forged() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    let mut committer = replayed("raft", &ledgers);
    compare_states(&found_state(&committer), &recorded_state("raft"));
    for recorded in expected("forged") {
        let number = recorded["number"].as_u64().unwrap();
        let block = Block::decode(block_file("forged", "orderer-blocks", number)).unwrap();
        let prepared = committer.validator().prepare(&block);
        compare(&committer.commit(block, prepared).unwrap(), &recorded);
        compare_files(&committer, "forged", number);
    }
}

#[test]
fn bft() {
    let folder = tempfile::tempdir().unwrap();
    let committer = replayed("bft", &ledgers(folder.path()));
    compare_states(&found_state(&committer), &recorded_state("bft"));
    for number in 1..committer.blocks().height() {
        compare_files(&committer, "bft", number);
    }
}

#[test]
fn a_lost_state_is_made_from_the_block_files() {
    let folder = tempfile::tempdir().unwrap();
    {
        let ledgers = ledgers(folder.path());
        drop(replayed("raft", &ledgers));
    }
    let state = "ledgersData/selvedge/channels/vectors/state";
    fs::remove_dir_all(folder.path().join(state)).unwrap();
    let ledgers = ledgers(folder.path());
    let (blocks, state) = (
        ledgers.open_channel("vectors").unwrap(),
        ledgers.open_state("vectors").unwrap(),
    );
    let mut committer = Committer::open(blocks, state, Options::default()).unwrap();
    compare_states(&found_state(&committer), &recorded_state("raft"));
    let recorded = expected("forged").into_iter().next().unwrap();
    let number = recorded["number"].as_u64().unwrap();
    let block = Block::decode(block_file("forged", "orderer-blocks", number)).unwrap();
    let prepared = committer.validator().prepare(&block);
    compare(&committer.commit(block, prepared).unwrap(), &recorded);
}

#[test]
fn a_chain_with_a_gap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    let blocks = blocks("bft").enumerate().filter(|(number, _)| *number != 3);
    let blocks = blocks.map(|(_, block)| block);
    let mut last = None;
    let result = replay(blocks, &ledgers, &Options::default(), |block| {
        last = Some(block.number);
    });
    assert!(matches!(result, Err(ReplayError::Block { block: 3, .. })));
    assert_eq!(last, Some(2));
}

/// The last block of the chain claims that the genesis block is the latest config block.
#[test]
fn the_configuration_in_force_is_not_what_a_block_claims() {
    let recorded = json("odd/expected.json");
    let height = recorded["height"].as_u64().unwrap();
    let blocks = (0..height).map(|number| {
        let block = block_file("odd", "orderer-blocks", number);
        Ok::<_, Infallible>(block)
    });
    let folder = tempfile::tempdir().unwrap();
    let committer = replay(blocks, &ledgers(folder.path()), &Options::default(), |_| {}).unwrap();
    let sequence = committer.validator().config().sequence();
    assert!(sequence > 0);
    drop(committer);
    // With the state as it was left, then from the blocks alone.
    for is_lost in [false, true] {
        let ledgers = ledgers(folder.path());
        if is_lost {
            ledgers.remove_state("labchannel").unwrap();
        }
        let blocks = ledgers.open_channel("labchannel").unwrap();
        let state = ledgers.open_state("labchannel").unwrap();
        let committer = Committer::open(blocks, state, Options::default()).unwrap();
        let found = committer.validator().config().sequence();
        assert_eq!(found, sequence, "state lost: {is_lost}");
    }
}
