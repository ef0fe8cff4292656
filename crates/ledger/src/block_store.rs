//! The chain of one channel: block files, and the index over them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use selvedge_protos::Message;
use selvedge_protos::block::{header_hash, metadata};
use selvedge_protos::common::{Block, BlockData, BlockHeader, BlockMetadataIndex, BlockchainInfo};
use tokio::sync::watch;

use crate::LedgerError;
use crate::block_files::BlockFiles;
use crate::block_format::Record;
use crate::block_index::{
    BlockEntries, BlockEntry, BlockIndex, IndexError, IndexedId, TransactionEntry,
};
use crate::block_indexer::Indexer;
use crate::bootstrap::Bootstrap;
use crate::disk::{Disk, SystemDisk};
use crate::recent_blocks::RecentBlocks;
use crate::recovery::{
    Recovered, Recovery, chain_info, continued, index_failure, open_index_store,
};
use crate::store::{Store, StoreError};
use crate::transaction_id::transaction_id;
use crate::writer::Writer;

/// How a [`BlockStore`] is kept.
#[derive(Clone)]
pub struct Options {
    /// A block file takes no further block beyond this length. Fabric's is 64 MiB, fixed.
    pub max_file_bytes: u64,
    /// Memory for the last blocks of a channel, which share the bytes of those that were appended.
    pub recent_blocks_bytes: u64,
    /// Told while an index is built from block files.
    pub rebuild_observer: Option<RebuildObserver>,
    /// Where snapshots are made (`ledger.snapshots.rootDir`); `None` for `snapshots` in the data directory.
    pub snapshots: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_file_bytes: 64 << 20,
            recent_blocks_bytes: 4 << 20,
            rebuild_observer: None,
            snapshots: None,
        }
    }
}

/// Called now and then, on the thread that opens a ledger.
pub type RebuildObserver = Arc<dyn Fn(&RebuildProgress<'_>) + Send + Sync>;

/// How far the building of an index is.
#[derive(Debug, Clone, Copy)]
pub struct RebuildProgress<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Blocks in the index.
    pub height: u64,
    /// Bytes of block files gone through.
    pub bytes: u64,
    /// Bytes of block files to go through in all.
    pub total_bytes: u64,
}

/// A transaction with the verdict on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTransaction {
    /// The bytes of the `common.Envelope`.
    pub envelope: Bytes,
    /// The verdict.
    pub status: TransactionStatus,
}

/// Where a transaction is, and the verdict on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionStatus {
    /// Number of the block.
    pub block: u64,
    /// Position in the block, from 0.
    pub index: u64,
    /// Fabric's `TxValidationCode`; NOT_VALIDATED (254) where the block does not tell.
    pub code: u8,
}

/// The blocks of one channel. Cheap to clone; all clones are one store.
///
/// Every method may wait for the disk, so none belongs on an asynchronous task. Reads run beside
/// each other and beside appending.
#[derive(Clone)]
pub struct BlockStore {
    inner: Arc<Inner>,
}

struct Inner {
    channel: String,
    disk: Arc<dyn Disk>,
    files: BlockFiles,
    index: Indexer,
    /// `None` once a write has failed.
    writer: Mutex<Option<Writer>>,
    /// The failure.
    poison: OnceLock<String>,
    /// When damage was found in the index.
    condemned: Once,
    info: RwLock<BlockchainInfo>,
    height: watch::Sender<u64>,
    recent: Mutex<RecentBlocks>,
    bootstrap: Option<Bootstrap>,
}

/// What a block is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockIdentity {
    pub header_hash: Bytes,
    pub previous_hash: Bytes,
    /// `None` if it has none, as the first block of a channel.
    pub commit_hash: Option<[u8; 32]>,
}

/// A block that has passed the checks, with what was computed for them.
struct NextBlock<'a> {
    block: &'a Block,
    header: &'a BlockHeader,
    data: &'a BlockData,
    header_hash: [u8; 32],
}

