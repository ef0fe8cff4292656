//! Whole blocks along the tree, announcements beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{CHANNEL, MILLISECOND, MY_ORG, Other, Sent, World, digests};
use crate::config::{Config, Rules};
use crate::counters::DropReason;
use crate::event::FrameKind;
use crate::message::PullStep;
use crate::types::{ChannelId, PkiId};

/// The wait of a peer that has not seen an answer yet.
const WAIT: Duration = Duration::from_millis(50);

fn announce(world: &mut World, from: &Other, numbers: &[u64]) {
    world.pull(from, 0, PullStep::Digest(digests(numbers)));
}

fn ask(world: &mut World, from: &Other, number: u64) {
    world.pull(from, 0, PullStep::Request(digests(&[number])));
}

/// All questions since the last look: to whom, and for what.
fn questions(world: &mut World) -> Vec<(PkiId, Vec<u64>)> {
    let requests = world.take_sent(FrameKind::Request);
    assert!(requests.iter().all(|request| request.nonce() == 0));
    requests.iter().map(|it| (it.to, it.numbers())).collect()
}

/// Whom we have asked for blocks since the last look, and for which.
fn asked(world: &mut World) -> Vec<(PkiId, Vec<u64>)> {
    let mut questions = questions(world);
    questions.retain(|(_, numbers)| !numbers.is_empty());
    questions
}

/// Whom we have asked for a place since the last look.
fn joined(world: &mut World) -> BTreeSet<PkiId> {
    let questions = questions(world).into_iter();
    let for_a_place = questions.filter(|(_, numbers)| numbers.is_empty());
    for_a_place.map(|(peer, _)| peer).collect()
}

fn receivers(sent: &[Sent]) -> Vec<PkiId> {
    sent.iter().map(|sent| sent.to).collect()
}

/// To whom we have sent whole blocks along the tree since the last look.
fn pushed(world: &mut World) -> Vec<PkiId> {
    receivers(&world.take_sent(FrameKind::Block))
}

/// To whom we have announced blocks since the last look.
fn announced(world: &mut World) -> Vec<PkiId> {
    let digests = world.take_sent(FrameKind::Digest);
    assert!(digests.iter().all(|digest| digest.nonce() == 0));
    receivers(&digests)
}

#[test]
fn a_peer_without_neighbours_asks_at_once_and_has_one_then() {
    let mut world = World::new();
    let (one, other) = (world.tree_member("one"), world.tree_member("other"));
    announce(&mut world, &one, &[1]);
    announce(&mut world, &other, &[1]);
    assert_eq!(asked(&mut world), [(one.id(), vec![1])]);
    world.push(&one, 1);
    assert_eq!(world.delivered, [1]);
    assert!(pushed(&mut world).is_empty());
    // It gets what comes from elsewhere.
    world.push(&other, 2);
    assert_eq!(pushed(&mut world), [one.id()]);
    world.order(3);
    assert_eq!(
        BTreeSet::from_iter(pushed(&mut world)),
        BTreeSet::from([one.id(), other.id()])
    );
}

#[test]
fn who_has_no_neighbour_joins() {
    let mut world = World::new();
    world.member(MY_ORG, "go", 1);
    let peers: Vec<Other> = (0..5)
        .map(|number| world.tree_member(&format!("peer{number}")))
        .collect();
    world.pass(99 * MILLISECOND);
    assert!(joined(&mut world).is_empty(), "others may become known");
    world.pass(MILLISECOND);
    let mut asked = joined(&mut world);
    assert_eq!(asked.len(), 2);
    // They get blocks from now on.
    world.order(1);
    assert_eq!(BTreeSet::from_iter(pushed(&mut world)), asked);
    // Whoever is asked declines: others are asked, ever less often.
    for pause in [1, 2, 4, 8] {
        for peer in peers.iter().filter(|peer| asked.contains(&peer.id())) {
            announce(&mut world, peer, &[]);
        }
        world.pass(Duration::from_secs(pause) - MILLISECOND);
        assert!(joined(&mut world).is_empty());
        world.pass(MILLISECOND);
        asked = joined(&mut world);
        assert_eq!(asked.len(), 2);
    }
    // Until a block comes from a neighbour; when all are lost, the next are found soon.
    let neighbours = peers.iter().filter(|peer| asked.contains(&peer.id()));
    let neighbours: Vec<&Other> = neighbours.collect();
    world.push(neighbours[0], 2);
    world.pass(Duration::from_secs(20));
    for neighbour in neighbours {
        assert!(joined(&mut world).is_empty());
        world.act(|channels, c| channels.unreachable(&neighbour.id(), c));
        world.pass(100 * MILLISECOND);
    }
    assert_eq!(joined(&mut world).len(), 2);
}

