//! The command line. Verbs and flags of Fabric's `peer` keep their names and meaning; `devnet`, `ledger`
//! and `simulate` are ours.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use selvedge_peer::config::{parse_duration, parse_flag};

/// A Hyperledger Fabric peer.
#[derive(Debug, Parser)]
#[command(
    disable_version_flag = true,
    args_override_self = true,
    max_term_width = 100
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Operate a peer node: start|rollback|reset|rebuild-dbs|pause|resume.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Operate a channel: fetch|getinfo|join|joinbysnapshot|joinbysnapshotstatus|list.
    Channel(Box<ChannelArgs>),
    /// Manage snapshot requests: submitrequest|cancelrequest|listpending.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Print the version.
    Version,
    /// Whole networks for development, in one process.
    #[command(subcommand)]
    Devnet(DevnetCommand),
    /// Work on ledgers without a node: replay|verify|repair|rebuild|dump-state.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Runs the gossip of thousands of peers on virtual time. One seed gives one result.
    Simulate(Box<SimulateArgs>),
}

/// `ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Validates blocks and commits them into a fresh ledger.
    Replay(ReplayArgs),
    /// Checks ledgers against themselves: blocks, verdicts and commit hashes, index, state. Changes
    /// nothing; exit status 1 if something is wrong.
    Verify(SnapshotLedgerArgs),
    /// Gives up the first damaged block of a chain and all after it, which the peer fetches from others
    /// again when it is started.
    Repair(RepairArgs),
    /// Makes all databases anew from the block files. A chain that was stored without verdicts is
    /// validated anew.
    Rebuild(SnapshotLedgerArgs),
    /// Prints the state of a channel.
    DumpState(DumpStateArgs),
}

/// A data directory that no peer holds.
#[derive(Debug, Args)]
pub struct OfflineArgs {
    /// The directory that peer.fileSystemPath names.
    pub dir: PathBuf,
    /// The channel; all that there are if not given.
    #[arg(long, visible_alias = "channelID")]
    pub channel: Option<String>,
}

/// `ledger verify` and `ledger rebuild`.
#[derive(Debug, Args)]
pub struct SnapshotLedgerArgs {
    /// Of what.
    #[command(flatten)]
    pub ledger: OfflineArgs,
    /// The folder of the snapshot that the channel was joined by, which its blocks follow. It is checked to be
    /// that one.
    #[arg(long, value_name = "FOLDER", requires = "channel")]
    pub snapshot: Option<PathBuf>,
}

/// `ledger repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Of what.
    #[command(flatten)]
    pub ledger: OfflineArgs,
    /// Do not ask before blocks are removed.
    #[arg(short = 'y', long)]
    pub yes: bool,
}

/// `ledger dump-state`.
#[derive(Debug, Args)]
pub struct DumpStateArgs {
    /// Of what.
    #[command(flatten)]
    pub ledger: OfflineArgs,
    /// Only the entries of this namespace: a chaincode, or CHAINCODE$$hCOLLECTION for hashes.
    #[arg(long)]
    pub namespace: Option<String>,
    /// One entry a line.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `ledger replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Folder with the blocks as an ordering node delivers them: 000000.block, 000001.block ...
    #[arg(value_name = "BLOCKS_DIR")]
    pub blocks_dir: PathBuf,
    /// Data directory for the ledger, as in peer.fileSystemPath. Without it the ledger is removed at
    /// the end.
    #[arg(long, value_name = "DIR")]
    pub ledger: Option<PathBuf>,
    /// How to tell of each block.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Starts a node that interacts with the network.
    Start {
        /// Start peer in chaincode development mode.
        #[arg(long = "peer-chaincodedev", action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = flag, hide_default_value = true)]
        chaincode_dev: bool,
    },
    /// Rolls back a channel to a specified block number. The peer must be offline. When it starts, it gets
    /// the blocks that were removed from an ordering node or other peers.
    Rollback {
        /// Channel to rollback.
        #[arg(
            short = 'c',
            long = "channelID",
            default_value = "",
            hide_default_value = true
        )]
        channel_id: String,
        /// Block number to which the channel needs to be rolled back to.
        #[arg(short = 'b', long = "blockNumber", default_value_t = 0)]
        block_number: u64,
    },
    /// Resets all channels to the genesis block. The peer must be offline. When it starts, it gets the
    /// other blocks from an ordering node or other peers.
    Reset,
    /// Drops the databases of all channels, which are made anew when the peer starts. The peer must be
    /// offline.
    RebuildDbs,
    /// Pauses a channel on the peer. The peer must be offline. When it starts, it does not open the channel
    /// and receives no blocks for it.
    Pause {
        /// Channel to pause.
        #[arg(
            short = 'c',
            long = "channelID",
            default_value = "",
            hide_default_value = true
        )]
        channel_id: String,
    },
    /// Resumes a channel on the peer. The peer must be offline. When it starts, it receives blocks for the
    /// channel.
    Resume {
        /// Channel to resume.
        #[arg(
            short = 'c',
            long = "channelID",
            default_value = "",
            hide_default_value = true
        )]
        channel_id: String,
    },
}

