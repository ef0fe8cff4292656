//! The transport as the node sees it, and what its tasks share.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use selvedge_gossip::event::FrameClass;
use selvedge_gossip::send_queue::{Lane, WRITE_AHEAD};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use super::authentication::{Proven, check, own_message};
use super::limit::HandshakeLimit;
use super::outbound::Established;
use super::peers::{Attempt, Ended, Offered, Peers, StreamRecord, StreamSignals};
use super::service::GossipService;
use super::stream::{Outgoing, Stream};
use super::{
    DisconnectReason, GossipEvent, GossipMetrics, GossipOptions, HandshakeFailure, PeerAddress,
    PeerAuthenticator, PeerError, PeerInfo, PkiId, SendOutcome,
};
use crate::io::TlsPeer;
use crate::log_limit::LogLimit;
use crate::tls::ClientTls;

/// Events that wait for the node. What each stream may have among them is bounded besides (`window`).
const EVENTS: usize = 256;

/// Hosts of strangers that are remembered; of more the log tells at debug level only.
const MAX_STRANGERS: usize = 256;

/// The streams of one node. Cheap to clone; all clones are the same transport.
#[derive(Clone)]
pub struct GossipTransport(Arc<Shared>);

/// What all tasks of a transport share.
pub(super) struct Shared {
    pub(super) authenticator: Arc<dyn PeerAuthenticator>,
    pub(super) client_tls: ArcSwapOption<ClientTls>,
    pub(super) options: GossipOptions,
    pub(super) events: mpsc::Sender<GossipEvent>,
    pub(super) metrics: Arc<GossipMetrics>,
    pub(super) stop: CancellationToken,
    peers: Mutex<Peers>,
    tasks: TaskTracker,
    handshakes: Arc<Semaphore>,
    next_stream: AtomicU64,
    failures: LogLimit,
    /// Hosts of which the log has told that they are not known.
    strangers: Mutex<BTreeSet<IpAddr>>,
}

impl GossipTransport {
    /// A transport, and the events that it will report. `client_tls` is `None` where
    /// `peer.tls.enabled` is false; otherwise it must have a client certificate.
    pub fn new(
        authenticator: Arc<dyn PeerAuthenticator>,
        client_tls: Option<ClientTls>,
        options: GossipOptions,
    ) -> (Self, mpsc::Receiver<GossipEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let shared = Shared {
            peers: Mutex::new(Peers::new(authenticator.own_pki_id(), options.clone())),
            client_tls: ArcSwapOption::from_pointee(client_tls),
            metrics: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            handshakes: Arc::new(Semaphore::new(options.max_handshakes)),
            next_stream: AtomicU64::new(0),
            failures: LogLimit::default(),
            strangers: Mutex::default(),
            authenticator,
            options,
            events,
        };
        (Self(Arc::new(shared)), receiver)
    }

    /// The server side, to be added to a server's routes.
    pub fn service(&self) -> GossipService {
        GossipService(self.0.clone())
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<GossipMetrics> {
        &self.0.metrics
    }

    /// Exchanges roots and client certificate for the connections to come.
    pub fn set_client_tls(&self, tls: ClientTls) {
        self.0.client_tls.store(Some(Arc::new(tls)));
    }

    /// Sends an encoded `gossip.Envelope`. Never waits: the frame is queued, and the peer dialled
    /// if there is no stream to it; or it is dropped, counted, and the outcome says why.
    ///
    /// Must be called in a tokio runtime.
    pub fn send(&self, peer: &PeerAddress, lane: Lane, frame: Bytes) -> SendOutcome {
        self.0.send(peer, lane, frame)
    }

    /// Asks who listens at `endpoint`, and for nothing else: no stream stays. With `expected`, a
    /// peer with another PKI-ID is an error.
    pub async fn probe(
        &self,
        endpoint: &str,
        expected: Option<PkiId>,
    ) -> Result<PeerInfo, PeerError> {
        self.0
            .unless_stopped(self.0.probe(endpoint, expected))
            .await
    }

    /// Makes a stream to whoever listens at `endpoint`, and keeps it. The event `Connected` comes
    /// too.
    pub async fn dial(&self, endpoint: &str) -> Result<PeerInfo, PeerError> {
        let stream = self
            .0
            .unless_stopped(self.0.establish(endpoint, || false))
            .await?;
        let peer = stream.peer.clone();
        self.0.clone().adopt(stream).await?;
        Ok(peer)
    }

    /// Ends all streams and dials to a peer and forgets what waits for it.
    pub fn close(&self, pki_id: &PkiId) {
        let abandoned = self.0.lock_peers().close(pki_id);
        GossipMetrics::add(&self.0.metrics.abandoned, abandoned);
    }

    /// The peers with a stream.
    pub fn connected(&self) -> Vec<PkiId> {
        self.0.lock_peers().connected()
    }

    /// Ends all streams and waits until their tasks have ended. Events that nobody has read are
    /// not waited for. Idempotent, and cancellation-safe: the stop itself happens at once.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl fmt::Debug for GossipTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipTransport").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn lock_peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        self.stop
            .run_until_cancelled(work)
            .await
            .unwrap_or(Err(PeerError::Stopped))
    }

