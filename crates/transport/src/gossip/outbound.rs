//! Dialling a peer: connection, ping, stream, handshake.

use bytes::Bytes;
use http::uri::PathAndQuery;
use selvedge_gossip::send_queue::WRITE_AHEAD;
use selvedge_protos::gossip::Empty;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};

use super::authentication::{Proven, own_message};
use super::limit::{HandshakeLimit, LimitedConnection};
use super::service::{PING_PATH, STREAM_PATH};
use super::stream::Outgoing;
use super::transport::Shared;
use super::{GossipMetrics, HandshakeFailure, PeerError, PeerInfo, PkiId};
use crate::codec::RawCodec;
use crate::connect::{Connection, dial};

/// A stream whose handshake has passed.
pub(super) struct Established {
    pub(super) peer: PeerInfo,
    pub(super) incoming: Streaming<Bytes>,
    pub(super) outgoing: Outgoing,
    /// The connection, if this side dialled.
    pub(super) connection: Option<Connection>,
}

impl Shared {
    pub(super) async fn probe(
        &self,
        endpoint: &str,
        expected: Option<PkiId>,
    ) -> Result<PeerInfo, PeerError> {
        let connection = self.connect(endpoint).await?;
        let (found, _stream) = self.open_stream(endpoint, &connection, true).await?;
        match expected {
            Some(expected) if expected != found.pki_id => {
                let failure = HandshakeFailure::Unexpected {
                    expected,
                    found: found.pki_id,
                };
                Err(PeerError::Handshake {
                    endpoint: endpoint.to_owned(),
                    failure,
                })
            }
            _ => Ok(found),
        }
    }

    /// Makes a stream, unless `superfluous` says, after the connection was made, that the peer has
    /// dialled us meanwhile.
    pub(super) async fn establish(
        &self,
        endpoint: &str,
        superfluous: impl Fn() -> bool,
    ) -> Result<Established, PeerError> {
        GossipMetrics::add(&self.metrics.dials, 1);
        let result = async {
            let connection = self.connect(endpoint).await?;
            if superfluous() {
                return Err(PeerError::Superfluous);
            }
            let (peer, (outgoing, incoming)) =
                self.open_stream(endpoint, &connection, false).await?;
            Ok(Established {
                peer,
                incoming,
                outgoing,
                connection: Some(connection),
            })
        }
        .await;
        if matches!(&result, Err(error) if !matches!(error, PeerError::Superfluous)) {
            GossipMetrics::add(&self.metrics.dials_failed, 1);
        }
        result
    }

    /// Connects, and sees whether a gossip service answers.
    async fn connect(&self, endpoint: &str) -> Result<Connection, PeerError> {
        let tls = self.client_tls.load_full();
        let connection = dial(&endpoint.parse()?, tls.as_deref(), &self.options.connect).await?;
        let mut grpc = Grpc::new(connection.clone());
        let ping = async {
            grpc.ready()
                .await
                .map_err(|e| Status::unavailable(e.to_string()))?;
            let codec = tonic_prost::ProstCodec::<Empty, Empty>::default();
            grpc.unary(
                Request::new(Empty {}),
                PathAndQuery::from_static(PING_PATH),
                codec,
            )
            .await
        };
        tokio::time::timeout(self.options.handshake_timeout, ping)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
            .map_err(|status| call_failed(endpoint, "Ping", status))?;
        Ok(connection)
    }

    async fn open_stream(
        &self,
        endpoint: &str,
        connection: &Connection,
        probe: bool,
    ) -> Result<(PeerInfo, (Outgoing, Streaming<Bytes>)), PeerError> {
        let refused = |failure| PeerError::Handshake {
            endpoint: endpoint.to_owned(),
            failure,
        };
        let own = own_message(&*self.authenticator, connection.peer(), probe).map_err(refused)?;
        let (outgoing, frames) = mpsc::channel(WRITE_AHEAD);
        // There is room: the channel is new.
        let _ = outgoing.try_send(Ok(own));

        let limit = HandshakeLimit::default();
        let limited = LimitedConnection {
            inner: connection.clone(),
            limit: limit.clone(),
        };
        let mut grpc = Grpc::new(limited)
            .max_decoding_message_size(self.options.max_frame)
            .max_encoding_message_size(self.options.max_frame);
        let frames = Request::new(ReceiverStream::new(frames).filter_map(Result::ok));
        let path = PathAndQuery::from_static(STREAM_PATH);
        let open = async {
            grpc.ready()
                .await
                .map_err(|e| Status::unavailable(e.to_string()))?;
            grpc.streaming(frames, path, RawCodec).await
        };
        let mut incoming = tokio::time::timeout(self.options.handshake_timeout, open)
            .await
            .map_err(|_| refused(HandshakeFailure::Timeout))?
            .map_err(|status| call_failed(endpoint, "GossipStream", status))?
            .into_inner();
        let Proven { mut peer, .. } = self
            .read_handshake(connection.peer(), &mut incoming, &limit)
            .await
            .map_err(refused)?;
        peer.endpoint = Some(endpoint.to_owned());
        Ok((peer, (outgoing, incoming)))
    }
}

fn call_failed(endpoint: &str, call: &'static str, status: Status) -> PeerError {
    PeerError::Call {
        endpoint: endpoint.to_owned(),
        call,
        status: Box::new(status),
    }
}
