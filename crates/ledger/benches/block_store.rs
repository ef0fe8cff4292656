//! Appending many blocks with one sync; building an index; opening; reading. What a single append
//! costs beside the disk is measured by the example `append_cost`.
//!
//! Everything happens in the folder for temporary files: set TMPDIR to measure another disk.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use selvedge_ledger::{BlockStore, Options};
use selvedge_protos::common::Block;

mod support;

use support::{next_block, transaction_id};

fn chain(blocks: usize, transactions: u64) -> Vec<Block> {
    let mut chain: Vec<Block> = Vec::with_capacity(blocks);
    for _ in 0..blocks {
        let previous = chain.last().and_then(|block| block.header.as_ref());
        chain.push(next_block(previous, transactions));
    }
    chain
}

fn open(folder: &Path) -> BlockStore {
    let (files, index) = (folder.join("files"), folder.join("index"));
    BlockStore::open("bench", &files, &index, &Options::default()).unwrap()
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.bench_function("store/batch of 20 blocks of 100", |bencher| {
        let folder = tempfile::tempdir().unwrap();
        let blocks = chain(20, 100);
        let mut round = 0;
        bencher.iter_batched(
            || {
                round += 1;
                open(&folder.path().join(round.to_string()))
            },
            |store| {
                store.append_batch(&blocks).unwrap();
                store
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn rebuild(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).append_batch(&chain(300, 100)).unwrap();
    let files = folder.path().join("files");
    let bytes: u64 = fs::read_dir(&files)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    let mut group = criterion.benchmark_group("index");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    group.bench_function("build from block files", |bencher| {
        bencher.iter_batched(
            || fs::remove_dir_all(folder.path().join("index")).unwrap(),
            |()| open(folder.path()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn open_and_read(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let blocks = chain(10_000, 2);
    let store = open(folder.path());
    for blocks in blocks.chunks(100) {
        store.append_batch(blocks).unwrap();
    }
    drop(store);
    criterion.bench_function("open 10000 blocks", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let start = Instant::now();
                let store = open(folder.path());
                spent += start.elapsed();
                assert_eq!(store.height(), 10_000);
            }
            spent
        });
    });

    let store = open(folder.path());
    let id = transaction_id(5000);
    criterion.bench_function("read/block from files", |bencher| {
        let mut number = 0;
        bencher.iter(|| {
            number = (number + 4567) % 10_000;
            black_box(store.block_bytes(number).unwrap().unwrap())
        });
    });
    criterion.bench_function("read/transaction by id", |bencher| {
        bencher.iter(|| black_box(store.transaction(&id).unwrap().unwrap()));
    });
    criterion.bench_function("read/verdict on an unknown id", |bencher| {
        bencher.iter(|| black_box(store.transaction_status("unknown").unwrap()));
    });
}

criterion_group!(benches, append, rebuild, open_and_read);
criterion_main!(benches);
