//! Changes to a store that are not in it yet.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Batch, Durability, Entries, Store, StoreError, Table};

/// Shows a store with changes that it has not seen, and keeps all that is committed to it in memory.
/// Nothing ever reaches the store beneath, which is what refuses keys that it does not take.
pub(crate) struct Overlay {
    base: Arc<dyn Store>,
    changes: RwLock<Changes>,
}

type Changes = BTreeMap<Table, BTreeMap<Bytes, Option<Bytes>>>;

impl Overlay {
    pub(crate) fn new(base: Arc<dyn Store>) -> Self {
        Self {
            base,
            changes: RwLock::default(),
        }
    }
}

impl Store for Overlay {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let changes = self.changes.read();
        match changes.get(&table).and_then(|table| table.get(key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(table, key),
        }
    }

    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        if to.is_some_and(|to| to <= from) {
            return Box::new(std::iter::empty());
        }
        let bounds = (
            Bound::Included(from),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let changed: Vec<_> = self
            .changes
            .read()
            .get(&table)
            .into_iter()
            .flat_map(|table| table.range::<[u8], _>(bounds))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let base = self.base.range(table, from, to);
        if changed.is_empty() {
            return base;
        }
        Box::new(Merged {
            base: base.peekable(),
            changed: changed.into_iter().peekable(),
        })
    }

    fn commit(&self, batch: Batch, _durability: Durability) -> Result<(), StoreError> {
        let mut changes = self.changes.write();
        for (table, key, value) in batch.changes {
            let table = changes.entry(table).or_default();
            table.insert(key.into(), value.map(Bytes::from));
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), StoreError> {
        for table in Table::ALL {
            let mut batch = Batch::default();
            for entry in self.range(table, &[], None) {
                batch.delete(table, entry?.0);
            }
            self.commit(batch, Durability::Process)?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Store> {
        Arc::new(Self {
            base: self.base.snapshot(),
            changes: RwLock::new(self.changes.read().clone()),
        })
    }
}

/// Entries of the store beneath, and of a key that was changed the change.
struct Merged<'a> {
    base: Peekable<Entries<'a>>,
    changed: Peekable<std::vec::IntoIter<(Bytes, Option<Bytes>)>>,
}

impl Iterator for Merged<'_> {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.base.peek(), self.changed.peek()) {
                (Some(Ok((base, _))), Some((changed, _))) => base.cmp(changed),
                (None, Some(_)) => Ordering::Greater,
                (Some(_), _) => Ordering::Less,
                (None, None) => return None,
            };
            if order.is_lt() {
                return self.base.next();
            }
            if order.is_eq() {
                self.base.next();
            }
            if let Some((key, Some(value))) = self.changed.next() {
                return Some(Ok((key, value)));
            }
        }
    }
}
