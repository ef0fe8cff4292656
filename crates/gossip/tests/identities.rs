//! The life of identities among whole nodes in memory: renewal, expiry, revocation, organisations that
//! leave a channel.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use selvedge_gossip::counters::DropReason;
use selvedge_gossip::event::{ChannelSetup, Event, FrameKind, Notice};
use selvedge_gossip::message::{Envelope, decode, gossip_message, verify};
use selvedge_gossip::types::{ChannelId, OrgId, PkiId};
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{GossipHello, PullMsgType, RemoteStateRequest, StateInfoPullRequest};
use support::keys::HashCrypto;
use support::network::{Network, PeerSpec, peers};

const SECOND: Duration = Duration::from_secs(1);
const CHANNEL: &str = "mychannel";
/// `aliveExpirationTimeout`.
const ALIVE_EXPIRATION: Duration = Duration::from_secs(25);
/// When networks start.
const START: u64 = 1_700_000_000_000_000_000;

fn everybody(network: &Network) -> bool {
    let count = network.nodes.len();
    (0..count).all(|node| network.alive(node).len() == count - 1)
}

/// Whether everybody but `node` takes its new PKI-ID for alive and its old one not.
fn taken_over(network: &Network, node: usize, old: &PkiId) -> bool {
    let new = network.id(node);
    let others = (0..network.nodes.len()).filter(|other| *other != node);
    others
        .map(|other| network.nodes[other].gossip.members())
        .all(|members| members.is_alive(&new) && !members.is_alive(old))
}

fn notices(network: &Network) -> usize {
    network.nodes.iter().map(|node| node.notices.len()).sum()
}

#[test]
fn a_renewed_certificate_takes_over_within_an_alive_expiration() {
    for seed in 0..4 {
        let mut network = Network::new(seed, &peers("Org1", 8), |_| {});
        network.join_all(CHANNEL);
        assert!(network.run_until(20 * SECOND, everybody));
        network.run(30 * SECOND);
        let (old, before) = (network.id(3), notices(&network));
        network.stop(3);
        network.run(2 * SECOND);
        network.renew(3, "peer3.Org1 renewed");
        let done = |network: &Network| taken_over(network, 3, &old);
        assert!(network.run_until(ALIVE_EXPIRATION, done), "seed {seed}");
        network.run(120 * SECOND);
        assert!(taken_over(&network, 3, &old), "the old one stays away");
        // Each of eight peers has little to say: dead, alive, and what changed in the channel.
        let said = notices(&network) - before;
        assert!(said < 8 * 8, "seed {seed}: {said} notices");
        // Blocks reach it under its new name.
        network.order(0, CHANNEL, 1);
        network.run(5 * SECOND);
        assert_eq!(network.height(3, CHANNEL), 2);
    }
}

/// The first peer is everybody's bootstrap peer and seeks nobody itself.
#[test]
fn a_bootstrap_peer_whose_certificate_ended_while_it_was_down_is_found_again() {
    for expired in [false, true] {
        let mut network = Network::new(8, &peers("Org1", 4), |_| {});
        assert!(network.run_until(20 * SECOND, everybody));
        let old = network.id(0);
        network.stop(0);
        network.run(60 * SECOND);
        if expired {
            for node in 1..4 {
                network.event(node, Event::IdentityRevoked(old));
            }
            network.run(60 * SECOND);
        }
        network.renew(0, "peer0.Org1 renewed");
        let done = |network: &Network| taken_over(network, 0, &old) && everybody(network);
        assert!(
            network.run_until(2 * ALIVE_EXPIRATION, done),
            "expired: {expired}"
        );
    }
}

/// It was dialled and asked under its old identity, and never answered by that.
#[test]
fn a_bootstrap_peer_whose_certificate_is_renewed_before_it_answers_is_asked_again() {
    let mut network = Network::new(8, &peers("Org1", 2), |_| {});
    // Questions arrive, answers do not.
    network.cut.insert((0, 1));
    network.run(10 * SECOND);
    let asked = network.sent.get(&FrameKind::MembershipRequest);
    assert!(asked.is_some() && network.alive(1).is_empty());
    network.stop(0);
    network.cut.clear();
    network.renew(0, "peer0.Org1 renewed");
    assert!(network.run_until(ALIVE_EXPIRATION, everybody));
}

