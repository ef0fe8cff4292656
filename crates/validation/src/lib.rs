//! A verdict for every transaction of a block.

pub mod rwset;
mod verdict;

pub use rwset::{CollHashedRwSet, NsRwSet, TxRwSet};
pub use verdict::{CONFIG_KEY, ParsedTransaction, TransactionKind, TxVerdict};