    fn send(self: &Arc<Self>, peer: &PeerAddress, lane: Lane, frame: Bytes) -> SendOutcome {
        if self.stop.is_cancelled() || frame.len() > self.options.max_frame {
            GossipMetrics::add(&self.metrics.refused, 1);
            return SendOutcome::DroppedRefused;
        }
        let metrics = &self.metrics;
        let overflowed = match lane.class {
            FrameClass::Liveness | FrameClass::Control => &metrics.control_overflowed,
            FrameClass::Bulk => &metrics.bulk_overflowed,
        };
        let offered = self.lock_peers().offer(peer, lane, frame, Instant::now());
        match offered {
            Offered::Queued { evicted, dial } => {
                GossipMetrics::add(&metrics.bulk_overflowed, evicted.bulk);
                GossipMetrics::add(&metrics.control_overflowed, evicted.control);
                if let Some(attempt) = dial {
                    self.spawn_dial(attempt);
                }
                SendOutcome::Queued
            }
            Offered::Full => {
                GossipMetrics::add(overflowed, 1);
                SendOutcome::DroppedFull
            }
            Offered::TooEarly | Offered::NowhereToDial => {
                GossipMetrics::add(&self.metrics.unreachable_dropped, 1);
                SendOutcome::DroppedUnreachable
            }
            Offered::TooManyPeers => {
                GossipMetrics::add(&self.metrics.refused, 1);
                SendOutcome::DroppedRefused
            }
        }
    }

    /// Dials a peer for the frames that wait for it.
    fn spawn_dial(self: &Arc<Self>, (peer, attempt): Attempt) {
        let shared = self.clone();
        self.tasks.spawn(async move {
            let stop = shared.stop.clone();
            let dial = attempt.run_until_cancelled(shared.dial_peer(peer));
            let _ = stop.run_until_cancelled(dial).await;
        });
    }

