//! Blocks of a channel that peers sent and whose verification has not ended.
//!
//! The same block usually comes from several peers within milliseconds. One copy is verified. Equal
//! copies are superfluous; a copy with other bytes waits until the verdict on the first, since one of
//! the two senders may be lying, and it is verified if the first is refused. So a forged copy that
//! comes first costs the honest one no more than a wait.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::event::ArrivedBlock;
use crate::types::PkiId;

/// Blocks of different numbers in verification at a time.
pub(super) const MAX_NUMBERS: usize = 128;
/// Bytes in verification, and waiting for it, at a time.
const MAX_BYTES: usize = 256 << 20;
/// Differing copies of one block that wait.
const MAX_ALTERNATIVES: usize = 3;

#[derive(Debug)]
struct InVerification {
    bytes: Bytes,
    /// Who sent exactly these bytes.
    senders: BTreeSet<PkiId>,
    alternatives: Vec<ArrivedBlock>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Arriving {
    blocks: BTreeMap<u64, InVerification>,
    bytes: usize,
}

/// What to do with a block that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// Verify it.
    Verify,
    /// A copy of it is being verified, or it waits behind one.
    InProgress,
    /// There is no room.
    Full,
}

impl Arriving {
    /// A block came that is not known yet.
    pub fn add(&mut self, block: &ArrivedBlock) -> Arrived {
        let size = block.bytes.len();
        let room = self.bytes.saturating_add(size) <= MAX_BYTES || self.bytes == 0;
        if let Some(known) = self.blocks.get_mut(&block.number) {
            if known.bytes == block.bytes {
                known.senders.insert(block.from);
                return Arrived::InProgress;
            }
            let from_same = |other: &ArrivedBlock| other.from == block.from;
            if known.alternatives.len() >= MAX_ALTERNATIVES
                || known.alternatives.iter().any(from_same)
                || !room
            {
                return Arrived::Full;
            }
            self.bytes += size;
            known.alternatives.push(block.clone());
            return Arrived::InProgress;
        }
        if self.blocks.len() >= MAX_NUMBERS || !room {
            return Arrived::Full;
        }
        self.bytes += size;
        self.blocks.insert(
            block.number,
            InVerification {
                bytes: block.bytes.clone(),
                senders: BTreeSet::from([block.from]),
                alternatives: Vec::new(),
            },
        );
        Arrived::Verify
    }

    /// How many blocks are being verified.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether a copy of this block is being verified.
    pub fn contains(&self, number: u64) -> bool {
        self.blocks.contains_key(&number)
    }

    /// A block is good. Returns all who sent these bytes; differing copies are dropped.
    pub fn verified(&mut self, number: u64) -> BTreeSet<PkiId> {
        let Some(done) = self.blocks.remove(&number) else {
            return BTreeSet::new();
        };
        self.bytes -= done.bytes.len();
        self.bytes -= sizes(&done.alternatives);
        done.senders
    }

    /// A block is forged. Returns who sent it, and the next copy to verify.
    pub fn refused(&mut self, number: u64) -> (BTreeSet<PkiId>, Option<ArrivedBlock>) {
        let Some(mut done) = self.blocks.remove(&number) else {
            return (BTreeSet::new(), None);
        };
        self.bytes -= done.bytes.len();
        if done.alternatives.is_empty() {
            return (done.senders, None);
        }
        let next = done.alternatives.remove(0);
        let mut senders = BTreeSet::from([next.from]);
        done.alternatives.retain(|other| {
            let same = other.bytes == next.bytes;
            if same {
                senders.insert(other.from);
                self.bytes -= other.bytes.len();
            }
            !same
        });
        self.blocks.insert(
            number,
            InVerification {
                bytes: next.bytes.clone(),
                senders,
                alternatives: done.alternatives,
            },
        );
        (done.senders, Some(next))
    }
}

fn sizes(blocks: &[ArrivedBlock]) -> usize {
    blocks.iter().map(|block| block.bytes.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Arrival;

    fn block(number: u64, bytes: &'static [u8], from: u8) -> ArrivedBlock {
        ArrivedBlock {
            number,
            bytes: Bytes::from_static(bytes),
            envelope: None,
            from: PkiId([from; 32]),
            how: Arrival::Push,
        }
    }

    fn peers(of: &[u8]) -> BTreeSet<PkiId> {
        of.iter().map(|byte| PkiId([*byte; 32])).collect()
    }

    #[test]
    fn equal_copies_are_verified_once() {
        let mut arriving = Arriving::default();
        assert_eq!(arriving.add(&block(1, b"good", 1)), Arrived::Verify);
        assert_eq!(arriving.add(&block(1, b"good", 2)), Arrived::InProgress);
        assert_eq!(arriving.verified(1), peers(&[1, 2]));
        assert!(!arriving.contains(1));
        assert_eq!(arriving.bytes, 0);
    }

    #[test]
    fn a_forged_copy_does_not_keep_out_the_good_one() {
        let mut arriving = Arriving::default();
        arriving.add(&block(1, b"forged", 1));
        assert_eq!(arriving.add(&block(1, b"good", 2)), Arrived::InProgress);
        assert_eq!(arriving.add(&block(1, b"good", 3)), Arrived::InProgress);
        let (liars, next) = arriving.refused(1);
        assert_eq!(liars, peers(&[1]));
        assert_eq!(next, Some(block(1, b"good", 2)));
        assert_eq!(arriving.verified(1), peers(&[2, 3]));
        assert_eq!(arriving.bytes, 0);
    }

    #[test]
    fn everything_is_bounded() {
        let mut arriving = Arriving::default();
        for number in 0..MAX_NUMBERS as u64 {
            assert_eq!(arriving.add(&block(number, b"x", 1)), Arrived::Verify);
        }
        assert_eq!(arriving.add(&block(999, b"x", 1)), Arrived::Full);
        for from in 2..5 {
            let bytes = [&b"a"[..], b"b", b"c"][usize::from(from) - 2];
            assert_eq!(arriving.add(&block(0, bytes, from)), Arrived::InProgress);
        }
        assert_eq!(arriving.add(&block(0, b"d", 9)), Arrived::Full);
        assert_eq!(arriving.refused(5).1, None);
        assert_eq!(arriving.refused(5), (BTreeSet::new(), None));
    }
}
