//! What reading a key of the state costs, in states of different sizes.
//!
//!     cargo run --release -p selvedge-ledger --example state_reads -- FOLDER KEYS...
//!
//! In FOLDER a state is made for each number of keys (values of 200 bytes, about 250 bytes a key in all);
//! it stays there, and is used again if it is there. Then random keys are read by one thread, in turns, so
//! that all states meet the machine in the same mood. What counts is the processor time of that thread,
//! with a file cache that is warm.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_ledger::state::{Namespace, StateDatabase, StateUpdates, VersionedValue};
use selvedge_ledger::store::Durability;
use selvedge_protos::kvrwset::Version;

const CHAINCODE: Namespace<'static> = Namespace::public("basic");
const KEYS_OF_A_BLOCK: u64 = 5_000;
const READS_OF_A_TURN: u64 = 20_000;
const TURNS: u64 = 10;
/// Keys that are read again and again.
const HOT_KEYS: u64 = 1_000;

/// Numbers that look like chance, the same each time.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn key(number: u64) -> Vec<u8> {
    format!("asset-{:016x}", scattered(number)).into_bytes()
}

fn open(folder: &Path, keys: u64) -> StateDatabase {
    let state = StateDatabase::open(&folder.join(format!("state-{keys}"))).unwrap();
    let next = state.savepoint().unwrap().map_or(0, |block| block + 1);
    let started = Instant::now();
    for block in next..keys.div_ceil(KEYS_OF_A_BLOCK) {
        let mut updates = StateUpdates::new(block);
        for number in block * KEYS_OF_A_BLOCK..((block + 1) * KEYS_OF_A_BLOCK).min(keys) {
            // Every value another, as hashes and signatures in real ones are.
            let value: Vec<u8> = (0..25)
                .flat_map(|part| scattered(number * 25 + part).to_le_bytes())
                .collect();
            let value = VersionedValue {
                value: Bytes::from(value),
                metadata: Bytes::new(),
                version: Version {
                    block_num: block,
                    tx_num: number % KEYS_OF_A_BLOCK,
                },
            };
            updates.put(CHAINCODE, &key(number), value);
        }
        state.commit(&updates, Durability::Process).unwrap();
    }
    println!("{keys} keys: made or opened in {:.1?}", started.elapsed());
    state
}

struct State {
    keys: u64,
    database: StateDatabase,
    present: Vec<Duration>,
    hot: Vec<Duration>,
    absent: Vec<Duration>,
}

impl State {
    fn turn(&mut self, turn: u64) {
        let first = turn * READS_OF_A_TURN;
        let read = |number_of: &dyn Fn(u64) -> u64, is_there: bool| {
            let started = processor_time();
            for number in first..first + READS_OF_A_TURN {
                let key = key(number_of(scattered(number)));
                let found = self.database.get(CHAINCODE, &key).unwrap();
                assert_eq!(black_box(found).is_some(), is_there);
            }
            processor_time() - started
        };
        self.present.push(read(&|number| number % self.keys, true));
        self.absent.push(read(&|number| number | 1 << 60, false));
        self.hot.push(read(&|number| number % HOT_KEYS, true));
    }
}

/// What this thread has worked so far, without the time in which others did (Linux).
fn processor_time() -> Duration {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let time = times.split(' ').next().unwrap();
    Duration::from_nanos(time.parse().unwrap())
}

/// The median of a turn, in microseconds for each read.
fn median(turns: &mut [Duration]) -> f64 {
    turns.sort();
    turns[turns.len() / 2].as_secs_f64() * 1e6 / READS_OF_A_TURN as f64
}

fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.unwrap_or("VmRSS: unknown").to_owned()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("FOLDER KEYS...");
    let mut states: Vec<_> = arguments
        .map(|keys| {
            let keys = keys.parse().unwrap();
            State {
                keys,
                database: open(folder.as_ref(), keys),
                present: Vec::new(),
                hot: Vec::new(),
                absent: Vec::new(),
            }
        })
        .collect();
    for turn in 0..TURNS {
        for state in &mut states {
            state.turn(turn);
        }
    }
    for state in &mut states {
        println!(
            "{} keys: any key {:.2} us, one of {HOT_KEYS} keys {:.2} us, one that is not there {:.2} us",
            state.keys,
            median(&mut state.present),
            median(&mut state.hot),
            median(&mut state.absent),
        );
    }
    println!("{}", resident());
}
