//! Snapshots of recorded chains: file by file those of a Go peer, made while blocks are committed, and
//! ledgers that begin with one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_ledger::snapshot::{
    ADDITIONAL_METADATA, ChannelSnapshots, SIGNABLE_METADATA, SnapshotError,
};
use selvedge_ledger::state::StateEntry;
use selvedge_ledger::{BlockStore, LedgerError, LedgerManager};
use selvedge_peer::commit::replay::replay;
use selvedge_peer::commit::{CommitError, CommittedBlock, Committer, fill_state};
use selvedge_protos::Message;
use selvedge_protos::common::Block;
use selvedge_validation::Options;
use serde_json::Value;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

fn expected(chain: &str) -> Vec<Value> {
    let text = fs::read_to_string(testdata(&format!("{chain}/expected.json"))).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    recorded["blocks"].as_array().unwrap().clone()
}

fn block(chain: &str, number: u64) -> Bytes {
    let path = testdata(&format!("{chain}/orderer-blocks/{number:06}.block"));
    fs::read(path).unwrap().into()
}

fn ledgers(folder: &Path) -> LedgerManager {
    LedgerManager::open(folder, selvedge_ledger::Options::default()).unwrap()
}

/// Commits the first blocks of a chain into a new ledger.
fn replayed(chain: &'static str, blocks: u64, ledgers: &LedgerManager) -> Committer {
    let blocks = (0..blocks).map(|number| Ok::<_, Infallible>(block(chain, number)));
    replay(blocks, ledgers, &Options::default(), |_| {}).unwrap()
}

fn snapshots(ledgers: &LedgerManager, committer: &Committer) -> ChannelSnapshots {
    let state = committer.state().database();
    ledgers.open_snapshots(committer.blocks(), state).unwrap()
}

fn commit(committer: &mut Committer, bytes: Bytes) -> CommittedBlock {
    let block = Block::decode(bytes).unwrap();
    let prepared = committer.validator().prepare(&block);
    committer.commit(block, prepared).unwrap()
}

/// Waits until no request is left.
fn wait(snapshots: &ChannelSnapshots) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !snapshots.pending().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", snapshots.pending());
        std::thread::yield_now();
    }
}

fn completed(data: &Path, channel: &str, block: u64) -> PathBuf {
    let completed = data.join("snapshots/completed");
    completed.join(channel).join(block.to_string())
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files.collect()
}

fn assert_same(found: &Path, expected: &Path) {
    let (found, expected) = (files(found), files(expected));
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    for (name, content) in &expected {
        let same = &found[name] == content;
        assert!(same, "{name} differs");
    }
}

#[test]
fn snapshots_are_those_of_a_go_peer() {
    for (chain, channel, height) in [("raft", "vectors", 170), ("bft", "bftvectors", 19)] {
        let folder = tempfile::tempdir().unwrap();
        let ledgers = ledgers(folder.path());
        let committer = replayed(chain, height, &ledgers);
        let snapshots = snapshots(&ledgers, &committer);
        assert_eq!(snapshots.submit(0).unwrap(), height - 1);
        wait(&snapshots);
        let made = completed(folder.path(), channel, height - 1);
        assert_same(&made, &testdata(&format!("{chain}/snapshot")));

        let again = snapshots.submit(height - 1).unwrap_err().to_string();
        let expected = format!("snapshot already generated for block number {}", height - 1);
        assert_eq!(again, expected);
        let temp = fs::read_dir(folder.path().join("snapshots/temp")).unwrap();
        assert_eq!(temp.count(), 0);
    }
}

