//! A network of gossip cores on virtual time.
//!
//! [`run`] starts as many peers as asked for, lets an ordering service hand blocks to the leader of
//! each organisation, and reports how long the blocks took to reach everybody and at what price. The
//! peers are the very [`Gossip`](selvedge_gossip::node::Gossip) that the node runs; frames pass through
//! the same [send queues](selvedge_gossip::send_queue), decoding and verification. What is played is the world around them: the wires, the disks,
//! and the keys.
//!
//! One [`Options`] value, with its seed, gives one [`Report`], bit by bit, on any machine. Nothing waits:
//! an hour in the simulated world takes as long as its events take to compute.
//!
//! | module | what it plays |
//! | --- | --- |
//! | [`options`] | what to simulate |
//! | `world` | the peers, the event queue, time |
//! | `queue` | what happens when |
//! | `peer` | one peer: core, ledger, committer |
//! | `ordering` | the ordering service and the leaders |
//! | `troubles` | partitions, restarts, broken streams, narrow links |
//! | `bounds` | nothing: it looks whether a peer holds more than it may |
//! | `introductions` | who knows whom in the beginning |
//! | `sending` | the way of a frame |
//! | `outboxes` | what waits to be sent: the node's send queues, and streams |
//! | `wires` | latency, bandwidth, loss, partitions |
//! | `inboxes` | peers that take in little |
//! | `keys` | identities and signatures, cheap but not forgeable within the simulation |
//! | `block` | blocks that are small in memory and as large as asked for on the wires |
//! | `liars` | peers that lie |
//! | [`report`] | what came of it |
//! | [`curves`] | the same as a picture |
//!
//! # What is left out
//!
//! Handshakes cost nothing, and a node takes frames from its streams as fast as they come, unless it is slow as a
//! whole. A block takes a fixed time to be
//! verified and committed. In networks of more than [`options::FULL_DETAIL`] peers each peer knows a
//! random part of its organisation, and alive messages, StateInfo and identities, whose number grows with
//! the square of the network, are not exchanged but told, under either rules; see
//! [`Options::background`].

mod block;
mod bounds;
pub mod curves;
mod inboxes;
mod introductions;
mod keys;
mod liars;
pub mod options;
mod ordering;
mod outboxes;
mod peer;
mod queue;
pub mod report;
mod sending;
mod troubles;
mod wires;
mod world;

pub use options::{Options, Place};
pub use report::Report;
pub use selvedge_gossip::config::Rules;

/// Runs a simulation to its end.
///
/// Memory grows with peers times known members (about 1 kB for each pair), time with the number of
/// messages (a few microseconds each).
pub fn run(options: &Options) -> Result<Report, SimulationError> {
    options.check()?;
    Ok(world::World::new(options)?.run())
}

/// Why a simulation cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// An option makes no sense.
    #[error("{option} is {found}, must be {expected}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A peer refused its configuration.
    #[error(transparent)]
    Config(#[from] selvedge_gossip::config::ConfigError),
    /// A simulated key was refused.
    #[error("a simulated peer has no valid identity: {0}")]
    Identity(String),
}