#[test]
fn who_asks_for_a_place_gets_one_or_a_refusal() {
    let mut world = World::new();
    let peers: Vec<Other> = (0..8)
        .map(|number| world.tree_member(&format!("peer{number}")))
        .collect();
    for peer in &peers {
        world.pull(peer, 0, PullStep::Request(Vec::new()));
    }
    let refusals = world.take_sent(FrameKind::Digest);
    assert!(refusals.iter().all(|it| it.numbers().is_empty()));
    let refused: Vec<PkiId> = peers[6..].iter().map(Other::id).collect();
    assert_eq!(receivers(&refusals), refused);
    world.order(1);
    assert_eq!(pushed(&mut world).len(), 6);
}

#[test]
fn what_a_neighbour_is_expected_to_send_is_asked_of_others_after_a_wait() {
    let mut world = World::new();
    let (one, other) = (world.tree_member("one"), world.tree_member("other"));
    world.push(&one, 1);
    announce(&mut world, &other, &[2]);
    world.pass(WAIT - MILLISECOND);
    assert!(asked(&mut world).is_empty());
    world.pass(MILLISECOND);
    assert_eq!(asked(&mut world), [(other.id(), vec![2])]);

    announce(&mut world, &other, &[3]);
    world.push(&one, 2);
    world.push(&one, 3);
    world.pass(4 * WAIT);
    assert!(asked(&mut world).is_empty());
    assert_eq!(world.delivered, [1, 2, 3]);
}

#[test]
fn the_wait_follows_the_time_that_answers_take() {
    let mut world = World::new();
    let (far, other) = (world.tree_member("far"), world.tree_member("other"));
    announce(&mut world, &far, &[1]);
    world.now += 200 * MILLISECOND;
    world.push(&far, 1);
    asked(&mut world);
    announce(&mut world, &other, &[2]);
    world.pass(399 * MILLISECOND);
    assert!(asked(&mut world).is_empty());
    world.pass(MILLISECOND);
    assert_eq!(asked(&mut world), [(other.id(), vec![2])]);
}

/// On a narrow link announcements overtake the block by as long as it takes.
#[test]
fn the_wait_follows_the_time_by_which_announcements_are_ahead() {
    let mut world = World::new();
    let (one, other) = (world.tree_member("one"), world.tree_member("other"));
    let asked_after = |world: &mut World, number: u64, ahead: Duration| {
        announce(world, &other, &[number]);
        let mut questions = 0;
        for _ in 0..ahead.as_millis() {
            world.pass(MILLISECOND);
            questions += asked(world).len();
        }
        world.push(&one, number);
        asked(world);
        questions
    };
    world.push(&one, 1);
    let mut number = 2;
    for ahead in [45, 85, 160, 300, 580, 1100, 2100, 4000] {
        assert_eq!(asked_after(&mut world, number, ahead * MILLISECOND), 0);
        number += 1;
    }
    // Short times make it short again.
    for _ in 0..60 {
        asked_after(&mut world, number, MILLISECOND);
        number += 1;
    }
    assert_eq!(asked_after(&mut world, number, 4000 * MILLISECOND), 1);
}

/// Whom we asked in vain at first is remembered for what it says of the time that blocks take.
#[test]
fn a_slow_answer_lengthens_the_wait() {
    let mut world = World::new();
    let (slow, other) = (world.tree_member("slow"), world.tree_member("other"));
    announce(&mut world, &slow, &[1]);
    world.pass(1000 * MILLISECOND);
    world.push(&slow, 1);
    asked(&mut world);
    announce(&mut world, &other, &[2]);
    world.pass(1999 * MILLISECOND);
    assert!(asked(&mut world).is_empty());
    world.pass(MILLISECOND);
    assert_eq!(asked(&mut world), [(other.id(), vec![2])]);
}

#[test]
fn who_sends_what_came_before_is_told_so_and_is_no_neighbour() {
    let mut world = World::new();
    let (one, other) = (world.tree_member("one"), world.tree_member("other"));
    world.push(&one, 1);
    world.push(&other, 1);
    assert_eq!(announced(&mut world), [other.id()]);
    world.order(2);
    assert_eq!(pushed(&mut world), [one.id()]);
    // The same while the first copy is being verified.
    world.hold_verification = true;
    world.push(&other, 3);
    world.push(&one, 3);
    assert_eq!(announced(&mut world), [one.id()]);
    world.finish_verification();
    assert!(pushed(&mut world).is_empty());
}

