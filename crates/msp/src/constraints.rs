//! Name constraints: which alternative names the certificates below an authority may carry
//! (RFC 5280 section 4.2.1.10, as Go's `crypto/x509` judges them).

use bytes::Bytes;

use crate::certificate::Certificate;
use crate::der::{Reader, tag};

const EMAIL: u8 = 1;
const DNS: u8 = 2;
const URI: u8 = 6;
const IP: u8 = 7;

/// The name constraints of one certificate authority.
#[derive(Debug)]
pub(crate) struct NameConstraints {
    permitted: Vec<Constraint>,
    excluded: Vec<Constraint>,
    has_unknown_kind: bool,
}

/// A part of a name space: the kind of name (number of its context tag), and what it must end in
/// or lie in. Text is in lower case.
#[derive(Debug)]
struct Constraint {
    kind: u8,
    value: Bytes,
}

/// An alternative name in the form that constraints are compared with.
struct AltName {
    kind: u8,
    /// For e-mail addresses the domain; for URIs the host.
    value: Vec<u8>,
    /// The part of an e-mail address before the `@`.
    mailbox: Vec<u8>,
}

impl NameConstraints {
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(value);
        let mut fields = outer.enter(tag::SEQUENCE)?;
        let permitted = fields.optional(tag::constructed(0))?.unwrap_or_default();
        let excluded = fields.optional(tag::constructed(1))?.unwrap_or_default();
        if !outer.is_empty() || !fields.is_empty() || permitted.is_empty() && excluded.is_empty() {
            return None;
        }
        let mut has_unknown_kind = false;
        Some(Self {
            permitted: read_subtrees(permitted, &mut has_unknown_kind)?,
            excluded: read_subtrees(excluded, &mut has_unknown_kind)?,
            has_unknown_kind,
        })
    }

    pub(crate) fn has_unknown_kind(&self) -> bool {
        self.has_unknown_kind
    }

    fn allows(&self, name: &AltName) -> bool {
        let of_kind = |list: &'_ [Constraint]| list.iter().any(|c| c.kind == name.kind);
        let permitted =
            !of_kind(&self.permitted) || self.permitted.iter().any(|c| c.contains(name));
        let excluded = self
            .excluded
            .iter()
            .any(|c| c.contains(name) || c.is_touched_by_wildcard(name));
        permitted && !excluded
    }
}

impl Constraint {
    fn contains(&self, name: &AltName) -> bool {
        if self.kind != name.kind {
            return false;
        }
        match self.kind {
            IP => {
                let (network, mask) = self.value.split_at(self.value.len() / 2);
                network.len() == name.value.len()
                    && name
                        .value
                        .iter()
                        .zip(network)
                        .zip(mask)
                        .all(|((address, network), mask)| address & mask == network & mask)
            }
            EMAIL => match split_mailbox(&self.value) {
                Some((mailbox, domain)) => mailbox == name.mailbox && domain == name.value,
                None => is_in_domain(&name.value, &self.value),
            },
            _ => is_in_domain(&name.value, &self.value),
        }
    }

    /// A wildcard name also stands for the excluded name one label below its own domain.
    fn is_touched_by_wildcard(&self, name: &AltName) -> bool {
        let parent = |name: &[u8]| -> Option<Vec<u8>> {
            let dot = name.iter().position(|&byte| byte == b'.')?;
            name.get(dot..).map(<[u8]>::to_vec)
        };
        self.kind == DNS
            && name.kind == DNS
            && name.value.first() == Some(&b'*')
            && parent(&self.value).is_some_and(|own| parent(&name.value) == Some(own))
    }
}

/// Whether `name` is `domain` or lies below it. The empty domain holds everything; one that begins
/// with a dot holds only what lies below.
fn is_in_domain(name: &[u8], domain: &[u8]) -> bool {
    let Some(before) = name.strip_suffix(domain) else {
        return false;
    };
    before.is_empty() || domain.is_empty() || domain.starts_with(b".") || before.ends_with(b".")
}

/// The two parts of an address, the first made of the characters that need no quotes; quoted ones are
/// not taken apart.
fn split_mailbox(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = address.iter().position(|&byte| byte == b'@')?;
    let (mailbox, domain) = (address.get(..at)?, address.get(at + 1..)?);
    let is_plain = mailbox.split(|byte| *byte == b'.').all(|atom| {
        let is_atom =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(byte);
        !atom.is_empty() && atom.iter().all(is_atom)
    });
    (is_plain && is_domain(domain)).then_some((mailbox, domain))
}

