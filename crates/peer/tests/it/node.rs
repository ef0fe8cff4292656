//! A whole peer: its start and stop, what keeps it from starting, and what it does with a damaged
//! data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use selvedge_devnet::ports::HeldPort;
use selvedge_ledger::{LedgerManager, Options};
use selvedge_msp::SigningIdentity;
use selvedge_peer::channel::JoinError;
use selvedge_peer::config::{PeerConfig, Sources};
use selvedge_peer::logging::LogControl;
use selvedge_peer::node::{Node, StartError};
use selvedge_protos::Message;
use selvedge_protos::protos::SignedProposal;
use selvedge_transport::services::protos::endorser_client::EndorserClient;
use selvedge_transport::{ClientTls, ConnectOptions, certificates_from_pem, channel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    CHANNEL, Chain, Network, commit_by_queue, demand_capability, read, soon, until,
};

/// A peer0 of an organisation, to be changed before it starts.
pub struct Place<'a> {
    pub network: &'a Network,
    pub org: usize,
    pub data: PathBuf,
    pub listen: String,
    pub operations: String,
    pub msp: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub roots: PathBuf,
    pub bootstrap: String,
    pub leads: bool,
    /// More of `peer.gossip`: lines of YAML, indented by four.
    pub gossip: String,
    /// `peer.tls.clientAuthRequired`.
    pub mutual_tls: bool,
    /// `ledger.statedVerdicts`.
    pub stated: String,
}

impl<'a> Place<'a> {
    pub fn new(network: &'a Network, org: usize) -> Self {
        let organization = network.org(org);
        let tls = organization.node_tls("peer0");
        Self {
            network,
            org,
            data: network.folder.path().join(format!("peer-org{org}")),
            listen: "127.0.0.1:0".to_owned(),
            operations: "127.0.0.1:0".to_owned(),
            msp: organization.node_msp("peer0"),
            certificate: tls.certificate,
            key: tls.key,
            roots: tls.authority,
            bootstrap: String::new(),
            leads: false,
            gossip: String::new(),
            mutual_tls: false,
            stated: "[]".to_owned(),
        }
    }

    fn yaml(&self) -> String {
        let msp_id = &self.network.org(self.org).specification().msp_id;
        let [data, msp, certificate, key, roots] = [
            &self.data,
            &self.msp,
            &self.certificate,
            &self.key,
            &self.roots,
        ]
        .map(|path| path.display());
        format!(
            "
peer:
  id: peer0
  networkId: test
  listenAddress: {listen}
  address: 127.0.0.1:1
  localMspId: {msp_id}
  mspConfigPath: {msp}
  fileSystemPath: {data}
  tls:
    enabled: true
    clientAuthRequired: {mutual_tls}
    cert:
      file: {certificate}
    key:
      file: {key}
    rootcert:
      file: {roots}
  gossip:
    bootstrap: {bootstrap}
    orgLeader: {leads}
    useLeaderElection: false
{gossip}operations:
  listenAddress: {operations}
metrics:
  provider: prometheus
ledger:
  statedVerdicts: {stated}
",
            stated = self.stated,
            listen = self.listen,
            bootstrap = self.bootstrap,
            leads = self.leads,
            gossip = self.gossip,
            mutual_tls = self.mutual_tls,
            operations = self.operations,
        )
    }

    pub fn config(&self) -> PeerConfig {
        let file = self.network.folder.path().join("core.yaml");
        let none = std::iter::empty::<(String, String)>();
        let sources = Sources::new(&file, &self.yaml(), none).unwrap();
        sources.peer().unwrap().config
    }

    pub async fn start(&self) -> Result<Node, StartError> {
        let log = LogControl::detached("error").unwrap();
        soon(Node::start(self.config(), log)).await
    }

    async fn refused(&self) -> String {
        match self.start().await {
            Ok(_) => panic!("the peer has started"),
            Err(error) => error.to_string(),
        }
    }

