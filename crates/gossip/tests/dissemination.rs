//! Blocks among whole nodes: along the tree, around its faults, and beside peers of Fabric.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::time::Duration;

use selvedge_gossip::config::{Config, Rules};
use selvedge_gossip::counters::DropReason;
use selvedge_gossip::event::FrameKind;
use support::network::{Network, peers};

const SECOND: Duration = Duration::from_secs(1);
const CHANNEL: &str = "mychannel";

fn network(seed: u64, count: usize, adjust: impl Fn(&mut Config)) -> Network {
    let mut network = Network::new(seed, &peers("Org1", count), adjust);
    network.join_all(CHANNEL);
    network.run(15 * SECOND);
    network
}

/// The node `leader` gets blocks from the ordering service, four a second.
fn order(network: &mut Network, leader: usize, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        network.order(leader, CHANNEL, number);
        network.run(SECOND / 4);
    }
}

/// How long after the first of `nodes` the last one had a block.
fn spread(network: &Network, nodes: &[usize], number: u64) -> Duration {
    let arrival = |node: &usize| {
        let arrivals = &network.nodes[*node].arrivals;
        let arrival = arrivals.iter().find(|(_, it, _)| *it == number);
        arrival
            .unwrap_or_else(|| panic!("node {node} lacks block {number}"))
            .0
    };
    let times: Vec<_> = nodes.iter().map(arrival).collect();
    *times.iter().max().unwrap() - *times.iter().min().unwrap()
}

fn everybody(network: &Network) -> Vec<usize> {
    (0..network.nodes.len()).collect()
}

fn has_all(network: &Network, height: u64) -> bool {
    (0..network.nodes.len()).all(|node| network.height(node, CHANNEL) == height)
}

fn duplicates(network: &Network) -> u64 {
    let counters = network.nodes.iter().map(|node| node.gossip.counters());
    counters.map(|counters| counters.duplicate_blocks()).sum()
}

#[test]
fn blocks_arrive_soon_and_once() {
    for seed in 0..3 {
        let mut network = network(seed, 12, |_| {});
        order(&mut network, 0, 1..=60);
        assert!(has_all(&network, 61));
        for number in 1..=60 {
            let spread = spread(&network, &everybody(&network), number);
            assert!(spread < SECOND / 10, "block {number} of {seed}: {spread:?}");
        }
        // Twelve peers that have joined twice: so many copies of the first block. Later one for each try of another
        // neighbour, ever more rarely.
        let copies = duplicates(&network);
        assert!(copies < 60, "{copies}");
    }
}

#[test]
fn another_leader_uses_the_same_tree() {
    for seed in 0..3 {
        let mut network = network(seed, 12, |_| {});
        order(&mut network, 0, 1..=20);
        let before = duplicates(&network);
        order(&mut network, 7, 21..=40);
        assert!(has_all(&network, 41));
        for number in 21..=40 {
            let spread = spread(&network, &everybody(&network), number);
            assert!(spread < SECOND / 10, "block {number} of {seed}: {spread:?}");
        }
        // A neighbour that was given up, and one or two that were tried, for each.
        let copies = duplicates(&network) - before;
        assert!(copies < 36, "{copies}");
    }
}

#[test]
fn where_everybody_asks_the_ordering_service_nobody_sends_blocks_for_long() {
    let mut network = network(3, 8, |_| {});
    for number in 1..=20 {
        for node in 0..8 {
            network.order(node, CHANNEL, number);
        }
        network.run(SECOND / 4);
    }
    assert!(has_all(&network, 21));
    // Each joins three times within five seconds, and learns from one copy each way that it need not have.
    assert!(duplicates(&network) <= 8 * 3 * 2 * 2);
    let before = duplicates(&network);
    network.run(60 * SECOND);
    for node in 0..8 {
        network.order(node, CHANNEL, 21);
    }
    network.run(SECOND);
    assert!(duplicates(&network) - before <= 8 * 2 * 2);
}

#[test]
fn the_tree_closes_around_peers_that_stop() {
    for seed in 0..3 {
        let mut network = network(seed, 12, |config| config.state.enabled = true);
        order(&mut network, 0, 1..=10);
        for node in [3, 5, 8] {
            network.stop(node);
        }
        let rest: Vec<usize> = (0..12).filter(|node| ![3, 5, 8].contains(node)).collect();
        order(&mut network, 0, 11..=30);
        for number in 11..=30 {
            let spread = spread(&network, &rest, number);
            assert!(spread < SECOND / 4, "block {number} of {seed}: {spread:?}");
        }
        // Once closed, it is as fast as before.
        assert!(spread(&network, &rest, 30) < SECOND / 20);
        for node in [3, 5, 8] {
            network.restart(node);
        }
        let complete = |network: &Network| has_all(network, 31);
        assert!(network.run_until(60 * SECOND, complete), "seed {seed}");
    }
}