/// `channel`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct ChannelArgs {
    /// How to reach an ordering node.
    #[command(flatten)]
    pub orderer: OrdererArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: ChannelCommand,
}

/// The flags that every `channel` verb has.
#[derive(Debug, Default, Args)]
pub struct OrdererArgs {
    /// Ordering service endpoint.
    #[arg(
        short = 'o',
        long = "orderer",
        global = true,
        default_value = "",
        hide_default_value = true
    )]
    pub address: String,
    /// Use TLS when communicating with the orderer endpoint.
    #[arg(long, global = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = flag, hide_default_value = true)]
    pub tls: bool,
    /// Use mutual TLS when communicating with the orderer endpoint.
    #[arg(long = "clientauth", global = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = flag, hide_default_value = true)]
    pub client_auth: bool,
    /// Path to file containing PEM-encoded trusted certificate(s) for the ordering endpoint.
    #[arg(long = "cafile", global = true)]
    pub ca_file: Option<PathBuf>,
    /// Path to file containing PEM-encoded private key to use for mutual TLS communication with
    /// the orderer endpoint.
    #[arg(long = "keyfile", global = true)]
    pub key_file: Option<PathBuf>,
    /// Path to file containing PEM-encoded X509 public key to use for mutual TLS communication
    /// with the orderer endpoint.
    #[arg(long = "certfile", global = true)]
    pub cert_file: Option<PathBuf>,
    /// The hostname override to use when validating the TLS connection to the orderer.
    #[arg(long = "ordererTLSHostnameOverride", global = true)]
    pub hostname_override: Option<String>,
    /// Timeout for client to connect.
    #[arg(long = "connTimeout", global = true, default_value = "3s", value_parser = duration)]
    pub conn_timeout: Duration,
    /// The amount of time to shift backwards for certificate expiration checks during TLS
    /// handshakes with the orderer endpoint.
    #[arg(long = "tlsHandshakeTimeShift", global = true, default_value = "0s", value_parser = duration)]
    pub handshake_time_shift: Duration,
}

