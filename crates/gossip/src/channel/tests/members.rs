//! StateInfo, eligibility, configuration, leaving.

use std::collections::BTreeSet;

use super::fixture::*;
use crate::counters::DropReason;
use crate::crypto::Identity;
use crate::emitter::Route;
use crate::event::{FrameKind, Notice};
use crate::message::{Message, MessageError, Pull, PullStep, check_sender, decode, verify};
use crate::types::{ChannelId, PkiId};

fn info(info: crate::message::Verified<crate::message::StateInfo>) -> Message {
    Message::StateInfo(Box::new(info))
}

fn members(world: &World) -> Vec<u64> {
    let channel = world.channels.iter().next().unwrap();
    channel
        .peers(&world.view)
        .map(|(_, height)| height)
        .collect()
}

#[test]
fn state_info_is_kept_replaced_and_passed_on_once() {
    let mut world = World::new();
    let author = world.peer(MY_ORG, "author");
    let relay = world.peer(OTHER_ORG, "relay");
    world.message(&relay, info(author.state_info(5, 10)));
    world.message(&relay, info(author.state_info(5, 10)));
    world.message(&relay, info(author.state_info(4, 99)));
    assert_eq!(members(&world), [10]);
    assert_eq!(world.drops(DropReason::Duplicate), 2);
    let emissions = world.take_emissions();
    assert_eq!(emissions.len(), 1);
    assert!(matches!(
        &emissions[0].route,
        Route::StateInfo {
            channel: Some(_),
            ..
        }
    ));
    assert_eq!(emissions[0].received_from, Some(relay.id()));
    world.message(&relay, info(author.state_info(6, 11)));
    assert_eq!(members(&world), [11]);
}

#[test]
fn state_info_of_an_author_without_external_endpoint_stays_in_our_organisation() {
    let mut world = World::new();
    let hidden = world.peer_with(MY_ORG, "hidden", false);
    let friend = world.peer(MY_ORG, "friend");
    let foreigner = world.peer(OTHER_ORG, "foreigner");
    let stranger = world.peer(STRANGERS, "stranger");
    world.message(&hidden, info(hidden.state_info(1, 5)));
    let emission = world.take_emissions().remove(0);
    assert_eq!(world.targets(&emission), [friend.id()].into());
    world.message(&foreigner, info(foreigner.state_info(1, 5)));
    let emission = world.take_emissions().remove(0);
    let targets = world.targets(&emission);
    assert_eq!(targets, [hidden.id(), friend.id()].into());
    assert!(!targets.contains(&stranger.id()));
}

#[test]
fn a_foreign_mac_leads_to_the_relay_and_only_from_our_organisation() {
    let mut world = World::new();
    let friend = world.peer(MY_ORG, "friend");
    let other = world.peer(MY_ORG, "other");
    let foreigner = world.peer(OTHER_ORG, "foreigner");
    let elsewhere = friend.state_info_of("quay", 1, 7, false);
    world.message(&foreigner, info(elsewhere.clone()));
    assert_eq!(world.drops(DropReason::UnknownChannel), 1);
    world.message(&friend, info(elsewhere.clone()));
    world.message(&friend, info(elsewhere));
    let emissions = world.take_emissions();
    assert_eq!(emissions.len(), 1);
    assert_eq!(world.targets(&emissions[0]), [other.id()].into());
    assert!(members(&world).is_empty());
}

#[test]
fn state_info_of_a_stranger_is_refused_even_with_the_right_mac() {
    let mut world = World::new();
    let friend = world.peer(MY_ORG, "friend");
    let stranger = world.peer(STRANGERS, "stranger");
    world.message(&friend, info(stranger.state_info(1, 5)));
    world.message(&stranger, info(friend.state_info(1, 5)));
    assert_eq!(world.drops(DropReason::ForeignOrg), 2);
    assert!(members(&world).is_empty());
}