#[test]
fn a_quarter_of_all_frames_lost_costs_time_only() {
    for seed in 0..3 {
        let mut network = network(seed, 12, |config| config.state.enabled = true);
        network.link.loss = 250;
        order(&mut network, 0, 1..=40);
        let complete = |network: &Network| has_all(network, 41);
        assert!(network.run_until(30 * SECOND, complete), "seed {seed}");
    }
}

#[test]
fn a_partition_leaves_no_trace() {
    for seed in 0..3 {
        let mut network = network(seed, 12, |config| config.state.enabled = true);
        order(&mut network, 0, 1..=10);
        network.partition(&[0, 1, 2, 3, 4, 5], &[6, 7, 8, 9, 10, 11]);
        order(&mut network, 0, 11..=30);
        network.cut.clear();
        order(&mut network, 0, 31..=60);
        let complete = |network: &Network| has_all(network, 61);
        assert!(network.run_until(60 * SECOND, complete), "seed {seed}");
        order(&mut network, 0, 61..=80);
        assert!(has_all(&network, 81));
        for number in 70..=80 {
            let spread = spread(&network, &everybody(&network), number);
            assert!(spread < SECOND / 10, "block {number} of {seed}: {spread:?}");
        }
    }
}

/// Every other node follows Fabric's rules and says nothing of trees; the leader does, or does not.
#[test]
fn peers_of_fabric_get_blocks_as_ever_and_see_nothing_else() {
    for (seed, leader) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        let mut network = network(seed, 10, |config| {
            let name = config.internal_endpoint.as_str();
            let number: u32 = name[4..5].parse().unwrap();
            if number.is_multiple_of(2) {
                config.rules = Rules::Fabric;
            }
            config.state.enabled = true;
        });
        order(&mut network, leader, 1..=60);
        let complete = |network: &Network| has_all(network, 61);
        assert!(network.run_until(30 * SECOND, complete), "seed {seed}");
        for (place, node) in network.nodes.iter().enumerate() {
            assert!(node.refused.is_empty());
            if place % 2 == 0 {
                // An announcement, or a question that follows one, would be counted so.
                let counters = node.gossip.counters();
                assert_eq!(counters.drops_of(DropReason::UnknownNonce), 0);
            }
        }
        let ours = [1, 3, 5, 7, 9];
        let soon = (1..=60).filter(|number| spread(&network, &ours, *number) < SECOND / 10);
        assert!(soon.count() > 50, "seed {seed}");
        // No peer of Fabric gets more copies than it would among its like.
        let copies = |node: usize| network.nodes[node].gossip.counters().duplicate_blocks();
        for node in [0, 2, 4, 6, 8] {
            assert!(copies(node) < 60 * 4, "{}", copies(node));
        }
    }
}

#[test]
fn a_calm_channel_asks_rarely_and_misses_nothing() {
    const LATE: usize = 7;
    for seed in 0..3 {
        let mut network = network(seed, 10, |config| config.state.enabled = true);
        order(&mut network, 0, 1..=4);
        network.run(200 * SECOND);
        network.sent.clear();
        network.run(64 * SECOND);
        let sent = |kind| network.sent.get(&kind).copied().unwrap_or_default();
        // Two rounds and three peers each, instead of sixteen rounds.
        assert!(
            sent(FrameKind::Hello) <= 10 * 3 * 3 + 10 * 3 * 16,
            "{}",
            sent(FrameKind::Hello)
        );
        assert!(sent(FrameKind::StateInfoPullRequest) <= 10 * 3);

        // Nothing of the first block after that comes through to one of them.
        network.cut = (0..10).map(|node| (node, LATE)).collect();
        order(&mut network, 0, 5..=5);
        network.cut.clear();
        assert!(network.run_until(10 * SECOND, |network| has_all(network, 6)));
    }
}

#[test]
fn two_of_many_in_a_channel_find_each_other_soon() {
    const LATE: usize = 7;
    for seed in 0..2 {
        let mut network = Network::new(seed, &peers("Org1", 24), |_| {});
        for node in [0, LATE] {
            network.join(node, CHANNEL);
        }
        network.run(20 * SECOND);
        order(&mut network, 0, 1..=4);
        assert_eq!(network.height(LATE, CHANNEL), 5);
        network.stop(LATE);
        order(&mut network, 0, 5..=8);
        network.run(60 * SECOND);
        network.restart(LATE);
        let arrived = |network: &Network| network.height(LATE, CHANNEL) == 9;
        assert!(network.run_until(15 * SECOND, arrived), "seed {seed}");
    }
}
