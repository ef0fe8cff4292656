//! Finding the channel configuration in a block, and the block that holds it.

use bytes::Bytes;
use selvedge_protos::block::metadata;
use selvedge_protos::common::{
    Block, BlockMetadataIndex, Config, ConfigEnvelope, LastConfig, OrdererBlockMetadata,
};

use crate::config::ConfigError;
use crate::envelope::{channel_header, config_transaction, payload_data};
use crate::schemas::decode;

/// The configuration that a block holds; `None` if the block is no config block, which is one with
/// a config transaction and nothing else (Fabric: `protoutil.IsConfigBlock`).
pub fn config_from_block(block: &Block) -> Result<Option<ConfigEnvelope>, ConfigError> {
    let Some(envelope) = config_envelope(block)? else {
        return Ok(None);
    };
    let data = payload_data(envelope)?;
    decode(envelope.slice_ref(data))
        .map(Some)
        .map_err(ConfigError::malformed("the config envelope"))
}

/// The number of the latest config block as of this block, from its metadata
/// (Fabric: `protoutil.GetLastConfigIndexFromBlock`).
///
/// The value is signed together with the block, but nothing else vouches for it.
pub fn last_config_number(block: &Block) -> Result<u64, ConfigError> {
    let slot = |slot, name| metadata(block, slot).map_err(ConfigError::malformed(name));
    let signatures = slot(BlockMetadataIndex::Signatures, "metadata slot SIGNATURES")?;
    // Ordering nodes before v1.4.1 used a slot of its own.
    let last_config = if signatures.value.is_empty() {
        #[allow(deprecated)]
        let own_slot = slot(BlockMetadataIndex::LastConfig, "metadata slot LAST_CONFIG")?;
        decode::<LastConfig>(own_slot.value).map(Some)
    } else {
        decode::<OrdererBlockMetadata>(signatures.value).map(|metadata| metadata.last_config)
    };
    last_config
        .map_err(ConfigError::malformed("the last config index"))?
        .map(|last_config| last_config.index)
        .ok_or_else(|| ConfigError::Missing {
            path: "the last config index".to_owned(),
        })
}

/// Channel and configuration of a config block.
pub(crate) fn config_of_channel(block: &Block) -> Result<(String, Config), ConfigError> {
    let envelope = config_envelope(block)?.ok_or(ConfigError::NotConfig)?;
    let channel_id = channel_header(envelope)?.channel_id.to_owned();
    let config = config_from_block(block)?.and_then(|envelope| envelope.config);
    let config = config.ok_or_else(|| ConfigError::Missing {
        path: "the configuration in the config envelope".to_owned(),
    })?;
    Ok((channel_id, config))
}

fn config_envelope(block: &Block) -> Result<Option<&Bytes>, ConfigError> {
    let envelopes = block.data.as_ref().map(|data| data.data.as_slice());
    match envelopes.unwrap_or_default() {
        [] => Err(ConfigError::EmptyBlock),
        envelopes => Ok(config_transaction(envelopes)),
    }
}
