//! Private data of the recorded raft channel: what is missing for whom, and what is stored.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use selvedge_ledger::missing_data::{CollectionName, KeyHashes, MissingInBlocks, Priority};
use selvedge_ledger::private_data::{
    Expected, NewPrivateWriteSet, PrivateDataStore, PrivateWriteSet, Unreconciled, reconcile,
};
use selvedge_ledger::state::StateDatabase;
use selvedge_ledger::store::Table;
use selvedge_ledger::{BlockStore, LedgerManager};
use selvedge_peer::commit::replay::replay;
use selvedge_peer::commit::{CommitOptions, Committer};
use selvedge_protos::Message;
use selvedge_protos::common::Block;
use selvedge_protos::kvrwset::KvrwSet;
use selvedge_protos::rwset::TxPvtReadWriteSet;
use selvedge_protos::sha256;
use selvedge_validation::Options;
use selvedge_validation::mvcc::CommittedTransaction;
use serde_json::Value;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

fn blocks() -> Vec<Result<Bytes, std::io::Error>> {
    (0..170)
        .map(|number| {
            let path = testdata(&format!("raft/orderer-blocks/{number:06}.block"));
            fs::read(path).map(Bytes::from)
        })
        .collect()
}

fn ledgers(folder: &Path) -> LedgerManager {
    LedgerManager::open(folder, selvedge_ledger::Options::default()).unwrap()
}

fn of_organization(organization: &str) -> CommitOptions {
    CommitOptions {
        organization: Some(Arc::from(organization)),
        ..CommitOptions::default()
    }
}

/// The channel as a peer of an organisation keeps it that commits block after block.
fn committed_by(organization: &str, folder: &Path) -> Committer {
    let ledgers = ledgers(folder);
    let mut blocks = blocks().into_iter().map(|block| block.unwrap());
    let genesis = [Ok::<_, std::io::Error>(blocks.next().unwrap())];
    let channel = {
        let committer = replay(genesis, &ledgers, &Options::default(), |_| {}).unwrap();
        committer.blocks().channel().to_owned()
    };
    let store = ledgers.open_channel(&channel).unwrap();
    let state = ledgers.open_state(&channel).unwrap();
    let mut committer = Committer::open(store, state, of_organization(organization)).unwrap();
    for block in blocks {
        let block = Block::decode(block).unwrap();
        let prepared = committer.validator().prepare(&block);
        committer.commit(block, prepared).unwrap();
    }
    committer
}

/// The private write-sets that a Go peer of an organisation had just after committing their blocks.
fn recorded(organization: &str) -> Vec<PrivateWriteSet> {
    let mut found = Vec::new();
    for file in fs::read_dir(testdata(&format!("raft/pvtdata/{organization}"))).unwrap() {
        let path = file.unwrap().path();
        let block = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let content: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (transaction, data) in content.as_object().unwrap() {
            let data = hex::decode(data.as_str().unwrap()).unwrap();
            let data = TxPvtReadWriteSet::decode(&data[..]).unwrap();
            for part in data.ns_pvt_rwset {
                for collection in part.collection_pvt_rwset {
                    found.push(PrivateWriteSet {
                        block,
                        transaction: transaction.parse().unwrap(),
                        name: CollectionName {
                            chaincode: part.namespace.clone(),
                            collection: collection.collection_name,
                        },
                        rwset: collection.rwset,
                    });
                }
            }
        }
    }
    found.sort_by(|one, other| {
        let key = |set: &PrivateWriteSet| (set.block, set.transaction, set.name.clone());
        key(one).cmp(&key(other))
    });
    found
}

/// Block, transaction and collection.
type Entry = (u64, u64, CollectionName);

fn entries(missing: &MissingInBlocks) -> BTreeSet<Entry> {
    let mut entries = BTreeSet::new();
    for (block, collections) in missing {
        for (name, transactions) in collections {
            for transaction in transactions {
                entries.insert((*block, *transaction, name.clone()));
            }
        }
    }
    entries
}

fn missing(committer: &Committer) -> MissingInBlocks {
    let missing = committer.state().database().missing_data();
    missing.most_recent(Priority::High, u64::MAX, 1000).unwrap()
}

