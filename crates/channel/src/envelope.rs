//! Whether a transaction's envelope is well formed, and the little of it that verification reads.
//!
//! The data hash covers the concatenation of all envelopes, so bytes could be moved from one
//! envelope to its neighbour without changing the hash (CVE-2023-46132). Fabric therefore demands
//! that each envelope encodes again to the bytes that it came from. The same is decided here on the
//! bytes themselves: Go writes payload, then signature, then whatever unknown fields it had met, in
//! their order, each tag in as few bytes as possible and the value as it came
//! (Fabric: `protoutil.VerifyTransactionsAreWellFormed`).

use bytes::Bytes;
use selvedge_protos::common::HeaderType;

use selvedge_protos::wire::{
    Fields, Value, WireError, check_message, last_bytes, low_32_bits, text,
};

/// Why an envelope is not well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeFault {
    /// The bytes are no message.
    #[error("is invalid: {0}")]
    Invalid(WireError),
    /// The payload is absent or empty.
    #[error("has no payload")]
    NoPayload,
    /// The signature is absent or empty.
    #[error("has no signature")]
    NoSignature,
    /// Fields that are repeated, out of order or padded: more than one encoding says the same.
    #[error("does not match its canonical encoding")]
    NotCanonical,
}

const PAYLOAD: u32 = 1;
const SIGNATURE: u32 = 2;

/// Checks one envelope of a block. One pass over the fields, without looking into the payload.
pub(crate) fn check_well_formed(envelope: &[u8]) -> Result<(), EnvelopeFault> {
    let (mut payload, mut signature) = (&[][..], &[][..]);
    let mut canonical = true;
    for (position, field) in Fields::of(envelope).enumerate() {
        let field = field.map_err(EnvelopeFault::Invalid)?;
        let (expected_position, content) = match (field.number, field.value) {
            (PAYLOAD, Value::Bytes(bytes)) => (0, Some(bytes)),
            (SIGNATURE, Value::Bytes(bytes)) => (1, Some(bytes)),
            _ => (position.max(2), None),
        };
        canonical &= position == expected_position;
        match content {
            Some(bytes) => {
                canonical &= field.is_minimal();
                *(if field.number == PAYLOAD {
                    &mut payload
                } else {
                    &mut signature
                }) = bytes;
            }
            None => canonical &= field.has_minimal_tag(),
        }
    }
    if payload.is_empty() {
        Err(EnvelopeFault::NoPayload)
    } else if signature.is_empty() {
        Err(EnvelopeFault::NoSignature)
    } else if !canonical {
        Err(EnvelopeFault::NotCanonical)
    } else {
        Ok(())
    }
}

/// Why the channel header of an envelope could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// One layer does not parse.
    #[error("the {layer} does not parse: {source}")]
    Malformed {
        /// Which layer.
        layer: &'static str,
        /// What is wrong with it.
        source: WireError,
    },
    /// The payload has no header.
    #[error("the payload has no header")]
    Missing,
}

/// What verification reads of a channel header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ChannelHeaderView<'a> {
    pub header_type: i32,
    pub channel_id: &'a str,
}

/// Opens an envelope down to its channel header, with Go's verdict on every layer that Go parses on
/// the way (Fabric: `protoutil.GetChannelIDFromEnvelope`).
pub(crate) fn channel_header(envelope: &[u8]) -> Result<ChannelHeaderView<'_>, HeaderFault> {
    let payload = last_bytes(envelope, PAYLOAD).map_err(malformed("envelope"))?;
    let header = channel_header_bytes(payload.unwrap_or_default())
        .map_err(malformed("payload"))?
        .ok_or(HeaderFault::Missing)?;
    read_channel_header(header).map_err(malformed("channel header"))
}

/// The config transaction of a config block, which holds that one and nothing else; `None` for other
/// blocks (Fabric: `protoutil.HasConfigTx`).
pub(crate) fn config_transaction(envelopes: &[Bytes]) -> Option<&Bytes> {
    let [envelope] = envelopes else {
        return None;
    };
    let header = channel_header(envelope).ok()?;
    (header.header_type == HeaderType::Config as i32).then_some(envelope)
}

/// What stands behind the headers of an envelope.
pub(crate) fn payload_data(envelope: &[u8]) -> Result<&[u8], HeaderFault> {
    let payload = last_bytes(envelope, PAYLOAD).map_err(malformed("envelope"))?;
    let data = last_bytes(payload.unwrap_or_default(), 2).map_err(malformed("payload"))?;
    Ok(data.unwrap_or_default())
}

fn malformed(layer: &'static str) -> impl Fn(WireError) -> HeaderFault {
    move |source| HeaderFault::Malformed { layer, source }
}

/// `Payload.header.channel_header`. A message that stands twice is merged: what the second does not
/// have stays as in the first.
fn channel_header_bytes(payload: &[u8]) -> Result<Option<&[u8]>, WireError> {
    let mut found = None;
    for field in Fields::of(payload) {
        let field = field?;
        if let (1, Value::Bytes(header)) = (field.number, field.value) {
            found = last_bytes(header, 1)?.or(found).or(Some(&[]));
        }
    }
    Ok(found)
}

