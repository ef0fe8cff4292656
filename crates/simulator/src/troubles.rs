//! What goes wrong: partitions, restarts, broken streams, narrow links, and with `ordering` its outages; and what must be right again some time later.

use std::time::Duration;

use rand::Rng;
use rand::seq::index;
use selvedge_gossip::config::Rules;
use selvedge_gossip::event::Event;
use selvedge_gossip::types::PkiId;

use crate::options::{HALF_OPEN, LONGEST_NARROW, NARROW_BITS_PER_SECOND};
use crate::peer::SimPeer;
use crate::queue::Happening;
use crate::wires::Nanos;
use crate::world::{World, nanos, pair};

/// From the last trouble until membership and leadership must have settled: time to expire, to reconnect, and
/// to elect.
pub(crate) const SETTLING: Duration = Duration::from_secs(90);
/// From one look whether they have to the next.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// For how long there may be looks; what is not so at any of them is a violation.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// How long after a peer was down or cut off others may still take it for dead.
const SUSPICION: Duration = Duration::from_secs(60);

impl World {
    /// Enters something that happens so often in an hour, until the last block.
    pub(crate) fn now_and_then(
        &mut self,
        begin: Nanos,
        per_hour: f64,
        make: impl Fn() -> Happening,
    ) {
        if per_hour <= 0.0 {
            return;
        }
        let mean = 3600e9 / per_hour;
        let mut at = begin as f64;
        loop {
            at += mean * -self.rng.random_range(f64::MIN_POSITIVE..1.0).ln();
            if at > self.last_cut as f64 {
                break;
            }
            self.queue.enter(at as Nanos, make());
        }
    }

    pub(crate) fn part(&mut self, begins: bool) {
        if !begins {
            self.troubled.fill(self.now);
        }
        let Some(partition) = self.options.partition.filter(|_| begins) else {
            return self.wires.part(None);
        };
        let peers = self.options.peers;
        let count = peers * partition.per_mille.min(1000) as usize / 1000;
        let mut cut_off = vec![false; peers];
        for chosen in index::sample(&mut self.rng, peers, count) {
            if let Some(place) = cut_off.get_mut(chosen) {
                *place = true;
            }
        }
        self.wires.part(Some(cut_off));
    }

    pub(crate) fn stop_one(&mut self) {
        let first = match self.options.elections {
            true => 0,
            false => self.options.orgs,
        };
        if let Some((peer, until)) = self.take_down(first) {
            self.queue.enter(until, Happening::Start { peer });
        }
    }

    /// Whoever bootstrap and anchor endpoints name stays.
    pub(crate) fn leave_one(&mut self) {
        if let Some((place, until)) = self.take_down(self.options.orgs) {
            self.queue.enter(until, Happening::Come { place });
        }
    }

    /// Stops a random peer from `first` on, if it is up. Returns which, and when its place is taken again.
    fn take_down(&mut self, first: usize) -> Option<(usize, Nanos)> {
        let peers = self.options.peers;
        if first == peers {
            return None;
        }
        let chosen = self.rng.random_range(first..peers);
        let pause = self.rng.random_range(1_000_000_000..40_000_000_000);
        let until = self.now + pause;
        let peer = self.peers.get_mut(chosen).filter(|peer| peer.up)?;
        peer.up = false;
        if let Some(troubled) = self.troubled.get_mut(chosen) {
            *troubled = until;
        }
        self.connected.retain(|(a, b)| *a != chosen && *b != chosen);
        for other in (0..peers).filter(|other| *other != chosen) {
            // Nothing that is on its way or waits comes to anybody.
            self.wires.break_stream(chosen, other);
            self.outboxes.forget(chosen, other);
            self.outboxes.forget(other, chosen);
        }
        self.restarts_end = self.restarts_end.max(until);
        Some((chosen, until))
    }

    pub(crate) fn come(&mut self, place: usize) {
        let Some(former) = self.peers.get_mut(place) else {
            return;
        };
        let successor = match former.successor(place, &self.options, self.base, self.now) {
            Ok(successor) => successor,
            Err(error) => {
                let found = format!("nobody can follow peer {place}: {error}");
                return self.measures.violated(found);
            }
        };
        let former = std::mem::replace(former, successor);
        if former.lie.is_none() {
            let complete = |height: &&u64| **height == self.options.blocks + 1;
            self.incomplete += former.heights.iter().filter(complete).count();
        }
        for endpoint in former.endpoints() {
            self.by_endpoint.remove(&endpoint);
        }
        if let Some(peer) = self.peers.get(place) {
            self.by_id.insert(peer.identity.pki_id(), place);
            self.by_endpoint
                .extend(peer.endpoints().map(|endpoint| (endpoint, place)));
        }
        self.join_channels(place);
    }

