//! Snapshots of a ledger in Fabric's format: the state as of one block, without the blocks.
//!
//! A snapshot is a folder of files. Peers that make one of the same channel at the same block make the
//! same files, byte for byte, ours and Go peers alike, so that organisations can compare the hash of a
//! snapshot before one of them starts a peer from it.
//!
//! ```text
//! snapshots/                            ledger.snapshots.rootDir
//!   temp/                               what is being made; emptied at the start
//!   completed/CHANNEL/BLOCK/
//!     txids.data .metadata              ids of all transactions, valid or not
//!     public_state.data .metadata       keys with values, metadata and versions, by namespace
//!     private_state_hashes.data ...     the same for private keys, all hashed
//!     confighistory.data .metadata      which chaincode had which collections since which block
//!     _snapshot_signable_metadata.json      channel, block, hashes of all files
//!     _snapshot_additional_metadata.json    hash of the file before, commit hash of the block
//! ```
//!
//! A pair of files of which there would be nothing in is left out (Fabric: `kvledger/snapshot.go`).
//!
//! - [`ChannelSnapshots`]: the requests of one channel, and the making of what they ask for.
//! - [`SnapshotMetadata`]: what a snapshot says of itself.
//! - [`crate::LedgerManager::create_from_snapshot`]: a ledger that begins with one.
//!
//! # Differences from Fabric
//!
//! - Blocks are committed while a snapshot is made: it is written from what the database held between
//!   two blocks. Fabric holds the next block back until all files are written.
//! - If the peer ends while a snapshot is made, and the state has gone on by then, the state is made once
//!   more of the blocks, beside the one in use. Where the first blocks are not there, since the channel
//!   was itself joined by a snapshot, blocks wait as in Fabric, so that the state has not gone on.
//! - Files that are taken over are bounded and checked while they are read: names, lengths, counts,
//!   versions, hashes. What a snapshot lists beyond the files above is refused.

mod channel;
mod error;
mod export;
mod file;
mod folders;
mod import;
mod metadata;
mod record;
mod requests;

pub use channel::{ChannelSnapshots, Turn};
pub use error::SnapshotError;
pub use folders::SnapshotFolders;
pub(crate) use import::Import;
pub use metadata::{ADDITIONAL_METADATA, SIGNABLE_METADATA, SnapshotMetadata};

/// A file of entries, and the one that tells how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    data: &'static str,
    metadata: &'static str,
}

const PAIRS: [Pair; 4] = [TXIDS, CONFIG_HISTORY, PUBLIC_STATE, PRIVATE_STATE_HASHES];
const TXIDS: Pair = Pair {
    data: "txids.data",
    metadata: "txids.metadata",
};
const CONFIG_HISTORY: Pair = Pair {
    data: "confighistory.data",
    metadata: "confighistory.metadata",
};
const PUBLIC_STATE: Pair = Pair {
    data: "public_state.data",
    metadata: "public_state.metadata",
};
const PRIVATE_STATE_HASHES: Pair = Pair {
    data: "private_state_hashes.data",
    metadata: "private_state_hashes.metadata",
};
