//! The frames of one class: a lane for each channel, and who has the next turn.
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

use std::collections::VecDeque;

use super::{Frame, Size};
use crate::types::ChannelId;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lanes<F> {
    waiting: Vec<Waiting<F>>,
    size: Size,
    clock: u64,
}

/// One lane; never empty.
#[derive(Debug)]
struct Waiting<F> {
    channel: Option<ChannelId>,
    frames: VecDeque<F>,
    size: Size,
    /// The clock when its front frame came to the front.
    since: u64,
}

impl<F> Default for Lanes<F> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            size: Size::default(),
            clock: 0,
        }
    }
}

impl<F: Frame> Lanes<F> {
    /// All lanes together.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// What one lane holds.
    pub(super) fn size_of(&self, channel: Option<&ChannelId>) -> Size {
        let lane = |waiting: &&Waiting<F>| waiting.channel.as_ref() == channel;
        let waiting = self.waiting.iter().find(lane);
        waiting.map_or_else(Size::default, |waiting| waiting.size)
    }

    pub(super) fn push(&mut self, channel: Option<ChannelId>, frame: F) {
        self.size = self.size.with(&frame);
        let lane = |waiting: &&mut Waiting<F>| waiting.channel == channel;
        let known = self.waiting.iter_mut().find(lane);
        if let Some(waiting) = known {
            waiting.size = waiting.size.with(&frame);
            waiting.frames.push_back(frame);
            return;
        }
        self.waiting.push(Waiting {
            channel,
            size: Size::of(&frame),
            frames: VecDeque::from([frame]),
            since: self.clock,
        });
    }

    /// The frame whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(Option<ChannelId>, F)> {
        let lanes = self.waiting.iter().enumerate();
        let (position, due) = lanes
            .map(|(position, waiting)| (position, waiting.due()))
            .min_by_key(|(_, due)| *due)?;
        let waiting = self.waiting.get_mut(position)?;
        let frame = waiting.frames.pop_front()?;
        let channel = waiting.channel.clone();
        waiting.size = waiting.size.without(&frame);
        waiting.since = due;
        if waiting.frames.is_empty() {
            self.waiting.remove(position);
        }
        self.size = self.size.without(&frame);
        self.clock = due;
        Some((channel, frame))
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

impl<F: Frame> Waiting<F> {
    fn due(&self) -> u64 {
        let length = self.frames.front().map_or(0, F::length);
        // An empty frame moves the clock too, so that no lane has all turns.
        self.since.saturating_add((length as u64).max(1))
    }
}

#[cfg(test)]
mod tests;
