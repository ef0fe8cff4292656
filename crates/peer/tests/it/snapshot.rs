//! Snapshots on request, and channels joined by one: who may do what, and every refusal with Fabric's
//! text.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use selvedge_msp::SigningIdentity;
use selvedge_peer::access::AccessControl;
use selvedge_peer::channel::{ChannelEvent, Channels};
use selvedge_peer::scc::{Context, cscc};
use selvedge_peer::services::snapshot::SnapshotService;
use selvedge_policy::SignedData;
use selvedge_protos::Message;
use selvedge_protos::common::SignatureHeader;
use selvedge_protos::protos::{
    JoinBySnapshotStatus, SignedSnapshotRequest, SnapshotQuery, SnapshotRequest,
};
use selvedge_transport::services::protos::snapshot_server::Snapshot;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Status};

use crate::support::{CHANNEL, Chain, Network, commit_by_queue, join, soon, until};

/// A peer of Org1 that has joined the channel.
struct Bench {
    network: Network,
    channels: Channels,
    chain: Chain,
    service: SnapshotService,
    _events: mpsc::Receiver<ChannelEvent>,
}

impl Bench {
    async fn new() -> Self {
        let network = Network::new();
        let (channels, events) = network.channels("data");
        join(&channels, network.genesis_bytes()).await.unwrap();
        let service = SnapshotService::new(
            channels.clone(),
            AccessControl::new(network.msp(1)),
            TaskTracker::new(),
        );
        Self {
            chain: Chain::new(&network),
            network,
            channels,
            service,
            _events: events,
        }
    }

    async fn commit(&mut self, blocks: usize) {
        for _ in 0..blocks {
            let block = self.chain.push(&["a", "b"]);
            commit_by_queue(&self.channels.get(CHANNEL).unwrap(), &[block]).await;
        }
    }

    async fn generate(&self, signer: &SigningIdentity, block_number: u64) -> Result<(), String> {
        let signed = signed(signer, request(signer, CHANNEL, block_number));
        let answer = self.service.generate(Request::new(signed)).await;
        answer.map(|_| ()).map_err(message)
    }

    async fn cancel(&self, signer: &SigningIdentity, block_number: u64) -> Result<(), String> {
        let signed = signed(signer, request(signer, CHANNEL, block_number));
        let answer = self.service.cancel(Request::new(signed)).await;
        answer.map(|_| ()).map_err(message)
    }

    async fn pending(&self, signer: &SigningIdentity) -> Result<Vec<u64>, String> {
        let query = SnapshotQuery {
            signature_header: Some(header(signer)),
            channel_id: CHANNEL.to_owned(),
        };
        let signed = signed(signer, query.encode_to_vec());
        let answer = self.service.query_pendings(Request::new(signed)).await;
        answer
            .map(|answer| answer.into_inner().block_numbers)
            .map_err(message)
    }

    fn completed(&self, folder: &str, block: u64) -> PathBuf {
        let data = self.network.folder.path().join(folder);
        let completed = data.join("snapshots/completed");
        completed.join(CHANNEL).join(block.to_string())
    }

    /// Calls cscc of a peer as an administrator of Org1.
    async fn cscc(&self, channels: &Channels, org: usize, args: &[&[u8]]) -> Result<Bytes, String> {
        let (channels, access) = (channels.clone(), AccessControl::new(self.network.msp(1)));
        let args: Vec<_> = args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect();
        let admin = self.network.admin(org);
        let calling = tokio::task::spawn_blocking(move || {
            let caller = SignedData {
                data: Bytes::from_static(b"proposal"),
                identity: admin.serialized().clone(),
                signature: admin.sign(b"proposal").unwrap(),
            };
            let context = Context {
                channels: &channels,
                access: &access,
                caller: &caller,
            };
            cscc::invoke(&context, &args)
        });
        let response = calling.await.unwrap();
        match response.status {
            200 => Ok(response.payload),
            _ => Err(response.message),
        }
    }

    async fn status(&self, channels: &Channels) -> JoinBySnapshotStatus {
        let status = self.cscc(channels, 1, &[b"JoinBySnapshotStatus"]).await;
        JoinBySnapshotStatus::decode(status.unwrap()).unwrap()
    }
}

