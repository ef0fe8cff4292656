//! A map that remembers the entries used most recently, roughly, and never more than a fixed number.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: entries that are used move into the young one; when that is full, the old one is dropped
/// and the young one takes its place. Holds between `capacity` and twice as many entries once it has been full.
#[derive(Debug)]
pub(super) struct Memory<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Memory<K, V> {
    /// Nothing yet.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// The entry of `key`, if it is remembered.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Remembers an entry.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut memory = Memory::new(10);
        memory.insert(0, "kept");
        for key in 1..1000 {
            memory.insert(key, "passing");
            assert_eq!(memory.get(&0), Some(&"kept"));
            assert!(memory.young.len() <= 10 && memory.old.len() <= 10);
        }
        assert_eq!(memory.get(&1), None);
        assert_eq!(memory.get(&999), Some(&"passing"));
    }
}
