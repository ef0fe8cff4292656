//! MVCC: whether what a transaction read is still so, and what a block changes in the state.
//!
//! The transactions of a block are taken in order. One whose reads have changed since it was simulated
//! is an `MVCC_READ_CONFLICT`; one whose range queries would give something else now is a
//! `PHANTOM_READ_CONFLICT`. The writes of one that passes go to the block's [`UpdateBatch`], where the
//! reads of the following ones are looked up before the state: a key that an earlier transaction of
//! the block wrote cannot be read, whatever version was read (Fabric: `txmgmt/validation`).
//!
//! - [`resolve`] gives the codes and the update batch of a block; [`collect`] the batch of a block whose
//!   codes are known.
//! - [`commit_hash`] chains both from block to block. Peers with the same commit hash have the same
//!   verdicts and the same state.
//!
//! This lives here and not in the ledger since it works on decoded read-write sets; what it must know
//! of the state it asks for through [`VersionedState`].
//!
//! # Where a Go peer ends
//!
//! Four kinds of read-write sets, which need a majority of strange endorsers but for the third and the
//! fourth, end a Go peer of v3.1.5 while it commits. There is no verdict to agree with, so they are
//! [`MvccError::Undecidable`]; see [`MvccReason`].

mod committed;
mod conflicts;
mod hash;
mod merkle;
mod operations;
mod ranges;
mod updates;

use bytes::Bytes;
use selvedge_protos::kvrwset::Version;
use selvedge_protos::protos::TxValidationCode;

use crate::rwset::TxRwSet;
use crate::source::SourceError;
use crate::validator::StatedVerdicts;
use crate::verdict::TxVerdict;
use conflicts::Conflicts;

pub use committed::{CommittedTransaction, committed_rwset};
pub use hash::{commit_hash, update_bytes};
pub use updates::{CollectionUpdates, NamespaceUpdates, Update, UpdateBatch};

/// A value of the state, with the transaction that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionedValue {
    /// The value; of a private key its hash.
    pub value: Bytes,
    /// The entries of a `KVMetadataWrite`, encoded; empty for none.
    pub metadata: Bytes,
    /// Block and position of the transaction that last wrote value or metadata.
    pub version: Version,
}

/// A key with the version of its value.
pub type VersionedKey = (Bytes, Version);

/// The state as of the block before the one that is resolved.
pub trait VersionedState {
    /// The value of a key, or that of a private key by its hash if a collection is given.
    fn versioned_value(
        &self,
        namespace: &str,
        collection: Option<&str>,
        key: &[u8],
    ) -> Result<Option<VersionedValue>, SourceError>;

    /// The public keys of a namespace from `from` on and before `to` (to the last if there is none), in the
    /// order of their bytes. Nothing if `to` comes before `from`.
    fn versions_in_range(
        &self,
        namespace: &str,
        from: &str,
        to: Option<&str>,
    ) -> impl Iterator<Item = Result<VersionedKey, SourceError>>;
}

/// What becomes of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedBlock {
    /// The final code of each transaction.
    pub codes: Vec<TxValidationCode>,
    /// What the valid ones change.
    pub updates: UpdateBatch,
}

impl ResolvedBlock {
    /// The codes as they stand in the block's metadata (TRANSACTIONS_FILTER): a byte for each.
    pub fn transactions_filter(&self) -> Vec<u8> {
        let byte = |code: &TxValidationCode| u8::try_from(*code as i32).unwrap_or(u8::MAX);
        self.codes.iter().map(byte).collect()
    }
}

/// Why a block could not be resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MvccError {
    /// A Go peer ends at one of the transactions.
    #[error("block {block}, transaction {transaction} cannot be committed: {reason}")]
    Undecidable {
        /// The block.
        block: u64,
        /// The position of the transaction.
        transaction: usize,
        /// Why.
        reason: MvccReason,
    },
    /// The state could not be read.
    #[error("state for block {block}: {source}")]
    State {
        /// The block.
        block: u64,
        /// What the state says.
        source: SourceError,
    },
}