/// Metadata of keys, expired private keys and the ids of invalid transactions do not show in commit hashes.
#[test]
fn after_odd_transactions_the_state_is_that_of_a_go_peer() {
    let text = fs::read_to_string(testdata("odd/expected.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    let height = recorded["height"].as_u64().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    let committer = replayed("odd", height, &ledgers);
    let snapshots = snapshots(&ledgers, &committer);
    assert_eq!(snapshots.submit(0).unwrap(), height - 1);
    wait(&snapshots);
    let made = files(&completed(folder.path(), "labchannel", height - 1));
    for (name, expected) in recorded["snapshotFiles"].as_object().unwrap() {
        let hash = selvedge_protos::sha256(&made[name]);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, expected.as_str().unwrap(), "{name}");
    }
}

#[test]
fn a_snapshot_is_of_its_block_whatever_is_committed_meanwhile() {
    let (first, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // As of block 20 and 60, when nothing came after.
    for height in [21, 61] {
        let folder = tempfile::tempdir_in(first.path()).unwrap();
        let ledgers = ledgers(folder.path());
        let committer = replayed("raft", height, &ledgers);
        let snapshots = snapshots(&ledgers, &committer);
        snapshots.submit(0).unwrap();
        wait(&snapshots);
        let made = completed(folder.path(), "vectors", height - 1);
        fs::rename(made, first.path().join(height.to_string())).unwrap();
    }

    let ledgers = ledgers(ours.path());
    let committer = replayed("raft", 11, &ledgers);
    let (blocks, state) = (committer.blocks().clone(), committer.state().clone());
    let snapshots = Arc::new(snapshots(&ledgers, &committer));
    drop(committer);
    let state = state.database().clone();
    let told = Some(snapshots.clone());
    let mut committer = Committer::open_with(blocks, state, told, Options::default()).unwrap();
    for block in [60, 20, 90] {
        assert_eq!(snapshots.submit(block).unwrap(), block);
    }
    let refused = |result: Result<u64, _>| result.map_err(|error| format!("{error}")).unwrap_err();
    assert_eq!(
        refused(snapshots.submit(9)),
        "requested snapshot for block number 9 cannot be less than the last committed block number 10"
    );
    assert_eq!(
        refused(snapshots.submit(20)),
        "duplicate snapshot request for block number 20"
    );
    assert_eq!(snapshots.pending(), [20, 60, 90]);
    for number in 11..80 {
        commit(&mut committer, block("raft", number));
    }
    snapshots.cancel(90).unwrap();
    assert!(snapshots.cancel(90).is_err());
    wait(&snapshots);
    for height in [21, 61] {
        let made = completed(ours.path(), "vectors", height - 1);
        assert_same(&made, &first.path().join(height.to_string()));
    }
    assert!(!completed(ours.path(), "vectors", 90).exists());
}

#[test]
fn requests_are_made_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    let committer = replayed("bft", 10, &ledgers);
    let first = snapshots(&ledgers, &committer);
    for block in [12, 14, 30] {
        first.submit(block).unwrap();
    }
    drop(first);
    // Nobody was told of blocks 10 to 12, as if the peer had ended just before.
    let mut committer = committer;
    for number in 10..=12 {
        commit(&mut committer, block("bft", number));
    }
    let second = snapshots(&ledgers, &committer);
    while second.pending() != [14, 30] {
        std::thread::yield_now();
    }
    assert!(completed(folder.path(), "bftvectors", 12).exists());
    drop(second);
    for number in 13..=15 {
        commit(&mut committer, block("bft", number));
    }
    // The state as of block 14 is gone, so it is made once more.
    let third = snapshots(&ledgers, &committer);
    assert_eq!(third.pending(), [14, 30]);
    let blocks = committer.blocks().clone();
    third.remake_lost(move |state, block, stopped| {
        let filled = fill_state(&blocks, state, block, stopped);
        filled.map_err(|error| error.to_string())
    });
    while third.pending() != [30] {
        std::thread::yield_now();
    }
    let expected = tempfile::tempdir().unwrap();
    let ledgers = self::ledgers(expected.path());
    let committer = replayed("bft", 15, &ledgers);
    let of_others = snapshots(&ledgers, &committer);
    of_others.submit(14).unwrap();
    wait(&of_others);
    assert_same(
        &completed(folder.path(), "bftvectors", 14),
        &completed(expected.path(), "bftvectors", 14),
    );
    let temp = fs::read_dir(folder.path().join("snapshots/temp")).unwrap();
    assert_eq!(temp.count(), 0);
}

#[test]
fn an_interrupted_snapshot_that_cannot_be_made_again_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    let mut committer = replayed("bft", 10, &ledgers);
    let first = snapshots(&ledgers, &committer);
    for block in [11, 12] {
        first.submit(block).unwrap();
    }
    drop(first);
    for number in 10..15 {
        commit(&mut committer, block("bft", number));
    }
    let second = snapshots(&ledgers, &committer);
    second.cancel(11).unwrap();
    // Whoever is told to stop leaves it for the next start.
    second.remake_lost(|_, _, _| Ok(()));
    drop(second);
    let third = snapshots(&ledgers, &committer);
    assert_eq!(third.pending(), [12]);
    third.remake_lost(|_, block, _| Err(format!("no block {block}")));
    wait(&third);
    assert!(!completed(folder.path(), "bftvectors", 12).exists());
}

