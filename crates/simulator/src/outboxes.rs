//! What waits at the peers until it can be sent.
//!
//! For each peer that it sends to, a peer has the node's own send queue, with the node's bounds, and the few frames
//! that a stream takes out of it ahead ([`WRITE_AHEAD`]). All of a peer's streams share its uplink, a frame each in
//! turn. A stream stands still while as much as its window holds has not been read at the other end, as with
//! HTTP/2's flow control.
//!
//! Under Fabric's rules the queue is that of a Go peer: a FIFO of `peer.gossip.sendBuffSize` messages that drops what
//! finds it full. Answers are not dropped: whoever gives one waits (Fabric: `gossip/comm`, `Respond`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use selvedge_gossip::config::Rules;
use selvedge_gossip::event::FrameKind;
use selvedge_gossip::send_queue::{Evicted, Frame, Lane, Pushed, SendQueue, Size, WRITE_AHEAD};

use crate::options::Options;

/// Bytes of a stream that are on the way or not yet read: the node's window for what others send it.
const WINDOW: usize = 512 << 10;
/// Bytes that wait for one peer, as in the node.
const MAX_BYTES: usize = 200 << 20;

/// A frame as it is on the wires.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) frame: Bytes,
    pub(crate) kind: FrameKind,
    /// Blocks in it, which are smaller here than on the wires.
    pub(crate) blocks: usize,
    /// Bytes on the wires.
    pub(crate) size: usize,
}

impl Frame for Parcel {
    fn length(&self) -> usize {
        self.size
    }
}

/// See the module's documentation.
pub(crate) struct Outboxes {
    rules: Rules,
    limit: Size,
    senders: Vec<Sender>,
}

/// The streams of one peer.
#[derive(Default)]
struct Sender {
    outboxes: BTreeMap<usize, Outbox>,
    /// To whom the next frames go, once each: streams that have one and may send it.
    turns: VecDeque<usize>,
    /// It is going to be looked at when the uplink is free.
    planned: bool,
}

/// What one peer sends to another.
struct Outbox {
    waiting: Waiting,
    ahead: VecDeque<Parcel>,
    unread: usize,
    /// It is among the turns.
    has_turn: bool,
}

enum Waiting {
    Lanes(SendQueue<Parcel>),
    Fifo(VecDeque<Parcel>),
}

impl Outboxes {
    pub(crate) fn new(options: &Options) -> Self {
        let limit = Size {
            frames: options.send_buffer,
            bytes: MAX_BYTES,
        };
        let senders = std::iter::repeat_with(Sender::default);
        Self {
            rules: options.rules,
            limit,
            senders: senders.take(options.peers).collect(),
        }
    }

    /// A peer sends a frame to another.
    pub(crate) fn push(&mut self, from: usize, to: usize, lane: Lane, parcel: Parcel) -> Pushed {
        let (rules, limit) = (self.rules, self.limit);
        let Some(sender) = self.senders.get_mut(from) else {
            return refused();
        };
        let outboxes = &mut sender.outboxes;
        let outbox = outboxes
            .entry(to)
            .or_insert_with(|| Outbox::new(rules, limit));
        let pushed = outbox.waiting.push(lane, parcel, limit);
        outbox.take_turn(to, &mut sender.turns);
        pushed
    }

    /// The frame that a peer sends next, and to whom.
    pub(crate) fn next(&mut self, from: usize) -> Option<(usize, Parcel)> {
        let sender = self.senders.get_mut(from)?;
        let to = sender.turns.pop_front()?;
        let outbox = sender.outboxes.get_mut(&to)?;
        outbox.has_turn = false;
        let parcel = outbox.ahead.pop_front()?;
        outbox.unread += parcel.size;
        outbox.take_turn(to, &mut sender.turns);
        Some((to, parcel))
    }

    /// So many bytes have been read, or were lost on the way: the stream may have room again.
    pub(crate) fn read(&mut self, from: usize, to: usize, bytes: usize) {
        let Some(sender) = self.senders.get_mut(from) else {
            return;
        };
        let Some(outbox) = sender.outboxes.get_mut(&to) else {
            return;
        };
        outbox.unread = outbox.unread.saturating_sub(bytes);
        outbox.take_turn(to, &mut sender.turns);
        if outbox.is_idle() {
            sender.outboxes.remove(&to);
        }
    }

