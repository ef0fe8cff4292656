//! The history of private data collections: from which block on a chaincode had which.
//!
//! Who is a member of a collection, and for how long its data is kept, is decided by the definition
//! that was in force when a block was committed. So each block that defines or upgrades a chaincode
//! with explicit collections leaves a row here: the chaincode and the block, with the encoded
//! `CollectionConfigPackage` (Fabric: `core/ledger/confighistory`).
//!
//! The rows are Fabric's, byte for byte, since Fabric's snapshots hold them as they are (files
//! `confighistory.data` and `.metadata`): `s`, `lscc`, a zero byte, the chaincode with `~collection`
//! behind it, and the block's number subtracted from the highest one, in eight bytes, so that the
//! newest row of a chaincode comes first.
//!
//! They lie in the database of the state and are written with the batch of their block.

use std::sync::Arc;

use bytes::Bytes;

use crate::state::{StateDatabase, StateError, StateUpdates};
use crate::store::{Batch, Durability, Store, Table};

/// Of the key and of the namespace in it, followed by a zero byte (Fabric keeps the name of the legacy
/// lifecycle's namespace).
const PREFIX: &[u8] = b"slscc\0";
const SUFFIX: &[u8] = b"~collection";
/// Bytes of the block's number.
const NUMBER: usize = 8;
/// Rows of an import that are written together.
const IMPORT_BATCH: usize = 1024;

/// The collections of a chaincode as of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionConfig {
    /// The block that committed the definition; it counts for the blocks after.
    pub block: u64,
    /// The encoded `CollectionConfigPackage`.
    pub package: Bytes,
}

/// A row as Fabric's snapshots hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigHistoryRow {
    /// The key in Fabric's database.
    pub key: Bytes,
    /// The encoded `CollectionConfigPackage`.
    pub package: Bytes,
}

impl ConfigHistoryRow {
    /// The chaincode and the block that the key names; `None` if it is no such key.
    pub fn chaincode_and_block(&self) -> Option<(&str, u64)> {
        let (name, number) = self.key.split_last_chunk::<NUMBER>()?;
        let name = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let block = u64::MAX - u64::from_be_bytes(*number);
        Some((std::str::from_utf8(name).ok()?, block))
    }
}

/// The history of the collections of one channel. Cheap to clone.
#[derive(Clone)]
pub struct ConfigHistory {
    store: Arc<dyn Store>,
}

impl ConfigHistory {
    /// The collections that a chaincode was given by the newest definition before a block; `None` if
    /// there was none with collections (Fabric: `MostRecentCollectionConfigBelow`). A definition
    /// without collections leaves no row, so that the ones before it still show.
    pub fn most_recent_below(
        &self,
        block: u64,
        chaincode: &str,
    ) -> Result<Option<CollectionConfig>, StateError> {
        let Some(newest) = block.checked_sub(1) else {
            return Ok(None);
        };
        let from = row_key(chaincode, newest);
        let mut end = row_key(chaincode, 0);
        end.push(0);
        let mut rows = self.store.range(Table::ConfigHistory, &from, Some(&end));
        let Some(row) = rows.next() else {
            return Ok(None);
        };
        let (key, package) = row?;
        let row = ConfigHistoryRow { key, package };
        let damaged = StateError::Damaged("config history");
        let (_, block) = row.chaincode_and_block().ok_or(damaged)?;
        Ok(Some(CollectionConfig {
            block,
            package: row.package,
        }))
    }

    /// Every row in the order of the keys, as Fabric's snapshots hold them: by chaincode, the newest
    /// first.
    pub fn rows(&self) -> impl Iterator<Item = Result<ConfigHistoryRow, StateError>> {
        let rows = self.store.range(Table::ConfigHistory, &[], None);
        rows.map(|row| {
            let (key, package) = row?;
            Ok(ConfigHistoryRow { key, package })
        })
    }

