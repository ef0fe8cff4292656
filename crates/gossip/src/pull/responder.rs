//! The side that has something.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Timing;
use crate::counters::DropReason;
use crate::types::PkiId;

/// Live nonces of one peer. A Go peer has one; one that asks at once when it sees a gap, a few.
pub const NONCES_OF_A_PEER: usize = 16;
/// Requests for one nonce: the first, and those for items that another peer failed to send.
const REQUESTS_OF_A_NONCE: u8 = 4;

/// Remembers who said hello and may request.
///
/// At most 16 nonces a peer, each for `requestWaitTime`; the number of peers is that of the streams.
#[derive(Debug)]
pub struct Responder {
    request_wait: Duration,
    live: BTreeMap<PkiId, BTreeMap<u64, u8>>,
    /// In the order in which they expire.
    expiry: VecDeque<(Instant, PkiId, u64)>,
}

impl Responder {
    /// Nobody has said hello yet.
    pub fn new(timing: &Timing) -> Self {
        Self {
            request_wait: timing.request_wait,
            live: BTreeMap::new(),
            expiry: VecDeque::new(),
        }
    }

    /// A hello came. If it is accepted it is to be answered with a digest (unless there is nothing to
    /// offer), and requests with this nonce are good for `requestWaitTime`.
    pub fn on_hello(&mut self, from: PkiId, nonce: u64, now: Instant) -> Result<(), DropReason> {
        self.expire(now);
        let nonces = self.live.entry(from).or_default();
        if nonces.contains_key(&nonce) {
            return Err(DropReason::Unsolicited);
        }
        if nonces.len() >= NONCES_OF_A_PEER {
            return Err(DropReason::TooOften);
        }
        nonces.insert(nonce, 0);
        self.expiry
            .push_back((now + self.request_wait, from, nonce));
        Ok(())
    }

    /// A request came. If it is accepted it is to be answered with an update.
    pub fn on_request(&mut self, from: PkiId, nonce: u64, now: Instant) -> Result<(), DropReason> {
        self.expire(now);
        let requests = self
            .live
            .get_mut(&from)
            .and_then(|nonces| nonces.get_mut(&nonce))
            .ok_or(DropReason::UnknownNonce)?;
        if *requests >= REQUESTS_OF_A_NONCE {
            return Err(DropReason::Unsolicited);
        }
        *requests += 1;
        Ok(())
    }

    /// How many nonces there are; those that have expired since the last message count.
    pub fn nonces(&self) -> usize {
        self.expiry.len()
    }

    fn expire(&mut self, now: Instant) {
        while let Some((until, peer, nonce)) = self.expiry.front().copied() {
            if until > now {
                break;
            }
            self.expiry.pop_front();
            if let Some(nonces) = self.live.get_mut(&peer) {
                nonces.remove(&nonce);
                if nonces.is_empty() {
                    self.live.remove(&peer);
                }
            }
        }
    }
}
