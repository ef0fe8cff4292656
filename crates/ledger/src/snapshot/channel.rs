//! The snapshots of one channel: requests, and the thread that makes what they ask for.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::export::Export;
use super::folders::SnapshotFolders;
use super::requests::Requests;
use super::{SnapshotError, file::FileHash};
use crate::BlockStore;
use crate::state::StateDatabase;

/// Takes requests for snapshots of one channel and makes them when their block is committed, one after
/// the other, on a thread of its own. Dropping it ends the thread; a snapshot that is being made then is
/// made at the next start: from the state if that has not gone on, else from one that is made of the
/// blocks once more ([`Self::remake_lost`]).
///
/// A snapshot is of what the database holds between two blocks. So whoever commits says so after each
/// block ([`Self::committed`]), and it takes no longer than marking the place; blocks are committed
/// while the files are written.
///
/// Where the state cannot be made of the blocks once more, since the channel was itself joined by a snapshot,
/// the state must not go on before the files are written ([`Self::wait_for_turn`]).
pub struct ChannelSnapshots {
    inner: Arc<Inner>,
}

/// While it lives, a block may change the state.
#[must_use]
pub struct Turn<'a>(#[allow(dead_code, reason = "it is held")] Option<MutexGuard<'a, ()>>);

struct Inner {
    folders: SnapshotFolders,
    blocks: BlockStore,
    state: StateDatabase,
    book: Mutex<Book>,
    /// No request is for an earlier block. Lowered before the state is looked at, so that either this look
    /// finds a block committed or whoever commits it finds the request.
    first: AtomicU64,
    stopped: AtomicBool,
    /// Whether nobody is to wait for a snapshot any more.
    released: AtomicBool,
    /// Held while a block changes the state of which a snapshot could not be made again, and while one is
    /// asked for. Taken before `book`.
    turn: Mutex<()>,
    /// When a job is done, and when nobody is to wait any more.
    done: Condvar,
}

struct Book {
    requests: Requests,
    /// Requests whose block is committed; the first one is being made.
    jobs: VecDeque<Job>,
    worker: Option<JoinHandle<()>>,
    is_working: bool,
    /// Requests whose block is committed and whose state is gone: the peer ended while they were made.
    lost: Vec<u64>,
    remaker: Option<JoinHandle<()>>,
}

/// Brings an empty state to a block, and may end before when it is told to stop.
type Fill = dyn Fn(&StateDatabase, u64, &dyn Fn() -> bool) -> Result<(), String>;

#[derive(Clone)]
struct Job {
    block: u64,
    /// As of the block.
    state: StateDatabase,
}

impl ChannelSnapshots {
    /// `requests` is the file with the requests. What was asked for and is not there yet is made, as far as
    /// the state allows.
    pub fn open(
        folders: SnapshotFolders,
        requests: PathBuf,
        blocks: BlockStore,
        state: StateDatabase,
    ) -> Result<Self, SnapshotError> {
        let requests = Requests::open(requests)?;
        let inner = Arc::new(Inner {
            folders,
            blocks,
            state,
            book: Mutex::new(Book {
                requests,
                jobs: VecDeque::new(),
                worker: None,
                is_working: false,
                lost: Vec::new(),
                remaker: None,
            }),
            first: AtomicU64::new(u64::MAX),
            stopped: AtomicBool::new(false),
            released: AtomicBool::new(false),
            turn: Mutex::new(()),
            done: Condvar::new(),
        });
        inner.resume()?;
        Ok(Self { inner })
    }

    /// Asks for a snapshot as of a block, 0 for the last one committed. Returns the number of the block when
    /// the request is safe on disk (Fabric: `SubmitSnapshotRequest`).
    pub fn submit(&self, block: u64) -> Result<u64, SnapshotError> {
        let inner = &self.inner;
        let _turn = (!inner.can_remake()).then(|| inner.turn.lock());
        let mut book = inner.book.lock();
        inner.first.fetch_min(block, Ordering::SeqCst);
        let submitted = inner.submit(&mut book, block);
        inner.tell_first(&book);
        submitted
    }

    /// Withdraws a request (Fabric: `CancelSnapshotRequest`).
    pub fn cancel(&self, block: u64) -> Result<(), SnapshotError> {
        let inner = &self.inner;
        let mut book = inner.book.lock();
        if book.jobs.iter().any(|job| job.block == block) {
            return Err(SnapshotError::UnderProcessing);
        }
        book.requests.remove(block)?;
        inner.tell_first(&book);
        tracing::info!(
            target: "kvledger", channelID = inner.blocks.channel(), blockNumber = block,
            "Deleted pending request for snapshot"
        );
        Ok(())
    }

    /// The blocks of all requests that wait or are being made, in ascending order.
    pub fn pending(&self) -> Vec<u64> {
        self.inner.book.lock().requests.all()
    }