/// The hash of a private write-set in its transaction.
fn hash_in_block(blocks: &BlockStore, set: &PrivateWriteSet) -> Bytes {
    let envelope = blocks.envelope(set.block, set.transaction).unwrap();
    let transaction = CommittedTransaction::read(&envelope.unwrap()).unwrap();
    let part = transaction.rwset.namespace(&set.name.chaincode).unwrap();
    let mut collections = part.collections.iter();
    let found = collections.find(|found| found.collection == set.name.collection);
    found.unwrap().pvt_rwset_hash.clone()
}

#[test]
fn what_a_go_peer_of_the_organisation_had_is_missing_and_eligible() {
    for organization in ["Org1", "Org2"] {
        let folder = tempfile::tempdir().unwrap();
        let committer = committed_by(&format!("{organization}MSP"), folder.path());
        let eligible = entries(&missing(&committer));
        let recorded = recorded(organization);
        assert!(recorded.len() > 20);
        let accounts = committer.state().database().missing_data();
        assert_eq!(accounts.height().unwrap(), 170);
        for set in &recorded {
            let entry = (set.block, set.transaction, set.name.clone());
            // It lived for five blocks.
            let has_expired = set.name.collection == "shortlived";
            assert_ne!(eligible.contains(&entry), has_expired, "{entry:?}");
        }
        for (block, transaction, name) in &eligible {
            let others = [
                ("Org1", "_implicit_org_Org2MSP"),
                ("Org2", "_implicit_org_Org1MSP"),
            ];
            assert!(
                !others.contains(&(organization, &name.collection)),
                "{block} {transaction}"
            );
            assert!(organization == "Org1" || name.collection != "org1only");
        }
    }
}

#[test]
fn others_collections_are_ineligible() {
    let folder = tempfile::tempdir().unwrap();
    let committer = committed_by("Org2MSP", folder.path());
    let accounts = committer.state().database().missing_data();
    let private = recorded("Org1");
    let foreign = private.iter().filter(|set| {
        ["org1only", "_implicit_org_Org1MSP"].contains(&set.name.collection.as_str())
    });
    let mut count = 0;
    for set in foreign {
        count += 1;
        let found = accounts.is_missing(set.block, set.transaction, &set.name);
        assert_eq!(found.unwrap(), Some(false), "{set:?}");
    }
    assert!(count > 5);
}

#[test]
fn blocks_that_are_written_together_leave_what_they_do_one_by_one() {
    let (one_by_one, together) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = committed_by("Org1MSP", one_by_one.path());
    let ledgers = ledgers(together.path());
    let mut blocks = blocks().into_iter().map(|block| block.unwrap());
    let genesis = [Ok::<_, std::io::Error>(blocks.next().unwrap())];
    drop(replay(genesis, &ledgers, &Options::default(), |_| {}).unwrap());
    let channel = expected.blocks().channel();
    let store = ledgers.open_channel(channel).unwrap();
    let state = ledgers.open_state(channel).unwrap();
    let mut committer = Committer::open(store, state, of_organization("Org1MSP")).unwrap();
    // By the rules of the first configuration; blocks after another are prepared again.
    let blocks: Vec<_> = blocks.map(|block| Block::decode(block).unwrap()).collect();
    let prepared = committer.validator().prepare_all(&blocks);
    let mut height = 1;
    let committed = committer.commit_all(blocks.into_iter().zip(prepared), |block| {
        assert_eq!(block.number, height);
        height += 1;
    });
    committed.unwrap();
    assert_eq!(height, 170);
    for number in 0..height {
        let block = |committer: &Committer| committer.blocks().block(number).unwrap();
        assert_eq!(block(&committer), block(&expected), "{number}");
    }
    let (found, expected) = (committer.state().database(), expected.state().database());
    for table in Table::ALL {
        let rows =
            |state: &StateDatabase| -> Vec<_> { state.rows(table).map(Result::unwrap).collect() };
        assert_eq!(rows(found), rows(expected), "{}", table.name());
    }
}

#[test]
fn accounts_are_made_anew_from_the_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, channel) = {
        let committer = committed_by("Org1MSP", folder.path());
        (missing(&committer), committer.blocks().channel().to_owned())
    };
    // Without accounts, so the state is ahead of them, and with a state that lacks altogether.
    for options in [CommitOptions::default(), of_organization("Org1MSP")] {
        let ledgers = ledgers(folder.path());
        ledgers.remove_databases(&channel).unwrap();
        let open = |options| {
            let store = ledgers.open_channel(&channel).unwrap();
            let state = ledgers.open_state(&channel).unwrap();
            Committer::open(store, state, options).unwrap()
        };
        drop(open(options));
        assert_eq!(missing(&open(of_organization("Org1MSP"))), expected);
    }
}

