//! Election among peers of both kinds.

use super::fabric::Fabric;
use super::network::{At, Kind, Lead, Network, Plan, Timers};

/// A Go peer and ours are candidates, another Go peer and another of ours are not and live on what the
/// leader spreads. Leaders are killed in turn.
pub fn hand_over(fabric: &Fabric) {
    let plan = Plan {
        timers: Timers::Brisk,
        ..Plan::new(&[4])
    };
    let mut network = Network::start(fabric, plan);
    let [go, ours, go_follower, our_follower] = [0, 1, 2, 3].map(|peer| At(1, peer));
    network.start_peer(go, Kind::Fabric, Lead::Elected);
    network.await_leading(go, true);
    network.start_peer(ours, Kind::Selvedge, Lead::Elected);
    network.start_peer(go_follower, Kind::Fabric, Lead::Never);
    network.start_peer(our_follower, Kind::Selvedge, Lead::Never);
    let everybody = [go, ours, go_follower, our_follower];
    for at in everybody {
        network.await_known(at, 3);
    }
    network.order(10);
    network.await_all_blocks(&everybody);
    network.await_leading(go, true);
    network.await_leading(ours, false);

    network.kill_peer(go);
    network.await_leading(ours, true);
    network.order(10);
    network.await_all_blocks(&[ours, go_follower, our_follower]);
    assert!(network.arrived(ours, "orderer") > 0.0);

    // Who leads goes on leading, or gives way to the lower PKI-ID: there is one of them.
    network.start_peer(go, Kind::Fabric, Lead::Elected);
    network.order(10);
    network.await_all_blocks(&everybody);
    for at in everybody {
        network.await_known(at, 3);
    }
    network.await_one_leader(&[go, ours]);

    network.kill_peer(ours);
    network.await_leading(go, true);
    network.order(10);
    network.await_all_blocks(&[go, go_follower, our_follower]);

    network.start_peer(ours, Kind::Selvedge, Lead::Elected);
    network.order(10);
    network.await_all_blocks(&everybody);
    network.await_one_leader(&[go, ours]);
    network.await_leading(go, true);
    assert_eq!(network.arrived(our_follower, "orderer"), 0.0);
}
