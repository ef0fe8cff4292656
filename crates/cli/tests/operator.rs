//! What an operator does, with the program itself: a development network leaves its files behind,
//! a node is started on them, and the command line speaks to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use selvedge_protos::Message as _;
use selvedge_protos::block::header_hash;
use selvedge_protos::common::Block;

const PROGRAM: &str = env!("CARGO_BIN_EXE_selvedge");
const PEER: &str = "peer0.org1.example.com";
/// Nothing here takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(180);

/// The files of a network of one peer that has run for three blocks.
struct Network {
    folder: tempfile::TempDir,
}

impl Network {
    fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(PROGRAM)
            .args([
                "devnet", "up", "--orgs", "1", "--peers", "1", "--blocks", "3",
            ])
            .args(["--rate", "50", "--output", "json", "--dir"])
            .arg(folder.path().join("net"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["identical"], true);
        std::os::unix::fs::symlink(PROGRAM, folder.path().join("peer")).unwrap();
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("net").join(path)
    }

    fn genesis(&self) -> PathBuf {
        self.path("genesis.block")
    }

    /// A program in the environment of the peer, and of nothing else.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars() {
            if name.starts_with("CORE_") || name.starts_with("FABRIC_") {
                command.env_remove(name);
            }
        }
        command
            .env("FABRIC_CFG_PATH", self.path("peers").join(PEER))
            .current_dir(&self.folder);
        command
    }
}

/// `selvedge node start`; killed if the test fails.
struct Node<'a> {
    network: &'a Network,
    process: Child,
    log: Receiver<String>,
    /// Where it listens.
    address: String,
    /// Where its operations endpoint listens.
    operations: String,
}

impl<'a> Node<'a> {
    fn start(network: &'a Network, data: &Path) -> Self {
        let mut process = network
            .command(Path::new(PROGRAM))
            .args(["node", "start"])
            .env("CORE_PEER_FILESYSTEMPATH", data)
            .env("CORE_PEER_LISTENADDRESS", "127.0.0.1:0")
            .env("CORE_OPERATIONS_LISTENADDRESS", "127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut node = Self {
            network,
            process,
            log,
            address: String::new(),
            operations: String::new(),
        };
        node.operations = address_in(&node.expect("operations endpoint listens"));
        node.expect("Started peer with ID=[peer0.org1.example.com]");
        node.address = address_in(&node.expect("peer listens"));
        node
    }

    /// The command line as the organisation's administrator, by the name that scripts use.
    fn peer(&self, arguments: &[&str]) -> Output {
        let admin = "crypto/peerOrganizations/org1.example.com/users/Admin@org1.example.com/msp";
        let mut command = self
            .network
            .command(&self.network.folder.path().join("peer"));
        command
            .env("CORE_PEER_ADDRESS", &self.address)
            .env("CORE_PEER_MSPCONFIGPATH", self.network.path(admin))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// As [`Self::peer`], for what must succeed: standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.peer(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// As [`Self::peer`], for what must fail: the line that begins with `Error: `.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.peer(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        let line = errors.lines().find(|line| line.starts_with("Error: "));
        line.unwrap_or_else(|| panic!("no error in {errors}"))
            .to_owned()
    }

    fn info(&self) -> serde_json::Value {
        let text = self.ok(&["channel", "getinfo", "-c", "devnet"]);
        serde_json::from_str(text.strip_prefix("Blockchain info: ").unwrap()).unwrap()
    }

    fn fetch(&self, target: &str) -> Block {
        let name = format!("devnet_{target}.block");
        self.ok(&["channel", "fetch", target, "--channelID=devnet"]);
        Block::decode(
            fs::read(self.network.folder.path().join(name))
                .unwrap()
                .as_slice(),
        )
        .unwrap()
    }

