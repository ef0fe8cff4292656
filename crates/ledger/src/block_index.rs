//! Where blocks and transactions lie, by number, hash and transaction id.
//!
//! The index holds nothing that the block files do not, so it may be behind them, or lost: it is
//! brought level, or made anew, when a ledger is opened. The savepoint is the last block in it and
//! changes in the same batch as the entries of that block.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_protos::protos::TxValidationCode;
use selvedge_protos::{block::metadata_slot, sha256};

use crate::block_format::{EnvelopeSpan, FormatError, push_varint, read_varint};
use crate::store::{Batch, Durability, Store, StoreError, Table};
use crate::transaction_id::transaction_id;

const FORMAT_KEY: &[u8] = b"format";
const SAVEPOINT_KEY: &[u8] = b"savepoint";
/// Changes whenever the entries do; an index of another format is made anew.
const FORMAT: &[u8] = b"selvedge block index 1";

/// Longer transaction ids are told apart by their hash. Those that validation accepts have 64 bytes.
const MAX_ID_IN_KEY: usize = 1024;

/// The record of a block: length prefix and block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub file: u32,
    pub offset: u64,
    pub length: u64,
}

/// What the index knows of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub place: Place,
    pub header_hash: [u8; 32],
    pub spans: Vec<EnvelopeSpan>,
}

/// What the index knows of a transaction id: its first occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TransactionEntry {
    pub block: u64,
    pub index: u64,
    pub code: u8,
}

/// An id of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IndexedId {
    /// The id.
    Text(String),
    /// It is in the block.
    At(TransactionEntry),
}

impl TransactionEntry {
    /// Of a transaction of which only the id is known, from a snapshot. No block has this number.
    const IN_SNAPSHOT: Self = Self {
        block: u64::MAX,
        index: 0,
        code: TxValidationCode::NotValidated as u8,
    };

    /// Whether only the id is known, from a snapshot.
    pub(crate) const fn is_in_snapshot(&self) -> bool {
        self.block == u64::MAX
    }

    /// Whether an earlier block may have a transaction of the same id. None has if this one is valid:
    /// validation calls a later one DUPLICATE_TXID.
    pub(crate) const fn may_be_repeated(&self) -> bool {
        self.code != TxValidationCode::Valid as u8
    }
}

/// Why the index did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an entry of table {0} does not parse or points nowhere")]
    Entry(&'static str),
}

/// The index of one channel's blocks.
pub(crate) struct BlockIndex {
    store: Arc<dyn Store>,
}

/// All that the index takes of one block.
#[derive(Debug)]
pub(crate) struct BlockEntries {
    pub number: u64,
    pub block: BlockEntry,
    /// In the order of the block, with the keys of their ids.
    pub transactions: Vec<(Arc<[u8]>, TransactionEntry)>,
}

impl BlockEntries {
    pub(crate) fn new(number: u64, block: &Block, entry: BlockEntry) -> Self {
        let codes = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
        let envelopes = block.data.as_ref().map_or(&[][..], |data| &data.data);
        let mut key = Vec::new();
        let transactions = envelopes.iter().enumerate().map(|(index, envelope)| {
            push_id_key(&transaction_id(envelope), &mut key);
            let entry = TransactionEntry {
                block: number,
                index: index as u64,
                code: code_at(&codes, index),
            };
            (Arc::from(&key[..]), entry)
        });
        Self {
            number,
            transactions: transactions.collect(),
            block: entry,
        }
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.transactions.len() + 2
    }
}

impl BlockIndex {
    /// An index that is damaged or of another format is emptied.
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Self, IndexError> {
        let index = Self { store };
        match index.store.get(Table::Meta, FORMAT_KEY) {
            Ok(Some(format)) if format == FORMAT => {}
            Ok(_) | Err(StoreError::Damaged(_)) => index.clear()?,
            Err(error) => return Err(error.into()),
        }
        Ok(index)
    }

    /// An index to look at; `None` if it has another format.
    pub(crate) fn look(store: Arc<dyn Store>) -> Result<Option<Self>, IndexError> {
        let format = store.get(Table::Meta, FORMAT_KEY)?;
        let is_ours = format.is_some_and(|format| format == FORMAT);
        Ok(is_ours.then_some(Self { store }))
    }

    /// Removes every entry, if there are any: an empty store is not made to note a removal.
    pub(crate) fn clear(&self) -> Result<(), IndexError> {
        let is_empty = |table: &Table| self.store.range(*table, &[], None).next().is_none();
        if !Table::ALL.iter().all(is_empty) {
            self.store.clear()?;
        }
        let mut batch = Batch::default();
        batch.put(Table::Meta, FORMAT_KEY, FORMAT);
        Ok(self.store.commit(batch, Durability::Process)?)
    }

