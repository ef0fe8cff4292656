//! The two roles against each other on virtual time, and against peers that lie.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::initiator::MAX_OVERDUE;
use super::*;
use crate::counters::DropReason;
use crate::testing::start;
use crate::types::PkiId;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn peer(number: u8) -> PkiId {
    PkiId([number; 32])
}

fn timing() -> Timing {
    Timing::of(&Config::default())
}

fn fabric_timing() -> Timing {
    Timing {
        collect_digests: true,
        ..timing()
    }
}

struct Fixture {
    initiator: Initiator<u64>,
    rng: StdRng,
    now: Instant,
}

impl Fixture {
    fn new(timing: Timing) -> Self {
        let now = start();
        Self {
            initiator: Initiator::new(timing, 6, now),
            rng: StdRng::seed_from_u64(3),
            now,
        }
    }

    fn hello(&mut self, to: u8) -> u64 {
        self.initiator
            .hello(peer(to), self.now, &mut self.rng)
            .unwrap()
    }

    fn digest(&mut self, from: u8, nonce: u64, items: &[u64]) -> Vec<Request<u64>> {
        self.try_digest(from, nonce, items).unwrap()
    }

    fn try_digest(
        &mut self,
        from: u8,
        nonce: u64,
        items: &[u64],
    ) -> Result<Vec<Request<u64>>, DropReason> {
        let items = items.iter().copied();
        self.initiator
            .on_digest(peer(from), nonce, items, self.now, &mut self.rng)
    }

    fn update(&mut self, from: u8, nonce: u64, items: &[u64]) -> Result<BTreeSet<u64>, DropReason> {
        let items = items.iter().copied();
        self.initiator.on_update(peer(from), nonce, items, self.now)
    }

    fn wait(&mut self, time: Duration) -> Vec<Request<u64>> {
        self.now += time;
        self.initiator.on_wakeup(self.now, &mut self.rng)
    }
}

fn request(to: u8, nonce: u64, items: &[u64]) -> Request<u64> {
    Request {
        to: peer(to),
        nonce,
        items: items.to_vec(),
    }
}

#[test]
fn the_first_digest_is_answered_at_once_and_each_item_asked_of_one_peer() {
    let mut it = Fixture::new(timing());
    let (first, second) = (it.hello(1), it.hello(2));
    assert_eq!(it.digest(1, first, &[5, 6]), [request(1, first, &[5, 6])]);
    assert_eq!(it.digest(2, second, &[5, 6, 7]), [request(2, second, &[7])]);
    assert_eq!(it.update(1, first, &[5, 6]), Ok(BTreeSet::from([5, 6])));
}

/// A wake-up that comes so late that nothing can be requested any more must not ask for another one at once.
#[test]
fn a_late_wakeup_leaves_nothing_due_in_the_past() {
    let impatient = Timing {
        request_wait: 500 * MILLISECOND,
        ..timing()
    };
    for timing in [fabric_timing(), impatient] {
        let mut it = Fixture::new(timing);
        let nonce = it.hello(1);
        it.now += 900 * MILLISECOND;
        assert!(it.digest(1, nonce, &[5]).is_empty());
        assert!(it.wait(SECOND).is_empty());
        assert_eq!(it.initiator.next_deadline(), it.now + 1100 * MILLISECOND);
        assert!(it.wait(1100 * MILLISECOND).is_empty());
        assert_eq!(it.initiator.open_exchanges(), 0);
    }
}

#[test]
fn fabrics_rule_waits_for_all_digests_and_spreads_the_items() {
    let mut it = Fixture::new(fabric_timing());
    let nonces = [it.hello(1), it.hello(2)];
    let items: Vec<u64> = (0..40).collect();
    assert!(it.digest(1, nonces[0], &items).is_empty());
    assert!(it.digest(2, nonces[1], &items).is_empty());
    assert!(it.wait(999 * MILLISECOND).is_empty());
    assert_eq!(it.initiator.next_deadline(), it.now + MILLISECOND);
    let requests = it.wait(MILLISECOND);
    let asked: Vec<u64> = requests.iter().flat_map(|r| r.items.clone()).collect();
    assert_eq!(requests.len(), 2);
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 40);
    assert_eq!(asked.len(), 40);
}

#[test]
fn under_fabrics_rule_an_offer_that_another_peer_satisfied_is_no_busy_loop() {
    let mut it = Fixture::new(fabric_timing());
    let nonces = [it.hello(1), it.hello(2)];
    it.digest(1, nonces[0], &[1]);
    it.digest(2, nonces[1], &[1]);
    assert_eq!(it.wait(SECOND).len(), 1);
    assert!(it.initiator.next_deadline() > it.now);
}

