//! Public keys and the two ways in which Fabric checks signatures with them: over messages
//! (`bccsp/sw`) and over certificates (Go's `crypto/x509`).

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};

use crate::curve_p224::P224Key;
use crate::der::{self, Reader, tag};
use crate::ecdsa::{Curve, EcdsaSignature};
use crate::error::SignatureError;
use crate::p256::Frequency;

/// The hash of the messages that identities sign. SHA-256 whatever the curve; SHA-3 only if an MSP
/// definition asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageHash {
    Sha256,
    Sha3,
    /// The definition names another; such an MSP can be defined, but no signature of its members
    /// counts.
    Unknown,
}

impl MessageHash {
    /// The hash of a message. It is labelled SHA-256 for the signature routines, to which only its
    /// length and bits matter.
    pub(crate) fn digest(self, message: &[u8]) -> Result<Digest, SignatureError> {
        match self {
            Self::Sha256 => Ok(digest::digest(&digest::SHA256, message)),
            Self::Sha3 => {
                let hash = digest::digest(&digest::SHA3_256, message);
                Digest::import_less_safe(hash.as_ref(), &digest::SHA256)
                    .map_err(|_| SignatureError::Mismatch)
            }
            Self::Unknown => Err(SignatureError::UnknownHash),
        }
    }
}

/// A certificate's public key.
#[derive(Debug)]
pub(crate) enum PublicKey {
    Ecdsa {
        curve: Curve,
        key: ParsedPublicKey,
        frequency: Frequency,
    },
    /// The one curve that takes another way.
    EcdsaP224 {
        key: P224Key,
    },
    Ed25519 {
        key: ParsedPublicKey,
    },
    /// Signs certificates only: an RSA certificate authority may issue ECDSA certificates.
    Rsa {
        der: Vec<u8>,
    },
    /// What neither certificates nor identities can use.
    Other {
        algorithm: &'static str,
    },
}

