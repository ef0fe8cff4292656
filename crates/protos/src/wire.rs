//! Reading protobuf fields exactly as Go's protobuf library reads them.
//!
//! Verdicts on blocks must be those of a Go peer, and decoders differ at the edges: Go keeps a known
//! field of another wire type as an unknown field where prost refuses the message, and a message
//! that a Go ordering node let pass must not stop us. It also lets the caller count entries before
//! anything is allocated for them.
//!
//! Source of the rules: `google.golang.org/protobuf`, `internal/impl` and `encoding/protowire`.

/// Why bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end within a field.
    #[error("the bytes end within a field")]
    Truncated,
    /// A variable-length integer has more than 64 bits.
    #[error("an integer has more than 64 bits")]
    Overflow,
    /// A field number is 0 or above 2^29 - 1.
    #[error("a field number is out of range")]
    FieldNumber,
    /// A field has one of the two wire types that do not exist.
    #[error("a field has an undefined wire type")]
    WireType,
    /// A group ends that did not begin, or the other way round.
    #[error("a group is not balanced")]
    Group,
    /// Messages stand too deep in each other.
    #[error("messages are nested too deeply")]
    Depth,
    /// A text field is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
}

/// The content of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2: bytes, text or a message.
    Bytes(&'a [u8]),
    /// Wire types 1, 5 and 3, which none of the messages read here uses.
    Other,
}

/// One field as it stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number in the message's definition.
    pub number: u32,
    /// What it holds.
    pub value: Value<'a>,
    /// How many bytes the tag takes.
    pub tag_length: usize,
    /// How many bytes tag, length and content take.
    pub encoded_length: usize,
    tag: u64,
}

impl Field<'_> {
    /// Whether the tag is written in as few bytes as possible.
    pub fn has_minimal_tag(&self) -> bool {
        self.tag_length == varint_length(self.tag)
    }

    /// Whether tag and length are written in as few bytes as possible (wire type 2 only).
    pub fn is_minimal(&self) -> bool {
        let Value::Bytes(content) = self.value else {
            return false;
        };
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.encoded_length == varint_length(self.tag) + varint_length(length) + content.len()
    }
}

