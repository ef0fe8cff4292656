//! From opened transactions and the state to verdicts, in the order of the block.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::{ChannelConfig, config_update, decode_config_envelope};
use selvedge_protos::kvrwset::KvWrite;
use selvedge_protos::protos::TxValidationCode;

use crate::definition::{Chaincode, CollectionFault, Definition};
use crate::error::{Reason, Undecidable, ValidationError};
use crate::key_policies::{KeyPolicies, NamespaceVerdict, Obstacle, Outcome};
use crate::namespace::{Fault, NamespaceCheck};
use crate::rwset::{NsRwSet, TxRwSet};
use crate::source::{SourceError, StateReader, TransactionIds};
use crate::transaction::{self, Invocation, Opened, Rejection};
use crate::validator::StatedVerdicts;
use crate::verdict::{CONFIG_KEY, ParsedTransaction, TransactionKind, TxVerdict};

/// One block on its way to verdicts.
pub(crate) struct Decision<'a, S, L> {
    config: &'a ChannelConfig,
    stated: &'a StatedVerdicts,
    number: u64,
    block: &'a [Opened],
    state: &'a S,
    ledger: &'a L,
    definitions: HashMap<String, Arc<Definition>>,
    key_policies: KeyPolicies<'a>,
    /// What became of the transactions before the one at hand.
    outcomes: Vec<Outcome>,
}

/// Why there are no verdicts, before block and transaction are named.
enum Stop {
    Obstacle(Obstacle),
    Ledger(SourceError),
}

impl From<Obstacle> for Stop {
    fn from(obstacle: Obstacle) -> Self {
        Self::Obstacle(obstacle)
    }
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Ledger(error)
    }
}

/// A transaction is valid, or why not.
type Judgement = Result<(), Rejection>;

/// What became of a transaction in one namespace.
enum InNamespace {
    Passed,
    /// Its endorsements do not suffice.
    Failed(Rejection),
    /// They were not looked at.
    Unusable(Rejection),
}

/// Gives the verdicts on a block.
pub(crate) fn decide<S: StateReader, L: TransactionIds>(
    config: &ChannelConfig,
    stated: &StatedVerdicts,
    number: u64,
    block: Vec<Opened>,
    state: &S,
    ledger: &L,
) -> Result<Vec<TxVerdict>, ValidationError> {
    let is_stated = |position| stated.contains_key(&(number, position));
    let mut decision = Decision {
        config,
        stated,
        number,
        block: &block,
        state,
        ledger,
        definitions: HashMap::new(),
        key_policies: KeyPolicies::search(&block, is_stated),
        outcomes: Vec::with_capacity(block.len()),
    };
    let judgements = decision.judge_all()?;
    let judged = block.into_iter().zip(judgements);
    Ok(judged
        .map(|(transaction, judgement)| verdict(transaction, judgement))
        .collect())
}

