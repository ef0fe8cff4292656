//! Fabric's gossip protocol as state machines without I/O.
//!
//! A peer of Hyperledger Fabric finds its fellow peers, learns their identities, and passes blocks on to
//! them, all by one protocol: gossip. This crate is that protocol, and nothing else: no sockets, no
//! clock, no runtime, no randomness of its own. It is told what happened ([`event::Event`]) and answers
//! with what is to be done ([`event::Action`]). The same code therefore runs in the node (`selvedge-peer`
//! feeds it from real streams) and, thousands of times over, in the simulator; with one seed, one run.
//!
//! ```text
//!            frames                    Message                      Action::Send
//! transport --------> message::decode ---------> Gossip::handle ------------------> transport
//!                     message::verify                 |   ^
//!                                     Action::VerifyBlock | Event::BlockVerified
//!                                     Action::Deliver v   | Event::Committed
//!                                                   channel, committer
//! ```
//!
//! # The rooms
//!
//! - [`types`], [`config`], [`crypto`], [`event`]: the words that everything is said in.
//! - [`message`]: from bytes to verified messages. The core takes nothing else from other peers.
//! - [`node`]: all of the following behind one interface, and who gets what is pushed.
//! - [`identity`]: PKI-ID to identity; [`cert_pull`]: how identities spread.
//! - [`membership`]: who is alive; bootstrap and anchor peers; what other organisations may know.
//! - [`channel`]: who is in a channel, and how its blocks get here and onward; with [`ordered_buffer`], the
//!   blocks that wait for an earlier one, and [`state_transfer`], ranges of blocks from one peer.
//! - [`election`]: who of an organisation fetches a channel's blocks from the ordering service.
//! - [`private_data`]: pushed with acknowledgement, fetched from those who have it.
//! - [`pull`]: hello, digest, request, update; used for identities and blocks.
//! - [`extension`]: what peers of this project do among themselves, and how they know each other.
//! - [`emitter`]: what is pushed, in batches; who gets it is decided when a batch leaves.
//! - [`message_store`]: the newest message of each author.
//! - [`admission`]: how much other peers may have this peer do at a time.
//! - [`send_queue`]: what waits for one peer, in which order it leaves, and what is dropped. Not a part of the core:
//!   the transport has one for each peer, and so has the simulator.
//! - [`context`]: what a state machine may use while it handles an event.
//! - [`counters`]: nothing is dropped without being counted here.
//!
//! # The shape of a state machine
//!
//! Each has functions that take what concerns it, a [`context::Context`] and `out`, the sink of actions; a
//! `wake` that does what is due; and a `next_deadline`. A wake-up too early does nothing. What a state
//! machine pushes goes to the emitter in the context ([`context::Context::emit`]), what it sends to one
//! peer goes to `out`. Whatever another peer can make grow has a bound, a stated policy when it is full,
//! and a counter. Maps are ordered, so that iteration never depends on anything but the run.
//!
//! Differences from Go's behaviour are listed, with reasons, in the documentation of each module.

pub mod admission;
pub mod cert_pull;
pub mod channel;
pub mod config;
pub mod context;
pub mod counters;
pub mod crypto;
pub mod election;
pub mod emitter;
pub mod event;
pub mod extension;
pub mod identity;
pub mod membership;
pub mod message;
pub mod message_store;
pub mod node;
pub mod occupancy;
pub mod ordered_buffer;
pub mod private_data;
pub mod pull;
pub mod send_queue;
pub mod state_transfer;
pub mod types;

#[cfg(test)]
mod testing;
