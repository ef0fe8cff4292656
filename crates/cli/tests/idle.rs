//! What a large network costs when nothing happens: many real peers, each a process of its own, that
//! are in many channels and have no blocks to pass on. Prints a peer's share of a core and its
//! memory, and fails if any peer took another for dead.
//!
//! `cargo test --release -p selvedge --test idle -- --ignored --nocapture`, which takes some minutes
//! and 3 GB of memory. `IDLE_PEERS`, `IDLE_CHANNELS` and `IDLE_SECONDS` make it smaller or longer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[allow(dead_code, reason = "shared with the interop suite")]
#[path = "interop/process.rs"]
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use selvedge_devnet::genesis::{Address, ChannelSpecification};
use selvedge_devnet::material::{Organization, Specification};
use selvedge_protos::Message as _;
use selvedge_protos::orderer::BatchSize;

use process::{Process, eventually, free_ports, http_get, sum_of};

const PROGRAM: &str = env!("CARGO_BIN_EXE_selvedge");
const ORGANISATIONS: u16 = 4;
/// Of `/proc/PID/stat`, a second.
const TICKS: f64 = 100.0;

struct Peer<'a> {
    organisation: &'a Organization,
    host: String,
    folder: PathBuf,
    port: u16,
    operations: u16,
    /// Where the first peer of the organisation listens.
    bootstrap: u16,
}

impl Peer<'_> {
    /// The program in this peer's environment, with the key material of `msp`.
    fn command(&self, msp: &Path) -> Command {
        let tls = self.organisation.node_tls(&self.host);
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .env("FABRIC_CFG_PATH", &self.folder)
            .env("CORE_PEER_ID", &self.host)
            .env("CORE_PEER_ADDRESS", address(self.port))
            .env("CORE_PEER_LISTENADDRESS", address(self.port))
            .env(
                "CORE_PEER_LOCALMSPID",
                &self.organisation.specification().msp_id,
            )
            .env("CORE_PEER_MSPCONFIGPATH", msp)
            .env("CORE_PEER_FILESYSTEMPATH", self.folder.join("data"))
            .env("CORE_PEER_TLS_ENABLED", "true")
            .env("CORE_PEER_TLS_CERT_FILE", tls.certificate)
            .env("CORE_PEER_TLS_KEY_FILE", tls.key)
            .env("CORE_PEER_TLS_ROOTCERT_FILE", tls.authority)
            .env("CORE_PEER_GOSSIP_BOOTSTRAP", address(self.bootstrap))
            .env("CORE_PEER_GOSSIP_EXTERNALENDPOINT", address(self.port))
            .env("CORE_PEER_GOSSIP_USELEADERELECTION", "false")
            .env("CORE_PEER_GOSSIP_ORGLEADER", "false")
            .env("CORE_OPERATIONS_LISTENADDRESS", address(self.operations))
            .env("CORE_METRICS_PROVIDER", "prometheus");
        command
    }

    fn start(&self) -> Process {
        let msp = self.organisation.node_msp(&self.host);
        let mut command = self.command(&msp);
        command.args(["node", "start"]);
        Process::start(&mut command, self.folder.join("log"))
    }

    fn join(&self, genesis: &Path) {
        let mut command = self.command(&self.organisation.user_msp("Admin"));
        command.args(["channel", "join", "-b"]).arg(genesis);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The sum over its channels of the other peers that it knows there.
    fn known(&self) -> Result<f64, String> {
        let metrics = http_get(self.operations, "/metrics")?;
        sum_of(&metrics, "gossip_membership_total_peers_known", &[]).ok_or(metrics)
    }
}

/// A number from the environment.
fn setting(name: &str, default: u16) -> u16 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Seconds of processor time that a process has used.
fn processor_time(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}

/// MiB that a process holds in memory.
fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<f64>().unwrap() / 1024.0
}

