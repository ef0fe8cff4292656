//! A verdict for every transaction of a block.
//!
//! Ordering nodes put transactions in an order and look at little else. It is the peers who say which
//! of them count, each for itself, and all must come to the same codes: they are written into the
//! block, and the commit hash goes over them. So the checks, their order, and what decoders take are
//! Fabric's (`core/common/validation`, `core/committer/txvalidator/v20`,
//! `core/handlers/validation/builtin/v20`, `core/common/validation/statebased`,
//! `core/chaincode/lifecycle`, `core/policy`).
//!
//! A [`Validator`] goes by one configuration of a channel and works in two steps:
//!
//! 1. [`Validator::prepare`] needs no state. It opens every transaction once, checks form, headers,
//!    the creator's signature and the endorsers', on all cores. This is where the time goes, and it can
//!    be done for the next blocks while this one is committed.
//! 2. [`Validator::decide`] needs the state and the ids of the block before ([`StateReader`],
//!    [`TransactionIds`]). In the order of the block it looks for repeated ids, for the definitions of
//!    the chaincodes and for the policies of keys, collections and chaincodes, and evaluates them over
//!    the endorsers. It checks config transactions against the current configuration.
//!
//! The outcome is a [`TxVerdict`] for each transaction. A valid one comes with its decoded results
//! ([`TxRwSet`]), so that nothing after this has to decode them again. Whether its reads still hold is
//! the next question, which [`mvcc`] answers.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use selvedge_channel::{ChannelConfig, VerifiedBlock};
//! # use selvedge_validation::{Options, StateReader, TransactionIds, ValidationError, Validator};
//! # fn run(
//! #     config: Arc<ChannelConfig>, block: VerifiedBlock,
//! #     state: impl StateReader, ledger: impl TransactionIds,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let validator = Validator::new(config, Options::default())?;
//! let prepared = validator.prepare(block.block());
//! match validator.decide(prepared, &state, &ledger) {
//!     Ok(verdicts) => assert_eq!(verdicts.len(), block.block().data.as_ref().map_or(0, |d| d.data.len())),
//!     Err(ValidationError::Undecidable(error)) => println!("the channel stops: {error}"),
//!     Err(error) => println!("the ledger failed: {error}"),
//! }
//! # Ok(()) }
//! ```
//!
//! # Where Fabric has no verdict
//!
//! Some transactions crash a Go peer, make it wait for ever or halt the channel; [`Reason`] lists them.
//! Then there are no verdicts on the block: [`Undecidable`] names the transaction and the reason, and
//! the channel stops before it. Once the operators of the channel have agreed on what is to be done, each
//! states the verdict in [`Options::stated`].
//!
//! # Codes
//!
//! These codes are never given, by a Go peer neither, since nothing leads to them with application
//! capability V2_0: `NIL_ENVELOPE`, `UNKNOWN_TX_TYPE`, `TARGET_CHAIN_NOT_FOUND`, `MARSHAL_TX_ERROR`,
//! `NIL_TXACTION`, `EXPIRED_CHAINCODE`, `CHAINCODE_VERSION_CONFLICT`, `BAD_CHANNEL_HEADER`; and
//! `INVALID_WRITESET` only with CouchDB.
//!
//! # Deliberate differences
//!
//! - Channels with an application capability below V2_0 are refused ([`LegacyLifecycle`]), and a
//!   chaincode that only the legacy lifecycle defines is undecidable. So is one that asks for a
//!   validation plugin other than `vscc`.
//! - A Go peer goes through the namespaces of a transaction in an order by chance. If two fail for
//!   different reasons, the code is by chance, too; here the invoked chaincode comes first, then the
//!   others as they stand in the results.
//! - A transaction that names another channel has no valid creator here. A Go peer asks the MSPs of that
//!   channel, if it has joined it, or its local MSP if the name is empty.
//! - Fields of a configuration that are not known here are passed over where the result of a config
//!   update is compared with what the transaction holds.
//! - Peers of Fabric v2.5 take a message field that is there with another wire type for an empty message, so
//!   that they see a read without version as one of version 0:0 and come to other verdicts than those of
//!   v3.1. No endorser makes such bytes; here v3.1 is followed.
//! - A Go peer remembers the block-to-live of a collection from its first write until it is restarted, whatever
//!   later definitions say; here the definition counts. No honest endorser lets it be changed.
//! - A Go peer keeps unknown fields in the metadata of a key; they are dropped here, which shows in snapshots.
//! - Configurations may be nested as deep as prost goes (100 messages); Go takes 10,000.

mod action;
mod collections;
mod decision;
mod definition;
mod error;
mod key_policies;
pub mod mvcc;
mod namespace;
mod parallel;
mod policy;
pub mod rwset;
mod schemas;
mod source;
mod transaction;
mod validator;
mod verdict;

pub use collections::{CollectionFacts, Collections, DefinedCollections, defined_collections};
pub use definition::block_to_live;
pub use error::{LegacyLifecycle, Reason, Undecidable, ValidationError};
pub use rwset::{CollHashedRwSet, NsRwSet, TxRwSet};
pub use source::{SourceError, StateReader, TransactionIds};
pub use validator::{Options, PreparedBlock, StatedVerdicts, Validator};
pub use verdict::{CONFIG_KEY, ParsedTransaction, TransactionKind, TxVerdict};
