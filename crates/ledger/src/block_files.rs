//! The block files of one channel: `blockfile_000000`, `blockfile_000001` and so on, which hold one
//! record after another and are only ever appended to (Fabric: `common/ledger/blkstorage`).

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
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

/// Fabric's name for the file that a ledger joined by a snapshot begins with.
const SNAPSHOT_INFO_FILE: &str = "bootstrappingSnapshot.info";
const FILE_PREFIX: &str = "blockfile_";
const MAX_OPEN_FILES: usize = 8;
const READ_AHEAD: usize = 256 << 10;
/// A length prefix of more bytes than this cannot be.
const PREFIX_PEEK: u64 = 10;

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

    /// The snapshot's file, if the ledger was joined by one.
    pub(crate) fn snapshot_info(&self) -> Option<PathBuf> {
        let path = self.folder.join(SNAPSHOT_INFO_FILE);
        path.exists().then_some(path)
    }

    /// The number of the last file, `None` if there is no file. An error if one lacks before it.
    pub(crate) fn last(&self) -> Result<Option<u32>, LedgerError> {
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
        for (number, expected) in numbers.iter().zip(0..) {
            if *number != expected {
                return Err(LedgerError::MissingFile {
                    path: self.path(expected),
                });
            }
        }
        Ok(numbers.last().copied())
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

    fn corrupt(&self, place: Place, block: u64, reason: String) -> LedgerError {
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
fn check_block(
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

/// A block that a [`Scanner`] came by.
pub(crate) struct ScannedBlock {
    pub number: u64,
    pub block: Block,
    pub entry: BlockEntry,
}

/// Goes through the block files from one place to the end and checks that the blocks follow each other.
pub(crate) struct Scanner<'a> {
    files: &'a BlockFiles,
    last: u32,
    file: u32,
    offset: u64,
    length: u64,
    reader: Option<BufReader<File>>,
    number: u64,
    previous: Option<[u8; 32]>,
    torn: Option<String>,
}

impl<'a> Scanner<'a> {
    /// Begins at block 0.
    pub(crate) fn from_start(files: &'a BlockFiles, last: u32) -> Self {
        Self {
            files,
            last,
            file: 0,
            offset: 0,
            length: 0,
            reader: None,
            number: 0,
            previous: None,
            torn: None,
        }
    }

    /// Begins after a block that the index knows.
    pub(crate) fn after(files: &'a BlockFiles, last: u32, number: u64, entry: &BlockEntry) -> Self {
        Self {
            file: entry.place.file,
            offset: entry.place.offset + entry.place.length,
            number: number + 1,
            previous: Some(entry.header_hash),
            ..Self::from_start(files, last)
        }
    }

    /// File and offset where the next block begins, or, at the end, would begin.
    pub(crate) fn position(&self) -> (u32, u64) {
        (self.file, self.offset)
    }

    /// At the end: why what follows [`Self::position`] is not a block, if something does. It can be
    /// cut off: the last block, not written completely.
    pub(crate) fn torn(&self) -> Option<&str> {
        self.torn.as_deref()
    }

    /// The next block; `None` at the end.
    pub(crate) fn next_block(&mut self) -> Result<Option<ScannedBlock>, LedgerError> {
        if self.torn.is_some() {
            return Ok(None);
        }
        loop {
            if self.reader.is_none() {
                self.open_file()?;
            }
            if self.offset < self.length {
                return self.read_record();
            }
            if self.file >= self.last {
                return Ok(None);
            }
            self.file += 1;
            self.offset = 0;
            self.reader = None;
        }
    }

    fn open_file(&mut self) -> Result<(), LedgerError> {
        let path = self.files.path(self.file);
        let opened = (|| {
            let mut file = File::open(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.offset))?;
            Ok((file, length))
        })();
        let (file, length) = opened.map_err(LedgerError::io("open", &path))?;
        self.length = length;
        self.reader = Some(BufReader::with_capacity(READ_AHEAD, file));
        Ok(())
    }

    fn read_record(&mut self) -> Result<Option<ScannedBlock>, LedgerError> {
        let remaining = self.length - self.offset;
        let mut beginning = [0; PREFIX_PEEK as usize];
        let peeked = usize::try_from(remaining.min(PREFIX_PEEK)).unwrap_or_default();
        let peeked = beginning.get_mut(..peeked).unwrap_or_default();
        self.fill(peeked)?;
        let (length, prefix) = match read_prefix(peeked) {
            Ok(Some(found)) => found,
            Ok(None) => return self.incomplete("its length is cut off".into()),
            Err(error) => return self.unreadable(error.to_string(), remaining, &[]),
        };
        let total = length.saturating_add(prefix as u64);
        if total > remaining {
            return self.incomplete(format!("{total} bytes of {remaining} that are there"));
        }
        let mut record = vec![0; usize::try_from(total).unwrap_or(usize::MAX)];
        let known = peeked.len().min(record.len());
        let (start, rest) = record.split_at_mut(known);
        start.copy_from_slice(peeked.get(..known).unwrap_or_default());
        self.fill(rest)?;
        if known < peeked.len() {
            // The record was shorter than the peek: go back to where the next one begins.
            let back = i64::try_from(peeked.len() - known).unwrap_or_default();
            self.seek_back(back)?;
        }
        let record = Bytes::from(record);
        let checked = check_block(
            record.slice(prefix..),
            prefix,
            self.number,
            self.previous.as_ref(),
        );
        let (block, spans) = match checked {
            Ok(checked) => checked,
            Err(reason) => return self.unreadable(reason, total, &record),
        };
        let scanned = ScannedBlock {
            number: self.number,
            entry: BlockEntry {
                place: Place {
                    file: self.file,
                    offset: self.offset,
                    length: total,
                },
                header_hash: block.header.as_ref().map(header_hash).unwrap_or_default(),
                spans,
            },
            block,
        };
        self.offset += total;
        self.number += 1;
        self.previous = Some(scanned.entry.header_hash);
        Ok(Some(scanned))
    }

    /// A record that goes beyond the end of its file: in the last file a write that did not end.
    fn incomplete(&mut self, reason: String) -> Result<Option<ScannedBlock>, LedgerError> {
        if self.file < self.last {
            return Err(self.corrupt(format!("it is incomplete: {reason}")));
        }
        self.torn = Some(reason);
        Ok(None)
    }

    /// A record that is no block. It counts as a write that did not end if it is the last one and
    /// has parts that never reached the disk: after a power cut some file systems show zeros there.
    fn unreadable(
        &mut self,
        reason: String,
        total: u64,
        record: &[u8],
    ) -> Result<Option<ScannedBlock>, LedgerError> {
        if self.file == self.last {
            let at_end = self.offset + total == self.length;
            if (at_end && has_unwritten_sector(record, self.offset)) || self.only_zeros_follow()? {
                self.torn = Some(format!("it was not written completely: {reason}"));
                return Ok(None);
            }
        }
        Err(self.corrupt(reason))
    }

    fn only_zeros_follow(&self) -> Result<bool, LedgerError> {
        let path = self.files.path(self.file);
        let failed = || LedgerError::io("read", &path);
        let mut file = File::open(&path).map_err(failed())?;
        file.seek(SeekFrom::Start(self.offset)).map_err(failed())?;
        let mut chunk = vec![0; READ_AHEAD];
        loop {
            let read = file.read(&mut chunk).map_err(failed())?;
            match chunk.get(..read).unwrap_or_default() {
                [] => return Ok(true),
                bytes if bytes.iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LedgerError> {
        let Some(reader) = self.reader.as_mut() else {
            return Ok(());
        };
        let read = reader.read_exact(bytes);
        read.map_err(|error| LedgerError::io("read", &self.files.path(self.file))(error))
    }

    fn seek_back(&mut self, distance: i64) -> Result<(), LedgerError> {
        let Some(reader) = self.reader.as_mut() else {
            return Ok(());
        };
        let moved = reader.seek_relative(-distance);
        moved.map_err(|error| LedgerError::io("read", &self.files.path(self.file))(error))
    }

    fn corrupt(&self, reason: String) -> LedgerError {
        let place = Place {
            file: self.file,
            offset: self.offset,
            length: 0,
        };
        self.files.corrupt(place, self.number, reason)
    }
}

/// Whether a sector that the record fills, or its last part of one, is all zeros. Shorter runs of
/// zeros at the end say nothing, since the last metadata slots are often empty.
fn has_unwritten_sector(record: &[u8], offset: u64) -> bool {
    const SECTOR: u64 = 512;
    const TELLING: usize = 64;
    let to_boundary = usize::try_from((SECTOR - offset % SECTOR) % SECTOR).unwrap_or_default();
    let aligned = record.get(to_boundary..).unwrap_or_default();
    aligned
        .chunks(SECTOR as usize)
        .any(|sector| sector.len() >= TELLING && sector.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests;
