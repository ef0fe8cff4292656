//! `channel joinbysnapshot | joinbysnapshotstatus`.

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use selvedge_peer::config::ClientConfig;
use selvedge_protos::Message as _;
use selvedge_protos::common::HeaderType;
use selvedge_protos::protos::JoinBySnapshotStatus;
use tracing::info;

use super::{OK, endorser, submit};
use crate::client::Identity;
use crate::failure::{causes, print_out};

/// Names a folder on the peer's disk to its system chaincode cscc.
pub(super) async fn join(
    config: &ClientConfig,
    identity: &Identity,
    folder: &str,
) -> anyhow::Result<()> {
    if folder.is_empty() {
        bail!(
            "the required parameter 'snapshotpath' is empty. Rerun the command with --snapshotpath \
             flag"
        );
    }
    let arguments = vec![
        Bytes::from("JoinChainBySnapshot"),
        Bytes::copy_from_slice(folder.as_bytes()),
    ];
    submit(config, identity, arguments).await?;
    info!(
        target: "channelCmd",
        "The joinbysnapshot operation is in progress. Use \"peer channel joinbysnapshotstatus\" to check \
         the status."
    );
    Ok(())
}

/// Asks whether the peer is joining a channel by a snapshot.
pub(super) async fn status(config: &ClientConfig, identity: &Identity) -> anyhow::Result<()> {
    let mut endorser = endorser(config, identity).await?;
    let arguments = vec![Bytes::from("JoinBySnapshotStatus")];
    let response = endorser
        .call(HeaderType::EndorserTransaction, "cscc", arguments)
        .await
        .map_err(|error| anyhow!("failed sending proposal, due to {}", causes(&error)))?;
    if response.status != OK {
        bail!(
            "received bad response, status {}: {}",
            response.status,
            response.message
        );
    }
    let status = JoinBySnapshotStatus::decode(response.payload)
        .context("cannot query joinbysnapshot status")?;
    if status.in_progress {
        print_out(&format!(
            "A joinbysnapshot operation is in progress for snapshot at {}\n",
            status.bootstrapping_snapshot_dir
        ));
    } else {
        print_out("No joinbysnapshot operation is in progress\n");
    }
    Ok(())
}
