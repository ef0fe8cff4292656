//! `qscc`: queries of a channel's blocks and transactions (Fabric: core/scc/qscc).

use std::fmt::Display;

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::common::Envelope;
use selvedge_protos::protos::{ProcessedTransaction, Response};

use super::{Context, error, success, text};
use crate::access::ChannelResource;
use crate::channel::Channel;

/// The name under which clients call it.
pub const NAME: &str = "qscc";

/// Answers one call. Reads block files, so it may block for the length of a disk read.
pub fn invoke(context: &Context<'_>, arguments: &[Bytes]) -> Response {
    let [function, channel, rest @ ..] = arguments else {
        return error(format!(
            "Incorrect number of arguments, {}",
            arguments.len()
        ));
    };
    let (function, channel_id) = (text(function), text(channel));
    if function != "GetChainInfo" && rest.is_empty() {
        return error(format!("missing 3rd argument for {function}"));
    }
    let Some(channel) = context.channels.get(&channel_id) else {
        return error(format!("Invalid chain ID, {channel_id}"));
    };
    let argument = rest.first().cloned().unwrap_or_default();
    let (resource, query): (_, fn(&Channel, &Bytes) -> Response) = match function.as_str() {
        "GetChainInfo" => (ChannelResource::GET_CHAIN_INFO, chain_info),
        "GetBlockByNumber" => (ChannelResource::GET_BLOCK_BY_NUMBER, block_by_number),
        "GetBlockByHash" => (ChannelResource::GET_BLOCK_BY_HASH, block_by_hash),
        "GetTransactionByID" => (ChannelResource::GET_TRANSACTION_BY_ID, transaction_by_id),
        "GetBlockByTxID" => (ChannelResource::GET_BLOCK_BY_TX_ID, block_by_transaction_id),
        _ => {
            let reason = format!("Unmapped policy for qscc/{function}");
            return error(format!(
                "access denied for [{function}][{channel_id}]: [{reason}]"
            ));
        }
    };
    if let Err(reason) = context
        .access
        .check_channel(resource, &channel, context.caller)
    {
        return error(format!(
            "access denied for [{function}][{channel_id}]: [{reason}]"
        ));
    }
    query(&channel, &argument)
}

fn chain_info(channel: &Channel, _: &Bytes) -> Response {
    success(channel.ledger().info().encode_to_vec())
}

fn block_by_number(channel: &Channel, argument: &Bytes) -> Response {
    let number = match parse_number(&text(argument)) {
        Ok(number) => number,
        Err(reason) => return error(format!("Failed to parse block number with error {reason}")),
    };
    // Fabric reads the largest number as "the newest block".
    let number = if number == u64::MAX {
        channel.ledger().height().saturating_sub(1)
    } else {
        number
    };
    let failed = |reason: &dyn Display| {
        error(format!(
            "Failed to get block number {number}, error {reason}"
        ))
    };
    match channel.ledger().block_bytes(number) {
        Ok(Some(block)) => success(block),
        Ok(None) => failed(&format_args!("no such block number [{number}] in index")),
        Err(reason) => failed(&reason),
    }
}

/// A decimal number as Go's `strconv.ParseUint` reads it, with its errors.
fn parse_number(text: &str) -> Result<u64, String> {
    let failed = |reason| format!("strconv.ParseUint: parsing {text:?}: {reason}");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    text.parse().map_err(|_| failed("value out of range"))
}

fn block_by_hash(channel: &Channel, hash: &Bytes) -> Response {
    let failed = |reason: &dyn Display| {
        error(format!(
            "Failed to get block hash {}, error {reason}",
            text(hash)
        ))
    };
    match channel.ledger().block_by_hash(hash) {
        Ok(Some(block)) => success(block),
        Ok(None) => failed(&format_args!(
            "no such block hash [{}] in index",
            hex::encode(hash)
        )),
        Err(reason) => failed(&reason),
    }
}

fn transaction_by_id(channel: &Channel, id: &Bytes) -> Response {
    let id = text(id);
    let failed = |reason: &dyn Display| {
        error(format!(
            "Failed to get transaction with id {id}, error {reason}"
        ))
    };
    let found = match channel.ledger().transaction(&id) {
        Ok(Some(found)) => found,
        Ok(None) => return failed(&format_args!("no such transaction ID [{id}] in index")),
        Err(reason) => return failed(&reason),
    };
    match Envelope::decode(found.envelope) {
        Ok(envelope) => success(
            ProcessedTransaction {
                transaction_envelope: Some(envelope),
                validation_code: found.status.code.into(),
            }
            .encode_to_vec(),
        ),
        Err(reason) => failed(&reason),
    }
}

fn block_by_transaction_id(channel: &Channel, id: &Bytes) -> Response {
    let id = text(id);
    let failed =
        |reason: &dyn Display| error(format!("Failed to get block for txID {id}, error {reason}"));
    match channel.ledger().block_by_transaction_id(&id) {
        Ok(Some(block)) => success(block),
        Ok(None) => failed(&format_args!("no such transaction ID [{id}] in index")),
        Err(reason) => failed(&reason),
    }
}
