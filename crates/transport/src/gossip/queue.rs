//! The frames that wait for one peer.
//!
//! A queue belongs to a peer, not to a stream: what waits survives the replacement of a stream.
//! One stream at a time, the current one, may take frames out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::FrameClass;

pub(super) struct SendQueue {
    max_frames: usize,
    max_bytes: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    control: VecDeque<Bytes>,
    bulk: VecDeque<Bytes>,
    bytes: usize,
    current: Option<u64>,
}

/// What a push did to the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    pub(super) accepted: bool,
    /// Bulk frames that made room.
    pub(super) evicted: usize,
}

impl SendQueue {
    pub(super) fn new(max_frames: usize, max_bytes: usize) -> Self {
        Self {
            max_frames,
            max_bytes,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Adds a frame if there is room, or if it is control and bulk can make room, oldest first. An
    /// empty queue takes a frame of any size.
    pub(super) fn push(&self, class: FrameClass, frame: Bytes) -> Pushed {
        let mut state = self.lock();
        let mut evicted = 0;
        while !self.has_room(&state, frame.len()) {
            let bulk = if class == FrameClass::Control {
                state.bulk.pop_front()
            } else {
                None
            };
            let Some(bulk) = bulk else {
                return Pushed {
                    accepted: false,
                    evicted,
                };
            };
            state.bytes = state.bytes.saturating_sub(bulk.len());
            evicted += 1;
        }
        state.bytes = state.bytes.saturating_add(frame.len());
        match class {
            FrameClass::Control => state.control.push_back(frame),
            FrameClass::Bulk => state.bulk.push_back(frame),
        }
        drop(state);
        self.changed.notify_waiters();
        Pushed {
            accepted: true,
            evicted,
        }
    }

    fn has_room(&self, state: &State, length: usize) -> bool {
        let frames = state.len();
        frames == 0
            || (frames < self.max_frames && state.bytes.saturating_add(length) <= self.max_bytes)
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
        let frame = match state.control.pop_front() {
            Some(frame) => frame,
            None => state.bulk.pop_front()?,
        };
        state.bytes = state.bytes.saturating_sub(frame.len());
        Some(frame)
    }

    /// Moves everything to `other`, as far as there is room. Returns how many frames were lost.
    pub(super) fn move_to(&self, other: &Self) -> usize {
        let State { control, bulk, .. } = std::mem::take(&mut *self.lock());
        let control = control
            .into_iter()
            .map(|frame| (FrameClass::Control, frame));
        let bulk = bulk.into_iter().map(|frame| (FrameClass::Bulk, frame));
        control
            .chain(bulk)
            .map(|(class, frame)| {
                let pushed = other.push(class, frame);
                pushed.evicted + usize::from(!pushed.accepted)
            })
            .sum()
    }

    /// Empties the queue. Returns how many frames were in it.
    pub(super) fn clear(&self) -> usize {
        let mut state = self.lock();
        let frames = state.len();
        let current = state.current;
        *state = State {
            current,
            ..State::default()
        };
        frames
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn len(&self) -> usize {
        self.control.len() + self.bulk.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn frame(length: usize) -> Bytes {
        Bytes::from(vec![0; length])
    }

    #[test]
    fn control_pushes_out_the_oldest_bulk_and_bulk_nothing() {
        let queue = SendQueue::new(2, 1000);
        queue.push(FrameClass::Bulk, frame(1));
        queue.push(FrameClass::Bulk, frame(2));
        let full = Pushed {
            accepted: false,
            evicted: 0,
        };
        assert_eq!(queue.push(FrameClass::Bulk, frame(3)), full);
        let made_room = Pushed {
            accepted: true,
            evicted: 1,
        };
        assert_eq!(queue.push(FrameClass::Control, frame(4)), made_room);
        assert_eq!(queue.push(FrameClass::Control, frame(5)), made_room);
        assert_eq!(queue.push(FrameClass::Control, frame(6)), full);
        queue.set_current(Some(1));
        assert_eq!(queue.try_pop(1).unwrap().len(), 4);
        assert_eq!(queue.try_pop(1).unwrap().len(), 5);
        assert_eq!(queue.try_pop(1), None);
    }

    #[test]
    fn bytes_are_bounded_but_one_frame_always_fits() {
        let queue = SendQueue::new(10, 100);
        assert!(queue.push(FrameClass::Bulk, frame(500)).accepted);
        assert!(!queue.push(FrameClass::Bulk, frame(1)).accepted);
        let pushed = queue.push(FrameClass::Control, frame(1));
        assert_eq!(
            pushed,
            Pushed {
                accepted: true,
                evicted: 1
            }
        );
        assert!(queue.push(FrameClass::Bulk, frame(99)).accepted);
        assert!(!queue.push(FrameClass::Bulk, frame(1)).accepted);
        assert_eq!(queue.clear(), 2);
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn only_the_current_stream_takes_frames_and_a_change_wakes_the_next() {
        let queue = Arc::new(SendQueue::new(10, 100));
        queue.set_current(Some(1));
        queue.push(FrameClass::Bulk, frame(1));
        assert_eq!(queue.try_pop(2), None);
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.pop(2).await.len() }
        });
        tokio::task::yield_now().await;
        queue.set_current(Some(2));
        assert_eq!(waiting.await.unwrap(), 1);
    }

    #[test]
    fn what_waits_can_move_to_another_queue() {
        let (from, to) = (SendQueue::new(10, 100), SendQueue::new(1, 100));
        from.push(FrameClass::Control, frame(1));
        from.push(FrameClass::Bulk, frame(2));
        assert_eq!(from.move_to(&to), 1);
        assert!(from.is_empty() && !to.is_empty());
    }
}
