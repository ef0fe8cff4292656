//! Which transactions of a block change key-level policies, and what became of them.
//!
//! A transaction that writes metadata of a key may change who has to endorse the next write of it. A
//! later transaction of the same block that writes the key waits for the verdict on the first: if its
//! endorsements in that namespace hold, the later one is invalid whoever endorsed it, since MVCC may yet
//! undo the change; otherwise the policy in the state counts (Fabric: `statebased`, vpmanagerimpl).

use std::collections::HashMap;

use crate::action::Searchable;
use crate::error::Reason;
use crate::transaction::Opened;

/// A key of a namespace, or of a collection, then by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key<'a> {
    pub namespace: &'a str,
    /// Empty for public keys.
    pub collection: &'a str,
    pub key: &'a [u8],
}

/// What became of a transaction in a namespace, as far as later transactions learn of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamespaceVerdict {
    /// Its endorsements there are sufficient.
    Passed,
    /// They are not.
    Failed,
}

/// What later transactions learn of one.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It was judged in these namespaces. In all others its endorsements were not looked at.
    Judged(Vec<(String, NamespaceVerdict)>),
    /// An operator stated the verdict, which goes for all namespaces.
    Stated(NamespaceVerdict),
}

/// A transaction in the way of later ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// Its position.
    pub transaction: usize,
    pub reason: Reason,
}

/// The changes of key-level policies in a block.
#[derive(Debug, Default)]
pub(crate) struct KeyPolicies<'a> {
    /// The transactions that write the metadata of a key, in order.
    changes: HashMap<Key<'a>, Vec<usize>>,
    /// The first transaction that cannot be searched for changes.
    first_unsearchable: Option<(usize, &'a str)>,
    /// The first transaction of which the search crashes.
    first_crash: Option<(usize, &'a str)>,
}

impl<'a> KeyPolicies<'a> {
    /// Searches a block. The faults of transactions with a stated verdict are passed over.
    pub fn search(block: &'a [Opened], is_stated: impl Fn(usize) -> bool) -> Self {
        let mut found = Self::default();
        for (position, transaction) in block.iter().enumerate() {
            match &transaction.searchable {
                Searchable::Yes => {}
                _ if is_stated(position) => {}
                Searchable::No(fault) => {
                    found.first_unsearchable.get_or_insert((position, fault));
                    continue;
                }
                Searchable::Crash(fault) => {
                    found.first_crash.get_or_insert((position, fault));
                    continue;
                }
            }
            for key in changed_keys(transaction) {
                let changes = found.changes.entry(key).or_default();
                if changes.last() != Some(&position) {
                    changes.push(position);
                }
            }
        }
        found
    }

    /// Asked before the endorsements of a transaction are checked in any namespace.
    pub fn check_search(&self, transaction: usize) -> Result<(), Obstacle> {
        match self.first_crash {
            Some((position, fault)) if position < transaction => Err(Obstacle {
                transaction: position,
                reason: Reason::CrashesSearch {
                    fault: fault.to_owned(),
                    checked: transaction,
                },
            }),
            _ => Ok(()),
        }
    }

    /// Whether an earlier transaction has changed the policy of a key that this one writes; it gives the
    /// position of one that has. `outcomes` holds what became of the transactions before.
    pub fn changed_before(
        &self,
        key: Key<'_>,
        transaction: usize,
        outcomes: &[Outcome],
    ) -> Result<Option<usize>, Obstacle> {
        if let Some((position, fault)) = self.first_unsearchable
            && position < transaction
        {
            return Err(Obstacle {
                transaction: position,
                reason: Reason::NotSearchable {
                    fault: fault.to_owned(),
                    waiting: transaction,
                },
            });
        }
        let mut changed = None;
        for position in self.changes.get(&key).into_iter().flatten().copied() {
            if position >= transaction {
                break;
            }
            let outcome = outcomes.get(position);
            match outcome.and_then(|outcome| outcome.in_namespace(key.namespace)) {
                Some(NamespaceVerdict::Passed) => changed = changed.or(Some(position)),
                Some(NamespaceVerdict::Failed) => {}
                None => {
                    return Err(Obstacle {
                        transaction: position,
                        reason: Reason::NeverJudged {
                            namespace: key.namespace.to_owned(),
                            waiting: transaction,
                        },
                    });
                }
            }
        }
        Ok(changed)
    }
}

impl Outcome {
    fn in_namespace(&self, namespace: &str) -> Option<NamespaceVerdict> {
        match self {
            Self::Stated(verdict) => Some(*verdict),
            Self::Judged(namespaces) => {
                let found = namespaces.iter().find(|(name, _)| name == namespace);
                found.map(|(_, verdict)| *verdict)
            }
        }
    }
}

fn changed_keys(transaction: &Opened) -> impl Iterator<Item = Key<'_>> {
    let namespaces = transaction.rwset.iter().flat_map(|rwset| &rwset.namespaces);
    namespaces.flat_map(|part| {
        let key = |collection, key| Key {
            namespace: &part.namespace,
            collection,
            key,
        };
        let public = part.metadata_writes.iter();
        let public = public.map(move |write| key("", write.key.as_bytes()));
        let private = part.collections.iter().flat_map(move |collection| {
            let writes = collection.metadata_writes.iter();
            writes.map(move |write| key(&collection.collection, &write.key_hash[..]))
        });
        public.chain(private)
    })
}
