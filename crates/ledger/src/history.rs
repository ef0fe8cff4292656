//! The history of keys: which transactions wrote them.
//!
//! Each write of a valid endorser transaction to a public key leaves a row: the key, the block and the
//! position in it. What was written is read from the block files when somebody asks (Fabric:
//! `kvledger/history`). Writes of metadata alone leave none, nor do config transactions.
//!
//! A row is SHA-256 over namespace, zero byte and key, then block and position counted down from the
//! highest numbers, so that the newest row of a key comes first, and keys of every length fit.
//!
//! The rows lie in the database of the state and are written with the batch of their block. They can be
//! switched off (`ledger.history.enableHistoryDatabase`), so they have a savepoint of their own: the first
//! block that is not in them. When they are switched on again, they are brought level from the block files.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_protos::sha256_of_parts;

use crate::state::{StateDatabase, StateError, StateUpdates};
use crate::store::{Batch, Durability, Store, Table};

/// In [`Table::Meta`]: how many blocks are in the history.
const HEIGHT_KEY: &[u8] = b"history";
const HASH: usize = 32;
const NUMBER: usize = 8;

/// Where a key was written: block and position in it. The order is that of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The block.
    pub block: u64,
    /// The position of the transaction, from 0.
    pub transaction: u64,
}

/// What a block adds to the history.
#[derive(Debug)]
pub struct HistoryRows {
    block: u64,
    rows: Batch,
}

impl HistoryRows {
    /// Of a block without writes.
    pub fn new(block: u64) -> Self {
        Self {
            block,
            rows: Batch::default(),
        }
    }

    /// Adds a write of the transaction at a position of the block; one that stands twice counts once.
    pub fn add(&mut self, transaction: u64, namespace: &str, key: &str) {
        let place = Place {
            block: self.block,
            transaction,
        };
        let row = row(&key_hash(namespace, key), place);
        self.rows.put(Table::History, row, []);
    }

    fn into_batch(mut self) -> Batch {
        let height = self.block.saturating_add(1);
        self.rows.put(Table::Meta, HEIGHT_KEY, height.to_be_bytes());
        self.rows
    }
}

/// The history of the keys of one channel. Cheap to clone.
#[derive(Clone)]
pub struct History {
    store: Arc<dyn Store>,
}

impl History {
    /// How many blocks are in it.
    pub fn height(&self) -> Result<u64, StateError> {
        let height = self.store.get(Table::Meta, HEIGHT_KEY)?;
        let height = height.map(|bytes| <[u8; NUMBER]>::try_from(&bytes[..]));
        let height = height.transpose();
        let height = height.map_err(|_| StateError::Damaged("height of the history"))?;
        Ok(height.map_or(0, u64::from_be_bytes))
    }

    /// The transactions that wrote a key, the newest first.
    pub fn places(
        &self,
        namespace: &str,
        key: &str,
    ) -> impl Iterator<Item = Result<Place, StateError>> {
        let from = key_hash(namespace, key);
        let end = after(&from);
        let rows = self
            .store
            .range(Table::History, &from, end.as_ref().map(|end| &end[..]));
        rows.map(|row| place(&row?.0))
    }

    /// Whether the transaction at a place is listed as a writer of a key.
    pub fn contains(&self, namespace: &str, key: &str, place: Place) -> Result<bool, StateError> {
        let row = row(&key_hash(namespace, key), place);
        Ok(self.store.get(Table::History, &row)?.is_some())
    }

    /// The number of rows. Goes through all of them.
    pub fn count(&self) -> Result<u64, StateError> {
        let mut rows = self.store.range(Table::History, &[], None);
        rows.try_fold(0, |count, row| {
            row.map(|_| count + 1).map_err(StateError::from)
        })
    }

    /// Adds the blocks that it lacks, one after the other, beside the state.
    pub fn add(&self, rows: HistoryRows) -> Result<(), StateError> {
        let (height, block) = (self.height()?, rows.block);
        if block != height {
            return Err(StateError::UnexpectedBlock {
                savepoint: height.checked_sub(1),
                found: block,
            });
        }
        self.store.commit(rows.into_batch(), Durability::Process)?;
        Ok(())
    }

    /// Lets it begin with a later block, for a ledger that does.
    pub fn begin_at(&self, block: u64) -> Result<(), StateError> {
        let mut batch = Batch::default();
        batch.put(Table::Meta, HEIGHT_KEY, block.to_be_bytes());
        Ok(self.store.commit(batch, Durability::Disk)?)
    }
}

impl StateDatabase {
    /// The history of the channel's keys.
    pub fn history(&self) -> History {
        History {
            store: Arc::clone(self.store()),
        }
    }
}

