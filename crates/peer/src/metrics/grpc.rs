//! `grpc_server_*` and `grpc_comm_*`, measured around the services.
//!
//! Only methods of the table below are measured, since names come from clients. Requests and
//! responses are counted by reading the five-byte prefix of each message as it passes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, Result};
use tower::{Layer, Service};

use super::group::Group;

/// The methods of a peer, and whether they are streams.
const METHODS: [(&str, &str, bool); 16] = [
    ("discovery.Discovery", "Discover", false),
    ("gateway.Gateway", "ChaincodeEvents", true),
    ("gateway.Gateway", "CommitStatus", false),
    ("gateway.Gateway", "Endorse", false),
    ("gateway.Gateway", "Evaluate", false),
    ("gateway.Gateway", "Submit", false),
    ("gossip.Gossip", "GossipStream", true),
    ("gossip.Gossip", "Ping", false),
    ("protos.ChaincodeSupport", "Register", true),
    ("protos.Deliver", "Deliver", true),
    ("protos.Deliver", "DeliverFiltered", true),
    ("protos.Deliver", "DeliverWithPrivateData", true),
    ("protos.Endorser", "ProcessProposal", false),
    ("protos.Snapshot", "Cancel", false),
    ("protos.Snapshot", "Generate", false),
    ("protos.Snapshot", "QueryPendings", false),
];

/// gRPC's status codes as Go spells them, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const CANCELED: &str = "Canceled";
const UNKNOWN: &str = "Unknown";

/// The metrics of the gRPC server.
#[derive(Debug, Clone)]
pub struct GrpcMetrics {
    /// `grpc_comm_conn_opened`.
    pub connections_opened: IntCounter,
    /// `grpc_comm_conn_closed`.
    pub connections_closed: IntCounter,
    /// `selvedge_grpc_connections_refused_total`.
    pub connections_refused: IntCounter,
    /// `selvedge_grpc_tls_handshakes_failed_total`.
    pub handshakes_failed: IntCounter,
    methods: Arc<HashMap<String, Method>>,
}

impl GrpcMetrics {
    pub(super) fn new(group: &Group<'_>) -> Result<Self> {
        let unary = Arc::new(Families::new(group, "unary", None)?);
        let messages = [("received", "received"), ("sent", "sent")].map(|(name, verb)| {
            group.counters(
                &format!("grpc_server_stream_messages_{name}"),
                &format!("The number of stream messages {verb}."),
                &["service", "method"],
            )
        });
        let [received, sent] = messages;
        let messages = MessageFamilies {
            received: received?,
            sent: sent?,
        };
        let stream = Arc::new(Families::new(group, "stream", Some(messages))?);
        let methods = METHODS.iter().map(|(service, method, is_stream)| {
            let families = if *is_stream { &stream } else { &unary };
            let labels = [service.replace('.', "_"), (*method).to_owned()];
            (
                format!("/{service}/{method}"),
                Method {
                    families: families.clone(),
                    labels,
                },
            )
        });
        Ok(Self {
            connections_opened: group.counter(
                "grpc_comm_conn_opened",
                "gRPC connections opened. Open minus closed is the active number of connections.",
            )?,
            connections_closed: group.counter(
                "grpc_comm_conn_closed",
                "gRPC connections closed. Open minus closed is the active number of connections.",
            )?,
            connections_refused: group.counter(
                "selvedge_grpc_connections_refused_total",
                "Connections that were closed at once because there were too many.",
            )?,
            handshakes_failed: group.counter(
                "selvedge_grpc_tls_handshakes_failed_total",
                "TLS handshakes of clients and other peers that failed or took too long.",
            )?,
            methods: Arc::new(methods.collect()),
        })
    }

    /// A layer that measures the services below it.
    #[must_use]
    pub fn layer(&self) -> GrpcMetricsLayer {
        GrpcMetricsLayer {
            methods: self.methods.clone(),
        }
    }
}

/// The families of unary or of stream requests.
#[derive(Debug)]
struct Families {
    received: IntCounterVec,
    completed: IntCounterVec,
    duration: HistogramVec,
    messages: Option<MessageFamilies>,
}

/// Messages of stream requests.
#[derive(Debug)]
struct MessageFamilies {
    received: IntCounterVec,
    sent: IntCounterVec,
}

impl Families {
    fn new(group: &Group<'_>, kind: &str, messages: Option<MessageFamilies>) -> Result<Self> {
        Ok(Self {
            received: group.counters(
                &format!("grpc_server_{kind}_requests_received"),
                &format!("The number of {kind} requests received."),
                &["service", "method"],
            )?,
            completed: group.counters(
                &format!("grpc_server_{kind}_requests_completed"),
                &format!("The number of {kind} requests completed."),
                &["service", "method", "code"],
            )?,
            duration: group.histograms(
                &format!("grpc_server_{kind}_request_duration"),
                &format!("The time to complete a {kind} request."),
                &["service", "method", "code"],
            )?,
            messages,
        })
    }
}

#[derive(Debug, Clone)]
struct Method {
    families: Arc<Families>,
    /// Service and method.
    labels: [String; 2],
}