    /// A peer that has joined the channel.
    pub async fn joined(&self) -> Node {
        let node = self.start().await.unwrap();
        node.join(self.network.genesis_bytes()).await.unwrap();
        node
    }

    fn block_file(&self) -> PathBuf {
        let chains = self.data.join("ledgersData/chains/chains");
        chains.join(CHANNEL).join("blockfile_000000")
    }
}

/// The body of a GET request, and the status.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

pub async fn metrics_of(node: &Node) -> String {
    get(node.operations_address().unwrap(), "/metrics").await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_stops_and_continues_where_it_was() {
    let network = Network::new();
    let ports = [(); 2].map(|()| HeldPort::free().unwrap());
    let [listen, operations] = ports
        .each_ref()
        .map(|port| format!("127.0.0.1:{}", port.number()));
    let place = Place {
        listen,
        operations,
        ..Place::new(&network, 1)
    };
    let mut chain = Chain::new(&network);
    {
        let node = place.joined().await;
        let channel = node.channel(CHANNEL).unwrap();
        commit_by_queue(&channel, &[chain.push(&["a"]), chain.push(&["b"])]).await;
        drop(channel);
        soon(node.stop()).await;
    }
    // Ports and the data directory are free at once.
    let node = place.start().await.unwrap();
    assert_eq!(node.channel(CHANNEL).unwrap().ledger().height(), 3);
    let (status, _) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 200);
    let height = "ledger_blockchain_height{channel=\"testchannel\"} 3\n";
    until("the height shows", async || {
        metrics_of(&node).await.contains(height)
    })
    .await;
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_peer_lets_go_of_everything() {
    let network = Network::new();
    let port = HeldPort::free().unwrap();
    let place = Place {
        listen: format!("127.0.0.1:{}", port.number()),
        ..Place::new(&network, 1)
    };
    drop(place.joined().await);
    until("port and data directory are free", async || {
        let Ok(node) = place.start().await else {
            return false;
        };
        soon(node.stop()).await;
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_what_clients_have_open() {
    let network = Network::new();
    let node = Place::new(&network, 1).joined().await;
    // A connection that says nothing.
    let mut silent = TcpStream::connect(node.address()).await.unwrap();
    soon(node.stop()).await;
    let mut byte = [0];
    let read = soon(silent.read(&mut byte)).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_wrong_keys_are_named() {
    let network = Network::new();
    let place = || Place::new(&network, 1);
    let nowhere = network.folder.path().join("nowhere");
    let refusals = [
        (
            Place {
                msp: nowhere.clone(),
                ..place()
            },
            ["when setting up MSP", "nowhere"],
        ),
        (
            // The key of another organisation beside our certificate.
            Place {
                msp: mixed_msp(&network),
                ..place()
            },
            ["when setting up MSP", "mixed"],
        ),
        (
            Place {
                certificate: nowhere.clone(),
                ..place()
            },
            ["peer.tls.cert.file", "nowhere"],
        ),
        (
            Place {
                key: network.org(2).node_tls("peer0").key,
                ..place()
            },
            ["peer.tls.key.file", "does not belong"],
        ),
        (
            Place {
                key: network.org(1).node_tls("peer0").certificate,
                ..place()
            },
            ["peer.tls.key.file", "key"],
        ),
        (
            Place {
                roots: network.org(1).node_tls("peer0").key,
                ..place()
            },
            ["peer.tls.rootcert.file", "no CERTIFICATE"],
        ),
        (
            // A certificate of an organisation that is not the configured one.
            Place {
                msp: network.org(2).user_msp("User1").join("keystore"),
                ..place()
            },
            ["when setting up MSP", "keystore"],
        ),
    ];
    for (place, expected) in refusals {
        let error = place.refused().await;
        for text in expected {
            assert!(error.contains(text), "{text:?} is not in: {error}");
        }
        // Nothing was begun.
        assert!(!place.data.join("ledgersData").exists(), "{error}");
    }
}

/// The MSP of Org1's peer with the private key of Org2's.
fn mixed_msp(network: &Network) -> PathBuf {
    let mixed = network.folder.path().join("mixed");
    copy_folder(&network.org(1).node_msp("peer0"), &mixed);
    let key = network.org(2).node_msp("peer0").join("keystore/priv_sk");
    std::fs::copy(key, mixed.join("keystore/priv_sk")).unwrap();
    mixed
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_in_use_are_named() {
    let network = Network::new();
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let error = Place {
        listen: taken.clone(),
        ..Place::new(&network, 1)
    }
    .refused()
    .await;
    assert!(
        error.starts_with("Failed to create peer server") && error.contains(&taken),
        "{error}"
    );
    let error = Place {
        operations: taken.clone(),
        ..Place::new(&network, 1)
    }
    .refused()
    .await;
    assert!(
        error.contains("operations.listenAddress") && error.contains(&taken),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_used_is_named() {
    let network = Network::new();
    let place = Place::new(&network, 1);
    let held = LedgerManager::open(&place.data, Options::default()).unwrap();
    let error = place.refused().await;
    assert!(
        error.starts_with("the data directory is in use: another process holds "),
        "{error}"
    );
    drop(held);
    soon(place.start().await.unwrap().stop()).await;

    let file = network.folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    for data in [file.join("data"), PathBuf::from("/proc/selvedge")] {
        let error = Place {
            data: data.clone(),
            ..Place::new(&network, 1)
        }
        .refused()
        .await;
        assert!(
            error.starts_with("cannot create ") && error.contains(&data.display().to_string()),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_last_block_is_cut_off_and_fetched_again() {
    let network = Network::new();
    let place = Place::new(&network, 1);
    let mut chain = Chain::new(&network);
    let node = place.joined().await;
    let channel = node.channel(CHANNEL).unwrap();
    commit_by_queue(&channel, &[chain.push(&["a"]), chain.push(&["b"])]).await;
    drop(channel);
    soon(node.stop()).await;

    let file = place.block_file();
    let bytes = read(&file);
    std::fs::write(&file, &bytes[..bytes.len() - 7]).unwrap();
    let node = place.start().await.unwrap();
    let channel = node.channel(CHANNEL).unwrap();
    assert_eq!(channel.ledger().height(), 2);
    let (status, _) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 200);
    commit_by_queue(&channel, &[chain.blocks[2].clone()]).await;
    assert_eq!(read(&file), bytes);
    drop(channel);
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_block_is_refused_and_the_rest_served() {
    let network = Network::new();
    let place = Place::new(&network, 1);
    let mut chain = Chain::new(&network);
    let node = place.joined().await;
    let channel = node.channel(CHANNEL).unwrap();
    commit_by_queue(&channel, &[chain.push(&["a"]), chain.push(&["b"])]).await;
    drop(channel);
    soon(node.stop()).await;

    let file = place.block_file();
    let mut bytes = read(&file);
    let envelope = chain.blocks[1].data.as_ref().unwrap().data[0].clone();
    let at = bytes
        .windows(envelope.len())
        .position(|window| window == envelope)
        .unwrap();
    bytes[at + envelope.len() / 2] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    {
        // The index knows where blocks are, so nothing has to be gone through.
        let node = place.start().await.unwrap();
        let channel = node.channel(CHANNEL).unwrap();
        assert_eq!(channel.ledger().height(), 3);
        let error = channel.ledger().block(1).unwrap_err().to_string();
        assert!(error.starts_with("block 1 at offset "), "{error}");
        assert!(channel.ledger().block(2).unwrap().is_some());
        drop(channel);
        soon(node.stop()).await;
    }
    // Without the index the chain ends in front of the damage, and so does the channel.
    std::fs::remove_dir_all(place.data.join("ledgersData/selvedge")).unwrap();
    let node = place.start().await.unwrap();
    assert!(node.channel(CHANNEL).is_none());
    let (status, body) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("\"component\":\"channels\"")
            && body.contains("channel testchannel has stopped: ")
            && body.contains("block 1 at offset "),
        "{body}"
    );
    // The peer itself is well: other channels can be joined.
    let other = Network::of_channel("other");
    node.join(other.genesis_bytes()).await.unwrap();
    assert!(node.channel("other").is_some());
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_needs_a_newer_peer_is_named_and_others_run() {
    let network = Network::new();
    let place = Place::new(&network, 1);
    let node = place.joined().await;
    let other = Network::of_channel("other");
    node.join(other.genesis_bytes()).await.unwrap();
    let channel = node.channel(CHANNEL).unwrap();
    let block = Chain::new(&network).push_config(|config| demand_capability(config, "V9_9"));
    // As an older version might have left it.
    channel.ledger().append(&block).unwrap();
    drop(channel);
    soon(node.stop()).await;

    let node = place.start().await.unwrap();
    assert_eq!(node.channels().ids(), ["other"]);
    let (status, body) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("testchannel") && body.contains("V9_9"),
        "{body}"
    );
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_an_ordering_service_runs_and_measures_it() {
    let network = Network::new();
    let place = Place {
        leads: true,
        ..Place::new(&network, 1)
    };
    let node = place.joined().await;
    let line = "selvedge_ordering_service_unreachable_seconds{channel=\"testchannel\"} ";
    until("the missing ordering service shows", async || {
        let text = metrics_of(&node).await;
        let value = text.lines().find_map(|found| found.strip_prefix(line));
        value.is_some_and(|value| value.parse::<f64>().unwrap() > 0.0)
    })
    .await;
    let text = metrics_of(&node).await;
    assert!(text.contains("gossip_leader_election_leader{channel=\"testchannel\"} 1"));
    // It is too early to call the peer unhealthy.
    let (status, _) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 200);
    soon(node.stop()).await;
}

/// A folder like an MSP's, with another identity in it.
pub fn msp_with(network: &Network, org: usize, identity: &SigningIdentity, key: &str) -> PathBuf {
    let folder = network.folder.path().join("another-msp");
    copy_folder(&network.org(org).node_msp("peer0"), &folder);
    let serialized =
        selvedge_protos::msp::SerializedIdentity::decode(identity.serialized().clone()).unwrap();
    let old = std::fs::read_dir(folder.join("signcerts"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(old, &serialized.id_bytes).unwrap();
    std::fs::write(folder.join("keystore/priv_sk"), key).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away_and_neighbours_are_not() {
    let network = Network::new();
    let node = Place::new(&network, 1).joined().await;
    let trusting = network.folder.path().join("roots.pem");
    let roots: Vec<_> = (1..=3)
        .flat_map(|org| read(&network.org(org).node_tls("peer0").authority))
        .collect();
    std::fs::write(&trusting, roots).unwrap();

    // A peer of an organisation that is in none of our channels.
    let stranger = Place {
        roots: trusting.clone(),
        bootstrap: node.address().to_string(),
        ..Place::new(&network, 3)
    };
    let stranger = stranger.start().await.unwrap();
    until("the handshake is refused", async || {
        metrics_of(&node).await.lines().any(|line| {
            line.strip_prefix("selvedge_gossip_dropped_total{reason=\"handshake_failed\"} ")
                .is_some_and(|count| count.parse::<u64>().unwrap() > 0)
        })
    })
    .await;
    let status = node.gossip_status().await.unwrap();
    assert!(status.peers.is_empty(), "{status:?}");
    assert!(node.channel(CHANNEL).is_some());
    soon(stranger.stop()).await;
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_an_expired_certificate_does_not_start() {
    let network = Network::new();
    let (identity, key) = network.expired_with_key(1, "peer");
    let place = Place {
        msp: msp_with(&network, 1, &identity, &key),
        ..Place::new(&network, 1)
    };
    let error = place.refused().await;
    assert!(error.contains("expired"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_is_measured() {
    let network = Network::new();
    let node = Place::new(&network, 1).joined().await;
    let authority = read(&network.org(1).node_tls("peer0").authority);
    let roots = certificates_from_pem(&authority).unwrap();
    let tls = ClientTls::new(&roots, None, None).unwrap();
    let endpoint = node.address().to_string().parse().unwrap();
    let connection = channel(&endpoint, Some(tls), &ConnectOptions::default());
    let junk = SignedProposal::default();
    let refused = EndorserClient::new(connection)
        .process_proposal(junk)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unknown);
    // A client that does not speak TLS.
    let mut plain = TcpStream::connect(node.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();

    let expected = [
        "grpc_server_unary_requests_received{method=\"ProcessProposal\",service=\"protos_Endorser\"} 1",
        "grpc_server_unary_requests_completed{code=\"Unknown\",method=\"ProcessProposal\",service=\"protos_Endorser\"} 1",
        "grpc_comm_conn_opened 1",
        "grpc_comm_conn_closed 1",
        "selvedge_grpc_tls_handshakes_failed_total 1",
        "gossip_membership_total_peers_known{channel=\"testchannel\"} 0",
        "gossip_payload_buffer_size{channel=\"testchannel\"} 0",
        "gossip_leader_election_leader{channel=\"testchannel\"} 0",
        "ledger_blockchain_height{channel=\"testchannel\"} 1",
    ];
    until("everything is counted", async || {
        let text = metrics_of(&node).await;
        expected
            .iter()
            .all(|line| text.lines().any(|found| found == *line))
    })
    .await;
    let text = metrics_of(&node).await;
    let year_2030 = 1_893_456_000.0;
    for certificate in ["enrollment", "tls_server", "tls_client"] {
        let name = format!(
            "selvedge_certificate_expiry_timestamp_seconds{{certificate=\"{certificate}\"}} "
        );
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        let value: f64 = value.unwrap().parse().unwrap();
        assert!(value > year_2030, "{certificate} {value}");
    }
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_while_the_peer_stops_leave_whole_ledgers_or_none() {
    let network = Network::new();
    let place = Place::new(&network, 1);
    let node = place.start().await.unwrap();
    let names: Vec<_> = (0..4).map(|number| format!("channel{number}")).collect();
    let genesis: Vec<_> = names
        .iter()
        .map(|name| Network::of_channel(name).genesis_bytes())
        .collect();
    let joins: Vec<_> = genesis
        .into_iter()
        .map(|genesis| {
            let channels = node.channels().clone();
            tokio::task::spawn_blocking(move || {
                let genesis = channels.check_genesis(genesis)?;
                channels.join(genesis)
            })
        })
        .collect();
    soon(node.stop()).await;
    let mut joined = Vec::new();
    for (name, join) in names.iter().zip(joins) {
        match join.await.unwrap() {
            Ok(()) => joined.push(name.clone()),
            Err(error) => assert!(matches!(error, JoinError::Stopping), "{error}"),
        }
    }
    // The test's own handles held the data directory a little longer than the peer did.
    let node = place.start().await.unwrap();
    let ids = node.channels().ids();
    for name in &joined {
        assert!(ids.contains(name), "{name} is not among {ids:?}");
    }
    let (status, body) = get(node.operations_address().unwrap(), "/healthz").await;
    assert_eq!(status, 200, "{body}");
    soon(node.stop()).await;
}

#[test]
fn a_core_yaml_that_cannot_be_read_is_named() {
    let none = std::iter::empty::<(String, String)>();
    let broken = Sources::new(Path::new("/etc/x/core.yaml"), "peer:\n\t- a: [", none);
    let error = broken.unwrap_err().to_string();
    assert!(error.contains("/etc/x/core.yaml"), "{error}");
}
