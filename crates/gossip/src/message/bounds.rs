//! Bounds of a message, checked on the encoded bytes.
//!
//! A decoder allocates for each element of a repeated field, however small it is on the wire: two bytes
//! can become more than a hundred. So sizes and counts are checked before anything is decoded.

use super::MessageError;

/// The largest frame at all: Fabric's limit of a gRPC message (`peer.maxRecvMsgSize`).
pub const MAX_FRAME_SIZE: usize = 100 << 20;

/// Largest message without blocks, private data or lists.
const MAX_SMALL: usize = 512 << 10;

/// Largest message with a list of digests. A list of envelopes may fill a frame: Go repeats signed messages of any
/// size, and those that are too large must not condemn the rest.
const MAX_LIST: usize = 16 << 20;

/// Most elements of all repeated fields of a message together.
pub const MAX_ELEMENTS: usize = 50_000;

/// What the content of each kind may be: its field number in `GossipMessage`, its largest size, and the
/// repeated fields inside of its elements.
struct Bound {
    field: u32,
    max_size: usize,
    /// Fields whose own fields count as elements too.
    nested: &'static [u32],
}

const fn bound(field: u32, max_size: usize, nested: &'static [u32]) -> Bound {
    Bound {
        field,
        max_size,
        nested,
    }
}

const BOUNDS: [Bound; 21] = [
    bound(5, MAX_SMALL, &[]),        // alive
    bound(6, MAX_SMALL, &[]),        // membership request
    bound(7, MAX_FRAME_SIZE, &[]),   // membership response
    bound(8, MAX_FRAME_SIZE, &[1]),  // data: payload
    bound(9, MAX_SMALL, &[]),        // hello
    bound(10, MAX_LIST, &[]),        // digest
    bound(11, MAX_LIST, &[]),        // request
    bound(12, MAX_FRAME_SIZE, &[]),  // update
    bound(13, MAX_SMALL, &[]),       // empty
    bound(14, MAX_SMALL, &[]),       // connection
    bound(15, MAX_SMALL, &[5]),      // state info: properties
    bound(16, MAX_FRAME_SIZE, &[]),  // state info snapshot
    bound(17, MAX_SMALL, &[]),       // state info pull request
    bound(18, MAX_SMALL, &[]),       // state request
    bound(19, MAX_FRAME_SIZE, &[1]), // state response: payloads
    bound(20, MAX_SMALL, &[]),       // leadership
    bound(21, MAX_SMALL, &[]),       // identity
    bound(22, MAX_SMALL, &[]),       // acknowledgement
    bound(23, MAX_LIST, &[]),        // private data request
    bound(24, MAX_FRAME_SIZE, &[1]), // private data response: elements
    bound(25, MAX_FRAME_SIZE, &[1]), // private data: payload
];

/// Largest collection configuration inside a private data message.
const MAX_COLLECTION_CONFIG: usize = 1 << 20;

/// Checks an encoded `GossipMessage`.
pub(super) fn check(message: &[u8]) -> Result<(), MessageError> {
    let mut elements = 0;
    for field in Fields(message) {
        let (number, content) = field?;
        let Some(bound) = BOUNDS.iter().find(|bound| bound.field == number) else {
            continue;
        };
        let Some(content) = content else { continue };
        if content.len() > bound.max_size {
            return Err(MessageError::TooLarge {
                field: number,
                found: content.len(),
                limit: bound.max_size,
            });
        }
        check_content(bound, content, &mut elements)?;
    }
    Ok(())
}

fn check_content(bound: &Bound, content: &[u8], elements: &mut usize) -> Result<(), MessageError> {
    for field in Fields(content) {
        let (number, inner) = field?;
        count(elements)?;
        let Some(inner) = inner else { continue };
        if !bound.nested.contains(&number) {
            continue;
        }
        for field in Fields(inner) {
            let (number, innermost) = field?;
            count(elements)?;
            let size = innermost.map_or(0, <[u8]>::len);
            if bound.field == 25 && number == 6 && size > MAX_COLLECTION_CONFIG {
                return Err(MessageError::TooLarge {
                    field: number,
                    found: size,
                    limit: MAX_COLLECTION_CONFIG,
                });
            }
        }
    }
    Ok(())
}

fn count(elements: &mut usize) -> Result<(), MessageError> {
    *elements += 1;
    if *elements > MAX_ELEMENTS {
        return Err(MessageError::TooManyElements {
            limit: MAX_ELEMENTS,
        });
    }
    Ok(())
}

/// The fields of an encoded protobuf message: number, and the bytes of those that have a length.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Option<&'a [u8]>), MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(MessageError::Truncated))
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<(u32, Option<&'a [u8]>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok()?;
        let content = match key & 7 {
            0 => self.varint().map(|_| None)?,
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Some(self.take(length)?)
            }
            5 => self.take(4).map(|_| None)?,
            // Groups do not occur in Fabric's messages.
            _ => return None,
        };
        Some((number, content))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use selvedge_protos::Message as _;
    use selvedge_protos::gossip::gossip_message::Content;
    use selvedge_protos::gossip::{Envelope, GossipMessage, MembershipResponse};

    use super::*;

    fn response(members: usize) -> Vec<u8> {
        let content = Content::MemRes(MembershipResponse {
            alive: vec![Envelope::default(); members],
            dead: Vec::new(),
        });
        let message = GossipMessage {
            content: Some(content),
            ..Default::default()
        };
        message.encode_to_vec()
    }

    #[test]
    fn counts_elements_before_they_are_decoded() {
        check(&response(MAX_ELEMENTS)).unwrap();
        assert!(matches!(
            check(&response(MAX_ELEMENTS + 1)),
            Err(MessageError::TooManyElements { .. })
        ));
        // Split over two occurrences of the field, which a decoder merges.
        let mut split = response(MAX_ELEMENTS / 2 + 1);
        split.extend(response(MAX_ELEMENTS / 2 + 1));
        assert!(check(&split).is_err());
    }

    #[test]
    fn a_length_beyond_the_end_is_truncation() {
        assert_eq!(check(&[0x3a, 0xff, 0x01, 0]), Err(MessageError::Truncated));
        assert_eq!(check(&[0xff; 11]), Err(MessageError::Truncated));
    }

    #[test]
    fn small_kinds_stay_small() {
        let message = GossipMessage {
            content: Some(Content::AliveMsg(selvedge_protos::gossip::AliveMessage {
                identity: vec![0; MAX_SMALL].into(),
                ..Default::default()
            })),
            ..Default::default()
        };
        let checked = check(&message.encode_to_vec());
        assert!(matches!(
            checked,
            Err(MessageError::TooLarge { field: 5, .. })
        ));
    }
}
