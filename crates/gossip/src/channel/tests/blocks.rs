//! Push, pull, order.

use bytes::Bytes;

use super::fixture::*;
use crate::counters::DropReason;
use crate::event::{Arrival, FrameKind};
use crate::message::PullStep;

#[test]
fn a_pushed_block_is_verified_delivered_and_pushed_on() {
    let mut world = World::new();
    let sender = world.member(MY_ORG, "sender", 1);
    let friend = world.member(MY_ORG, "friend", 1);
    world.member(OTHER_ORG, "foreigner", 1);
    world.peer(MY_ORG, "not in the channel");
    world.member(MY_ORG, "has it by its ledger", 2);
    world.push(&sender, 1);
    assert_eq!(world.delivered, [1]);
    let emissions = world.take_emissions();
    assert_eq!(emissions.len(), 1);
    let expected = [friend.id()].into();
    assert_eq!(world.targets(&emissions[0]), expected);
    // Who was sent it is not sent it again.
    assert!(world.targets(&emissions[0]).is_empty());
    assert_eq!(world.counters.blocks_by(Arrival::Push), 1);
}

#[test]
fn the_frame_that_is_pushed_on_is_the_one_that_came() {
    let mut world = World::new();
    let sender = world.member(MY_ORG, "sender", 1);
    world.push(&sender, 1);
    let emission = world.take_emissions().remove(0);
    assert_eq!(emission.envelope, wire_block(1, good(1)).envelope);
}

#[test]
fn copies_are_counted_and_go_no_further() {
    let mut world = World::new();
    let first = world.member(MY_ORG, "first", 1);
    let second = world.member(MY_ORG, "second", 1);
    world.push(&first, 1);
    world.push(&second, 1);
    world.push(&first, 1);
    assert_eq!(world.delivered, [1]);
    assert_eq!(world.take_emissions().len(), 1);
    assert_eq!(world.counters.duplicate_blocks(), 2);
}

#[test]
fn copies_during_verification_are_verified_once_and_their_senders_remembered() {
    let mut world = World::new();
    world.hold_verification = true;
    let first = world.member(MY_ORG, "first", 1);
    let second = world.member(MY_ORG, "second", 1);
    world.push(&first, 1);
    world.push(&second, 1);
    assert_eq!(world.verifying.len(), 1);
    world.finish_verification();
    let emission = world.take_emissions().remove(0);
    assert!(world.targets(&emission).is_empty());
}

#[test]
fn a_forged_block_goes_nowhere_and_does_not_keep_out_the_good_one() {
    let mut world = World::new();
    world.hold_verification = true;
    let liar = world.member(MY_ORG, "liar", 1);
    let honest = world.member(MY_ORG, "honest", 1);
    world.push_bytes(&liar, 1, Bytes::from_static(b"forged"));
    world.push(&honest, 1);
    world.finish_verification();
    assert_eq!(world.drops(DropReason::BlockRefused), 1);
    assert!(world.delivered.is_empty() && world.take_emissions().is_empty());
    world.finish_verification();
    assert_eq!(world.delivered, [1]);
    assert_eq!(world.take_emissions().len(), 1);
}

#[test]
fn blocks_come_from_peers_of_the_channel_only() {
    let mut world = World::new();
    let stranger = world.peer(STRANGERS, "stranger");
    world.push(&stranger, 1);
    assert_eq!(world.drops(DropReason::ForeignOrg), 1);
    let mut elsewhere = World::new();
    let unknown = elsewhere.peer(MY_ORG, "unknown");
    world.push(&unknown, 1);
    assert_eq!(world.drops(DropReason::UnknownIdentity), 1);
    assert!(world.delivered.is_empty());
}

#[test]
fn blocks_far_in_the_future_are_passed_on_but_not_buffered() {
    let mut world = World::new();
    let sender = world.member(MY_ORG, "sender", 1);
    for number in 1000..1500 {
        world.push(&sender, number);
    }
    assert_eq!(world.drops(DropReason::BlockOutsideWindow), 500);
    assert_eq!(world.take_emissions().len(), 500);
    let channel = world.channels.iter().next().unwrap();
    assert_eq!(channel.buffered_blocks(), 0);
}

#[test]
fn a_block_that_came_too_early_is_taken_from_the_store_when_its_turn_comes() {
    let mut world = World::new();
    let sender = world.member(MY_ORG, "sender", 1);
    world.push(&sender, 25);
    assert_eq!(world.drops(DropReason::BlockOutsideWindow), 1);
    world.commit(25);
    assert_eq!(world.delivered, [25]);
}

#[test]
fn ordered_blocks_are_pushed_only_where_block_gossip_is_on() {
    let mut world = World::new();
    world.member(MY_ORG, "follower", 1);
    world.order(1);
    assert_eq!(world.take_emissions().len(), 1);
    assert_eq!(world.counters.blocks_by(Arrival::Orderer), 1);
    let mut setup = World::setup(&[MY_ORG, OTHER_ORG], 2, 2);
    setup.block_gossip = false;
    world.act(|channels, c| channels.update(setup, c));
    world.order(2);
    assert!(world.take_emissions().is_empty());
    assert_eq!(world.delivered, [1, 2]);
}

