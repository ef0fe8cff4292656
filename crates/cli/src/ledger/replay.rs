//! `ledger replay`: blocks into a fresh ledger.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use selvedge_ledger::LedgerManager;
use selvedge_peer::commit::replay::replay as replay_chain;
use selvedge_peer::commit::{CommittedBlock, CommittedTransaction};
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::Options;
use serde::Serialize;

use super::progress;
use crate::args::{Output, ReplayArgs};
use crate::failure::{Failure, print_note, print_out};

/// What is told of a block, as JSON on one line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockLine<'a> {
    number: u64,
    header_hash: String,
    data_hash: String,
    commit_hash: Option<String>,
    txs: Vec<TransactionPart<'a>>,
}

#[derive(Serialize)]
struct TransactionPart<'a> {
    txid: Option<&'a str>,
    code: &'static str,
}

impl<'a> From<&'a CommittedBlock> for BlockLine<'a> {
    fn from(block: &'a CommittedBlock) -> Self {
        let part = |transaction: &'a CommittedTransaction| TransactionPart {
            txid: transaction.txid.as_deref(),
            code: transaction.code.as_str_name(),
        };
        Self {
            number: block.number,
            header_hash: hex::encode(block.header_hash),
            data_hash: hex::encode(&block.data_hash),
            commit_hash: block.commit_hash.map(hex::encode),
            txs: block.transactions.iter().map(part).collect(),
        }
    }
}

/// Validates the blocks of a folder and commits them into a fresh ledger.
pub fn replay(arguments: &ReplayArgs) -> Result<(), Failure> {
    let folder = &arguments.blocks_dir;
    let count = count_blocks(folder)?;
    // Removed at the end, if nobody asked for the ledger.
    let scratch;
    let data = match &arguments.ledger {
        Some(data) => data.as_path(),
        None => {
            scratch = tempfile::tempdir().context("cannot make a folder for the ledger")?;
            scratch.path()
        }
    };
    let ledgers = LedgerManager::open(data, selvedge_ledger::Options::default())?;
    let blocks = (0..count).map(|number| {
        let path = block_path(folder, number);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
        bytes.map(Bytes::from)
    });
    let bar = progress::blocks(count)?;
    let started = Instant::now();
    let mut transactions = 0;
    let result = replay_chain(blocks, &ledgers, &Options::default(), |block| {
        transactions += block.transactions.len();
        let line = match arguments.output {
            Output::Json => serde_json::to_string(&BlockLine::from(block)).unwrap_or_default(),
            Output::Text => text(block),
        };
        bar.suspend(|| print_out(&format!("{line}\n")));
        bar.inc(1);
    });
    let blocks = bar.position();
    bar.finish_and_clear();
    result.map_err(|error| anyhow!("{error:#}"))?;
    let seconds = started.elapsed().as_secs_f64();
    print_note(&format!(
        "{blocks} blocks, {transactions} transactions, {seconds:.3} seconds"
    ));
    Ok(())
}

fn block_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:06}.block"))
}

/// The number of block files in a folder; none may be missing between others.
fn count_blocks(folder: &Path) -> Result<u64, anyhow::Error> {
    let unreadable = || format!("cannot list the blocks in {}", folder.display());
    let mut count = 0;
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let name = entry.with_context(unreadable)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".block"));
        if number.is_some_and(|number| number.parse::<u64>().is_ok()) {
            count += 1;
        }
    }
    let missing = (0..count).find(|number| !block_path(folder, *number).is_file());
    match missing {
        Some(number) => Err(anyhow!(
            "{} is missing: blocks are read from 0 on without gaps",
            block_path(folder, number).display()
        )),
        None if count == 0 => Err(anyhow!("there are no block files in {}", folder.display())),
        None => Ok(count),
    }
}

fn text(block: &CommittedBlock) -> String {
    let valid = block
        .transactions
        .iter()
        .filter(|transaction| transaction.code == TxValidationCode::Valid);
    let hash = block
        .commit_hash
        .map_or_else(|| "none".to_owned(), hex::encode);
    format!(
        "block {}: {} of {} transactions valid, commit hash {hash}",
        block.number,
        valid.count(),
        block.transactions.len()
    )
}
