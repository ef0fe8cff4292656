//! Fetching blocks from ordering nodes.
//!
//! A leading peer asks an ordering node for the blocks of a channel, from its ledger's height on
//! and without end. Ordering nodes fail, stall and lie, so each block is verified before anything
//! else sees it, and whatever goes wrong means another node: the next one of a shuffled list, after
//! a pause that grows with the number of failures in a row.
//!
//! [`BlockFetcher`] does this for one channel in a task of its own. It yields blocks in order on a
//! bounded channel; while nobody takes them it does not read from the network.
//!
//! - What a valid next block is says a [`ChainVerifier`]; [`ChannelVerifier`] is the real one. It
//!   follows config blocks, so that each block is judged by the configuration before it.
//! - Where ordering nodes are says [`OrdererAddresses`]: the channel's configuration, changed by
//!   the overrides of core.yaml. Config blocks and [`BlockFetcher::update`] change it on the way.
//! - On BFT channels a single node may be malicious and hold back blocks. So headers, with the
//!   consenters' signatures, are asked of all other nodes; if they run ahead of the blocks for too
//!   long, the source of blocks is changed ([`Mode::Bft`]).
//!
//! Source of the rules: Fabric's `common/deliverclient`. Deliberate differences: the node that has
//! just failed is not asked again before the others; a block source that is slow only because this
//! peer does not take its blocks is not suspected of censorship; a BFT channel whose configuration
//! names no ordering node is retried, since [`BlockFetcher::update`] may bring one.

mod addresses;
mod censorship;
mod deliver;
mod error;
mod fetcher;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
mod options;
mod retry;
mod sources;
mod verifier;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use addresses::{AddressOverride, OrdererAddresses, OrdererOrg};
pub use error::FetchError;
pub use fetcher::{BlockFetcher, FetchStatus, Phase};
pub use options::{FetchOptions, Mode};
pub use verifier::{Accepted, Attested, ChainVerifier, ChannelVerifier, Refusal};