fn read_channel_header(bytes: &[u8]) -> Result<ChannelHeaderView<'_>, WireError> {
    let mut view = ChannelHeaderView::default();
    for field in Fields::of(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(value)) => view.header_type = low_32_bits(value).cast_signed(),
            (3, Value::Bytes(timestamp)) => check_message(timestamp)?,
            (4, Value::Bytes(channel_id)) => view.channel_id = text(channel_id)?,
            (5, Value::Bytes(transaction_id)) => drop(text(transaction_id)?),
            _ => {}
        }
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_protos::Message;
    use selvedge_protos::common::{ChannelHeader, Envelope, Header, Payload};

    #[test]
    fn only_the_canonical_encoding_is_well_formed() {
        use EnvelopeFault::*;
        for (bytes, verdict) in [
            (&[0x0a, 1, 7, 0x12, 1, 8][..], Ok(())),
            (&[], Err(NoPayload)),
            (&[0x12, 1, 8], Err(NoPayload)),
            (&[0x0a, 0, 0x12, 1, 8], Err(NoPayload)),
            (&[0x0a, 1, 7], Err(NoSignature)),
            (&[0x0a, 1, 7, 0x12, 0], Err(NoSignature)),
            (&[0xff], Err(Invalid(WireError::Truncated))),
            // out of order, repeated, emptied by a repetition, padded length, padded tag
            (&[0x12, 1, 8, 0x0a, 1, 7], Err(NotCanonical)),
            (&[0x0a, 1, 7, 0x0a, 1, 7, 0x12, 1, 8], Err(NotCanonical)),
            (&[0x0a, 1, 7, 0x12, 1, 8, 0x0a, 1, 7], Err(NotCanonical)),
            (&[0x0a, 1, 7, 0x12, 1, 8, 0x0a, 0], Err(NoPayload)),
            (&[0x0a, 0x81, 0, 7, 0x12, 1, 8], Err(NotCanonical)),
            (&[0x8a, 0, 1, 7, 0x12, 1, 8], Err(NotCanonical)),
            // unknown fields stand at the end, with a minimal tag; their values are kept as they are
            (&[0x0a, 1, 7, 0x12, 1, 8, 0x18, 5], Ok(())),
            (&[0x0a, 1, 7, 0x12, 1, 8, 0x18, 0x85, 0], Ok(())),
            (&[0x0a, 1, 7, 0x12, 1, 8, 0x98, 0, 5], Err(NotCanonical)),
            (&[0x0a, 1, 7, 0x18, 5, 0x12, 1, 8], Err(NotCanonical)),
            (&[0x18, 5, 0x0a, 1, 7, 0x12, 1, 8], Err(NotCanonical)),
            // a known number with another wire type is an unknown field
            (&[0x0a, 1, 7, 0x12, 1, 8, 0x08, 5], Ok(())),
        ] {
            assert_eq!(check_well_formed(bytes), verdict, "{bytes:x?}");
        }
    }

    #[test]
    fn reads_type_and_channel_through_all_layers() {
        let channel_header = ChannelHeader {
            r#type: 3,
            channel_id: "ch".into(),
            tx_id: "id".into(),
            ..Default::default()
        };
        let envelope = |header| {
            let payload = Payload {
                header,
                data: Default::default(),
            };
            Envelope {
                payload: payload.encode_to_vec().into(),
                signature: Default::default(),
            }
            .encode_to_vec()
        };
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: Default::default(),
        };
        let full = envelope(Some(header));
        let view = super::channel_header(&full).unwrap();
        assert_eq!((view.header_type, view.channel_id), (3, "ch"));
        assert_eq!(
            super::channel_header(&envelope(None)),
            Err(HeaderFault::Missing)
        );
        let empty = envelope(Some(Header::default()));
        assert_eq!(
            super::channel_header(&empty),
            Ok(ChannelHeaderView::default())
        );
        assert!(matches!(
            super::channel_header(&[0x0a, 1, 0xff]),
            Err(HeaderFault::Malformed {
                layer: "payload",
                ..
            })
        ));
    }

    /// Envelopes made at random, with the verdicts of Fabric's own functions.
    #[test]
    fn verdicts_are_those_of_go() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../testdata/forged/envelopes.txt"
        );
        let recorded = std::fs::read_to_string(path).unwrap();
        let mut count = 0;
        for line in recorded.lines() {
            let columns: Vec<_> = line.split(' ').collect();
            let [envelope, well_formed, channel, kind] = columns[..] else {
                panic!("{line}");
            };
            let envelope = hex::decode(envelope).unwrap();
            let verdict = match check_well_formed(&envelope) {
                Ok(()) => "well-formed",
                Err(EnvelopeFault::Invalid(_)) => "invalid",
                Err(EnvelopeFault::NoPayload) => "no-payload",
                Err(EnvelopeFault::NoSignature) => "no-signature",
                Err(EnvelopeFault::NotCanonical) => "not-canonical",
            };
            assert_eq!(verdict, well_formed, "{line}");
            let header = super::channel_header(&envelope);
            let found = header.map(|header| format!("'{}'", header.channel_id));
            assert_eq!(found.as_deref().unwrap_or("unreadable"), channel, "{line}");
            let is_config = header.is_ok_and(|header| header.header_type == 1);
            assert_eq!(if is_config { "config" } else { "other" }, kind, "{line}");
            count += 1;
        }
        assert!(count > 1000);
    }
}
