//! Whether the endorsements of a transaction suffice for what it writes in one namespace.
//!
//! Every key that is written, or whose metadata is, is asked for a policy of its own. A key without one
//! falls under the policy of its collection, and where that has none, under the chaincode's. Each of
//! these is evaluated once. If no policy was evaluated at all, the chaincode's is (Fabric: `statebased`,
//! validator_keylevel and v20).

use selvedge_channel::ChannelConfig;
use selvedge_msp::Identity;
use selvedge_protos::kvrwset::KvMetadataWrite;
use selvedge_protos::protos::MetaDataKeys;
use selvedge_protos::schema::decode;

use crate::definition::{Chaincode, CollectionPolicy};
use crate::error::Reason;
use crate::key_policies::{Key, KeyPolicies, Obstacle, Outcome};
use crate::policy::{EndorsementPolicy, PolicyFailure};
use crate::rwset::NsRwSet;
use crate::schemas::KV_METADATA_WRITE;
use crate::source::{SourceError, StateReader};

/// One transaction in one namespace.
pub(crate) struct NamespaceCheck<'a, S> {
    pub config: &'a ChannelConfig,
    pub state: &'a S,
    /// The position of the transaction in its block.
    pub transaction: usize,
    pub endorsers: &'a [Identity],
    pub namespace: &'a str,
    pub chaincode: &'a Chaincode,
    pub chaincode_policy: &'a EndorsementPolicy,
    pub key_policies: &'a KeyPolicies<'a>,
    /// What became of the transactions before.
    pub outcomes: &'a [Outcome],
}

/// Why the endorsements do not suffice, or why that cannot be said.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A policy is not satisfied.
    Policy(String),
    /// Fabric has no verdict.
    Undecidable(Obstacle),
    /// The ledger could not be asked.
    Ledger(SourceError),
}

/// The policies that were satisfied so far.
#[derive(Default)]
struct Satisfied<'a> {
    chaincode: bool,
    collections: Vec<&'a str>,
    any: bool,
}

impl<'a, S: StateReader> NamespaceCheck<'a, S> {
    /// Checks everything that is written; `part` is `None` if the transaction has nothing there.
    pub fn run(&self, part: Option<&'a NsRwSet>) -> Result<(), Fault> {
        let mut satisfied = Satisfied::default();
        for key in part.into_iter().flat_map(written_keys) {
            self.check_key(key, &mut satisfied)?;
        }
        if satisfied.any {
            return Ok(());
        }
        self.evaluate(self.chaincode_policy, || self.chaincode_title())
    }

    fn check_key(&self, key: Key<'a>, satisfied: &mut Satisfied<'a>) -> Result<(), Fault> {
        let changed = self
            .key_policies
            .changed_before(key, self.transaction, self.outcomes);
        if let Some(position) = changed.map_err(Fault::Undecidable)? {
            let title = key_title(key);
            return Err(Fault::Policy(format!(
                "the policy of {title} was changed by transaction {position} of this block"
            )));
        }
        match self.policy_of_key(key)? {
            Some(policy) => {
                self.evaluate(&policy, || format!("policy of {}", key_title(key)))?;
                satisfied.any = true;
                Ok(())
            }
            None if key.collection.is_empty() => self.check_chaincode(satisfied),
            None => self.check_collection(key.collection, satisfied),
        }
    }

