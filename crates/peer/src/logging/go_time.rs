//! Time layouts in Go's notation: the reference time written the way that is wanted.

use std::fmt::Write as _;

use jiff::Zoned;

/// A layout such as `2006-01-02 15:04:05.000 MST`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GoLayout(Vec<Element>);

#[derive(Debug, Clone, PartialEq)]
enum Element {
    Literal(String),
    /// A conversion of `strftime`.
    Conversion(&'static str),
    /// Digits of the second's fraction, with its point or comma; without trailing zeros (and the
    /// point) if `trim`.
    Fraction {
        separator: char,
        digits: usize,
        trim: bool,
    },
    /// `Z` for UTC, otherwise an offset.
    OffsetOrZ(&'static str),
}

/// Elements by their spelling; of two that begin alike, the longer one comes first.
const ELEMENTS: [(&str, Element); 33] = [
    ("January", Element::Conversion("%B")),
    ("Jan", Element::Conversion("%b")),
    ("Monday", Element::Conversion("%A")),
    ("Mon", Element::Conversion("%a")),
    ("MST", Element::Conversion("%Z")),
    ("2006", Element::Conversion("%Y")),
    ("002", Element::Conversion("%j")),
    ("01", Element::Conversion("%m")),
    ("02", Element::Conversion("%d")),
    ("03", Element::Conversion("%I")),
    ("04", Element::Conversion("%M")),
    ("05", Element::Conversion("%S")),
    ("06", Element::Conversion("%y")),
    ("15", Element::Conversion("%H")),
    ("1", Element::Conversion("%-m")),
    ("__2", Element::Conversion("%_3j")),
    ("_2006", Element::Conversion("_%Y")),
    ("_2", Element::Conversion("%e")),
    ("2", Element::Conversion("%-d")),
    ("3", Element::Conversion("%-I")),
    ("4", Element::Conversion("%-M")),
    ("5", Element::Conversion("%-S")),
    ("PM", Element::Conversion("%p")),
    ("pm", Element::Conversion("%P")),
    ("Z070000", Element::OffsetOrZ("%z")),
    ("Z07:00:00", Element::OffsetOrZ("%::z")),
    ("Z0700", Element::OffsetOrZ("%z")),
    ("Z07:00", Element::OffsetOrZ("%:z")),
    ("Z07", Element::OffsetOrZ("%:::z")),
    ("-07:00:00", Element::Conversion("%::z")),
    ("-07:00", Element::Conversion("%:z")),
    ("-0700", Element::Conversion("%z")),
    ("-07", Element::Conversion("%:::z")),
];

impl GoLayout {
    pub fn parse(layout: &str) -> Self {
        let mut elements = Vec::new();
        let mut literal = String::new();
        let mut rest = layout;
        while let Some(first) = rest.chars().next() {
            let known = fraction(rest).or_else(|| {
                ELEMENTS
                    .iter()
                    .find(|(name, _)| rest.starts_with(name))
                    .map(|(name, element)| (element.clone(), name.len()))
            });
            let length = match known {
                Some((element, length)) => {
                    if !literal.is_empty() {
                        elements.push(Element::Literal(std::mem::take(&mut literal)));
                    }
                    elements.push(element);
                    length
                }
                None => {
                    literal.push(first);
                    first.len_utf8()
                }
            };
            rest = rest.get(length..).unwrap_or_default();
        }
        if !literal.is_empty() {
            elements.push(Element::Literal(literal));
        }
        Self(elements)
    }

    pub fn write(&self, time: &Zoned, line: &mut String) {
        for element in &self.0 {
            // Conversions of this table cannot fail on a time with a zone.
            let _ = match element {
                Element::Literal(text) => line.write_str(text),
                Element::Conversion(conversion) => write!(line, "{}", time.strftime(conversion)),
                Element::OffsetOrZ(_) if time.offset().is_zero() => line.write_char('Z'),
                Element::OffsetOrZ(conversion) => write!(line, "{}", time.strftime(conversion)),
                Element::Fraction {
                    separator,
                    digits,
                    trim,
                } => {
                    write_fraction(time, *separator, *digits, *trim, line);
                    Ok(())
                }
            };
        }
    }
}

/// `.000`, `,000` (fixed) or `.999`, `,999` (trimmed), not followed by another digit.
fn fraction(text: &str) -> Option<(Element, usize)> {
    let mut chars = text.chars();
    let separator = chars.next().filter(|c| matches!(c, '.' | ','))?;
    let digit = chars.next().filter(|c| matches!(c, '0' | '9'))?;
    let digits = 1 + chars.take_while(|c| *c == digit).count();
    let followed_by_digit = text
        .get(1 + digits..)?
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_digit());
    (digits <= 9 && !followed_by_digit).then_some((
        Element::Fraction {
            separator,
            digits,
            trim: digit == '9',
        },
        1 + digits,
    ))
}

fn write_fraction(time: &Zoned, separator: char, digits: usize, trim: bool, line: &mut String) {
    let nanoseconds = format!("{:09}", time.subsec_nanosecond());
    let mut shown = nanoseconds.get(..digits).unwrap_or(&nanoseconds);
    if trim {
        shown = shown.trim_end_matches('0');
    }
    if !shown.is_empty() {
        line.push(separator);
        line.push_str(shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("2006-01-02 15:04:05.000 MST", "2026-03-04 15:06:07.080 CET")]
    #[case("2006-01-02T15:04:05.999Z07:00", "2026-03-04T15:06:07.08+01:00")]
    #[case("Mon Jan _2 3:4:5 PM 06", "Wed Mar  4 3:6:7 PM 26")]
    #[case("Monday, January 2", "Wednesday, March 4")]
    #[case("002 03 pm -0700 Z07", "063 03 pm +0100 +01")]
    #[case("15h04,999999", "15h06,08")]
    #[case("time: x", "time: x")]
    #[case(".0000000000", ".0000000000")]
    fn layouts(#[case] layout: &str, #[case] expected: &str) {
        let time: Zoned = "2026-03-04T15:06:07.08+01:00[Europe/Berlin]"
            .parse()
            .unwrap();
        let mut line = String::new();
        GoLayout::parse(layout).write(&time, &mut line);
        assert_eq!(line, expected);
    }

    #[test]
    fn utc_is_z() {
        let time: Zoned = "2026-03-04T15:06:07+00:00[UTC]".parse().unwrap();
        let mut line = String::new();
        GoLayout::parse("05.999Z07:00 MST").write(&time, &mut line);
        assert_eq!(line, "07Z UTC");
    }
}
