//! Certificate extensions, as far as chains of certificates are judged by them.

use bytes::Bytes;

use crate::constraints::NameConstraints;
use crate::der::{Reader, tag};
use crate::error::CertificateError;
use crate::uri::is_uri;

/// The basic constraints of a certificate that has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) is_ca: bool,
    /// The number of intermediate certificate authorities that may stand below this one.
    pub(crate) path_length: Option<u64>,
}

/// What is known of a certificate's extensions.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    /// The first byte of the key usage bits; zero stands for no restriction, as in Go.
    key_usage: u8,
    /// No extended key usages, or those of a server, or any. Go asks for this by default, and
    /// Fabric's MSPs leave it at the default.
    pub(crate) server_use: ServerUse,
    pub(crate) subject_key_id: Option<Bytes>,
    pub(crate) authority_key_id: Option<Bytes>,
    pub(crate) subject_alt_name: Option<Bytes>,
    pub(crate) name_constraints: Option<NameConstraints>,
    /// Whether there are certificate policies.
    pub(crate) has_policies: bool,
    /// After how many further certificates explicit policies are required, if the policy constraints say
    /// so.
    pub(crate) requires_policies: Option<i64>,
    /// A critical extension that is not understood makes every chain with this certificate invalid.
    pub(crate) has_unknown_critical: bool,
}

/// Whether the extended key usages include that of a TLS server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServerUse {
    #[default]
    Allowed,
    Excluded,
}

const KEY_CERT_SIGN: u8 = 0b0000_0100;

/// Object identifiers under 2.5.29 (certificate extensions) have this prefix.
const CERTIFICATE_EXTENSION: [u8; 2] = [0x55, 29];
const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
const ANY_USAGE: &[u8] = &[0x55, 29, 37, 0];
const SERVER_USAGE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

impl Extensions {
    /// Reads what follows the public key in a version 3 certificate. `der` is the certificate, whose
    /// buffer is shared.
    pub(crate) fn read(fields: &mut Reader<'_>, der: &Bytes) -> Result<Self, CertificateError> {
        let malformed = |part| CertificateError::Malformed { part };
        skip_unique_ids(fields)?;
        let mut found = Self::default();
        let Some(inside) = fields
            .optional(tag::constructed(3))
            .ok_or(malformed("extensions"))?
        else {
            return Ok(found);
        };
        let mut list = Reader::new(inside)
            .enter(tag::SEQUENCE)
            .ok_or(malformed("extensions"))?;
        let mut seen: Vec<&[u8]> = Vec::new();
        while !list.is_empty() {
            let mut extension = list.enter(tag::SEQUENCE).ok_or(malformed("extension"))?;
            let id = extension.oid().ok_or(malformed("extension id"))?;
            let critical = extension.next_is(tag::BOOLEAN)
                && extension
                    .boolean()
                    .ok_or(malformed("extension's critical flag"))?;
            let value = extension
                .read(tag::OCTET_STRING)
                .ok_or(malformed("extension value"))?;
            if seen.contains(&id) {
                return Err(CertificateError::DuplicateExtension);
            }
            seen.push(id);
            found.add(id, critical, value, der)?;
        }
        Ok(found)
    }

