//! Chains to store, and a disk that fails when told to.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_protos::Message;
use selvedge_protos::block::{data_hash, header_hash};
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, Payload,
};

use crate::disk::{AppendFile, Disk, SystemDisk};

pub(crate) const CHANNEL: &str = "mychannel";

/// An envelope of [`CHANNEL`] with a transaction id and some content.
pub(crate) fn envelope(id: &str, content: &[u8]) -> Bytes {
    let channel_header = ChannelHeader {
        channel_id: CHANNEL.into(),
        tx_id: id.into(),
        ..ChannelHeader::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            ..Header::default()
        }),
        data: Bytes::copy_from_slice(content),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    };
    envelope.encode_to_vec().into()
}

/// The block after `previous`, with these envelopes and verdicts.
pub(crate) fn next_block(previous: Option<&Block>, envelopes: Vec<Bytes>, codes: &[u8]) -> Block {
    let previous = previous.map(|block| block.header.as_ref().unwrap());
    let data = BlockData { data: envelopes };
    Block {
        header: Some(BlockHeader {
            number: previous.map_or(0, |header| header.number + 1),
            previous_hash: previous.map_or(Bytes::new(), |header| {
                Bytes::copy_from_slice(&header_hash(header))
            }),
            data_hash: Bytes::copy_from_slice(&data_hash(&data)),
        }),
        data: Some(data),
        metadata: Some(BlockMetadata {
            metadata: vec![
                Bytes::from_static(b"signatures"),
                Bytes::new(),
                Bytes::copy_from_slice(codes),
            ],
        }),
    }
}

/// A chain of `length` small blocks with two transactions each, `tx-0`, `tx-1` and so on.
pub(crate) fn chain(length: u64) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for number in 0..length {
        let envelopes = (0..2)
            .map(|index| {
                let id = format!("tx-{}", 2 * number + index);
                envelope(&id, format!("content of {id}").as_bytes())
            })
            .collect();
        blocks.push(next_block(blocks.last(), envelopes, &[0, 11]));
    }
    blocks
}

/// The blocks of a folder of recorded ones, in order.
pub(crate) fn recorded(folder: &str) -> Vec<Block> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(folder);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "block")
        })
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| Block::decode(fs::read(path).unwrap().as_slice()).unwrap())
        .collect()
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A disk on which only so many bytes can be written and things be done. The operation that goes
/// beyond is done in part, and all after it fail, as if the process had ended there.
#[derive(Clone)]
pub(crate) struct FailingDisk {
    state: Arc<Mutex<DiskState>>,
}

struct DiskState {
    used: u64,
    budget: u64,
    failed: bool,
    /// For each file the length that is safe, and whether its name is.
    files: BTreeMap<PathBuf, (u64, bool)>,
}

impl FailingDisk {
    pub(crate) fn new(budget: u64) -> Self {
        let state = DiskState {
            used: 0,
            budget,
            failed: false,
            files: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A unit for each byte and each operation so far.
    pub(crate) fn used(&self) -> u64 {
        self.state.lock().used
    }

    /// Lets nothing more through.
    pub(crate) fn fail(&self) {
        self.state.lock().failed = true;
    }

    /// Takes from the files what was not synced. `zeros` leaves zeros in its place, as file systems
    /// do that write a file's length before its content.
    pub(crate) fn cut_power(&self, zeros: bool) {
        for (path, (safe, named)) in &self.state.lock().files {
            let Ok(file) = OpenOptions::new().write(true).open(path) else {
                continue;
            };
            let length = file.metadata().unwrap().len();
            if !named && !zeros {
                fs::remove_file(path).unwrap();
                continue;
            }
            file.set_len((*safe).min(length)).unwrap();
            if zeros {
                file.set_len(length).unwrap();
            }
        }
    }

    fn operation<T>(&self, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.take(1) == 1 {
            action()
        } else {
            Err(failure())
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
            for (file, (_, named)) in &mut self.state.lock().files {
                *named |= file.parent() == Some(path);
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation(|| SystemDisk.rename(from, to))
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
        let granted = self.disk.take(bytes.len() as u64) as usize;
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
