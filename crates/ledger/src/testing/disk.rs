//! A disk that fails when told to.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{AppendFile, Disk, SystemDisk};

/// A disk on which only so much can be done. What goes beyond is done in part, and all after it fails,
/// as if the process had ended there.
#[derive(Clone)]
pub struct FailingDisk {
    state: Arc<Mutex<DiskState>>,
}

struct DiskState {
    used: u64,
    budget: u64,
    is_write_one_step: bool,
    failed: bool,
    /// For each file the length that is safe, and whether its name is.
    files: BTreeMap<PathBuf, (u64, bool)>,
    /// New names of folders that are not safe: before, after.
    renames: Vec<(PathBuf, PathBuf)>,
}

impl FailingDisk {
    /// A disk with no end.
    pub fn endless() -> Self {
        Self::new(u64::MAX)
    }

    /// Each byte that is written takes one of `budget`, and each other operation.
    pub fn new(budget: u64) -> Self {
        Self::with(budget, false)
    }

    /// Each write takes two of `budget`, at the first of which half of it is done, and each other
    /// operation takes one.
    pub fn by_operation(budget: u64) -> Self {
        Self::with(budget, true)
    }

    fn with(budget: u64, is_write_one_step: bool) -> Self {
        let state = DiskState {
            used: 0,
            budget,
            is_write_one_step,
            failed: false,
            files: BTreeMap::new(),
            renames: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What has been taken from the budget.
    pub fn used(&self) -> u64 {
        self.state.lock().used
    }

    /// Lets nothing more through.
    pub fn fail(&self) {
        self.state.lock().failed = true;
    }

    /// Takes from the disk what was not synced. `zeros` leaves zeros in its place, as file systems
    /// do that write a file's length before its content.
    pub fn cut_power(&self, zeros: bool) {
        match zeros {
            false => self.cut_power_with(None),
            true => self.cut_power_with(Some(&mut || false)),
        }
    }

    /// Takes from the disk what was not synced, leaving zeros, but for those sectors of which `survives` says
    /// that they were written.
    pub fn cut_power_in_sectors(&self, mut survives: impl FnMut() -> bool) {
        self.cut_power_with(Some(&mut survives));
    }

    fn cut_power_with(&self, mut survives: Option<&mut dyn FnMut() -> bool>) {
        const SECTOR: u64 = 512;
        let mut state = self.state.lock();
        for (path, (safe, named)) in &state.files {
            let Ok(file) = OpenOptions::new().write(true).open(path) else {
                continue;
            };
            let length = file.metadata().unwrap().len();
            let Some(survives) = &mut survives else {
                if *named {
                    file.set_len((*safe).min(length)).unwrap();
                } else {
                    fs::remove_file(path).unwrap();
                }
                continue;
            };
            let mut begin = *safe;
            while begin < length {
                let end = (begin - begin % SECTOR + SECTOR).min(length);
                if !survives() {
                    let zeros = vec![0; (end - begin) as usize];
                    file.write_all_at(&zeros, begin).unwrap();
                }
                begin = end;
            }
        }
        for (before, after) in state.renames.drain(..).rev() {
            fs::rename(after, before).unwrap();
        }
    }

    fn operation<T>(&self, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.take(1) == 1 {
            action()
        } else {
            Err(failure())
        }
    }

    /// How many of so many bytes may be written.
    fn take_bytes(&self, length: u64) -> u64 {
        if !self.state.lock().is_write_one_step {
            return self.take(length);
        }
        match self.take(2) {
            0 => 0,
            1 => length / 2,
            _ => length,
        }
    }

    /// How much of `amount` may be done.
    fn take(&self, amount: u64) -> u64 {
        let mut state = self.state.lock();
        if state.failed {
            return 0;
        }
        let granted = amount.min(state.budget - state.used);
        state.used += granted;
        state.failed = granted < amount;
        granted
    }
}

fn failure() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left")
}

impl Disk for FailingDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let existed = path.exists();
        let file = self.operation(|| {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(path)
        })?;
        let length = file.metadata()?.len();
        self.state
            .lock()
            .files
            .entry(path.to_owned())
            .or_insert((length, existed));
        Ok(Box::new(FailingFile {
            disk: self.clone(),
            path: path.to_owned(),
            file,
        }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.operation(|| SystemDisk.create_folder(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.operation(|| {
            let mut state = self.state.lock();
            for (file, (_, named)) in &mut state.files {
                *named |= file.parent() == Some(path);
            }
            let is_unsafe = |(_, after): &(PathBuf, PathBuf)| after.parent() != Some(path);
            state.renames.retain(is_unsafe);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation(|| {
            SystemDisk.rename(from, to)?;
            let mut state = self.state.lock();
            let files = std::mem::take(&mut state.files).into_iter();
            state.files = files
                .map(|(path, safe)| match path.strip_prefix(from) {
                    Ok(rest) => (to.join(rest), safe),
                    Err(_) => (path, safe),
                })
                .collect();
            state.renames.push((from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.operation(|| SystemDisk.remove_file(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.operation(|| SystemDisk.remove_folder(path))
    }
}

struct FailingFile {
    disk: FailingDisk,
    path: PathBuf,
    file: File,
}

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let granted = self.disk.take_bytes(bytes.len() as u64) as usize;
        self.file.write_all(&bytes[..granted])?;
        if granted < bytes.len() {
            return Err(failure());
        }
        Ok(granted)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AppendFile for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.operation(|| {
            let length = self.file.metadata()?.len();
            self.disk.state.lock().files.get_mut(&self.path).unwrap().0 = length;
            Ok(())
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.disk.operation(|| {
            self.file.set_len(length)?;
            self.disk.state.lock().files.get_mut(&self.path).unwrap().0 = length;
            Ok(())
        })
    }
}