    fn add(
        &mut self,
        id: &[u8],
        critical: bool,
        value: &[u8],
        der: &Bytes,
    ) -> Result<(), CertificateError> {
        let malformed = |part| CertificateError::Malformed { part };
        let mut reader = Reader::new(value);
        let mut understood = true;
        let number = match id.strip_prefix(&CERTIFICATE_EXTENSION) {
            Some(&[number]) => number,
            _ => 0,
        };
        match number {
            14 if critical => return Err(malformed("subject key id, which is critical")),
            14 => {
                let key_id = reader
                    .read(tag::OCTET_STRING)
                    .ok_or(malformed("subject key id"))?;
                self.subject_key_id = Some(der.slice_ref(key_id));
            }
            15 => {
                let (bits, _) = reader.bit_string().ok_or(malformed("key usage"))?;
                self.key_usage = bits.first().copied().unwrap_or_default();
                // The ninth bit, decipherOnly, counts as a usage too.
                if self.key_usage == 0 && bits.get(1).is_some_and(|second| second & 0x80 != 0) {
                    self.key_usage = 1;
                }
            }
            17 => {
                understood = has_known_alt_names(&mut reader)
                    .ok_or(malformed("subject alternative names"))?;
                self.subject_alt_name = Some(der.slice_ref(value));
            }
            19 => {
                self.basic_constraints = Some(
                    read_basic_constraints(&mut reader).ok_or(malformed("basic constraints"))?,
                );
            }
            30 => {
                let constraints =
                    NameConstraints::read(value).ok_or(malformed("name constraints"))?;
                understood = !constraints.has_unknown_kind();
                self.name_constraints = Some(constraints);
            }
            35 if critical => return Err(malformed("authority key id, which is critical")),
            35 => {
                let key_id =
                    read_authority_key_id(&mut reader).ok_or(malformed("authority key id"))?;
                self.authority_key_id = key_id.map(|key_id| der.slice_ref(key_id));
            }
            31 => check_distribution_points(&mut reader)
                .ok_or(malformed("CRL distribution points"))?,
            32 => {
                self.has_policies =
                    read_policies(&mut reader).ok_or(malformed("certificate policies"))?;
            }
            33 => check_policy_mappings(&mut reader).ok_or(malformed("policy mappings"))?,
            36 => {
                self.requires_policies =
                    read_policy_constraints(&mut reader).ok_or(malformed("policy constraints"))?;
            }
            37 => {
                self.server_use =
                    read_server_use(&mut reader).ok_or(malformed("extended key usages"))?;
            }
            54 => {
                reader
                    .signed_integer(tag::INTEGER)
                    .ok_or(malformed("inhibit any policy"))?;
            }
            _ if id == AUTHORITY_INFO_ACCESS => {
                if critical {
                    return Err(malformed("authority information access, which is critical"));
                }
                check_authority_info(&mut reader)
                    .ok_or(malformed("authority information access"))?;
            }
            _ => understood = false,
        }
        self.has_unknown_critical |= critical && !understood;
        Ok(())
    }

    pub(crate) fn is_ca(&self) -> bool {
        self.basic_constraints
            .is_some_and(|constraints| constraints.is_ca)
    }

    /// Whether the key usage, if there is one, includes the signing of certificates.
    pub(crate) fn may_sign_certificates(&self) -> bool {
        self.key_usage == 0 || self.key_usage & KEY_CERT_SIGN != 0
    }
}

/// Passes over the unique ids, which certificates have from version 2 on.
pub(crate) fn skip_unique_ids(fields: &mut Reader<'_>) -> Result<(), CertificateError> {
    for unique_id in [tag::context(1), tag::context(2)] {
        let skipped = fields.optional(unique_id);
        skipped.ok_or(CertificateError::Malformed { part: "unique id" })?;
    }
    Ok(())
}

fn read_basic_constraints(reader: &mut Reader<'_>) -> Option<BasicConstraints> {
    let mut fields = reader.enter(tag::SEQUENCE)?;
    let is_ca = fields.next_is(tag::BOOLEAN) && fields.boolean()?;
    let path_length = if fields.next_is(tag::INTEGER) {
        Some(fields.small_integer()?)
    } else {
        None
    };
    Some(BasicConstraints { is_ca, path_length })
}

fn read_authority_key_id<'a>(reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    reader.enter(tag::SEQUENCE)?.optional(tag::context(0))
}

