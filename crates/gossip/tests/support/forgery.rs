//! Messages that honest peers do not send.

use bytes::Bytes;
use selvedge_gossip::message::{Envelope, gossip_message};
use selvedge_gossip::types::ChannelId;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{DataMessage, Payload};

/// Where the messages belong.
pub const CHANNEL: &str = "mychannel";

/// A message of the channel, or of none.
pub fn unsigned(tag: Tag, named: bool, content: Content) -> Bytes {
    let channel = named.then(|| ChannelId::from(CHANNEL));
    let message = gossip_message(tag, channel.as_ref(), 77, content);
    Envelope::unsigned(&message).frame().clone()
}

/// A block that nobody ordered.
pub fn data(number: u64) -> DataMessage {
    DataMessage {
        payload: Some(payload(number)),
    }
}

/// The same, as state transfer has it.
pub fn payload(number: u64) -> Payload {
    Payload {
        seq_num: number,
        data: Bytes::from_static(b"never ordered"),
        private_data: Vec::new(),
    }
}
