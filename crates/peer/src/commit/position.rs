//! Where a ledger stands when it is opened: the configuration in force and the commit hash.

use selvedge_channel::{ChannelConfig, config_from_block, decode_config_envelope};
use selvedge_ledger::BlockStore;
use selvedge_ledger::state::{Namespace, StateDatabase};
use selvedge_protos::block::{metadata, metadata_slot};
use selvedge_protos::common::{Block, BlockMetadataIndex};
use selvedge_protos::protos::TxValidationCode;

use super::{CommitError, read, unusable};

/// Where every config transaction leaves its configuration, under the empty namespace (Fabric:
/// `peer.ConfigTxProcessor`).
const CONFIG_KEY: &[u8] = b"CHANNEL_CONFIG_ENV_BYTES";

/// What the next block continues.
pub(super) struct Position {
    pub config: ChannelConfig,
    /// The block of the configuration; 0 if it is before the first one that there is.
    pub config_block: u64,
    pub commit_hash: Option<[u8; 32]>,
}

impl Position {
    /// As of the last block in the block files. A channel that was joined by a snapshot may have no block
    /// yet, nor one with its configuration; that is in the state then.
    pub(super) fn find(blocks: &BlockStore, state: &StateDatabase) -> Result<Self, CommitError> {
        let (first, height) = (blocks.first_block(), blocks.height());
        let newest = height.saturating_sub(1);
        let savepoint = state.savepoint()?;
        if savepoint.is_none_or(|savepoint| savepoint.saturating_add(1) < first) && first > 0 {
            return Err(CommitError::StateLost {
                channel: blocks.channel().to_owned(),
                first,
            });
        }
        if first > newest {
            return Ok(Self {
                config: config_in_state(blocks.channel(), state)?,
                config_block: 0,
                commit_hash: blocks.snapshot_commit_hash(),
            });
        }
        let tip = read(blocks, newest)?;
        let commit_hash = stored_commit_hash(blocks, &tip)?;
        let (config, config_block) = config_in_force(blocks, state)?;
        Ok(Self {
            config,
            config_block,
            commit_hash,
        })
    }
}

/// The configuration in force after the last block, and its block. What the metadata of the last block says of
/// that is not asked, since an ordering node can sign any number (Fabric:
/// `peer.RetrievePersistedChannelConfig`).
///
/// The state knows the block of its own configuration; only the blocks that it lacks can hold a later one, and
/// they are read back to that.
fn config_in_force(
    blocks: &BlockStore,
    state: &StateDatabase,
) -> Result<(ChannelConfig, u64), CommitError> {
    let first = blocks.first_block();
    let lacking = state.savepoint()?.map_or(0, |last| last.saturating_add(1));
    for number in (lacking.max(first)..blocks.height()).rev() {
        let block = read(blocks, number)?;
        if number == 0 || is_valid_configuration(&block) {
            let config = ChannelConfig::from_block(&block).map_err(unusable(number))?;
            return Ok((config, number));
        }
    }
    let (config, number) = versioned_config(blocks.channel(), state)?;
    Ok((config, if number < first { 0 } else { number }))
}

/// Whether a block holds a configuration that was found valid, or was stored before it had a verdict.
fn is_valid_configuration(block: &Block) -> bool {
    let filter = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
    let valid = TxValidationCode::Valid as u8;
    filter.first().is_none_or(|code| *code == valid)
        && matches!(config_from_block(block), Ok(Some(_)))
}

/// The configuration in a state.
pub(crate) fn config_in_state(
    channel: &str,
    state: &StateDatabase,
) -> Result<ChannelConfig, CommitError> {
    versioned_config(channel, state).map(|(config, _)| config)
}

/// The configuration in a state, and the block that it came with.
fn versioned_config(
    channel: &str,
    state: &StateDatabase,
) -> Result<(ChannelConfig, u64), CommitError> {
    let block = state.savepoint()?.unwrap_or(0);
    let found = state.get(Namespace::public(""), CONFIG_KEY)?;
    let found = found.and_then(|found| {
        let envelope = decode_config_envelope(found.value).ok()?;
        Some((envelope.config?, found.version.block_num))
    });
    let (config, number) = found.ok_or_else(|| CommitError::Block {
        channel: channel.to_owned(),
        block,
        reason: "the state after it holds no configuration",
    })?;
    let config = ChannelConfig::from_config(channel, config).map_err(unusable(number))?;
    Ok((config, number))
}

/// The commit hash in a block's metadata; `None` if it has none, as the first block of a channel.
fn stored_commit_hash(blocks: &BlockStore, block: &Block) -> Result<Option<[u8; 32]>, CommitError> {
    let value = metadata(block, BlockMetadataIndex::CommitHash).map(|metadata| metadata.value);
    let hash = value.ok().and_then(|value| match value.len() {
        0 => Some(None),
        _ => <[u8; 32]>::try_from(&value[..]).ok().map(Some),
    });
    hash.ok_or_else(|| CommitError::Block {
        channel: blocks.channel().to_owned(),
        block: block.header.as_ref().map_or(0, |header| header.number),
        reason: "its commit hash does not parse",
    })
}
