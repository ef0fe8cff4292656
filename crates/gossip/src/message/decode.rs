//! From a frame to a message whose form is in order; nothing is verified yet.

use std::str;

use bytes::Bytes;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{GossipMessage, PullMsgType};

use super::bounds::{self, MAX_FRAME_SIZE};
use super::{Envelope, MessageError, unreadable};
use crate::crypto::MAX_IDENTITY_SIZE;
use crate::event::FrameKind;
use crate::extension;
use crate::types::ChannelId;

/// The longest name of a channel: Fabric's `maxLength` for channel ids.
const MAX_CHANNEL_NAME: usize = 249;

/// Most bytes of a signed message that is kept and passed on, whatever fields it has: an identity and as much
/// again. Fabric has no such bound.
const MAX_KEPT: usize = 2 * MAX_IDENTITY_SIZE;

/// A message that parsed, within bounds, with the right tag. To be given to [`verify`](super::verify).
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub(super) envelope: Envelope,
    pub(super) nonce: u64,
    /// There if the kind names its channel.
    pub(super) channel: Option<ChannelId>,
    pub(super) content: Content,
    /// What was wrong with entries of a list that are left out.
    pub(super) unreadable: Vec<MessageError>,
}

impl Received {
    /// What it is, for logs.
    pub fn kind(&self) -> &'static str {
        kind_of(&self.content)
    }

    /// What it is, by the name that metrics have for what is sent: [`FrameKind::name`]. Go peers may send what this
    /// peer never does: `other`.
    pub fn label(&self) -> &'static str {
        let is_identities = pull_type(&self.content) == Some(PullMsgType::IdentityMsg.into());
        let kind = match &self.content {
            Content::AliveMsg(_) => FrameKind::Alive,
            Content::MemReq(_) => FrameKind::MembershipRequest,
            Content::MemRes(_) if self.nonce == extension::PASSED_ON => FrameKind::AliveBundle,
            Content::MemRes(_) => FrameKind::MembershipResponse,
            Content::DataMsg(_) => FrameKind::Block,
            Content::Hello(_) => FrameKind::Hello,
            Content::DataDig(_) => FrameKind::Digest,
            Content::DataReq(_) => FrameKind::Request,
            Content::DataUpdate(_) if is_identities => FrameKind::IdentityUpdate,
            Content::DataUpdate(_) => FrameKind::BlockUpdate,
            Content::StateInfo(_) => FrameKind::StateInfo,
            Content::StateSnapshot(_) => FrameKind::StateInfoSnapshot,
            Content::StateInfoPullReq(_) => FrameKind::StateInfoPullRequest,
            Content::StateRequest(_) => FrameKind::StateRequest,
            Content::StateResponse(_) => FrameKind::StateResponse,
            Content::LeadershipMsg(_) => FrameKind::Leadership,
            Content::Ack(_) => FrameKind::Ack,
            Content::PrivateReq(_) => FrameKind::PrivateRequest,
            Content::PrivateRes(_) => FrameKind::PrivateResponse,
            Content::PrivateData(_) => FrameKind::PrivateData,
            Content::Empty(_) | Content::Conn(_) | Content::PeerIdentity(_) => return "other",
        };
        kind.name()
    }
}

/// Decodes a frame, which is an encoded `gossip.Envelope`. Costs one pass over the field headers and one
/// decoding; large fields are not copied.
pub fn decode(frame: Bytes) -> Result<Received, MessageError> {
    if frame.len() > MAX_FRAME_SIZE {
        return Err(MessageError::FrameTooLarge {
            found: frame.len(),
            limit: MAX_FRAME_SIZE,
        });
    }
    let envelope = Envelope::from_frame(frame)?;
    let (message, unreadable) = match open(&envelope) {
        // It is within bounds, then.
        Err(MessageError::Malformed(error)) => {
            let (payload, unreadable) = unreadable::hide(envelope.payload()).ok_or(error)?;
            (GossipMessage::decode(payload)?, unreadable)
        }
        opened => (opened?, Vec::new()),
    };
    let tag = Tag::try_from(message.tag).ok();
    let content = message.content.ok_or(MessageError::NoContent)?;
    check_tag(&content, tag)?;
    if is_kept(&content) {
        check_kept(envelope.frame().len())?;
    }
    let channel = if names_channel(&content) {
        Some(channel_id(&message.channel, kind_of(&content))?)
    } else {
        None
    };
    Ok(Received {
        envelope,
        nonce: message.nonce,
        channel,
        content,
        unreadable,
    })
}

/// Decodes the payload of an envelope, within bounds.
pub(super) fn open(envelope: &Envelope) -> Result<GossipMessage, MessageError> {
    bounds::check(envelope.payload())?;
    Ok(GossipMessage::decode(envelope.payload().clone())?)
}