/// Everything in the state of a ledger.
fn state(committer: &Committer) -> Vec<StateEntry> {
    let entries = committer.state().database().entries();
    entries.collect::<Result<_, _>>().unwrap()
}

fn create(ledgers: &LedgerManager, snapshot: &Path) -> Result<BlockStore, SnapshotError> {
    ledgers.create_from_snapshot(snapshot, |_, _| Ok(()))
}

fn joined(data: &Path, snapshot: &Path) -> (LedgerManager, Committer) {
    let ledgers = ledgers(data);
    let blocks = create(&ledgers, snapshot).unwrap();
    let state = ledgers.open_state(blocks.channel()).unwrap();
    let committer = Committer::open(blocks, state, Options::default()).unwrap();
    (ledgers, committer)
}

#[test]
fn a_ledger_that_begins_with_a_go_peers_snapshot_goes_on_like_the_others() {
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (manager, mut committer) = joined(folder.path(), &testdata("raft/snapshot"));
    let blocks = committer.blocks().clone();
    assert_eq!((blocks.first_block(), blocks.height()), (170, 170));
    let info = blocks.info();
    let bootstrap = info.bootstrapping_snapshot_info.unwrap();
    assert_eq!(bootstrap.last_block_in_snapshot, 169);
    let recorded = expected("raft");
    assert_eq!(
        hex::encode(&info.current_block_hash),
        recorded[169]["headerHash"].as_str().unwrap()
    );

    let of_all = ledgers(whole.path());
    let of_all = replayed("raft", 170, &of_all);
    assert_eq!(state(&committer), state(&of_all));

    // A transaction of the snapshot is known and cannot be told.
    let known = recorded[20]["txs"][0]["txid"].as_str().unwrap();
    assert!(blocks.has_transaction(known).unwrap());
    assert!(!blocks.has_transaction("another").unwrap());
    assert_eq!(
        blocks.transaction(known).unwrap_err().to_string(),
        format!(
            "details for the TXID [{known}] not available. Ledger bootstrapped from a snapshot. First \
             available block = [170]"
        )
    );
    assert_eq!(
        blocks.block(3).unwrap_err().to_string(),
        "cannot serve block [3]. The ledger is bootstrapped from a snapshot. First available block = [170]"
    );

    // The snapshot of the snapshot is the snapshot.
    let of_joined = snapshots(&manager, &committer);
    of_joined.submit(169).unwrap();
    wait(&of_joined);
    let made = completed(folder.path(), "vectors", 169);
    assert_same(&made, &testdata("raft/snapshot"));
    drop(of_joined);

    for recorded in expected("forged") {
        let number = recorded["number"].as_u64().unwrap();
        let found = commit(&mut committer, block("forged", number));
        let codes = found.transactions.iter().map(|tx| tx.code.as_str_name());
        let expected = recorded["txs"].as_array().unwrap();
        assert!(codes.eq(expected.iter().map(|tx| tx["code"].as_str().unwrap())));
        let commit_hash = found.commit_hash.map(hex::encode);
        assert_eq!(recorded["commitHash"].as_str(), commit_hash.as_deref());
    }
    drop((blocks, committer, manager));

    // Opened again, with blocks and without them in the index.
    let ledgers = ledgers(folder.path());
    assert_eq!(ledgers.channels().unwrap(), ["vectors"]);
    let blocks = ledgers.open_channel("vectors").unwrap();
    assert_eq!((blocks.first_block(), blocks.height()), (170, 175));
    let bootstrap = blocks.info().bootstrapping_snapshot_info.unwrap();
    assert_eq!(bootstrap.last_block_in_snapshot, 169);
    assert!(blocks.has_transaction(known).unwrap());
    assert!(blocks.block(174).unwrap().is_some());
    let state = ledgers.open_state("vectors").unwrap();
    let committer = Committer::open(blocks, state, Options::default()).unwrap();
    let of_joined = snapshots(&ledgers, &committer);
    of_joined.submit(0).unwrap();
    wait(&of_joined);
    let made = completed(folder.path(), "vectors", 174);
    let metadata = fs::read_to_string(made.join(ADDITIONAL_METADATA)).unwrap();
    let last = expected("forged").pop().unwrap();
    assert!(metadata.contains(last["commitHash"].as_str().unwrap()));
}

