//! Decoding messages where Go's verdict on the bytes counts.
//!
//! prost refuses a message in which a known field has another wire type than its definition says, or
//! in which unknown groups are nested deep; Go's library takes both for unknown fields. What prost
//! takes, Go takes too, with the same values. So [`decode`] asks prost first, and only if prost
//! refuses are the fields that Go would not know left out and prost asked again.

use bytes::{BufMut, Bytes};
use prost::encoding::encode_varint;
use prost::{DecodeError, Message};

use crate::wire::{Fields, Value, WireError};

/// The fields of a message that a decoder knows, by their numbers.
#[derive(Debug)]
pub struct Schema(pub &'static [(u32, Kind)]);

/// What a known field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A number, truth value or enumeration.
    Varint,
    /// Bytes or text.
    Bytes,
    /// A message, once or repeated.
    Message(&'static Schema),
}

/// How many known messages may stand in each other, which is prost's limit. Go's is 10,000; only schemas
/// that refer to themselves come so far.
const MAX_DEPTH: usize = 100;

/// Decodes a message that Go's library would decode. `schema` states the fields of `M`.
pub fn decode<M: Message + Default>(bytes: Bytes, schema: &Schema) -> Result<M, DecodeError> {
    M::decode(bytes.clone()).or_else(|error| {
        let mut known = Vec::with_capacity(bytes.len());
        match write_known(&mut known, &bytes, schema, MAX_DEPTH) {
            Ok(()) => M::decode(Bytes::from(known)),
            Err(_) => Err(error),
        }
    })
}

/// Copies the known fields of a message, with at most so many more messages in it.
fn write_known(
    out: &mut Vec<u8>,
    message: &[u8],
    schema: &Schema,
    depth: usize,
) -> Result<(), WireError> {
    let depth = depth.checked_sub(1).ok_or(WireError::Depth)?;
    for field in Fields::of(message) {
        let field = field?;
        let Some((_, kind)) = schema.0.iter().find(|(number, _)| *number == field.number) else {
            continue;
        };
        let tag = u64::from(field.number) << 3;
        match (field.value, kind) {
            (Value::Varint(value), Kind::Varint) => {
                encode_varint(tag, out);
                encode_varint(value, out);
            }
            (Value::Bytes(content), Kind::Bytes) => write_bytes(out, tag, content),
            (Value::Bytes(content), Kind::Message(inner)) => {
                let mut known = Vec::with_capacity(content.len());
                write_known(&mut known, content, inner, depth)?;
                write_bytes(out, tag, &known);
            }
            _ => {}
        }
    }
    Ok(())
}

fn write_bytes(out: &mut Vec<u8>, tag: u64, content: &[u8]) {
    encode_varint(tag | 2, out);
    encode_varint(u64::try_from(content.len()).unwrap_or(u64::MAX), out);
    out.put_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Header, Payload};

    const PAYLOAD: Schema = Schema(&[(1, Kind::Message(&HEADER)), (2, Kind::Bytes)]);
    const HEADER: Schema = Schema(&[(1, Kind::Bytes), (2, Kind::Bytes)]);

    fn payload(bytes: &[u8]) -> Result<Payload, DecodeError> {
        decode(Bytes::copy_from_slice(bytes), &PAYLOAD)
    }

    #[test]
    fn known_fields_of_other_wire_types_are_left_out() {
        let expected = Payload {
            header: Some(Header {
                channel_header: Bytes::from_static(b"c"),
                signature_header: Bytes::new(),
            }),
            data: Bytes::from_static(b"d"),
        };
        let plain = [0x0a, 3, 0x0a, 1, b'c', 0x12, 1, b'd'];
        assert_eq!(payload(&plain), Ok(expected.clone()));
        // 2 as a number, outside and inside the header; a group of 2,000 levels
        let odd = [0x0a, 5, 0x0a, 1, b'c', 0x10, 7, 0x10, 7, 0x12, 1, b'd'];
        assert!(Payload::decode(&odd[..]).is_err());
        assert_eq!(payload(&odd), Ok(expected.clone()));
        let deep = [&plain[..], &[0x1b; 2000], &[0x1c; 2000]].concat();
        assert!(Payload::decode(&deep[..]).is_err());
        assert_eq!(payload(&deep), Ok(expected));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for bytes in [
            &[0x0a, 9][..],
            &[0x0a, 1, 0xff],
            &[0x0a, 2, 0x0a, 1],
            &[0x00],
        ] {
            assert!(payload(bytes).is_err(), "{bytes:x?}");
        }
    }
}
