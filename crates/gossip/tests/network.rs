//! Whole networks in memory, on virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use selvedge_gossip::config::Rules;
use selvedge_gossip::counters::DropReason;
use selvedge_gossip::event::{Arrival, Event, FrameKind, Notice};
use selvedge_gossip::message::{Envelope, MessageError, gossip_message};
use selvedge_gossip::types::{ChannelId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{self, AliveMessage, Member, MembershipRequest, PeerTime};
use support::keys;
use support::network::{Network, PeerSpec, TestBlock, external, internal, peers};

const SECOND: Duration = Duration::from_secs(1);
const CHANNEL: &str = "mychannel";

fn everybody(network: &Network) -> bool {
    let count = network.nodes.len();
    (0..count).all(|node| network.alive(node).len() == count - 1)
}

#[test]
fn all_peers_of_an_organisation_learn_of_each_other() {
    for seed in 0..5 {
        let mut network = Network::new(seed, &peers("Org1", 12), |_| {});
        assert!(network.run_until(20 * SECOND, everybody), "seed {seed}");
        // And stay so, although each is heard of only every few seconds.
        network.run(60 * SECOND);
        assert!(everybody(&network), "seed {seed}");
        assert!(network.nodes.iter().all(|node| node.refused.is_empty()));
    }
}

#[test]
fn a_calm_network_passes_alive_messages_on_in_few_frames() {
    const STOCK: usize = 30;
    let stock = internal("peer30.Org1");
    let mut network = Network::new(9, &peers("Org1", STOCK + 1), |config| {
        if config.internal_endpoint == stock {
            config.rules = Rules::Fabric;
        }
    });
    assert!(network.run_until(20 * SECOND, everybody));
    network.run(10 * SECOND);

    network.sent.clear();
    network.watch(0, STOCK);
    network.run(60 * SECOND);
    assert!(everybody(&network));
    let copies = (STOCK + 1) * STOCK * 3 * 12;
    let frames = |kind| usize::try_from(network.sent[&kind]).unwrap();
    let frames = frames(FrameKind::Alive) + frames(FrameKind::AliveBundle);
    assert!(frames < copies / 3, "{frames} frames for {copies} messages");
    // Whoever goes by Fabric's rules gets each by itself, and answers to what it asks.
    let to_stock = network.watched();
    let count = |kind| to_stock.iter().filter(|it| **it == kind).count();
    assert!(count(FrameKind::Alive) > 0 && count(FrameKind::AliveBundle) == 0);
}

#[test]
fn a_bootstrap_peer_that_starts_last_is_found_soon() {
    let mut network = Network::new(6, &peers("Org1", 5), |_| {});
    network.stop(0);
    network.run(5 * SECOND);
    assert!((1..5).all(|node| network.alive(node).is_empty()));
    network.restart(0);
    assert!(network.run_until(10 * SECOND, everybody));
}

#[test]
fn late_joiners_get_identities_by_pull() {
    let mut network = Network::new(7, &peers("Org1", 6), |_| {});
    network.stop(5);
    network.run(30 * SECOND);
    // By now nobody puts its identity into alive messages any more.
    network.restart(5);
    assert!(network.run_until(30 * SECOND, |network| network.alive(5).len() == 5));
    assert_eq!(network.nodes[5].gossip.identities().len(), 6);
}

fn two_orgs() -> Vec<PeerSpec> {
    let mut specs = peers("Org1", 4);
    specs.extend(peers("Org2", 4));
    // The last one of each publishes no external endpoint.
    specs[3].external = false;
    specs[7].external = false;
    specs
}

#[test]
fn organisations_know_of_each_other_what_is_published() {
    let mut network = Network::new(3, &two_orgs(), |_| {});
    network.run(10 * SECOND);
    // Without a common channel nobody looks beyond the organisation.
    assert_eq!(network.alive(0), BTreeSet::from([1, 2, 3]));
    network.join_all(CHANNEL);
    let complete = |network: &Network| {
        network.alive(0) == BTreeSet::from([1, 2, 3, 4, 5, 6])
            && network.alive(5) == BTreeSet::from([0, 1, 2, 4, 6, 7])
    };
    assert!(network.run_until(40 * SECOND, complete));
    network.run(60 * SECOND);
    assert!(complete(&network));
    for node in 0..8 {
        for member in network.nodes[node].gossip.members().alive() {
            let org = network.nodes[node]
                .gossip
                .identities()
                .org(&member.pki_id())
                .unwrap();
            let own = org.as_str() == network.nodes[node].org;
            assert_eq!(member.internal_endpoint().is_some(), own, "{member:?}");
        }
    }
}

#[test]
fn blocks_reach_the_whole_organisation_in_order() {
    let mut network = Network::new(11, &peers("Org1", 10), |_| {});
    network.join_all(CHANNEL);
    network.run(15 * SECOND);
    for number in 1..=40 {
        network.order(0, CHANNEL, number);
        network.run(SECOND / 4);
    }
    let complete = |network: &Network| (0..10).all(|node| network.height(node, CHANNEL) == 41);
    assert!(network.run_until(5 * SECOND, complete));
    let chain: Vec<TestBlock> = (0..=40).map(TestBlock::new).collect();
    for node in &network.nodes {
        assert_eq!(node.ledgers[CHANNEL], chain);
    }
    let pushed = network.nodes[1..].iter().flat_map(|node| &node.arrivals);
    assert!(pushed.filter(|(_, _, how)| *how == Arrival::Push).count() > 300);
}

#[test]
fn loss_is_repaired() {
    let mut pulled = 0;
    for seed in 0..5 {
        let mut network = Network::new(seed, &peers("Org1", 8), |config| {
            config.state.enabled = true;
        });
        network.join_all(CHANNEL);
        network.link.loss = 250;
        network.run(30 * SECOND);
        for number in 1..=30 {
            network.order(0, CHANNEL, number);
            network.run(SECOND / 4);
        }
        let complete = |network: &Network| (0..8).all(|node| network.height(node, CHANNEL) == 31);
        assert!(network.run_until(30 * SECOND, complete), "seed {seed}");
        let arrivals = network.nodes.iter().flat_map(|node| &node.arrivals);
        pulled += arrivals.filter(|(_, _, how)| *how == Arrival::Pull).count();
    }
    assert!(pulled > 0);
}

#[test]
fn blocks_stay_within_the_organisation() {
    let mut network = Network::new(5, &two_orgs(), |_| {});
    network.join_all(CHANNEL);
    network.run(30 * SECOND);
    network.order(0, CHANNEL, 1);
    network.run(10 * SECOND);
    assert!((0..4).all(|node| network.height(node, CHANNEL) == 2));
    assert!((4..8).all(|node| network.height(node, CHANNEL) == 1));
}

#[test]
fn a_stopped_peer_is_taken_for_dead_and_resurrected_when_it_returns() {
    let mut network = Network::new(13, &peers("Org1", 6), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    network.stop(4);
    let missed = |network: &Network| {
        (0..6)
            .filter(|node| *node != 4)
            .all(|node| network.alive(node).len() == 4)
    };
    assert!(network.run_until(35 * SECOND, missed));
    let dead = network.id(4);
    let is_notice =
        |notice: &Notice| matches!(notice, Notice::PeerDead { peer, .. } if *peer == dead);
    assert!(network.nodes[0].notices.iter().any(is_notice));
    network.restart(4);
    assert!(network.run_until(30 * SECOND, everybody));
}

#[test]
fn both_sides_of_a_partition_find_each_other_again() {
    let mut network = Network::new(17, &peers("Org1", 6), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    network.partition(&[0, 1, 2], &[3, 4, 5]);
    network.run(60 * SECOND);
    assert_eq!(network.alive(0), BTreeSet::from([1, 2]));
    assert_eq!(network.alive(5), BTreeSet::from([3, 4]));
    network.cut.clear();
    assert!(network.run_until(60 * SECOND, everybody));
}

#[test]
fn a_peer_that_stays_away_is_forgotten_unless_it_is_a_bootstrap_peer() {
    let mut network = Network::new(19, &peers("Org1", 4), |config| {
        config.msg_expiration_factor = 2;
    });
    assert!(network.run_until(20 * SECOND, everybody));
    network.stop(0);
    network.stop(3);
    network.run(200 * SECOND);
    let (bootstrap, other) = (network.id(0), network.id(3));
    for node in [1, 2] {
        let members = network.nodes[node].gossip.members();
        assert!(
            members
                .get(&bootstrap)
                .is_some_and(|member| !member.is_alive())
        );
        assert!(members.get(&other).is_none());
    }
}

#[test]
fn one_seed_gives_one_run() {
    let run = |seed| {
        let mut network = Network::new(seed, &two_orgs(), |_| {});
        network.link.loss = 50;
        network.join_all(CHANNEL);
        network.run(20 * SECOND);
        for number in 1..=10 {
            network.order(0, CHANNEL, number);
            network.order(4, CHANNEL, number);
            network.run(SECOND / 2);
        }
        (network.trace, network.sent)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// An alive message of `author` that claims `pki_id`, signed by `signer`.
fn alive(
    pki_id: &PkiId,
    signer: &dyn selvedge_gossip::crypto::Signer,
    identity: Bytes,
    time: PeerTime,
) -> Envelope {
    let content = Content::AliveMsg(AliveMessage {
        membership: Some(Member {
            endpoint: "peer9.example.com:7051".to_owned(),
            metadata: Bytes::new(),
            pki_id: Bytes::copy_from_slice(pki_id.as_bytes()),
        }),
        timestamp: Some(time),
        identity,
    });
    Envelope::signed(&gossip_message(Tag::Empty, None, 0, content), signer).unwrap()
}

fn at(inc_num: u64, seq_num: u64) -> PeerTime {
    PeerTime { inc_num, seq_num }
}

#[test]
fn forged_alive_messages_change_nothing() {
    let mut network = Network::new(23, &peers("Org1", 4), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    let victim = network.id(2);
    let liar = keys::signer(&network.nodes[1].identity);
    let liar_identity = network.nodes[1].identity.serialized().clone();
    let before = network.nodes[0]
        .gossip
        .members()
        .get(&victim)
        .unwrap()
        .message()
        .clone();
    let later = at(u64::MAX, 1);

    // Signed with another key, with and without that key's identity.
    for identity in [Bytes::new(), liar_identity] {
        let forged = alive(&victim, liar.as_ref(), identity, later);
        network.frame(1, 0, forged.frame().clone());
    }
    // Of an identity that no CA has signed.
    let invalid = keys::serialized("Org1", "invalid peer");
    let stranger = PkiId(selvedge_protos::identity::pki_id(&invalid).unwrap());
    let forged = alive(&stranger, liar.as_ref(), invalid, later);
    network.frame(1, 0, forged.frame().clone());

    assert_eq!(network.nodes[0].refused.len(), 3);
    assert!(matches!(
        network.nodes[0].refused[1],
        MessageError::ForeignIdentity { .. }
    ));
    let members = network.nodes[0].gossip.members();
    assert_eq!(*members.get(&victim).unwrap().message(), before);
    assert!(members.get(&stranger).is_none());
}

#[test]
fn replayed_alive_messages_bring_nobody_back() {
    let mut network = Network::new(29, &peers("Org1", 4), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    let victim = network.id(2);
    let recorded = network.nodes[0]
        .gossip
        .members()
        .get(&victim)
        .unwrap()
        .message()
        .clone();
    let own = network.nodes[1]
        .gossip
        .members()
        .get(&network.id(0))
        .unwrap()
        .message()
        .clone();
    network.stop(2);
    network.run(40 * SECOND);
    assert!(!network.alive(0).contains(&2));

    let duplicates = network.nodes[0]
        .gossip
        .counters()
        .drops_of(DropReason::Duplicate);
    network.frame(1, 0, recorded.envelope().frame().clone());
    assert!(!network.alive(0).contains(&2));
    let counters = network.nodes[0].gossip.counters();
    assert_eq!(counters.drops_of(DropReason::Duplicate), duplicates + 1);

    // Our own, from somebody else.
    let own_before = counters.drops_of(DropReason::OwnMessage);
    network.frame(1, 0, own.envelope().frame().clone());
    let counters = network.nodes[0].gossip.counters();
    assert_eq!(counters.drops_of(DropReason::OwnMessage), own_before + 1);
}

fn complaints(network: &Network) -> usize {
    let notices = network.nodes[0].notices.iter();
    let complaints = notices.filter(|it| matches!(it, Notice::SameIdentityElsewhere { .. }));
    complaints.count()
}

#[test]
fn somebody_with_our_key_is_reported_now_and_then() {
    let mut network = Network::new(31, &peers("Org1", 3), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    let own = network.id(0);
    let signer = keys::signer(&network.nodes[0].identity);
    for sequence in 1..=120 {
        let stolen = alive(&own, signer.as_ref(), Bytes::new(), at(u64::MAX, sequence));
        network.frame(1, 0, stolen.frame().clone());
        network.run(SECOND);
    }
    assert_eq!(complaints(&network), 2);
}

/// Others repeat the last message of its last run until they hear of the new one.
#[test]
fn a_peer_that_moved_is_not_taken_for_a_thief() {
    let mut network = Network::new(31, &peers("Org1", 3), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    let me = network.nodes[0].gossip.me();
    let (own, incarnation) = (me.pki_id(), me.incarnation);
    let signer = keys::signer(&network.nodes[0].identity);
    for (incarnation, expected) in [(incarnation - 1, 0), (incarnation, 1)] {
        let moved = alive(&own, signer.as_ref(), Bytes::new(), at(incarnation, 1));
        network.frame(1, 0, moved.frame().clone());
        assert_eq!(complaints(&network), expected);
    }
}

/// The failure to reach it was reported, and has waited while the peer made a stream itself.
#[test]
fn a_stream_that_is_newer_than_the_failure_to_reach_its_peer_stays() {
    let mut network = Network::new(31, &peers("Org1", 3), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    assert!(network.nodes[0].connected.contains(&1));
    network.event(0, Event::Unreachable(network.id(1)));
    assert!(!network.alive(0).contains(&1));
    assert!(network.nodes[0].connected.contains(&1));
    assert!(network.run_until(10 * SECOND, everybody));
}

#[test]
fn membership_is_told_to_the_asker_alone() {
    let mut network = Network::new(37, &peers("Org1", 4), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    // Peer 1 asks in the name of peer 2.
    let about_2 = network.nodes[0]
        .gossip
        .members()
        .get(&network.id(2))
        .unwrap()
        .message()
        .clone();
    let content = Content::MemReq(MembershipRequest {
        self_information: Some(about_2.envelope().proto().clone()),
        known: Vec::new(),
    });
    let request = Envelope::unsigned(&gossip_message(Tag::Empty, None, 5, content));
    let answered = network.sent.get(&FrameKind::MembershipResponse).copied();
    network.frame(1, 0, request.frame().clone());
    assert_eq!(
        network.sent.get(&FrameKind::MembershipResponse).copied(),
        answered
    );
    let counters = network.nodes[0].gossip.counters();
    assert_eq!(counters.drops_of(DropReason::AskerMismatch), 1);
}

#[test]
fn a_flood_of_membership_requests_is_answered_a_few_times() {
    let mut network = Network::new(39, &peers("Org1", 4), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    network.run(SECOND * 2);
    let about_1 = network.nodes[0]
        .gossip
        .members()
        .get(&network.id(1))
        .unwrap()
        .message()
        .clone();
    let content = Content::MemReq(MembershipRequest {
        self_information: Some(about_1.envelope().proto().clone()),
        known: Vec::new(),
    });
    let request = Envelope::unsigned(&gossip_message(Tag::Empty, None, 5, content));
    let answers = |network: &Network| network.sent[&FrameKind::MembershipResponse];
    let before = answers(&network);
    for _ in 0..100 {
        network.frame(1, 0, request.frame().clone());
    }
    assert!(answers(&network) <= before + 5);
    let counters = network.nodes[0].gossip.counters();
    assert!(counters.drops_of(DropReason::TooOften) >= 95);
    // It is not held against the peer for long.
    network.run(SECOND);
    let before = answers(&network);
    network.frame(1, 0, request.frame().clone());
    assert_eq!(answers(&network), before + 1);
}

#[test]
fn a_foreign_peer_without_external_endpoint_is_cut_off_when_it_asks() {
    let mut network = Network::new(41, &two_orgs(), |_| {});
    network.join_all(CHANNEL);
    network.run(30 * SECOND);
    // Peer 7 of Org2 publishes no endpoint, so it may not know of Org1.
    let signer = keys::signer(&network.nodes[7].identity);
    let about_7 = {
        let content = Content::AliveMsg(AliveMessage {
            membership: Some(Member {
                endpoint: String::new(),
                metadata: Bytes::new(),
                pki_id: Bytes::copy_from_slice(network.id(7).as_bytes()),
            }),
            timestamp: Some(at(u64::MAX, 1)),
            identity: network.nodes[7].identity.serialized().clone(),
        });
        Envelope::signed(
            &gossip_message(Tag::Empty, None, 0, content),
            signer.as_ref(),
        )
        .unwrap()
    };
    let content = Content::MemReq(MembershipRequest {
        self_information: Some(about_7.proto().clone()),
        known: Vec::new(),
    });
    let request = Envelope::unsigned(&gossip_message(Tag::Empty, None, 5, content));
    // The stream comes first, and with it the identity.
    let identity = network.nodes[7].identity.clone();
    network.event(
        0,
        selvedge_gossip::event::Event::Connected {
            identity,
            endpoint: None,
        },
    );
    let answered = network.sent.get(&FrameKind::MembershipResponse).copied();
    network.frame(7, 0, request.frame().clone());
    assert_eq!(
        network.sent.get(&FrameKind::MembershipResponse).copied(),
        answered
    );
    let counters = network.nodes[0].gossip.counters();
    assert_eq!(counters.drops_of(DropReason::NotEligible), 1);
}

#[test]
fn forged_blocks_go_nowhere() {
    let mut network = Network::new(43, &peers("Org1", 6), |_| {});
    network.join_all(CHANNEL);
    network.run(20 * SECOND);
    let content = Content::DataMsg(gossip::DataMessage {
        payload: Some(gossip::Payload {
            seq_num: 1,
            data: Bytes::from_static(b"forged"),
            private_data: Vec::new(),
        }),
    });
    let channel = ChannelId::from(CHANNEL);
    let message = gossip_message(Tag::ChanAndOrg, Some(&channel), 0, content);
    let forged = Envelope::unsigned(&message);
    for victim in 1..6 {
        network.frame(0, victim, forged.frame().clone());
    }
    network.run(10 * SECOND);
    assert!((0..6).all(|node| network.height(node, CHANNEL) == 1));
    assert_eq!(network.sent.get(&FrameKind::Block), None);
    // The true one still gets through.
    network.order(0, CHANNEL, 1);
    assert!(network.run_until(10 * SECOND, |network| {
        (0..6).all(|node| network.height(node, CHANNEL) == 2)
    }));
}

#[test]
fn endpoints_are_what_the_configuration_says() {
    let mut network = Network::new(47, &peers("Org1", 3), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    let member = network.nodes[0]
        .gossip
        .members()
        .get(&network.id(1))
        .unwrap()
        .clone();
    assert_eq!(*member.external_endpoint(), external("peer1.Org1"));
    assert_eq!(*member.preferred_endpoint(), internal("peer1.Org1"));
    let envelope = member.message().envelope();
    assert_eq!(envelope.proto().encode_to_vec(), *envelope.frame());
}

#[test]
fn whoever_was_not_heard_of_is_asked_before_it_is_taken_for_dead() {
    // Nobody passes on what others say, and nobody but the asker itself can bring it a sign of life.
    let mut network = Network::new(10, &peers("Org1", 3), |config| {
        config.propagate_iterations = 0;
        config.pull_peer_num = 0;
    });
    assert!(network.run_until(60 * SECOND, everybody));
    network.run(120 * SECOND);
    for node in &network.nodes {
        let dead = |notice: &&Notice| matches!(notice, Notice::PeerDead { .. });
        assert_eq!(node.notices.iter().find(dead), None);
    }
}

#[test]
fn whoever_slept_does_not_take_all_others_for_dead() {
    const SLEEPER: usize = 2;
    let mut network = Network::new(12, &peers("Org1", 6), |_| {});
    assert!(network.run_until(20 * SECOND, everybody));
    network.run(20 * SECOND);
    // Nothing reaches it for longer than anybody is believed without a sign of life, and it does nothing.
    network.stop(SLEEPER);
    network.run(60 * SECOND);
    network.nodes[SLEEPER].up = true;
    network.event(SLEEPER, Event::Wakeup);
    assert!(network.run_until(60 * SECOND, everybody));
    let dead = |notice: &&Notice| matches!(notice, Notice::PeerDead { .. });
    assert_eq!(network.nodes[SLEEPER].notices.iter().find(dead), None);
}
