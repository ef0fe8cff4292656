//! What can go wrong in a ledger.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// Why a ledger could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The operating system refused an operation on a file or folder.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, in the imperative.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A stored block is not what was written.
    #[error(
        "block {block} at offset {offset} of {} is corrupt: {reason}; nothing after it is trusted: {}",
        path.display(), remedy(path)
    )]
    Corrupt {
        /// The block file.
        path: PathBuf,
        /// Where the record of the block begins.
        offset: u64,
        /// The number that the block there should have.
        block: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A block file lacks between others.
    #[error(
        "block file {} is missing, but later ones are there; nothing after it is trusted: {}",
        path.display(), remedy(path)
    )]
    MissingFile {
        /// The file that should be there.
        path: PathBuf,
    },
    /// A chain that ends before the place where it is to be cut. The words are Fabric's.
    #[error(
        "channel {channel}: target block number [{last}] should be less than the biggest block number [{newest}]"
    )]
    NothingToCut {
        /// The channel.
        channel: String,
        /// The last block that is to be kept.
        last: u64,
        /// The last block that there is.
        newest: u64,
    },
    /// A chain of which nothing would be left.
    #[error(
        "channel {channel}: block 0 itself is damaged, so no block can be kept: move {} away and join the \
         channel again",
        path.display()
    )]
    GenesisNotCut {
        /// The channel.
        channel: String,
        /// The folder of the block files.
        path: PathBuf,
    },
    /// A chain whose databases hold what its blocks do not.
    #[error(
        "channel {channel} was joined by a snapshot and begins with block {first}, so its state cannot be taken \
         back to an earlier block: move {} away and join the channel again by a snapshot",
        path.display()
    )]
    SnapshotNotCut {
        /// The channel.
        channel: String,
        /// The first block that it has.
        first: u64,
        /// The folder of the block files.
        path: PathBuf,
    },
    /// A block without header or data.
    #[error("channel {channel}: a block without {part} cannot be stored")]
    MissingPart {
        /// The channel.
        channel: String,
        /// `header` or `data`.
        part: &'static str,
    },
    /// Not the next block.
    #[error("channel {channel}: expected block {expected}, found block {found}")]
    UnexpectedNumber {
        /// The channel.
        channel: String,
        /// The height of the ledger.
        expected: u64,
        /// The number in the block's header.
        found: u64,
    },
    /// The block follows another chain.
    #[error(
        "channel {channel}: block {number} names {found} as the hash of the block before it, \
         which is {expected}"
    )]
    WrongPreviousHash {
        /// The channel.
        channel: String,
        /// The number of the block.
        number: u64,
        /// Header hash of the last block of the ledger, in hex.
        expected: String,
        /// What the block says, in hex.
        found: String,
    },
    /// The block's data is not what its header says.
    #[error(
        "channel {channel}: the data of block {number} hashes to {expected}, its header says {found}"
    )]
    WrongDataHash {
        /// The channel.
        channel: String,
        /// The number of the block.
        number: u64,
        /// SHA-256 of the data, in hex.
        expected: String,
        /// What the header says, in hex.
        found: String,
    },
    /// An earlier write failed; what the disk holds is known again only after a restart.
    #[error(
        "channel {channel}: the ledger takes no more blocks, since a write has failed ({cause}): \
         see to the disk, then restart the peer"
    )]
    Poisoned {
        /// The channel.
        channel: String,
        /// The failure.
        cause: String,
    },
    /// The operating system gave no thread.
    #[error("channel {channel}: cannot start the thread of the index: {source}")]
    Thread {
        /// The channel.
        channel: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The database of the index failed.
    #[error("channel {channel}: index: {source}")]
    Index {
        /// The channel.
        channel: String,
        /// What the store says.
        source: StoreError,
    },
    /// The index is not as it was written.
    #[error(
        "channel {channel}: the block index is damaged ({reason}): restart the peer, which builds it anew \
         from the blocks; a ledger that was joined by a snapshot must be joined again"
    )]
    DamagedIndex {
        /// The channel.
        channel: String,
        /// What is wrong.
        reason: String,
    },
    /// Another process works in this data directory.
    #[error(
        "the data directory is in use: another process holds {}; stop that peer or choose \
         another peer.fileSystemPath",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Not a channel id by Fabric's rules.
    #[error("{id:?} is not a channel id: {reason}")]
    InvalidChannelId {
        /// What was given.
        id: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The channel is there already.
    #[error("channel {channel}: ledger already exists")]
    ChannelExists {
        /// The channel.
        channel: String,
    },
    /// No such channel in this data directory.
    #[error("channel {channel}: ledger does not exist")]
    UnknownChannel {
        /// The channel.
        channel: String,
    },
    /// A genesis block of another channel.
    #[error("the genesis block is of channel {found:?}, not of {expected:?}")]
    WrongChannel {
        /// The channel asked for.
        expected: String,
        /// The channel that the block names.
        found: String,
    },
    /// The folder of a channel is there, but has no block 0 to start from.
    #[error("{} holds no complete block 0: move it away, then join the channel again", path.display())]
    NoGenesisBlock {
        /// The folder.
        path: PathBuf,
    },
    /// The file that says where a chain begins that was joined by a snapshot.
    #[error("{}: {reason}: restore it from a backup, or join the channel again", path.display())]
    SnapshotInfo {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What came from a snapshot cannot be made again from blocks.
    #[error(
        "channel {channel} was joined by a snapshot and begins with block {first}, and the block index \
         does not have what came before: run `selvedge ledger rebuild` with that snapshot, or remove {} and join \
         the channel again by a snapshot",
        path.display()
    )]
    SnapshotIndexLost {
        /// The channel.
        channel: String,
        /// The first block that it has.
        first: u64,
        /// The folder of the block files.
        path: PathBuf,
    },
    /// A block that the ledger does not have and will not get. The words are Fabric's.
    #[error(
        "cannot serve block [{block}]. The ledger is bootstrapped from a snapshot. First available \
         block = [{first}]"
    )]
    BeforeSnapshot {
        /// The block.
        block: u64,
        /// The first block that it has.
        first: u64,
    },
    /// A transaction of which the ledger knows that there was one, and nothing else. The words are
    /// Fabric's.
    #[error(
        "details for the TXID [{id}] not available. Ledger bootstrapped from a snapshot. First available \
         block = [{first}]"
    )]
    TransactionInSnapshot {
        /// The transaction's id.
        id: String,
        /// The first block that it has.
        first: u64,
    },
}

