//! Certificates that are renewed while a peer runs.

use std::path::Path;

use selvedge_protos::protos::SignedProposal;
use selvedge_transport::services::protos::endorser_client::EndorserClient;
use selvedge_transport::{ClientTls, ConnectOptions, certificates_from_pem, channel};

use crate::node::Place;
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
