//! The ledger of a peer: for each channel the chain of blocks in block files, and an index over it.
//!
//! # Block files are the truth
//!
//! A block is committed when its record is in the channel's last block file and the file is synced.
//! Everything else is made from the block files, may lag behind them, and can be removed: it is
//! brought level when a ledger is opened. So only one thing has to be written safely for a block,
//! and there is one order to get right: files, sync, then the new height is told. The index follows
//! behind, on a thread of the store; blocks that it lacks are found all the same, since their entries
//! wait for it in memory.
//!
//! Block files are Fabric's, byte for byte, in Fabric's place, so that a data directory of a Go peer
//! can be taken over, and ours be read by one:
//!
//! ```text
//! ledgersData/                    in peer.fileSystemPath
//!   fileLock/LOCK                 held while a peer runs, ours or a Go peer
//!   chains/chains/CHANNEL/        blockfile_000000, blockfile_000001 ...
//!   chains/index/ and others      a Go peer's databases; not read, not touched
//!   selvedge/channels/CHANNEL/    all that is made from the channel's blocks
//!     index/                      the block index (fjall)
//!     state/                      the state database (fjall)
//!   selvedge/private/CHANNEL/     private data in clear text (fjall), which no rebuild removes
//!   selvedge/paused/              a file for each channel that a node does not open
//!   selvedge/joining/             channels that are being made
//!   selvedge/rebuilding/          chains that are validated anew, and `replacements` when they are complete
//! ```
//!
//! A Go peer that gets the directory back must make its own databases anew (`peer node rebuild-dbs`),
//! since they have not seen the blocks that came in between.
//!
//! # Parts
//!
//! - [`LedgerManager`]: the data directory, its lock, and which channels there are.
//! - [`BlockStore`]: one channel's chain: append, read by number, hash, transaction id, follow the
//!   height.
//! - [`state`]: one channel's state, with private data hashes and their expiry.
//! - [`history`], [`config_history`]: who wrote a key, and which collections a chaincode had; beside the
//!   state and level with it.
//! - [`view`]: all three as of one block.
//! - [`missing_data`]: which private data is not there; [`private_data`]: the place of what is.
//! - [`store`]: the ordered key-value store under index and state, on disk and in memory.
//!
//! # When things go wrong
//!
//! - **The process ends, or the power fails, within an append.** The last record may be incomplete.
//!   Opening cuts it off, with a line in the log. What is cut was never told to be committed.
//!   Zeros in the place of what did not reach the disk count as incomplete. Blocks that were to be synced
//!   together go from the first incomplete one on; they are few, see [`BlockStore::append_batch`].
//! - **Writing fails** (full disk, read-only file system, failed sync), of block files or index. The
//!   store takes no more blocks until it is opened anew ([`LedgerError::Poisoned`]), since what the disk
//!   then holds is known only by reading it back. Reading goes on.
//! - **A record is not what was written.** [`LedgerError::Corrupt`] names file, offset and block,
//!   both when the block is read and when files are gone through. Nothing is cut off, until an operator
//!   asks for it: [`LedgerManager::find_damage`] and [`LedgerManager::cut`] give up the first damaged block
//!   and all after it, which the peer then fetches from others again.
//! - **The index is missing, damaged, or of other files.** It is built anew from the block files, with
//!   progress in the log and to [`Options::rebuild_observer`]. Damage that is found while it is open is
//!   recorded in it, for the next opening; likewise in the state.
//!
//! # Differences from Fabric's block store
//!
//! - The index is ours, in a folder of its own, and is not synced for each block. It keeps the first
//!   occurrence of a transaction id only, which is all that Fabric ever reads of it.
//! - Data hashes are checked when blocks are read from files and gone through; Fabric checks none of
//!   them here, and serves a damaged block as it is.
//! - A failed write ends appending; Fabric cuts the file and goes on.
//! - A block that is larger than a block file may be does not leave an empty file before it.
//! - A ledger that a Go peer joined by a snapshot cannot be taken over, since what came from the snapshot is
//!   in the Go peer's databases only.

mod block_files;
mod block_format;
mod block_index;
mod block_indexer;
mod block_overlay;
mod block_store;
mod bootstrap;
mod channel_id;
pub mod config_history;
mod disk;
mod error;
pub mod history;
mod inspection;
mod manager;
pub mod missing_data;
mod paused;
#[cfg(test)]
mod power_cut;
pub mod private_data;
mod recent_blocks;
mod recovery;
mod replacement;
mod scanner;
pub mod snapshot;
pub mod state;
pub mod store;
#[cfg(test)]
mod test_support;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transaction_id;
mod truncation;
pub mod view;
mod writer;

pub use block_store::{
    BlockStore, Blocks, Options, RebuildObserver, RebuildProgress, StoredTransaction,
    TransactionStatus,
};
pub use channel_id::{MAX_CHANNEL_ID_LENGTH, validate_channel_id};
pub use error::LedgerError;
pub use inspection::{IndexInspection, InspectedBlock, InspectedBlocks, Inspection};
pub use manager::LedgerManager;
pub use transaction_id::TransactionIds;
pub use truncation::{CutPoint, CutProgress, Damage};
