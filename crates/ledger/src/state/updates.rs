//! The changes of a block.

use std::collections::BTreeMap;

use super::entry::{Expiring, state_key};
use super::{Namespace, VersionedValue};
use crate::store::Batch;

/// What one block changes in the state; of two changes to a key the later counts.
#[derive(Debug, Clone)]
pub struct StateUpdates {
    block: u64,
    changes: BTreeMap<Vec<u8>, Change>,
    records: Batch,
}

/// What becomes of a key.
#[derive(Debug, Clone)]
pub struct Change {
    /// The new content, `None` to delete the key.
    pub value: Option<VersionedValue>,
    pub(super) chaincode: String,
    /// The block with which the key is deleted again.
    pub(super) expires: Option<u64>,
}

impl StateUpdates {
    /// A block without changes.
    pub fn new(block: u64) -> Self {
        Self {
            block,
            changes: BTreeMap::new(),
            records: Batch::default(),
        }
    }

    /// The block.
    pub const fn block(&self) -> u64 {
        self.block
    }

    /// Sets a key.
    pub fn put(&mut self, namespace: Namespace<'_>, key: &[u8], value: VersionedValue) {
        self.change(namespace, key, Some(value), None);
    }

    /// Sets a key that is deleted with block `expires`, unless it is written before. `None` for never.
    pub fn put_expiring(
        &mut self,
        namespace: Namespace<'_>,
        key: &[u8],
        value: VersionedValue,
        expires: Option<u64>,
    ) {
        self.change(namespace, key, Some(value), expires);
    }

    /// Deletes a key, whether it is there or not.
    pub fn delete(&mut self, namespace: Namespace<'_>, key: &[u8]) {
        self.change(namespace, key, None, None);
    }

    /// Adds what is recorded of the block beside the state, in tables of its own: with the same
    /// batch, so the savepoint of the state is theirs, too.
    pub(crate) fn record(&mut self, records: Batch) {
        self.records.append(records);
    }

    pub(super) const fn records(&self) -> &Batch {
        &self.records
    }

    fn change(
        &mut self,
        namespace: Namespace<'_>,
        key: &[u8],
        value: Option<VersionedValue>,
        expires: Option<u64>,
    ) {
        let change = Change {
            value,
            chaincode: namespace.chaincode.to_owned(),
            expires,
        };
        self.changes.insert(state_key(namespace, key), change);
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = (&Vec<u8>, &Change)> {
        self.changes.iter()
    }

    pub(super) fn touches(&self, key: &[u8]) -> bool {
        self.changes.contains_key(key)
    }
}

impl Change {
    pub(super) fn expires(&self, block: u64, key: &[u8]) -> Option<Expiring> {
        self.expires.map(|expires| Expiring {
            expires,
            written: block,
            key: key.to_vec(),
        })
    }
}