    /// Lets the next opening empty the index, since damage was found in it.
    pub(crate) fn condemn(&self) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        batch.delete(Table::Meta, FORMAT_KEY);
        Ok(self.store.commit(batch, Durability::Disk)?)
    }

    /// The last block in the index.
    pub(crate) fn savepoint(&self) -> Result<Option<u64>, IndexError> {
        let value = self.store.get(Table::Meta, SAVEPOINT_KEY)?;
        value
            .map(|value| number_from(&value, Table::Meta))
            .transpose()
    }

    pub(crate) fn block(&self, number: u64) -> Result<Option<BlockEntry>, IndexError> {
        let value = self.store.get(Table::Blocks, &number.to_be_bytes())?;
        let entry = value.map(|value| decode_block(value).map_err(|_| damaged(Table::Blocks)));
        entry.transpose()
    }

    pub(crate) fn number_by_hash(&self, header_hash: &[u8]) -> Result<Option<u64>, IndexError> {
        if header_hash.len() != 32 {
            return Ok(None);
        }
        let value = self.store.get(Table::Hashes, header_hash)?;
        value
            .map(|value| number_from(&value, Table::Hashes))
            .transpose()
    }

    /// The first transaction with the id of this key.
    pub(crate) fn transaction(&self, key: &[u8]) -> Result<Option<TransactionEntry>, IndexError> {
        let value = self.store.get(Table::Transactions, key)?;
        let entry =
            value.map(|value| decode_transaction(&value).map_err(|_| damaged(Table::Transactions)));
        entry.transpose()
    }

    /// The ids of the transactions in the blocks up to `last`, by length, then by bytes. Of those longer
    /// than [`MAX_ID_IN_KEY`] that are in blocks only the place is told.
    pub(crate) fn transaction_ids(
        &self,
        last: u64,
    ) -> impl Iterator<Item = Result<IndexedId, IndexError>> {
        let entries = self.store.range(Table::Transactions, &[], None);
        let ids = entries.map(move |entry| {
            let (key, value) = entry?;
            let damaged = || damaged(Table::Transactions);
            let entry = decode_transaction(&value).map_err(|_| damaged())?;
            if entry.block > last && !entry.is_in_snapshot() {
                return Ok(None);
            }
            let id = match id_in_key(&key) {
                Some(id) => id,
                None if entry.is_in_snapshot() => &value,
                None => return Ok(Some(IndexedId::At(entry))),
            };
            let id = std::str::from_utf8(id).map_err(|_| damaged())?;
            Ok(Some(IndexedId::Text(id.to_owned())))
        });
        ids.filter_map(Result::transpose)
    }

    /// Fills an empty index with the ids of the transactions of a snapshot, of which nothing else is known,
    /// and lets it go on after block `last`. When this returns, it survives a power cut.
    pub(crate) fn import<E: From<IndexError>>(
        &self,
        ids: impl Iterator<Item = Result<String, E>>,
        last: u64,
    ) -> Result<(), E> {
        const IDS_PER_COMMIT: usize = 4096;
        let write = |batch, durability| {
            let written = self.store.commit(batch, durability);
            written.map_err(IndexError::from)
        };
        let mut batch = Batch::default();
        for id in ids {
            let id = id?;
            let key = id_key(&id);
            let value = if id.len() > MAX_ID_IN_KEY {
                id
            } else {
                String::new()
            };
            batch.put(Table::Transactions, key, value);
            if batch.len() >= IDS_PER_COMMIT {
                write(std::mem::take(&mut batch), Durability::Process)?;
            }
        }
        batch.put(Table::Meta, SAVEPOINT_KEY, last.to_be_bytes());
        Ok(write(batch, Durability::Disk)?)
    }

    /// Makes blocks part of the index, which follow each other and its savepoint. Not forced to disk,
    /// since the block files are.
    pub(crate) fn commit(&self, blocks: &[Arc<BlockEntries>]) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        let transactions = blocks.iter().flat_map(|block| &block.transactions);
        let mut transactions: Vec<_> = transactions
            .map(|(key, entry)| (&key[..], *entry))
            .collect();
        // The first of an id comes first; and the store takes sorted keys faster.
        transactions.sort_unstable();
        transactions.dedup_by_key(|(key, _)| *key);
        for (key, entry) in transactions {
            if entry.may_be_repeated() && self.store.get(Table::Transactions, key)?.is_some() {
                continue;
            }
            batch.put(Table::Transactions, key, encode_transaction(entry));
        }
        for block in blocks {
            let number = block.number.to_be_bytes();
            batch.put(Table::Hashes, block.block.header_hash, number);
            batch.put(Table::Blocks, number, encode_block(&block.block));
        }
        if let Some(last) = blocks.last() {
            batch.put(Table::Meta, SAVEPOINT_KEY, last.number.to_be_bytes());
        }
        Ok(self.store.commit(batch, Durability::Process)?)
    }
}

