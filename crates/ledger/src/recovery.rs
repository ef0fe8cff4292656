//! What happens when a ledger is opened: find the end of the chain, bring the index level.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use selvedge_protos::common::BlockchainInfo;

use crate::block_files::BlockFiles;
use crate::block_index::{BlockEntries, BlockEntry, IndexError};
use crate::block_indexer::Indexer;
use crate::bootstrap::Bootstrap;
use crate::scanner::{ScannedBlock, Scanner};
use crate::store::{FjallStore, Store, StoreError};
use crate::{LedgerError, RebuildObserver, RebuildProgress};

const BLOCKS_PER_REPORT: u64 = 100;
const BLOCKS_PER_LOG_LINE: u64 = 10_000;

/// The end of the chain.
pub(crate) struct Recovered {
    pub info: BlockchainInfo,
    /// The last file, and where the next block belongs in it.
    pub end: (u32, u64),
    /// Where the chain begins, if a snapshot comes before it.
    pub bootstrap: Option<Bootstrap>,
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
    /// The snapshot that the chain begins after.
    Snapshot,
    /// Its number, its place, and the previous hash in its header.
    Block(u64, BlockEntry, Bytes),
    /// The index is damaged, or of other block files.
    Unusable(String),
}

/// Brings `index` level with `files`.
pub(crate) struct Recovery<'a> {
    pub channel: &'a str,
    pub files: &'a BlockFiles,
    pub index: &'a Indexer,
    pub observer: Option<&'a RebuildObserver>,
}

impl Recovery<'_> {
    pub(crate) fn run(&self) -> Result<Recovered, LedgerError> {
        let bootstrap = Bootstrap::read(self.files.folder())?;
        let mut tip = self.indexed_tip(bootstrap.as_ref())?;
        if let Some(bootstrap) = &bootstrap
            && let IndexedTip::Empty | IndexedTip::Unusable(_) = tip
        {
            return Err(LedgerError::SnapshotIndexLost {
                channel: self.channel.to_owned(),
                first: bootstrap.first_block(),
                path: self.files.folder().to_owned(),
            });
        }
        if let IndexedTip::Unusable(reason) = &tip {
            tracing::warn!(
                channel = self.channel,
                reason,
                "The block index does not fit the block files; it is built anew"
            );
            let cleared = self.index.index().clear();
            cleared.map_err(|error| self.failure(error))?;
            tip = IndexedTip::Empty;
        }
        let mut info = bootstrap.as_ref().map(Bootstrap::info).unwrap_or_default();
        let mut end = (0, 0);
        if let Some(last) = self.files.last()? {
            let scanner = match (tip, &bootstrap) {
                (IndexedTip::Block(number, entry, previous_hash), _) => {
                    let after = chain_info(number, entry.header_hash, previous_hash);
                    info = continued(&info, after);
                    Scanner::after(self.files, last, number, &entry)
                }
                (_, Some(bootstrap)) => Scanner::after_snapshot(self.files, last, bootstrap),
                (_, None) => Scanner::from_start(self.files, last),
            };
            (info, end) = self.scan(scanner, info)?;
        }
        Ok(Recovered {
            info,
            end,
            bootstrap,
        })
    }

    /// The last block of the index, if the block files have it too.
    fn indexed_tip(&self, bootstrap: Option<&Bootstrap>) -> Result<IndexedTip, LedgerError> {
        let number = match self.index.index().savepoint() {
            Ok(Some(number)) => number,
            Ok(None) => return Ok(IndexedTip::Empty),
            Err(error) => return self.unusable(error),
        };
        if bootstrap.is_some_and(|bootstrap| bootstrap.last_block == number) {
            return Ok(IndexedTip::Snapshot);
        }
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
    ) -> Result<(BlockchainInfo, (u32, u64)), LedgerError> {
        let mut progress = Progress::new(self, info.height, self.bytes_after(&scanner)?);
        let scanned = loop {
            let ScannedBlock {
                number,
                block,
                entry,
            } = match scanner.next_block() {
                Ok(Some(block)) => block,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            progress.indexed(number, entry.place.length);
            let header_hash = entry.header_hash;
            self.index.wait_for_room()?;
            self.index.add([BlockEntries::new(number, &block, entry)]);
            let previous_hash = block.header.unwrap_or_default().previous_hash;
            info = continued(&info, chain_info(number, header_hash, previous_hash));
        };
        // What was sound before a corrupt block stays indexed, so the next start finds it at once.
        self.index.wait_until_level()?;
        scanned?;
        progress.finished();
        let end = scanner.position();
        if let Some(reason) = scanner.torn() {
            tracing::warn!(
                channel = self.channel,
                file = %self.files.path(end.0).display(),
                offset = end.1,
                block = info.height,
                reason,
                "Cutting off the last block, which was not written completely"
            );
        }
        Ok((info, end))
    }

    fn bytes_after(&self, scanner: &Scanner<'_>) -> Result<u64, LedgerError> {
        let (file, offset) = scanner.position();
        let last = self.files.last()?.unwrap_or(file);
        let mut total = 0;
        for file in file..=last {
            total += self.files.length(file)?;
        }
        Ok(total.saturating_sub(offset))
    }

    fn failure(&self, error: IndexError) -> LedgerError {
        index_failure(self.channel, error)
    }
}

