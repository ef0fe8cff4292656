//! The place of private data in clear text.
//!
//! A [`PrivateDataStore`] holds the private write-sets of a channel by block, transaction, chaincode and
//! collection, as the bytes that were hashed into the transaction (Fabric: `pvtdatastorage`). It takes
//! none that does not have that hash. Unlike all else that lies beside the block files it cannot be made
//! anew from them, so it has a database of its own, outside of what a rebuild removes, and is written
//! safely to disk, before the block itself if the data comes with it.
//!
//! Data that comes later than its block goes through [`reconcile`]. A key that a transaction purges is taken
//! out of all that was written before ([`PrivateDataStore::purge`]), so for each key that is written there
//! is a row by its hash.
//!
//! How the data comes, who may have it, and the private state itself are not here: see
//! [`crate::missing_data`] for what is asked of others.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use selvedge_protos::Message;
use selvedge_protos::kvrwset::KvrwSet;
use selvedge_protos::sha256;

use crate::missing_data::{CollectionName, Purge};
use crate::store::{
    Batch, Durability, FjallStore, LongKeys, MemoryStore, Store, StoreError, Table,
};

mod reconcile;

use reconcile::of_writes;
pub use reconcile::{Expected, Unreconciled, reconcile};

/// The first byte of a key.
const DATA: u8 = 0;
/// Of a row that says with which block another expires.
const EXPIRY: u8 = 1;
/// Of a row that says by its hash where a key was written.
const KEY: u8 = 2;
const NUMBER: usize = 8;
const HASH: usize = 32;

/// The private writes of one transaction to one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateWriteSet {
    /// The block.
    pub block: u64,
    /// The position of the transaction in it.
    pub transaction: u64,
    /// The collection.
    pub name: CollectionName,
    /// The encoded `KVRWSet`.
    pub rwset: Bytes,
}

/// A private write-set that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrivateWriteSet {
    /// The writes.
    pub writes: PrivateWriteSet,
    /// The hash in the transaction (`pvt_rwset_hash`); `None` for what [`reconcile`] gave.
    pub expected_hash: Option<Bytes>,
    /// The block with which it expires, if ever.
    pub expires: Option<u64>,
}

/// Why private data was not stored or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateDataError {
    /// The database failed.
    #[error("private data: {0}")]
    Store(#[from] StoreError),
    /// The data is not what the transaction was made with.
    #[error(
        "private data of collection {chaincode}/{collection} for transaction {transaction} of block {block} \
         hashes to {found}, the transaction says {expected}"
    )]
    WrongHash {
        /// The chaincode.
        chaincode: String,
        /// The collection.
        collection: String,
        /// The block.
        block: u64,
        /// The position of the transaction.
        transaction: u64,
        /// The hash in the transaction, in hex.
        expected: String,
        /// SHA-256 of the data, in hex.
        found: String,
    },
    /// The data has the hash in the transaction and is no `KVRWSet`.
    #[error(
        "private data of collection {chaincode}/{collection} for transaction {transaction} of block {block} \
         does not parse: {source}"
    )]
    Malformed {
        /// The chaincode.
        chaincode: String,
        /// The collection.
        collection: String,
        /// The block.
        block: u64,
        /// The position of the transaction.
        transaction: u64,
        /// What is wrong.
        source: selvedge_protos::DecodeError,
    },
    /// An entry is not as it was written.
    #[error(
        "an entry of the private data is damaged; it can only be fetched from other peers again"
    )]
    Damaged,
}

/// The private data of one channel.
pub struct PrivateDataStore {
    store: Arc<dyn Store>,
}

impl PrivateDataStore {
    /// Opens the store in a folder, or makes an empty one. It can be open once.
    pub fn open(folder: &Path) -> Result<Self, PrivateDataError> {
        Ok(Self::on(Arc::new(FjallStore::open(folder)?)))
    }

    /// A store that is gone with its process.
    pub fn in_memory() -> Self {
        Self::on(Arc::new(MemoryStore::new()))
    }

    fn on(store: Arc<dyn Store>) -> Self {
        Self {
            store: Arc::new(LongKeys::new(store)),
        }
    }