fn ending(node: usize, end: Duration) -> Vec<PeerSpec> {
    let mut specs = peers("Org1", 6);
    let end = START + u64::try_from(end.as_nanos()).unwrap();
    specs[node].name = format!("peer{node}.Org1 until {end}");
    specs
}

#[test]
fn an_expired_peer_is_shut_out_until_it_has_a_new_certificate() {
    let mut network = Network::new(5, &ending(2, 60 * SECOND), |_| {});
    network.join_all(CHANNEL);
    assert!(network.run_until(20 * SECOND, everybody));
    let old = network.id(2);
    network.run(59 * SECOND - (network.now - network.start));
    assert!(everybody(&network));
    network.run(2 * SECOND);
    let others = [0, 1, 3, 4, 5];
    for node in others {
        let gossip = &network.nodes[node].gossip;
        assert!(gossip.identities().get(&old).is_none());
        assert!(gossip.members().get(&old).is_none());
    }
    // It goes on talking, in vain.
    network.run(60 * SECOND);
    let before = notices(&network);
    network.run(60 * SECOND);
    for node in others {
        assert!(network.nodes[node].gossip.members().get(&old).is_none());
    }
    let said = notices(&network) - before;
    assert!(said < 20, "{said} notices a minute");
    network.order(0, CHANNEL, 1);
    network.run(5 * SECOND);
    assert_eq!(network.height(0, CHANNEL), 2);
    assert_eq!(network.height(2, CHANNEL), 1);

    network.stop(2);
    network.renew(2, "peer2.Org1 renewed");
    assert!(network.run_until(ALIVE_EXPIRATION, |network| taken_over(network, 2, &old)));
    network.order(0, CHANNEL, 2);
    assert!(network.run_until(30 * SECOND, |network| network.height(2, CHANNEL) == 3));
}

#[test]
fn a_certificate_renewed_before_it_ends_is_never_missed() {
    let mut network = Network::new(6, &ending(4, 100 * SECOND), |_| {});
    network.join_all(CHANNEL);
    assert!(network.run_until(20 * SECOND, everybody));
    network.run(30 * SECOND);
    let old = network.id(4);
    network.stop(4);
    network.renew(4, "peer4.Org1 renewed");
    assert!(network.run_until(ALIVE_EXPIRATION, |network| taken_over(network, 4, &old)));
    // The end of the old one changes nothing.
    for _ in 0..100 {
        network.run(SECOND);
        assert!(taken_over(&network, 4, &old));
    }
}

#[test]
fn identities_of_those_who_are_gone_are_forgotten_after_an_hour_of_silence() {
    let mut network = Network::new(7, &peers("Org1", 4), |config| {
        config.msg_expiration_factor = 2;
    });
    assert!(network.run_until(20 * SECOND, everybody));
    // The first is everybody's bootstrap peer, so it stays a member.
    let (bootstrap, other) = (network.id(0), network.id(3));
    network.stop(0);
    network.stop(3);
    network.run(Duration::from_secs(3500));
    for node in [1, 2] {
        assert_eq!(network.nodes[node].gossip.identities().len(), 4);
    }
    network.run(Duration::from_secs(600));
    for node in [1, 2] {
        let identities = network.nodes[node].gossip.identities();
        assert!(identities.get(&other).is_none());
        assert!(identities.get(&bootstrap).is_some());
    }
}