/// The fields of a message, one after the other; ends after the first error.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of an encoded message.
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<Field<'a>, WireError> {
        let before = self.rest.len();
        let tag = take_varint(&mut self.rest)?;
        let tag_length = before - self.rest.len();
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::FieldNumber)?;
        if number == 0 || number > MAX_FIELD_NUMBER {
            return Err(WireError::FieldNumber);
        }
        let value = match tag & 7 {
            VARINT => Value::Varint(take_varint(&mut self.rest)?),
            BYTES => Value::Bytes(take_bytes(&mut self.rest)?),
            wire_type => {
                skip(&mut self.rest, number, wire_type)?;
                Value::Other
            }
        };
        Ok(Field {
            number,
            value,
            tag_length,
            encoded_length: before - self.rest.len(),
            tag,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Checks that `bytes` parse as a message, whatever its fields.
pub fn check_message(bytes: &[u8]) -> Result<(), WireError> {
    Fields::of(bytes).try_for_each(|field| field.map(drop))
}

/// The content of a bytes field; of several, the last counts.
pub fn last_bytes(message: &[u8], number: u32) -> Result<Option<&[u8]>, WireError> {
    let mut found = None;
    for field in Fields::of(message) {
        let field = field?;
        if let (true, Value::Bytes(bytes)) = (field.number == number, field.value) {
            found = Some(bytes);
        }
    }
    Ok(found)
}

/// A text field; Go refuses a message with a text that is not UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::Utf8)
}

/// A 32-bit field: protobuf drops the upper half of what was sent.
pub fn low_32_bits(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED_32: u64 = 5;

const MAX_FIELD_NUMBER: u32 = (1 << 29) - 1;

/// `protowire.DefaultRecursionLimit`, and the group that it starts in.
const MAX_GROUP_DEPTH: usize = 10_001;

fn varint_length(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    bits.max(1).div_ceil(7) as usize
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0;
    for (index, byte) in rest.iter().enumerate().take(10) {
        if index == 9 && *byte > 1 {
            return Err(WireError::Overflow);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = rest.get(index + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(WireError::Truncated)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], WireError> {
    let length = take_varint(rest)?;
    let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
    take(rest, length)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], WireError> {
    let (taken, left) = rest.split_at_checked(length).ok_or(WireError::Truncated)?;
    *rest = left;
    Ok(taken)
}

/// Skips the value of a field. Groups are walked with a stack of their own, so that no nesting can
/// exhaust the thread's.
fn skip(rest: &mut &[u8], number: u32, wire_type: u64) -> Result<(), WireError> {
    match wire_type {
        FIXED_64 => take(rest, 8).map(drop),
        FIXED_32 => take(rest, 4).map(drop),
        GROUP_START => skip_group(rest, u64::from(number)),
        GROUP_END => Err(WireError::Group),
        _ => Err(WireError::WireType),
    }
}

fn skip_group(rest: &mut &[u8], number: u64) -> Result<(), WireError> {
    let mut open = vec![number];
    while let Some(innermost) = open.last().copied() {
        let tag = take_varint(rest)?;
        let number = tag >> 3;
        if number == 0 || number > u64::from(i32::MAX.unsigned_abs()) {
            return Err(WireError::FieldNumber);
        }
        match tag & 7 {
            VARINT => take_varint(rest).map(drop)?,
            BYTES => take_bytes(rest).map(drop)?,
            FIXED_64 => take(rest, 8).map(drop)?,
            FIXED_32 => take(rest, 4).map(drop)?,
            GROUP_START if open.len() < MAX_GROUP_DEPTH => open.push(number),
            GROUP_END if number == innermost => drop(open.pop()),
            GROUP_START | GROUP_END => return Err(WireError::Group),
            _ => return Err(WireError::WireType),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, WireError> {
        Fields::of(bytes)
            .map(|field| field.map(|field| (field.number, field.value)))
            .collect()
    }

    #[test]
    fn reads_all_wire_types() {
        let bytes = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x12, 2, b'h', b'i', // 2: bytes
            0x19, 1, 2, 3, 4, 5, 6, 7, 8, // 3: fixed64
            0x25, 1, 2, 3, 4, // 4: fixed32
            0x2b, 0x33, 0x08, 1, 0x34, 0x2c, // 5: group with group 6
        ];
        assert_eq!(
            fields(&bytes).unwrap(),
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes(b"hi")),
                (3, Value::Other),
                (4, Value::Other),
                (5, Value::Other)
            ]
        );
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (bytes, error) in [
            (&[0x0a, 5, 1][..], WireError::Truncated),
            (&[0x0a], WireError::Truncated),
            (&[0x80], WireError::Truncated),
            (&[0x00, 0], WireError::FieldNumber),
            (&[0x80, 0x80, 0x80, 0x80, 0x10, 0], WireError::FieldNumber),
            (&[0x0e], WireError::WireType),
            (&[0x0c], WireError::Group),
            (&[0x0b, 0x14], WireError::Group),
            (&[0x0b], WireError::Truncated),
            (
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
                WireError::Overflow,
            ),
            (
                &[0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                WireError::Truncated,
            ),
        ] {
            assert_eq!(fields(bytes), Err(error), "{bytes:x?}");
        }
    }

    #[test]
    fn groups_may_nest_as_deep_as_in_go_and_no_deeper() {
        let nested = |depth| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        assert_eq!(check_message(&nested(MAX_GROUP_DEPTH)), Ok(()));
        assert_eq!(
            check_message(&nested(MAX_GROUP_DEPTH + 1)),
            Err(WireError::Group)
        );
    }

    #[test]
    fn tells_minimal_from_padded() {
        let field = |bytes| Fields::of(bytes).next().unwrap().unwrap();
        assert!(field(&[0x0a, 1, 7]).is_minimal());
        assert!(!field(&[0x0a, 0x81, 0, 7]).is_minimal());
        assert!(!field(&[0x8a, 0, 1, 7]).is_minimal());
        assert!(!field(&[0x8a, 0, 1, 7]).has_minimal_tag());
        assert!(field(&[0x0a, 0x81, 0, 7]).has_minimal_tag());
        assert_eq!(
            [0, 1, 127, 128, u64::MAX].map(varint_length),
            [1, 1, 1, 2, 10]
        );
    }
}
