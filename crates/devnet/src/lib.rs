//! Whole Fabric networks in one process, for development and tests.
//!
//! `selvedge devnet up` makes the key material of an ordering organisation and some peer
//! organisations, a genesis block, a development ordering node and real peers, all on loopback with
//! real TLS and real files; sends a steady flow of transactions; and watches how each block spreads.
//!
//! - [`Options`], [`up`], [`Summary`]: the command.
//! - [`material`]: keys and certificates in cryptogen's folders.
//! - [`genesis`]: the first block of a channel.
//! - [`orderer`]: the development ordering node.
//! - [`ports`]: ports that are held for nodes which do not listen yet.
//! - [`traffic`]: endorsed transactions at a steady rate.
//! - [`spread`]: how late blocks reach each peer.

#[cfg(test)]
mod config_update_tests;
mod error;
pub mod genesis;
pub mod material;
mod messages;
mod network;
mod options;
pub mod orderer;
pub mod ports;
pub mod spread;
mod summary;
#[cfg(test)]
mod testing;
pub mod traffic;
mod view;

pub use error::DevnetError;
pub use messages::signed_envelope;
pub use network::{CHANNEL, up};
pub use options::{MAX_BLOCK_SIZE, MAX_ORGANISATIONS, MAX_PEERS, Options, Output};
pub use summary::{Arrivals, Delays, Quantiles, Summary};
