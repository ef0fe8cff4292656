//! Names and times of certificates.

use crate::der::{Reader, tag};

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 4, 11];

/// What an MSP looks at in a distinguished name.
#[derive(Debug, Default)]
pub(crate) struct Name {
    /// The last one, if there are several.
    pub(crate) common_name: String,
    /// All of them, in order.
    pub(crate) organizational_units: Vec<String>,
}

/// Reads the inside of an RDNSequence; every attribute has to be a string.
pub(crate) fn read_name(sequence: &[u8]) -> Option<Name> {
    let mut name = Name::default();
    let mut sets = Reader::new(sequence);
    while !sets.is_empty() {
        let mut attributes = sets.enter(tag::SET)?;
        while !attributes.is_empty() {
            let mut attribute = attributes.enter(tag::SEQUENCE)?;
            let kind = attribute.oid()?;
            let value = attribute.any()?;
            let text = read_string(value.tag, value.content)?;
            match kind {
                COMMON_NAME => name.common_name = text,
                ORGANIZATIONAL_UNIT => name.organizational_units.push(text),
                _ => {}
            }
        }
    }
    Some(name)
}

/// The text of a string type; `None` for other types and for bytes that the type does not allow.
pub(crate) fn read_string(tag: u8, bytes: &[u8]) -> Option<String> {
    let ascii = |allowed: fn(&u8) -> bool| {
        bytes
            .iter()
            .all(allowed)
            .then(|| bytes.iter().map(|&byte| char::from(byte)).collect())
    };
    match tag {
        tag::UTF8_STRING => String::from_utf8(bytes.to_vec()).ok(),
        tag::PRINTABLE_STRING => ascii(is_printable),
        tag::IA5_STRING => ascii(u8::is_ascii),
        tag::NUMERIC_STRING => ascii(|byte| byte.is_ascii_digit() || *byte == b' '),
        tag::T61_STRING => ascii(|_| true),
        tag::BMP_STRING => read_bmp(bytes),
        _ => None,
    }
}

/// `*` and `&` do not belong to PrintableString, but Go takes them.
fn is_printable(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(byte)
}

fn read_bmp(bytes: &[u8]) -> Option<String> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    let pairs = match pairs {
        [rest @ .., [0, 0]] => rest,
        all => all,
    };
    pairs
        .iter()
        .map(|&pair| match u16::from_be_bytes(pair) {
            0xfffe | 0xffff | 0xfdd0..=0xfdef => None,
            point => char::from_u32(u32::from(point)),
        })
        .collect()
}

/// Reads a UTCTime or a GeneralizedTime, in seconds since 1970.
pub(crate) fn read_time(reader: &mut Reader<'_>) -> Option<i64> {
    let element = reader.any()?;
    parse_time(element.tag, element.content, Fractions::Refused)
}

/// Whether a GeneralizedTime may have fractions of a second: not in certificates, but in revocation
/// lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fractions {
    Refused,
    Allowed,
}

