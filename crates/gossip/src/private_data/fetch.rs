//! Asking other peers for private data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::SliceRandom;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{PvtDataElement, RemotePvtDataRequest};

use super::{FetchPrivateData, Fetched, MissingItem};
use crate::channel::{ChannelContext, Channels};
use crate::counters::DropReason;
use crate::crypto::Identity;
use crate::event::{Action, FrameKind, Payload};
use crate::message::gossip_message;
use crate::types::{ChannelId, PkiId};

/// How long a response is waited for (Fabric: `responseWaitTime` of `privdata/pull.go`).
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches under way: for each channel one at commit and one in reconciliation.
const MAX_FETCHES: usize = 20_000;

/// Digests in one request.
const MAX_DIGESTS: usize = 1_000;

/// A fetch ends when it has gathered this much; the outside begins another for the rest.
const MAX_BYTES: usize = 128 << 20;

/// Fetches under way, and the requests that they wait for.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    under_way: BTreeMap<u64, Fetch>,
    requests: BTreeMap<u64, Request>,
    next_key: u64,
}

#[derive(Debug)]
struct Fetch {
    id: u64,
    channel: ChannelId,
    open: Vec<Open>,
    fetched: Fetched,
    bytes: usize,
    until: Instant,
}

/// An item that has not been found yet.
#[derive(Debug)]
struct Open {
    item: MissingItem,
    /// Who was asked for it.
    tried: BTreeSet<PkiId>,
    /// Nonce of the request that is under way.
    asked: Option<u64>,
}

#[derive(Debug)]
struct Request {
    fetch: u64,
    of: PkiId,
    until: Instant,
}

impl Fetches {
    pub(super) fn start<B: Payload>(
        &mut self,
        fetch: FetchPrivateData,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let open = fetch.items.into_iter().map(|item| Open {
            item,
            tried: BTreeSet::new(),
            asked: None,
        });
        let mut started = Fetch {
            id: fetch.id,
            channel: fetch.channel,
            open: open.collect(),
            fetched: Fetched::default(),
            bytes: 0,
            until: c.ctx.now + fetch.timeout,
        };
        if self.under_way.len() >= MAX_FETCHES {
            c.ctx.dropped(DropReason::PrivateDataFull);
            return started.finish(c);
        }
        let key = self.next_key;
        self.next_key = key.wrapping_add(1);
        self.under_way.insert(key, started);
        self.advance(key, channels, c);
    }

    /// A peer answers.
    pub(super) fn on_response<B: Payload>(
        &mut self,
        from: PkiId,
        nonce: u64,
        elements: Vec<PvtDataElement>,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let asked = self.requests.get(&nonce);
        let Some(key) = asked.filter(|it| it.of == from).map(|it| it.fetch) else {
            return c.ctx.dropped(DropReason::UnknownNonce);
        };
        if let Some(fetch) = self.under_way.get_mut(&key) {
            // Nobody was asked for more.
            for element in elements.into_iter().take(MAX_DIGESTS) {
                fetch.take(nonce, element, c);
            }
        }
        self.abandon(nonce);
        self.advance(key, channels, c);
    }

    /// Nothing will come of this peer.
    pub(super) fn unreachable<B: Payload>(
        &mut self,
        peer: &PkiId,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.abandon_where(|request| request.of == *peer, channels, c);
    }

    /// Gives up what takes too long.
    pub(super) fn wake<B: Payload>(
        &mut self,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let now = c.ctx.now;
        let over = self
            .under_way
            .iter()
            .filter(|(_, fetch)| fetch.until <= now);
        let over: Vec<u64> = over.map(|(key, _)| *key).collect();
        for key in over {
            self.finish(key, c);
        }
        self.abandon_where(|request| request.until <= now, channels, c);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let fetches = self.under_way.values().map(|fetch| fetch.until);
        let requests = self.requests.values().map(|request| request.until);
        fetches.chain(requests).min()
    }

    /// Gives up requests, and asks others instead.
    fn abandon_where<B: Payload>(
        &mut self,
        unwanted: impl Fn(&Request) -> bool,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let given_up = self.requests.iter().filter(|(_, it)| unwanted(it));
        let given_up: Vec<(u64, u64)> = given_up.map(|(nonce, it)| (*nonce, it.fetch)).collect();
        for (nonce, _) in &given_up {
            self.abandon(*nonce);
        }
        let keys: BTreeSet<u64> = given_up.into_iter().map(|(_, key)| key).collect();
        for key in keys {
            self.advance(key, channels, c);
        }
    }

    /// A request is over: what it did not bring may be asked of others.
    fn abandon(&mut self, nonce: u64) {
        let Some(request) = self.requests.remove(&nonce) else {
            return;
        };
        if let Some(fetch) = self.under_way.get_mut(&request.fetch) {
            for open in &mut fetch.open {
                open.asked.take_if(|asked| *asked == nonce);
            }
        }
    }

    /// Asks for what is neither here nor under way; ends the fetch if nothing is left to be done.
    fn advance<B: Payload>(
        &mut self,
        key: u64,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let Some(fetch) = self.under_way.get_mut(&key) else {
            return;
        };
        for (of, nonce) in fetch.ask(channels, c) {
            let request = Request {
                fetch: key,
                of,
                until: c.ctx.now + RESPONSE_TIMEOUT,
            };
            self.requests.insert(nonce, request);
        }
        if fetch.is_over() {
            self.finish(key, c);
        }
    }

