//! The state of a channel: every key with its value, metadata and version; of private keys the hashes.
//!
//! # Layout
//!
//! Keys lie in the order of Fabric's state database: the name of the namespace, a zero byte, the key.
//! The private data collection `c` of chaincode `n` is the namespace `n$$hc`, its keys and values are
//! SHA-256 hashes. The version of a key is the transaction that last wrote its value or metadata.
//!
//! # One batch for a block
//!
//! The changes of a block, the keys that expire with it, and the savepoint (the block's number) change
//! together or not at all. The state may be behind the block files, since it is made from them, and is never
//! ahead: commit a block to the block files first.
//!
//! # Expiry
//!
//! A private key of a collection with a block-to-live of `n`, written in block `b`, is deleted with
//! block `b + n + 1`, unless it was written again in between or in that block. What expires is no part of
//! the block's updates, so neither of its commit hash (Fabric: `pvtstatepurgemgmt`).
//!
//! # Limits
//!
//! Keys are as long as a transaction lets them be, as in Fabric. Those of 65,535 bytes and more, with their
//! namespace, lie under a hash, see [`LongKeys`]; they cost more when a range is gone through.

mod entry;
mod import;
mod updates;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::RwLock;
use selvedge_protos::kvrwset::Version;

use crate::store::{
    Batch, Cached, Durability, FjallStore, LongKeys, MemoryStore, Overlay, Store, StoreError, Table,
};
use entry::{Expiring, decode_value, encode_value, expiry_prefix, split_key, state_key};
pub(crate) use entry::{is_clear_text_namespace, is_hashed_namespace, split_namespace};
pub(crate) use import::StateImport;
pub use updates::{Change, StateUpdates};

const FORMAT_KEY: &[u8] = b"format";
const SAVEPOINT_KEY: &[u8] = b"savepoint";
/// Changes whenever the entries do.
const FORMAT: &[u8] = b"selvedge state 1";
/// The format of a state in which damage was found.
const DAMAGED: &[u8] = b"damaged";
/// Followed by the name of a chaincode that has used metadata.
const METADATA_PREFIX: &[u8] = b"metadata/";

/// Where keys are: the public ones of a chaincode, or the hashed ones of one of its collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace<'a> {
    /// The chaincode's name. The channel's configuration is under the empty name.
    pub chaincode: &'a str,
    /// The private data collection.
    pub collection: Option<&'a str>,
}

impl<'a> Namespace<'a> {
    /// The public keys of a chaincode.
    pub const fn public(chaincode: &'a str) -> Self {
        Self {
            chaincode,
            collection: None,
        }
    }

    /// The hashed keys of a collection.
    pub const fn hashed(chaincode: &'a str, collection: &'a str) -> Self {
        Self {
            chaincode,
            collection: Some(collection),
        }
    }
}

/// What the state holds for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedValue {
    /// The value, of a private key its hash. Never empty.
    pub value: Bytes,
    /// The entries of a `KVMetadataWrite` message; empty for none.
    pub metadata: Bytes,
    /// The transaction that wrote it.
    pub version: Version,
}

/// An entry of the state with its namespace as it is stored, `n$$hc` for the hashes of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The namespace.
    pub namespace: Bytes,
    /// The key, or its hash.
    pub key: Bytes,
    /// The content.
    pub value: VersionedValue,
}

/// Why the state did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The database failed.
    #[error("state {0}")]
    Store(#[from] StoreError),
    /// The database was written by another version.
    #[error(
        "the state has the format {found:?}, expected {expected:?}: remove it, it is built anew"
    )]
    Format {
        /// What is there.
        found: String,
        /// What this version writes.
        expected: String,
    },
    /// An entry is not as it was written.
    #[error(
        "an entry of the state is damaged ({0}): restart the peer, which builds it anew from the blocks"
    )]
    Damaged(&'static str),
    /// An earlier commit failed; what the database holds is known again only when it is opened anew.
    #[error(
        "the state takes no more blocks, since a write has failed ({0}): see to the disk, then restart the peer"
    )]
    Poisoned(String),
    /// Blocks come in order.
    #[error("the state is at {savepoint:?}, so block {found} cannot be next")]
    UnexpectedBlock {
        /// The last block in it.
        savepoint: Option<u64>,
        /// The block that was to be committed.
        found: u64,
    },
}

/// The state of one channel. Reads run beside a commit; who needs all of a block or nothing reads when none
/// runs. Cheap to clone; all clones are one state.
#[derive(Clone)]
pub struct StateDatabase {
    store: Arc<dyn Store>,
    /// Chaincodes that have ever used metadata.
    with_metadata: Arc<RwLock<BTreeSet<String>>>,
    /// Why no more blocks are taken.
    poison: Arc<OnceLock<String>>,
    /// Whether it can be made anew from the blocks, and no damage has been found.
    is_expendable: Arc<AtomicBool>,
    /// Where damage is recorded, if not in the store itself.
    beneath: Option<Arc<dyn Store>>,
}

