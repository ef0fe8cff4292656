//! The files of a snapshot: a byte for the format, then numbers and byte strings with their length
//! before them (Fabric: `common/ledger/snapshot`).

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use selvedge_protos::Message;

use super::SnapshotError;
use crate::block_format::{MAX_VARINT_LENGTH, push_varint};

/// The format of all files so far.
const FORMAT: u8 = 1;
const BUFFER_BYTES: usize = 256 << 10;
/// The longest byte string that is read. What a key holds came in one transaction, and no block is as
/// long as this.
const MAX_LENGTH: u64 = 256 << 20;

/// SHA-256 of a file's bytes.
pub(super) type FileHash = [u8; 32];

/// Writes a new file.
pub(super) struct FileWriter {
    path: PathBuf,
    out: BufWriter<File>,
    hash: Context,
    number: Vec<u8>,
}

impl FileWriter {
    /// Nobody is to change the file later, so it is made read-only.
    pub(super) fn create(path: PathBuf) -> Result<Self, SnapshotError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
            .map_err(SnapshotError::io("create", &path))?;
        let mut writer = Self {
            path,
            out: BufWriter::with_capacity(BUFFER_BYTES, file),
            hash: Context::new(&SHA256),
            number: Vec::with_capacity(MAX_VARINT_LENGTH),
        };
        writer.write(&[FORMAT])?;
        Ok(writer)
    }

    pub(super) fn number(&mut self, number: u64) -> Result<(), SnapshotError> {
        let mut bytes = std::mem::take(&mut self.number);
        bytes.clear();
        push_varint(number, &mut bytes);
        let written = self.write(&bytes);
        self.number = bytes;
        written
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.number(bytes.len() as u64)?;
        self.write(bytes)
    }

    pub(super) fn message(&mut self, message: &impl Message) -> Result<(), SnapshotError> {
        self.bytes(&message.encode_to_vec())
    }

    /// Returns when the file survives a power cut.
    pub(super) fn finish(mut self) -> Result<FileHash, SnapshotError> {
        let path = self.path;
        self.out
            .flush()
            .and_then(|()| self.out.get_ref().sync_all())
            .map_err(SnapshotError::io("write", &path))?;
        Ok(finish(self.hash))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.hash.update(bytes);
        self.out
            .write_all(bytes)
            .map_err(|error| SnapshotError::io("write", &self.path)(error))
    }
}

/// Reads a file of unknown origin. What was read is to be believed only after [`Self::finish`].
pub(super) struct FileReader {
    path: PathBuf,
    input: BufReader<File>,
    hash: Context,
    expected: FileHash,
    /// Bytes to come.
    left: u64,
}

impl FileReader {
    /// `expected` is the hash that the whole file must turn out to have.
    pub(super) fn open(path: PathBuf, expected: FileHash) -> Result<Self, SnapshotError> {
        let file = File::open(&path).map_err(SnapshotError::io("open", &path))?;
        let metadata = file.metadata().map_err(SnapshotError::io("open", &path))?;
        if !metadata.is_file() {
            return Err(SnapshotError::file(&path, "it is not a file"));
        }
        let mut reader = Self {
            input: BufReader::with_capacity(BUFFER_BYTES, file),
            hash: Context::new(&SHA256),
            expected,
            left: metadata.len(),
            path,
        };
        match reader.byte()? {
            FORMAT => Ok(reader),
            format => {
                let reason = format!("unexpected data format: {format:x}");
                Err(SnapshotError::file(&reader.path, reason))
            }
        }
    }

