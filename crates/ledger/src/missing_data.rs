//! Which private data is not there.
//!
//! The transactions in blocks hold hashes of private data only. The data itself comes from other peers,
//! and a block is committed even if it does not come. So for each write-set that lacks there is an entry
//! here: block, transaction, chaincode and collection (Fabric: `pvtdatastorage`). It says whether the peer's
//! organisation is a member of the collection:
//!
//! - **eligible** entries are fetched later, the newest blocks first. What could not be had is put back
//!   ([`Priority::Low`]) and asked for less often.
//! - **ineligible** ones become eligible when an upgrade of the chaincode makes the organisation a
//!   member. Since they may be many, this is done in steps ([`MissingData::convert`]).
//!
//! Entries go when their data has come ([`MissingData::settle`]) or has expired.
//!
//! Beside them is what else a peer must remember to tell genuine private data from other, and to have none
//! that it must not have: the hashes that came with a snapshot ([`MissingData::boot_hashes`]) and which keys
//! were purged ([`MissingData::purge_of`]).
//!
//! All of it lies in the database of the state, is written with the batch of its block, and follows from the
//! blocks, the snapshot, and what private data there is, so it can be made anew; see [`MissingData::height`].
//!
//! # Differences from Fabric
//!
//! - Fabric keeps these accounts with the private data, in a database that a rebuild leaves alone.
//! - Fabric's list of old blocks whose data came last (`lastUpdatedOldBlocks`) is there to take over databases
//!   of Fabric 1.4.2; since then no peer writes it. There is none here.

mod boot_hashes;
mod purges;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::block_format::{push_varint, read_varint};
use crate::state::{StateDatabase, StateError, StateUpdates};
use crate::store::{Batch, Durability, Store, Table};
pub(crate) use boot_hashes::put_boot_hash;
pub use boot_hashes::{KeyHashes, Membership};
pub use purges::Purge;

/// In [`Table::Meta`]: how many blocks are accounted for. Another name than before purges were: so that an
/// older database is gone through again.
const HEIGHT_KEY: &[u8] = b"private data";
const NUMBER: usize = 8;

/// The first byte of a key.
const HIGH: u8 = 0;
const LOW: u8 = 1;
const INELIGIBLE: u8 = 2;
/// Of a row that says with which block others expire.
const EXPIRY: u8 = 3;
/// Of a row that says of which collection ineligible rows are to become eligible.
const CONVERSION: u8 = 4;
/// Of a private write that came with a snapshot.
const BOOT: u8 = 5;
/// Of a private key that was purged.
const PURGE: u8 = 6;
/// Of a purge that is to be acted on.
const PENDING_PURGE: u8 = 7;

/// A private data collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName {
    /// The chaincode.
    pub chaincode: String,
    /// The collection.
    pub collection: String,
}

/// Private write-sets of one block and collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingWrites {
    /// The collection.
    pub name: CollectionName,
    /// The positions of the transactions.
    pub transactions: BTreeSet<u64>,
    /// The block with which the data expires, if ever.
    pub expires: Option<u64>,
    /// Whether the peer's organisation is a member of the collection.
    pub is_eligible: bool,
}

/// How often eligible data is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// As a rule.
    High,
    /// From time to time, since nobody had it.
    Low,
}

/// What lacks of some blocks: by block and collection the positions of the transactions.
pub type MissingInBlocks = BTreeMap<u64, BTreeMap<CollectionName, BTreeSet<u64>>>;

/// What private data of one channel is not there. Cheap to clone.
///
/// [`Self::settle`] and [`Self::convert`] read entries and write them again, so they are called by one
/// task. They run beside the commit of blocks: what a block makes expire meanwhile may be written once
/// more, but is never shown.
#[derive(Clone)]
pub struct MissingData {
    store: Arc<dyn Store>,
}

/// A collection in a block, and what lacks of it.
struct Row {
    group: u8,
    block: u64,
    name: CollectionName,
    expires: Option<u64>,
    transactions: BTreeSet<u64>,
}

impl MissingData {
    /// How many blocks are accounted for.
    pub fn height(&self) -> Result<u64, StateError> {
        let height = self.store.get(Table::Meta, HEIGHT_KEY)?;
        let height = height.map(|bytes| <[u8; NUMBER]>::try_from(&bytes[..]));
        let height = height.transpose().map_err(|_| damaged())?;
        Ok(height.map_or(0, u64::from_be_bytes))
    }

