use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey,
};
use proptest::prelude::*;

use super::frequent::CHECKS_BEFORE_TABLE;
use super::*;
use crate::ecdsa::{EcdsaSignature, P256_ORDER};

type Number = [u8; 32];

/// A key, its table, and the library's view of it.
struct Signer {
    pair: EcdsaKeyPair,
    public: ParsedPublicKey,
    table: Table,
}

impl Signer {
    fn new(pair: EcdsaKeyPair) -> Self {
        let point = pair.public_key().as_ref();
        Self {
            public: ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).unwrap(),
            table: Table::new(point).unwrap(),
            pair,
        }
    }

    fn random() -> Self {
        Self::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// The key that is so many times the generator.
    fn small(number: u8) -> Self {
        let mut private = [0; 32];
        private[31] = number;
        let public = aws_lc_rs::agreement::PrivateKey::from_private_key(
            &aws_lc_rs::agreement::ECDH_P256,
            &private,
        );
        let public = public.unwrap().compute_public_key().unwrap();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &private,
            public.as_ref(),
        );
        Self::new(pair.unwrap())
    }

    fn sign(&self, message: &[u8]) -> (Number, Number) {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        (r.try_into().unwrap(), s.try_into().unwrap())
    }

    fn library_takes(&self, hash: &Number, r: &Number, s: &Number) -> bool {
        let hash = digest::Digest::import_less_safe(hash, &digest::SHA256).unwrap();
        let signature = [r.as_slice(), s].concat();
        self.public.verify_digest_sig(&hash, &signature).is_ok()
    }
}

fn hash(message: &[u8]) -> Number {
    let hash = digest::digest(&digest::SHA256, message);
    hash.as_ref().try_into().unwrap()
}

fn number(value: u8) -> Number {
    let mut number = [0; 32];
    number[31] = value;
    number
}

fn order_less(value: u8) -> Number {
    let mut number = P256_ORDER;
    number[31] -= value;
    number
}

#[test]
fn confirms_what_the_key_signed() {
    for _ in 0..4 {
        let signer = Signer::random();
        for message in 0..100u8 {
            let (r, s) = signer.sign(&[message]);
            assert!(signer.table.confirms(&hash(&[message]), &r, &s));
            assert!(!signer.table.confirms(&hash(&[message, 1]), &r, &s));
        }
    }
}

#[test]
fn does_not_confirm_another_keys_signature() {
    let signer = Signer::random();
    let other = Signer::random();
    let (r, s) = other.sign(b"message");
    assert!(!signer.table.confirms(&hash(b"message"), &r, &s));
}

/// Small multiples of the generator meet its own multiples on the walk, where points of the same
/// coordinates would have to be added.
#[test]
fn never_confirms_what_the_library_refuses_even_for_odd_keys_and_numbers() {
    let mut odd: Vec<Number> = (0..4).map(number).chain((0..4).map(order_less)).collect();
    odd.extend([[0xff; 32], number(128), number(129), number(255)]);
    odd.extend([P256_ORDER.map(|digit| digit / 2), [0x80; 32], [0x7f; 32]]);
    let (mut confirmed, mut taken) = (0, 0);
    for key in [1, 2, 3, 127, 128, 129, 255] {
        let signer = Signer::small(key);
        for hash in &odd {
            for r in &odd {
                for s in &odd {
                    let takes = signer.library_takes(hash, r, s);
                    let confirms = signer.table.confirms(hash, r, s);
                    assert!(takes || !confirms, "{key} {hash:x?} {r:x?} {s:x?}");
                    taken += usize::from(takes);
                    confirmed += usize::from(confirms);
                }
            }
        }
        for message in 0..100u8 {
            let (r, s) = signer.sign(&[message]);
            assert!(signer.table.confirms(&hash(&[message]), &r, &s));
        }
    }
    assert!(confirmed <= taken);
}

#[test]
fn a_hash_of_zero_leaves_the_generator_out() {
    // Of a hash of zero, u1 is zero: R = (r / s) Q, and any s gives a signature with r = x(Q * k).
    let signer = Signer::small(1);
    let point = signer.pair.public_key().as_ref();
    let x: Number = point[1..33].try_into().unwrap();
    // r = x(Q) and s = r give R = Q.
    assert!(signer.library_takes(&[0; 32], &x, &x));
    assert!(signer.table.confirms(&[0; 32], &x, &x));
    assert!(signer.table.confirms(&P256_ORDER, &x, &x));
}

#[test]
fn a_key_that_is_used_often_gets_a_table() {
    let signer = Signer::random();
    let point = signer.pair.public_key().as_ref();
    let frequency = Frequency::default();
    let confirms = |message: &[u8]| {
        let (r, s) = signer.sign(b"message");
        let signature = EcdsaSignature::from_fixed(&[r, s].concat());
        frequency.confirms(point, &hash(message), &signature)
    };
    let first = (0..1000).position(|_| confirms(b"message"));
    assert_eq!(first, Some(CHECKS_BEFORE_TABLE as usize - 1));
    assert!(confirms(b"message"));
    assert!(!confirms(b"another"));
}

#[test]
fn other_forms_of_points_have_no_table() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    assert!(Table::new(&point[..64]).is_none());
    assert!(Table::new(&[point, &[0]].concat()).is_none());
    assert!(Table::new(&[&[2], &point[1..]].concat()).is_none());
    assert!(Table::new(&[]).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_the_library(
        key in any::<[u8; 31]>(),
        message in any::<[u8; 8]>(),
        damage in prop::option::of((0usize..96, 1u8..)),
    ) {
        let private = [&[0][..], &key].concat();
        let Ok(private_key) = aws_lc_rs::agreement::PrivateKey::from_private_key(
            &aws_lc_rs::agreement::ECDH_P256,
            &private,
        ) else {
            return Ok(());
        };
        let public = private_key.compute_public_key().unwrap();
        let signer = Signer::new(EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &private,
            public.as_ref(),
        ).unwrap());
        let (r, s) = signer.sign(&message);
        let mut parts = [hash(&message), r, s].concat();
        if let Some((position, change)) = damage {
            parts[position] ^= change;
        }
        let part = |at: usize| -> Number { parts[at * 32..][..32].try_into().unwrap() };
        let (hash, r, s) = (part(0), part(1), part(2));
        prop_assert_eq!(
            signer.table.confirms(&hash, &r, &s),
            signer.library_takes(&hash, &r, &s),
            "hash, R and S {:02x?}", parts
        );
    }
}