    async fn dial_peer(self: Arc<Self>, peer: PeerAddress) {
        let PeerAddress { pki_id, endpoint } = &peer;
        let result = match self
            .establish(endpoint, || self.lock_peers().is_connected(pki_id))
            .await
        {
            Ok(stream) => match self.reconcile(pki_id, &stream.peer).await {
                Ok(()) => self.clone().adopt(stream).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            Err(PeerError::Superfluous) => {
                let again = self.lock_peers().dial_was_superfluous(pki_id);
                if let Some(attempt) = again {
                    self.spawn_dial(attempt);
                }
            }
            Err(error) => self.dial_failed(peer, &error).await,
        }
    }

    /// Compares who answered with who was expected. A peer whose certificate was renewed has a new
    /// PKI-ID; it is taken for the same if its organisation is (`createConnection` in Fabric).
    async fn reconcile(&self, expected: &PkiId, found: &PeerInfo) -> Result<(), PeerError> {
        if found.pki_id == *expected {
            return Ok(());
        }
        let endpoint = found.endpoint.clone().unwrap_or_default();
        let known = self.authenticator.organization_of(expected);
        if known.as_deref() != Some(found.organization.as_str()) {
            tracing::warn!(
                %endpoint,
                "Remote endpoint claims to be a different peer than expected"
            );
            let failure = HandshakeFailure::Unexpected {
                expected: *expected,
                found: found.pki_id,
            };
            return Err(PeerError::Handshake { endpoint, failure });
        }
        tracing::info!(%endpoint, "peer changed its PKI-ID");
        let Ok(permit) = self.events.reserve().await else {
            return Err(PeerError::Stopped);
        };
        let lost = self
            .lock_peers()
            .rename(expected, found.pki_id, Instant::now());
        GossipMetrics::add(&self.metrics.abandoned, lost);
        permit.send(GossipEvent::IdentityChanged {
            old: *expected,
            new: found.pki_id,
        });
        Ok(())
    }

    async fn dial_failed(&self, peer: PeerAddress, error: &PeerError) {
        // The place for the event is taken first, so that events come in the order of changes.
        let Ok(permit) = self.events.reserve().await else {
            return;
        };
        let abandoned = self.lock_peers().dial_failed(&peer.pki_id, Instant::now());
        let Some(abandoned) = abandoned else { return };
        tracing::debug!(endpoint = %peer.endpoint, %error, "cannot reach peer");
        GossipMetrics::add(&self.metrics.unreachable_dropped, abandoned);
        let reason = DisconnectReason::Unreachable(error.to_string());
        permit.send(GossipEvent::Disconnected {
            pki_id: peer.pki_id,
            reason,
        });
    }

    /// Takes an authenticated stream into use: announces it and runs it.
    pub(super) async fn adopt(self: Arc<Self>, stream: Established) -> Result<(), PeerError> {
        let Established {
            peer,
            incoming,
            outgoing,
            connection,
            ..
        } = stream;
        let id = self.next_stream.fetch_add(1, Relaxed);
        let signals = StreamSignals::default();
        let outbound = connection.is_some();
        let permit = tokio::select! {
            permit = self.events.reserve() => permit.map_err(|_| PeerError::Stopped)?,
            () = self.stop.cancelled() => return Err(PeerError::Stopped),
        };
        let now = Instant::now();
        let record = StreamRecord {
            id,
            outbound,
            since: now,
            signals: signals.clone(),
        };
        let queue = {
            let mut peers = self.lock_peers();
            let Some((queue, replaced)) = peers.install(peer.pki_id, record, now) else {
                return Err(PeerError::TooManyPeers(self.options.max_peers));
            };
            GossipMetrics::add(&self.metrics.streams_replaced, usize::from(replaced));
            // Under the lock, so that no later change is announced before.
            permit.send(GossipEvent::Connected(peer.clone()));
            queue
        };
        let pki_id = peer.pki_id;
        let shared = self.clone();
        let stream = Stream {
            shared,
            id,
            pki_id,
            outbound,
            signals,
            queue,
            incoming,
            outgoing,
            connection,
        };
        self.tasks.spawn(stream.run());
        Ok(())
    }

    /// A stream has ended; tells the node if it was the peer's last one.
    pub(super) async fn stream_ended(
        self: Arc<Self>,
        pki_id: PkiId,
        id: u64,
        reason: DisconnectReason,
    ) {
        let permit = tokio::select! {
            permit = self.events.reserve() => permit.ok(),
            () = self.stop.cancelled() => None,
        };
        let redial = {
            let mut peers = self.lock_peers();
            let (abandoned, redial) = match peers.stream_ended(&pki_id, id, Instant::now()) {
                Ended::Unnoticed => return,
                Ended::Last { abandoned } => (abandoned, None),
                Ended::Redial(attempt) => (0, Some(attempt)),
            };
            GossipMetrics::add(&self.metrics.abandoned, abandoned);
            if let Some(permit) = permit {
                permit.send(GossipEvent::Disconnected { pki_id, reason });
            }
            redial
        };
        if let Some(attempt) = redial {
            self.spawn_dial(attempt);
        }
    }

    /// Begins an inbound stream: this side's handshake goes out at once, the other's is awaited in
    /// a task. Returns what goes to the other side.
    pub(super) fn accept(
        self: &Arc<Self>,
        connection: TlsPeer,
        incoming: Streaming<Bytes>,
        limit: HandshakeLimit,
    ) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
        if self.stop.is_cancelled() {
            return Err(Status::unavailable("shutting down"));
        }
        let handshake = self
            .handshakes
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many handshakes at a time"))?;
        if connection.secure && connection.certificate.is_none() {
            self.inbound_failed(&connection, &HandshakeFailure::NoTlsCertificate);
            return Err(Status::unauthenticated("no TLS certificate"));
        }
        let own = own_message(&*self.authenticator, &connection, false)
            .map_err(|failure| Status::internal(failure.to_string()))?;
        let (outgoing, frames) = mpsc::channel(WRITE_AHEAD);
        // There is room: the channel is new.
        let _ = outgoing.try_send(Ok(own));
        let shared = self.clone();
        self.tasks.spawn(async move {
            let stop = shared.stop.clone();
            let accepting = shared.accept_handshake(connection, incoming, outgoing, limit);
            let _ = stop.run_until_cancelled(accepting).await;
            drop(handshake);
        });
        Ok(frames)
    }

