//! ECDSA on P-224, which Go has and aws-lc has not. Only checking: such a key cannot sign here.

use aws_lc_rs::digest;
use p224::ecdsa::signature::hazmat::PrehashVerifier;
use p224::ecdsa::{Signature, VerifyingKey};

use crate::ecdsa::{EcdsaSignature, left_padded};
use crate::key::SignatureAlgorithm;

/// Bytes of a coordinate and of each number of a signature.
const FIELD: usize = 28;

/// A public key.
#[derive(Debug)]
pub(crate) struct P224Key {
    key: VerifyingKey,
    /// The uncompressed point.
    point: Vec<u8>,
}

impl P224Key {
    /// From an uncompressed point; `None` if it is not on the curve.
    pub(crate) fn new(point: &[u8]) -> Option<Self> {
        Some(Self {
            key: VerifyingKey::from_sec1_bytes(point).ok()?,
            point: point.to_vec(),
        })
    }

    pub(crate) fn point(&self) -> &[u8] {
        &self.point
    }

    /// Whether the signature is this key's over something with this hash, of which the first 28 bytes
    /// count.
    pub(crate) fn verify_hash(&self, hash: &[u8], signature: &EcdsaSignature) -> bool {
        let (r, s) = signature.numbers();
        let number = |digits| left_padded::<FIELD>(digits).map(p224::FieldBytes::from);
        let (Some(r), Some(s)) = (number(r), number(s)) else {
            return false;
        };
        Signature::from_scalars(r, s)
            .is_ok_and(|signature| self.key.verify_prehash(hash, &signature).is_ok())
    }

    /// Whether the signature is this key's over a part of a certificate. It must be strict DER.
    pub(crate) fn verify_certificate(
        &self,
        algorithm: SignatureAlgorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> bool {
        let hash = match algorithm {
            SignatureAlgorithm::EcdsaSha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            SignatureAlgorithm::EcdsaSha256 => &digest::SHA256,
            SignatureAlgorithm::EcdsaSha384 => &digest::SHA384,
            SignatureAlgorithm::EcdsaSha512 => &digest::SHA512,
            _ => return false,
        };
        let hash = digest::digest(hash, signed);
        EcdsaSignature::parse_lenient(signature).is_ok_and(|numbers| {
            numbers.to_der() == signature && self.verify_hash(hash.as_ref(), &numbers)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::SignatureError;
    use crate::certificate::Certificate;
    use crate::key::MessageHash;

    /// Signed by itself with SHA-384; made with OpenSSL, as are the signatures.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBLjCB3KADAgECAgEHMAoGCCqGSM49BAMDMA8xDTALBgNVBAMMBHAyMjQwIBcN
MjQwMTAxMDAwMDAwWhgPMjEyNDAxMDEwMDAwMDBaMA8xDTALBgNVBAMMBHAyMjQw
TjAQBgcqhkjOPQIBBgUrgQQAIQM6AASErk5HPu4PvJD+JrL1E71qgvoGRqlha7n0
xrWCU7VtS2dyzhc8P4ZPI0v4OzNif1qR4w7UoUdxuqMyMDAwDwYDVR0TAQH/BAUw
AwEB/zAdBgNVHQ4EFgQU5AeskRN7cvgL4dvh1mx5Qaj9RjUwCgYIKoZIzj0EAwMD
QQAwPgIdAK7ifJUQwscdneHC60my9hknDPi0JRg1OmVcFKUCHQCEBQhfNRzhRLo5
vXLa5z0OqswIml9b9/Lu1awW
-----END CERTIFICATE-----
";
    /// Over `message`, with SHA-256.
    const LOW_S: &str = "303d021d00e02718922ae936f3390f0a19a9596a1e9005edecfa83b7b0fec0ed15021c60d\
                         f4e55d42eee315b908a84df6db4cbe5bc96b5d45d587040642382";
    const HIGH_S: &str = "303e021d00e02718922ae936f3390f0a19a9596a1e9005edecfa83b7b0fec0ed15021d009\
                          f20b1aa2bd111cea46f757b209161d6fafc59883f7fd0d51bf806bb";

    #[test]
    fn messages_and_certificates() {
        let certificate = Certificate::from_pem(CERTIFICATE.as_bytes()).unwrap();
        assert!(certificate.is_signed_by(&certificate));
        let verify = |message: &[u8], signature: &str| {
            let signature = hex::decode(signature).unwrap();
            let key = &certificate.key;
            key.verify_message(message, &signature, MessageHash::Sha256)
        };
        assert_eq!(verify(b"message", LOW_S), Ok(()));
        let after = format!("{LOW_S}00");
        assert_eq!(verify(b"message", &after), Ok(()));
        assert_eq!(verify(b"other", LOW_S), Err(SignatureError::Mismatch));
        assert_eq!(verify(b"message", HIGH_S), Err(SignatureError::HighS));
    }

    #[test]
    fn numbers_that_are_too_large() {
        let certificate = Certificate::from_pem(CERTIFICATE.as_bytes()).unwrap();
        // R of 29 bytes and of all ones.
        for r in [[1; 29].as_slice(), &[0xff; 28]] {
            let mut signature = vec![0x30, u8::try_from(r.len()).unwrap() + 6, 2];
            signature.extend([u8::try_from(r.len()).unwrap() + 1, 0]);
            signature.extend_from_slice(r);
            if r.first() == Some(&1) {
                signature.remove(4);
                signature[3] -= 1;
                signature[1] -= 1;
            }
            signature.extend([2, 1, 1]);
            let verdict =
                certificate
                    .key
                    .verify_message(b"message", &signature, MessageHash::Sha256);
            assert_eq!(verdict, Err(SignatureError::Mismatch), "{signature:02x?}");
        }
    }
}
