//! Validation of recorded chains, and of blocks made from them.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used
)]

mod draft;
mod hostile;
mod memory;
mod recorded;
mod support;
mod undecidable;
