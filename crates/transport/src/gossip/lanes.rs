//! Bulk frames that wait for one peer: a lane for each channel, and who has the next turn.
//!
//! Turns are by bytes, by self-clocked fair queueing (Golestani, 1994). The clock counts bytes: a frame is due
//! as many bytes as it has after the moment when it came to the front of its lane, the frame that is due first
//! leaves, and the clock then stands where that one was due. So a channel whose blocks are small passes by
//! another's large responses, and while both wait each gets as many bytes as the other. An empty lane is
//! forgotten; its next frame is due as late as if the lane had been kept, so nobody wins by being empty for a
//! moment.
//!
//! What must make room is taken from the back of the lane that holds most of what is short, frames or bytes: a
//! receiver needs the frames in front first.
//!
//! Lanes are as many as there are frames at most. Every operation looks at each of them once; making room does
//! so for every frame that it drops.
//!
//! Difference from Go: there one FIFO of `peer.gossip.sendBuffSize` messages a peer holds all channels and all
//! kinds, and what finds it full is dropped (Fabric: `gossip/comm`), so that one channel's state transfer delays
//! and drops the blocks of all others.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Lane;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Lanes {
    waiting: Vec<Waiting>,
    size: Size,
    clock: u64,
}

/// One lane; never empty.
struct Waiting {
    lane: Lane,
    frames: VecDeque<Bytes>,
    size: Size,
    /// The clock when its front frame came to the front.
    since: u64,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) frames: usize,
    pub(super) bytes: usize,
}

impl Size {
    pub(super) fn with(self, frame: &Bytes) -> Self {
        Self {
            frames: self.frames.saturating_add(1),
            bytes: self.bytes.saturating_add(frame.len()),
        }
    }

    pub(super) fn without(self, frame: &Bytes) -> Self {
        Self {
            frames: self.frames.saturating_sub(1),
            bytes: self.bytes.saturating_sub(frame.len()),
        }
    }

    /// What `limit` leaves besides this; `None` if this alone is too much.
    pub(super) fn rest_of(self, limit: Self) -> Option<Self> {
        Some(Self {
            frames: limit.frames.checked_sub(self.frames)?,
            bytes: limit.bytes.checked_sub(self.bytes)?,
        })
    }

    /// By what it is larger than `limit`, if it is.
    fn excess_over(self, limit: Self) -> Option<fn(&Self) -> usize> {
        if self.frames > limit.frames {
            Some(|size| size.frames)
        } else if self.bytes > limit.bytes {
            Some(|size| size.bytes)
        } else {
            None
        }
    }
}

impl Lanes {
    /// All lanes together.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// What one lane holds.
    pub(super) fn size_of(&self, lane: &Lane) -> Size {
        let waiting = self.waiting.iter().find(|waiting| waiting.lane == *lane);
        waiting.map_or_else(Size::default, |waiting| waiting.size)
    }

    pub(super) fn push(&mut self, lane: Lane, frame: Bytes) {
        self.size = self.size.with(&frame);
        let known = self.waiting.iter_mut().find(|waiting| waiting.lane == lane);
        if let Some(waiting) = known {
            waiting.size = waiting.size.with(&frame);
            waiting.frames.push_back(frame);
            return;
        }
        self.waiting.push(Waiting {
            lane,
            size: Size::default().with(&frame),
            frames: VecDeque::from([frame]),
            since: self.clock,
        });
    }

    /// The frame whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(Lane, Bytes)> {
        let lanes = self.waiting.iter().enumerate();
        let (position, due) = lanes
            .map(|(position, waiting)| (position, waiting.due()))
            .min_by_key(|(_, due)| *due)?;
        let waiting = self.waiting.get_mut(position)?;
        let frame = waiting.frames.pop_front()?;
        let lane = waiting.lane.clone();
        waiting.size = waiting.size.without(&frame);
        waiting.since = due;
        if waiting.frames.is_empty() {
            self.waiting.remove(position);
        }
        self.size = self.size.without(&frame);
        self.clock = due;
        Some((lane, frame))
    }

    /// Drops frames until `limit` holds, and says how many. Lanes that hold no more than `spared` of what is
    /// short keep what they have; `None` if it cannot be done without them, and then nothing is dropped.
    pub(super) fn shrink(&mut self, limit: Size, spared: Size) -> Option<usize> {
        let mut all = self.size;
        let mut kept: Vec<Size> = self.waiting.iter().map(|waiting| waiting.size).collect();
        while let Some(amount) = all.excess_over(limit) {
            let lanes = self.waiting.iter().zip(&mut kept);
            let (waiting, size) = lanes.max_by_key(|(_, size)| amount(size))?;
            if amount(size) <= amount(&spared) {
                return None;
            }
            let newest = waiting.frames.get(size.frames.checked_sub(1)?)?;
            *size = size.without(newest);
            all = all.without(newest);
        }
        let dropped = self.size.frames.saturating_sub(all.frames);
        for (waiting, size) in self.waiting.iter_mut().zip(kept) {
            waiting.frames.truncate(size.frames);
            waiting.size = size;
        }
        self.waiting.retain(|waiting| !waiting.frames.is_empty());
        self.size = all;
        Some(dropped)
    }
}

impl Waiting {
    fn due(&self) -> u64 {
        let length = self.frames.front().map_or(0, Bytes::len);
        // An empty frame moves the clock too, so that no lane has all turns.
        self.since.saturating_add((length as u64).max(1))
    }
}

#[cfg(test)]
mod tests;