fn genesis_files(root: &Path, organisations: &[Organization], peers: &[Peer<'_>]) -> Vec<PathBuf> {
    let ordering = Organization::write(root, Specification::orderer()).unwrap();
    let address = |port| Address {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let first_of = |organisation: &Organization| {
        let mut peers = peers.iter();
        let first = peers.find(|peer| peer.organisation == organisation);
        first.map(|peer| address(peer.port)).into_iter().collect()
    };
    let channels = 0..setting("IDLE_CHANNELS", 25);
    channels
        .map(|number| {
            let channel = ChannelSpecification {
                channel_id: &format!("channel{number}"),
                ordering: &ordering,
                // Nobody listens there, and nobody asks: there is no leader.
                orderer: address(1),
                applications: organisations.iter().map(|it| (it, first_of(it))).collect(),
                batch_size: BatchSize {
                    max_message_count: 10,
                    absolute_max_bytes: 10 << 20,
                    preferred_max_bytes: 2 << 20,
                },
                batch_timeout: Duration::from_secs(2),
            };
            let file = root.join(format!("channel{number}.block"));
            fs::write(&file, channel.genesis_block().unwrap().encode_to_vec()).unwrap();
            file
        })
        .collect()
}

#[test]
#[ignore = "takes minutes and 80 processes; see the head of this file"]
fn many_peers_in_many_channels() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let per_organisation = setting("IDLE_PEERS", 80) / ORGANISATIONS;
    let organisations: Vec<_> = (1..=ORGANISATIONS)
        .map(|number| Organization::write(root, Specification::peers(number, per_organisation)))
        .collect::<Result<_, _>>()
        .unwrap();
    let count = usize::from(per_organisation * ORGANISATIONS);
    let ports = free_ports(2 * count);
    let peers: Vec<_> = (0..count)
        .map(|number| {
            let (organisation, host) = (
                number / usize::from(per_organisation),
                number % usize::from(per_organisation),
            );
            let folder = root.join(format!("peer{number}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("core.yaml"), "peer:\n  networkId: idle\n").unwrap();
            Peer {
                organisation: &organisations[organisation],
                host: format!("peer{host}"),
                folder,
                port: ports[number],
                operations: ports[count + number],
                bootstrap: ports[number - host],
            }
        })
        .collect();
    let genesis = genesis_files(root, &organisations, &peers);

    let nodes: Vec<_> = peers.iter().map(Peer::start).collect();
    for peer in &peers {
        eventually("the node is there", || {
            http_get(peer.operations, "/healthz")
        });
        for file in &genesis {
            peer.join(file);
        }
    }
    println!("{count} peers are in {} channels", genesis.len());
    let expected = (genesis.len() * (count - 1)) as f64;
    for peer in &peers {
        eventually("the peer knows all others in all channels", || {
            match peer.known() {
                Ok(known) if known == expected => Ok(()),
                other => Err(other),
            }
        });
    }

    let seconds = setting("IDLE_SECONDS", 180);
    println!("all know each other in all channels; nothing happens for {seconds} s");
    let before: Vec<_> = nodes.iter().map(|node| processor_time(node.id())).collect();
    sleep(Duration::from_secs(seconds.into()));
    let mut shares: Vec<_> = nodes
        .iter()
        .zip(before)
        .map(|(node, before)| 100.0 * (processor_time(node.id()) - before) / f64::from(seconds))
        .collect();
    let mut memory: Vec<_> = nodes.iter().map(|node| resident(node.id())).collect();
    shares.sort_by(f64::total_cmp);
    memory.sort_by(f64::total_cmp);
    println!(
        "percent of a core: median {:.2}, most {:.2}; MiB resident: median {:.0}, most {:.0}",
        shares[count / 2],
        shares[count - 1],
        memory[count / 2],
        memory[count - 1],
    );
    for (node, peer) in nodes.iter().zip(&peers) {
        let log = node.log();
        let suspicions: Vec<_> = log.lines().filter(|it| it.contains("for dead")).collect();
        assert!(suspicions.is_empty(), "{}: {suspicions:#?}", peer.host);
        assert_eq!(peer.known(), Ok(expected));
    }
}
