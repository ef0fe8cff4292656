//! The server side: `gossip.Gossip` with streams as raw bytes.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use selvedge_protos::gossip::Empty;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use super::limit::HandshakeLimit;
use super::transport::Shared;
use crate::codec::RawCodec;
use crate::io::TlsPeer;

pub(super) const PING_PATH: &str = "/gossip.Gossip/Ping";
pub(super) const STREAM_PATH: &str = "/gossip.Gossip/GossipStream";

/// The gRPC service `gossip.Gossip`, to be added to a server's routes.
#[derive(Clone)]
pub struct GossipService(pub(super) Arc<Shared>);

impl NamedService for GossipService {
    const NAME: &'static str = "gossip.Gossip";
}

impl Service<http::Request<Body>> for GossipService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        match request.uri().path() {
            STREAM_PATH => Box::pin(async move {
                let max_frame = shared.options.max_frame;
                let limit = HandshakeLimit::default();
                request.extensions_mut().insert(limit.clone());
                let request = request.map(|body| limit.body(body));
                let mut grpc = Grpc::new(RawCodec)
                    .max_decoding_message_size(max_frame)
                    .max_encoding_message_size(max_frame);
                Ok(grpc.streaming(AcceptStream(shared), request).await)
            }),
            PING_PATH => Box::pin(async move {
                let codec = tonic_prost::ProstCodec::<Empty, Empty>::default();
                Ok(Grpc::new(codec).unary(AnswerPing, request).await)
            }),
            path => {
                let status = Status::unimplemented(format!("gossip.Gossip has no {path}"));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

struct AnswerPing;

impl UnaryService<Empty> for AnswerPing {
    type Response = Empty;
    type Future = std::future::Ready<Result<Response<Empty>, Status>>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        std::future::ready(Ok(Response::new(Empty {})))
    }
}

struct AcceptStream(Arc<Shared>);

impl StreamingService<Bytes> for AcceptStream {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let connection = request.extensions().get::<TlsPeer>().cloned();
        let limit = request.extensions().get::<HandshakeLimit>().cloned();
        let (Some(connection), Some(limit)) = (connection, limit) else {
            let status = Status::internal("the server does not say who is connected");
            return std::future::ready(Err(status));
        };
        let outgoing = self.0.accept(connection, request.into_inner(), limit);
        std::future::ready(outgoing.map(|frames| Response::new(ReceiverStream::new(frames))))
    }
}
