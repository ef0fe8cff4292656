//! The newest message of each author, and who replaces whom.
//!
//! Fabric keeps all messages of a kind in one list and compares a new one with each
//! (`gossip/gossip/msgstore` with `protoext.NewGossipMessageComparator`). For alive, StateInfo and
//! leadership messages that comparison says: messages of different authors leave each other alone; of one
//! author the later [`PeerTime`] replaces the earlier, and an equal or earlier one is refused. So one entry
//! an author is enough, and a look-up replaces the walk. (Blocks have a window of their own, in the
//! channel.)
//!
//! Messages expire in two steps, as in Fabric: after the time to live they stop being listed and the owner
//! is told; for as long again they still refuse what is older, so that an old message that is replayed does
//! not bring its author back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::types::PeerTime;

/// Newest message by author (or by whatever `K` tells senders apart).
#[derive(Clone, Debug)]
pub struct MessageStore<K, M> {
    entries: BTreeMap<K, Entry<M>>,
    time_to_live: Option<Duration>,
    capacity: usize,
    next_sweep: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Entry<M> {
    time: PeerTime,
    stored: Instant,
    /// `None` once expired.
    message: Option<M>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored; an earlier one of the author is gone.
    Added,
    /// Known, or older than one that is known.
    Stale,
    /// The author is unknown and there is no room for another.
    Full,
}

impl<K: Ord + Clone, M> MessageStore<K, M> {
    /// A store without expiry for at most `capacity` authors.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            time_to_live: None,
            capacity,
            next_sweep: None,
        }
    }

    /// A store whose messages expire after `time_to_live`.
    pub fn expiring(capacity: usize, time_to_live: Duration) -> Self {
        Self {
            time_to_live: Some(time_to_live),
            ..Self::new(capacity)
        }
    }

    /// Whether a message of `author` made at `time` would be stored.
    pub fn accepts(&self, author: &K, time: PeerTime) -> bool {
        match self.entries.get(author) {
            Some(entry) => time > entry.time,
            None => self.entries.len() < self.capacity,
        }
    }

    /// Stores `message` if it is newer than what is known of `author`.
    pub fn add(&mut self, author: K, time: PeerTime, message: M, now: Instant) -> Outcome {
        match self.entries.get(&author) {
            Some(known) if time <= known.time => return Outcome::Stale,
            None if self.entries.len() >= self.capacity => return Outcome::Full,
            _ => {}
        }
        let entry = Entry {
            time,
            stored: now,
            message: Some(message),
        };
        self.entries.insert(author, entry);
        if let Some(time_to_live) = self.time_to_live {
            let due = now + time_to_live;
            self.next_sweep = Some(self.next_sweep.map_or(due, |sweep| sweep.min(due)));
        }
        Outcome::Added
    }

    /// When the newest message of `author` was made, expired or not.
    pub fn time_of(&self, author: &K) -> Option<PeerTime> {
        self.entries.get(author).map(|entry| entry.time)
    }

    /// The message of `author`, unless it has expired.
    pub fn get(&self, author: &K) -> Option<&M> {
        self.entries.get(author)?.message.as_ref()
    }

    /// All messages that have not expired, by author.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &M)> {
        self.entries
            .iter()
            .filter_map(|(author, entry)| Some((author, entry.message.as_ref()?)))
    }

    /// Authors with a message, expired ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets `author` altogether: an old message of it would be accepted again.
    pub fn remove(&mut self, author: &K) -> Option<M> {
        self.entries.remove(author)?.message
    }

    /// Forgets all authors that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &M) -> bool) {
        self.entries.retain(|author, entry| match &entry.message {
            Some(message) => keep(author, message),
            None => true,
        });
    }

    /// Expires what is due and returns it.
    pub fn sweep(&mut self, now: Instant) -> Vec<(K, M)> {
        let Some(time_to_live) = self.time_to_live else {
            return Vec::new();
        };
        if self.next_sweep.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let mut next = None;
        self.entries.retain(|author, entry| {
            let age = now.saturating_duration_since(entry.stored);
            if age >= time_to_live
                && let Some(message) = entry.message.take()
            {
                expired.push((author.clone(), message));
            }
            let lives = if entry.message.is_some() { 1 } else { 2 };
            let end = entry.stored + time_to_live * lives;
            if end <= now {
                return false;
            }
            next = Some(next.map_or(end, |known: Instant| known.min(end)));
            true
        });
        self.next_sweep = next;
        expired
    }

    /// When [`Self::sweep`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_sweep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    fn time(incarnation: u64, sequence: u64) -> PeerTime {
        PeerTime {
            incarnation,
            sequence,
        }
    }

    #[test]
    fn later_replaces_earlier_of_the_same_author_only() {
        let now = start();
        let mut store = MessageStore::new(10);
        assert_eq!(store.add(1, time(5, 1), "a", now), Outcome::Added);
        assert_eq!(store.add(2, time(1, 1), "b", now), Outcome::Added);
        assert_eq!(store.add(1, time(5, 1), "again", now), Outcome::Stale);
        assert_eq!(store.add(1, time(4, 9), "older run", now), Outcome::Stale);
        assert_eq!(store.add(1, time(6, 0), "newer run", now), Outcome::Added);
        assert_eq!(store.get(&1), Some(&"newer run"));
        assert_eq!(store.get(&2), Some(&"b"));
    }

    #[test]
    fn expired_messages_refuse_older_ones_for_as_long_again() {
        let now = start();
        let ttl = Duration::from_secs(10);
        let mut store = MessageStore::expiring(10, ttl);
        store.add(1, time(1, 5), "a", now);
        assert_eq!(store.next_deadline(), Some(now + ttl));
        assert!(store.sweep(now + ttl / 2).is_empty());
        assert_eq!(store.sweep(now + ttl), [(1, "a")]);
        assert_eq!(store.get(&1), None);
        assert!(!store.accepts(&1, time(1, 5)));
        assert!(store.accepts(&1, time(1, 6)));
        assert_eq!(store.next_deadline(), Some(now + ttl * 2));
        assert!(store.sweep(now + ttl * 2).is_empty());
        assert!(store.is_empty());
        assert_eq!(store.next_deadline(), None);
    }

    #[test]
    fn no_room_beyond_the_capacity() {
        let now = start();
        let mut store = MessageStore::new(1);
        store.add(1, time(1, 1), (), now);
        assert_eq!(store.add(2, time(1, 1), (), now), Outcome::Full);
        assert_eq!(store.add(1, time(1, 2), (), now), Outcome::Added);
    }
}