#[test]
fn an_item_that_does_not_come_is_asked_of_the_next_peer() {
    let mut it = Fixture::new(timing());
    let (liar, honest) = (it.hello(1), it.hello(2));
    it.digest(1, liar, &[5]);
    assert!(it.digest(2, honest, &[5]).is_empty());
    assert!(it.wait(499 * MILLISECOND).is_empty());
    assert_eq!(it.wait(MILLISECOND), [request(2, honest, &[5])]);
    // What the first one sends after all is still taken.
    assert_eq!(it.update(1, liar, &[5]), Ok(BTreeSet::from([5])));
}

#[test]
fn no_request_is_made_with_a_nonce_that_the_responder_has_forgotten() {
    let mut it = Fixture::new(Timing {
        response_wait: 8 * SECOND,
        ..timing()
    });
    let (first, second) = (it.hello(1), it.hello(2));
    it.digest(1, first, &[5]);
    it.digest(2, second, &[5]);
    assert!(it.wait(2 * SECOND).is_empty());
}

#[test]
fn digests_that_nobody_asked_for_are_ignored() {
    let mut it = Fixture::new(timing());
    let nonce = it.hello(1);
    let unknown = Err(DropReason::UnknownNonce);
    assert_eq!(it.try_digest(2, nonce, &[1]), unknown);
    assert_eq!(it.try_digest(1, nonce ^ 1, &[1]), unknown);
    it.digest(1, nonce, &[1]);
    let repeated = Err(DropReason::Unsolicited);
    assert_eq!(it.try_digest(1, nonce, &[2]), repeated);
    let late = it.hello(3);
    it.now += SECOND + MILLISECOND;
    assert_eq!(it.try_digest(3, late, &[1]), unknown);
}

#[test]
fn an_update_counts_only_as_far_as_it_was_requested() {
    let mut it = Fixture::new(timing());
    let (first, second) = (it.hello(1), it.hello(2));
    it.digest(1, first, &[5, 6]);
    it.digest(2, second, &[7]);
    let unknown = Err(DropReason::UnknownNonce);
    assert_eq!(it.update(2, first, &[5]), unknown);
    assert_eq!(it.update(3, first, &[5]), unknown);
    assert_eq!(it.update(1, first, &[4, 5, 7]), Ok(BTreeSet::from([5])));
    assert_eq!(it.update(1, first, &[5]), Ok(BTreeSet::new()));
}

#[test]
fn a_refused_item_is_asked_of_the_next_peer_at_once() {
    let mut it = Fixture::new(timing());
    let (liar, honest) = (it.hello(1), it.hello(2));
    it.digest(1, liar, &[5]);
    it.digest(2, honest, &[5]);
    it.update(1, liar, &[5]).unwrap();
    // The exchange with the liar is over, so the item is free again.
    let again = it.initiator.rejected(&peer(1), &5, it.now, &mut it.rng);
    assert_eq!(again, [request(2, honest, &[5])]);
}

#[test]
fn exchanges_end_and_the_peer_can_be_asked_again() {
    let mut it = Fixture::new(timing());
    let silent = it.hello(1);
    let empty = it.hello(2);
    assert!(it.initiator.hello(peer(1), it.now, &mut it.rng).is_none());
    it.digest(2, empty, &[]);
    assert!(!it.initiator.is_open(&peer(2)));
    it.wait(SECOND);
    assert!(!it.initiator.is_open(&peer(1)));
    assert_eq!(it.update(1, silent, &[1]), Err(DropReason::UnknownNonce));
    let stalling = it.hello(3);
    it.digest(3, stalling, &[1]);
    it.wait(3 * SECOND);
    assert_eq!(it.initiator.open_exchanges(), 0);
    assert!(!it.initiator.awaits(&1));
}

#[test]
fn an_update_is_taken_after_its_exchange_was_closed() {
    let mut it = Fixture::new(timing());
    let nonce = it.hello(1);
    it.digest(1, nonce, &[5, 6, 7, 8]);
    it.wait(3 * SECOND);
    assert_eq!(it.initiator.open_exchanges(), 0);
    let unknown = Err(DropReason::UnknownNonce);
    assert_eq!(it.update(2, nonce, &[5]), unknown);
    assert_eq!(it.update(1, nonce ^ 1, &[5]), unknown);
    assert_eq!(it.update(1, nonce, &[4, 5]), Ok(BTreeSet::from([5])));
    it.wait(300 * SECOND);
    it.initiator.satisfied(&6, it.now);
    assert_eq!(it.update(1, nonce, &[5, 6, 7]), Ok(BTreeSet::from([7])));
    let mut gone = it.initiator;
    gone.forget(&peer(1));
    assert_eq!(gone.on_update(peer(1), nonce, [8], it.now), unknown);
}

