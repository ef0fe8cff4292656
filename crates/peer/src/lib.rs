//! The node: everything that makes the other crates one running peer.
//!
//! What the peer does is decided elsewhere: `selvedge-gossip` is the protocol between peers,
//! `selvedge-channel` judges blocks, `selvedge-ledger` keeps them, `selvedge-orderer-client` fetches
//! them, `selvedge-transport` carries everything. This crate reads core.yaml, starts these parts, ties
//! them together with tasks and bounded queues, answers clients, and shows operators what goes on.
//! It is the only crate that knows all the others.
//!
//! # The way of a block
//!
//! ```text
//!  ordering node                     other peers
//!       |                               |  ^
//!   [delivery]                    [transport streams]
//!   fetch, verify                       |  |
//!       |                       [gossip::Inbound] decode, verify messages; on threads if many
//!       | no further than the           |  |
//!       | height gossip knows           v  |
//!       +------------------------> [gossip::Driver] owns the protocol core; never waits
//!                                  |       |    ^
//!              blocks of others    |       |    |
//!        +-- to verify, reads -----+       |    |
//!        v   (gossip::Errands)             |    |
//!   blocking threads ----results-----------|----+
//!                                          |    |  height, new configuration, new channel
//!                              in order    v    |
//!                          [channel::CommitQueue]   [Conductor]
//!                              one a channel  --------> ^   |
//!                                   |        events     |   +--> TLS roots, delivery, metrics
//!                              block files, state       |
//!                                   |               [channel::Channels] joined or opened
//!                                   v
//!                        [services] deliver, endorser (cscc, qscc) --> clients
//! ```
//!
//! # Who waits for whom
//!
//! Each arrow is a bounded queue. The driver waits for nobody: what takes time it gives away, and a
//! block goes to the committer only when the core knows that there is room. Everybody may wait for the
//! driver, and committers may wait for the conductor, so nothing goes in a circle. Whatever reads or
//! writes the disk or checks many signatures runs on blocking threads.
//!
//! # Start and stop
//!
//! [`node::Node::start`] reads keys and settings, listens, opens every ledger, and only then serves
//! clients; a channel that cannot be opened stays closed and leaves the others alone.
//! [`node::Node::stop`] goes the other way: services, streams, the block being written, the rest. Every
//! task is counted, so that nothing of a stopped peer runs on and its data directory is free.
//!
//! A channel stops alone if its next block cannot be written or its configuration cannot be used. A
//! failure is never retried behind the operator's back: the log has it, `/healthz` names it, and a
//! restart tries again.
//!
//! # The rooms
//!
//! | module | subject |
//! | --- | --- |
//! | [`node`] | start and stop of the whole |
//! | [`config`] | core.yaml and `CORE_*` variables |
//! | [`channel`] | a channel: ledger, configuration in force, committer; all channels |
//! | [`commit`] | validation and ledger tied together |
//! | [`query`] | reading the ledger as of one block |
//! | [`conductor`] | the task that tells the others what happens in channels |
//! | [`delivery`] | blocks from ordering nodes, where this peer leads |
//! | [`gossip`] | the protocol core with the world around it |
//! | [`services`] | gRPC services for clients: endorser, deliver |
//! | [`scc`] | the system chaincodes that the endorser answers |
//! | [`access`] | who may call what |
//! | [`tls`] | the peer's TLS material, and whom it trusts by its channels |
//! | [`health`] | what makes a peer unhealthy |
//! | [`operations`] | the HTTP endpoint: health, version, log levels, metrics |
//! | [`metrics`] | what is counted, by Fabric's names |
//! | [`logging`] | Fabric's log format and specification |

pub mod access;
pub mod channel;
pub mod commit;
pub mod conductor;
pub mod config;
pub mod delivery;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod gossip;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod operations;
pub mod query;
pub mod scc;
pub mod services;
pub mod tls;
