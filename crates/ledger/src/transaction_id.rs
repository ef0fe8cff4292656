//! The id of a transaction, found in its envelope.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::{Buf, Bytes};
use selvedge_protos::common::{Block, ChannelHeader, Envelope, Payload, SignatureHeader};
use selvedge_protos::envelope::{self, CHANNEL_HEADER, ENVELOPE, PAYLOAD, SIGNATURE_HEADER};
use selvedge_protos::schema::decode;

use crate::block_format::read_varint;
use crate::block_index::id_key;

/// The id under which a transaction is indexed: the one in its channel header, otherwise the one
/// that nonce and creator make. Empty for an envelope that does not parse (Fabric:
/// `protoutil.GetOrComputeTxIDFromEnvelope`, whose errors the block store only logs).
pub(crate) fn transaction_id(envelope: &Bytes) -> Cow<'_, str> {
    match usual_id(envelope) {
        Some(id) => id.into(),
        None => any_id(envelope.clone()).unwrap_or_default().into(),
    }
}

/// The ids of transactions in blocks that are not in a ledger yet.
#[derive(Debug, Default)]
pub struct TransactionIds(HashSet<Vec<u8>>);

impl TransactionIds {
    /// Adds those of a block, as the ledger is going to find them.
    pub fn add(&mut self, block: &Block) {
        let envelopes = block.data.iter().flat_map(|data| &data.data);
        let keys = envelopes.map(|envelope| id_key(&transaction_id(envelope)));
        self.0.extend(keys);
    }

    /// Whether a block has a transaction with this id.
    pub fn contains(&self, id: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&id_key(id))
    }
}

/// Every layer is decoded as Go decodes it: a transaction with an odd field in its headers may be
/// valid, and is repeated if another has its id.
fn any_id(envelope: Bytes) -> Option<String> {
    let envelope: Envelope = decode(envelope, &ENVELOPE).ok()?;
    let payload: Payload = decode(envelope.payload, &PAYLOAD).ok()?;
    let header = payload.header?;
    let channel_header: ChannelHeader = decode(header.channel_header, &CHANNEL_HEADER).ok()?;
    if !channel_header.tx_id.is_empty() {
        return Some(channel_header.tx_id);
    }
    let signature_header: SignatureHeader =
        decode(header.signature_header, &SIGNATURE_HEADER).ok()?;
    let SignatureHeader { creator, nonce } = signature_header;
    Some(envelope::transaction_id(&nonce, &creator))
}

/// The id in the channel header of an envelope that is encoded in the usual way, in a third of the
/// time. `None` says nothing.
fn usual_id(envelope: &[u8]) -> Option<&str> {
    use Kind::{Number, Text};
    let [payload, _signature] = fields(envelope, [Text; 2])?;
    let [header, _data] = fields(payload, [Text; 2])?;
    let [channel_header, _signature_header] = fields(header, [Text; 2])?;
    let kinds = [Number, Number, Text, Text, Text, Number, Text, Text];
    let [_, _, timestamp, channel_id, id, ..] = fields(channel_header, kinds)?;
    let [_seconds, _nanos] = fields(timestamp, [Number; 2])?;
    std::str::from_utf8(channel_id).ok()?;
    let id = std::str::from_utf8(id).ok()?;
    (!id.is_empty()).then_some(id)
}

/// How a field is encoded.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    /// A length and so many bytes.
    Text,
}

