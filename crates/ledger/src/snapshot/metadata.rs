//! What a snapshot says of itself: two files of JSON, as Go writes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use selvedge_protos::sha256;
use serde::{Deserialize, Serialize};

use super::SnapshotError;
use super::file::FileHash;
use crate::channel_id::validate_channel_id;

/// Channel, last block, and the hashes of all files. Its own hash is the hash of the snapshot.
pub const SIGNABLE_METADATA: &str = "_snapshot_signable_metadata.json";
/// The hash of the snapshot, and the commit hash of the last block.
pub const ADDITIONAL_METADATA: &str = "_snapshot_additional_metadata.json";

/// Fabric's word for every state database but CouchDB.
const STATE_DB_TYPE: &str = "SimpleKeyValueDB";
/// No more is read of a file of metadata.
const MAX_JSON: u64 = 1 << 20;
const INDENT: &[u8] = b"    ";

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// The channel.
    pub channel: String,
    /// The number of the last block whose changes are in it.
    pub last_block: u64,
    /// The hash of the header of that block.
    pub last_block_hash: Bytes,
    /// The hash of the header before; empty if the last block is the first one.
    pub previous_block_hash: Bytes,
    /// The commit hash of that block; `None` if it has none.
    pub commit_hash: Option<[u8; 32]>,
    /// The files with the hashes of their bytes.
    pub files: BTreeMap<String, FileHash>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Signable {
    channel_name: String,
    last_block_number: u64,
    last_block_hash: String,
    previous_block_hash: String,
    snapshot_files_raw_hashes: BTreeMap<String, String>,
    state_db_type: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Additional {
    snapshot_hash: String,
    last_block_commit_hash: String,
}

impl SnapshotMetadata {
    /// Writes both files, safe on disk, and returns the hash of the snapshot.
    pub(crate) fn write(&self, folder: &Path) -> Result<[u8; 32], SnapshotError> {
        let files = self.files.iter();
        let signable = Signable {
            channel_name: self.channel.clone(),
            last_block_number: self.last_block,
            last_block_hash: hex::encode(&self.last_block_hash),
            previous_block_hash: hex::encode(&self.previous_block_hash),
            snapshot_files_raw_hashes: files
                .map(|(name, hash)| (name.clone(), hex::encode(hash)))
                .collect(),
            state_db_type: STATE_DB_TYPE.to_owned(),
        };
        let signable = write_json(&folder.join(SIGNABLE_METADATA), &signable)?;
        let hash = sha256(&signable);
        let additional = Additional {
            snapshot_hash: hex::encode(hash),
            last_block_commit_hash: self.commit_hash.map(hex::encode).unwrap_or_default(),
        };
        write_json(&folder.join(ADDITIONAL_METADATA), &additional)?;
        Ok(hash)
    }

    /// Reads both files, and checks that the first has the hash that the second states.
    pub(crate) fn read(folder: &Path) -> Result<Self, SnapshotError> {
        let (path, additional_path) = (
            folder.join(SIGNABLE_METADATA),
            folder.join(ADDITIONAL_METADATA),
        );
        let bytes = read_json(&path)?;
        let signable: Signable = parse(&path, &bytes)?;
        let additional: Additional = parse(&additional_path, &read_json(&additional_path)?)?;
        let found = hex::encode(sha256(&bytes));
        if found != additional.snapshot_hash {
            return Err(SnapshotError::Hash {
                path,
                expected: additional.snapshot_hash,
                found,
            });
        }
        validate_channel_id(&signable.channel_name)?;
        let malformed = |field: &str| SnapshotError::file(&path, format!("{field} is no hash"));
        let hash = |field, text: &str| {
            let bytes = hex::decode(text).ok();
            let bytes = bytes.and_then(|bytes| FileHash::try_from(bytes).ok());
            bytes.ok_or_else(|| malformed(field))
        };
        // A channel's first block follows none.
        let previous = match (signable.last_block_number, &*signable.previous_block_hash) {
            (0, "") => Bytes::new(),
            (_, text) => Bytes::copy_from_slice(&hash("previous_block_hash", text)?),
        };
        let commit_hash = match &*additional.last_block_commit_hash {
            "" => None,
            text => Some(hash("last_block_commit_hash", text)?),
        };
        let files = signable.snapshot_files_raw_hashes.into_iter();
        let files = files.map(|(name, text)| Ok((name, hash("the hash of a file", &text)?)));
        Ok(Self {
            channel: signable.channel_name,
            last_block: signable.last_block_number,
            last_block_hash: Bytes::copy_from_slice(&hash(
                "last_block_hash",
                &signable.last_block_hash,
            )?),
            previous_block_hash: previous,
            commit_hash,
            files: files.collect::<Result<_, SnapshotError>>()?,
        })
    }
}

/// As Go's `json.MarshalIndent` with four spaces.
fn write_json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, SnapshotError> {
    let failed = || SnapshotError::io("write", path);
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(INDENT);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    let written = value.serialize(&mut serializer);
    written.map_err(|error| failed()(error.into()))?;
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o444).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.map_err(failed())?;
    Ok(bytes)
}

fn read_json(path: &Path) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_JSON).read_to_end(&mut bytes))
        .map_err(SnapshotError::io("read", path))?;
    Ok(bytes)
}

fn parse<'a, T: Deserialize<'a>>(path: &Path, bytes: &'a [u8]) -> Result<T, SnapshotError> {
    serde_json::from_slice(bytes).map_err(|error| SnapshotError::file(path, error.to_string()))
}