    /// Takes over the rows of a snapshot. There must be none yet. After an error some are written.
    pub fn import<E: From<StateError>>(
        &self,
        rows: impl IntoIterator<Item = Result<ConfigHistoryRow, E>>,
    ) -> Result<(), E> {
        let mut batch = Batch::default();
        for row in rows {
            let row = row?;
            if row.chaincode_and_block().is_none() {
                return Err(StateError::Damaged("config history in the snapshot").into());
            }
            batch.put(Table::ConfigHistory, row.key, row.package);
            if batch.len() >= IMPORT_BATCH {
                self.write(std::mem::take(&mut batch))?;
            }
        }
        self.write(batch)?;
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<(), StateError> {
        Ok(self.store.commit(batch, Durability::Disk)?)
    }
}

impl StateDatabase {
    /// The history of the channel's collections.
    pub fn config_history(&self) -> ConfigHistory {
        ConfigHistory {
            store: Arc::clone(self.store()),
        }
    }
}

impl StateUpdates {
    /// Records the collections that the block gives to a chaincode.
    pub fn define_collections(&mut self, chaincode: &str, package: Bytes) {
        let mut batch = Batch::default();
        let key = row_key(chaincode, self.block());
        batch.put(Table::ConfigHistory, key, package);
        self.record(batch);
    }
}

fn row_key(chaincode: &str, block: u64) -> Vec<u8> {
    let number = (u64::MAX - block).to_be_bytes();
    [PREFIX, chaincode.as_bytes(), SUFFIX, &number].concat()
}

impl std::fmt::Debug for ConfigHistory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ConfigHistory")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chaincode and its package.
    type Defined<'a> = (&'a str, &'static [u8]);

    fn defined(blocks: &[(u64, &[Defined<'_>])]) -> StateDatabase {
        let state = StateDatabase::in_memory().unwrap();
        for block in 0..10 {
            let mut updates = StateUpdates::new(block);
            let defined = blocks.iter().filter(|(number, _)| *number == block);
            for (chaincode, package) in defined.flat_map(|(_, defined)| *defined) {
                updates.define_collections(chaincode, Bytes::from_static(package));
            }
            state.commit(&updates, Durability::Process).unwrap();
        }
        state
    }

    #[test]
    fn the_newest_definition_before_a_block_counts() {
        let state = defined(&[
            (2, &[("cc", b"two"), ("cd", b"other")]),
            (6, &[("cc", b"six")]),
        ]);
        let history = state.config_history();
        let below = |block, name: &str| {
            let found = history.most_recent_below(block, name).unwrap();
            found.map(|config| (config.block, config.package.to_vec()))
        };
        assert_eq!(below(0, "cc"), None);
        assert_eq!(below(2, "cc"), None);
        assert_eq!(below(3, "cc"), Some((2, b"two".to_vec())));
        assert_eq!(below(6, "cc"), Some((2, b"two".to_vec())));
        assert_eq!(below(7, "cc"), Some((6, b"six".to_vec())));
        assert_eq!(below(u64::MAX, "cc"), Some((6, b"six".to_vec())));
        assert_eq!(below(9, "cd"), Some((2, b"other".to_vec())));
        for stranger in ["c", "cca", "cc~collection", "", "b", "d"] {
            assert_eq!(below(9, stranger), None, "{stranger}");
        }
        assert_eq!(below(9, &"long".repeat(20_000)), None);
    }

    #[test]
    fn rows_are_fabrics_and_can_be_taken_over() {
        let state = defined(&[(3, &[("vault", b"old")]), (6, &[("vault", b"package")])]);
        let rows: Vec<_> = state.config_history().rows().map(Result::unwrap).collect();
        assert_eq!(
            rows[0].key,
            b"slscc\0vault~collection\xff\xff\xff\xff\xff\xff\xff\xf9"[..]
        );
        assert_eq!(rows[0].chaincode_and_block(), Some(("vault", 6)));
        assert_eq!(rows[1].chaincode_and_block(), Some(("vault", 3)));

        let other = StateDatabase::in_memory().unwrap();
        let history = other.config_history();
        history
            .import(rows.iter().cloned().map(Ok::<_, StateError>))
            .unwrap();
        assert!(history.rows().map(Result::unwrap).eq(rows));
        let found = history.most_recent_below(6, "vault").unwrap().unwrap();
        assert_eq!((found.block, &found.package[..]), (3, &b"old"[..]));
    }

    #[test]
    fn a_strange_row_is_not_taken_over() {
        let state = StateDatabase::in_memory().unwrap();
        for key in [
            &b""[..],
            b"slscc\0",
            b"slscc\0vault\0\0\0\0\0\0\0\0",
            b"slscc\0\xff~collection\0\0\0\0\0\0\0\0",
        ] {
            let row = ConfigHistoryRow {
                key: Bytes::copy_from_slice(key),
                package: Bytes::new(),
            };
            let imported = state.config_history().import([Ok::<_, StateError>(row)]);
            assert!(imported.is_err(), "{key:?}");
        }
        assert_eq!(state.config_history().rows().count(), 0);
    }
}