#[test]
fn a_neighbour_that_announces_instead_is_none_any_more() {
    let mut world = World::new();
    let one = world.tree_member("one");
    world.push(&one, 1);
    world.order(2);
    assert_eq!(pushed(&mut world), [one.id()]);
    announce(&mut world, &one, &[2]);
    world.order(3);
    assert!(pushed(&mut world).is_empty());
}

#[test]
fn liars_are_passed_over_one_after_the_other() {
    let mut world = World::new();
    let peers: Vec<Other> = (0..4)
        .map(|number| world.tree_member(&format!("peer{number}")))
        .collect();
    let neighbour = world.tree_member("neighbour");
    world.push(&neighbour, 1);
    for peer in &peers {
        announce(&mut world, peer, &[2]);
    }
    world.pass(WAIT);
    for (peer, times) in peers.iter().zip([1, 2, 4, 8]) {
        assert_eq!(asked(&mut world), [(peer.id(), vec![2])]);
        world.pass(times * WAIT - MILLISECOND);
        assert!(asked(&mut world).is_empty());
        world.pass(MILLISECOND);
    }
    // Nobody is left; the block comes another way, or never.
    assert!(asked(&mut world).is_empty());

    // Who kept silent is asked last from now on.
    let honest = world.tree_member("honest");
    announce(&mut world, &peers[0], &[3]);
    announce(&mut world, &honest, &[3]);
    world.pass(WAIT);
    assert_eq!(asked(&mut world), [(honest.id(), vec![3])]);
}

#[test]
fn a_forged_answer_sends_us_to_the_next_at_once() {
    let mut world = World::new();
    let (liar, honest) = (world.tree_member("liar"), world.tree_member("honest"));
    announce(&mut world, &liar, &[1]);
    announce(&mut world, &honest, &[1]);
    asked(&mut world);
    world.push_bytes(&liar, 1, "forged".into());
    world.pass(Duration::ZERO);
    assert_eq!(asked(&mut world), [(honest.id(), vec![1])]);
    world.push(&honest, 1);
    world.order(2);
    assert_eq!(pushed(&mut world), [honest.id()]);
}

#[test]
fn a_neighbour_that_cannot_be_reached_is_not_waited_for() {
    let mut world = World::new();
    let (gone, other) = (world.tree_member("gone"), world.tree_member("other"));
    world.push(&gone, 1);
    announce(&mut world, &other, &[2]);
    assert!(asked(&mut world).is_empty());
    world.act(|channels, c| channels.unreachable(&gone.id(), c));
    world.pass(Duration::ZERO);
    assert_eq!(asked(&mut world), [(other.id(), vec![2])]);
}

#[test]
fn whoever_asks_gets_the_block_and_a_place_while_there_is_one() {
    let mut world = World::new();
    world.order(1);
    let peers: Vec<Other> = (0..8)
        .map(|number| world.tree_member(&format!("peer{number}")))
        .collect();
    for (place, peer) in peers.iter().enumerate() {
        ask(&mut world, peer, 1);
        assert_eq!(pushed(&mut world), [peer.id()]);
        let refused = announced(&mut world);
        assert_eq!(refused.is_empty(), place < 6);
    }
    world.order(2);
    assert_eq!(pushed(&mut world).len(), 6);
    // A flood of questions for the same block brings two copies.
    for _ in 0..10 {
        ask(&mut world, &peers[0], 2);
    }
    assert_eq!(pushed(&mut world).len(), 2);
    ask(&mut world, &peers[0], 77);
    assert_eq!(world.drops(DropReason::Unsolicited), 9);
}

#[test]
fn announcements_cost_no_more_than_they_may() {
    let mut world = World::new();
    let one = world.tree_member("one");
    world.push(&one, 1);
    let liars: Vec<Other> = (0..30)
        .map(|number| world.tree_member(&format!("liar{number}")))
        .collect();
    for liar in &liars {
        let numbers: Vec<u64> = (0..900).collect();
        announce(&mut world, liar, &numbers);
        announce(&mut world, liar, &[u64::MAX, 2]);
    }
    world.pass(Duration::from_secs(9));
    // Fourteen blocks that would be taken, of eight peers each.
    let questions: usize = asked(&mut world).iter().map(|it| it.1.len()).sum();
    assert_eq!(questions, 14 * 8);
    assert!(world.drops(DropReason::ChannelFull) > 0);
    world.push(&one, 2);
    assert_eq!(world.delivered, [1, 2]);
}

