//! What a certificate must be to be rewritten.
//!
//! To bring the signature of a certificate into low-S form, Fabric reads the certificate once more, with
//! Go's `encoding/asn1` (`msp`, certFromX509Cert). That looks at parts that `crypto/x509` has passed
//! over: the unique ids in every version, extensions in version 1 and 2. A certificate that it cannot
//! read is no identity.

use crate::der::{Reader, is_oid, tag};

/// Whether the second reading takes a to-be-signed part that the first one has taken.
pub(crate) fn is_readable(signed: &[u8]) -> bool {
    behind_the_key(signed).is_some_and(|rest| read_rest(rest).is_some())
}

/// What follows the public key.
fn behind_the_key(signed: &[u8]) -> Option<&[u8]> {
    let mut fields = Reader::new(signed).enter(tag::SEQUENCE)?;
    fields.optional(tag::constructed(0))?;
    for _serial_algorithm_issuer_validity_subject_key in 0..6 {
        fields.any()?;
    }
    Some(fields.rest())
}

/// Three optional fields. One that is not there leaves its place to the next, also if something else stands
/// there, as long as that begins like an element.
fn read_rest(mut rest: &[u8]) -> Option<()> {
    for unique_id in 1..=2 {
        if let Some(header) = Header::read(rest)?
            && header.is(CONTEXT, false, unique_id)
        {
            let content = header.content(rest)?;
            check_bit_string(content)?;
            rest = rest.get(header.length + content.len()..)?;
        }
    }
    let Some(explicit) = Header::read(rest)? else {
        return Some(());
    };
    let inside = rest.get(explicit.length..)?;
    if inside.is_empty() {
        return None;
    }
    if !(explicit.is(CONTEXT, true, 3)
        || explicit.content_length == 0 && explicit.is(CONTEXT, false, 3))
    {
        return Some(());
    }
    if explicit.content_length == 0 {
        return None;
    }
    match Header::read(inside)? {
        Some(list) if list.is(UNIVERSAL, true, SEQUENCE) => check_extensions(list.content(inside)?),
        _ => Some(()),
    }
}

fn check_extensions(mut list: &[u8]) -> Option<()> {
    while let Some(header) = Header::read(list)? {
        if !header.is(UNIVERSAL, true, SEQUENCE) {
            return None;
        }
        let extension = header.content(list)?;
        check_extension(extension)?;
        list = list.get(header.length + extension.len()..)?;
    }
    Some(())
}

/// An id, perhaps a truth value, a string of bytes, and whatever follows.
fn check_extension(extension: &[u8]) -> Option<()> {
    let id = Header::read(extension)?.filter(|header| header.is(UNIVERSAL, false, OID))?;
    let content = id.content(extension)?;
    if !is_oid(content) {
        return None;
    }
    let mut rest = extension.get(id.length + content.len()..)?;
    let mut next = Header::read(rest)??;
    if next.is(UNIVERSAL, false, BOOLEAN) {
        let content = next.content(rest)?;
        if !matches!(content, [0 | 0xff]) {
            return None;
        }
        rest = rest.get(next.length + content.len()..)?;
        next = Header::read(rest)??;
    }
    next.content(rest)
        .filter(|_| next.is(UNIVERSAL, false, OCTET_STRING))
        .map(drop)
}

fn check_bit_string(content: &[u8]) -> Option<()> {
    let (&padding, bits) = content.split_first()?;
    let unused = (1_u16 << padding.min(8)) - 1;
    let last = bits.last().map_or(0, |last| u16::from(*last));
    (padding <= 7 && (padding == 0 || !bits.is_empty()) && last & unused == 0).then_some(())
}

const UNIVERSAL: u8 = 0;
const CONTEXT: u8 = 2;
const BOOLEAN: u32 = 1;
const OCTET_STRING: u32 = 4;
const OID: u32 = 6;
const SEQUENCE: u32 = 16;

