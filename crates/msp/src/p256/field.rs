//! The field of the curve's coordinates.

use fiat_crypto::p256_64::{
    fiat_p256_add, fiat_p256_montgomery_domain_field_element as Montgomery, fiat_p256_mul,
    fiat_p256_non_montgomery_domain_field_element as Plain, fiat_p256_opp, fiat_p256_set_one,
    fiat_p256_square, fiat_p256_sub, fiat_p256_to_montgomery,
};

use super::Limbs;

/// The field's prime less two, big-endian: whatever is raised to it is inverted.
const PRIME_LESS_TWO: [u32; 8] = [
    0xffff_ffff,
    0x0000_0001,
    0,
    0,
    0,
    0xffff_ffff,
    0xffff_ffff,
    0xffff_fffd,
];

/// An element of the field, in the one form that it has, so that equal limbs are equal elements.
#[derive(Clone, Copy)]
pub(super) struct Element(Montgomery);

impl Element {
    pub(super) fn one() -> Self {
        compute(fiat_p256_set_one)
    }

    /// A number below the prime.
    pub(super) fn new(number: &Limbs) -> Self {
        let plain = Plain(*number);
        compute(|out| fiat_p256_to_montgomery(out, &plain))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.0 == [0; 4]
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        compute(|out| fiat_p256_add(out, &self.0, &other.0))
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        compute(|out| fiat_p256_sub(out, &self.0, &other.0))
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        compute(|out| fiat_p256_mul(out, &self.0, &other.0))
    }

    pub(super) fn squared(&self) -> Self {
        compute(|out| fiat_p256_square(out, &self.0))
    }

    pub(super) fn negated(&self) -> Self {
        compute(|out| fiat_p256_opp(out, &self.0))
    }

    /// One over this; zero for zero.
    fn inverted(&self) -> Self {
        let mut power = Self::one();
        for word in PRIME_LESS_TWO {
            for bit in (0..32).rev() {
                power = power.squared();
                if word >> bit & 1 == 1 {
                    power = power.times(self);
                }
            }
        }
        power
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

fn compute(operation: impl FnOnce(&mut Montgomery)) -> Element {
    let mut out = Montgomery([0; 4]);
    operation(&mut out);
    Element(out)
}

/// Inverts all elements, none of which is zero, at the price of three multiplications each and one
/// inversion (Montgomery's trick).
pub(super) fn invert_all(elements: &mut [Element]) {
    let mut product = Element::one();
    let products: Vec<Element> = elements
        .iter()
        .map(|element| {
            let before = product;
            product = product.times(element);
            before
        })
        .collect();
    let mut inverse = product.inverted();
    for (element, before) in elements.iter_mut().zip(&products).rev() {
        let inverted = inverse.times(before);
        inverse = inverse.times(element);
        *element = inverted;
    }
}
