//! Which peer has which streams: the rules of replacing, without I/O.
//!
//! Two peers that dial each other at the same time make two streams. A Go peer keeps the one that
//! it accepted and drops the one that it dialled; two Go peers so lose both. Here both are read for
//! a while ("linger"), and each side sends on the one that it dialled, which is right towards a Go
//! peer. After the linger time the one that was dialled by the greater PKI-ID is given up by its
//! dialler, without loss, since nobody sends on it any more. Streams that were not made at the same
//! time replace each other: the newest counts, since a peer dials only when it has lost the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use selvedge_gossip::send_queue::{Evicted, Lane};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queue::PeerQueue;
use super::{GossipOptions, PeerAddress, PkiId};

/// A stream that ends sooner did not count as a success.
const SHORT_LIVED: Duration = Duration::from_secs(1);
/// Streams to one peer at a time: the current one, and what lingers.
const MAX_STREAMS: usize = 2;

pub(super) struct Peers {
    own: PkiId,
    options: GossipOptions,
    slots: HashMap<PkiId, Slot>,
}

struct Slot {
    queue: Arc<PeerQueue>,
    streams: Vec<StreamRecord>,
    dial: Dial,
    /// Where it was last to be found.
    endpoint: Option<String>,
    /// Dials that failed and streams that ended at once, since the last good stream.
    failures: u32,
}

enum Dial {
    Idle,
    /// The token ends the attempt.
    Running(CancellationToken),
    NotBefore(Instant),
}

/// What the table knows of a stream.
pub(super) struct StreamRecord {
    pub(super) id: u64,
    /// Whether this side dialled.
    pub(super) outbound: bool,
    pub(super) since: Instant,
    pub(super) signals: StreamSignals,
}

/// How the table speaks to a stream's task.
#[derive(Clone, Default)]
pub(super) struct StreamSignals {
    /// End at once.
    pub(super) close: CancellationToken,
    /// Another stream has taken over; end after the linger time, if it is still so.
    pub(super) retire: Arc<Notify>,
}

/// What became of a frame.
#[derive(Debug)]
pub(super) enum Offered {
    /// In the queue; others made room. `dial` says to dial now.
    Queued {
        evicted: Evicted,
        dial: Option<Attempt>,
    },
    Full,
    /// There is no stream, and nobody has said where the peer is.
    NowhereToDial,
    TooEarly,
    TooManyPeers,
}

/// Whom to dial, and what ends the attempt.
pub(super) type Attempt = (PeerAddress, CancellationToken);

/// What the end of a stream means for its peer.
#[derive(Debug)]
pub(super) enum Ended {
    /// Others are there, or it was not known any more.
    Unnoticed,
    /// It was the last one.
    Last { abandoned: usize },
    /// It was the last one, and frames wait: dial again.
    Redial(Attempt),
}

impl Peers {
    pub(super) fn new(own: PkiId, options: GossipOptions) -> Self {
        Self {
            own,
            options,
            slots: HashMap::new(),
        }
    }

    /// Puts a frame into the peer's queue, unless it is known not to be reachable.
    pub(super) fn offer(
        &mut self,
        peer: &PeerAddress,
        lane: Lane,
        frame: bytes::Bytes,
        now: Instant,
    ) -> Offered {
        let Some(slot) = self.slot(peer.pki_id, now) else {
            return Offered::TooManyPeers;
        };
        // Who answers on a stream may not know where the other end listens.
        if !peer.endpoint.is_empty() && slot.endpoint.as_ref() != Some(&peer.endpoint) {
            slot.endpoint = Some(peer.endpoint.clone());
        }
        let idle = slot.streams.is_empty();
        if idle && slot.endpoint.is_none() {
            return Offered::NowhereToDial;
        }
        if idle && matches!(slot.dial, Dial::NotBefore(time) if now < time) {
            return Offered::TooEarly;
        }
        let pushed = slot.queue.push(lane, frame);
        if !pushed.accepted {
            return Offered::Full;
        }
        let dial = (idle && !matches!(slot.dial, Dial::Running(_)))
            .then(|| slot.start_dial(peer.pki_id))
            .flatten();
        Offered::Queued {
            evicted: pushed.evicted,
            dial,
        }
    }

