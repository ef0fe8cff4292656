//! Block verification on recorded chains, tampered copies and random bytes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod mutations;
mod recorded;
mod support;
mod tampered;