    async fn accept_handshake(
        self: Arc<Self>,
        connection: TlsPeer,
        mut incoming: Streaming<Bytes>,
        outgoing: Outgoing,
        limit: HandshakeLimit,
    ) {
        match self
            .read_handshake(&connection, &mut incoming, &limit)
            .await
        {
            Ok(Proven { probe: true, peer }) => {
                GossipMetrics::add(&self.metrics.probes_answered, 1);
                tracing::info!(remote = %peer.address, "Peer probed us");
            }
            Ok(Proven { peer, .. }) => {
                let ending = outgoing.clone();
                let stream = Established {
                    peer,
                    incoming,
                    outgoing,
                    connection: None,
                };
                if let Err(error) = self.adopt(stream).await {
                    let _ = ending.try_send(Err(Status::resource_exhausted(error.to_string())));
                }
            }
            Err(failure) => {
                self.inbound_failed(&connection, &failure);
                let _ = outgoing.try_send(Err(Status::unauthenticated(failure.to_string())));
            }
        }
    }

    /// Somebody whose identity is not accepted, as of an organisation that no channel of this node knows yet, or
    /// any more. It will try again and again; each host is worth one line.
    fn stranger(&self, connection: &TlsPeer, failure: &HandshakeFailure) {
        let remote = connection.address;
        let strangers = self.strangers.lock();
        let mut strangers = strangers.unwrap_or_else(PoisonError::into_inner);
        if strangers.len() < MAX_STRANGERS && strangers.insert(remote.ip()) {
            tracing::info!(%remote, "Authentication failed: {failure}");
        } else {
            tracing::debug!(%remote, "Authentication failed: {failure}");
        }
    }

    fn inbound_failed(&self, connection: &TlsPeer, failure: &HandshakeFailure) {
        GossipMetrics::add(&self.metrics.handshakes_failed, 1);
        if matches!(failure, HandshakeFailure::Identity(_)) {
            return self.stranger(connection, failure);
        }
        if let Some(suppressed) = self.failures.permit() {
            let remote = connection.address;
            tracing::warn!(%remote, suppressed, "Authentication failed: {failure}");
        }
    }

    /// Reads and checks the other side's handshake.
    pub(super) async fn read_handshake(
        &self,
        connection: &TlsPeer,
        incoming: &mut Streaming<Bytes>,
        limit: &HandshakeLimit,
    ) -> Result<Proven, HandshakeFailure> {
        let frame = tokio::time::timeout(self.options.handshake_timeout, incoming.message())
            .await
            .map_err(|_| HandshakeFailure::Timeout)?
            .map_err(|status| HandshakeFailure::Ended(status.to_string()))?
            .ok_or_else(|| HandshakeFailure::Ended("no message".to_owned()))?;
        let proven = check(&*self.authenticator, connection, frame)?;
        limit.lift();
        Ok(proven)
    }
}
