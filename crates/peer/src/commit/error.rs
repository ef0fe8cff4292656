//! Why a block did not become part of the ledger.

use selvedge_channel::ConfigError;
use selvedge_ledger::LedgerError;
use selvedge_ledger::state::StateError;
use selvedge_validation::mvcc::MvccError;
use selvedge_validation::{LegacyLifecycle, SourceError, ValidationError};

/// Why a block did not become part of the ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no verdict on a transaction, or the ledger failed while one was sought.
    #[error(transparent)]
    Validation(#[from] ValidationError),
    /// Likewise, when versions were compared.
    #[error(transparent)]
    Mvcc(#[from] MvccError),
    /// The block files failed, or refused the block.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The state failed. If its block is in the block files already, the state is brought level when the
    /// ledger is opened again.
    #[error(transparent)]
    State(#[from] StateError),
    /// A look-up in the state failed.
    #[error("state for block {block}: {source}")]
    Source {
        /// The block.
        block: u64,
        /// What the state says.
        source: SourceError,
    },
    /// The configuration in a block cannot be used.
    #[error("the configuration in block {block} cannot be used: {source}")]
    Config {
        /// The block.
        block: u64,
        /// What is wrong.
        source: ConfigError,
    },
    /// The channel has rules that are not served.
    #[error(transparent)]
    LegacyLifecycle(#[from] LegacyLifecycle),
    /// The state is ahead of the block files.
    #[error(
        "channel {channel}: the state has block {savepoint}, the block files end before block {height}: run \
         `selvedge ledger rebuild`, with --snapshot if the channel was joined by one"
    )]
    StateAhead {
        /// The channel.
        channel: String,
        /// The last block in the state.
        savepoint: u64,
        /// The height of the block files.
        height: u64,
    },
    /// The state lacks what came with a snapshot.
    #[error(
        "channel {channel} was joined by a snapshot and begins with block {first}, and the state does not \
         have what came before: run `selvedge ledger rebuild` with that snapshot, or remove the channel's \
         folder in ledgersData/chains/chains and join the channel again by a snapshot"
    )]
    StateLost {
        /// The channel.
        channel: String,
        /// The first block that it has.
        first: u64,
    },
    /// The snapshot that the channel was joined by has private data of a collection that it does not define.
    #[error(
        "the snapshot has private data of block {block} in collection {chaincode}/{collection}, and no \
         definition of that collection before this block"
    )]
    UndefinedCollection {
        /// The chaincode.
        chaincode: String,
        /// The collection.
        collection: String,
        /// The block that wrote the data.
        block: u64,
    },
    /// The peer stops while a snapshot is made that the block would have to wait for. The block is in the
    /// block files; its changes follow when the ledger is opened again.
    #[error("channel {channel}: the peer stops while a snapshot is made")]
    Stopped {
        /// The channel.
        channel: String,
    },
    /// An earlier block is in the block files and its changes are not in the state, so nothing can be
    /// validated.
    #[error("channel {channel}: the state has failed at an earlier block: open the ledger again")]
    Behind {
        /// The channel.
        channel: String,
    },
    /// A block of the ledger was stored without being validated.
    #[error(
        "channel {channel}: block {block} has {verdicts} verdicts for {transactions} transactions, so it was \
         stored without validation: stop the peer and run `selvedge ledger rebuild`, which validates anew"
    )]
    NoVerdicts {
        /// The channel.
        channel: String,
        /// The block.
        block: u64,
        /// How many transactions it has.
        transactions: usize,
        /// How many verdicts are in its metadata.
        verdicts: usize,
    },
    /// A block of the ledger is not there, or says what no committed block says.
    #[error("channel {channel}: block {block} of the ledger: {reason}")]
    Block {
        /// The channel.
        channel: String,
        /// The block.
        block: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}
