use std::time::Duration;

use rand::SeedableRng;

use super::*;
use crate::message::own_alive;
use crate::testing::{Trusting, local_peer, start};

fn alive(name: &str, sequence: u64, now: Instant) -> Verified<Alive> {
    let peer = local_peer("Org1MSP", name, true, now);
    own_alive(&peer, sequence, now, now, &Trusting).unwrap()
}

fn view_of(count: usize, now: Instant) -> View {
    let mut view = View::default();
    for number in 0..count {
        view.put(alive(&format!("peer{number}"), 1, now), true, now);
    }
    view
}

fn ids(members: &[&Member]) -> Vec<PkiId> {
    members.iter().map(|member| member.pki_id()).collect()
}

#[test]
fn selection_draws_without_repetition_among_the_wanted() {
    let now = start();
    let view = view_of(50, now);
    let mut rng = StdRng::seed_from_u64(1);
    let wanted = |member: &Member| member.pki_id().as_bytes()[0] < 128;
    let suitable = view.alive().filter(|member| wanted(member)).count();
    for count in [0, 1, 3, suitable, 50, 1000] {
        let mut chosen = ids(&view.select(count, &mut rng, wanted));
        assert_eq!(chosen.len(), count.min(suitable));
        chosen.sort();
        chosen.dedup();
        assert_eq!(chosen.len(), count.min(suitable));
    }
}

#[test]
fn selection_is_fair_and_repeatable() {
    let now = start();
    let view = view_of(10, now);
    let mut rng = StdRng::seed_from_u64(2);
    let mut times: BTreeMap<PkiId, u32> = BTreeMap::new();
    for _ in 0..10_000 {
        for pki_id in ids(&view.select(3, &mut rng, |_| true)) {
            *times.entry(pki_id).or_default() += 1;
        }
    }
    // 3000 each are expected, with a standard deviation of 46.
    assert_eq!(times.len(), 10);
    assert!(
        times.values().all(|times| (2700..3300).contains(times)),
        "{times:?}"
    );

    let draw = |seed| ids(&view.select(5, &mut StdRng::seed_from_u64(seed), |_| true));
    assert_eq!(draw(3), draw(3));
}

#[test]
fn the_dead_are_not_drawn_and_the_forgotten_are_gone() {
    let now = start();
    let mut view = view_of(6, now);
    let members: Vec<PkiId> = view.alive().map(Member::pki_id).collect();
    view.bury(&members[0]);
    view.bury(&members[3]);
    view.bury(&members[3]);
    view.remove(&members[5]);
    assert_eq!(view.alive_count(), 3);
    assert_eq!((view.len(), view.dead().count()), (5, 2));
    let mut rng = StdRng::seed_from_u64(4);
    let mut drawn = ids(&view.select(10, &mut rng, |_| true));
    drawn.sort();
    assert_eq!(drawn, [members[1], members[2], members[4]]);

    let again = view.get(&members[3]).unwrap().message().clone();
    view.put(again, true, now);
    assert!(view.is_alive(&members[3]));
    assert_eq!(view.alive_count(), 4);
}

#[test]
fn the_internal_endpoint_survives_messages_without_secret() {
    let now = start();
    let mut view = view_of(1, now);
    let later = alive("peer0", 2, now).altered(|alive| {
        alive.internal_endpoint = None;
        alive.endpoint = Endpoint::from("moved:7051");
    });
    let pki_id = later.pki_id;
    view.put(later, true, now + Duration::from_secs(1));
    let member = view.get(&pki_id).unwrap();
    assert_eq!(
        member.internal_endpoint(),
        Some(&Endpoint::from("peer0.Org1MSP:7051"))
    );
    assert_eq!(
        *member.preferred_endpoint(),
        Endpoint::from("peer0.Org1MSP:7051")
    );
    assert_eq!(*member.external_endpoint(), Endpoint::from("moved:7051"));
    assert_eq!(member.last_seen(), now + Duration::from_secs(1));
}

#[test]
fn those_beside_a_peer_are_the_next_ones_that_are_wanted() {
    let now = start();
    let mut view = view_of(9, now);
    let mut sorted: Vec<PkiId> = view.alive().map(Member::pki_id).collect();
    sorted.sort();
    let beside = |view: &View, place: usize, without: &[usize]| {
        let unwanted: Vec<PkiId> = without.iter().map(|place| sorted[*place]).collect();
        let wanted = |member: &Member| !unwanted.contains(&member.pki_id());
        let found = view.beside(&sorted[place], wanted);
        let place_of = |it: &Member| sorted.iter().position(|id| *id == it.pki_id()).unwrap();
        found.map(|member| member.map(place_of))
    };
    assert_eq!(beside(&view, 4, &[]), [Some(5), Some(3)]);
    assert_eq!(beside(&view, 8, &[]), [Some(0), Some(7)]);
    assert_eq!(beside(&view, 0, &[1, 8]), [Some(2), Some(7)]);
    assert_eq!(beside(&view, 0, &[1, 2, 3, 4, 5, 6, 7, 8]), [None, None]);
    view.bury(&sorted[5]);
    assert_eq!(beside(&view, 4, &[]), [Some(6), Some(3)]);
}
