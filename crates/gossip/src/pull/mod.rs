//! The pull engine: hello, digest, request, update.
//!
//! A peer that wants what others have says hello with a nonce. The other answers with a digest, the
//! names of what it has and the asker may see. The asker requests what it lacks, the other answers
//! with an update. All four carry the same nonce.
//!
//! ```text
//!   initiator                              responder
//!      | -------- hello(nonce) ---------------> |   remembers the nonce for requestWaitTime
//!      | <------- digest(nonce, [3, 5, 8]) ---- |   nothing to offer: no answer
//!      | -------- request(nonce, [3, 8]) -----> |   only with a nonce that is still remembered
//!      | <------- update(nonce, [..., ...]) --- |
//! ```
//!
//! The two roles are two state machines, [`Initiator`] and [`Responder`]. They know nonces, names of
//! items and timers; the items themselves, their verification and the question who may see what
//! belong to whoever owns the machines ([`crate::channel`] for blocks, [`crate::cert_pull`] for
//! identities). They send nothing: what is to be sent is returned.
//!
//! Source of the rules: Fabric gossip/gossip/algo and gossip/gossip/pull.
//!
//! # Differences from Fabric, on purpose
//!
//! - **No waiting for slow peers.** Fabric collects digests for `digestWaitTime` (1 s) and then sends
//!   its requests. A Go peer answers a hello within a millisecond and takes the request at any time
//!   until `requestWaitTime`, so items are requested as soon as the first digest names them.
//!   [`Timing::collect_digests`] restores Fabric's rule.
//! - **A second source.** An item that was requested and did not come within a quarter of
//!   `responseWaitTime`, or in three times what updates took lately, is requested from another peer whose digest
//!   named it. Until then each item is asked of one peer only, as in Fabric. While nothing comes this time doubles.
//! - **Between the rounds.** An exchange can be started with a chosen peer at any time (a gap was
//!   seen), not only every `pullInterval` with random ones.
//! - **Only what was requested** is accepted from an update. Fabric hands on whatever it contains.
//! - **Nonces belong to a peer**, are few for each, and are good for few requests. In Fabric any peer
//!   can use any live nonce any number of times.

mod initiator;
mod messages;
mod responder;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use initiator::{Initiator, Request};
pub(crate) use messages::encode;
pub use responder::{NONCES_OF_A_PEER, Responder};

use crate::config::{Config, Rules};

/// The four timers of core.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// `pullInterval`: from one round to the next.
    pub interval: Duration,
    /// `digestWaitTime`: a digest that comes later is ignored.
    pub digest_wait: Duration,
    /// `requestWaitTime`: how long the responder remembers a nonce.
    pub request_wait: Duration,
    /// `responseWaitTime`: so long after `digest_wait` an exchange is closed. Updates are taken later too.
    pub response_wait: Duration,
    /// Fabric's rule: request nothing before `digest_wait` is over.
    pub collect_digests: bool,
}

impl Timing {
    /// The timers as configured.
    pub fn of(config: &Config) -> Self {
        Self {
            interval: config.pull_interval,
            digest_wait: config.digest_wait_time,
            request_wait: config.request_wait_time,
            response_wait: config.response_wait_time,
            collect_digests: config.rules == Rules::Fabric,
        }
    }

    /// How long one peer may take for an update before another is asked for the same item, at first.
    fn patience(&self) -> Duration {
        self.response_wait / 4
    }

    /// The most that this may grow to: `times` as much, but not at all under Fabric's rule, where each round asks anew.
    fn longest_patience(&self, times: u32) -> Duration {
        let times = if self.collect_digests { 1 } else { times };
        self.patience().saturating_mul(times)
    }
}
