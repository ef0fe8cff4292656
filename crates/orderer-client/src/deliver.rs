//! The Deliver call: a signed request for all blocks, or headers, from a number on.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use selvedge_msp::{SignatureError, SigningIdentity};
use selvedge_protos::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status,
};
use selvedge_protos::orderer::seek_info::{SeekBehavior, SeekContentType};
use selvedge_protos::orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_position};
use selvedge_transport::codec::RawCodec;
use selvedge_transport::{ClientTls, Connection, CurrentIdentity, Endpoint, TlsIdentity, dial};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::addresses::Orderer;
use crate::error::FetchError;
use crate::options::FetchOptions;

const DELIVER_PATH: &str = "/orderer.AtomicBroadcast/Deliver";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Blocks,
    /// Headers with signatures; config blocks in full.
    Headers,
}

/// Makes requests for one channel.
pub(crate) struct Requester {
    pub(crate) channel_id: String,
    pub(crate) signer: SigningIdentity,
    pub(crate) options: FetchOptions,
}

/// `orderer.DeliverResponse` with the block as it arrived.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(int32, optional, tag = "1")]
    status: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    block: Option<Bytes>,
}

/// An open Deliver call. Dropping it closes its connection.
pub(crate) struct DeliverStream {
    orderer: Arc<Orderer>,
    responses: Streaming<Bytes>,
    /// Ends the call when dropped, so it is kept; there is only one request.
    _requests: mpsc::Sender<Bytes>,
    _connection: Connection,
}

impl Requester {
    /// Connects and asks for everything from `start` on. The future is also pending while the node
    /// has nothing to answer: gRPC servers in Go send nothing at all before their first message.
    /// `connected` is called when the request is on its way.
    pub(crate) async fn deliver(
        &self,
        orderer: &Arc<Orderer>,
        content: Content,
        start: u64,
        connected: impl FnOnce(),
    ) -> Result<DeliverStream, FetchError> {
        let identity = self.options.tls_identity.as_ref();
        let identity = identity.map(CurrentIdentity::get);
        let tls_hash = identity.as_ref().map(TlsIdentity::certificate_hash);
        let connection = self.connect(orderer, identity).await?;
        let (requests, receiver) = mpsc::channel(1);
        // There is room: the channel is new.
        let _ = requests.try_send(self.seek(content, start, tls_hash)?);
        connected();

        let stream = |status: tonic::Status| FetchError::Stream {
            orderer: orderer.address.clone(),
            status: Box::new(status),
        };
        let mut grpc = tonic::client::Grpc::new(connection.clone())
            .max_decoding_message_size(self.options.max_message);
        grpc.ready()
            .await
            .map_err(|e| stream(tonic::Status::unavailable(e.to_string())))?;
        let request = tonic::Request::new(ReceiverStream::new(receiver));
        let path = PathAndQuery::from_static(DELIVER_PATH);
        let responses = grpc
            .streaming(request, path, RawCodec)
            .await
            .map_err(stream)?;
        Ok(DeliverStream {
            orderer: orderer.clone(),
            responses: responses.into_inner(),
            _requests: requests,
            _connection: connection,
        })
    }

    async fn connect(
        &self,
        orderer: &Orderer,
        identity: Option<TlsIdentity>,
    ) -> Result<Connection, FetchError> {
        let name = || orderer.address.clone();
        let connect = |source| FetchError::Connect {
            orderer: name(),
            source,
        };
        let endpoint: Endpoint = orderer.address.parse().map_err(connect)?;
        let tls = if self.options.tls_enabled {
            let tls = ClientTls::new(&orderer.tls_roots, identity, None);
            Some(tls.map_err(|source| FetchError::Tls {
                orderer: name(),
                source,
            })?)
        } else {
            None
        };
        dial(&endpoint, tls.as_ref(), &self.options.connect)
            .await
            .map_err(connect)
    }

    /// The signed request (`protoutil.CreateSignedEnvelopeWithTLSBinding`).
    fn seek(
        &self,
        content: Content,
        start: u64,
        tls_hash: Option<[u8; 32]>,
    ) -> Result<Bytes, SignatureError> {
        let channel_header = ChannelHeader {
            r#type: HeaderType::DeliverSeekInfo.into(),
            timestamp: Some(SystemTime::now().into()),
            channel_id: self.channel_id.clone(),
            tls_cert_hash: tls_hash
                .map(|h| Bytes::copy_from_slice(&h))
                .unwrap_or_default(),
            ..ChannelHeader::default()
        };
        let signature_header = SignatureHeader {
            creator: self.signer.serialized().clone(),
            nonce: Bytes::copy_from_slice(&rand::random::<[u8; 24]>()),
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: channel_header.encode_to_vec().into(),
                signature_header: signature_header.encode_to_vec().into(),
            }),
            data: seek_info(content, start).encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        let signature = self.signer.sign(&payload)?;
        Ok(Envelope { payload, signature }.encode_to_vec().into())
    }
}

fn seek_info(content: Content, start: u64) -> SeekInfo {
    let position = |number| {
        let specified = seek_position::Type::Specified(SeekSpecified { number });
        Some(SeekPosition {
            r#type: Some(specified),
        })
    };
    let content = match content {
        Content::Blocks => SeekContentType::Block,
        Content::Headers => SeekContentType::HeaderWithSig,
    };
    SeekInfo {
        start: position(start),
        stop: position(u64::MAX),
        behavior: SeekBehavior::BlockUntilReady.into(),
        content_type: content.into(),
        ..SeekInfo::default()
    }
}

impl DeliverStream {
    /// The next block or header, encoded as it was sent. Any end of the stream is an error, since
    /// what was asked for has no end.
    pub(crate) async fn next(&mut self) -> Result<Bytes, FetchError> {
        let orderer = || self.orderer.address.clone();
        let message = match self.responses.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Err(FetchError::HungUp { orderer: orderer() }),
            Err(status) => {
                return Err(FetchError::Stream {
                    orderer: orderer(),
                    status: Box::new(status),
                });
            }
        };
        block_in(message, &self.orderer.address)
    }
}

/// The block, or header, in a response of the ordering node at `address`.
pub(crate) fn block_in(message: Bytes, address: &str) -> Result<Bytes, FetchError> {
    let orderer = address.to_owned();
    let malformed = |reason: String| FetchError::Malformed {
        orderer: address.to_owned(),
        reason,
    };
    let response = Response::decode(message).map_err(|error| malformed(error.to_string()))?;
    match (response.block, response.status) {
        (Some(block), _) => Ok(block),
        (None, Some(status)) if status == i32::from(Status::Success) => {
            Err(FetchError::Success { orderer })
        }
        (None, Some(status)) => Err(FetchError::Status { orderer, status }),
        (None, None) => Err(malformed("it has neither a block nor a status".to_owned())),
    }
}