/// What ends a Go peer while it commits a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MvccReason {
    /// The results of a range query are compared with a read that has no version: nil dereference.
    #[error(
        "a range query in {namespace} has read {key:?} without a version; a Go peer ends at it"
    )]
    ReadWithoutVersion {
        /// The namespace.
        namespace: String,
        /// The key.
        key: String,
    },
    /// A summary of range query results asks for a tree of an impossible degree: the channel halts.
    #[error("a range query in {namespace} is summarised with degree {degree}; a Go peer halts")]
    Degree {
        /// The namespace.
        namespace: String,
        /// The degree; it must be at least 2.
        degree: u32,
    },
    /// A range has grown so far beyond a full level of the summary that its tree got a further one: index
    /// out of range. No strange endorser is needed: a query with exactly 51 * 50 results, to which 51 keys
    /// were added behind the last, is enough.
    #[error(
        "a range query in {namespace} has grown beyond its summary by a level; a Go peer ends at it"
    )]
    GrownByLevel {
        /// The namespace.
        namespace: String,
    },
    /// A definition that cannot be read is committed: the peer asks for its collections and ends.
    #[error("it defines {chaincode} in a way that cannot be read ({fault}); a Go peer ends at it")]
    Definition {
        /// The chaincode.
        chaincode: String,
        /// What is wrong.
        fault: String,
    },
    /// Metadata is written to a key that an earlier transaction of the block has deleted, or a key is
    /// deleted so many times that the count of operations overflows: panic at a value of nil.
    #[error("{key} in {namespace} would get metadata without a value; a Go peer ends at it")]
    NoValue {
        /// The namespace.
        namespace: String,
        /// The key, in hex if it is that of a private key.
        key: String,
    },
}

/// Why one transaction could not be resolved.
#[derive(Debug)]
pub(crate) enum Failure {
    Undecidable(MvccReason),
    State(SourceError),
}

impl From<SourceError> for Failure {
    fn from(source: SourceError) -> Self {
        Self::State(source)
    }
}

impl Failure {
    fn at(self, block: u64, transaction: usize) -> MvccError {
        match self {
            Self::Undecidable(reason) => MvccError::Undecidable {
                block,
                transaction,
                reason,
            },
            Self::State(source) => MvccError::State { block, source },
        }
    }
}

/// Resolves the conflicts in a block. `verdicts` are those of [`crate::Validator::decide`], `state` is as of
/// the block before. A transaction with a stated verdict is not compared with the state.
///
/// Costs a look-up for each key read, and one for each key written if its namespace may have metadata.
pub fn resolve(
    block: u64,
    verdicts: &[TxVerdict],
    state: &impl VersionedState,
    stated: &StatedVerdicts,
) -> Result<ResolvedBlock, MvccError> {
    let mut updates = UpdateBatch::default();
    let mut codes = Vec::with_capacity(verdicts.len());
    for (position, verdict) in verdicts.iter().enumerate() {
        let Some(transaction) = &verdict.transaction else {
            codes.push(verdict.code);
            continue;
        };
        let version = version(block, position);
        let is_stated = stated.contains_key(&(block, position));
        let code = resolve_one(&transaction.rwset, version, is_stated, state, &mut updates)
            .map_err(|failure| failure.at(block, position))?;
        codes.push(code);
    }
    Ok(ResolvedBlock { codes, updates })
}

/// The update batch of a block whose codes are known, from the read-write sets of its valid
/// transactions by position: to bring a state level with block files.
pub fn collect<'a>(
    block: u64,
    valid: impl IntoIterator<Item = (usize, &'a TxRwSet)>,
    state: &impl VersionedState,
) -> Result<UpdateBatch, MvccError> {
    let mut updates = UpdateBatch::default();
    for (position, rwset) in valid {
        operations::apply(rwset, version(block, position), state, &mut updates)
            .map_err(|failure| failure.at(block, position))?;
    }
    Ok(updates)
}

fn version(block: u64, position: usize) -> Version {
    Version {
        block_num: block,
        tx_num: position as u64,
    }
}

fn resolve_one(
    rwset: &TxRwSet,
    version: Version,
    is_stated: bool,
    state: &impl VersionedState,
    updates: &mut UpdateBatch,
) -> Result<TxValidationCode, Failure> {
    if !is_stated {
        let conflicts = Conflicts { state, updates };
        let code = conflicts.check(rwset)?;
        if code != TxValidationCode::Valid {
            return Ok(code);
        }
    }
    operations::apply(rwset, version, state, updates)?;
    Ok(TxValidationCode::Valid)
}

#[cfg(test)]
mod tests;
