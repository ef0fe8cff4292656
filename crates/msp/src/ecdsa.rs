//! ECDSA signatures as pairs of numbers: Fabric's lenient reading of their DER, and the lower half
//! of S (`bccsp/utils/ecdsa.go`).

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, VerificationAlgorithm};

use crate::der::{self, Reader, tag, trim_zeros};
use crate::error::SignatureError;
use crate::key::SignatureAlgorithm;

/// The curves that Go's bccsp takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    P224,
    P256,
    P384,
    P521,
}

const P224_ORDER: [u8; 28] = digits(b"ffffffffffffffffffffffffffff16a2e0b8f03e13dd29455c5c2a3d");
pub(crate) const P256_ORDER: [u8; 32] =
    digits(b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
const P384_ORDER: [u8; 48] = digits(
    b"ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf\
      581a0db248b0a77aecec196accc52973",
);
const P521_ORDER: [u8; 66] = digits(
    b"01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa\
      51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
);
const P224_HALF_ORDER: [u8; 28] = half(P224_ORDER);
pub(crate) const P256_HALF_ORDER: [u8; 32] = half(P256_ORDER);
const P384_HALF_ORDER: [u8; 48] = half(P384_ORDER);
const P521_HALF_ORDER: [u8; 66] = half(P521_ORDER);

impl Curve {
    /// The order of the group, big-endian.
    fn order(self) -> &'static [u8] {
        match self {
            Self::P224 => &P224_ORDER,
            Self::P256 => &P256_ORDER,
            Self::P384 => &P384_ORDER,
            Self::P521 => &P521_ORDER,
        }
    }

    fn half_order(self) -> &'static [u8] {
        match self {
            Self::P224 => &P224_HALF_ORDER,
            Self::P256 => &P256_HALF_ORDER,
            Self::P384 => &P384_HALF_ORDER,
            Self::P521 => &P521_HALF_ORDER,
        }
    }

    /// The rule for messages, which are hashed to 256 bits whatever the curve. P-224 has none here,
    /// see [`crate::curve_p224`].
    pub(crate) fn message_rule(self) -> Option<&'static EcdsaVerificationAlgorithm> {
        match self {
            Self::P224 => None,
            Self::P256 => Some(&signature::ECDSA_P256_SHA256_ASN1),
            Self::P384 => Some(&signature::ECDSA_P384_SHA256_ASN1),
            Self::P521 => Some(&signature::ECDSA_P521_SHA256_ASN1),
        }
    }

    /// The rule for certificates that are signed in this way, if it is ECDSA.
    pub(crate) fn rule(
        self,
        algorithm: SignatureAlgorithm,
    ) -> Option<&'static dyn VerificationAlgorithm> {
        use SignatureAlgorithm::{EcdsaSha1, EcdsaSha256, EcdsaSha384, EcdsaSha512};
        Some(match (self, algorithm) {
            (Self::P256, EcdsaSha1) => &signature::ECDSA_P256_SHA1_ASN1,
            (Self::P256, EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Self::P256, EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (Self::P256, EcdsaSha512) => &signature::ECDSA_P256_SHA512_ASN1,
            (Self::P384, EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (Self::P384, EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Self::P384, EcdsaSha512) => &signature::ECDSA_P384_SHA512_ASN1,
            (Self::P521, EcdsaSha1) => &signature::ECDSA_P521_SHA1_ASN1,
            (Self::P521, EcdsaSha256) => &signature::ECDSA_P521_SHA256_ASN1,
            (Self::P521, EcdsaSha384) => &signature::ECDSA_P521_SHA384_ASN1,
            (Self::P521, EcdsaSha512) => &signature::ECDSA_P521_SHA512_ASN1,
            _ => return None,
        })
    }
}

/// The two numbers of a signature, big-endian without leading zeros, both above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EcdsaSignature {
    r: Vec<u8>,
    s: Vec<u8>,
}

impl EcdsaSignature {
    /// Reads a DER signature as Go's `asn1.Unmarshal` does: lengths and numbers must be in their
    /// shortest form, but bytes after the sequence, or in it after S, do not matter.
    pub(crate) fn parse_lenient(signature: &[u8]) -> Result<Self, SignatureError> {
        let mut numbers = Reader::new(signature)
            .enter(tag::SEQUENCE)
            .ok_or(SignatureError::Encoding)?;
        let mut positive = || {
            let mut at = numbers;
            numbers.integer().ok_or(SignatureError::Encoding)?;
            at.positive_integer().ok_or(SignatureError::NotPositive)
        };
        Ok(Self {
            r: positive()?.to_vec(),
            s: positive()?.to_vec(),
        })
    }

    /// From two numbers of equal length, one after the other.
    pub(crate) fn from_fixed(fixed: &[u8]) -> Self {
        let (r, s) = fixed.split_at(fixed.len() / 2);
        Self {
            r: trim_zeros(r).to_vec(),
            s: trim_zeros(s).to_vec(),
        }
    }

    /// R and S, big-endian without leading zeros.
    pub(crate) fn numbers(&self) -> (&[u8], &[u8]) {
        (&self.r, &self.s)
    }

    /// The one strict encoding.
    pub(crate) fn to_der(&self) -> Vec<u8> {
        let mut numbers = Vec::with_capacity(self.r.len() + self.s.len() + 6);
        der::write_positive_integer(&mut numbers, &self.r);
        der::write_positive_integer(&mut numbers, &self.s);
        let mut out = Vec::with_capacity(numbers.len() + 3);
        der::write(&mut out, tag::SEQUENCE, &numbers);
        out
    }

