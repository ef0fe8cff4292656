//! Why a block got no verdicts.

use std::sync::Arc;

use selvedge_policy::PolicyError;

use crate::source::SourceError;

/// Why a block got no verdicts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidationError {
    /// Fabric gives no verdict on one of the transactions.
    #[error(transparent)]
    Undecidable(#[from] Undecidable),
    /// The ledger could not be asked.
    #[error("validation of block {block}: {source}")]
    Ledger {
        /// The block.
        block: u64,
        /// What the ledger says.
        source: SourceError,
    },
}

/// The channel follows rules that are not served here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "channel {channel} has no application capability V2_0 or later, so its chaincodes have the legacy \
     lifecycle, which is not supported; raise the capability before this peer joins from a snapshot"
)]
pub struct LegacyLifecycle {
    /// The channel.
    pub channel: String,
}

/// A transaction on which Fabric's verdict is undefined: a Go peer crashes, waits for ever or stops the
/// channel. The channel must not go beyond the block before; an operator may state the verdict
/// ([`crate::Options::stated`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {block}, transaction {transaction} (id {txid:?}) cannot be validated: {reason}")]
pub struct Undecidable {
    /// The block.
    pub block: u64,
    /// The position of the transaction for which a verdict has to be stated: the cause, which may itself
    /// be plainly invalid and only stand in the way of a later one.
    pub transaction: usize,
    /// Its id, empty if it has none.
    pub txid: Arc<str>,
    /// Why.
    pub reason: Reason,
}

/// Why there is no verdict on a transaction, and what a Go peer does instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The payload has no header: nil dereference while the block is committed.
    #[error("its payload has no header; a Go peer ends at it")]
    NoHeader,
    /// The action has no endorsed part: nil dereference.
    #[error("its action has no endorsed part; a Go peer ends at it")]
    NoEndorsedAction,
    /// A later transaction writes, and this one cannot be searched for changes of key-level policies:
    /// validation waits for ever.
    #[error(
        "{fault}, so transaction {waiting} cannot know which key-level policies it changes; a Go peer \
         waits for ever"
    )]
    NotSearchable {
        /// What is wrong with this transaction.
        fault: String,
        /// The later transaction.
        waiting: usize,
    },
    /// A later transaction is checked for its endorsements, and the search of this one for changes of
    /// key-level policies ends in a crash.
    #[error("{fault}; a Go peer ends when it checks the endorsements of transaction {checked}")]
    CrashesSearch {
        /// What is wrong with this transaction.
        fault: String,
        /// The later transaction.
        checked: usize,
    },
    /// A later transaction writes a key whose policy this one changes, and this one was never checked
    /// against the policies of the namespace, or only if another namespace did not fail first.
    #[error(
        "it changes the policy of a key in {namespace} that transaction {waiting} writes, and is invalid \
         before its endorsements in {namespace} are judged; a Go peer waits for ever"
    )]
    NeverJudged {
        /// The namespace of the key.
        namespace: String,
        /// The later transaction.
        waiting: usize,
    },
    /// The key-level policy of a key that it writes is junk: execution failure.
    #[error("it writes {key}, whose validation parameter is no policy ({fault}); a Go peer halts")]
    JunkKeyPolicy {
        /// Namespace, collection and key.
        key: String,
        /// What is wrong with the policy.
        fault: PolicyError,
    },
    /// The metadata of a key that it writes does not parse: execution failure.
    #[error("it writes {key}, whose metadata does not parse ({fault}); a Go peer halts")]
    JunkMetadata {
        /// Namespace, collection and key.
        key: String,
        /// What is wrong with the metadata.
        fault: String,
    },
    /// An endorsement policy refers to the root of the channel's configuration as if it were a policy: index out of
    /// range.
    #[error("the {title} refers to {path}, which is no policy; a Go peer ends at it")]
    RootAsPolicy {
        /// Whose policy.
        title: String,
        /// What it refers to.
        path: String,
    },
    /// It has hashed writes to a collection that is not defined: the peer ends before it commits.
    #[error(
        "it writes to collection {namespace}/{collection}, which is not defined; a Go peer ends at it"
    )]
    UndefinedCollection {
        /// The chaincode.
        namespace: String,
        /// The collection.
        collection: String,
    },
    /// It has hashed writes to a collection of which nobody can say who its members are: execution failure before
    /// the block is committed.
    #[error(
        "it writes to collection {namespace}/{collection}, whose members cannot be told ({fault}); a Go peer \
         halts"
    )]
    CollectionMembers {
        /// The chaincode.
        namespace: String,
        /// The collection.
        collection: String,
        /// What is wrong with the policy for its members.
        fault: String,
    },
    /// The definition of a chaincode that it calls or writes to cannot be read: look-up failure.
    #[error("the definition of {namespace} cannot be read ({fault}); a Go peer halts")]
    Definition {
        /// The chaincode.
        namespace: String,
        /// What is wrong.
        fault: String,
    },
    /// A chaincode that it calls or writes to is defined by the legacy lifecycle alone. A Go peer
    /// validates by that definition.
    #[error(
        "chaincode {namespace} has the legacy lifecycle, which is not supported; define it anew"
    )]
    LegacyChaincode {
        /// The chaincode.
        namespace: String,
    },
    /// A chaincode asks for a validation plugin that is not here.
    #[error(
        "chaincode {namespace} is to be validated by plugin {plugin:?}; there is only \"vscc\""
    )]
    Plugin {
        /// The chaincode.
        namespace: String,
        /// The name of the plugin.
        plugin: String,
    },
    /// A new configuration that does not follow from the current one, or cannot be used.
    #[error("its channel configuration is not acceptable ({0}); a Go peer halts")]
    Configuration(String),
    /// A config transaction that has company: which configuration counts for the others is a race.
    #[error("it changes the configuration and does not stand alone in its block")]
    ConfigurationNotAlone,
    /// An operator stated that it is valid, but it has nothing that could be committed.
    #[error("it was stated to be VALID, but it has no results that can be read")]
    StatedValid,
}