#[test]
fn a_snapshot_brings_known_living_members_only() {
    let mut world = World::new();
    let teller = world.peer(OTHER_ORG, "teller");
    let known = world.peer(MY_ORG, "known");
    let stranger = world.peer(STRANGERS, "stranger");
    let mut elsewhere = World::new();
    let not_alive = elsewhere.peer(OTHER_ORG, "not alive");
    let me = Other(world.me.clone());
    let infos = vec![
        known.state_info(1, 3),
        known.state_info_of("quay", 2, 4, false),
        stranger.state_info(1, 5),
        not_alive.state_info(1, 6),
        me.state_info(u64::MAX, 7),
    ];
    let id = ChannelId::from(CHANNEL);
    world.message(&teller, Message::StateInfoSnapshot(id, infos));
    assert_eq!(members(&world), [3]);
    for reason in [
        DropReason::UnknownChannel,
        DropReason::ForeignOrg,
        DropReason::UnknownIdentity,
        DropReason::OwnMessage,
    ] {
        assert_eq!(world.drops(reason), 1, "{reason:?}");
    }
    assert!(world.take_emissions().is_empty());
}

#[test]
fn a_pull_request_is_answered_with_what_the_asker_may_see() {
    let mut world = World::new();
    let friend = world.member(MY_ORG, "friend", 1);
    let foreigner = world.member(OTHER_ORG, "foreigner", 1);
    let hidden = world.peer_with(MY_ORG, "hidden", false);
    world.message(&hidden, info(hidden.state_info(1, 1)));
    let me = world.me.pki_id();
    world.pass(4 * SECOND);
    world.sent.clear();
    let ask = |world: &mut World, who: &Other| {
        let channel_mac = ChannelId::from(CHANNEL).mac(&who.id());
        world.message(who, Message::StateInfoPullRequest { channel_mac });
        world.take_sent(FrameKind::StateInfoSnapshot)
    };
    // We come first, then our organisation, then that of the asker.
    let [first, second] = [friend.id().min(hidden.id()), friend.id().max(hidden.id())];
    let all = [me, first, second, foreigner.id()];
    assert_eq!(ask(&mut world, &friend)[0].authors(), all);
    let public = [me, friend.id(), foreigner.id()];
    assert_eq!(ask(&mut world, &foreigner)[0].authors(), public);
    // Not again at once, and not with somebody else's MAC.
    assert!(ask(&mut world, &friend).is_empty());
    assert_eq!(world.drops(DropReason::TooOften), 1);
    let channel_mac = ChannelId::from(CHANNEL).mac(&friend.id());
    world.message(&foreigner, Message::StateInfoPullRequest { channel_mac });
    assert_eq!(world.drops(DropReason::UnknownChannel), 1);
    let stranger = world.peer(STRANGERS, "stranger");
    assert!(ask(&mut world, &stranger).is_empty());
}

#[test]
fn our_own_state_info_is_published_on_the_tick_if_something_changed() {
    let mut world = World::new();
    world.pass(4 * SECOND);
    assert!(world.take_emissions().is_empty(), "nobody is there");
    world.peer(MY_ORG, "friend");
    world.pass(4 * SECOND);
    assert_eq!(world.take_emissions().len(), 1);
    world.pass(8 * SECOND);
    assert!(world.take_emissions().is_empty());
    world.order(1);
    world.take_emissions();
    world.pass(4 * SECOND);
    let emissions = world.take_emissions();
    assert_eq!(emissions.len(), 1);
    assert!(matches!(emissions[0].route, Route::StateInfo { .. }));
    world.act(|channels, c| channels.set_chaincodes(&ChannelId::from(CHANNEL), vec![], c));
    assert_eq!(world.take_emissions().len(), 1);
}

