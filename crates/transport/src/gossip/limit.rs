//! A bound on what a stream may bring before its peer is known.
//!
//! The message limit of a gRPC stream is fixed when it is made, and must admit blocks. A stranger
//! could claim and send as much. So the body of each stream is cut off beyond a small size until
//! the handshake has passed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::connect::Connection;

/// Room for any identity, and for the read-ahead of one HTTP/2 frame.
const HANDSHAKE_BYTES: usize = 128 * 1024;

/// Shared by a body and by whoever completes its handshake.
#[derive(Clone, Default)]
pub(super) struct HandshakeLimit(Arc<AtomicBool>);

impl HandshakeLimit {
    /// The peer is known: no limit from here on.
    pub(super) fn lift(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn body<B>(&self, inner: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        Body::new(LimitedBody {
            inner,
            limit: self.clone(),
            read: 0,
        })
    }
}

struct LimitedBody<B> {
    inner: B,
    limit: HandshakeLimit,
    read: usize,
}

impl<B> HttpBody for LimitedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = match futures::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            None => return Poll::Ready(None),
        };
        if !this.limit.0.load(Ordering::Acquire) {
            this.read = this
                .read
                .saturating_add(frame.data_ref().map_or(0, Buf::remaining));
            if this.read > HANDSHAKE_BYTES {
                let error = Status::resource_exhausted("too much data before the handshake");
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection whose responses are limited.
pub(super) struct LimitedConnection {
    pub(super) inner: Connection,
    pub(super) limit: HandshakeLimit,
}

impl Service<http::Request<Body>> for LimitedConnection {
    type Response = http::Response<Body>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let limit = self.limit.clone();
        let response = self.inner.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| limit.body(body))) })
    }
}
