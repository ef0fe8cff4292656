//! A chain of simple blocks, and ordering nodes that serve it well or badly.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use selvedge_msp::{SigningIdentity, load_signing_identity};
use selvedge_protos::block::{data_hash, header_hash};
use selvedge_protos::common::{Block, BlockData, BlockHeader, BlockMetadata, Envelope, Status};
use selvedge_protos::envelope::OpenedEnvelope;
use selvedge_protos::orderer::seek_info::SeekContentType;
use selvedge_protos::orderer::{
    BroadcastResponse, DeliverResponse, SeekInfo, deliver_response, seek_position,
};
use selvedge_transport::services::orderer::atomic_broadcast_server::{
    AtomicBroadcast, AtomicBroadcastServer,
};
use selvedge_transport::{
    ClientAuth, ConnectOptions, ServerOptions, ServerTls, TlsIdentity, TlsPeer, bind, serve,
};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Streaming};

use crate::{
    Accepted, Attested, ChainVerifier, FetchOptions, OrdererAddresses, OrdererOrg, Refusal,
};

pub(crate) fn testdata(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

pub(crate) fn signer() -> SigningIdentity {
    let folder = "raft/crypto/peerOrganizations/org2.example.com/peers/peer0.org2.example.com/msp";
    load_signing_identity(testdata(folder), "Org2MSP").unwrap()
}

/// A certificate authority of one test.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "tls ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(crate) fn issue(&self) -> TlsIdentity {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        TlsIdentity::from_der(vec![certificate], key).unwrap()
    }
}

/// The mark of a test block that counts as signed.
const SIGNED: &[u8] = b"signed by the ordering service";

/// The block after `previous`. Its content may name the ordering nodes from there on.
pub(crate) fn next_block(previous: Option<&Block>, content: &[u8]) -> Block {
    let header = previous.and_then(|block| block.header.as_ref());
    let data = BlockData {
        data: vec![Bytes::copy_from_slice(content)],
    };
    Block {
        header: Some(BlockHeader {
            number: header.map_or(0, |header| header.number + 1),
            previous_hash: header
                .map(|h| header_hash(h).to_vec().into())
                .unwrap_or_default(),
            data_hash: data_hash(&data).to_vec().into(),
        }),
        data: Some(data),
        metadata: Some(BlockMetadata {
            metadata: vec![SIGNED.into()],
        }),
    }
}

/// `count` blocks from number 0 on.
pub(crate) fn chain(count: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for n in 0..count {
        blocks.push(next_block(blocks.last(), format!("content {n}").as_bytes()));
    }
    blocks
}

/// A config block of the test chain, which names addresses.
pub(crate) fn config_content(addresses: &[String]) -> Vec<u8> {
    format!("addresses {}", addresses.join(" ")).into_bytes()
}

/// Verifies test blocks: number, previous hash, data hash, and the mark.
#[derive(Clone, Debug)]
pub(crate) struct TestVerifier {
    pub(crate) tip: BlockHeader,
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

impl TestVerifier {
    pub(crate) fn after(block: &Block, ca: &Ca) -> Self {
        Self {
            tip: block.header.clone().unwrap(),
            roots: vec![ca.certificate.clone()],
        }
    }

    fn check(&self, bytes: Bytes) -> Result<Block, Refusal> {
        let refusal = |reason: &str| Err(Refusal(reason.to_owned()));
        let block = Block::decode(bytes).map_err(|e| Refusal(e.to_string()))?;
        let header = block.header.clone().unwrap_or_default();
        if header.number != self.tip.number + 1 {
            return refusal("wrong number");
        }
        if header.previous_hash != header_hash(&self.tip)[..] {
            return refusal("wrong previous hash");
        }
        let metadata = block.metadata.clone().unwrap_or_default().metadata;
        if metadata.first().map(|m| &m[..]) != Some(SIGNED) {
            return refusal("not signed");
        }
        if block
            .data
            .as_ref()
            .is_some_and(|data| data_hash(data) != header.data_hash[..])
        {
            return refusal("wrong data hash");
        }
        Ok(block)
    }
}

impl ChainVerifier for TestVerifier {
    type Block = Block;

    fn next_number(&self) -> u64 {
        self.tip.number + 1
    }

