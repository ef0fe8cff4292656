//! What the unit tests share.

use std::time::Instant;

/// An instant to count from. The only place of this crate that looks at a clock; what is tested sees
/// differences alone.
pub(crate) fn start() -> Instant {
    Instant::now()
}