impl StateError {
    /// Whether the database is not as it was written, while the disk does what it should.
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged(_) | Self::Format { .. } | Self::Store(StoreError::Damaged(_))
        )
    }
}

impl StateDatabase {
    /// Opens the state in `folder`, or makes an empty one.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        Self::on(Arc::new(FjallStore::open(folder)?))
    }

    /// An empty state that is gone with its process.
    pub fn in_memory() -> Result<Self, StateError> {
        Self::on(Arc::new(MemoryStore::new()))
    }

    /// The state in a store.
    pub fn on(store: Arc<dyn Store>) -> Result<Self, StateError> {
        let store: Arc<dyn Store> = Arc::new(LongKeys::new(Arc::new(Cached::new(store))));
        match store.get(Table::Meta, FORMAT_KEY)? {
            Some(format) if format == FORMAT => {}
            None if store.range(Table::State, &[], None).next().is_none() => {
                let mut batch = Batch::default();
                batch.put(Table::Meta, FORMAT_KEY, FORMAT);
                store.commit(batch, Durability::Disk)?;
            }
            found => {
                return Err(StateError::Format {
                    found: String::from_utf8_lossy(&found.unwrap_or_default()).into_owned(),
                    expected: String::from_utf8_lossy(FORMAT).into_owned(),
                });
            }
        }
        let mut with_metadata = BTreeSet::new();
        for entry in store.range(Table::Meta, METADATA_PREFIX, None) {
            let (key, _) = entry?;
            let Some(name) = key.strip_prefix(METADATA_PREFIX) else {
                break;
            };
            with_metadata.insert(String::from_utf8_lossy(name).into_owned());
        }
        Ok(Self {
            store,
            with_metadata: Arc::new(RwLock::new(with_metadata)),
            poison: Arc::default(),
            is_expendable: Arc::default(),
            beneath: None,
        })
    }

    /// The state as it is now, however it changes; it takes no changes itself.
    pub(crate) fn snapshot(&self) -> Self {
        Self {
            store: self.store.snapshot(),
            with_metadata: Arc::new(RwLock::new(self.with_metadata.read().clone())),
            poison: Arc::default(),
            is_expendable: Arc::default(),
            beneath: None,
        }
    }

    /// The state as it is going to be when some blocks are committed: it shows this one, and keeps what is
    /// committed to it in memory. While it lives, this one must not change.
    pub fn staging(&self) -> Self {
        Self {
            store: Arc::new(Overlay::new(Arc::clone(&self.store))),
            with_metadata: Arc::new(RwLock::new(self.with_metadata.read().clone())),
            poison: Arc::default(),
            is_expendable: Arc::clone(&self.is_expendable),
            beneath: Some(Arc::clone(&self.store)),
        }
    }

    /// Where the state is kept, with what is recorded of blocks beside it.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The last block whose changes are in the state.
    pub fn savepoint(&self) -> Result<Option<u64>, StateError> {
        let number = self.store.get(Table::Meta, SAVEPOINT_KEY)?;
        let number = number.map(|bytes| <[u8; 8]>::try_from(&bytes[..]).map(u64::from_be_bytes));
        number
            .transpose()
            .map_err(|_| StateError::Damaged("savepoint"))
    }

    /// What the state holds for a key.
    pub fn get(
        &self,
        namespace: Namespace<'_>,
        key: &[u8],
    ) -> Result<Option<VersionedValue>, StateError> {
        let key = state_key(namespace, key);
        let value = self.store.get(Table::State, &key);
        let value = value.map_err(StateError::from);
        let value = value.and_then(|value| value.map(decode_value).transpose());
        value.inspect_err(|error| self.note(error))
    }

    /// Says that the state can be made anew from the blocks: once damage is found in it, the next opening
    /// refuses it ([`StateError::Format`]), so that it is made anew.
    pub fn set_expendable(&self) {
        self.is_expendable.store(true, Ordering::Release);
    }

    fn note(&self, error: &StateError) {
        if error.is_damage() && self.is_expendable.swap(false, Ordering::AcqRel) {
            tracing::error!(%error, "The state is going to be built anew when it is opened next");
            let mut batch = Batch::default();
            batch.put(Table::Meta, FORMAT_KEY, DAMAGED);
            let store = self.beneath.as_ref().unwrap_or(&self.store);
            if let Err(error) = store.commit(batch, Durability::Disk) {
                tracing::error!(%error, "That it is damaged cannot be recorded in the state");
            }
        }
    }

    /// The keys of a namespace from `from` on and before `to`, or to the last, in order.
    pub fn range<'a>(
        &'a self,
        namespace: Namespace<'_>,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(Bytes, VersionedValue), StateError>> + use<'a> {
        let start = state_key(namespace, &[]);
        let end = to.map_or_else(
            || {
                let mut end = start.clone();
                if let Some(zero) = end.last_mut() {
                    *zero = 1;
                }
                end
            },
            |to| state_key(namespace, to),
        );
        let from = state_key(namespace, from);
        let entries = self.store.range(Table::State, &from, Some(&end));
        let entries = entries.map(move |entry| {
            let (key, value) = entry?;
            // A namespace ends at the first zero byte, as in Fabric: of one with a zero byte in its name, the rest
            // comes out as part of the key.
            let (_, key) = split_key(&key)?;
            Ok((key, decode_value(value)?))
        });
        entries.inspect(|entry| {
            if let Err(error) = entry {
                self.note(error);
            }
        })
    }

    /// Everything, in the order of namespaces and keys.
    pub fn entries(&self) -> impl Iterator<Item = Result<StateEntry, StateError>> {
        self.store.range(Table::State, &[], None).map(|entry| {
            let (key, value) = entry?;
            let (namespace, key) = split_key(&key)?;
            Ok(StateEntry {
                namespace,
                key,
                value: decode_value(value)?,
            })
        })
    }

    /// The tables whose rows follow from the blocks alone; see [`Self::rows`].
    pub const TABLES: [Table; 5] = [
        Table::State,
        Table::Expiry,
        Table::ConfigHistory,
        Table::History,
        Table::Meta,
    ];

    /// The rows of a table as they are stored, to compare databases. Of [`Table::Meta`] those that name
    /// chaincodes with metadata.
    pub fn rows(&self, table: Table) -> impl Iterator<Item = Result<(Bytes, Bytes), StateError>> {
        let prefix = match table {
            Table::Meta => METADATA_PREFIX,
            _ => &[],
        };
        let rows = self.store.range(table, prefix, None);
        let rows = rows.take_while(move |row| {
            let key = row.as_ref().map(|(key, _)| key);
            key.map_or(true, |key| key.starts_with(prefix))
        });
        rows.map(|row| Ok(row?))
    }

    /// Whether a key of the chaincode, public or private, has ever had metadata.
    pub fn may_have_metadata(&self, chaincode: &str) -> bool {
        self.with_metadata.read().contains(chaincode)
    }

    /// Commits the changes of the next block, and deletes what expires with it. If writing fails, no more
    /// blocks are taken until the state is opened anew; reading goes on.
    pub fn commit(&self, updates: &StateUpdates, durability: Durability) -> Result<(), StateError> {
        let committed = self.try_commit(updates, durability);
        committed.inspect_err(|error| self.note(error))
    }

    fn try_commit(&self, updates: &StateUpdates, durability: Durability) -> Result<(), StateError> {
        if let Some(cause) = self.poison.get() {
            return Err(StateError::Poisoned(cause.clone()));
        }
        let savepoint = self.savepoint()?;
        let block = updates.block();
        if savepoint.map_or(0, |savepoint| savepoint.saturating_add(1)) != block {
            return Err(StateError::UnexpectedBlock {
                savepoint,
                found: block,
            });
        }
        let mut batch = updates.records().clone();
        self.expire(updates, &mut batch)?;
        let mut new_names = BTreeSet::new();
        for (key, change) in updates.changes() {
            let Some(value) = &change.value else {
                batch.delete(Table::State, key.clone());
                continue;
            };
            batch.put(Table::State, key.clone(), encode_value(value));
            if let Some(expiring) = change.expires(block, key) {
                batch.put(Table::Expiry, expiring.encode(), []);
            }
            if !value.metadata.is_empty() && !self.may_have_metadata(&change.chaincode) {
                new_names.insert(change.chaincode.clone());
            }
        }
        for name in &new_names {
            batch.put(Table::Meta, [METADATA_PREFIX, name.as_bytes()].concat(), []);
        }
        batch.put(Table::Meta, SAVEPOINT_KEY, block.to_be_bytes());
        self.store.commit(batch, durability).inspect_err(|error| {
            self.poison.get_or_init(|| error.to_string());
        })?;
        if !new_names.is_empty() {
            self.with_metadata.write().extend(new_names);
        }
        Ok(())
    }

    /// Deletes what expires with a block and was not written since.
    fn expire(&self, updates: &StateUpdates, batch: &mut Batch) -> Result<(), StateError> {
        let block = updates.block();
        let until = expiry_prefix(block.saturating_add(1));
        let due = self
            .store
            .range(Table::Expiry, &expiry_prefix(block), Some(&until));
        for entry in due {
            let (entry, _) = entry?;
            let expiring = Expiring::decode(&entry)?;
            batch.delete(Table::Expiry, entry);
            if updates.touches(&expiring.key) {
                continue;
            }
            let value = self.store.get(Table::State, &expiring.key)?;
            let value = value.map(decode_value).transpose()?;
            if value.is_some_and(|value| value.version.block_num == expiring.written) {
                batch.delete(Table::State, expiring.key);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for StateDatabase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StateDatabase")
            .field("savepoint", &self.savepoint().ok().flatten())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
