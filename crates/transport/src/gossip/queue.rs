//! The frames that wait for one peer: control before bulk, and bulk in a lane for each channel
//! ([`lanes`](super::lanes)).
//!
//! The bounds are those of the whole queue, and no channel can use them against another: if there is no room
//! for a bulk frame, a lane that holds more than the frame's own would hold with it gives way; if there is none,
//! the frame is refused. A control frame is only refused if other control frames leave no room.
//!
//! A queue belongs to a peer, not to a stream: what waits survives the replacement of a stream.
//! One stream at a time, the current one, may take frames out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::FrameClass;
use super::lanes::{Lanes, Size};

pub(super) struct SendQueue {
    limit: Size,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    control: VecDeque<Bytes>,
    control_size: Size,
    bulk: Lanes,
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
            limit: Size {
                frames: max_frames,
                bytes: max_bytes,
            },
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Adds a frame if there is room, or if bulk can make room. An empty queue takes a frame of any size.
    pub(super) fn push(&self, class: FrameClass, frame: Bytes) -> Pushed {
        let mut state = self.lock();
        let Some(evicted) = self.make_room(&mut state, &class, &frame) else {
            return Pushed {
                accepted: false,
                evicted: 0,
            };
        };
        match class {
            FrameClass::Control => {
                state.control_size = state.control_size.with(&frame);
                state.control.push_back(frame);
            }
            FrameClass::Bulk(lane) => state.bulk.push(lane, frame),
        }
        drop(state);
        self.changed.notify_waiters();
        Pushed {
            accepted: true,
            evicted,
        }
    }

    /// How many bulk frames made room; `None` if there is none, and then nothing has changed.
    fn make_room(&self, state: &mut State, class: &FrameClass, frame: &Bytes) -> Option<usize> {
        if state.len() == 0 {
            return Some(0);
        }
        let limit = state.control_size.with(frame).rest_of(self.limit);
        match class {
            FrameClass::Bulk(lane) => {
                let own = state.bulk.size_of(lane).with(frame);
                state.bulk.shrink(limit?, own)
            }
            FrameClass::Control => {
                let limit = match limit {
                    None if state.control.is_empty() => Size::default(),
                    limit => limit?,
                };
                state.bulk.shrink(limit, Size::default())
            }
        }
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
        state.pop().map(|(_, frame)| frame)
    }

    /// Moves everything to `other`, in the order in which it would have left, as far as there is room. Returns
    /// how many frames were lost.
    pub(super) fn move_to(&self, other: &Self) -> usize {
        let mut moved = std::mem::take(&mut *self.lock());
        std::iter::from_fn(|| moved.pop())
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
        self.control.len() + self.bulk.size().frames
    }

    fn pop(&mut self) -> Option<(FrameClass, Bytes)> {
        if let Some(frame) = self.control.pop_front() {
            self.control_size = self.control_size.without(&frame);
            return Some((FrameClass::Control, frame));
        }
        let (lane, frame) = self.bulk.pop()?;
        Some((FrameClass::Bulk(lane), frame))
    }
}

#[cfg(test)]
mod tests;
