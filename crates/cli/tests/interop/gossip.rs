//! Membership, blocks by gossip, state transfer.

use selvedge_devnet::genesis::{Address, anchor_peers};
use selvedge_protos::Message as _;
use selvedge_protos::common::{Config, ConfigValue};

use super::client::application;
use super::fabric::Fabric;
use super::network::{At, Kind, Lead, Network, Plan};

/// Four peers, one of each kind in each organisation, find each other: within the organisations by
/// bootstrap addresses; across them only once both have set an anchor peer, one a Go peer, one ours.
pub fn membership(fabric: &Fabric) {
    let mut network = Network::start(fabric, Plan::new(&[2, 2]));
    let peers = [At(1, 0), At(1, 1), At(2, 0), At(2, 1)];
    let kinds = [Kind::Fabric, Kind::Selvedge];
    for at in peers {
        network.start_peer(at, kinds[at.1], Lead::Always);
    }
    for at in peers {
        network.await_known(at, 1);
    }
    for (organization, anchor) in [(1, At(1, 0)), (2, At(2, 1))] {
        let address = network.address(anchor);
        network.update_config(&[organization], |config| {
            set_anchor(config, &format!("Org{organization}"), &address);
        });
    }
    for at in peers {
        network.await_known(at, 3);
    }
    network.await_all_blocks(&peers);
    for at in peers.into_iter().filter(|at| kinds[at.1] == Kind::Fabric) {
        network.await_discovery(at, &[2, 2]);
    }
}

/// Gives an organisation one anchor peer.
pub fn set_anchor(config: &mut Config, organization: &str, address: &str) {
    let (host, port) = address.split_once(':').unwrap();
    let anchor = Address {
        host: host.to_owned(),
        port: port.parse().unwrap(),
    };
    let value = ConfigValue {
        version: 0,
        value: anchor_peers(&[anchor]).encode_to_vec().into(),
        mod_policy: "Admins".to_owned(),
    };
    let groups = &mut application(config).groups;
    let organization = groups.get_mut(organization).unwrap();
    organization.values.insert("AnchorPeers".to_owned(), value);
}

/// Org1: our peer leads, a Go peer follows. Org2: the other way round. The organisations do not know
/// of each other, and a follower never asks an ordering node.
pub fn dissemination(fabric: &Fabric) {
    let mut network = Network::start(fabric, Plan::new(&[2, 2]));
    let (our_leader, go_follower) = (At(1, 0), At(1, 1));
    let (go_leader, our_follower) = (At(2, 0), At(2, 1));
    network.start_peer(our_leader, Kind::Selvedge, Lead::Always);
    network.start_peer(go_follower, Kind::Fabric, Lead::Never);
    network.start_peer(go_leader, Kind::Fabric, Lead::Always);
    network.start_peer(our_follower, Kind::Selvedge, Lead::Never);
    let peers = [our_leader, go_follower, go_leader, our_follower];
    for at in peers {
        network.await_known(at, 1);
    }
    for _ in 0..10 {
        network.order(5);
        network.await_all_blocks(&peers);
    }
    assert_eq!(network.arrived(our_follower, "orderer"), 0.0);
    let pushed = network.arrived(our_follower, "push");
    assert!(pushed >= 25.0, "of 50 blocks {pushed} came by push");
    // With the definition of the chaincode.
    assert_eq!(network.arrived(our_leader, "orderer"), 51.0);
    for at in peers {
        assert_eq!(network.valid_transactions(at), 51.0, "{at:?}");
    }
}

/// More blocks than a block store of gossip keeps; the ordering node goes; one peer of the other kind
/// joins in each organisation.
pub fn state_transfer(fabric: &Fabric) {
    let mut network = Network::start(fabric, Plan::new(&[2, 2]));
    let (ours, go_late) = (At(1, 0), At(1, 1));
    let (go, our_late) = (At(2, 0), At(2, 1));
    network.start_peer(ours, Kind::Selvedge, Lead::Always);
    network.start_peer(go, Kind::Fabric, Lead::Always);
    network.order(64);
    network.await_all_blocks(&[ours, go]);
    network.kill_orderer(0);
    // It would also be there for them, were it up: they lead.
    network.start_peer(go_late, Kind::Fabric, Lead::Always);
    network.start_peer(our_late, Kind::Selvedge, Lead::Always);
    network.await_all_blocks(&[ours, go_late, go, our_late]);
    assert_eq!(network.arrived(our_late, "orderer"), 0.0);
    assert!(network.arrived(our_late, "state_transfer") >= 50.0);

    // The ordering node's return is noticed by all.
    network.start_orderer(0);
    network.order(5);
    network.await_all_blocks(&[ours, go_late, go, our_late]);
}
