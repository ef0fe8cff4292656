//! Blocks at the limits, made with recorded keys and committed on top of a recorded chain.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[expect(dead_code, reason = "shared with the tests of validation")]
#[path = "../../validation/tests/chains/draft.rs"]
mod draft;

mod support {
    use std::path::{Path, PathBuf};

    pub fn testdata(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../testdata")
            .join(path)
    }
}

use std::fs;
use std::path::Path;

use bytes::Bytes;
use selvedge_ledger::LedgerManager;
use selvedge_ledger::state::Namespace;
use selvedge_peer::commit::replay::replay;
use selvedge_peer::commit::{CommittedBlock, Committer};
use selvedge_peer::query::ChannelReader;
use selvedge_protos::Message;
use selvedge_protos::block::data_hash;
use selvedge_protos::common::Block;
use selvedge_protos::kvrwset::{KvRead, KvWrite, KvrwSet};
use selvedge_protos::protos::TxValidationCode::{self, *};
use selvedge_protos::rwset::NsReadWriteSet;
use selvedge_validation::Options;

use draft::{Draft, Members, block, results};
use support::testdata;

/// Here both organisations must endorse for the chaincode `assets`.
const HEIGHT: u64 = 110;
const MIB: usize = 1 << 20;

fn ledgers(folder: &Path) -> LedgerManager {
    LedgerManager::open(folder, selvedge_ledger::Options::default()).unwrap()
}

fn committer(ledgers: &LedgerManager) -> Committer {
    let blocks = (0..HEIGHT).map(|number| {
        let path = testdata(&format!("raft/orderer-blocks/{number:06}.block"));
        fs::read(path).map(Bytes::from)
    });
    let blocks: Vec<_> = blocks.collect();
    replay(blocks, ledgers, &Options::default(), |_| {}).unwrap()
}

/// Commits transactions as the next block.
fn commit(committer: &mut Committer, transactions: Vec<Bytes>) -> CommittedBlock {
    let info = committer.blocks().info();
    let mut block: Block = block(info.height, transactions);
    let hash = data_hash(block.data.as_ref().unwrap());
    let header = block.header.as_mut().unwrap();
    header.previous_hash = info.current_block_hash;
    header.data_hash = Bytes::copy_from_slice(&hash);
    let prepared = committer.validator().prepare(&block);
    committer.commit(block, prepared).unwrap()
}

fn codes(committed: &CommittedBlock) -> Vec<TxValidationCode> {
    let transactions = committed.transactions.iter();
    transactions.map(|transaction| transaction.code).collect()
}

fn writes(writes: impl IntoIterator<Item = (String, Bytes)>, reads: Vec<KvRead>) -> NsReadWriteSet {
    let writes = writes.into_iter().map(|(key, value)| KvWrite {
        key,
        is_delete: false,
        value,
    });
    let rwset = KvrwSet {
        reads,
        writes: writes.collect(),
        ..KvrwSet::default()
    };
    NsReadWriteSet {
        namespace: "assets".to_owned(),
        rwset: rwset.encode_to_vec().into(),
        collection_hashed_rwset: Vec::new(),
    }
}

#[test]
fn a_block_of_100_mib() {
    const TRANSACTIONS: u8 = 50;
    let folder = tempfile::tempdir().unwrap();
    let members = Members::read();
    let (expected, channel) = {
        let ledgers = ledgers(folder.path());
        let mut committer = committer(&ledgers);
        let transactions = (0..TRANSACTIONS).map(|number| {
            let value = Bytes::from(vec![number + 1; 2 * MIB]);
            let part = writes([(format!("large {number}"), value)], Vec::new());
            Draft::new(&members, "assets", results([part])).build()
        });
        let committed = commit(&mut committer, transactions.collect());
        assert_eq!(codes(&committed), [Valid; TRANSACTIONS as usize]);
        let stored = committer.blocks().block_bytes(HEIGHT).unwrap().unwrap();
        assert!(stored.len() > 100 * MIB);
        (
            committed.commit_hash,
            committer.blocks().channel().to_owned(),
        )
    };
    // Read again from the files, and applied again to a new state.
    let ledgers = ledgers(folder.path());
    ledgers.remove_databases(&channel).unwrap();
    let blocks = ledgers.open_channel(&channel).unwrap();
    let state = ledgers.open_state(&channel).unwrap();
    let mut committer = Committer::open(blocks, state, Options::default()).unwrap();
    let reader = ChannelReader::new(committer.blocks().clone(), committer.state().clone());
    let query = reader.query().unwrap();
    for number in 0..TRANSACTIONS {
        let value = query.value("assets", &format!("large {number}")).unwrap();
        assert_eq!(value.unwrap(), vec![number + 1; 2 * MIB]);
    }
    let next = commit(
        &mut committer,
        vec![Draft::put(&members, "assets", "k").build()],
    );
    assert_eq!(codes(&next), [Valid]);
    assert!(expected.is_some() && next.commit_hash != expected);
}

