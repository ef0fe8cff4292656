//! Peers of two releases of Fabric beside ours.

use super::fabric::Fabric;
use super::gossip::set_anchor;
use super::network::{At, Kind, Lead, Network, Plan};

const KINDS: [Kind; 3] = [Kind::Fabric, Kind::OlderFabric, Kind::Selvedge];

/// Two organisations, with a peer of each kind in both. Every kind leads in turn, in the two organisations not
/// the same: it spreads its blocks to the other kinds, and those that were away while blocks were
/// made get them from it.
pub fn mixed(fabric: &Fabric) {
    let plan = Plan {
        two_releases: true,
        ..Plan::new(&[3, 3])
    };
    let mut network = Network::start(fabric, plan);
    let peers = [1, 2].map(|org| [0, 1, 2].map(|peer| At(org, peer)));
    let everybody = peers.concat();
    for org in [1, 2] {
        // One a Go peer's, one ours.
        let address = network.address(At(org, org));
        network.update_config(&[org], |config| {
            set_anchor(config, &format!("Org{org}"), &address);
        });
    }
    for turn in 0..KINDS.len() {
        let leads = |at: At| at.1 == (turn + at.0 - 1) % KINDS.len();
        let (leaders, followers): (Vec<At>, Vec<At>) = everybody.iter().partition(|at| leads(**at));
        for at in &leaders {
            network.start_peer(*at, KINDS[at.1], Lead::Always);
        }
        network.order(20);
        network.await_all_blocks(&leaders);
        for at in &followers {
            network.start_peer(*at, KINDS[at.1], Lead::Never);
        }
        for at in &everybody {
            network.await_known(*at, 5);
        }
        for _ in 0..5 {
            network.order(4);
            network.await_all_blocks(&everybody);
        }
        for at in followers.iter().filter(|at| KINDS[at.1] == Kind::Selvedge) {
            assert_eq!(network.arrived(*at, "orderer"), 0.0);
        }
        for at in everybody.iter().filter(|at| KINDS[at.1] != Kind::Selvedge) {
            network.await_discovery(*at, &[3, 3]);
        }
        for at in &everybody {
            network.kill_peer(*at);
        }
    }
}
