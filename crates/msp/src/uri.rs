//! Which alternative names are URIs in the eyes of Go (`net/url` and `crypto/x509`, parseSANExtension).
//!
//! A certificate with another text in that place cannot be read at all by a Go peer.

use std::net::Ipv6Addr;

/// Whether Go takes the text for a URI whose host, if it has one, could be a domain.
pub(crate) fn is_uri(text: &[u8]) -> bool {
    let Some(text) = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.is_ascii())
    else {
        return false;
    };
    let (uri, fragment) = text.split_once('#').unwrap_or((text, ""));
    let host = host_of(uri).filter(|_| has_whole_escapes(fragment));
    host.is_some_and(|host| host.is_empty() || is_domain(&host))
}

/// The host of a URI without fragment, unescaped; empty if it has none, `None` if it is no URI.
fn host_of(uri: &str) -> Option<Vec<u8>> {
    if uri.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    if uri == "*" {
        return Some(Vec::new());
    }
    let (scheme, rest) = split_scheme(uri)?;
    let (rest, _query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Some(Vec::new());
        }
        let (segment, _) = rest.split_once('/').unwrap_or((rest, ""));
        if segment.contains(':') {
            return None;
        }
    }
    let authority = match rest.strip_prefix("//") {
        Some(after) if !scheme.is_empty() || !after.starts_with('/') => after,
        _ => return has_whole_escapes(rest).then(Vec::new),
    };
    let end = authority.find('/').unwrap_or(authority.len());
    let (authority, path) = authority.split_at_checked(end)?;
    let host = host_of_authority(scheme, authority)?;
    has_whole_escapes(path).then_some(host)
}

/// The scheme, empty if there is none, and what follows it; `None` for a colon without anything in front.
fn split_scheme(uri: &str) -> Option<(&str, &str)> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let end = uri.bytes().position(|byte| !is_part(byte));
    let split = end.and_then(|end| Some((uri.get(..end)?, uri.get(end..)?.strip_prefix(':')?)));
    match split {
        Some(("", _)) => None,
        Some((scheme, rest)) if scheme.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            Some((scheme, rest))
        }
        _ => Some(("", uri)),
    }
}

fn host_of_authority(scheme: &str, authority: &str) -> Option<Vec<u8>> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", authority),
    };
    let is_user_part =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    // An escape does not reach over the colon before the password.
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let is_user =
        user.bytes().all(is_user_part) && has_whole_escapes(name) && has_whole_escapes(password);
    read_host(scheme, host).filter(|_| is_user)
}

fn read_host(scheme: &str, host: &str) -> Option<Vec<u8>> {
    match host.rfind('[') {
        Some(0) => return read_address(host),
        Some(_) => return None,
        None => {}
    }
    if let Some(first) = host.find(':') {
        let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let colon = if is_web { first } else { host.rfind(':')? };
        if !is_port(host.get(colon..)?) {
            return None;
        }
    }
    unescape_host(host, false)
}

/// An address in brackets, of version 6, with a zone behind `%25` or without, and a port.
fn read_address(host: &str) -> Option<Vec<u8>> {
    let (inside, port) = host.strip_prefix('[')?.rsplit_once(']')?;
    if !is_port(port) {
        return None;
    }
    let zone = inside.find("%25").unwrap_or(inside.len());
    let (address, zone) = inside.split_at_checked(zone)?;
    let mut unescaped = unescape_host(address, false)?;
    unescaped.extend(unescape_host(zone, true)?);
    let mut parts = unescaped.splitn(2, |&byte| byte == b'%');
    let address = std::str::from_utf8(parts.next()?).ok()?;
    address.parse::<Ipv6Addr>().ok()?;
    if parts.next().is_some_and(<[u8]>::is_empty) {
        return None;
    }
    Some([b"[", &unescaped[..], b"]", port.as_bytes()].concat())
}

fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':');
    text.is_empty() || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether two hexadecimal digits follow every percent sign.
fn has_whole_escapes(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|after| escaped_byte(after.as_bytes()).is_some())
}

fn escaped_byte(digits: &[u8]) -> Option<u8> {
    let digit = |position: usize| char::from(*digits.get(position)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// Escapes in a host stand for bytes beyond ASCII or for the percent sign alone, in a zone also for what
/// may stand there unescaped, and for blanks.
fn unescape_host(text: &str, is_zone: bool) -> Option<Vec<u8>> {
    let mut unescaped = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            if !may_stand_in_host(first) {
                return None;
            }
            unescaped.push(first);
            continue;
        }
        let byte = escaped_byte(after)?;
        let is_allowed = match is_zone {
            true => byte == b' ' || may_stand_in_host(byte),
            false => byte >= 0x80,
        };
        if byte != b'%' && !is_allowed {
            return None;
        }
        unescaped.push(byte);
        rest = after.get(2..)?;
    }
    Some(unescaped)
}

fn may_stand_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]<>\"".contains(&byte)
}

/// Labels of printable characters, none of them empty.
fn is_domain(host: &[u8]) -> bool {
    host.split(|&byte| byte == b'.')
        .all(|label| !label.is_empty() && label.iter().all(|byte| matches!(byte, 33..=126)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn verdicts_are_those_of_go() {
        for uri in [
            "",
            "*",
            "a:b",
            "x:///",
            "///x",
            "x://a:1:2",
            "http://a:1",
            "x://a@b@c",
            "x://u:p@h/%20#\u{1}",
            "x://%25",
            "x://[::1]",
            "x://[::1]:80",
            "x://[::1%25z]",
            "x://[1:2:3:4:5:6:7::]",
            "x://[::ffff:1.2.3.4]",
            "a/b:c",
            "?a:b",
            "x:%zz",
            "//h",
            "1a",
            "x://h?%zz",
        ] {
            assert!(is_uri(uri.as_bytes()), "{uri}");
        }
        for uri in [
            ":",
            "::",
            "%zz",
            "a%2",
            "1:b",
            "a b:c",
            "//a:b",
            "http://a:1:2",
            "x://%41",
            "x://%80",
            "x://a b",
            "x://a b@c",
            "x://u%zz@h",
            "x://[::1",
            "x://[::1]a",
            "x://a[::1]",
            "x://[1.2.3.4]",
            "x://[::1%25]",
            "x://[::1%25%20]",
            "x://[::1%25a b]",
            "x://a.",
            "x://.a",
            "x://a..b",
            "x\u{1}",
            "x\u{7f}",
            "x:#%z",
            "\u{e9}",
            "x://a/%g1",
        ] {
            assert!(!is_uri(uri.as_bytes()), "{uri}");
        }
        assert!(!is_uri(b"x://\xff"));
    }

    proptest! {
        #[test]
        fn any_text_does_no_harm(text in "[a-c:/?#%0-9\\[\\]@. ]{0,20}") {
            let _ = is_uri(text.as_bytes());
        }
    }
}
