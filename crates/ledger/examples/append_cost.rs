//! What an append costs beside the disk's own write and sync of the same bytes.
//!
//!     cargo run --release -p selvedge-ledger --example append_cost -- [ROUNDS]
//!
//! Store and bare file take turns, so that both meet the disk in the same mood; what is printed are
//! medians, and the median of the ratios of neighbours. `alone` waits for the index before each turn,
//! `in a row` appends without a pause and counts the index to the end. Then blocks of one transaction are
//! committed to block files and state. Everything happens in the folder for temporary files: set TMPDIR to
//! measure another disk.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use selvedge_ledger::state::{Namespace, StateDatabase, StateUpdates, VersionedValue};
use selvedge_ledger::store::Durability;
use selvedge_ledger::{BlockStore, Options};
use selvedge_protos::Message;
use selvedge_protos::common::{Block, BlockHeader};
use selvedge_protos::kvrwset::Version;

#[path = "../benches/support/mod.rs"]
mod support;

/// Blocks of a turn that go in a row.
const ROW: usize = 32;

struct Pair {
    folder: tempfile::TempDir,
    file: File,
    store: BlockStore,
    tip: Option<BlockHeader>,
    transactions: u64,
}

impl Pair {
    fn new(transactions: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (files, index) = (folder.path().join("files"), folder.path().join("index"));
        Self {
            file: OpenOptions::new()
                .append(true)
                .create(true)
                .open(folder.path().join("file"))
                .unwrap(),
            store: BlockStore::open("bench", &files, &index, &Options::default()).unwrap(),
            tip: None,
            transactions,
            folder,
        }
    }

    fn blocks(&mut self, count: usize) -> Vec<(Block, Vec<u8>)> {
        let next = |_| {
            let block = support::next_block(self.tip.as_ref(), self.transactions);
            self.tip.clone_from(&block.header);
            let bytes = block.encode_to_vec();
            (block, bytes)
        };
        (0..count).map(next).collect()
    }

    /// The time of the disk, then that of the store.
    fn turn(&mut self, count: usize) -> (Duration, Duration) {
        let blocks = self.blocks(count);
        self.store.wait_for_index().unwrap();
        let start = Instant::now();
        for (_, bytes) in &blocks {
            self.file.write_all(bytes).unwrap();
            self.file.sync_data().unwrap();
        }
        let disk = start.elapsed();
        let start = Instant::now();
        for (block, _) in &blocks {
            self.store.append(block).unwrap();
        }
        if count > 1 {
            self.store.wait_for_index().unwrap();
        }
        (disk, start.elapsed())
    }
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn measure(name: &str, transactions: u64, rounds: usize, count: usize) {
    let mut pair = Pair::new(transactions);
    let times: Vec<_> = (0..rounds).map(|_| pair.turn(count)).collect();
    let per_block = |time: &Duration| time.as_secs_f64() * 1e3 / count as f64;
    let disk = sorted(times.iter().map(|(disk, _)| per_block(disk)));
    let store = sorted(times.iter().map(|(_, store)| per_block(store)));
    let ratios = sorted(
        times
            .iter()
            .map(|(disk, store)| per_block(store) / per_block(disk)),
    );
    println!(
        "{transactions:>4} transactions, {name}: disk {:.3} ms, store {:.3} ms (p99 {:.3}), ratio {:.2}",
        quantile(&disk, 0.5),
        quantile(&store, 0.5),
        quantile(&store, 0.99),
        quantile(&ratios, 0.5),
    );
}

/// Commits of blocks with one transaction that writes two keys.
fn measure_commits(rounds: usize) {
    let mut pair = Pair::new(1);
    let state = StateDatabase::open(&pair.folder.path().join("state")).unwrap();
    let mut times = Vec::with_capacity(rounds);
    for (number, (block, _)) in (0..).zip(pair.blocks(rounds)) {
        let start = Instant::now();
        pair.store.append(&block).unwrap();
        let mut updates = StateUpdates::new(number);
        for key in [format!("key-{number}"), "counter".to_owned()] {
            let value = VersionedValue {
                value: vec![7; 200].into(),
                metadata: Vec::new().into(),
                version: Version {
                    block_num: number,
                    tx_num: 0,
                },
            };
            updates.put(Namespace::public("basic"), key.as_bytes(), value);
        }
        state.commit(&updates, Durability::Process).unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let times = sorted(times.into_iter());
    println!(
        "   1 transaction, block files and state: p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        quantile(&times, 1.0),
    );
}

fn main() {
    let rounds = std::env::args().nth(1);
    let rounds = rounds.map_or(320, |rounds| rounds.parse().unwrap());
    for transactions in [1, 100, 500] {
        measure("alone", transactions, rounds, 1);
        measure("in a row", transactions, rounds.div_ceil(ROW), ROW);
    }
    measure_commits(4 * rounds);
}
