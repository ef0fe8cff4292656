//! Peers that lately did not deliver what they said they have.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::types::PkiId;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(64);

#[derive(Debug, Clone, Copy)]
struct Failure {
    times: u32,
    until: Instant,
}

/// Each failure in a row keeps a peer from being chosen for twice as long: 1 s, 2 s, ... 64 s. One
/// success ends that. It is never more than a preference: nobody is disconnected for it.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: BTreeMap<PkiId, Failure>,
}

impl Backoff {
    /// The peer did not deliver.
    pub fn failed(&mut self, peer: PkiId, now: Instant) {
        let failure = self.failures.entry(peer).or_insert(Failure {
            times: 0,
            until: now,
        });
        let wait = FIRST * 2u32.saturating_pow(failure.times.min(6));
        failure.until = now + wait.min(LONGEST);
        failure.times = failure.times.saturating_add(1);
    }

    /// The peer delivered, or is gone.
    pub fn clear(&mut self, peer: &PkiId) {
        self.failures.remove(peer);
    }

    /// How many peers did not deliver.
    pub fn len(&self) -> usize {
        self.failures.len()
    }

    /// Whether the peer should not be chosen now.
    pub fn avoids(&self, peer: &PkiId, now: Instant) -> bool {
        self.failures
            .get(peer)
            .is_some_and(|failure| now < failure.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn waits_double_and_end_with_a_success() {
        let now = start();
        let peer = PkiId([7; 32]);
        let mut backoff = Backoff::default();
        assert!(!backoff.avoids(&peer, now));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            backoff.failed(peer, now);
            let end = now + Duration::from_secs(seconds);
            assert!(backoff.avoids(&peer, end - Duration::from_nanos(1)));
            assert!(!backoff.avoids(&peer, end));
        }
        backoff.clear(&peer);
        assert!(!backoff.avoids(&peer, now));
    }
}
