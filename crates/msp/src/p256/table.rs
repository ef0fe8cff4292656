//! Multiples of a point, and the walk over them that checks a signature.

use std::sync::OnceLock;

use super::field::Element;
use super::limbs;
use super::point::{Affine, Jacobian, to_affine};
use super::scalar::Scalar;

/// How many digits to the base of 256 a scalar has.
const DIGITS: usize = 32;

/// A digit's largest value.
const MULTIPLES: usize = 128;

const GENERATOR: [u8; 65] = crate::ecdsa::digits(
    b"04\
      6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
      4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
);

/// For each digit of a scalar the multiples of a public key with which that digit can stand. Takes
/// 256 KiB and, to make, as long as some 50 checks of a signature without it.
pub(crate) struct Table {
    /// 1 to 128 times the key, then 1 to 128 times 256 times the key, and so on.
    multiples: Vec<Affine>,
}

impl Table {
    /// From a point of the curve, uncompressed. That it is on the curve is the caller's to know.
    pub(crate) fn new(point: &[u8]) -> Option<Self> {
        let (tag, coordinates) = point.split_first()?;
        let (x, y) = coordinates.split_first_chunk()?;
        let y = y.try_into().ok()?;
        let mut base = Affine {
            x: Element::new(&limbs(x)),
            y: Element::new(&limbs(y)),
        };
        let mut multiples = Vec::with_capacity(DIGITS * MULTIPLES);
        for _ in 0..DIGITS {
            let mut window = Vec::with_capacity(MULTIPLES + 1);
            let mut multiple = Jacobian::from(base);
            window.push(multiple);
            multiple = multiple.doubled();
            window.push(multiple);
            while window.len() < MULTIPLES {
                multiple = multiple.plus(&base)?;
                window.push(multiple);
            }
            window.push(multiple.doubled());
            let mut window = to_affine(&window);
            base = window.pop()?;
            multiples.append(&mut window);
        }
        (*tag == 4).then_some(Self { multiples })
    }

    /// Whether (r, s) is known to be the key's signature over something with this hash. If not, it
    /// may still be one.
    pub(crate) fn confirms(&self, hash: &[u8; 32], r: &[u8; 32], s: &[u8; 32]) -> bool {
        self.check(hash, r, s) == Some(true)
    }

    /// FIPS 186-5, 6.4.2. `None` where this cannot tell.
    fn check(&self, hash: &[u8; 32], r: &[u8; 32], s: &[u8; 32]) -> Option<bool> {
        let r = Scalar::new(limbs(r))?;
        let inverse = Scalar::new(limbs(s))?.inverted()?;
        let of_generator = Scalar::reduced(limbs(hash)).times(&inverse);
        let of_key = r.times(&inverse);

        let sum = generator()?.add_multiple(None, &of_generator)?;
        let sum = self.add_multiple(sum, &of_key)??;
        // x / z² = r. That x could be r plus the order, as one in 2^128 is, is left to the library.
        Some(sum.x == Element::new(r.limbs()).times(&sum.z.squared()))
    }

    /// `sum`, of which nothing is zero, plus a multiple of the key.
    fn add_multiple(&self, mut sum: Option<Jacobian>, by: &Scalar) -> Option<Option<Jacobian>> {
        let (digits, is_negated) = by.digits();
        for (digit, window) in digits.iter().zip(self.multiples.chunks_exact(MULTIPLES)) {
            let Some(position) = usize::from(digit.unsigned_abs()).checked_sub(1) else {
                continue;
            };
            let mut multiple = *window.get(position)?;
            if (*digit < 0) != is_negated {
                multiple = multiple.negated();
            }
            sum = Some(match sum {
                Some(sum) => sum.plus(&multiple)?,
                None => multiple.into(),
            });
        }
        Some(sum)
    }
}

fn generator() -> Option<&'static Table> {
    static TABLE: OnceLock<Option<Table>> = OnceLock::new();
    TABLE.get_or_init(|| Table::new(&GENERATOR)).as_ref()
}