impl BlockStore {
    /// Opens the chain whose block files are in `files` and whose index is in `index`; both folders
    /// are made if need be. The caller sees to it that no other process has them open.
    ///
    /// The index is brought level with the block files, an incomplete last block is cut off. Takes
    /// the time of reading the blocks that the index lacks: none after an orderly stop, all of them
    /// if there is no index.
    pub fn open(
        channel: &str,
        files: &Path,
        index: &Path,
        options: &Options,
    ) -> Result<Self, LedgerError> {
        let disk = Arc::new(SystemDisk);
        for folder in [files, index] {
            disk.create_folder(folder)
                .map_err(LedgerError::io("create", folder))?;
        }
        let store = open_index_store(channel, index)?;
        Self::open_on(channel, disk, files, store, options)
    }

    pub(crate) fn open_on(
        channel: &str,
        disk: Arc<dyn Disk>,
        files: &Path,
        store: Arc<dyn Store>,
        options: &Options,
    ) -> Result<Self, LedgerError> {
        let files = BlockFiles::new(files.to_owned());
        let index = BlockIndex::open(store).map_err(|error| index_failure(channel, error))?;
        let index = Indexer::start(channel, index)?;
        let recovery = Recovery {
            channel,
            files: &files,
            index: &index,
            observer: options.rebuild_observer.as_ref(),
        };
        let Recovered {
            info,
            end,
            bootstrap,
        } = recovery.run()?;
        let writer = Writer::open(&*disk, &files, end, options.max_file_bytes)?;
        Ok(Self {
            inner: Arc::new(Inner {
                channel: channel.to_owned(),
                disk,
                files,
                index,
                writer: Mutex::new(Some(writer)),
                poison: OnceLock::new(),
                condemned: Once::new(),
                height: watch::Sender::new(info.height),
                info: RwLock::new(info),
                recent: Mutex::new(RecentBlocks::new(options.recent_blocks_bytes)),
                bootstrap,
            }),
        })
    }

    /// The channel's id.
    pub fn channel(&self) -> &str {
        &self.inner.channel
    }

    /// The first block that there is or will be: 0, unless the channel was joined by a snapshot.
    pub fn first_block(&self) -> u64 {
        let bootstrap = self.inner.bootstrap.as_ref();
        bootstrap.map_or(0, Bootstrap::first_block)
    }

    /// The number of the next block. All from [`Self::first_block`] on are there.
    pub fn height(&self) -> u64 {
        *self.inner.height.borrow()
    }

    /// Height, hash of the last block's header, hash of the header before it.
    pub fn info(&self) -> BlockchainInfo {
        self.inner.info.read().clone()
    }

