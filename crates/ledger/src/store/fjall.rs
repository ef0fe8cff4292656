//! The store on disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ::fjall::config::PartitioningPolicy;
use ::fjall::{Database, Iter, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use bytes::Bytes;

use super::{Batch, Durability, Entries, Store, StoreError, Table};

/// Pages of files kept in memory, as they are read: the filters of 10 million keys take 12 MB.
const CACHE_BYTES: u64 = 16 << 20;
/// What a table gathers in memory before it is written out. With the cache this bounds what an
/// open store holds; fjall's own default of 64 MiB a table would be more than a whole peer may have.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// fjall's smallest. Journals are sparse files of this length; they take only what is written.
const JOURNAL_BYTES: u64 = 64 << 20;
const OPEN_FILES: usize = 64;

/// A store in a folder of its own, kept by fjall (a log-structured merge tree with a journal).
pub struct FjallStore {
    database: Database,
    tables: Tables,
}

/// The tables that anything was ever written to; a store has no need of most of them.
type Tables = Arc<[OnceLock<Keyspace>; Table::ALL.len()]>;

/// A store as of one moment.
struct FjallSnapshot {
    snapshot: Snapshot,
    tables: Tables,
}

impl FjallStore {
    /// Opens the store in `folder`, or makes it. One process can have it open, once.
    ///
    /// The journal is read, so it takes longer after much unsaved writing: up to some hundred
    /// milliseconds for 64 MiB.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        // fjall takes some fields of its files for granted and panics where damage has removed them.
        catch_unwind(AssertUnwindSafe(|| Self::try_open(folder)))
            .unwrap_or_else(|_| Err(StoreError::Damaged("it cannot be opened".into())))
    }

    fn try_open(folder: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .max_cached_files(Some(OPEN_FILES))
            .worker_threads(1)
            .open()
            .map_err(failure)?;
        let store = Self {
            database,
            tables: Tables::default(),
        };
        for table in Table::ALL {
            if store.database.keyspace_exists(table.name()) {
                store.make_table(table)?;
            }
        }
        Ok(store)
    }

    /// A table, which is made if need be.
    fn make_table(&self, table: Table) -> Result<&Keyspace, StoreError> {
        let slot = slot(&self.tables, table);
        if let Some(keyspace) = slot.get() {
            return Ok(keyspace);
        }
        let keyspace = self.database.keyspace(table.name(), options);
        let keyspace = keyspace.map_err(failure)?;
        Ok(slot.get_or_init(|| keyspace))
    }
}

/// Filters and indexes of files are split into pages, of which a read takes one. As a whole, as fjall
/// has them in the upper levels, each has up to some hundred kilobytes, which a small cache does not
/// keep, so that every read of a key would read and check all of it.
fn options() -> KeyspaceCreateOptions {
    let in_pages = || PartitioningPolicy::new([false, true]);
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .filter_block_partitioning_policy(in_pages())
        .index_block_partitioning_policy(in_pages())
}

fn slot(tables: &[OnceLock<Keyspace>; Table::ALL.len()], table: Table) -> &OnceLock<Keyspace> {
    let [
        meta,
        blocks,
        hashes,
        transactions,
        state,
        expiry,
        config_history,
        history,
        missing_data,
        private_data,
    ] = tables;
    match table {
        Table::Meta => meta,
        Table::Blocks => blocks,
        Table::Hashes => hashes,
        Table::Transactions => transactions,
        Table::State => state,
        Table::Expiry => expiry,
        Table::ConfigHistory => config_history,
        Table::History => history,
        Table::MissingData => missing_data,
        Table::PrivateData => private_data,
    }
}

impl Store for FjallStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Some(table) = slot(&self.tables, table).get() else {
            return Ok(None);
        };
        let value = table.get(key).map_err(failure)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        let Some(table) = slot(&self.tables, table).get() else {
            return Box::new(std::iter::empty());
        };
        match to {
            Some(to) if to <= from => Box::new(std::iter::empty()),
            Some(to) => entries(table.range(from..to)),
            None => entries(table.range(from..)),
        }
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        batch.check_keys()?;
        let mode = match durability {
            Durability::Process => PersistMode::Buffer,
            Durability::Disk => PersistMode::SyncData,
        };
        let mut writes = self.database.batch().durability(Some(mode));
        for (table, key, value) in batch.changes {
            match value {
                Some(value) => writes.insert(self.make_table(table)?, key, value),
                None => {
                    if let Some(table) = slot(&self.tables, table).get() {
                        writes.remove(table, key);
                    }
                }
            }
        }
        writes.commit().map_err(failure)
    }

    fn clear(&self) -> Result<(), StoreError> {
        let mut tables = Table::ALL
            .iter()
            .filter_map(|table| slot(&self.tables, *table).get());
        tables.try_for_each(Keyspace::clear).map_err(failure)
    }

    fn snapshot(&self) -> Arc<dyn Store> {
        Arc::new(FjallSnapshot {
            snapshot: self.database.snapshot(),
            tables: Arc::clone(&self.tables),
        })
    }
}

impl Store for FjallSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Some(table) = slot(&self.tables, table).get() else {
            return Ok(None);
        };
        let value = self.snapshot.get(table, key);
        let value = value.map_err(failure)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        let Some(table) = slot(&self.tables, table).get() else {
            return Box::new(std::iter::empty());
        };
        match to {
            Some(to) if to <= from => Box::new(std::iter::empty()),
            Some(to) => entries(self.snapshot.range(table, from..to)),
            None => entries(self.snapshot.range(table, from..)),
        }
    }

    fn commit(&self, _: Batch, _: Durability) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn clear(&self) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn snapshot(&self) -> Arc<dyn Store> {
        Arc::new(Self {
            snapshot: self.snapshot.clone(),
            tables: Arc::clone(&self.tables),
        })
    }
}

fn entries<'a>(found: Iter) -> Entries<'a> {
    Box::new(found.map(|entry| {
        let (key, value) = entry.into_inner().map_err(failure)?;
        Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
    }))
}

fn failure(error: ::fjall::Error) -> StoreError {
    use ::fjall::Error::{Io, Locked, Poisoned, Storage};
    use ::fjall::LsmError;
    let reason = error.to_string();
    match error {
        Io(source) | Storage(LsmError::Io(source)) if !is_damage(&source) => {
            StoreError::Database(source.to_string())
        }
        Locked => StoreError::Database("another process has it open".into()),
        Poisoned => StoreError::Database("an earlier write has failed".into()),
        _ => StoreError::Damaged(reason),
    }
}

/// Whether what the operating system says is about the files, not about the disk.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidData, NotFound, UnexpectedEof};
    matches!(
        error.kind(),
        AlreadyExists | InvalidData | NotFound | UnexpectedEof
    )
}
