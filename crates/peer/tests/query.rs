//! Histories, collections and queries on recorded chains.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use selvedge_ledger::LedgerManager;
use selvedge_ledger::history::Place;
use selvedge_peer::commit::replay::replay;
use selvedge_peer::commit::{CommitOptions, Committer};
use selvedge_peer::query::{ChannelReader, Query, QueryError};
use selvedge_protos::Message;
use selvedge_protos::block::metadata_slot;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_validation::Options;
use selvedge_validation::mvcc::CommittedTransaction;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

fn blocks(chain: &str) -> Vec<Result<Bytes, std::io::Error>> {
    let folder = testdata(&format!("{chain}/orderer-blocks"));
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| fs::read(file).map(Bytes::from))
        .collect()
}

/// A recorded chain and what follows it, committed.
fn committed(folder: &Path, chains: &[&str]) -> Committer {
    let ledgers = LedgerManager::open(folder, selvedge_ledger::Options::default()).unwrap();
    let blocks: Vec<_> = chains.iter().flat_map(|chain| blocks(chain)).collect();
    replay(blocks, &ledgers, &Options::default(), |_| {}).unwrap()
}

fn reader(committer: &Committer) -> ChannelReader {
    ChannelReader::new(committer.blocks().clone(), committer.state().clone())
}

/// What the block files say of who wrote which key, by chaincode and key, the oldest first.
type Writers = BTreeMap<(String, String), Vec<Place>>;

fn writers(committer: &Committer) -> Writers {
    let mut writers = Writers::new();
    for block in 0..committer.blocks().height() {
        let stored: Block = committer.blocks().block(block).unwrap().unwrap();
        let codes = metadata_slot(&stored, BlockMetadataIndex::TransactionsFilter).to_vec();
        for (transaction, envelope) in (0..).zip(stored.data.unwrap().data) {
            let place = Place { block, transaction };
            if codes[usize::try_from(transaction).unwrap()] != 0 {
                continue;
            }
            let transaction = CommittedTransaction::read(&envelope).unwrap();
            for part in &transaction.rwset.namespaces {
                for write in part.writes.iter().filter(|_| !transaction.is_config) {
                    let key = (part.namespace.clone(), write.key.clone());
                    let places = writers.entry(key).or_default();
                    if places.last() != Some(&place) {
                        places.push(place);
                    }
                }
            }
        }
    }
    writers
}

fn history(query: &Query, chaincode: &str, key: &str) -> Vec<(String, Vec<u8>, bool)> {
    let history = query.history(chaincode, key).unwrap().map(Result::unwrap);
    history
        .map(|change| (change.tx_id, change.value.to_vec(), change.is_delete))
        .collect()
}

#[test]
fn the_history_lists_every_valid_write() {
    for chains in [&["raft", "forged"][..], &["bft"]] {
        let folder = tempfile::tempdir().unwrap();
        let committer = committed(folder.path(), chains);
        let query = reader(&committer).query().unwrap();
        assert_eq!(query.height(), committer.blocks().height());
        let writers = writers(&committer);
        for ((chaincode, key), places) in &writers {
            let found = query.view().writers(chaincode, key).map(Result::unwrap);
            assert!(
                found.eq(places.iter().copied().rev()),
                "{chaincode} {key:?}"
            );
            assert_eq!(history(&query, chaincode, key).len(), places.len());
        }
        let rows: usize = writers.values().map(Vec::len).sum();
        assert_eq!(query.view().history().count().unwrap(), rows as u64);
    }
}

