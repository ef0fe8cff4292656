//! A state in memory, fed with the write-sets of transactions that are valid.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::kvrwset::{KvMetadataEntry, KvMetadataWrite};
use selvedge_validation::rwset::{is_delete, is_hashed_delete};
use selvedge_validation::{
    CollHashedRwSet, NsRwSet, SourceError, StateReader, TransactionIds, TxRwSet,
};

#[derive(Clone, Debug, Default)]
struct Entry {
    value: Bytes,
    metadata: Option<Bytes>,
}

/// Namespace, collection (empty for public keys), and key.
type Key = (String, String, Vec<u8>);

#[derive(Clone, Debug, Default)]
pub struct Memory {
    entries: BTreeMap<Key, Entry>,
    pub txids: BTreeSet<String>,
}

impl Memory {
    pub fn apply(&mut self, rwset: &TxRwSet) {
        for part in &rwset.namespaces {
            self.apply_public(part);
            for collection in &part.collections {
                self.apply_hashed(&part.namespace, collection);
            }
        }
    }

    fn apply_public(&mut self, part: &NsRwSet) {
        let key = |name: &str| (part.namespace.clone(), String::new(), name.into());
        let mut seen = BTreeSet::new();
        for write in &part.writes {
            let twice = part.writes.iter().filter(|other| other.key == write.key);
            // A key that is put twice is taken for a metadata update.
            if twice.count() > 1 && !is_delete(write) || !seen.insert(&write.key) {
                continue;
            }
            self.put(
                key(&write.key),
                (!is_delete(write)).then(|| write.value.clone()),
            );
        }
        for write in &part.metadata_writes {
            self.put_metadata(key(&write.key), &write.entries);
        }
    }

    fn apply_hashed(&mut self, namespace: &str, part: &CollHashedRwSet) {
        let key = |hash: &Bytes| (namespace.to_owned(), part.collection.clone(), hash.to_vec());
        for write in &part.writes {
            let is_delete = is_hashed_delete(write) || write.is_purge;
            let value = (!is_delete).then(|| write.value_hash.clone());
            self.put(key(&write.key_hash), value);
        }
        for write in &part.metadata_writes {
            self.put_metadata(key(&write.key_hash), &write.entries);
        }
    }

    fn put(&mut self, key: Key, value: Option<Bytes>) {
        match value {
            Some(value) => self.entries.entry(key).or_default().value = value,
            None => drop(self.entries.remove(&key)),
        }
    }

    /// Without the key there is no metadata.
    fn put_metadata(&mut self, key: Key, entries: &[KvMetadataEntry]) {
        if let Some(entry) = self.entries.get_mut(&key) {
            let metadata = KvMetadataWrite {
                key: String::new(),
                entries: entries.to_vec(),
            };
            entry.metadata = (!entries.is_empty()).then(|| metadata.encode_to_vec().into());
        }
    }

    /// Sets a key directly.
    pub fn set(&mut self, namespace: &str, key: &str, value: &[u8], metadata: Option<Bytes>) {
        let key = (namespace.to_owned(), String::new(), key.into());
        let value = Bytes::copy_from_slice(value);
        self.entries.insert(key, Entry { value, metadata });
    }

    /// The public keys of a namespace.
    pub fn keys(&self, namespace: &str) -> Vec<String> {
        let public = self.entries.keys().filter(|key| key.1.is_empty());
        let of = public.filter(|key| key.0 == namespace);
        of.map(|key| String::from_utf8(key.2.clone()).unwrap())
            .collect()
    }
}

impl StateReader for Memory {
    fn value(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, SourceError> {
        let key = (namespace.to_owned(), String::new(), key.into());
        Ok(self.entries.get(&key).map(|entry| entry.value.clone()))
    }

    fn metadata(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, SourceError> {
        self.hashed_metadata(namespace, "", key.as_bytes())
    }

    fn hashed_metadata(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<Bytes>, SourceError> {
        let key = (namespace.to_owned(), collection.to_owned(), key_hash.into());
        Ok(self
            .entries
            .get(&key)
            .and_then(|entry| entry.metadata.clone()))
    }
}

impl TransactionIds for Memory {
    fn contains(&self, txid: &str) -> Result<bool, SourceError> {
        Ok(self.txids.contains(txid))
    }
}
