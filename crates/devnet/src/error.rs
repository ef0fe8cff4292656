//! Why a network could not be built or run.

use std::io;
use std::path::PathBuf;

use selvedge_ledger::LedgerError;
use selvedge_msp::MspError;
use selvedge_transport::{ConnectError, TlsError};

use crate::orderer::OrdererError;
use crate::traffic::TrafficError;

/// Why a network could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// An option has a value that no network can be built from.
    #[error("--{option} is {found}, expected {expected}")]
    Option {
        /// The option, without its dashes.
        option: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A file or folder could not be written, read or removed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried, such as "cannot write".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A key or certificate could not be made.
    #[error("cannot make the certificate of {subject}: {source}")]
    Certificate {
        /// Its common name.
        subject: String,
        /// What the certificate library says.
        source: rcgen::Error,
    },
    /// A folder holds something that no network can be run from.
    #[error("{}: {reason}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// No free port was to be had.
    #[error("cannot get a free port on 127.0.0.1: {0}")]
    Ports(#[source] io::Error),
    /// Key material that was just made cannot be used.
    #[error("key material: {0}")]
    Msp(#[from] MspError),
    /// The ordering node cannot start or failed.
    #[error(transparent)]
    Orderer(#[from] OrdererError),
    /// A TLS certificate or key that was just made cannot be used.
    #[error("TLS key material: {0}")]
    Tls(#[from] TlsError),
    /// The address of the ordering node is none.
    #[error("the ordering node's address: {0}")]
    Address(#[from] ConnectError),
    /// A peer cannot start or join the channel.
    #[error("{name}: {source}")]
    Peer {
        /// Which peer.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A chain could not be read for the comparison.
    #[error("cannot compare the chains: {0}")]
    Compare(#[source] LedgerError),
    /// The flow of transactions broke.
    #[error("the flow of transactions ended: {0}")]
    Traffic(#[from] TrafficError),
    /// No block reached every peer for a long time.
    #[error("no progress for {seconds} s: {ordered} blocks ordered, {committed} on every peer")]
    Stalled {
        /// How long.
        seconds: u64,
        /// Blocks of the ordering node.
        ordered: u64,
        /// Blocks that every peer has.
        committed: u64,
    },
}

pub(crate) fn file_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> DevnetError {
    let path = path.into();
    move |source| DevnetError::File {
        action,
        path,
        source,
    }
}
