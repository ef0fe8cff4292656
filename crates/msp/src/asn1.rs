//! A reader of DER that is as strict as Go's `encoding/asn1`, through which Fabric reads revocation
//! lists: not quite as [`crate::der`], which stands for `cryptobyte`. Tags may be longer than a byte,
//! bytes after the last field of a structure pass, and some values are checked that nobody looks at.

use crate::der::{self, tag};
use crate::x509_text::{Fractions, parse_time, read_string};

/// What stands before a value: the first byte with class and constructed bit, for tags of one byte
/// the tag itself; for longer tags a value that matches nothing.
#[derive(Clone, Copy)]
struct Header {
    tag: u8,
    /// The lengths of the header and of the value.
    header: usize,
    length: usize,
}

/// The fields of a structure, or the members of a sequence.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn header(&self) -> Option<Header> {
        let (&first, mut rest) = self.0.split_first()?;
        let is_long_tag = first & 0x1f == 0x1f;
        if is_long_tag {
            rest = after_long_tag(rest)?;
        }
        let (&short, after) = rest.split_first()?;
        let mut length = usize::from(short);
        rest = after;
        if short & 0x80 != 0 {
            let count = usize::from(short & 0x7f);
            let digits = rest.get(..count)?;
            rest = rest.get(count..)?;
            if digits.first().is_none_or(|first| *first == 0) {
                return None;
            }
            length = 0;
            for &digit in digits {
                if length >= 1 << 23 {
                    return None;
                }
                length = length << 8 | usize::from(digit);
            }
            if length < 0x80 {
                return None;
            }
        }
        Some(Header {
            tag: if is_long_tag { 0xff } else { first },
            header: self.0.len() - rest.len(),
            length,
        })
    }

    /// Takes the value behind a header: its content, and the whole with the header.
    fn take(&mut self, header: Header) -> Option<(&'a [u8], &'a [u8])> {
        let end = header.header.checked_add(header.length)?;
        let whole = self.0.get(..end)?;
        let content = whole.get(header.header..)?;
        self.0 = self.0.get(end..)?;
        Some((content, whole))
    }

    /// A field of this type.
    pub(crate) fn required(&mut self, tag: u8) -> Option<&'a [u8]> {
        let header = self.header().filter(|header| header.tag == tag)?;
        self.take(header).map(|(content, _)| content)
    }

    /// A field of this type with its header.
    pub(crate) fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut copy = *self;
        self.required(tag)?;
        let length = copy.0.len() - self.0.len();
        copy.0 = copy.0.get(..length)?;
        Some(copy.0)
    }

    /// A field that may be left out: `Some(None)` if there is none of this type.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.is_empty() {
            return Some(None);
        }
        let header = self.header()?;
        if header.tag != tag {
            return Some(None);
        }
        self.take(header).map(|(content, _)| Some(content))
    }

    /// A field of this type within an explicit tag, which may be left out. How far the outer tag
    /// reaches does not matter.
    pub(crate) fn optional_explicit(&mut self, outer: u8, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.is_empty() {
            return Some(None);
        }
        let header = self.header()?;
        let mut inside = Self(self.0.get(header.header..)?);
        if inside.is_empty() || header.tag == outer && header.length == 0 {
            return None;
        }
        if header.tag != outer {
            return Some(None);
        }
        let inner = inside.header()?;
        if inner.tag != tag {
            return Some(None);
        }
        let (content, _) = inside.take(inner)?;
        *self = inside;
        Some(Some(content))
    }

    /// The rest is a sequence of values of this type.
    pub(crate) fn members(self, tag: u8) -> Option<Vec<Fields<'a>>> {
        let mut rest = self;
        let mut members = Vec::new();
        while !rest.is_empty() {
            members.push(Fields(rest.required(tag)?));
        }
        Some(members)
    }

    pub(crate) fn oid(&mut self) -> Option<&'a [u8]> {
        self.required(tag::OID).filter(|bytes| der::is_oid(bytes))
    }

    /// An AlgorithmIdentifier: the object identifier, and the parameters with their header.
    pub(crate) fn algorithm(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let mut fields = Fields(self.required(tag::SEQUENCE)?);
        let oid = fields.oid()?;
        if fields.is_empty() {
            return Some((oid, &[]));
        }
        let header = fields.header()?;
        fields.take(header).map(|(_, whole)| (oid, whole))
    }

    /// A time, which nobody looks at.
    pub(crate) fn time(&mut self) -> Option<()> {
        let header = self.header()?;
        let (content, _) = self.take(header)?;
        parse_time(header.tag, content, Fractions::Allowed).map(drop)
    }

    pub(crate) fn next_is_time(&self) -> Option<bool> {
        if self.is_empty() {
            return Some(false);
        }
        let header = self.header()?;
        Some(matches!(header.tag, tag::UTC_TIME | tag::GENERALIZED_TIME))
    }

    /// A value of any type; those of the types that Go knows must be right.
    pub(crate) fn any(&mut self) -> Option<()> {
        let header = self.header()?;
        let (content, _) = self.take(header)?;
        let is_right = match header.tag {
            tag::BOOLEAN => matches!(content, [0 | 0xff]),
            tag::INTEGER => der::is_shortest_integer(content) && content.len() <= 8,
            tag::BIT_STRING => der::right_aligned(content).is_some(),
            tag::OID => der::is_oid(content),
            tag::UTC_TIME | tag::GENERALIZED_TIME => {
                parse_time(header.tag, content, Fractions::Allowed).is_some()
            }
            tag::UTF8_STRING
            | tag::NUMERIC_STRING
            | tag::PRINTABLE_STRING
            | tag::IA5_STRING
            | tag::BMP_STRING => read_string(header.tag, content).is_some(),
            _ => true,
        };
        is_right.then_some(())
    }
}

/// What follows a tag of several bytes, which must be in its shortest form.
fn after_long_tag(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at_checked(length)?;
    let is_small = matches!(number, [only] if *only < 0x1f);
    (der::is_oid(number) && !is_small).then_some(rest)
}
