//! Block verification on recorded chains, tampered copies and random bytes.

mod mutations;
mod recorded;
mod support;
mod tampered;
