//! Where a chain begins that was joined by a snapshot.
//!
//! Such a chain has no blocks up to the last one of the snapshot. Its folder holds a file with the number
//! and the hashes of that block, in Fabric's place and form (Fabric: `blkstorage`,
//! `bootstrapFromSnapshottedTxIDs`), and beside it the metadata of the snapshot, which have the commit
//! hash that the next one continues.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::common::{self, BlockchainInfo};

use crate::LedgerError;
use crate::snapshot::{SnapshotError, SnapshotMetadata};

/// Fabric's name for the file.
pub(crate) const SNAPSHOT_INFO_FILE: &str = "bootstrappingSnapshot.info";
/// No such file is longer.
const MAX_LENGTH: u64 = 4096;

/// The last block of the snapshot that a chain begins after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bootstrap {
    pub last_block: u64,
    pub last_block_hash: Bytes,
    pub previous_block_hash: Bytes,
    /// `None` if the block has none, or if a Go peer has joined the channel, which keeps it elsewhere.
    pub commit_hash: Option<[u8; 32]>,
}

/// Fabric: `blkstorage/storage.proto`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct BootstrappingSnapshotInfo {
    #[prost(uint64, tag = "1")]
    last_block_num: u64,
    #[prost(bytes = "bytes", tag = "2")]
    last_block_hash: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    previous_block_hash: Bytes,
}

impl Bootstrap {
    /// Reads the files of a chain's folder; `None` if it begins with block 0.
    pub(crate) fn read(chain: &Path) -> Result<Option<Self>, LedgerError> {
        let path = chain.join(SNAPSHOT_INFO_FILE);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LedgerError::io("read", &path)(error)),
        };
        let malformed = |reason: String| LedgerError::SnapshotInfo {
            path: path.clone(),
            reason,
        };
        if length > MAX_LENGTH {
            return Err(malformed(format!("it has {length} bytes")));
        }
        let bytes = fs::read(&path).map_err(LedgerError::io("read", &path))?;
        let info = BootstrappingSnapshotInfo::decode(Bytes::from(bytes));
        let info = info.map_err(|error| malformed(error.to_string()))?;
        if info.last_block_hash.len() != 32 || info.last_block_num == u64::MAX {
            return Err(malformed("it names no block".to_owned()));
        }
        let metadata = SnapshotMetadata::read(chain).ok();
        let metadata = metadata.filter(|metadata| metadata.last_block == info.last_block_num);
        Ok(Some(Self {
            last_block: info.last_block_num,
            last_block_hash: info.last_block_hash,
            previous_block_hash: info.previous_block_hash,
            commit_hash: metadata.and_then(|metadata| metadata.commit_hash),
        }))
    }

    /// Writes the files into the folder of a chain that is being made, safe on disk.
    pub(crate) fn write(chain: &Path, metadata: &SnapshotMetadata) -> Result<(), SnapshotError> {
        metadata.write(chain)?;
        let path = chain.join(SNAPSHOT_INFO_FILE);
        let info = BootstrappingSnapshotInfo {
            last_block_num: metadata.last_block,
            last_block_hash: metadata.last_block_hash.clone(),
            previous_block_hash: metadata.previous_block_hash.clone(),
        };
        let mut options = File::options();
        let file = options.write(true).create_new(true).open(&path);
        let written = file.and_then(|mut file| {
            file.write_all(&info.encode_to_vec())?;
            file.sync_all()
        });
        written.map_err(SnapshotError::io("write", &path))
    }

    /// What Fabric tells of the chain before its first block is there.
    pub(crate) fn info(&self) -> BlockchainInfo {
        BlockchainInfo {
            height: self.first_block(),
            current_block_hash: self.last_block_hash.clone(),
            previous_block_hash: self.previous_block_hash.clone(),
            bootstrapping_snapshot_info: Some(common::BootstrappingSnapshotInfo {
                last_block_in_snapshot: self.last_block,
            }),
        }
    }

    /// The first block that the chain has.
    pub(crate) const fn first_block(&self) -> u64 {
        self.last_block.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_fabrics() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = SnapshotMetadata {
            channel: "mychannel".into(),
            last_block: 7,
            last_block_hash: Bytes::from_static(&[1; 32]),
            previous_block_hash: Bytes::from_static(&[2; 32]),
            commit_hash: Some([3; 32]),
            files: [("txids.data".to_owned(), [4; 32])].into(),
        };
        assert_eq!(Bootstrap::read(folder.path()).unwrap(), None);
        Bootstrap::write(folder.path(), &metadata).unwrap();
        let mut expected = vec![8, 7, 18, 32];
        expected.extend([1; 32]);
        expected.extend([26, 32]);
        expected.extend([2; 32]);
        let path = folder.path().join(SNAPSHOT_INFO_FILE);
        assert_eq!(fs::read(&path).unwrap(), expected);
        let read = Bootstrap::read(folder.path()).unwrap().unwrap();
        assert_eq!((read.first_block(), read.commit_hash), (8, Some([3; 32])));

        for wrong in [&b""[..], b"\x08\x07", b"\xff", &[0; 5000]] {
            fs::write(&path, wrong).unwrap();
            let error = Bootstrap::read(folder.path()).unwrap_err();
            assert!(matches!(error, LedgerError::SnapshotInfo { .. }), "{error}");
        }
    }
}
