//! Reading a snapshot of unknown origin into an index and a state that nobody uses yet.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::protos::{CollectionConfigPackage, collection_config};

use super::file::FileReader;
use super::record::SnapshotRecord;
use super::{
    CONFIG_HISTORY, PAIRS, PRIVATE_STATE_HASHES, PUBLIC_STATE, Pair, SnapshotError,
    SnapshotMetadata, TXIDS,
};
use crate::block_index::BlockIndex;
use crate::config_history::{ConfigHistory, ConfigHistoryRow};
use crate::state::{StateDatabase, StateImport, split_namespace};

/// Of the names of collections that every organisation has without defining them (Fabric:
/// `implicitcollection`). What is in them never expires.
const IMPLICIT_COLLECTION: &str = "_implicit_org_";

/// A snapshot with its metadata. Of the files only what the metadata list is read, and each is what they
/// say, or the import fails at the file's end.
pub(crate) struct Import<'a> {
    folder: &'a Path,
    metadata: &'a SnapshotMetadata,
}

impl<'a> Import<'a> {
    pub(crate) fn new(
        folder: &'a Path,
        metadata: &'a SnapshotMetadata,
    ) -> Result<Self, SnapshotError> {
        let known = |name: &str| {
            let mut pairs = PAIRS.iter();
            pairs.any(|pair| name == pair.data || name == pair.metadata)
        };
        if let Some(name) = metadata.files.keys().find(|name| !known(name)) {
            let reason = "it is listed, and no file of a snapshot has this name";
            return Err(SnapshotError::file(&folder.join(name), reason));
        }
        Ok(Self { folder, metadata })
    }

    /// Reads the ids of all transactions into an empty index.
    pub(crate) fn read_ids(&self, index: &BlockIndex) -> Result<(), SnapshotError> {
        let last = self.metadata.last_block;
        let Some((mut data, mut metadata)) = self.open(TXIDS)? else {
            return index.import(std::iter::empty(), last);
        };
        let count = metadata.number()?;
        metadata.finish()?;
        index.import((0..count).map(|_| data.text()), last)?;
        data.finish()
    }

    /// Reads everything else into an empty state.
    pub(crate) fn read_state(&self, state: &StateDatabase) -> Result<(), SnapshotError> {
        let mut import = StateImport::new(state);
        self.read_config_history(&import.state().config_history())?;
        self.read_keys(PUBLIC_STATE, &mut import, |_, _| Ok(None))?;
        let mut lifetimes = Lifetimes {
            history: import.state().config_history(),
            known: BTreeMap::new(),
        };
        self.read_keys(PRIVATE_STATE_HASHES, &mut import, |namespace, written| {
            lifetimes.expires(namespace, written)
        })?;
        let last = self.metadata.last_block;
        import.state().history().begin_at(last.saturating_add(1))?;
        Ok(import.finish(last)?)
    }

    fn read_config_history(&self, history: &ConfigHistory) -> Result<(), SnapshotError> {
        let Some((mut data, mut metadata)) = self.open(CONFIG_HISTORY)? else {
            return Ok(());
        };
        let count = metadata.number()?;
        metadata.finish()?;
        let last = self.metadata.last_block;
        let rows = (0..count).map(|_| {
            let row = ConfigHistoryRow {
                key: data.bytes()?.into(),
                package: data.bytes()?.into(),
            };
            match row.chaincode_and_block() {
                Some((_, block)) if block <= last => Ok(row),
                _ => Err(SnapshotError::file(data.path(), "a row has a strange key")),
            }
        });
        history.import(rows)?;
        data.finish()
    }

    fn read_keys(
        &self,
        pair: Pair,
        import: &mut StateImport<'_>,
        mut expires: impl FnMut(&str, u64) -> Result<Option<u64>, String>,
    ) -> Result<(), SnapshotError> {
        let Some((mut data, mut metadata)) = self.open(pair)? else {
            return Ok(());
        };
        let last = self.metadata.last_block;
        let is_hashed = pair == PRIVATE_STATE_HASHES;
        for _ in 0..metadata.number()? {
            let (namespace, count) = (metadata.text()?, metadata.number()?);
            let misplaced = split_namespace(&namespace).1.is_some() != is_hashed;
            if misplaced || namespace.contains('\0') {
                let reason = format!("a namespace {namespace:?} cannot be in it");
                return Err(SnapshotError::file(metadata.path(), reason));
            }
            for _ in 0..count {
                let record: SnapshotRecord = data.message()?;
                let wrong = |reason| SnapshotError::file(data.path(), reason);
                let entry = record.into_entry(last);
                let (key, value) = entry.map_err(|reason| wrong(reason.to_owned()))?;
                let expires = expires(&namespace, value.version.block_num).map_err(wrong)?;
                import.put(&namespace, &key, &value, expires)?;
            }
        }
        metadata.finish()?;
        data.finish()
    }

    fn open(&self, pair: Pair) -> Result<Option<(FileReader, FileReader)>, SnapshotError> {
        let listed = |name: &str| {
            let hash = self.metadata.files.get(name).copied();
            (self.folder.join(name), hash)
        };
        match (listed(pair.data), listed(pair.metadata)) {
            ((_, None), (_, None)) => Ok(None),
            ((data, Some(data_hash)), (metadata, Some(metadata_hash))) => Ok(Some((
                FileReader::open(data, data_hash)?,
                FileReader::open(metadata, metadata_hash)?,
            ))),
            ((path, None), _) | (_, (path, None)) => Err(not_listed(&path)),
        }
    }
}

fn not_listed(path: &Path) -> SnapshotError {
    SnapshotError::file(path, "it is not listed, and the file that belongs to it is")
}

/// For how many blocks the collections keep their keys, by their newest definitions (Fabric:
/// `mostRecentCollectionConfigFetcher`).
struct Lifetimes {
    history: ConfigHistory,
    /// By namespace as it is stored; 0 for ever.
    known: BTreeMap<String, u64>,
}

impl Lifetimes {
    /// The block with which a key is deleted that was written in block `written`.
    fn expires(&mut self, namespace: &str, written: u64) -> Result<Option<u64>, String> {
        let blocks = match self.known.get(namespace) {
            Some(blocks) => *blocks,
            None => {
                let blocks = self.find(namespace)?;
                self.known.insert(namespace.to_owned(), blocks);
                blocks
            }
        };
        let expires = written.checked_add(blocks);
        let expires = expires.and_then(|block| block.checked_add(1));
        Ok(expires.filter(|_| blocks > 0))
    }

    fn find(&self, namespace: &str) -> Result<u64, String> {
        let (chaincode, collection) = split_namespace(namespace);
        let collection = collection.unwrap_or_default();
        if collection.starts_with(IMPLICIT_COLLECTION) {
            return Ok(0);
        }
        let newest = self.history.most_recent_below(u64::MAX, chaincode);
        let newest = newest.map_err(|error| error.to_string())?;
        let package = newest.map(|config| config.package).unwrap_or(Bytes::new());
        let package = CollectionConfigPackage::decode(package).map_err(|error| {
            format!("the collections of chaincode {chaincode:?} do not parse: {error}")
        })?;
        let configs = package
            .config
            .into_iter()
            .filter_map(|config| config.payload);
        let mut configs =
            configs.map(|collection_config::Payload::StaticCollectionConfig(config)| config);
        let config = configs.find(|config| config.name == collection);
        let config = config
            .ok_or_else(|| format!("collection {chaincode:?}/{collection:?} could not be found"))?;
        Ok(config.block_to_live)
    }
}
