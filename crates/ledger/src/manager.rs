//! All ledgers of a peer.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_protos::block::data_hash;
use selvedge_protos::common::Block;
use selvedge_protos::envelope::OpenedEnvelope;

use crate::LedgerError;
use crate::block_files::BlockFiles;
use crate::block_format::{read_prefix, read_varint};
use crate::block_index::BlockIndex;
use crate::block_store::{BlockStore, Options};
use crate::bootstrap::Bootstrap;
use crate::channel_id::validate_channel_id;
use crate::disk::{Disk, SystemDisk};
use crate::inspection::Inspection;
use crate::private_data::{PrivateDataError, PrivateDataStore};
use crate::snapshot::{ChannelSnapshots, Import, SnapshotError, SnapshotFolders, SnapshotMetadata};
use crate::state::{StateDatabase, StateError};
use crate::store::{FjallStore, MemoryStore};

/// The ledgers under one data directory (`peer.fileSystemPath`), which it holds locked.
///
/// A channel is there if its folder of block files holds a complete block 0. New channels are made
/// in a folder aside, which gets its name when block 0 is safe on disk; so there is no channel half
/// made, whenever the peer is stopped.
pub struct LedgerManager {
    pub(crate) layout: Layout,
    pub(crate) disk: Arc<dyn Disk>,
    options: Options,
    /// A place for each channel that was asked for. Its lock is held while the ledger is opened or
    /// made, so that no ledger is opened twice, and none waits for another.
    ledgers: Mutex<BTreeMap<String, Slot>>,
    /// Made when they are first needed.
    snapshots: Mutex<Option<SnapshotFolders>>,
    _lock: File,
}

type Slot = Arc<Mutex<Option<BlockStore>>>;

const INDEX: &str = "index";
const STATE: &str = "state";

/// Where things are, in `ledgersData` and beside it. All but `selvedge` are Fabric's names.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    data: PathBuf,
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            root: data.join("ledgersData"),
        }
    }

    fn snapshots(&self, options: &Options) -> PathBuf {
        let configured = options.snapshots.clone();
        configured.unwrap_or_else(|| self.data.join("snapshots"))
    }

    /// A folder, as goleveldb makes it; its LOCK file is what a Go peer locks.
    fn lock_folder(&self) -> PathBuf {
        self.root.join("fileLock")
    }

    pub(crate) fn chains(&self) -> PathBuf {
        self.root.join("chains").join("chains")
    }

    pub(crate) fn chain(&self, channel: &str) -> PathBuf {
        self.chains().join(channel)
    }

    fn own(&self) -> PathBuf {
        self.root.join("selvedge")
    }

    /// Everything of a channel that is made from its blocks.
    pub(crate) fn derived(&self, channel: &str) -> PathBuf {
        self.own().join("channels").join(channel)
    }

    fn index(&self, channel: &str) -> PathBuf {
        self.derived(channel).join(INDEX)
    }

    fn state(&self, channel: &str) -> PathBuf {
        self.derived(channel).join(STATE)
    }

    fn private_data(&self, channel: &str) -> PathBuf {
        self.own().join("private").join(channel)
    }

    fn joining(&self) -> PathBuf {
        self.own().join("joining")
    }

    /// Channels that are validated anew; see [`crate::replacement`].
    pub(crate) fn rebuilding(&self) -> PathBuf {
        self.own().join("rebuilding")
    }

    /// Chains that are complete and take the place of others.
    pub(crate) fn replacements(&self) -> PathBuf {
        self.own().join("replacements")
    }

    /// Marks of channels that are not opened; see [`crate::paused`].
    pub(crate) fn paused(&self) -> PathBuf {
        self.own().join("paused")
    }

    /// Requests for snapshots, which are made from no block.
    fn snapshot_requests(&self, channel: &str) -> PathBuf {
        self.own().join("snapshot_requests").join(channel)
    }
}

impl LedgerManager {
    /// Locks the data directory (`peer.fileSystemPath`), makes it if need be, and removes what
    /// an interrupted join has left.
    pub fn open(file_system_path: &Path, options: Options) -> Result<Self, LedgerError> {
        Self::open_on(file_system_path, Arc::new(SystemDisk), options)
    }

