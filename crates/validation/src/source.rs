//! What validation asks of the ledger.

use std::error::Error;

use bytes::Bytes;

/// Why the ledger could not answer: a failed disk, a damaged database.
pub type SourceError = Box<dyn Error + Send + Sync>;

/// The state as of the block before the one that is validated.
pub trait StateReader {
    /// The value of a key.
    fn value(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, SourceError>;

    /// The metadata of a key, as Fabric keeps it: the entries of a `KVMetadataWrite` message. `None`
    /// or nothing for a key without.
    fn metadata(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, SourceError>;

    /// The metadata of a private key, by the key's SHA-256. It is not asked for collections that are not
    /// defined.
    fn hashed_metadata(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<Bytes>, SourceError>;

    /// Whether a key of this namespace may have metadata, collections included. A ledger that knows of
    /// namespaces without saves the look-ups.
    fn may_have_metadata(&self, namespace: &str) -> bool {
        let _ = namespace;
        true
    }
}

/// The ids of all transactions in committed blocks, valid or not.
pub trait TransactionIds {
    /// Whether a transaction with this id is in the ledger.
    fn contains(&self, txid: &str) -> Result<bool, SourceError>;
}