    /// The file, for errors about what is in it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn number(&mut self) -> Result<u64, SnapshotError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(SnapshotError::file(&self.path, "a number is too large"))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let length = self.number()?;
        if length > self.left {
            let reason = format!("{length} bytes should follow, there are {}", self.left);
            return Err(SnapshotError::file(&self.path, reason));
        }
        if length > MAX_LENGTH {
            let reason = format!("an entry of {length} bytes, more than {MAX_LENGTH}");
            return Err(SnapshotError::file(&self.path, reason));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(length).read_to_end(&mut bytes);
        match read {
            Ok(read) if read as u64 == length => {}
            Ok(_) => return Err(self.cut_off()),
            Err(error) => return Err(SnapshotError::io("read", &self.path)(error)),
        }
        self.hash.update(&bytes);
        self.left -= length;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<String, SnapshotError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes)
            .map_err(|_| SnapshotError::file(&self.path, "a name or id is not text (UTF-8)"))
    }

    pub(super) fn message<M: Message + Default>(&mut self) -> Result<M, SnapshotError> {
        let bytes = self.bytes()?;
        M::decode(bytes::Bytes::from(bytes))
            .map_err(|error| SnapshotError::file(&self.path, error.to_string()))
    }

    /// Checks that all was read, and that the file is the one that it should be.
    pub(super) fn finish(mut self) -> Result<(), SnapshotError> {
        let mut rest = [0; 4096];
        let mut excess = self.left;
        loop {
            let read = self.input.read(&mut rest);
            let read = read.map_err(|error| SnapshotError::io("read", &self.path)(error))?;
            match rest.get(..read).unwrap_or_default() {
                [] => break,
                bytes => {
                    excess = excess.max(1);
                    self.hash.update(bytes);
                }
            }
        }
        let found = finish(self.hash);
        if found != self.expected {
            return Err(SnapshotError::Hash {
                path: self.path,
                expected: hex::encode(self.expected),
                found: hex::encode(found),
            });
        }
        if excess > 0 {
            let reason = "it holds more than its metadata say";
            return Err(SnapshotError::file(&self.path, reason));
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, SnapshotError> {
        let mut byte = [0];
        match self.input.read_exact(&mut byte) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.cut_off());
            }
            Err(error) => return Err(SnapshotError::io("read", &self.path)(error)),
        }
        self.hash.update(&byte);
        self.left = self.left.saturating_sub(1);
        let [byte] = byte;
        Ok(byte)
    }

    fn cut_off(&self) -> SnapshotError {
        SnapshotError::file(&self.path, "it ends within an entry")
    }
}

fn finish(hash: Context) -> FileHash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn reader(folder: &Path, bytes: &[u8]) -> Result<FileReader, SnapshotError> {
        let path = folder.join("file");
        fs::write(&path, bytes).unwrap();
        FileReader::open(path, selvedge_protos::sha256(bytes))
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("written");
        let mut writer = FileWriter::create(path.clone()).unwrap();
        writer.number(300).unwrap();
        writer.bytes(b"ab").unwrap();
        writer.bytes(b"").unwrap();
        writer.number(u64::MAX).unwrap();
        let hash = writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[..7], [1, 0xac, 2, 2, b'a', b'b', 0]);
        assert_eq!(hash, selvedge_protos::sha256(&bytes));
        assert!(fs::metadata(&path).unwrap().permissions().readonly());
        assert!(FileWriter::create(path.clone()).is_err());

        let mut reader = FileReader::open(path.clone(), hash).unwrap();
        assert_eq!(reader.number().unwrap(), 300);
        assert_eq!(reader.text().unwrap(), "ab");
        assert_eq!(reader.bytes().unwrap(), b"");
        assert_eq!(reader.number().unwrap(), u64::MAX);
        reader.finish().unwrap();

        let half = FileReader::open(path, hash).unwrap();
        assert!(matches!(half.finish(), Err(SnapshotError::File { .. })));
    }

    #[test]
    fn malformed_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], b"\0", b"\x02\x01a"] {
            assert!(reader(folder.path(), bytes).is_err(), "{bytes:?}");
        }
        // Longer than what follows, longer than anything, no number, too large a number, no text.
        for bytes in [
            &b"\x01\x05abc"[..],
            b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x01\xff",
            b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x01\x02\xff\xfe",
        ] {
            let mut reader = reader(folder.path(), bytes).unwrap();
            assert!(reader.text().is_err(), "{bytes:?}");
        }
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(FileReader::open(folder.path().join("folder"), [0; 32]).is_err());
    }

    #[test]
    fn another_file_is_found_out_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"\x01\x01a").unwrap();
        let mut reader = FileReader::open(path, selvedge_protos::sha256(b"\x01\x01b")).unwrap();
        assert_eq!(reader.text().unwrap(), "a");
        assert!(matches!(reader.finish(), Err(SnapshotError::Hash { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_harm_nothing(mut bytes in vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            let folder = tempfile::tempdir().unwrap();
            if let Ok(mut reader) = reader(folder.path(), &bytes) {
                while reader.bytes().is_ok() {}
                let left = reader.left;
                prop_assert!(left <= bytes.len() as u64);
                prop_assert_eq!(reader.finish().is_ok(), left == 0);
            }
        }
    }
}
