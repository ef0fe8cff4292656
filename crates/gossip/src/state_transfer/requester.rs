//! The side that lacks blocks.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::config::{Config, Rules};
use crate::counters::DropReason;
use crate::types::PkiId;

/// Requests under way in all. Four ranges of eleven are a little more than Fabric's buffer holds.
const MAX_REQUESTS: usize = 4;
/// Requests that are remembered; of the late ones the oldest is forgotten for a new one.
pub const MAX_REMEMBERED_REQUESTS: usize = 4 * MAX_REQUESTS;
/// For how many times `responseTimeout` an answer is taken.
const LATE_ANSWERS: u32 = 100;
/// How many times `responseTimeout` an answer may take before others are asked, however long answers took lately.
const LONGEST_PATIENCE: u32 = 5;
/// That is doubled so often, at most, while answers are late,
const MAX_DOUBLINGS: u32 = 5;
/// but not beyond so many times `responseTimeout`.
const LONGEST_DOUBLED: u32 = 8;
/// Requests under way at one peer: one that it works on, one that waits there.
const MAX_REQUESTS_OF_A_PEER: usize = 2;

/// A request that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRequest {
    /// To whom.
    pub to: PkiId,
    /// Comes back in the response.
    pub nonce: u64,
    /// Both ends included.
    pub blocks: RangeInclusive<u64>,
}

#[derive(Debug)]
struct UnderWay {
    of: PkiId,
    blocks: RangeInclusive<u64>,
    asked: Instant,
    /// When others may be asked for the same; `None`: that moment is over.
    late: Option<Instant>,
    /// Until then it counts as work of the peer that was asked.
    busy: Instant,
    /// When an answer is no longer taken.
    until: Instant,
}

/// Keeps account of requests under way. Memory: a few of them.
///
/// A request that is not answered in a quarter of `responseTimeout`, or in three times what answers took lately,
/// is late: its answer is still taken, but others may be asked for the same blocks. So who claims a ledger that
/// it does not have, or has not the time, holds up nobody for long.
///
/// Answers may be late because our own link is slow, and then asking others makes it worse: what they send
/// comes after what is on its way. So answers are taken for long, and as in TCP a late request halves how many may be
/// under way and doubles how long an answer may take; one in time adds a request and takes a doubling back.
/// Without that, a link on which answers take longer than `responseTimeout` would be full of answers that nobody
/// takes, for ever.
#[derive(Debug)]
pub struct Requester {
    batch_size: u64,
    response_timeout: Duration,
    patience: Duration,
    longest_patience: Duration,
    late_answers: Duration,
    /// From a request to its answer, lately at worst.
    answer_time: Duration,
    max_requests: usize,
    /// As many of them as may be under way now.
    permitted: usize,
    /// How often patience is doubled.
    doublings: u32,
    /// When that changed last: of requests under way at once only one counts.
    doubled: Option<Instant>,
    under_way: BTreeMap<u64, UnderWay>,
}

impl Requester {
    /// Nothing is under way.
    pub fn new(config: &Config) -> Self {
        let response_timeout = config.state.response_timeout;
        let (max_requests, patience, longest_patience, late_answers) = match config.rules {
            Rules::Selvedge => (
                MAX_REQUESTS,
                response_timeout / 4,
                response_timeout * LONGEST_PATIENCE,
                response_timeout * LATE_ANSWERS,
            ),
            Rules::Fabric => (1, response_timeout, response_timeout, response_timeout),
        };
        Self {
            batch_size: config.state.batch_size,
            response_timeout,
            patience,
            longest_patience,
            late_answers,
            answer_time: Duration::ZERO,
            max_requests,
            permitted: max_requests,
            doublings: 0,
            doubled: None,
            under_way: BTreeMap::new(),
        }
    }

    /// Whether this block is part of a request under way that is not late.
    pub fn awaits(&self, number: u64) -> bool {
        self.timely()
            .any(|request| request.blocks.contains(&number))
    }

    fn timely(&self) -> impl Iterator<Item = &UnderWay> {
        self.under_way
            .values()
            .filter(|request| request.late.is_some())
    }