/// A channel that was joined by a snapshot, whose blocks tell a maker of snapshots.
fn joined_with_snapshots(
    data: &Path,
) -> (
    LedgerManager,
    Arc<ChannelSnapshots>,
    Result<Committer, CommitError>,
) {
    let ledgers = ledgers(data);
    let blocks = match ledgers.channels().unwrap().is_empty() {
        true => create(&ledgers, &testdata("raft/snapshot")).unwrap(),
        false => ledgers.open_channel("vectors").unwrap(),
    };
    let state = ledgers.open_state("vectors").unwrap();
    let snapshots = Arc::new(ledgers.open_snapshots(&blocks, &state).unwrap());
    let told = Some(snapshots.clone());
    let committer = Committer::open_with(blocks, state, told, Options::default());
    (ledgers, snapshots, committer)
}

fn try_commit(committer: &mut Committer, number: u64) -> Result<CommittedBlock, CommitError> {
    let block = Block::decode(block("forged", number)).unwrap();
    let prepared = committer.validator().prepare(&block);
    committer.commit(block, prepared)
}

#[test]
fn where_the_first_blocks_are_not_there_blocks_wait_for_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let (_ledgers, snapshots, committer) = joined_with_snapshots(folder.path());
    let mut committer = committer.unwrap();
    for number in 170..175 {
        let last = snapshots.submit(0).unwrap();
        assert_eq!(last, number - 1);
        try_commit(&mut committer, number).unwrap();
        assert!(completed(folder.path(), "vectors", last).exists());
    }
    // Several blocks at a time, one of which a snapshot is made of.
    let folder = tempfile::tempdir().unwrap();
    let (_ledgers, snapshots, committer) = joined_with_snapshots(folder.path());
    let mut committer = committer.unwrap();
    snapshots.submit(171).unwrap();
    let blocks = (170..175).map(|number| Block::decode(block("forged", number)).unwrap());
    let blocks: Vec<_> = blocks.collect();
    let prepared = committer.validator().prepare_all(&blocks);
    let mut told = 170;
    let is_made = || completed(folder.path(), "vectors", 171).exists();
    let committed = committer.commit_all(blocks.into_iter().zip(prepared), |block| {
        assert_eq!(block.number, told);
        assert!(told < 172 || is_made());
        told += 1;
    });
    committed.unwrap();
    assert_eq!(told, 175);
}

#[test]
fn an_interrupted_snapshot_of_such_a_channel_is_made_at_the_next_start() {
    let expected = tempfile::tempdir().unwrap();
    {
        let (_ledgers, snapshots, committer) = joined_with_snapshots(expected.path());
        try_commit(&mut committer.unwrap(), 170).unwrap();
        snapshots.submit(0).unwrap();
        wait(&snapshots);
    }
    // Until the peer stops while a snapshot is being made, which takes some milliseconds.
    for _ in 0..200 {
        let folder = tempfile::tempdir().unwrap();
        let (ledgers, snapshots, committer) = joined_with_snapshots(folder.path());
        let mut committer = committer.unwrap();
        snapshots.submit(170).unwrap();
        snapshots.release();
        try_commit(&mut committer, 170).unwrap();
        let stopped = try_commit(&mut committer, 171);
        drop((committer, snapshots, ledgers));
        let was_stopped = match stopped {
            Err(CommitError::Stopped { .. }) => true,
            Err(other) => panic!("{other}"),
            Ok(_) => false,
        };
        // The state is brought level with block 171 only when the snapshot of block 170 is made.
        let (_ledgers, snapshots, committer) = joined_with_snapshots(folder.path());
        let committer = committer.unwrap();
        assert_eq!(committer.state().database().savepoint().unwrap(), Some(171));
        wait(&snapshots);
        assert_same(
            &completed(folder.path(), "vectors", 170),
            &completed(expected.path(), "vectors", 170),
        );
        if was_stopped {
            return;
        }
    }
    panic!("no snapshot was interrupted");
}

