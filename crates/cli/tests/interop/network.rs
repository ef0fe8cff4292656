//! A network of real nodes on loopback: ordering nodes and peers of Fabric, and our peers, in any mix.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use selvedge_channel::config_from_block;
use selvedge_devnet::material::{Organization, Specification};
use selvedge_protos::Message as _;
use selvedge_protos::common::{Block, Config};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::fabric::{Fabric, clean, run, try_run};
use super::files::{NodeSettings, PROFILE, configtx_yaml, loopback};
use super::process::{Process, eventually, free_ports};

/// The channel that all peers join.
pub const CHANNEL: &str = "interop";
/// The program under test.
const SELVEDGE: &str = env!("CARGO_BIN_EXE_selvedge");

/// What a network is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Peers of each organisation.
    pub peers: Vec<u16>,
    pub consensus: Consensus,
    pub mutual_tls: bool,
    pub timers: Timers,
    /// Whether peers of an earlier release take part: the channel asks for no capability of version 3.
    pub two_releases: bool,
}

impl Plan {
    /// Organisations with so many peers each, one Raft ordering node, Fabric's timers.
    pub fn new(peers: &[u16]) -> Self {
        Self {
            peers: peers.to_vec(),
            consensus: Consensus::Raft,
            mutual_tls: false,
            timers: Timers::Fabric,
            two_releases: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consensus {
    /// One node.
    Raft,
    /// Four nodes.
    Bft,
}

/// The timers of gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timers {
    /// Fabric's defaults.
    Fabric,
    /// A half or less of them.
    Brisk,
}

/// Whose peer it is that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fabric,
    /// Fabric's, of the earlier release.
    OlderFabric,
    Selvedge,
}

/// Whether a peer fetches blocks from ordering nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    Always,
    Never,
    Elected,
}

/// Which peer: the organisation, counted from 1, and the peer, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(pub usize, pub usize);

impl At {
    fn host(self) -> String {
        format!("peer{}", self.1)
    }
}

/// Where a node listens on loopback. `extra` serves chaincodes of a peer, and administrators of an
/// ordering node.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub service: u16,
    pub operations: u16,
    pub extra: u16,
}

impl Ports {
    /// Where its peers or clients connect.
    pub fn address(self) -> String {
        loopback(self.service)
    }
}

/// Nodes, with everything that they keep in a temporary directory. Ends with all its processes.
pub struct Network {
    pub fabric: Fabric,
    pub ordering: Organization,
    pub organizations: Vec<Organization>,
    pub runtime: Runtime,
    plan: Plan,
    orderer_ports: Vec<Ports>,
    peer_ports: BTreeMap<At, Ports>,
    tls_authorities: Vec<String>,
    orderers: Vec<Option<Process>>,
    peers: BTreeMap<At, Process>,
    /// Blocks that the ordering nodes have made.
    height: u64,
    folder: Folder,
}

/// Kept when the test fails.
struct Folder(Option<TempDir>);

