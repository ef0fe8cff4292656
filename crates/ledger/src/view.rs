//! Reading the state as of one block, while later ones are committed.
//!
//! A Go peer lets queries and the commit of a block wait for each other, so that a query sees whole
//! blocks only. Here a [`StateView`] reads from a snapshot of the database: it is taken between two
//! commits, keeps to its block for as long as it lives, and nobody waits.

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::kvrwset::KvMetadataWrite;
use selvedge_protos::sha256;

use crate::config_history::ConfigHistory;
use crate::history::{History, Place};
use crate::state::{Namespace, StateDatabase, StateError, VersionedValue};

/// The state, the history and the history of collections as of one block. While it lives, what it shows
/// is kept on disk: not for longer than a query.
#[derive(Debug)]
pub struct StateView {
    state: StateDatabase,
    history: History,
    height: u64,
}

/// A part of the keys of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys, in order, with their values.
    pub entries: Vec<(Bytes, VersionedValue)>,
    /// The key with which the next page begins; `None` if nothing follows in the range.
    pub bookmark: Option<Bytes>,
}

impl StateDatabase {
    /// The state as it is after the last block.
    pub fn view(&self) -> Result<StateView, StateError> {
        let state = self.snapshot();
        let savepoint = state.savepoint()?;
        Ok(StateView {
            height: savepoint.map_or(0, |savepoint| savepoint.saturating_add(1)),
            history: state.history(),
            state,
        })
    }
}

impl StateView {
    /// The number of blocks that it shows.
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// What the state holds for a key; of a collection, for the hash of a key.
    pub fn get(
        &self,
        namespace: Namespace<'_>,
        key: &[u8],
    ) -> Result<Option<VersionedValue>, StateError> {
        self.state.get(namespace, key)
    }

