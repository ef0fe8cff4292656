//! Looking at a ledger without opening it: opening would repair what is wrong.
//!
//! An [`Inspection`] goes through the block files from the first block on and compares the index with
//! them. What it finds is told in words; nothing is changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_protos::common::Block;

use crate::LedgerError;
use crate::block_files::BlockFiles;
use crate::block_index::{BlockEntries, BlockEntry, BlockIndex, Place, TransactionEntry};
use crate::bootstrap::Bootstrap;
use crate::recovery::index_failure;
use crate::scanner::{ScannedBlock, Scanner};
use crate::snapshot::{Import, SnapshotError, SnapshotMetadata};
use crate::state::{StateDatabase, StateError};
use crate::store::{FjallStore, Store, Table};

/// The files of one channel's ledger, which nobody has open.
pub struct Inspection {
    channel: String,
    files: BlockFiles,
    index: PathBuf,
    state: PathBuf,
}

/// A block in the block files. It has its place in the chain and the data that its header says.
pub struct InspectedBlock {
    /// Its number.
    pub number: u64,
    /// With the metadata that it was stored with.
    pub block: Block,
    entry: BlockEntry,
}

impl InspectedBlock {
    /// The bytes that it takes in the block files.
    pub const fn length(&self) -> u64 {
        self.entry.place.length
    }
}

impl Inspection {
    pub(crate) fn new(channel: &str, files: &Path, index: PathBuf, state: PathBuf) -> Self {
        Self {
            channel: channel.to_owned(),
            files: BlockFiles::new(files.to_owned()),
            index,
            state,
        }
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// The bytes of all block files.
    pub fn total_bytes(&self) -> Result<u64, LedgerError> {
        let last = self.files.last()?;
        let files = last.map_or(0..0, |last| 0..last + 1);
        files.map(|file| self.files.length(file)).sum()
    }

    /// The number of the first block: not 0 if the channel was joined by a snapshot. Then the databases
    /// do not follow from the blocks alone.
    pub fn first_block(&self) -> Result<u64, LedgerError> {
        Ok(self
            .bootstrap()?
            .map_or(0, |bootstrap| bootstrap.first_block()))
    }

    pub(crate) const fn files(&self) -> &BlockFiles {
        &self.files
    }

    fn bootstrap(&self) -> Result<Option<Bootstrap>, LedgerError> {
        Bootstrap::read(self.files.folder())
    }

    /// Fills an empty state from the snapshot that the ledger begins with, and returns the commit hash of its
    /// last block. An error if it is another snapshot.
    pub fn fill_from_snapshot(
        &self,
        snapshot: &Path,
        state: &StateDatabase,
    ) -> Result<Option<[u8; 32]>, SnapshotError> {
        let metadata = self.snapshot_metadata(snapshot)?;
        Import::new(snapshot, &metadata)?.read_state(state)?;
        Ok(metadata.commit_hash)
    }

    /// What a snapshot says of itself, if it is the one that the ledger begins with.
    pub(crate) fn snapshot_metadata(
        &self,
        snapshot: &Path,
    ) -> Result<SnapshotMetadata, SnapshotError> {
        let metadata = SnapshotMetadata::read(snapshot)?;
        // A Go peer keeps no metadata, only which block was the last one.
        let is_it = match SnapshotMetadata::read(self.files.folder()) {
            Ok(own) => own == metadata,
            Err(_) => self.bootstrap()?.is_some_and(|bootstrap| {
                metadata.channel == self.channel
                    && metadata.last_block == bootstrap.last_block
                    && metadata.last_block_hash == bootstrap.last_block_hash
            }),
        };
        match is_it {
            true => Ok(metadata),
            false => Err(SnapshotError::Another {
                path: snapshot.to_owned(),
                channel: self.channel.clone(),
            }),
        }
    }

    /// Goes through the blocks.
    pub fn blocks(&self) -> Result<InspectedBlocks<'_>, LedgerError> {
        let last = self.files.last()?.unwrap_or(0);
        Ok(InspectedBlocks {
            scanner: match self.bootstrap()? {
                Some(bootstrap) => Scanner::after_snapshot(&self.files, last, &bootstrap),
                None => Scanner::from_start(&self.files, last),
            },
            files: &self.files,
        })
    }

