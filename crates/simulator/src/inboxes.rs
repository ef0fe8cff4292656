//! What waits in front of peers that take in little: slow readers, and those whose link is narrow for a while.

use std::collections::{BTreeMap, VecDeque};

use crate::queue::Arriving;
use crate::wires::{Nanos, transmission};

/// By peer, what it takes in a second and what it has not yet taken.
#[derive(Default)]
pub(crate) struct Inboxes(BTreeMap<usize, Inbox>);

struct Inbox {
    bits_per_second: u64,
    waiting: VecDeque<Arriving>,
}

impl Inboxes {
    /// A peer takes in no more than this from now on.
    pub(crate) fn slow_down(&mut self, peer: usize, bits_per_second: u64) {
        let inbox = Inbox {
            bits_per_second,
            waiting: VecDeque::new(),
        };
        self.0.entry(peer).or_insert(inbox);
    }

    /// A peer takes in everything again. Returns what waited.
    pub(crate) fn restore(&mut self, peer: usize) -> VecDeque<Arriving> {
        self.0
            .remove(&peer)
            .map_or_else(VecDeque::new, |inbox| inbox.waiting)
    }

    pub(crate) fn is_slow(&self, peer: usize) -> bool {
        self.0.contains_key(&peer)
    }

    /// Lets a frame wait if its receiver is slow; otherwise it is given back. `Some` time: nothing waited before it,
    /// and it will have been taken in after so long.
    pub(crate) fn enter(&mut self, arriving: Arriving) -> Result<Option<Nanos>, Arriving> {
        let Some(inbox) = self.0.get_mut(&arriving.to) else {
            return Err(arriving);
        };
        inbox.waiting.push_back(arriving);
        Ok(if inbox.waiting.len() == 1 {
            inbox.next_takes()
        } else {
            None
        })
    }

    /// The first frame has been taken in. Returns it, and how long the next one takes.
    pub(crate) fn take(&mut self, peer: usize) -> Option<(Arriving, Option<Nanos>)> {
        let inbox = self.0.get_mut(&peer)?;
        let arriving = inbox.waiting.pop_front()?;
        Some((arriving, inbox.next_takes()))
    }
}

impl Inbox {
    fn next_takes(&self) -> Option<Nanos> {
        let size = self.waiting.front()?.size;
        Some(transmission(size, self.bits_per_second))
    }
}