    /// What eligible data lacks of the newest blocks before `below` that lack any: of so many blocks at
    /// most (Fabric: `GetMissingPvtDataInfoForMostRecentBlocks`). What has expired is left out.
    pub fn most_recent(
        &self,
        priority: Priority,
        below: u64,
        blocks: usize,
    ) -> Result<MissingInBlocks, StateError> {
        let mut found = MissingInBlocks::new();
        let Some(newest) = below.checked_sub(1).filter(|_| blocks > 0) else {
            return Ok(found);
        };
        let height = self.height()?;
        let group = priority.group();
        let from = eligible_prefix(group, newest);
        for row in self
            .store
            .range(Table::MissingData, &from, Some(&[group + 1]))
        {
            let row = Row::decode(row?)?;
            if row.expires.is_some_and(|expires| expires < height) {
                continue;
            }
            if !found.contains_key(&row.block) && found.len() == blocks {
                break;
            }
            let block = found.entry(row.block).or_default();
            block.insert(row.name, row.transactions);
        }
        Ok(found)
    }

    /// Whether the write-set of a transaction is missing, and if the peer is eligible for it.
    pub fn is_missing(
        &self,
        block: u64,
        transaction: u64,
        name: &CollectionName,
    ) -> Result<Option<bool>, StateError> {
        for group in [HIGH, LOW, INELIGIBLE] {
            let row = self.row(group, block, name)?;
            if row.is_some_and(|row| row.transactions.contains(&transaction)) {
                return Ok(Some(group != INELIGIBLE));
            }
        }
        Ok(None)
    }

    /// Takes out what has come by now, and puts back what could not be had (Fabric:
    /// `CommitPvtDataOfOldBlocks`). What came must be stored safely before.
    pub fn settle(
        &self,
        come: &MissingInBlocks,
        not_had: &MissingInBlocks,
    ) -> Result<(), StateError> {
        let mut rows = BTreeMap::new();
        for (block, name, transactions) in collections(come) {
            for group in [HIGH, LOW, INELIGIBLE] {
                if let Some(row) = self.changed_row(&mut rows, group, block, name)? {
                    row.transactions
                        .retain(|lacks| !transactions.contains(lacks));
                }
            }
        }
        for (block, name, transactions) in collections(not_had) {
            let Some(row) = self.changed_row(&mut rows, HIGH, block, name)? else {
                continue;
            };
            let (put_back, rest) = std::mem::take(&mut row.transactions)
                .into_iter()
                .partition(|lacks| transactions.contains(lacks));
            let expires = row.expires;
            row.transactions = rest;
            let put_back: BTreeSet<u64> = put_back;
            let low = match self.changed_row(&mut rows, LOW, block, name)? {
                Some(low) => low,
                None => rows.entry(row_key(LOW, block, name)).or_insert(Row {
                    group: LOW,
                    block,
                    name: name.clone(),
                    expires,
                    transactions: BTreeSet::new(),
                }),
            };
            low.transactions.extend(put_back);
        }
        let mut batch = Batch::default();
        for row in rows.into_values() {
            row.write(&mut batch);
        }
        for (block, name, transactions) in collections(come) {
            self.remove_boot_hashes(block, name, transactions, &mut batch)?;
        }
        Ok(self.store.commit(batch, Durability::Process)?)
    }

    /// Makes ineligible entries eligible where the organisation has become a member: at most so many in
    /// one step. Says whether more are left.
    pub fn convert(&self, at_most: usize) -> Result<bool, StateError> {
        let mut batch = Batch::default();
        let mut left = at_most;
        let pending = self
            .store
            .range(Table::MissingData, &[CONVERSION], Some(&[CONVERSION + 1]));
        for pending in pending {
            let (key, _) = pending?;
            let mut rest = key.slice(1..);
            let below = read_number(&mut rest)?;
            let name = read_name(rest)?;
            let Some(newest) = below.checked_sub(1) else {
                continue;
            };
            let (from, end) = ineligible_range(newest, &name);
            for row in self.store.range(Table::MissingData, &from, Some(&end)) {
                let row = Row::decode(row?)?;
                if left == 0 {
                    self.store.commit(batch, Durability::Process)?;
                    return Ok(true);
                }
                left -= 1;
                batch.delete(Table::MissingData, row.key());
                Row { group: HIGH, ..row }.write(&mut batch);
            }
            batch.delete(Table::MissingData, key);
        }
        self.store.commit(batch, Durability::Process)?;
        Ok(false)
    }

