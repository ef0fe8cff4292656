//! Private data of the recorded raft channel: what is missing for whom, and what is stored.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use selvedge_ledger::missing_data::{CollectionName, MissingInBlocks, Priority};
use selvedge_ledger::private_data::{NewPrivateWriteSet, PrivateDataStore, PrivateWriteSet};
use selvedge_ledger::{BlockStore, LedgerManager};
use selvedge_peer::commit::replay::replay;
use selvedge_peer::commit::{CommitOptions, Committer};
use selvedge_protos::Message;
use selvedge_protos::common::Block;
use selvedge_protos::rwset::TxPvtReadWriteSet;
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
            expected_hash: hash_in_block(committer.blocks(), &writes),
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