fn header(signer: &SigningIdentity) -> SignatureHeader {
    SignatureHeader {
        creator: signer.serialized().clone(),
        nonce: Bytes::from_static(b"nonce"),
    }
}

fn request(signer: &SigningIdentity, channel_id: &str, block_number: u64) -> Vec<u8> {
    let request = SnapshotRequest {
        signature_header: Some(header(signer)),
        channel_id: channel_id.to_owned(),
        block_number,
    };
    request.encode_to_vec()
}

fn signed(signer: &SigningIdentity, request: Vec<u8>) -> SignedSnapshotRequest {
    SignedSnapshotRequest {
        signature: signer.sign(&request).unwrap(),
        request: request.into(),
    }
}

/// Go gives no code to a plain error.
fn message(status: Status) -> String {
    assert_eq!(status.code(), Code::Unknown);
    status.message().to_owned()
}

#[tokio::test]
async fn requests_wait_for_their_block() {
    let mut bench = Bench::new().await;
    let admin = bench.network.admin(1);
    bench.commit(2).await;
    bench.generate(&admin, 4).await.unwrap();
    bench.generate(&admin, 9).await.unwrap();
    bench.generate(&admin, 0).await.unwrap();
    assert_eq!(
        bench.generate(&admin, 9).await.unwrap_err(),
        "duplicate snapshot request for block number 9"
    );
    assert_eq!(
        bench.generate(&admin, 1).await.unwrap_err(),
        "requested snapshot for block number 1 cannot be less than the last committed block number 2"
    );
    until("the last block", async || {
        bench.pending(&admin).await.unwrap() == [4, 9]
    })
    .await;
    assert_eq!(
        bench.generate(&admin, 2).await.unwrap_err(),
        "snapshot already generated for block number 2"
    );
    bench.commit(3).await;
    until("block 4", async || {
        bench.pending(&admin).await.unwrap() == [9]
    })
    .await;
    bench.cancel(&admin, 9).await.unwrap();
    assert_eq!(
        bench.cancel(&admin, 9).await.unwrap_err(),
        "no snapshot request exists for block number 9"
    );
    assert_eq!(bench.pending(&admin).await.unwrap(), [0; 0]);
    let made = fs::read_dir(bench.completed("data", 0).parent().unwrap()).unwrap();
    let mut made: Vec<_> = made.map(|entry| entry.unwrap().file_name()).collect();
    made.sort();
    assert_eq!(made, ["2", "4"]);
}

#[tokio::test]
async fn administrators_of_the_peers_organisation_ask() {
    let bench = Bench::new().await;
    for stranger in [bench.network.user(1), bench.network.admin(2)] {
        let refusals = [
            bench.generate(&stranger, 5).await.unwrap_err(),
            bench.cancel(&stranger, 5).await.unwrap_err(),
            bench.pending(&stranger).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert!(refusal.contains("with policy [Admins]"), "{refusal}");
        }
    }
    let expired = bench.network.expired(1, "admin");
    let refused = bench.generate(&expired, 5).await.unwrap_err();
    assert_eq!(refused, "client identity expired");

    let admin = bench.network.admin(1);
    let mut forged = signed(&admin, request(&admin, CHANNEL, 5));
    forged.request = request(&admin, CHANNEL, 6).into();
    let refused = bench.service.generate(Request::new(forged)).await;
    assert!(message(refused.unwrap_err()).contains("signature"));
    assert_eq!(bench.pending(&admin).await.unwrap(), [0; 0]);
}

