//! What happens when, in simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use selvedge_gossip::event::Event;

use crate::block::SimBlock;
use crate::wires::Nanos;

/// A frame on its way.
pub(crate) struct Arriving {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The stream that carries it.
    pub(crate) stream: u32,
    pub(crate) frame: Bytes,
    /// Bytes on the wires.
    pub(crate) size: usize,
}

/// Something that happens.
pub(crate) enum Happening {
    /// A frame arrives.
    Frame(Arriving),
    /// A peer that takes in little has taken in a frame.
    TakenIn { peer: usize },
    /// A peer's uplink is free, and something waits for it.
    UplinkFree { peer: usize },
    /// A peer is told something; if it has been restarted meanwhile, it is not.
    Told {
        peer: usize,
        run: u32,
        event: Box<Event<SimBlock>>,
    },
    /// A deadline of a peer.
    Wake { peer: usize, run: u32 },
    /// The ordering service has cut a block.
    Cut { channel: usize, number: u64 },
    /// A partition begins or ends.
    Partition { begins: bool },
    /// The ordering node of a random leader cannot be reached for a while.
    Outage,
    /// A peer has not reached its ordering node for long, and tells its core.
    OrderingMissed { peer: usize },
    /// A random peer stops.
    Stop,
    /// A random peer leaves for good.
    Leave,
    /// A new peer comes to the place of one that has left.
    Come { place: usize },
    /// The stream between two random peers breaks; before that it is half open for a while, or not.
    Break { half_open: bool },
    /// The link of a random peer is narrow for a while.
    Narrow,
    /// It is as wide as before.
    Widen { peer: usize },
    /// The stream between two peers is found to be dead.
    Broken { one: usize, other: usize },
    /// A peer that leads gets the next block from the ordering service.
    Fetch {
        peer: usize,
        run: u32,
        channel: usize,
    },
    /// It comes back.
    Start { peer: usize },
    /// Everybody is told the ledger heights of those it knows.
    Heights,
}

/// A priority queue: what is due first comes first, and of what is due at once, what was entered first.
#[derive(Default)]
pub(crate) struct Queue {
    order: BinaryHeap<Reverse<(Nanos, u64, usize)>>,
    /// What happens, in slots that are used again.
    slots: Vec<Option<Happening>>,
    free: Vec<usize>,
    entered: u64,
}

impl Queue {
    pub(crate) fn enter(&mut self, at: Nanos, happening: Happening) {
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = Some(happening);
                }
                slot
            }
            None => {
                self.slots.push(Some(happening));
                self.slots.len() - 1
            }
        };
        self.order.push(Reverse((at, self.entered, slot)));
        self.entered += 1;
    }

    pub(crate) fn next(&mut self) -> Option<(Nanos, Happening)> {
        let Reverse((at, _, slot)) = self.order.pop()?;
        let happening = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some((at, happening))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_order_of_time_then_of_entry() {
        let mut queue = Queue::default();
        for (at, peer) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.enter(at, Happening::Start { peer });
        }
        let mut seen = Vec::new();
        while let Some((at, Happening::Start { peer })) = queue.next() {
            seen.push((at, peer));
        }
        assert_eq!(seen, [(3, 1), (3, 3), (5, 0), (5, 2)]);
    }
}
