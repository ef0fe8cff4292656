//! Which private data a block lacks.
//!
//! Nobody hands in private data with a block yet, so every write-set of a collection is missing. Whether the
//! peer's organisation is a member, and when the data expires, is said by the collection as it was defined
//! before the block. As in Fabric, that goes for transactions of every verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use selvedge_ledger::config_history::ConfigHistory;
use selvedge_ledger::missing_data::{CollectionName, MissingRows, MissingWrites};
use selvedge_ledger::state::StateError;
use selvedge_protos::common::Block;
use selvedge_validation::mvcc::CommittedTransaction;
use selvedge_validation::{CollectionFacts, Collections, TxRwSet, TxVerdict};

/// Finds out what blocks lack.
pub(super) struct MissingFinder<'a> {
    /// The MSP of the peer's organisation.
    pub organization: &'a Arc<str>,
    pub config_history: ConfigHistory,
}

/// A chaincode with the package of collections that a block gives to it.
pub(super) type Defined = (String, Bytes);

impl MissingFinder<'_> {
    /// Of a block whose verdicts have just been given.
    pub(super) fn of_verdicts(
        &self,
        number: u64,
        verdicts: &[TxVerdict],
        block: &Block,
        defined: &[Defined],
    ) -> Result<MissingRows, StateError> {
        let envelopes = block.data.iter().flat_map(|data| &data.data);
        let mut missing = Missing::default();
        for (position, (verdict, envelope)) in (0..).zip(verdicts.iter().zip(envelopes)) {
            match &verdict.transaction {
                Some(transaction) => missing.add(position, &transaction.rwset),
                None => missing.add_envelope(position, envelope),
            }
        }
        self.rows(number, missing, defined)
    }

    /// Of a block that is committed.
    pub(super) fn of_block(
        &self,
        number: u64,
        block: &Block,
        defined: &[Defined],
    ) -> Result<MissingRows, StateError> {
        let mut missing = Missing::default();
        let envelopes = block.data.iter().flat_map(|data| &data.data);
        for (position, envelope) in (0..).zip(envelopes) {
            missing.add_envelope(position, envelope);
        }
        self.rows(number, missing, defined)
    }

    fn rows(
        &self,
        number: u64,
        missing: Missing,
        defined: &[Defined],
    ) -> Result<MissingRows, StateError> {
        let mut rows = MissingRows::new(number);
        for (chaincode, collections) in missing.0 {
            let defined = self.collections(number, &chaincode)?;
            for (collection, transactions) in collections {
                // Writes to what is not defined end a Go peer; here the transaction was undecidable.
                let Some(facts) = defined.get(&collection) else {
                    continue;
                };
                let lifetime = facts.block_to_live;
                rows.add(MissingWrites {
                    expires: lifetime.and_then(|blocks| number.checked_add(blocks)?.checked_add(1)),
                    is_eligible: self.is_member(&facts),
                    name: CollectionName {
                        chaincode: chaincode.clone(),
                        collection,
                    },
                    transactions,
                });
            }
        }
        for (chaincode, package) in defined {
            let before = self.collections(number, chaincode)?;
            let after = Collections::read(package);
            for collection in after.names() {
                let was_member = before.get(collection).map(|facts| self.is_member(&facts));
                let is_member = after
                    .get(collection)
                    .is_some_and(|facts| self.is_member(&facts));
                if was_member == Some(false) && is_member {
                    rows.make_eligible(&CollectionName {
                        chaincode: chaincode.clone(),
                        collection: collection.to_owned(),
                    });
                }
            }
        }
        Ok(rows)
    }

    fn collections(&self, number: u64, chaincode: &str) -> Result<Collections, StateError> {
        let config = self.config_history.most_recent_below(number, chaincode)?;
        Ok(config.map_or_else(Collections::default, |config| {
            Collections::read(&config.package)
        }))
    }

    fn is_member(&self, collection: &CollectionFacts) -> bool {
        collection.members.contains(&**self.organization)
    }
}

/// By chaincode and collection the transactions that write to it.
#[derive(Default)]
struct Missing(BTreeMap<String, BTreeMap<String, BTreeSet<u64>>>);

impl Missing {
    fn add(&mut self, position: u64, rwset: &TxRwSet) {
        for part in &rwset.namespaces {
            for collection in part.collections.iter().filter(|part| part.has_writes()) {
                let chaincode = self.0.entry(part.namespace.clone()).or_default();
                let transactions = chaincode.entry(collection.collection.clone()).or_default();
                transactions.insert(position);
            }
        }
    }

    fn add_envelope(&mut self, position: u64, envelope: &Bytes) {
        let transaction = CommittedTransaction::read(envelope);
        if let Some(transaction) = transaction.filter(|transaction| !transaction.is_config) {
            self.add(position, &transaction.rwset);
        }
    }
}
