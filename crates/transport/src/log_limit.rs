//! Logging at a limited rate, for what a stranger can cause as often as he likes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Permits one message a second. What it holds back is counted.
#[derive(Debug)]
pub(crate) struct LogLimit {
    start: Instant,
    /// The second, since `start` and counted from 1, of the last message.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }
}

impl LogLimit {
    /// `Some` if a message may be logged now, with the number of those held back before it.
    pub(crate) fn permit(&self) -> Option<u64> {
        let second = self.start.elapsed().as_secs() + 1;
        if self.last.swap(second, Relaxed) == second {
            self.suppressed.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_back_and_counts() {
        let limit = LogLimit::default();
        assert_eq!(limit.permit(), Some(0));
        // A second may pass between two calls, but not many times.
        let held = (0..100).filter(|_| limit.permit().is_none()).count();
        assert!(held >= 90, "{held} of 100 held back");
    }
}
