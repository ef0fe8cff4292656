//! The frames that wait for one peer: what leaves first, and what is dropped when there are too many.
//!
//! Classes go one after the other ([`FrameClass`]): whatever keeps a peer from being taken for dead, then what
//! keeps the conversations going, then blocks. Within a class each channel has a lane of its own, and
//! those that wait get equally many bytes (`lanes`).
//!
//! The bounds are those of the whole queue. If there is no room for a frame, frames of later classes make room, then
//! those of lanes of its own class that hold more than its own would hold with it; if that is not enough, the
//! frame is refused. So no channel can use the bounds against another, and nothing is refused on account of what
//! is less urgent.
//!
//! The queue is data, without locks and wake-ups: the transport puts its streams around it, the simulator its wires.
//!
//! Difference from Go: there one FIFO of `peer.gossip.sendBuffSize` messages a peer holds all channels and all
//! kinds, and what finds it full is dropped (Fabric: `gossip/comm`), so that one channel's state transfer delays
//! and drops the blocks of all others, and the alive messages.

mod lanes;

use bytes::Bytes;

use crate::event::{FrameClass, FrameKind};
use crate::types::ChannelId;
use lanes::Lanes;

/// Frames that a stream takes out of the queue before it can write them. They are lost if it breaks, and nothing
/// overtakes them any more; with fewer, the stream would have to wait for the queue between two frames.
pub const WRITE_AHEAD: usize = 2;

/// Whatever waits in a queue.
pub trait Frame {
    /// Bytes.
    fn length(&self) -> usize;
}

impl Frame for Bytes {
    fn length(&self) -> usize {
        self.len()
    }
}

/// How many frames, and how many bytes in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Frames.
    pub frames: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// Frames that leave in the order in which they came: those of one class and channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// How urgent they are.
    pub class: FrameClass,
    /// What they belong to; nothing, where they are about peers.
    pub channel: Option<ChannelId>,
}

impl Lane {
    /// The lane of such frames.
    pub fn of(kind: FrameKind, channel: Option<ChannelId>) -> Self {
        Self {
            class: kind.class(),
            channel,
        }
    }
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Whether the frame waits now. If not, nothing has changed.
    pub accepted: bool,
    /// Frames that made room for it.
    pub evicted: Evicted,
}

/// Frames that were dropped for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// [Bulk](FrameClass::Bulk).
    pub bulk: usize,
    /// All others.
    pub control: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct SendQueue<F> {
    limit: Size,
    /// By class, in the order in which they leave.
    classes: [Lanes<F>; FrameClass::ALL.len()],
}

impl<F: Frame> SendQueue<F> {
    /// An empty queue. A frame that is larger than `limit` is taken only if nothing of its class or an earlier one waits.
    pub fn new(limit: Size) -> Self {
        Self {
            limit,
            classes: Default::default(),
        }
    }

    /// What waits. At most the limit, or a single frame.
    pub fn size(&self) -> Size {
        total(&self.classes)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.size().frames == 0
    }

    /// Adds a frame if there is room, or if others have to make room. Looks once at each lane that waits, and once
    /// more for each frame that it drops.
    pub fn push(&mut self, lane: Lane, frame: F) -> Pushed {
        let evicted = self.make_room(&lane, &frame);
        if evicted.is_some()
            && let Some(lanes) = self.classes.get_mut(lane.class as usize)
        {
            lanes.push(lane.channel, frame);
        }
        Pushed {
            accepted: evicted.is_some(),
            evicted: evicted.unwrap_or_default(),
        }
    }

    /// What made room; `None` if there is none, and then nothing has changed.
    fn make_room(&mut self, lane: &Lane, frame: &F) -> Option<Evicted> {
        let (earlier, rest) = self.classes.split_at_mut_checked(lane.class as usize)?;
        let (own, later) = rest.split_first_mut()?;
        let before = total(earlier);
        let mut room = match before.with(frame).rest_of(self.limit) {
            Some(room) => room,
            None if before.frames + own.size().frames == 0 => Size::default(),
            None => return None,
        };
        let mut evicted = Evicted::default();
        let spared = own.size_of(lane.channel.as_ref()).with(frame);
        evicted.count(lane.class, own.shrink(room, spared)?);
        room = own.size().rest_of(room)?;
        let classes = FrameClass::ALL.iter().filter(|class| **class > lane.class);
        for (class, lanes) in classes.zip(later) {
            // Nobody is spared, so it can be done.
            evicted.count(*class, lanes.shrink(room, Size::default())?);
            room = lanes.size().rest_of(room)?;
        }
        Some(evicted)
    }

    /// Takes out the frame that leaves next.
    pub fn pop(&mut self) -> Option<(Lane, F)> {
        let classes = FrameClass::ALL.into_iter().zip(&mut self.classes);
        classes.into_iter().find_map(|(class, lanes)| {
            let (channel, frame) = lanes.pop()?;
            Some((Lane { class, channel }, frame))
        })
    }

    /// Empties the queue. Returns how many frames were in it.
    pub fn clear(&mut self) -> usize {
        let frames = self.size().frames;
        self.classes = Default::default();
        frames
    }
}

fn total<F: Frame>(classes: &[Lanes<F>]) -> Size {
    let sizes = classes.iter().map(Lanes::size);
    sizes.fold(Size::default(), Size::and)
}

impl Evicted {
    fn count(&mut self, class: FrameClass, frames: usize) {
        match class {
            FrameClass::Bulk => self.bulk += frames,
            FrameClass::Liveness | FrameClass::Control => self.control += frames,
        }
    }
}

impl Size {
    fn and(self, other: Self) -> Self {
        Self {
            frames: self.frames.saturating_add(other.frames),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn with(self, frame: &impl Frame) -> Self {
        self.and(Self::of(frame))
    }

    fn without(self, frame: &impl Frame) -> Self {
        Self {
            frames: self.frames.saturating_sub(1),
            bytes: self.bytes.saturating_sub(frame.length()),
        }
    }

    fn of(frame: &impl Frame) -> Self {
        Self {
            frames: 1,
            bytes: frame.length(),
        }
    }

    /// What `limit` leaves besides this; `None` if this alone is too much.
    fn rest_of(self, limit: Self) -> Option<Self> {
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

#[cfg(test)]
mod tests;
