//! How much a node holds, against the most that it may hold.
//!
//! All that other peers can make grow has a bound, which its own module enforces. Here the sizes are read from
//! outside, for whoever watches a node or tests it: [`Gossip::occupancy`](crate::node::Gossip::occupancy) lists
//! them. Private data is left out; [`private_data`](crate::private_data) counts what is under way by itself.

/// How much is held of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Of what.
    pub of: &'static str,
    /// How much there is: a number of entries, or bytes where the name says so.
    pub held: usize,
    /// How much there may be.
    pub most: usize,
}

impl Occupancy {
    /// Whether there is more than there may be, which is a defect.
    pub fn is_exceeded(&self) -> bool {
        self.held > self.most
    }
}

/// Collects sizes.
#[derive(Debug, Default)]
pub(crate) struct Tally(pub(crate) Vec<Occupancy>);

impl Tally {
    pub(crate) fn note(&mut self, of: &'static str, held: usize, most: usize) {
        self.0.push(Occupancy { of, held, most });
    }
}
