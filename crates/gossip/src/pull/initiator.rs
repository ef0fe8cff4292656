//! The side that wants something.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::Timing;
use crate::counters::DropReason;
use crate::types::PkiId;

/// Closed exchanges whose updates are still taken.
pub(super) const MAX_OVERDUE: usize = 16;
/// Patience grows to so many times its beginning while nobody answers,
const LONGEST_BLIND_PATIENCE: u32 = 16;
/// and to so many while answers come, and take so long.
const LONGEST_PATIENCE: u32 = 60;

/// A request that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<I> {
    /// To whom.
    pub to: PkiId,
    /// With the nonce of the hello.
    pub nonce: u64,
    /// For these items.
    pub items: Vec<I>,
}

/// One hello and what came of it.
#[derive(Debug)]
struct Exchange<I> {
    nonce: u64,
    began: Instant,
    /// Whether the digest has come.
    answered: bool,
    /// Whether its offers were taken into a plan.
    planned: bool,
    /// Wanted items that the peer has and has not failed to send.
    offers: BTreeSet<I>,
    /// What it was ever asked for and has not sent, and since when.
    requested: BTreeMap<I, Instant>,
}

/// What is left of an exchange that was closed before all came.
#[derive(Debug)]
struct Overdue<I> {
    from: PkiId,
    nonce: u64,
    requested: BTreeMap<I, Instant>,
}

#[derive(Debug)]
struct Awaited {
    from: PkiId,
    /// When another source is asked.
    until: Instant,
}

/// Runs the exchanges of one kind of item: at most one with each peer, at most `max_exchanges` in all.
///
/// An update is taken whenever it comes, as in Fabric, until the items have come otherwise or [`MAX_OVERDUE`] later
/// exchanges were closed without theirs. And whoever is asked is given more time while updates are late: on a
/// narrow link, what is asked for again comes behind what is on its way already.
#[derive(Debug)]
pub struct Initiator<I> {
    timing: Timing,
    max_exchanges: usize,
    next_round: Instant,
    exchanges: BTreeMap<PkiId, Exchange<I>>,
    awaited: BTreeMap<I, Awaited>,
    overdue: VecDeque<Overdue<I>>,
    /// From a request to its update, lately at worst.
    answer_time: Duration,
    /// How long one peer may take for an update before another is asked for the same item.
    patience: Duration,
}

impl<I: Ord + Clone> Initiator<I> {
    /// No exchange yet; the first round is due after one `pullInterval`.
    pub fn new(timing: Timing, max_exchanges: usize, now: Instant) -> Self {
        Self {
            next_round: now + timing.interval,
            timing,
            max_exchanges,
            exchanges: BTreeMap::new(),
            awaited: BTreeMap::new(),
            overdue: VecDeque::new(),
            answer_time: Duration::ZERO,
            patience: timing.patience(),
        }
    }