    /// Whether a peer has something that it may send and nothing is planned; then something is from now on.
    pub(crate) fn must_plan(&mut self, from: usize) -> bool {
        let sender = self.senders.get_mut(from);
        sender.is_some_and(|it| !it.turns.is_empty() && !std::mem::replace(&mut it.planned, true))
    }

    /// What was planned has come.
    pub(crate) fn planned(&mut self, from: usize) {
        if let Some(sender) = self.senders.get_mut(from) {
            sender.planned = false;
        }
    }

    /// A stream has broken: what it took is lost, what waits goes to the next one.
    pub(crate) fn broken(&mut self, from: usize, to: usize) {
        if let Some(sender) = self.senders.get_mut(from)
            && let Some(outbox) = sender.outboxes.get_mut(&to)
        {
            outbox.ahead.clear();
            outbox.unread = 0;
            outbox.has_turn = false;
            sender.turns.retain(|turn| *turn != to);
            outbox.take_turn(to, &mut sender.turns);
        }
    }

    /// What waits for a peer is given up.
    pub(crate) fn forget(&mut self, from: usize, to: usize) {
        if let Some(sender) = self.senders.get_mut(from) {
            sender.outboxes.remove(&to);
            sender.turns.retain(|turn| *turn != to);
        }
    }

    /// How much waits for a peer, if that is more than may.
    pub(crate) fn excess(&self, from: usize, to: usize) -> Option<Size> {
        let outbox = self.senders.get(from)?.outboxes.get(&to)?;
        let Waiting::Lanes(queue) = &outbox.waiting else {
            // Where answers wait the sender waits, and not only the frame.
            return None;
        };
        let Size { frames, bytes } = queue.size();
        let exceeded = frames > self.limit.frames || bytes > self.limit.bytes;
        (frames > 1 && exceeded).then_some(Size { frames, bytes })
    }
}

impl Outbox {
    fn new(rules: Rules, limit: Size) -> Self {
        Self {
            waiting: match rules {
                Rules::Selvedge => Waiting::Lanes(SendQueue::new(limit)),
                Rules::Fabric => Waiting::Fifo(VecDeque::new()),
            },
            ahead: VecDeque::new(),
            unread: 0,
            has_turn: false,
        }
    }

    /// Lets the stream take what it may; if it has something and its window is open, it gets a turn.
    fn take_turn(&mut self, to: usize, turns: &mut VecDeque<usize>) {
        while self.ahead.len() < WRITE_AHEAD
            && let Some(parcel) = self.waiting.pop()
        {
            self.ahead.push_back(parcel);
        }
        if !self.has_turn && !self.ahead.is_empty() && self.unread < WINDOW {
            self.has_turn = true;
            turns.push_back(to);
        }
    }

    fn is_idle(&self) -> bool {
        self.ahead.is_empty() && self.unread == 0
    }
}

impl Waiting {
    fn push(&mut self, lane: Lane, parcel: Parcel, limit: Size) -> Pushed {
        match self {
            Self::Lanes(queue) => queue.push(lane, parcel),
            Self::Fifo(queue) if queue.len() < limit.frames || is_answer(parcel.kind) => {
                queue.push_back(parcel);
                Pushed {
                    accepted: true,
                    evicted: Evicted::default(),
                }
            }
            Self::Fifo(_) => refused(),
        }
    }

    fn pop(&mut self) -> Option<Parcel> {
        match self {
            Self::Lanes(queue) => queue.pop().map(|(_, parcel)| parcel),
            Self::Fifo(queue) => queue.pop_front(),
        }
    }
}

fn refused() -> Pushed {
    Pushed {
        accepted: false,
        evicted: Evicted::default(),
    }
}

