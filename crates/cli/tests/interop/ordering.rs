//! Other ways to the blocks: mutual TLS, and BFT ordering.

use super::fabric::Fabric;
use super::network::{At, Consensus, Kind, Lead, Network, Plan};

/// Every node asks for certificates: leaders and followers of both kinds get all blocks.
pub fn mutual_tls(fabric: &Fabric) {
    let plan = Plan {
        mutual_tls: true,
        ..Plan::new(&[4])
    };
    let mut network = Network::start(fabric, plan);
    let peers = [0, 1, 2, 3].map(|peer| At(1, peer));
    network.start_peer(peers[0], Kind::Fabric, Lead::Always);
    network.start_peer(peers[1], Kind::Selvedge, Lead::Always);
    network.start_peer(peers[2], Kind::Fabric, Lead::Never);
    network.start_peer(peers[3], Kind::Selvedge, Lead::Never);
    for at in peers {
        network.await_known(at, 3);
    }
    network.order(20);
    network.await_all_blocks(&peers);
    // The other leader's pushes may be sooner now and then.
    assert!(network.arrived(peers[1], "orderer") > 10.0);
    assert_eq!(network.arrived(peers[3], "orderer"), 0.0);
}

/// Four BFT nodes, one peer of each kind that fetches blocks from them. One node is lost, then back.
pub fn bft(fabric: &Fabric) {
    let plan = Plan {
        consensus: Consensus::Bft,
        ..Plan::new(&[2])
    };
    let mut network = Network::start(fabric, plan);
    let peers = [At(1, 0), At(1, 1)];
    network.start_peer(peers[0], Kind::Fabric, Lead::Always);
    network.start_peer(peers[1], Kind::Selvedge, Lead::Always);
    network.order(10);
    network.await_all_blocks(&peers);
    for node in [3, 2] {
        network.kill_orderer(node);
        network.order(10);
        network.await_all_blocks(&peers);
        network.start_orderer(node);
        // Only three of four agree: the next one may go when this one is back.
        network.order(1);
        network.await_orderer(node);
    }
    network.order(10);
    network.await_all_blocks(&peers);
    for at in peers {
        network.await_known(at, 1);
    }
}
