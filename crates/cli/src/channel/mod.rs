//! `channel join | joinbysnapshot | joinbysnapshotstatus | list | getinfo | fetch`, with Fabric's output.

mod fetch;
mod getinfo;
mod snapshot;

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use selvedge_peer::config::ClientConfig;
use selvedge_protos::Message as _;
use selvedge_protos::common::HeaderType;
use selvedge_protos::protos::ChannelQueryResponse;
use tracing::info;

use crate::args::{ChannelArgs, ChannelCommand, OrdererArgs};
use crate::client::{self, Endorser, Identity};
use crate::failure::{Failure, causes, print_out};

const OK: i32 = 200;

/// Runs one verb.
pub fn run(arguments: ChannelArgs) -> Result<(), Failure> {
    let (mut config, identity) = client::configured()?;
    set_orderer(&mut config, arguments.orderer);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(run_verb(arguments.command, &config, &identity))?)
}

/// What is said of the ordering node on the command line replaces the configuration, as in Fabric.
fn set_orderer(config: &mut ClientConfig, arguments: OrdererArgs) {
    let orderer = &mut config.orderer;
    orderer.address = arguments.address;
    orderer.conn_timeout = arguments.conn_timeout;
    orderer.tls_enabled = arguments.tls;
    orderer.root_cert_file = arguments.ca_file;
    orderer.client_auth_required = arguments.client_auth;
    orderer.client_cert_file = arguments.cert_file;
    orderer.client_key_file = arguments.key_file;
    orderer.server_host_override = arguments.hostname_override;
    orderer.handshake_time_shift = arguments.handshake_time_shift;
}

async fn run_verb(
    command: ChannelCommand,
    config: &ClientConfig,
    identity: &Identity,
) -> anyhow::Result<()> {
    match command {
        ChannelCommand::Join { block_path } => {
            let block_path = block_path.ok_or_else(|| anyhow!("Must supply genesis block path"))?;
            join(config, identity, &block_path).await
        }
        ChannelCommand::Joinbysnapshot { snapshot_path } => {
            snapshot::join(config, identity, &snapshot_path).await
        }
        ChannelCommand::Joinbysnapshotstatus => snapshot::status(config, identity).await,
        ChannelCommand::List => list(config, identity).await,
        ChannelCommand::Getinfo { channel_id } => {
            let channel_id = channel_id.ok_or_else(|| anyhow!("Must supply channel ID"))?;
            getinfo::run(config, identity, &channel_id).await
        }
        ChannelCommand::Fetch {
            target,
            output,
            channel_id,
            best_effort,
        } => {
            let request = fetch::Request::new(target, output, channel_id, best_effort)?;
            fetch::run(config, identity, request).await
        }
    }
}

async fn endorser<'a>(
    config: &ClientConfig,
    identity: &'a Identity,
) -> anyhow::Result<Endorser<'a>> {
    let endorser = Endorser::connect(&config.peer, identity)
        .await
        .context("error getting endorser client for channel")?;
    info!(target: "channelCmd", "Endorser and orderer connections initialized");
    Ok(endorser)
}

/// Hands the genesis block to the peer's system chaincode cscc.
async fn join(config: &ClientConfig, identity: &Identity, block_path: &Path) -> anyhow::Result<()> {
    let block = std::fs::read(block_path).map_err(|error| {
        anyhow!(
            "genesis block file not found {}: {error}",
            block_path.display()
        )
    })?;
    let arguments = vec![Bytes::from("JoinChain"), Bytes::from(block)];
    submit(config, identity, arguments).await
}

/// Has the peer's system chaincode cscc join.
async fn submit(
    config: &ClientConfig,
    identity: &Identity,
    arguments: Vec<Bytes>,
) -> anyhow::Result<()> {
    let mut endorser = endorser(config, identity).await?;
    let response = endorser
        .call(HeaderType::Config, "cscc", arguments)
        .await
        .map_err(|error| anyhow!("proposal failed (err: {})", causes(&error)))?;
    if response.status != 0 && response.status != OK {
        bail!(
            "proposal failed (err: bad proposal response {}: {})",
            response.status,
            response.message
        );
    }
    info!(target: "channelCmd", "Successfully submitted proposal to join channel");
    Ok(())
}

async fn list(config: &ClientConfig, identity: &Identity) -> anyhow::Result<()> {
    let mut endorser = endorser(config, identity).await?;
    let response = endorser
        .call(
            HeaderType::EndorserTransaction,
            "cscc",
            vec![Bytes::from("GetChannels")],
        )
        .await
        .map_err(|error| anyhow!("Failed sending proposal, got {}", causes(&error)))?;
    if response.status != OK {
        bail!(
            "Received bad response, status {}: {}",
            response.status,
            response.message
        );
    }
    let channels = ChannelQueryResponse::decode(response.payload)
        .context("Cannot read channels list response")?
        .channels;
    let names = channels
        .into_iter()
        .map(|channel| channel.channel_id + "\n");
    print_out(&format!(
        "Channels peers has joined: \n{}",
        names.collect::<String>()
    ));
    Ok(())
}

#[cfg(test)]
mod tests;
