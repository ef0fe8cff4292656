//! Peers that lie.
//!
//! A liar runs the same core as everybody, so that it is believed to be one of them; what leaves it is
//! twisted on the way.

use bytes::Bytes;
use selvedge_gossip::crypto::Signer;
use selvedge_gossip::event::FrameKind;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::Content;
use selvedge_protos::gossip::{Envelope, GossipMessage};

use crate::keys::Key;

/// How a peer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Passes on forged blocks instead of those it has.
    Forges,
    /// Offers in digests, and never sends.
    Withholds,
    /// Says that its ledger is endless, and sends no blocks.
    Boasts,
    /// Offers blocks that do not exist.
    Invents,
}

impl Lie {
    pub(crate) const ALL: [Lie; 4] = [Lie::Forges, Lie::Withholds, Lie::Boasts, Lie::Invents];

    /// What is sent instead of a frame; `None`: nothing.
    pub(crate) fn twist(self, kind: FrameKind, frame: Bytes, key: &Key) -> Option<Bytes> {
        match (self, kind) {
            (Lie::Forges, FrameKind::Block | FrameKind::BlockUpdate | FrameKind::StateResponse) => {
                Some(rewritten(frame, None, forge))
            }
            (Lie::Withholds, FrameKind::BlockUpdate | FrameKind::StateResponse) => None,
            (Lie::Boasts, FrameKind::Block | FrameKind::BlockUpdate | FrameKind::StateResponse) => {
                None
            }
            (Lie::Boasts, FrameKind::StateInfo) => Some(rewritten(frame, Some(key), boast)),
            (Lie::Invents, FrameKind::Digest) => Some(rewritten(frame, None, invent)),
            _ => Some(frame),
        }
    }
}

/// Changes the message in a frame, and signs it anew if it is the liar's own.
fn rewritten(frame: Bytes, key: Option<&Key>, change: fn(&mut Content, Option<&Key>)) -> Bytes {
    let Ok(mut envelope) = Envelope::decode(frame.clone()) else {
        return frame;
    };
    let Ok(mut message) = GossipMessage::decode(envelope.payload.clone()) else {
        return frame;
    };
    if let Some(content) = &mut message.content {
        change(content, key);
    }
    let payload = Bytes::from(message.encode_to_vec());
    if payload == envelope.payload {
        return frame;
    }
    if let Some(signature) = key.and_then(|key| key.sign(&payload).ok()) {
        envelope.signature = signature;
    }
    envelope.payload = payload;
    envelope.encode_to_vec().into()
}

fn forge(content: &mut Content, _: Option<&Key>) {
    let forged = Bytes::from_static(b"a block that the ordering service never made");
    match content {
        Content::DataMsg(data) => {
            if let Some(payload) = &mut data.payload {
                payload.data = forged;
            }
        }
        Content::DataUpdate(update) => {
            for envelope in &mut update.data {
                let nested = rewritten(envelope.encode_to_vec().into(), None, forge);
                if let Ok(nested) = Envelope::decode(nested) {
                    *envelope = nested;
                }
            }
        }
        Content::StateResponse(response) => {
            for payload in &mut response.payloads {
                payload.data = forged.clone();
            }
        }
        _ => {}
    }
}

fn boast(content: &mut Content, key: Option<&Key>) {
    let Content::StateInfo(info) = content else {
        return;
    };
    // The StateInfo of others is passed on as it is: nobody can sign in their name.
    let own = key.is_some_and(|key| info.pki_id == key.0.as_bytes());
    if let Some(properties) = &mut info.properties
        && own
    {
        properties.ledger_height = u64::MAX;
    }
}

fn invent(content: &mut Content, _: Option<&Key>) {
    if let Content::DataDig(digest) = content
        && digest.msg_type == i32::from(selvedge_protos::gossip::PullMsgType::BlockMsg)
    {
        digest.digests = (0..500u64)
            .map(|number| number.to_string().into())
            .collect();
    }
}
