//! Reading a channel's ledger, for whoever simulates transactions or answers queries.
//!
//! A [`Query`] shows the channel as of the block that was the last one when it began, however many are
//! committed meanwhile (Fabric: `ledger.QueryExecutor`, `HistoryQueryExecutor`). It holds no lock, so that
//! neither waits for the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_ledger::history::Place;
use selvedge_ledger::state::{Namespace, StateError};
use selvedge_ledger::view::{Page, StateView};
use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_protos::queryresult::KeyModification;
use selvedge_protos::sha256;
use selvedge_validation::mvcc::CommittedTransaction;
use selvedge_validation::rwset::is_delete;

use crate::commit::LedgerState;

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The block files failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The history is not kept.
    #[error(
        "history database not enabled: channel {channel} has a history up to block {height} of {blocks}; \
         see ledger.history.enableHistoryDatabase"
    )]
    NoHistory {
        /// The channel.
        channel: String,
        /// How many blocks are in it.
        height: u64,
        /// How many blocks there are.
        blocks: u64,
    },
    /// The history lists a transaction that does not write the key.
    #[error(
        "channel {channel}: the history lists transaction {transaction} of block {block} for a key that it \
         does not write: stop the peer and run `selvedge ledger rebuild`"
    )]
    WrongHistory {
        /// The channel.
        channel: String,
        /// The block.
        block: u64,
        /// The position of the transaction.
        transaction: u64,
    },
}

/// What can be read of a channel.
#[derive(Debug, Clone)]
pub struct ChannelReader {
    blocks: BlockStore,
    state: Arc<LedgerState>,
}

impl ChannelReader {
    /// Reads the ledger that a committer writes.
    pub const fn new(blocks: BlockStore, state: Arc<LedgerState>) -> Self {
        Self { blocks, state }
    }

    /// Begins a query at the last block. Drop it soon: what it shows is kept on disk meanwhile.
    pub fn query(&self) -> Result<Query, QueryError> {
        Ok(Query {
            view: self.state.database().view()?,
            blocks: self.blocks.clone(),
        })
    }
}

/// The ledger as of one block. May wait for the disk, so it does not belong on an asynchronous task.
#[derive(Debug)]
pub struct Query {
    view: StateView,
    blocks: BlockStore,
}

impl Query {
    /// The number of blocks that it shows.
    pub const fn height(&self) -> u64 {
        self.view.height()
    }

    /// The state, for what is not below.
    pub const fn view(&self) -> &StateView {
        &self.view
    }

    /// The value of a key (Fabric: `GetState`).
    pub fn value(&self, chaincode: &str, key: &str) -> Result<Option<Bytes>, QueryError> {
        let found = self
            .view
            .get(Namespace::public(chaincode), key.as_bytes())?;
        Ok(found.map(|found| found.value))
    }

    /// The metadata of a key (Fabric: `GetStateMetadata`).
    pub fn metadata(
        &self,
        chaincode: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, QueryError> {
        let namespace = Namespace::public(chaincode);
        let metadata = self.view.metadata(namespace, key.as_bytes())?;
        Ok(metadata.into_iter().collect())
    }

    /// A part of the keys from `from` on and before `to`, where an empty `to` means all that follow (Fabric:
    /// `GetStateRangeScanIteratorWithPagination`).
    pub fn range(
        &self,
        chaincode: &str,
        from: &str,
        to: &str,
        limit: usize,
    ) -> Result<Page, QueryError> {
        let to = Some(to.as_bytes()).filter(|to| !to.is_empty());
        let namespace = Namespace::public(chaincode);
        Ok(self.view.page(namespace, from.as_bytes(), to, limit)?)
    }

    /// The hash of a private value (Fabric: `GetPrivateDataHash`). `None`, too, for a collection that is not
    /// defined, where Fabric fails.
    pub fn private_hash(
        &self,
        chaincode: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, QueryError> {
        let found = self.view.private_hash(chaincode, collection, key)?;
        Ok(found.map(|found| found.value))
    }

    /// The metadata of a private key (Fabric: `GetPrivateDataMetadata`).
    pub fn private_metadata(
        &self,
        chaincode: &str,
        collection: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, QueryError> {
        let namespace = Namespace::hashed(chaincode, collection);
        let metadata = self.view.metadata(namespace, &sha256(key.as_bytes()))?;
        Ok(metadata.into_iter().collect())
    }

    /// What was written to a key, the newest first (Fabric: `GetHistoryForKey`). Each step reads a
    /// transaction from the block files.
    pub fn history<'a>(
        &'a self,
        chaincode: &'a str,
        key: &'a str,
    ) -> Result<impl Iterator<Item = Result<KeyModification, QueryError>> + 'a, QueryError> {
        let height = self.view.history().height()?;
        if height < self.height() {
            return Err(QueryError::NoHistory {
                channel: self.blocks.channel().to_owned(),
                height,
                blocks: self.height(),
            });
        }
        let places = self.view.writers(chaincode, key);
        Ok(places.map(move |place| self.modification(chaincode, key, place?)))
    }

    fn modification(
        &self,
        chaincode: &str,
        key: &str,
        place: Place,
    ) -> Result<KeyModification, QueryError> {
        let envelope = self.blocks.envelope(place.block, place.transaction)?;
        let transaction = envelope.as_ref().and_then(CommittedTransaction::read);
        let modification =
            transaction.and_then(|transaction| modification(transaction, chaincode, key));
        modification.ok_or_else(|| QueryError::WrongHistory {
            channel: self.blocks.channel().to_owned(),
            block: place.block,
            transaction: place.transaction,
        })
    }
}

/// What a transaction wrote to a key: the first write of several.
fn modification(
    transaction: CommittedTransaction,
    chaincode: &str,
    key: &str,
) -> Option<KeyModification> {
    let part = transaction.rwset.namespace(chaincode)?;
    let write = part.writes.iter().find(|write| write.key == key)?;
    Some(KeyModification {
        value: write.value.clone(),
        is_delete: is_delete(write),
        tx_id: transaction.txid,
        timestamp: transaction.timestamp,
    })
}