#[test]
fn state_infos_are_requested_from_members_of_the_channels_organisations() {
    let mut world = World::new();
    let friend = world.peer(MY_ORG, "friend");
    let foreigner = world.peer(OTHER_ORG, "foreigner");
    world.peer(STRANGERS, "stranger");
    world.pass(4 * SECOND);
    let asked = world.take_sent(FrameKind::StateInfoPullRequest);
    let asked = asked.iter().map(|sent| sent.to).collect();
    assert_eq!(
        std::collections::BTreeSet::from([friend.id(), foreigner.id()]),
        asked
    );
}

#[test]
fn peers_that_leave_membership_are_swept_out() {
    let mut world = World::new();
    world.member(MY_ORG, "gone", 5);
    world.view = crate::membership::View::default();
    let stays = world.peer(MY_ORG, "stays");
    world.message(&stays, info(stays.state_info(1, 6)));
    world.pass(21 * SECOND);
    let channel = world.channels.iter().next().unwrap();
    let heights: Vec<u64> = channel.state_infos.by_height().map(|(h, _)| h).collect();
    assert_eq!(heights, [6]);
}

#[test]
fn an_organisation_that_is_removed_is_shut_out_at_once() {
    let mut world = World::new();
    let foreigner = world.member(OTHER_ORG, "foreigner", 5);
    world.member(MY_ORG, "friend", 6);
    world.join(&[MY_ORG], 2, 1);
    assert_eq!(members(&world), [6]);
    world.push(&foreigner, 1);
    world.message(&foreigner, info(foreigner.state_info(9, 9)));
    assert_eq!(world.drops(DropReason::ForeignOrg), 2);
    // An older configuration does not bring it back.
    world.join(&[MY_ORG, OTHER_ORG], 1, 1);
    world.message(&foreigner, info(foreigner.state_info(9, 9)));
    assert_eq!(world.drops(DropReason::ForeignOrg), 3);
}

#[test]
fn without_our_organisation_the_channel_is_silent() {
    let mut world = World::new();
    let friend = world.member(MY_ORG, "friend", 5);
    world.join(&[OTHER_ORG], 2, 1);
    world.sent.clear();
    world.pass(30 * SECOND);
    assert!(world.sent.is_empty());
    world.push(&friend, 1);
    assert!(world.delivered.is_empty());
}

#[test]
fn leaving_is_said_and_ends_the_exchange_of_blocks() {
    let mut world = World::new();
    let friend = world.member(MY_ORG, "friend", 5);
    let id = ChannelId::from(CHANNEL);
    world.act(|channels, c| channels.leave(&id, c));
    let emission = world.take_emissions().remove(0);
    assert!(matches!(emission.route, Route::StateInfo { .. }));
    world.sent.clear();
    world.pass(30 * SECOND);
    assert!(world.sent.is_empty());
    assert!(members(&world).is_empty());
    let channel_mac = id.mac(&friend.id());
    world.message(&friend, Message::StateInfoPullRequest { channel_mac });
    assert_eq!(world.take_sent(FrameKind::StateInfoSnapshot).len(), 1);
    world.join(&[MY_ORG, OTHER_ORG], 1, 1);
    assert_eq!(members(&world), [5]);
}

#[test]
fn a_peer_that_has_left_is_no_member() {
    let mut world = World::new();
    let friend = world.member(MY_ORG, "friend", 5);
    world.message(&friend, info(friend.state_info_of(CHANNEL, 2, 5, true)));
    assert!(members(&world).is_empty());
    world.order(1);
    let emission = world.take_emissions().pop().unwrap();
    assert!(world.targets(&emission).is_empty());
}

