//! Range queries: what one would give now, compared with what it gave
//! (Fabric: `txmgmt/validation`, combined_iterator and rangequery_validator).

use std::cmp::Ordering;
use std::iter::Peekable;

use selvedge_protos::kvrwset::{KvRead, QueryReadsMerkleSummary, RangeQueryInfo};

use super::merkle::ResultsTree;
use super::updates::UpdateBatch;
use super::{Failure, MvccReason, VersionedKey, VersionedState};
use crate::source::SourceError;

/// The results that a range query would give now: the state with the updates of the block over it.
///
/// A query that the chaincode did not read to its end is recorded with the last key that it got as its
/// end, which therefore belongs to the range.
pub(super) struct Range<'a, S, C: Iterator, U: Iterator> {
    state: &'a S,
    updates: &'a UpdateBatch,
    pub namespace: &'a str,
    committed: Peekable<C>,
    /// With whether the key is deleted.
    updated: Peekable<U>,
    /// The last key, if it belongs to the range and was not given yet.
    end: Option<&'a str>,
}

/// The range of a query.
pub(super) fn open<'a, S: VersionedState>(
    state: &'a S,
    updates: &'a UpdateBatch,
    namespace: &'a str,
    query: &'a RangeQueryInfo,
) -> Range<
    'a,
    S,
    impl Iterator<Item = Result<VersionedKey, SourceError>>,
    impl Iterator<Item = (VersionedKey, bool)>,
> {
    let from = query.start_key.as_str();
    let to = Some(query.end_key.as_str()).filter(|end| !end.is_empty());
    let updated = updates.range(namespace, from, to);
    let updated =
        updated.map(|(key, update)| ((key.clone(), update.version), update.value.is_none()));
    Range {
        state,
        updates,
        namespace,
        committed: state.versions_in_range(namespace, from, to).peekable(),
        updated: updated.peekable(),
        end: (!query.itr_exhausted).then_some(query.end_key.as_str()),
    }
}

impl<S, C, U> Range<'_, S, C, U>
where
    S: VersionedState,
    C: Iterator<Item = Result<VersionedKey, SourceError>>,
    U: Iterator<Item = (VersionedKey, bool)>,
{
    fn next(&mut self) -> Result<Option<VersionedKey>, Failure> {
        loop {
            let order = match (self.committed.peek(), self.updated.peek()) {
                (None, None) => return self.take_end(),
                (Some(Err(_)) | Some(Ok(_)), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(Err(_)), Some(_)) => Ordering::Less,
                (Some(Ok((committed, _))), Some(((updated, _), _))) => committed.cmp(updated),
            };
            if order.is_lt() {
                return Ok(self.committed.next().transpose()?);
            }
            if order.is_eq() {
                self.committed.next();
            }
            if let Some((found, false)) = self.updated.next() {
                return Ok(Some(found));
            }
        }
    }

    fn take_end(&mut self) -> Result<Option<VersionedKey>, Failure> {
        let Some(end) = self.end.take() else {
            return Ok(None);
        };
        let key = bytes::Bytes::copy_from_slice(end.as_bytes());
        if let Some(update) = self.updates.get(self.namespace, None, &key) {
            return Ok(update.value.as_ref().map(|_| (key, update.version)));
        }
        let committed = self.state.versioned_value(self.namespace, None, &key)?;
        Ok(committed.map(|committed| (key, committed.version)))
    }
}

/// Whether the results are the recorded reads.
pub(super) fn equal<S, C, U>(
    reads: &[KvRead],
    range: &mut Range<'_, S, C, U>,
) -> Result<bool, Failure>
where
    S: VersionedState,
    C: Iterator<Item = Result<VersionedKey, SourceError>>,
    U: Iterator<Item = (VersionedKey, bool)>,
{
    for read in reads {
        let Some((key, version)) = range.next()? else {
            return Ok(false);
        };
        if key != read.key.as_bytes() {
            return Ok(false);
        }
        match read.version {
            Some(read) if read == version => {}
            Some(_) => return Ok(false),
            None => {
                return Err(Failure::Undecidable(MvccReason::ReadWithoutVersion {
                    namespace: range.namespace.to_owned(),
                    key: read.key.clone(),
                }));
            }
        }
    }
    Ok(range.next()?.is_none())
}

/// Whether the results have the recorded summary. Their tree is compared as it grows, so a range that
/// has become long is given up at its first difference.
pub(super) fn fit<S, C, U>(
    recorded: &QueryReadsMerkleSummary,
    range: &mut Range<'_, S, C, U>,
) -> Result<bool, Failure>
where
    S: VersionedState,
    C: Iterator<Item = Result<VersionedKey, SourceError>>,
    U: Iterator<Item = (VersionedKey, bool)>,
{
    let namespace = range.namespace;
    let Some(mut tree) = ResultsTree::new(recorded.max_degree) else {
        return Err(Failure::Undecidable(MvccReason::Degree {
            namespace: namespace.to_owned(),
            degree: recorded.max_degree,
        }));
    };
    let mut matched = 0;
    while let Some((key, version)) = range.next()? {
        tree.add(&key, version)?;
        let (level, hashes) = tree.top();
        if level < recorded.max_level || matched == hashes.len() {
            continue;
        }
        if hashes.len() > recorded.max_level_hashes.len() {
            return Ok(false);
        }
        let (Some(hash), Some(expected)) =
            (hashes.get(matched), recorded.max_level_hashes.get(matched))
        else {
            return Err(Failure::Undecidable(MvccReason::GrownByLevel {
                namespace: namespace.to_owned(),
            }));
        };
        if hash[..] != expected[..] {
            return Ok(false);
        }
        matched += 1;
    }
    tree.finish();
    let (level, hashes) = tree.top();
    let recorded_hashes = recorded.max_level_hashes.iter().map(|hash| &hash[..]);
    Ok(!hashes.is_empty()
        && level == recorded.max_level
        && hashes.iter().map(|hash| &hash[..]).eq(recorded_hashes))
}
