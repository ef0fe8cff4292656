//! Requests for snapshots of a channel's ledger.

use bytes::Bytes;
use selvedge_peer::config::RemoteConfig;
use selvedge_protos::Message as _;
use selvedge_protos::protos::{SignedSnapshotRequest, SnapshotQuery, SnapshotRequest};
use selvedge_transport::Connection;
use selvedge_transport::services::protos::snapshot_client::SnapshotClient;

use super::connection::connect;
use super::identity::Identity;
use super::rpc_error;

/// A client of a peer's snapshot service.
#[derive(Debug)]
pub struct Snapshots<'a> {
    client: SnapshotClient<Connection>,
    identity: &'a Identity,
}

impl<'a> Snapshots<'a> {
    /// Connects to the peer.
    pub async fn connect(config: &RemoteConfig, identity: &'a Identity) -> anyhow::Result<Self> {
        let remote = connect(config, "peer", "snapshot client").await?;
        Ok(Self {
            client: SnapshotClient::new(remote.connection),
            identity,
        })
    }

    /// Asks for a snapshot as of a block, 0 for the last one.
    pub async fn submit(&mut self, channel_id: String, block_number: u64) -> anyhow::Result<()> {
        let request = self.request(channel_id, block_number)?;
        let answer = self.client.generate(request).await;
        answer.map(|_| ()).map_err(|status| rpc_error(&status))
    }

    /// Withdraws a request.
    pub async fn cancel(&mut self, channel_id: String, block_number: u64) -> anyhow::Result<()> {
        let request = self.request(channel_id, block_number)?;
        let answer = self.client.cancel(request).await;
        answer.map(|_| ()).map_err(|status| rpc_error(&status))
    }

    /// The blocks of the requests that wait.
    pub async fn pending(&mut self, channel_id: String) -> anyhow::Result<Vec<u64>> {
        let query = SnapshotQuery {
            signature_header: Some(self.identity.signature_header()),
            channel_id,
        };
        let signed = self.sign(query.encode_to_vec().into())?;
        let answer = self.client.query_pendings(signed).await;
        answer
            .map(|answer| answer.into_inner().block_numbers)
            .map_err(|status| rpc_error(&status))
    }

    fn request(
        &self,
        channel_id: String,
        block_number: u64,
    ) -> anyhow::Result<SignedSnapshotRequest> {
        let request = SnapshotRequest {
            signature_header: Some(self.identity.signature_header()),
            channel_id,
            block_number,
        };
        self.sign(request.encode_to_vec().into())
    }

    fn sign(&self, request: Bytes) -> anyhow::Result<SignedSnapshotRequest> {
        Ok(SignedSnapshotRequest {
            signature: self.identity.sign(&request)?,
            request,
        })
    }
}