    /// Whether S is at most half the order.
    pub(crate) fn is_low_s(&self, curve: Curve) -> bool {
        let half = trim_zeros(curve.half_order());
        (self.s.len(), self.s.as_slice()) <= (half.len(), half)
    }

    /// The equally valid signature whose S is at most half the order. An S above the order stays:
    /// no such signature is valid.
    pub(crate) fn into_low_s(self, curve: Curve) -> Self {
        let order = curve.order();
        let significant = trim_zeros(order);
        if self.is_low_s(curve)
            || (self.s.len(), self.s.as_slice()) >= (significant.len(), significant)
        {
            return self;
        }
        let padding = std::iter::repeat_n(&0, order.len() - self.s.len());
        let s: Vec<&u8> = padding.chain(&self.s).collect();
        let mut difference = vec![0; order.len()];
        let mut borrow = false;
        for ((out, &a), &&b) in difference.iter_mut().zip(order).zip(&s).rev() {
            let (first, under) = a.overflowing_sub(b);
            let (second, under_again) = first.overflowing_sub(u8::from(borrow));
            *out = second;
            borrow = under || under_again;
        }
        Self {
            r: self.r,
            s: trim_zeros(&difference).to_vec(),
        }
    }
}

/// A number in `N` bytes; `None` if it does not fit.
pub(crate) fn left_padded<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut padded = [0; N];
    let end = padded.get_mut(N.checked_sub(digits.len())?..)?;
    end.copy_from_slice(digits);
    Some(padded)
}

/// Hexadecimal digits as bytes; white space is passed over.
pub(crate) const fn digits<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    let mut count = 0;
    while at < text.len() {
        #[allow(clippy::indexing_slicing)] // at < text.len()
        let digit = text[at];
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => panic!("not a hexadecimal digit"),
        };
        #[allow(clippy::indexing_slicing)] // fails to compile if the text is too long
        {
            bytes[count / 2] = bytes[count / 2] << 4 | value;
        }
        count += 1;
        at += 1;
    }
    assert!(count == 2 * N);
    bytes
}

/// Half of a number, rounded down.
const fn half<const N: usize>(number: [u8; N]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    let mut carry = 0;
    while at < N {
        #[allow(clippy::indexing_slicing)] // at < N
        {
            bytes[at] = carry << 7 | number[at] >> 1;
            carry = number[at] & 1;
        }
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signature(r: &[u8], s: &[u8]) -> EcdsaSignature {
        EcdsaSignature {
            r: r.to_vec(),
            s: s.to_vec(),
        }
    }

    #[test]
    fn half_of_the_order_is_low_and_one_more_is_high() {
        for curve in [Curve::P224, Curve::P256, Curve::P384, Curve::P521] {
            let half = trim_zeros(curve.half_order()).to_vec();
            let mut more = half.clone();
            *more.last_mut().unwrap() += 1;
            assert!(signature(&[1], &half).is_low_s(curve));
            assert!(!signature(&[1], &more).is_low_s(curve));
            // The order is odd, so that half and half + 1 are each other's complement.
            assert_eq!(signature(&[1], &more).into_low_s(curve).s, half);
        }
    }

    #[test]
    fn bytes_after_the_numbers_pass() {
        let plain = [0x30, 6, 2, 1, 5, 2, 1, 7];
        let expected = signature(&[5], &[7]);
        assert_eq!(EcdsaSignature::parse_lenient(&plain).unwrap(), expected);
        let after = [0x30, 6, 2, 1, 5, 2, 1, 7, 0xde, 0xad];
        assert_eq!(EcdsaSignature::parse_lenient(&after).unwrap(), expected);
        let inside = [0x30, 8, 2, 1, 5, 2, 1, 7, 0xde, 0xad];
        assert_eq!(EcdsaSignature::parse_lenient(&inside).unwrap(), expected);
        assert_eq!(expected.to_der(), plain);
    }

    #[test]
    fn other_looseness_does_not_pass() {
        for bytes in [
            &[][..],
            &[0x30, 0x81, 6, 2, 1, 5, 2, 1, 7],
            &[0x30, 7, 2, 2, 0, 5, 2, 1, 7],
            &[0x30, 3, 2, 1, 5],
            &[0x31, 6, 2, 1, 5, 2, 1, 7],
            &[0x30, 0x80, 2, 1, 5, 2, 1, 7, 0, 0],
        ] {
            assert_eq!(
                EcdsaSignature::parse_lenient(bytes),
                Err(SignatureError::Encoding),
                "{bytes:02x?}"
            );
        }
        for bytes in [
            [0x30, 6, 2, 1, 0, 2, 1, 7],
            [0x30, 6, 2, 1, 5, 2, 1, 0],
            [0x30, 6, 2, 1, 0x80, 2, 1, 7],
        ] {
            assert_eq!(
                EcdsaSignature::parse_lenient(&bytes),
                Err(SignatureError::NotPositive)
            );
        }
    }

    proptest! {
        #[test]
        fn lowering_twice_is_lowering_once(s in prop::array::uniform32(any::<u8>())) {
            prop_assume!(s.iter().any(|&digit| digit != 0));
            let low = signature(&[1], trim_zeros(&s)).into_low_s(Curve::P256);
            if trim_zeros(&s) < &P256_ORDER[..] || trim_zeros(&s).len() < 32 {
                prop_assert!(low.is_low_s(Curve::P256));
            }
            prop_assert_eq!(low.clone().into_low_s(Curve::P256), low);
        }

        #[test]
        fn junk_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(signature) = EcdsaSignature::parse_lenient(&bytes) {
                let der = signature.to_der();
                prop_assert_eq!(EcdsaSignature::parse_lenient(&der).unwrap(), signature);
            }
        }
    }
}