    /// Whether a round is due. If it is, the next one is set, and the caller says hello to as many
    /// random peers as it is configured to.
    pub fn round_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next_round;
        if due {
            self.next_round = now + self.timing.interval;
        }
        due
    }

    /// The next `rounds` are left out.
    pub fn skip(&mut self, rounds: u32) {
        self.next_round += self.timing.interval * rounds;
    }

    /// The next round is due one interval from now at the latest.
    pub fn hasten(&mut self, now: Instant) {
        self.next_round = self.next_round.min(now + self.timing.interval);
    }

    /// Begins an exchange. The nonce is to be sent in a hello. `None` if there is one with this peer
    /// already, or too many in all.
    pub fn hello(&mut self, peer: PkiId, now: Instant, rng: &mut StdRng) -> Option<u64> {
        if self.exchanges.len() >= self.max_exchanges || self.exchanges.contains_key(&peer) {
            return None;
        }
        let nonce = rng.random();
        self.exchanges.insert(
            peer,
            Exchange {
                nonce,
                began: now,
                answered: false,
                planned: false,
                offers: BTreeSet::new(),
                requested: BTreeMap::new(),
            },
        );
        Some(nonce)
    }

    /// Whether a digest with this nonce from this peer would be taken.
    pub fn expects_digest(&self, from: &PkiId, nonce: u64, now: Instant) -> Result<(), DropReason> {
        let exchange = self.exchange(from, nonce)?;
        if exchange.answered {
            return Err(DropReason::Unsolicited);
        }
        if now > exchange.began + self.timing.digest_wait {
            return Err(DropReason::UnknownNonce);
        }
        Ok(())
    }

    /// A digest came; `wanted` are its items that the owner lacks. Returns the requests to send.
    pub fn on_digest(
        &mut self,
        from: PkiId,
        nonce: u64,
        wanted: impl IntoIterator<Item = I>,
        now: Instant,
        rng: &mut StdRng,
    ) -> Result<Vec<Request<I>>, DropReason> {
        self.expects_digest(&from, nonce, now)?;
        if let Some(exchange) = self.exchanges.get_mut(&from) {
            exchange.answered = true;
            exchange.offers.extend(wanted);
        }
        let requests = self.plan(now, rng);
        self.close_finished(now);
        Ok(requests)
    }

    /// An update came that contains `items`. Returns those of them that this peer was asked for.
    pub fn on_update(
        &mut self,
        from: PkiId,
        nonce: u64,
        items: impl IntoIterator<Item = I>,
        now: Instant,
    ) -> Result<BTreeSet<I>, DropReason> {
        let open = self.exchanges.get_mut(&from);
        let open = open.filter(|exchange| exchange.nonce == nonce);
        let overdue = |it: &&mut Overdue<I>| it.from == from && it.nonce == nonce;
        let requested = match open {
            Some(exchange) => &mut exchange.requested,
            None => match self.overdue.iter_mut().find(overdue) {
                Some(overdue) => &mut overdue.requested,
                None => return Err(DropReason::UnknownNonce),
            },
        };
        let mut asked_for = BTreeSet::new();
        let mut slowest = None;
        for item in items {
            if let Some(asked) = requested.remove(&item) {
                slowest = slowest.max(Some(now.saturating_duration_since(asked)));
                asked_for.insert(item);
            }
        }
        if let Some(exchange) = self.exchanges.get_mut(&from) {
            exchange.offers.retain(|item| !asked_for.contains(item));
        }
        for item in &asked_for {
            self.awaited.remove(item);
        }
        if let Some(sample) = slowest {
            self.answered_within(sample);
        }
        self.close_finished(now);
        Ok(asked_for)
    }

    fn answered_within(&mut self, sample: Duration) {
        self.answer_time = ((self.answer_time * 7 + sample) / 8).max(sample);
        let longest = self.timing.longest_patience(LONGEST_PATIENCE);
        self.patience = (self.answer_time * 3).clamp(self.timing.patience(), longest);
    }

    /// Whether updates take longer than they should: to ask for less at a time then is wise.
    pub fn is_slow(&self) -> bool {
        self.patience > self.timing.patience()
    }

    /// The owner has this item now, from wherever; nobody needs to be asked for it.
    pub fn satisfied(&mut self, item: &I, now: Instant) {
        self.awaited.remove(item);
        for exchange in self.exchanges.values_mut() {
            exchange.offers.remove(item);
            exchange.requested.remove(item);
        }
        for overdue in &mut self.overdue {
            overdue.requested.remove(item);
        }
        self.close_finished(now);
    }

    /// What this peer sent for `item` was no good: it is not asked for it again in this exchange.
    pub fn rejected(
        &mut self,
        from: &PkiId,
        item: &I,
        now: Instant,
        rng: &mut StdRng,
    ) -> Vec<Request<I>> {
        if let Some(exchange) = self.exchanges.get_mut(from) {
            exchange.offers.remove(item);
        }
        self.plan(now, rng)
    }

    /// Ends the exchange with a peer that is gone.
    pub fn forget(&mut self, peer: &PkiId) {
        self.exchanges.remove(peer);
        self.overdue.retain(|overdue| overdue.from != *peer);
        self.awaited.retain(|_, awaited| awaited.from != *peer);
    }

    /// Whether an exchange with this peer is open.
    pub fn is_open(&self, peer: &PkiId) -> bool {
        self.exchanges.contains_key(peer)
    }

    /// The number of open exchanges.
    pub fn open_exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// How many there may be.
    pub fn max_exchanges(&self) -> usize {
        self.max_exchanges
    }

    /// How many items were asked for and may still come.
    pub fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// Whether somebody was asked for this item and may still send it.
    pub fn awaits(&self, item: &I) -> bool {
        self.awaited.contains_key(item)
    }

    /// Lets timers run out. Returns the requests to send.
    pub fn on_wakeup(&mut self, now: Instant, rng: &mut StdRng) -> Vec<Request<I>> {
        let exchanges = &mut self.exchanges;
        let before = self.awaited.len();
        self.awaited.retain(|item, awaited| {
            let timely = now < awaited.until;
            if !timely && let Some(exchange) = exchanges.get_mut(&awaited.from) {
                exchange.offers.remove(item);
            }
            timely
        });
        if self.awaited.len() < before {
            let longest = self.timing.longest_patience(LONGEST_BLIND_PATIENCE);
            self.patience = self.patience.max((self.patience * 2).min(longest));
        }
        let requests = self.plan(now, rng);
        self.close_finished(now);
        requests
    }

    /// When [`Initiator::on_wakeup`] or a round is due.
    pub fn next_deadline(&self) -> Instant {
        let exchanges = self.exchanges.values().map(|e| self.deadline_of(e));
        let awaited = self.awaited.values().map(|awaited| awaited.until);
        exchanges.chain(awaited).fold(self.next_round, Instant::min)
    }

    fn exchange(&self, peer: &PkiId, nonce: u64) -> Result<&Exchange<I>, DropReason> {
        self.exchanges
            .get(peer)
            .filter(|exchange| exchange.nonce == nonce)
            .ok_or(DropReason::UnknownNonce)
    }

    /// When something happens to an exchange by itself.
    fn deadline_of(&self, exchange: &Exchange<I>) -> Instant {
        let digests_end = exchange.began + self.timing.digest_wait;
        if !exchange.answered || !exchange.planned {
            digests_end
        } else {
            digests_end + self.timing.response_wait
        }
    }

    /// Requests every offered item that nobody was asked for, each of one random peer that offers it.
    fn plan(&mut self, now: Instant, rng: &mut StdRng) -> Vec<Request<I>> {
        let timing = self.timing;
        let mut owners: BTreeMap<&I, Vec<PkiId>> = BTreeMap::new();
        for (peer, exchange) in &mut self.exchanges {
            let requests_from = if timing.collect_digests {
                exchange.began + timing.digest_wait
            } else {
                exchange.began
            };
            if !exchange.answered || now < requests_from {
                continue;
            }
            // Also if it is too late for a request: nothing is due any more but its end.
            exchange.planned = true;
            if now >= exchange.began + timing.request_wait {
                continue;
            }
            for item in &exchange.offers {
                if !self.awaited.contains_key(item) {
                    owners.entry(item).or_default().push(*peer);
                }
            }
        }
        let mut shares: BTreeMap<PkiId, Vec<I>> = BTreeMap::new();
        for (item, peers) in owners {
            if let Some(peer) = peers.choose(rng) {
                shares.entry(*peer).or_default().push(item.clone());
            }
        }
        let until = now + self.patience;
        let mut requests = Vec::with_capacity(shares.len());
        for (to, items) in shares {
            let Some(exchange) = self.exchanges.get_mut(&to) else {
                continue;
            };
            for item in &items {
                self.awaited
                    .insert(item.clone(), Awaited { from: to, until });
                exchange.requested.insert(item.clone(), now);
            }
            requests.push(Request {
                to,
                nonce: exchange.nonce,
                items,
            });
        }
        requests
    }

    /// Closes exchanges that have ended: answered, and nothing left to ask for or to wait for; not
    /// answered in time; or too old for a second request.
    fn close_finished(&mut self, now: Instant) {
        let timing = self.timing;
        let (overdue, awaited) = (&mut self.overdue, &mut self.awaited);
        overdue.retain(|overdue| !overdue.requested.is_empty());
        self.exchanges.retain(|peer, exchange| {
            let digests_end = exchange.began + timing.digest_wait;
            let open = if exchange.answered {
                let outstanding = !exchange.offers.is_empty() || !exchange.requested.is_empty();
                outstanding && now < digests_end + timing.response_wait
            } else {
                now < digests_end
            };
            if !open && !exchange.requested.is_empty() {
                overdue.push_back(Overdue {
                    from: *peer,
                    nonce: exchange.nonce,
                    requested: std::mem::take(&mut exchange.requested),
                });
            }
            open
        });
        let excess = overdue.len().saturating_sub(MAX_OVERDUE);
        for given_up in overdue.drain(..excess) {
            awaited.retain(|item, it| {
                it.from != given_up.from || !given_up.requested.contains_key(item)
            });
        }
    }
}
