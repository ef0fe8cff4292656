//! X.509 certificates, read to the same verdict as Go's `x509.ParseCertificate` as far as an MSP
//! looks at them, and rewritten to low S where Fabric does so.

use bytes::Bytes;

use crate::der::{self, Reader, tag, trim_zeros};
use crate::error::CertificateError;
use crate::extensions::{Extensions, skip_unique_ids};
use crate::key::{self, PublicKey, SignatureAlgorithm};
use crate::pem;
use crate::second_reading;
use crate::x509_text::{read_name, read_time};

/// A parsed certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) der: Bytes,
    signed: Bytes,
    /// The outer AlgorithmIdentifier, with tag and length.
    algorithm_der: Bytes,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
    version: u64,
    /// Big-endian, without leading zeros.
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Bytes,
    pub(crate) subject: Bytes,
    pub(crate) common_name: String,
    pub(crate) organizational_units: Vec<String>,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) key_info: Bytes,
    pub(crate) key: PublicKey,
    pub(crate) extensions: Extensions,
}

impl Certificate {
    /// The first PEM block of `text`, whatever its label.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let (block, _) = pem::decode(text).ok_or(CertificateError::NotPem)?;
        Self::from_der(block.contents.into())
    }

    /// A certificate and nothing after it.
    pub(crate) fn from_der(der: Bytes) -> Result<Self, CertificateError> {
        let malformed = |part| CertificateError::Malformed { part };
        let mut reader = Reader::new(&der);
        let mut outer = reader
            .enter(tag::SEQUENCE)
            .ok_or(malformed("certificate"))?;
        if !reader.is_empty() {
            return Err(CertificateError::TrailingData);
        }
        let signed = outer
            .element(tag::SEQUENCE)
            .ok_or(malformed("to-be-signed part"))?;
        let outer_algorithm = outer
            .element(tag::SEQUENCE)
            .ok_or(malformed("signature algorithm"))?;
        // Go passes over whatever follows the signature inside the certificate.
        let signature = outer
            .bit_string_right_aligned()
            .ok_or(malformed("signature"))?;

        let mut fields = Reader::new(signed.content);
        let version = read_version(&mut fields).ok_or(malformed("version"))?;
        let serial = fields.integer().ok_or(malformed("serial number"))?;
        if serial.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(malformed("serial number, which is negative"));
        }
        let inner_algorithm = fields
            .read(tag::SEQUENCE)
            .ok_or(malformed("signature algorithm"))?;
        if inner_algorithm != outer_algorithm.content {
            return Err(CertificateError::AlgorithmMismatch);
        }
        let algorithm = SignatureAlgorithm::read(Reader::new(inner_algorithm))
            .ok_or(malformed("signature algorithm"))?;
        let issuer = fields.element(tag::SEQUENCE).ok_or(malformed("issuer"))?;
        read_name(issuer.content).ok_or(malformed("issuer"))?;
        let mut validity = fields.enter(tag::SEQUENCE).ok_or(malformed("validity"))?;
        let not_before = read_time(&mut validity).ok_or(malformed("start of validity"))?;
        let not_after = read_time(&mut validity).ok_or(malformed("end of validity"))?;
        let subject = fields.element(tag::SEQUENCE).ok_or(malformed("subject"))?;
        let subject_name = read_name(subject.content).ok_or(malformed("subject"))?;
        let key_info = fields
            .element(tag::SEQUENCE)
            .ok_or(malformed("public key"))?;
        let key = PublicKey::read(Reader::new(key_info.content)).map_err(malformed)?;
        let extensions = match version {
            3 => Extensions::read(&mut fields, &der)?,
            2 => skip_unique_ids(&mut fields).map(|()| Extensions::default())?,
            _ => Extensions::default(),
        };
        Ok(Self {
            signed: der.slice_ref(signed.whole),
            algorithm_der: der.slice_ref(outer_algorithm.whole),
            algorithm,
            signature,
            version,
            serial: trim_zeros(serial).to_vec(),
            issuer: der.slice_ref(issuer.whole),
            subject: der.slice_ref(subject.whole),
            common_name: subject_name.common_name,
            organizational_units: subject_name.organizational_units,
            not_before,
            not_after,
            key_info: der.slice_ref(key_info.whole),
            key,
            extensions,
            der,
        })
    }

    /// Whether the basic constraints say that this is a certificate authority.
    pub(crate) fn is_ca(&self) -> bool {
        self.extensions.is_ca()
    }

    /// The serial number in hexadecimal, for messages.
    pub(crate) fn serial_hex(&self) -> String {
        hex::encode(&self.serial)
    }

    pub(crate) fn is_ecdsa_signed(&self) -> bool {
        self.algorithm.is_ecdsa()
    }

    /// The signature as it stands in the certificate.
    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whether `parent` may sign certificates and signed this one (Go's `CheckSignatureFrom`).
    pub(crate) fn is_signed_by(&self, parent: &Certificate) -> bool {
        let constraints = parent.extensions.basic_constraints;
        if parent.version == 3 && constraints.is_none()
            || constraints.is_some_and(|constraints| !constraints.is_ca)
        {
            return false;
        }
        if !parent.extensions.may_sign_certificates() || self.algorithm.is_sha1() {
            return false;
        }
        parent
            .key
            .verify_certificate(self.algorithm, &self.signed, &self.signature)
    }

    /// The same certificate with its signature in low-S form, if it is not in that form
    /// (`sanitizeECDSASignedCert`). `signer` holds the key that the signature was checked with.
    pub(crate) fn low_s_form(
        &self,
        signer: &Certificate,
    ) -> Result<Option<Certificate>, CertificateError> {
        let lowered = key::low_s_form(&signer.key, &self.signature)
            .map_err(|_| CertificateError::Malformed { part: "signature" })?;
        let Some(signature) = lowered else {
            return Ok(None);
        };
        if !second_reading::is_readable(&self.signed) {
            return Err(CertificateError::Malformed {
                part: "unique ids or extensions",
            });
        }
        // Rewritten, the outer algorithm loses what stands behind its parameters.
        if has_more_than_parameters(&self.algorithm_der) {
            return Err(CertificateError::AlgorithmMismatch);
        }
        let mut inside = Vec::with_capacity(self.der.len());
        inside.extend_from_slice(&self.signed);
        inside.extend_from_slice(&self.algorithm_der);
        key::write_bit_string(&mut inside, &signature);
        let mut rewritten = Vec::with_capacity(inside.len() + 4);
        der::write(&mut rewritten, tag::SEQUENCE, &inside);
        Certificate::from_der(rewritten.into()).map(Some)
    }
}

/// Whether something follows the parameters of an AlgorithmIdentifier that was read before.
fn has_more_than_parameters(algorithm: &[u8]) -> bool {
    let mut reader = Reader::new(algorithm);
    let fields = reader.enter(tag::SEQUENCE).and_then(|mut fields| {
        fields.oid()?;
        fields.any();
        Some(fields)
    });
    fields.is_some_and(|fields| !fields.is_empty())
}

fn read_version(fields: &mut Reader<'_>) -> Option<u64> {
    let version = match fields.optional(tag::constructed(0))? {
        Some(inside) => {
            let mut inside = Reader::new(inside);
            inside.small_integer().filter(|_| inside.is_empty())?
        }
        None => 0,
    };
    (version <= 2).then_some(version + 1)
}