/// The contents of the fields 1 to `N` of a message; numbers and missing fields are empty. `None` if
/// the message has other fields, or these in another order, repeatedly, or malformed.
fn fields<const N: usize>(mut message: &[u8], kinds: [Kind; N]) -> Option<[&[u8]; N]> {
    let mut contents = [&[][..]; N];
    let mut free = kinds.iter().zip(&mut contents).zip(1_u8..);
    while !message.is_empty() {
        let tag = message.get_u8();
        let ((kind, content), _) = free.find(|(_, number)| *number == tag >> 3)?;
        match (kind, tag & 7) {
            (Kind::Number, 0) => {
                read_varint(&mut message).ok()?;
            }
            (Kind::Text, 2) => {
                let length = usize::try_from(read_varint(&mut message).ok()?).ok()?;
                (*content, message) = message.split_at_checked(length)?;
            }
            _ => return None,
        }
    }
    Some(contents)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use selvedge_protos::Message;
    use selvedge_protos::common::Header;

    use super::*;
    use crate::test_support::{envelope, recorded};

    #[test]
    fn ids_are_those_of_the_headers_or_computed() {
        assert_eq!(transaction_id(&envelope("abc", b"")), "abc");
        assert_eq!(transaction_id(&Bytes::from_static(b"\xff")), "");
        assert_eq!(transaction_id(&Bytes::new()), "");

        let genesis = recorded("raft/orderer-blocks").swap_remove(0);
        let config = genesis.data.unwrap().data.swap_remove(0);
        assert_eq!(transaction_id(&config).len(), 64);
    }

    /// The version of the channel header, a number, stands there as a text: an unknown field to Go.
    #[test]
    fn a_field_of_another_type_hides_no_id() {
        let layers = |channel_header: Vec<u8>| {
            let header = Header {
                channel_header: channel_header.into(),
                signature_header: Bytes::new(),
            };
            let payload = Payload {
                header: Some(header),
                data: Bytes::new(),
            };
            let envelope = Envelope {
                payload: payload.encode_to_vec().into(),
                signature: Bytes::new(),
            };
            Bytes::from(envelope.encode_to_vec())
        };
        let id = b"\x2a\x03abc";
        assert_eq!(transaction_id(&layers(id.to_vec())), "abc");
        let odd = layers([&id[..], b"\x12\x01v"].concat());
        assert_eq!(transaction_id(&odd), "abc");
    }

    #[test]
    fn recorded_transactions_are_encoded_in_the_usual_way() {
        let (mut usual, mut all) = (0, 0);
        for block in recorded("raft/orderer-blocks") {
            for envelope in block.data.unwrap().data {
                all += 1;
                if let Some(id) = usual_id(&envelope) {
                    usual += 1;
                    assert_eq!(Some(id), any_id(envelope.clone()).as_deref());
                }
            }
        }
        assert!(all > 500 && usual * 100 > all * 95, "{usual} of {all}");
    }

    /// Envelopes with a few bytes changed at every layer.
    fn nearly_usual() -> impl Strategy<Value = Bytes> {
        let change = (any::<prop::sample::Index>(), any::<u8>());
        (vec(change, 4), vec(any::<bool>(), 4), ".{0,8}").prop_map(|(changes, changed, id)| {
            let spoil = |layer: usize, mut bytes: Vec<u8>| {
                let (at, value) = &changes[layer];
                if changed[layer] && !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *value;
                }
                Bytes::from(bytes)
            };
            let channel_header = ChannelHeader {
                r#type: 3,
                timestamp: Some(prost_types::Timestamp {
                    seconds: 1,
                    nanos: 2,
                }),
                channel_id: "channel".into(),
                tx_id: id,
                epoch: 1,
                extension: Bytes::from_static(b"extension"),
                ..ChannelHeader::default()
            };
            let header = Header {
                channel_header: spoil(0, channel_header.encode_to_vec()),
                signature_header: Bytes::from_static(b"\x0a\x01a\x12\x01b"),
            };
            let header = spoil(1, header.encode_to_vec());
            let mut payload = vec![10, header.len() as u8];
            payload.extend_from_slice(&header);
            payload.extend_from_slice(b"\x12\x04data");
            let envelope = Envelope {
                payload: spoil(2, payload),
                signature: Bytes::from_static(b"signature"),
            };
            spoil(3, envelope.encode_to_vec())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn the_short_way_never_disagrees(envelope in nearly_usual()) {
            if let Some(id) = usual_id(&envelope) {
                let found = any_id(envelope.clone());
                prop_assert_eq!(Some(id), found.as_deref());
            }
        }

        #[test]
        fn arbitrary_bytes_harm_nothing(bytes in vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            if let Some(id) = usual_id(&bytes) {
                prop_assert_eq!(id, transaction_id(&bytes));
            }
        }
    }
}