    /// Stores write-sets, all or, if one does not have its hash, none. Returns when they are safe on disk.
    pub fn store(&self, new: &[NewPrivateWriteSet]) -> Result<(), PrivateDataError> {
        let mut batch = Batch::default();
        for new in new {
            check_hash(new)?;
            let writes = &new.writes;
            let key = data_key(writes.block, writes.transaction, &writes.name);
            for written in decode(writes)?.writes {
                let row = key_row(
                    &writes.name,
                    &written.key,
                    (writes.block, writes.transaction),
                );
                batch.put(Table::PrivateData, row, []);
            }
            if let Some(expires) = new.expires {
                batch.put(Table::PrivateData, expiry_key(expires, &key), []);
            }
            batch.put(Table::PrivateData, key, writes.rwset.clone());
        }
        if batch.is_empty() {
            return Ok(());
        }
        Ok(self.store.commit(batch, Durability::Disk)?)
    }

    /// The writes of one transaction to a collection.
    pub fn get(
        &self,
        block: u64,
        transaction: u64,
        name: &CollectionName,
    ) -> Result<Option<Bytes>, PrivateDataError> {
        let key = data_key(block, transaction, name);
        Ok(self.store.get(Table::PrivateData, &key)?)
    }

    /// All that there is of a block, in the order of transactions, chaincodes and collections. Whoever
    /// hands it out sees to it that it goes to members only.
    pub fn of_block(
        &self,
        block: u64,
    ) -> impl Iterator<Item = Result<PrivateWriteSet, PrivateDataError>> {
        let from = block_key(block);
        let end = block
            .checked_add(1)
            .map_or_else(|| vec![DATA + 1], block_key);
        let rows = self.store.range(Table::PrivateData, &from, Some(&end));
        rows.map(|row| {
            let (key, rwset) = row?;
            read_row(key, rwset)
        })
    }

    /// Takes keys that were purged out of what was written up to their purges. When this returns, they are
    /// gone for good, as far as the disk lets go of what is overwritten. Returns how many writes that were
    /// (Fabric: `deleteDataMarkedForPurge`).
    ///
    /// A write-set of which nothing is left stays, empty, so that it is not missing.
    pub fn purge(&self, purges: &[Purge]) -> Result<usize, PrivateDataError> {
        let mut batch = Batch::default();
        let mut changed: BTreeMap<Bytes, PrivateWriteSet> = BTreeMap::new();
        let mut count = 0;
        // No key hashes to anything of another length.
        for purge in purges.iter().filter(|purge| purge.key_hash.len() == HASH) {
            let prefix = key_prefix(&purge.name, &purge.key_hash);
            let mut end = key_height(&prefix, (purge.block, purge.transaction));
            end.push(0);
            for row in self.store.range(Table::PrivateData, &prefix, Some(&end)) {
                let (row, _) = row?;
                let mut height = row.slice(prefix.len()..);
                let damaged = |_| PrivateDataError::Damaged;
                let block = height.try_get_u64().map_err(damaged)?;
                let transaction = height.try_get_u64().map_err(damaged)?;
                let key = Bytes::from(data_key(block, transaction, &purge.name));
                batch.delete(Table::PrivateData, row);
                if !changed.contains_key(&key)
                    && let Some(rwset) = self.store.get(Table::PrivateData, &key)?
                {
                    changed.insert(key.clone(), read_row(key.clone(), rwset)?);
                }
                if let Some(writes) = changed.get_mut(&key) {
                    let mut left = decode(writes)?.writes;
                    left.retain(|write| sha256(write.key.as_bytes())[..] != purge.key_hash);
                    writes.rwset = of_writes(left);
                    count += 1;
                }
            }
        }
        for (key, writes) in changed {
            batch.put(Table::PrivateData, key, writes.rwset);
        }
        if !batch.is_empty() {
            self.store.commit(batch, Durability::Disk)?;
        }
        Ok(count)
    }