#[test]
fn a_transaction_with_10_000_writes_and_one_that_reads_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let members = Members::read();
    let ledgers = ledgers(folder.path());
    let mut committer = committer(&ledgers);
    let keys = || (0..10_000).map(|number| format!("many {number:05}"));
    let write = |value: &'static str, reads| {
        let part = writes(
            keys().map(|key| (key, Bytes::from_static(value.as_bytes()))),
            reads,
        );
        Draft::new(&members, "assets", results([part])).build()
    };
    let absent = || keys().map(|key| KvRead { key, version: None }).collect();
    let first = commit(
        &mut committer,
        vec![write("one", absent()), write("two", absent())],
    );
    assert_eq!(codes(&first), [Valid, MvccReadConflict]);
    let later = commit(
        &mut committer,
        vec![write("three", absent()), write("four", Vec::new())],
    );
    assert_eq!(codes(&later), [MvccReadConflict, Valid]);

    let reader = ChannelReader::new(committer.blocks().clone(), committer.state().clone());
    let query = reader.query().unwrap();
    let (from, to) = ("many ", "many!");
    let page = query.range("assets", from, to, 20_000).unwrap();
    assert_eq!((page.entries.len(), page.bookmark), (10_000, None));
    assert!(
        page.entries
            .iter()
            .all(|(_, found)| found.value[..] == b"four"[..])
    );
    let history = query.history("assets", "many 09999").unwrap();
    let values: Vec<_> = history.map(|change| change.unwrap().value).collect();
    assert_eq!(values, [&b"four"[..], b"one"]);
}

#[test]
fn a_block_of_junk_is_stored_with_its_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    let mut committer = committer(&ledgers);
    let before = committer.state().database().entries().count();
    let junk = [
        vec![0; MIB].into(),
        Bytes::from_static(&[0xff; 100]),
        Bytes::from_static(&[0x0a, 5, 1]),
    ];
    let committed = commit(&mut committer, junk.to_vec());
    assert_eq!(codes(&committed).len(), 3);
    assert!(
        !codes(&committed).contains(&Valid),
        "{:?}",
        codes(&committed)
    );
    assert_eq!(committer.state().database().entries().count(), before);
    let envelope = committer.blocks().envelope(HEIGHT, 1).unwrap().unwrap();
    assert_eq!(envelope, junk[1]);
}

#[test]
fn a_block_without_a_verdict_changes_nothing_and_the_next_one_can_follow() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    let mut committer = committer(&ledgers);
    // A payload without a header ends a Go peer.
    let refused = block(HEIGHT, [Bytes::new()]);
    let prepared = committer.validator().prepare(&refused);
    let error = committer.commit(refused, prepared).unwrap_err();
    assert!(error.to_string().contains("transaction 0"), "{error}");
    assert_eq!(committer.blocks().height(), HEIGHT);
    assert_eq!(
        committer.state().database().savepoint().unwrap(),
        Some(HEIGHT - 1)
    );
    let members = Members::read();
    let draft = Draft::put(&members, "assets", "after").build();
    assert_eq!(codes(&commit(&mut committer, vec![draft])), [Valid]);
}

#[test]
fn a_key_of_100_000_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    let mut committer = committer(&ledgers);
    let long = "k".repeat(100_000);
    let members = Members::read();
    let part = writes([(long.clone(), Bytes::from_static(b"v"))], Vec::new());
    let draft = Draft::new(&members, "assets", results([part])).build();
    assert_eq!(codes(&commit(&mut committer, vec![draft])), [Valid]);
    let state = committer.state().database();
    let found = state
        .get(Namespace::public("assets"), long.as_bytes())
        .unwrap();
    assert_eq!(found.unwrap().value[..], b"v"[..]);
}
