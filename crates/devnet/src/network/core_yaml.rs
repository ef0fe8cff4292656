//! A peer's `core.yaml`, and the environment in which Fabric's command line talks to it.

use std::path::Path;

use super::folder::{NetworkFolder, PeerPlace, loopback};
use crate::error::DevnetError;
use crate::material::write_file;

/// Writes the files of one peer. Paths in core.yaml are relative to its folder, as Fabric takes them,
/// so that the whole network can be moved.
pub(super) fn write(network: &NetworkFolder, peer: &PeerPlace<'_>) -> Result<(), DevnetError> {
    write_file(&peer.folder.join("core.yaml"), &core_yaml(network, peer))?;
    write_file(&peer.folder.join("admin.env"), &admin_env(network, peer))
}

fn core_yaml(network: &NetworkFolder, peer: &PeerPlace<'_>) -> String {
    let name = &peer.name;
    let msp_id = &peer.organization.specification().msp_id;
    let relative = |path: &Path| {
        let path = path.strip_prefix(&network.root).unwrap_or(path);
        Path::new("../..").join(path).display().to_string()
    };
    let tls = peer.organization.node_tls(peer.host);
    let [certificate, key, authority] =
        [&tls.certificate, &tls.key, &tls.authority].map(|path| relative(path));
    let msp = relative(&peer.organization.node_msp(peer.host));
    let address = loopback(peer.ports.service);
    let chaincode = loopback(peer.ports.chaincode);
    let operations = loopback(peer.ports.operations);
    let leads = peer
        .organization
        .specification()
        .hosts
        .first()
        .map(String::as_str)
        == Some(peer.host);
    // The leader is everybody's first contact; it gets to know the others when they call.
    let bootstrap = network
        .peers()
        .find(|other| other.organization == peer.organization)
        .map_or_else(|| address.clone(), |first| loopback(first.ports.service));
    format!(
        "\
# A peer of a development network. Paths count from this folder.
peer:
  id: {name}
  networkId: devnet
  listenAddress: {address}
  address: {address}
  addressAutoDetect: false
  chaincodeListenAddress: {chaincode}
  localMspId: {msp_id}
  mspConfigPath: {msp}
  fileSystemPath: data
  tls:
    enabled: true
    clientAuthRequired: false
    cert:
      file: {certificate}
    key:
      file: {key}
    rootcert:
      file: {authority}
  BCCSP:
    Default: SW
    SW:
      Hash: SHA2
      Security: 256
  authentication:
    timewindow: 15m
  client:
    connTimeout: 3s
  gossip:
    bootstrap: {bootstrap}
    endpoint: {address}
    externalEndpoint: {address}
    useLeaderElection: false
    orgLeader: {leads}
    state:
      enabled: true
    pvtData:
      pullRetryThreshold: 5s
      transientstoreMaxBlockRetention: 1000
      pushAckTimeout: 3s
      btlPullMargin: 10
      reconcileBatchSize: 10
      reconcileSleepInterval: 1m
      reconciliationEnabled: true
      implicitCollectionDisseminationPolicy:
        requiredPeerCount: 0
        maxPeerCount: 1
  deliveryclient:
    blockGossipEnabled: true
    connTimeout: 3s
  discovery:
    enabled: true
    authCacheEnabled: true
    authCacheMaxSize: 1000
    authCachePurgeRetentionRatio: 0.75
  limits:
    concurrency:
      endorserService: 2500
      deliverService: 2500
      gatewayService: 500
vm:
  endpoint: unix:///var/run/docker.sock
chaincode:
  mode: net
  startuptimeout: 300s
  executetimeout: 30s
  installTimeout: 300s
  system:
    _lifecycle: enable
    cscc: enable
    lscc: enable
    qscc: enable
  externalBuilders: []
  logging:
    level: info
    shim: warning
ledger:
  state:
    stateDatabase: goleveldb
    totalQueryLimit: 100000
  history:
    enableHistoryDatabase: true
  pvtdataStore:
    collElgProcMaxDbBatchSize: 5000
    collElgProcDbBatchesInterval: 1000
    deprioritizedDataReconcilerInterval: 60m
    purgeInterval: 100
operations:
  listenAddress: {operations}
  tls:
    enabled: false
metrics:
  provider: prometheus
"
    )
}

/// Variables for `. admin.env; peer channel list`: the peer's folder, its address, and the
/// organisation's administrator.
fn admin_env(network: &NetworkFolder, peer: &PeerPlace<'_>) -> String {
    let folder = peer.folder.display();
    let msp_id = &peer.organization.specification().msp_id;
    let msp = peer.organization.user_msp("Admin");
    let tls = peer.organization.node_tls(peer.host).authority;
    let address = loopback(peer.ports.service);
    let orderer = network.orderer_address();
    let hosts = network.ordering.specification().hosts.first();
    let orderer_tls = hosts.map(|host| network.ordering.node_tls(host).authority);
    format!(
        "\
# For use by a shell: . admin.env
export FABRIC_CFG_PATH='{folder}'
export CORE_PEER_ADDRESS={address}
export CORE_PEER_LOCALMSPID={msp_id}
export CORE_PEER_MSPCONFIGPATH='{msp}'
export CORE_PEER_TLS_ENABLED=true
export CORE_PEER_TLS_ROOTCERT_FILE='{tls}'
# For flags of the command line: -o $ORDERER_ADDRESS --tls --cafile $ORDERER_CA
export ORDERER_ADDRESS={orderer}
export ORDERER_CA='{orderer_tls}'
",
        msp = msp.display(),
        tls = tls.display(),
        orderer_tls = orderer_tls.unwrap_or_default().display(),
    )
}