fn read_subtrees(subtrees: &[u8], has_unknown_kind: &mut bool) -> Option<Vec<Constraint>> {
    let mut list = Vec::new();
    let mut subtrees = Reader::new(subtrees);
    while !subtrees.is_empty() {
        let base = subtrees.enter(tag::SEQUENCE)?.any()?;
        let kind = base.tag ^ 0x80;
        let value = base.content;
        match kind {
            IP if is_network(value) => list.push(Constraint {
                kind,
                value: Bytes::copy_from_slice(value),
            }),
            EMAIL | DNS | URI if is_text_constraint(kind, value) => list.push(Constraint {
                kind,
                value: lower_domain(value).into(),
            }),
            IP | EMAIL | DNS | URI => return None,
            _ => *has_unknown_kind = true,
        }
    }
    Some(list)
}

/// Whether this is an address and a mask of the same length, whose ones stand before its zeros.
fn is_network(value: &[u8]) -> bool {
    let (_, mask) = value.split_at(value.len() / 2);
    let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
    let all_ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let is_contiguous = mask
        .iter()
        .skip_while(|byte| **byte == 0xff)
        .skip(1)
        .all(|byte| *byte == 0);
    matches!(value.len(), 8 | 32) && ones == all_ones && is_contiguous
}

fn is_text_constraint(kind: u8, value: &[u8]) -> bool {
    let without_dot = value.strip_prefix(b".").unwrap_or(value);
    match kind {
        EMAIL if value.contains(&b'@') => split_mailbox(value).is_some(),
        URI if is_ip_address(value) => false,
        _ => value.is_empty() || is_domain(without_dot),
    }
}

fn is_ip_address(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok())
}

/// Labels of printable characters, none of them empty.
fn is_domain(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'.')
        .all(|label| !label.is_empty() && label.iter().all(|byte| matches!(byte, 0x21..0x7f)))
}

/// In lower case, except for a mailbox before an `@`.
fn lower_domain(text: &[u8]) -> Vec<u8> {
    let domain = text
        .iter()
        .rposition(|&byte| byte == b'@')
        .map_or(0, |at| at + 1);
    let mut lowered = text.to_vec();
    if let Some(domain) = lowered.get_mut(domain..) {
        domain.make_ascii_lowercase();
    }
    lowered
}

/// Whether every alternative name in the chain lies within the constraints of all certificates
/// above it. The chain begins at the leaf.
pub(crate) fn are_met(chain: &[&Certificate]) -> bool {
    chain.iter().enumerate().all(|(position, certificate)| {
        let above = chain.get(position + 1..).unwrap_or_default();
        let mut constraints = above
            .iter()
            .filter_map(|ca| ca.extensions.name_constraints.as_ref())
            .peekable();
        if constraints.peek().is_none() {
            return true;
        }
        let Some(value) = &certificate.extensions.subject_alt_name else {
            return true;
        };
        read_alt_names(value).is_some_and(|names| {
            constraints.all(|constraints| names.iter().all(|name| constraints.allows(name)))
        })
    })
}

/// The names that constraints can be about; `None` if one of them cannot be judged.
fn read_alt_names(value: &[u8]) -> Option<Vec<AltName>> {
    let mut names = Vec::new();
    let mut reader = Reader::new(value).enter(tag::SEQUENCE)?;
    while !reader.is_empty() {
        let element = reader.any()?;
        let kind = element.tag ^ 0x80;
        let mut mailbox = Vec::new();
        let value = match kind {
            DNS if element.content.is_empty() || is_domain(element.content) => {
                element.content.to_ascii_lowercase()
            }
            DNS => return None,
            IP => element.content.to_vec(),
            EMAIL => {
                let (before, domain) = split_mailbox(element.content)?;
                mailbox = before.to_vec();
                domain.to_ascii_lowercase()
            }
            URI => uri_host(element.content)?,
            _ => continue,
        };
        names.push(AltName {
            kind,
            value,
            mailbox,
        });
    }
    Some(names)
}

/// The host of a URI, in lower case. Addresses in numbers cannot be compared with domains.
fn uri_host(uri: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(uri).ok()?;
    let (_, after_scheme) = text.split_once("://")?;
    let authority = after_scheme.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let is_address = host.starts_with('[') || is_ip_address(host.as_bytes());
    (!host.is_empty() && !is_address).then(|| host.to_ascii_lowercase().into_bytes())
}

const COMMON_NAME_LABEL_EXTRAS: &[u8] = b"_:";

