//! `protos.Snapshot`: requests for snapshots of a channel's ledger, by administrators of the peer's
//! organisation (Fabric: core/ledger/snapshotgrpc).

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use selvedge_policy::SignedData;
use selvedge_protos::Message;
use selvedge_protos::common::SignatureHeader;
use selvedge_protos::protos::{
    QueryPendingSnapshotsResponse, SignedSnapshotRequest, SnapshotQuery, SnapshotRequest,
};
use selvedge_transport::services::protos::snapshot_server::Snapshot;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::access::{AccessControl, PeerResource};
use crate::channel::{Channel, Channels};

/// Requests that are looked at at the same time; more wait.
const CONCURRENCY: usize = 16;

/// The snapshot service.
#[derive(Clone)]
pub struct SnapshotService {
    inner: Arc<Inner>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

struct Inner {
    channels: Channels,
    access: AccessControl,
}

impl SnapshotService {
    /// Requests are processed as `tasks`.
    pub fn new(channels: Channels, access: AccessControl, tasks: TaskTracker) -> Self {
        Self {
            inner: Arc::new(Inner { channels, access }),
            permits: Arc::new(Semaphore::new(CONCURRENCY)),
            tasks,
        }
    }

    /// Reads signatures and disk on a thread that may wait. Failures have the code that Go gives to an
    /// error without one.
    async fn process<T: Send + 'static>(
        &self,
        request: Request<SignedSnapshotRequest>,
        work: impl FnOnce(&Inner, SignedSnapshotRequest) -> Result<T, String> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| Status::internal(closed.to_string()))?;
        let inner = self.inner.clone();
        let work = self.tasks.spawn_blocking(move || {
            let _permit = permit;
            work(&inner, request.into_inner())
        });
        let answer = work
            .await
            .map_err(|failure| Status::internal(failure.to_string()))?;
        answer.map(Response::new).map_err(Status::unknown)
    }
}

#[tonic::async_trait]
impl Snapshot for SnapshotService {
    async fn generate(
        &self,
        request: Request<SignedSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        self.process(request, |inner, signed| {
            let request: SnapshotRequest = open(&signed.request)?;
            let resource = PeerResource::SubmitSnapshotRequest;
            inner.check(resource, request.signature_header, signed)?;
            let channel = inner.channel(&request.channel_id)?;
            let submitted = channel.snapshots().submit(request.block_number);
            submitted.map(|_| ()).map_err(|error| error.to_string())
        })
        .await
    }

    async fn cancel(
        &self,
        request: Request<SignedSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        self.process(request, |inner, signed| {
            let request: SnapshotRequest = open(&signed.request)?;
            let resource = PeerResource::CancelSnapshotRequest;
            inner.check(resource, request.signature_header, signed)?;
            let channel = inner.channel(&request.channel_id)?;
            let cancelled = channel.snapshots().cancel(request.block_number);
            cancelled.map_err(|error| error.to_string())
        })
        .await
    }

    async fn query_pendings(
        &self,
        request: Request<SignedSnapshotRequest>,
    ) -> Result<Response<QueryPendingSnapshotsResponse>, Status> {
        self.process(request, |inner, signed| {
            let query: SnapshotQuery = open(&signed.request)?;
            let resource = PeerResource::ListPendingSnapshots;
            inner.check(resource, query.signature_header, signed)?;
            let channel = inner.channel(&query.channel_id)?;
            Ok(QueryPendingSnapshotsResponse {
                block_numbers: channel.snapshots().pending(),
            })
        })
        .await
    }
}

fn open<M: Message + Default>(request: &Bytes) -> Result<M, String> {
    M::decode(request.clone())
        .map_err(|error| format!("failed to unmarshal snapshot request: {error}"))
}

impl Inner {
    fn check(
        &self,
        resource: PeerResource,
        header: Option<SignatureHeader>,
        signed: SignedSnapshotRequest,
    ) -> Result<(), String> {
        let identity = header.ok_or("missing signature header")?.creator;
        // A creator without a readable certificate is refused by the policy.
        let expires = selvedge_msp::expires_at(&identity).ok();
        if expires.is_some_and(|end| end < SystemTime::now()) {
            return Err("client identity expired".to_owned());
        }
        let signed = SignedData {
            data: signed.request,
            identity,
            signature: signed.signature,
        };
        let checked = self.access.check_peer(resource, &signed);
        checked.map_err(|error| error.to_string())
    }

    fn channel(&self, id: &str) -> Result<Arc<Channel>, String> {
        if id.is_empty() {
            return Err("missing channel ID".to_owned());
        }
        let channel = self.channels.get(id);
        channel.ok_or_else(|| format!("cannot find ledger for channel {id}"))
    }
}
