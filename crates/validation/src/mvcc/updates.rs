//! What a block changes in the state.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvedge_protos::kvrwset::Version;

/// The changes of a block: for each key the last one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpdateBatch {
    /// By namespace.
    pub namespaces: BTreeMap<String, NamespaceUpdates>,
}

/// The changes in a namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamespaceUpdates {
    /// By key.
    pub public: BTreeMap<Bytes, Update>,
    /// By collection.
    pub collections: BTreeMap<String, CollectionUpdates>,
}

/// The changes in a collection, by hash of the key.
pub type CollectionUpdates = BTreeMap<Bytes, Update>;

/// A change.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The new value (of a private key its hash), `None` if the key is deleted.
    pub value: Option<Bytes>,
    /// The metadata that the key has from now on; empty for none.
    pub metadata: Bytes,
    /// The transaction that made the change.
    pub version: Version,
}

impl UpdateBatch {
    /// The change of a key, if there is one.
    pub fn get(&self, namespace: &str, collection: Option<&str>, key: &[u8]) -> Option<&Update> {
        let namespace = self.namespaces.get(namespace)?;
        match collection {
            None => namespace.public.get(key),
            Some(collection) => namespace.collections.get(collection)?.get(key),
        }
    }

    /// The changes of public keys from `from` on and before `to`, in order.
    pub(crate) fn range(
        &self,
        namespace: &str,
        from: &str,
        to: Option<&str>,
    ) -> impl Iterator<Item = (&Bytes, &Update)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let is_empty = to.is_some_and(|to| to <= from);
        let namespace = self.namespaces.get(namespace).filter(|_| !is_empty);
        let to = to.map_or(Unbounded, |to| Excluded(to.as_bytes()));
        let bounds = (Included(from.as_bytes()), to);
        namespace
            .into_iter()
            .flat_map(move |namespace| namespace.public.range::<[u8], _>(bounds))
    }

    pub(crate) fn set(
        &mut self,
        namespace: &str,
        collection: Option<&str>,
        key: Bytes,
        update: Update,
    ) {
        let namespace = self.namespaces.entry(namespace.to_owned()).or_default();
        let keys = match collection {
            None => &mut namespace.public,
            Some(collection) => namespace
                .collections
                .entry(collection.to_owned())
                .or_default(),
        };
        keys.insert(key, update);
    }
}