#[tokio::test]
async fn malformed_requests_are_told() {
    let bench = Bench::new().await;
    let admin = bench.network.admin(1);
    let headless = SnapshotRequest {
        signature_header: None,
        ..SnapshotRequest::decode(&request(&admin, CHANNEL, 5)[..]).unwrap()
    };
    for (request, expected) in [
        (vec![0xff], "failed to unmarshal snapshot request: "),
        (headless.encode_to_vec(), "missing signature header"),
        (request(&admin, "", 5), "missing channel ID"),
        (
            request(&admin, "other", 5),
            "cannot find ledger for channel other",
        ),
    ] {
        let request = signed(&admin, request);
        let refused = bench.service.generate(Request::new(request)).await;
        let refused = message(refused.unwrap_err());
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[tokio::test]
async fn a_channel_is_joined_by_a_snapshot_and_goes_on() {
    let mut bench = Bench::new().await;
    let admin = bench.network.admin(1);
    bench.commit(2).await;
    let config = bench.chain.push_config(|_| {});
    commit_by_queue(&bench.channels.get(CHANNEL).unwrap(), &[config]).await;
    bench.commit(1).await;
    bench.generate(&admin, 0).await.unwrap();
    let snapshot = bench.completed("data", 4);
    until("the snapshot", async || snapshot.exists()).await;

    let (other, mut events) = bench.network.channels("other");
    assert!(!bench.status(&other).await.in_progress);
    let folder = snapshot.to_str().unwrap().as_bytes();
    let call: [&[u8]; 2] = [b"JoinChainBySnapshot", folder];
    bench.cscc(&other, 1, &call).await.unwrap();
    let opened = soon(events.recv()).await.unwrap();
    assert!(matches!(opened, ChannelEvent::Opened(channel) if channel.id() == CHANNEL));
    until("the join", async || !bench.status(&other).await.in_progress).await;

    let (here, there) = (
        bench.channels.get(CHANNEL).unwrap(),
        other.get(CHANNEL).unwrap(),
    );
    assert_eq!(there.config().sequence(), here.config().sequence());
    assert_eq!(there.tip(), here.tip());
    assert!(there.config_block().is_err());
    let plain = bench.chain.push(&["c"]);
    let config = bench.chain.push_config(|_| {});
    for channel in [&here, &there] {
        commit_by_queue(channel, &[plain.clone(), config.clone()]).await;
    }
    for number in [5, 6] {
        let block = there.ledger().block(number).unwrap();
        assert_eq!(block, here.ledger().block(number).unwrap());
    }
    assert_eq!(there.config().sequence(), here.config().sequence());
    drop((there, other, events));

    // After a restart.
    let (again, _events) = bench.network.channels("other");
    let opening = again.clone();
    let failures = tokio::task::spawn_blocking(move || opening.open_all());
    assert!(failures.await.unwrap().is_empty());
    let there = again.get(CHANNEL).unwrap();
    assert_eq!(there.tip(), here.tip());
    assert_eq!(there.config_block().unwrap(), here.config_block().unwrap());
    let block = bench.chain.push(&["d"]);
    for channel in [&here, &there] {
        commit_by_queue(channel, std::slice::from_ref(&block)).await;
    }
    assert_eq!(
        there.ledger().block(7).unwrap(),
        here.ledger().block(7).unwrap()
    );
}

#[tokio::test]
async fn joins_by_a_snapshot_that_are_refused() {
    let bench = Bench::new().await;
    let (other, _events) = bench.network.channels("other");
    let call = async |org, args: &[&[u8]]| bench.cscc(&other, org, args).await.unwrap_err();
    assert_eq!(
        call(1, &[b"JoinChainBySnapshot"]).await,
        "Incorrect number of arguments, 1"
    );
    assert_eq!(
        call(1, &[b"JoinChainBySnapshot", b""]).await,
        "Cannot join the channel, no snapshot directory provided"
    );
    for function in [&b"JoinChainBySnapshot"[..], b"JoinBySnapshotStatus"] {
        let refused = call(2, &[function, b"/nowhere"]).await;
        assert!(refused.starts_with("access denied for [Join"), "{refused}");
    }
    let refused = call(1, &[b"JoinChainBySnapshot", b"/nowhere"]).await;
    let expected = "cannot create ledger from snapshot /nowhere: error opening dir [/nowhere]: ";
    assert!(refused.starts_with(expected), "{refused}");
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    assert_eq!(
        call(1, &[b"JoinChainBySnapshot", path.as_bytes()]).await,
        format!("cannot create ledger from snapshot {path}: snapshot dir {path} is empty")
    );

    // Something that is no snapshot is found out behind the request, and leaves nothing.
    fs::write(empty.path().join("file"), b"content").unwrap();
    let call: [&[u8]; 2] = [b"JoinChainBySnapshot", path.as_bytes()];
    bench.cscc(&other, 1, &call).await.unwrap();
    until("the end", async || !bench.status(&other).await.in_progress).await;
    assert!(other.ids().is_empty());
    join(&other, bench.network.genesis_bytes()).await.unwrap();
}
