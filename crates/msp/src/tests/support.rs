//! Certificate authorities, certificates and MSP definitions for tests.

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use selvedge_protos::{Message, msp as pb};

use crate::certificate::Certificate;
use crate::der::{self, Reader, tag};
use crate::{Identity, Msp, MspError, MspManager, MspVersion, SigningIdentity};

pub const MSP: &str = "Org1MSP";

/// A certificate with its private key.
pub struct Issued {
    pub pem: String,
    pub der: Vec<u8>,
    pub key_pem: String,
}

impl Issued {
    /// With its signature in low-S form, so that nothing depends on chance.
    fn new(certificate: &rcgen::Certificate, issuer_der: &[u8], key: &KeyPair) -> Self {
        let read = |der: &[u8]| Certificate::from_der(Bytes::copy_from_slice(der)).unwrap();
        let own = read(certificate.der());
        let der = match own.is_ecdsa_signed() {
            true => match own.low_s_form(&read(issuer_der)).unwrap() {
                Some(lowered) => lowered.der.to_vec(),
                None => own.der.to_vec(),
            },
            false => own.der.to_vec(),
        };
        Self {
            pem: crate::pem::encode(crate::pem::CERTIFICATE, &der),
            der,
            key_pem: key.serialize_pem(),
        }
    }

    pub fn serialized(&self) -> Bytes {
        serialize(MSP, self.pem.as_bytes())
    }

    pub fn identity(&self, msp: &Msp) -> Result<Identity, MspError> {
        msp.deserialize(&self.serialized())
    }

    /// The verdict on this certificate: whether it can be read and is valid.
    pub fn check(&self, msp: &Msp) -> Result<(), MspError> {
        self.identity(msp)?.validate()
    }

    pub fn signing(&self, msp: &Msp) -> SigningIdentity {
        SigningIdentity::from_pem(msp, self.pem.as_bytes(), self.key_pem.as_bytes()).unwrap()
    }
}

pub fn serialize(msp_id: &str, pem: &[u8]) -> Bytes {
    let identity = pb::SerializedIdentity {
        mspid: msp_id.to_owned(),
        id_bytes: Bytes::copy_from_slice(pem),
    };
    identity.encode_to_vec().into()
}

/// A certificate authority.
pub struct Authority {
    pub issued: Issued,
    issuer: Issuer<'static, KeyPair>,
}

/// Parameters of a certificate that is valid from 2020 to 2040.
pub fn params(name: &str, units: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    for (position, unit) in units.iter().enumerate() {
        // A second unit needs a second key in rcgen's map.
        let kind = match position {
            0 => DnType::OrganizationalUnitName,
            _ => DnType::CustomDnType(vec![2, 5, 4, 11]),
        };
        subject.push(kind, *unit);
    }
    params.distinguished_name = subject;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

pub fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::with(authority_params(name), &PKCS_ECDSA_P256_SHA256)
    }

    pub fn with(params: CertificateParams, algorithm: &'static SignatureAlgorithm) -> Self {
        Self::with_key(params, KeyPair::generate_for(algorithm).unwrap())
    }

    pub fn with_key(params: CertificateParams, key: KeyPair) -> Self {
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issued: Issued::new(&certificate, certificate.der(), &key),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn intermediate(&self, params: CertificateParams) -> Authority {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            issued: Issued::new(&certificate, &self.issued.der, &key),
            issuer: Issuer::new(params, key),
        }
    }

    /// A peer's certificate.
    pub fn peer(&self) -> Issued {
        self.issue(params("peer0", &["peer"]))
    }

    pub fn issue(&self, params: CertificateParams) -> Issued {
        self.issue_for(params, &PKCS_ECDSA_P256_SHA256)
    }

    pub fn issue_for(
        &self,
        params: CertificateParams,
        algorithm: &'static SignatureAlgorithm,
    ) -> Issued {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued::new(&certificate, &self.issued.der, &key)
    }

    /// A revocation list of this authority with one serial number, as PEM.
    pub fn revoke(&self, serial: &[u8]) -> String {
        self.revocation_list(serial).pem().unwrap()
    }

    pub fn revocation_list(&self, serial: &[u8]) -> rcgen::CertificateRevocationList {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2022, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: date_time_ymd(2021, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }
}

/// An MSP definition in the making.
#[derive(Clone, Default)]
pub struct Definition(pub pb::FabricMspConfig);

impl Definition {
    /// With one root, its own admin by organizational unit, and all four NodeOUs.
    pub fn new(roots: &[&Authority]) -> Self {
        let unit = |name: &str| {
            Some(pb::FabricOuIdentifier {
                certificate: Bytes::new(),
                organizational_unit_identifier: name.to_owned(),
            })
        };
        Self(pb::FabricMspConfig {
            name: MSP.to_owned(),
            root_certs: roots.iter().map(|root| pem(&root.issued.pem)).collect(),
            fabric_node_ous: Some(pb::FabricNodeOUs {
                enable: true,
                client_ou_identifier: unit("client"),
                peer_ou_identifier: unit("peer"),
                admin_ou_identifier: unit("admin"),
                orderer_ou_identifier: unit("orderer"),
            }),
            ..Default::default()
        })
    }

    pub fn with(mut self, change: impl FnOnce(&mut pb::FabricMspConfig)) -> Self {
        change(&mut self.0);
        self
    }

    pub fn intermediates(self, authorities: &[&Authority]) -> Self {
        self.with(|config| {
            config.intermediate_certs = authorities
                .iter()
                .map(|authority| pem(&authority.issued.pem))
                .collect();
        })
    }

    pub fn revocation_list(self, list: &str) -> Self {
        self.with(|config| config.revocation_list.push(pem(list)))
    }

    pub fn config(&self) -> pb::MspConfig {
        pb::MspConfig {
            r#type: 0,
            config: self.0.encode_to_vec().into(),
        }
    }

    pub fn set_up(&self, version: MspVersion) -> Result<Msp, MspError> {
        Msp::from_config(&self.config(), version)
    }

    pub fn msp(&self) -> Msp {
        self.set_up(MspVersion::V3_0).unwrap()
    }

    pub fn manager(&self) -> MspManager {
        MspManager::new([self.msp()]).unwrap()
    }

    /// The reason for which the definition is refused.
    pub fn refusal(&self, version: MspVersion) -> String {
        self.set_up(version).unwrap_err().to_string()
    }
}

pub fn pem(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The recorded data of all crates.
pub fn testdata(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

/// The other of the two valid signatures, (r, N - s), for P-256.
pub fn other_half(signature: &[u8]) -> Vec<u8> {
    let order =
        hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let mut numbers = Reader::new(signature).enter(tag::SEQUENCE).unwrap();
    let r = numbers.positive_integer().unwrap();
    let s = numbers.positive_integer().unwrap();
    let mut padded = vec![0; 32 - s.len()];
    padded.extend_from_slice(s);
    let mut difference = vec![0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let value = 256 + i32::from(order[at]) - i32::from(padded[at]) - borrow;
        borrow = i32::from(value < 256);
        difference[at] = u8::try_from(value % 256).unwrap();
    }
    let mut inside = Vec::new();
    der::write_positive_integer(&mut inside, r);
    der::write_positive_integer(&mut inside, &difference);
    let mut out = Vec::new();
    der::write(&mut out, tag::SEQUENCE, &inside);
    out
}
