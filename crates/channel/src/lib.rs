//! From a config block to a channel's rules, and the check that every block of the channel passes.
//!
//! A channel's configuration travels in its blocks: a *config block* holds one transaction with the
//! whole configuration, and its rules count for the blocks after it. [`ChannelConfig`] reads it:
//! organisations with their MSPs and anchor peers, the ordering service, capabilities, ACLs and the
//! tree of policies. It is immutable; an update makes a new one, and
//! [`ChannelConfig::changes_since`] tells what is different.
//!
//! [`BlockVerifier`] checks blocks by one such configuration. What passes becomes a
//! [`VerifiedBlock`], which nothing else can make, so that code that takes one need not ask whether
//! somebody has checked it. The check, in this order:
//!
//! 1. the bytes parse as a block with a header, within bounds;
//! 2. number, and the hash of the block before, or where that is not known and for config blocks, the
//!    channel that the first transaction names;
//! 3. every transaction is well formed, so that the block cannot be cut differently under the same
//!    hash (CVE-2023-46132), and the data hash in the header is that of the transactions;
//! 4. the signatures of ordering nodes over header and metadata satisfy the policy
//!    `/Channel/Orderer/BlockValidation`.
//!
//! A peer begins a channel with [`BlockVerifier::trust_genesis`], and then goes block by block:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use selvedge_channel::{BlockError, BlockVerifier, ChannelConfig, ConfigError};
//! # fn run(genesis: bytes::Bytes, next: bytes::Bytes) -> Result<(), Box<dyn std::error::Error>> {
//! let (first, config) = BlockVerifier::trust_genesis(genesis)?;
//! let mut verifier = BlockVerifier::new(Arc::new(config));
//! let block = verifier.verify_next(next, &first.block_ref())?;
//! if block.is_config() {
//!     let config = ChannelConfig::from_block(block.block())?;
//!     verifier.config().check_successor(&config)?;
//!     verifier = BlockVerifier::new(Arc::new(config));
//! }
//! # Ok(()) }
//! ```
//!
//! How one configuration follows from another is in [`config_update`].
//!
//! Where Fabric has two checks, of blocks from gossip (`internal/peer/gossip`, message crypto
//! service) and from ordering nodes (`common/deliverclient`), there is one here. Deliberate
//! differences from Fabric:
//!
//! - a config block from an ordering node that names another channel is refused at once; Fabric takes it
//!   and stops at its configuration;
//! - transactions, metadata slots, signatures and the bytes under them are bounded
//!   ([`MAX_TRANSACTIONS`], [`MAX_METADATA_SLOTS`], [`MAX_SIGNATURES`], [`MAX_SIGNED_BYTES`]) far above
//!   what an ordering service makes;
//! - after a configuration without the policy `BlockValidation` no block is taken; a Fabric peer goes on by
//!   the configuration before, until it is started anew;
//! - a configuration with an unsupported capability, or without an application or orderer section,
//!   is an error, where a Fabric peer panics.
//!
//! Messages inside a block are read field by field as Go's protobuf library does it, not with prost,
//! where the verdict depends on it; see [`selvedge_protos::wire`].

mod block;
mod config;
mod config_block;
pub mod config_update;
mod envelope;
mod error;
mod schemas;
mod signatures;
mod verifier;

pub use block::{Attestation, BlockRef, MAX_METADATA_SLOTS, MAX_TRANSACTIONS, VerifiedBlock};
pub use config::{
    AnchorPeer, ApplicationConfig, ApplicationOrg, Capabilities, ChannelCapabilities,
    ChannelConfig, ConfigChanges, ConfigError, OrdererConfig, OrdererOrg, Part, check_channel_id,
};
pub use config_block::{config_from_block, last_config_number};
pub use envelope::{EnvelopeFault, HeaderFault};
pub use error::{BlockError, BlockFault, Hash};
pub use schemas::decode_config_envelope;
pub use selvedge_protos::wire::WireError;
pub use signatures::{MAX_SIGNATURES, MAX_SIGNED_BYTES};
pub use verifier::{BLOCK_VALIDATION, BlockVerifier};