    fn finish<B>(&mut self, key: u64, c: &mut ChannelContext<'_, '_, B>) {
        self.requests.retain(|_, request| request.fetch != key);
        if let Some(mut fetch) = self.under_way.remove(&key) {
            fetch.finish(c);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.under_way.len(), self.requests.len())
    }
}

/// A peer that may be asked.
struct Candidate<'a> {
    identity: &'a Identity,
    height: u64,
}

impl Fetch {
    fn is_over(&self) -> bool {
        self.bytes > MAX_BYTES || self.open.iter().all(|open| open.asked.is_none())
    }

    /// Takes an element of the response to the request `nonce`, if it is of what that one asked for.
    fn take<B>(&mut self, nonce: u64, element: PvtDataElement, c: &mut ChannelContext<'_, '_, B>) {
        let place = self.open.iter().position(|open| {
            open.asked == Some(nonce) && Some(&open.item.digest) == element.digest.as_ref()
        });
        let Some(place) = place else {
            return c.ctx.dropped(DropReason::Unsolicited);
        };
        // Without payload it says that there is none.
        if !element.payload.is_empty() {
            self.open.swap_remove(place);
            self.bytes = self.bytes.saturating_add(element.encoded_len());
            self.fetched.elements.push(element);
            c.ctx.counters.private_data.fetched += 1;
        }
    }

    /// Sends a request to each peer that can be asked for something. Returns whom, and the nonces.
    fn ask<B: Payload>(
        &mut self,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Vec<(PkiId, u64)> {
        if self.bytes > MAX_BYTES {
            return Vec::new();
        }
        let mut candidates: Vec<Candidate<'_>> = channels
            .get(&self.channel)
            .into_iter()
            .flat_map(|channel| channel.peers(c.view))
            .filter_map(|(member, height)| {
                let identity = c.ctx.identities.get(&member.pki_id())?;
                Some(Candidate { identity, height })
            })
            .collect();
        candidates.shuffle(c.ctx.rng);
        self.leave_out_purged(&candidates);
        let mut to_ask: BTreeMap<PkiId, Vec<usize>> = BTreeMap::new();
        for (place, open) in self.open.iter().enumerate() {
            if open.asked.is_none()
                && let Some(peer) = open.choose(&candidates)
            {
                to_ask.entry(peer).or_default().push(place);
            }
        }
        let mut asked = Vec::new();
        for (peer, places) in to_ask {
            for places in places.chunks(MAX_DIGESTS) {
                asked.push((peer, self.request(peer, places, c)));
            }
        }
        asked
    }

    fn request<B>(
        &mut self,
        of: PkiId,
        places: &[usize],
        c: &mut ChannelContext<'_, '_, B>,
    ) -> u64 {
        let nonce = c.ctx.rng.random();
        let mut digests = Vec::with_capacity(places.len());
        for place in places {
            if let Some(open) = self.open.get_mut(*place) {
                open.asked = Some(nonce);
                open.tried.insert(of);
                digests.push(open.item.digest.clone());
            }
        }
        c.ctx.counters.private_data.requested += 1;
        let content = Content::PrivateReq(RemotePvtDataRequest { digests });
        let message = gossip_message(Tag::ChanOnly, Some(&self.channel), nonce, content);
        c.send(of, &message, FrameKind::PrivateRequest);
        nonce
    }

    /// What one of those who may have it has purged is not asked for (Fabric: `getPurgedCollections`).
    fn leave_out_purged(&mut self, candidates: &[Candidate<'_>]) {
        let purged = &mut self.fetched.purged;
        self.open.retain(|open| {
            let Some(purged_at) = open.item.purged_at else {
                return true;
            };
            let may_have = |it: &&Candidate<'_>| {
                let item = &open.item;
                item.preferred.permits(it.identity) || item.eligible.permits(it.identity)
            };
            let gone = open.asked.is_none()
                && candidates
                    .iter()
                    .filter(may_have)
                    .any(|it| it.height >= purged_at);
            if gone {
                purged.push(open.item.digest.clone());
            }
            !gone
        });
    }

    /// Reports what was found; the rest is missing.
    fn finish<B>(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let mut fetched = std::mem::take(&mut self.fetched);
        let missing = self.open.drain(..).map(|open| open.item.digest);
        fetched.missing.extend(missing);
        (c.out)(Action::PrivateDataFetched {
            id: self.id,
            fetched,
        });
    }
}

impl Open {
    /// A preferred peer that was not asked yet, or else an eligible one.
    fn choose(&self, candidates: &[Candidate<'_>]) -> Option<PkiId> {
        let untried = || {
            candidates
                .iter()
                .map(|it| it.identity)
                .filter(|identity| !self.tried.contains(&identity.pki_id()))
        };
        let item = &self.item;
        untried()
            .find(|identity| item.preferred.permits(identity))
            .or_else(|| untried().find(|identity| item.eligible.permits(identity)))
            .map(Identity::pki_id)
    }
}