/// A rule of Go 1.14 that Fabric keeps (`verifyLegacyNameConstraints`): under an authority with name
/// constraints, a leaf without alternative names must not have a common name that could be taken
/// for a host name.
pub(crate) fn common_name_is_free(chain: &[&Certificate]) -> bool {
    let Some((leaf, above)) = chain.split_first() else {
        return true;
    };
    above
        .iter()
        .all(|ca| ca.extensions.name_constraints.is_none())
        || leaf.extensions.subject_alt_name.is_some()
        || !is_host_name(&leaf.common_name)
}

fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.split('.').enumerate().all(|(position, label)| {
            !label.is_empty()
                && (position == 0 && label == "*"
                    || label.bytes().enumerate().all(|(at, byte)| {
                        byte.is_ascii_alphanumeric()
                            || byte == b'-' && at != 0
                            || COMMON_NAME_LABEL_EXTRAS.contains(&byte)
                    }))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kind: u8, text: &[u8]) -> AltName {
        let (mailbox, value) = match split_mailbox(text) {
            Some((mailbox, domain)) if kind == EMAIL => (mailbox.to_vec(), domain.to_vec()),
            _ => (Vec::new(), text.to_vec()),
        };
        AltName {
            kind,
            value,
            mailbox,
        }
    }

    fn only(permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]) -> NameConstraints {
        let list = |constraints: &[(u8, &[u8])]| {
            constraints
                .iter()
                .map(|&(kind, value)| Constraint {
                    kind,
                    value: Bytes::copy_from_slice(value),
                })
                .collect()
        };
        NameConstraints {
            permitted: list(permitted),
            excluded: list(excluded),
            has_unknown_kind: false,
        }
    }

    #[test]
    fn domains_hold_themselves_and_what_lies_below() {
        let constraints = only(&[(DNS, b"example.com")], &[(DNS, b"bad.example.com")]);
        for (text, allowed) in [
            (&b"example.com"[..], true),
            (b"peer0.example.com", true),
            (b"notexample.com", false),
            (b"com", false),
            (b"bad.example.com", false),
            (b"x.bad.example.com", false),
            (b"*.example.com", false),
            (b"*.good.example.com", true),
        ] {
            assert_eq!(constraints.allows(&name(DNS, text)), allowed, "{text:?}");
        }
        assert!(constraints.allows(&name(IP, &[127, 0, 0, 1])));
    }

    #[test]
    fn addresses_are_masked() {
        let constraints = only(&[(IP, &[10, 1, 0, 0, 255, 255, 0, 0])], &[]);
        assert!(constraints.allows(&name(IP, &[10, 1, 7, 9])));
        assert!(!constraints.allows(&name(IP, &[10, 2, 7, 9])));
        assert!(!constraints.allows(&name(IP, &[0; 16])));
    }

    #[test]
    fn masks_are_ones_before_zeros() {
        for (mask, expected) in [
            ([255, 255, 0, 0], true),
            ([255, 254, 0, 0], true),
            ([0, 0, 0, 0], true),
            ([255, 255, 255, 255], true),
            ([253, 0, 0, 0], false),
            ([254, 128, 0, 0], false),
            ([255, 0, 255, 0], false),
        ] {
            let mut network = vec![10, 0, 0, 0];
            network.extend(mask);
            assert_eq!(is_network(&network), expected, "{mask:?}");
        }
        assert!(!is_network(&[10, 0, 0, 255, 0, 0]));
    }

    #[test]
    fn addresses_of_people() {
        let constraints = only(&[(EMAIL, b"example.com"), (EMAIL, b"a@other.org")], &[]);
        assert!(constraints.allows(&name(EMAIL, b"x@example.com")));
        assert!(constraints.allows(&name(EMAIL, b"a@other.org")));
        assert!(!constraints.allows(&name(EMAIL, b"b@other.org")));
    }

    #[test]
    fn hosts_of_uris() {
        assert_eq!(
            uri_host(b"https://u@Peer.Org:7051/x"),
            Some(b"peer.org".to_vec())
        );
        assert_eq!(uri_host(b"https://127.0.0.1/x"), None);
        assert_eq!(uri_host(b"spiffe:nothing"), None);
    }

    #[test]
    fn host_names() {
        for (text, expected) in [
            ("peer0.org1.example.com", true),
            ("*.example.com", true),
            ("Admin@org1", false),
            ("-x", false),
            ("a..b", false),
            ("", false),
            ("plain_name:1", true),
        ] {
            assert_eq!(is_host_name(text), expected, "{text}");
        }
    }
}
