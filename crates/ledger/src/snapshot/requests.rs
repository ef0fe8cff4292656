//! The requests of a channel that wait for their block, in a file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::SnapshotError;

/// Requests that are kept for a channel.
pub(super) const MAX_REQUESTS: usize = 10_000;

/// Numbers of blocks, one a line. Every change is safe on disk when it returns; after an error nothing
/// has changed.
#[derive(Debug)]
pub(super) struct Requests {
    path: PathBuf,
    blocks: BTreeSet<u64>,
}

impl Requests {
    /// Reads the file, if there is one.
    pub(super) fn open(path: PathBuf) -> Result<Self, SnapshotError> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(SnapshotError::io("read", &path)(error)),
        };
        let blocks = text.lines().map(str::parse).collect::<Result<_, _>>();
        let blocks = blocks.map_err(|_| {
            SnapshotError::file(&path, "a line is no block number; remove the file")
        })?;
        Ok(Self { path, blocks })
    }

    pub(super) fn contains(&self, block: u64) -> bool {
        self.blocks.contains(&block)
    }

    /// In ascending order.
    pub(super) fn all(&self) -> Vec<u64> {
        self.blocks.iter().copied().collect()
    }

    pub(super) fn add(&mut self, block: u64) -> Result<(), SnapshotError> {
        if self.blocks.contains(&block) {
            return Err(SnapshotError::Duplicate(block));
        }
        if self.blocks.len() >= MAX_REQUESTS {
            return Err(SnapshotError::TooMany(MAX_REQUESTS));
        }
        let mut changed = self.blocks.clone();
        changed.insert(block);
        self.write(changed)
    }

    pub(super) fn remove(&mut self, block: u64) -> Result<(), SnapshotError> {
        let mut changed = self.blocks.clone();
        if !changed.remove(&block) {
            return Err(SnapshotError::NoRequest(block));
        }
        self.write(changed)
    }

    fn write(&mut self, blocks: BTreeSet<u64>) -> Result<(), SnapshotError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let lines: String = blocks.iter().map(|block| format!("{block}\n")).collect();
        let aside = self.path.with_extension("new");
        let replace = || {
            fs::create_dir_all(folder)?;
            let mut file = File::create(&aside)?;
            file.write_all(lines.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &self.path)?;
            File::open(folder)?.sync_all()
        };
        replace().map_err(SnapshotError::io("write", &self.path))?;
        self.blocks = blocks;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_and_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("channel").join("requests");
        let mut requests = Requests::open(path.clone()).unwrap();
        assert_eq!(requests.all(), [0; 0]);
        for block in [20, 3, 100] {
            requests.add(block).unwrap();
        }
        let refused = requests.add(3).unwrap_err().to_string();
        assert_eq!(refused, "duplicate snapshot request for block number 3");
        requests.remove(20).unwrap();
        let refused = requests.remove(20).unwrap_err().to_string();
        assert_eq!(refused, "no snapshot request exists for block number 20");

        let reopened = Requests::open(path.clone()).unwrap();
        assert_eq!(reopened.all(), [3, 100]);
        assert!(reopened.contains(3) && !reopened.contains(20));
        fs::write(&path, "3\nx\n").unwrap();
        assert!(Requests::open(path).is_err());
    }

    #[test]
    fn requests_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests");
        let lines: String = (0..MAX_REQUESTS)
            .map(|block| format!("{block}\n"))
            .collect();
        fs::write(&path, lines).unwrap();
        let mut requests = Requests::open(path).unwrap();
        let refused = requests.add(u64::MAX);
        assert!(matches!(refused, Err(SnapshotError::TooMany(_))));
        requests.remove(0).unwrap();
        requests.add(u64::MAX).unwrap();
    }

    #[test]
    fn a_request_that_cannot_be_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests");
        let mut requests = Requests::open(path.clone()).unwrap();
        fs::create_dir(path.with_extension("new")).unwrap();
        assert!(matches!(requests.add(7), Err(SnapshotError::Io { .. })));
        assert!(!requests.contains(7));
    }
}
