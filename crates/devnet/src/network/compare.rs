//! Whether all chains are the same.

use std::fmt;

use bytes::Bytes;
use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_protos::block::{data_hash, header_hash, metadata_slot};
use selvedge_protos::common::BlockMetadataIndex;

use crate::error::DevnetError;

/// The first place where a chain is not the ordering node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    peer: String,
    block: u64,
    found: Option<[u8; 32]>,
    /// Whether it is the outcome of validation that differs, not the block.
    is_verdict: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            peer,
            block,
            found,
            is_verdict,
        } = self;
        if *is_verdict {
            return write!(
                f,
                "{peer} has other verdicts on block {block}, or another state after it"
            );
        }
        match found {
            None => write!(f, "{peer} lacks block {block}"),
            Some(hash) => write!(
                f,
                "block {block} of {peer} is another one: its hash is {}",
                hex::encode(hash)
            ),
        }
    }
}

/// Compares blocks 0 to `last`, header hash by header hash, each block's data with its header, and among
/// the peers verdicts and commit hash.
/// Costs the reading of all these blocks from every store, on a thread of its own.
pub(super) async fn first_difference(
    reference: BlockStore,
    peers: Vec<(String, BlockStore)>,
    last: u64,
) -> Result<Option<Difference>, DevnetError> {
    let comparison = tokio::task::spawn_blocking(move || {
        for number in 0..=last {
            let expected = hash(&reference, number)?;
            let mut outcome = None;
            for (name, store) in &peers {
                let found = hash(store, number)?;
                let is_other = found.is_none() || found != expected;
                let verdict = verdict(store, number)?;
                if is_other || *outcome.get_or_insert_with(|| verdict.clone()) != verdict {
                    return Ok(Some(Difference {
                        peer: name.clone(),
                        block: number,
                        found,
                        is_verdict: !is_other,
                    }));
                }
            }
        }
        Ok(None)
    });
    let compared: Result<_, LedgerError> = match comparison.await {
        Ok(compared) => compared,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    compared.map_err(DevnetError::Compare)
}

/// What validation has written into a block.
fn verdict(store: &BlockStore, number: u64) -> Result<Option<[Bytes; 2]>, LedgerError> {
    let block = store.block(number)?;
    let slots = [
        BlockMetadataIndex::TransactionsFilter,
        BlockMetadataIndex::CommitHash,
    ];
    Ok(block.map(|block| slots.map(|slot| metadata_slot(&block, slot))))
}

/// The hash of a block's header if its data match; of other data, a hash that no header has.
fn hash(store: &BlockStore, number: u64) -> Result<Option<[u8; 32]>, LedgerError> {
    let block = store.block(number)?;
    Ok(block.and_then(|block| {
        let header = block.header?;
        let matches = header.data_hash == data_hash(&block.data?)[..];
        Some(if matches {
            header_hash(&header)
        } else {
            [0; 32]
        })
    }))
}
