//! Why a block is refused.

use std::fmt;

use bytes::Bytes;
use selvedge_policy::PolicyError;

use crate::config::ConfigError;
use crate::envelope::{EnvelopeFault, HeaderFault};
use selvedge_protos::wire::WireError;

/// A block that was refused: which one, and why.
#[derive(Debug, thiserror::Error)]
#[error("block {} of channel {channel} is refused: {fault}", Number(*number))]
pub struct BlockError {
    /// The channel that the block was meant for.
    pub channel: String,
    /// The number in the block's header, if it has one.
    pub number: Option<u64>,
    /// What is wrong with it.
    #[source]
    pub fault: Box<BlockFault>,
}

struct Number(Option<u64>);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "[{number}]"),
            None => f.write_str("without a header"),
        }
    }
}

/// What is wrong with a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFault {
    /// The encoding does not parse.
    #[error("the {part} does not parse: {source}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        source: WireError,
    },
    /// More entries than any block can sensibly have.
    #[error("it has more than {limit} {what}")]
    TooMany {
        /// Entries of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// The block has no header.
    #[error("it has no header")]
    NoHeader,
    /// Another number than was claimed or is due.
    #[error("its number should be [{expected}]")]
    WrongNumber {
        /// The number that was claimed or is due.
        expected: u64,
        /// The number in the header.
        found: u64,
    },
    /// The block does not build on the block that the peer holds last.
    #[error("it names {found} as the hash of the block before, which is {expected}")]
    WrongPreviousHash {
        /// The header hash of the block before.
        expected: Hash,
        /// The previous hash in the header.
        found: Hash,
    },
    /// Too few metadata slots.
    #[error("it has {found} metadata slots and needs {needed}")]
    NoMetadata {
        /// How many slots are needed.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// No transactions.
    #[error("it has no transactions")]
    Empty,
    /// The first transaction does not say which channel it is for.
    #[error("its channel cannot be read from the first transaction: {0}")]
    ChannelUnreadable(#[source] HeaderFault),
    /// The block belongs to another channel.
    #[error("it belongs to channel '{found}'")]
    WrongChannel {
        /// The channel that the first transaction names.
        found: String,
    },
    /// A transaction is not well formed.
    #[error("transaction {index} {fault}")]
    NotWellFormed {
        /// The position of the transaction.
        index: usize,
        /// What is wrong with it.
        #[source]
        fault: EnvelopeFault,
    },
    /// The header does not belong to the transactions.
    #[error("its header has the data hash {header}, its transactions have {computed}")]
    WrongDataHash {
        /// What the header says.
        header: Hash,
        /// What the transactions hash to.
        computed: Hash,
    },
    /// The channel's configuration has no policy for block signatures.
    #[error("the channel's configuration has no policy {policy}")]
    NoPolicy {
        /// Path of the policy.
        policy: &'static str,
    },
    /// The signatures do not satisfy the policy.
    #[error("its signatures do not satisfy {policy}: {source}")]
    NotSigned {
        /// Path of the policy.
        policy: &'static str,
        /// What is missing.
        source: PolicyError,
    },
    /// A channel begins with block 0.
    #[error("a channel begins with block [0]")]
    NotGenesis,
    /// The block holds no channel configuration where one is needed.
    #[error("it is no config block")]
    NotConfig,
    /// The channel configuration in the block cannot be used.
    #[error("its channel configuration: {0}")]
    Config(#[from] ConfigError),
}

impl BlockFault {
    pub(crate) fn malformed(part: &'static str) -> impl Fn(WireError) -> Self {
        move |source| Self::Malformed { part, source }
    }
}

/// A hash as it stands in a foreign header: of any length, shown in hex and shortened.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Bytes);

impl Hash {
    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Hash {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Bytes::copy_from_slice(&bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(empty)");
        }
        for byte in self.0.iter().take(32) {
            write!(f, "{byte:02x}")?;
        }
        match self.0.len() {
            0..=32 => Ok(()),
            length => write!(f, "... ({length} bytes)"),
        }
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
