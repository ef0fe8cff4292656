//! The ledger as validation sees it.

use bytes::Bytes;
use selvedge_ledger::BlockStore;
use selvedge_ledger::state::{Namespace, StateDatabase};
use selvedge_validation::mvcc::{VersionedKey, VersionedState, VersionedValue};
use selvedge_validation::{SourceError, StateReader, TransactionIds};

/// The state of a channel.
#[derive(Debug)]
pub struct LedgerState(StateDatabase);

impl LedgerState {
    pub(super) const fn new(database: StateDatabase) -> Self {
        Self(database)
    }

    /// The database.
    pub const fn database(&self) -> &StateDatabase {
        &self.0
    }
}

impl StateReader for LedgerState {
    fn value(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, SourceError> {
        let found = self.0.get(Namespace::public(namespace), key.as_bytes())?;
        Ok(found.map(|found| found.value))
    }

    fn metadata(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, SourceError> {
        if !self.0.may_have_metadata(namespace) {
            return Ok(None);
        }
        let found = self.0.get(Namespace::public(namespace), key.as_bytes())?;
        Ok(found.map(|found| found.metadata))
    }

    fn hashed_metadata(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<Bytes>, SourceError> {
        if !self.0.may_have_metadata(namespace) {
            return Ok(None);
        }
        let found = self
            .0
            .get(Namespace::hashed(namespace, collection), key_hash)?;
        Ok(found.map(|found| found.metadata))
    }

    fn may_have_metadata(&self, namespace: &str) -> bool {
        self.0.may_have_metadata(namespace)
    }
}

impl VersionedState for LedgerState {
    fn versioned_value(
        &self,
        namespace: &str,
        collection: Option<&str>,
        key: &[u8],
    ) -> Result<Option<VersionedValue>, SourceError> {
        let namespace = Namespace {
            chaincode: namespace,
            collection,
        };
        let found = self.0.get(namespace, key)?;
        Ok(found.map(|found| VersionedValue {
            value: found.value,
            metadata: found.metadata,
            version: found.version,
        }))
    }

    fn versions_in_range(
        &self,
        namespace: &str,
        from: &str,
        to: Option<&str>,
    ) -> impl Iterator<Item = Result<VersionedKey, SourceError>> {
        let (from, to) = (from.as_bytes(), to.map(str::as_bytes));
        let entries = self.0.range(Namespace::public(namespace), from, to);
        entries.map(|entry| {
            let (key, value) = entry?;
            Ok((key, value.version))
        })
    }
}

/// The transaction ids of a channel, with those of the blocks that come next.
pub(super) struct LedgerIds<'a> {
    pub blocks: &'a BlockStore,
    pub staged: Option<&'a selvedge_ledger::TransactionIds>,
}

impl TransactionIds for LedgerIds<'_> {
    fn contains(&self, txid: &str) -> Result<bool, SourceError> {
        let is_staged = self.staged.is_some_and(|staged| staged.contains(txid));
        Ok(is_staged || self.blocks.has_transaction(txid)?)
    }
}
