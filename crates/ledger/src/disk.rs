//! The few changes that a ledger makes to files, behind a trait, so that tests can make each of
//! them fail or end halfway.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Changes to files and folders. Reading goes past it.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Opens a file for appending; makes it if it is not there.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;
    /// Makes a folder and those above it, as far as they are not there, and makes their names safe.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a folder safe: files made, renamed or removed in it.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a folder another name, at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// A file that is written to at its end.
pub(crate) trait AppendFile: io::Write + Send {
    /// Returns when all that was written survives a power cut.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// The disk itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let missing = path.ancestors().take_while(|folder| !folder.exists());
        let parents: Vec<_> = missing.filter_map(Path::parent).collect();
        fs::create_dir_all(path)?;
        parents.into_iter().try_for_each(|parent| {
            let unnamed = parent.as_os_str().is_empty();
            self.sync_folder(if unnamed { Path::new(".") } else { parent })
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}

impl AppendFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.sync_all()
    }
}