/// Tells how far the building of an index is: to the log, and more often to the observer.
struct Progress<'a> {
    recovery: &'a Recovery<'a>,
    started: Instant,
    first: u64,
    height: u64,
    bytes: u64,
    total_bytes: u64,
}

impl<'a> Progress<'a> {
    fn new(recovery: &'a Recovery<'a>, height: u64, total_bytes: u64) -> Self {
        if total_bytes > 0 {
            tracing::info!(
                channel = recovery.channel,
                block = height,
                bytes = total_bytes,
                "Building the block index from the block files"
            );
        }
        Self {
            recovery,
            started: Instant::now(),
            first: height,
            height,
            bytes: 0,
            total_bytes,
        }
    }

    fn indexed(&mut self, number: u64, bytes: u64) {
        self.height = number + 1;
        self.bytes += bytes;
        if self.height.is_multiple_of(BLOCKS_PER_REPORT) {
            self.report();
        }
        if self.height.is_multiple_of(BLOCKS_PER_LOG_LINE) {
            tracing::info!(
                channel = self.recovery.channel,
                block = number,
                bytes = self.bytes,
                of = self.total_bytes,
                "Indexed block"
            );
        }
    }

    fn finished(&self) {
        if self.height == self.first {
            return;
        }
        self.report();
        tracing::info!(
            channel = self.recovery.channel,
            blocks = self.height - self.first,
            bytes = self.bytes,
            elapsed = ?self.started.elapsed(),
            "Finished building the block index"
        );
    }

    fn report(&self) {
        if let Some(observer) = self.recovery.observer {
            observer(&RebuildProgress {
                channel: self.recovery.channel,
                height: self.height,
                bytes: self.bytes,
                total_bytes: self.total_bytes,
            });
        }
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

/// What is told of a chain that has gone on: it begins where it began.
pub(crate) fn continued(before: &BlockchainInfo, after: BlockchainInfo) -> BlockchainInfo {
    BlockchainInfo {
        bootstrapping_snapshot_info: before.bootstrapping_snapshot_info,
        ..after
    }
}

pub(crate) fn index_failure(channel: &str, error: IndexError) -> LedgerError {
    let channel = channel.to_owned();
    match error {
        IndexError::Store(StoreError::Damaged(reason)) => {
            LedgerError::DamagedIndex { channel, reason }
        }
        IndexError::Store(source) => LedgerError::Index { channel, source },
        IndexError::Entry(_) => LedgerError::DamagedIndex {
            channel,
            reason: error.to_string(),
        },
    }
}
