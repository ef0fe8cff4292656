//! Every target returns from random bytes and from damaged recordings.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use selvedge_fuzz::TARGETS;
use selvedge_protos::Message;
use selvedge_protos::common::{Block, Envelope, Payload};
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeActionPayload, ProposalResponsePayload, Transaction,
};

/// Recordings of every kind that a target takes.
fn recordings() -> Vec<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let mut recordings = vec![
        b"AND('Org1MSP.peer', OutOf(1, 'Org2MSP.member', OR('Org3MSP.admin')))".to_vec(),
        b"info:gossip=debug:msp,policies=warn".to_vec(),
        b"peer:\n  id: p\n  gossip:\n    bootstrap: [a:1, b:2]\n    pullInterval: 4s\n".to_vec(),
    ];
    for folder in ["gossip/messages", "forged/refused", "forged/orderer-blocks"] {
        let entries = std::fs::read_dir(root.join(folder)).expect(folder);
        let mut files: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
        files.sort();
        let step = files.len().div_ceil(40).max(1);
        recordings.extend(
            files
                .iter()
                .step_by(step)
                .map(|file| std::fs::read(file).expect("file")),
        );
    }
    let transactions = transactions(&root.join("forged/orderer-blocks"));
    recordings.extend(transactions.iter().filter_map(|bytes| results(bytes)));
    recordings.extend(transactions);
    let collections = "raft/snapshot/confighistory.data";
    let file = std::fs::read(root.join(collections)).expect(collections);
    // Behind the key and the length of the package.
    recordings.push(file[34..].to_vec());
    for name in [
        "txids.data",
        "private_state_hashes.data",
        "public_state.metadata",
    ] {
        let file = std::fs::read(root.join("raft/snapshot").join(name)).expect(name);
        // Behind the format.
        recordings.push(file[1..].to_vec());
    }
    let go_peer = "../crates/ledger/testdata/go-peer/blockfile_000000";
    let file = std::fs::read(root.join(go_peer)).expect(go_peer);
    // The first of its blocks, and a part of the next.
    recordings.push(file[..file.len().min(60_000)].to_vec());
    recordings.retain(|bytes| bytes.len() < 64 * 1024);
    recordings
}

/// The transactions in recorded blocks.
fn transactions(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("folder");
    let files = entries.map(|entry| std::fs::read(entry.expect("entry").path()).expect("file"));
    let blocks = files.map(|bytes| Block::decode(&bytes[..]).expect("block"));
    let data = blocks.flat_map(|block| block.data.unwrap_or_default().data);
    data.map(|transaction| transaction.to_vec()).collect()
}

/// What a transaction read and wrote.
fn results(envelope: &[u8]) -> Option<Vec<u8>> {
    let payload = Envelope::decode(envelope).ok()?.payload;
    let data = Payload::decode(payload).ok()?.data;
    let action = Transaction::decode(data).ok()?.actions.pop()?;
    let action = ChaincodeActionPayload::decode(action.payload)
        .ok()?
        .action?;
    let response = ProposalResponsePayload::decode(action.proposal_response_payload).ok()?;
    let action = ChaincodeAction::decode(response.extension).ok()?;
    Some(action.results.to_vec())
}

fn run_all(bytes: &[u8]) {
    for (_, target) in TARGETS {
        target(bytes);
    }
}

#[test]
fn recordings_pass_through_every_target() {
    let recordings = recordings();
    assert!(
        recordings.len() > 40,
        "only {} recordings",
        recordings.len()
    );
    recordings.iter().for_each(|bytes| run_all(bytes));
    run_all(selvedge_fuzz::GENESIS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..400)) {
        run_all(&bytes);
    }

    /// Scripts for the gossip core, which need more bytes than a message.
    #[test]
    fn random_scripts(bytes in vec(any::<u8>(), 0..3000)) {
        selvedge_fuzz::gossip_core(&bytes);
    }

    #[test]
    fn damaged_recordings(
        original in select(recordings()),
        places in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = original;
        for (place, value) in places {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        run_all(&bytes);
    }
}
