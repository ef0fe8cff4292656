//! What a block changes in the databases.

use selvedge_ledger::history::HistoryRows;
use selvedge_ledger::state::{Namespace, StateUpdates, VersionedValue};
use selvedge_protos::block::metadata_slot;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::mvcc::{self, CommittedTransaction, Update, UpdateBatch};
use selvedge_validation::{
    StatedVerdicts, TransactionKind, TxRwSet, TxVerdict, block_to_live, defined_collections,
};

use super::private::Defined;
use super::{CommitError, LedgerState};

const VALID: u8 = TxValidationCode::Valid as u8;
const NOT_VALIDATED: u8 = TxValidationCode::NotValidated as u8;

/// What a block changes.
pub(super) struct Changes {
    pub updates: StateUpdates,
    /// The collections that chaincodes are given.
    pub defined: Vec<Defined>,
}

/// The update batch of a block as the state takes it, with the blocks in which private keys expire and the
/// collections that are defined. `state` is as of the block before. Without `stated` the block is
/// committed already.
pub(super) fn of_batch(
    block: u64,
    batch: UpdateBatch,
    state: &LedgerState,
    stated: Option<&StatedVerdicts>,
) -> Result<Changes, CommitError> {
    let mut updates = StateUpdates::new(block);
    let defined = defined_collections(block, &batch, state, stated)?;
    let defined = defined.into_iter();
    let defined: Vec<_> = defined
        .map(|defined| (defined.chaincode, defined.package))
        .collect();
    for (chaincode, package) in &defined {
        updates.define_collections(chaincode, package.clone());
    }
    // A public namespace may have the name under which the hashes of a collection are kept. Of two writes to one
    // key that meet there, the collection's stays (Fabric: `ApplyPrivacyAwareUpdates`).
    let mut hashed = Vec::new();
    for (chaincode, batch) in batch.namespaces {
        for (key, update) in batch.public {
            let namespace = Namespace::public(&chaincode);
            change(&mut updates, namespace, &key, update, None);
        }
        if !batch.collections.is_empty() {
            hashed.push((chaincode, batch.collections));
        }
    }
    for (chaincode, collections) in hashed {
        for (collection, batch) in collections {
            let lifetime = block_to_live(&chaincode, &collection, state);
            let lifetime = lifetime.map_err(|source| CommitError::Source { block, source })?;
            let expires = lifetime.and_then(|blocks| block.checked_add(blocks)?.checked_add(1));
            let namespace = Namespace::hashed(&chaincode, &collection);
            for (key, update) in batch {
                change(&mut updates, namespace, &key, update, expires);
            }
        }
    }
    Ok(Changes { updates, defined })
}

fn change(
    updates: &mut StateUpdates,
    namespace: Namespace<'_>,
    key: &[u8],
    update: Update,
    expires: Option<u64>,
) {
    let Update {
        value,
        metadata,
        version,
    } = update;
    match value {
        None => updates.delete(namespace, key),
        Some(value) => {
            let value = VersionedValue {
                value,
                metadata,
                version,
            };
            updates.put_expiring(namespace, key, value, expires);
        }
    }
}

/// The writes of a block's valid endorser transactions.
pub(super) fn history(
    block: u64,
    verdicts: &[TxVerdict],
    codes: &[TxValidationCode],
) -> HistoryRows {
    let mut rows = HistoryRows::new(block);
    for (position, (verdict, code)) in (0..).zip(verdicts.iter().zip(codes)) {
        if let (TxValidationCode::Valid, Some(transaction)) = (code, &verdict.transaction)
            && matches!(transaction.kind, TransactionKind::Endorser { .. })
        {
            add_writes(&mut rows, position, &transaction.rwset);
        }
    }
    rows
}

fn add_writes(rows: &mut HistoryRows, position: u64, rwset: &TxRwSet) {
    for part in &rwset.namespaces {
        for write in &part.writes {
            rows.add(position, &part.namespace, &write.key);
        }
    }
}

/// The valid transactions of a committed block, by position.
pub(super) struct CommittedTransactions {
    block: u64,
    valid: Vec<(usize, CommittedTransaction)>,
}

impl CommittedTransactions {
    /// Reads what the block's own verdicts call valid.
    pub(super) fn read(channel: &str, number: u64, block: &Block) -> Result<Self, CommitError> {
        let filter = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
        let envelopes = block.data.as_ref().map_or(&[][..], |data| &data.data);
        if filter.len() != envelopes.len() || filter.contains(&NOT_VALIDATED) {
            let verdicts = filter.iter().filter(|code| **code != NOT_VALIDATED);
            return Err(CommitError::NoVerdicts {
                channel: channel.to_owned(),
                block: number,
                transactions: envelopes.len(),
                verdicts: verdicts.count(),
            });
        }
        let valid = filter.iter().zip(envelopes).enumerate();
        let valid = valid.filter(|(_, (code, _))| **code == VALID);
        let valid = valid.map(|(position, (_, envelope))| {
            let transaction = CommittedTransaction::read(envelope);
            let transaction = transaction.ok_or_else(|| CommitError::Block {
                channel: channel.to_owned(),
                block: number,
                reason: "a valid transaction has no results",
            });
            Ok((position, transaction?))
        });
        Ok(Self {
            block: number,
            valid: valid.collect::<Result<_, CommitError>>()?,
        })
    }

    /// What they change. `state` is as of the block before.
    pub(super) fn batch(&self, state: &LedgerState) -> Result<UpdateBatch, CommitError> {
        let rwsets = self.valid.iter();
        let rwsets = rwsets.map(|(position, transaction)| (*position, &transaction.rwset));
        Ok(mvcc::collect(self.block, rwsets, state)?)
    }

    /// What they add to the history.
    pub(super) fn history(&self) -> HistoryRows {
        let mut rows = HistoryRows::new(self.block);
        for (position, transaction) in &self.valid {
            if !transaction.is_config {
                add_writes(&mut rows, *position as u64, &transaction.rwset);
            }
        }
        rows
    }
}
