//! The command line. Verbs and flags of Fabric's `peer` keep their names and meaning; `devnet` and
//! `simulate` are ours.

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
    /// Operate a peer node: start.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Operate a channel: fetch|getinfo|join|list.
    Channel(Box<ChannelArgs>),
    /// Print the version.
    Version,
    /// Whole networks for development, in one process.
    #[command(subcommand)]
    Devnet(DevnetCommand),
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

/// A duration in Go's notation.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 10s or 1m30s".to_owned())
}

/// What follows the equals sign of a switch.
fn flag(text: &str) -> Result<bool, String> {
    parse_flag(text).ok_or_else(|| "expected true or false".to_owned())
}