#[test]
fn closed_exchanges_are_remembered_until_all_has_come_and_in_bounded_number() {
    let mut it = Fixture::new(timing());
    let mut fail = |item: u64| {
        let nonce = it.hello(1);
        it.digest(1, nonce, &[item]);
        it.wait(10 * SECOND);
        nonce
    };
    let first = fail(0);
    let second = fail(1);
    let rest: Vec<u64> = (2..=MAX_OVERDUE as u64).map(&mut fail).collect();
    assert_eq!(it.update(1, first, &[0]), Err(DropReason::UnknownNonce));
    assert_eq!(it.update(1, second, &[1]), Ok(BTreeSet::from([1])));
    assert_eq!(it.update(1, second, &[1]), Err(DropReason::UnknownNonce));
    assert_eq!(it.update(1, rest[0], &[2]), Ok(BTreeSet::from([2])));
}

/// Asks for an item that nobody sends. How long it is awaited, and with which nonce it was asked for.
fn asked_in_vain(it: &mut Fixture, item: u64) -> (Duration, u64) {
    let nonce = it.hello(1);
    it.digest(1, nonce, &[item]);
    let begin = it.now;
    while it.initiator.awaits(&item) {
        it.wait(100 * MILLISECOND);
    }
    let awaited = it.now - begin;
    it.wait(3 * SECOND);
    (awaited, nonce)
}

#[test]
fn patience_grows_while_nothing_comes_and_follows_what_comes() {
    let mut it = Fixture::new(timing());
    assert!(!it.initiator.is_slow());
    for (item, seconds) in [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0)] {
        let (awaited, nonce) = asked_in_vain(&mut it, item);
        assert_eq!(awaited.as_secs_f64(), seconds);
        assert!(it.initiator.is_slow());
        if item == 5 {
            // Three times what it took.
            it.update(1, nonce, &[item]).unwrap();
            assert_eq!(asked_in_vain(&mut it, 6).0, 30 * SECOND);
        }
    }
    for item in 10..60 {
        let nonce = it.hello(2);
        it.digest(2, nonce, &[item]);
        it.update(2, nonce, &[item]).unwrap();
    }
    assert!(!it.initiator.is_slow());
    assert_eq!(asked_in_vain(&mut it, 7).0, SECOND / 2);
}

#[test]
fn under_fabrics_rule_patience_does_not_grow() {
    let mut it = Fixture::new(fabric_timing());
    for item in 0..3 {
        let nonce = it.hello(1);
        it.digest(1, nonce, &[item]);
        it.wait(SECOND);
        it.wait(20 * SECOND);
        it.update(1, nonce, &[item]).unwrap();
        assert!(!it.initiator.is_slow());
    }
}

#[test]
fn the_number_of_exchanges_is_bounded() {
    let mut it = Fixture::new(timing());
    for number in 0..6 {
        it.hello(number);
    }
    assert!(it.initiator.hello(peer(9), it.now, &mut it.rng).is_none());
}

#[test]
fn a_peer_that_is_gone_is_replaced() {
    let mut it = Fixture::new(timing());
    let (gone, other) = (it.hello(1), it.hello(2));
    it.digest(1, gone, &[5]);
    it.digest(2, other, &[5]);
    it.initiator.forget(&peer(1));
    assert_eq!(it.wait(MILLISECOND), [request(2, other, &[5])]);
}

#[test]
fn rounds_come_with_the_interval() {
    let mut it = Fixture::new(timing());
    assert!(!it.initiator.round_due(it.now));
    let begin = it.now;
    it.now = it.initiator.next_deadline();
    assert_eq!(it.now - begin, 4 * SECOND);
    assert!(it.initiator.round_due(it.now));
    assert!(!it.initiator.round_due(it.now));

    it.initiator.skip(3);
    assert_eq!(it.initiator.next_deadline(), it.now + 16 * SECOND);
    it.initiator.hasten(it.now + SECOND);
    assert_eq!(it.initiator.next_deadline(), it.now + 5 * SECOND);
    it.initiator.hasten(it.now + 2 * SECOND);
    assert_eq!(it.initiator.next_deadline(), it.now + 5 * SECOND);
}

#[test]
fn nonces_of_hellos_expire() {
    let mut responder = Responder::new(&timing());
    let now = start();
    responder.on_hello(peer(1), 7, now).unwrap();
    let unknown = Err(DropReason::UnknownNonce);
    assert_eq!(responder.on_request(peer(2), 7, now), unknown);
    assert_eq!(responder.on_request(peer(1), 8, now), unknown);
    assert_eq!(
        responder.on_request(peer(1), 7, now + 1499 * MILLISECOND),
        Ok(())
    );
    assert_eq!(
        responder.on_request(peer(1), 7, now + 1500 * MILLISECOND),
        unknown
    );
}

