use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Lets one log entry pass in each interval and counts the others. For entries that a stranger
/// can cause at will.
///
/// ```
/// use selvedge_peer::logging::LogLimit;
/// static REFUSED: LogLimit = LogLimit::every_seconds(10);
///
/// if let Some(suppressed) = REFUSED.pass() {
///     tracing::warn!(target: "gossip.comm", suppressed, "refused a connection");
/// }
/// ```
#[derive(Debug)]
pub struct LogLimit {
    interval: Duration,
    /// Milliseconds since the first use in this process, plus one; 0 before the first entry.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl LogLimit {
    /// At most one entry in so many seconds.
    #[must_use]
    pub const fn every_seconds(seconds: u64) -> Self {
        Self {
            interval: Duration::from_secs(seconds),
            last: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// `Some` if the entry may be written: with the number of those that were not, since the
    /// last one that was. Takes no lock.
    pub fn pass(&self) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        self.pass_at(START.get_or_init(Instant::now).elapsed())
    }

    fn pass_at(&self, now: Duration) -> Option<u64> {
        let now = u64::try_from(now.as_millis())
            .unwrap_or(u64::MAX - 1)
            .saturating_add(1);
        let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let last = self.last.load(Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= interval;
        if due
            && self
                .last
                .compare_exchange(last, now, Relaxed, Relaxed)
                .is_ok()
        {
            return Some(self.suppressed.swap(0, Relaxed));
        }
        self.suppressed.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_in_each_interval() {
        let limit = LogLimit::every_seconds(10);
        let at = |seconds| limit.pass_at(Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(0), None);
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(2));
        assert_eq!(at(11), None);
        assert_eq!(at(100), Some(1));
        assert_eq!(at(110), Some(0));
    }
}
