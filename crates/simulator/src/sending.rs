//! A frame from one peer to another: into the sender's queue, onto the wires, and in again, decoded and verified as in
//! the node.

use bytes::Bytes;
use selvedge_gossip::event::{DialOutcome, DialPurpose, Event, FrameKind};
use selvedge_gossip::message::{MessageError, decode, verify};
use selvedge_gossip::send_queue::Lane;
use selvedge_gossip::types::{ChannelId, Endpoint, PkiId};

use crate::block::{blocks_in, names_channel};
use crate::keys::Keys;
use crate::outboxes::Parcel;
use crate::peer::SimPeer;
use crate::queue::{Arriving, Happening};
use crate::wires::{Carried, Nanos};
use crate::world::{World, pair};

/// Until a peer is found to be unreachable across a partition.
const DIAL_TIMEOUT: Nanos = 3_000_000_000;
/// Bytes of HTTP/2, TLS, TCP and IP around a frame.
const OVERHEAD: usize = 90;

impl World {
    /// A core sends a frame. It waits in the queue to its receiver, if there is room.
    pub(crate) fn send(
        &mut self,
        from: usize,
        to: &PkiId,
        frame: Bytes,
        kind: FrameKind,
        channel: Option<ChannelId>,
    ) {
        let (Some(to_index), Some(sender)) = (self.by_id.get(to).copied(), self.peers.get(from))
        else {
            return self.measures.violated("a frame for nobody".to_owned());
        };
        let frame = match sender.lie {
            Some(lie) => match lie.twist(kind, frame, &sender.key) {
                Some(frame) => frame,
                None => return,
            },
            None => frame,
        };
        if !self.options.has_background() && is_background(kind, &frame) {
            return;
        }
        let is_there = |peer: &SimPeer| peer.up && peer.identity.pki_id() == *to;
        if !self.peers.get(to_index).is_some_and(is_there) {
            let delay = self.wires.round_trip(from, to_index, &mut self.rng);
            return self.tell_later(from, delay, Event::Unreachable(*to));
        }
        if !self.wires.connected(from, to_index) {
            self.connected.remove(&pair(from, to_index));
            self.outboxes.forget(from, to_index);
            return self.tell_later(from, DIAL_TIMEOUT, Event::Unreachable(*to));
        }
        let blocks = blocks_in(kind, &frame);
        let size = frame.len() + OVERHEAD + blocks * self.options.block_size;
        let parcel = Parcel {
            frame,
            kind,
            blocks,
            size,
        };
        let lane = Lane::of(kind, channel);
        let class = lane.class;
        let pushed = self.outboxes.push(from, to_index, lane, parcel);
        self.measures.pushed(class, pushed);
        if let Some(size) = self.outboxes.excess(from, to_index) {
            let found = format!("{size:?} waits at peer {from} for peer {to_index}");
            self.measures.violated(found);
        }
        self.transmit(from);
    }

    pub(crate) fn uplink_free(&mut self, from: usize) {
        self.outboxes.planned(from);
        self.transmit(from);
    }

    /// Puts onto the wires what a peer has to send, as far as its uplink is free.
    pub(crate) fn transmit(&mut self, from: usize) {
        while self.wires.uplink_free(from) <= self.now {
            let Some((to, parcel)) = self.outboxes.next(from) else {
                return;
            };
            self.carry(from, to, parcel);
        }
        if self.outboxes.must_plan(from) {
            let free = self.wires.uplink_free(from);
            self.queue.enter(free, Happening::UplinkFree { peer: from });
        }
    }

    fn carry(&mut self, from: usize, to: usize, parcel: Parcel) {
        let Parcel {
            frame,
            kind,
            blocks,
            size,
        } = parcel;
        if self.measuring {
            *self.measures.bytes.entry(kind.name()).or_default() += size as u64;
            self.measures.messages += 1;
            self.measures.block_copies += blocks as u64;
        }
        let carried = self.wires.carry(from, to, size, self.now, &mut self.rng);
        match carried {
            Carried::At(at) => {
                let stream = self.wires.stream(from, to);
                let arriving = Arriving {
                    from,
                    to,
                    stream,
                    frame,
                    size,
                };
                self.queue.enter(at, Happening::Frame(arriving));
            }
            Carried::Lost => self.outboxes.read(from, to, size),
            Carried::Unanswered => {}
        }
    }