impl Method {
    /// Counters of the messages that come in and go out, for a stream.
    fn messages(&self) -> Option<(IntCounter, IntCounter)> {
        let messages = self.families.messages.as_ref()?;
        Some((
            messages.received.with_label_values(&self.labels),
            messages.sent.with_label_values(&self.labels),
        ))
    }
}

/// Measures one request from its arrival to the end of its response, or to the moment when the
/// client gave up.
#[derive(Debug)]
struct Measurement {
    method: Method,
    start: Instant,
    code: &'static str,
}

impl Measurement {
    fn begin(method: &Method) -> Self {
        method
            .families
            .received
            .with_label_values(&method.labels)
            .inc();
        Self {
            method: method.clone(),
            start: Instant::now(),
            code: CANCELED,
        }
    }

    fn note_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            let number: Option<usize> = status.to_str().ok().and_then(|text| text.parse().ok());
            self.code = number
                .and_then(|number| CODES.get(number))
                .copied()
                .unwrap_or(UNKNOWN);
        }
    }
}

impl Drop for Measurement {
    fn drop(&mut self) {
        let [service, method] = &self.method.labels;
        let labels = [service.as_str(), method.as_str(), self.code];
        self.method
            .families
            .completed
            .with_label_values(&labels)
            .inc();
        let seconds = self.start.elapsed().as_secs_f64();
        self.method
            .families
            .duration
            .with_label_values(&labels)
            .observe(seconds);
    }
}

/// See [`GrpcMetrics::layer`].
#[derive(Debug, Clone)]
pub struct GrpcMetricsLayer {
    methods: Arc<HashMap<String, Method>>,
}

impl<S> Layer<S> for GrpcMetricsLayer {
    type Service = GrpcMetricsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcMetricsService {
            methods: self.methods.clone(),
            inner,
        }
    }
}

/// A service with measurement around it.
#[derive(Debug, Clone)]
pub struct GrpcMetricsService<S> {
    methods: Arc<HashMap<String, Method>>,
    inner: S,
}

impl<S> Service<Request<Body>> for GrpcMetricsService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future =
        Pin<Box<dyn Future<Output = std::result::Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(method) = self.methods.get(request.uri().path()) else {
            return Box::pin(self.inner.call(request));
        };
        let mut measurement = Measurement::begin(method);
        let (received, sent) = method.messages().unzip();
        let request = match received.map(MessageCounter::new) {
            Some(counter) => request.map(|body| {
                Body::new(Measured {
                    body,
                    counter: Some(counter),
                    measurement: None,
                })
            }),
            None => request,
        };
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            // A response without a body carries its status in the headers.
            measurement.note_status(response.headers());
            let counter = sent.map(MessageCounter::new);
            Ok(response.map(|body| {
                Body::new(Measured {
                    body,
                    counter,
                    measurement: Some(measurement),
                })
            }))
        })
    }
}

/// A body that counts its messages and notes the status in its trailers.
#[derive(Debug)]
struct Measured {
    body: Body,
    counter: Option<MessageCounter>,
    measurement: Option<Measurement>,
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let (Some(data), Some(counter)) = (frame.data_ref(), &mut self.counter) {
                counter.pass(data);
            }
            if let (Some(trailers), Some(measurement)) =
                (frame.trailers_ref(), &mut self.measurement)
            {
                measurement.note_status(trailers);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Follows gRPC's framing: a flag, the length in four bytes, the message.
#[derive(Debug)]
struct MessageCounter {
    counter: IntCounter,
    /// Bytes of the current prefix that have been seen, and the length read so far.
    prefix: u8,
    length: u32,
    /// Bytes of the current message that are still to come.
    remaining: u32,
}

impl MessageCounter {
    const PREFIX: u8 = 5;

    fn new(counter: IntCounter) -> Self {
        Self {
            counter,
            prefix: 0,
            length: 0,
            remaining: 0,
        }
    }

    fn pass(&mut self, mut data: &[u8]) {
        while let Some((first, rest)) = data.split_first() {
            if self.remaining > 0 {
                let taken = data
                    .len()
                    .min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                self.remaining = self
                    .remaining
                    .saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                data = data.get(taken..).unwrap_or_default();
                continue;
            }
            // The flag is shifted out of the length by the four bytes that follow it.
            self.length = (self.length << 8) | u32::from(*first);
            self.prefix += 1;
            data = rest;
            if self.prefix == Self::PREFIX {
                self.counter.inc();
                self.remaining = self.length;
                (self.prefix, self.length) = (0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_are_counted_however_they_are_cut(
            sizes in prop::collection::vec(0usize..40, 0..20),
            cuts in prop::collection::vec(1usize..30, 1..50),
        ) {
            let mut wire = Vec::new();
            for size in &sizes {
                wire.push(1);
                wire.extend(u32::try_from(*size).unwrap().to_be_bytes());
                wire.extend(vec![0xff; *size]);
            }
            let mut counter = MessageCounter::new(IntCounter::new("n", "n").unwrap());
            let mut rest = wire.as_slice();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                counter.pass(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(counter.counter.get(), sizes.len() as u64);
        }
    }
}
