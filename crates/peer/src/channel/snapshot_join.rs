//! Joining a channel by a snapshot, which takes its time: it goes on behind the request, one at a time
//! (Fabric: `ledgermgmt`, `CreateLedgerFromSnapshot`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_ledger::snapshot::SnapshotError;
use selvedge_ledger::state::StateDatabase;
use selvedge_validation::{Options, Validator};

use super::registry::JoinError;
use super::{ChannelError, Channels};
use crate::commit::{account_for_snapshot, config_in_state};

/// The snapshot that is being taken over, if one is.
#[derive(Debug, Clone, Default)]
pub(super) struct SnapshotJoin(Arc<Mutex<Option<PathBuf>>>);

/// Nobody else joins while it lives.
struct Going(SnapshotJoin);

impl SnapshotJoin {
    /// The folder of the snapshot that is being taken over.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.0.lock().clone()
    }

    fn begin(&self, folder: &Path) -> Result<Going, SnapshotJoinError> {
        let mut going = self.0.lock();
        if let Some(folder) = &*going {
            return Err(SnapshotJoinError::InProgress(folder.clone()));
        }
        *going = Some(folder.to_owned());
        Ok(Going(self.clone()))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}

/// Why a channel is not joined by a snapshot. The wording is that of Fabric's `ledgermgmt`.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotJoinError {
    /// Another one is being taken over.
    #[error(
        "a ledger is being created from a snapshot at {}. Call ledger creation again after it is done.",
        .0.display()
    )]
    InProgress(PathBuf),
    /// The folder cannot be read.
    #[error("error opening dir [{}]: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// There is nothing in it.
    #[error("snapshot dir {} is empty", .0.display())]
    Empty(PathBuf),
    /// The operating system gave no thread.
    #[error("cannot start the thread of the import: {0}")]
    Thread(std::io::Error),
    /// The ledger cannot be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The ledger is there; the channel cannot be opened.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The peer is stopping.
    #[error(transparent)]
    Stopping(Box<JoinError>),
}

impl Channels {
    /// Begins to make the ledger of a new channel from the snapshot in `folder`. Returns when that has
    /// begun; what comes of it is in the log, and the channel is there when
    /// [`Self::joining_by_snapshot`] no longer names the folder. A ledger that cannot be completed is
    /// removed, at the next start if the peer ends.
    pub fn join_by_snapshot(&self, folder: PathBuf) -> Result<(), SnapshotJoinError> {
        check_folder(&folder)?;
        let going = self.snapshot_join().begin(&folder)?;
        let channels = self.clone();
        let import = move || {
            let _going = going;
            if let Err(error) = channels.take_over(&folder) {
                tracing::error!(
                    target: "ledgermgmt", snapshotDir = %folder.display(),
                    "Error creating ledger from snapshot: {error}"
                );
            }
        };
        let thread = std::thread::Builder::new().name("snapshot import".into());
        let started = thread.spawn(import);
        started.map(|_| ()).map_err(SnapshotJoinError::Thread)
    }

    /// The folder of the snapshot that is being taken over, if one is.
    pub fn joining_by_snapshot(&self) -> Option<PathBuf> {
        self.snapshot_join().folder()
    }

    fn take_over(&self, folder: &Path) -> Result<(), SnapshotJoinError> {
        let path = folder.display();
        tracing::info!(target: "ledgermgmt", "Creating ledger from snapshot at {path}");
        let organization = self.organization();
        let ledger = self
            .ledgers()
            .create_from_snapshot(folder, |channel, state| {
                check_state(channel, state, organization)
            })?;
        let id = ledger.channel().to_owned();
        tracing::info!(target: "ledgermgmt", "Created ledger [{id}] from snapshot");
        let channel = self.open(ledger)?;
        self.register(channel)
            .map_err(|error| SnapshotJoinError::Stopping(Box::new(error)))
    }
}

/// What [`Channels::check_genesis`] is for a block: the configuration must be one that this peer can serve.
/// The private data that comes with the snapshot must be accountable for.
fn check_state(
    channel: &str,
    state: &StateDatabase,
    organization: Option<&Arc<str>>,
) -> Result<(), String> {
    let config = config_in_state(channel, state).map_err(|error| error.to_string())?;
    let validator = Validator::new(Arc::new(config), Options::default());
    validator.map_err(|error| error.to_string())?;
    if let Some(organization) = organization {
        let accounted = account_for_snapshot(state, organization);
        accounted.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn check_folder(folder: &Path) -> Result<(), SnapshotJoinError> {
    let failed = |source| SnapshotJoinError::Folder {
        folder: folder.to_owned(),
        source,
    };
    match fs::read_dir(folder).map_err(failed)?.next() {
        None => Err(SnapshotJoinError::Empty(folder.to_owned())),
        Some(Err(source)) => Err(failed(source)),
        Some(Ok(_)) => Ok(()),
    }
}
