//! What can go wrong with snapshots.

use std::io;
use std::path::{Path, PathBuf};

use crate::LedgerError;
use crate::block_index::IndexError;
use crate::state::StateError;
use crate::store::StoreError;

/// Why a snapshot was not requested, made or taken over. Where Fabric refuses the same, the wording is
/// Fabric's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The operating system refused an operation on a file or folder.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, in the imperative.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file of a snapshot is not what its name says.
    #[error("snapshot file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has changed since the snapshot was made.
    #[error(
        "hash mismatch for file [{}]. Expected hash = [{expected}], Actual hash = [{found}]",
        path.display()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// What the metadata say, in hex.
        expected: String,
        /// SHA-256 of the file, in hex.
        found: String,
    },
    /// Nothing to join with.
    #[error("snapshot dir {} is empty", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Not the snapshot that a ledger begins with.
    #[error(
        "{} is not the snapshot that channel {channel} was joined by: give that one, which has the same hash",
        path.display()
    )]
    Another {
        /// The folder.
        path: PathBuf,
        /// The channel.
        channel: String,
    },
    /// The channel of the snapshot cannot be served.
    #[error("channel {channel} of the snapshot cannot be served: {reason}")]
    Unfit {
        /// The channel.
        channel: String,
        /// Why.
        reason: String,
    },
    /// A block that is in the state already, with later ones.
    #[error(
        "requested snapshot for block number {requested} cannot be less than the last committed block \
         number {last}"
    )]
    Past {
        /// The block asked for.
        requested: u64,
        /// The last block in the state.
        last: u64,
    },
    /// There is such a snapshot.
    #[error("snapshot already generated for block number {0}")]
    Exists(u64),
    /// There is such a request.
    #[error("duplicate snapshot request for block number {0}")]
    Duplicate(u64),
    /// More requests wait than are kept.
    #[error("{0} snapshot requests are pending, which is as many as are kept: cancel some")]
    TooMany(usize),
    /// There is no such request.
    #[error("no snapshot request exists for block number {0}")]
    NoRequest(u64),
    /// It is being made.
    #[error("cannot cancel the snapshot request because it is under processing")]
    UnderProcessing,
    /// The ledger has no block to make a snapshot of.
    #[error("channel {channel}: block {block} of the ledger: {reason}")]
    Block {
        /// The channel.
        channel: String,
        /// The block.
        block: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The state of an interrupted snapshot could not be made of the blocks.
    #[error("the state cannot be made of the blocks once more: {0}")]
    Remake(String),
    /// The database has panicked.
    #[error("the database has panicked")]
    Panic,
    /// The peer stops.
    #[error("interrupted, since the peer stops")]
    Stopped,
    /// The block files or their index failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The database of an index that is being made failed.
    #[error("block index: {0}")]
    Index(StoreError),
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<IndexError> for SnapshotError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Store(error) => Self::Index(error),
            IndexError::Entry(_) => Self::Index(StoreError::Damaged(error.to_string())),
        }
    }
}

impl SnapshotError {
    /// For `map_err` on operations of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// A file that is not what it should be.
    pub(super) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
