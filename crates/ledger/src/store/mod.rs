//! An ordered key-value store with one atomic batch: all that a ledger asks of a database.
//!
//! [`FjallStore`] keeps it on disk, [`MemoryStore`] in memory; both pass the same tests. [`LongKeys`]
//! puts keys of any length into either.

mod cached;
mod fjall;
mod long_keys;
mod memory;
mod overlay;

pub(crate) use self::cached::Cached;
pub use self::fjall::FjallStore;
pub use self::long_keys::LongKeys;
pub use self::memory::MemoryStore;
pub(crate) use self::overlay::Overlay;

use std::sync::Arc;

use bytes::Bytes;

/// A part of a store with keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What the store says of itself: format, savepoint.
    Meta,
    /// Block number to the place of the block and of its transactions.
    Blocks,
    /// Header hash to block number.
    Hashes,
    /// Transaction id to its first occurrence.
    Transactions,
    /// Namespace and key to value, metadata and version.
    State,
    /// Private keys in the order of the block with which they are deleted.
    Expiry,
    /// Chaincode and block to the collections that the block defined; see [`crate::config_history`].
    ConfigHistory,
    /// Key, block and transaction of each write; see [`crate::history`].
    History,
    /// Which private data is not there; see [`crate::missing_data`].
    MissingData,
    /// Private data in clear text; see [`crate::private_data`].
    PrivateData,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 10] = [
        Self::Meta,
        Self::Blocks,
        Self::Hashes,
        Self::Transactions,
        Self::State,
        Self::Expiry,
        Self::ConfigHistory,
        Self::History,
        Self::MissingData,
        Self::PrivateData,
    ];

    /// The name of the table on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Blocks => "blocks",
            Self::Hashes => "hashes",
            Self::Transactions => "transactions",
            Self::State => "state",
            Self::Expiry => "expiry",
            Self::ConfigHistory => "config_history",
            Self::History => "history",
            Self::MissingData => "missing_data",
            Self::PrivateData => "private_data",
        }
    }
}

/// How safe a batch is when [`Store::commit`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives the end of the process, not a power cut, after which the last batches may be
    /// gone: the newest first, each as a whole.
    Process,
    /// It survives a power cut.
    Disk,
}

/// Changes that take effect together or not at all. Of two changes to one key the later counts.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    changes: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets `key` to `value`. Keys have 1 to 65535 bytes.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((table, key.into(), Some(value.into())));
    }

    /// Removes `key`, whether it is there or not.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.push((table, key.into(), None));
    }

    /// Adds the changes of another batch after these.
    pub fn append(&mut self, mut other: Self) {
        self.changes.append(&mut other.changes);
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The first key that no store takes, if any.
    fn check_keys(&self) -> Result<(), StoreError> {
        let refused = |length: usize| length == 0 || length > MAX_KEY_LENGTH;
        match self.changes.iter().find(|(_, key, _)| refused(key.len())) {
            Some((table, key, _)) => Err(StoreError::KeyLength {
                table: table.name(),
                length: key.len(),
            }),
            None => Ok(()),
        }
    }
}

/// The longest key, in bytes.
pub const MAX_KEY_LENGTH: usize = 65_535;

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database could not read or write. After a failed write it takes no more.
    #[error("database: {0}")]
    Database(String),
    /// A change was asked of a [`Store::snapshot`].
    #[error("database: a snapshot takes no changes")]
    ReadOnly,
    /// The files of the database are not as it wrote them.
    #[error("database: damaged files: {0}")]
    Damaged(String),
    /// A key of no length, or longer than [`MAX_KEY_LENGTH`].
    #[error("a key of {length} bytes in table {table}: 1 to 65535 are possible")]
    KeyLength {
        /// The table's name.
        table: &'static str,
        /// Length of the key.
        length: usize,
    },
}

/// Entries in the order of their keys.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StoreError>> + Send + 'a>;

/// An ordered key-value store. Reads run beside a commit and see all of it or nothing only if they
/// read one key; who needs more keeps to what was there before the commit.
pub trait Store: Send + Sync + 'static {
    /// The value of `key`, if it has one.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The entries with `from <= key`, and `key < to` where there is a `to`.
    fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Entries<'_>;

    /// Applies a batch. After an error it may or may not be applied, as a whole.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError>;

    /// Removes every entry of every table. Not atomic: [`Table::Meta`] goes first.
    fn clear(&self) -> Result<(), StoreError>;

    /// What the store holds now, all tables as of one moment between two commits, however it changes
    /// later. It takes no changes itself. Old entries stay on disk until it is dropped.
    fn snapshot(&self) -> Arc<dyn Store>;
}

#[cfg(test)]
mod tests;