    /// Adds what lacks of a block that is in the state already.
    pub fn add(&self, rows: MissingRows) -> Result<(), StateError> {
        let (height, block) = (self.height()?, rows.block);
        if block != height {
            return Err(StateError::UnexpectedBlock {
                savepoint: height.checked_sub(1),
                found: block,
            });
        }
        let batch = self.with_expired(rows)?;
        Ok(self.store.commit(batch, Durability::Process)?)
    }

    /// What the block adds, and what expires with it.
    fn with_expired(&self, rows: MissingRows) -> Result<Batch, StateError> {
        let block = rows.block;
        let mut batch = rows.batch;
        let from = expiry_prefix(block);
        let end = expiry_prefix(block.saturating_add(1));
        for due in self.store.range(Table::MissingData, &from, Some(&end)) {
            let (key, _) = due?;
            let mut rest = key.slice(1 + NUMBER..);
            batch.delete(Table::MissingData, key);
            let written = read_number(&mut rest)?;
            let name = read_name(rest)?;
            for group in [HIGH, LOW, INELIGIBLE] {
                batch.delete(Table::MissingData, row_key(group, written, &name));
            }
            self.expire_boot_hashes(written, &name, &mut batch)?;
        }
        let height = block.saturating_add(1);
        batch.put(Table::Meta, HEIGHT_KEY, height.to_be_bytes());
        Ok(batch)
    }

    fn row(&self, group: u8, block: u64, name: &CollectionName) -> Result<Option<Row>, StateError> {
        let key = row_key(group, block, name);
        let value = self.store.get(Table::MissingData, &key)?;
        value
            .map(|value| Row::decode((key.into(), value)))
            .transpose()
    }

    /// A row among those that are being changed; read if it is not there yet.
    fn changed_row<'a>(
        &self,
        rows: &'a mut BTreeMap<Vec<u8>, Row>,
        group: u8,
        block: u64,
        name: &CollectionName,
    ) -> Result<Option<&'a mut Row>, StateError> {
        let key = row_key(group, block, name);
        if !rows.contains_key(&key)
            && let Some(row) = self.row(group, block, name)?
        {
            rows.insert(key.clone(), row);
        }
        Ok(rows.get_mut(&key))
    }
}

fn collections(
    missing: &MissingInBlocks,
) -> impl Iterator<Item = (u64, &CollectionName, &BTreeSet<u64>)> {
    missing.iter().flat_map(|(block, collections)| {
        let collections = collections.iter();
        collections.map(|(name, transactions)| (*block, name, transactions))
    })
}

/// What lacks of one block.
#[derive(Debug)]
pub struct MissingRows {
    block: u64,
    batch: Batch,
}

impl MissingRows {
    /// Of a block that lacks nothing.
    pub fn new(block: u64) -> Self {
        Self {
            block,
            batch: Batch::default(),
        }
    }

    /// Adds what lacks of a collection. Each collection is added once.
    pub fn add(&mut self, missing: MissingWrites) {
        let MissingWrites {
            name,
            transactions,
            expires,
            is_eligible,
        } = missing;
        if let Some(expires) = expires {
            let mut key = expiry_prefix(expires);
            key.extend(self.block.to_be_bytes());
            push_name(&mut key, &name);
            self.batch.put(Table::MissingData, key, []);
        }
        let row = Row {
            group: if is_eligible { HIGH } else { INELIGIBLE },
            block: self.block,
            name,
            expires,
            transactions,
        };
        row.write(&mut self.batch);
    }

    /// The block makes the organisation a member of a collection: what lacks of blocks before becomes
    /// eligible, when [`MissingData::convert`] is called.
    pub fn make_eligible(&mut self, name: &CollectionName) {
        let mut key = vec![CONVERSION];
        key.extend(self.block.to_be_bytes());
        push_name(&mut key, name);
        self.batch.put(Table::MissingData, key, []);
    }
}

