//! When pending messages become a block (Fabric: orderer/common/blockcutter).

use selvedge_protos::common::Envelope;
use selvedge_protos::orderer::BatchSize;

/// Collects messages until they fill a block. Knows no time: who calls it cuts at the batch timeout.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    pending: Vec<Envelope>,
    pending_bytes: usize,
}

/// The messages of one block.
pub(super) type Batch = Vec<Envelope>;

impl Cutter {
    /// Takes the next message in order and returns the batches that it completes, none to two:
    ///
    /// - a message above `preferred_max_bytes` gets a block of its own, after what was pending;
    /// - a message that would bring the pending ones above `preferred_max_bytes` starts a new block;
    /// - `max_message_count` messages complete a block.
    pub(super) fn ordered(&mut self, message: Envelope, limits: &BatchSize) -> Vec<Batch> {
        let preferred = usize::try_from(limits.preferred_max_bytes).unwrap_or(usize::MAX);
        let size = message_bytes(&message);
        if size > preferred {
            return self.cut().into_iter().chain([vec![message]]).collect();
        }
        let mut batches = Vec::new();
        if self.pending_bytes.saturating_add(size) > preferred {
            batches.extend(self.cut());
        }
        self.pending.push(message);
        self.pending_bytes += size;
        let count = usize::try_from(limits.max_message_count).unwrap_or(usize::MAX);
        if self.pending.len() >= count {
            batches.extend(self.cut());
        }
        batches
    }

    /// Whether messages wait for a block.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The pending messages as a block, if there are any.
    pub(super) fn cut(&mut self) -> Option<Batch> {
        self.pending_bytes = 0;
        let batch = std::mem::take(&mut self.pending);
        (!batch.is_empty()).then_some(batch)
    }
}

/// The size that limits are about: payload and signature, without their framing.
fn message_bytes(message: &Envelope) -> usize {
    message.payload.len() + message.signature.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchSize = BatchSize {
        max_message_count: 3,
        absolute_max_bytes: 1000,
        preferred_max_bytes: 100,
    };

    fn message(bytes: usize) -> Envelope {
        Envelope {
            payload: vec![1; bytes - 10].into(),
            signature: vec![2; 10].into(),
        }
    }

    fn sizes(batches: &[Batch]) -> Vec<Vec<usize>> {
        let sizes = |batch: &Batch| batch.iter().map(message_bytes).collect();
        batches.iter().map(sizes).collect()
    }

    #[test]
    fn a_block_is_cut_at_the_message_count() {
        let mut cutter = Cutter::default();
        assert!(cutter.cut().is_none());
        assert!(cutter.ordered(message(20), &LIMITS).is_empty());
        assert!(cutter.ordered(message(20), &LIMITS).is_empty());
        let batches = cutter.ordered(message(21), &LIMITS);
        assert_eq!(sizes(&batches), [[20, 20, 21]]);
        assert!(!cutter.is_pending());
    }

    #[test]
    fn a_message_that_would_overflow_starts_the_next_block() {
        let mut cutter = Cutter::default();
        assert!(cutter.ordered(message(60), &LIMITS).is_empty());
        assert!(cutter.ordered(message(40), &LIMITS).is_empty());
        let batches = cutter.ordered(message(11), &LIMITS);
        assert_eq!(sizes(&batches), [[60, 40]]);
        assert!(cutter.is_pending());
        assert_eq!(sizes(&[cutter.cut().unwrap()]), [[11]]);
    }

    #[test]
    fn an_overflowing_message_can_complete_two_blocks() {
        let limits = BatchSize {
            max_message_count: 1,
            ..LIMITS
        };
        let mut cutter = Cutter::default();
        assert_eq!(sizes(&cutter.ordered(message(60), &limits)), [[60]]);
        let mut cutter = Cutter {
            pending: vec![message(60)],
            pending_bytes: 60,
        };
        let batches = cutter.ordered(message(50), &limits);
        assert_eq!(sizes(&batches), [[60], [50]]);
    }

    #[test]
    fn a_message_above_the_preferred_size_stands_alone() {
        let mut cutter = Cutter::default();
        assert_eq!(sizes(&cutter.ordered(message(101), &LIMITS)), [[101]]);
        assert!(cutter.ordered(message(20), &LIMITS).is_empty());
        let batches = cutter.ordered(message(101), &LIMITS);
        assert_eq!(sizes(&batches), [vec![20], vec![101]]);
        assert!(!cutter.is_pending());
    }
}
