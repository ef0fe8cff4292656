//! Why a peer does not start.

use selvedge_gossip::config as gossip_config;
use selvedge_ledger::LedgerError;
use selvedge_msp::MspError;
use selvedge_transport::{ServeError, TlsError};

use crate::metrics::MetricsError;
use crate::operations::OperationsError;
use crate::tls::TlsSetupError;

/// Why a peer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The MSP folder cannot be used.
    #[error(
        "Cannot run peer because error when setting up MSP of type bccsp from directory {directory}: {source}"
    )]
    Msp {
        /// `peer.mspConfigPath`.
        directory: String,
        /// What is wrong.
        source: MspError,
    },
    /// TLS material cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// TLS material does not work together.
    #[error("peer.tls: {0}")]
    TlsRoots(#[from] TlsError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The gRPC server cannot listen.
    #[error("Failed to create peer server ({0})")]
    Listen(#[from] ServeError),
    /// The operations endpoint cannot listen.
    #[error("failed to initialize operations subsystem: {0}")]
    Operations(#[from] OperationsError),
    /// Gossip refuses its settings.
    #[error("peer.gossip: {0}")]
    Gossip(#[from] gossip_config::ConfigError),
    /// Gossip refuses the peer's own identity.
    #[error("the peer's own certificate does not pass its own MSP: {0}")]
    OwnIdentity(String),
    /// Metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The system gives no random numbers.
    #[error("no random numbers from the system: {0}")]
    Random(String),
    /// Two settings exclude each other.
    #[error(
        "Setting both orgLeader and useLeaderElection to true isn't supported, aborting execution"
    )]
    TwoKindsOfLeader,
    /// A task that opens ledgers has failed.
    #[error("opening the ledgers failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}