    /// Follows the height. It grows when a block is safe on disk and can be read.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.height.subscribe()
    }

    /// Appends a block: the next number, naming the last block's header hash. That it is genuine, and
    /// its data has the hash in its header, the caller has verified; a block whose data has not is
    /// stored, and corrupt when it is read back. Returns when the block is safe on disk.
    ///
    /// If writing fails, the store takes no more blocks until it is opened anew, which finds out
    /// what has reached the disk. Reading goes on.
    ///
    /// The block can be found by hash and transaction id at once. Writing that into the index is left
    /// to a thread of the store; if it has fallen behind, this waits.
    pub fn append(&self, block: &Block) -> Result<(), LedgerError> {
        self.append_batch([block])
    }

    /// Appends blocks that follow each other with one sync at the end, and more only if they have more than
    /// a mebibyte; for catching up. If one is refused, none is stored. After a power cut any number of the
    /// first of them may be there.
    pub fn append_batch<'a>(
        &self,
        blocks: impl IntoIterator<Item = &'a Block>,
    ) -> Result<(), LedgerError> {
        let inner = &*self.inner;
        let mut slot = inner.writer.lock();
        let Some(writer) = slot.as_mut() else {
            return Err(LedgerError::Poisoned {
                channel: inner.channel.clone(),
                cause: self.poisoned().unwrap_or_default().to_owned(),
            });
        };
        inner.index.wait_for_room()?;
        let blocks = inner.check(blocks)?;
        let Some(last) = blocks.last() else {
            return Ok(());
        };
        let entries = match inner.write(writer, &blocks) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(channel = inner.channel, %error, "The ledger takes no more blocks");
                inner.poison.get_or_init(|| error.to_string());
                *slot = None;
                return Err(error);
            }
        };
        inner.remember(&blocks, &entries);
        inner.index.add(entries);
        let after = chain_info(
            last.header.number,
            last.header_hash,
            last.header.previous_hash.clone(),
        );
        let height = after.height;
        let mut info = inner.info.write();
        *info = continued(&info, after);
        drop(info);
        inner.height.send_replace(height);
        Ok(())
    }

    /// Why the store takes no more blocks, if a write has failed. Waits for nothing.
    pub fn poisoned(&self) -> Option<&str> {
        let cause = self.inner.poison.get().map(String::as_str);
        cause.or_else(|| self.inner.index.failure())
    }

    /// Waits until all blocks that were appended are in the index. Reading does not need that, only
    /// who wants nothing to go on behind.
    pub fn wait_for_index(&self) -> Result<(), LedgerError> {
        self.inner.index.wait_until_level()
    }

    /// A block, `None` if the chain does not reach that far, [`LedgerError::BeforeSnapshot`] if it begins
    /// later, as do the others that take a number.
    ///
    /// Header, data and metadata are always there; fields that Fabric's block files do not keep
    /// (unknown ones) are not.
    pub fn block(&self, number: u64) -> Result<Option<Block>, LedgerError> {
        let inner = &*self.inner;
        if number < self.height()
            && let Some(block) = inner.recent.lock().get(number)
        {
            return Ok(Some(block));
        }
        let Some(entry) = inner.entry(number)? else {
            return Ok(None);
        };
        inner.files.read(number, &entry).map(Some)
    }

    /// A block in the canonical encoding of `common.Block`.
    pub fn block_bytes(&self, number: u64) -> Result<Option<Bytes>, LedgerError> {
        let block = self.block(number)?;
        Ok(block.map(|block| block.encode_to_vec().into()))
    }

    /// The header of a block, `None` if the chain does not reach that far.
    pub fn header(&self, number: u64) -> Result<Option<BlockHeader>, LedgerError> {
        let inner = &*self.inner;
        let Some(entry) = inner.entry(number)? else {
            return Ok(None);
        };
        inner.files.read_header(number, &entry).map(Some)
    }

    /// The number of the block with this header hash.
    pub fn number_by_hash(&self, header_hash: &[u8]) -> Result<Option<u64>, LedgerError> {
        let number = self.inner.index.number_by_hash(header_hash);
        let number = number.map_err(|error| self.inner.failure(error))?;
        Ok(number.filter(|number| *number < self.height()))
    }

    /// The block with this header hash, as [`Self::block_bytes`].
    pub fn block_by_hash(&self, header_hash: &[u8]) -> Result<Option<Bytes>, LedgerError> {
        match self.number_by_hash(header_hash)? {
            Some(number) => self.block_bytes(number),
            None => Ok(None),
        }
    }

    /// The block in which a transaction id first occurs, as [`Self::block_bytes`].
    pub fn block_by_transaction_id(&self, id: &str) -> Result<Option<Bytes>, LedgerError> {
        match self.transaction_status(id)? {
            Some(status) => self.block_bytes(status.block),
            None => Ok(None),
        }
    }

    /// Whether there was a transaction with this id, also before the snapshot that the channel was joined
    /// by.
    pub fn has_transaction(&self, id: &str) -> Result<bool, LedgerError> {
        let entry = self.inner.transaction(id)?;
        Ok(entry.is_some_and(|entry| entry.is_in_snapshot() || entry.block < self.height()))
    }

    /// Where a transaction id first occurs, and the verdict on that transaction;
    /// [`LedgerError::TransactionInSnapshot`] if that is not known. Envelopes that do not parse have the id
    /// "".
    pub fn transaction_status(&self, id: &str) -> Result<Option<TransactionStatus>, LedgerError> {
        let entry = self.inner.transaction(id)?;
        if entry.is_some_and(|entry| entry.is_in_snapshot()) {
            return Err(LedgerError::TransactionInSnapshot {
                id: id.to_owned(),
                first: self.first_block(),
            });
        }
        Ok(entry.filter(|entry| entry.block < self.height()).map(
            |TransactionEntry { block, index, code }| TransactionStatus { block, index, code },
        ))
    }

    /// The ids of the transactions up to a block, each once, in the order of Fabric's snapshots: by length,
    /// then by bytes; of ids of more than 1024 bytes only the beginning counts.
    pub(crate) fn transaction_ids(
        &self,
        last: u64,
    ) -> Result<impl Iterator<Item = Result<String, LedgerError>>, LedgerError> {
        let inner = &*self.inner;
        inner.index.wait_until_level()?;
        let ids = inner.index.index().transaction_ids(last);
        Ok(ids.map(|id| match id {
            Ok(IndexedId::Text(id)) => Ok(id),
            Ok(IndexedId::At(entry)) => {
                let envelope = self.envelope(entry.block, entry.index)?;
                let id = envelope.as_ref().map(transaction_id);
                let id = id.ok_or_else(|| inner.failure(IndexError::Entry("transactions")))?;
                Ok(id.into_owned())
            }
            Err(error) => Err(inner.failure(error)),
        }))
    }

    /// What the last block before the next is known by, or an earlier one, or the last one of the snapshot
    /// that the channel was joined by.
    pub(crate) fn identity(&self, number: u64) -> Result<Option<BlockIdentity>, LedgerError> {
        if let Some(bootstrap) = &self.inner.bootstrap
            && bootstrap.last_block == number
        {
            return Ok(Some(BlockIdentity {
                header_hash: bootstrap.last_block_hash.clone(),
                previous_hash: bootstrap.previous_block_hash.clone(),
                commit_hash: bootstrap.commit_hash,
            }));
        }
        let Some(block) = self.block(number)? else {
            return Ok(None);
        };
        let commit_hash = metadata(&block, BlockMetadataIndex::CommitHash).ok();
        let header = block.header.unwrap_or_default();
        Ok(Some(BlockIdentity {
            header_hash: Bytes::copy_from_slice(&header_hash(&header)),
            previous_hash: header.previous_hash,
            commit_hash: commit_hash.and_then(|metadata| metadata.value[..].try_into().ok()),
        }))
    }

    /// The commit hash of the last block of the snapshot that the channel was joined by, which the first
    /// block continues.
    pub fn snapshot_commit_hash(&self) -> Option<[u8; 32]> {
        self.inner.bootstrap.as_ref()?.commit_hash
    }

    /// The first transaction with this id.
    pub fn transaction(&self, id: &str) -> Result<Option<StoredTransaction>, LedgerError> {
        let Some(status) = self.transaction_status(id)? else {
            return Ok(None);
        };
        let envelope = self.envelope(status.block, status.index)?;
        match envelope.filter(|envelope| transaction_id(envelope) == id) {
            Some(envelope) => Ok(Some(StoredTransaction { envelope, status })),
            None => Err(self.inner.failure(IndexError::Entry("transactions"))),
        }
    }

    /// The envelope at a position of a block, from 0; `None` beyond the end of block or chain.
    pub fn envelope(&self, block: u64, index: u64) -> Result<Option<Bytes>, LedgerError> {
        let inner = &*self.inner;
        let entry = inner.entry(block)?;
        let span = entry.as_ref().and_then(|entry| {
            let index = usize::try_from(index).ok()?;
            entry.spans.get(index).copied()
        });
        let (Some(entry), Some(span)) = (entry, span) else {
            return Ok(None);
        };
        inner.files.read_envelope(block, &entry, span).map(Some)
    }

    /// The blocks from `first` on, as [`Self::block_bytes`]. At the end of the chain the iterator
    /// gives `None`, and goes on when the chain has grown; see [`Self::subscribe`].
    pub fn blocks_from(&self, first: u64) -> Blocks {
        Blocks {
            store: self.clone(),
            next: first,
        }
    }
}

