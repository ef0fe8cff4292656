//! The private writes that a snapshot has by their hashes (Fabric: "boot KV hashes").
//!
//! A ledger that begins with a snapshot has no block that says which private data there was before. The
//! snapshot has hashes of the keys and values that are left of it, each with the transaction that wrote it.
//! They are kept here for as long as the data is missing: what other peers send of it is told by them to be
//! genuine, since the hash of the whole write-set is in a block that is not there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};

use super::{
    BOOT, CollectionName, HEIGHT_KEY, MissingData, MissingRows, MissingWrites, NUMBER, damaged,
    push_name, read_name, read_number,
};
use crate::state::StateError;
use crate::store::{Batch, Durability, Table};

/// Rows that are written together.
const BATCH_ROWS: usize = 8192;

/// What a peer's organisation has to do with a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Whether it is a member.
    pub is_eligible: bool,
    /// For how many blocks data is kept, if not for ever.
    pub block_to_live: Option<u64>,
}

/// Key hashes with the hashes of the values.
pub type KeyHashes = BTreeMap<Bytes, Bytes>;

/// A private write as a row.
struct BootHash {
    block: u64,
    transaction: u64,
    name: CollectionName,
    key_hash: Bytes,
    value_hash: Bytes,
}

impl BootHash {
    fn decode((key, value_hash): (Bytes, Bytes)) -> Result<Self, StateError> {
        let mut rest = key.slice(1..);
        let block = read_number(&mut rest)?;
        let transaction = read_number(&mut rest)?;
        let name = read_name(rest.clone())?;
        let names = name.chaincode.len() + name.collection.len() + 2;
        if rest.len() < names {
            return Err(damaged());
        }
        rest.advance(names);
        Ok(Self {
            block,
            transaction,
            name,
            key_hash: rest,
            value_hash,
        })
    }
}

/// Adds the row of a private key in a snapshot to a batch.
pub(crate) fn put_boot_hash(
    batch: &mut Batch,
    (block, transaction): (u64, u64),
    (chaincode, collection): (&str, &str),
    key_hash: &[u8],
    value_hash: &[u8],
) {
    let name = CollectionName {
        chaincode: chaincode.to_owned(),
        collection: collection.to_owned(),
    };
    let mut key = boot_prefix(block, transaction, &name);
    key.extend_from_slice(key_hash);
    batch.put(Table::MissingData, key, value_hash);
}

fn block_prefix(block: u64) -> Vec<u8> {
    let mut key = vec![BOOT];
    key.extend(block.to_be_bytes());
    key
}

fn boot_prefix(block: u64, transaction: u64, name: &CollectionName) -> Vec<u8> {
    let mut key = block_prefix(block);
    key.extend(transaction.to_be_bytes());
    push_name(&mut key, name);
    key
}

/// What comes after all keys with a prefix that ends with a zero byte.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(zero) = end.last_mut() {
        *zero = 1;
    }
    end
}

impl MissingData {
    /// The hashes of what a transaction wrote to a collection, as far as they came with the snapshot and the
    /// data has not come (Fabric: `FetchBootKVHashes`).
    pub fn boot_hashes(
        &self,
        block: u64,
        transaction: u64,
        name: &CollectionName,
    ) -> Result<KeyHashes, StateError> {
        let prefix = boot_prefix(block, transaction, name);
        let rows = self
            .store
            .range(Table::MissingData, &prefix, Some(&after(&prefix)));
        rows.map(|row| {
            let row = BootHash::decode(row?)?;
            Ok((row.key_hash, row.value_hash))
        })
        .collect()
    }

    /// Accounts for the private data that a snapshot has by its hashes, none of which is there. The accounts
    /// then go on with block `first`, the first one after the snapshot. `membership` says what the
    /// organisation has to do with a collection as of a block (Fabric: `SnapshotDataImporter`).
    ///
    /// May be called again after it was interrupted.
    pub fn account_for_snapshot<E: From<StateError>>(
        &self,
        first: u64,
        mut membership: impl FnMut(&CollectionName, u64) -> Result<Membership, E>,
    ) -> Result<(), E> {
        let failed = |error| E::from(StateError::Store(error));
        let mut batch = Batch::default();
        let mut of_block: (u64, BTreeMap<CollectionName, BTreeSet<u64>>) = Default::default();
        let rows = self
            .store
            .range(Table::MissingData, &[BOOT], Some(&[BOOT + 1]));
        for row in rows {
            let row = BootHash::decode(row.map_err(failed)?)?;
            if row.block != of_block.0 {
                add_block(&of_block, &mut membership, &mut batch)?;
                of_block = (row.block, BTreeMap::new());
                if batch.len() >= BATCH_ROWS {
                    let full = std::mem::take(&mut batch);
                    self.store
                        .commit(full, Durability::Process)
                        .map_err(failed)?;
                }
            }
            of_block
                .1
                .entry(row.name)
                .or_default()
                .insert(row.transaction);
        }
        add_block(&of_block, &mut membership, &mut batch)?;
        batch.put(Table::Meta, HEIGHT_KEY, first.to_be_bytes());
        self.store.commit(batch, Durability::Disk).map_err(failed)
    }

    /// Forgets the hashes of write-sets that have come.
    pub(super) fn remove_boot_hashes(
        &self,
        block: u64,
        name: &CollectionName,
        transactions: &BTreeSet<u64>,
        batch: &mut Batch,
    ) -> Result<(), StateError> {
        for transaction in transactions {
            let prefix = boot_prefix(block, *transaction, name);
            let end = after(&prefix);
            for row in self.store.range(Table::MissingData, &prefix, Some(&end)) {
                batch.delete(Table::MissingData, row?.0);
            }
        }
        Ok(())
    }

    /// Forgets the hashes of what has expired.
    pub(super) fn expire_boot_hashes(
        &self,
        block: u64,
        name: &CollectionName,
        batch: &mut Batch,
    ) -> Result<(), StateError> {
        let mut end = block_prefix(block);
        end.extend([0xff; NUMBER + 1]);
        let rows = self
            .store
            .range(Table::MissingData, &block_prefix(block), Some(&end));
        for row in rows {
            let row = row?;
            let key = row.0.clone();
            if BootHash::decode(row)?.name == *name {
                batch.delete(Table::MissingData, key);
            }
        }
        Ok(())
    }
}

fn add_block<E: From<StateError>>(
    (block, collections): &(u64, BTreeMap<CollectionName, BTreeSet<u64>>),
    membership: &mut impl FnMut(&CollectionName, u64) -> Result<Membership, E>,
    batch: &mut Batch,
) -> Result<(), E> {
    let mut rows = MissingRows::new(*block);
    for (name, transactions) in collections {
        let Membership {
            is_eligible,
            block_to_live,
        } = membership(name, *block)?;
        rows.add(MissingWrites {
            name: name.clone(),
            transactions: transactions.clone(),
            expires: block_to_live.and_then(|blocks| block.checked_add(blocks)?.checked_add(1)),
            is_eligible,
        });
    }
    batch.append(rows.batch);
    Ok(())
}
