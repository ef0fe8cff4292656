//! Keys of any length, in a store whose keys are bounded.
//!
//! A key that is as long as the longest possible one, or longer, is stored under its beginning followed
//! by SHA-256 of all of it, together exactly the longest length, which no other key has. The rest of the
//! key stands in front of the value.
//!
//! Keys with the same beginning are then in the order of their hashes, so going through a range sorts
//! them again. They are held in memory together for that; since they agree in their first 65,503 bytes,
//! they come from somebody who writes such keys on purpose, and pays for each in bytes of transactions.

use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use bytes::{Buf, Bytes};
use selvedge_protos::sha256;

use super::{Batch, Durability, Entries, MAX_KEY_LENGTH, Store, StoreError, Table};

const HASH: usize = 32;

/// A store that takes keys of any length but 0.
pub struct LongKeys {
    store: Arc<dyn Store>,
    limit: usize,
}

impl LongKeys {
    /// On a store with nothing in it, or with what this type has written.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with_limit(store, MAX_KEY_LENGTH)
    }

    fn with_limit(store: Arc<dyn Store>, limit: usize) -> Self {
        Self { store, limit }
    }

    /// The part of a long key that is kept as it is.
    const fn beginning(&self) -> usize {
        self.limit - HASH
    }

    /// Beginning and rest of a key that is too long.
    fn split<'a>(&self, key: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        (key.len() >= self.limit).then(|| key.split_at(self.beginning()))
    }
}

impl Store for LongKeys {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Some((beginning, rest)) = self.split(key) else {
            return self.store.get(table, key);
        };
        let Some(value) = self.store.get(table, &stored_key(beginning, key))? else {
            return Ok(None);
        };
        let (found, value) = split_value(value)?;
        if found == rest {
            Ok(Some(value))
        } else {
            Err(damaged())
        }
    }

    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        if to.is_some_and(|to| to <= from) {
            return Box::new(std::iter::empty());
        }
        let beginning = self.beginning();
        let first = from.get(..beginning).unwrap_or(from);
        let end = match to {
            Some(to) if to.len() > beginning => to.get(..beginning).and_then(after),
            to => to.map(<[u8]>::to_vec),
        };
        Box::new(InOrder {
            entries: self.store.range(table, first, end.as_deref()).peekable(),
            sorted: Vec::new().into_iter(),
            limit: self.limit,
            beginning,
            from: from.to_vec(),
            to: to.map(<[u8]>::to_vec),
        })
    }

    fn commit(&self, mut batch: Batch, durability: Durability) -> Result<(), StoreError> {
        for (_, key, value) in &mut batch.changes {
            let Some((beginning, rest)) = self.split(key) else {
                continue;
            };
            if let Some(value) = value {
                let length = (rest.len() as u64).to_be_bytes();
                *value = [&length[..], rest, value].concat();
            }
            *key = stored_key(beginning, key);
        }
        self.store.commit(batch, durability)
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.store.clear()
    }

    fn snapshot(&self) -> Arc<dyn Store> {
        Arc::new(Self::with_limit(self.store.snapshot(), self.limit))
    }
}

fn stored_key(beginning: &[u8], key: &[u8]) -> Vec<u8> {
    [beginning, &sha256(key)].concat()
}

/// The rest of the key, and the value.
fn split_value(mut stored: Bytes) -> Result<(Bytes, Bytes), StoreError> {
    let length = stored.try_get_u64().map_err(|_| damaged())?;
    match usize::try_from(length) {
        Ok(length) if length <= stored.len() => Ok((stored.split_to(length), stored)),
        _ => Err(damaged()),
    }
}

fn damaged() -> StoreError {
    StoreError::Damaged("the entry of a long key".into())
}

/// The first key after all that begin with `prefix`, if there is one.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// Puts long keys into their order.
struct InOrder<'a> {
    entries: Peekable<Entries<'a>>,
    /// Entries whose keys share their beginning.
    sorted: vec::IntoIter<(Bytes, Bytes)>,
    limit: usize,
    beginning: usize,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl InOrder<'_> {
    /// All entries of the range whose keys begin as that of `first`.
    fn group(&mut self, first: (Bytes, Bytes)) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let beginning = first.0.slice(..self.beginning);
        let mut group = Vec::new();
        let mut next = Some(Ok(first));
        while let Some(entry) = next {
            let (key, value) = self.whole(entry?)?;
            if self.from <= key && self.to.as_ref().is_none_or(|to| key < to) {
                group.push((key, value));
            }
            let belongs = |entry: &Result<(Bytes, _), _>| {
                entry
                    .as_ref()
                    .map_or(true, |(key, _)| key.starts_with(&beginning))
            };
            next = self.entries.next_if(belongs);
        }
        group.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(group)
    }

    /// The entry as it was written.
    fn whole(&self, (key, value): (Bytes, Bytes)) -> Result<(Bytes, Bytes), StoreError> {
        if key.len() < self.limit {
            return Ok((key, value));
        }
        let (rest, value) = split_value(value)?;
        let beginning = key.get(..self.beginning).unwrap_or_default();
        Ok(([beginning, &rest].concat().into(), value))
    }
}

