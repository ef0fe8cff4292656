//! The thread that makes blocks part of the index, after they are safe in the block files.
//!
//! Until then the index looks as if it had them: what it is asked for is sought among the waiting
//! blocks first. They wait in memory, so their number is bounded; who adds blocks waits if the index
//! cannot keep up. Nothing is lost when the process ends, since recovery brings the index level.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::LedgerError;
use crate::block_index::id_key;
use crate::block_index::{BlockEntries, BlockEntry, BlockIndex, IndexError, TransactionEntry};
use crate::block_overlay::Overlay;
use crate::recovery::index_failure;

/// Entries that are written at once.
const ENTRIES_PER_COMMIT: usize = 4096;
/// Entries that may wait; an entry takes about 200 bytes.
const MAX_WAITING: usize = 4 * ENTRIES_PER_COMMIT;

/// The index of one channel's blocks, and the blocks on their way into it.
pub(crate) struct Indexer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    channel: String,
    index: BlockIndex,
    waiting: Mutex<Waiting>,
    /// When blocks come, are done, or are not going to be; and at the end.
    changed: Condvar,
    failure: OnceLock<String>,
}

#[derive(Default)]
struct Waiting {
    overlay: Overlay,
    is_closing: bool,
}

impl Indexer {
    pub(crate) fn start(channel: &str, index: BlockIndex) -> Result<Self, LedgerError> {
        let shared = Arc::new(Shared {
            channel: channel.to_owned(),
            index,
            waiting: Mutex::default(),
            changed: Condvar::new(),
            failure: OnceLock::new(),
        });
        let thread = std::thread::Builder::new().name("block index".into());
        let running = Arc::clone(&shared);
        let thread = thread.spawn(move || running.run());
        let thread = thread.map_err(|source| LedgerError::Thread {
            channel: channel.to_owned(),
            source,
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The index itself, without what is on its way.
    pub(crate) fn index(&self) -> &BlockIndex {
        &self.shared.index
    }

    /// Takes blocks, which follow each other and those before; they can be found at once.
    pub(crate) fn add(&self, blocks: impl IntoIterator<Item = BlockEntries>) {
        let blocks = blocks.into_iter().map(Arc::new);
        let mut waiting = self.shared.waiting.lock();
        blocks.for_each(|block| waiting.overlay.push(block));
        drop(waiting);
        self.shared.changed.notify_all();
    }

    /// Waits until few enough blocks are on their way.
    pub(crate) fn wait_for_room(&self) -> Result<(), LedgerError> {
        self.wait_until(|waiting| waiting.entries() <= MAX_WAITING)
    }

    /// Waits until all blocks are in the index.
    pub(crate) fn wait_until_level(&self) -> Result<(), LedgerError> {
        self.wait_until(Overlay::is_empty)
    }

    /// Why the index takes no more blocks, if writing has failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    pub(crate) fn block(&self, number: u64) -> Result<Option<BlockEntry>, IndexError> {
        let waiting = self.shared.waiting.lock().overlay.block(number);
        match waiting {
            Some(block) => Ok(Some(block.block.clone())),
            None => self.index().block(number),
        }
    }

    pub(crate) fn number_by_hash(&self, header_hash: &[u8]) -> Result<Option<u64>, IndexError> {
        let waiting = self
            .shared
            .waiting
            .lock()
            .overlay
            .number_by_hash(header_hash);
        match waiting {
            Some(number) => Ok(Some(number)),
            None => self.index().number_by_hash(header_hash),
        }
    }

    pub(crate) fn transaction(&self, id: &str) -> Result<Option<TransactionEntry>, IndexError> {
        let key = id_key(id);
        let waiting = self.shared.waiting.lock().overlay.transaction(&key);
        match waiting {
            Some(entry) if !entry.may_be_repeated() => Ok(Some(entry)),
            waiting => Ok(self.index().transaction(&key)?.or(waiting)),
        }
    }

    fn wait_until(&self, done: impl Fn(&Overlay) -> bool) -> Result<(), LedgerError> {
        let mut waiting = self.shared.waiting.lock();
        loop {
            if let Some(cause) = self.failure() {
                return Err(LedgerError::Poisoned {
                    channel: self.shared.channel.clone(),
                    cause: cause.to_owned(),
                });
            }
            if done(&waiting.overlay) {
                return Ok(());
            }
            self.shared.changed.wait(&mut waiting);
        }
    }
}

impl Drop for Indexer {
    /// Waits until all blocks are in the index.
    fn drop(&mut self) {
        self.shared.waiting.lock().is_closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        // The database is not ours, and whoever waits for this thread must learn of its end.
        let result = catch_unwind(AssertUnwindSafe(|| self.index_all()));
        let cause = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => index_failure(&self.channel, error).to_string(),
            Err(_) => format!("channel {}: index: the database has panicked", self.channel),
        };
        tracing::error!(
            channel = self.channel,
            error = cause,
            "The ledger takes no more blocks"
        );
        let _waiting = self.waiting.lock();
        self.failure.get_or_init(|| cause);
        self.changed.notify_all();
    }

    /// Indexes what comes until the end. Blocks stay in the overlay until the index has them.
    fn index_all(&self) -> Result<(), IndexError> {
        let mut waiting = self.waiting.lock();
        loop {
            let blocks = waiting.overlay.first(ENTRIES_PER_COMMIT);
            if blocks.is_empty() {
                if waiting.is_closing {
                    return Ok(());
                }
                self.changed.wait(&mut waiting);
                continue;
            }
            let done = MutexGuard::unlocked(&mut waiting, || self.index.commit(&blocks));
            done?;
            let done = waiting.overlay.remove_first(blocks.len());
            self.changed.notify_all();
            MutexGuard::unlocked(&mut waiting, || drop((blocks, done)));
        }
    }
}
