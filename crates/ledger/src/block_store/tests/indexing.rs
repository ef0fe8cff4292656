//! The index follows behind on a thread of its own; nobody can tell.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::*;

/// A store that lets commits through only while its gate is open.
#[derive(Default)]
struct GatedStore {
    store: MemoryStore,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl GatedStore {
    fn set_open(&self, open: bool) {
        *self.is_open.lock() = open;
        self.opened.notify_all();
    }
}

impl Store for GatedStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(table, key)
    }

    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        self.store.range(table, from, to)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let mut is_open = self.is_open.lock();
        self.opened.wait_while(&mut is_open, |is_open| !*is_open);
        self.store.commit(batch, durability)
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.store.clear()
    }

    fn snapshot(&self) -> Arc<dyn Store> {
        self.store.snapshot()
    }
}

/// An empty store with an open gate before its index.
fn gated(place: &Place) -> (BlockStore, Arc<GatedStore>) {
    let gate = Arc::new(GatedStore::default());
    gate.set_open(true);
    let disk = Arc::new(FailingDisk::endless());
    let index = Arc::clone(&gate) as _;
    let store = BlockStore::open_on(CHANNEL, disk, place.files(), index, &place.options).unwrap();
    (store, gate)
}

/// An id, and block, position and verdict of the first transaction that has it.
type Found = (&'static str, u64, u64, u8);

/// Blocks in which ids stand repeatedly.
fn with_repeated_ids() -> (Vec<Block>, Vec<Found>) {
    let envelopes = |ids: &[&str]| ids.iter().map(|id| envelope(id, b"")).collect();
    let first = next_block(None, envelopes(&["a", "b", "b"]), &[0, 10, 0]);
    let second = next_block(Some(&first), envelopes(&["c", "a", "c"]), &[11, 9, 9]);
    let third = next_block(Some(&second), envelopes(&["d", "b", "c"]), &[0, 9, 9]);
    let found = vec![
        ("a", 0, 0, 0),
        ("b", 0, 1, 10),
        ("c", 1, 0, 11),
        ("d", 2, 0, 0),
    ];
    (vec![first, second, third], found)
}

#[test]
fn blocks_that_wait_for_the_index_are_found_in_every_way() {
    let (blocks, expected) = with_repeated_ids();
    // How many blocks the index has before its gate closes.
    for indexed in 0..=blocks.len() {
        let mut place = Place::new();
        place.options.recent_blocks_bytes = 0;
        let (store, gate) = gated(&place);
        store.append_batch(&blocks[..indexed]).unwrap();
        store.wait_for_index().unwrap();
        gate.set_open(false);
        for block in &blocks[indexed..] {
            store.append(block).unwrap();
        }
        let check = || {
            assert_holds(&store, &blocks);
            for (id, block, index, code) in &expected {
                let status = store.transaction_status(id).unwrap().unwrap();
                assert_eq!(
                    (status.block, status.index, status.code),
                    (*block, *index, *code)
                );
                assert!(store.transaction(id).unwrap().is_some());
            }
            assert_eq!(store.transaction_status("e").unwrap(), None);
        };
        check();
        gate.set_open(true);
        store.wait_for_index().unwrap();
        check();
    }
}

#[test]
fn appending_waits_for_an_index_that_is_too_far_behind() {
    let place = Place::new();
    let (store, gate) = gated(&place);
    let envelopes = (0..20_000)
        .map(|id| envelope(&id.to_string(), b""))
        .collect();
    let first = next_block(None, envelopes, &[]);
    let second = next_block(Some(&first), vec![], &[]);
    gate.set_open(false);
    store.append(&first).unwrap();
    let (done, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            store.append(&second).unwrap();
            done.send(()).unwrap();
        });
        let early = told.recv_timeout(Duration::from_millis(100));
        assert!(early.is_err(), "it did not wait");
        assert_eq!(store.height(), 1);
        gate.set_open(true);
        told.recv().unwrap();
    });
    assert_eq!(store.height(), 2);
}

#[test]
fn a_store_that_is_dropped_leaves_a_level_index() {
    let place = Place::new();
    let blocks = chain(50);
    let (store, gate) = gated(&place);
    gate.set_open(false);
    for block in &blocks {
        store.append(block).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(move || drop(store));
        gate.set_open(true);
    });
    let savepoint = gate.get(Table::Meta, b"savepoint").unwrap().unwrap();
    assert_eq!(savepoint[..], 49_u64.to_be_bytes());
}
