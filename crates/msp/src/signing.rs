//! Private keys, and the identities that can sign with them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use bytes::Bytes;
use selvedge_protos::{Message, msp as pb};

use crate::directory::{folder_error, list_files, read_file, read_pem_folder};
use crate::ecdsa::{Curve, EcdsaSignature};
use crate::error::{MspError, SignatureError};
use crate::identity::Identity;
use crate::key::{MessageHash, PublicKey};
use crate::msp::Msp;
use crate::pem;

/// An identity together with its private key. Clones are cheap.
#[derive(Clone)]
pub struct SigningIdentity {
    identity: Identity,
    key: Arc<SigningKey>,
}

enum SigningKey {
    Ecdsa { curve: Curve, pair: EcdsaKeyPair },
    Ed25519(Ed25519KeyPair),
}

impl SigningIdentity {
    /// From a certificate and the private key that belongs to it: PKCS#8 or SEC1 for ECDSA, PKCS#8
    /// for Ed25519. Both texts are PEM; of several keys the one that fits is taken.
    pub fn from_pem(msp: &Msp, certificate: &[u8], keys: &[u8]) -> Result<Self, MspError> {
        let identity = own_identity(msp, certificate)?;
        let key = find_key(&identity, keys).ok_or_else(|| MspError::SigningKey {
            msp: msp.id().to_owned(),
            reason: "the private key does not belong to the certificate".to_owned(),
        })?;
        Ok(Self {
            identity,
            key: Arc::new(key),
        })
    }

    /// The public half.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The MSP id.
    pub fn msp_id(&self) -> &str {
        self.identity.msp_id()
    }

    /// The `SerializedIdentity` message under which this identity signs: the certificate in low-S
    /// form and PEM as Go writes it, so that its PKI-ID is the one that a Go peer would have.
    pub fn serialized(&self) -> &Bytes {
        self.identity.serialized()
    }

    /// Signs `message`: ECDSA over its SHA-256 with S in the lower half, as DER; Ed25519 over the
    /// message itself. Costs about 20 microseconds for P-256.
    pub fn sign(&self, message: &[u8]) -> Result<Bytes, SignatureError> {
        match &*self.key {
            SigningKey::Ed25519(pair) => Ok(Bytes::copy_from_slice(pair.sign(message).as_ref())),
            SigningKey::Ecdsa { curve, pair } => {
                let hash = self.identity.msp().0.message_hash;
                let digest = digest_for(*curve, hash, message)?;
                let fixed = pair
                    .sign_digest(&digest)
                    .map_err(|_| SignatureError::Signing)?;
                let signature = EcdsaSignature::from_fixed(fixed.as_ref()).into_low_s(*curve);
                Ok(signature.to_der().into())
            }
        }
    }
}

impl fmt::Debug for SigningIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("SigningIdentity")
            .field(&self.identity)
            .finish()
    }
}

/// Reads an MSP folder with the certificate in `signcerts` and its private key in `keystore`. The
/// MSP is at [`Identity::msp`]. An expired certificate is refused. Blocking.
pub fn load_signing_identity(
    directory: impl AsRef<Path>,
    msp_id: &str,
) -> Result<SigningIdentity, MspError> {
    let directory = directory.as_ref();
    let msp = Msp::from_directory(directory, msp_id)?;
    let signcerts = directory.join("signcerts");
    let certificate = read_pem_folder(&signcerts)?
        .and_then(|certificates| certificates.into_iter().next())
        .ok_or_else(|| folder_error(&signcerts, "no signing certificate found"))?;
    let identity = own_identity(&msp, &certificate)?;
    check_expiry(&identity)?;
    let keystore = directory.join("keystore");
    let key = list_files(&keystore)?
        .unwrap_or_default()
        .iter()
        .filter_map(|file| read_file(file).ok())
        .find_map(|text| find_key(&identity, &text))
        .ok_or_else(|| {
            folder_error(
                &keystore,
                "no private key found that belongs to the certificate in signcerts",
            )
        })?;
    Ok(SigningIdentity {
        identity,
        key: Arc::new(key),
    })
}

fn check_expiry(identity: &Identity) -> Result<(), MspError> {
    match SystemTime::now().duration_since(identity.expires_at()) {
        Ok(ago) => Err(MspError::SigningKey {
            msp: identity.msp_id().to_owned(),
            reason: format!("signing identity expired {} seconds ago", ago.as_secs()),
        }),
        Err(_) => Ok(()),
    }
}

/// The identity of a certificate, serialized as its owner serializes it.
fn own_identity(msp: &Msp, certificate: &[u8]) -> Result<Identity, MspError> {
    let credential = msp.0.read_credential(certificate)?;
    let serialized = pb::SerializedIdentity {
        mspid: msp.id().to_owned(),
        id_bytes: pem::encode(pem::CERTIFICATE, &credential.certificate.der).into(),
    };
    Ok(Identity::new(
        msp.clone(),
        serialized.encode_to_vec().into(),
        credential,
    ))
}

/// The private key in `text` whose public key is the identity's.
fn find_key(identity: &Identity, text: &[u8]) -> Option<SigningKey> {
    let public = &identity.credential().certificate.key;
    pem::decode_all(text).find_map(|block| read_key(&block.contents, public))
}

fn read_key(der: &[u8], public: &PublicKey) -> Option<SigningKey> {
    match public {
        PublicKey::Ecdsa { curve, .. } => {
            let pair = EcdsaKeyPair::from_private_key_der(signing_rule(*curve)?, der).ok()?;
            let fits = Some(pair.public_key().as_ref()) == public.raw();
            fits.then_some(SigningKey::Ecdsa {
                curve: *curve,
                pair,
            })
        }
        PublicKey::Ed25519 { .. } => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
            let fits = Some(pair.public_key().as_ref()) == public.raw();
            fits.then_some(SigningKey::Ed25519(pair))
        }
        PublicKey::EcdsaP224 { .. } | PublicKey::Rsa { .. } | PublicKey::Other { .. } => None,
    }
}

fn signing_rule(curve: Curve) -> Option<&'static EcdsaSigningAlgorithm> {
    match curve {
        Curve::P224 => None,
        Curve::P256 => Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Curve::P384 => Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Curve::P521 => Some(&signature::ECDSA_P521_SHA256_FIXED_SIGNING),
    }
}

/// The hash of a message in the shape that the curve's rule asks for. For P-384 there is only a rule
/// with SHA-384: since a hash is taken as a number, zeros in front of the shorter one change nothing.
fn digest_for(curve: Curve, hash: MessageHash, message: &[u8]) -> Result<Digest, SignatureError> {
    let digest = hash.digest(message)?;
    if curve != Curve::P384 {
        return Ok(digest);
    }
    let mut padded = [0; digest::SHA384_OUTPUT_LEN];
    if let Some(end) = padded.get_mut(digest::SHA384_OUTPUT_LEN - digest.as_ref().len()..) {
        end.copy_from_slice(digest.as_ref());
    }
    Digest::import_less_safe(&padded, &digest::SHA384).map_err(|_| SignatureError::Signing)
}
