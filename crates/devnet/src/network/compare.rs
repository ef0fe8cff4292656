//! Whether all chains are the same.

use std::fmt;

use selvedge_ledger::{BlockStore, LedgerError};
use selvedge_protos::block::{data_hash, header_hash};

use crate::error::DevnetError;

/// The first place where a chain is not the ordering node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    peer: String,
    block: u64,
    found: Option<[u8; 32]>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, block, found } = self;
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

/// Compares blocks 0 to `last`, header hash by header hash, and each block's data with its header.
/// Costs the reading of all these blocks from every store, on a thread of its own.
pub(super) async fn first_difference(
    reference: BlockStore,
    peers: Vec<(String, BlockStore)>,
    last: u64,
) -> Result<Option<Difference>, DevnetError> {
    let comparison = tokio::task::spawn_blocking(move || {
        for number in 0..=last {
            let expected = hash(&reference, number)?;
            for (name, store) in &peers {
                let found = hash(store, number)?;
                if found.is_none() || found != expected {
                    let (peer, block) = (name.clone(), number);
                    return Ok(Some(Difference { peer, block, found }));
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
