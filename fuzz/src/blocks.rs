//! Blocks, and the configuration of channels.

use bytes::Bytes;
use selvedge_channel::{
    BlockRef, BlockVerifier, ChannelConfig, config_from_block, config_update,
    decode_config_envelope, last_config_number,
};
use selvedge_policy::{SignaturePolicy, parse_implicit_meta_policy, parse_policy};
use selvedge_protos::Message;
use selvedge_protos::common::{Block, Config, Envelope};
use selvedge_protos::envelope::OpenedEnvelope;

use crate::channel;

/// A block from an ordering node, from a peer, and as a header on a stream of headers.
pub fn block(bytes: &[u8]) {
    let Some(config) = channel() else { return };
    let verifier = BlockVerifier::new(config.clone());
    let bytes = Bytes::copy_from_slice(bytes);
    let previous = BlockRef {
        number: 0,
        header_hash: [0; 32],
    };
    let _ = verifier.verify(bytes.clone());
    let _ = verifier.verify_next(bytes.clone(), &previous);
    let _ = verifier.verify_attestation(bytes, &previous);
}

/// A block to join a channel with, which nothing but its own form vouches for.
pub fn genesis_block(bytes: &[u8]) {
    let _ = BlockVerifier::trust_genesis(Bytes::copy_from_slice(bytes));
}

/// A block on disk, or in a file that an operator gives: its configuration, its metadata, and what
/// listeners get of it.
pub fn stored_block(bytes: &[u8]) {
    let Ok(block) = Block::decode(bytes) else {
        return;
    };
    let _ = config_from_block(&block);
    let _ = last_config_number(&block);
    let _ = ChannelConfig::from_block(&block);
    let _ = selvedge_peer::fuzzing::filter(&block);
}

/// A configuration that follows ours, with the update that leads to it, or the update alone.
pub fn config(bytes: &[u8]) {
    let Some(current) = channel() else { return };
    if let Ok(proposed) = decode_config_envelope(Bytes::copy_from_slice(bytes)) {
        let _ = config_update::check(current, &proposed);
    }
    if let Ok(update) = Envelope::decode(bytes) {
        let _ = config_update::propose(current, &update);
    }
    if let Ok(config) = Config::decode(bytes) {
        let _ = config_update::compute(current.channel_id(), current.config(), &config);
        if let Ok(next) = ChannelConfig::from_config(current.channel_id(), config) {
            let _ = current.check_successor(&next);
        }
    }
}

/// A transaction's layers.
pub fn envelope(bytes: &[u8]) {
    let _ = OpenedEnvelope::decode(Bytes::copy_from_slice(bytes));
}

/// The bytes of a signature policy.
pub fn signature_policy(bytes: &[u8]) {
    if let Ok(policy) = SignaturePolicy::from_bytes(bytes) {
        let _ = policy.evaluate_identities(&[]);
    }
}

/// A policy as an operator writes it.
pub fn policy_text(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_policy(text);
        let _ = parse_implicit_meta_policy(text);
    }
}