    pub(crate) fn open_on(
        file_system_path: &Path,
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<Self, LedgerError> {
        let layout = Layout::new(file_system_path);
        for folder in [layout.lock_folder(), layout.chains(), layout.own()] {
            disk.create_folder(&folder)
                .map_err(LedgerError::io("create", &folder))?;
        }
        let lock = lock(&layout.lock_folder().join("LOCK"))?;
        let manager = Self {
            layout,
            disk,
            options,
            ledgers: Mutex::default(),
            snapshots: Mutex::default(),
            _lock: lock,
        };
        // A channel may have got its name just before the process ended.
        manager.sync_chains()?;
        manager.remove_interrupted_joins()?;
        manager.complete_replacements()?;
        Ok(manager)
    }

    /// The channels with a ledger, in alphabetical order. Folders of block files without a complete
    /// block 0 are passed over.
    pub fn channels(&self) -> Result<Vec<String>, LedgerError> {
        let chains = self.layout.chains();
        let listed = || LedgerError::io("list the channels in", &chains);
        let mut channels = Vec::new();
        for entry in fs::read_dir(&chains).map_err(listed())? {
            let entry = entry.map_err(listed())?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if validate_channel_id(&name).is_err() || !entry.path().is_dir() {
                continue;
            }
            if self.has_ledger(&name)? {
                channels.push(name);
            } else {
                tracing::warn!(
                    folder = %entry.path().display(),
                    "Passing over a channel's folder without a complete block 0"
                );
            }
        }
        channels.sort_unstable();
        Ok(channels)
    }

    /// Opens the ledger of a channel; an open one is given again. See [`BlockStore::open`] for the
    /// time that it takes.
    pub fn open_channel(&self, channel: &str) -> Result<BlockStore, LedgerError> {
        validate_channel_id(channel)?;
        let slot = self.slot(channel);
        let mut ledger = slot.lock();
        if let Some(store) = &*ledger {
            return Ok(store.clone());
        }
        if !self.has_ledger(channel)? {
            return Err(LedgerError::UnknownChannel {
                channel: channel.to_owned(),
            });
        }
        Ok(ledger.insert(self.open_store(channel)?).clone())
    }

    /// Makes the ledger of a channel from its block 0, which must be the channel's own. After an
    /// error, or if the process ends within, there is such a ledger as a whole or not at all.
    pub fn create_channel(
        &self,
        channel: &str,
        genesis: &Block,
    ) -> Result<BlockStore, LedgerError> {
        validate_channel_id(channel)?;
        check_genesis(channel, genesis)?;
        let slot = self.slot(channel);
        let mut ledger = slot.lock();
        if self.has_ledger(channel)? {
            return Err(LedgerError::ChannelExists {
                channel: channel.to_owned(),
            });
        }
        self.write_genesis(channel, genesis)?;
        Ok(ledger.insert(self.open_store(channel)?).clone())
    }

    /// Makes the ledger of a channel from a snapshot of unknown origin, and returns it. The blocks after the
    /// snapshot are to follow; those before will never be there. After an error, or if the process ends
    /// within, there is such a ledger as a whole or not at all.
    ///
    /// `check` says why a channel with this state cannot be served, if so; then there is none either.
    ///
    /// Takes the time of reading and writing all that is in the snapshot. That it is the right one, only who
    /// trusts its hash can know.
    pub fn create_from_snapshot(
        &self,
        snapshot: &Path,
        check: impl FnOnce(&str, &StateDatabase) -> Result<(), String>,
    ) -> Result<BlockStore, SnapshotError> {
        let metadata = SnapshotMetadata::read(snapshot)?;
        let import = Import::new(snapshot, &metadata)?;
        let channel = &*metadata.channel;
        let slot = self.slot(channel);
        let mut ledger = slot.lock();
        if self.has_ledger(channel)? {
            return Err(SnapshotError::Ledger(LedgerError::ChannelExists {
                channel: channel.to_owned(),
            }));
        }
        let made = self.import(&metadata, &import, check);
        // What an error has left; otherwise an empty folder.
        let joining = self.layout.joining().join(channel);
        if joining.exists() {
            self.remove(&joining)?;
        }
        made?;
        Ok(ledger.insert(self.open_store(channel)?).clone())
    }

    /// Makes the databases of a channel anew that was joined by a snapshot, from that snapshot. They are as of
    /// its last block then; whoever opens the ledger brings them level with its blocks. The ledger must not be
    /// open. After an error the databases are as they were, or there are none.
    pub fn rebuild_from_snapshot(
        &self,
        channel: &str,
        snapshot: &Path,
    ) -> Result<(), SnapshotError> {
        let metadata = self.inspect(channel)?.snapshot_metadata(snapshot)?;
        let import = Import::new(snapshot, &metadata)?;
        let joining = self.layout.joining().join(channel);
        if joining.exists() {
            self.remove(&joining)?;
        }
        self.disk
            .create_folder(&joining)
            .map_err(LedgerError::io("create", &joining))?;
        drop(self.fill(&joining, &import)?);
        self.sync_folder(&joining)?;
        self.remove_databases(channel)?;
        self.rename(&joining, &self.layout.derived(channel))?;
        Ok(())
    }

    /// Makes index and state of a snapshot in a folder.
    fn fill(&self, folder: &Path, import: &Import<'_>) -> Result<StateDatabase, SnapshotError> {
        let index = FjallStore::open(&folder.join(INDEX)).map_err(SnapshotError::Index)?;
        import.read_ids(&BlockIndex::open(Arc::new(index))?)?;
        let state = StateDatabase::open(&folder.join(STATE))?;
        import.read_state(&state)?;
        Ok(state)
    }

    /// Everything is made aside. The chain's folder gets its name last, which makes the ledger be there.
    fn import(
        &self,
        metadata: &SnapshotMetadata,
        import: &Import<'_>,
        check: impl FnOnce(&str, &StateDatabase) -> Result<(), String>,
    ) -> Result<(), SnapshotError> {
        let channel = &*metadata.channel;
        let (chain, derived) = (self.layout.chain(channel), self.layout.derived(channel));
        self.check_replaceable(&chain)?;
        let joining = self.layout.joining().join(channel);
        if joining.exists() {
            self.remove(&joining)?;
        }
        let (new_chain, new_derived) = (joining.join("chain"), joining.join("derived"));
        for folder in [&new_chain, &new_derived] {
            self.disk
                .create_folder(folder)
                .map_err(LedgerError::io("create", folder))?;
        }
        Bootstrap::write(&new_chain, metadata)?;
        let state = self.fill(&new_derived, import)?;
        check(channel, &state).map_err(|reason| SnapshotError::Unfit {
            channel: channel.to_owned(),
            reason,
        })?;
        // Its files are moved.
        drop(state);
        self.sync_folder(&new_derived)?;
        self.sync_folder(&new_chain)?;
        for (from, to) in [(&new_derived, &derived), (&new_chain, &chain)] {
            if to.exists() {
                self.remove(to)?;
            }
            let parent = to.parent().unwrap_or(to);
            self.disk
                .create_folder(parent)
                .map_err(LedgerError::io("create", parent))?;
            self.disk
                .rename(from, to)
                .map_err(LedgerError::io("give the channel's name to", from))?;
            self.sync_folder(parent)?;
        }
        Ok(())
    }

    /// The snapshots of a channel, made and asked for. `state` is the channel's, as it changes.
    pub fn open_snapshots(
        &self,
        blocks: &BlockStore,
        state: &StateDatabase,
    ) -> Result<ChannelSnapshots, SnapshotError> {
        let folders = {
            let mut opened = self.snapshots.lock();
            match &*opened {
                Some(folders) => folders.clone(),
                None => {
                    let root = self.layout.snapshots(&self.options);
                    opened.insert(SnapshotFolders::open(root)?).clone()
                }
            }
        };
        let requests = self.layout.snapshot_requests(blocks.channel());
        ChannelSnapshots::open(folders, requests, blocks.clone(), state.clone())
    }

    /// Opens the state of a channel, empty if there is none. It may be behind the channel's blocks; whoever
    /// opens it brings it level. It can be open once.
    pub fn open_state(&self, channel: &str) -> Result<StateDatabase, StateError> {
        StateDatabase::open(&self.layout.state(channel))
    }

    /// Removes the state of a channel, which must not be open; it is made anew from the blocks when it
    /// is opened and brought level.
    pub fn remove_state(&self, channel: &str) -> Result<(), LedgerError> {
        let folder = self.layout.state(channel);
        if folder.exists() {
            self.remove(&folder)?;
        }
        Ok(())
    }

    /// Opens the private data of a channel, which is empty if there is none. It can be open once.
    pub fn open_private_data(&self, channel: &str) -> Result<PrivateDataStore, PrivateDataError> {
        PrivateDataStore::open(&self.layout.private_data(channel))
    }

    /// Looks at the ledger of a channel as it lies on disk. Nobody may have it open meanwhile.
    pub fn inspect(&self, channel: &str) -> Result<Inspection, LedgerError> {
        validate_channel_id(channel)?;
        if !self.has_ledger(channel)? {
            return Err(LedgerError::UnknownChannel {
                channel: channel.to_owned(),
            });
        }
        let (index, state) = (self.layout.index(channel), self.layout.state(channel));
        let files = self.layout.chain(channel);
        Ok(Inspection::new(channel, &files, index, state))
    }

    fn slot(&self, channel: &str) -> Slot {
        let mut ledgers = self.ledgers.lock();
        Arc::clone(ledgers.entry(channel.to_owned()).or_default())
    }

    fn open_store(&self, channel: &str) -> Result<BlockStore, LedgerError> {
        let files = self.layout.chain(channel);
        let index = self.layout.index(channel);
        BlockStore::open(channel, &files, &index, &self.options)
    }

    fn write_genesis(&self, channel: &str, genesis: &Block) -> Result<(), LedgerError> {
        let joining = self.layout.joining().join(channel);
        let chain = self.layout.chain(channel);
        self.check_replaceable(&chain)?;
        for folder in [&joining, &self.layout.derived(channel)] {
            if folder.exists() {
                self.remove(folder)?;
            }
        }
        self.disk
            .create_folder(&joining)
            .map_err(LedgerError::io("create", &joining))?;
        let store = BlockStore::open_on(
            channel,
            Arc::clone(&self.disk),
            &joining,
            Arc::new(MemoryStore::new()),
            &self.options,
        )?;
        store.append(genesis)?;
        drop(store);
        if chain.exists() {
            self.remove(&chain)?;
        }
        self.disk
            .rename(&joining, &chain)
            .map_err(LedgerError::io("give the channel's name to", &joining))?;
        self.sync_chains()
    }

    pub(crate) fn sync_chains(&self) -> Result<(), LedgerError> {
        self.sync_folder(&self.layout.chains())
    }

    pub(crate) fn sync_folder(&self, folder: &Path) -> Result<(), LedgerError> {
        self.disk
            .sync_folder(folder)
            .map_err(LedgerError::io("sync", folder))
    }

    /// A folder of that name may be left of a join that a Go peer did not complete. It is replaced
    /// only if there is no byte of a block in it.
    fn check_replaceable(&self, chain: &Path) -> Result<(), LedgerError> {
        let files = BlockFiles::new(chain.to_owned());
        let empty = !chain.exists() || (files.last()?.unwrap_or(0) == 0 && files.length(0)? == 0);
        if empty && !files.are_after_snapshot() {
            return Ok(());
        }
        Err(LedgerError::NoGenesisBlock {
            path: chain.to_owned(),
        })
    }

    fn has_ledger(&self, channel: &str) -> Result<bool, LedgerError> {
        let files = BlockFiles::new(self.layout.chain(channel));
        if files.are_after_snapshot() {
            return Ok(true);
        }
        let path = files.path(0);
        let length = files.length(0)?;
        if length == 0 {
            return Ok(false);
        }
        let mut beginning = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(20).read_to_end(&mut beginning))
            .map_err(LedgerError::io("read", &path))?;
        let Ok(Some((block, prefix))) = read_prefix(&beginning) else {
            return Ok(false);
        };
        let number = beginning
            .get(prefix..)
            .map(|mut rest| read_varint(&mut rest));
        let complete = block.saturating_add(prefix as u64) <= length;
        Ok(complete && number == Some(Ok(0)))
    }