#[test]
fn a_slow_committer_holds_the_intake() {
    let mut world = World::new();
    world.hold_commits = true;
    for number in 1..60 {
        world.order(number);
    }
    assert_eq!(world.delivered, Vec::from_iter(1..17));
    let channel = world.channels.iter().next().unwrap();
    assert!(channel.accepts_ordered(40) && !channel.accepts_ordered(41));
    assert_eq!(world.drops(DropReason::BlockOutsideWindow), 19);
    world.commit(3);
    assert_eq!(world.delivered, Vec::from_iter(1..19));
}

#[test]
fn a_hello_is_answered_with_what_is_kept_and_a_request_with_the_blocks() {
    let mut world = World::new();
    let asker = world.member(MY_ORG, "asker", 1);
    for number in 1..30 {
        world.order(number);
    }
    world.take_emissions();
    world.pull(&asker, 77, PullStep::Hello);
    let digest = world.take_sent(FrameKind::Digest).remove(0);
    assert_eq!((digest.to, digest.nonce()), (asker.id(), 77));
    assert_eq!(digest.numbers(), (19..30).collect::<Vec<_>>());
    world.pull(&asker, 77, PullStep::Request(digests(&[20, 3, 29])));
    let update = world.take_sent(FrameKind::BlockUpdate).remove(0);
    let selvedge_protos::gossip::gossip_message::Content::DataUpdate(update) =
        update.message.content.unwrap()
    else {
        panic!("not an update");
    };
    let expected = [20, 29].map(|number| wire_block(number, good(number)).envelope);
    let expected: Vec<_> = expected.iter().map(|it| it.proto().clone()).collect();
    assert_eq!(update.data, expected);
}

#[test]
fn an_empty_store_answers_no_hello() {
    let mut world = World::new();
    let asker = world.member(MY_ORG, "asker", 1);
    world.pull(&asker, 77, PullStep::Hello);
    assert!(world.sent.is_empty());
}

#[test]
fn pull_is_for_members_of_our_organisation() {
    let mut world = World::new();
    world.order(1);
    let foreigner = world.member(OTHER_ORG, "foreigner", 1);
    let not_shown = world.peer(MY_ORG, "no StateInfo");
    for peer in [&foreigner, &not_shown] {
        world.pull(peer, 1, PullStep::Hello);
        world.pull(peer, 1, PullStep::Request(digests(&[1])));
    }
    assert_eq!(world.drops(DropReason::NotEligible), 4);
    assert!(world.sent.is_empty());
}

#[test]
fn a_round_asks_random_members_and_takes_what_is_missing() {
    let mut world = World::new();
    let members: Vec<Other> = (0..5)
        .map(|number| world.member(MY_ORG, &format!("peer{number}"), 1))
        .collect();
    world.member(OTHER_ORG, "foreigner", 1);
    world.pass(4 * SECOND);
    let hellos = world.take_sent(FrameKind::Hello);
    assert_eq!(hellos.len(), 3);
    let asked = members.iter().find(|it| it.id() == hellos[0].to).unwrap();
    let nonce = hellos[0].nonce();
    world.pull(asked, nonce, PullStep::Digest(digests(&[0, 1, 2, 500])));
    let requests = world.take_sent(FrameKind::Request);
    assert_eq!(requests[0].numbers(), [1, 2]);
    let blocks = [1, 2].map(|number| wire_block(number, good(number)));
    world.pull(asked, nonce, PullStep::Update(blocks.to_vec()));
    assert_eq!(world.delivered, [1, 2]);
    assert_eq!(world.counters.blocks_by(Arrival::Pull), 2);
    // Pulled blocks are served, not pushed.
    assert!(
        world
            .take_emissions()
            .iter()
            .all(|it| it.received_from.is_none())
    );
}

#[test]
fn an_update_brings_nothing_that_was_not_requested() {
    let mut world = World::new();
    let peer = world.member(MY_ORG, "peer", 1);
    world.pass(4 * SECOND);
    let nonce = world.take_sent(FrameKind::Hello)[0].nonce();
    world.pull(&peer, nonce, PullStep::Digest(digests(&[1])));
    let blocks: Vec<_> = (1..10)
        .map(|number| wire_block(number, good(number)))
        .collect();
    world.pull(&peer, nonce ^ 1, PullStep::Update(blocks.clone()));
    assert_eq!(world.drops(DropReason::UnknownNonce), 1);
    assert!(world.delivered.is_empty());
    world.pull(&peer, nonce, PullStep::Update(blocks));
    assert_eq!(world.delivered, [1]);
    assert_eq!(world.drops(DropReason::Unsolicited), 8);
}

#[test]
fn digests_that_are_no_numbers_are_counted() {
    let mut world = World::new();
    let peer = world.member(MY_ORG, "peer", 1);
    world.pass(4 * SECOND);
    let nonce = world.take_sent(FrameKind::Hello)[0].nonce();
    let junk = ["", "-1", "1x", "99999999999999999999", "\u{0}"];
    let junk = junk.iter().map(|text| Bytes::from(text.to_string()));
    world.pull(&peer, nonce, PullStep::Digest(junk.collect()));
    assert_eq!(world.drops(DropReason::Unsolicited), 5);
    assert!(world.take_sent(FrameKind::Request).is_empty());
}