/// The verbs of `channel`.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Joins the peer to a channel.
    Join {
        /// Path to file containing genesis block.
        #[arg(short = 'b', long = "blockpath")]
        block_path: Option<PathBuf>,
    },
    /// Joins the peer to a channel by the specified snapshot.
    Joinbysnapshot {
        /// Path to the snapshot directory, as the peer sees it.
        #[arg(long = "snapshotpath", default_value = "", hide_default_value = true)]
        snapshot_path: String,
    },
    /// Query if joinbysnapshot is running for any channel.
    Joinbysnapshotstatus,
    /// List of channels peer has joined.
    List,
    /// Get blockchain information of a specified channel. Requires '-c'.
    Getinfo {
        /// The channel.
        #[arg(short = 'c', long = "channelID")]
        channel_id: Option<String>,
    },
    /// Fetch a specified block, writing it to a file: from the ordering node given with '-o', or
    /// from the peer.
    Fetch {
        /// newest, oldest, config, or the number of a block.
        target: Option<String>,
        /// Where to write the block; <channelID>_<target>.block if not given.
        output: Option<PathBuf>,
        /// The channel.
        #[arg(
            short = 'c',
            long = "channelID",
            default_value = "",
            hide_default_value = true
        )]
        channel_id: String,
        /// Whether fetch requests should ignore errors and return blocks on a best effort basis.
        #[arg(long = "bestEffort", action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = flag, hide_default_value = true)]
        best_effort: bool,
    },
}

/// `snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Submit a request for a snapshot at the specified block, or, without one, at the last committed
    /// block.
    Submitrequest {
        /// Of which peer and channel.
        #[command(flatten)]
        to: SnapshotArgs,
        /// The block number for which a snapshot will be generated.
        #[arg(short = 'b', long = "blockNumber", default_value_t = 0)]
        block_number: u64,
    },
    /// Cancel a request for a snapshot at the specified block.
    Cancelrequest {
        /// Of which peer and channel.
        #[command(flatten)]
        to: SnapshotArgs,
        /// The block number for which a snapshot will be generated.
        #[arg(short = 'b', long = "blockNumber", default_value_t = 0)]
        block_number: u64,
    },
    /// List pending requests for snapshots.
    Listpending {
        /// Of which peer and channel.
        #[command(flatten)]
        to: SnapshotArgs,
    },
}

/// The flags that every `snapshot` verb has.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// The channel on which this command should be executed.
    #[arg(
        short = 'c',
        long = "channelID",
        default_value = "",
        hide_default_value = true
    )]
    pub channel_id: String,
    /// The address of the peer to connect to; peer.address if not given.
    #[arg(long = "peerAddress", default_value = "", hide_default_value = true)]
    pub peer_address: String,
    /// The path to the TLS root cert file of the peer to connect to; peer.tls.rootcert.file if not given.
    #[arg(long = "tlsRootCertFile")]
    pub tls_root_cert_file: Option<PathBuf>,
}

/// `devnet`.
#[derive(Debug, Subcommand)]
pub enum DevnetCommand {
    /// Runs a network of Selvedge peers with a development ordering node, on loopback, with a
    /// steady flow of transactions. Not for production.
    Up(DevnetArgs),
}

/// `devnet up`.
#[derive(Debug, Args)]
pub struct DevnetArgs {
    /// Peer organisations.
    #[arg(long, default_value_t = 2)]
    pub orgs: u16,
    /// Peers in each organisation; the first is the leader, the others are fed by gossip.
    #[arg(long, default_value_t = 2)]
    pub peers: u16,
    /// Transactions a second.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Transactions in a block, at most.
    #[arg(long, default_value_t = 10)]
    pub block_size: u32,
    /// How long the ordering node waits for a block to fill.
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub batch_timeout: Duration,
    /// Stop after so many blocks; exit status 0 only if every peer then holds the same chain.
    #[arg(long)]
    pub blocks: Option<u64>,
    /// Keep key material, genesis block, configuration and ledgers in this folder.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// What is printed at the end.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object on standard output.
    Json,
}