    /// Whether a stream to the peer is there.
    pub(super) fn is_connected(&self, pki_id: &PkiId) -> bool {
        self.slots
            .get(pki_id)
            .is_some_and(|slot| !slot.streams.is_empty())
    }

    /// Peers with a stream.
    pub(super) fn connected(&self) -> Vec<PkiId> {
        let connected = self
            .slots
            .iter()
            .filter(|(_, slot)| !slot.streams.is_empty());
        connected.map(|(pki_id, _)| *pki_id).collect()
    }

    /// The attempt to dial has ended without a new stream. `Some` if the peer has none at all:
    /// the number of frames that were given up.
    pub(super) fn dial_failed(&mut self, pki_id: &PkiId, now: Instant) -> Option<usize> {
        let slot = self.slots.get_mut(pki_id)?;
        slot.dial = Dial::Idle;
        if !slot.streams.is_empty() {
            return None;
        }
        slot.failures = slot.failures.saturating_add(1);
        slot.dial = Dial::NotBefore(now + redial_delay(&self.options, slot.failures));
        Some(slot.queue.clear())
    }

    /// The attempt to dial found that the peer had dialled. Dials again if that stream has ended meanwhile and frames
    /// wait.
    pub(super) fn dial_was_superfluous(&mut self, pki_id: &PkiId) -> Option<Attempt> {
        let slot = self.slots.get_mut(pki_id)?;
        slot.dial = Dial::Idle;
        let is_alone = slot.streams.is_empty();
        is_alone.then(|| slot.dial_for_waiting(*pki_id)).flatten()
    }

    /// A peer that was dialled under one PKI-ID has proven another: its queue moves. Returns how
    /// many frames were lost.
    pub(super) fn rename(&mut self, old: &PkiId, new: PkiId, now: Instant) -> usize {
        let Some(slot) = self.slots.remove(old) else {
            return 0;
        };
        for stream in &slot.streams {
            stream.signals.close.cancel();
        }
        match self.slot(new, now) {
            Some(renamed) => {
                renamed.endpoint = renamed.endpoint.take().or(slot.endpoint);
                slot.queue.move_to(&renamed.queue)
            }
            None => slot.queue.clear(),
        }
    }

    /// Takes a new stream into use. `None` if there are too many peers. Otherwise the peer's queue,
    /// and whether another stream was there.
    pub(super) fn install(
        &mut self,
        pki_id: PkiId,
        stream: StreamRecord,
        now: Instant,
    ) -> Option<(Arc<PeerQueue>, bool)> {
        let window = self.options.handshake_timeout;
        let own_is_smaller = self.own < pki_id;
        let slot = self.slot(pki_id, now)?;
        if stream.outbound || matches!(slot.dial, Dial::NotBefore(_)) {
            slot.dial = Dial::Idle;
        }
        let mut current = stream.id;
        for other in &slot.streams {
            let at_once =
                other.outbound != stream.outbound && now.duration_since(other.since) < window;
            if !at_once {
                other.signals.retire.notify_one();
                continue;
            }
            let loser = if stream.outbound == own_is_smaller {
                other
            } else {
                &stream
            };
            loser.signals.retire.notify_one();
            current = if stream.outbound { stream.id } else { other.id };
        }
        let replaced = !slot.streams.is_empty();
        slot.streams.push(stream);
        while slot.streams.len() > MAX_STREAMS {
            slot.streams.remove(0).signals.close.cancel();
        }
        if !slot.streams.iter().any(|s| s.id == current) {
            current = slot.streams.last().map_or(current, |s| s.id);
        }
        slot.queue.set_current(Some(current));
        Some((slot.queue.clone(), replaced))
    }

    /// The linger time of a retired stream is over. True if it must end: then it is forgotten
    /// here. False if it is the only one left after all.
    pub(super) fn retire(&mut self, pki_id: &PkiId, id: u64) -> bool {
        let Some(slot) = self.slots.get_mut(pki_id) else {
            return true;
        };
        if slot.streams.len() < 2 && slot.streams.iter().any(|s| s.id == id) {
            return false;
        }
        slot.forget(id);
        true
    }

