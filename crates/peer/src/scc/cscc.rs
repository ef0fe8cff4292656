//! `cscc`: joining channels and asking for their configuration (Fabric: core/scc/cscc).

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::protos::{ChannelInfo, ChannelQueryResponse, JoinBySnapshotStatus, Response};

use super::{Context, error, success, text};
use crate::access::{ChannelResource, PeerResource};

/// The name under which clients call it.
pub const NAME: &str = "cscc";

/// Answers one call. Joining writes a ledger, so it may block for the length of some disk syncs.
pub fn invoke(context: &Context<'_>, arguments: &[Bytes]) -> Response {
    let Some((function, rest)) = arguments.split_first() else {
        return error("Incorrect number of arguments, 0");
    };
    let function = text(function);
    let argument = rest.first();
    match (function.as_str(), argument) {
        ("GetChannels", _) => channels(context),
        ("JoinBySnapshotStatus", _) => join_by_snapshot_status(context),
        ("JoinChainBySnapshot", Some(folder)) => join_by_snapshot(context, folder),
        ("JoinChain", Some(block)) => join(context, block),
        ("GetConfigBlock", Some(channel)) => config_block(context, &text(channel)),
        ("GetChannelConfig", Some(channel)) if channel.is_empty() => {
            error("empty channel name provided")
        }
        ("GetChannelConfig", Some(channel)) => channel_config(context, &text(channel)),
        (_, None) => error(format!(
            "Incorrect number of arguments, {}",
            arguments.len()
        )),
        _ => error(format!("Requested function {function} not found.")),
    }
}

fn join(context: &Context<'_>, block: &Bytes) -> Response {
    let genesis = match context.channels.check_genesis(block.clone()) {
        Ok(genesis) => genesis,
        Err(reason) => return error(reason.to_string()),
    };
    let channel = genesis.channel_id().to_owned();
    if let Err(reason) = context
        .access
        .check_peer(PeerResource::JoinChain, context.caller)
    {
        return error(format!(
            "access denied for [JoinChain][{channel}]: [{reason}]"
        ));
    }
    match context.channels.join(genesis) {
        Ok(()) => success(Bytes::new()),
        Err(reason) => error(reason.to_string()),
    }
}

/// Begins a join that goes on when the call has been answered.
fn join_by_snapshot(context: &Context<'_>, folder: &Bytes) -> Response {
    if folder.is_empty() {
        return error("Cannot join the channel, no snapshot directory provided");
    }
    if let Err(reason) = context
        .access
        .check_peer(PeerResource::JoinChainBySnapshot, context.caller)
    {
        return error(format!(
            "access denied for [JoinChainBySnapshot]: [{reason}]"
        ));
    }
    let folder = text(folder);
    match context.channels.join_by_snapshot(folder.clone().into()) {
        Ok(()) => success(Bytes::new()),
        Err(reason) => error(format!(
            "cannot create ledger from snapshot {folder}: {reason}"
        )),
    }
}

fn join_by_snapshot_status(context: &Context<'_>) -> Response {
    if let Err(reason) = context
        .access
        .check_peer(PeerResource::JoinBySnapshotStatus, context.caller)
    {
        return error(format!(
            "access denied for [JoinBySnapshotStatus]: {reason}"
        ));
    }
    let folder = context.channels.joining_by_snapshot();
    let status = JoinBySnapshotStatus {
        in_progress: folder.is_some(),
        bootstrapping_snapshot_dir: folder.unwrap_or_default().display().to_string(),
    };
    success(status.encode_to_vec())
}

fn channels(context: &Context<'_>) -> Response {
    if let Err(reason) = context
        .access
        .check_peer(PeerResource::GetChannels, context.caller)
    {
        return error(format!("access denied for [GetChannels]: {reason}"));
    }
    let channels = context.channels.ids().into_iter();
    let channels = channels
        .map(|channel_id| ChannelInfo { channel_id })
        .collect();
    success(ChannelQueryResponse { channels }.encode_to_vec())
}

fn config_block(context: &Context<'_>, channel_id: &str) -> Response {
    let function = "GetConfigBlock";
    let channel = match guarded(
        context,
        function,
        channel_id,
        ChannelResource::GET_CONFIG_BLOCK,
    ) {
        Ok(channel) => channel,
        Err(refusal) => return refusal,
    };
    match channel.config_block() {
        Ok(block) => success(block),
        Err(reason) => error(reason.to_string()),
    }
}

fn channel_config(context: &Context<'_>, channel_id: &str) -> Response {
    let function = "GetChannelConfig";
    let channel = match guarded(
        context,
        function,
        channel_id,
        ChannelResource::GET_CHANNEL_CONFIG,
    ) {
        Ok(channel) => channel,
        Err(refusal) => return refusal,
    };
    success(channel.config().config().encode_to_vec())
}

fn guarded(
    context: &Context<'_>,
    function: &str,
    channel_id: &str,
    resource: ChannelResource,
) -> Result<std::sync::Arc<crate::channel::Channel>, Response> {
    let denied = |reason: &dyn std::fmt::Display| {
        error(format!(
            "access denied for [{function}][{channel_id}]: {reason}"
        ))
    };
    let Some(channel) = context.channels.get(channel_id) else {
        let policy = crate::access::APPLICATION_READERS;
        let reason = format!("Failed to get policy manager for channel [{channel_id}]");
        tracing::debug!(target: "cscc", policy, "{reason}");
        return Err(denied(&reason));
    };
    match context
        .access
        .check_channel(resource, &channel, context.caller)
    {
        Ok(()) => Ok(channel),
        Err(reason) => Err(denied(&reason)),
    }
}
