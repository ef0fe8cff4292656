//! Durations as Go writes them, such as `2s` or `1h15m0.5s`.

use std::time::Duration;

/// Reads a duration by the rules of Go's `time.ParseDuration`. `None` for what Go refuses, and for
/// negative durations, which nothing in a channel's configuration may have.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut nanoseconds = 0_u64;
    while !rest.is_empty() {
        let (whole, after) = take_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => take_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_length = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_length)?;
        let unit = nanoseconds_of(unit)?;
        let whole = if whole.is_empty() {
            0
        } else {
            whole.parse::<u64>().ok()?
        };
        nanoseconds = nanoseconds
            .checked_add(whole.checked_mul(unit)?)?
            .checked_add(fraction_of(fraction, unit))?;
        rest = after;
    }
    i64::try_from(nanoseconds).ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn take_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn nanoseconds_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return None,
    })
}

/// The fraction of a unit, rounded down to whole nanoseconds. Digits beyond what 64 bits hold do not
/// matter.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let digits = digits.get(..18).unwrap_or(digits);
    let exponent = u32::try_from(digits.len()).unwrap_or_default();
    let numerator = u128::from(digits.parse::<u64>().unwrap_or_default()) * u128::from(unit);
    u64::try_from(numerator / 10_u128.pow(exponent)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, milliseconds) in [
            ("2s", 2_000),
            ("300ms", 300),
            ("1h15m0.5s", 4_500_500),
            (".5s", 500),
            ("1.s", 1_000),
            ("+3m", 180_000),
            ("0", 0),
            ("1500us", 1),
        ] {
            let parsed = parse(text).unwrap();
            assert_eq!(parsed.as_millis(), milliseconds, "{text}");
        }
        for text in [
            "",
            "2",
            "s",
            ".s",
            "-2s",
            "2 s",
            "2x",
            "9999999999999h",
            "1s2",
            "+",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
