//! A database that loses what was not safe.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::{Batch, Durability, Entries, MemoryStore, Store, StoreError, Table};

/// A store in memory that remembers its batches one by one, so that a power cut can take back those
/// that were not forced to disk, the newest first. It can also be made to fail.
#[derive(Default)]
pub struct CrashingStore {
    current: MemoryStore,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    batches: Vec<Batch>,
    /// How many batches are safe.
    safe: usize,
    budget: Option<usize>,
    fails_after_applying: bool,
}

impl CrashingStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many of the batches a power cut may leave.
    pub fn after_power_cut(&self) -> RangeInclusive<usize> {
        let log = self.log.lock();
        log.safe..=log.batches.len()
    }

    /// The store with its first batches, which are safe, and nothing of the others.
    pub fn with_first(&self, batches: usize) -> Self {
        let log = self.log.lock();
        let store = Self::new();
        for batch in log.batches.iter().take(batches) {
            let result = store.commit(batch.clone(), Durability::Disk);
            assert!(result.is_ok(), "a batch that was taken is taken again");
        }
        store
    }

    /// Lets only so many further batches through. The commits that fail take effect, or not.
    pub fn fail_after(&self, batches: usize, takes_effect: bool) {
        let mut log = self.log.lock();
        log.budget = Some(batches);
        log.fails_after_applying = takes_effect;
    }

    fn record(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let mut log = self.log.lock();
        let fails = log.budget == Some(0);
        log.budget = log.budget.map(|budget| budget.saturating_sub(1));
        if !fails || log.fails_after_applying {
            self.current.commit(batch.clone(), durability)?;
            log.batches.push(batch);
        }
        if fails {
            return Err(StoreError::Database("no space left".into()));
        }
        if durability == Durability::Disk {
            log.safe = log.batches.len();
        }
        Ok(())
    }
}

impl Store for CrashingStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.current.get(table, key)
    }

    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        self.current.range(table, from, to)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.record(batch, durability)
    }

    /// Table by table, as the store on disk does.
    fn clear(&self) -> Result<(), StoreError> {
        for table in Table::ALL {
            let mut batch = Batch::default();
            for entry in self.current.range(table, &[], None) {
                batch.delete(table, entry?.0);
            }
            self.record(batch, Durability::Process)?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Store> {
        self.current.snapshot()
    }
}

/// All that a store holds.
pub fn contents(store: &dyn Store) -> Result<BTreeMap<(Table, Bytes), Bytes>, StoreError> {
    let tables = Table::ALL.into_iter();
    let entries = tables.flat_map(|table| {
        let entries = store.range(table, &[], None);
        entries.map(move |entry| entry.map(|(key, value)| ((table, key), value)))
    });
    entries.collect()
}
