//! The ordering service, and those who fetch from it.

use rand::Rng;
use selvedge_gossip::event::Event;
use selvedge_gossip::types::ChannelId;

use crate::block::SimBlock;
use crate::queue::Happening;
use crate::wires::Nanos;
use crate::world::World;

/// From the ordering service to a leader.
const ORDERING: Nanos = 2_000_000;

impl World {
    /// The ordering service hands a block to the leaders.
    pub(crate) fn cut(&mut self, channel: usize, number: u64) {
        self.measuring = true;
        let Some(id) = self.channels.get(channel).cloned() else {
            return;
        };
        if let Some(newest) = self.newest.get_mut(channel) {
            *newest = number;
        }
        if self.options.elections {
            for peer in 0..self.peers.len() {
                self.fetch_soon(peer, channel);
            }
            return;
        }
        let block = SimBlock::genuine(id.as_str(), number);
        for leader in 0..self.options.orgs {
            let event = Event::BlockFromOrderer {
                channel: id.clone(),
                block: block.clone(),
            };
            let delay = ORDERING + self.rng.random_range(0..ORDERING / 4);
            self.tell_later(leader, delay, event);
        }
    }

    /// A peer was elected, or leads no longer.
    pub(crate) fn leads(&mut self, index: usize, channel: &ChannelId, leads: bool) {
        let Some(channel) = self.channel(channel) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(index)
            && let (Some(fetches), Some(height)) =
                (peer.fetches.get_mut(channel), peer.heights.get(channel))
        {
            *fetches = leads.then_some(*height);
        }
        self.fetch_soon(index, channel);
    }

    pub(crate) fn fetch_soon(&mut self, index: usize, channel: usize) {
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        if peer.fetches.get(channel).is_some_and(Option::is_some) {
            let run = peer.run;
            let at = self.now + ORDERING + self.rng.random_range(0..ORDERING / 4);
            let happening = Happening::Fetch {
                peer: index,
                run,
                channel,
            };
            self.queue.enter(at, happening);
        }
    }

    /// Hands a leader what the ordering service has, as far as its core takes it.
    pub(crate) fn fetch(&mut self, index: usize, run: u32, channel: usize) {
        let newest = self.newest.get(channel).copied().unwrap_or(0);
        let Some(id) = self.channels.get(channel).cloned() else {
            return;
        };
        loop {
            let Some(peer) = self.peers.get_mut(index) else {
                return;
            };
            let Some(Some(next)) = peer.fetches.get_mut(channel) else {
                return;
            };
            let core = peer.gossip.channels().get(&id);
            let takes = core.is_some_and(|core| core.accepts_ordered(*next));
            if !peer.up || peer.run != run || *next > newest || !takes {
                return;
            }
            let block = SimBlock::genuine(id.as_str(), *next);
            *next += 1;
            let channel = id.clone();
            self.tell(index, Event::BlockFromOrderer { channel, block });
        }
    }
}