    /// A frame comes to where its receiver takes it in, at once or when it has taken in those before.
    pub(crate) fn arrive(&mut self, arriving: Arriving) {
        let to = arriving.to;
        match self.inboxes.enter(arriving) {
            Ok(None) => {}
            Ok(Some(takes)) => self
                .queue
                .enter(self.now + takes, Happening::TakenIn { peer: to }),
            Err(arriving) => self.receive(arriving),
        }
    }

    pub(crate) fn taken_in(&mut self, peer: usize) {
        let Some((arrived, next_takes)) = self.inboxes.take(peer) else {
            return;
        };
        if let Some(takes) = next_takes {
            self.queue
                .enter(self.now + takes, Happening::TakenIn { peer });
        }
        self.receive(arrived);
    }

    /// A frame is decoded and verified as in the node.
    pub(crate) fn receive(&mut self, arrived: Arriving) {
        let Arriving {
            from,
            to,
            stream,
            frame,
            size,
        } = arrived;
        if self.wires.stream(from, to) != stream {
            return;
        }
        self.outboxes.read(from, to, size);
        self.transmit(from);
        let up = |index: usize| self.peers.get(index).is_some_and(|peer| peer.up);
        if !up(from) || !up(to) || !self.wires.connected(from, to) {
            return;
        }
        self.connect(from, to);
        let (Some(sender), Some(receiver)) = (self.peers.get(from), self.peers.get(to)) else {
            return;
        };
        let from = sender.identity.pki_id();
        let honest = sender.lie.is_none();
        let verified = decode(frame)
            .and_then(|received| verify(received, &Keys, receiver.gossip.identities()));
        match verified {
            Ok(verification) => {
                let message = verification.message;
                self.tell(to, Event::Message { from, message });
            }
            Err(MessageError::UnknownAuthor { .. }) => {}
            Err(error) if honest => {
                self.measures
                    .violated(format!("an honest peer sent: {error}"));
            }
            Err(_) => {}
        }
    }

    /// A first frame opens a stream, whose handshake tells both who the other is.
    fn connect(&mut self, one: usize, other: usize) {
        if !self.connected.insert(pair(one, other)) {
            return;
        }
        for (index, peer) in [(one, other), (other, one)] {
            if let Some(peer) = self.peers.get(peer) {
                let identity = peer.identity.clone();
                self.tell(
                    index,
                    Event::Connected {
                        identity,
                        endpoint: None,
                    },
                );
            }
        }
    }

    pub(crate) fn dial(&mut self, from: usize, endpoint: Endpoint, purpose: DialPurpose) {
        let found = self.by_endpoint.get(&endpoint).copied();
        let reached = found.filter(|to| {
            self.peers.get(*to).is_some_and(|peer| peer.up) && self.wires.connected(from, *to)
        });
        let (outcome, delay) = match reached.and_then(|to| Some((to, self.peers.get(to)?))) {
            None => (DialOutcome::Failed, DIAL_TIMEOUT),
            Some((to, peer)) => {
                let outcome = match purpose {
                    DialPurpose::Ping(_) => DialOutcome::Answered,
                    DialPurpose::Identify => DialOutcome::Identified(peer.identity.clone()),
                };
                (outcome, 2 * self.wires.round_trip(from, to, &mut self.rng))
            }
        };
        let event = Event::Dialed {
            endpoint,
            purpose,
            outcome,
        };
        self.tell_later(from, delay, event);
    }
}

/// Whether a frame has to do with who is there, not with blocks.
fn is_background(kind: FrameKind, frame: &Bytes) -> bool {
    match kind {
        FrameKind::Block
        | FrameKind::Digest
        | FrameKind::Request
        | FrameKind::BlockUpdate
        | FrameKind::StateRequest
        | FrameKind::StateResponse => false,
        // Answers follow by themselves.
        FrameKind::Hello => !names_channel(frame),
        _ => true,
    }
}
