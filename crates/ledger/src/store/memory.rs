//! The store in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Batch, Durability, Entries, Store, StoreError, Table};

/// A store that is gone with its process. For tests and for ledgers that need no disk.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: RwLock<BTreeMap<Table, BTreeMap<Bytes, Bytes>>>,
    is_snapshot: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    const fn check_writable(&self) -> Result<(), StoreError> {
        match self.is_snapshot {
            false => Ok(()),
            true => Err(StoreError::ReadOnly),
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let tables = self.tables.read();
        Ok(tables.get(&table).and_then(|table| table.get(key)).cloned())
    }

    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        if to.is_some_and(|to| to <= from) {
            return Box::new(std::iter::empty());
        }
        let bounds = (
            Bound::Included(from),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let entries: Vec<_> = self
            .tables
            .read()
            .get(&table)
            .into_iter()
            .flat_map(|table| table.range::<[u8], _>(bounds))
            .map(|(key, value)| Ok((key.clone(), value.clone())))
            .collect();
        Box::new(entries.into_iter())
    }

    fn commit(&self, batch: Batch, _durability: Durability) -> Result<(), StoreError> {
        batch.check_keys()?;
        self.check_writable()?;
        let mut tables = self.tables.write();
        for (table, key, value) in batch.changes {
            let table = tables.entry(table).or_default();
            match value {
                Some(value) => table.insert(key.into(), value.into()),
                None => table.remove(key.as_slice()),
            };
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.check_writable()?;
        self.tables.write().clear();
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Store> {
        Arc::new(Self {
            tables: RwLock::new(self.tables.read().clone()),
            is_snapshot: true,
        })
    }
}
