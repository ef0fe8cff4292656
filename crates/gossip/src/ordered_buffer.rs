//! Puts the verified blocks of one channel in order and hands them to the committer, each once.
//!
//! Blocks come from the ordering service, by push, pull and state transfer, in any order and several
//! times. The buffer holds those that are ahead of the next one, within a distance of the ledger's
//! height and within a number of bytes, and refuses the rest; what is refused is fetched again when
//! its turn comes. The next block is never refused for its size, so the channel cannot stand still.
//!
//! A block that was handed out counts against the commit window until the committer reports a
//! height beyond it. So a slow disk slows the intake instead of filling the memory: what waits for
//! the committer is bounded by [`Limits::commit_window`] and, from the second block on, by
//! [`Limits::commit_bytes`]; what waits for its turn by the rest. A wide window is what lets the
//! committer write many small blocks with one sync.
//!
//! Source of the rules: Fabric gossip/state (payload buffer, `addPayload`). Differences, on purpose:
//!
//! - Fabric makes the caller of a block from the ordering service or from state transfer wait while
//!   the buffer is full, in steps of 100 ms. Here the caller asks [`OrderedBuffer::accepts`] first.
//! - Fabric bounds the number of blocks only; here bytes are bounded too.
//! - Fabric's committer takes one block at a time; here the window lets it work on several.

use std::collections::{BTreeMap, VecDeque};

/// How much one channel may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Blocks at or beyond the ledger's height plus this many are refused when they come by push or
    /// pull (`peer.gossip.state.blockBufferSize`).
    pub lookahead: u64,
    /// The same for blocks whose sender can be held back: the ordering service, state transfer.
    pub lookahead_requested: u64,
    /// Most bytes of blocks that wait for their turn.
    pub bytes: usize,
    /// Most blocks that were handed out and not yet committed.
    pub commit_window: u64,
    /// Most bytes of them.
    pub commit_bytes: usize,
}

impl Limits {
    /// Fabric's bounds for a `peer.gossip.state.blockBufferSize`: so many blocks by push, twice as
    /// many in all.
    pub fn for_block_buffer_size(size: u64) -> Self {
        let size = size.max(1);
        Self {
            lookahead: size,
            lookahead_requested: size.saturating_mul(2),
            bytes: 128 << 20,
            commit_window: 16,
            commit_bytes: 32 << 20,
        }
    }
}

/// Whether somebody asked for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// It came by push or pull.
    Unasked,
    /// It came by state transfer, which requests no more than this buffer takes, and again what it
    /// did not take.
    Requested,
    /// It came from the ordering service, in order; whoever fetches there waits until
    /// [`OrderedBuffer::accepts`] it. Never refused for its size, since nobody would fetch it again.
    Ordered,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the buffer now.
    Buffered,
    /// It was there already, was handed out before, or is in the ledger.
    Duplicate,
    /// It is refused: too far beyond the ledger's height.
    TooFarAhead,
    /// It is refused: the bytes that may wait are used up.
    Full,
}

#[derive(Debug)]
struct Waiting<B> {
    block: B,
    bytes: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct OrderedBuffer<B> {
    limits: Limits,
    /// The ledger's height: every block below is committed.
    height: u64,
    /// The next block to hand out; never below `height`.
    next: u64,
    /// Blocks at or beyond `next`.
    waiting: BTreeMap<u64, Waiting<B>>,
    waiting_bytes: usize,
    /// Sizes of the blocks in `height..next`, those that the ledger got from elsewhere left out.
    handed_out: VecDeque<(u64, usize)>,
}

impl<B> OrderedBuffer<B> {
    /// An empty buffer above a ledger of `height` blocks.
    pub fn new(height: u64, limits: Limits) -> Self {
        Self {
            limits,
            height,
            next: height,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            handed_out: VecDeque::new(),
        }
    }

    /// The number of the next block to hand out.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The ledger's height as last reported.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The number of blocks that wait for their turn.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no block waits for its turn.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The bytes of the blocks that wait for their turn.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The highest block that waits for its turn.
    pub fn highest(&self) -> Option<u64> {
        self.waiting.last_key_value().map(|(number, _)| *number)
    }

    /// Whether this block is here, was handed out, or is in the ledger.
    pub fn has(&self, number: u64) -> bool {
        number < self.next || self.waiting.contains_key(&number)
    }

    /// Whether a block of this number would be taken, its size aside.
    pub fn accepts(&self, number: u64, demand: Demand) -> bool {
        number < self.end(demand)
    }