#[test]
fn what_is_not_the_snapshot_leaves_nothing_behind() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 8] = [
        ("public_state.data", |bytes| bytes[5000] ^= 1),
        ("public_state.data", |bytes| bytes.truncate(100_000)),
        ("public_state.metadata", |bytes| bytes[1] = 200),
        ("txids.data", |bytes| bytes.extend(b"\x01a")),
        ("txids.metadata", |bytes| bytes.clear()),
        ("confighistory.data", |bytes| bytes[20] ^= 1),
        (SIGNABLE_METADATA, |bytes| bytes.push(b' ')),
        (ADDITIONAL_METADATA, |bytes| bytes.truncate(30)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let ledgers = ledgers(folder.path());
    for (name, change) in changes {
        let copy = tempfile::tempdir().unwrap();
        for (name, content) in files(&testdata("raft/snapshot")) {
            fs::write(copy.path().join(name), content).unwrap();
        }
        let mut content = fs::read(copy.path().join(name)).unwrap();
        change(&mut content);
        fs::write(copy.path().join(name), content).unwrap();
        let refused = create(&ledgers, copy.path()).unwrap_err();
        assert!(refused.to_string().contains(name), "{name}: {refused}");
        assert!(ledgers.channels().unwrap().is_empty());
        assert!(
            !folder
                .path()
                .join("ledgersData/selvedge/joining/vectors")
                .exists()
        );
        assert!(
            !folder
                .path()
                .join("ledgersData/selvedge/channels/vectors")
                .exists()
        );
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(create(&ledgers, empty.path()).is_err());
    assert!(create(&ledgers, &empty.path().join("none")).is_err());

    create(&ledgers, &testdata("raft/snapshot")).unwrap();
    let again = create(&ledgers, &testdata("raft/snapshot"));
    assert_eq!(
        again.unwrap_err().to_string(),
        "channel vectors: ledger already exists"
    );
}

#[test]
fn an_import_that_ends_halfway_is_none_and_can_be_repeated() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(joined(whole.path(), &testdata("bft/snapshot")));
    // As if the process had ended before the chain's folder got its name.
    let derived = |data: &Path| data.join("ledgersData/selvedge/channels/bftvectors");
    let joining = folder
        .path()
        .join("ledgersData/selvedge/joining/bftvectors/chain");
    fs::create_dir_all(derived(folder.path()).parent().unwrap()).unwrap();
    fs::rename(derived(whole.path()), derived(folder.path())).unwrap();
    fs::create_dir_all(&joining).unwrap();
    fs::write(joining.join("bootstrappingSnapshot.info"), b"half").unwrap();

    let (ledgers, committer) = joined(folder.path(), &testdata("bft/snapshot"));
    assert_eq!(committer.blocks().height(), 19);
    assert_eq!(ledgers.channels().unwrap(), ["bftvectors"]);
    assert!(!joining.exists());
}

#[test]
fn what_came_with_a_snapshot_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    drop(joined(folder.path(), &testdata("bft/snapshot")));
    let derived = folder
        .path()
        .join("ledgersData/selvedge/channels/bftvectors");

    fs::remove_dir_all(derived.join("state")).unwrap();
    let manager = ledgers(folder.path());
    let blocks = manager.open_channel("bftvectors").unwrap();
    let state = manager.open_state("bftvectors").unwrap();
    let failure = Committer::open(blocks, state, Options::default()).unwrap_err();
    assert!(
        failure.to_string().contains("joined by a snapshot"),
        "{failure}"
    );
    drop(manager);

    fs::remove_dir_all(derived.join("index")).unwrap();
    let manager = ledgers(folder.path());
    let failure = manager.open_channel("bftvectors").unwrap_err();
    assert!(
        matches!(failure, LedgerError::SnapshotIndexLost { first: 19, .. }),
        "{failure}"
    );
}
