//! Signing, and which signatures count.

use proptest::prelude::*;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519};

use super::support::{Authority, Definition, other_half, params};
use crate::ecdsa::{Curve, EcdsaSignature};
use crate::{Identity, MspVersion, SignatureError, SigningIdentity};

const ALGORITHMS: [(&rcgen::SignatureAlgorithm, Option<Curve>); 4] = [
    (&PKCS_ECDSA_P256_SHA256, Some(Curve::P256)),
    (&PKCS_ECDSA_P384_SHA384, Some(Curve::P384)),
    (&PKCS_ECDSA_P521_SHA512, Some(Curve::P521)),
    (&PKCS_ED25519, None),
];

fn signer(algorithm: &'static rcgen::SignatureAlgorithm, family: &str) -> SigningIdentity {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root])
        .with(|config| {
            let mut crypto = config.crypto_config.take().unwrap_or_default();
            crypto.signature_hash_family = family.to_owned();
            config.crypto_config = Some(crypto);
        })
        .msp();
    root.issue_for(params("x", &["peer"]), algorithm)
        .signing(&msp)
}

#[test]
fn what_is_signed_verifies_and_has_a_low_s() {
    for family in ["SHA2", "SHA3"] {
        for (algorithm, curve) in ALGORITHMS {
            let signer = signer(algorithm, family);
            for length in [0usize, 1, 100, 5000] {
                let message = vec![7; length];
                let signature = signer.sign(&message).unwrap();
                assert_eq!(signer.identity().verify(&message, &signature), Ok(()));
                assert_eq!(
                    signer.identity().verify(b"other", &signature),
                    Err(SignatureError::Mismatch)
                );
                if let Some(curve) = curve {
                    let parsed = EcdsaSignature::parse_lenient(&signature).unwrap();
                    assert!(parsed.is_low_s(curve));
                    assert_eq!(parsed.to_der(), signature);
                }
            }
        }
    }
}

#[test]
fn the_hash_is_sha_256_whatever_the_curve() {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_ASN1, UnparsedPublicKey,
    };
    for ((algorithm, _), rule) in ALGORITHMS.into_iter().zip([
        &ECDSA_P256_SHA256_ASN1,
        &ECDSA_P384_SHA256_ASN1,
        &ECDSA_P521_SHA256_ASN1,
    ]) {
        let signer = signer(algorithm, "SHA2");
        let signature = signer.sign(b"message").unwrap();
        let key = signer
            .identity()
            .credential()
            .certificate
            .key
            .raw()
            .unwrap();
        assert!(
            UnparsedPublicKey::new(rule, key)
                .verify(b"message", &signature)
                .is_ok()
        );
    }
}

fn p256() -> (Identity, Vec<u8>) {
    let signer = signer(&PKCS_ECDSA_P256_SHA256, "SHA2");
    let signature = signer.sign(b"message").unwrap().to_vec();
    (signer.identity().clone(), signature)
}

#[test]
fn a_high_s_is_refused_though_it_is_mathematically_valid() {
    let (identity, signature) = p256();
    let high = other_half(&signature);
    let key = &identity.credential().certificate.key;
    assert!(
        aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            key.raw().unwrap()
        )
        .verify(b"message", &high)
        .is_ok()
    );
    assert_eq!(
        identity.verify(b"message", &high),
        Err(SignatureError::HighS)
    );
    let lowered = EcdsaSignature::parse_lenient(&high)
        .unwrap()
        .into_low_s(Curve::P256);
    assert_eq!(lowered.to_der(), signature);
}

#[test]
fn bytes_after_a_signature_pass() {
    let (identity, mut signature) = p256();
    signature.extend(b"anything");
    assert_eq!(identity.verify(b"message", &signature), Ok(()));

    let (identity, signature) = p256();
    let mut inside = signature[2..].to_vec();
    inside.extend([4, 1, 9]);
    let mut longer = Vec::new();
    crate::der::write(&mut longer, crate::der::tag::SEQUENCE, &inside);
    assert_eq!(identity.verify(b"message", &longer), Ok(()));
}

#[test]
fn numbers_beyond_the_order_do_not_count() {
    let (identity, signature) = p256();
    let numbers = |r: &[u8], s: &[u8]| {
        let mut inside = Vec::new();
        crate::der::write_positive_integer(&mut inside, r);
        crate::der::write_positive_integer(&mut inside, s);
        let mut out = Vec::new();
        crate::der::write(&mut out, crate::der::tag::SEQUENCE, &inside);
        out
    };
    for (r, expected) in [
        (vec![0xff; 32], SignatureError::Mismatch),
        (vec![0xff; 200], SignatureError::Mismatch),
        (vec![0xff; 70_000], SignatureError::Mismatch),
    ] {
        assert_eq!(
            identity.verify(b"message", &numbers(&r, &[1])),
            Err(expected)
        );
    }
    assert_eq!(
        identity.verify(b"message", &numbers(&[1], &[0xff; 33])),
        Err(SignatureError::HighS)
    );
    assert_eq!(identity.verify(b"message", &signature), Ok(()));
    assert_eq!(
        identity.verify(b"message", &[]),
        Err(SignatureError::Encoding)
    );
}

#[test]
fn a_key_must_belong_to_its_certificate() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let (peer, other) = (root.peer(), root.peer());
    let sign = |keys: &str| {
        SigningIdentity::from_pem(&msp, peer.pem.as_bytes(), keys.as_bytes()).map(drop)
    };
    assert!(sign(&other.key_pem).is_err());
    assert!(sign("no key").is_err());
    assert!(sign(&format!("{}{}", other.key_pem, peer.key_pem)).is_ok());
}

#[test]
fn own_identities_are_serialized_as_go_does() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root])
        .set_up(MspVersion::V1_4_3)
        .unwrap();
    let peer = root.peer();
    let commented = format!("# a comment\n{}", peer.pem.replace('\n', "\r\n"));
    let signing =
        SigningIdentity::from_pem(&msp, commented.as_bytes(), peer.key_pem.as_bytes()).unwrap();
    let expected =
        super::support::serialize(signing.msp_id(), peer.pem.replace('\r', "").as_bytes());
    assert_eq!(signing.serialized(), &expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changed_signatures_do_not_verify(at in 0usize..64, bit in 0u8..8) {
        let (identity, mut signature) = p256();
        let at = at % signature.len();
        signature[at] ^= 1 << bit;
        let verified = identity.verify(b"message", &signature);
        prop_assert!(verified.is_err(), "{:02x?} by {:02x?}", signature, identity.serialized());
    }
}

proptest! {
    #[test]
    fn junk_does_no_harm(signature in prop::collection::vec(any::<u8>(), 0..100)) {
        thread_local! {
            static IDENTITIES: Vec<Identity> = ALGORITHMS
                .map(|(algorithm, _)| signer(algorithm, "SHA2").identity().clone())
                .to_vec();
        }
        IDENTITIES.with(|identities| {
            for identity in identities {
                assert!(identity.verify(b"message", &signature).is_err());
            }
        });
    }
}
