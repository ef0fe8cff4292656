//! Identities that change, and organisations that go.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::application;
use super::fabric::Fabric;
use super::gossip::set_anchor;
use super::network::{At, Kind, Lead, Network, Plan, Timers};
use super::process::{eventually, throughout};

/// `peer.gossip.aliveExpirationTimeout` under [`Timers::Fabric`].
const ALIVE_EXPIRATION: Duration = Duration::from_secs(25);
/// Warnings and errors that a renewal may cost: some for connections that broke, some for messages under
/// way of the identity that is gone.
const LINES: usize = 20;

/// First our peer and then a Go peer come back at the same address with a new key and certificate of the
/// same CA.
pub fn renewal(fabric: &Fabric) {
    let mut network = Network::start(fabric, Plan::new(&[2]));
    let (go, ours) = (At(1, 0), At(1, 1));
    network.start_peer(go, Kind::Fabric, Lead::Always);
    network.start_peer(ours, Kind::Selvedge, Lead::Never);
    network.await_known(go, 1);
    network.await_known(ours, 1);
    network.order(5);
    network.await_all_blocks(&[go, ours]);
    let renewed = network.issue(ours, None);
    let [old, new] = ["peer1", &renewed].map(|name| identity(&network, ours, name));
    assert!(knows(&network, go, &old));

    let before = complaints(&network, go);
    network.kill_peer(ours);
    network.start_peer_as(ours, Kind::Selvedge, Lead::Never, &renewed);
    let taken_over = await_knowledge(&network, go, &new, true);
    assert!(taken_over <= ALIVE_EXPIRATION, "it took {taken_over:?}");
    network.order(5);
    network.await_all_blocks(&[go, ours]);
    await_knowledge(&network, go, &old, false);
    network.await_known(go, 1);
    network.await_known(ours, 1);
    let lines = complaints(&network, go) - before;
    assert!(lines <= LINES, "the Go peer complains {lines} times");

    let before = complaints(&network, ours);
    network.kill_peer(go);
    let renewed = network.issue(go, None);
    network.start_peer_as(go, Kind::Fabric, Lead::Always, &renewed);
    let start = Instant::now();
    network.order(5);
    // Only the renewed peer has them.
    network.await_all_blocks(&[go, ours]);
    let taken_over = start.elapsed();
    assert!(taken_over <= ALIVE_EXPIRATION, "it took {taken_over:?}");
    eventually("the Go peer's old identity has expired at ours", || {
        let known = network.metric(ours, "gossip_membership_total_peers_known")?;
        let quiet = start.elapsed() > ALIVE_EXPIRATION;
        if known == 1.0 && quiet {
            Ok(())
        } else {
            Err(format!("{known} known"))
        }
    });
    let lines = complaints(&network, ours) - before;
    assert!(lines <= LINES, "ours complains {lines} times");
}

/// How long certificates are valid that end soon: enough to start a peer and to see it at work.
const SOON: Duration = Duration::from_secs(40);
/// How long a peer without valid certificates goes on, two alive-expiries of [`Timers::Brisk`].
const EXPIRED_FOR: Duration = Duration::from_secs(20);

/// The certificates of our peer end while it runs, then those of a Go peer: the other one shuts it out, and
/// neither fills its log. Started with what has ended it says so and stops; with new certificates it is back.
pub fn expiry(fabric: &Fabric) {
    let plan = Plan {
        timers: Timers::Brisk,
        ..Plan::new(&[2])
    };
    let mut network = Network::start(fabric, plan);
    let (go, ours) = (At(1, 0), At(1, 1));
    network.start_peer(go, Kind::Fabric, Lead::Always);
    let short = network.issue(ours, Some(SOON));
    network.start_peer_as(ours, Kind::Selvedge, Lead::Never, &short);
    network.await_known(go, 1);
    network.await_known(ours, 1);
    network.order(5);
    network.await_all_blocks(&[go, ours]);
    let ended = identity(&network, ours, &short);
    assert!(knows(&network, go, &ended));
    await_knowledge(&network, go, &ended, false);
    await_exclusion(&mut network, go, ours);

    network.kill_peer(ours);
    let log = network.start_in_vain(ours, Kind::Selvedge, &short);
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("expired"), "{last}");
    let renewed = network.issue(ours, None);
    let new = identity(&network, ours, &renewed);
    // From now on it leads: ordering nodes do not serve peers whose certificates have ended.
    network.start_peer_as(ours, Kind::Selvedge, Lead::Always, &renewed);
    let taken_over = await_knowledge(&network, go, &new, true);
    assert!(taken_over <= ALIVE_EXPIRATION, "it took {taken_over:?}");
    network.await_all_blocks(&[go, ours]);

    network.kill_peer(go);
    let short = network.issue(go, Some(SOON));
    network.start_peer_as(go, Kind::Fabric, Lead::Never, &short);
    network.order(5);
    network.await_all_blocks(&[go, ours]);
    // Blocks may be there before the membership is.
    network.await_known(go, 1);
    network.await_known(ours, 1);
    await_exclusion(&mut network, ours, go);

    network.kill_peer(go);
    let renewed = network.issue(go, None);
    network.start_peer_as(go, Kind::Fabric, Lead::Never, &renewed);
    network.await_known(ours, 1);
    network.await_known(go, 1);
    network.order(5);
    network.await_all_blocks(&[go, ours]);
}

