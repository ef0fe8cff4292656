//! `snapshot submitrequest | cancelrequest | listpending`, with Fabric's output.

use anyhow::{Context as _, bail};
use selvedge_peer::config::ClientConfig;

use crate::args::{SnapshotArgs, SnapshotCommand};
use crate::client::{self, Identity, Snapshots};
use crate::failure::{Failure, print_out};

/// Runs one verb.
pub fn run(command: SnapshotCommand) -> Result<(), Failure> {
    let (mut config, identity) = client::configured()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(run_verb(command, &mut config, &identity))?)
}

async fn run_verb(
    command: SnapshotCommand,
    config: &mut ClientConfig,
    identity: &Identity,
) -> anyhow::Result<()> {
    match command {
        SnapshotCommand::Submitrequest { to, block_number } => {
            let (mut client, channel) = connect(to, config, identity).await?;
            let submitted = client.submit(channel, block_number).await;
            submitted.context("failed to submit the request")?;
            print_out("Snapshot request submitted successfully\n");
        }
        SnapshotCommand::Cancelrequest { to, block_number } => {
            check_channel(&to)?;
            if block_number == 0 {
                bail!(
                    "the required parameter 'blockNumber' is empty or set to 0. Rerun the command \
                     with -b flag"
                );
            }
            let (mut client, channel) = connect(to, config, identity).await?;
            let cancelled = client.cancel(channel, block_number).await;
            cancelled.context("failed to cancel the request")?;
            print_out("Snapshot request cancelled successfully\n");
        }
        SnapshotCommand::Listpending { to } => {
            let (mut client, channel) = connect(to, config, identity).await?;
            let pending = client.pending(channel).await;
            let pending = pending.context("failed to list pending requests")?;
            let pending: Vec<_> = pending.iter().map(ToString::to_string).collect();
            print_out(&format!(
                "Successfully got pending snapshot requests: [{}]\n",
                pending.join(" ")
            ));
        }
    }
    Ok(())
}

fn check_channel(to: &SnapshotArgs) -> anyhow::Result<()> {
    if to.channel_id.is_empty() {
        bail!("the required parameter 'channelID' is empty. Rerun the command with -c flag");
    }
    Ok(())
}

/// What is said on the command line of how to reach the peer replaces the configuration. Unlike in Fabric
/// the configured root certificate does, if none is said.
async fn connect<'a>(
    to: SnapshotArgs,
    config: &mut ClientConfig,
    identity: &'a Identity,
) -> anyhow::Result<(Snapshots<'a>, String)> {
    check_channel(&to)?;
    let peer = &mut config.peer;
    if !to.peer_address.is_empty() {
        peer.address = to.peer_address;
    }
    if to.tls_root_cert_file.is_some() {
        peer.root_cert_file = to.tls_root_cert_file;
    }
    if peer.tls_enabled && peer.root_cert_file.is_none() {
        bail!(
            "the required parameter 'tlsRootCertFile' is empty. Rerun the command with \
             --tlsRootCertFile flag"
        );
    }
    let client = Snapshots::connect(peer, identity).await;
    let client = client.context("failed to retrieve snapshot client")?;
    Ok((client, to.channel_id))
}