#[test]
fn recorded_data_has_the_hashes_in_the_blocks_and_settles_the_accounts() {
    let folder = tempfile::tempdir().unwrap();
    let committer = committed_by("Org1MSP", folder.path());
    let private = PrivateDataStore::open(&folder.path().join("private")).unwrap();
    let new: Vec<_> = recorded("Org1")
        .into_iter()
        // A Go peer leaves out what was purged: of one write-set nothing is left.
        .filter(|writes| !writes.rwset.is_empty())
        .map(|writes| NewPrivateWriteSet {
            expected_hash: Some(hash_in_block(committer.blocks(), &writes)),
            writes,
            expires: None,
        })
        .collect();
    assert!(new.len() > 20);
    private.store(&new).unwrap();
    let mut come = MissingInBlocks::new();
    for new in &new {
        let writes = &new.writes;
        let stored = private.get(writes.block, writes.transaction, &writes.name);
        assert_eq!(stored.unwrap().as_ref(), Some(&writes.rwset));
        let block = come.entry(writes.block).or_default();
        let transactions = block.entry(writes.name.clone()).or_default();
        transactions.insert(writes.transaction);
    }
    let before = entries(&missing(&committer));
    let accounts = committer.state().database().missing_data();
    accounts.settle(&come, &MissingInBlocks::new()).unwrap();
    let left = entries(&missing(&committer));
    let expected: BTreeSet<_> = before.difference(&entries(&come)).cloned().collect();
    assert_eq!(left, expected);
    assert!(left.len() < before.len());

    let mut forged = new[0].clone();
    forged.writes.rwset = new[1].writes.rwset.clone();
    assert!(private.store(&[forged]).is_err());
}

/// The channel as a peer of an organisation has it that joined by the snapshot of its last block.
fn joined_by(organization: &str, folder: &Path) -> Committer {
    let ledgers = ledgers(folder);
    let snapshot = testdata("raft/snapshot");
    let store = ledgers
        .create_from_snapshot(&snapshot, |_, _| Ok(()))
        .unwrap();
    let state = ledgers.open_state(store.channel()).unwrap();
    Committer::open(store, state, of_organization(organization)).unwrap()
}

/// The private writes in a state, by the transaction that made them: hashes of keys and values.
fn private_writes(committer: &Committer) -> BTreeMap<Entry, KeyHashes> {
    let mut found: BTreeMap<Entry, KeyHashes> = BTreeMap::new();
    for entry in committer.state().database().entries() {
        let entry = entry.unwrap();
        let namespace = std::str::from_utf8(&entry.namespace).unwrap();
        let Some((chaincode, collection)) = namespace.split_once("$$h") else {
            continue;
        };
        let name = CollectionName {
            chaincode: chaincode.to_owned(),
            collection: collection.to_owned(),
        };
        let version = entry.value.version;
        let writes = found.entry((version.block_num, version.tx_num, name));
        writes.or_default().insert(entry.key, entry.value.value);
    }
    found
}