fn read_server_use(reader: &mut Reader<'_>) -> Option<ServerUse> {
    let mut usages = reader.enter(tag::SEQUENCE)?;
    if usages.is_empty() {
        return Some(ServerUse::Allowed);
    }
    let mut allowed = false;
    while !usages.is_empty() {
        let usage = usages.oid()?;
        allowed |= usage == ANY_USAGE || usage == SERVER_USAGE;
    }
    Some(if allowed {
        ServerUse::Allowed
    } else {
        ServerUse::Excluded
    })
}

/// Whether the alternative names include one of a kind that Go knows; `None` if one is malformed.
fn has_known_alt_names(reader: &mut Reader<'_>) -> Option<bool> {
    let mut names = reader.enter(tag::SEQUENCE)?;
    let mut any_known = false;
    while !names.is_empty() {
        let name = names.any()?;
        let is_valid = match name.tag ^ 0x80 {
            1 | 2 => name.content.is_ascii(),
            6 => is_uri(name.content),
            7 => matches!(name.content.len(), 4 | 16),
            _ => continue,
        };
        if !is_valid {
            return None;
        }
        any_known = true;
    }
    Some(any_known)
}

/// After how many further certificates explicit policies are required, if they are.
fn read_policy_constraints(reader: &mut Reader<'_>) -> Option<Option<i64>> {
    const REQUIRE_EXPLICIT: u8 = tag::context(0);
    const INHIBIT_MAPPING: u8 = tag::context(1);
    let mut fields = reader.enter(tag::SEQUENCE)?;
    let mut requires = None;
    if fields.next_is(REQUIRE_EXPLICIT) {
        requires = Some(fields.signed_integer(REQUIRE_EXPLICIT)?);
    }
    if fields.next_is(INHIBIT_MAPPING) {
        fields.signed_integer(INHIBIT_MAPPING)?;
    }
    Some(requires)
}

// Go refuses a certificate in which one of the following is malformed, though nothing depends on
// what they say.

fn check_distribution_points(reader: &mut Reader<'_>) -> Option<()> {
    let mut points = reader.enter(tag::SEQUENCE)?;
    while !points.is_empty() {
        let mut point = points.enter(tag::SEQUENCE)?;
        let Some(name) = point.optional(tag::constructed(0))? else {
            continue;
        };
        let mut full_name = Reader::new(name).enter(tag::constructed(0))?;
        while full_name.next_is(tag::context(6)) {
            full_name.any()?;
        }
    }
    Some(())
}

/// Whether there are any.
fn read_policies(reader: &mut Reader<'_>) -> Option<bool> {
    let mut policies = reader.enter(tag::SEQUENCE)?;
    let mut seen: Vec<&[u8]> = Vec::new();
    while !policies.is_empty() {
        let id = policies.enter(tag::SEQUENCE)?.read(tag::OID)?;
        if !has_whole_arcs(id) || seen.contains(&id) {
            return None;
        }
        seen.push(id);
    }
    Some(!seen.is_empty())
}

/// Like [`der::is_oid`](crate::der::is_oid), but arcs may be of any size.
fn has_whole_arcs(oid: &[u8]) -> bool {
    let mut begins = true;
    for &byte in oid {
        if begins && byte == 0x80 {
            return false;
        }
        begins = byte & 0x80 == 0;
    }
    begins && !oid.is_empty()
}

fn check_policy_mappings(reader: &mut Reader<'_>) -> Option<()> {
    let mut mappings = reader.enter(tag::SEQUENCE)?;
    while !mappings.is_empty() {
        let mut mapping = mappings.enter(tag::SEQUENCE)?;
        mapping.read(tag::OID)?;
        mapping.read(tag::OID)?;
    }
    Some(())
}

fn check_authority_info(reader: &mut Reader<'_>) -> Option<()> {
    let mut entries = reader.enter(tag::SEQUENCE)?;
    while !entries.is_empty() {
        let mut entry = entries.enter(tag::SEQUENCE)?;
        entry.oid()?;
        if entry.next_is(tag::context(6)) {
            entry.any()?;
        }
    }
    Some(())
}