impl std::fmt::Debug for BlockStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BlockStore")
            .field("channel", &self.inner.channel)
            .field("height", &self.height())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Checks that blocks follow the chain and each other.
    fn check<'a>(
        &self,
        blocks: impl IntoIterator<Item = &'a Block>,
    ) -> Result<Vec<NextBlock<'a>>, LedgerError> {
        let info = self.info.read().clone();
        let mut previous = info.current_block_hash;
        let mut checked = Vec::new();
        for (expected, block) in (info.height..).zip(blocks) {
            let next = self.check_next(block, expected, &previous)?;
            previous = Bytes::copy_from_slice(&next.header_hash);
            checked.push(next);
        }
        Ok(checked)
    }

    fn check_next<'a>(
        &self,
        block: &'a Block,
        expected: u64,
        previous: &Bytes,
    ) -> Result<NextBlock<'a>, LedgerError> {
        let channel = || self.channel.clone();
        let missing = |part| LedgerError::MissingPart {
            channel: channel(),
            part,
        };
        let header = block.header.as_ref().ok_or_else(|| missing("header"))?;
        let data = block.data.as_ref().ok_or_else(|| missing("data"))?;
        if header.number != expected {
            return Err(LedgerError::UnexpectedNumber {
                channel: channel(),
                expected,
                found: header.number,
            });
        }
        if header.previous_hash != previous {
            return Err(LedgerError::WrongPreviousHash {
                channel: channel(),
                number: header.number,
                expected: hex::encode(previous),
                found: hex::encode(&header.previous_hash),
            });
        }
        Ok(NextBlock {
            block,
            header,
            data,
            header_hash: header_hash(header),
        })
    }

    /// Returns when the blocks are safe in the block files.
    fn write(
        &self,
        writer: &mut Writer,
        blocks: &[NextBlock<'_>],
    ) -> Result<Vec<BlockEntries>, LedgerError> {
        let mut entries = Vec::with_capacity(blocks.len());
        for next in blocks {
            let record = Record::new(next.header, next.data, next.block.metadata.as_ref());
            let entry = BlockEntry {
                place: writer.append(&*self.disk, &self.files, &record)?,
                header_hash: next.header_hash,
                spans: record.spans(),
            };
            entries.push(BlockEntries::new(next.header.number, next.block, entry));
        }
        writer.sync(&self.files)?;
        Ok(entries)
    }

    fn remember(&self, blocks: &[NextBlock<'_>], entries: &[BlockEntries]) {
        let mut recent = self.recent.lock();
        for (next, entries) in blocks.iter().zip(entries) {
            let mut block = next.block.clone();
            block.metadata.get_or_insert_default();
            recent.push(next.header.number, block, entries.block.place.length);
        }
    }

    fn transaction(&self, id: &str) -> Result<Option<TransactionEntry>, LedgerError> {
        let entry = self.index.transaction(id);
        entry.map_err(|error| self.failure(error))
    }

    fn entry(&self, number: u64) -> Result<Option<BlockEntry>, LedgerError> {
        let first = self.bootstrap.as_ref().map_or(0, Bootstrap::first_block);
        if number < first {
            return Err(LedgerError::BeforeSnapshot {
                block: number,
                first,
            });
        }
        if number >= *self.height.borrow() {
            return Ok(None);
        }
        match self.index.block(number) {
            Ok(Some(entry)) => Ok(Some(entry)),
            Ok(None) => Err(self.failure(IndexError::Entry("blocks"))),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// What an error of the index means. A damaged one is built anew when the ledger is opened next, if
    /// all that was in it is in the block files.
    fn failure(&self, error: IndexError) -> LedgerError {
        let is_damage = matches!(
            error,
            IndexError::Entry(_) | IndexError::Store(StoreError::Damaged(_))
        );
        let error = index_failure(&self.channel, error);
        if is_damage && self.bootstrap.is_none() {
            self.condemned.call_once(|| self.condemn(&error));
        }
        error
    }

    fn condemn(&self, error: &LedgerError) {
        let channel = &self.channel;
        tracing::error!(channel, %error, "The block index is going to be built anew when it is opened next");
        if let Err(error) = self.index.index().condemn() {
            tracing::error!(channel, %error, "That it is damaged cannot be recorded in the index");
        }
    }
}

/// Iterator over the blocks of a chain; see [`BlockStore::blocks_from`].
#[derive(Debug, Clone)]
pub struct Blocks {
    store: BlockStore,
    next: u64,
}

impl Iterator for Blocks {
    type Item = Result<(u64, Bytes), LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.next;
        let bytes = self.store.block_bytes(number).transpose()?;
        self.next += u64::from(bytes.is_ok());
        Some(bytes.map(|bytes| (number, bytes)))
    }
}

#[cfg(test)]
mod tests;