/// The verdict on a transaction in a block's TRANSACTIONS_FILTER.
fn code_at(codes: &[u8], index: usize) -> u8 {
    codes
        .get(index)
        .copied()
        .unwrap_or(TxValidationCode::NotValidated as u8)
}

/// The key of an id. Keys order ids by length, then by bytes, as Fabric's index does, so that its
/// snapshots can be written by going through them.
pub(crate) fn id_key(id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.len().min(MAX_ID_IN_KEY) + 48);
    push_id_key(id, &mut key);
    key
}

/// Puts the key of an id in the place of what `key` holds.
fn push_id_key(id: &str, key: &mut Vec<u8>) {
    let length = (id.len() as u64).to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let digits = length.get(zeros..).unwrap_or_default();
    key.clear();
    key.push(digits.len() as u8);
    key.extend_from_slice(digits);
    match id.as_bytes().get(..MAX_ID_IN_KEY) {
        Some(beginning) if id.len() > MAX_ID_IN_KEY => {
            key.extend_from_slice(beginning);
            key.extend_from_slice(&sha256(id.as_bytes()));
        }
        _ => key.extend_from_slice(id.as_bytes()),
    }
}

/// The id that a key was made of; `None` if it does not hold the whole id.
fn id_in_key(key: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = key.split_first()?;
    let (digits, id) = rest.split_at_checked(usize::from(*digits))?;
    let length = digits
        .iter()
        .fold(0_u64, |length, digit| length << 8 | u64::from(*digit));
    (length == id.len() as u64).then_some(id)
}

/// Envelopes follow one another, so the place of the first and their lengths say it all.
fn encode_block(entry: &BlockEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 3 * entry.spans.len());
    push_varint(u64::from(entry.place.file), &mut out);
    push_varint(entry.place.offset, &mut out);
    push_varint(entry.place.length, &mut out);
    out.extend_from_slice(&entry.header_hash);
    push_varint(entry.spans.first().map_or(0, |span| span.offset), &mut out);
    for span in &entry.spans {
        push_varint(span.length, &mut out);
    }
    out
}

fn decode_block(mut value: Bytes) -> Result<BlockEntry, FormatError> {
    let file = u32::try_from(read_varint(&mut value)?).map_err(|_| FormatError::Varint)?;
    let offset = read_varint(&mut value)?;
    let length = read_varint(&mut value)?;
    let mut header_hash = [0; 32];
    value
        .try_copy_to_slice(&mut header_hash)
        .map_err(|_| FormatError::Varint)?;
    let mut offset_in_record = read_varint(&mut value)?;
    let mut spans = Vec::new();
    while !value.is_empty() {
        let span = EnvelopeSpan {
            offset: offset_in_record,
            length: read_varint(&mut value)?,
        };
        offset_in_record = offset_in_record
            .checked_add(span.length)
            .ok_or(FormatError::Varint)?;
        spans.push(span);
    }
    Ok(BlockEntry {
        place: Place {
            file,
            offset,
            length,
        },
        header_hash,
        spans,
    })
}

fn encode_transaction(entry: TransactionEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    out.push(entry.code);
    push_varint(entry.block, &mut out);
    push_varint(entry.index, &mut out);
    out
}

/// Ids of a snapshot have no value, or, if they do not fit into their key, themselves, which is longer than
/// any entry.
fn decode_transaction(mut value: &[u8]) -> Result<TransactionEntry, FormatError> {
    if value.is_empty() || value.len() > MAX_ID_IN_KEY {
        return Ok(TransactionEntry::IN_SNAPSHOT);
    }
    Ok(TransactionEntry {
        code: value.try_get_u8().map_err(|_| FormatError::Varint)?,
        block: read_varint(&mut value)?,
        index: read_varint(&mut value)?,
    })
}

fn number_from(value: &[u8], table: Table) -> Result<u64, IndexError> {
    let bytes = value.try_into().map_err(|_| damaged(table))?;
    Ok(u64::from_be_bytes(bytes))
}

fn damaged(table: Table) -> IndexError {
    IndexError::Entry(table.name())
}

#[cfg(test)]
mod tests;
