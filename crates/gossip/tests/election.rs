//! Leader election among whole nodes in memory, on virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::time::Duration;

use selvedge_gossip::config::Config;
use selvedge_gossip::event::{Event, FrameKind};
use selvedge_gossip::types::ChannelId;
use support::network::{Network, PeerSpec, peers};

const SECOND: Duration = Duration::from_secs(1);
const CHANNEL: &str = "mychannel";

fn elected(config: &mut Config) {
    config.use_leader_election = true;
    config.state.enabled = true;
}

fn network(seed: u64, specs: &[PeerSpec]) -> Network {
    let mut network = Network::new(seed, specs, elected);
    network.join_all(CHANNEL);
    network
}

/// Those of `nodes` that lead and are up.
fn leaders(network: &Network, nodes: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let leads = |node: &usize| {
        let node = &network.nodes[*node];
        node.up && node.leads.contains(CHANNEL)
    };
    nodes.into_iter().filter(leads).collect()
}

/// The one of `nodes` that leads, if all that are up agree on it.
fn agreed(network: &Network, nodes: std::ops::Range<usize>) -> Option<usize> {
    let [leader] = leaders(network, nodes.clone())[..] else {
        return None;
    };
    let id = network.id(leader);
    let channel = ChannelId::from(CHANNEL);
    let mut up = nodes.filter(|node| network.nodes[*node].up);
    up.all(|node| {
        let channel = network.nodes[node].gossip.channels().get(&channel).unwrap();
        channel.leader() == Some(id) && channel.leads() == (node == leader)
    })
    .then_some(leader)
}

/// Nobody but `leader` leads for `time`.
fn stays(network: &mut Network, leader: usize, nodes: std::ops::Range<usize>, time: Duration) {
    let end = network.now + time;
    while network.now < end {
        network.run(SECOND / 2);
        assert_eq!(leaders(network, nodes.clone()), [leader]);
    }
}

#[test]
fn each_organisation_has_one_leader_and_keeps_it() {
    for seed in 0..5 {
        let mut specs = peers("Org1", 5);
        specs.extend(peers("Org2", 3));
        let mut network = network(seed, &specs);
        let both =
            |network: &Network| agreed(network, 0..5).is_some() && agreed(network, 5..8).is_some();
        assert!(network.run_until(30 * SECOND, both), "seed {seed}");
        let (first, second) = (agreed(&network, 0..5), agreed(&network, 5..8));
        for _ in 0..50 {
            network.run(SECOND);
            assert_eq!(leaders(&network, 0..5), [first.unwrap()], "seed {seed}");
            assert_eq!(leaders(&network, 5..8), [second.unwrap()], "seed {seed}");
        }
        // Each declaration goes to the organisation's other peers and no further.
        let before = network.sent[&FrameKind::Leadership];
        network.run(50 * SECOND);
        let sent = network.sent[&FrameKind::Leadership] - before;
        assert!((9 * 6..=11 * 6).contains(&sent), "seed {seed}: {sent}");
    }
}

