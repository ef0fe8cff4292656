//! The keys of the state that were read or written last, in front of a store.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::{Batch, Durability, Entries, Store, StoreError, Table};

/// What the keys of one state may take in memory, with what holds them.
const MAX_BYTES: u64 = 4 << 20;
/// Keys whose value is longer are not kept: their versions are as quick to read from the store as the
/// values would be to copy.
const MAX_VALUE: usize = 16 << 10;
/// What holds a key, in bytes.
const OVERHEAD: u64 = 120;
/// As many keys as are expected to fit in.
const EXPECTED_KEYS: usize = 10_000;

/// Remembers keys of [`Table::State`] with their values and versions, those too that are not there:
/// transactions mostly read what others have just written. Everything else passes through.
///
/// Reads run beside a commit, so a value that was read before it could be remembered after it. What
/// was read is therefore remembered only if no commit began since.
pub(crate) struct Cached {
    store: Arc<dyn Store>,
    remembered: Mutex<Remembered>,
    /// Held while the state changes.
    changing: Mutex<()>,
}

struct Remembered {
    keys: Cache<Bytes, Option<Bytes>, Weight>,
    /// Odd while the state changes.
    epoch: u64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Bytes, Option<Bytes>> for Weight {
    fn weight(&self, key: &Bytes, value: &Option<Bytes>) -> u64 {
        let value = value.as_ref().map_or(0, Bytes::len);
        OVERHEAD + key.len() as u64 + value as u64
    }
}

impl Cached {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            remembered: Mutex::new(Remembered {
                keys: Cache::with_weighter(EXPECTED_KEYS, MAX_BYTES, Weight),
                epoch: 0,
            }),
            changing: Mutex::default(),
        }
    }

    /// Changes the store; `changes` are what it has of the state afterwards.
    fn change(
        &self,
        changes: Vec<(Bytes, Option<Bytes>)>,
        change: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _alone = self.changing.lock();
        self.remembered.lock().epoch += 1;
        let changed = change();
        let mut remembered = self.remembered.lock();
        remembered.epoch += 1;
        match changed {
            Ok(()) => {
                for (key, value) in changes {
                    remembered.set(key, value);
                }
            }
            // The changes may be in the store or not.
            Err(_) => remembered.keys.clear(),
        }
        changed
    }
}

impl Remembered {
    fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        if value.as_ref().is_some_and(|value| value.len() > MAX_VALUE) {
            self.keys.remove(&key);
        } else {
            self.keys.insert(key, value);
        }
    }
}

impl Store for Cached {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if table != Table::State {
            return self.store.get(table, key);
        }
        let epoch = {
            let remembered = self.remembered.lock();
            if let Some(value) = remembered.keys.get(key) {
                return Ok(value.clone());
            }
            remembered.epoch
        };
        let value = self.store.get(table, key)?;
        let mut remembered = self.remembered.lock();
        if remembered.epoch == epoch && epoch % 2 == 0 {
            remembered.set(Bytes::copy_from_slice(key), value.clone());
        }
        Ok(value)
    }

    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        self.store.range(table, from, to)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let changes = batch.changes.iter();
        let changes: Vec<_> = changes
            .filter(|(table, _, _)| *table == Table::State)
            .map(|(_, key, value)| {
                let value = value.as_deref().map(Bytes::copy_from_slice);
                (Bytes::copy_from_slice(key), value)
            })
            .collect();
        if changes.is_empty() {
            return self.store.commit(batch, durability);
        }
        self.change(changes, || self.store.commit(batch, durability))
    }

    fn clear(&self) -> Result<(), StoreError> {
        let cleared = self.change(Vec::new(), || self.store.clear());
        self.remembered.lock().keys.clear();
        cleared
    }

    fn snapshot(&self) -> Arc<dyn Store> {
        self.store.snapshot()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::MemoryStore;

    fn write(key: &str, value: Option<&str>) -> Batch {
        let mut batch = Batch::default();
        match value {
            Some(value) => batch.put(Table::State, key, value),
            None => batch.delete(Table::State, key),
        }
        batch
    }

    /// A store that does something of the test's at its next read, or fails its next commit.
    #[derive(Default)]
    struct Trap {
        store: MemoryStore,
        while_reading: Mutex<Option<Box<dyn FnOnce() + Send>>>,
        is_failing: Mutex<bool>,
    }

    impl Store for Trap {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            let value = self.store.get(table, key);
            let trap = self.while_reading.lock().take();
            if let Some(trap) = trap {
                trap();
            }
            value
        }

        fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
            self.store.range(table, from, to)
        }

        fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
            self.store.commit(batch, durability)?;
            match *self.is_failing.lock() {
                true => Err(StoreError::Database("full disk".to_owned())),
                false => Ok(()),
            }
        }

        fn clear(&self) -> Result<(), StoreError> {
            self.store.clear()
        }

        fn snapshot(&self) -> Arc<dyn Store> {
            self.store.snapshot()
        }
    }

    fn get(store: &Cached, key: &str) -> Option<Bytes> {
        store.get(Table::State, key.as_bytes()).unwrap()
    }

    #[test]
    fn what_was_read_before_a_commit_is_not_remembered_after_it() {
        let trap = Arc::new(Trap::default());
        let cached = Arc::new(Cached::new(trap.clone()));
        let committing = Arc::clone(&cached);
        *trap.while_reading.lock() = Some(Box::new(move || {
            let batch = write("key", Some("new"));
            committing.commit(batch, Durability::Process).unwrap();
        }));
        assert_eq!(get(&cached, "key"), None);
        assert_eq!(get(&cached, "key").as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn after_a_failed_commit_the_store_is_asked() {
        let trap = Arc::new(Trap::default());
        let cached = Cached::new(trap.clone());
        assert_eq!(get(&cached, "key"), None);
        *trap.is_failing.lock() = true;
        let batch = write("key", Some("new"));
        cached.commit(batch, Durability::Process).unwrap_err();
        assert_eq!(get(&cached, "key").as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let cached = Cached::new(Arc::new(MemoryStore::new()));
        for number in 0..20 {
            let key = number.to_string();
            let mut batch = Batch::default();
            let length = if number % 2 == 0 {
                MAX_VALUE
            } else {
                MAX_VALUE + 1
            };
            for part in 0..100 {
                batch.put(Table::State, format!("{key}-{part}"), vec![0; length]);
            }
            cached.commit(batch, Durability::Process).unwrap();
            assert_eq!(get(&cached, &format!("{key}-0")).unwrap().len(), length);
            let remembered = cached.remembered.lock();
            assert!(remembered.keys.weight() <= MAX_BYTES);
            assert!(!remembered.keys.is_empty());
        }
    }

    proptest! {
        #[test]
        fn shows_what_the_store_has(
            steps in prop::collection::vec((0u8..8, prop::option::of(0u8..4), any::<bool>()), 0..60),
        ) {
            let store = Arc::new(MemoryStore::new());
            let cached = Cached::new(store.clone());
            for (key, value, is_write) in steps {
                let key = key.to_string();
                if is_write {
                    let value = value.map(|value| value.to_string());
                    let batch = write(&key, value.as_deref());
                    cached.commit(batch, Durability::Process).unwrap();
                } else if value == Some(0) {
                    cached.clear().unwrap();
                }
                for key in 0..8 {
                    let key = key.to_string();
                    let expected = store.get(Table::State, key.as_bytes()).unwrap();
                    prop_assert_eq!(get(&cached, &key), expected);
                }
            }
        }
    }
}
