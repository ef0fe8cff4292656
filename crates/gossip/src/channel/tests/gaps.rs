//! Gaps: pull when they are seen, state transfer, and peers that lie.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::fixture::*;
use crate::config::Config;
use crate::counters::DropReason;
use crate::event::{Arrival, FrameKind, Notice};
use crate::message::{Message, PullStep};
use crate::types::{ChannelId, PkiId};

fn state_info(world: &mut World, of: &Other, sequence: u64, height: u64) {
    let info = of.state_info(sequence, height);
    world.message(of, Message::StateInfo(Box::new(info)));
    world.take_emissions();
}

/// Answers everything that is asked, as a peer does whose ledger and store hold `height` blocks.
fn serve(world: &mut World, peers: &[Other], height: u64) {
    loop {
        let asked = std::mem::take(&mut world.sent);
        if asked.is_empty() {
            return;
        }
        for sent in asked {
            let Some(peer) = peers.iter().find(|peer| peer.id() == sent.to) else {
                continue;
            };
            match sent.kind {
                FrameKind::Hello => {
                    let kept: Vec<u64> = (height.saturating_sub(11)..height).collect();
                    world.pull(peer, sent.nonce(), PullStep::Digest(digests(&kept)));
                }
                FrameKind::Request => {
                    let numbers = sent.numbers().into_iter();
                    let blocks = numbers.map(|number| wire_block(number, good(number)));
                    world.pull(peer, sent.nonce(), PullStep::Update(blocks.collect()));
                }
                FrameKind::StateRequest => {
                    let (start, end) = sent.range();
                    assert!(end - start <= 10, "a Go peer ignores {start} to {end}");
                    let numbers: Vec<u64> = (start..=end.min(height - 1)).collect();
                    world.respond(peer, sent.nonce(), &numbers);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_gap_before_a_block_is_pulled_from_its_sender_at_once() {
    let mut world = World::new();
    let sender = world.member(MY_ORG, "sender", 1);
    world.member(MY_ORG, "other", 1);
    world.push(&sender, 2);
    assert!(world.sent.is_empty(), "the block may be on its way");
    world.pass(30 * MILLISECOND);
    let hello = world.take_sent(FrameKind::Hello).remove(0);
    assert_eq!(hello.to, sender.id());
    world.pull(&sender, hello.nonce(), PullStep::Digest(digests(&[1, 2])));
    let request = world.take_sent(FrameKind::Request).remove(0);
    assert_eq!(request.numbers(), [1]);
    let update = vec![wire_block(1, good(1))];
    world.pull(&sender, hello.nonce(), PullStep::Update(update));
    assert_eq!(world.delivered, [1, 2]);
}

#[test]
fn a_block_that_is_merely_overtaken_causes_no_traffic() {
    let mut world = World::new();
    let sender = world.member(MY_ORG, "sender", 1);
    world.push(&sender, 2);
    world.pass(20 * MILLISECOND);
    world.push(&sender, 1);
    world.pass(SECOND);
    assert!(world.sent.is_empty());
    assert_eq!(world.delivered, [1, 2]);
}

#[test]
fn a_height_ahead_of_us_is_pulled_after_a_moment() {
    let mut world = World::new();
    let ahead = world.member(MY_ORG, "ahead", 3);
    world.pass(199 * MILLISECOND);
    assert!(world.sent.is_empty());
    world.pass(MILLISECOND);
    serve(&mut world, &[ahead], 3);
    assert_eq!(world.delivered, [1, 2]);
    assert_eq!(world.counters.blocks_by(Arrival::Pull), 2);
}

#[test]
fn a_digest_without_the_block_leads_to_the_next_peer() {
    let mut world = World::new();
    let peers = ["a", "b"].map(|name| world.member(MY_ORG, name, 3));
    world.pass(200 * MILLISECOND);
    let first = world.take_sent(FrameKind::Hello).remove(0);
    let asked = peers.iter().find(|peer| peer.id() == first.to).unwrap();
    world.pull(asked, first.nonce(), PullStep::Digest(digests(&[2])));
    let second = world.take_sent(FrameKind::Hello).remove(0);
    assert_ne!(second.to, first.to);
}

#[test]
fn a_peer_that_does_not_answer_is_replaced() {
    let mut world = World::new();
    world.member(MY_ORG, "a", 3);
    world.member(MY_ORG, "b", 3);
    world.pass(200 * MILLISECOND);
    let first = world.take_sent(FrameKind::Hello).remove(0);
    world.pass(300 * MILLISECOND);
    let second = world.take_sent(FrameKind::Hello).remove(0);
    assert_ne!(second.to, first.to);
}

#[test]
fn a_liar_with_a_false_height_is_asked_ever_less_often() {
    let mut world = World::new();
    let liar = world.member(MY_ORG, "liar", u64::MAX);
    let near = world.member(MY_ORG, "liar that is near", 5);
    world.pass(600 * SECOND);
    let hellos = world.take_sent(FrameKind::Hello);
    let rounds = 2 * 600 / 4;
    assert!(hellos.len() < rounds + 30, "{} hellos", hellos.len());
    // Honest ones are heard all the same.
    let honest = world.member(MY_ORG, "honest", 3);
    world.pass(6 * SECOND);
    serve(&mut world, &[honest], 3);
    assert_eq!(world.delivered, [1, 2]);
    for peer in [&liar, &near] {
        assert!(
            world
                .channels
                .iter()
                .next()
                .unwrap()
                .peers(&world.view)
                .any(|(member, _)| member.pki_id() == peer.id())
        );
    }
}

#[test]
fn ranges_come_by_state_transfer_from_several_peers_at_once() {
    let mut world = World::with_state_transfer();
    let near = world.member(MY_ORG, "near", 500);
    let far = world.member(OTHER_ORG, "far", 500);
    world.pass(200 * MILLISECOND);
    let requests: Vec<_> = world
        .sent
        .iter()
        .filter(|sent| sent.kind == FrameKind::StateRequest)
        .map(|sent| sent.range())
        .collect();
    assert_eq!(requests, [(1, 11), (12, 22), (23, 33), (34, 40)]);
    serve(&mut world, &[near, far], 500);
    world.pass(SECOND);
    assert_eq!(world.delivered, (1..500).collect::<Vec<_>>());
    assert!(world.counters.blocks_by(Arrival::StateTransfer) >= 480);
    assert_eq!(world.counters.duplicate_blocks(), 0);
    assert!(
        world.take_emissions().is_empty(),
        "such blocks are not pushed on"
    );
}

#[test]
fn state_transfer_is_not_used_where_it_is_off() {
    let mut world = World::new();
    world.member(MY_ORG, "ahead", 500);
    world.pass(60 * SECOND);
    assert!(world.take_sent(FrameKind::StateRequest).is_empty());
}

#[test]
fn a_silent_an_empty_and_a_lying_peer_do_not_stop_state_transfer() {
    let mut world = World::with_state_transfer();
    let silent = world.member(MY_ORG, "silent", 900);
    let empty = world.member(MY_ORG, "empty", 900);
    let forger = world.member(OTHER_ORG, "forger", 900);
    let honest = world.member(OTHER_ORG, "honest", 60);
    for _ in 0..400 {
        world.pass(100 * MILLISECOND);
        for sent in world.take_sent(FrameKind::StateRequest) {
            let (start, end) = sent.range();
            if sent.to == empty.id() {
                world.respond(&empty, sent.nonce(), &[]);
            } else if sent.to == forger.id() {
                let payload = |number| crate::message::StatePayload {
                    number,
                    bytes: Bytes::from_static(b"forged"),
                    private_data: Vec::new(),
                };
                world.message(
                    &forger,
                    Message::StateResponse {
                        channel: ChannelId::from(CHANNEL),
                        nonce: sent.nonce(),
                        payloads: (start..=end).map(payload).collect(),
                    },
                );
            } else if sent.to == honest.id() {
                let numbers: Vec<u64> = (start..=end.min(59)).collect();
                world.respond(&honest, sent.nonce(), &numbers);
            } else {
                assert_eq!(sent.to, silent.id());
            }
        }
    }
    assert_eq!(world.delivered, (1..60).collect::<Vec<_>>());
    assert!(world.drops(DropReason::BlockRefused) > 0);
}

/// State requests since the last look: to whom, and for which blocks.
fn state_requests(world: &mut World) -> Vec<(PkiId, (u64, u64))> {
    let requests = world.take_sent(FrameKind::StateRequest);
    requests.iter().map(|it| (it.to, it.range())).collect()
}

#[test]
fn blocks_far_ahead_show_what_is_missing_before_a_state_info_does() {
    let mut world = World::with_state_transfer();
    let ahead = world.tree_member("ahead");
    world.pull(&ahead, 0, PullStep::Digest(digests(&[60])));
    world.push(&ahead, 61);
    world.pass(200 * MILLISECOND);
    serve(&mut world, &[ahead], 61);
    let height = world.delivered.len() as u64 + 1;
    world.commit(height);
    assert!(height > 20, "as far as the buffer reaches: {height}");
}

#[test]
fn a_block_that_is_shown_and_not_committed_yet_is_no_lie() {
    let mut world = World::with_state_transfer();
    let ahead = world.tree_member("ahead");
    let show = |world: &mut World, number: u64| {
        world.pull(&ahead, 0, PullStep::Digest(digests(&[number])));
        world.pass(300 * MILLISECOND);
    };
    show(&mut world, 30);
    for sent in world.take_sent(FrameKind::StateRequest) {
        world.respond(&ahead, sent.nonce(), &[]);
    }
    world.pass(10 * SECOND);
    assert!(state_requests(&mut world).is_empty(), "it is asked no more");
    show(&mut world, 31);
    let asked = state_requests(&mut world);
    assert_eq!(
        asked.first(),
        Some(&(ahead.id(), (1, 11))),
        "until it shows another"
    );
}

#[test]
fn responses_hold_what_was_asked_for_and_come_from_who_was_asked() {
    let mut world = World::with_state_transfer();
    let asked = world.member(MY_ORG, "asked", 100);
    let other = world.member(MY_ORG, "other", 1);
    world.pass(200 * MILLISECOND);
    let request = world.take_sent(FrameKind::StateRequest).remove(0);
    let nonce = request.nonce();
    world.respond(&other, nonce, &[1]);
    world.respond(&asked, nonce ^ 1, &[1]);
    assert_eq!(world.drops(DropReason::UnknownNonce), 2);
    // A gigantic batch, blocks out of range, one twice.
    let mut numbers: Vec<u64> = vec![0, 1, 1, 2];
    numbers.extend(1000..3000);
    world.respond(&asked, nonce, &numbers);
    assert_eq!(world.delivered, [1, 2]);
    assert_eq!(world.drops(DropReason::Unsolicited), 2002);
}

#[test]
fn state_requests_are_served_from_the_ledger() {
    let mut world = World::with(Config::default(), 50);
    let asker = world.peer(OTHER_ORG, "asker");
    let request = |start, end| Message::StateRequest {
        channel: ChannelId::from(CHANNEL),
        nonce: 9,
        start,
        end,
    };
    world.message(&asker, request(45, 55));
    let (to, nonce, start, end) = world.reads.remove(0);
    assert_eq!((to.pki_id, nonce, start, end), (asker.id(), 9, 45, 49));
    let id = ChannelId::from(CHANNEL);
    let blocks = (45..48).map(good).collect();
    world.act(|channels, c| channels.on_blocks_read(&id, asker.id(), 9, 45, blocks, c));
    let response = world.take_sent(FrameKind::StateResponse).remove(0);
    let numbers: Vec<u64> = response.payloads().iter().map(|it| it.seq_num).collect();
    assert_eq!((response.nonce(), numbers), (9, vec![45, 46, 47]));
    // Nothing to read: answered at once. Too much: ignored.
    world.message(&asker, request(50, 60));
    assert!(
        world.take_sent(FrameKind::StateResponse)[0]
            .payloads()
            .is_empty()
    );
    world.message(&asker, request(0, 11));
    world.message(&asker, request(9, 3));
    assert_eq!(world.drops(DropReason::NotEligible), 2);
    let stranger = world.peer(STRANGERS, "stranger");
    world.message(&stranger, request(0, 1));
    assert_eq!(world.drops(DropReason::ForeignOrg), 1);
    assert!(world.reads.is_empty());
}

#[test]
fn a_peer_that_cannot_be_reached_is_replaced_at_once() {
    let mut world = World::with_state_transfer();
    let peers = ["a", "b"].map(|name| world.member(MY_ORG, name, 100));
    world.pass(200 * MILLISECOND);
    let before = world.take_sent(FrameKind::StateRequest);
    assert_eq!(before.len(), 4);
    let gone = peers[0].id();
    world.act(|channels, c| channels.unreachable(&gone, c));
    world.act(|channels, c| channels.wake(c));
    let after = world.take_sent(FrameKind::StateRequest);
    assert!(after.iter().all(|sent| sent.to == peers[1].id()));
    assert!(world.take_sent(FrameKind::StateRequest).is_empty());
}

#[derive(Debug, Clone)]
enum Happening {
    Push {
        from: usize,
        number: u64,
        good: bool,
    },
    Order(u64),
    Height {
        of: usize,
        height: u64,
    },
    Junk {
        from: usize,
        nonce: u64,
    },
    Answer {
        silent: usize,
    },
    Pass(u64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let push = (0usize..4, 1u64..60, prop::bool::weighted(0.8))
        .prop_map(|(from, number, good)| Happening::Push { from, number, good });
    let height = (0usize..4, 0u64..80).prop_map(|(of, height)| Happening::Height { of, height });
    let junk = (0usize..4, any::<u64>()).prop_map(|(from, nonce)| Happening::Junk { from, nonce });
    let one = prop_oneof![
        8 => push,
        2 => (1u64..60).prop_map(Happening::Order),
        1 => height,
        1 => junk,
        4 => (0usize..5).prop_map(|silent| Happening::Answer { silent }),
        4 => (0u64..3000).prop_map(Happening::Pass),
    ];
    prop::collection::vec(one, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever comes in whatever order: every block is delivered once and in order, nothing is asked
    /// for beyond the bounds, and in the end an honest peer brings everything.
    #[test]
    fn blocks_are_delivered_once_and_in_order(happenings in happenings()) {
        let mut world = World::with_state_transfer();
        let peers: Vec<Other> =
            (0..4).map(|number| world.member(MY_ORG, &format!("peer{number}"), 1)).collect();
        let mut sequences: BTreeMap<usize, u64> = BTreeMap::new();
        for happening in happenings {
            match happening {
                Happening::Push { from, number, good: true } => world.push(&peers[from], number),
                Happening::Push { from, number, .. } => {
                    world.push_bytes(&peers[from], number, Bytes::from_static(b"forged"));
                }
                Happening::Order(number) => world.order(number),
                Happening::Height { of, height } => {
                    let sequence = sequences.entry(of).or_insert(1);
                    *sequence += 1;
                    let info = peers[of].state_info(*sequence, height);
                    world.message(&peers[of], Message::StateInfo(Box::new(info)));
                }
                Happening::Junk { from, nonce } => {
                    let digest = PullStep::Digest(digests(&[nonce, 1, 2]));
                    world.pull(&peers[from], nonce, digest);
                    let blocks = vec![wire_block(nonce, good(nonce))];
                    world.pull(&peers[from], nonce, PullStep::Update(blocks));
                    world.respond(&peers[from], nonce, &[1, nonce]);
                }
                Happening::Answer { silent } => {
                    let honest: Vec<Other> = peers
                        .iter()
                        .enumerate()
                        .filter(|(number, _)| *number != silent)
                        .map(|(_, peer)| peer.clone())
                        .collect();
                    serve(&mut world, &honest, 60);
                }
                Happening::Pass(time) => world.pass(MILLISECOND * u32::try_from(time).unwrap()),
            }
            let channel = world.channels.iter().next().unwrap();
            prop_assert!(channel.buffered_blocks() <= 40);
            let expected: Vec<u64> = (1..channel.next_block()).collect();
            prop_assert_eq!(&world.delivered, &expected);
        }
        for (number, peer) in peers.iter().enumerate() {
            let sequence = sequences.get(&number).copied().unwrap_or(1) + 1;
            state_info(&mut world, peer, sequence, 60);
        }
        for _ in 0..1000 {
            if world.delivered.len() == 59 {
                break;
            }
            world.pass(100 * MILLISECOND);
            serve(&mut world, &peers, 60);
        }
        prop_assert_eq!(&world.delivered, &(1..60).collect::<Vec<_>>());
    }
}

#[test]
fn what_one_peer_boasts_shows_as_a_bounded_lag() {
    let mut world = World::new();
    let lag = |world: &World| world.channels.iter().next().unwrap().lag(world.now);
    let liar = world.member(MY_ORG, "liar", u64::MAX);
    assert_eq!(lag(&world), 1000);
    let honest = world.member(MY_ORG, "honest", 4);
    assert_eq!(lag(&world), 1000);
    state_info(&mut world, &honest, 9, 5000);
    assert_eq!(lag(&world), 4999, "as far as two say");
    state_info(&mut world, &liar, 9, 1);
    assert_eq!(lag(&world), 1000);
    state_info(&mut world, &honest, 10, 1);
    assert_eq!(lag(&world), 0);
}

#[test]
fn a_follower_that_cannot_catch_up_says_so() {
    let told = |adjust: fn(&mut Config)| {
        let mut config = Config::default();
        adjust(&mut config);
        let mut world = World::with(config, 1);
        let one = world.member(MY_ORG, "one", 100);
        let two = world.member(OTHER_ORG, "two", 100);
        world.pass(Duration::from_secs(60));
        let told = |world: &mut World| {
            let notices = std::mem::take(&mut world.notices);
            let behind = |it: &Notice| match it {
                Notice::LeftBehind { blocks, .. } => Some(*blocks),
                _ => None,
            };
            notices.iter().filter_map(behind).collect::<Vec<_>>()
        };
        let before = told(&mut world);
        // Little is missing, and kept for pull.
        state_info(&mut world, &one, 9, 8);
        state_info(&mut world, &two, 9, 8);
        world.pass(Duration::from_secs(60));
        assert!(told(&mut world).is_empty());
        before
    };
    let left_behind = told(|_| {});
    assert!((3..=6).contains(&left_behind.len()), "{left_behind:?}");
    assert!(left_behind.iter().all(|blocks| *blocks == 99));
    assert!(told(|config| config.state.enabled = true).is_empty());
    assert!(told(|config| config.org_leader = true).is_empty());
}

#[test]
fn who_has_a_block_in_its_ledger_alone_is_asked_for_it_by_state_transfer() {
    let mut world = World::with_state_transfer();
    // Started a moment ago: nothing is kept for pull, so a hello gets no digest.
    let restarted = world.member(MY_ORG, "restarted", 3);
    world.pass(2 * SECOND);
    let asked: Vec<_> = world
        .take_sent(FrameKind::StateRequest)
        .iter()
        .map(|sent| (sent.to, sent.range()))
        .collect();
    assert_eq!(asked, [(restarted.id(), (1, 2))]);
}

/// Whoever claims more may be avoided because it failed us, and yet be the one that has the blocks: rounds of pull
/// go on at full pace, and nobody takes it for calm.
#[test]
fn pull_keeps_its_pace_while_all_who_claim_more_are_avoided() {
    for state_transfer in [false, true] {
        let mut world = match state_transfer {
            true => World::with_state_transfer(),
            false => World::new(),
        };
        world.member(MY_ORG, "silent", 5);
        // Long enough for the longest back-off.
        world.pass(SECOND * 300);
        world.take_sent(FrameKind::Hello);
        let rounds = 15;
        world.pass(world.config.pull_interval * rounds);
        let hellos = world.take_sent(FrameKind::Hello).len();
        assert!(hellos >= rounds as usize - 1, "{hellos} hellos");
    }
}

#[test]
fn pull_slows_down_where_nobody_claims_more() {
    let mut world = World::new();
    world.member(MY_ORG, "level", 1);
    world.pass(SECOND * 300);
    world.take_sent(FrameKind::Hello);
    world.pass(world.config.pull_interval * 16);
    let hellos = world.take_sent(FrameKind::Hello).len();
    assert!((1..=3).contains(&hellos), "{hellos} hellos");
}