impl<S: StateReader, L: TransactionIds> Decision<'_, S, L> {
    fn judge_all(&mut self) -> Result<Vec<Judgement>, ValidationError> {
        let mut judgements = Vec::with_capacity(self.block.len());
        let mut valid_ids = BTreeSet::new();
        for (position, transaction) in self.block.iter().enumerate() {
            let (mut judgement, outcome) = self
                .judge(position, transaction)
                .map_err(|stop| self.error(stop))?;
            self.outcomes.push(outcome);
            // Config transactions have no part in this (Fabric: `markTXIdDuplicates`).
            let is_endorsed = matches!(transaction.outcome, transaction::Outcome::Endorsed(_));
            if judgement.is_ok() && is_endorsed && !valid_ids.insert(&transaction.txid) {
                judgement = Err(duplicate("a valid transaction of this block has its id"));
            }
            judgements.push(judgement);
        }
        Ok(judgements)
    }

    fn error(&self, stop: Stop) -> ValidationError {
        let block = self.number;
        match stop {
            Stop::Ledger(source) => ValidationError::Ledger { block, source },
            Stop::Obstacle(Obstacle {
                transaction,
                reason,
            }) => {
                let opened = self.block.get(transaction);
                ValidationError::Undecidable(Undecidable {
                    block,
                    transaction,
                    txid: opened.map_or_else(|| "".into(), |opened| opened.txid.clone()),
                    reason,
                })
            }
        }
    }

    /// What a transaction is by itself, and what later ones learn of it.
    fn judge(
        &mut self,
        position: usize,
        transaction: &Opened,
    ) -> Result<(Judgement, Outcome), Stop> {
        let here = |reason| Obstacle {
            transaction: position,
            reason,
        };
        if let Some(code) = self.stated.get(&(self.number, position)) {
            return Ok(stated(*code, transaction).map_err(here)?);
        }
        if let (true, Some(rwset)) = (transaction.is_endorsed, &transaction.rwset) {
            self.check_collections(rwset)?.map_err(here)?;
        }
        let unjudged = Outcome::Judged(Vec::new());
        match &transaction.outcome {
            transaction::Outcome::Invalid(rejection) => Ok((Err(rejection.clone()), unjudged)),
            transaction::Outcome::Undecidable(reason) => Err(here(reason.clone()).into()),
            transaction::Outcome::Config(envelope) => {
                self.check_configuration(envelope).map_err(here)?;
                Ok((Ok(()), unjudged))
            }
            transaction::Outcome::Endorsed(_) if self.ledger.contains(&transaction.txid)? => {
                let rejection = duplicate("a transaction in the ledger has its id");
                Ok((Err(rejection), unjudged))
            }
            transaction::Outcome::Endorsed(Err(rejection)) => {
                Ok((Err(rejection.clone()), unjudged))
            }
            transaction::Outcome::Endorsed(Ok(invocation)) => {
                let nothing = TxRwSet::default();
                let rwset = transaction.rwset.as_ref().unwrap_or(&nothing);
                self.check_endorsements(position, invocation, rwset)
            }
        }
    }

    /// Before it commits, a peer looks up the configuration of every collection that an endorsed
    /// transaction writes to, valid or not, and who its members are (Fabric: `gossip/privdata`, coordinator
    /// and eligibilityComputer).
    fn check_collections(&mut self, rwset: &TxRwSet) -> Result<Result<(), Reason>, Stop> {
        for part in &rwset.namespaces {
            let mut written = part.collections.iter().filter(|part| part.has_writes());
            let namespace = &part.namespace;
            let Some(first) = written.next() else {
                continue;
            };
            let definition = self.definition(namespace)?;
            let reason = |collection: &str, fault| match fault {
                CollectionFault::Undefined => Reason::UndefinedCollection {
                    namespace: namespace.clone(),
                    collection: collection.to_owned(),
                },
                CollectionFault::Members(fault) => Reason::CollectionMembers {
                    namespace: namespace.clone(),
                    collection: collection.to_owned(),
                    fault,
                },
            };
            let chaincode = match &*definition {
                Definition::Chaincode(chaincode) => chaincode,
                Definition::Undefined => {
                    return Ok(Err(reason(&first.collection, CollectionFault::Undefined)));
                }
                Definition::Unreadable(fault) => return Ok(Err(unreadable(namespace, fault))),
                Definition::Legacy => return Ok(Err(legacy(namespace))),
            };
            for part in std::iter::once(first).chain(written) {
                if let Err(fault) = chaincode.check_collection(&part.collection) {
                    return Ok(Err(reason(&part.collection, fault)));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Fabric: `Channel.Apply`. The first block of a channel is joined, not validated.
    fn check_configuration(&self, envelope: &Bytes) -> Result<(), Reason> {
        if self.number == 0 {
            return Ok(());
        }
        if self.block.len() > 1 {
            return Err(Reason::ConfigurationNotAlone);
        }
        let unusable = |error: &dyn ToString| Reason::Configuration(error.to_string());
        let envelope =
            decode_config_envelope(envelope.clone()).map_err(|error| unusable(&error))?;
        config_update::check(self.config, &envelope).map_err(|error| unusable(&error))?;
        let config = envelope.config.unwrap_or_default();
        let next = ChannelConfig::from_config(self.config.channel_id(), config)
            .map_err(|error| unusable(&error))?;
        self.config
            .check_successor(&next)
            .map_err(|error| unusable(&error))
    }

    /// Checks the invoked chaincode's namespace, and all others that are written to. Fabric goes through
    /// them in an order by chance and stops at the first that fails; all are gone through here, so that
    /// later transactions learn what they would learn in any order.
    fn check_endorsements(
        &mut self,
        position: usize,
        invocation: &Invocation,
        rwset: &TxRwSet,
    ) -> Result<(Judgement, Outcome), Stop> {
        let invoked = invocation.chaincode.name.as_str();
        let others = rwset.namespaces.iter();
        let others = others.filter(|part| part.has_writes() && part.namespace != invoked);
        let names = std::iter::once(invoked).chain(others.map(|part| part.namespace.as_str()));
        let mut passed = Vec::new();
        let mut failures = Vec::new();
        for name in names {
            let part = rwset.namespace(name);
            match self.check_namespace(position, invocation, name, part)? {
                InNamespace::Passed => passed.push(name),
                InNamespace::Failed(rejection) => failures.push((rejection, Some(name))),
                InNamespace::Unusable(rejection) => failures.push((rejection, None)),
            }
        }
        let verdicts = |names: &[&str], verdict| {
            let with_verdict = |name: &&str| ((*name).to_owned(), verdict);
            Outcome::Judged(names.iter().map(with_verdict).collect())
        };
        let outcome = match failures.as_slice() {
            [] => verdicts(&passed, NamespaceVerdict::Passed),
            // The others are judged if they happen to come before this one.
            [(_, Some(name))] => verdicts(&[*name], NamespaceVerdict::Failed),
            _ => verdicts(&[], NamespaceVerdict::Failed),
        };
        let first_failure = failures.into_iter().next();
        let judgement = first_failure.map_or(Ok(()), |(rejection, _)| Err(rejection));
        Ok((judgement, outcome))
    }

    fn check_namespace(
        &mut self,
        position: usize,
        invocation: &Invocation,
        namespace: &str,
        part: Option<&NsRwSet>,
    ) -> Result<InNamespace, Stop> {
        let here = |reason| Obstacle {
            transaction: position,
            reason,
        };
        let definition = self.definition(namespace)?;
        let unusable = |reason: &str| {
            Ok(InNamespace::Unusable(Rejection {
                code: TxValidationCode::InvalidChaincode,
                reason: format!("chaincode {namespace:?} {reason}"),
            }))
        };
        let chaincode = match &*definition {
            Definition::Undefined => return unusable("is not defined"),
            Definition::Unreadable(fault) => Err(here(unreadable(namespace, fault)))?,
            Definition::Legacy => Err(here(legacy(namespace)))?,
            Definition::Chaincode(Chaincode { plugin, .. }) if plugin.is_empty() => {
                return unusable("is defined without a validation plugin");
            }
            Definition::Chaincode(chaincode) => chaincode,
        };
        let Some(policy) = &chaincode.policy else {
            return unusable("is defined without an endorsement policy");
        };
        if chaincode.has_foreign_plugin() {
            Err(here(Reason::Plugin {
                namespace: namespace.to_owned(),
                plugin: chaincode.plugin.clone(),
            }))?;
        }
        self.key_policies.check_search(position)?;
        let check = NamespaceCheck {
            config: self.config,
            state: self.state,
            transaction: position,
            endorsers: &invocation.endorsers,
            namespace,
            chaincode,
            chaincode_policy: policy,
            key_policies: &self.key_policies,
            outcomes: &self.outcomes,
        };
        match check.run(part) {
            Ok(()) => Ok(InNamespace::Passed),
            Err(Fault::Policy(reason)) => Ok(InNamespace::Failed(Rejection {
                code: TxValidationCode::EndorsementPolicyFailure,
                reason,
            })),
            Err(Fault::Undecidable(obstacle)) => Err(obstacle.into()),
            Err(Fault::Ledger(error)) => Err(error.into()),
        }
    }

    /// The definition as of the block before, read once for a block.
    fn definition(&mut self, namespace: &str) -> Result<Arc<Definition>, SourceError> {
        if let Some(known) = self.definitions.get(namespace) {
            return Ok(known.clone());
        }
        let definition = Arc::new(Definition::read(namespace, self.config, self.state)?);
        self.definitions
            .insert(namespace.to_owned(), definition.clone());
        Ok(definition)
    }
}

fn duplicate(reason: &str) -> Rejection {
    Rejection {
        code: TxValidationCode::DuplicateTxid,
        reason: reason.to_owned(),
    }
}

fn unreadable(namespace: &str, fault: &str) -> Reason {
    Reason::Definition {
        namespace: namespace.to_owned(),
        fault: fault.to_owned(),
    }
}

fn legacy(namespace: &str) -> Reason {
    Reason::LegacyChaincode {
        namespace: namespace.to_owned(),
    }
}

/// The verdict that an operator stated.
fn stated(code: TxValidationCode, transaction: &Opened) -> Result<(Judgement, Outcome), Reason> {
    if code != TxValidationCode::Valid {
        let reason = "an operator stated this verdict".to_owned();
        let judgement = Err(Rejection { code, reason });
        return Ok((judgement, Outcome::Stated(NamespaceVerdict::Failed)));
    }
    match &transaction.outcome {
        transaction::Outcome::Config(_) => {}
        transaction::Outcome::Endorsed(Ok(_)) if transaction.rwset.is_some() => {}
        _ => return Err(Reason::StatedValid),
    }
    Ok((Ok(()), Outcome::Stated(NamespaceVerdict::Passed)))
}

fn verdict(transaction: Opened, judgement: Judgement) -> TxVerdict {
    let txid = transaction.txid;
    if let Err(Rejection { code, reason }) = judgement {
        return TxVerdict {
            code,
            txid,
            reason,
            transaction: None,
        };
    }
    let (kind, rwset) = match transaction.outcome {
        transaction::Outcome::Config(envelope) => {
            let rwset = config_writes(envelope.clone());
            (TransactionKind::Config { envelope }, rwset)
        }
        transaction::Outcome::Endorsed(Ok(invocation)) => {
            let Invocation {
                chaincode, event, ..
            } = invocation;
            let rwset = transaction.rwset.unwrap_or_default();
            (TransactionKind::Endorser { chaincode, event }, rwset)
        }
        // Neither is ever judged to be valid.
        transaction::Outcome::Endorsed(Err(Rejection { code, reason }))
        | transaction::Outcome::Invalid(Rejection { code, reason }) => {
            return TxVerdict {
                code,
                txid,
                reason,
                transaction: None,
            };
        }
        transaction::Outcome::Undecidable(reason) => {
            return TxVerdict {
                code: TxValidationCode::NotValidated,
                txid,
                reason: reason.to_string(),
                transaction: None,
            };
        }
    };
    TxVerdict {
        code: TxValidationCode::Valid,
        txid: txid.clone(),
        reason: String::new(),
        transaction: Some(ParsedTransaction { txid, kind, rwset }),
    }
}

/// What a config transaction writes (Fabric: `core/peer`, ConfigTxProcessor).
pub(crate) fn config_writes(envelope: Bytes) -> TxRwSet {
    let write = KvWrite {
        key: CONFIG_KEY.to_owned(),
        is_delete: false,
        value: envelope,
    };
    TxRwSet {
        namespaces: vec![NsRwSet {
            writes: vec![write],
            ..NsRwSet::default()
        }],
    }
}