    /// The next line of the log that contains `text`.
    fn expect(&self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with {text:?} ({error}):\n{}", seen.join("\n")),
            }
        }
    }

    /// Sends a signal and waits for the end.
    fn stop(mut self, signal: &str) -> std::process::ExitStatus {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        self.expect("stopped");
        self.process.wait().unwrap()
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends one HTTP request; the whole answer.
fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_and_its_command_line() {
    let network = Network::create();

    // A new peer joins by the genesis block.
    let fresh = network.path("fresh");
    let node = Node::start(&network, &fresh);
    assert_eq!(
        node.ok(&["channel", "list"]),
        "Channels peers has joined: \n"
    );
    let genesis = network.genesis();
    let join = ["channel", "join", "-b", genesis.to_str().unwrap()];
    assert_eq!(node.ok(&join), "");
    assert_eq!(
        node.ok(&["channel", "list"]),
        "Channels peers has joined: \ndevnet\n"
    );
    assert_eq!(node.info()["height"], 1);
    assert_eq!(node.info().get("previousBlockHash"), None);
    let again = node.error(&join);
    assert!(
        again.starts_with("Error: proposal failed (err: bad proposal response 500: "),
        "{again}"
    );
    assert_eq!(node.stop("-INT").code(), Some(0));

    // The peer of the network comes back with all its blocks.
    let data = network.path("peers").join(PEER).join("data");
    let node = Node::start(&network, &data);
    assert!(http(&node.operations, "GET /healthz").starts_with("HTTP/1.1 200 OK"));

    let info = node.info();
    let height = info["height"].as_u64().unwrap();
    assert!(height >= 4, "{info}");
    let line = format!("ledger_blockchain_height{{channel=\"devnet\"}} {height}\n");
    wait_until(|| http(&node.operations, "GET /metrics").contains(&line));

    let newest = node.fetch("newest").header.unwrap();
    assert_eq!(newest.number, height - 1);
    let expected = serde_json::json!({
        "height": height,
        "currentBlockHash": base64_of(&header_hash(&newest)),
        "previousBlockHash": base64_of(&newest.previous_hash),
    });
    assert_eq!(info, expected);
    assert_eq!(node.fetch("2").header.unwrap().number, 2);
    let genesis = Block::decode(fs::read(network.genesis()).unwrap().as_slice()).unwrap();
    for target in ["oldest", "config", "0"] {
        assert_eq!(node.fetch(target).data, genesis.data, "{target}");
    }

    assert_eq!(
        node.error(&["channel", "fetch", "newest", "-c", "other"]),
        "Error: can't read the block: &{NOT_FOUND}"
    );
    assert_eq!(
        node.error(&["channel", "getinfo", "-c", "other"]),
        "Error: received bad response, status 500: Invalid chain ID, other"
    );

    // Nobody else may use its data.
    let second = network
        .command(Path::new(PROGRAM))
        .args(["node", "start"])
        .env("CORE_PEER_FILESYSTEMPATH", &data)
        .env("CORE_PEER_LISTENADDRESS", "127.0.0.1:0")
        .env("CORE_OPERATIONS_LISTENADDRESS", "127.0.0.1:0")
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("FATA"),
        "{second:?}"
    );

    assert_eq!(node.stop("-TERM").code(), Some(0));
}

/// The address at the end of a line of the log, or before the next field.
fn address_in(line: &str) -> String {
    let (_, rest) = line.split_once("address=").unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

/// Asks again and again until it is so.
fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not become so in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(&folder).env_clear();
        let output = command.envs(environment.iter().copied()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    };

    let text = run(&["channel", "list"], &[]);
    assert!(text.contains("Fatal error when initializing core config : core.yaml was not found"));
    let text = run(&["node", "start"], &[("FABRIC_CFG_PATH", "/nowhere")]);
    assert!(
        text.contains("FABRIC_CFG_PATH /nowhere does not exist"),
        "{text}"
    );
    let text = run(&["node", "start"], &[("FABRIC_LOGGING_SPEC", "loud")]);
    assert_eq!(
        text,
        "Error: invalid logging specification 'loud': bad segment 'loud'\n"
    );
    let text = run(&["bogus"], &[]);
    assert!(
        text.starts_with("Error: unrecognized subcommand 'bogus'"),
        "{text}"
    );

    fs::write(
        folder.path().join("core.yaml"),
        "peer:\n  localMspId: Org1MSP\n  mspConfigPath: msp\n",
    )
    .unwrap();
    let text = run(&["channel", "list"], &[]);
    let expected = format!(
        "Cannot run peer because cannot init crypto, specified path \"{}\" does not exist",
        folder.path().join("msp").display()
    );
    assert!(text.contains(&expected), "{text}");
    let text = run(
        &["node", "start"],
        &[("CORE_PEER_GOSSIP_PULLINTERVAL", "4")],
    );
    assert!(
        text.contains(
            "environment variable CORE_PEER_GOSSIP_PULLINTERVAL: peer.gossip.pullInterval is \"4\""
        ) && text.contains("peer.fileSystemPath is not set"),
        "{text}"
    );
}
