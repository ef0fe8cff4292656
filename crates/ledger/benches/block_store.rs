//! Appending against the disk's own write and sync; building an index; opening; reading.
//!
//! Everything happens in the folder for temporary files: set TMPDIR to measure another disk.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use selvedge_ledger::{BlockStore, Options};
use selvedge_protos::Message;
use selvedge_protos::block::{data_hash, header_hash};
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, Payload,
    SignatureHeader,
};

/// The usual size of a transaction with two endorsements.
const TRANSACTION_BYTES: usize = 4000;

fn envelope(id: u64) -> Bytes {
    let channel_header = ChannelHeader {
        channel_id: "bench".into(),
        tx_id: hex::encode(selvedge_protos::sha256(&id.to_be_bytes())),
        ..ChannelHeader::default()
    };
    let signature_header = SignatureHeader {
        creator: vec![1; 800].into(),
        nonce: vec![2; 24].into(),
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: vec![3; TRANSACTION_BYTES - 1100].into(),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: vec![4; 71].into(),
    };
    envelope.encode_to_vec().into()
}

fn next_block(previous: Option<&BlockHeader>, transactions: u64) -> Block {
    let number = previous.map_or(0, |header| header.number + 1);
    let ids = number * transactions..(number + 1) * transactions;
    let data = BlockData {
        data: ids.map(envelope).collect(),
    };
    Block {
        header: Some(BlockHeader {
            number,
            previous_hash: previous.map_or(Bytes::new(), |header| {
                Bytes::copy_from_slice(&header_hash(header))
            }),
            data_hash: Bytes::copy_from_slice(&data_hash(&data)),
        }),
        data: Some(data),
        metadata: Some(BlockMetadata {
            metadata: vec![vec![5; 900].into(), Bytes::new(), vec![0; 8].into()],
        }),
    }
}

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

/// What one round of [`Pair::round`] took.
struct Times {
    disk: Duration,
    store: Duration,
}

/// A store, and a file beside it that gets the same bytes with nothing around them. Both work in
/// each round, whichever is measured, so that they meet the disk in the same mood.
struct Pair {
    _folder: tempfile::TempDir,
    file: File,
    store: BlockStore,
    tip: Option<BlockHeader>,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        Self {
            file: OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .unwrap(),
            store: open(folder.path()),
            tip: None,
            _folder: folder,
        }
    }

    fn round(&mut self, transactions: u64) -> Times {
        let block = next_block(self.tip.as_ref(), transactions);
        self.tip.clone_from(&block.header);
        let bytes = block.encode_to_vec();
        let start = Instant::now();
        self.file.write_all(&bytes).unwrap();
        self.file.sync_data().unwrap();
        let disk = start.elapsed();
        let start = Instant::now();
        self.store.append(&block).unwrap();
        let store = start.elapsed();
        Times { disk, store }
    }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(8));
    for transactions in [1, 100, 500] {
        let size = next_block(None, transactions).encoded_len();
        group.throughput(Throughput::Bytes(size as u64));
        let mut measure = |name, pick: fn(Times) -> Duration| {
            group.bench_function(BenchmarkId::new(name, transactions), |bencher| {
                let mut pair = Pair::new();
                bencher.iter_custom(|rounds| {
                    (0..rounds).map(|_| pick(pair.round(transactions))).sum()
                });
            });
        };
        measure("disk", |times| times.disk);
        measure("store", |times| times.store);
    }
    group.bench_function("store/batch of 20 blocks of 100", |bencher| {
        let folder = tempfile::tempdir().unwrap();
        let blocks = chain(20, 100);
        let mut round = 0;
        bencher.iter_batched(
            || {
                round += 1;
                open(&folder.path().join(round.to_string()))
            },
            |store| store.append_batch(&blocks).unwrap(),
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
    let id = hex::encode(selvedge_protos::sha256(&5000_u64.to_be_bytes()));
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