    /// Whether it makes sense to ask somebody for this block: it would be taken, and there is room for
    /// it, as there always is for the next one.
    pub fn wants(&self, number: u64, demand: Demand) -> bool {
        let room = number == self.next || self.waiting_bytes < self.limits.bytes / 2;
        room && self.accepts(number, demand) && !self.has(number)
    }

    /// The first number that is too far ahead.
    pub fn end(&self, demand: Demand) -> u64 {
        let lookahead = match demand {
            Demand::Unasked => self.limits.lookahead,
            Demand::Requested | Demand::Ordered => self.limits.lookahead_requested,
        };
        self.height.saturating_add(lookahead)
    }

    /// The numbers in `next..end` that are not here.
    pub fn missing(&self, end: u64) -> impl Iterator<Item = u64> + '_ {
        (self.next..end).filter(|number| !self.waiting.contains_key(number))
    }

    /// Offers a verified block of so many bytes.
    pub fn insert(&mut self, number: u64, bytes: usize, block: B, demand: Demand) -> Inserted {
        if self.has(number) {
            return Inserted::Duplicate;
        }
        if !self.accepts(number, demand) {
            return Inserted::TooFarAhead;
        }
        let sum = self.waiting_bytes.saturating_add(bytes);
        let always_fits = number == self.next || demand == Demand::Ordered;
        if sum > self.limits.bytes && !always_fits {
            return Inserted::Full;
        }
        self.waiting.insert(number, Waiting { block, bytes });
        self.waiting_bytes = sum;
        Inserted::Buffered
    }

    /// Takes the next block out if it is here and the committer has room for it.
    ///
    /// Call it until it returns `None` after each insertion and each report of a height.
    pub fn take_next(&mut self) -> Option<B> {
        if self.next - self.height >= self.limits.commit_window {
            return None;
        }
        let outside: usize = self.handed_out.iter().map(|(_, bytes)| bytes).sum();
        let size = self.waiting.get(&self.next)?.bytes;
        if !self.handed_out.is_empty() && outside.saturating_add(size) > self.limits.commit_bytes {
            return None;
        }
        let Waiting { block, bytes } = self.waiting.remove(&self.next)?;
        self.waiting_bytes -= bytes;
        self.handed_out.push_back((self.next, bytes));
        self.next += 1;
        Some(block)
    }

