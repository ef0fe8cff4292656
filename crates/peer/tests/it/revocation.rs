//! A certificate that the channel's configuration revokes while its owner is connected. Its owner is of another
//! organisation: of our own, the peer's MSP folder decides.

use std::time::Duration;

use selvedge_devnet::ports::HeldPort;
use selvedge_gossip::types::PkiId;
use selvedge_msp::SigningIdentity;
use selvedge_peer::node::Node;
use selvedge_protos::identity::pki_id;

use crate::node::{Place, metrics_of, msp_with};
use crate::support::{CHANNEL, Chain, Network, add_revocation_list, commit_by_queue, soon, until};

const SERIAL: u64 = 4711;

/// A peer that is heard of soon, and asks others for the blocks it lacks.
fn place<'a>(network: &'a Network, org: usize, data: &str, port: u16) -> Place<'a> {
    let endpoint = format!("127.0.0.1:{port}");
    Place {
        data: network.folder.path().join(data),
        listen: endpoint.clone(),
        gossip: format!(
            "
    endpoint: {endpoint}
    externalEndpoint: {endpoint}
    aliveTimeInterval: 200ms
    aliveExpirationTimeout: 1s
    reconnectInterval: 300ms
    publishStateInfoInterval: 200ms
    requestStateInfoInterval: 200ms
    state:
      enabled: true
      checkInterval: 200ms
"
        ),
        ..Place::new(network, org)
    }
}

fn id(identity: &SigningIdentity) -> PkiId {
    PkiId(pki_id(identity.serialized()).unwrap())
}

async fn alive(node: &Node) -> Vec<PkiId> {
    let status = node.gossip_status().await.unwrap();
    status.peers.iter().map(|peer| peer.pki_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_cut_off_by_the_block_that_revokes_its_certificate() {
    // The node, a witness, the victim.
    let ports = [(); 3].map(|()| HeldPort::free().unwrap());
    let [port, witness_port, victim_port] = ports.each_ref().map(HeldPort::number);
    let network = Network::with_anchor(port);
    let now = time::OffsetDateTime::now_utc();
    let validity = now - Duration::from_secs(60)..now + Duration::from_secs(3600);
    let (revoked, key) = network.issue(2, "peer", "revoked", validity, SERIAL);
    let revocation = Chain::new(&network).push_config(|config| {
        add_revocation_list(config, "Org2", network.revocation_list(2, SERIAL));
    });

    // One that has the block, and is not there yet.
    let witness_place = Place {
        msp: network.org(1).user_msp("User1"),
        ..place(&network, 1, "witness", witness_port)
    };
    let witness = witness_place.joined().await;
    commit_by_queue(&witness.channel(CHANNEL).unwrap(), &[revocation]).await;
    soon(witness.stop()).await;

    let node_place = place(&network, 1, "node", port);
    let node = node_place.joined().await;
    let victim = Place {
        msp: msp_with(&network, 2, &revoked, &key),
        ..place(&network, 2, "victim", victim_port)
    };
    let victim = victim.joined().await;
    let me = id(&network.peer(1));
    until("they know each other", async || {
        alive(&node).await == [id(&revoked)] && alive(&victim).await == [me]
    })
    .await;

    let witness = Place {
        bootstrap: node_place.listen.clone(),
        ..witness_place
    };
    let witness = witness.start().await.unwrap();
    let kept = id(&network.user(1));
    until("only the other one is left", async || {
        alive(&node).await == [kept]
    })
    .await;
    assert_eq!(node.channel(CHANNEL).unwrap().ledger().height(), 2);
    until("its stream is closed, and it gets no other", async || {
        let refused = "selvedge_gossip_dropped_total{reason=\"handshake_failed\"} ";
        let metrics = metrics_of(&node).await;
        let count = metrics.lines().find_map(|line| line.strip_prefix(refused));
        count.is_some_and(|count| count.parse::<u64>().unwrap() > 0)
            && alive(&victim).await.is_empty()
    })
    .await;
    let status = node.gossip_status().await.unwrap();
    let mut known = status.peers.iter().chain(&status.dead);
    let forgotten = known.all(|peer| peer.pki_id != id(&revoked));
    assert!(forgotten, "it is forgotten: {status:?}");
    for node in [witness, victim, node] {
        soon(node.stop()).await;
    }
}