#[test]
fn what_came_with_a_snapshot_is_missing_as_if_the_blocks_had_come() {
    for organization in ["Org1MSP", "Org2MSP"] {
        let (blocks, snapshot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let committed = committed_by(organization, blocks.path());
        let joined = joined_by(organization, snapshot.path());
        let writes = private_writes(&joined);
        assert_eq!(writes, private_writes(&committed));
        assert!(writes.len() > 20);
        let of_blocks = committed.state().database().missing_data();
        assert!(!of_blocks.convert(usize::MAX).unwrap());
        let of_snapshot = joined.state().database().missing_data();
        assert_eq!(of_snapshot.height().unwrap(), 170);
        let mut eligible = BTreeSet::new();
        for ((block, transaction, name), hashes) in &writes {
            let missing = of_snapshot.is_missing(*block, *transaction, name).unwrap();
            let as_of_blocks = of_blocks.is_missing(*block, *transaction, name).unwrap();
            assert!(
                missing.is_some() && missing == as_of_blocks,
                "{block} {transaction} {name:?}"
            );
            if missing == Some(true) {
                eligible.insert((*block, *transaction, name.clone()));
            }
            let boot = of_snapshot.boot_hashes(*block, *transaction, name).unwrap();
            assert_eq!(boot, *hashes);
        }
        assert_eq!(entries(&missing(&joined)), eligible);
        assert!(eligible.len() > 10 && eligible.len() < writes.len());
    }
}

#[test]
fn recorded_data_is_reconciled_with_what_came_with_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let joined = joined_by("Org1MSP", folder.path());
    let accounts = joined.state().database().missing_data();
    let private = PrivateDataStore::open(&folder.path().join("private")).unwrap();
    let mut come = MissingInBlocks::new();
    let mut trimmed = 0;
    for sent in recorded("Org1") {
        let (block, transaction) = (sent.block, sent.transaction);
        let writes = accounts
            .boot_hashes(block, transaction, &sent.name)
            .unwrap();
        let expected = Expected {
            writes,
            whole: None,
        };
        let taken = reconcile(&sent.rwset, &expected, |key| {
            Ok(accounts.purge_of(&sent.name, key)?.is_some())
        });
        if expected.writes.is_empty() {
            // Written over since.
            assert!(matches!(taken, Err(Unreconciled::NotExpected)));
            continue;
        }
        let rwset = taken.unwrap();
        trimmed += usize::from(rwset != sent.rwset);
        let of_block = come.entry(block).or_default();
        of_block
            .entry(sent.name.clone())
            .or_default()
            .insert(transaction);
        private
            .store(&[NewPrivateWriteSet {
                writes: PrivateWriteSet { rwset, ..sent },
                expected_hash: None,
                expires: None,
            }])
            .unwrap();
    }
    assert!(trimmed > 0);
    accounts.settle(&come, &MissingInBlocks::new()).unwrap();
    // Of the recorded channel nobody ever had the data of block 128.
    let left = missing(&joined);
    assert_eq!(left.keys().collect::<Vec<_>>(), [&128]);
    assert_eq!(entries(&left).len(), 2);
    for (block, transaction, name) in entries(&come) {
        assert!(
            accounts
                .boot_hashes(block, transaction, &name)
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn purges_in_the_blocks_remove_what_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let committer = committed_by("Org1MSP", folder.path());
    let accounts = committer.state().database().missing_data();
    let purges = accounts.pending_purges(1000).unwrap();
    assert!(!purges.is_empty());
    for purge in &purges {
        let found = accounts
            .purge_of(&purge.name, &purge.key_hash)
            .unwrap()
            .unwrap();
        assert!(found.covers(purge.block, purge.transaction));
    }
    // Made anew from the verdicts in the blocks they are the same.
    let (store, channel) = (
        committer.blocks().clone(),
        committer.blocks().channel().to_owned(),
    );
    drop((committer, store));
    let ledgers = ledgers(folder.path());
    ledgers.remove_state(&channel).unwrap();
    let store = ledgers.open_channel(&channel).unwrap();
    let state = ledgers.open_state(&channel).unwrap();
    let committer = Committer::open(store, state, of_organization("Org1MSP")).unwrap();
    let accounts = committer.state().database().missing_data();
    assert_eq!(accounts.pending_purges(1000).unwrap(), purges);

    let private = PrivateDataStore::open(&folder.path().join("private")).unwrap();
    let key = purges[0].key_hash.clone();
    let is_purged = |rwset: &Bytes| {
        let rwset = KvrwSet::decode(rwset.clone()).unwrap();
        let mut keys = rwset
            .writes
            .iter()
            .map(|write| sha256(write.key.as_bytes()));
        !keys.any(|hash| hash[..] == key)
    };
    for sent in recorded("Org1") {
        private
            .store(&[NewPrivateWriteSet {
                writes: sent,
                expected_hash: None,
                expires: None,
            }])
            .unwrap();
    }
    private.purge(&purges).unwrap();
    accounts.purges_done(&purges).unwrap();
    assert!(accounts.pending_purges(1).unwrap().is_empty());
    for sent in recorded("Org1") {
        let stored = private
            .get(sent.block, sent.transaction, &sent.name)
            .unwrap()
            .unwrap();
        let of_purge =
            sent.name == purges[0].name && purges[0].covers(sent.block, sent.transaction);
        assert!(!of_purge || is_purged(&stored));
    }
}