    fn accept(&mut self, bytes: Bytes) -> Result<Accepted<Block>, Refusal> {
        let block = self.check(bytes)?;
        let data = block
            .data
            .clone()
            .ok_or_else(|| Refusal("no data".to_owned()))?;
        let text = String::from_utf8(data.data[0].to_vec()).unwrap();
        let orderers = text
            .strip_prefix("addresses ")
            .map(|addresses| OrdererAddresses {
                global: addresses.split(' ').map(str::to_owned).collect(),
                organizations: vec![OrdererOrg {
                    addresses: Vec::new(),
                    tls_roots: self.roots.clone(),
                }],
            });
        self.tip = block.header.clone().unwrap();
        Ok(Accepted { block, orderers })
    }

    fn attest(&mut self, bytes: Bytes) -> Result<Attested, Refusal> {
        self.tip = self.check(bytes)?.header.unwrap();
        Ok(Attested {
            number: self.tip.number,
        })
    }
}

/// What an ordering node does when it is asked for blocks.
#[derive(Clone, Debug, Default)]
pub(crate) enum Conduct {
    /// Delivers all that there is, and waits for more.
    #[default]
    Honest,
    /// Delivers up to this number, then says nothing more.
    WithholdAfter(u64),
    /// Delivers up to this number, then ends the stream.
    HangUpAfter(u64),
    /// Delivers this in place of the block with its number.
    Instead(u64, Block),
    /// Answers with a status.
    Answer(Status),
    /// Answers with a status, unless headers are asked for.
    HeadersOnly,
}

/// A request that a node has received.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) envelope: OpenedEnvelope,
    pub(crate) seek: SeekInfo,
    pub(crate) peer: TlsPeer,
}

impl Asked {
    pub(crate) fn start(&self) -> u64 {
        match self.seek.start.as_ref().unwrap().r#type.as_ref().unwrap() {
            seek_position::Type::Specified(specified) => specified.number,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn is_for_headers(&self) -> bool {
        self.seek.content_type() == SeekContentType::HeaderWithSig
    }
}

/// An ordering node over real TLS.
pub(crate) struct TestOrderer {
    pub(crate) address: String,
    state: Arc<State>,
    stop: CancellationToken,
    /// Keeps the port for this node when it has ended.
    _port: TcpSocket,
}

struct State {
    blocks: watch::Sender<Vec<Block>>,
    conduct: Mutex<Conduct>,
    asked: Mutex<Vec<Asked>>,
}

impl TestOrderer {
    pub(crate) async fn start(ca: &Ca, blocks: &[Block]) -> Self {
        Self::start_at("127.0.0.1:0", ca, blocks).await
    }

    pub(crate) async fn start_at(address: &str, ca: &Ca, blocks: &[Block]) -> Self {
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind(address.parse().unwrap()).unwrap();
        let address = port.local_addr().unwrap().to_string();
        let listener = bind(address.clone()).await.unwrap();
        let state = Arc::new(State {
            blocks: watch::Sender::new(blocks.to_vec()),
            conduct: Mutex::default(),
            asked: Mutex::default(),
        });
        let roots = vec![ca.certificate.clone()];
        let tls = ServerTls::new(ca.issue(), ClientAuth::Request, roots).unwrap();
        let service = AtomicBroadcastServer::new(Service(state.clone()));
        let stop = CancellationToken::new();
        let options = ServerOptions {
            shutdown_grace: Duration::ZERO,
            ..ServerOptions::default()
        };
        let shutdown = stop.clone().cancelled_owned();
        tokio::spawn(serve(
            listener,
            Some(tls),
            Routes::new(service),
            options,
            shutdown,
        ));
        Self {
            address,
            state,
            stop,
            _port: port,
        }
    }

    pub(crate) fn conduct(self, conduct: Conduct) -> Self {
        *self.state.conduct.lock().unwrap() = conduct;
        self
    }

    pub(crate) fn cut(&self, content: &[u8]) {
        self.state.blocks.send_modify(|blocks| {
            let block = next_block(blocks.last(), content);
            blocks.push(block);
        });
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    pub(crate) fn asked_for_blocks(&self) -> usize {
        self.asked()
            .iter()
            .filter(|asked| !asked.is_for_headers())
            .count()
    }

    /// Ends the node; its port is free when this returns.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        eventually("the port is free", || {
            std::net::TcpListener::bind(&self.address).is_ok()
        })
        .await;
    }
}

