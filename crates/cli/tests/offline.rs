//! `ledger verify`, `rebuild` and `dump-state` on recorded chains, sound and damaged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rstest::rstest;
use selvedge_ledger::store::{Batch, Durability, FjallStore, Store, Table};
use selvedge_ledger::{LedgerManager, Options};
use selvedge_peer::commit::Committer;
use selvedge_protos::Message;
use selvedge_protos::common::Block;
use serde_json::Value;
use tempfile::TempDir;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

fn run(verb: &str, folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .args(["ledger", verb])
        .arg(folder)
        .args(more)
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The ledger of a recorded channel, made by `ledger replay`.
fn ledger(chain: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ["--ledger", folder.path().to_str().unwrap()];
    let blocks = testdata(&format!("{chain}/orderer-blocks"));
    assert!(run("replay", &blocks, &ledger).status.success());
    folder
}

fn assert_sound(folder: &Path) {
    let output = run("verify", folder, &[]);
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    assert_eq!(out(&output), "");
    assert!(
        err(&output).ends_with("no fault found\n"),
        "{}",
        err(&output)
    );
}

/// What `verify` prints of a ledger that is not sound.
fn faults(folder: &Path) -> String {
    let output = run("verify", folder, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("Error: "), "{}", err(&output));
    out(&output)
}

fn block_file(folder: &Path, channel: &str) -> PathBuf {
    let chains = folder.join("ledgersData/chains/chains");
    chains.join(channel).join("blockfile_000000")
}

fn database(folder: &Path, channel: &str, name: &str) -> PathBuf {
    let channels = folder.join("ledgersData/selvedge/channels");
    channels.join(channel).join(name)
}

/// Changes the byte at an offset after the only place with these bytes.
fn damage_file(path: &Path, at: &[u8], offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    let found: Vec<_> = (0..bytes.len() - at.len())
        .filter(|position| bytes[*position..].starts_with(at))
        .collect();
    assert_eq!(found.len(), 1);
    bytes[found[0] + offset] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Changes a database: gives a batch for the rows of a table.
fn damage_rows(
    folder: &Path,
    table: Table,
    change: impl FnOnce(&[(Vec<u8>, Vec<u8>)], &mut Batch),
) {
    let store = FjallStore::open(folder).unwrap();
    let rows: Vec<_> = store
        .range(table, &[], None)
        .map(|row| {
            row.map(|(key, value)| (key.to_vec(), value.to_vec()))
                .unwrap()
        })
        .collect();
    assert!(!rows.is_empty(), "{table:?}");
    let mut batch = Batch::default();
    change(&rows, &mut batch);
    store.commit(batch, Durability::Disk).unwrap();
}

fn expected(chain: &str) -> Value {
    let recorded = fs::read(testdata(&format!("{chain}/expected.json"))).unwrap();
    serde_json::from_slice(&recorded).unwrap()
}

fn commit_hash(chain: &str, block: usize) -> Vec<u8> {
    let hash = expected(chain)["blocks"][block]["commitHash"].clone();
    hex::decode(hash.as_str().unwrap()).unwrap()
}

const BFT: &str = "bftvectors";
const RAFT: &str = "vectors";

#[rstest]
#[case::a_row_removed(Table::State, "state", "is not there and follows from the blocks")]
#[case::who_wrote_a_key(Table::History, "history", "is not there and follows from the blocks")]
fn a_lost_row_is_found_and_comes_back(
    #[case] table: Table,
    #[case] name: &str,
    #[case] what: &str,
) {
    let folder = ledger("bft");
    let state = database(folder.path(), BFT, "state");
    damage_rows(&state, table, |rows, batch| {
        batch.delete(table, rows[0].0.clone())
    });
    let found = faults(folder.path());
    assert!(
        found.starts_with(&format!("{BFT}: state: {name}: ")),
        "{found}"
    );
    assert!(
        found.contains(what) && found.lines().count() == 1,
        "{found}"
    );
    assert!(run("rebuild", folder.path(), &[]).status.success());
    assert_sound(folder.path());
}

#[test]
fn changed_and_added_rows_of_the_state_are_found() {
    let folder = ledger("raft");
    assert_sound(folder.path());
    let state = database(folder.path(), RAFT, "state");
    damage_rows(&state, Table::State, |rows, batch| {
        let (key, mut value) = rows.last().unwrap().clone();
        *value.last_mut().unwrap() ^= 1;
        batch.put(Table::State, key, value.clone());
        batch.put(Table::State, b"assets\0zzz never written".to_vec(), value);
    });
    damage_rows(&state, Table::ConfigHistory, |rows, batch| {
        batch.put(Table::ConfigHistory, rows[0].0.clone(), b"other".to_vec());
    });
    damage_rows(&state, Table::Meta, |_, batch| {
        batch.delete(Table::Meta, b"metadata/assets".to_vec());
    });
    let found = faults(folder.path());
    let lines: Vec<_> = found.lines().collect();
    assert_eq!(lines.len(), 4, "{found}");
    assert!(
        lines[0].contains(r#"state: "assets\x00zzz never written" is there and does not follow"#)
    );
    assert!(lines[1].contains(r#"state: state: "vault$$hshared"#) && lines[1].contains(" holds "));
    assert!(lines[2].contains("config_history") && lines[2].contains(r#"holds "other""#));
    assert!(
        lines[3].contains(r#"meta: "metadata/assets" is not there"#),
        "{found}"
    );
}

#[test]
fn a_state_ahead_of_its_blocks_is_found_and_one_behind_is_no_fault() {
    let folder = ledger("bft");
    let state = database(folder.path(), BFT, "state");
    let savepoint = |number: u64| {
        damage_rows(&state, Table::Meta, |_, batch| {
            batch.put(Table::Meta, b"savepoint".to_vec(), number.to_be_bytes());
        });
    };
    savepoint(30);
    let found = faults(folder.path());
    assert_eq!(
        found,
        format!("{BFT}: state: it has 31 blocks, the block files have 19\n")
    );
    fs::remove_dir_all(&state).unwrap();
    let output = run("verify", folder.path(), &[]);
    assert!(output.status.success());
    assert!(
        out(&output).contains("note: state: there is none"),
        "{}",
        out(&output)
    );
}

#[test]
fn damage_to_the_index_is_found() {
    let folder = ledger("bft");
    let index = database(folder.path(), BFT, "index");
    damage_rows(&index, Table::Transactions, |rows, batch| {
        batch.delete(Table::Transactions, rows[0].0.clone());
        let mut value = rows[1].1.clone();
        value[0] ^= 1;
        batch.put(Table::Transactions, rows[1].0.clone(), value);
    });
    damage_rows(&index, Table::Blocks, |rows, batch| {
        let mut value = rows[7].1.clone();
        value[1] ^= 1;
        batch.put(Table::Blocks, rows[7].0.clone(), value);
    });
    damage_rows(&index, Table::Hashes, |rows, batch| {
        batch.delete(Table::Hashes, rows[3].0.clone());
        batch.put(Table::Hashes, [7; 32].to_vec(), rows[3].1.clone());
    });
    let found = faults(folder.path());
    for part in [
        "index: block 7 is said to lie in file 0 at offset ",
        "leads to no block",
        "is not in it",
        ", code 1",
        "table transactions has ",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert!(
        run("rebuild", folder.path(), &["--channel", BFT])
            .status
            .success()
    );
    assert_sound(folder.path());
}

#[test]
fn a_damaged_block_is_named_and_nothing_after_it_is_trusted() {
    let folder = ledger("bft");
    let file = block_file(folder.path(), BFT);
    let block: Vec<u8> = fs::read(testdata("bft/orderer-blocks/000010.block")).unwrap();
    let block = Block::decode(&block[..]).unwrap();
    let data_hash = block.header.unwrap().data_hash;
    damage_file(&file, &data_hash, 60);
    let found = faults(folder.path());
    let first = found.lines().next().unwrap();
    assert!(
        first.starts_with(&format!("{BFT}: block files: block 10 at offset ")),
        "{found}"
    );
    assert!(first.contains("blockfile_000000 is corrupt"), "{found}");
    assert!(
        found.contains("index: it has block 18, the block files end before block 10"),
        "{found}"
    );
    let rebuilt = run("rebuild", folder.path(), &[]);
    assert!(!rebuilt.status.success());
    assert!(
        err(&rebuilt).contains("block 10 at offset "),
        "{}",
        err(&rebuilt)
    );
    let place = folder.path().display();
    let command = format!("`selvedge ledger repair {place} --channel {BFT}`");
    assert!(err(&rebuilt).contains(&command), "{}", err(&rebuilt));

    // Nobody is there to be asked.
    let length = fs::metadata(&file).unwrap().len();
    let unasked = run("repair", folder.path(), &[]);
    assert!(!unasked.status.success());
    assert!(err(&unasked).contains("--yes"), "{}", err(&unasked));
    assert_eq!(fs::metadata(&file).unwrap().len(), length);

    let repaired = run("repair", folder.path(), &["--channel", BFT, "--yes"]);
    assert!(repaired.status.success(), "{}", err(&repaired));
    assert!(
        err(&repaired).contains(&format!("{BFT}: 10 blocks are kept, ")),
        "{}",
        err(&repaired)
    );
    assert!(run("rebuild", folder.path(), &[]).status.success());
    assert_sound(folder.path());
    let again = run("repair", folder.path(), &[]);
    assert_eq!(err(&again), format!("{BFT}: the block files are sound\n"));
}

/// Runs a verb of `node` with a core.yaml that names a data directory.
fn run_node(folder: &Path, words: &[&str]) -> Output {
    let configuration = tempfile::tempdir().unwrap();
    let yaml = format!("peer:\n  fileSystemPath: {}\n", folder.display());
    fs::write(configuration.path().join("core.yaml"), yaml).unwrap();
    Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .arg("node")
        .args(words)
        .env("FABRIC_CFG_PATH", configuration.path())
        .output()
        .unwrap()
}

fn height(folder: &Path) -> u64 {
    let ledgers = LedgerManager::open(folder, Options::default()).unwrap();
    ledgers.open_channel(BFT).unwrap().height()
}

#[test]
fn a_channel_is_rolled_back_and_reset_as_with_fabrics_command() {
    let folder = ledger("bft");
    let rolled = |words: &[&str]| run_node(folder.path(), &[&["rollback"], words].concat());
    assert_eq!(err(&rolled(&[])), "Error: Must supply channel ID\n");
    for (words, reason) in [
        (
            ["-c", "other", "-b", "3"],
            "channel other: ledger does not exist",
        ),
        (
            ["-c", BFT, "-b", "18"],
            "target block number [18] should be less than the biggest block number [18]",
        ),
    ] {
        let refused = rolled(&words);
        assert!(!refused.status.success());
        assert!(err(&refused).contains(reason), "{}", err(&refused));
    }
    assert_sound(folder.path());

    let done = rolled(&["--channelID", BFT, "--blockNumber", "12"]);
    assert!(done.status.success(), "{}", err(&done));
    let said =
        format!("The channel [{BFT}] has been successfully rolled back to the block number [12]\n");
    assert_eq!(err(&done), said);
    assert!(!database(folder.path(), BFT, "state").exists());
    assert_eq!(height(folder.path()), 13);
    assert!(run("rebuild", folder.path(), &[]).status.success());
    assert_sound(folder.path());

    for (verb, said) in [("pause", "paused"), ("resume", "resumed")] {
        let done = run_node(folder.path(), &[verb, "-c", BFT]);
        let said = format!("The channel [{BFT}] has been successfully {said}\n");
        assert_eq!(err(&done), said);
        let refused = run_node(folder.path(), &[verb, "-c", "other"]);
        assert!(!refused.status.success());
    }

    let dropped = run_node(folder.path(), &["rebuild-dbs"]);
    assert!(dropped.status.success(), "{}", err(&dropped));
    assert!(!database(folder.path(), BFT, "index").exists());
    assert_eq!(height(folder.path()), 13);

    for _ in 0..2 {
        let reset = run_node(folder.path(), &["reset"]);
        assert!(reset.status.success(), "{}", err(&reset));
        assert_eq!(height(folder.path()), 1);
    }
}

#[test]
fn a_chain_without_its_first_block_cannot_be_repaired() {
    let folder = ledger("bft");
    let file = block_file(folder.path(), BFT);
    let mut bytes = fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let output = run("repair", folder.path(), &["--yes"]);
    assert!(!output.status.success());
    assert!(
        err(&output).contains("block 0 itself is damaged")
            && err(&output).contains("join the channel again"),
        "{}",
        err(&output)
    );
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn a_changed_commit_hash_is_one_fault() {
    let folder = ledger("bft");
    damage_file(&block_file(folder.path(), BFT), &commit_hash("bft", 9), 5);
    let found = faults(folder.path());
    let hash = hex::encode(commit_hash("bft", 9));
    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(
        found.contains("verdicts: block 9 has the commit hash"),
        "{found}"
    );
    assert!(
        found.contains(&format!("its verdicts and write-sets give {hash}")),
        "{found}"
    );
}

#[test]
fn a_changed_verdict_is_found() {
    let folder = ledger("raft");
    let codes = expected("raft")["blocks"][62]["txs"].clone();
    let codes = codes
        .as_array()
        .unwrap()
        .iter()
        .map(|tx| match tx["code"].as_str().unwrap() {
            "VALID" => 0,
            "ENDORSEMENT_POLICY_FAILURE" => 10,
            other => panic!("{other}"),
        });
    let codes: Vec<u8> = codes.collect();
    // The first of them is valid, and becomes 16.
    damage_file(&block_file(folder.path(), RAFT), &codes, 0);
    let found = faults(folder.path());
    let wrong_hashes = found.matches("has the commit hash").count();
    assert!(
        found.contains("verdicts: block 62 has the commit hash") && wrong_hashes == 1,
        "{found}"
    );
    assert!(
        found.contains("index: the id of transaction 0 of block 62, code 16, leads to"),
        "{found}"
    );
    assert!(found.contains("state: "), "{found}");
}

#[test]
fn an_incomplete_last_block_is_no_fault_unless_it_was_committed() {
    let folder = ledger("bft");
    let file = block_file(folder.path(), BFT);
    let length = fs::metadata(&file).unwrap().len();
    let cut = fs::OpenOptions::new().write(true).open(&file).unwrap();
    cut.set_len(length - 100).unwrap();
    drop(cut);
    let found = faults(folder.path());
    assert!(
        found.contains("note: block files: ") && found.contains("incomplete block"),
        "{found}"
    );
    assert!(
        found.contains("state: it has 19 blocks, the block files have 18"),
        "{found}"
    );
    // Without databases it is what a power cut leaves.
    fs::remove_dir_all(folder.path().join("ledgersData/selvedge/channels")).unwrap();
    assert!(run("verify", folder.path(), &[]).status.success());
}

/// Compares with what a Go peer held at the end of the chain.
fn assert_state(folder: &Path, chain: &str) {
    let recorded = fs::read(testdata(&format!("{chain}/state.json"))).unwrap();
    let recorded: Value = serde_json::from_slice(&recorded).unwrap();
    let output = run("dump-state", folder, &["--output", "json"]);
    assert!(output.status.success(), "{}", err(&output));
    let text = out(&output);
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut expected = Vec::new();
    for kind in ["public", "privateHashes"] {
        for (namespace, entries) in recorded[kind].as_object().unwrap() {
            for entry in entries.as_array().unwrap() {
                let mut entry = entry.clone();
                entry["namespace"] = Value::from(namespace.as_str());
                expected.push(entry);
            }
        }
    }
    let order = |entry: &Value| entry.to_string();
    let mut found: Vec<_> = lines.by_ref().collect();
    found.sort_by_key(order);
    expected.sort_by_key(order);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

#[rstest]
#[case("raft")]
#[case("bft")]
fn the_state_is_dumped_as_a_go_peer_has_it(#[case] chain: &str) {
    let folder = ledger(chain);
    assert_state(folder.path(), chain);
}

#[test]
fn one_namespace_can_be_dumped() {
    let folder = ledger("raft");
    let arguments = ["--channel", RAFT, "--namespace", "vault$$hshared"];
    let output = run("dump-state", folder.path(), &arguments);
    assert_eq!(out(&output).lines().count(), 26);
    assert_eq!(err(&output), "vectors: 26 entries after 170 blocks\n");
    let line = out(&output).lines().next().unwrap().to_owned();
    assert!(
        line.starts_with("vault$$hshared ") && line.contains(" = "),
        "{line}"
    );
}

#[test]
fn the_block_files_of_a_go_peer_are_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let file = block_file(folder.path(), "labchannel");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let written =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../ledger/testdata/go-peer/blockfile_000000");
    fs::copy(written, file).unwrap();
    let output = run("rebuild", folder.path(), &[]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        err(&output).contains("blocks, from their verdicts, "),
        "{}",
        err(&output)
    );
    assert_sound(folder.path());
}

/// A chain of blocks as an ordering node delivers them, which have no verdicts.
fn unvalidated() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    {
        let ledgers = LedgerManager::open(folder.path(), Options::default()).unwrap();
        let blocks = (0..19).map(|number| {
            let path = testdata(&format!("bft/orderer-blocks/{number:06}.block"));
            Block::decode(&fs::read(path).unwrap()[..]).unwrap()
        });
        let blocks: Vec<_> = blocks.collect();
        let store = ledgers.create_channel(BFT, &blocks[0]).unwrap();
        store.append_batch(&blocks[1..]).unwrap();
    }
    folder
}

#[test]
fn a_chain_is_validated_anew_by_the_verdicts_that_were_stated() {
    let folder = unvalidated();
    let configuration = tempfile::tempdir().unwrap();
    let rebuild = |code: &str| {
        let yaml = format!(
            "ledger: {{statedVerdicts: [{{channel: {BFT}, block: 7, transaction: 0, code: {code}}}]}}"
        );
        fs::write(configuration.path().join("core.yaml"), yaml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
        let command = command.args(["ledger", "rebuild"]).arg(folder.path());
        command
            .env("FABRIC_CFG_PATH", configuration.path())
            .output()
            .unwrap()
    };
    let refused = rebuild("GOOD");
    assert!(!refused.status.success());
    assert!(
        err(&refused).contains("ledger.statedVerdicts"),
        "{}",
        err(&refused)
    );
    let output = rebuild("BAD_PAYLOAD");
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        err(&output).contains("1 verdicts are stated by ledger.statedVerdicts"),
        "{}",
        err(&output)
    );
    assert_sound(folder.path());
    let ledgers = LedgerManager::open(folder.path(), Options::default()).unwrap();
    let block = ledgers
        .open_channel(BFT)
        .unwrap()
        .block(7)
        .unwrap()
        .unwrap();
    let codes = &block.metadata.unwrap().metadata[2];
    assert_eq!(codes[0], 2, "BAD_PAYLOAD");
}

#[test]
fn a_chain_without_verdicts_is_validated_anew() {
    let folder = unvalidated();
    let found = faults(folder.path());
    assert!(
        found.contains("verdicts: channel bftvectors: block 0 has 0 verdicts for 1 transactions"),
        "{found}"
    );
    let output = run("rebuild", folder.path(), &[]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        err(&output).contains("validated anew, "),
        "{}",
        err(&output)
    );
    assert_sound(folder.path());
    assert_state(folder.path(), "bft");
    let own = folder.path().join("ledgersData/selvedge");
    for left in ["rebuilding", "replacements"] {
        assert!(!own.join(left).exists());
    }
}

#[test]
fn what_a_peer_holds_is_left_alone() {
    let folder = ledger("bft");
    let held = LedgerManager::open(folder.path(), Options::default()).unwrap();
    for verb in ["verify", "repair", "rebuild", "dump-state"] {
        let output = run(verb, folder.path(), &[]);
        assert!(!output.status.success());
        assert!(
            err(&output).contains("Error: the data directory is in use"),
            "{}",
            err(&output)
        );
    }
    drop(held);
    assert_sound(folder.path());
}

#[test]
fn a_wrong_directory_or_channel_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for verb in ["verify", "rebuild", "dump-state"] {
        let output = run(verb, folder.path(), &[]);
        assert!(
            err(&output).contains("holds no ledgers"),
            "{}",
            err(&output)
        );
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
    let folder = ledger("bft");
    for verb in ["verify", "rebuild", "dump-state"] {
        let output = run(verb, folder.path(), &["--channel", "other"]);
        assert!(!output.status.success());
        assert!(
            err(&output).contains("channel other: ledger does not exist"),
            "{}",
            err(&output)
        );
    }
    assert_sound(folder.path());
}

/// The recorded raft channel, joined by the snapshot of its last block, with the five blocks that follow.
fn joined_by_snapshot() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = LedgerManager::open(folder.path(), Options::default()).unwrap();
    let snapshot = testdata("raft/snapshot");
    let store = ledgers
        .create_from_snapshot(&snapshot, |_, _| Ok(()))
        .unwrap();
    let state = ledgers.open_state(RAFT).unwrap();
    let options = selvedge_validation::Options::default();
    let mut committer = Committer::open(store, state, options).unwrap();
    for number in 170..175 {
        let path = testdata(&format!("forged/orderer-blocks/{number:06}.block"));
        let block = Block::decode(&fs::read(path).unwrap()[..]).unwrap();
        let prepared = committer.validator().prepare(&block);
        committer.commit(block, prepared).unwrap();
    }
    folder
}

#[test]
fn a_ledger_that_begins_with_a_snapshot_is_verified_with_it_and_in_part_without() {
    let folder = joined_by_snapshot();
    let (snapshot, other) = (testdata("raft/snapshot"), testdata("bft/snapshot"));
    let with = |verb: &str, snapshot: &Path| {
        let snapshot = snapshot.to_str().unwrap();
        run(
            verb,
            folder.path(),
            &["--channel", RAFT, "--snapshot", snapshot],
        )
    };
    let assert_sound = || {
        let output = with("verify", &snapshot);
        assert!(output.status.success(), "{}", out(&output));
        assert_eq!(out(&output), "");
        let output = run("verify", folder.path(), &[]);
        assert!(output.status.success(), "{}", out(&output));
        let note = format!("{RAFT}: note: state: the ledger begins with a snapshot and block 170");
        assert!(out(&output).starts_with(&note), "{}", out(&output));
        assert_eq!(out(&output).lines().count(), 1);
    };
    assert_sound();
    for verb in ["verify", "rebuild"] {
        let output = with(verb, &other);
        assert!(!output.status.success());
        let reason = format!("is not the snapshot that channel {RAFT} was joined by");
        assert!(err(&output).contains(&reason), "{}", err(&output));
    }

    // Without the snapshot nothing can be made anew, and nothing is removed.
    let refused = run("rebuild", folder.path(), &[]);
    assert!(!refused.status.success());
    let reason = "was joined by a snapshot and begins with block 170";
    assert!(err(&refused).contains(reason), "{}", err(&refused));
    assert_sound();

    // Who wrote what since is known from the blocks, what came with the snapshot only from there.
    let state = database(folder.path(), RAFT, "state");
    damage_rows(&state, Table::State, |rows, batch| {
        batch.delete(Table::State, rows[0].0.clone());
    });
    assert!(run("verify", folder.path(), &[]).status.success());
    let found = out(&with("verify", &snapshot));
    assert!(
        found.contains("is not there and follows from the blocks"),
        "{found}"
    );
    damage_rows(&state, Table::History, |rows, batch| {
        batch.delete(Table::History, rows[0].0.clone());
    });
    let found = faults(folder.path());
    assert!(
        found.contains(&format!("{RAFT}: state: history: ")),
        "{found}"
    );
    assert!(with("rebuild", &snapshot).status.success());
    assert_sound();

    damage_file(
        &block_file(folder.path(), RAFT),
        &forged_commit_hash(172),
        5,
    );
    let found = out(&with("verify", &snapshot));
    assert!(
        found.contains("verdicts: block 172 has the commit hash"),
        "{found}"
    );
}

#[test]
fn databases_that_are_lost_come_back_from_the_snapshot() {
    let folder = joined_by_snapshot();
    let channels = folder.path().join("ledgersData/selvedge/channels");
    fs::remove_dir_all(channels).unwrap();
    let snapshot = testdata("raft/snapshot");
    let arguments = ["--channel", RAFT, "--snapshot", snapshot.to_str().unwrap()];
    let rebuilt = run("rebuild", folder.path(), &arguments);
    assert!(rebuilt.status.success(), "{}", err(&rebuilt));
    assert!(
        err(&rebuilt).contains("175 blocks, from their verdicts"),
        "{}",
        err(&rebuilt)
    );
    let output = run("verify", folder.path(), &arguments);
    assert!(
        output.status.success() && out(&output).is_empty(),
        "{}",
        out(&output)
    );
}

fn forged_commit_hash(block: u64) -> Vec<u8> {
    let recorded = expected("forged");
    let mut blocks = recorded["blocks"].as_array().unwrap().iter();
    let found = blocks.find(|found| found["number"] == block).unwrap();
    hex::decode(found["commitHash"].as_str().unwrap()).unwrap()
}