    /// The ledger has `height` blocks now. A height that goes back is ignored; one beyond what was
    /// handed out (the ledger got blocks from elsewhere) drops what it makes superfluous.
    pub fn committed(&mut self, height: u64) {
        self.height = self.height.max(height);
        self.next = self.next.max(self.height);
        let height = self.height;
        self.handed_out.retain(|(number, _)| *number >= height);
        let ahead = self.waiting.split_off(&self.next);
        let superfluous = std::mem::replace(&mut self.waiting, ahead);
        self.waiting_bytes -= superfluous
            .values()
            .map(|waiting| waiting.bytes)
            .sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            lookahead: 5,
            lookahead_requested: 10,
            bytes: 100,
            commit_window: 2,
            commit_bytes: 1000,
        }
    }

    fn drain(buffer: &mut OrderedBuffer<u64>) -> Vec<u64> {
        std::iter::from_fn(|| buffer.take_next()).collect()
    }

    #[test]
    fn blocks_leave_in_order_and_within_the_commit_window() {
        let mut buffer = OrderedBuffer::new(7, limits());
        for number in [9, 8, 10, 7] {
            let inserted = buffer.insert(number, 1, number, Demand::Unasked);
            assert_eq!(inserted, Inserted::Buffered);
        }
        assert_eq!(drain(&mut buffer), [7, 8]);
        buffer.committed(8);
        assert_eq!(drain(&mut buffer), [9]);
        buffer.committed(10);
        assert_eq!(drain(&mut buffer), [10]);
        assert!(buffer.is_empty());
        assert_eq!((buffer.next(), buffer.height()), (11, 10));
    }

    #[test]
    fn large_blocks_leave_one_by_one() {
        let mut buffer = OrderedBuffer::new(1, limits());
        for (number, bytes) in [(1, 5000), (2, 600), (3, 400), (4, 1)] {
            buffer.insert(number, bytes, number, Demand::Ordered);
        }
        assert_eq!(drain(&mut buffer), [1]);
        buffer.committed(2);
        assert_eq!(drain(&mut buffer), [2, 3]);
        buffer.committed(3);
        assert_eq!(drain(&mut buffer), [4]);
    }

    #[test]
    fn the_same_block_again_is_a_duplicate_at_every_stage() {
        let mut buffer = OrderedBuffer::new(1, limits());
        buffer.insert(1, 1, 1, Demand::Unasked);
        let again = |buffer: &mut OrderedBuffer<u64>| buffer.insert(1, 1, 1, Demand::Requested);
        assert_eq!(again(&mut buffer), Inserted::Duplicate);
        buffer.take_next();
        assert_eq!(again(&mut buffer), Inserted::Duplicate);
        buffer.committed(2);
        assert_eq!(again(&mut buffer), Inserted::Duplicate);
        assert_eq!(buffer.insert(0, 1, 0, Demand::Unasked), Inserted::Duplicate);
    }

    #[test]
    fn the_distance_is_counted_from_the_ledger_and_depends_on_the_source() {
        let mut buffer = OrderedBuffer::new(100, limits());
        assert_eq!(
            buffer.insert(105, 1, 105, Demand::Unasked),
            Inserted::TooFarAhead
        );
        assert_eq!(
            buffer.insert(u64::MAX, 1, u64::MAX, Demand::Requested),
            Inserted::TooFarAhead
        );
        assert_eq!(
            buffer.insert(104, 1, 104, Demand::Unasked),
            Inserted::Buffered
        );
        assert_eq!(
            buffer.insert(109, 1, 109, Demand::Requested),
            Inserted::Buffered
        );
        assert_eq!(
            buffer.insert(110, 1, 110, Demand::Requested),
            Inserted::TooFarAhead
        );
    }

    #[test]
    fn bytes_are_bounded_but_the_next_block_always_fits() {
        let mut buffer = OrderedBuffer::new(0, limits());
        assert_eq!(buffer.insert(1, 90, 1, Demand::Unasked), Inserted::Buffered);
        for demand in [Demand::Unasked, Demand::Requested] {
            assert_eq!(buffer.insert(2, 11, 2, demand), Inserted::Full);
        }
        assert_eq!(buffer.insert(2, 11, 2, Demand::Ordered), Inserted::Buffered);
        assert_eq!(
            buffer.insert(0, 5000, 0, Demand::Unasked),
            Inserted::Buffered
        );
        assert_eq!(drain(&mut buffer), [0]);
        buffer.committed(1);
        assert_eq!(drain(&mut buffer), [1, 2]);
        assert_eq!(buffer.bytes(), 0);
    }

    #[test]
    fn a_height_from_elsewhere_drops_what_it_makes_superfluous() {
        let mut buffer = OrderedBuffer::new(0, limits());
        for number in 1..5 {
            buffer.insert(number, 10, number, Demand::Unasked);
        }
        buffer.committed(3);
        assert_eq!((buffer.len(), buffer.bytes()), (2, 20));
        assert_eq!(drain(&mut buffer), [3, 4]);
        buffer.committed(1);
        assert_eq!(buffer.height(), 3);
    }

    #[test]
    fn missing_numbers_are_those_between() {
        let mut buffer = OrderedBuffer::new(10, limits());
        buffer.insert(12, 1, 12, Demand::Unasked);
        assert_eq!(buffer.missing(14).collect::<Vec<_>>(), [10, 11, 13]);
        assert_eq!(buffer.missing(3).count(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, bool),
        Commit,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let insert = (0u64..40, any::<bool>()).prop_map(|(n, r)| Step::Insert(n, r));
        proptest::collection::vec(prop_oneof![4 => insert, 1 => Just(Step::Commit)], 0..600)
    }

    proptest! {
        /// Whatever the order of arrival: handed out in sequence, each once, within the bounds.
        #[test]
        fn every_block_is_handed_out_once_and_in_order(steps in steps()) {
            let mut buffer = OrderedBuffer::new(0, limits());
            let mut delivered = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(number, requested) => {
                        let demand = if requested { Demand::Requested } else { Demand::Unasked };
                        buffer.insert(number, 7, number, demand);
                    }
                    Step::Commit => buffer.committed(delivered.len() as u64),
                }
                delivered.extend(drain(&mut buffer));
                prop_assert!(buffer.len() <= 10);
                prop_assert!(buffer.bytes() <= 100 + 7);
                prop_assert_eq!(buffer.bytes(), buffer.len() * 7);
                prop_assert!(buffer.next() - buffer.height() <= 2);
            }
            prop_assert_eq!(&delivered, &(0..delivered.len() as u64).collect::<Vec<_>>());
            // Whoever offers everything again, in any order, brings it to its end.
            while delivered.len() < 40 {
                buffer.committed(delivered.len() as u64);
                for number in (0..40).rev() {
                    buffer.insert(number, 7, number, Demand::Requested);
                }
                delivered.extend(drain(&mut buffer));
            }
            prop_assert_eq!(delivered, (0..40).collect::<Vec<_>>());
        }
    }
}
