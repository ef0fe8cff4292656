//! A certificate authority, and the certificates that it issues.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};
use time::OffsetDateTime;

use crate::error::DevnetError;

const VALID_FOR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates begin a little in the past, for clocks that are not quite equal.
const BACKDATED_BY: Duration = Duration::from_secs(300);
/// Half of the order of P-256, rounded down: the largest `s` of a low-S signature.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// A self-signed certificate authority with its key in memory.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, LowSKey>,
}

/// A certificate with its private key, both PEM.
pub(super) struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// Makes a new authority for an organisation, known by its domain.
    pub fn new(common_name: &str, organization: &str) -> Result<Self, DevnetError> {
        let failed = certificate_error(common_name);
        let key = KeyPair::generate().map_err(&failed)?;
        let pem = key.serialize_pem();
        let mut params = parameters(common_name, Some(organization), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.extended_key_usages = both_ends_of_tls();
        let key = LowSKey(key);
        let certificate = params.self_signed(&key).map_err(&failed)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority whose certificate and key, both PEM, were written earlier.
    pub(super) fn from_pem(
        common_name: &str,
        certificate: String,
        key: String,
    ) -> Result<Self, DevnetError> {
        let failed = certificate_error(common_name);
        let pair = LowSKey(KeyPair::from_pem(&key).map_err(&failed)?);
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair).map_err(&failed)?;
        Ok(Self {
            certificate,
            key,
            issuer,
        })
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The authority's private key, PEM (PKCS #8).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A certificate that identifies a member; its organisational unit is the role (node OU).
    pub(super) fn issue_identity(
        &self,
        common_name: &str,
        role: &str,
        valid_for: Option<Duration>,
    ) -> Result<Issued, DevnetError> {
        let mut params = parameters(common_name, None, Some(role));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.issue(common_name, params, valid_for)
    }

    /// A certificate for either end of TLS; `hosts` are the DNS names of a node, which also get the
    /// names and addresses of loopback.
    pub(super) fn issue_tls(
        &self,
        common_name: &str,
        hosts: &[&str],
        valid_for: Option<Duration>,
    ) -> Result<Issued, DevnetError> {
        let mut params = parameters(common_name, None, None);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = both_ends_of_tls();
        if !hosts.is_empty() {
            for host in hosts.iter().copied().chain(["localhost"]) {
                let name = host.try_into().map_err(certificate_error(common_name))?;
                params.subject_alt_names.push(SanType::DnsName(name));
            }
            let loopback = [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ];
            let loopback = loopback.map(SanType::IpAddress);
            params.subject_alt_names.extend(loopback);
        }
        self.issue(common_name, params, valid_for)
    }

    /// `valid_for` counts from now; without it a certificate ends with its authority.
    fn issue(
        &self,
        common_name: &str,
        mut params: CertificateParams,
        valid_for: Option<Duration>,
    ) -> Result<Issued, DevnetError> {
        if let Some(valid_for) = valid_for {
            params.not_after = OffsetDateTime::now_utc() + valid_for;
        }
        let failed = certificate_error(common_name);
        let key = KeyPair::generate().map_err(&failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(&failed)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn parameters(
    common_name: &str,
    organization: Option<&str>,
    unit: Option<&str>,
) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "US");
    name.push(DnType::StateOrProvinceName, "California");
    name.push(DnType::LocalityName, "San Francisco");
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    if let Some(unit) = unit {
        name.push(DnType::OrganizationalUnitName, unit);
    }
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = OffsetDateTime::now_utc() - BACKDATED_BY;
    params.not_after = params.not_before + VALID_FOR;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params
}

fn both_ends_of_tls() -> Vec<ExtendedKeyUsagePurpose> {
    vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ]
}

fn certificate_error(subject: &str) -> impl Fn(rcgen::Error) -> DevnetError {
    let subject = subject.to_owned();
    move |source| DevnetError::Certificate {
        subject: subject.clone(),
        source,
    }
}

/// A key that gives low-S signatures only. Fabric rewrites MSP certificates whose signature is not
/// low-S (msp `sanitizeCert`), so that the identity on the wire would differ from the file.
struct LowSKey(KeyPair);

impl PublicKeyData for LowSKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for LowSKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // Nonces are random, so half of all signatures are low-S.
        loop {
            let signature = self.0.sign(message)?;
            if is_low_s(&signature) {
                return Ok(signature);
            }
        }
    }
}

/// Whether a DER signature, as the library makes it for P-256, ends in a low `s`.
fn is_low_s(signature: &[u8]) -> bool {
    let r_length = usize::from(signature.get(3).copied().unwrap_or_default());
    let s = signature.get(6 + r_length..).unwrap_or_default();
    // `s` has no superfluous zeros: longer is greater, and 33 bytes mean a set high bit.
    s.len() < HALF_ORDER.len() || (s.len() == HALF_ORDER.len() && s <= HALF_ORDER.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_low_s() {
        let key = LowSKey(KeyPair::generate().unwrap());
        for round in 0..32u8 {
            let signature = key.sign(&[round]).unwrap();
            let s = &signature[6 + usize::from(signature[3])..];
            assert_eq!(signature[5 + usize::from(signature[3])] as usize, s.len());
            let mut padded = [0; 33];
            padded[33 - s.len()..].copy_from_slice(s);
            assert_eq!(padded[0], 0);
            assert!(padded[1..] <= HALF_ORDER[..]);
        }
        let mut above = vec![0x30, 0x25, 0x02, 0x01, 0x01, 0x02, 0x20];
        above.extend_from_slice(&HALF_ORDER);
        assert!(is_low_s(&above));
        *above.last_mut().unwrap() += 1;
        assert!(!is_low_s(&above));
    }
}