impl Folder {
    fn path(&self, path: &str) -> PathBuf {
        self.0.as_ref().map(|dir| dir.path().join(path)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take().filter(|_| std::thread::panicking()) {
            eprintln!("logs and ledgers are in {}", folder.keep().display());
        }
    }
}

impl Network {
    /// Key material, genesis block and running ordering nodes, which have joined the channel and made its
    /// first block, with the definition of a chaincode.
    pub fn start(fabric: &Fabric, plan: Plan) -> Self {
        let folder = Folder(Some(tempfile::tempdir().unwrap()));
        let crypto = folder.path("crypto");
        let nodes = match plan.consensus {
            Consensus::Raft => 1,
            Consensus::Bft => 4,
        };
        let ordering = Specification {
            hosts: (0..nodes).map(|node| format!("orderer{node}")).collect(),
            ..Specification::orderer()
        };
        let ordering = Organization::write(&crypto, ordering).unwrap();
        let organizations: Vec<_> = (1..)
            .zip(&plan.peers)
            .map(|(number, peers)| {
                let specification = Specification::peers(number, *peers);
                Organization::write(&crypto, specification).unwrap()
            })
            .collect();
        let tls_authority = |organization: &Organization| {
            let domain = &organization.specification().domain;
            let file = format!("tlscacerts/tlsca.{domain}-cert.pem");
            organization.msp().join(file).display().to_string()
        };
        let everybody = organizations.iter().chain([&ordering]);
        let tls_authorities = everybody.map(tls_authority).collect();

        let places: Vec<_> = (1..)
            .zip(&plan.peers)
            .flat_map(|(org, peers)| (0..usize::from(*peers)).map(move |peer| At(org, peer)))
            .collect();
        let ports = free_ports(3 * (nodes + places.len()));
        let mut ports = ports.chunks_exact(3).map(|ports| Ports {
            service: ports[0],
            operations: ports[1],
            extra: ports[2],
        });
        let orderer_ports = ports.by_ref().take(nodes).collect();
        let mut network = Self {
            fabric: fabric.clone(),
            ordering,
            organizations,
            runtime: Runtime::new().unwrap(),
            orderer_ports,
            peer_ports: places.into_iter().zip(ports).collect(),
            tls_authorities,
            orderers: Vec::new(),
            peers: BTreeMap::new(),
            height: 1,
            folder,
            plan,
        };
        network.write_genesis();
        // Command lines read it before the peer is started.
        for at in network.peer_ports.keys() {
            network.write_core_yaml(*at, Lead::Never, &at.host());
        }
        network.orderers = (0..nodes).map(|_| None).collect();
        for node in 0..nodes {
            network.start_orderer(node);
        }
        for node in 0..nodes {
            network.join_orderer(node);
        }
        network.define_chaincode();
        network
    }

    fn write_genesis(&self) {
        let hosts = &self.ordering.specification().hosts;
        let orderers: Vec<_> = hosts
            .iter()
            .map(String::as_str)
            .zip(self.orderer_ports.iter().copied())
            .collect();
        let text = configtx_yaml(
            &self.plan,
            self.fabric.has_v3() && !self.plan.two_releases,
            &self.ordering,
            &orderers,
            &self.organizations,
        );
        self.write("configtx.yaml", &text);
        run(self
            .fabric
            .command("configtxgen")
            .arg("-configPath")
            .arg(self.folder.path(""))
            .args(["-profile", PROFILE, "-channelID", CHANNEL, "-outputBlock"])
            .arg(self.genesis()));
    }

    fn write(&self, path: &str, value: &Value) {
        let path = self.folder.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
    }

    /// The file with block 0.
    pub fn genesis(&self) -> PathBuf {
        self.folder.path("genesis.block")
    }

