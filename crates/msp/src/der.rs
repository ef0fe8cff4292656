//! A small reader of DER, as strict as Go's `cryptobyte` and no stricter.
//!
//! Certificates travel inside transactions, and their outermost layer is not covered by the
//! issuer's signature. Peers that disagree on whether an encoding is acceptable would disagree on
//! the validity of a transaction, so the verdict on every byte has to be the one of a Go peer: tags
//! of one byte, definite lengths in their shortest form, at most four bytes of length.

/// Universal tags, as they stand in the first byte (SEQUENCE and SET with the constructed bit).
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const NUMERIC_STRING: u8 = 0x12;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const T61_STRING: u8 = 0x14;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const BMP_STRING: u8 = 0x1e;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// A context-specific primitive tag, such as `[0] IMPLICIT OCTET STRING`.
    pub(crate) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// A context-specific constructed tag, such as `[0] EXPLICIT`.
    pub(crate) const fn constructed(number: u8) -> u8 {
        0xa0 | number
    }
}

/// One element: its tag, its content, and the whole of it with tag and length.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// Reads elements off the front of a buffer. Every method returns `None` where the bytes are not
/// what was asked for, and then the reader is to be given up.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// The next element, whatever its tag.
    pub(crate) fn any(&mut self) -> Option<Element<'a>> {
        let (&tag, after_tag) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, after_first) = after_tag.split_first()?;
        let (length, header) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let digits = after_first.get(..count)?;
            if digits.first() == Some(&0) {
                return None;
            }
            let length = digits
                .iter()
                .fold(0u64, |sum, &digit| sum << 8 | u64::from(digit));
            if length < 0x80 {
                return None;
            }
            (usize::try_from(length).ok()?, 2 + count)
        };
        let end = header.checked_add(length)?;
        let whole = self.0.get(..end)?;
        let content = self.0.get(header..end)?;
        self.0 = self.0.get(end..)?;
        Some(Element {
            tag,
            content,
            whole,
        })
    }

    /// The next element, which must have this tag.
    pub(crate) fn element(&mut self, tag: u8) -> Option<Element<'a>> {
        self.any().filter(|element| element.tag == tag)
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element(tag).map(|element| element.content)
    }

    /// A reader of the inside of the next element, which must have this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.read(tag).map(Reader)
    }

    /// The content of the next element if it has this tag; `Some(None)` if it has another or if
    /// there is none.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.next_is(tag) {
            self.read(tag).map(Some)
        } else {
            Some(None)
        }
    }

    /// An integer's content bytes: two's complement, shortest form.
    pub(crate) fn integer(&mut self) -> Option<&'a [u8]> {
        self.read(tag::INTEGER)
            .filter(|bytes| is_shortest_integer(bytes))
    }

    /// A non-negative integer that fits a `u64`.
    pub(crate) fn small_integer(&mut self) -> Option<u64> {
        let bytes = self.integer()?;
        if bytes.first()? & 0x80 != 0 {
            return None;
        }
        let digits = trim_zeros(bytes);
        (digits.len() <= 8).then(|| {
            digits
                .iter()
                .fold(0, |sum, &digit| sum << 8 | u64::from(digit))
        })
    }

    /// An integer above zero, as big-endian digits without leading zeros.
    pub(crate) fn positive_integer(&mut self) -> Option<&'a [u8]> {
        let bytes = self.integer()?;
        if bytes.first()? & 0x80 != 0 {
            return None;
        }
        let digits = trim_zeros(bytes);
        (!digits.is_empty()).then_some(digits)
    }

    /// An object identifier's content bytes.
    pub(crate) fn oid(&mut self) -> Option<&'a [u8]> {
        self.read(tag::OID).filter(|bytes| is_oid(bytes))
    }

    /// A number that may be negative and fits an `i64`, under any tag.
    pub(crate) fn signed_integer(&mut self, tag: u8) -> Option<i64> {
        let bytes = self.read(tag)?;
        if !is_shortest_integer(bytes) || bytes.len() > 8 {
            return None;
        }
        let sign = i64::from(bytes.first()?.cast_signed()) >> 7;
        let digits = bytes.iter();
        Some(digits.fold(sign, |sum, &digit| sum << 8 | i64::from(digit)))
    }

    pub(crate) fn boolean(&mut self) -> Option<bool> {
        match self.read(tag::BOOLEAN)? {
            [0] => Some(false),
            [0xff] => Some(true),
            _ => None,
        }
    }

    /// A bit string: its bytes and the number of unused bits at the end (0 to 7, all zero).
    pub(crate) fn bit_string(&mut self) -> Option<(&'a [u8], u8)> {
        bit_string(self.read(tag::BIT_STRING)?)
    }

    /// A bit string taken as a number: unused bits are shifted out at the right.
    pub(crate) fn bit_string_right_aligned(&mut self) -> Option<Vec<u8>> {
        right_aligned(self.read(tag::BIT_STRING)?)
    }
}

/// Whether these content bytes are an integer in its shortest form.
pub(crate) fn is_shortest_integer(bytes: &[u8]) -> bool {
    match bytes {
        [] => false,
        [0x00, second, ..] => second & 0x80 != 0,
        [0xff, second, ..] => second & 0x80 == 0,
        _ => true,
    }
}