impl StateUpdates {
    /// Records who wrote the keys of the block. The history must be level with the state.
    pub fn add_history(&mut self, rows: HistoryRows) {
        self.record(rows.into_batch());
    }
}

fn key_hash(namespace: &str, key: &str) -> [u8; HASH] {
    // No namespace has a zero byte.
    sha256_of_parts([namespace.as_bytes(), &[0], key.as_bytes()])
}

fn row(hash: &[u8; HASH], place: Place) -> Vec<u8> {
    let block = (u64::MAX - place.block).to_be_bytes();
    let transaction = (u64::MAX - place.transaction).to_be_bytes();
    [&hash[..], &block, &transaction].concat()
}

/// The first bytes behind every row of a key; `None` if nothing is.
fn after(hash: &[u8; HASH]) -> Option<[u8; HASH]> {
    let mut after = *hash;
    for byte in after.iter_mut().rev() {
        let (next, overflows) = byte.overflowing_add(1);
        *byte = next;
        if !overflows {
            return Some(after);
        }
    }
    None
}

fn place(row: &Bytes) -> Result<Place, StateError> {
    let damaged = || StateError::Damaged("history");
    let numbers = row.get(HASH..).ok_or_else(damaged)?;
    let (block, transaction) = numbers.split_first_chunk::<NUMBER>().ok_or_else(damaged)?;
    let transaction = transaction.try_into().map_err(|_| damaged())?;
    Ok(Place {
        block: u64::MAX - u64::from_be_bytes(*block),
        transaction: u64::MAX - u64::from_be_bytes(transaction),
    })
}

impl std::fmt::Debug for History {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("History")
            .field("height", &self.height().ok())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(history: &History, namespace: &str, key: &str) -> Vec<(u64, u64)> {
        let places = history.places(namespace, key);
        let pair = |place: Place| (place.block, place.transaction);
        places.map(|place| pair(place.unwrap())).collect()
    }

    #[test]
    fn the_newest_write_comes_first() {
        let state = StateDatabase::in_memory().unwrap();
        let history = state.history();
        let writes: [&[(u64, &str, &str)]; 3] = [
            &[
                (0, "cc", "a"),
                (3, "cc", "a"),
                (3, "cc", "a"),
                (3, "cc", "ab"),
            ],
            &[],
            &[(300, "cc", "a"), (2, "cca", ""), (2, "cc", "")],
        ];
        for (block, writes) in (0..).zip(writes) {
            let mut rows = HistoryRows::new(block);
            for (transaction, namespace, key) in writes {
                rows.add(*transaction, namespace, key);
            }
            let mut updates = StateUpdates::new(block);
            updates.add_history(rows);
            state.commit(&updates, Durability::Process).unwrap();
        }
        assert_eq!(history.height().unwrap(), 3);
        assert_eq!(places(&history, "cc", "a"), [(2, 300), (0, 3), (0, 0)]);
        assert_eq!(places(&history, "cc", "ab"), [(0, 3)]);
        assert_eq!(places(&history, "cca", ""), [(2, 2)]);
        assert_eq!(places(&history, "cc", ""), [(2, 2)]);
        assert!(places(&history, "c", "ca").is_empty());
        assert_eq!(history.count().unwrap(), 6);
        let place = |block, transaction| Place { block, transaction };
        assert!(history.contains("cc", "a", place(0, 3)).unwrap());
        assert!(!history.contains("cc", "a", place(0, 1)).unwrap());
    }

    #[test]
    fn what_was_switched_off_is_added_in_order() {
        let state = StateDatabase::in_memory().unwrap();
        let history = state.history();
        state
            .commit(&StateUpdates::new(0), Durability::Process)
            .unwrap();
        assert_eq!(
            (history.height().unwrap(), state.savepoint().unwrap()),
            (0, Some(0))
        );
        assert!(matches!(
            history.add(HistoryRows::new(1)),
            Err(StateError::UnexpectedBlock {
                savepoint: None,
                found: 1
            })
        ));
        history.add(HistoryRows::new(0)).unwrap();
        assert_eq!(history.height().unwrap(), 1);
        history.begin_at(7).unwrap();
        let mut rows = HistoryRows::new(7);
        rows.add(0, "cc", &"long".repeat(50_000));
        history.add(rows).unwrap();
        assert_eq!(places(&history, "cc", &"long".repeat(50_000)), [(7, 0)]);
    }

    #[test]
    fn the_last_hash_has_no_end() {
        assert_eq!(after(&[0xff; HASH]), None);
        let mut hash = [0xff; HASH];
        hash[0] = 1;
        let mut end = [0; HASH];
        end[0] = 2;
        assert_eq!(after(&hash), Some(end));
    }
}