/// Waits until two peers know nothing of each other, and looks that blocks of the first do not come to the
/// second, which gets none elsewhere; and that neither complains more than a little.
fn await_exclusion(network: &mut Network, leader: At, follower: At) {
    network.await_known(leader, 0);
    network.await_known(follower, 0);
    let height = network.height();
    let before = [leader, follower].map(|at| complaints(network, at));
    network.order(5);
    network.await_all_blocks(&[leader]);
    throughout("shut out", EXPIRED_FOR, || {
        network.height_of(follower).unwrap() == height
    });
    for (at, before) in [leader, follower].into_iter().zip(before) {
        let lines = complaints(network, at) - before;
        assert!(lines <= LINES, "{at:?} complains {lines} times");
    }
}

/// One of the identities that a peer was given, as others see it.
fn identity(network: &Network, at: At, name: &str) -> Bytes {
    let signer = network.organization(at).node_identity(name);
    signer.unwrap().serialized().clone()
}

/// Waits until a Go peer knows an identity, or no longer does, and tells how long that was.
#[track_caller]
fn await_knowledge(network: &Network, at: At, identity: &Bytes, known: bool) -> Duration {
    let start = Instant::now();
    eventually(&format!("{at:?} knows an identity: {known}"), || {
        if knows(network, at, identity) == known {
            Ok(())
        } else {
            Err(start.elapsed())
        }
    });
    start.elapsed()
}

fn knows(network: &Network, at: At, identity: &Bytes) -> bool {
    let found = network.discover(at).unwrap_or_default();
    found.values().flatten().any(|known| known == identity)
}

/// Warnings and errors in a peer's log.
fn complaints(network: &Network, at: At) -> usize {
    let bad = |line: &&str| line.contains(" WARN ") || line.contains(" ERRO ");
    network.log(at).lines().filter(bad).count()
}

/// Two rounds in which a peer without an ordering node asks others for blocks
/// (`peer.gossip.state.checkInterval`), and their answers.
const TWO_STATE_CHECKS: Duration = Duration::from_secs(25);

/// The third organisation's peers, one of each kind, get their blocks from our peer of the first alone,
/// by state transfer. Then the channel removes the third organisation.
pub fn removal(fabric: &Fabric) {
    let plan = Plan {
        timers: Timers::Brisk,
        ..Plan::new(&[1, 1, 2])
    };
    let mut network = Network::start(fabric, plan);
    let (ours, go) = (At(1, 0), At(2, 0));
    let removed = [(At(3, 0), Kind::Fabric), (At(3, 1), Kind::Selvedge)];
    let anchor = network.address(ours);
    network.update_config(&[1], |config| set_anchor(config, "Org1", &anchor));
    network.start_peer(ours, Kind::Selvedge, Lead::Always);
    // The configuration with the anchor peer comes from the ordering node.
    for (at, kind) in removed {
        network.start_peer(at, kind, Lead::Always);
        network.await_all_blocks(&[at]);
        network.kill_peer(at);
        network.start_peer(at, kind, Lead::Never);
    }
    network.await_known(ours, 2);
    network.order(10);
    network.await_all_blocks(&[ours, At(3, 0), At(3, 1)]);
    network.start_peer(go, Kind::Fabric, Lead::Always);
    network.await_known(ours, 3);
    // Without an anchor peer of its own the third organisation is known to the anchor peer alone.
    network.await_known(go, 1);

    network.update_config(&[1, 2], |config| {
        application(config).groups.remove("Org3").unwrap();
    });
    let height = network.height();
    network.order(10);
    network.await_all_blocks(&[ours, go]);
    network.await_known(ours, 1);
    network.await_known(go, 1);
    throughout("shut out", TWO_STATE_CHECKS, || {
        // The block that removes it may have reached it.
        let shut_out = |at| network.height_of(at).unwrap() <= height;
        removed.iter().all(|(at, _)| shut_out(*at))
    });
    network.order(5);
    network.await_all_blocks(&[ours, go]);
}