    /// How many requests may still be answered.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Plans requests for `wanted` (ascending numbers, none of them awaited) from `sources`: peers and
    /// the heights of their ledgers. Each range goes to a peer that has all of it, among these to one
    /// with the fewest requests under way.
    pub fn plan(
        &mut self,
        wanted: impl IntoIterator<Item = u64>,
        sources: &[(PkiId, u64)],
        now: Instant,
        rng: &mut StdRng,
    ) -> Vec<StateRequest> {
        let mut requests = Vec::new();
        let patience = self.patience.max(self.answer_time * 3);
        let patience = patience.min(self.longest_patience) * 2_u32.pow(self.doublings);
        let late = now + patience.min(self.response_timeout * LONGEST_DOUBLED);
        let mut room = self.permitted.saturating_sub(self.timely().count());
        for range in ranges(wanted, self.batch_size) {
            if room == 0 {
                break;
            }
            let Some((to, height)) = self.choose(&range, sources, now, rng) else {
                continue;
            };
            let end = (*range.end()).min(height.saturating_sub(1));
            let blocks = *range.start()..=end;
            let nonce = rng.random();
            let request = UnderWay {
                of: to,
                blocks: blocks.clone(),
                asked: now,
                late: Some(late),
                busy: now + self.response_timeout,
                until: now + self.late_answers,
            };
            self.forget_oldest();
            self.under_way.insert(nonce, request);
            room -= 1;
            requests.push(StateRequest { to, nonce, blocks });
        }
        requests
    }

    /// A response came. Returns the range that this peer was asked for.
    pub fn on_response(
        &mut self,
        from: &PkiId,
        nonce: u64,
        now: Instant,
    ) -> Result<RangeInclusive<u64>, DropReason> {
        match self.under_way.get(&nonce) {
            Some(request) if request.of == *from => {}
            _ => return Err(DropReason::UnknownNonce),
        }
        let request = self.under_way.remove(&nonce);
        let request = request.ok_or(DropReason::UnknownNonce)?;
        let sample = now.saturating_duration_since(request.asked);
        self.answer_time = ((self.answer_time * 7 + sample) / 8).max(sample);
        if request.late.is_some() {
            self.permitted = self.max_requests.min(self.permitted + 1);
            self.doublings = self.doublings.saturating_sub(1);
        }
        Ok(request.blocks)
    }

    /// Lets time pass. Returns the peers that are late with an answer, or did not answer at all.
    pub fn expire(&mut self, now: Instant) -> Vec<PkiId> {
        let mut slow = Vec::new();
        let mut newest = None;
        self.under_way.retain(|_, request| {
            if request.late.is_some_and(|late| late <= now) {
                request.late = None;
                slow.push(request.of);
                newest = newest.max(Some(request.asked));
            }
            now < request.until
        });
        if newest.is_some() && newest >= self.doubled && self.max_requests > 1 {
            self.doubled = Some(now);
            self.doublings = MAX_DOUBLINGS.min(self.doublings + 1);
            self.permitted = (self.permitted / 2).max(1);
        }
        slow
    }

    /// Makes room for a request. Those that are not late are fewer than what is remembered.
    fn forget_oldest(&mut self) {
        if self.under_way.len() < MAX_REMEMBERED_REQUESTS {
            return;
        }
        let late = self
            .under_way
            .iter()
            .filter(|(_, request)| request.late.is_none());
        let oldest = late.min_by_key(|(_, request)| request.asked);
        if let Some(nonce) = oldest.map(|(nonce, _)| *nonce) {
            self.under_way.remove(&nonce);
        }
    }

    /// Gives up the requests to a peer that is gone.
    pub fn forget(&mut self, peer: &PkiId) {
        self.under_way.retain(|_, request| request.of != *peer);
    }

    /// When [`Requester::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let next = |request: &UnderWay| request.late.unwrap_or(request.until);
        self.under_way.values().map(next).min()
    }

    fn load(&self, peer: &PkiId, now: Instant) -> usize {
        self.under_way
            .values()
            .filter(|request| request.of == *peer && now < request.busy)
            .count()
    }

    fn choose(
        &self,
        range: &RangeInclusive<u64>,
        sources: &[(PkiId, u64)],
        now: Instant,
        rng: &mut StdRng,
    ) -> Option<(PkiId, u64)> {
        let load = |peer: &PkiId| self.load(peer, now);
        let rank = |(peer, height): &&(PkiId, u64)| (height <= range.end(), load(peer));
        let able: Vec<&(PkiId, u64)> = sources
            .iter()
            .filter(|(peer, height)| height > range.start() && load(peer) < MAX_REQUESTS_OF_A_PEER)
            .collect();
        let best = able.iter().map(rank).min()?;
        let chosen: Vec<_> = able.into_iter().filter(|it| rank(it) == best).collect();
        chosen.choose(rng).map(|source| **source)
    }
}