/// The content of a UTCTime or a GeneralizedTime, in seconds since 1970.
pub(crate) fn parse_time(tag: u8, content: &[u8], fractions: Fractions) -> Option<i64> {
    let mut text = Digits(content);
    let year = match tag {
        tag::UTC_TIME => match text.number(2)? {
            year @ 50.. => 1900 + year,
            year => 2000 + year,
        },
        tag::GENERALIZED_TIME => text.number(4)?,
        _ => return None,
    };
    let month = text.number(2)?;
    let day = text.number(2)?;
    let hour = text.number(2)?;
    let minute = text.number(2)?;
    // Go takes a UTCTime without seconds.
    let second = match text.0.first() {
        Some(byte) if tag == tag::UTC_TIME && !byte.is_ascii_digit() => 0,
        _ => text.number(2)?,
    };
    if !(1..=12).contains(&month)
        || !(1..=days_in_month(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    if tag == tag::GENERALIZED_TIME && fractions == Fractions::Allowed {
        text.skip_fraction()?;
    }
    let offset = text.zone()?;
    let days = days_since_1970(year, month, day);
    Some(((days * 24 + hour) * 60 + minute) * 60 + second - offset)
}

struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn number(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |sum, digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + i64::from(digit - b'0'))
        })
    }

    /// A point and up to nine digits, the last not a zero; or nothing.
    fn skip_fraction(&mut self) -> Option<()> {
        let Some(rest) = self.0.strip_prefix(b".") else {
            return Some(());
        };
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = rest.split_at_checked(count)?;
        self.0 = rest;
        (count <= 9 && digits.last().is_some_and(|last| *last != b'0')).then_some(())
    }

    /// `Z`, or a difference other than zero such as `+0130`, in seconds; nothing may follow.
    fn zone(mut self) -> Option<i64> {
        let (&sign, rest) = self.0.split_first()?;
        self.0 = rest;
        let offset = match sign {
            b'Z' => 0,
            b'+' | b'-' => {
                let (hours, minutes) = (self.number(2)?, self.number(2)?);
                let offset = (hours * 60 + minutes) * 60;
                if offset == 0 || hours > 24 || minutes > 59 {
                    return None;
                }
                if sign == b'+' { offset } else { -offset }
            }
            _ => return None,
        };
        self.0.is_empty().then_some(offset)
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && year % 100 != 0 || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Counts from the first of March, so that the leap day ends the year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days_before_month = (153 * month + 2) / 5;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + days_before_month + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der;

    fn time(tag: u8, text: &str) -> Option<i64> {
        let mut bytes = Vec::new();
        der::write(&mut bytes, tag, text.as_bytes());
        read_time(&mut Reader::new(&bytes))
    }

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("700101000000Z", Some(0)),
            ("500101000000Z", Some(-631_152_000)),
            ("491231235959Z", Some(2_524_607_999)),
            ("240229120000Z", Some(1_709_208_000)),
            ("2402291200Z", Some(1_709_208_000)),
            ("240229130000+0100", Some(1_709_208_000)),
            ("240229120000+0000", None),
            ("230229120000Z", None),
            ("241301120000Z", None),
            ("240229240000Z", None),
            ("240229120000", None),
            ("240229120000Zx", None),
            ("2402291200 0Z", None),
        ] {
            assert_eq!(time(tag::UTC_TIME, text), expected, "{text}");
        }
        for (text, expected) in [
            ("20240229120000Z", Some(1_709_208_000)),
            ("99991231235959Z", Some(253_402_300_799)),
            ("00000301000000Z", Some(-62_162_035_200)),
            ("202402291200Z", None),
            ("20240229120000.5Z", None),
        ] {
            assert_eq!(time(tag::GENERALIZED_TIME, text), expected, "{text}");
        }
    }

    #[test]
    fn fractions_are_for_lists_only() {
        let time =
            |text: &str| parse_time(tag::GENERALIZED_TIME, text.as_bytes(), Fractions::Allowed);
        assert_eq!(time("20240229120000Z"), Some(1_709_208_000));
        assert_eq!(time("20240229120000.25Z"), Some(1_709_208_000));
        for text in [
            "20240229120000.Z",
            "20240229120000.20Z",
            "20240229120000.1234567891Z",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn strings_are_read_by_their_type() {
        assert_eq!(
            read_string(tag::UTF8_STRING, "é".as_bytes()),
            Some("é".into())
        );
        assert_eq!(read_string(tag::UTF8_STRING, &[0xff]), None);
        assert_eq!(read_string(tag::T61_STRING, &[0xe9]), Some("é".into()));
        assert_eq!(
            read_string(tag::PRINTABLE_STRING, b"a&*"),
            Some("a&*".into())
        );
        assert_eq!(read_string(tag::PRINTABLE_STRING, b"a_b"), None);
        assert_eq!(
            read_string(tag::BMP_STRING, &[0, 65, 0, 0]),
            Some("A".into())
        );
        assert_eq!(read_string(tag::BMP_STRING, &[0xd8, 0]), None);
        assert_eq!(read_string(tag::BMP_STRING, &[0]), None);
        assert_eq!(read_string(tag::OCTET_STRING, b"a"), None);
    }
}