impl StateDatabase {
    /// What private data of the channel is not there.
    pub fn missing_data(&self) -> MissingData {
        MissingData {
            store: Arc::clone(self.store()),
        }
    }
}

impl StateUpdates {
    /// Records what lacks of the block, and forgets what expires with it.
    pub fn add_missing_data(
        &mut self,
        rows: MissingRows,
        missing: &MissingData,
    ) -> Result<(), StateError> {
        let batch = missing.with_expired(rows)?;
        self.record(batch);
        Ok(())
    }
}

impl Priority {
    const fn group(self) -> u8 {
        match self {
            Self::High => HIGH,
            Self::Low => LOW,
        }
    }
}

impl Row {
    fn key(&self) -> Vec<u8> {
        row_key(self.group, self.block, &self.name)
    }

    /// A row of which nothing lacks any more is removed.
    fn write(&self, batch: &mut Batch) {
        if self.transactions.is_empty() {
            batch.delete(Table::MissingData, self.key());
            return;
        }
        let mut value = Vec::with_capacity(2 + self.transactions.len() * 2);
        push_varint(self.expires.unwrap_or(0), &mut value);
        for transaction in &self.transactions {
            push_varint(*transaction, &mut value);
        }
        batch.put(Table::MissingData, self.key(), value);
    }

    fn decode((key, mut value): (Bytes, Bytes)) -> Result<Self, StateError> {
        let mut rest = key;
        let group = rest.try_get_u8().map_err(|_| damaged())?;
        let (block, name) = if group == INELIGIBLE {
            let number = rest.len().checked_sub(NUMBER).ok_or_else(damaged)?;
            let mut number = rest.split_off(number);
            (u64::MAX - read_number(&mut number)?, read_name(rest)?)
        } else {
            (u64::MAX - read_number(&mut rest)?, read_name(rest)?)
        };
        let expires = read_varint(&mut value).map_err(|_| damaged())?;
        let mut transactions = BTreeSet::new();
        while !value.is_empty() {
            transactions.insert(read_varint(&mut value).map_err(|_| damaged())?);
        }
        Ok(Self {
            group,
            block,
            name,
            expires: (expires > 0).then_some(expires),
            transactions,
        })
    }
}

/// Eligible rows lie by block, the newest first; ineligible ones by collection.
fn row_key(group: u8, block: u64, name: &CollectionName) -> Vec<u8> {
    if group == INELIGIBLE {
        return ineligible_range(block, name).0;
    }
    let mut key = eligible_prefix(group, block);
    push_name(&mut key, name);
    key
}

fn eligible_prefix(group: u8, block: u64) -> Vec<u8> {
    let mut key = vec![group];
    key.extend((u64::MAX - block).to_be_bytes());
    key
}

/// From the row of a block to the end of the collection's, which are of the blocks before.
fn ineligible_range(newest: u64, name: &CollectionName) -> (Vec<u8>, Vec<u8>) {
    let mut prefix = vec![INELIGIBLE];
    push_name(&mut prefix, name);
    let mut end = prefix.clone();
    end.extend([0xff; NUMBER + 1]);
    prefix.extend((u64::MAX - newest).to_be_bytes());
    (prefix, end)
}

fn expiry_prefix(block: u64) -> Vec<u8> {
    let mut key = vec![EXPIRY];
    key.extend(block.to_be_bytes());
    key
}

/// Neither name has a zero byte.
fn push_name(key: &mut Vec<u8>, name: &CollectionName) {
    key.extend_from_slice(name.chaincode.as_bytes());
    key.push(0);
    key.extend_from_slice(name.collection.as_bytes());
    key.push(0);
}

fn read_name(bytes: Bytes) -> Result<CollectionName, StateError> {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut part = || {
        let part = std::str::from_utf8(parts.next()?).ok()?;
        Some(part.to_owned())
    };
    let (Some(chaincode), Some(collection)) = (part(), part()) else {
        return Err(damaged());
    };
    Ok(CollectionName {
        chaincode,
        collection,
    })
}

fn read_number(bytes: &mut Bytes) -> Result<u64, StateError> {
    bytes.try_get_u64().map_err(|_| damaged())
}

fn damaged() -> StateError {
    StateError::Damaged("missing private data")
}

impl std::fmt::Debug for MissingData {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MissingData")
            .field("height", &self.height().ok())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