    /// The index, `None` if there is no folder of it.
    pub fn index(&self) -> Result<Option<IndexInspection<'_>>, LedgerError> {
        if !self.index.exists() {
            return Ok(None);
        }
        let failed = |error| index_failure(&self.channel, error);
        let store = FjallStore::open(&self.index).map_err(|error| failed(error.into()))?;
        let store: Arc<dyn Store> = Arc::new(store);
        let index = BlockIndex::look(Arc::clone(&store)).map_err(failed)?;
        let Some(index) = index else {
            return Err(LedgerError::DamagedIndex {
                channel: self.channel.clone(),
                reason: "it has another format".to_owned(),
            });
        };
        Ok(Some(IndexInspection {
            first_block: self.first_block()?,
            savepoint: index.savepoint().map_err(failed)?,
            files: &self.files,
            channel: &self.channel,
            index,
            store,
            transactions: 0,
            findings: Vec::new(),
        }))
    }

    /// The state, `None` if there is no folder of it. It can be open once.
    pub fn state(&self) -> Result<Option<StateDatabase>, StateError> {
        let exists = self.state.exists();
        exists.then(|| StateDatabase::open(&self.state)).transpose()
    }
}

/// The blocks of a chain from the first on.
pub struct InspectedBlocks<'a> {
    scanner: Scanner<'a>,
    files: &'a BlockFiles,
}

impl InspectedBlocks<'_> {
    /// The next block; `None` at the end. After an error nothing more is to be had:
    /// [`LedgerError::Corrupt`] names file, offset and block.
    pub fn next_block(&mut self) -> Result<Option<InspectedBlock>, LedgerError> {
        let scanned = self.scanner.next_block()?;
        Ok(scanned.map(|scanned| {
            let ScannedBlock {
                number,
                block,
                entry,
            } = scanned;
            InspectedBlock {
                number,
                block,
                entry,
            }
        }))
    }

    /// At the end: what follows the last block and is none. The next start cuts it off.
    pub fn incomplete(&self) -> Option<String> {
        let reason = self.scanner.torn()?;
        let (file, offset) = self.scanner.position();
        let path = self.files.path(file);
        Some(format!(
            "{} ends with an incomplete block at offset {offset}: {reason}",
            path.display()
        ))
    }
}

/// An index that is compared with the block files.
pub struct IndexInspection<'a> {
    channel: &'a str,
    files: &'a BlockFiles,
    index: BlockIndex,
    store: Arc<dyn Store>,
    first_block: u64,
    savepoint: Option<u64>,
    /// First occurrences of ids in the blocks so far.
    transactions: u64,
    findings: Vec<String>,
}