    /// What the state holds for a private key: the hash of its value (Fabric: `GetPrivateDataHash`).
    pub fn private_hash(
        &self,
        chaincode: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<VersionedValue>, StateError> {
        let namespace = Namespace::hashed(chaincode, collection);
        self.get(namespace, &sha256(key.as_bytes()))
    }

    /// The metadata of a key, or of the hash of a private one: names and values as they were written.
    /// Empty for a key without, or one that is not there.
    pub fn metadata(
        &self,
        namespace: Namespace<'_>,
        key: &[u8],
    ) -> Result<Vec<(String, Bytes)>, StateError> {
        let found = self.get(namespace, key)?;
        let metadata = found.map(|found| found.metadata).unwrap_or_default();
        let metadata = KvMetadataWrite::decode(metadata);
        let metadata = metadata.map_err(|_| StateError::Damaged("metadata"))?;
        let entries = metadata.entries.into_iter();
        Ok(entries.map(|entry| (entry.name, entry.value)).collect())
    }

    /// The keys of a namespace from `from` on and before `to`, or to the last, in order.
    pub fn range<'a>(
        &'a self,
        namespace: Namespace<'_>,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(Bytes, VersionedValue), StateError>> + use<'a> {
        self.state.range(namespace, from, to)
    }

    /// The first keys of a range, at most so many. The next page begins `from` the bookmark (Fabric:
    /// `GetStateRangeScanIteratorWithPagination`).
    pub fn page(
        &self,
        namespace: Namespace<'_>,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, StateError> {
        let mut range = self.range(namespace, from, to);
        let entries = range.by_ref().take(limit).collect::<Result<_, _>>()?;
        let next = range.next().transpose()?;
        Ok(Page {
            entries,
            bookmark: next.map(|(key, _)| key),
        })
    }

    /// The transactions that wrote a public key, the newest first; as far as the history was kept, see
    /// [`History::height`].
    pub fn writers(
        &self,
        chaincode: &str,
        key: &str,
    ) -> impl Iterator<Item = Result<Place, StateError>> {
        self.history.places(chaincode, key)
    }

    /// The history of the channel's keys.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The history of the channel's collections.
    pub fn config_history(&self) -> ConfigHistory {
        self.state.config_history()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::HistoryRows;
    use crate::state::StateUpdates;
    use crate::store::Durability;
    use selvedge_protos::kvrwset::{KvMetadataEntry, Version};

    const CC: Namespace<'_> = Namespace::public("cc");

    fn value(value: &str, metadata: Vec<u8>, block_num: u64) -> VersionedValue {
        VersionedValue {
            value: Bytes::copy_from_slice(value.as_bytes()),
            metadata: metadata.into(),
            version: Version {
                block_num,
                tx_num: 0,
            },
        }
    }

    /// Commits a block that gives the keys its number as their value.
    fn commit(state: &StateDatabase, block: u64, keys: &[&str]) {
        let mut updates = StateUpdates::new(block);
        let mut rows = HistoryRows::new(block);
        for key in keys {
            updates.put(
                CC,
                key.as_bytes(),
                value(&block.to_string(), Vec::new(), block),
            );
            rows.add(0, "cc", key);
        }
        updates.add_history(rows);
        state.commit(&updates, Durability::Process).unwrap();
    }

    fn keys(page: &Page) -> Vec<&[u8]> {
        page.entries.iter().map(|(key, _)| &key[..]).collect()
    }

    #[test]
    fn a_view_keeps_to_its_block() {
        let folder = tempfile::tempdir().unwrap();
        let states = [
            StateDatabase::in_memory().unwrap(),
            StateDatabase::open(folder.path()).unwrap(),
        ];
        for state in states {
            assert_eq!(state.view().unwrap().height(), 0);
            commit(&state, 0, &["a", "b"]);
            let view = state.view().unwrap();
            commit(&state, 1, &["b", "c"]);
            assert_eq!(view.height(), 1);
            assert_eq!(view.get(CC, b"b").unwrap().unwrap().value[..], b"0"[..]);
            assert_eq!(view.get(CC, b"c").unwrap(), None);
            assert_eq!(view.range(CC, b"", None).count(), 2);
            assert_eq!(view.writers("cc", "b").count(), 1);
            assert_eq!(view.history().height().unwrap(), 1);
            let newer = state.view().unwrap();
            assert_eq!(newer.height(), 2);
            assert_eq!(newer.get(CC, b"b").unwrap().unwrap().value[..], b"1"[..]);
            let blocks = newer.writers("cc", "b").map(|place| place.unwrap().block);
            assert!(blocks.eq([1, 0]));
        }
    }

    #[test]
    fn pages_follow_each_other() {
        let state = StateDatabase::in_memory().unwrap();
        commit(&state, 0, &["a", "b", "c", "d", "e"]);
        let view = state.view().unwrap();
        let first = view.page(CC, b"", Some(b"e"), 2).unwrap();
        assert_eq!(keys(&first), [b"a", b"b"]);
        assert_eq!(first.bookmark.as_deref(), Some(&b"c"[..]));
        let second = view.page(CC, b"c", Some(b"e"), 2).unwrap();
        assert_eq!(keys(&second), [b"c", b"d"]);
        assert_eq!(second.bookmark, None);
        let open = view.page(CC, b"e", None, 2).unwrap();
        assert_eq!((keys(&open), &open.bookmark), (vec![&b"e"[..]], &None));
        let nothing = view.page(CC, b"", None, 0).unwrap();
        assert!(nothing.entries.is_empty() && nothing.bookmark.is_some());
        let backwards = view.page(CC, b"d", Some(b"b"), 2).unwrap();
        assert_eq!((keys(&backwards), &backwards.bookmark), (vec![], &None));
    }

    #[test]
    fn metadata_and_private_hashes() {
        let state = StateDatabase::in_memory().unwrap();
        let metadata = KvMetadataWrite {
            key: String::new(),
            entries: vec![KvMetadataEntry {
                name: "VALIDATION_PARAMETER".into(),
                value: Bytes::from_static(b"policy"),
            }],
        };
        let mut updates = StateUpdates::new(0);
        let hashed = Namespace::hashed("cc", "secret");
        let key = sha256(b"k");
        updates.put(hashed, &key, value("hash", metadata.encode_to_vec(), 0));
        updates.put(CC, b"plain", value("v", Vec::new(), 0));
        state.commit(&updates, Durability::Process).unwrap();
        let view = state.view().unwrap();
        let found = view.private_hash("cc", "secret", "k").unwrap().unwrap();
        assert_eq!(found.value[..], b"hash"[..]);
        assert_eq!(view.private_hash("cc", "other", "k").unwrap(), None);
        let expected = (
            "VALIDATION_PARAMETER".to_owned(),
            Bytes::from_static(b"policy"),
        );
        assert_eq!(view.metadata(hashed, &key).unwrap(), [expected]);
        assert!(view.metadata(CC, b"plain").unwrap().is_empty());
        assert!(view.metadata(CC, b"absent").unwrap().is_empty());
    }
}
