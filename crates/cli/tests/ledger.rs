//! `ledger replay` on a recorded chain.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

fn replay(blocks: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .args(["ledger", "replay"])
        .arg(blocks)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn each_block_is_a_line_with_what_a_go_peer_says_of_it() {
    let output = replay(&testdata("bft/orderer-blocks"), &["--output", "json"]);
    assert!(output.status.success());
    let recorded = fs::read_to_string(testdata("bft/expected.json")).unwrap();
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    let recorded = recorded["blocks"].as_array().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), recorded.len());
    for (line, recorded) in lines.lines().zip(recorded) {
        let line: Value = serde_json::from_str(line).unwrap();
        for field in ["number", "headerHash", "dataHash", "commitHash"] {
            assert_eq!(line[field], recorded[field]);
        }
        let (found, recorded) = (line["txs"].as_array().unwrap(), recorded["txs"].as_array());
        let recorded = recorded.unwrap();
        assert_eq!(found.len(), recorded.len());
        for (found, recorded) in found.iter().zip(recorded) {
            assert_eq!(found["txid"], recorded["txid"]);
            assert_eq!(found["code"], recorded["code"]);
        }
    }
    let closing = String::from_utf8(output.stderr).unwrap();
    assert!(
        closing.starts_with("19 blocks, 34 transactions, "),
        "{closing}"
    );
}

/// What no honest client, endorser or administrator makes, and what a Go peer makes of it.
#[test]
fn odd_transactions_get_the_verdicts_of_a_go_peer() {
    let output = replay(&testdata("odd/orderer-blocks"), &["--output", "json"]);
    let recorded = fs::read_to_string(testdata("odd/expected.json")).unwrap();
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut lines = lines.lines();
    let mut transactions = 0;
    for recorded in recorded["blocks"].as_array().unwrap() {
        let (number, scenario) = (&recorded["number"], &recorded["scenario"]);
        let line = lines.next();
        let line = line.unwrap_or_else(|| {
            let reason = String::from_utf8_lossy(&output.stderr);
            panic!("block {number} ({scenario}) is missing: {reason}")
        });
        let line: Value = serde_json::from_str(line).unwrap();
        let found = line["txs"].as_array().unwrap().iter();
        let found: Vec<_> = found.map(|transaction| &transaction["code"]).collect();
        let codes: Vec<_> = recorded["codes"].as_array().unwrap().iter().collect();
        assert_eq!(found, codes, "block {number} ({scenario})");
        let hashes = (&line["commitHash"], &recorded["commitHash"]);
        assert_eq!(hashes.0, hashes.1, "block {number} ({scenario})");
        transactions += codes.len();
    }
    assert_eq!((lines.count(), transactions), (0, 577));
    assert!(output.status.success());
}

#[test]
fn a_ledger_is_made_once_and_blocks_begin_at_0() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ["--ledger", folder.path().to_str().unwrap()];
    let blocks = testdata("bft/orderer-blocks");
    assert!(replay(&blocks, &ledger).status.success());
    let again = replay(&blocks, &ledger);
    assert!(!again.status.success() && again.stdout.is_empty());
    assert!(
        String::from_utf8(again.stderr)
            .unwrap()
            .contains("ledger already exists")
    );
    let later = replay(&testdata("forged/orderer-blocks"), &[]);
    assert!(
        String::from_utf8(later.stderr)
            .unwrap()
            .contains("000000.block is missing")
    );
}