#[test]
fn snapshots_are_requested_less_often_while_there_is_nothing_to_learn() {
    let mut world = World::new();
    let friend = world.member(MY_ORG, "friend", 1);
    let snapshot = |info| Message::StateInfoSnapshot(ChannelId::from(CHANNEL), vec![info]);
    let requests = |world: &mut World, seconds: u32| {
        let mut requests = 0;
        for _ in 0..seconds {
            world.pass(SECOND);
            for _ in world.take_sent(FrameKind::StateInfoPullRequest) {
                requests += 1;
                world.message(&friend, snapshot(friend.state_info(1, 1)));
            }
        }
        requests
    };
    // Nobody answers: that is no calm.
    world.pass(64 * SECOND);
    assert_eq!(world.take_sent(FrameKind::StateInfoPullRequest).len(), 16);
    // After 4, 8, 16, 32 and 64 seconds, then every 32.
    assert_eq!(requests(&mut world, 66), 5);
    assert_eq!(requests(&mut world, 31), 1);
    assert_eq!(requests(&mut world, 32), 1);
    // Somebody comes: at once, as soon as that is noticed.
    let late = world.peer(MY_ORG, "late");
    assert!(requests(&mut world, 11) > 0);
    // A snapshot tells of somebody.
    world.message(&friend, snapshot(late.state_info(1, 1)));
    world.take_sent(FrameKind::StateInfoPullRequest);
    assert!(requests(&mut world, 40) > 2 * 2);
    // Newer heights of those who are known say no more than pushes do.
    let before = requests(&mut world, 200);
    for sequence in 2..50 {
        world.message(&friend, snapshot(late.state_info(sequence, sequence)));
        world.pass(4 * SECOND);
    }
    let with_heights = world.take_sent(FrameKind::StateInfoPullRequest).len();
    assert!(with_heights <= before + 2, "{with_heights} {before}");
}

#[test]
fn changes_of_the_membership_are_reported() {
    let mut world = World::new();
    let friend = world.member(MY_ORG, "friend", 1);
    world.pass(6 * SECOND);
    let online = |online, offline| Notice::MembershipChanged {
        channel: ChannelId::from(CHANNEL),
        online,
        offline,
    };
    assert_eq!(world.notices, [online(vec![friend.id()], vec![])]);
    world.notices.clear();
    world.act(|channels, _| channels.forget(&friend.id()));
    world.pass(20 * SECOND);
    assert_eq!(world.notices, [online(vec![], vec![friend.id()])]);
}

#[test]
fn messages_of_unknown_channels_are_counted() {
    let mut world = World::new();
    let friend = world.peer(MY_ORG, "friend");
    let message = Message::StateInfoSnapshot(ChannelId::from("quay"), vec![]);
    world.message(&friend, message);
    assert_eq!(world.drops(DropReason::UnknownChannel), 1);
}

#[test]
fn who_is_no_reader_after_a_change_of_the_configuration_is_let_go() {
    let mut world = World::with_state_transfer();
    let [reader, other] = ["reader", "other"].map(|name| world.member(MY_ORG, name, 1));
    let channel = ChannelId::from(CHANNEL);
    let setup = World::setup(&[MY_ORG, OTHER_ORG], 2, 1);
    world.act(|channels, c| channels.update(setup, c));
    let rechecked: BTreeSet<PkiId> = world.rechecked.iter().map(Identity::pki_id).collect();
    assert_eq!(rechecked, BTreeSet::from([reader.id(), other.id()]));
    world.act(|channels, c| channels.refuse(&channel, &other.id(), c));
    let peers = world.channels.get(&channel).unwrap().peers(&world.view);
    let peers: Vec<PkiId> = peers.map(|(member, _)| member.pki_id()).collect();
    assert_eq!(peers, [reader.id()]);
    let unknown = ChannelId::from("quay");
    world.act(|channels, c| channels.refuse(&unknown, &other.id(), c));
    assert_eq!(world.drops(DropReason::UnknownChannel), 1);
}