    /// Makes the snapshots that the last end of the peer has interrupted and whose state has gone on since,
    /// on a thread of its own. `fill` brings an empty state to a block, from the blocks; when it is told to
    /// stop, it may return before.
    pub fn remake_lost(
        &self,
        fill: impl Fn(&StateDatabase, u64, &dyn Fn() -> bool) -> Result<(), String> + Send + 'static,
    ) {
        let mut book = self.inner.book.lock();
        let lost = std::mem::take(&mut book.lost);
        if lost.is_empty() {
            return;
        }
        let (inner, blocks) = (Arc::clone(&self.inner), lost.clone());
        let thread = std::thread::Builder::new().name("snapshot again".into());
        let spawned =
            thread.spawn(move || blocks.iter().for_each(|block| inner.remake(*block, &fill)));
        match spawned {
            Ok(remaker) => book.remaker = Some(remaker),
            Err(error) => {
                for block in lost {
                    self.inner
                        .give_up(&mut book, block, &format!("no thread: {error}"));
                }
            }
        }
    }

    /// To be called before a block changes the state. Returns at once, unless a snapshot is being made that
    /// could not be made again; then when that is done, as in Fabric. None is begun until what is returned is
    /// dropped. [`SnapshotError::Stopped`] if the block must not change the state, since the peer stops.
    pub fn wait_for_turn(&self) -> Result<Turn<'_>, SnapshotError> {
        let inner = &self.inner;
        if inner.can_remake() {
            return Ok(Turn(None));
        }
        loop {
            let turn = inner.turn.lock();
            let mut book = inner.book.lock();
            if book.jobs.is_empty() {
                return Ok(Turn(Some(turn)));
            }
            drop(turn);
            if inner.released.load(Ordering::SeqCst) {
                return Err(SnapshotError::Stopped);
            }
            inner.done.wait(&mut book);
        }
    }

    /// The peer stops: whoever waits for a snapshot goes, which is then made at the next start.
    pub fn release(&self) {
        self.inner.released.store(true, Ordering::SeqCst);
        let _book = self.inner.book.lock();
        self.inner.done.notify_all();
    }

    /// To be called when a block is in the state, before the next one is.
    pub fn committed(&self, block: u64) {
        let inner = &self.inner;
        if block < inner.first.load(Ordering::SeqCst) {
            return;
        }
        let mut book = inner.book.lock();
        let is_new = !book.jobs.iter().any(|job| job.block == block);
        if is_new && book.requests.contains(block) {
            match inner.state_now() {
                Ok((Some(savepoint), state)) if savepoint == block => {
                    inner.make(&mut book, Job { block, state });
                }
                Ok(_) => inner.give_up(&mut book, block, "the state is not at this block"),
                Err(error) => inner.give_up(&mut book, block, &error.to_string()),
            }
            inner.tell_first(&book);
        }
    }
}