    pub(crate) fn start(&mut self, index: usize) {
        let (seed, base, now) = (self.options.seed, self.base, self.now);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if let Err(error) = peer.restart(index, seed, base, now) {
            return self
                .measures
                .violated(format!("peer {index} cannot start: {error}"));
        }
        self.join_channels(index);
        if !self.options.has_background() {
            self.introduce(index);
            self.tell_heights(index, &self.state_infos());
        }
    }

    /// The link of a random peer is narrow for a while.
    pub(crate) fn narrow_one(&mut self) {
        let (first, peers) = (self.options.orgs, self.options.peers);
        if first == peers {
            return;
        }
        let peer = self.rng.random_range(first..peers);
        let longest = nanos(LONGEST_NARROW);
        let until = self.now + self.rng.random_range(longest / 2..=longest);
        if self.inboxes.is_slow(peer) {
            return;
        }
        self.inboxes.slow_down(peer, NARROW_BITS_PER_SECOND);
        self.wires.set_narrow(peer, true);
        self.restarts_end = self.restarts_end.max(until);
        self.queue.enter(until, Happening::Widen { peer });
    }

    pub(crate) fn widen(&mut self, peer: usize) {
        self.wires.set_narrow(peer, false);
        for arrived in self.inboxes.restore(peer) {
            self.receive(arrived);
        }
    }

    /// The stream between two random peers breaks, at once or after it was half open.
    pub(crate) fn break_one(&mut self, half_open: bool) {
        let connected = self.connected.len();
        if connected == 0 {
            return;
        }
        let chosen = self.rng.random_range(0..connected);
        let Some((one, other)) = self.connected.iter().nth(chosen).copied() else {
            return;
        };
        if !half_open {
            return self.broken(one, other);
        }
        let until = self.now + nanos(HALF_OPEN);
        let (from, to) = if self.rng.random() {
            (one, other)
        } else {
            (other, one)
        };
        self.wires.mute(from, to, until);
        self.queue.enter(until, Happening::Broken { one, other });
    }

    pub(crate) fn broken(&mut self, one: usize, other: usize) {
        self.wires.break_stream(one, other);
        for (from, to) in [(one, other), (other, one)] {
            self.outboxes.broken(from, to);
            self.transmit(from);
        }
        if !self.connected.remove(&pair(one, other)) {
            return;
        }
        for (index, peer) in [(one, other), (other, one)] {
            let Some(id) = self.peers.get(peer).map(|peer| peer.identity.pki_id()) else {
                continue;
            };
            if self.peers.get(index).is_some_and(|peer| peer.up) {
                self.tell(index, Event::Disconnected(id));
            }
        }
    }

    /// A peer takes another one for dead.
    pub(crate) fn suspects(&mut self, index: usize, id: &PkiId) {
        let Some(suspect) = self.by_id.get(id).copied() else {
            return;
        };
        let is_there = |peer: &SimPeer| peer.up && peer.identity.pki_id() == *id;
        let is_down = !self.peers.get(suspect).is_some_and(is_there);
        let lately = |peer: usize| {
            let troubled = self.troubled.get(peer).copied().unwrap_or(0);
            troubled > 0 && self.now < troubled + nanos(SUSPICION)
        };
        let excused = is_down || lately(index) || lately(suspect);
        if !excused && self.wires.connected(index, suspect) {
            self.measures.false_suspicions += 1;
        }
    }

    /// Whether membership and leadership must have settled in the end.
    pub(crate) fn settles(&self) -> bool {
        let options = &self.options;
        let shaken = options.partition.is_some()
            || options.restarts_per_hour > 0.0
            || options.churn_per_hour > 0.0
            || options.outages_per_hour > 0.0
            || options.cold_start
            || options.elections;
        options.has_background() && shaken && options.rules == Rules::Selvedge
    }

    /// Some time after the last trouble everybody knows of everybody, and where leaders are elected, each
    /// organisation has one in each channel. Returns where that is not so.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let up: Vec<usize> = (0..self.peers.len())
            .filter(|peer| self.peers.get(*peer).is_some_and(|peer| peer.up))
            .collect();
        for index in &up {
            let Some(peer) = self.peers.get(*index) else {
                continue;
            };
            let alive = peer.gossip.members().alive_count();
            if alive + 1 != up.len() {
                let found = format!("peer {index} knows of {alive} of {} others", up.len() - 1);
                violations.push(found);
            }
        }
        if !self.options.elections {
            return violations;
        }
        for channel in 0..self.options.channels {
            for org in 0..self.options.orgs {
                let leads = |index: &&usize| {
                    let peer = self.peers.get(**index);
                    let fetches = peer.and_then(|peer| peer.fetches.get(channel));
                    **index % self.options.orgs == org && fetches.is_some_and(Option::is_some)
                };
                let leaders = up.iter().filter(leads).count();
                if leaders != 1 {
                    let found = format!("{leaders} leaders in organisation {org}");
                    violations.push(found);
                }
            }
        }
        violations
    }
}
