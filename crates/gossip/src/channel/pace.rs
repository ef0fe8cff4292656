//! How often a channel asks others for what it may have missed.

use crate::config::Rules;

/// Intervals between two rounds while there is nothing to learn, at most.
const LONGEST: u32 = 8;

/// The intervals from one round to the next: one while something happens, twice as many after each round in
/// calm, up to [`LONGEST`]. Fabric asks at the same pace always.
#[derive(Debug)]
pub(super) struct Pace(u32);

impl Pace {
    /// As fast as configured.
    pub(super) fn new() -> Self {
        Self(1)
    }

    /// A round is due. How many intervals later is the next one?
    pub(super) fn next(&mut self, calm: bool, rules: Rules) -> u32 {
        self.0 = match calm && rules == Rules::Selvedge {
            true => (self.0 * 2).min(LONGEST),
            false => 1,
        };
        self.0
    }

    /// Whether it is as slow as it gets.
    pub(super) fn is_slowest(&self) -> bool {
        self.0 == LONGEST
    }

    /// Something happened.
    pub(super) fn quicken(&mut self) {
        self.0 = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_slows_down_to_a_bound_and_trouble_ends_that() {
        let mut pace = Pace::new();
        for expected in [2, 4, 8, 8] {
            assert_eq!(pace.next(true, Rules::Selvedge), expected);
        }
        assert!(pace.is_slowest());
        assert_eq!(pace.next(false, Rules::Selvedge), 1);
        assert_eq!(pace.next(true, Rules::Fabric), 1);
        pace.next(true, Rules::Selvedge);
        pace.quicken();
        assert_eq!(pace.next(true, Rules::Selvedge), 2);
    }
}
