//! Certificate revocation lists.
//!
//! Fabric looks at the issuer's key identifier, the serial numbers and the signature. When a list
//! was issued, when it expires and since when a certificate counts as revoked do not matter.

use crate::certificate::Certificate;
use crate::der::{Reader, tag, trim_zeros};
use crate::error::CertificateError;
use crate::extensions::read_authority_key_id;
use crate::key::{self, SignatureAlgorithm};
use crate::pem;
use crate::x509_text::read_time;

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
        let mut reader = Reader::new(der);
        let mut outer = reader.enter(tag::SEQUENCE)?;
        if !reader.is_empty() {
            return None;
        }
        let signed = outer.element(tag::SEQUENCE)?;
        let algorithm = SignatureAlgorithm::read(outer.enter(tag::SEQUENCE)?)?;
        let mut signature = outer.bit_string_right_aligned()?;
        if algorithm.is_ecdsa() {
            signature = key::canonical_ecdsa(&signature).ok()?;
        }

        let mut fields = Reader::new(signed.content);
        if fields.next_is(tag::INTEGER) {
            fields.integer()?;
        }
        fields.enter(tag::SEQUENCE)?; // algorithm
        fields.enter(tag::SEQUENCE)?; // issuer
        read_time(&mut fields)?;
        if fields.next_is(tag::UTC_TIME) || fields.next_is(tag::GENERALIZED_TIME) {
            read_time(&mut fields)?;
        }
        let mut serials = Vec::new();
        if let Some(entries) = fields.optional(tag::SEQUENCE)? {
            let mut entries = Reader::new(entries);
            while !entries.is_empty() {
                let serial = entries.enter(tag::SEQUENCE)?.integer()?;
                // No certificate has a negative serial number.
                if serial.first().is_some_and(|first| first & 0x80 == 0) {
                    serials.push(trim_zeros(serial).to_vec());
                }
            }
        }
        let issuer_key_id = match fields.optional(tag::constructed(0))? {
            Some(extensions) => read_issuer_key_id(extensions)?,
            None => None,
        };
        Some(Self {
            signed: signed.whole.to_vec(),
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

fn read_issuer_key_id(extensions: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut list = Reader::new(extensions).enter(tag::SEQUENCE)?;
    while !list.is_empty() {
        let mut extension = list.enter(tag::SEQUENCE)?;
        let id = extension.read(tag::OID)?;
        if extension.next_is(tag::BOOLEAN) {
            extension.boolean()?;
        }
        let value = extension.read(tag::OCTET_STRING)?;
        if id == AUTHORITY_KEY_ID {
            let key_id = read_authority_key_id(&mut Reader::new(value))?;
            return Some(Some(key_id.unwrap_or_default().to_vec()));
        }
    }
    Some(None)
}
