//! The [send queue](selvedge_gossip::send_queue) of one peer between the node, which fills it, and the streams to the
//! peer.
//!
//! A queue belongs to a peer, not to a stream: what waits survives the replacement of a stream.
//! One stream at a time, the current one, may take frames out.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use selvedge_gossip::send_queue::{Evicted, Lane, Pushed, SendQueue, Size};
use tokio::sync::Notify;

pub(super) struct PeerQueue {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    waiting: SendQueue<Bytes>,
    /// The stream that takes frames out.
    current: Option<u64>,
}

impl PeerQueue {
    pub(super) fn new(frames: usize, bytes: usize) -> Self {
        let state = State {
            waiting: SendQueue::new(Size { frames, bytes }),
            current: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn push(&self, lane: Lane, frame: Bytes) -> Pushed {
        let pushed = self.lock().waiting.push(lane, frame);
        if pushed.accepted {
            self.changed.notify_waiters();
        }
        pushed
    }

    /// Makes `stream` the one that takes frames out.
    pub(super) fn set_current(&self, stream: Option<u64>) {
        self.lock().current = stream;
        self.changed.notify_waiters();
    }

    /// Waits until `stream` is the current one and there is a frame. Nothing is lost when the
    /// future is dropped.
    pub(super) async fn pop(&self, stream: u64) -> Bytes {
        loop {
            // Made before the look, so that no change falls in between.
            let changed = self.changed.notified();
            if let Some(frame) = self.try_pop(stream) {
                return frame;
            }
            changed.await;
        }
    }

    fn try_pop(&self, stream: u64) -> Option<Bytes> {
        let mut state = self.lock();
        if state.current != Some(stream) {
            return None;
        }
        state.waiting.pop().map(|(_, frame)| frame)
    }

    /// Moves everything to `other`, in the order in which it would have left, as far as there is room. Returns
    /// how many frames were lost.
    pub(super) fn move_to(&self, other: &Self) -> usize {
        let lost = |(lane, frame)| {
            let pushed = other.push(lane, frame);
            let Evicted { bulk, control } = pushed.evicted;
            bulk + control + usize::from(!pushed.accepted)
        };
        std::iter::from_fn(|| self.lock().waiting.pop())
            .map(lost)
            .sum()
    }

    /// Empties the queue. Returns how many frames were in it.
    pub(super) fn clear(&self) -> usize {
        self.lock().waiting.clear()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