/// A message that was verified before its author was revoked brings nobody back.
#[test]
fn messages_of_the_revoked_that_are_under_way_are_dropped() {
    let mut network = Network::new(8, &peers("Org1", 4), |_| {});
    network.join_all(CHANNEL);
    assert!(network.run_until(20 * SECOND, everybody));
    network.run(10 * SECOND);
    let revoked = network.id(2);
    let from = network.id(1);
    let alive = network.nodes[1].gossip.members().get(&revoked).unwrap();
    let alive = alive.message().envelope().clone();
    let later = {
        // As if the next one were under way.
        let signer = support::keys::signer(&network.nodes[2].identity);
        use selvedge_protos::Message as _;
        let mut message =
            selvedge_protos::gossip::GossipMessage::decode(alive.payload().clone()).unwrap();
        if let Some(Content::AliveMsg(alive)) = &mut message.content {
            alive.timestamp.as_mut().unwrap().seq_num += 1_000;
        }
        Envelope::signed(&message, signer.as_ref()).unwrap()
    };
    let identities = network.nodes[0].gossip.identities();
    let received = decode(later.frame().clone()).unwrap();
    let verified = verify(received, &HashCrypto, identities).unwrap().message;

    network.event(0, Event::IdentityRevoked(revoked));
    let members = network.nodes[0].gossip.members();
    assert!(members.get(&revoked).is_none());
    network.event(
        0,
        Event::Message {
            from,
            message: verified,
        },
    );
    let gossip = &network.nodes[0].gossip;
    assert!(gossip.members().get(&revoked).is_none());
    let channel = gossip.channels().get(&ChannelId::from(CHANNEL)).unwrap();
    assert!(
        channel
            .peers(gossip.members())
            .all(|(member, _)| member.pki_id() != revoked)
    );
    assert_eq!(gossip.counters().drops_of(DropReason::UnknownIdentity), 1);
}

fn two_orgs() -> Network {
    let mut specs = peers("Org1", 4);
    specs.extend(peers("Org2", 4));
    let mut network = Network::new(9, &specs, |config| config.state.enabled = true);
    network.join_all(CHANNEL);
    let complete = |network: &Network| network.alive(0).len() == 7 && network.alive(5).len() == 7;
    assert!(network.run_until(60 * SECOND, complete));
    network.run(20 * SECOND);
    network
}

fn without_org2(network: &Network) -> ChannelSetup {
    let mut setup = network.channel_setup(CHANNEL);
    setup.sequence = 2;
    setup.orgs.retain(|org| org.org == OrgId::from("Org1"));
    setup
}

/// The peers of a channel as `node` sees them, as indices.
fn in_channel(network: &Network, node: usize) -> BTreeSet<usize> {
    let gossip = &network.nodes[node].gossip;
    let channel = gossip.channels().get(&ChannelId::from(CHANNEL)).unwrap();
    let peers = channel
        .peers(gossip.members())
        .map(|(member, _)| member.pki_id());
    let index = |id: PkiId| (0..network.nodes.len()).find(|node| network.id(*node) == id);
    peers.map(|id| index(id).unwrap()).collect()
}

/// What `node` sends to the peer `to` while it handles `frame` from that peer.
fn answers(
    network: &mut Network,
    node: usize,
    to: usize,
    content: Content,
    tag: Tag,
) -> Vec<FrameKind> {
    let channel = (tag != Tag::ChanOrOrg || matches!(content, Content::StateRequest(_)))
        .then(|| ChannelId::from(CHANNEL));
    let message = gossip_message(tag, channel.as_ref(), 77, content);
    let frame = Envelope::unsigned(&message).frame().clone();
    network.watch(node, to);
    network.frame(to, node, frame);
    network.watched()
}

#[test]
fn an_organisation_that_was_removed_from_a_channel_gets_nothing_of_it() {
    let mut network = two_orgs();
    assert_eq!(
        in_channel(&network, 0),
        BTreeSet::from([1, 2, 3, 4, 5, 6, 7])
    );
    let request = || {
        Content::StateRequest(RemoteStateRequest {
            start_seq_num: 0,
            end_seq_num: 0,
        })
    };
    let mac = ChannelId::from(CHANNEL).mac(&network.id(5));
    let infos = || {
        Content::StateInfoPullReq(StateInfoPullRequest {
            channel_mac: Bytes::copy_from_slice(&mac),
        })
    };
    let hello = || {
        Content::Hello(GossipHello {
            nonce: 77,
            metadata: Bytes::new(),
            msg_type: PullMsgType::BlockMsg.into(),
        })
    };
    assert_eq!(
        answers(&mut network, 0, 5, infos(), Tag::ChanOrOrg),
        [FrameKind::StateInfoSnapshot]
    );

    let setup = without_org2(&network);
    for node in 0..4 {
        network.event(node, Event::ChannelUpdated(setup.clone()));
        // At once, not with the next sweep.
        assert!(in_channel(&network, node).iter().all(|peer| *peer < 4));
    }
    let refused = |network: &Network| {
        let counters = network.nodes[0].gossip.counters();
        counters.drops_of(DropReason::ForeignOrg)
    };
    let before = refused(&network);
    for (content, tag) in [
        (infos(), Tag::ChanOrOrg),
        (request(), Tag::ChanOrOrg),
        (hello(), Tag::ChanAndOrg),
    ] {
        assert!(answers(&mut network, 0, 5, content, tag).is_empty());
    }
    assert_eq!(refused(&network), before + 3);
    // Org2 has not noticed and goes on asking and telling; the network checks that no secret goes over.
    for number in 1..=10 {
        network.order(0, CHANNEL, number);
        network.run(3 * SECOND);
        for node in 0..4 {
            assert!(in_channel(&network, node).iter().all(|peer| *peer < 4));
        }
    }
    assert!((0..4).all(|node| network.height(node, CHANNEL) == 11));
    assert!((4..8).all(|node| network.height(node, CHANNEL) == 1));
    // Nor is anything known of their ledgers that would be asked for.
    network.order(4, CHANNEL, 1);
    network.run(20 * SECOND);
    assert!((0..4).all(|node| network.height(node, CHANNEL) == 11));
}