#[test]
fn state_transfer_and_private_data_are_for_readers() {
    let mut world = World::new();
    let reader = world.peer(MY_ORG, "reader");
    let other = world.peer(MY_ORG, "no reader");
    let stranger = PkiId([7; 32]);
    let channel = ChannelId::from(CHANNEL);
    let request = |channel: &ChannelId| Message::StateRequest {
        channel: channel.clone(),
        nonce: 1,
        start: 0,
        end: 1,
    };
    let response = Message::StateResponse {
        channel: channel.clone(),
        nonce: 1,
        payloads: Vec::new(),
    };
    let private = Message::PrivateData(channel.clone(), 1, Box::default());
    let known = &world.identities;
    for message in [request(&channel), response, private] {
        let check = |from: &PkiId| check_sender(&message, from, &Trusting, known);
        assert_eq!(check(&reader.id()), Ok(()));
        let refused = check(&other.id()).unwrap_err();
        assert!(matches!(refused, MessageError::Refused { .. }), "{refused}");
        let refused = check(&stranger).unwrap_err();
        assert!(matches!(refused, MessageError::UnknownAuthor { .. }));
    }
    let hello = Message::BlockPull(
        channel,
        Pull {
            nonce: 1,
            step: PullStep::Hello,
        },
    );
    assert_eq!(check_sender(&hello, &stranger, &Trusting, known), Ok(()));
}

#[test]
fn state_info_of_who_is_no_reader_of_its_channel_is_refused() {
    let mut world = World::new();
    let author = world.peer(MY_ORG, "author");
    let verdict = |channel: &str| {
        let info = author.state_info_of(channel, 1, 1, false);
        let received = decode(info.envelope().frame().clone()).unwrap();
        (
            info.channel_mac,
            verify(received, &Trusting, &world.identities),
        )
    };
    // The crypto of these tests refuses every MAC that begins with a zero.
    let channels = (0..2000).map(|number| verdict(&number.to_string()));
    let (refused, accepted): (Vec<_>, Vec<_>) = channels.partition(|(mac, _)| mac[0] == 0);
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|(_, verdict)| verdict.is_err()));
    assert!(accepted.iter().all(|(_, verdict)| verdict.is_ok()));
}

#[test]
fn who_publishes_without_end_is_passed_on_rarely() {
    let mut world = World::new();
    let liar = world.member(MY_ORG, "liar", 1);
    world.take_emissions();
    for sequence in 2..=401 {
        world.message(&liar, info(liar.state_info(sequence, sequence)));
        world.pass(SECOND / 100);
    }
    // In four seconds. All that was said is known all the same.
    let passed_on = world.take_emissions();
    let passed_on = passed_on.iter().filter(|it| it.received_from.is_some());
    let passed_on = passed_on.count() as u64;
    assert!((7..=9).contains(&passed_on), "{passed_on}");
    assert_eq!(members(&world), [401]);
    assert_eq!(world.drops(DropReason::TooOften), 400 - passed_on);
}

#[test]
fn who_is_new_in_a_channel_is_told_of_us_at_once() {
    let mut world = World::new();
    world.member(MY_ORG, "friend", 1);
    world.pass(8 * SECOND);
    let late = world.peer(MY_ORG, "late");
    world.take_sent(FrameKind::StateInfo);
    world.message(&late, info(late.state_info(1, 1)));
    assert_eq!(world.take_sent(FrameKind::StateInfo).len(), 1);
    world.message(&late, info(late.state_info(2, 2)));
    assert!(world.take_sent(FrameKind::StateInfo).is_empty());
}

#[test]
fn a_stream_that_ends_ends_the_calm() {
    let mut world = World::new();
    let friend = world.member(MY_ORG, "friend", 1);
    let snapshot = |info| Message::StateInfoSnapshot(ChannelId::from(CHANNEL), vec![info]);
    for _ in 0..100 {
        world.pass(SECOND);
        world.message(&friend, snapshot(friend.state_info(1, 1)));
    }
    let asked = |world: &mut World| {
        let kinds = [FrameKind::StateInfoPullRequest, FrameKind::Hello];
        kinds.map(|kind| world.take_sent(kind).len())
    };
    asked(&mut world);
    world.act(|channels, c| channels.disconnected(&friend.id(), c.ctx));
    world.pass(4 * SECOND);
    assert_eq!(asked(&mut world), [1, 1]);
}