    fn remove_interrupted_joins(&self) -> Result<(), LedgerError> {
        let joining = self.layout.joining();
        if !joining.exists() {
            return Ok(());
        }
        tracing::info!(folder = %joining.display(), "Removing what an interrupted join has left");
        self.remove(&joining)
    }

    pub(crate) fn remove(&self, folder: &Path) -> Result<(), LedgerError> {
        self.disk
            .remove_folder(folder)
            .map_err(LedgerError::io("remove", folder))
    }
}

/// The genesis block of a channel is number 0, names the channel in its first transaction, and has
/// the data that its header says.
fn check_genesis(channel: &str, genesis: &Block) -> Result<(), LedgerError> {
    let number = genesis.header.as_ref().map_or(0, |header| header.number);
    if number != 0 {
        return Err(LedgerError::UnexpectedNumber {
            channel: channel.to_owned(),
            expected: 0,
            found: number,
        });
    }
    let data = genesis.data.as_ref();
    let first = data.and_then(|data| data.data.first());
    let opened = first.map(|envelope| OpenedEnvelope::decode(envelope.clone()));
    let found = match opened {
        Some(Ok(opened)) => opened.channel_header.channel_id,
        _ => String::new(),
    };
    if found != channel {
        return Err(LedgerError::WrongChannel {
            expected: channel.to_owned(),
            found,
        });
    }
    let data_hash = data.map(data_hash).unwrap_or_default();
    let stated = genesis.header.clone().unwrap_or_default().data_hash;
    if stated != data_hash[..] {
        return Err(LedgerError::WrongDataHash {
            channel: channel.to_owned(),
            number,
            expected: hex::encode(data_hash),
            found: hex::encode(stated),
        });
    }
    Ok(())
}

/// Locks as goleveldb does (flock), so that a Go peer and ours exclude each other.
fn lock(path: &Path) -> Result<File, LedgerError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(LedgerError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(LedgerError::io("lock", path)(error)),
    }
}

impl std::fmt::Debug for LedgerManager {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LedgerManager")
            .field("root", &self.layout.root)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