impl PublicKey {
    /// The name of the algorithm, for messages.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Ecdsa { .. } | Self::EcdsaP224 { .. } => "ECDSA",
            Self::Ed25519 { .. } => "Ed25519",
            Self::Rsa { .. } => "RSA",
            Self::Other { algorithm } => algorithm,
        }
    }

    /// The uncompressed point of an ECDSA key, or the 32 bytes of an Ed25519 key.
    pub(crate) fn raw(&self) -> Option<&[u8]> {
        match self {
            Self::Ecdsa { key, .. } | Self::Ed25519 { key } => Some(key.as_ref()),
            Self::EcdsaP224 { key } => Some(key.point()),
            Self::Rsa { .. } | Self::Other { .. } => None,
        }
    }

    /// Reads the inside of a SubjectPublicKeyInfo. The error says what is wrong.
    pub(crate) fn read(mut info: Reader<'_>) -> Result<Self, &'static str> {
        let mut algorithm = info.enter(tag::SEQUENCE).ok_or("public key algorithm")?;
        let oid = algorithm.oid().ok_or("public key algorithm")?;
        if !algorithm.is_empty() {
            let mut parameters = algorithm;
            parameters.any().ok_or("public key parameters")?;
        }
        let bits = info.bit_string_right_aligned().ok_or("public key")?;
        match oid {
            oid::EC_PUBLIC_KEY => read_ecdsa(algorithm, &bits),
            oid::ED25519 => {
                if !algorithm.is_empty() {
                    return Err("parameters of the Ed25519 public key");
                }
                if bits.len() != 32 {
                    return Err("length of the Ed25519 public key");
                }
                let key = ParsedPublicKey::new(&signature::ED25519, &bits)
                    .map_err(|_| "Ed25519 public key")?;
                Ok(Self::Ed25519 { key })
            }
            oid::RSA => {
                if algorithm
                    .any()
                    .is_none_or(|null| null.whole != [tag::NULL, 0])
                {
                    return Err("parameters of the RSA public key");
                }
                let mut numbers = Reader::new(&bits)
                    .enter(tag::SEQUENCE)
                    .ok_or("RSA public key")?;
                numbers.positive_integer().ok_or("RSA modulus")?;
                numbers.positive_integer().ok_or("RSA public exponent")?;
                Ok(Self::Rsa { der: bits })
            }
            oid::X25519 => Ok(Self::Other {
                algorithm: "X25519",
            }),
            oid::DSA => Ok(Self::Other { algorithm: "DSA" }),
            _ => Ok(Self::Other {
                algorithm: "an unknown algorithm",
            }),
        }
    }

    /// Whether `signature` is this key's over `message`, by the rules of Fabric's
    /// `bccsp/sw`: ECDSA over the hash, (r, s) read leniently, s in the lower half; Ed25519 over
    /// the message itself.
    pub(crate) fn verify_message(
        &self,
        message: &[u8],
        signature: &[u8],
        hash: MessageHash,
    ) -> Result<(), SignatureError> {
        match self {
            Self::Ecdsa {
                curve,
                key,
                frequency,
            } => {
                let signature = read_low_s(*curve, signature)?;
                let hash = hash.digest(message)?;
                let is_confirmed = *curve == Curve::P256
                    && frequency.confirms(key.as_ref(), hash.as_ref(), &signature);
                if is_confirmed {
                    return Ok(());
                }
                key.verify_digest_sig(&hash, &signature.to_der())
                    .map_err(|_| SignatureError::Mismatch)
            }
            Self::EcdsaP224 { key } => {
                let signature = read_low_s(Curve::P224, signature)?;
                let is_valid = key.verify_hash(hash.digest(message)?.as_ref(), &signature);
                is_valid.then_some(()).ok_or(SignatureError::Mismatch)
            }
            Self::Ed25519 { key } => key
                .verify_sig(message, signature)
                .map_err(|_| SignatureError::Mismatch),
            Self::Rsa { .. } | Self::Other { .. } => Err(SignatureError::UnsupportedKey {
                algorithm: self.algorithm(),
            }),
        }
    }

    /// Whether `signature` is this key's over the to-be-signed part of a certificate or of a
    /// revocation list, by the rules of Go's `checkSignature`: DER taken strictly, high S allowed.
    pub(crate) fn verify_certificate(
        &self,
        algorithm: SignatureAlgorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> bool {
        if let Self::EcdsaP224 { key } = self {
            return key.verify_certificate(algorithm, signed, signature);
        }
        let Some(rule) = self.rule(algorithm) else {
            return false;
        };
        let key = match self {
            Self::Ecdsa { key, .. } | Self::Ed25519 { key } => key.as_ref(),
            Self::Rsa { der } => der,
            Self::EcdsaP224 { .. } | Self::Other { .. } => return false,
        };
        UnparsedPublicKey::new(rule, key)
            .verify(signed, signature)
            .is_ok()
    }

    fn rule(&self, algorithm: SignatureAlgorithm) -> Option<&'static dyn VerificationAlgorithm> {
        use SignatureAlgorithm as A;
        Some(match (self, algorithm) {
            (Self::Ecdsa { curve, .. }, algorithm) => return curve.rule(algorithm),
            (Self::Ed25519 { .. }, A::Ed25519) => &signature::ED25519,
            (Self::Rsa { .. }, A::RsaSha1) => {
                &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY
            }
            (Self::Rsa { .. }, A::RsaSha256) => {
                &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY
            }
            (Self::Rsa { .. }, A::RsaSha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::Rsa { .. }, A::RsaSha512) => {
                &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY
            }
            (Self::Rsa { .. }, A::RsaPssSha256) => &signature::RSA_PSS_2048_8192_SHA256,
            (Self::Rsa { .. }, A::RsaPssSha384) => &signature::RSA_PSS_2048_8192_SHA384,
            (Self::Rsa { .. }, A::RsaPssSha512) => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }
}

/// A signature over a message, whose S must be in the lower half.
fn read_low_s(curve: Curve, signature: &[u8]) -> Result<EcdsaSignature, SignatureError> {
    let signature = EcdsaSignature::parse_lenient(signature)?;
    if signature.is_low_s(curve) {
        Ok(signature)
    } else {
        Err(SignatureError::HighS)
    }
}

fn read_ecdsa(mut parameters: Reader<'_>, point: &[u8]) -> Result<PublicKey, &'static str> {
    let curve = match parameters.read(tag::OID).ok_or("ECDSA parameters")? {
        oid::P256 => Curve::P256,
        oid::P384 => Curve::P384,
        oid::P521 => Curve::P521,
        oid::P224 => Curve::P224,
        _ => return Err("elliptic curve"),
    };
    if point.first() != Some(&4) {
        return Err("elliptic curve point, which must be uncompressed");
    }
    let key = match curve.message_rule() {
        None => P224Key::new(point).map(|key| PublicKey::EcdsaP224 { key }),
        Some(rule) => {
            let key = ParsedPublicKey::new(rule, point).ok();
            key.map(|key| PublicKey::Ecdsa {
                curve,
                key,
                frequency: Frequency::default(),
            })
        }
    };
    key.ok_or("elliptic curve point, which is not on its curve")
}

/// How a certificate or a revocation list is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    EcdsaSha1,
    EcdsaSha256,
    EcdsaSha384,
    EcdsaSha512,
    Ed25519,
    RsaSha1,
    RsaSha256,
    RsaSha384,
    RsaSha512,
    RsaPssSha256,
    RsaPssSha384,
    RsaPssSha512,
    Unknown,
}

impl SignatureAlgorithm {
    /// Reads the inside of an AlgorithmIdentifier.
    pub(crate) fn read(mut identifier: Reader<'_>) -> Option<Self> {
        let oid = identifier.oid()?;
        let parameters = match identifier.is_empty() {
            true => &[][..],
            false => identifier.any()?.whole,
        };
        Some(Self::new(oid, parameters))
    }

    /// From an object identifier and its parameters, with tag and length.
    pub(crate) fn new(oid: &[u8], parameters: &[u8]) -> Self {
        match oid {
            oid::ECDSA_SHA1 => Self::EcdsaSha1,
            oid::ECDSA_SHA256 => Self::EcdsaSha256,
            oid::ECDSA_SHA384 => Self::EcdsaSha384,
            oid::ECDSA_SHA512 => Self::EcdsaSha512,
            oid::ED25519 if parameters.is_empty() => Self::Ed25519,
            oid::RSA_SHA1 | oid::RSA_SHA1_ISO => Self::RsaSha1,
            oid::RSA_SHA256 => Self::RsaSha256,
            oid::RSA_SHA384 => Self::RsaSha384,
            oid::RSA_SHA512 => Self::RsaSha512,
            oid::RSA_PSS => read_pss(parameters).unwrap_or(Self::Unknown),
            _ => Self::Unknown,
        }
    }

    /// Whether this is ECDSA, whose signatures have a low and a high form.
    pub(crate) fn is_ecdsa(self) -> bool {
        matches!(
            self,
            Self::EcdsaSha1 | Self::EcdsaSha256 | Self::EcdsaSha384 | Self::EcdsaSha512
        )
    }

    /// Whether the hash is SHA-1, which Go takes for revocation lists only.
    pub(crate) fn is_sha1(self) -> bool {
        matches!(self, Self::EcdsaSha1 | Self::RsaSha1)
    }
}

/// RSA-PSS in the three shapes that Go knows: one hash for both uses, salt as long as the hash.
fn read_pss(parameters: &[u8]) -> Option<SignatureAlgorithm> {
    fn algorithm<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
        let mut inside = reader.enter(tag::SEQUENCE)?;
        Some((inside.read(tag::OID)?, inside.rest()))
    }
    let null_or_none = |rest: &[u8]| rest.is_empty() || rest == [tag::NULL, 0];

    let mut fields = Reader::new(parameters).enter(tag::SEQUENCE)?;
    let (hash, hash_parameters) = algorithm(&mut fields.enter(tag::constructed(0))?)?;
    let (generator, generator_parameters) = algorithm(&mut fields.enter(tag::constructed(1))?)?;
    let salt = fields.enter(tag::constructed(2))?.small_integer()?;
    let trailer = match fields.optional(tag::constructed(3))? {
        Some(inside) => Reader::new(inside).small_integer()?,
        None => 1,
    };
    let (inner_hash, inner_parameters) = algorithm(&mut Reader::new(generator_parameters))?;
    if generator != oid::MGF1
        || inner_hash != hash
        || trailer != 1
        || !null_or_none(hash_parameters)
        || !null_or_none(inner_parameters)
    {
        return None;
    }
    match (hash, salt) {
        (oid::SHA256, 32) => Some(SignatureAlgorithm::RsaPssSha256),
        (oid::SHA384, 48) => Some(SignatureAlgorithm::RsaPssSha384),
        (oid::SHA512, 64) => Some(SignatureAlgorithm::RsaPssSha512),
        _ => None,
    }
}

/// Object identifiers, as the content bytes of their DER.
mod oid {
    pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    pub(super) const P224: &[u8] = &[0x2b, 0x81, 4, 0, 33];
    pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    pub(super) const P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
    pub(super) const P521: &[u8] = &[0x2b, 0x81, 4, 0, 35];
    pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 112];
    pub(super) const X25519: &[u8] = &[0x2b, 0x65, 110];
    pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    pub(super) const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1];

    pub(super) const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    pub(super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    pub(super) const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    pub(super) const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
    pub(super) const RSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
    pub(super) const RSA_SHA1_ISO: &[u8] = &[0x2b, 0x0e, 3, 2, 29];
    pub(super) const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    pub(super) const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
    pub(super) const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
    pub(super) const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    pub(super) const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
    pub(super) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    pub(super) const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
    pub(super) const SHA512: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];
}

/// The low-S form of a certificate's signature, if it is not in that form already.
pub(crate) fn low_s_form(
    signer: &PublicKey,
    signature: &[u8],
) -> Result<Option<Vec<u8>>, SignatureError> {
    let curve = match signer {
        PublicKey::Ecdsa { curve, .. } => *curve,
        PublicKey::EcdsaP224 { .. } => Curve::P224,
        _ => {
            return Err(SignatureError::UnsupportedKey {
                algorithm: signer.algorithm(),
            });
        }
    };
    let low = EcdsaSignature::parse_lenient(signature)?
        .into_low_s(curve)
        .to_der();
    Ok((low != signature).then_some(low))
}

/// An ECDSA signature, encoded as Go would encode it.
pub(crate) fn canonical_ecdsa(signature: &[u8]) -> Result<Vec<u8>, SignatureError> {
    Ok(EcdsaSignature::parse_lenient(signature)?.to_der())
}

/// Writes a bit string of whole bytes.
pub(crate) fn write_bit_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut content = Vec::with_capacity(bytes.len() + 1);
    content.push(0);
    content.extend_from_slice(bytes);
    der::write(out, tag::BIT_STRING, &content);
}