/// Whether these content bytes are an object identifier whose arcs are in their shortest form and
/// below 2^31, which is what Go can hold.
pub(crate) fn is_oid(bytes: &[u8]) -> bool {
    let mut arc = 0u64;
    let mut is_complete = false;
    for (position, &byte) in bytes.iter().enumerate() {
        let begins = position == 0 || is_complete;
        if begins {
            if byte == 0x80 {
                return false;
            }
            arc = 0;
        }
        arc = arc << 7 | u64::from(byte & 0x7f);
        if arc >= 1 << 31 {
            return false;
        }
        is_complete = byte & 0x80 == 0;
    }
    is_complete
}

/// Takes the content of a bit string apart: its bytes and the number of unused bits.
fn bit_string(content: &[u8]) -> Option<(&[u8], u8)> {
    let (&padding, bytes) = content.split_first()?;
    match bytes.last() {
        _ if padding > 7 => None,
        None if padding != 0 => None,
        Some(last) if last & ((1 << padding) - 1) != 0 => None,
        _ => Some((bytes, padding)),
    }
}

/// The content of a bit string as a number: unused bits are shifted out at the right.
pub(crate) fn right_aligned(content: &[u8]) -> Option<Vec<u8>> {
    let (bytes, padding) = bit_string(content)?;
    if padding == 0 {
        return Some(bytes.to_vec());
    }
    let mut carried = 0;
    let aligned = bytes.iter().map(|&byte| {
        let shifted = carried | byte >> padding;
        carried = byte << (8 - padding);
        shifted
    });
    Some(aligned.collect())
}

/// Without the zeros in front.
pub(crate) fn trim_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// Appends an element.
pub(crate) fn write(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len();
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap_or_default());
    } else {
        let length = length.to_be_bytes();
        let digits = trim_zeros(&length);
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
        out.extend_from_slice(digits);
    }
    out.extend_from_slice(content);
}

/// Appends a positive integer, given as big-endian digits.
pub(crate) fn write_positive_integer(out: &mut Vec<u8>, digits: &[u8]) {
    let digits = trim_zeros(digits);
    let mut content = Vec::with_capacity(digits.len() + 1);
    if digits.first().is_none_or(|first| first & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(digits);
    write(out, tag::INTEGER, &content);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_must_be_in_their_shortest_form() {
        assert!(Reader::new(&[4, 1, 7]).any().is_some());
        assert!(Reader::new(&[4, 0x81, 1, 7]).any().is_none());
        assert!(Reader::new(&[4, 0x80, 7, 0, 0]).any().is_none());
        assert!(Reader::new(&[4, 2, 7]).any().is_none());
        let mut long = vec![4, 0x82, 0, 0x80];
        long.extend([0; 128]);
        assert!(Reader::new(&long).any().is_none());
        let mut long = vec![4, 0x81, 0x80];
        long.extend([0; 128]);
        assert!(Reader::new(&long).any().is_some());
    }

    #[test]
    fn integers_must_be_in_their_shortest_form() {
        assert_eq!(Reader::new(&[2, 1, 0]).integer(), Some(&[0][..]));
        assert_eq!(
            Reader::new(&[2, 2, 0, 0x80]).integer(),
            Some(&[0, 0x80][..])
        );
        assert!(Reader::new(&[2, 2, 0, 1]).integer().is_none());
        assert!(Reader::new(&[2, 2, 0xff, 0x80]).integer().is_none());
        assert!(Reader::new(&[2, 0]).integer().is_none());
        assert!(Reader::new(&[2, 1, 0x80]).positive_integer().is_none());
        assert!(Reader::new(&[2, 1, 0]).positive_integer().is_none());
    }

    #[test]
    fn object_identifiers() {
        for (bytes, expected) in [
            (&[0x55, 4, 3][..], true),
            (&[0x2a, 0x86, 0x48], true),
            (&[], false),
            (&[0x55, 0x80, 3], false),
            (&[0x55, 0x86], false),
            (&[0x87, 0xff, 0xff, 0xff, 0x7f], true),
            (&[0x88, 0x80, 0x80, 0x80, 0x00], false),
        ] {
            assert_eq!(is_oid(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn bit_strings_can_be_aligned_right() {
        assert_eq!(
            Reader::new(&[3, 3, 4, 0b1010_1100, 0b0011_0000]).bit_string_right_aligned(),
            Some(vec![0b0000_1010, 0b1100_0011])
        );
        assert!(Reader::new(&[3, 2, 4, 1]).bit_string().is_none());
        assert!(Reader::new(&[3, 1, 1]).bit_string().is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tag in 0u8..0x1f, content in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = Vec::new();
            write(&mut bytes, tag, &content);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.read(tag), Some(&content[..]));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn positive_integers_come_back(digits in prop::collection::vec(any::<u8>(), 1..70)) {
            prop_assume!(digits.iter().any(|&digit| digit != 0));
            let mut bytes = Vec::new();
            write_positive_integer(&mut bytes, &digits);
            prop_assert_eq!(Reader::new(&bytes).positive_integer(), Some(trim_zeros(&digits)));
        }

        #[test]
        fn junk_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while reader.any().is_some() {}
            let _ = Reader::new(&bytes).bit_string_right_aligned();
            let _ = Reader::new(&bytes).small_integer();
        }
    }
}
