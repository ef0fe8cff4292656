//! Points of the curve y² = x³ - 3x + b. The formulas are those of Cohen, Miyaji and Ono
//! ("Efficient elliptic curve exponentiation using mixed coordinates", 1998).

use super::field::{self, Element};

/// A point by its coordinates.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub x: Element,
    pub y: Element,
}

/// The point (x / z², y / z³).
#[derive(Clone, Copy)]
pub(super) struct Jacobian {
    pub x: Element,
    pub y: Element,
    pub z: Element,
}

impl Affine {
    pub(super) fn negated(&self) -> Self {
        Self {
            x: self.x,
            y: self.y.negated(),
        }
    }
}

impl From<Affine> for Jacobian {
    fn from(Affine { x, y }: Affine) -> Self {
        let z = Element::one();
        Self { x, y, z }
    }
}

impl Jacobian {
    /// The sum; `None` if the two are the same point or each other's negation, for which other
    /// formulas hold.
    pub(super) fn plus(&self, other: &Affine) -> Option<Self> {
        let zz = self.z.squared();
        let h = other.x.times(&zz).minus(&self.x);
        if h.is_zero() {
            return None;
        }
        let r = other.y.times(&zz.times(&self.z)).minus(&self.y);
        let hh = h.squared();
        let hhh = hh.times(&h);
        let v = self.x.times(&hh);
        let x = r.squared().minus(&hhh).minus(&v).minus(&v);
        let y = r.times(&v.minus(&x)).minus(&self.y.times(&hhh));
        let z = self.z.times(&h);
        Some(Self { x, y, z })
    }

    /// Twice the point. No point of the curve is its own negation.
    pub(super) fn doubled(&self) -> Self {
        let double = |element: &Element| element.plus(element);
        let zz = self.z.squared();
        let yy = self.y.squared();
        // 3x² - 3z⁴
        let product = self.x.minus(&zz).times(&self.x.plus(&zz));
        let m = double(&product).plus(&product);
        let s = double(&double(&self.x.times(&yy)));
        let x = m.squared().minus(&double(&s));
        let yyyy = double(&double(&double(&yy.squared())));
        let y = m.times(&s.minus(&x)).minus(&yyyy);
        let z = double(&self.y.times(&self.z));
        Self { x, y, z }
    }
}

/// The coordinates of all points, at the price of one inversion.
pub(super) fn to_affine(points: &[Jacobian]) -> Vec<Affine> {
    let mut inverses: Vec<Element> = points.iter().map(|point| point.z).collect();
    field::invert_all(&mut inverses);
    points
        .iter()
        .zip(&inverses)
        .map(|(point, inverse)| {
            let square = inverse.squared();
            Affine {
                x: point.x.times(&square),
                y: point.y.times(&square.times(inverse)),
            }
        })
        .collect()
}
