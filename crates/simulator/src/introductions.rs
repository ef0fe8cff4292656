//! Who knows whom in the beginning, and what is told instead of exchanged.
//!
//! A network that starts warm is told who is there. Where alive messages and StateInfo are not exchanged
//! ([`Options::background`]), each peer is also told the ledger heights of those it knows, as often as they
//! would be published, at no cost and under either rules.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::index;
use selvedge_gossip::event::Event;
use selvedge_gossip::message::{self, Message, StateInfo, Verified};

use crate::options::{Options, PARTIAL_VIEW};
use crate::peer::{EPOCH, SimPeer};
use crate::queue::Happening;
use crate::world::{World, nanos};

/// Fabric's `publishStateInfoInterval`.
const HEIGHTS_INTERVAL: Duration = Duration::from_secs(4);

/// The StateInfo of every peer in one channel.
pub(crate) type StateInfos = Vec<Option<Verified<StateInfo>>>;

/// Whom each peer knows of: everybody, or a random part of its organisation, who know it too.
pub(crate) fn acquaintances(options: &Options, rng: &mut StdRng) -> Vec<BTreeSet<usize>> {
    let peers = options.peers;
    if options.has_background() {
        let others = |index: usize| (0..peers).filter(move |other| *other != index);
        return (0..peers).map(|index| others(index).collect()).collect();
    }
    let mut known = vec![BTreeSet::new(); peers];
    for one in 0..peers {
        let org = one % options.orgs;
        let members = (peers - org).div_ceil(options.orgs);
        let chosen = index::sample(rng, members, members.min(PARTIAL_VIEW / 2));
        for other in chosen.into_iter().map(|member| org + member * options.orgs) {
            if other != one {
                for (a, b) in [(one, other), (other, one)] {
                    if let Some(known) = known.get_mut(a) {
                        known.insert(b);
                    }
                }
            }
        }
    }
    known
}

impl World {
    /// Tells a peer whom there is.
    pub(crate) fn introduce(&mut self, index: usize) {
        let Some(known) = self.known.get(index) else {
            return;
        };
        let known: Vec<&SimPeer> = known.iter().filter_map(|it| self.peers.get(*it)).collect();
        let Some(teller) = known.first().map(|peer| peer.identity.clone()) else {
            return;
        };
        let now = self.base + Duration::from_nanos(self.now);
        let alive = known
            .iter()
            .filter_map(|peer| message::own_alive(peer.local(), 0, now, now, &peer.key).ok())
            .collect();
        let from = teller.pki_id();
        let stream = Event::Connected {
            identity: teller,
            endpoint: None,
        };
        self.tell(index, stream);
        let message = Message::MembershipResponse {
            nonce: 0,
            alive,
            dead: Vec::new(),
        };
        self.tell(index, Event::Message { from, message });
    }

    /// Tells everybody the heights of those it knows; again after a while, where nobody else does.
    pub(crate) fn spread_heights(&mut self) {
        let infos = self.state_infos();
        for index in 0..self.peers.len() {
            if self.peers.get(index).is_some_and(|peer| peer.up) {
                self.tell_heights(index, &infos);
            }
        }
        if !self.options.has_background() {
            let next = self.now + nanos(HEIGHTS_INTERVAL);
            self.queue.enter(next, Happening::Heights);
        }
    }

    /// The StateInfo of every peer, by channel.
    pub(crate) fn state_infos(&self) -> Vec<StateInfos> {
        let of_channel = |(channel, id)| {
            let info = |peer: &SimPeer| {
                let height = peer.heights.get(channel).copied()?;
                let (local, key) = (peer.local(), &peer.key);
                let sequence = EPOCH + self.now;
                message::own_state_info(local, id, sequence, height, false, Vec::new(), key).ok()
            };
            self.peers.iter().map(info).collect()
        };
        self.channels.iter().enumerate().map(of_channel).collect()
    }

    /// Tells a peer the heights of those it knows.
    pub(crate) fn tell_heights(&mut self, index: usize, infos: &[StateInfos]) {
        let Some(known) = self.known.get(index).cloned() else {
            return;
        };
        let teller = known.first().and_then(|teller| self.peers.get(*teller));
        let Some(from) = teller.map(|peer| peer.identity.pki_id()) else {
            return;
        };
        for (channel, infos) in infos.iter().enumerate() {
            let Some(id) = self.channels.get(channel).cloned() else {
                continue;
            };
            let infos = known.iter().filter_map(|peer| infos.get(*peer)?.clone());
            let message = Message::StateInfoSnapshot(id, infos.collect());
            self.tell(index, Event::Message { from, message });
        }
    }
}
