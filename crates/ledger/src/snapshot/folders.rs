//! Where snapshots are.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::SnapshotError;

/// The folder of all snapshots (`ledger.snapshots.rootDir`), laid out as Fabric does.
#[derive(Debug, Clone)]
pub struct SnapshotFolders {
    root: PathBuf,
}

impl SnapshotFolders {
    /// Makes the folders if need be, and removes what was being made when the peer last ended. Nobody else
    /// may be making snapshots there.
    pub fn open(root: PathBuf) -> Result<Self, SnapshotError> {
        let folders = Self { root };
        let temp = folders.temp();
        match fs::remove_dir_all(&temp) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(SnapshotError::io("remove", &temp)(error)),
        }
        make(&temp)?;
        make(&folders.root.join("completed"))?;
        sync(&folders.root)?;
        Ok(folders)
    }

    fn temp(&self) -> PathBuf {
        self.root.join("temp")
    }

    /// The snapshot of a channel as of a block; there once it is complete.
    pub fn completed(&self, channel: &str, block: u64) -> PathBuf {
        let channels = self.root.join("completed");
        channels.join(channel).join(block.to_string())
    }

    /// Whether there is a snapshot.
    pub(super) fn has(&self, channel: &str, block: u64) -> Result<bool, SnapshotError> {
        let path = self.completed(channel, block);
        path.try_exists()
            .map_err(SnapshotError::io("look for", &path))
    }

    /// An empty folder to make a snapshot in. A channel makes one of a block at a time.
    pub(super) fn begin(&self, channel: &str, block: u64) -> Result<Unfinished, SnapshotError> {
        self.begin_at(channel, block, format!("{channel}-{block}"))
    }

    /// An empty folder for the state that a snapshot is made of. It is not to be finished.
    pub(super) fn begin_state(
        &self,
        channel: &str,
        block: u64,
    ) -> Result<Unfinished, SnapshotError> {
        self.begin_at(channel, block, format!("{channel}-{block}-state"))
    }

    fn begin_at(
        &self,
        channel: &str,
        block: u64,
        name: String,
    ) -> Result<Unfinished, SnapshotError> {
        let path = self.temp().join(name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(SnapshotError::io("remove", &path))?;
        }
        make(&path)?;
        Ok(Unfinished {
            path,
            completed: self.completed(channel, block),
        })
    }
}

/// A snapshot that is being made; removed if it does not get finished.
pub(super) struct Unfinished {
    path: PathBuf,
    completed: PathBuf,
}

impl Unfinished {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it where it belongs. When this returns, it is there for good.
    pub(super) fn finish(self) -> Result<(), SnapshotError> {
        sync(&self.path)?;
        if let Some(channel) = self.completed.parent() {
            make(channel)?;
            channel.parent().map_or(Ok(()), sync)?;
            let named = fs::rename(&self.path, &self.completed);
            named.map_err(SnapshotError::io("make", &self.completed))?;
            sync(channel)?;
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Not there if it was finished; what is left otherwise is removed at the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn make(folder: &Path) -> Result<(), SnapshotError> {
    fs::create_dir_all(folder).map_err(SnapshotError::io("create", folder))
}

fn sync(folder: &Path) -> Result<(), SnapshotError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(SnapshotError::io("sync", folder))
}