#[test]
fn another_peer_takes_over_when_the_leader_stops() {
    for seed in 0..4 {
        let mut network = network(seed, &peers("Org1", 6));
        assert!(network.run_until(30 * SECOND, |network| agreed(network, 0..6).is_some()));
        let first = agreed(&network, 0..6).unwrap();
        network.stop(first);
        let replaced = |network: &Network| agreed(network, 0..6).is_some();
        // A send to it fails within seconds, and five more are for proposals.
        assert!(network.run_until(10 * SECOND, replaced), "seed {seed}");
        let second = agreed(&network, 0..6).unwrap();
        network.run(20 * SECOND);
        // The first comes back and finds that there is a leader.
        network.restart(first);
        stays(&mut network, second, 0..6, 60 * SECOND);
        assert_eq!(agreed(&network, 0..6), Some(second));
    }
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_the_lower_one_stays_when_it_is_back() {
    for seed in 0..4 {
        let mut network = network(seed, &peers("Org1", 5));
        assert!(network.run_until(30 * SECOND, |network| agreed(network, 0..5).is_some()));
        let first = agreed(&network, 0..5).unwrap();
        let rest: Vec<usize> = (0..5).filter(|node| *node != first).collect();
        network.partition(&[first], &rest);
        let others = rest.clone();
        assert!(network.run_until(20 * SECOND, |network| {
            leaders(network, others.clone()).len() == 1
        }));
        network.run(30 * SECOND);
        let second = leaders(&network, rest)[0];
        assert_eq!(leaders(&network, [first]), [first], "it knows of nobody");
        network.cut.clear();
        assert!(network.run_until(60 * SECOND, |network| agreed(network, 0..5).is_some()));
        let lower = [first, second]
            .into_iter()
            .min_by_key(|node| network.id(*node));
        stays(&mut network, lower.unwrap(), 0..5, 60 * SECOND);
    }
}

#[test]
fn both_halves_of_a_partition_have_a_leader_and_the_whole_has_one() {
    for seed in 0..4 {
        let mut network = network(seed, &peers("Org1", 8));
        network.run(30 * SECOND);
        network.partition(&[0, 1, 2, 3], &[4, 5, 6, 7]);
        network.run(60 * SECOND);
        assert!(agreed(&network, 0..4).is_some(), "seed {seed}");
        assert!(agreed(&network, 4..8).is_some(), "seed {seed}");
        network.cut.clear();
        assert!(network.run_until(60 * SECOND, |network| agreed(network, 0..8).is_some()));
        let leader = agreed(&network, 0..8).unwrap();
        stays(&mut network, leader, 0..8, 60 * SECOND);
    }
}

#[test]
fn a_leader_that_cannot_reach_the_ordering_service_gives_way() {
    let mut network = network(3, &peers("Org1", 5));
    assert!(network.run_until(30 * SECOND, |network| agreed(network, 0..5).is_some()));
    let first = agreed(&network, 0..5).unwrap();
    network.event(first, Event::OrdererUnreachable(ChannelId::from(CHANNEL)));
    assert!(leaders(&network, 0..5).is_empty());
    assert!(network.run_until(20 * SECOND, |network| agreed(network, 0..5).is_some()));
    let second = agreed(&network, 0..5).unwrap();
    assert_ne!(first, second);
    stays(&mut network, second, 0..5, 90 * SECOND);
}

#[test]
fn a_leader_that_gets_its_blocks_from_others_gives_way() {
    let mut specs = peers("Org1", 4);
    specs.extend(peers("Org2", 4));
    let mut network = network(5, &specs);
    let both =
        |network: &Network| agreed(network, 0..4).is_some() && agreed(network, 4..8).is_some();
    assert!(network.run_until(40 * SECOND, both));
    let (stuck, fine) = (
        agreed(&network, 0..4).unwrap(),
        agreed(&network, 4..8).unwrap(),
    );
    // The ordering service reaches only the other organisation; state transfer brings the blocks over.
    for number in 1..=60 {
        network.order(fine, CHANNEL, number);
        network.run(SECOND / 2);
    }
    assert!(network.height(stuck, CHANNEL) > 30);
    assert!(!leaders(&network, 0..4).contains(&stuck));
    assert_eq!(leaders(&network, 4..8), [fine]);
}

#[test]
fn a_leader_that_leaves_the_channel_is_replaced_at_once() {
    let mut network = network(7, &peers("Org1", 5));
    assert!(network.run_until(30 * SECOND, |network| agreed(network, 0..5).is_some()));
    let first = agreed(&network, 0..5).unwrap();
    network.event(first, Event::ChannelLeft(ChannelId::from(CHANNEL)));
    assert!(leaders(&network, 0..5).is_empty());
    let replaced = |network: &Network| leaders(network, 0..5).len() == 1;
    assert!(network.run_until(8 * SECOND, replaced));
    // It comes back as a follower.
    let second = leaders(&network, 0..5)[0];
    let setup = network.channel_setup(CHANNEL);
    network.event(first, Event::ChannelJoined(setup));
    stays(&mut network, second, 0..5, 40 * SECOND);
    assert_eq!(agreed(&network, 0..5), Some(second));
}

/// Nobody but the ordering service can tell the peers of a removed organisation that they are back.
#[test]
fn each_peer_of_a_removed_organisation_leads_for_itself() {
    let mut specs = peers("Org1", 3);
    specs.extend(peers("Org2", 3));
    let mut network = network(11, &specs);
    assert!(network.run_until(30 * SECOND, |network| agreed(network, 3..6).is_some()));
    let mut setup = network.channel_setup(CHANNEL);
    setup.sequence = 2;
    let all = setup.orgs.clone();
    setup.orgs.retain(|org| org.org.as_str() == "Org1");
    for node in 0..6 {
        network.event(node, Event::ChannelUpdated(setup.clone()));
    }
    network.run(30 * SECOND);
    assert_eq!(leaders(&network, 3..6), [3, 4, 5]);
    assert!(agreed(&network, 0..3).is_some());
    setup.sequence = 3;
    setup.orgs = all;
    for node in 0..6 {
        network.event(node, Event::ChannelUpdated(setup.clone()));
    }
    assert!(network.run_until(30 * SECOND, |network| agreed(network, 3..6).is_some()));
}

#[test]
fn loss_makes_no_second_leader_that_stays() {
    for seed in 0..4 {
        let mut network = network(seed, &peers("Org1", 6));
        network.link.loss = 200;
        network.run(60 * SECOND);
        let mut without_or_two = 0;
        for _ in 0..120 {
            network.run(SECOND);
            without_or_two += usize::from(leaders(&network, 0..6).len() != 1);
        }
        assert!(without_or_two < 15, "seed {seed}: {without_or_two} s");
    }
}

#[test]
fn without_election_nobody_is_told_to_lead() {
    let mut network = Network::new(1, &peers("Org1", 4), |_| {});
    network.join_all(CHANNEL);
    network.run(60 * SECOND);
    assert!(leaders(&network, 0..4).is_empty());
    assert!(!network.sent.contains_key(&FrameKind::Leadership));
}
