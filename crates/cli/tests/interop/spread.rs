//! How late blocks are: a measurement.

use super::fabric::Fabric;

/// To be written.
pub fn one_among_nine(_fabric: &Fabric) {}
