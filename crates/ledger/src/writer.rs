//! Appending records to the last block file.

use std::io::{BufWriter, Write};

use crate::LedgerError;
use crate::block_files::BlockFiles;
use crate::block_format::Record;
use crate::block_index::Place;
use crate::disk::{AppendFile, Disk};

/// What is gathered before it is handed to the operating system.
const BUFFER_BYTES: usize = 256 << 10;

/// Several records are synced together only as long as they have no more bytes than that. What a power cut
/// leaves of them can be anything, so recovery must know how far back it may find that.
pub(crate) const MAX_UNSYNCED_BYTES: u64 = 1 << 20;

/// The end of the chain on disk.
pub(crate) struct Writer {
    file: BufWriter<Box<dyn AppendFile>>,
    number: u32,
    length: u64,
    max_length: u64,
    /// Bytes of records that are not safe yet.
    unsynced: u64,
}

impl Writer {
    /// Goes on in file `number` after its first `length` bytes, which are blocks; what follows them
    /// is cut off. When this returns, the blocks are safe on disk.
    pub(crate) fn open(
        disk: &dyn Disk,
        files: &BlockFiles,
        (number, length): (u32, u64),
        max_length: u64,
    ) -> Result<Self, LedgerError> {
        let path = files.path(number);
        let mut file = disk
            .open_append(&path)
            .map_err(LedgerError::io("open", &path))?;
        if files.length(number)? > length {
            file.truncate(length).map_err(LedgerError::io(
                "cut off the incomplete last block of",
                &path,
            ))?;
        }
        file.sync().map_err(LedgerError::io("sync", &path))?;
        sync_folder(disk, files)?;
        Ok(Self {
            file: buffered(file),
            number,
            length,
            max_length,
            unsynced: 0,
        })
    }

    /// Writes a record, in the next file if this one has no room for it. Safe only after
    /// [`Self::sync`]. After an error the files end with an unknown part of the record.
    pub(crate) fn append(
        &mut self,
        disk: &dyn Disk,
        files: &BlockFiles,
        record: &Record<'_>,
    ) -> Result<Place, LedgerError> {
        let length = record.length();
        if self.unsynced > 0 && self.unsynced + length > MAX_UNSYNCED_BYTES {
            self.sync(files)?;
        }
        if self.length > 0 && self.length + length > self.max_length {
            self.begin_next_file(disk, files)?;
        }
        record
            .write(&mut self.file)
            .map_err(|error| LedgerError::io("append to", &files.path(self.number))(error))?;
        let place = Place {
            file: self.number,
            offset: self.length,
            length,
        };
        self.length += length;
        self.unsynced += length;
        Ok(place)
    }

    /// Returns when all records survive a power cut.
    pub(crate) fn sync(&mut self, files: &BlockFiles) -> Result<(), LedgerError> {
        let path = || files.path(self.number);
        self.file
            .flush()
            .map_err(|error| LedgerError::io("append to", &path())(error))?;
        self.file
            .get_mut()
            .sync()
            .map_err(|error| LedgerError::io("sync", &path())(error))?;
        self.unsynced = 0;
        Ok(())
    }

    /// After a failure: leaves the file as it is. Dropping would write what is still buffered.
    pub(crate) fn abandon(self) {
        drop(self.file.into_parts());
    }

    /// The file left behind is synced first, so that only the last one can be incomplete.
    fn begin_next_file(&mut self, disk: &dyn Disk, files: &BlockFiles) -> Result<(), LedgerError> {
        self.sync(files)?;
        let path = files.path(self.number + 1);
        let file = disk
            .open_append(&path)
            .map_err(LedgerError::io("create", &path))?;
        self.file = buffered(file);
        self.number += 1;
        self.length = 0;
        sync_folder(disk, files)
    }
}

fn buffered(file: Box<dyn AppendFile>) -> BufWriter<Box<dyn AppendFile>> {
    BufWriter::with_capacity(BUFFER_BYTES, file)
}

fn sync_folder(disk: &dyn Disk, files: &BlockFiles) -> Result<(), LedgerError> {
    disk.sync_folder(files.folder())
        .map_err(LedgerError::io("sync", files.folder()))
}
