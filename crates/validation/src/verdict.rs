//! What validation says of a transaction.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_protos::protos::{ChaincodeId, TxValidationCode};

use crate::rwset::TxRwSet;

/// The verdict on one transaction of a block, before its reads are compared with the state (MVCC).
#[derive(Debug, Clone, PartialEq)]
pub struct TxVerdict {
    /// Fabric's code. `VALID` here may yet become an MVCC or phantom read conflict.
    pub code: TxValidationCode,
    /// The transaction id that stands in the channel header, as the indexes list it: empty where the
    /// headers do not parse, and not checked where the transaction is invalid.
    pub txid: Arc<str>,
    /// Why the transaction is invalid, for the log; empty if it is valid.
    pub reason: String,
    /// The opened transaction; present exactly if the code is `VALID`.
    pub transaction: Option<ParsedTransaction>,
}

/// A transaction that passed validation, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedTransaction {
    /// The transaction id.
    pub txid: Arc<str>,
    /// Endorsed by peers, or a change of the channel's configuration.
    pub kind: TransactionKind,
    /// What it read and wrote. A config transaction writes its config envelope under
    /// [`CONFIG_KEY`] in the namespace with the empty name.
    pub rwset: TxRwSet,
}

/// The kinds of transactions that a block can hold.
#[derive(Debug, Clone, PartialEq)]
pub enum TransactionKind {
    /// The outcome of a chaincode invocation.
    Endorser {
        /// The chaincode that was invoked.
        chaincode: ChaincodeId,
        /// The encoded `ChaincodeEvent`; empty without an event.
        event: Bytes,
    },
    /// A new channel configuration.
    Config {
        /// The encoded `ConfigEnvelope`.
        envelope: Bytes,
    },
}

/// The key of the channel configuration in the state (Fabric: `core/peer`, ConfigTxProcessor).
pub const CONFIG_KEY: &str = "CHANNEL_CONFIG_ENV_BYTES";