impl Drop for ChannelSnapshots {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        let mut book = self.inner.book.lock();
        let threads = [book.worker.take(), book.remaker.take()];
        drop(book);
        for thread in threads.into_iter().flatten() {
            // Its panic has been told by the runtime.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// The state as it is, with its last block.
    fn state_now(&self) -> Result<(Option<u64>, StateDatabase), SnapshotError> {
        let state = self.state.snapshot();
        Ok((state.savepoint()?, state))
    }

    fn submit(self: &Arc<Self>, book: &mut Book, block: u64) -> Result<u64, SnapshotError> {
        let channel = self.blocks.channel();
        let (savepoint, state) = self.state_now()?;
        let last = savepoint.ok_or_else(|| SnapshotError::Block {
            channel: channel.to_owned(),
            block: 0,
            reason: "it is not committed",
        })?;
        let block = if block == 0 { last } else { block };
        if block < last {
            return Err(SnapshotError::Past {
                requested: block,
                last,
            });
        }
        if block == last && self.folders.has(channel, block)? {
            return Err(SnapshotError::Exists(block));
        }
        book.requests.add(block)?;
        tracing::info!(
            target: "kvledger", channelID = channel, blockNumber = block,
            "Added new request for snapshot"
        );
        if block == last {
            self.make(book, Job { block, state });
        }
        Ok(block)
    }

    /// Whether the state of any block can be made of the blocks.
    fn can_remake(&self) -> bool {
        self.blocks.first_block() == 0
    }

    /// What is to be done with the requests at the start.
    fn resume(self: &Arc<Self>) -> Result<(), SnapshotError> {
        let mut book = self.book.lock();
        let (savepoint, state) = self.state_now()?;
        let last = savepoint.unwrap_or(0);
        for block in book.requests.all() {
            if block > last || savepoint.is_none() {
                break;
            }
            if self.folders.has(self.blocks.channel(), block)? {
                book.requests.remove(block)?;
            } else if block == last {
                let state = state.clone();
                self.make(&mut book, Job { block, state });
            } else if self.can_remake() {
                book.lost.push(block);
            } else {
                // Another program has gone on with the state, or this one before it knew of the request.
                let reason =
                    "the state has gone on, and the first blocks are not there to make it again";
                self.give_up(&mut book, block, reason);
            }
        }
        self.tell_first(&book);
        Ok(())
    }

    fn tell_first(&self, book: &Book) {
        let first = book.requests.all().first().copied();
        self.first
            .store(first.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn give_up(&self, book: &mut Book, block: u64, reason: &str) {
        tracing::error!(
            target: "kvledger", channelID = self.blocks.channel(), blockNumber = block,
            "Failed to generate snapshot: {reason}; the request is dropped: submit one for a later block"
        );
        self.remove(book, block);
    }

    fn remove(&self, book: &mut Book, block: u64) {
        if let Err(error) = book.requests.remove(block) {
            tracing::error!(
                target: "kvledger", channelID = self.blocks.channel(), blockNumber = block,
                "Failed to delete snapshot request: {error}"
            );
        }
    }

    fn make(self: &Arc<Self>, book: &mut Book, job: Job) {
        book.jobs.push_back(job);
        if book.is_working {
            return;
        }
        if let Some(done) = book.worker.take() {
            let _ = done.join();
        }
        let inner = Arc::clone(self);
        let worker = std::thread::Builder::new().name("snapshot".into());
        match worker.spawn(move || inner.work()) {
            Ok(worker) => {
                book.worker = Some(worker);
                book.is_working = true;
            }
            Err(error) => {
                let block = book.jobs.pop_back().map_or(0, |job| job.block);
                self.give_up(book, block, &format!("no thread: {error}"));
            }
        }
    }

    /// Makes one snapshot after the other until there is nothing to make.
    fn work(self: Arc<Self>) {
        loop {
            let mut book = self.book.lock();
            let stopped = self.stopped.load(Ordering::SeqCst);
            let Some(job) = book.jobs.front().filter(|_| !stopped).cloned() else {
                book.is_working = false;
                return;
            };
            drop(book);
            // The database is not ours, and nothing would be made after a panic.
            let made = catch_unwind(AssertUnwindSafe(|| self.generate(&job)));
            let made = made.unwrap_or(Err(SnapshotError::Panic));
            let mut book = self.book.lock();
            book.jobs.pop_front();
            self.finish(&mut book, job.block, made.map(|_| ()));
            self.done.notify_all();
        }
    }

    fn finish(&self, book: &mut Book, block: u64, made: Result<(), SnapshotError>) {
        match made {
            // It is made at the next start.
            Err(SnapshotError::Stopped) => {}
            Err(error) => self.give_up(book, block, &error.to_string()),
            Ok(()) => self.remove(book, block),
        }
        self.tell_first(book);
    }

    /// Makes a snapshot from a state that is made for it.
    fn remake(&self, block: u64, fill: &Fill) {
        // It may have been withdrawn, now or while it is made.
        let stopped = self.stopped.load(Ordering::SeqCst);
        if stopped || !self.book.lock().requests.contains(block) {
            return;
        }
        let made = self.try_remake(block, fill);
        let mut book = self.book.lock();
        if book.requests.contains(block) {
            self.finish(&mut book, block, made);
        }
    }

    fn try_remake(&self, block: u64, fill: &Fill) -> Result<(), SnapshotError> {
        let stopped = || self.stopped.load(Ordering::SeqCst);
        let channel = self.blocks.channel();
        tracing::info!(
            target: "kvledger", channelID = channel, blockNumber = block,
            "A snapshot was interrupted; making the state that it is of once more"
        );
        let folder = self.folders.begin_state(channel, block)?;
        let state = StateDatabase::open(folder.path())?;
        fill(&state, block, &stopped).map_err(SnapshotError::Remake)?;
        if state.savepoint()? != Some(block) {
            return Err(SnapshotError::Stopped);
        }
        self.generate(&Job { block, state })?;
        Ok(())
    }

    fn generate(&self, job: &Job) -> Result<FileHash, SnapshotError> {
        let (channel, block) = (self.blocks.channel(), job.block);
        tracing::info!(
            target: "kvledger", channelID = channel, lastCommittedBlockNumber = block,
            "Generating snapshot"
        );
        let started = Instant::now();
        let folder = self.folders.begin(channel, block)?;
        let export = Export {
            blocks: &self.blocks,
            state: &job.state,
            block,
            stop: &|| self.stopped.load(Ordering::SeqCst),
        };
        let hash = export.write(folder.path())?;
        folder.finish()?;
        tracing::info!(
            target: "kvledger", channelID = channel, lastCommittedBlockNumber = block,
            hash = hex::encode(hash), elapsed = ?started.elapsed(),
            "Generated snapshot"
        );
        Ok(hash)
    }
}

impl std::fmt::Debug for ChannelSnapshots {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ChannelSnapshots")
            .field("channel", &self.inner.blocks.channel())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
