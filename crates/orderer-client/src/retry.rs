//! How long to pause after failures.
//!
//! CFT (`blocksprovider/deliverer.go`): the pause grows by 1.2 with each failure in a row. BFT
//! (`bft_deliverer.go`): by 2 with each round through all nodes, in which every node has failed.

use std::time::Duration;

use crate::options::{FetchOptions, Mode};

/// Failures in a row, and what they mean.
#[derive(Debug)]
pub(crate) struct Retry {
    mode: Mode,
    initial: Duration,
    max: Duration,
    give_up_after: Option<Duration>,
    failures: u32,
    paused: Duration,
}

/// What to do before the next attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    AtOnce,
    /// The second is the sum of all pauses in a row.
    Pause(Duration, Duration),
    GiveUp,
}

impl Retry {
    pub(crate) fn new(options: &FetchOptions) -> Self {
        Self {
            mode: options.mode,
            initial: options.retry_initial,
            max: options.retry_max,
            give_up_after: options.give_up_after,
            failures: 0,
            paused: Duration::ZERO,
        }
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
        self.paused = Duration::ZERO;
    }

    /// Counts the pause that it returns. `orderers` is how many nodes there are to try.
    pub(crate) fn next(&mut self, orderers: usize) -> Next {
        if self.failures == 0 {
            return Next::AtOnce;
        }
        let (factor, exponent) = match self.mode {
            Mode::Cft => (1.2, self.failures - 1),
            Mode::Bft => {
                let orderers = u32::try_from(orderers).unwrap_or(u32::MAX).max(1);
                (2.0_f64, self.failures / orderers)
            }
        };
        let pause = scaled(self.initial, factor, exponent).min(self.max);
        self.paused = self.paused.saturating_add(pause);
        if self.give_up_after.is_some_and(|limit| self.paused > limit) {
            return Next::GiveUp;
        }
        Next::Pause(pause, self.paused)
    }
}

/// `initial * factor ^ exponent`, as large as a duration can be at most.
pub(crate) fn scaled(initial: Duration, factor: f64, exponent: u32) -> Duration {
    let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
    let seconds = initial.as_secs_f64() * factor.powi(exponent);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(mode: Mode, give_up_after: Option<Duration>) -> Retry {
        let retry_max = Duration::from_secs(10);
        Retry::new(&FetchOptions {
            mode,
            give_up_after,
            retry_max,
            ..FetchOptions::default()
        })
    }

    fn pauses(retry: &mut Retry, orderers: usize, count: usize) -> Vec<u128> {
        let pause = |_| {
            retry.failed();
            match retry.next(orderers) {
                Next::Pause(pause, _) => pause.as_millis(),
                other => panic!("{other:?}"),
            }
        };
        (0..count).map(pause).collect()
    }

    #[test]
    fn cft_pauses_grow_with_each_failure_up_to_the_longest() {
        let mut retry = retry(Mode::Cft, None);
        assert_eq!(retry.next(3), Next::AtOnce);
        assert_eq!(pauses(&mut retry, 3, 5), [100, 120, 144, 172, 207]);
        assert_eq!(pauses(&mut retry, 3, 100).last(), Some(&10_000));
        retry.reset();
        assert_eq!(pauses(&mut retry, 3, 1), [100]);
    }

    #[test]
    fn bft_pauses_grow_with_each_round() {
        let mut retry = retry(Mode::Bft, None);
        assert_eq!(
            pauses(&mut retry, 3, 7),
            [100, 100, 200, 200, 200, 400, 400]
        );
        assert_eq!(pauses(&mut retry, 0, 100).last(), Some(&10_000));
    }

    #[test]
    fn pauses_in_a_row_are_added_up_to_the_point_of_giving_up() {
        let mut retry = retry(Mode::Cft, Some(Duration::from_millis(300)));
        pauses(&mut retry, 1, 2);
        retry.failed();
        assert_eq!(retry.next(1), Next::GiveUp);
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let mut retry = retry(Mode::Bft, None);
        retry.failures = u32::MAX;
        retry.failed();
        assert_eq!(
            retry.next(1),
            Next::Pause(Duration::from_secs(10), Duration::from_secs(10))
        );
    }
}
