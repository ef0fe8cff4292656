//! ECDSA on P-256 for keys that sign often.
//!
//! A peer checks thousands of signatures a second, and nearly all are by a few keys: the endorsing
//! peers', the ordering nodes', the busy clients'. For such a key it pays to keep multiples of its
//! point in a [`Table`], as every library does for the generator: checking a signature is then 64
//! additions of points, without any doubling, where a check of an unknown key costs some 250 of
//! both.
//!
//! Only the walk over the tables is written here. The arithmetic in the field and modulo the order
//! is fiat-crypto's, generated together with its proof; inversion is crypto-bigint's. None of it
//! runs in constant time, since signatures, messages and public keys are no secrets.
//!
//! What is written here says only yes: [`Table::confirms`] is true for signatures that are valid.
//! Otherwise, also in the cases in which two equal points would have to be added, the library that
//! checks the signatures of all other keys decides. So a wrong "no" cannot come from here.

mod field;
mod frequent;
mod point;
mod scalar;
mod table;

#[cfg(test)]
mod tests;

pub(crate) use frequent::Frequency;
use table::Table;

/// Numbers of 256 bits, least significant limb first.
type Limbs = [u64; 4];

/// A number from its big-endian bytes.
const fn limbs(bytes: &[u8; 32]) -> Limbs {
    let mut limbs = [0; 4];
    let mut at = 0;
    while at < 32 {
        #[allow(clippy::indexing_slicing)] // at < 32
        {
            let limb = &mut limbs[3 - at / 8];
            *limb = *limb << 8 | bytes[at] as u64;
        }
        at += 1;
    }
    limbs
}

/// `a - b`, and whether it is below zero and has wrapped around.
fn subtract(a: &Limbs, b: &Limbs) -> (Limbs, bool) {
    let mut difference = [0; 4];
    let mut borrow = false;
    for ((out, &a), &b) in difference.iter_mut().zip(a).zip(b) {
        let (first, under) = a.overflowing_sub(b);
        let (second, under_again) = first.overflowing_sub(u64::from(borrow));
        *out = second;
        borrow = under || under_again;
    }
    (difference, borrow)
}
