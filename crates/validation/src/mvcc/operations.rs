//! What the write-set of a valid transaction changes (Fabric: `txmgmt/validation`, tx_ops and types).
//!
//! Each write to a key adds a number to what is to be done with it. They are added, not or-ed, and in
//! eight bits: a key that is put twice is taken for a metadata update, one that is deleted twice
//! for neither. No endorser makes such write-sets, but the commit hash shows what a peer does with them.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::kvrwset::{KvMetadataEntry, KvMetadataWrite, Version};

use super::updates::{Update, UpdateBatch};
use super::{Failure, MvccReason, VersionedState};
use crate::rwset::{TxRwSet, is_delete, is_hashed_delete};

const PUT: u8 = 1;
const SET_METADATA: u8 = 2;
const CLEAR_METADATA: u8 = 4;
const DELETE: u8 = 8;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    namespace: &'a str,
    /// `None` for public keys. Writes to a collection with the empty name are public ones in Fabric.
    collection: Option<&'a str>,
    key: Bytes,
}

/// What is to be done with a key.
#[derive(Debug, Default)]
struct Operation {
    flags: u8,
    value: Option<Bytes>,
    metadata: Bytes,
}

impl Operation {
    fn add(&mut self, flag: u8) {
        self.flags = self.flags.wrapping_add(flag);
    }

    fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    fn is_put_with_metadata(&self) -> bool {
        self.has(PUT) && self.has(SET_METADATA | CLEAR_METADATA)
    }

    fn is_put_alone(&self) -> bool {
        self.flags | PUT == PUT
    }
}

/// Adds the writes of a transaction to the updates of its block.
pub(super) fn apply(
    rwset: &TxRwSet,
    version: Version,
    state: &impl VersionedState,
    updates: &mut UpdateBatch,
) -> Result<(), Failure> {
    for (key, operation) in operations(rwset) {
        if let Some(update) = complete(&key, operation, version, state, updates)? {
            updates.set(key.namespace, key.collection, key.key, update);
        }
    }
    Ok(())
}

fn operations(rwset: &TxRwSet) -> BTreeMap<Key<'_>, Operation> {
    let mut operations = BTreeMap::new();
    for part in &rwset.namespaces {
        let namespace = part.namespace.as_str();
        let public = |key: &str| Key {
            namespace,
            collection: None,
            key: Bytes::copy_from_slice(key.as_bytes()),
        };
        for write in &part.writes {
            let operation = operations.entry(public(&write.key)).or_default();
            put_or_delete(operation, is_delete(write), &write.value);
        }
        for write in &part.metadata_writes {
            let operation = operations.entry(public(&write.key)).or_default();
            set_metadata(operation, &write.entries);
        }
        for part in &part.collections {
            let collection = Some(part.collection.as_str()).filter(|name| !name.is_empty());
            let hashed = |key: &Bytes| Key {
                namespace,
                collection,
                key: key.clone(),
            };
            for write in &part.writes {
                let operation = operations.entry(hashed(&write.key_hash)).or_default();
                put_or_delete(operation, is_hashed_delete(write), &write.value_hash);
            }
            for write in &part.metadata_writes {
                let operation = operations.entry(hashed(&write.key_hash)).or_default();
                set_metadata(operation, &write.entries);
            }
        }
    }
    operations
}

fn put_or_delete(operation: &mut Operation, is_delete: bool, value: &Bytes) {
    if is_delete {
        operation.add(DELETE);
    } else {
        operation.add(PUT);
        operation.value = Some(value.clone());
    }
}

fn set_metadata(operation: &mut Operation, entries: &[KvMetadataEntry]) {
    if entries.is_empty() {
        operation.add(CLEAR_METADATA);
        return;
    }
    operation.add(SET_METADATA);
    let metadata = KvMetadataWrite {
        key: String::new(),
        entries: entries.to_vec(),
    };
    operation.metadata = metadata.encode_to_vec().into();
}

/// The whole new content of a key: what the operation does not touch stays as it is. `None` if there is
/// nothing whose metadata could be changed.
fn complete(
    key: &Key<'_>,
    operation: Operation,
    version: Version,
    state: &impl VersionedState,
    updates: &UpdateBatch,
) -> Result<Option<Update>, Failure> {
    if operation.has(DELETE) {
        return Ok(Some(Update {
            value: None,
            metadata: Bytes::new(),
            version,
        }));
    }
    let (value, metadata) = if operation.is_put_with_metadata() {
        (operation.value, operation.metadata)
    } else if operation.is_put_alone() {
        let latest = latest(key, state, updates)?;
        (operation.value, latest.unwrap_or_default().metadata)
    } else {
        match latest(key, state, updates)? {
            Some(latest) => (latest.value, operation.metadata),
            None => return Ok(None),
        }
    };
    if value.is_none() {
        return Err(Failure::Undecidable(MvccReason::NoValue {
            namespace: key.namespace.to_owned(),
            key: match (key.collection, std::str::from_utf8(&key.key)) {
                (None, Ok(key)) => format!("{key:?}"),
                _ => format!("{:x}", key.key),
            },
        }));
    }
    Ok(Some(Update {
        value,
        metadata,
        version,
    }))
}

/// What a key holds after the transactions before. A key that one of them has deleted is there,
/// without a value.
#[derive(Default)]
struct Latest {
    value: Option<Bytes>,
    metadata: Bytes,
}

fn latest(
    key: &Key<'_>,
    state: &impl VersionedState,
    updates: &UpdateBatch,
) -> Result<Option<Latest>, Failure> {
    if let Some(update) = updates.get(key.namespace, key.collection, &key.key) {
        return Ok(Some(Latest {
            value: update.value.clone(),
            metadata: update.metadata.clone(),
        }));
    }
    let committed = state.versioned_value(key.namespace, key.collection, &key.key)?;
    Ok(committed.map(|committed| Latest {
        value: Some(committed.value),
        metadata: committed.metadata,
    }))
}
