//! Fabric's wire messages, and the few computations that belong to their bytes.
//!
//! The messages are generated from `proto/` at the root of the repository by `cargo xtask codegen`
//! and committed. Field names and numbers are Fabric's. Bytes fields are [`bytes::Bytes`], which
//! share the buffer that they were decoded from, and maps are ordered, so that encoding is
//! deterministic.
//!
//! prost forgets unknown fields. Whatever is hashed, signed, stored or forwarded must therefore be
//! kept as the bytes that arrived, never decoded and encoded again.
//!
//! - [`block`]: header bytes and hashes, data hash, metadata slots.
//! - [`envelope`]: payloads, headers, transaction ids, signed envelopes.
//! - [`identity`]: serialized identities and PKI-IDs.
//! - [`wire`], [`schema`]: reading messages exactly as Go's protobuf library reads them.

#[allow(missing_docs, clippy::all, clippy::pedantic, rust_2018_idioms)]
mod generated;

pub mod block;
pub mod envelope;
pub mod identity;
pub mod schema;
pub mod transaction;
pub mod wire;

pub use generated::*;
pub use prost::{DecodeError, Message};

/// SHA-256, the hash that Fabric uses for everything, whatever the curve of the keys.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    sha256_of_parts([data])
}

/// SHA-256 over the concatenation of `parts`, without concatenating them.
pub fn sha256_of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
