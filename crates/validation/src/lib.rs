//! A verdict for every transaction of a block.

mod action;
mod decision;
mod definition;
mod error;
mod key_policies;
mod namespace;
mod parallel;
mod policy;
pub mod rwset;
mod schemas;
mod source;
mod transaction;
mod validator;
mod verdict;

pub use error::{LegacyLifecycle, Reason, Undecidable, ValidationError};
pub use rwset::{CollHashedRwSet, NsRwSet, TxRwSet};
pub use source::{SourceError, StateReader, TransactionIds};
pub use validator::{Options, PreparedBlock, StatedVerdicts, Validator};
pub use verdict::{CONFIG_KEY, ParsedTransaction, TransactionKind, TxVerdict};