/// What a Go peer sends by `Respond`.
fn is_answer(kind: FrameKind) -> bool {
    matches!(
        kind,
        FrameKind::Digest
            | FrameKind::IdentityUpdate
            | FrameKind::BlockUpdate
            | FrameKind::StateInfoSnapshot
            | FrameKind::StateResponse
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(kind: FrameKind, size: usize) -> (Lane, Parcel) {
        let lane = Lane::of(kind, None);
        let frame = Bytes::new();
        let parcel = Parcel {
            frame,
            kind,
            blocks: 0,
            size,
        };
        (lane, parcel)
    }

    fn outboxes(rules: Rules) -> Outboxes {
        Outboxes::new(&Options {
            peers: 4,
            send_buffer: 5,
            rules,
            ..Options::default()
        })
    }

    impl Outboxes {
        fn send(&mut self, to: usize, kind: FrameKind, size: usize) -> bool {
            let (lane, parcel) = parcel(kind, size);
            self.push(0, to, lane, parcel).accepted
        }

        /// To whom frames go, and what they are, until none may go.
        fn drain(&mut self) -> Vec<(usize, FrameKind)> {
            let frames = std::iter::from_fn(|| self.next(0));
            frames.map(|(to, parcel)| (to, parcel.kind)).collect()
        }
    }

    #[test]
    fn streams_take_turns_and_what_is_urgent_overtakes_what_the_stream_has_not_taken() {
        let mut outboxes = outboxes(Rules::Selvedge);
        for _ in 0..3 {
            outboxes.send(1, FrameKind::Block, 100);
        }
        outboxes.send(1, FrameKind::Alive, 100);
        outboxes.send(2, FrameKind::Block, 100);
        assert!(outboxes.must_plan(0));
        assert!(!outboxes.must_plan(0));
        let block = FrameKind::Block;
        let order = [
            (1, block),
            (2, block),
            (1, block),
            (1, FrameKind::Alive),
            (1, block),
        ];
        assert_eq!(outboxes.drain(), order);
    }

    #[test]
    fn a_stream_that_is_not_read_stands_still_and_its_queue_fills() {
        let mut outboxes = outboxes(Rules::Selvedge);
        let size = WINDOW / 2;
        for _ in 0..4 {
            outboxes.send(1, FrameKind::Block, size);
        }
        assert_eq!(outboxes.drain().len(), 2);
        outboxes.send(2, FrameKind::Block, 1);
        assert_eq!(outboxes.drain(), [(2, FrameKind::Block)]);
        // The stream holds two more, and five can wait.
        let taken = (0..10).filter(|_| outboxes.send(1, FrameKind::Block, size));
        assert_eq!(taken.count(), 5);
        assert_eq!(outboxes.excess(0, 1), None);
        outboxes.read(0, 1, size);
        assert_eq!(outboxes.drain().len(), 1);
        // Two are lost with the stream; two go at once.
        outboxes.broken(0, 1);
        assert_eq!(outboxes.drain().len(), 2);
        outboxes.read(0, 1, 2 * size);
        assert_eq!(outboxes.drain().len(), 2);
        outboxes.read(0, 1, 2 * size);
        outboxes.read(0, 2, 1);
        assert!(outboxes.senders.iter().all(|it| it.outboxes.is_empty()));
    }

    #[test]
    fn a_go_peer_drops_what_comes_last_but_for_answers() {
        let mut outboxes = outboxes(Rules::Fabric);
        // Two are with the stream.
        let taken = (0..10).filter(|_| outboxes.send(1, FrameKind::Block, 1));
        assert_eq!(taken.count(), 7);
        assert!(!outboxes.send(1, FrameKind::Alive, 1));
        assert!(outboxes.send(1, FrameKind::Digest, 1));
        assert_eq!(outboxes.drain().last(), Some(&(1, FrameKind::Digest)));
    }

    #[test]
    fn a_stream_that_broke_with_all_it_had_holds_up_no_other() {
        let mut outboxes = outboxes(Rules::Selvedge);
        outboxes.send(1, FrameKind::Block, 1);
        outboxes.send(2, FrameKind::Block, 1);
        outboxes.broken(0, 1);
        assert_eq!(outboxes.drain(), [(2, FrameKind::Block)]);
    }

    #[test]
    fn what_is_forgotten_is_not_sent() {
        let mut outboxes = outboxes(Rules::Selvedge);
        outboxes.send(1, FrameKind::Block, 1);
        outboxes.send(2, FrameKind::Block, 1);
        outboxes.forget(0, 1);
        assert_eq!(outboxes.drain(), [(2, FrameKind::Block)]);
    }
}
