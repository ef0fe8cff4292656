//! How long a block was on its way, from the first sign of it.

use std::time::Duration;

use bytes::Bytes;

use super::fixture::*;
use crate::channel::tree::NONCE;
use crate::event::FrameKind;
use crate::message::{Message, PullStep};

const STEP: Duration = Duration::from_millis(7);

fn announce(world: &mut World, from: &Other, number: u64) {
    world.pull(from, NONCE, PullStep::Digest(digests(&[number])));
}

#[test]
fn a_block_that_is_the_first_sign_of_itself_is_late_by_its_verification() {
    let mut world = World::new();
    let sender = world.member(MY_ORG, "sender", 1);
    world.order(1);
    world.hold_verification = true;
    world.push(&sender, 2);
    world.pass(STEP);
    world.finish_verification();
    assert_eq!(world.delays, [(1, Duration::ZERO), (2, STEP)].into());
}

#[test]
fn an_announced_block_counts_from_the_announcement() {
    let mut world = World::new();
    let herald = world.tree_member("herald");
    let sender = world.tree_member("sender");
    announce(&mut world, &herald, 1);
    world.pass(STEP);
    world.push(&sender, 1);
    assert_eq!(world.delays, [(1, STEP)].into());
}

#[test]
fn a_block_in_a_digest_counts_from_the_digest() {
    let mut world = World::new();
    let holder = world.member(MY_ORG, "holder", 1);
    world.pass(world.config.pull_interval);
    let hello = world.take_sent(FrameKind::Hello).remove(0);
    world.pull(&holder, hello.nonce(), PullStep::Digest(digests(&[1])));
    world.pass(STEP);
    world.order(1);
    assert_eq!(world.delays, [(1, STEP)].into());
}

#[test]
fn a_block_below_a_published_height_counts_from_the_state_info() {
    let mut world = World::new();
    let other = world.member(OTHER_ORG, "other", 1);
    world.message(&other, Message::StateInfo(Box::new(other.state_info(2, 3))));
    world.pass(STEP);
    world.order(1);
    world.pass(STEP);
    world.order(2);
    world.order(3);
    let expected = [(1, STEP), (2, STEP * 2), (3, Duration::ZERO)];
    assert_eq!(world.delays, expected.into());
}

#[test]
fn a_block_counts_from_a_later_one_that_overtook_it() {
    let mut world = World::new();
    let sender = world.member(MY_ORG, "sender", 1);
    world.push(&sender, 3);
    world.pass(STEP);
    world.push(&sender, 2);
    world.pass(STEP);
    world.push(&sender, 1);
    let expected = [(1, STEP * 2), (2, STEP), (3, Duration::ZERO)];
    assert_eq!(world.delays, expected.into());
}

#[test]
fn what_a_liar_said_does_not_make_a_block_late() {
    let mut world = World::new();
    let liar = world.member(MY_ORG, "liar", 1);
    let honest = world.tree_member("honest");
    // Boasts of blocks, and sends a forged one when it is asked.
    world.push_bytes(&liar, 3, Bytes::from_static(b"forged"));
    world.pass(STEP);
    announce(&mut world, &honest, 1);
    world.pass(STEP);
    world.push(&honest, 1);
    assert_eq!(world.delays, [(1, STEP)].into());
}

#[test]
fn a_block_that_was_out_of_reach_counts_from_when_it_is_near() {
    let mut world = World::new();
    world.hold_commits = true;
    let reach = 1 + 2 * world.config.state.block_buffer_size as u64;
    world.member(OTHER_ORG, "other", 1000);
    world.pass(STEP);
    for number in 1..=reach {
        world.order(number);
        world.commit(number + 1);
        world.pass(STEP);
    }
    let before_last = STEP * u32::try_from(reach - 1).unwrap();
    assert_eq!(world.delays[&1], STEP);
    assert_eq!(world.delays[&(reach - 1)], before_last);
    let since = "since block 1 was committed";
    assert_eq!(world.delays[&reach], before_last, "{since}");
}