    fn policy_of_key(&self, key: Key<'_>) -> Result<Option<EndorsementPolicy>, Fault> {
        if !self.state.may_have_metadata(self.namespace) {
            return Ok(None);
        }
        let metadata = if key.collection.is_empty() {
            // Only names of collections make keys that are no text, see `written_keys`.
            let text = std::str::from_utf8(key.key).unwrap_or_default();
            self.state.metadata(self.namespace, text)
        } else if self.chaincode.has_collection(key.collection, self.config) {
            self.state
                .hashed_metadata(self.namespace, key.collection, key.key)
        } else {
            Ok(None)
        };
        let Some(metadata) = metadata.map_err(Fault::Ledger)? else {
            return Ok(None);
        };
        let undecidable = |reason| {
            Fault::Undecidable(Obstacle {
                transaction: self.transaction,
                reason,
            })
        };
        let metadata: KvMetadataWrite = decode(metadata, &KV_METADATA_WRITE).map_err(|error| {
            undecidable(Reason::JunkMetadata {
                key: key_title(key),
                fault: error.to_string(),
            })
        })?;
        let name = MetaDataKeys::ValidationParameter.as_str_name();
        let mut entries = metadata.entries.into_iter().rev();
        let Some(entry) = entries.find(|entry| entry.name == name) else {
            return Ok(None);
        };
        if entry.value.is_empty() {
            return Ok(None);
        }
        let policy = EndorsementPolicy::from_validation_parameter(&entry.value);
        policy.map(Some).map_err(|fault| {
            undecidable(Reason::JunkKeyPolicy {
                key: key_title(key),
                fault,
            })
        })
    }

    fn check_collection(
        &self,
        collection: &'a str,
        satisfied: &mut Satisfied<'a>,
    ) -> Result<(), Fault> {
        if satisfied.collections.contains(&collection) {
            return Ok(());
        }
        let title = || format!("policy of collection {}/{collection}", self.namespace);
        match self.chaincode.collection_policy(collection, self.config) {
            CollectionPolicy::OfChaincode => return self.check_chaincode(satisfied),
            CollectionPolicy::Own(policy) => self.evaluate(policy, title)?,
            CollectionPolicy::Implicit(policy) => self.evaluate(&policy, title)?,
            CollectionPolicy::Undefined => {
                let namespace = self.namespace;
                return Err(Fault::Policy(format!(
                    "there is no collection {namespace}/{collection}"
                )));
            }
        }
        satisfied.collections.push(collection);
        satisfied.any = true;
        Ok(())
    }

    fn check_chaincode(&self, satisfied: &mut Satisfied<'a>) -> Result<(), Fault> {
        if !satisfied.chaincode {
            self.evaluate(self.chaincode_policy, || self.chaincode_title())?;
            satisfied.chaincode = true;
            satisfied.any = true;
        }
        Ok(())
    }

    fn evaluate(
        &self,
        policy: &EndorsementPolicy,
        title: impl FnOnce() -> String,
    ) -> Result<(), Fault> {
        if let Some(path) = policy.root_reference() {
            let reason = Reason::RootAsPolicy {
                title: title(),
                path: path.to_owned(),
            };
            return Err(Fault::Undecidable(Obstacle {
                transaction: self.transaction,
                reason,
            }));
        }
        policy
            .evaluate(self.config.policies(), self.endorsers)
            .map_err(|PolicyFailure(reason)| Fault::Policy(format!("{}: {reason}", title())))
    }

    fn chaincode_title(&self) -> String {
        format!("policy of chaincode {}", self.namespace)
    }
}

fn key_title(key: Key<'_>) -> String {
    let Key {
        namespace,
        collection,
        key,
    } = key;
    if collection.is_empty() {
        format!("key {:?} in {namespace}", String::from_utf8_lossy(key))
    } else {
        let hash: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("key hash {hash} in {namespace}/{collection}")
    }
}

/// All keys that are written or whose metadata is, in Fabric's order.
fn written_keys(part: &NsRwSet) -> impl Iterator<Item = Key<'_>> {
    let namespace = part.namespace.as_str();
    let key = move |collection, key| Key {
        namespace,
        collection,
        key,
    };
    let writes = part.writes.iter().map(|write| &write.key);
    let metadata = part.metadata_writes.iter().map(|write| &write.key);
    let public = writes
        .chain(metadata)
        .map(move |name| key("", name.as_bytes()));
    let private = part.collections.iter().flat_map(move |collection| {
        let writes = collection.writes.iter().map(|write| &write.key_hash);
        writes.map(move |hash| key(&collection.collection, &hash[..]))
    });
    let private_metadata = part.collections.iter().flat_map(move |collection| {
        let writes = collection.metadata_writes.iter();
        writes.map(move |write| key(&collection.collection, &write.key_hash[..]))
    });
    public.chain(private).chain(private_metadata)
}