impl LedgerError {
    /// For `map_err` on operations of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// What to do about a block file. Where it lies says which data directory and channel it is of.
fn remedy(block_file: &Path) -> String {
    let mut folders = block_file.ancestors().skip(1);
    let channel = folders.next().and_then(Path::file_name);
    let is_fabrics = ["chains", "chains", "ledgersData"].iter().all(|name| {
        let folder = folders.next().and_then(Path::file_name);
        folder.is_some_and(|folder| folder == *name)
    });
    let (folder, channel) = match (folders.next(), channel) {
        (Some(folder), Some(channel)) if is_fabrics => {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            (folder.display().to_string(), channel.to_string_lossy())
        }
        _ => ("DIR".to_owned(), "CHANNEL".into()),
    };
    format!(
        "stop the peer and restore the file from a backup, or run `selvedge ledger repair {folder} --channel \
         {channel}`, which removes the block and those after it, so that the peer fetches them again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corruption_names_the_command_to_run() {
        let remedy_of = |path: &str| {
            let remedy = remedy(Path::new(path));
            let command = remedy.split('`').nth(1);
            command.unwrap_or_default().to_owned()
        };
        assert_eq!(
            remedy_of("/var/data/ledgersData/chains/chains/mychannel/blockfile_000003"),
            "selvedge ledger repair /var/data --channel mychannel"
        );
        assert_eq!(
            remedy_of("ledgersData/chains/chains/c/blockfile_000000"),
            "selvedge ledger repair . --channel c"
        );
        for elsewhere in ["blockfile_000000", "/a/b/c/d/e/f/blockfile_000000"] {
            assert_eq!(
                remedy_of(elsewhere),
                "selvedge ledger repair DIR --channel CHANNEL"
            );
        }
    }
}
