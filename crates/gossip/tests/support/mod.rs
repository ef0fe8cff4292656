//! What the integration tests share.

#![allow(dead_code, missing_docs, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

pub mod forgery;
pub mod keys;
pub mod network;
pub mod recorded;
