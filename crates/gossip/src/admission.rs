//! How much other peers may have this peer do at a time.

use std::collections::BTreeMap;

use crate::types::PkiId;

/// Counts what other peers have asked for and the outside has not done yet. Bounded for all of them together,
/// and for each.
#[derive(Debug)]
pub struct Admission {
    by_peer: BTreeMap<PkiId, usize>,
    total: usize,
    most: usize,
    most_of_a_peer: usize,
}

impl Admission {
    /// Nothing is under way.
    pub fn new(most: usize, most_of_a_peer: usize) -> Self {
        Self {
            by_peer: BTreeMap::new(),
            total: 0,
            most,
            most_of_a_peer,
        }
    }

    /// A peer wants something. If it is admitted, [`Self::done`] must follow.
    #[must_use]
    pub fn admit(&mut self, peer: PkiId) -> bool {
        let of_peer = self.by_peer.get(&peer).copied().unwrap_or(0);
        if self.total >= self.most || of_peer >= self.most_of_a_peer {
            return false;
        }
        self.by_peer.insert(peer, of_peer + 1);
        self.total += 1;
        true
    }

    /// Something is done that this peer wanted. `false`: nothing of it was under way.
    pub fn done(&mut self, peer: &PkiId) -> bool {
        let Some(of_peer) = self.by_peer.get_mut(peer) else {
            return false;
        };
        *of_peer -= 1;
        self.total -= 1;
        if *of_peer == 0 {
            self.by_peer.remove(peer);
        }
        true
    }

    /// How much may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How much is under way.
    pub fn under_way(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_for_one_and_for_all() {
        let peer = |byte| PkiId([byte; 32]);
        let mut admission = Admission::new(5, 2);
        assert!(admission.admit(peer(1)) && admission.admit(peer(1)));
        assert!(!admission.admit(peer(1)));
        assert!(admission.done(&peer(1)));
        assert!(admission.admit(peer(1)));
        assert!(admission.admit(peer(2)) && admission.admit(peer(3)) && admission.admit(peer(4)));
        assert!(!admission.admit(peer(5)));
        assert_eq!(admission.under_way(), 5);
        for byte in [1, 1, 2, 3, 4] {
            assert!(admission.done(&peer(byte)));
        }
        assert!(!admission.done(&peer(1)));
        assert_eq!((admission.under_way(), admission.by_peer.len()), (0, 0));
    }
}
