//! Blocks that are small in memory, and as large as asked for on the wires.

use bytes::Bytes;
use selvedge_gossip::event::{FrameKind, Payload};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::Content;
use selvedge_protos::gossip::{Envelope, GossipMessage};
use selvedge_protos::sha256_of_parts;

/// A block as it is in the ordering service's name: its number and a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SimBlock {
    number: u64,
    bytes: Bytes,
}

impl SimBlock {
    /// The block of this number, as the ordering service makes it.
    pub(crate) fn genuine(channel: &str, number: u64) -> Self {
        let seal = sha256_of_parts([
            b"ordering service".as_ref(),
            channel.as_bytes(),
            number.to_be_bytes().as_ref(),
        ]);
        Self {
            number,
            bytes: Bytes::copy_from_slice(&seal),
        }
    }

    /// The block in `bytes`, if they are those of the block of this number.
    pub(crate) fn verify(channel: &str, number: u64, bytes: &Bytes) -> Option<Self> {
        let genuine = Self::genuine(channel, number);
        (genuine.bytes == *bytes).then(|| Self {
            number,
            bytes: bytes.clone(),
        })
    }
}

impl Payload for SimBlock {
    fn number(&self) -> u64 {
        self.number
    }

    fn encoded(&self) -> &Bytes {
        &self.bytes
    }
}

/// How many blocks a frame carries.
pub(crate) fn blocks_in(kind: FrameKind, frame: &Bytes) -> usize {
    match kind {
        FrameKind::Block => 1,
        FrameKind::BlockUpdate | FrameKind::StateResponse => {
            let message = Envelope::decode(frame.clone())
                .and_then(|envelope| GossipMessage::decode(envelope.payload));
            match message.map(|message| message.content) {
                Ok(Some(Content::DataUpdate(update))) => update.data.len(),
                Ok(Some(Content::StateResponse(response))) => response.payloads.len(),
                _ => 0,
            }
        }
        _ => 0,
    }
}

/// Whether a frame is about a channel.
pub(crate) fn names_channel(frame: &Bytes) -> bool {
    Envelope::decode(frame.clone())
        .and_then(|envelope| GossipMessage::decode(envelope.payload))
        .is_ok_and(|message| !message.channel.is_empty())
}
