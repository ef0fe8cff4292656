//! Whether what a transaction read is still so (Fabric: `txmgmt/validation`, validator).

use selvedge_protos::kvrwset::{Version, range_query_info::ReadsInfo};
use selvedge_protos::protos::TxValidationCode;

use super::ranges;
use super::updates::UpdateBatch;
use super::{Failure, VersionedState};
use crate::rwset::{NsRwSet, TxRwSet};

/// The state, and what the block has changed in it up to the transaction at hand.
pub(super) struct Conflicts<'a, S> {
    pub state: &'a S,
    pub updates: &'a UpdateBatch,
}

impl<S: VersionedState> Conflicts<'_, S> {
    /// The code of the first conflict, in the order of namespaces; in each, public reads come first, then
    /// range queries, then hashed reads.
    pub fn check(&self, rwset: &TxRwSet) -> Result<TxValidationCode, Failure> {
        for part in &rwset.namespaces {
            if !self.are_reads_current(part)? {
                return Ok(TxValidationCode::MvccReadConflict);
            }
            if !self.are_ranges_current(part)? {
                return Ok(TxValidationCode::PhantomReadConflict);
            }
            if !self.are_hashed_reads_current(part)? {
                return Ok(TxValidationCode::MvccReadConflict);
            }
        }
        Ok(TxValidationCode::Valid)
    }

    fn are_reads_current(&self, part: &NsRwSet) -> Result<bool, Failure> {
        for read in &part.reads {
            let key = read.key.as_bytes();
            if !self.is_current(&part.namespace, None, key, read.version)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn are_hashed_reads_current(&self, part: &NsRwSet) -> Result<bool, Failure> {
        for collection in &part.collections {
            let name = Some(collection.collection.as_str());
            for read in &collection.reads {
                if !self.is_current(&part.namespace, name, &read.key_hash, read.version)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn is_current(
        &self,
        namespace: &str,
        collection: Option<&str>,
        key: &[u8],
        read: Option<Version>,
    ) -> Result<bool, Failure> {
        if self.updates.get(namespace, collection, key).is_some() {
            return Ok(false);
        }
        let committed = self.state.versioned_value(namespace, collection, key)?;
        Ok(committed.map(|committed| committed.version) == read)
    }

    fn are_ranges_current(&self, part: &NsRwSet) -> Result<bool, Failure> {
        for query in &part.range_queries {
            let mut range = ranges::open(self.state, self.updates, &part.namespace, query);
            let is_current = match &query.reads_info {
                Some(ReadsInfo::ReadsMerkleHashes(summary)) => ranges::fit(summary, &mut range)?,
                Some(ReadsInfo::RawReads(reads)) => ranges::equal(&reads.kv_reads, &mut range)?,
                None => ranges::equal(&[], &mut range)?,
            };
            if !is_current {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
