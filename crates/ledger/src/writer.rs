//! Appending records to the last block file.

use std::io::{self, IoSlice, Write};

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
    file: Buffered,
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
            file: Buffered::new(file),
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
            .sync()
            .map_err(|error| LedgerError::io("sync", &path())(error))?;
        self.unsynced = 0;
        Ok(())
    }

    /// The file left behind is synced first, so that only the last one can be incomplete.
    fn begin_next_file(&mut self, disk: &dyn Disk, files: &BlockFiles) -> Result<(), LedgerError> {
        self.sync(files)?;
        let path = files.path(self.number + 1);
        let file = disk
            .open_append(&path)
            .map_err(LedgerError::io("create", &path))?;
        self.file = Buffered::new(file);
        self.number += 1;
        self.length = 0;
        sync_folder(disk, files)
    }
}

/// Gathers small writes. Unlike a `BufWriter` it has no memory between two syncs, since most channels are calm
/// most of the time, and it writes nothing when it is dropped: after a failure the file stays as it is.
struct Buffered {
    file: Box<dyn AppendFile>,
    waiting: Vec<u8>,
}

impl Buffered {
    fn new(file: Box<dyn AppendFile>) -> Self {
        let waiting = Vec::new();
        Self { file, waiting }
    }

    /// Writes what waits, and returns when it survives a power cut.
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.waiting = Vec::new();
        self.file.sync()
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if self.waiting.len().saturating_add(length) > BUFFER_BYTES {
            self.flush()?;
        }
        if length > BUFFER_BYTES {
            return self.file.write_vectored(pieces);
        }
        self.waiting.reserve(length);
        for piece in pieces {
            self.waiting.extend_from_slice(piece);
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

fn sync_folder(disk: &dyn Disk, files: &BlockFiles) -> Result<(), LedgerError> {
    disk.sync_folder(files.folder())
        .map_err(LedgerError::io("sync", files.folder()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers each write.
    #[derive(Clone, Default)]
    struct Written(std::sync::Arc<parking_lot::Mutex<Vec<Vec<u8>>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AppendFile for Written {
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn truncate(&mut self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn small_writes_are_gathered_and_no_memory_is_kept_after_a_sync() {
        let written = Written::default();
        let mut file = Buffered::new(Box::new(written.clone()));
        for byte in 0..10 {
            file.write_all(&[byte; 1000]).unwrap();
        }
        assert!(written.0.lock().is_empty());
        file.sync().unwrap();
        assert_eq!(written.0.lock().concat().len(), 10_000);
        assert_eq!(written.0.lock().len(), 1);
        assert_eq!(file.waiting.capacity(), 0);
    }

    #[test]
    fn what_waits_is_bounded_and_the_order_stays() {
        let written = Written::default();
        let mut file = Buffered::new(Box::new(written.clone()));
        let sizes = [1, BUFFER_BYTES, 5, BUFFER_BYTES + 1, 7, BUFFER_BYTES - 8, 2];
        let mut expected = Vec::new();
        for (number, size) in (0..).zip(sizes) {
            file.write_all(&vec![number; size]).unwrap();
            expected.resize(expected.len() + size, number);
            assert!(file.waiting.len() <= BUFFER_BYTES);
        }
        file.sync().unwrap();
        assert!(written.0.lock().concat() == expected);
    }

    #[test]
    fn nothing_is_written_by_dropping() {
        let written = Written::default();
        let mut file = Buffered::new(Box::new(written.clone()));
        file.write_all(b"half a record").unwrap();
        drop(file);
        assert!(written.0.lock().is_empty());
    }
}
