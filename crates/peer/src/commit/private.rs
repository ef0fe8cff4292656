//! Which private data a block or a snapshot lacks, and which private keys a block purges.
//!
//! Nobody hands in private data with a block yet, so every write-set of a collection is missing. Whether the
//! peer's organisation is a member, and when the data expires, is said by the collection as it was defined
//! before the block. As in Fabric, that goes for transactions of every verdict; purges count in valid ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use selvedge_ledger::config_history::ConfigHistory;
use selvedge_ledger::missing_data::{
    CollectionName, Membership, MissingData, MissingRows, MissingWrites,
};
use selvedge_ledger::state::{StateDatabase, StateError};
use selvedge_protos::block::metadata_slot;
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::mvcc::CommittedTransaction;
use selvedge_validation::{CollectionFacts, Collections, TxRwSet, TxVerdict};

use super::CommitError;

/// Finds out what blocks lack.
pub(super) struct MissingFinder<'a> {
    /// The MSP of the peer's organisation.
    pub organization: &'a Arc<str>,
    pub config_history: ConfigHistory,
}

/// Accounts for the private data that a state has by its hashes, which came with a snapshot as a whole, for a
/// peer of an organisation.
pub(crate) fn account_for_snapshot(
    state: &StateDatabase,
    organization: &Arc<str>,
) -> Result<(), CommitError> {
    let finder = MissingFinder {
        organization,
        config_history: state.config_history(),
    };
    let first = state.savepoint()?.map_or(0, |last| last.saturating_add(1));
    finder.account_for_snapshot(&state.missing_data(), first)
}

/// A chaincode with the package of collections that a block gives to it.
pub(super) type Defined = (String, Bytes);

impl MissingFinder<'_> {
    /// Of a block whose verdicts have just been given.
    pub(super) fn of_verdicts(
        &self,
        number: u64,
        verdicts: &[TxVerdict],
        codes: &[TxValidationCode],
        block: &Block,
        defined: &[Defined],
    ) -> Result<MissingRows, StateError> {
        let envelopes = block.data.iter().flat_map(|data| &data.data);
        let mut private = Private::default();
        let verdicts = verdicts.iter().zip(codes);
        for (position, ((verdict, code), envelope)) in (0..).zip(verdicts.zip(envelopes)) {
            let is_valid = *code == TxValidationCode::Valid;
            match &verdict.transaction {
                Some(transaction) => private.add(position, &transaction.rwset, is_valid),
                None => private.add_envelope(position, envelope, is_valid),
            }
        }
        self.rows(number, private, defined)
    }

    /// Of a block that is committed.
    pub(super) fn of_block(
        &self,
        number: u64,
        block: &Block,
        defined: &[Defined],
    ) -> Result<MissingRows, StateError> {
        let mut private = Private::default();
        let filter = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
        let envelopes = block.data.iter().flat_map(|data| &data.data);
        for (position, (envelope, code)) in (0..).zip(envelopes.zip(&filter)) {
            let is_valid = *code == TxValidationCode::Valid as u8;
            private.add_envelope(position, envelope, is_valid);
        }
        self.rows(number, private, defined)
    }

    /// Accounts for what came with a snapshot, of which only hashes are there.
    pub(super) fn account_for_snapshot(
        &self,
        missing: &MissingData,
        first: u64,
    ) -> Result<(), CommitError> {
        let mut definitions = BTreeMap::new();
        missing.account_for_snapshot(first, |name, block| {
            let known = match definitions.get(&name.chaincode) {
                Some(known) => known,
                None => {
                    let found = self.definitions(&name.chaincode)?;
                    definitions.entry(name.chaincode.clone()).or_insert(found)
                }
            };
            self.membership(known, name, block)
                .ok_or_else(|| CommitError::UndefinedCollection {
                    chaincode: name.chaincode.clone(),
                    collection: name.collection.clone(),
                    block,
                })
        })
    }

    /// All definitions of a chaincode's collections, the newest first, each with its block.
    fn definitions(&self, chaincode: &str) -> Result<Vec<(u64, Collections)>, StateError> {
        let mut found = Vec::new();
        let mut below = u64::MAX;
        while let Some(config) = self.config_history.most_recent_below(below, chaincode)? {
            below = config.block;
            found.push((config.block, Collections::read(&config.package)));
        }
        Ok(found)
    }

    /// Who was a member when the block was committed is entitled to what it wrote, and who became one later
    /// too. `None` if the collection was not defined before the block.
    fn membership(
        &self,
        definitions: &[(u64, Collections)],
        name: &CollectionName,
        block: u64,
    ) -> Option<Membership> {
        // That of an organisation is there without being defined.
        if let Some(facts) = Collections::default().get(&name.collection) {
            return Some(Membership {
                is_eligible: self.is_member(&facts),
                block_to_live: facts.block_to_live,
            });
        }
        let mut is_eligible = false;
        for (since, collections) in definitions {
            let Some(facts) = collections.get(&name.collection) else {
                continue;
            };
            is_eligible |= self.is_member(&facts);
            if *since < block {
                return Some(Membership {
                    is_eligible,
                    block_to_live: facts.block_to_live,
                });
            }
        }
        None
    }

    fn rows(
        &self,
        number: u64,
        private: Private,
        defined: &[Defined],
    ) -> Result<MissingRows, StateError> {
        let mut rows = MissingRows::new(number);
        for purge in private.purges {
            rows.purge(purge.position, &purge.name, &purge.key_hash);
        }
        for (chaincode, collections) in private.missing {
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

/// What a block has to do with private data.
#[derive(Default)]
struct Private {
    /// By chaincode and collection the transactions that write to it.
    missing: BTreeMap<String, BTreeMap<String, BTreeSet<u64>>>,
    /// In the order of the transactions.
    purges: Vec<PurgeOf>,
}

struct PurgeOf {
    position: u64,
    name: CollectionName,
    key_hash: Bytes,
}

impl Private {
    fn add(&mut self, position: u64, rwset: &TxRwSet, is_valid: bool) {
        for part in &rwset.namespaces {
            for collection in part.collections.iter().filter(|part| part.has_writes()) {
                let chaincode = self.missing.entry(part.namespace.clone()).or_default();
                let transactions = chaincode.entry(collection.collection.clone()).or_default();
                transactions.insert(position);
                let purges = collection.writes.iter().filter(|write| write.is_purge);
                for write in purges.filter(|_| is_valid) {
                    self.purges.push(PurgeOf {
                        position,
                        name: CollectionName {
                            chaincode: part.namespace.clone(),
                            collection: collection.collection.clone(),
                        },
                        key_hash: write.key_hash.clone(),
                    });
                }
            }
        }
    }

    fn add_envelope(&mut self, position: u64, envelope: &Bytes, is_valid: bool) {
        let transaction = CommittedTransaction::read(envelope);
        if let Some(transaction) = transaction.filter(|transaction| !transaction.is_config) {
            self.add(position, &transaction.rwset, is_valid);
        }
    }
}
