//! The place of private data in clear text.
//!
//! A [`PrivateDataStore`] holds the private write-sets of a channel by block, transaction, chaincode and
//! collection, as the bytes that were hashed into the transaction (Fabric: `pvtdatastorage`). It takes
//! none that does not have that hash. Unlike all else that lies beside the block files it cannot be made
//! anew from them, so it has a database of its own, outside of what a rebuild removes, and is written
//! safely to disk, before the block itself if the data comes with it.
//!
//! How the data comes, who may have it, and the private state itself are not here: see
//! [`crate::missing_data`] for what is asked of others.

use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use selvedge_protos::sha256;

use crate::missing_data::CollectionName;
use crate::store::{
    Batch, Durability, FjallStore, LongKeys, MemoryStore, Store, StoreError, Table,
};

/// The first byte of a key.
const DATA: u8 = 0;
/// Of a row that says with which block another expires.
const EXPIRY: u8 = 1;
const NUMBER: usize = 8;

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
    /// The hash in the transaction (`pvt_rwset_hash`).
    pub expected_hash: Bytes,
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
            let data = key.get(1 + NUMBER..).ok_or(PrivateDataError::Damaged)?;
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

fn check_hash(new: &NewPrivateWriteSet) -> Result<(), PrivateDataError> {
    let writes = &new.writes;
    let found = sha256(&writes.rwset);
    if new.expected_hash == found[..] {
        return Ok(());
    }
    Err(PrivateDataError::WrongHash {
        chaincode: writes.name.chaincode.clone(),
        collection: writes.name.collection.clone(),
        block: writes.block,
        transaction: writes.transaction,
        expected: hex::encode(&new.expected_hash),
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
mod tests {
    use super::*;

    fn new(
        block: u64,
        transaction: u64,
        collection: &str,
        data: &'static [u8],
    ) -> NewPrivateWriteSet {
        NewPrivateWriteSet {
            writes: PrivateWriteSet {
                block,
                transaction,
                name: CollectionName {
                    chaincode: "cc".into(),
                    collection: collection.into(),
                },
                rwset: Bytes::from_static(data),
            },
            expected_hash: Bytes::copy_from_slice(&sha256(data)),
            expires: None,
        }
    }

    #[test]
    fn data_is_found_by_block_and_by_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let all = [
            new(7, 0, "a", b"seven"),
            new(7, 300, "a", b""),
            new(7, 300, "b", b"b"),
            new(8, 1, "a", b"eight"),
            new(u64::MAX, 1, "a", b"last"),
        ];
        PrivateDataStore::open(folder.path())
            .unwrap()
            .store(&all)
            .unwrap();
        let store = PrivateDataStore::open(folder.path()).unwrap();
        let of_block = |block| -> Vec<_> { store.of_block(block).map(Result::unwrap).collect() };
        let seventh: Vec<_> = all[..3].iter().map(|new| new.writes.clone()).collect();
        assert_eq!(of_block(7), seventh);
        assert_eq!(of_block(u64::MAX), [all[4].writes.clone()]);
        assert!(of_block(6).is_empty());
        let name = &all[0].writes.name;
        assert_eq!(
            store.get(8, 1, name).unwrap().as_deref(),
            Some(&b"eight"[..])
        );
        assert_eq!(store.get(8, 2, name).unwrap(), None);
    }

    #[test]
    fn data_without_its_hash_is_not_stored_nor_what_comes_with_it() {
        let store = PrivateDataStore::in_memory();
        let mut forged = new(7, 1, "a", b"data");
        forged.writes.rwset = Bytes::from_static(b"date");
        let result = store.store(&[new(7, 0, "a", b"good"), forged]);
        let message = result.unwrap_err().to_string();
        assert!(
            message.contains("cc/a for transaction 1 of block 7"),
            "{message}"
        );
        let mut unhashed = new(7, 2, "a", b"");
        unhashed.expected_hash = Bytes::new();
        assert!(store.store(&[unhashed]).is_err());
        assert_eq!(store.of_block(7).count(), 0);
    }

    #[test]
    fn expired_data_is_removed() {
        let store = PrivateDataStore::in_memory();
        let expiring = |block, expires| NewPrivateWriteSet {
            expires: Some(expires),
            ..new(block, 0, "a", b"data")
        };
        store
            .store(&[
                expiring(1, 4),
                expiring(2, 5),
                expiring(3, u64::MAX),
                new(1, 1, "a", b"kept"),
            ])
            .unwrap();
        assert_eq!(store.expire(3).unwrap(), 0);
        assert_eq!(store.expire(4).unwrap(), 1);
        assert_eq!(
            (store.of_block(1).count(), store.of_block(2).count()),
            (1, 1)
        );
        assert_eq!(store.expire(4).unwrap(), 0);
        assert_eq!(store.expire(u64::MAX).unwrap(), 2);
        assert_eq!(store.of_block(3).count(), 0);
        assert_eq!(store.of_block(1).count(), 1);
    }
}