    /// A place for a file of the scenario.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    fn settings<'a>(
        &'a self,
        organization: &'a Organization,
        host: &'a str,
        ports: Ports,
    ) -> NodeSettings<'a> {
        NodeSettings {
            plan: &self.plan,
            organization,
            host,
            ports,
            tls_authorities: &self.tls_authorities,
        }
    }

    /// Starts an ordering node, for the first time or again.
    pub fn start_orderer(&mut self, node: usize) {
        let host = self.ordering.specification().hosts[node].clone();
        let ports = self.orderer_ports[node];
        let text = self.settings(&self.ordering, &host, ports).orderer_yaml();
        self.write(&format!("{host}/orderer.yaml"), &text);
        let folder = self.folder.path(&host);
        let mut command = self.fabric.command("orderer");
        command.env("FABRIC_CFG_PATH", &folder).current_dir(&folder);
        let mut process = Process::start(&mut command, folder.join("log"));
        eventually(&format!("{host} runs"), || {
            process.check();
            TcpStream::connect(ports.address())?;
            TcpStream::connect(loopback(ports.extra))
        });
        self.orderers[node] = Some(process);
    }

    /// Kills an ordering node; its ledger stays.
    pub fn kill_orderer(&mut self, node: usize) {
        self.orderers[node] = None;
    }

    fn join_orderer(&self, node: usize) {
        run(self
            .osnadmin(node, "join")
            .arg("--config-block")
            .arg(self.genesis()));
    }

    /// Waits until an ordering node has all blocks.
    pub fn await_orderer(&self, node: usize) {
        let height = format!("\"height\": {}\n", self.height);
        eventually(&format!("orderer{node} has {} blocks", self.height), || {
            let told = try_run(&mut self.osnadmin(node, "list"))?;
            if told.contains(&height) {
                Ok(())
            } else {
                Err(told)
            }
        });
    }

    /// `osnadmin channel`, about the channel.
    fn osnadmin(&self, node: usize, verb: &str) -> Command {
        let tls = self.ordering.user_tls("Admin");
        let mut command = self.fabric.command("osnadmin");
        command
            .args(["channel", verb, "--channelID", CHANNEL])
            .args(["-o", &loopback(self.orderer_ports[node].extra), "--ca-file"])
            .arg(tls.authority)
            .arg("--client-cert")
            .arg(tls.certificate)
            .arg("--client-key")
            .arg(tls.key);
        command
    }

    /// Where an ordering node listens.
    pub fn orderer_address(&self, node: usize) -> String {
        self.orderer_ports[node].address()
    }

    /// Where a peer listens.
    pub fn address(&self, at: At) -> String {
        self.peer_ports[&at].address()
    }

    pub fn organization(&self, at: At) -> &Organization {
        &self.organizations[at.0 - 1]
    }

    /// Starts a peer, for the first time or again on what the place has kept, and has it join the
    /// channel if it has not yet.
    pub fn start_peer(&mut self, at: At, kind: Kind, lead: Lead) {
        self.start_peer_as(at, kind, lead, &at.host());
    }

    /// A new key and certificates of the same CAs for a peer: its identity, as
    /// [`Self::start_peer_as`] takes it. The certificates end `valid_for` from now, or with the CAs.
    pub fn issue(&self, at: At, valid_for: Option<Duration>) -> String {
        let organization = self.organization(at);
        let mut names = (1..).map(|number| format!("{}-{number}", at.host()));
        let is_new = |name: &String| !organization.node_msp(name).exists();
        let name = names.find(is_new).unwrap();
        organization.add_node(&name, valid_for).unwrap();
        name
    }

    /// As [`Self::start_peer`], by another identity.
    pub fn start_peer_as(&mut self, at: At, kind: Kind, lead: Lead, identity: &str) {
        let mut process = self.spawn_peer(at, kind, lead, identity);
        let address = self.address(at);
        eventually(&format!("{at:?} runs"), || {
            process.check();
            TcpStream::connect(&address)
        });
        self.peers.insert(at, process);
        self.join(at);
    }

    /// Starts a peer that must end by itself; what it and those before it have printed.
    pub fn start_in_vain(&self, at: At, kind: Kind, identity: &str) -> String {
        let mut process = self.spawn_peer(at, kind, Lead::Never, identity);
        eventually(&format!("{at:?} ends"), || process.has_failed());
        process.log()
    }

    fn spawn_peer(&self, at: At, kind: Kind, lead: Lead, identity: &str) -> Process {
        self.write_core_yaml(at, lead, identity);
        let folder = self.peer_folder(at);
        let mut command = match kind {
            Kind::Fabric => self.fabric.command("peer"),
            Kind::OlderFabric => self.fabric.older().unwrap().command("peer"),
            Kind::Selvedge => clean(SELVEDGE),
        };
        command
            .args(["node", "start"])
            .env("FABRIC_CFG_PATH", &folder)
            .current_dir(&folder);
        if let Some(specification) = std::env::var_os("INTEROP_LOGGING_SPEC") {
            command.env("FABRIC_LOGGING_SPEC", specification);
        }
        Process::start(&mut command, folder.join("log"))
    }

    fn write_core_yaml(&self, at: At, lead: Lead, identity: &str) {
        let mates = self.peer_ports.iter().filter(|(other, _)| other.0 == at.0);
        let bootstrap: Vec<_> = mates.map(|(_, ports)| ports.address()).collect();
        let organization = self.organization(at);
        let name = organization.node_name(&at.host());
        let folder = self.peer_folder(at);
        let text = self
            .settings(organization, identity, self.peer_ports[&at])
            .core_yaml(&name, &folder.join("data"), lead, &bootstrap);
        self.write(&format!("{name}/core.yaml"), &text);
    }

    fn peer_folder(&self, at: At) -> PathBuf {
        self.folder
            .path(&self.organization(at).node_name(&at.host()))
    }

    /// `peer channel join`, unless `peer channel list` has the channel.
    fn join(&self, at: At) {
        let list = run(self.peer_cli(at).args(["channel", "list"]));
        if !list.lines().any(|line| line == CHANNEL) {
            run(self
                .peer_cli(at)
                .args(["channel", "join", "-b"])
                .arg(self.genesis()));
        }
    }

    /// Kills a peer; what it has stored stays.
    pub fn kill_peer(&mut self, at: At) {
        self.peers.remove(&at).expect("a peer that runs");
    }

    /// Where a peer's operations endpoint listens.
    pub fn operations_port(&self, at: At) -> u16 {
        self.peer_ports[&at].operations
    }

    /// What a peer has printed, over all its lives.
    pub fn log(&self, at: At) -> String {
        self.peers[&at].log()
    }

    /// Fabric's command line as the administrator of the peer's organisation, speaking to that peer.
    pub fn peer_cli(&self, at: At) -> Command {
        self.cli(self.fabric.command("peer"), at)
    }

    /// Our own command line in the same position.
    pub fn selvedge_cli(&self, at: At) -> Command {
        self.cli(clean(SELVEDGE), at)
    }

    fn cli(&self, mut command: Command, at: At) -> Command {
        let organization = self.organization(at);
        let tls = organization.user_tls("Admin");
        command
            .env("FABRIC_CFG_PATH", self.peer_folder(at))
            .env("FABRIC_LOGGING_SPEC", "ERROR")
            .env("CORE_PEER_ADDRESS", self.address(at))
            .env("CORE_PEER_MSPCONFIGPATH", organization.user_msp("Admin"))
            .env("CORE_PEER_TLS_ROOTCERT_FILE", tls.authority)
            .env("CORE_PEER_TLS_CLIENTCERT_FILE", tls.certificate)
            .env("CORE_PEER_TLS_CLIENTKEY_FILE", tls.key)
            .current_dir(self.folder.path(""));
        command
    }

    /// Arguments of the command line that name the first ordering node.
    pub fn orderer_flags(&self) -> Vec<String> {
        let authority = self.ordering.user_tls("Admin").authority;
        let client = self.organizations[0].user_tls("Admin");
        let mut flags = vec![
            "-o".to_owned(),
            self.orderer_address(0),
            "--tls".to_owned(),
            "--cafile".to_owned(),
            authority.display().to_string(),
        ];
        if self.plan.mutual_tls {
            flags.extend([
                "--clientauth".to_owned(),
                "--certfile".to_owned(),
                client.certificate.display().to_string(),
                "--keyfile".to_owned(),
                client.key.display().to_string(),
            ]);
        }
        flags
    }

    /// The channel's configuration, from the ordering service.
    pub fn config(&self) -> Config {
        let file = self.file("config.block");
        eventually("an ordering node serves blocks", || {
            try_run(
                self.peer_cli(At(1, 0))
                    .args(["channel", "fetch", "config"])
                    .arg(&file)
                    .args(["-c", CHANNEL])
                    .args(self.orderer_flags()),
            )
        });
        let block = Block::decode(fs::read(file).unwrap().as_slice()).unwrap();
        let envelope = config_from_block(&block).unwrap().unwrap();
        envelope.config.unwrap()
    }

    /// Height of the chain by what was sent.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Says that the ordering nodes have taken so many messages.
    pub fn grow(&mut self, blocks: u64) {
        self.height += blocks;
    }
}