/// Cuts ascending numbers into ranges without holes, none longer than `batch_size + 1`.
fn ranges(
    wanted: impl IntoIterator<Item = u64>,
    batch_size: u64,
) -> impl Iterator<Item = RangeInclusive<u64>> {
    let mut wanted = wanted.into_iter().peekable();
    std::iter::from_fn(move || {
        let start = wanted.next()?;
        let mut end = start;
        while end - start < batch_size
            && let Some(next) = wanted.next_if(|next| *next == end.wrapping_add(1))
        {
            end = next;
        }
        Some(start..=end)
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::testing::start;

    fn peer(byte: u8) -> PkiId {
        PkiId([byte; 32])
    }

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    fn requester() -> Requester {
        Requester::new(&Config::default())
    }

    #[test]
    fn ranges_are_as_long_as_a_go_peer_answers() {
        let cut = |numbers: Vec<u64>| ranges(numbers, 10).collect::<Vec<_>>();
        assert_eq!(cut((5..30).collect()), [5..=15, 16..=26, 27..=29]);
        assert_eq!(
            cut(vec![1, 2, 4, u64::MAX]),
            [1..=2, 4..=4, u64::MAX..=u64::MAX]
        );
        assert!(cut(vec![]).is_empty());
    }

    #[test]
    fn ranges_go_to_different_peers_that_have_them() {
        let sources = [(peer(1), 100), (peer(2), 100), (peer(3), 5)];
        let requests = requester().plan(10..60, &sources, start(), &mut rng());
        assert_eq!(requests.len(), 4);
        for byte in 1..=2 {
            assert_eq!(requests.iter().filter(|r| r.to == peer(byte)).count(), 2);
        }
        assert_ne!(requests[0].to, requests[1].to);
    }

    #[test]
    fn a_range_is_cut_to_what_the_best_peer_has() {
        let requests = requester().plan(10..60, &[(peer(1), 15)], start(), &mut rng());
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].blocks, 10..=14);
        assert!(
            requester()
                .plan(10..60, &[(peer(1), 10)], start(), &mut rng())
                .is_empty()
        );
    }

    #[test]
    fn responses_count_once_and_from_the_peer_that_was_asked() {
        let mut requester = requester();
        let requests = requester.plan(10..12, &[(peer(1), 100)], start(), &mut rng());
        let nonce = requests[0].nonce;
        assert!(requester.awaits(11) && !requester.awaits(12));
        let refused = Err(DropReason::UnknownNonce);
        assert_eq!(requester.on_response(&peer(2), nonce, start()), refused);
        assert_eq!(
            requester.on_response(&peer(1), nonce.wrapping_add(1), start()),
            refused
        );
        assert_eq!(requester.on_response(&peer(1), nonce, start()), Ok(10..=11));
        assert_eq!(requester.on_response(&peer(1), nonce, start()), refused);
        assert!(requester.is_idle());
    }

    #[test]
    fn others_are_asked_for_what_is_late() {
        let (mut requester, mut rng) = (requester(), rng());
        let sources = [(peer(1), 5)];
        let now = start();
        let first = requester.plan(0..5, &sources, now, &mut rng).remove(0);
        let late = now + Config::default().state.response_timeout / 4;
        assert_eq!(requester.next_deadline(), Some(late));
        assert!(requester.expire(late - Duration::from_nanos(1)).is_empty());
        assert!(requester.awaits(3));
        assert_eq!(requester.expire(late), [peer(1)]);
        assert!(!requester.awaits(3));
        let sources = [(peer(1), 5), (peer(2), 5)];
        let second = requester.plan(0..5, &sources, late, &mut rng).remove(0);
        assert_eq!(second.to, peer(2));
        // The late answer is taken, and answers may take longer from now on.
        let answered = late + Duration::from_millis(50);
        for request in [second, first] {
            let response = requester.on_response(&request.to, request.nonce, answered);
            assert_eq!(response, Ok(0..=4));
        }
        let third = requester.plan(0..5, &sources, answered, &mut rng);
        assert_eq!(third.len(), 1);
        let patience = Duration::from_millis(3 * 800);
        assert_eq!(requester.next_deadline(), Some(answered + patience));
    }

    #[test]
    fn silence_ends_a_request() {
        let (mut requester, mut rng) = (requester(), rng());
        let now = start();
        let sources = [(peer(1), 100)];
        requester.plan(0..5, &sources, now, &mut rng);
        let timeout = Config::default().state.response_timeout;
        assert_eq!(requester.expire(now + timeout / 2), [peer(1)]);
        // The peer has one more place, and the other one again after the timeout.
        let again = |requester: &mut Requester, at, rng: &mut StdRng| {
            requester.permitted = MAX_REQUESTS;
            requester.plan((0..60).rev(), &sources, at, rng).len()
        };
        let late = now + timeout - Duration::from_nanos(1);
        assert_eq!(again(&mut requester, late, &mut rng), 1);
        assert_eq!(again(&mut requester, now + timeout, &mut rng), 1);
        let end = now + timeout * (LATE_ANSWERS + 2);
        requester.expire(end);
        assert!(requester.is_idle());
        assert_eq!(again(&mut requester, end, &mut rng), 2);
        requester.forget(&peer(1));
        assert!(requester.is_idle());
    }

    #[test]
    fn late_requests_are_fewer_and_wait_longer_and_answers_in_time_take_that_back() {
        let (mut requester, mut rng) = (requester(), rng());
        let sources: Vec<_> = (0..40).map(|byte| (peer(byte), 1000)).collect();
        let mut now = start();
        let mut round = |requester: &mut Requester, now: Instant| {
            requester.expire(now);
            requester.plan(0..500, &sources, now, &mut rng)
        };
        let mut last = round(&mut requester, now);
        assert_eq!(last.len(), 4);
        let mut waits = Vec::new();
        for permitted in [2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] {
            let late = requester.timely().filter_map(|it| it.late).min().unwrap();
            waits.push((late - now).as_millis());
            now = late;
            last = round(&mut requester, now);
            assert_eq!(last.len(), permitted);
            assert!(requester.under_way() <= MAX_REMEMBERED_REQUESTS);
        }
        assert_eq!(waits[..7], [750, 1500, 3000, 6000, 12_000, 24_000, 24_000]);
        for permitted in [2, 3, 4, 4] {
            let Some(StateRequest { to, nonce, .. }) = last.pop() else {
                panic!("nothing was asked for");
            };
            requester.on_response(&to, nonce, now).unwrap();
            last.extend(round(&mut requester, now));
            assert_eq!(requester.timely().count(), permitted);
        }
        assert_eq!(requester.doublings, MAX_DOUBLINGS - 4);
    }

    #[test]
    fn requests_that_are_late_at_once_count_as_one() {
        let (mut requester, mut rng) = (requester(), rng());
        let sources: Vec<_> = (0..40).map(|byte| (peer(byte), 1000)).collect();
        for later in 0..4 {
            let now = start() + Duration::from_millis(later);
            let numbers = later * 100..later * 100 + 11;
            assert_eq!(requester.plan(numbers, &sources, now, &mut rng).len(), 1);
        }
        for later in 0..4 {
            requester.expire(start() + Duration::from_millis(750 + later));
        }
        assert_eq!((requester.permitted, requester.doublings), (2, 1));
        assert_eq!(requester.timely().count(), 0);
    }

    #[test]
    fn a_link_on_which_answers_take_long_is_not_full_of_them_for_ever() {
        let (mut requester, mut rng) = (requester(), rng());
        let sources: Vec<_> = (0..40).map(|byte| (peer(byte), 1000)).collect();
        let takes = Duration::from_secs(2);
        let mut missing: std::collections::BTreeSet<u64> = (0..110).collect();
        let mut now = start();
        let (mut free, mut link) = (now, std::collections::VecDeque::new());
        while !missing.is_empty() {
            requester.expire(now);
            let wanted: Vec<u64> = missing.iter().copied().take(44).collect();
            let wanted = wanted.into_iter().filter(|it| !requester.awaits(*it));
            let wanted: Vec<u64> = wanted.collect();
            for request in requester.plan(wanted, &sources, now, &mut rng) {
                free = free.max(now) + takes;
                link.push_back((free, request));
            }
            let answer = link.front().map(|(at, _)| *at);
            now = answer
                .into_iter()
                .chain(requester.next_deadline())
                .min()
                .unwrap();
            if answer == Some(now) {
                let (_, request) = link.pop_front().unwrap();
                if let Ok(blocks) = requester.on_response(&request.to, request.nonce, now) {
                    missing.retain(|number| !blocks.contains(number));
                }
            }
            let after = now.duration_since(start());
            assert!(after < takes * 30, "{} blocks are missing", missing.len());
        }
    }
}
