//! Gossip in a running peer: the protocol core of `selvedge-gossip` with everything around it that it
//! leaves to others.
//!
//! ```text
//! transport --frames--> inbound (decode, verify; in parallel) --+
//! ordering nodes --blocks--------------------------------------+|
//! channels --opened, reconfigured, committed-----------------+ ||
//!                                                            v vv
//!                                     driver (owns the core, the only one to touch it)
//!                                        |            |              |
//!                  transport <--frames---+            |              +--> committers
//!                  block verification, reads of the ledger (on other threads, bounded)
//! ```

mod anchors;
mod block;
mod crypto;
mod dials;
mod driver;
mod errands;
mod identities;
mod inbound;
mod memory;
mod status;

pub use block::PeerBlock;
pub use crypto::{PeerCrypto, PeerSigner};
pub use driver::{Command, Driver, EVENT_QUEUE, Parts};
pub use errands::Errands;
pub use identities::IdentityTable;
pub use inbound::Inbound;
pub use status::{ChannelStatus, GossipStatus, PeerStatus};
