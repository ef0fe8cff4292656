//! State transfer: ranges of blocks from peers that are ahead.
//!
//! A peer whose StateInfo says that its ledger is higher than ours is asked for a range of blocks; it
//! reads them from its ledger and answers with the same nonce. Unlike push and pull this crosses
//! organisations and reaches back to the first block. The blocks come as committed, with the
//! committing peer's metadata, so they are neither pushed on nor served for pull.
//!
//! [`Requester`] is the side that lacks blocks, [`Server`] the side that has them. Both only keep the
//! accounts: which ranges are needed is decided by the channel ([`crate::channel`]), blocks are read
//! and verified outside of the core.
//!
//! Source of the rules: Fabric gossip/state. `batchSize` 10 means up to 11 blocks, as Fabric's ranges
//! include both ends; a larger range is ignored by a Go peer.
//!
//! # Differences from Fabric, on purpose
//!
//! - Fabric looks for a gap every `checkInterval` (10 s). Here the channel asks as soon as it knows of
//!   one; the check remains as a last resort.
//! - Fabric requests one range after the other, each from a random peer. Here several ranges are under
//!   way at several peers, within what the ordered buffer takes.
//! - Fabric gives a range up after `maxRetries` and begins anew at the next check. Here the range is asked of
//!   other peers, those that failed last, for as long as anybody claims to have it.
//! - Fabric takes no answer that comes later than `responseTimeout`, and asks the next peer as often as before. Here
//!   it is taken for a hundred times as long, and while answers are late less and less is asked for: a peer on a
//!   slow link gets its blocks, if slowly, however many channels it has.
//! - Fabric takes a response from whoever knows the nonce; here it must come from the peer that was
//!   asked, and holds nothing but blocks that were asked for.
//! - Fabric queues up to 100 requests (`channelSize`) and drops more. Here the bound is the same, and
//!   there is one for each asker too.
//!
//! # Not here yet
//!
//! Private data in responses. What an asker is entitled to comes with the private data collections:
//! [`Server::response`] is the place to add it, and [`crate::message::StatePayload::private_data`]
//! carries what arrives.

mod requester;
mod server;

pub use requester::{MAX_REMEMBERED_REQUESTS, Requester, StateRequest};
pub use server::{Admitted, Server};