impl Iterator for InOrder<'_> {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.sorted.next() {
                return Some(Ok(entry));
            }
            match self.entries.next()? {
                Ok(first) if first.0.len() >= self.beginning => match self.group(first) {
                    Ok(group) => self.sorted = group.into_iter(),
                    Err(error) => return Some(Err(error)),
                },
                entry => return Some(entry),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::store::{FjallStore, MemoryStore};

    /// Long enough that a beginning of four bytes is kept.
    const LIMIT: usize = HASH + 4;

    /// Short keys, and keys around and beyond the limit that often share their beginning.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0_u8), Just(1), Just(0xfe), Just(0xff)];
        let middle = prop_oneof![Just(0), 0..3_usize, LIMIT - 8..LIMIT + 2, Just(300)];
        (vec(byte.clone(), 1..6), middle, vec(byte, 0..3)).prop_map(|(start, middle, end)| {
            let filling = vec![7; middle];
            [start, filling, end].concat()
        })
    }

    fn check(
        store: &Arc<dyn Store>,
        changes: &[(Vec<u8>, bool)],
        ranges: &[(Vec<u8>, Option<Vec<u8>>)],
    ) -> Result<(), TestCaseError> {
        let long = LongKeys::with_limit(Arc::clone(store), LIMIT);
        let mut model = BTreeMap::new();
        for (number, (key, is_put)) in changes.iter().enumerate() {
            let mut batch = Batch::default();
            if *is_put {
                batch.put(Table::State, key.clone(), number.to_be_bytes());
                model.insert(key.clone(), number.to_be_bytes());
            } else {
                batch.delete(Table::State, key.clone());
                model.remove(key);
            }
            long.commit(batch, Durability::Process).unwrap();
        }
        for (key, _) in changes {
            let found = long.get(Table::State, key).unwrap();
            prop_assert_eq!(found.as_deref(), model.get(key).map(|value| &value[..]));
        }
        for (from, to) in ranges {
            for view in [&long as &dyn Store, &*long.snapshot()] {
                let found = view.range(Table::State, from, to.as_deref());
                let found: Vec<_> = found.map(Result::unwrap).collect();
                let expected = model
                    .iter()
                    .filter(|(key, _)| *key >= from && to.as_ref().is_none_or(|to| *key < to));
                let expected: Vec<_> = expected
                    .map(|(key, value)| {
                        (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
                    })
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
        Ok(())
    }

    fn changes() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
        vec((key(), prop::bool::weighted(0.8)), 0..40)
    }

    fn ranges() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        vec((key(), prop::option::of(key())), 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn it_is_a_store_of_keys_of_any_length(changes in changes(), ranges in ranges()) {
            check(&(Arc::new(MemoryStore::new()) as _), &changes, &ranges)?;
        }

        #[test]
        fn damaged_entries_are_errors(value in vec(any::<u8>(), 0..20)) {
            let _ = split_value(value.into());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn the_same_on_disk(changes in changes(), ranges in ranges()) {
            let folder = tempfile::tempdir().unwrap();
            check(&(Arc::new(FjallStore::open(folder.path()).unwrap()) as _), &changes, &ranges)?;
        }
    }

    #[test]
    fn a_key_that_looks_like_a_stored_long_one_is_another() {
        let store = LongKeys::new(Arc::new(MemoryStore::new()));
        let long = vec![1; MAX_KEY_LENGTH + 10];
        let beginning = &long[..MAX_KEY_LENGTH - HASH];
        let crafted = stored_key(beginning, &long);
        let mut batch = Batch::default();
        batch.put(Table::State, long.clone(), "long");
        batch.put(Table::State, crafted.clone(), "crafted");
        store.commit(batch, Durability::Process).unwrap();
        let get = |key| store.get(Table::State, key).unwrap().unwrap();
        assert_eq!(get(&long)[..], b"long"[..]);
        assert_eq!(get(&crafted)[..], b"crafted"[..]);
    }
}
