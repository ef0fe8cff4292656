//! Messages in this peer's name.

use std::time::Instant;

use bytes::Bytes;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    self, AliveMessage, Chaincode, GossipMessage, LeadershipMessage, Member, PeerTime as WireTime,
    Properties,
};

use super::{Alive, Envelope, Leadership, PeerIdentity, StateInfo, Verified};
use crate::context::LocalPeer;
use crate::crypto::{SignError, Signer};
use crate::types::{ChannelId, PeerTime};

/// A message with its tag, as each kind demands it (see [`decode`](super::decode)).
pub fn gossip_message(
    tag: Tag,
    channel: Option<&ChannelId>,
    nonce: u64,
    content: Content,
) -> GossipMessage {
    GossipMessage {
        nonce,
        channel: channel.map_or_else(Bytes::new, |channel| {
            Bytes::copy_from_slice(channel.as_str().as_bytes())
        }),
        tag: tag.into(),
        content: Some(content),
    }
}

/// This peer's sign of life, with its secret. It carries the identity only while `now` is within
/// `publishCertPeriod` of the start.
pub fn own_alive(
    me: &LocalPeer,
    sequence: u64,
    publish_identity_until: Instant,
    now: Instant,
    signer: &dyn Signer,
) -> Result<Verified<Alive>, SignError> {
    let time = PeerTime {
        incarnation: me.incarnation,
        sequence,
    };
    let identity = if now < publish_identity_until {
        me.identity.serialized().clone()
    } else {
        Bytes::new()
    };
    let content = Content::AliveMsg(AliveMessage {
        membership: Some(Member {
            endpoint: me.external_endpoint.as_str().to_owned(),
            metadata: me.metadata.clone(),
            pki_id: Bytes::copy_from_slice(me.pki_id().as_bytes()),
        }),
        timestamp: Some(WireTime {
            inc_num: time.incarnation,
            seq_num: time.sequence,
        }),
        identity,
    });
    let message = gossip_message(Tag::Empty, None, 0, content);
    let envelope =
        Envelope::signed(&message, signer)?.with_secret(me.internal_endpoint.as_str(), signer)?;
    let alive = Alive {
        pki_id: me.pki_id(),
        endpoint: me.external_endpoint.clone(),
        internal_endpoint: Some(me.internal_endpoint.clone()),
        metadata: me.metadata.clone(),
        time,
    };
    Ok(Verified::own(alive, envelope, me.identity.clone()))
}

/// What this peer says of itself in a channel. `sequence` is the time in nanoseconds since 1970.
pub fn own_state_info(
    me: &LocalPeer,
    channel: &ChannelId,
    sequence: u64,
    ledger_height: u64,
    left_channel: bool,
    chaincodes: Vec<Chaincode>,
    signer: &dyn Signer,
) -> Result<Verified<StateInfo>, SignError> {
    let channel_mac = channel.mac(&me.pki_id());
    let content = Content::StateInfo(gossip::StateInfo {
        timestamp: Some(WireTime {
            inc_num: me.incarnation,
            seq_num: sequence,
        }),
        pki_id: Bytes::copy_from_slice(me.pki_id().as_bytes()),
        channel_mac: Bytes::copy_from_slice(&channel_mac),
        properties: Some(Properties {
            ledger_height,
            left_channel,
            chaincodes: chaincodes.clone(),
        }),
    });
    let message = gossip_message(Tag::ChanOrOrg, None, 0, content);
    let envelope = Envelope::signed(&message, signer)?;
    let info = StateInfo {
        pki_id: me.pki_id(),
        channel_mac,
        time: PeerTime {
            incarnation: me.incarnation,
            sequence,
        },
        ledger_height,
        left_channel,
        chaincodes,
    };
    Ok(Verified::own(info, envelope, me.identity.clone()))
}

/// This peer's proposal to lead a channel, or its declaration that it does. `time` is that of the election:
/// its start in nanoseconds since 1970, and the messages counted from 1.
pub fn own_leadership(
    me: &LocalPeer,
    channel: &ChannelId,
    time: PeerTime,
    is_declaration: bool,
    signer: &dyn Signer,
) -> Result<Verified<Leadership>, SignError> {
    let content = Content::LeadershipMsg(LeadershipMessage {
        pki_id: Bytes::copy_from_slice(me.pki_id().as_bytes()),
        timestamp: Some(WireTime {
            inc_num: time.incarnation,
            seq_num: time.sequence,
        }),
        is_declaration,
    });
    let message = gossip_message(Tag::ChanAndOrg, Some(channel), 0, content);
    let envelope = Envelope::signed(&message, signer)?;
    let leadership = Leadership {
        pki_id: me.pki_id(),
        time,
        is_declaration,
    };
    Ok(Verified::own(leadership, envelope, me.identity.clone()))
}

/// This peer's identity, to be pulled by others.
pub fn own_peer_identity(
    me: &LocalPeer,
    signer: &dyn Signer,
) -> Result<Verified<PeerIdentity>, SignError> {
    let content = Content::PeerIdentity(gossip::PeerIdentity {
        pki_id: Bytes::copy_from_slice(me.pki_id().as_bytes()),
        cert: me.identity.serialized().clone(),
        metadata: Bytes::new(),
    });
    let message = gossip_message(Tag::Empty, None, 0, content);
    let envelope = Envelope::signed(&message, signer)?;
    let identity = PeerIdentity {
        pki_id: me.pki_id(),
    };
    Ok(Verified::own(identity, envelope, me.identity.clone()))
}