    /// A stream has ended.
    pub(super) fn stream_ended(&mut self, pki_id: &PkiId, id: u64, now: Instant) -> Ended {
        let Some(slot) = self.slots.get_mut(pki_id) else {
            return Ended::Unnoticed;
        };
        let Some(stream) = slot.forget(id) else {
            return Ended::Unnoticed;
        };
        if now.duration_since(stream.since) >= SHORT_LIVED {
            slot.failures = 0;
        }
        if !slot.streams.is_empty() {
            return Ended::Unnoticed;
        }
        if matches!(slot.dial, Dial::Running(_)) {
            return Ended::Last { abandoned: 0 };
        }
        if now.duration_since(stream.since) < SHORT_LIVED {
            slot.failures = slot.failures.saturating_add(1);
        }
        if slot.failures > 1 {
            slot.dial = Dial::NotBefore(now + redial_delay(&self.options, slot.failures - 1));
            return Ended::Last {
                abandoned: slot.queue.clear(),
            };
        }
        if slot.queue.is_empty() && slot.failures == 0 {
            self.slots.remove(pki_id);
            return Ended::Last { abandoned: 0 };
        }
        match slot.dial_for_waiting(*pki_id) {
            Some(attempt) => Ended::Redial(attempt),
            None => Ended::Last {
                abandoned: slot.queue.clear(),
            },
        }
    }

    /// Ends everything with a peer. Returns the number of frames that were given up.
    pub(super) fn close(&mut self, pki_id: &PkiId) -> usize {
        let Some(slot) = self.slots.get_mut(pki_id) else {
            return 0;
        };
        if let Dial::Running(attempt) = std::mem::replace(&mut slot.dial, Dial::Idle) {
            attempt.cancel();
        }
        for stream in &slot.streams {
            stream.signals.close.cancel();
        }
        let abandoned = slot.queue.clear();
        if slot.streams.is_empty() {
            self.slots.remove(pki_id);
        }
        abandoned
    }

    /// The peer's slot, a new one if need be and permitted.
    fn slot(&mut self, pki_id: PkiId, now: Instant) -> Option<&mut Slot> {
        if !self.slots.contains_key(&pki_id) && self.slots.len() >= self.options.max_peers {
            self.slots.retain(|_, slot| !slot.is_forgettable(now));
            if self.slots.len() >= self.options.max_peers {
                return None;
            }
        }
        let options = &self.options;
        Some(
            self.slots
                .entry(pki_id)
                .or_insert_with(|| Slot::new(options)),
        )
    }
}

impl Slot {
    fn new(options: &GossipOptions) -> Self {
        Self {
            queue: Arc::new(PeerQueue::new(
                options.send_buffer,
                options.send_buffer_bytes,
            )),
            streams: Vec::new(),
            dial: Dial::Idle,
            endpoint: None,
            failures: 0,
        }
    }

    /// Dials if it is known where.
    fn start_dial(&mut self, pki_id: PkiId) -> Option<Attempt> {
        let endpoint = self.endpoint.clone()?;
        let token = CancellationToken::new();
        self.dial = Dial::Running(token.clone());
        Some((PeerAddress { pki_id, endpoint }, token))
    }

    /// Dials if frames wait.
    fn dial_for_waiting(&mut self, pki_id: PkiId) -> Option<Attempt> {
        let is_needed = !self.queue.is_empty();
        is_needed.then(|| self.start_dial(pki_id)).flatten()
    }

    /// Removes a stream; the newest of the others becomes current if it was.
    fn forget(&mut self, id: u64) -> Option<StreamRecord> {
        let position = self.streams.iter().position(|s| s.id == id)?;
        let stream = self.streams.remove(position);
        self.queue.set_current(self.streams.last().map(|s| s.id));
        Some(stream)
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        let no_dial = match self.dial {
            Dial::Idle => true,
            Dial::Running(_) => false,
            Dial::NotBefore(time) => time <= now,
        };
        no_dial && self.streams.is_empty()
    }
}

fn redial_delay(options: &GossipOptions, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    options
        .redial_initial
        .saturating_mul(factor)
        .min(options.redial_max)
}

#[cfg(test)]
mod tests;
