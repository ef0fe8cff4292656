//! Numbers modulo the order of the group.

use crypto_bigint::{Odd, U256};
use fiat_crypto::p256_scalar_64::{
    fiat_p256_scalar_montgomery_domain_field_element as Montgomery, fiat_p256_scalar_mul,
    fiat_p256_scalar_non_montgomery_domain_field_element as Plain, fiat_p256_scalar_to_montgomery,
};

use super::{Limbs, limbs, subtract};
use crate::ecdsa::{P256_HALF_ORDER, P256_ORDER};

const ORDER: Limbs = limbs(&P256_ORDER);
const HALF: Limbs = limbs(&P256_HALF_ORDER);

/// A number below the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar(Limbs);

impl Scalar {
    /// One of the two numbers of a signature; `None` unless it is above zero and below the order.
    pub(super) fn new(number: Limbs) -> Option<Self> {
        let (_, is_below) = subtract(&number, &ORDER);
        (is_below && number != [0; 4]).then_some(Self(number))
    }

    /// A hash: less the order if it is not below it.
    pub(super) fn reduced(number: Limbs) -> Self {
        match subtract(&number, &ORDER) {
            (_, true) => Self(number),
            (difference, false) => Self(difference),
        }
    }

    pub(super) fn limbs(&self) -> &Limbs {
        &self.0
    }

    /// One over this; `None` for zero.
    pub(super) fn inverted(&self) -> Option<Self> {
        let order = Odd::new(U256::from_words(ORDER)).into_option()?;
        let inverse = U256::from_words(self.0).invert_odd_mod_vartime(&order);
        inverse
            .into_option()
            .map(|inverse| Self(inverse.to_words()))
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let mut montgomery = Montgomery([0; 4]);
        fiat_p256_scalar_to_montgomery(&mut montgomery, &Plain(self.0));
        let mut product = Montgomery([0; 4]);
        // Of a number in Montgomery's form and one that is not, the product is not.
        fiat_p256_scalar_mul(&mut product, &montgomery, &Montgomery(other.0));
        Self(product.0)
    }

    /// Digits between -127 and 128 to the base of 256, least significant first, and whether the
    /// number that they make is this one's negation.
    pub(super) fn digits(&self) -> ([i16; 32], bool) {
        // Of a number and its negation one is in the lower half, so that nothing is carried beyond
        // the last digit.
        let (_, is_negated) = subtract(&HALF, &self.0);
        let number = match is_negated {
            true => subtract(&ORDER, &self.0).0,
            false => self.0,
        };
        let mut digits = [0; 32];
        let bytes = number.iter().flat_map(|limb| limb.to_le_bytes());
        let mut carry = 0;
        for (digit, byte) in digits.iter_mut().zip(bytes) {
            *digit = i16::from(byte) + carry;
            carry = i16::from(*digit > 128);
            *digit -= carry << 8;
        }
        (digits, is_negated)
    }
}
