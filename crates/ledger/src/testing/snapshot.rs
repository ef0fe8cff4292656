//! Snapshots made of given files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use selvedge_protos::sha256;

use crate::block_index::BlockIndex;
use crate::snapshot::{Import, SnapshotError, SnapshotMetadata};
use crate::state::StateDatabase;
use crate::store::MemoryStore;

/// Writes the files of a snapshot into a folder, with metadata that fit them, and takes it over in memory.
/// Returns the number of keys in the state.
pub fn import_snapshot(folder: &Path, files: &[(&str, &[u8])]) -> Result<usize, SnapshotError> {
    let mut metadata = SnapshotMetadata {
        channel: "mychannel".to_owned(),
        last_block: 9,
        last_block_hash: vec![1; 32].into(),
        previous_block_hash: vec![2; 32].into(),
        commit_hash: None,
        files: [].into(),
    };
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).map_err(SnapshotError::io("write", &path))?;
        metadata.files.insert((*name).to_owned(), sha256(content));
    }
    metadata.write(folder)?;
    let metadata = SnapshotMetadata::read(folder)?;
    let import = Import::new(folder, &metadata)?;
    import.read_ids(&BlockIndex::open(Arc::new(MemoryStore::new()))?)?;
    let state = StateDatabase::in_memory()?;
    import.read_state(&state)?;
    Ok(state.entries().count())
}

/// Reads what a snapshot says of itself, with its hash as it should be.
pub fn read_snapshot_metadata(folder: &Path, signable: &[u8]) -> Result<(), SnapshotError> {
    use crate::snapshot::{ADDITIONAL_METADATA, SIGNABLE_METADATA};
    let additional = format!(
        r#"{{"snapshot_hash": "{}", "last_block_commit_hash": ""}}"#,
        hex::encode(sha256(signable))
    );
    for (name, content) in [
        (SIGNABLE_METADATA, signable),
        (ADDITIONAL_METADATA, additional.as_bytes()),
    ] {
        let path = folder.join(name);
        fs::write(&path, content).map_err(SnapshotError::io("write", &path))?;
    }
    SnapshotMetadata::read(folder).map(|_| ())
}
