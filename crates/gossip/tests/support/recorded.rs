//! The recorded gossip network in `testdata/gossip`: its peers, its keys, and checks with real
//! certificates and signatures.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use bytes::Bytes;
use selvedge_gossip::crypto::{
    Crypto, Identity, IdentityFacts, IdentitySource, Refusal, SignError, Signer,
};
use selvedge_gossip::types::{OrgId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::msp::SerializedIdentity;
use serde_json::Value;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The recorded channel.
pub const CHANNEL: &str = "gossipchannel";

/// The folder of the recordings.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/gossip")
}

/// The bytes of a recorded file.
pub fn read(path: &str) -> Vec<u8> {
    let path = folder().join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A recorded JSON file.
pub fn json(path: &str) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// A PKI-ID as it stands in the JSON files.
pub fn pki_id(hex_digits: &Value) -> PkiId {
    PkiId::from_slice(&hex::decode(hex_digits.as_str().unwrap()).unwrap()).unwrap()
}

fn der(pem: &[u8]) -> Vec<u8> {
    parse_x509_pem(pem).unwrap().1.contents
}

/// Accepts identities that a CA of the two recorded organisations has signed.
pub struct RecordedCrypto {
    cas: BTreeMap<String, Vec<u8>>,
    /// Signature checks made.
    pub checks: Mutex<usize>,
}

impl RecordedCrypto {
    pub fn new() -> Self {
        let cas = ["Org1MSP", "Org2MSP"]
            .map(|org| {
                let folder = folder().join("crypto/orgs").join(org).join("cacerts");
                let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
                (org.to_owned(), der(&fs::read(file.path()).unwrap()))
            })
            .into();
        Self {
            cas,
            checks: Mutex::new(0),
        }
    }
}

/// Checks an ECDSA P-256 signature by the key of the certificate `der`.
pub fn check_signature(der: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| Refusal(error.to_string()))?;
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(message, signature)
        .map_err(|_| Refusal("signature is not by the identity's key".to_owned()))
}

fn certificate_of(serialized: &[u8]) -> Result<(String, Vec<u8>), Refusal> {
    let identity =
        SerializedIdentity::decode(serialized).map_err(|error| Refusal(error.to_string()))?;
    let (_, pem) =
        parse_x509_pem(&identity.id_bytes).map_err(|error| Refusal(error.to_string()))?;
    Ok((identity.mspid, pem.contents))
}

impl Crypto for RecordedCrypto {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        let (org, der) = certificate_of(serialized)?;
        let ca = self
            .cas
            .get(&org)
            .ok_or_else(|| Refusal(format!("{org} is not a known organisation")))?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|error| Refusal(error.to_string()))?;
        check_signature(
            ca,
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        )?;
        let end = certificate.validity().not_after.timestamp();
        Ok(IdentityFacts {
            org: OrgId::new(org),
            expires_at: Some(u64::try_from(end).unwrap() * 1_000_000_000),
        })
    }

    fn verify(&self, identity: &Identity, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        *self.checks.lock().unwrap() += 1;
        let (_, der) = certificate_of(identity.serialized())?;
        check_signature(&der, message, signature)
    }
}

/// A peer of the recorded network.
pub struct RecordedPeer {
    pub name: String,
    pub identity: Identity,
    pub endpoint: String,
    pub internal_endpoint: String,
    crypto: String,
}

impl RecordedPeer {
    /// Signs with the peer's own key.
    pub fn signer(&self) -> Arc<dyn Signer> {
        let pem =
            String::from_utf8(read(&format!("{}/msp/keystore/priv_sk", self.crypto))).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pem.contents).unwrap();
        Arc::new(KeySigner(key))
    }
}

struct KeySigner(EcdsaKeyPair);

impl Signer for KeySigner {
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        let signature = self
            .0
            .sign(&SystemRandom::new(), message)
            .map_err(|error| SignError(error.to_string()))?;
        Ok(Bytes::copy_from_slice(signature.as_ref()))
    }
}

/// The six peers, whose identities are built from their MSP folders.
pub fn peers(crypto: &RecordedCrypto) -> Vec<RecordedPeer> {
    let network = json("network.json");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    network["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| {
            let host = text(&peer["host"]);
            let pem = read(&format!(
                "{}/msp/signcerts/{host}-cert.pem",
                text(&peer["crypto"])
            ));
            let serialized = SerializedIdentity {
                mspid: text(&peer["mspid"]),
                id_bytes: pem.into(),
            };
            let identity = Identity::check(&serialized.encode_to_vec().into(), crypto).unwrap();
            assert_eq!(identity.pki_id(), pki_id(&peer["pkiId"]));
            RecordedPeer {
                name: text(&peer["name"]),
                identity,
                endpoint: text(&peer["endpoint"]),
                internal_endpoint: text(&peer["internalEndpoint"]),
                crypto: text(&peer["crypto"]),
            }
        })
        .collect()
}

/// Identities by PKI-ID.
#[derive(Default)]
pub struct Known(pub BTreeMap<PkiId, Identity>);

impl Known {
    pub fn all(crypto: &RecordedCrypto) -> Self {
        let identities = peers(crypto).into_iter().map(|peer| peer.identity);
        Self(
            identities
                .map(|identity| (identity.pki_id(), identity))
                .collect(),
        )
    }
}

impl IdentitySource for Known {
    fn identity(&self, pki_id: &PkiId) -> Option<Identity> {
        self.0.get(pki_id).cloned()
    }
}

/// An entry of a recorded conversation that has bytes.
pub struct Entry {
    /// Seconds since its start.
    pub seconds: f64,
    pub from: String,
    pub to: String,
    pub kind: String,
    pub frame: Bytes,
}

/// A recorded conversation: the observer's name and what was said.
pub fn transcript(name: &str) -> (String, Vec<Entry>) {
    let transcript = json(&format!("{name}.json"));
    let pack = Bytes::from(read(transcript["pack"].as_str().unwrap()));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let size = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let entries = transcript["conversation"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["type"].is_string())
        .map(|entry| {
            let frame = match entry["file"].as_str() {
                Some(file) => Bytes::from(read(file)),
                None => {
                    let start = size(&entry["offset"]);
                    pack.slice(start..start + size(&entry["size"]))
                }
            };
            assert_eq!(frame.len(), size(&entry["size"]));
            Entry {
                seconds: entry["t"].as_f64().unwrap(),
                from: text(&entry["from"]),
                to: text(&entry["to"]),
                kind: text(&entry["type"]),
                frame,
            }
        })
        .collect();
    (text(&transcript["observer"]["name"]), entries)
}
