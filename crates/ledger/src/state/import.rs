//! Filling a state from elsewhere than blocks.

use std::collections::BTreeSet;

use super::entry::{Expiring, encode_value, split_namespace, stored_key};
use super::{METADATA_PREFIX, SAVEPOINT_KEY, StateDatabase, StateError, VersionedValue};
use crate::missing_data::put_boot_hash;
use crate::store::{Batch, Durability, Table};

/// What is written at once.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_CHANGES: usize = 8192;

/// Writes keys into an empty state. Until [`Self::finish`] it has no savepoint. That keys have metadata the
/// state knows when it is opened anew.
pub(crate) struct StateImport<'a> {
    state: &'a StateDatabase,
    batch: Batch,
    bytes: usize,
    with_metadata: BTreeSet<String>,
}

impl<'a> StateImport<'a> {
    /// `state` is empty.
    pub(crate) fn new(state: &'a StateDatabase) -> Self {
        Self {
            state,
            batch: Batch::default(),
            bytes: 0,
            with_metadata: BTreeSet::new(),
        }
    }

    /// The state that is being filled.
    pub(crate) const fn state(&self) -> &StateDatabase {
        self.state
    }

    /// Adds a key of a namespace as it is stored; of a private one also to the accounts. It is deleted with block `expires`, unless it is written
    /// before.
    pub(crate) fn put(
        &mut self,
        namespace: &str,
        key: &[u8],
        value: &VersionedValue,
        expires: Option<u64>,
    ) -> Result<(), StateError> {
        let hashed_key = key;
        let key = stored_key(namespace, key);
        if !value.metadata.is_empty() {
            let chaincode = split_namespace(namespace).0;
            if !self.with_metadata.contains(chaincode) {
                self.with_metadata.insert(chaincode.to_owned());
            }
        }
        if let Some(expires) = expires {
            let expiring = Expiring {
                expires,
                written: value.version.block_num,
                key: key.clone(),
            };
            self.batch.put(Table::Expiry, expiring.encode(), []);
        }
        if let (chaincode, Some(collection)) = split_namespace(namespace) {
            let written = (value.version.block_num, value.version.tx_num);
            let name = (chaincode, collection);
            put_boot_hash(&mut self.batch, written, name, hashed_key, &value.value);
        }
        let value = encode_value(value);
        self.bytes += key.len() + value.len();
        self.batch.put(Table::State, key, value);
        if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_CHANGES {
            self.flush(Durability::Process)?;
        }
        Ok(())
    }

    /// The state is that after block `last`. When this returns, it survives a power cut.
    pub(crate) fn finish(mut self, last: u64) -> Result<(), StateError> {
        for name in std::mem::take(&mut self.with_metadata) {
            let key = [METADATA_PREFIX, name.as_bytes()].concat();
            self.batch.put(Table::Meta, key, []);
        }
        self.batch
            .put(Table::Meta, SAVEPOINT_KEY, last.to_be_bytes());
        self.flush(Durability::Disk)
    }

    fn flush(&mut self, durability: Durability) -> Result<(), StateError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        Ok(self.state.store().commit(batch, durability)?)
    }
}
