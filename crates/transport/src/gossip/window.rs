//! How much of one peer this node has in hand at a time.
//!
//! All streams share one queue to the node, which verifies what it takes from it. Without a bound for
//! each, the frames of one peer that sends faster than they are verified would be most of what waits, and
//! all others would wait behind them. So a stream is not read on until the node is done with enough of
//! what it brought; its peer notices by HTTP/2's flow control, the others not at all.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one stream that the node has in hand, unless a single frame has more.
const BYTES: u32 = 16 << 20;

/// The window of one stream.
pub(super) struct Window {
    room: Arc<Semaphore>,
    /// What the smallest frame counts as, so that their number is bounded too.
    least: u32,
}

/// A frame's part of its stream's window, which is free again when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Hold {
    _part: Arc<OwnedSemaphorePermit>,
}

impl Window {
    /// At most `frames` at a time.
    pub(super) fn new(frames: usize) -> Self {
        let frames = u32::try_from(frames.max(1)).unwrap_or(BYTES);
        Self {
            room: Arc::new(Semaphore::new(BYTES as usize)),
            least: (BYTES / frames).max(1),
        }
    }

    /// Waits for room for a frame of `bytes`. `None` never comes about: nobody closes a window.
    pub(super) async fn hold(&self, bytes: usize) -> Option<Hold> {
        let bytes = u32::try_from(bytes).unwrap_or(BYTES);
        let part = bytes.clamp(self.least, BYTES);
        let part = self.room.clone().acquire_many_owned(part).await.ok()?;
        Some(Hold {
            _part: Arc::new(part),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn frames_and_bytes_are_bounded_but_one_frame_always_fits() {
        let window = Window::new(20);
        let take = |bytes| window.hold(bytes).now_or_never().flatten();
        let small: Vec<_> = (0..30).filter_map(|_| take(10)).collect();
        assert_eq!(small.len(), 20);
        drop(small);
        let half = take(BYTES as usize / 2).unwrap();
        assert!(take(BYTES as usize).is_none());
        let clone = half.clone();
        drop(half);
        assert!(take(BYTES as usize).is_none());
        drop(clone);
        let large = take(usize::MAX);
        assert!(large.is_some() && take(0).is_none());
    }
}
