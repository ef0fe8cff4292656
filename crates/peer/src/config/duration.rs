//! Durations in Go's notation, as core.yaml has them.

use std::time::Duration;

/// What a wrong duration is told to look like.
pub(super) const EXPECTED: &str = "a duration with its unit, such as 10s, 1500ms or 1m30s";

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads what Go's `time.ParseDuration` reads, except negative durations: a number and a unit,
/// once or repeatedly (`1h15m30.5s`), or `0`.
///
/// Fabric takes a number without a unit for nanoseconds. It is refused here, since whoever writes
/// `pullInterval: 4` does not mean that.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let (nanoseconds, tail) = leading_part(rest)?;
        total = total.checked_add(nanoseconds)?;
        rest = tail;
    }
    (total <= i64::MAX.unsigned_abs()).then(|| Duration::from_nanos(total))
}

/// One number with its unit, in nanoseconds, and what follows it.
fn leading_part(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(unit_end)?;
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let nanoseconds = whole
        .checked_mul(*scale)?
        .checked_add(fraction_of(*scale, fraction))?;
    Some((nanoseconds, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `0.<digits>` of `scale`, rounded down to nanoseconds.
fn fraction_of(scale: u64, digits: &str) -> u64 {
    let (mut numerator, mut denominator) = (0u128, 1u128);
    // An hour has fewer than 10^13 nanoseconds: what comes after 15 digits is far less than one.
    for digit in digits.bytes().take(15) {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    u64::try_from(u128::from(scale) * numerator / denominator).unwrap_or(scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0", 0)]
    #[case("0s", 0)]
    #[case("10s", 10_000_000_000)]
    #[case("1m30s", 90_000_000_000)]
    #[case("1500ms", 1_500_000_000)]
    #[case("1.5h", 5_400_000_000_000)]
    #[case(".5s", 500_000_000)]
    #[case("2.s", 2_000_000_000)]
    #[case("+3s", 3_000_000_000)]
    #[case("100us", 100_000)]
    #[case("100\u{b5}s", 100_000)]
    #[case("1h2m3s4ms5us6ns", 3_723_004_005_006)]
    #[case("1.0000000019s", 1_000_000_001)]
    fn durations_as_go_reads_them(#[case] text: &str, #[case] nanoseconds: u64) {
        assert_eq!(
            parse_duration(text),
            Some(Duration::from_nanos(nanoseconds))
        );
    }

    #[rstest]
    #[case("")]
    #[case("10")]
    #[case("s")]
    #[case("-5s")]
    #[case("10 s")]
    #[case("10sec")]
    #[case("1d")]
    #[case(".s")]
    #[case("1.2.3s")]
    #[case("99999999999999999999h")]
    #[case("9999999h")]
    #[case("1s\u{0}")]
    fn what_is_no_duration(#[case] text: &str) {
        assert_eq!(parse_duration(text), None);
    }
}