#[test]
fn peers_of_fabric_see_nothing_of_it() {
    let mut world = World::new();
    let ours = world.tree_member("ours");
    let go: Vec<PkiId> = (0..2)
        .map(|number| world.member(MY_ORG, &format!("go{number}"), 1).id())
        .collect();
    let one = world.member(MY_ORG, "go", 1);
    announce(&mut world, &one, &[1]);
    ask(&mut world, &one, 1);
    assert_eq!(world.drops(DropReason::UnknownNonce), 2);
    world.push(&one, 1);
    world.push(&one, 1);
    world.order(2);
    let mut targets = BTreeSet::new();
    for emission in world.take_emissions() {
        targets.extend(world.targets(&emission));
    }
    assert!(targets.is_subset(&go.iter().copied().chain([one.id()]).collect()));
    assert!(!targets.is_empty());
    assert_eq!(announced(&mut world), [ours.id(), ours.id()]);
    assert!(world.sent.is_empty());
}

#[test]
fn without_peers_of_fabric_all_that_are_drawn_get_announcements() {
    let mut world = World::new();
    let peers: Vec<Other> = (0..20)
        .map(|number| world.tree_member(&format!("peer{number}")))
        .collect();
    world.push(&peers[0], 1);
    let emission = world.take_emissions().remove(0);
    assert!(world.targets(&emission).is_empty());
    let told = BTreeSet::from_iter(announced(&mut world));
    assert!((3..=5).contains(&told.len()), "{told:?}");
    assert!(!told.contains(&peers[0].id()));
}

#[test]
fn by_fabrics_rules_there_is_no_tree() {
    let config = Config {
        rules: Rules::Fabric,
        ..Config::default()
    };
    let mut world = World::with(config, 1);
    let ours = world.tree_member("ours");
    announce(&mut world, &ours, &[1]);
    world.push(&ours, 1);
    world.push(&ours, 1);
    world.order(2);
    assert!(world.sent.is_empty());
}

#[test]
fn who_leaves_the_channel_is_in_no_tree() {
    let mut world = World::new();
    let one = world.tree_member("one");
    world.push(&one, 1);
    let channel = ChannelId::from(CHANNEL);
    world.act(|channels, c| channels.leave(&channel, c));
    world.act(|channels, c| channels.join(World::setup(&[MY_ORG], 2, 2), c));
    world.order(2);
    assert!(pushed(&mut world).is_empty());
}

/// Has `late` send a block first that `early` announced so long before.
fn beaten(world: &mut World, early: &Other, late: &Other, number: u64, lead: Duration) {
    announce(world, early, &[number]);
    world.pass(lead);
    world.push(late, number);
}

#[test]
fn who_announces_well_before_the_block_comes_is_tried_as_a_neighbour() {
    let mut world = World::new();
    let (slow, quick) = (world.tree_member("slow"), world.tree_member("quick"));
    world.push(&slow, 1);
    joined(&mut world);
    beaten(&mut world, &quick, &slow, 2, MILLISECOND);
    assert!(joined(&mut world).is_empty(), "ways differ by chance, too");
    beaten(&mut world, &quick, &slow, 3, 2 * MILLISECOND);
    assert_eq!(joined(&mut world), BTreeSet::from([quick.id()]));
    pushed(&mut world);

    // The next block comes from both: the slower one is told to send no more.
    announced(&mut world);
    world.push(&quick, 4);
    assert_eq!(pushed(&mut world), [slow.id()]);
    world.push(&slow, 4);
    assert!(announced(&mut world).contains(&slow.id()));
    world.push(&quick, 5);
    assert!(pushed(&mut world).is_empty());
}

#[test]
fn neighbours_are_tried_ever_less_often_while_they_are_no_quicker() {
    let mut world = World::new();
    let (slow, quick) = (world.tree_member("slow"), world.tree_member("quick"));
    world.push(&slow, 1);
    joined(&mut world);
    let mut tries = 0;
    for number in 2..100 {
        beaten(&mut world, &quick, &slow, number, 20 * MILLISECOND);
        tries += joined(&mut world).len();
        world.pass(Duration::from_millis(230));
    }
    // In 25 s: at once, and after 1, 2, 4 and 8 s.
    assert_eq!(tries, 5);
}

#[test]
fn who_had_to_be_asked_is_not_tried() {
    let mut world = World::new();
    let (slow, quick) = (world.tree_member("slow"), world.tree_member("quick"));
    world.push(&slow, 1);
    joined(&mut world);
    announce(&mut world, &quick, &[2]);
    world.pass(WAIT);
    assert_eq!(asked(&mut world), [(quick.id(), vec![2])]);
    world.push(&quick, 2);
    assert!(joined(&mut world).is_empty());
}
