//! What the integration tests share.

#![allow(dead_code, missing_docs, reason = "each test binary uses a part of it")]

pub mod keys;
pub mod network;
pub mod recorded;