    /// Removes what expires with a block or did with an earlier one. Returns how many write-sets that were
    /// (Fabric does so every `ledger.pvtdataStore.purgeInterval` blocks).
    pub fn expire(&self, block: u64) -> Result<usize, PrivateDataError> {
        let end = block
            .checked_add(1)
            .map_or_else(|| vec![EXPIRY + 1], expiry_prefix);
        let mut batch = Batch::default();
        let mut count = 0;
        for due in self.store.range(Table::PrivateData, &[EXPIRY], Some(&end)) {
            let (key, _) = due?;
            let data = key.slice(key.len().min(1 + NUMBER)..);
            if let Some(rwset) = self.store.get(Table::PrivateData, &data)? {
                let writes = read_row(data.clone(), rwset)?;
                for written in decode(&writes)?.writes {
                    let height = (writes.block, writes.transaction);
                    let row = key_row(&writes.name, &written.key, height);
                    batch.delete(Table::PrivateData, row);
                }
            }
            batch.delete(Table::PrivateData, data);
            batch.delete(Table::PrivateData, key);
            count += 1;
        }
        if count > 0 {
            self.store.commit(batch, Durability::Process)?;
        }
        Ok(count)
    }
}

fn decode(writes: &PrivateWriteSet) -> Result<KvrwSet, PrivateDataError> {
    KvrwSet::decode(writes.rwset.clone()).map_err(|source| PrivateDataError::Malformed {
        chaincode: writes.name.chaincode.clone(),
        collection: writes.name.collection.clone(),
        block: writes.block,
        transaction: writes.transaction,
        source,
    })
}

fn check_hash(new: &NewPrivateWriteSet) -> Result<(), PrivateDataError> {
    let writes = &new.writes;
    let found = sha256(&writes.rwset);
    let Some(expected) = new
        .expected_hash
        .as_ref()
        .filter(|hash| *hash != &found[..])
    else {
        return Ok(());
    };
    Err(PrivateDataError::WrongHash {
        chaincode: writes.name.chaincode.clone(),
        collection: writes.name.collection.clone(),
        block: writes.block,
        transaction: writes.transaction,
        expected: hex::encode(expected),
        found: hex::encode(found),
    })
}

fn block_key(block: u64) -> Vec<u8> {
    let mut key = vec![DATA];
    key.extend(block.to_be_bytes());
    key
}

fn data_key(block: u64, transaction: u64, name: &CollectionName) -> Vec<u8> {
    let mut key = block_key(block);
    key.extend(transaction.to_be_bytes());
    key.extend_from_slice(name.chaincode.as_bytes());
    key.push(0);
    key.extend_from_slice(name.collection.as_bytes());
    key
}

/// Where the rows of a key begin.
fn key_prefix(name: &CollectionName, key_hash: &[u8]) -> Vec<u8> {
    let mut key = vec![KEY];
    key.extend_from_slice(name.chaincode.as_bytes());
    key.push(0);
    key.extend_from_slice(name.collection.as_bytes());
    key.push(0);
    key.extend_from_slice(key_hash);
    key
}

fn key_height(prefix: &[u8], (block, transaction): (u64, u64)) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend(block.to_be_bytes());
    key.extend(transaction.to_be_bytes());
    key
}

fn key_row(name: &CollectionName, key: &str, height: (u64, u64)) -> Vec<u8> {
    key_height(&key_prefix(name, &sha256(key.as_bytes())), height)
}

fn expiry_prefix(block: u64) -> Vec<u8> {
    let mut key = vec![EXPIRY];
    key.extend(block.to_be_bytes());
    key
}

fn expiry_key(expires: u64, data: &[u8]) -> Vec<u8> {
    let mut key = expiry_prefix(expires);
    key.extend_from_slice(data);
    key
}

fn read_row(mut key: Bytes, rwset: Bytes) -> Result<PrivateWriteSet, PrivateDataError> {
    let damaged = || PrivateDataError::Damaged;
    key.try_get_u8().map_err(|_| damaged())?;
    let block = key.try_get_u64().map_err(|_| damaged())?;
    let transaction = key.try_get_u64().map_err(|_| damaged())?;
    let name = std::str::from_utf8(&key).map_err(|_| damaged())?;
    let (chaincode, collection) = name.split_once('\0').ok_or_else(damaged)?;
    Ok(PrivateWriteSet {
        block,
        transaction,
        name: CollectionName {
            chaincode: chaincode.to_owned(),
            collection: collection.to_owned(),
        },
        rwset,
    })
}

impl std::fmt::Debug for PrivateDataStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PrivateDataStore")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