/// `simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Everything random comes from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Peers in all.
    #[arg(long, default_value_t = 10)]
    pub peers: usize,
    /// Organisations that the peers are spread over; each has a leader.
    #[arg(long, default_value_t = 1)]
    pub orgs: usize,
    /// Channels, each with all peers.
    #[arg(long, default_value_t = 1)]
    pub channels: usize,
    /// Blocks of each channel.
    #[arg(long, default_value_t = 40)]
    pub blocks: u64,
    /// Blocks a second, of each channel.
    #[arg(long, default_value_t = 4.0)]
    pub rate: f64,
    /// Bytes of a block.
    #[arg(long, default_value_t = 20_000)]
    pub block_size: usize,
    /// Where the peers stand: decides on latency and bandwidth.
    #[arg(long, value_enum, default_value_t = Place::Region)]
    pub place: Place,
    /// Whose rules the peers follow where the wire leaves a choice.
    #[arg(long, value_enum, default_value_t = Rules::Selvedge)]
    pub rules: Rules,
    /// Share of frames that are lost, from 0 to 1.
    #[arg(long, default_value = "0", value_parser = share)]
    pub loss: f64,
    /// Share of peers that lie, from 0 to 1; leaders do not.
    #[arg(long, default_value = "0", value_parser = share)]
    pub liars: f64,
    /// Restarts in an hour, of random peers that are no leaders.
    #[arg(long, default_value_t = 0.0)]
    pub restarts: f64,
    /// Peers that leave for good in an hour, each followed by a new one; leaders stay.
    #[arg(long, default_value_t = 0.0)]
    pub churn: f64,
    /// Streams between random peers that break in an hour.
    #[arg(long, default_value_t = 0.0)]
    pub breaks: f64,
    /// Streams between random peers that are half open for 20 s, in an hour.
    #[arg(long, default_value_t = 0.0)]
    pub half_open: f64,
    /// Links of random peers that are narrow, 256 kbit/s each way, for up to 40 s, in an hour.
    #[arg(long, default_value_t = 0.0)]
    pub narrow: f64,
    /// Outages of the ordering node of an elected leader, of up to a minute, in an hour.
    #[arg(long, default_value_t = 0.0)]
    pub outages: f64,
    /// Share of peers that read slowly, from 0 to 1; leaders do not.
    #[arg(long, default_value = "0", value_parser = share)]
    pub slow: f64,
    /// Frames that wait for one peer at most (peer.gossip.sendBuffSize).
    #[arg(long, default_value_t = 200)]
    pub send_buffer: usize,
    /// Leaders are elected, instead of the first peer of each organisation.
    #[arg(long)]
    pub elections: bool,
    /// Two groups of peers do not reach each other for a while: begin after the first block,
    /// length, share of the peers in the smaller group, such as 5s,30s,0.3.
    #[arg(long, value_parser = partition)]
    pub partition: Option<selvedge_simulator::options::Partition>,
    /// Do without state transfer.
    #[arg(long)]
    pub no_state_transfer: bool,
    /// Start from the bootstrap peers, instead of with a complete membership.
    #[arg(long)]
    pub cold_start: bool,
    /// Whether alive and StateInfo messages are simulated; by default in networks of up to 200
    /// peers.
    #[arg(long)]
    pub background: Option<bool>,
    /// How long to wait for the last peers after the last block.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub patience: Duration,
    /// What is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Draw how many peers were reached after what time.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Where simulated peers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// One machine.
    Machine,
    /// Three zones of a region.
    Region,
    /// Six regions around the planet.
    Planet,
}

/// Rules of gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rules {
    /// This project's.
    Selvedge,
    /// Fabric's.
    Fabric,
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// Begin, length and share, with commas.
fn partition(text: &str) -> Result<selvedge_simulator::options::Partition, String> {
    let [begin, length, part] = text
        .split(',')
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "expected begin, length and share, such as 5s,30s,0.3".to_owned())?;
    Ok(selvedge_simulator::options::Partition {
        begin: duration(begin)?,
        length: duration(length)?,
        per_mille: parts(share(part)?, 1000),
    })
}

/// A share as a number of so many parts.
pub fn parts(share: f64, of: u32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is from 0 to 1"
    )]
    let parts = (share * f64::from(of)).round() as u32;
    parts
}

/// A duration in Go's notation.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 10s or 1m30s".to_owned())
}

/// What follows the equals sign of a switch.
fn flag(text: &str) -> Result<bool, String> {
    parse_flag(text).ok_or_else(|| "expected true or false".to_owned())
}
