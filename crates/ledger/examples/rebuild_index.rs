//! What building an index from block files costs.
//!
//!     cargo run --release -p selvedge-ledger --example rebuild_index -- [BLOCKS]
//!
//! A chain of blocks with 100 transactions of 4 kB is stored in the folder for temporary files, and its
//! index built again and again, from a file cache that is warm. Beside the time that passes, the
//! processor time of all threads is told, which other work on the machine does not change much.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use selvedge_ledger::{BlockStore, Options};

#[path = "../benches/support/mod.rs"]
mod support;

const ROUNDS: usize = 7;

fn open(folder: &Path) -> BlockStore {
    let (files, index) = (folder.join("files"), folder.join("index"));
    BlockStore::open("bench", &files, &index, &Options::default()).unwrap()
}

/// What this process has worked so far (Linux, in its units of 10 ms).
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').collect();
    let ticks = |field: &str| field.parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(fields[12]) + ticks(fields[13])))
}

fn main() {
    let blocks = std::env::args().nth(1);
    let blocks = blocks.map_or(1000, |blocks| blocks.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut tip = None;
    for _ in 0..blocks {
        let block = support::next_block(tip.as_ref(), 100);
        store.append_batch([&block]).unwrap();
        tip = block.header;
    }
    drop(store);
    let files = fs::read_dir(folder.path().join("files")).unwrap();
    let bytes: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    let mega = bytes as f64 / 1e6;
    for _ in 0..ROUNDS {
        fs::remove_dir_all(folder.path().join("index")).unwrap();
        let (started, worked) = (Instant::now(), processor_time());
        let store = open(folder.path());
        let passed = started.elapsed().as_secs_f64();
        assert_eq!(store.height(), blocks);
        drop(store);
        let worked = (processor_time() - worked).as_secs_f64();
        println!(
            "{mega:.0} MB: {passed:.3} s, {:.0} MB/s; processor time {worked:.2} s, {:.0} MB/s",
            mega / passed,
            mega / worked,
        );
    }
}
