//! The ordering service, those who fetch from it, and what happens when they cannot.

use rand::Rng;
use rand::seq::IndexedRandom;
use selvedge_gossip::channel::Channel;
use selvedge_gossip::event::Event;
use selvedge_gossip::types::ChannelId;

use crate::block::SimBlock;
use crate::options::LONGEST_OUTAGE;
use crate::queue::Happening;
use crate::wires::Nanos;
use crate::world::{World, nanos};

/// From the ordering service to a leader.
const ORDERING: Nanos = 2_000_000;
/// A leader that reaches no ordering node for so long tells its core, and again after as long; as the node does.
const MISSED: Nanos = 20_000_000_000;

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

    /// The ordering node of a random leader is out for a while.
    pub(crate) fn outage(&mut self) {
        let leads = |index: &usize| {
            let peer = self.peers.get(*index).filter(|peer| peer.up);
            peer.is_some_and(|peer| peer.fetches.iter().any(Option::is_some))
        };
        let leaders: Vec<usize> = (0..self.peers.len()).filter(leads).collect();
        let Some(index) = leaders.choose(&mut self.rng).copied() else {
            return;
        };
        let longest = nanos(LONGEST_OUTAGE);
        let ends = self.now + self.rng.random_range(longest / 2..=longest);
        if let Some(peer) = self.peers.get_mut(index) {
            peer.outage_ends = ends;
            let missed = Happening::OrderingMissed { peer: index };
            self.queue.enter(self.now + MISSED, missed);
            self.restarts_end = self.restarts_end.max(ends);
        }
    }

    /// A peer tells its core that it cannot fetch. If it leads and is not alone, it must give way.
    pub(crate) fn ordering_missed(&mut self, index: usize) {
        let now = self.now;
        let peer = self.peers.get(index);
        let Some(peer) = peer.filter(|peer| now < peer.outage_ends) else {
            return;
        };
        if peer.up {
            for id in self.channels.clone() {
                self.gives_way(index, &id);
            }
        }
        let missed = Happening::OrderingMissed { peer: index };
        self.queue.enter(now + MISSED, missed);
    }

    fn gives_way(&mut self, index: usize, channel: &ChannelId) {
        let has_colleagues = self.has_colleagues(index, channel);
        self.tell(index, Event::OrdererUnreachable(channel.clone()));
        let core = self.peers.get(index).map(|peer| peer.gossip.channels());
        let leads = core.is_some_and(|it| it.get(channel).is_some_and(Channel::leads));
        if leads && has_colleagues {
            let found = format!("peer {index} leads {channel} without an ordering node");
            self.measures.violated(found);
        }
    }

    /// Whether a peer knows another one of its organisation in a channel.
    fn has_colleagues(&self, index: usize, channel: &ChannelId) -> bool {
        let orgs = self.options.orgs;
        let Some(peer) = self.peers.get(index) else {
            return false;
        };
        let known = peer.gossip.channels().get(channel);
        known.is_some_and(|channel| {
            let mut peers = channel.peers(peer.gossip.members());
            peers.any(|(member, _)| {
                let known = self.by_id.get(&member.pki_id());
                known.is_some_and(|known| known % orgs == index % orgs)
            })
        })
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
            if self.now < peer.outage_ends && peer.run == run {
                let (at, peer) = (peer.outage_ends, index);
                return self
                    .queue
                    .enter(at, Happening::Fetch { peer, run, channel });
            }
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
