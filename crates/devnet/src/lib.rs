//! Whole Fabric networks in one process, for development and tests.
//!
//! `selvedge devnet up` makes the key material of an ordering organisation and some peer
//! organisations, a genesis block, a development ordering node and real peers, all on loopback with
//! real TLS and real files; sends a steady flow of transactions; and watches how each block spreads.
//!
//! - [`Options`], [`Summary`]: the command.
//! - [`material`]: keys and certificates in cryptogen's folders.

mod error;
pub mod material;
mod options;
mod summary;

pub use error::DevnetError;
pub use options::{MAX_BLOCK_SIZE, MAX_ORGANISATIONS, MAX_PEERS, Options, Output};
pub use summary::{Arrivals, Delays, Quantiles, Summary};
