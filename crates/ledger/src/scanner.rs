//! Going through block files from one place to the end.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use selvedge_protos::block::header_hash;
use selvedge_protos::common::{Block, BlockMetadataIndex};

use crate::LedgerError;
use crate::block_files::{BlockFiles, check_block};
use crate::block_format::{EnvelopeSpan, MAX_VARINT_LENGTH, bytes_length, read_prefix};
use crate::block_index::{BlockEntry, Place};
use crate::bootstrap::Bootstrap;
use crate::writer::MAX_UNSYNCED_BYTES;

const READ_AHEAD: usize = 256 << 10;

/// A block that a [`Scanner`] came by.
pub(crate) struct ScannedBlock {
    pub number: u64,
    pub block: Block,
    pub entry: BlockEntry,
}

/// Goes through the blocks and checks that they follow each other. After an error it is of no use.
pub(crate) struct Scanner<'a> {
    files: &'a BlockFiles,
    last: u32,
    file: u32,
    offset: u64,
    open: Option<OpenFile>,
    number: u64,
    previous: Option<[u8; 32]>,
    torn: Option<String>,
}

/// A file that is read from the front.
struct OpenFile {
    path: PathBuf,
    reader: BufReader<File>,
    length: u64,
}

impl OpenFile {
    fn at(path: PathBuf, offset: u64) -> Result<Self, LedgerError> {
        let opened = (|| {
            let mut file = File::open(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(offset))?;
            Ok((file, length))
        })();
        let (file, length) = opened.map_err(LedgerError::io("open", &path))?;
        Ok(Self {
            path,
            reader: BufReader::with_capacity(READ_AHEAD, file),
            length,
        })
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), LedgerError> {
        let read = self.reader.read_exact(bytes);
        read.map_err(|error| LedgerError::io("read", &self.path)(error))
    }

    /// What is in the file from `offset` on, where it is read next, to the end of the sector.
    fn rest_of_sector(&mut self, offset: u64) -> Result<Vec<u8>, LedgerError> {
        let rest = (SECTOR - into_sector(offset)) % SECTOR;
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(rest as u64).read_to_end(&mut bytes);
        read.map_err(|error| LedgerError::io("read", &self.path)(error))?;
        Ok(bytes)
    }