impl Drop for TestOrderer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Service(Arc<State>);

type Answers<T> = ReceiverStream<Result<T, tonic::Status>>;

#[tonic::async_trait]
impl AtomicBroadcast for Service {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<DeliverResponse>;

    async fn broadcast(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("only Deliver"))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, tonic::Status> {
        let peer = request.extensions().get::<TlsPeer>().unwrap().clone();
        let mut requests = request.into_inner();
        let envelope = OpenedEnvelope::open(requests.message().await?.unwrap()).unwrap();
        let seek = SeekInfo::decode(envelope.data.clone()).unwrap();
        let asked = Asked {
            envelope,
            seek,
            peer,
        };
        self.0.asked.lock().unwrap().push(asked.clone());
        let (sender, answers) = mpsc::channel(1);
        let state = self.0.clone();
        tokio::spawn(async move {
            // As with a real node the stream stays open until either side ends it.
            tokio::select! {
                _ = state.answer(&asked, &sender) => {}
                () = sender.closed() => {}
            }
            drop(requests);
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

type Sender = mpsc::Sender<Result<DeliverResponse, tonic::Status>>;

impl State {
    async fn answer(&self, asked: &Asked, sender: &Sender) -> Option<()> {
        let conduct = self.conduct.lock().unwrap().clone();
        let refusal = match conduct {
            Conduct::Answer(status) => Some(status),
            Conduct::HeadersOnly if !asked.is_for_headers() => Some(Status::ServiceUnavailable),
            _ => None,
        };
        if let Some(status) = refusal {
            send(sender, deliver_response::Type::Status(status.into())).await?;
            return None;
        }
        let mut blocks = self.blocks.subscribe();
        for number in asked.start().. {
            let index = usize::try_from(number).unwrap();
            let block = blocks.wait_for(|blocks| blocks.len() > index).await.ok()?[index].clone();
            let honest = asked.is_for_headers();
            let block = match &conduct {
                Conduct::WithholdAfter(last) if number > *last && !honest => {
                    std::future::pending().await
                }
                Conduct::HangUpAfter(last) if number > *last => return None,
                Conduct::Instead(at, other) if number == *at => other.clone(),
                _ => block,
            };
            send(sender, deliver_response::Type::Block(shaped(block, asked))).await?;
        }
        None
    }
}

/// For a stream of headers a block loses its data, unless it is a config block.
fn shaped(block: Block, asked: &Asked) -> Block {
    let is_config = block
        .data
        .as_ref()
        .is_some_and(|data| data.data[0].starts_with(b"addresses"));
    let data = if asked.is_for_headers() && !is_config {
        None
    } else {
        block.data
    };
    Block { data, ..block }
}

async fn send(sender: &Sender, answer: deliver_response::Type) -> Option<()> {
    sender
        .send(Ok(DeliverResponse {
            r#type: Some(answer),
        }))
        .await
        .ok()
}

pub(crate) fn addresses(ca: &Ca, orderers: &[&TestOrderer]) -> OrdererAddresses {
    OrdererAddresses {
        global: orderers
            .iter()
            .map(|orderer| orderer.address.clone())
            .collect(),
        organizations: vec![OrdererOrg {
            addresses: Vec::new(),
            tls_roots: vec![ca.certificate.clone()],
        }],
    }
}

/// Fast enough for tests, slow enough for a busy machine.
pub(crate) fn options() -> FetchOptions {
    FetchOptions {
        retry_initial: Duration::from_millis(5),
        retry_max: Duration::from_millis(50),
        give_up_after: None,
        connect: ConnectOptions {
            timeout: Duration::from_secs(60),
            ..ConnectOptions::default()
        },
        ..FetchOptions::default()
    }
}

pub(crate) fn no_overrides() -> HashMap<String, crate::AddressOverride> {
    HashMap::new()
}

/// Nothing here takes nearly as long, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Awaits what must come soon.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it takes too long")
}

/// Awaits a condition.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let asking = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let result = tokio::time::timeout(DEADLINE, asking).await;
    result.unwrap_or_else(|_| panic!("it did not become so in time: {what}"));
}
