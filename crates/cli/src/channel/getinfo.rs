//! `channel getinfo`.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use selvedge_peer::config::ClientConfig;
use selvedge_protos::Message as _;
use selvedge_protos::common::{BlockchainInfo, HeaderType};
use serde::Serialize;

use super::{OK, endorser};
use crate::client::Identity;
use crate::failure::print_out;

pub async fn run(
    config: &ClientConfig,
    identity: &Identity,
    channel_id: &str,
) -> anyhow::Result<()> {
    let mut endorser = endorser(config, identity).await?;
    let arguments = vec![
        Bytes::from("GetChainInfo"),
        Bytes::from(channel_id.to_owned()),
    ];
    let response = endorser
        .call(HeaderType::EndorserTransaction, "qscc", arguments)
        .await
        .context("failed sending proposal")?;
    if response.status != OK {
        bail!(
            "received bad response, status {}: {}",
            response.status,
            response.message
        );
    }
    let info = BlockchainInfo::decode(response.payload).context("cannot read qscc response")?;
    print_out(&format!("Blockchain info: {}\n", json(&info)?));
    Ok(())
}

/// The JSON that Go makes of the message: members in this order, none for empty values, bytes in
/// base64.
pub(super) fn json(info: &BlockchainInfo) -> serde_json::Result<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        #[serde(skip_serializing_if = "is_zero")]
        height: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        current_block_hash: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        previous_block_hash: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        bootstrapping_snapshot_info: Option<Snapshot>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Snapshot {
        #[serde(skip_serializing_if = "is_zero")]
        last_block_in_snapshot: u64,
    }
    serde_json::to_string(&Info {
        height: info.height,
        current_block_hash: STANDARD.encode(&info.current_block_hash),
        previous_block_hash: STANDARD.encode(&info.previous_block_hash),
        bootstrapping_snapshot_info: info.bootstrapping_snapshot_info.map(|snapshot| Snapshot {
            last_block_in_snapshot: snapshot.last_block_in_snapshot,
        }),
    })
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