/// A chaincode of the recorded network asked its Go peer for the history of a key, and put the answer
/// into its response.
#[test]
fn a_history_is_as_a_go_peer_gave_it() {
    let folder = tempfile::tempdir().unwrap();
    let committer = committed(folder.path(), &["raft"]);
    let asked = committer.blocks().block_bytes(30).unwrap().unwrap();
    let writers = writers(&committer);
    let query = reader(&committer).query().unwrap();
    let (mut key, mut answer) = (None, String::new());
    for ((chaincode, name), places) in &writers {
        if chaincode == "assets"
            && places[0]
                == (Place {
                    block: 7,
                    transaction: 0,
                })
        {
            let later = places.iter().filter(|place| place.block >= 30).count();
            let entries: Vec<_> = history(&query, chaincode, name)
                .into_iter()
                .skip(later)
                .map(|(tx, value, is_delete)| {
                    let value = String::from_utf8(value).unwrap();
                    format!(r#"{{"tx":"{tx}","v":"{value}","del":{is_delete}}}"#)
                })
                .collect();
            answer = format!("[{}]", entries.join(","));
            key = Some(name);
        }
    }
    assert!(key.is_some() && answer.len() > 150, "{answer}");
    let position = asked
        .windows(answer.len())
        .position(|part| part == answer.as_bytes());
    assert!(position.is_some(), "{answer}");
}

#[test]
fn a_history_that_was_switched_off_is_brought_level() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let channel = "bftvectors";
    let expected = {
        let committer = committed(data, &["bft"]);
        writers(&committer)
    };
    let open = |history: bool, ledgers: &LedgerManager| {
        let options = CommitOptions {
            history,
            ..CommitOptions::default()
        };
        let blocks = ledgers.open_channel(channel).unwrap();
        Committer::open(blocks, ledgers.open_state(channel).unwrap(), options).unwrap()
    };
    fs::remove_dir_all(data.join("ledgersData/selvedge/channels").join(channel)).unwrap();
    {
        let ledgers = LedgerManager::open(data, selvedge_ledger::Options::default()).unwrap();
        let committer = open(false, &ledgers);
        let query = reader(&committer).query().unwrap();
        assert_eq!(query.height(), 19);
        let refused = query.history("plain", "k").map(|_| ());
        assert!(matches!(
            refused,
            Err(QueryError::NoHistory {
                height: 0,
                blocks: 19,
                ..
            })
        ));
    }
    let ledgers = LedgerManager::open(data, selvedge_ledger::Options::default()).unwrap();
    let committer = open(true, &ledgers);
    let query = reader(&committer).query().unwrap();
    for ((chaincode, key), places) in &expected {
        assert_eq!(history(&query, chaincode, key).len(), places.len());
    }
}

#[test]
fn collections_are_recorded_as_in_a_go_peers_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let committer = committed(folder.path(), &["raft"]);
    let collections = committer.state().database().config_history();
    // Fabric's snapshot file: a format byte, then keys and values, each behind its length.
    let recorded = fs::read(testdata("raft/snapshot/confighistory.data")).unwrap();
    let mut expected = vec![1];
    for row in collections.rows() {
        let row = row.unwrap();
        for part in [&row.key, &row.package] {
            add_delimited(&mut expected, part);
        }
    }
    assert_eq!(hex::encode(&expected), hex::encode(&recorded));
    assert_eq!(collections.most_recent_below(6, "vault").unwrap(), None);
    let found = collections.most_recent_below(7, "vault").unwrap().unwrap();
    assert_eq!(found.block, 6);
    assert_eq!(collections.most_recent_below(100, "assets").unwrap(), None);

    let folder = tempfile::tempdir().unwrap();
    let committer = committed(folder.path(), &["bft"]);
    assert_eq!(
        committer.state().database().config_history().rows().count(),
        0
    );
}

/// Adds bytes behind their length, as Fabric's snapshot files have them.
fn add_delimited(file: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        file.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    file.push(length as u8);
    file.extend_from_slice(bytes);
}

#[test]
fn queries_keep_to_their_block_while_others_are_committed() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = LedgerManager::open(folder.path(), selvedge_ledger::Options::default()).unwrap();
    let (first, second) = (blocks("raft"), blocks("forged"));
    let committer = replay(first, &ledgers, &Options::default(), |_| {}).unwrap();
    let reader = reader(&committer);
    let query = reader.query().unwrap();
    let before: Vec<_> = query
        .view()
        .range(
            selvedge_ledger::state::Namespace::public("assets"),
            b"",
            None,
        )
        .map(Result::unwrap)
        .collect();
    let mut committer = committer;
    for bytes in second {
        let block = Block::decode(bytes.unwrap()).unwrap();
        let prepared = committer.validator().prepare(&block);
        committer.commit(block, prepared).unwrap();
    }
    let after: Vec<_> = query
        .view()
        .range(
            selvedge_ledger::state::Namespace::public("assets"),
            b"",
            None,
        )
        .map(Result::unwrap)
        .collect();
    assert_eq!(before, after);
    assert_eq!(
        (query.height(), reader.query().unwrap().height()),
        (170, 175)
    );
    let page = query.range("assets", "", "", 3).unwrap();
    assert_eq!(page.entries, before[..3]);
    let next = page.bookmark.unwrap();
    let next = query
        .range("assets", std::str::from_utf8(&next).unwrap(), "", 3)
        .unwrap();
    assert_eq!(next.entries, before[3..6]);
    let (key, value) = &before[0];
    let key = std::str::from_utf8(key).unwrap();
    assert_eq!(
        query.value("assets", key).unwrap().as_ref(),
        Some(&value.value)
    );
}
