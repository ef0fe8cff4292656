//! Peers whose links are narrow: a block takes seconds, and whatever they ask for again comes behind what is on its
//! way already.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::time::Duration;

use selvedge_gossip::config::Rules;
use selvedge_gossip::event::Event;
use support::network::{Network, TestBlock, peers};

const SECOND: Duration = Duration::from_secs(1);
const CHANNEL: &str = "mychannel";
/// Bytes of a block with what is around it, about.
const FRAME: u32 = 510;

/// What it took to catch up.
#[derive(Debug, Clone, Copy)]
struct Cost {
    time: Duration,
    /// Blocks received, in all, for each that was missing.
    copies: f64,
}

fn downlink(seconds_a_block: f64) -> Option<u32> {
    Some((f64::from(FRAME) / seconds_a_block) as u32)
}

/// How many blocks were received since it was asked last.
fn take_blocks(network: &mut Network) -> f64 {
    std::mem::take(&mut network.block_bytes) as f64 / f64::from(FRAME)
}

/// Lets the last peer catch up to `height`, until `limit` at most.
fn catch_up(network: &mut Network, height: u64, limit: Duration) -> Cost {
    let last = network.nodes.len() - 1;
    let missing = height - network.height(last, CHANNEL);
    take_blocks(network);
    let begin = network.now;
    network.run_until(limit, |it| it.height(last, CHANNEL) >= height);
    let time = network.now - begin;
    // What is on its way still.
    let copies = take_blocks(network) / missing as f64;
    Cost { time, copies }
}

/// A peer was cut off while eight blocks were ordered, and has nothing but pull.
fn after_an_outage(rules: Rules, sources: usize, seconds_a_block: f64) -> Cost {
    const HEIGHT: u64 = 6;
    const MISSING: u64 = 8;
    let mut network = Network::new(1, &peers("Org1", sources + 1), |config| {
        config.rules = rules
    });
    network.join_all(CHANNEL);
    network.run(20 * SECOND);
    for number in 1..HEIGHT {
        network.order(0, CHANNEL, number);
        network.run(SECOND);
    }
    network.run(10 * SECOND);
    let others: Vec<usize> = (0..sources).collect();
    network.partition(&others, &[sources]);
    for number in HEIGHT..HEIGHT + MISSING {
        network.order(0, CHANNEL, number);
        network.run(SECOND / 2);
    }
    network.run(15 * SECOND);
    network.cut.clear();
    network.link.downlink = downlink(seconds_a_block);
    catch_up(&mut network, HEIGHT + MISSING, 400 * SECOND)
}

/// A peer that has joined late fetches 200 blocks by state transfer.
fn from_ledgers(rules: Rules, sources: usize, seconds_a_block: f64) -> Cost {
    const HEIGHT: u64 = 200;
    let mut network = Network::new(1, &peers("Org1", sources + 1), |config| {
        config.rules = rules;
        config.state.enabled = true;
    });
    network.run(20 * SECOND);
    for node in 0..=sources {
        let mut setup = network.channel_setup(CHANNEL);
        setup.height = if node == sources { 1 } else { HEIGHT };
        let ledger = (0..setup.height).map(TestBlock::new).collect();
        network.nodes[node]
            .ledgers
            .insert(setup.channel.clone(), ledger);
        network.event(node, Event::ChannelJoined(setup));
    }
    network.link.downlink = downlink(seconds_a_block);
    catch_up(&mut network, HEIGHT, 600 * SECOND)
}

/// Copies that each peer of twenty but the leader receives of a block, once they know how long blocks take.
fn pushed(seconds_a_block: f64) -> f64 {
    const PEERS: usize = 20;
    const WARM_UP: u64 = 10;
    const COUNTED: u64 = 5;
    let mut network = Network::new(1, &peers("Org1", PEERS), |_| {});
    network.join_all(CHANNEL);
    network.run(20 * SECOND);
    network.link.downlink = downlink(seconds_a_block);
    for number in 1..=WARM_UP + COUNTED {
        if number == WARM_UP + 1 {
            take_blocks(&mut network);
        }
        network.order(0, CHANNEL, number);
        network.run(12 * SECOND);
        assert!((0..PEERS).all(|node| network.height(node, CHANNEL) > number));
    }
    take_blocks(&mut network) / (COUNTED * (PEERS as u64 - 1)) as f64
}

#[test]
fn large_blocks_come_about_once() {
    for seconds_a_block in [0.2, 0.5, 1.0] {
        let copies = pushed(seconds_a_block);
        assert!(copies < 1.3, "{copies} at {seconds_a_block} s");
    }
}

#[test]
fn who_lacks_a_few_blocks_pulls_them_over_a_narrow_link() {
    for (sources, seconds_a_block) in [(1, 0.5), (1, 3.5), (9, 0.3), (9, 1.0), (9, 3.5)] {
        let ours = after_an_outage(Rules::Selvedge, sources, seconds_a_block);
        let fabrics = after_an_outage(Rules::Fabric, sources, seconds_a_block);
        assert!(ours.time <= fabrics.time, "{ours:?}, {fabrics:?}");
        assert!(ours.copies < 2.0, "{ours:?}, {fabrics:?}");
    }
}

#[test]
fn who_lacks_many_blocks_fetches_them_over_a_narrow_link() {
    for (sources, seconds_a_block) in [(1, 0.25), (3, 0.16), (9, 0.16), (9, 0.25)] {
        let ours = from_ledgers(Rules::Selvedge, sources, seconds_a_block);
        let fabrics = from_ledgers(Rules::Fabric, sources, seconds_a_block);
        assert!(2 * ours.time < 3 * fabrics.time, "{ours:?}, {fabrics:?}");
        assert!(ours.copies < 1.5, "{ours:?}, {fabrics:?}");
    }
}
