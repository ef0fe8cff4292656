//! A bounded cache that forgets by second chance, as Fabric's `msp/cache` does.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Keeps up to `capacity` values. When it is full, a hand goes round: a value that was asked for
/// since the hand's last visit stays, the first that was not makes room.
#[derive(Debug)]
pub(crate) struct SecondChanceCache<K, V> {
    capacity: usize,
    positions: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    hand: usize,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    was_asked_for: bool,
}

impl<K: Hash + Eq + Clone, V> SecondChanceCache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            positions: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
        }
    }

    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let position = *self.positions.get(key)?;
        let slot = self.slots.get_mut(position)?;
        slot.was_asked_for = true;
        Some(&slot.value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        let slot = Slot {
            key: key.clone(),
            value,
            was_asked_for: false,
        };
        let known = self.positions.get(&key).copied();
        let position = known.unwrap_or_else(|| self.next_position());
        match self.slots.get_mut(position) {
            Some(old) => {
                if known.is_none() {
                    self.positions.remove(&old.key);
                }
                *old = slot;
            }
            None => self.slots.push(slot),
        }
        self.positions.insert(key, position);
    }

    /// The position for a new value: behind the others, or where the hand finds one to forget.
    fn next_position(&mut self) -> usize {
        if self.slots.len() < self.capacity {
            return self.slots.len();
        }
        loop {
            let position = self.hand;
            self.hand = (self.hand + 1) % self.capacity;
            match self.slots.get_mut(position) {
                Some(slot) if slot.was_asked_for => slot.was_asked_for = false,
                _ => return position,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_stays() {
        let mut cache = SecondChanceCache::new(3);
        for number in 0..3 {
            cache.insert(number, number * 10);
        }
        assert_eq!(cache.get(&0), Some(&0));
        assert_eq!(cache.get(&2), Some(&20));
        cache.insert(3, 30);
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.get(&0), Some(&0));
        assert_eq!(cache.get(&2), Some(&20));
        assert_eq!(cache.get(&3), Some(&30));
    }

    proptest! {
        #[test]
        fn never_more_than_its_capacity_and_never_a_wrong_value(
            capacity in 1usize..8,
            steps in prop::collection::vec((any::<bool>(), 0u8..16), 0..200),
        ) {
            let mut cache = SecondChanceCache::new(capacity);
            for (is_insert, key) in steps {
                if is_insert {
                    cache.insert(key, u32::from(key) + 1);
                    prop_assert_eq!(cache.get(&key), Some(&(u32::from(key) + 1)));
                } else if let Some(&value) = cache.get(&key) {
                    prop_assert_eq!(value, u32::from(key) + 1);
                }
                prop_assert!(cache.slots.len() <= capacity);
                prop_assert_eq!(cache.slots.len(), cache.positions.len());
            }
        }
    }
}