/// Checks the size of an envelope that is kept in memory and passed on as it came.
pub(super) fn check_kept(found: usize) -> Result<(), MessageError> {
    if found > MAX_KEPT {
        return Err(MessageError::FrameTooLarge {
            found,
            limit: MAX_KEPT,
        });
    }
    Ok(())
}

/// Whether a message is kept in memory and passed on as it came.
fn is_kept(content: &Content) -> bool {
    matches!(
        content,
        Content::AliveMsg(_)
            | Content::StateInfo(_)
            | Content::LeadershipMsg(_)
            | Content::PeerIdentity(_)
    )
}

/// The channel named in a message.
pub(super) fn channel_id(name: &[u8], kind: &'static str) -> Result<ChannelId, MessageError> {
    if name.is_empty() || name.len() > MAX_CHANNEL_NAME {
        return Err(MessageError::BadChannel { kind });
    }
    str::from_utf8(name)
        .map(ChannelId::from)
        .map_err(|_| MessageError::BadChannel { kind })
}

/// What a content is called.
pub(super) fn kind_of(content: &Content) -> &'static str {
    match content {
        Content::AliveMsg(_) => "alive message",
        Content::MemReq(_) => "membership request",
        Content::MemRes(_) => "membership response",
        Content::DataMsg(_) => "data message",
        Content::Hello(_) => "pull hello",
        Content::DataDig(_) => "pull digest",
        Content::DataReq(_) => "pull request",
        Content::DataUpdate(_) => "pull update",
        Content::Empty(_) => "empty message",
        Content::Conn(_) => "connection message",
        Content::StateInfo(_) => "StateInfo",
        Content::StateSnapshot(_) => "StateInfo snapshot",
        Content::StateInfoPullReq(_) => "StateInfo pull request",
        Content::StateRequest(_) => "state request",
        Content::StateResponse(_) => "state response",
        Content::LeadershipMsg(_) => "leadership message",
        Content::PeerIdentity(_) => "identity message",
        Content::Ack(_) => "acknowledgement",
        Content::PrivateReq(_) => "private data request",
        Content::PrivateRes(_) => "private data response",
        Content::PrivateData(_) => "private data",
    }
}

/// Whether a kind is found by the channel's name. StateInfo and its pull request prove by their MAC that
/// the author knows it; everything else without channel concerns all channels.
fn names_channel(content: &Content) -> bool {
    match content {
        Content::DataMsg(_)
        | Content::StateSnapshot(_)
        | Content::StateRequest(_)
        | Content::StateResponse(_)
        | Content::LeadershipMsg(_)
        | Content::PrivateReq(_)
        | Content::PrivateRes(_)
        | Content::PrivateData(_) => true,
        _ => pull_type(content) == Some(PullMsgType::BlockMsg.into()),
    }
}

/// The type of a pull message.
fn pull_type(content: &Content) -> Option<i32> {
    match content {
        Content::Hello(hello) => Some(hello.msg_type),
        Content::DataDig(digest) => Some(digest.msg_type),
        Content::DataReq(request) => Some(request.msg_type),
        Content::DataUpdate(update) => Some(update.msg_type),
        _ => None,
    }
}

/// Fabric's `protoext.IsTagLegal`. Acknowledgements, private data and empty messages do not pass through
/// that check there, so their tag does not matter here.
fn check_tag(content: &Content, found: Option<Tag>) -> Result<(), MessageError> {
    let expected = match content {
        Content::AliveMsg(_) | Content::MemReq(_) | Content::MemRes(_) => Tag::Empty,
        Content::DataMsg(_) | Content::LeadershipMsg(_) => Tag::ChanAndOrg,
        Content::StateInfo(_)
        | Content::StateInfoPullReq(_)
        | Content::StateSnapshot(_)
        | Content::StateRequest(_)
        | Content::StateResponse(_) => Tag::ChanOrOrg,
        Content::PeerIdentity(_) => Tag::OrgOnly,
        Content::Ack(_)
        | Content::Conn(_)
        | Content::Empty(_)
        | Content::PrivateReq(_)
        | Content::PrivateRes(_)
        | Content::PrivateData(_) => return Ok(()),
        Content::Hello(_) | Content::DataDig(_) | Content::DataReq(_) | Content::DataUpdate(_) => {
            match pull_type(content) {
                Some(number) if number == i32::from(PullMsgType::BlockMsg) => Tag::ChanAndOrg,
                Some(number) if number == i32::from(PullMsgType::IdentityMsg) => Tag::Empty,
                number => return Err(MessageError::UnknownPullType(number.unwrap_or_default())),
            }
        }
    };
    if found == Some(expected) {
        return Ok(());
    }
    Err(MessageError::WrongTag {
        kind: kind_of(content),
        expected,
        found,
    })
}
