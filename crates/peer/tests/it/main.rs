//! The peer through its public interface, with real keys, files, servers and connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod channels;
mod committer;
mod crypto;
mod deliver;
mod endorser;
mod node;
mod ordering;
mod power_cut;
mod renewal;
mod revocation;
mod snapshot;
mod support;
mod validation;
