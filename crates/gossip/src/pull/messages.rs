//! The four steps as wire messages.

use bytes::Bytes;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    DataDigest, DataRequest, DataUpdate, Envelope, GossipHello, GossipMessage, PullMsgType,
};

use crate::event::FrameKind;
use crate::message::{PullKind, PullStep, gossip_message};

/// The message for one step of a pull, and what kind of frame it is.
pub(crate) fn encode(
    kind: &PullKind,
    nonce: u64,
    step: PullStep<Envelope>,
) -> (GossipMessage, FrameKind) {
    let (channel, tag, pull_type, update) = match kind {
        PullKind::Blocks(channel) => (
            Some(channel),
            Tag::ChanAndOrg,
            PullMsgType::BlockMsg,
            FrameKind::BlockUpdate,
        ),
        PullKind::Identities => (
            None,
            Tag::Empty,
            PullMsgType::IdentityMsg,
            FrameKind::IdentityUpdate,
        ),
    };
    let msg_type = pull_type.into();
    let (content, frame_kind) = match step {
        PullStep::Hello => {
            let hello = GossipHello {
                nonce,
                metadata: Bytes::new(),
                msg_type,
            };
            (Content::Hello(hello), FrameKind::Hello)
        }
        PullStep::Digest(digests) => {
            let digest = DataDigest {
                nonce,
                digests,
                msg_type,
            };
            (Content::DataDig(digest), FrameKind::Digest)
        }
        PullStep::Request(digests) => {
            let request = DataRequest {
                nonce,
                digests,
                msg_type,
            };
            (Content::DataReq(request), FrameKind::Request)
        }
        PullStep::Update(data) => {
            let content = DataUpdate {
                nonce,
                data,
                msg_type,
            };
            (Content::DataUpdate(content), update)
        }
    };
    (gossip_message(tag, channel, 0, content), frame_kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::recorded;
    use crate::types::ChannelId;

    /// What Go peers sent, built again.
    #[test]
    fn the_steps_are_encoded_as_a_go_peer_does() {
        let mut seen = 0;
        for message in recorded() {
            let kind = match std::str::from_utf8(&message.channel).unwrap() {
                "" => PullKind::Identities,
                channel => PullKind::Blocks(ChannelId::from(channel)),
            };
            let (nonce, step) = match message.content.clone().unwrap() {
                Content::Hello(it) => (it.nonce, PullStep::Hello),
                Content::DataDig(it) => (it.nonce, PullStep::Digest(it.digests)),
                Content::DataReq(it) => (it.nonce, PullStep::Request(it.digests)),
                Content::DataUpdate(it) => (it.nonce, PullStep::Update(it.data)),
                _ => continue,
            };
            assert_eq!(encode(&kind, nonce, step).0, message);
            seen += 1;
        }
        assert!(seen > 30);
    }
}