/// The beginning of an element, by the rules of `encoding/asn1`, which knows tags of more than one byte.
struct Header {
    class: u8,
    is_constructed: bool,
    tag: u32,
    /// Bytes of tag and length.
    length: usize,
    content_length: usize,
}

impl Header {
    /// `Some(None)` if there is nothing; `None` if it is malformed.
    fn read(bytes: &[u8]) -> Option<Option<Self>> {
        let Some((&first, mut rest)) = bytes.split_first() else {
            return Some(None);
        };
        let mut tag = u32::from(first & 0x1f);
        if tag == 0x1f {
            tag = take_long_tag(&mut rest)?;
        }
        let content_length = take_length(&mut rest)?;
        Some(Some(Self {
            class: first >> 6,
            is_constructed: first & 0x20 != 0,
            tag,
            length: bytes.len() - rest.len(),
            content_length,
        }))
    }

    fn is(&self, class: u8, is_constructed: bool, tag: u32) -> bool {
        (self.class, self.is_constructed, self.tag) == (class, is_constructed, tag)
    }

    /// The content of the element that `bytes` begin with.
    fn content<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(self.length..self.length.checked_add(self.content_length)?)
    }
}

/// At most five bytes, in the shortest form, and no number that one byte can hold.
fn take_long_tag(rest: &mut &[u8]) -> Option<u32> {
    let mut tag = 0_u64;
    for position in 0..5 {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        if position == 0 && byte == 0x80 {
            return None;
        }
        tag = tag << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return u32::try_from(tag)
                .ok()
                .filter(|tag| (0x1f..1 << 31).contains(tag));
        }
    }
    None
}

/// In the shortest form, below 2^31.
fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let (&first, after) = rest.split_first()?;
    *rest = after;
    if first < 0x80 {
        return Some(usize::from(first));
    }
    let count = usize::from(first & 0x7f);
    let digits = rest.get(..count)?;
    *rest = rest.get(count..)?;
    if !(1..=4).contains(&count) || digits.first() == Some(&0) {
        return None;
    }
    let length = digits
        .iter()
        .fold(0_u64, |sum, digit| sum << 8 | u64::from(*digit));
    usize::try_from(length)
        .ok()
        .filter(|length| (0x80..1 << 31).contains(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn takes(rest: &[u8]) -> bool {
        read_rest(rest).is_some()
    }

    #[test]
    fn fields_that_are_there_must_be_right() {
        for rest in [
            &b""[..],
            b"\x81\x02\0x",
            b"\x81\x02\0x\x82\x01\0",
            b"\xa3\x09\x30\x07\x30\x05\x06\x01\x2a\x04\0",
            b"\xa3\x0c\x30\x0a\x30\x08\x06\x01\x2a\x01\x01\xff\x04\0",
        ] {
            assert!(takes(rest), "{rest:02x?}");
        }
        for rest in [
            // No bits at all; unused bits that are not zero; cut off.
            &b"\x81\0"[..],
            b"\x81\x02\x01\x01",
            b"\x81\x05\0x",
            // An explicit tag around nothing; a truth value that is neither; no value.
            b"\xa3\0",
            b"\xa3\x0c\x30\x0a\x30\x08\x06\x01\x2a\x01\x01\x01\x04\0",
            b"\xa3\x07\x30\x05\x30\x03\x06\x01\x2a",
            // Something else that does not begin like an element.
            b"\x1f\x01\0",
            b"\x05\x80",
        ] {
            assert!(!takes(rest), "{rest:02x?}");
        }
    }

    #[test]
    fn what_is_not_asked_for_may_be_anything_that_begins_well() {
        for rest in [
            &b"\x05\x7f\0"[..],
            b"\x9f\x21\x01x",
            b"\xa1\x01\xff",
            b"\xa3\x02\x31\x09",
        ] {
            assert!(takes(rest), "{rest:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = is_readable(&bytes);
            let _ = read_rest(&bytes);
        }
    }
}