#[test]
fn suspicion_purges_those_who_are_no_longer_valid_and_nobody_else() {
    let mut network = two_orgs();
    let setup = without_org2(&network);
    network.invalid_orgs.insert("Org2".to_owned());
    let orgs = vec![OrgId::from("Org1"), OrgId::from("Org2")];
    for node in 0..4 {
        network.event(node, Event::ChannelUpdated(setup.clone()));
        network.event(node, Event::Suspect(orgs.clone()));
    }
    network.run(SECOND);
    for node in 0..4 {
        let gossip = &network.nodes[node].gossip;
        assert_eq!(gossip.identities().len(), 4);
        assert!(network.alive(node).iter().all(|peer| *peer < 4));
        assert_eq!(network.alive(node).len(), 3);
    }
    // They try to come back for as long as they have not noticed; handshakes fail.
    network.run(120 * SECOND);
    for node in 0..4 {
        assert_eq!(network.alive(node).len(), 3);
        let forgotten = &network.nodes[node].notices;
        let flood = forgotten
            .iter()
            .filter(|notice| matches!(notice, Notice::PeerAlive(_)))
            .count();
        assert!(flood < 10, "{flood}");
    }
}

/// An identity was checked by the old rules, and comes to the core after the change.
#[test]
fn suspicion_falls_on_those_who_are_under_way() {
    let mut specs = peers("Org1", 2);
    specs.extend(peers("Org2", 1));
    let mut network = Network::new(9, &specs, |_| {});
    network.stop(2);
    network.run(20 * SECOND);
    network.event(0, Event::Suspect(vec![OrgId::from("Org2")]));
    network.invalid_orgs.insert("Org2".to_owned());
    let knows_it_after = |network: &mut Network, time| {
        let identity = network.nodes[2].identity.clone();
        let endpoint = None;
        network.event(0, Event::Connected { identity, endpoint });
        let knows = |network: &Network| {
            let identities = network.nodes[0].gossip.identities();
            identities.get(&network.id(2)).is_some()
        };
        assert!(knows(network));
        network.run(time);
        knows(network)
    };
    assert!(!knows_it_after(&mut network, 20 * SECOND));
    // Who comes long after the change was checked by the new rules.
    assert!(knows_it_after(&mut network, 20 * SECOND));
}

#[test]
fn anchor_peers_that_are_no_longer_configured_are_not_tried_any_more() {
    let mut specs = peers("Org1", 3);
    specs.extend(peers("Org2", 2));
    let mut network = Network::new(10, &specs, |_| {});
    network.stop(3);
    network.stop(4);
    network.join_all(CHANNEL);
    let failures = |network: &Network| {
        let notices = network.nodes.iter().flat_map(|node| &node.notices);
        notices
            .filter(|notice| matches!(notice, Notice::ConnectFailed { .. }))
            .count()
    };
    network.run(30 * SECOND);
    assert!(failures(&network) > 3);
    let setup = without_org2(&network);
    for node in 0..3 {
        network.event(node, Event::ChannelUpdated(setup.clone()));
    }
    // What is being dialled ends.
    network.run(SECOND);
    let before = failures(&network);
    network.run(120 * SECOND);
    assert_eq!(failures(&network), before);
}
