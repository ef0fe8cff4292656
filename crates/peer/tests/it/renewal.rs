//! Certificates that are renewed while a peer runs.

use std::path::Path;

use selvedge_devnet::ports::HeldPort;
use selvedge_gossip::types::PkiId;
use selvedge_msp::SigningIdentity;
use selvedge_protos::identity::pki_id;
use selvedge_protos::protos::SignedProposal;
use selvedge_transport::services::protos::endorser_client::EndorserClient;
use selvedge_transport::{ClientTls, ConnectOptions, certificates_from_pem, channel};

use crate::node::{Place, metrics_of};
use crate::support::{Network, read, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_tls_certificate_is_presented_without_a_restart() {
    let network = Network::new();
    let folder = network.folder.path();
    let (certificate, key) = (folder.join("peer.crt"), folder.join("peer.key"));
    let install = |org: usize| {
        let files = network.org(org).node_tls("peer0");
        std::fs::copy(files.certificate, &certificate).unwrap();
        std::fs::copy(files.key, &key).unwrap();
    };
    install(1);
    let place = Place {
        certificate: certificate.clone(),
        key: key.clone(),
        ..Place::new(&network, 1)
    };
    let node = place.start().await.unwrap();
    let trusted_by = async |authority: &Path| {
        let roots = certificates_from_pem(&read(authority)).unwrap();
        let tls = ClientTls::new(&roots, None, None).unwrap();
        let endpoint = node.address().to_string().parse().unwrap();
        let connection = channel(&endpoint, Some(tls), &ConnectOptions::default());
        let mut client = EndorserClient::new(connection);
        let refused = soon(client.process_proposal(SignedProposal::default())).await;
        // Whoever gets through is told what is wrong with the proposal.
        refused
            .unwrap_err()
            .message()
            .starts_with("ChaincodeHeader")
    };
    let [old, new] = [1, 2].map(|org| network.org(org).node_tls("peer0").authority);
    assert!(trusted_by(&old).await);
    install(2);
    until("the renewed certificate is presented", async || {
        trusted_by(&new).await
    })
    .await;
    assert!(!trusted_by(&old).await);
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_dead_is_found_again_under_another_identity() {
    let network = Network::new();
    let port = HeldPort::free().unwrap();
    let endpoint = format!("127.0.0.1:{}", port.number());
    let hurried = "
    aliveTimeInterval: 200ms
    aliveExpirationTimeout: 1s
    reconnectInterval: 300ms
";
    // It seeks nobody itself, so it has to be found.
    let place = |data: &str| Place {
        data: network.folder.path().join(data),
        listen: endpoint.clone(),
        gossip: format!("{hurried}    endpoint: {endpoint}\n"),
        ..Place::new(&network, 1)
    };
    let seeker = Place {
        msp: network.org(1).user_msp("User1"),
        bootstrap: endpoint.clone(),
        gossip: hurried.to_owned(),
        ..Place::new(&network, 1)
    };
    let seeker = seeker.joined().await;
    let old = place("old").start().await.unwrap();
    let id = |identity: SigningIdentity| PkiId(pki_id(identity.serialized()).unwrap());
    let [before, after] = [network.peer(1), network.admin(1)].map(id);
    let alive = async || {
        let status = seeker.gossip_status().await.unwrap();
        let peers = status.peers.iter().map(|peer| peer.pki_id);
        peers.collect::<Vec<_>>()
    };
    until("it is found", async || alive().await == [before]).await;
    soon(old.stop()).await;
    until("it is taken for dead", async || alive().await.is_empty()).await;
    let renewed = Place {
        msp: network.org(1).user_msp("Admin"),
        ..place("new")
    };
    let renewed = renewed.start().await.unwrap();
    until("it is found again", async || alive().await == [after]).await;
    let status = seeker.gossip_status().await.unwrap();
    let dead: Vec<_> = status.dead.iter().map(|peer| peer.pki_id).collect();
    assert!(!dead.contains(&before), "it is known by two identities");
    let metrics = metrics_of(&seeker).await;
    for name in [
        "selvedge_gossip_dials_total",
        "selvedge_gossip_bytes_sent_total{kind=\"membership_request\"}",
        "selvedge_gossip_bytes_received_total{kind=\"membership_response\"}",
    ] {
        let line = metrics.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        assert!(value > Some(0), "{name}: {value:?}");
    }
    soon(renewed.stop()).await;
    soon(seeker.stop()).await;
}
