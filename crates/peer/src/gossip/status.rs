//! What gossip knows and has counted, for operators.

use std::time::{Instant, SystemTime};

use selvedge_gossip::counters::{Counters, DropReason};
use selvedge_gossip::membership::Member;
use selvedge_gossip::node::Gossip;
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, PkiId};
use selvedge_transport::gossip::GossipTransport;

use super::PeerBlock;

/// A picture of one moment.
#[derive(Debug, Clone)]
pub struct GossipStatus {
    /// Peers that are alive, this one not included.
    pub peers: Vec<PeerStatus>,
    /// Peers that are taken for dead and not yet forgotten.
    pub dead: Vec<PeerStatus>,
    /// Channels and what is buffered in them.
    pub channels: Vec<ChannelStatus>,
    /// Counters of the core.
    pub counters: Counters,
    /// Bytes handed to streams.
    pub bytes_sent: u64,
    /// Bytes taken from streams.
    pub bytes_received: u64,
    /// Frames that found a full queue.
    pub overflowed: u64,
}

/// Another peer.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// Who.
    pub pki_id: PkiId,
    /// Where it listens, as far as we may know.
    pub endpoint: Endpoint,
    /// Its organisation, if its identity is known.
    pub org: Option<OrgId>,
    /// When its last alive message came.
    pub last_seen: SystemTime,
}

/// A channel.
#[derive(Debug, Clone)]
pub struct ChannelStatus {
    /// Its name.
    pub channel: ChannelId,
    /// Blocks that wait for an earlier one.
    pub buffered: usize,
    /// Blocks that others have and the ledger lacks.
    pub lag: u64,
    /// Other peers in it, with the height of their ledgers.
    pub peers: Vec<(PkiId, u64)>,
}

impl GossipStatus {
    /// Drops by reason, those that happened.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        self.counters.drops()
    }
}

/// Looks at the core. Costs a copy of the membership.
pub(super) fn of(core: &Gossip<PeerBlock>, transport: &GossipTransport) -> GossipStatus {
    let view = core.members();
    let now = SystemTime::now();
    let peer = |member: &Member| PeerStatus {
        pki_id: member.pki_id(),
        endpoint: member.preferred_endpoint().clone(),
        org: core.identities().org(&member.pki_id()).cloned(),
        last_seen: now
            .checked_sub(member.last_seen().elapsed())
            .unwrap_or(SystemTime::UNIX_EPOCH),
    };
    let channels = core.channels().iter().map(|channel| ChannelStatus {
        channel: channel.id().clone(),
        buffered: channel.buffered_blocks(),
        lag: channel.lag(Instant::now()),
        peers: channel
            .peers(view)
            .map(|(member, height)| (member.pki_id(), height))
            .collect(),
    });
    let metrics = transport.metrics();
    GossipStatus {
        peers: view.alive().map(peer).collect(),
        dead: view.dead().map(peer).collect(),
        channels: channels.collect(),
        counters: core.counters().clone(),
        bytes_sent: metrics.bytes_sent(),
        bytes_received: metrics.bytes_received(),
        overflowed: metrics.control_overflowed() + metrics.bulk_overflowed(),
    }
}