impl IndexInspection<'_> {
    /// The last block in the index.
    pub const fn savepoint(&self) -> Option<u64> {
        self.savepoint
    }

    /// Compares the entries of a block. Blocks come in order, all up to the savepoint; later ones are
    /// passed over.
    pub fn compare(&mut self, block: &InspectedBlock) -> Result<(), LedgerError> {
        if self
            .savepoint
            .is_none_or(|savepoint| block.number > savepoint)
        {
            return Ok(());
        }
        let entries = BlockEntries::new(block.number, &block.block, block.entry.clone());
        self.compare_block(&entries)?;
        for (key, entry) in &entries.transactions {
            self.compare_transaction(key, *entry)?;
        }
        Ok(())
    }

    /// What was found. At the end of the blocks: `height` of them there were.
    pub fn finish(mut self, height: u64) -> Result<Vec<String>, LedgerError> {
        let Some(savepoint) = self.savepoint else {
            self.compare_count(Table::Blocks, 0)?;
            return Ok(self.findings);
        };
        if savepoint >= height {
            self.findings.push(format!(
                "it has block {savepoint}, the block files end before block {height}"
            ));
            return Ok(self.findings);
        }
        // That of a snapshot holds the ids of blocks that are not there.
        if self.first_block == 0 {
            self.compare_count(Table::Blocks, savepoint + 1)?;
            self.compare_count(Table::Hashes, savepoint + 1)?;
            self.compare_count(Table::Transactions, self.transactions)?;
        }
        Ok(self.findings)
    }

    fn compare_block(&mut self, entries: &BlockEntries) -> Result<(), LedgerError> {
        let number = entries.number;
        let failed = |error| index_failure(self.channel, error);
        match self.index.block(number) {
            Ok(Some(found)) if found == entries.block => {}
            Ok(Some(found)) => {
                let Place {
                    file,
                    offset,
                    length,
                } = found.place;
                let is = entries.block.place;
                self.findings.push(format!(
                    "block {number} is said to lie in file {file} at offset {offset} with {length} bytes; it \
                     lies in file {} at offset {} with {}",
                    is.file, is.offset, is.length
                ));
            }
            Ok(None) => self.findings.push(format!("block {number} is not in it")),
            Err(error) => {
                let error = failed(error);
                self.findings.push(format!("block {number}: {error}"));
            }
        }
        let hash = &entries.block.header_hash;
        let found = self.index.number_by_hash(hash).map_err(failed)?;
        if found != Some(number) {
            self.findings.push(format!(
                "header hash {} of block {number} leads to {}",
                hex::encode(hash),
                found.map_or_else(|| "no block".to_owned(), |found| format!("block {found}"))
            ));
        }
        Ok(())
    }

    fn compare_transaction(
        &mut self,
        key: &[u8],
        entry: TransactionEntry,
    ) -> Result<(), LedgerError> {
        let TransactionEntry { block, index, code } = entry;
        let found = self.index.transaction(key);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let error = index_failure(self.channel, error);
                self.findings
                    .push(format!("transaction {index} of block {block}: {error}"));
                return Ok(());
            }
        };
        match found {
            Some(found) if found == entry => self.transactions += 1,
            Some(found) if self.is_earlier(key, found, entry)? => {}
            Some(found) => self.findings.push(format!(
                "the id of transaction {index} of block {block}, code {code}, leads to transaction {} of block \
                 {}, code {}",
                found.index, found.block, found.code
            )),
            None => self.findings.push(format!(
                "the id of transaction {index} of block {block} is not in it"
            )),
        }
        Ok(())
    }

    /// Whether the id first occurs where the index says, before this transaction.
    fn is_earlier(
        &self,
        key: &[u8],
        found: TransactionEntry,
        entry: TransactionEntry,
    ) -> Result<bool, LedgerError> {
        if (found.block, found.index) >= (entry.block, entry.index) {
            return Ok(false);
        }
        if found.block < self.first_block {
            return Ok(true);
        }
        let failed = |error| index_failure(self.channel, error);
        let Some(block) = self.index.block(found.block).map_err(failed)? else {
            return Ok(false);
        };
        let span = usize::try_from(found.index);
        let Some(span) = span.ok().and_then(|index| block.spans.get(index)) else {
            return Ok(false);
        };
        let envelope = self.files.read_envelope(found.block, &block, *span)?;
        let id = crate::transaction_id::transaction_id(&envelope);
        Ok(crate::block_index::id_key(&id) == key)
    }

    fn compare_count(&mut self, table: Table, expected: u64) -> Result<(), LedgerError> {
        let mut rows = self.store.range(table, &[], None);
        let count = rows.try_fold(0_u64, |count, row| row.map(|_| count + 1));
        let count = count.map_err(|error| index_failure(self.channel, error.into()))?;
        drop(rows);
        if count != expected {
            self.findings.push(format!(
                "table {} has {count} entries, {expected} follow from the blocks",
                table.name()
            ));
        }
        Ok(())
    }
}
