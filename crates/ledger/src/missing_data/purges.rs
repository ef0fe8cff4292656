//! Which private keys were purged, and when.
//!
//! A valid transaction that purges a key wants its values gone from every peer, those of all transactions
//! before too. So a peer remembers the purge by the hash of the key (Fabric: `pvtdatastorage`, purge
//! markers): what it has of the key it removes ([`crate::private_data::PrivateDataStore::purge`]), and what
//! it gets later of transactions up to the purge it takes without the key
//! ([`crate::private_data::reconcile`]).
//!
//! The markers follow from the blocks and stay for ever. Those that are to be acted on have a row more, which
//! goes when that is done.

use bytes::{Buf, Bytes};

use super::{
    CollectionName, MissingData, MissingRows, NUMBER, PENDING_PURGE, PURGE, damaged, push_name,
    read_name, read_number,
};
use crate::state::StateError;
use crate::store::{Batch, Durability, Table};

/// A private key that was purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// The collection.
    pub name: CollectionName,
    /// SHA-256 of the key.
    pub key_hash: Bytes,
    /// The block of the transaction that purged it last.
    pub block: u64,
    /// The position of that transaction.
    pub transaction: u64,
}

impl Purge {
    /// Whether it covers what a transaction wrote.
    pub fn covers(&self, block: u64, transaction: u64) -> bool {
        (block, transaction) <= (self.block, self.transaction)
    }
}

fn marker_key(name: &CollectionName, key_hash: &[u8]) -> Vec<u8> {
    let mut key = vec![PURGE];
    push_name(&mut key, name);
    key.extend_from_slice(key_hash);
    key
}

impl MissingRows {
    /// A valid transaction of the block purges a private key; of two the later one is added last.
    pub fn purge(&mut self, transaction: u64, name: &CollectionName, key_hash: &[u8]) {
        let mut height = self.block.to_be_bytes().to_vec();
        height.extend(transaction.to_be_bytes());
        let marker = marker_key(name, key_hash);
        let mut pending = vec![PENDING_PURGE];
        pending.extend(self.block.to_be_bytes());
        pending.extend_from_slice(marker.get(1..).unwrap_or_default());
        self.batch.put(Table::MissingData, marker, height.clone());
        self.batch.put(Table::MissingData, pending, height);
    }
}

impl MissingData {
    /// The last purge of a private key.
    pub fn purge_of(
        &self,
        name: &CollectionName,
        key_hash: &[u8],
    ) -> Result<Option<Purge>, StateError> {
        let height = self
            .store
            .get(Table::MissingData, &marker_key(name, key_hash))?;
        let Some(mut height) = height else {
            return Ok(None);
        };
        Ok(Some(Purge {
            name: name.clone(),
            key_hash: Bytes::copy_from_slice(key_hash),
            block: read_number(&mut height)?,
            transaction: read_number(&mut height)?,
        }))
    }

    /// The purges that have not been acted on, the oldest blocks first: at most so many.
    pub fn pending_purges(&self, at_most: usize) -> Result<Vec<Purge>, StateError> {
        let from = [PENDING_PURGE];
        let rows = self
            .store
            .range(Table::MissingData, &from, Some(&[PENDING_PURGE + 1]));
        rows.take(at_most)
            .map(|row| {
                let (key, mut height) = row?;
                if key.len() < 1 + NUMBER {
                    return Err(damaged());
                }
                let mut rest = key.slice(1 + NUMBER..);
                let name = read_name(rest.clone())?;
                let names = name.chaincode.len() + name.collection.len() + 2;
                if rest.len() < names {
                    return Err(damaged());
                }
                rest.advance(names);
                Ok(Purge {
                    name,
                    key_hash: rest,
                    block: read_number(&mut height)?,
                    transaction: read_number(&mut height)?,
                })
            })
            .collect()
    }

    /// The purges have been acted on. That must be safe on disk.
    pub fn purges_done(&self, purges: &[Purge]) -> Result<(), StateError> {
        let mut batch = Batch::default();
        for purge in purges {
            let mut key = vec![PENDING_PURGE];
            key.extend(purge.block.to_be_bytes());
            push_name(&mut key, &purge.name);
            key.extend_from_slice(&purge.key_hash);
            batch.delete(Table::MissingData, key);
        }
        Ok(self.store.commit(batch, Durability::Process)?)
    }
}