#[test]
fn a_flood_of_hellos_or_requests_ends_at_the_bound_and_hurts_nobody_else() {
    let mut responder = Responder::new(&timing());
    let now = start();
    let accepted = (0..1000).filter(|nonce| responder.on_hello(peer(1), *nonce, now).is_ok());
    assert_eq!(accepted.count(), 16);
    let requests = (0..1000).filter(|_| responder.on_request(peer(1), 3, now).is_ok());
    assert_eq!(requests.count(), 4);
    assert_eq!(responder.on_hello(peer(2), 0, now), Ok(()));
    assert_eq!(responder.on_hello(peer(1), 5000, now + 2 * SECOND), Ok(()));
}

/// What is on its way between the asker (peer 0) and the others.
#[derive(Debug, Clone)]
enum Step {
    Hello,
    Digest(Vec<u64>),
    Request(Vec<u64>),
    Update(Vec<u64>),
}

/// One asker and some peers that have parts of `0..items`, over a network that loses and delays.
/// Returns when the asker had everything.
fn pull_everything(seed: u64, loss: f64, liars: u8) -> Duration {
    let begin = start();
    let mut now = begin;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut initiator = Initiator::new(timing(), 6, now);
    let peers = 6u8;
    let items = 40u64;
    let mut has: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
    for item in 0..items {
        for _ in 0..2 {
            let owner = rng.random_range(1 + liars..=peers);
            has.entry(owner).or_default().insert(item);
        }
    }
    let mut responders: BTreeMap<u8, Responder> = (1..=peers)
        .map(|p| (p, Responder::new(&timing())))
        .collect();
    let mut mine: BTreeSet<u64> = BTreeSet::new();
    let mut wire: BTreeMap<(Instant, u64), (u8, bool, u64, Step)> = BTreeMap::new();
    let mut sent = 0u64;
    while mine.len() < items as usize {
        assert!(
            now - begin < Duration::from_secs(3600),
            "stuck with {mine:?}"
        );
        let mut send = Vec::new();
        let next = wire.keys().next().map(|(at, _)| *at);
        if let Some(at) = next.filter(|at| *at <= initiator.next_deadline()) {
            now = at;
            let ((_, _), (with, to_peer, nonce, step)) = wire.pop_first().unwrap();
            let responder = responders.get_mut(&with).unwrap();
            match (step, to_peer) {
                (Step::Hello, true) => {
                    responder.on_hello(peer(0), nonce, now).unwrap();
                    let digest: Vec<u64> = if with <= liars {
                        (0..items * 2).collect()
                    } else {
                        has.get(&with).into_iter().flatten().copied().collect()
                    };
                    send.push((with, false, nonce, Step::Digest(digest)));
                }
                (Step::Request(wanted), true) => {
                    // Liars never send what they promised.
                    if responder.on_request(peer(0), nonce, now).is_ok() && with > liars {
                        send.push((with, false, nonce, Step::Update(wanted)));
                    }
                }
                (Step::Digest(digest), false) => {
                    let wanted = digest.into_iter().filter(|item| !mine.contains(item));
                    let wanted: Vec<u64> = wanted.filter(|item| *item < items).collect();
                    let requests = initiator.on_digest(peer(with), nonce, wanted, now, &mut rng);
                    for request in requests.unwrap_or_default() {
                        let to = request.to.as_bytes()[0];
                        send.push((to, true, request.nonce, Step::Request(request.items)));
                    }
                }
                (Step::Update(items), false) => {
                    let asked_for = initiator.on_update(peer(with), nonce, items, now);
                    mine.extend(asked_for.unwrap_or_default());
                }
                _ => unreachable!(),
            }
        } else {
            now = initiator.next_deadline();
            for request in initiator.on_wakeup(now, &mut rng) {
                let to = request.to.as_bytes()[0];
                send.push((to, true, request.nonce, Step::Request(request.items)));
            }
            if initiator.round_due(now) {
                for _ in 0..3 {
                    let to = rng.random_range(1..=peers);
                    if let Some(nonce) = initiator.hello(peer(to), now, &mut rng) {
                        send.push((to, true, nonce, Step::Hello));
                    }
                }
            }
            assert!(
                initiator.next_deadline() > now,
                "the deadline does not move"
            );
        }
        for message in send {
            if !rng.random_bool(loss) {
                let at = now + MILLISECOND * rng.random_range(1..80);
                wire.insert((at, sent), message);
                sent += 1;
            }
        }
        assert!(initiator.open_exchanges() <= 6);
    }
    now - begin
}

#[test]
fn without_loss_everything_comes_within_a_few_rounds() {
    let longest = (0..50).map(|seed| pull_everything(seed, 0.0, 0)).max();
    assert!(longest.unwrap() < Duration::from_secs(40), "{longest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost, and whoever promises what he never sends: in the end all is there.
    #[test]
    fn everything_comes_in_spite_of_loss_and_liars(
        seed: u64,
        loss in 0.0..0.4f64,
        liars in 0u8..3,
    ) {
        pull_everything(seed, loss, liars);
    }
}
