//! The block files of one channel: `blockfile_000000`, `blockfile_000001` and so on, which hold one
//! record after another and are only ever appended to (Fabric: `common/ledger/blkstorage`).

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_protos::block::{data_hash, header_hash};
use selvedge_protos::common::{Block, BlockHeader};

use crate::LedgerError;
use crate::block_format::{EnvelopeSpan, FormatError, read_block, read_envelope, read_prefix};
use crate::block_index::{BlockEntry, Place};
use crate::bootstrap::SNAPSHOT_INFO_FILE;

const FILE_PREFIX: &str = "blockfile_";
const MAX_OPEN_FILES: usize = 8;

/// The folder of one channel's block files, for reading.
pub(crate) struct BlockFiles {
    folder: PathBuf,
    open: Mutex<VecDeque<(u32, Arc<File>)>>,
}

impl BlockFiles {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            open: Mutex::default(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, file: u32) -> PathBuf {
        self.folder.join(format!("{FILE_PREFIX}{file:06}"))
    }

    /// Whether the ledger was joined by a snapshot.
    pub(crate) fn are_after_snapshot(&self) -> bool {
        self.folder.join(SNAPSHOT_INFO_FILE).exists()
    }

    /// The number of the last file, `None` if there is no file. An error if one lacks before it.
    pub(crate) fn last(&self) -> Result<Option<u32>, LedgerError> {
        let numbers = self.numbers()?;
        for (number, expected) in numbers.iter().zip(0..) {
            if *number != expected {
                return Err(LedgerError::MissingFile {
                    path: self.path(expected),
                });
            }
        }
        Ok(numbers.last().copied())
    }

    /// The numbers of the files that there are, in ascending order.
    pub(crate) fn numbers(&self) -> Result<Vec<u32>, LedgerError> {
        let listed = || LedgerError::io("list the block files in", &self.folder);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(listed())? {
            let name = entry.map_err(listed())?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix(FILE_PREFIX));
            if let Some(number) = number.and_then(|digits| digits.parse::<u32>().ok())
                && *name == *self.path(number).file_name().unwrap_or_default()
            {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The length of a file in bytes; 0 if it is not there.
    pub(crate) fn length(&self, file: u32) -> Result<u64, LedgerError> {
        let path = self.path(file);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(LedgerError::io("read the length of", &path)(error)),
        }
    }

    /// Reads a block that the index knows, and checks that it is what was written.
    pub(crate) fn read(&self, number: u64, entry: &BlockEntry) -> Result<Block, LedgerError> {
        let place = entry.place;
        let corrupt = |reason: String| self.corrupt(place, number, reason);
        let record = self.read_at(number, place, 0, place.length)?;
        let prefix = read_prefix(&record).map_err(|error| corrupt(error.to_string()))?;
        let Some((length, prefix)) = prefix else {
            return Err(corrupt("its length is cut off".into()));
        };
        if length + prefix as u64 != place.length {
            return Err(corrupt(format!(
                "its length reads {length}, the index says {} with the length's own {prefix}",
                place.length
            )));
        }
        let (block, _) =
            check_block(record.slice(prefix..), prefix, number, None).map_err(corrupt)?;
        let found = block.header.as_ref().map(header_hash);
        if found != Some(entry.header_hash) {
            return Err(corrupt(
                "its header hash is not the one in the index".into(),
            ));
        }
        Ok(block)
    }

    /// Reads only the header of a block that the index knows.
    pub(crate) fn read_header(
        &self,
        number: u64,
        entry: &BlockEntry,
    ) -> Result<BlockHeader, LedgerError> {
        // A header is two hashes and two numbers; only a strange one takes more than this.
        const USUAL: u64 = 128;
        let place = entry.place;
        let beginning = self.read_at(number, place, 0, place.length.min(USUAL))?;
        let header = crate::block_format::read_header(beginning)
            .ok()
            .filter(|header| header_hash(header) == entry.header_hash);
        match header {
            Some(header) => Ok(header),
            None => Ok(self.read(number, entry)?.header.unwrap_or_default()),
        }
    }

    /// Reads one envelope of a block that the index knows.
    pub(crate) fn read_envelope(
        &self,
        number: u64,
        entry: &BlockEntry,
        span: EnvelopeSpan,
    ) -> Result<Bytes, LedgerError> {
        let bytes = self.read_at(number, entry.place, span.offset, span.length)?;
        read_envelope(bytes).map_err(|error| {
            let reason = format!("the envelope at {} of the record: {error}", span.offset);
            self.corrupt(entry.place, number, reason)
        })
    }

    fn read_at(
        &self,
        number: u64,
        place: Place,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, LedgerError> {
        let path = || self.path(place.file);
        let file = self.file(place.file)?;
        let available = file
            .metadata()
            .map_err(|error| LedgerError::io("read the length of", &path())(error))?
            .len();
        let start = place.offset.saturating_add(offset);
        if start.saturating_add(length) > available {
            let reason = format!(
                "it should end at {}, the file ends at {available}",
                place.offset.saturating_add(place.length)
            );
            return Err(self.corrupt(place, number, reason));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, start)
            .map_err(|error| LedgerError::io("read", &path())(error))?;
        Ok(bytes.into())
    }

    /// A handle on a file; the last few are kept open.
    fn file(&self, number: u32) -> Result<Arc<File>, LedgerError> {
        let mut open = self.open.lock();
        if let Some((_, file)) = open.iter().find(|(open, _)| *open == number) {
            return Ok(Arc::clone(file));
        }
        let path = self.path(number);
        let file = Arc::new(File::open(&path).map_err(LedgerError::io("open", &path))?);
        if open.len() == MAX_OPEN_FILES {
            open.pop_front();
        }
        open.push_back((number, Arc::clone(&file)));
        Ok(file)
    }

    pub(crate) fn corrupt(&self, place: Place, block: u64, reason: String) -> LedgerError {
        LedgerError::Corrupt {
            path: self.path(place.file),
            offset: place.offset,
            block,
            reason,
        }
    }
}

/// Parses a block and checks all that can be checked without a channel configuration: its number,
/// that its header names `previous` as the block before, and that its data has the hash in its header.
pub(crate) fn check_block(
    bytes: Bytes,
    prefix: usize,
    number: u64,
    previous: Option<&[u8; 32]>,
) -> Result<(Block, Vec<EnvelopeSpan>), String> {
    let (block, spans) =
        read_block(bytes, prefix).map_err(|error: FormatError| error.to_string())?;
    let header = block.header.as_ref().ok_or("it has no header")?;
    let data = block.data.as_ref().ok_or("it has no data")?;
    if header.number != number {
        return Err(format!("its number is {}", header.number));
    }
    if previous.is_some_and(|previous| header.previous_hash != previous[..]) {
        return Err("it does not name the hash of the block before it".into());
    }
    if header.data_hash != data_hash(data)[..] {
        return Err("its data does not have the hash in its header".into());
    }
    Ok((block, spans))
}
