//! Writing a snapshot into a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::file::{FileHash, FileWriter};
use super::record::SnapshotRecord;
use super::{
    CONFIG_HISTORY, PRIVATE_STATE_HASHES, PUBLIC_STATE, Pair, SnapshotError, SnapshotMetadata,
    TXIDS,
};
use crate::BlockStore;
use crate::state::{StateDatabase, is_clear_text_namespace, is_hashed_namespace};

/// Entries between two looks at whether to stop.
const ENTRIES_PER_LOOK: u64 = 4096;

/// What a snapshot is made of.
pub(super) struct Export<'a> {
    pub blocks: &'a BlockStore,
    /// The state as of the block.
    pub state: &'a StateDatabase,
    pub block: u64,
    /// Whether to give up.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Export<'_> {
    /// Writes all files into `folder`, which is there and empty, safe on disk, and returns the hash of
    /// the snapshot. A kind of data of which there is none has no files, as in Fabric.
    pub(super) fn write(&self, folder: &Path) -> Result<[u8; 32], SnapshotError> {
        let mut files = BTreeMap::new();
        self.write_ids(folder, &mut files)?;
        self.write_config_history(folder, &mut files)?;
        self.write_state(folder, &mut files)?;
        let identity = self.blocks.identity(self.block)?;
        let identity = identity.ok_or_else(|| SnapshotError::Block {
            channel: self.blocks.channel().to_owned(),
            block: self.block,
            reason: "it is not there",
        })?;
        let metadata = SnapshotMetadata {
            channel: self.blocks.channel().to_owned(),
            last_block: self.block,
            last_block_hash: identity.header_hash,
            previous_block_hash: identity.previous_hash,
            commit_hash: identity.commit_hash,
            files,
        };
        metadata.write(folder)
    }

    fn write_ids(&self, folder: &Path, files: &mut Files) -> Result<(), SnapshotError> {
        let mut ids = Counted::new(folder, TXIDS);
        for id in self.blocks.transaction_ids(self.block)? {
            let id = id?;
            // Fabric leaves out the id of envelopes that do not parse.
            if !id.is_empty() {
                ids.next(self.stop)?.bytes(id.as_bytes())?;
            }
        }
        ids.finish(files)
    }

    fn write_config_history(&self, folder: &Path, files: &mut Files) -> Result<(), SnapshotError> {
        let mut rows = Counted::new(folder, CONFIG_HISTORY);
        for row in self.state.config_history().rows() {
            let row = row?;
            let file = rows.next(self.stop)?;
            file.bytes(&row.key)?;
            file.bytes(&row.package)?;
        }
        rows.finish(files)
    }

    fn write_state(&self, folder: &Path, files: &mut Files) -> Result<(), SnapshotError> {
        let mut public = ByNamespace::new(folder, PUBLIC_STATE);
        let mut hashes = ByNamespace::new(folder, PRIVATE_STATE_HASHES);
        for entry in self.state.entries() {
            let entry = entry?;
            // No part of Fabric's snapshots, whoever wrote there.
            if is_clear_text_namespace(&entry.namespace) {
                continue;
            }
            let kind = match is_hashed_namespace(&entry.namespace) {
                true => &mut hashes,
                false => &mut public,
            };
            let file = kind.next(&entry.namespace, self.stop)?;
            file.message(&SnapshotRecord::new(entry.key, entry.value))?;
        }
        public.finish(files)?;
        hashes.finish(files)
    }
}

type Files = BTreeMap<String, FileHash>;

/// A data file that is made with its first entry, and the number of entries.
struct Counted {
    folder: PathBuf,
    pair: Pair,
    data: Option<FileWriter>,
    count: u64,
}

impl Counted {
    fn new(folder: &Path, pair: Pair) -> Self {
        Self {
            folder: folder.to_owned(),
            pair,
            data: None,
            count: 0,
        }
    }

    fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<&mut FileWriter, SnapshotError> {
        if self.count.is_multiple_of(ENTRIES_PER_LOOK) && stop() {
            return Err(SnapshotError::Stopped);
        }
        self.count += 1;
        match &mut self.data {
            Some(file) => Ok(file),
            none => Ok(none.insert(FileWriter::create(self.folder.join(self.pair.data))?)),
        }
    }

    fn finish(self, files: &mut Files) -> Result<(), SnapshotError> {
        let count = self.count;
        self.finish_with(files, |metadata| metadata.number(count))
    }

    fn finish_with(
        self,
        files: &mut Files,
        describe: impl FnOnce(&mut FileWriter) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let Some(data) = self.data else {
            return Ok(());
        };
        files.insert(self.pair.data.to_owned(), data.finish()?);
        let mut metadata = FileWriter::create(self.folder.join(self.pair.metadata))?;
        describe(&mut metadata)?;
        files.insert(self.pair.metadata.to_owned(), metadata.finish()?);
        Ok(())
    }
}

/// A data file, and how many of its entries belong to which namespace.
struct ByNamespace {
    entries: Counted,
    namespaces: Vec<(Bytes, u64)>,
}

impl ByNamespace {
    fn new(folder: &Path, pair: Pair) -> Self {
        Self {
            entries: Counted::new(folder, pair),
            namespaces: Vec::new(),
        }
    }

    fn next(
        &mut self,
        namespace: &Bytes,
        stop: &dyn Fn() -> bool,
    ) -> Result<&mut FileWriter, SnapshotError> {
        match self.namespaces.last_mut() {
            Some((last, count)) if last == namespace => *count += 1,
            // Entries share the memory of what they were read with, which is not to be kept.
            _ => self.namespaces.push((Bytes::copy_from_slice(namespace), 1)),
        }
        self.entries.next(stop)
    }

    fn finish(self, files: &mut Files) -> Result<(), SnapshotError> {
        let namespaces = self.namespaces;
        self.entries.finish_with(files, |metadata| {
            metadata.number(namespaces.len() as u64)?;
            for (name, count) in &namespaces {
                metadata.bytes(name)?;
                metadata.number(*count)?;
            }
            Ok(())
        })
    }
}
