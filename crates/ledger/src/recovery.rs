//! What happens when a ledger is opened: find the end of the chain, bring the index level.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use selvedge_protos::common::BlockchainInfo;

use crate::block_files::BlockFiles;
use crate::block_index::{BlockEntry, BlockIndex, IndexError, PendingEntries};
use crate::scanner::Scanner;
use crate::store::{FjallStore, Store, StoreError};
use crate::{LedgerError, RebuildObserver, RebuildProgress};

/// Entries that are gathered before they are written to the index.
const ENTRIES_PER_COMMIT: usize = 4096;
const BLOCKS_PER_LOG_LINE: u64 = 10_000;

/// The end of the chain.
pub(crate) struct Recovered {
    pub info: BlockchainInfo,
    /// The last file, and where the next block belongs in it.
    pub end: (u32, u64),
}

/// Opens the store of an index. Since an index can be made anew, a damaged one is removed.
pub(crate) fn open_index_store(
    channel: &str,
    folder: &Path,
) -> Result<Arc<dyn Store>, LedgerError> {
    let failed = |source| LedgerError::Index {
        channel: channel.to_owned(),
        source,
    };
    match FjallStore::open(folder) {
        Ok(store) => Ok(Arc::new(store)),
        Err(StoreError::Damaged(reason)) => {
            tracing::warn!(
                channel, folder = %folder.display(), reason,
                "The block index is damaged; it is removed and built anew"
            );
            std::fs::remove_dir_all(folder).map_err(LedgerError::io("remove", folder))?;
            Ok(Arc::new(FjallStore::open(folder).map_err(failed)?))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The last block of an index.
enum IndexedTip {
    Empty,
    /// Its number, its place, and the previous hash in its header.
    Block(u64, BlockEntry, Bytes),
    /// The index is damaged, or of other block files.
    Unusable(String),
}

/// Brings `index` level with `files`.
pub(crate) struct Recovery<'a> {
    pub channel: &'a str,
    pub files: &'a BlockFiles,
    pub index: &'a BlockIndex,
    pub observer: Option<&'a RebuildObserver>,
}

impl Recovery<'_> {
    pub(crate) fn run(&self) -> Result<Recovered, LedgerError> {
        if let Some(path) = self.files.snapshot_info() {
            return Err(LedgerError::BootstrappedFromSnapshot {
                channel: self.channel.to_owned(),
                path,
            });
        }
        let mut tip = self.indexed_tip()?;
        if let IndexedTip::Unusable(reason) = &tip {
            tracing::warn!(
                channel = self.channel,
                reason,
                "The block index does not fit the block files; it is built anew"
            );
            self.index.clear().map_err(|error| self.failure(error))?;
            tip = IndexedTip::Empty;
        }
        let Some(last) = self.files.last()? else {
            return Ok(Recovered {
                info: BlockchainInfo::default(),
                end: (0, 0),
            });
        };
        let mut info = BlockchainInfo::default();
        let scanner = match tip {
            IndexedTip::Block(number, entry, previous_hash) => {
                info = chain_info(number, entry.header_hash, previous_hash);
                Scanner::after(self.files, last, number, &entry)
            }
            _ => Scanner::from_start(self.files, last),
        };
        self.scan(scanner, info)
    }

    /// The last block of the index, if the block files have it too.
    fn indexed_tip(&self) -> Result<IndexedTip, LedgerError> {
        let number = match self.index.savepoint() {
            Ok(Some(number)) => number,
            Ok(None) => return Ok(IndexedTip::Empty),
            Err(error) => return self.unusable(error),
        };
        let entry = match self.index.block(number) {
            Ok(Some(entry)) => entry,
            Ok(None) => return self.unusable(IndexError::Entry("blocks")),
            Err(error) => return self.unusable(error),
        };
        match self.files.read(number, &entry) {
            Ok(block) => {
                let previous_hash = block.header.unwrap_or_default().previous_hash;
                Ok(IndexedTip::Block(number, entry, previous_hash))
            }
            Err(error @ LedgerError::Corrupt { .. }) => Ok(IndexedTip::Unusable(error.to_string())),
            Err(LedgerError::Io { path, source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(IndexedTip::Unusable(format!(
                    "{} is not there",
                    path.display()
                )))
            }
            Err(error) => Err(error),
        }
    }

    fn unusable(&self, error: IndexError) -> Result<IndexedTip, LedgerError> {
        match error {
            IndexError::Store(StoreError::Database(_)) => Err(self.failure(error)),
            error => Ok(IndexedTip::Unusable(error.to_string())),
        }
    }

    fn scan(
        &self,
        mut scanner: Scanner<'_>,
        mut info: BlockchainInfo,
    ) -> Result<Recovered, LedgerError> {
        let started = Instant::now();
        let first = info.height;
        let (total_bytes, mut done_bytes) = (self.bytes_from(scanner.position())?, 0);
        let mut pending = PendingEntries::default();
        let scanned = loop {
            let block = match scanner.next_block() {
                Ok(Some(block)) => block,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if block.number == first && total_bytes > 0 {
                tracing::info!(
                    channel = self.channel,
                    block = first,
                    bytes = total_bytes,
                    "Building the block index from the block files"
                );
            }
            self.index
                .add(&mut pending, block.number, &block.block, &block.entry)
                .map_err(|error| self.failure(error))?;
            done_bytes += block.entry.place.length;
            let previous_hash = block.block.header.unwrap_or_default().previous_hash;
            info = chain_info(block.number, block.entry.header_hash, previous_hash);
            if pending.len() >= ENTRIES_PER_COMMIT {
                self.commit(&mut pending)?;
                self.report(info.height, done_bytes, total_bytes);
            }
            if info.height.is_multiple_of(BLOCKS_PER_LOG_LINE) {
                tracing::info!(
                    channel = self.channel,
                    block = block.number,
                    bytes = done_bytes,
                    of = total_bytes,
                    "Indexed block"
                );
            }
        };
        // What was sound before a corrupt block stays indexed, so the next start finds it at once.
        self.commit(&mut pending)?;
        scanned?;
        if info.height > first {
            self.report(info.height, done_bytes, total_bytes);
            tracing::info!(
                channel = self.channel, blocks = info.height - first, bytes = done_bytes,
                elapsed = ?started.elapsed(), "Finished building the block index"
            );
        }
        if let Some(reason) = scanner.torn() {
            tracing::warn!(
                channel = self.channel,
                block = info.height,
                reason,
                "The last block in the block files is incomplete"
            );
        }
        Ok(Recovered {
            info,
            end: scanner.position(),
        })
    }

    fn bytes_from(&self, (file, offset): (u32, u64)) -> Result<u64, LedgerError> {
        let last = self.files.last()?.unwrap_or(file);
        let mut total = 0;
        for file in file..=last {
            total += self.files.length(file)?;
        }
        Ok(total.saturating_sub(offset))
    }

    fn commit(&self, pending: &mut PendingEntries) -> Result<(), LedgerError> {
        self.index
            .commit(std::mem::take(pending))
            .map_err(|error| self.failure(error))
    }

    fn report(&self, height: u64, bytes: u64, total_bytes: u64) {
        if let Some(observer) = self.observer {
            observer(&RebuildProgress {
                channel: self.channel,
                height,
                bytes,
                total_bytes,
            });
        }
    }

    fn failure(&self, error: IndexError) -> LedgerError {
        index_failure(self.channel, error)
    }
}

/// What Fabric tells of a chain that ends with block `number`.
pub(crate) fn chain_info(
    number: u64,
    header_hash: [u8; 32],
    previous_block_hash: Bytes,
) -> BlockchainInfo {
    BlockchainInfo {
        height: number + 1,
        current_block_hash: Bytes::copy_from_slice(&header_hash),
        previous_block_hash,
        bootstrapping_snapshot_info: None,
    }
}

pub(crate) fn index_failure(channel: &str, error: IndexError) -> LedgerError {
    let channel = channel.to_owned();
    match error {
        IndexError::Store(source) => LedgerError::Index { channel, source },
        IndexError::Entry(table) => LedgerError::DamagedIndex { channel, table },
    }
}
