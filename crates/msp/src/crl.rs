//! Certificate revocation lists.
//!
//! Fabric looks at the issuer's key identifier, the serial numbers and the signature. When a list
//! was issued, when it expires and since when a certificate counts as revoked do not matter.

use crate::asn1::Fields;
use crate::certificate::Certificate;
use crate::der::{self, tag, trim_zeros};
use crate::error::CertificateError;
use crate::key::{self, SignatureAlgorithm};
use crate::pem;

const LABEL: &str = "X509 CRL";
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 29, 35];

/// A parsed revocation list.
#[derive(Debug)]
pub(crate) struct RevocationList {
    signed: Vec<u8>,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
    /// Big-endian, without leading zeros.
    serials: Vec<Vec<u8>>,
    /// `None` if the list does not say whose it is, which Fabric finds out only when it looks.
    issuer_key_id: Option<Vec<u8>>,
}

impl RevocationList {
    /// From PEM or DER.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        match pem::decode(bytes) {
            Some((block, _))
                if bytes.starts_with(b"-----BEGIN X509 CRL") && block.label == LABEL =>
            {
                Self::from_der(&block.contents)
            }
            _ => Self::from_der(bytes),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        Self::read(der).ok_or(CertificateError::Malformed {
            part: "certificate revocation list",
        })
    }

    fn read(der: &[u8]) -> Option<Self> {
        let mut list = Fields::new(der);
        let mut outer = Fields::new(list.required(tag::SEQUENCE)?);
        if !list.is_empty() {
            return None;
        }
        let signed = outer.whole(tag::SEQUENCE)?;
        let mut fields = Fields::new(Fields::new(signed).required(tag::SEQUENCE)?);
        if let Some(version) = fields.optional(tag::INTEGER)?
            && !(der::is_shortest_integer(version) && version.len() <= 8)
        {
            return None;
        }
        fields.algorithm()?;
        check_name(fields.required(tag::SEQUENCE)?)?;
        fields.time()?;
        if fields.next_is_time()? {
            fields.time()?;
        }
        let serials = match fields.optional(tag::SEQUENCE)? {
            Some(entries) => read_serials(entries)?,
            None => Vec::new(),
        };
        let extensions = fields
            .optional_explicit(tag::constructed(0), tag::SEQUENCE)?
            .unwrap_or_default();
        let issuer_key_id = read_extensions(extensions)?;

        let (algorithm, parameters) = outer.algorithm()?;
        let algorithm = SignatureAlgorithm::new(algorithm, parameters);
        let mut signature = der::right_aligned(outer.required(tag::BIT_STRING)?)?;
        if algorithm.is_ecdsa() {
            signature = key::canonical_ecdsa(&signature).ok()?;
        }
        Some(Self {
            signed: signed.to_vec(),
            algorithm,
            signature,
            serials,
            issuer_key_id,
        })
    }

    /// Whether this list revokes `certificate`, which `issuer` signed. A list whose signature is not
    /// the issuer's revokes nothing. `None` if the list does not say whose it is.
    pub(crate) fn revokes(&self, certificate: &Certificate, issuer: &Certificate) -> Option<bool> {
        let key_id = self.issuer_key_id.as_deref()?;
        let is_listed = issuer.extensions.subject_key_id.as_deref() == Some(key_id)
            && self.serials.contains(&certificate.serial);
        if !is_listed {
            return Some(false);
        }
        let is_genuine =
            issuer
                .key
                .verify_certificate(self.algorithm, &self.signed, &self.signature);
        if !is_genuine {
            tracing::warn!(
                issuer = issuer.common_name,
                serial = certificate.serial_hex(),
                "Invalid signature over the identified CRL, which is passed over"
            );
        }
        Some(is_genuine)
    }
}

fn check_name(sequence: &[u8]) -> Option<()> {
    for set in Fields::new(sequence).members(tag::SET)? {
        for mut attribute in set.members(tag::SEQUENCE)? {
            attribute.oid()?;
            attribute.any()?;
        }
    }
    Some(())
}

fn read_serials(entries: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut serials = Vec::new();
    for mut entry in Fields::new(entries).members(tag::SEQUENCE)? {
        let serial = entry
            .required(tag::INTEGER)
            .filter(|serial| der::is_shortest_integer(serial))?;
        entry.time()?;
        if let Some(extensions) = entry.optional(tag::SEQUENCE)? {
            read_extensions(extensions)?;
        }
        // No certificate has a negative serial number.
        if serial.first().is_some_and(|first| first & 0x80 == 0) {
            serials.push(trim_zeros(serial).to_vec());
        }
    }
    Some(serials)
}

/// The authority key identifier among the extensions. The outer `None` is for malformed extensions;
/// an identifier that is malformed itself counts as missing, as Fabric reads it later.
fn read_extensions(extensions: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut key_id = None;
    for mut extension in Fields::new(extensions).members(tag::SEQUENCE)? {
        let id = extension.oid()?;
        if let Some(critical) = extension.optional(tag::BOOLEAN)?
            && !matches!(critical, [0 | 0xff])
        {
            return None;
        }
        let value = extension.required(tag::OCTET_STRING)?;
        if id == AUTHORITY_KEY_ID && key_id.is_none() {
            key_id = Some(read_authority_key_id(value));
        }
    }
    Some(key_id.flatten())
}

fn read_authority_key_id(value: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Fields::new(Fields::new(value).required(tag::SEQUENCE)?);
    let key_id = fields.optional(tag::context(0))?.unwrap_or_default();
    fields.optional(tag::context(1))?;
    let serial = fields.optional(tag::context(2))?;
    serial
        .is_none_or(der::is_shortest_integer)
        .then(|| key_id.to_vec())
}
