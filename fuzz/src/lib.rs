//! Fuzz targets: one for each decoder that takes bytes of strangers, and one for the gossip core.
//!
//! Each is a plain function of bytes that must return, whatever they are: no panic, no endless loop,
//! no memory out of proportion. For most the bytes are what a stranger sends, or what a disk may hold. For
//! [`gossip_core()`] they are a script of what happens to a peer. What a crash may leave of a ledger is
//! tried by the tests of `crates/ledger`.
//!
//! The tests of this crate drive all targets with random bytes and with damaged recordings, on any
//! toolchain. To search for inputs by coverage (nightly Rust, a C++ compiler, `cargo install cargo-fuzz`), in
//! this folder:
//!
//! ```text
//! cargo run --example seeds -- corpus
//! cargo +nightly fuzz run --fuzz-dir . --features libfuzzer --sanitizer none TARGET corpus/TARGET -- \
//!     -max_total_time=300 -timeout=25 -rss_limit_mb=2048 -max_len=65536
//! ```
//!
//! The first command makes seeds of the recordings. There is no unsafe code for a sanitizer to watch, and
//! without one the search is twice as fast. An input that was found runs again as `TARGET FILE`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a target fails by a panic"
)]

mod blocks;
mod disk;
mod gossip_core;
mod identities;
mod peers;
mod requests;
mod seeds;
mod transactions;

use std::sync::{Arc, OnceLock};

use selvedge_channel::ChannelConfig;
use selvedge_protos::Message;
use selvedge_protos::common::Block;

pub use blocks::{
    block, config, envelope, genesis_block, policy_text, signature_policy, stored_block,
};
pub use disk::{block_file, index_rows, private_writes, snapshot, snapshot_info, state_rows};
pub use gossip_core::{gossip_core, play};
pub use identities::{certificate, identity, msp_definition, signature};
pub use peers::{deliver_response, gossip_message, handshake};
pub use requests::{core_yaml, deliver_request, log_format, log_spec, proposal, snapshot_request};
pub use seeds::seeds;
pub use transactions::{committed_transaction, definition, read_write_set, transaction};

/// A recorded genesis block of a raft channel, whose configuration the targets work with.
pub const GENESIS: &[u8] = include_bytes!("../../testdata/raft/orderer-blocks/000000.block");

/// A target: its name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("gossip_core", gossip_core),
    ("gossip_message", gossip_message),
    ("handshake", handshake),
    ("deliver_response", deliver_response),
    ("block", block),
    ("genesis_block", genesis_block),
    ("stored_block", stored_block),
    ("config", config),
    ("envelope", envelope),
    ("signature_policy", signature_policy),
    ("policy_text", policy_text),
    ("transaction", transaction),
    ("committed_transaction", committed_transaction),
    ("read_write_set", read_write_set),
    ("definition", definition),
    ("identity", identity),
    ("certificate", certificate),
    ("msp_definition", msp_definition),
    ("signature", signature),
    ("proposal", proposal),
    ("deliver_request", deliver_request),
    ("snapshot_request", snapshot_request),
    ("core_yaml", core_yaml),
    ("log_spec", log_spec),
    ("log_format", log_format),
    ("block_file", block_file),
    ("index_rows", index_rows),
    ("state_rows", state_rows),
    ("snapshot", snapshot),
    ("snapshot_info", snapshot_info),
    ("private_writes", private_writes),
];

fn channel() -> Option<&'static Arc<ChannelConfig>> {
    static CONFIG: OnceLock<Option<Arc<ChannelConfig>>> = OnceLock::new();
    let read = || {
        let block = Block::decode(GENESIS).ok()?;
        ChannelConfig::from_block(&block).ok().map(Arc::new)
    };
    CONFIG.get_or_init(read).as_ref()
}
