//! Peers that end without warning, and folders that change hands.

use super::fabric::Fabric;
use super::network::{At, Kind, Lead, Network, Plan};

/// Our peer is killed again and again while blocks come, and ends where a Go peer does that was not.
pub fn kills(fabric: &Fabric) {
    let mut network = Network::start(fabric, Plan::new(&[2]));
    let (go, ours) = (At(1, 0), At(1, 1));
    network.start_peer(go, Kind::Fabric, Lead::Always);
    network.start_peer(ours, Kind::Selvedge, Lead::Always);
    for _ in 0..10 {
        network.order(20);
        // Some of them are committed by now, some are about to be.
        network.kill_peer(ours);
        network.start_peer(ours, Kind::Selvedge, Lead::Always);
    }
    network.await_all_blocks(&[go, ours]);
}

/// Ours takes the place of a Go peer, on the folder that it leaves, and goes on.
pub fn take_over(fabric: &Fabric) {
    let mut network = Network::start(fabric, Plan::new(&[2]));
    let (go, taken) = (At(1, 0), At(1, 1));
    for at in [go, taken] {
        network.start_peer(at, Kind::Fabric, Lead::Always);
    }
    network.order(30);
    network.await_all_blocks(&[go, taken]);
    network.kill_peer(taken);
    // What is there must come from the folder: nobody has blocks to give.
    network.kill_orderer(0);
    network.kill_peer(go);
    network.start_peer(taken, Kind::Selvedge, Lead::Always);
    network.await_all_blocks(&[taken]);

    network.start_orderer(0);
    network.start_peer(go, Kind::Fabric, Lead::Always);
    network.order(10);
    network.await_all_blocks(&[go, taken]);
}