    fn only_zeros_follow(&mut self) -> Result<bool, LedgerError> {
        let mut chunk = vec![0; READ_AHEAD];
        loop {
            let read = self.reader.read(&mut chunk);
            let read = read.map_err(|error| LedgerError::io("read", &self.path)(error))?;
            match chunk.get(..read).unwrap_or_default() {
                [] => return Ok(true),
                bytes if bytes.iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }
}

impl<'a> Scanner<'a> {
    /// Begins with a chain that begins after a snapshot.
    pub(crate) fn after_snapshot(files: &'a BlockFiles, last: u32, bootstrap: &Bootstrap) -> Self {
        Self {
            number: bootstrap.first_block(),
            previous: bootstrap.last_block_hash[..].try_into().ok(),
            ..Self::from_start(files, last)
        }
    }

    /// Begins at block 0; `last` is the number of the last file.
    pub(crate) fn from_start(files: &'a BlockFiles, last: u32) -> Self {
        Self {
            files,
            last,
            file: 0,
            offset: 0,
            open: None,
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
        while self.torn.is_none() {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => OpenFile::at(self.files.path(self.file), self.offset)?,
            };
            if self.offset < open.length {
                let block = self.read_block(&mut open)?;
                self.open = Some(open);
                return Ok(block);
            }
            if self.file >= self.last {
                return Ok(None);
            }
            self.file += 1;
            self.offset = 0;
        }
        Ok(None)
    }

    fn read_block(&mut self, open: &mut OpenFile) -> Result<Option<ScannedBlock>, LedgerError> {
        let remaining = open.length - self.offset;
        let peek = usize::try_from(remaining).map_or(MAX_VARINT_LENGTH, |remaining| {
            remaining.min(MAX_VARINT_LENGTH)
        });
        let mut record = vec![0; peek];
        open.read(&mut record)?;
        let (length, prefix) = match read_prefix(&record) {
            Ok(Some(found)) => found,
            Ok(None) => return self.incomplete("its length is cut off".into()),
            Err(error) => return Err(self.corrupt(error.to_string())),
        };
        let total = length.saturating_add(prefix as u64);
        if total > remaining {
            return self.incomplete(format!("it has {total} bytes, {remaining} are there"));
        }
        // What is read beyond a record is lost. That does not matter: a record so short is no block.
        record.resize(usize::try_from(total).unwrap_or(usize::MAX).max(peek), 0);
        open.read(record.get_mut(peek..).unwrap_or_default())?;
        let record = Bytes::from(record);
        let previous = self.previous.as_ref();
        let end = usize::try_from(total).unwrap_or(record.len());
        match check_block(record.slice(prefix..end), prefix, self.number, previous) {
            Ok((block, _)) if self.has_lost_metadata(&block, &record, open, end) => {
                Ok(self.unwritten("its metadata is zeros"))
            }
            Ok((block, spans)) => Ok(Some(self.advance(total, block, spans))),
            Err(reason) if self.is_unwritten(&record, open)? => Ok(self.unwritten(&reason)),
            Err(reason) => Err(self.corrupt(reason)),
        }
    }

    fn advance(&mut self, length: u64, block: Block, spans: Vec<EnvelopeSpan>) -> ScannedBlock {
        let place = Place {
            file: self.file,
            offset: self.offset,
            length,
        };
        let header_hash = block.header.as_ref().map(header_hash).unwrap_or_default();
        let scanned = ScannedBlock {
            number: self.number,
            entry: BlockEntry {
                place,
                header_hash,
                spans,
            },
            block,
        };
        self.offset += length;
        self.number += 1;
        self.previous = Some(header_hash);
        scanned
    }

    /// A record that goes beyond the end of its file: in the last file a write that did not end.
    fn incomplete(&mut self, reason: String) -> Result<Option<ScannedBlock>, LedgerError> {
        if self.file < self.last {
            return Err(self.corrupt(format!("it is incomplete: {reason}")));
        }
        self.torn = Some(reason);
        Ok(None)
    }

    fn unwritten(&mut self, reason: &str) -> Option<ScannedBlock> {
        self.torn = Some(format!("it was not written completely: {reason}"));
        None
    }

    /// Whether a record that is no block counts as a write that did not end: nothing from it on was told to be
    /// committed, and it has parts that never reached the disk. After a power cut some file systems show
    /// zeros there. It is the last record, or one of the last few, which were to be synced together: then
    /// those after it may be whole, and are lost with it.
    fn is_unwritten(&self, record: &[u8], open: &mut OpenFile) -> Result<bool, LedgerError> {
        if self.file < self.last {
            return Ok(false);
        }
        let end = self.offset + record.len() as u64;
        let mut bytes = record.to_vec();
        if self.may_be_unsynced(end, open) {
            // The sector that it ends in may have been written with it or not at all.
            bytes.extend(open.rest_of_sector(end)?);
            let has_unwritten_sector = unwritten_sectors(&bytes, self.offset).next().is_some();
            if has_unwritten_sector || begins_unwritten(&bytes, self.offset) {
                return Ok(true);
            }
        }
        Ok(bytes.iter().all(|byte| *byte == 0) && open.only_zeros_follow()?)
    }

    /// Whether a record that reads as a block, which ends at `end` in it, is a write that did not end all the same.
    fn has_lost_metadata(&self, block: &Block, record: &[u8], open: &OpenFile, end: usize) -> bool {
        let sealed = sealed_parts(block, end);
        let is_lost = |zeros| sealed.iter().any(|part| overlap(part, &zeros) >= TELLING);
        self.may_be_unsynced(self.offset + end as u64, open)
            && unwritten_sectors(record, self.offset).any(is_lost)
    }

    /// Whether a record that ends at `end` may have been written and not synced.
    fn may_be_unsynced(&self, end: u64, open: &OpenFile) -> bool {
        let left = open.length - self.offset;
        self.file == self.last && (end == open.length || left <= MAX_UNSYNCED_BYTES)
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

/// So many zeros do not stand in a signature or a hash by chance. That the last three bytes of a commit hash
/// were lost, alone in their sector, is not seen.
const TELLING: usize = 4;

const SEALED_SLOTS: [usize; 2] = [
    BlockMetadataIndex::Signatures as usize,
    BlockMetadataIndex::CommitHash as usize,
];

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// Bytes of the sector before an offset.
fn into_sector(offset: u64) -> usize {
    usize::try_from(offset % SECTOR as u64).unwrap_or_default()
}

/// The sectors that the bytes fill, and their last part of one, as far as they are all zeros.
fn unwritten_sectors(bytes: &[u8], offset: u64) -> impl Iterator<Item = Range<usize>> {
    let first = (SECTOR - into_sector(offset)) % SECTOR;
    let sectors = bytes.get(first..).unwrap_or_default().chunks(SECTOR);
    sectors
        .zip((first..).step_by(SECTOR))
        .filter(|(sector, _)| sector.iter().all(|byte| *byte == 0))
        .map(|(sector, start)| start..start + sector.len())
}

/// Where a record that ends at `end` has the signatures and the commit hash of its block. Zeros in place of
/// them leave a block that reads well: where lengths are lost none does, and the hash in the header
/// covers the envelopes. The verdicts of a large block can be as many zeros; where they are lost, so
/// is a part of these.
fn sealed_parts(block: &Block, mut end: usize) -> Vec<Range<usize>> {
    let slots = block
        .metadata
        .as_ref()
        .map_or(&[][..], |metadata| &metadata.metadata);
    let mut parts = Vec::with_capacity(2);
    for (index, slot) in slots.iter().enumerate().rev() {
        let start = end.saturating_sub(slot.len());
        if SEALED_SLOTS.contains(&index) {
            parts.push(start..end);
        }
        end = end.saturating_sub(bytes_length(slot) as usize);
    }
    parts
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> usize {
    one.end
        .min(other.end)
        .saturating_sub(one.start.max(other.start))
}

/// Whether the sector in which the bytes begin is all zeros from there on. No record has the length 0.
fn begins_unwritten(bytes: &[u8], offset: u64) -> bool {
    let first = bytes.get(..SECTOR - into_sector(offset));
    first.is_some_and(|first| first.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests;
