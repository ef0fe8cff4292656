//! No peer holds more than it may.
//!
//! The limits that a peer is configured with are those of its network, not the wide ones of a real peer: there are
//! no more members and identities than peers. So whatever is remembered of a peer beyond once is found, and not
//! only what would fill a real one's memory.
//!
//! What waits for a peer is looked at whenever something is added to it (`sending`).

use selvedge_gossip::config::Limits;

use crate::options::Options;
use crate::world::World;

/// A peer is looked at after each so many events of all.
const SAMPLED: u64 = 8;

/// The limits of a peer in this network. Those that have left are known for some time beside those that came.
pub(crate) fn limits(options: &Options) -> Limits {
    let peers = match options.churn_per_hour > 0.0 {
        true => 2 * options.peers,
        false => options.peers,
    };
    Limits {
        members: peers,
        identities: peers,
        relayed_state_infos: peers,
        channels: options.channels,
        ..Limits::default()
    }
}

impl World {
    /// Looks at a peer, if it is time to.
    pub(crate) fn sample(&mut self, index: usize) {
        self.handled += 1;
        if self.handled.is_multiple_of(SAMPLED) {
            self.check_bounds(index);
        }
    }

    fn check_bounds(&mut self, index: usize) {
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        for occupancy in peer.gossip.occupancy() {
            if occupancy.is_exceeded() {
                self.measures
                    .violated(format!("peer {index} holds too much: {occupancy:?}"));
            }
        }
    }
}
