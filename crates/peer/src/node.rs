//! A peer from its start to its stop.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand::TryRngCore;
use selvedge_gossip::config as gossip_config;
use selvedge_gossip::crypto::{Crypto, Identity};
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_gossip::types::Endpoint;
use selvedge_ledger::{LedgerError, LedgerManager};
use selvedge_msp::{Msp, MspError, SigningIdentity, load_signing_identity};
use selvedge_transport::gossip::{GossipOptions, GossipTransport};
use selvedge_transport::services::protos::deliver_server::DeliverServer;
use selvedge_transport::services::protos::endorser_server::EndorserServer;
use selvedge_transport::{ConnectOptions, ServeError, ServerOptions, TlsError, bind, serve};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::access::AccessControl;
use crate::channel::{Channel, Channels, JoinError};
use crate::conductor::{CommittedBlock, Conductor, FailedChannels};
use crate::config::{MetricsProvider, PeerConfig};
use crate::delivery::Delivery;
use crate::gossip::{
    Command, Driver, EVENT_QUEUE, Errands, GossipStatus, IdentityTable, Inbound, Parts, PeerCrypto,
    PeerSigner,
};
use crate::logging::LogControl;
use crate::metrics::{Metrics, MetricsError};
use crate::operations::{
    self, HealthChecks, Operations, OperationsError, OperationsServer, Version,
};
use crate::services::deliver::{DeliverOptions, DeliverService};
use crate::services::endorser::EndorserService;
use crate::tls::{PeerTls, TlsSetupError};

/// What happens in channels and may wait for the conductor.
const CHANNEL_EVENTS: usize = 64;
/// Words that may wait for the gossip driver.
const COMMANDS: usize = 64;
/// Committed blocks that a slow follower may be behind before it misses some.
const COMMITTED_BLOCKS: usize = 1024;

/// Why a peer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The MSP folder cannot be used.
    #[error(
        "Cannot run peer because error when setting up MSP of type bccsp from directory {directory}: {source}"
    )]
    Msp {
        /// `peer.mspConfigPath`.
        directory: String,
        /// What is wrong.
        source: MspError,
    },
    /// TLS material cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// TLS material does not work together.
    #[error("peer.tls: {0}")]
    TlsRoots(#[from] TlsError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The gRPC server cannot listen.
    #[error("Failed to create peer server ({0})")]
    Listen(#[from] ServeError),
    /// The operations endpoint cannot listen.
    #[error("failed to initialize operations subsystem: {0}")]
    Operations(#[from] OperationsError),
    /// Gossip refuses its settings.
    #[error("peer.gossip: {0}")]
    Gossip(#[from] gossip_config::ConfigError),
    /// Gossip refuses the peer's own identity.
    #[error("the peer's own certificate does not pass its own MSP: {0}")]
    OwnIdentity(String),
    /// Metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The system gives no random numbers.
    #[error("no random numbers from the system: {0}")]
    Random(String),
    /// Two settings exclude each other.
    #[error(
        "Setting both orgLeader and useLeaderElection to true isn't supported, aborting execution"
    )]
    TwoKindsOfLeader,
    /// A task that opens ledgers has failed.
    #[error("opening the ledgers failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A running peer. Stop it with [`Node::stop`]; if it is dropped, everything is cut off.
pub struct Node {
    address: SocketAddr,
    operations: Option<OperationsServer>,
    channels: Channels,
    commands: mpsc::Sender<Command>,
    committed: broadcast::Sender<CommittedBlock>,
    transport: GossipTransport,
    metrics: Metrics,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Ends when the servers have; committers write their last block before.
    stop_work: CancellationToken,
}

impl Node {
    /// Starts a peer. When this returns the peer listens, and every channel is open that can be.
    pub async fn start(config: PeerConfig, log: LogControl) -> Result<Self, StartError> {
        Starter::new(config, log)?.start().await
    }

    /// Where the gRPC server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the operations endpoint listens, if it does.
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().map(OperationsServer::address)
    }

    /// The channels.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// One channel.
    pub fn channel(&self, id: &str) -> Option<Arc<Channel>> {
        self.channels.get(id)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Joins a channel by its block 0.
    pub async fn join(&self, genesis: Bytes) -> Result<(), JoinError> {
        let channels = self.channels.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let genesis = channels.check_genesis(genesis)?;
            channels.join(genesis)
        });
        joined.await.unwrap_or(Err(JoinError::Stopping))
    }

    /// Blocks as they are committed, from now on. Whoever is too slow misses some.
    pub fn committed_blocks(&self) -> broadcast::Receiver<CommittedBlock> {
        self.committed.subscribe()
    }

    /// What gossip knows now; `None` when the peer is stopping.
    pub async fn gossip_status(&self) -> Option<GossipStatus> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Status(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Waits until a part of the peer has ended that should not.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }

    /// Stops in order: no new requests, running ones end, the block that is being written is
    /// finished, streams are closed.
    pub async fn stop(mut self) {
        tracing::info!(target: "nodeCmd", "stopping");
        self.stop.cancel();
        self.transport.shutdown().await;
        self.stop_work.cancel();
        while self.tasks.join_next().await.is_some() {}
        if let Some(operations) = self.operations.take() {
            operations.stop().await;
        }
        tracing::info!(target: "nodeCmd", "stopped");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_work.cancel();
    }
}

/// The start, step by step.
struct Starter {
    config: PeerConfig,
    log: LogControl,
    msp: Msp,
    signer: SigningIdentity,
    tls: Option<Arc<PeerTls>>,
    metrics: Metrics,
    health: HealthChecks,
}

impl Starter {
    /// Reads what is on disk and small.
    fn new(config: PeerConfig, log: LogControl) -> Result<Self, StartError> {
        tracing::info!(target: "nodeCmd", "Starting peer:\n Version: {}", Version::CURRENT.version);
        if config.gossip.use_leader_election && config.gossip.org_leader {
            return Err(StartError::TwoKindsOfLeader);
        }
        if config.gossip.use_leader_election {
            tracing::error!(
                target: "gossip.election",
                "peer.gossip.useLeaderElection is set, but this peer cannot be elected yet: it follows \
                 whoever leads; set peer.gossip.orgLeader to fetch blocks from the ordering service"
            );
        }
        let directory = &config.local_msp.config_path;
        let unusable = |source| StartError::Msp {
            directory: directory.display().to_string(),
            source,
        };
        let signer = load_signing_identity(directory, &config.local_msp.id).map_err(unusable)?;
        let msp = signer.identity().msp().clone();
        let tls = PeerTls::load(&config.tls)?.map(Arc::new);
        let metrics = Metrics::new(Version::CURRENT.version)?;
        metrics.observe_log(log.clone());
        metrics.set_certificate_expiry("enrollment", signer.identity().expires_at());
        Ok(Self {
            config,
            log,
            msp,
            signer,
            tls,
            metrics,
            health: HealthChecks::default(),
        })
    }

    async fn start(self) -> Result<Node, StartError> {
        let operations = self.start_operations().await?;
        let listener = bind(&*self.config.listen_address).await?;
        let address = listener.local_addr().map_err(|source| ServeError::Bind {
            address: self.config.listen_address.clone(),
            source,
        })?;
        let ledgers = self.open_ledgers().await?;

        let (channel_events_in, channel_events) = mpsc::channel(CHANNEL_EVENTS);
        let channels = Channels::new(ledgers, channel_events_in.clone());
        let identities = IdentityTable::default();
        let crypto = Arc::new(PeerCrypto::new(
            self.msp.clone(),
            self.signer.clone(),
            channels.clone(),
            identities.clone(),
        ));
        let client_tls = self
            .tls
            .as_ref()
            .map(|tls| tls.client(&channels))
            .transpose()?;
        let (transport, transport_events) =
            GossipTransport::new(crypto.clone(), client_tls, self.gossip_options());

        let (gossip_events_in, gossip_events) = mpsc::channel(EVENT_QUEUE);
        let (commands_in, commands) = mpsc::channel(COMMANDS);
        let core = self.core(&*crypto, &identities)?;
        let delivery = self.delivery(gossip_events_in.clone())?;
        let (stop, stop_work) = (CancellationToken::new(), CancellationToken::new());
        let (committed, _) = broadcast::channel(COMMITTED_BLOCKS);
        let failed = FailedChannels::default();
        self.watch_health(&channels, &failed);

        let mut tasks = JoinSet::new();
        let inbound = Inbound {
            crypto: crypto.clone(),
            identities: identities.clone(),
            events: gossip_events_in.clone(),
            metrics: self.metrics.clone(),
        };
        let workers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        tasks.spawn(inbound.run(transport_events, workers, stop_work.clone()));
        let driver = Driver::new(Parts {
            core,
            transport: transport.clone(),
            identities,
            errands: Errands::new(transport.clone(), crypto, gossip_events_in.clone()),
            block_gossip: self.config.delivery_client.block_gossip_enabled,
            metrics: self.metrics.clone(),
        });
        tasks.spawn(driver.run(gossip_events, commands, stop_work.clone()));
        let conductor = Conductor {
            channels: channels.clone(),
            channel_events: channel_events_in,
            gossip_events: gossip_events_in,
            gossip_commands: commands_in.clone(),
            transport: transport.clone(),
            tls: self.tls.clone(),
            delivery,
            committed: committed.clone(),
            failed: failed.clone(),
            metrics: self.metrics.clone(),
            stop: stop_work.clone(),
        };
        tasks.spawn(conductor.run(channel_events));
        self.open_channels(&channels, &failed).await?;
        tasks.spawn(self.server(listener, &channels, &transport, stop.clone()));

        let PeerConfig {
            id,
            network_id,
            address: public,
            ..
        } = &self.config;
        tracing::info!(
            target: "nodeCmd",
            "Started peer with ID=[{id}], network ID=[{network_id}], address=[{public}]"
        );
        Ok(Node {
            address,
            operations,
            channels,
            commands: commands_in,
            committed,
            transport,
            metrics: self.metrics,
            tasks,
            stop,
            stop_work,
        })
    }

    async fn start_operations(&self) -> Result<Option<OperationsServer>, StartError> {
        let served = self.config.metrics == MetricsProvider::Prometheus;
        let operations = Operations {
            health: self.health.clone(),
            version: Version::CURRENT,
            log: self.log.clone(),
            metrics: served.then(|| self.metrics.clone()),
        };
        Ok(operations::start(&self.config.operations, operations).await?)
    }

    async fn open_ledgers(&self) -> Result<LedgerManager, StartError> {
        let path = self.config.file_system_path.clone();
        let options = selvedge_ledger::Options {
            rebuild_observer: Some(Arc::new(|progress| {
                let done = progress.bytes.saturating_mul(100) / progress.total_bytes.max(1);
                tracing::info!(
                    target: "blkstorage",
                    "[{}] building the block index: {} blocks, {done} %",
                    progress.channel, progress.height
                );
            })),
            ..Default::default()
        };
        Ok(tokio::task::spawn_blocking(move || LedgerManager::open(&path, options)).await??)
    }

    /// Opens every channel there is. One that cannot be opened does not stop the others.
    async fn open_channels(
        &self,
        channels: &Channels,
        failed: &FailedChannels,
    ) -> Result<(), StartError> {
        let opener = channels.clone();
        let failures = tokio::task::spawn_blocking(move || opener.open_all()).await?;
        for failure in failures {
            tracing::error!(target: "peer", "a channel stays closed: {failure}");
            let reason = failure.to_string().into();
            failed.lock().insert(failure.channel().to_owned(), reason);
        }
        Ok(())
    }

    fn watch_health(&self, channels: &Channels, failed: &FailedChannels) {
        let (channels, failed) = (channels.clone(), failed.clone());
        let registered = self.health.register("channels", move || {
            let mut reasons: Vec<_> = failed
                .lock()
                .iter()
                .map(|(channel, reason)| format!("channel {channel} has stopped: {reason}"))
                .collect();
            reasons.extend(channels.all().iter().filter_map(|channel| {
                let reason = channel.ledger().poisoned()?;
                Some(format!(
                    "the ledger of channel {} takes no more blocks: {reason}",
                    channel.id()
                ))
            }));
            std::future::ready(if reasons.is_empty() {
                Ok(())
            } else {
                Err(reasons.join("; "))
            })
        });
        if let Err(error) = registered {
            tracing::error!(target: "nodeCmd", "{error}");
        }
    }

    fn core(
        &self,
        crypto: &dyn Crypto,
        identities: &IdentityTable,
    ) -> Result<Gossip<crate::gossip::PeerBlock>, StartError> {
        let identity = Identity::check(self.signer.serialized(), crypto)
            .map_err(|refusal| StartError::OwnIdentity(refusal.to_string()))?;
        // Messages of ours come back in the answers of others.
        identities.insert(identity.clone());
        let mut seed = [0; 32];
        rand::rngs::OsRng
            .try_fill_bytes(&mut seed)
            .map_err(|error| StartError::Random(error.to_string()))?;
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Gossip::new(Setup {
            config: Arc::new(self.gossip_config()),
            identity,
            signer: Arc::new(PeerSigner(self.signer.clone())),
            seed,
            now: Instant::now(),
            unix_nanos: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
        })?)
    }

    fn gossip_config(&self) -> gossip_config::Config {
        let gossip = &self.config.gossip;
        gossip_config::Config {
            internal_endpoint: Endpoint::from(gossip.endpoint.as_str()),
            external_endpoint: Endpoint::from(gossip.external_endpoint.as_deref().unwrap_or("")),
            bootstrap: gossip
                .bootstrap
                .iter()
                .map(|peer| Endpoint::from(peer.as_str()))
                .collect(),
            propagate_iterations: gossip.propagate_iterations,
            propagate_peer_num: gossip.propagate_peer_num,
            max_propagation_burst_size: gossip.max_propagation_burst_size,
            max_propagation_burst_latency: gossip.max_propagation_burst_latency,
            max_block_count_to_store: gossip.max_block_count_to_store as u64,
            pull_interval: gossip.pull_interval,
            pull_peer_num: gossip.pull_peer_num,
            digest_wait_time: gossip.digest_wait_time,
            request_wait_time: gossip.request_wait_time,
            response_wait_time: gossip.response_wait_time,
            publish_cert_period: gossip.publish_cert_period,
            publish_state_info_interval: gossip.publish_state_info_interval,
            request_state_info_interval: gossip.request_state_info_interval,
            membership_tracker_interval: gossip.membership_tracker_interval,
            alive_time_interval: gossip.alive_time_interval,
            alive_expiration_timeout: gossip.alive_expiration_timeout,
            alive_expiration_check_interval: gossip.alive_expiration_check_interval(),
            reconnect_interval: gossip.reconnect_interval,
            max_connection_attempts: u32::try_from(gossip.max_connection_attempts)
                .unwrap_or(u32::MAX),
            msg_expiration_factor: gossip.msg_expiration_factor,
            election: gossip_config::ElectionConfig {
                startup_grace_period: gossip.election.startup_grace_period,
                membership_sample_interval: gossip.election.membership_sample_interval,
                leader_alive_threshold: gossip.election.leader_alive_threshold,
                leader_election_duration: gossip.election.leader_election_duration,
            },
            state: gossip_config::StateConfig {
                enabled: gossip.state.enabled,
                check_interval: gossip.state.check_interval,
                response_timeout: gossip.state.response_timeout,
                batch_size: gossip.state.batch_size,
                block_buffer_size: gossip.state.block_buffer_size,
                max_retries: gossip.state.max_retries,
            },
            ..Default::default()
        }
    }

    fn gossip_options(&self) -> GossipOptions {
        let gossip = &self.config.gossip;
        let keepalive = self.config.keepalive.client;
        GossipOptions {
            connect: ConnectOptions {
                timeout: gossip.dial_timeout,
                keepalive_interval: keepalive.interval,
                keepalive_timeout: keepalive.timeout,
            },
            handshake_timeout: gossip.conn_timeout,
            send_buffer: gossip.send_buff_size,
            receive_buffer: gossip.recv_buff_size,
            max_frame: self.config.max_recv_msg_size,
            ..Default::default()
        }
    }

    fn delivery(
        &self,
        events: mpsc::Sender<selvedge_gossip::event::Event<crate::gossip::PeerBlock>>,
    ) -> Result<Option<Delivery>, StartError> {
        if !self.config.gossip.org_leader {
            return Ok(None);
        }
        let identity = self.tls.as_ref().map(|tls| tls.client_identity().clone());
        Ok(Some(Delivery::new(
            &self.config,
            self.signer.clone(),
            identity,
            events,
        )?))
    }

    fn server(
        &self,
        listener: TcpListener,
        channels: &Channels,
        transport: &GossipTransport,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let routes = self.routes(channels, transport, &stop);
        let tls = self.tls.as_ref().map(|tls| tls.server().clone());
        let options = ServerOptions {
            handshake_timeout: self.config.connection_timeout,
            keepalive_interval: self.config.keepalive.interval,
            keepalive_timeout: self.config.keepalive.timeout,
            ..Default::default()
        };
        async move {
            if let Err(error) = serve(listener, tls, routes, options, stop.cancelled_owned()).await
            {
                tracing::error!(target: "nodeCmd", "grpc server exited with error: {error}");
            }
        }
    }

    fn routes(
        &self,
        channels: &Channels,
        transport: &GossipTransport,
        stop: &CancellationToken,
    ) -> Routes {
        let (receive, send) = (self.config.max_recv_msg_size, self.config.max_send_msg_size);
        let limits = &self.config.limits;
        let endorser = EndorserService::new(
            self.msp.clone(),
            self.signer.clone(),
            channels.clone(),
            self.metrics.clone(),
            NonZeroUsize::new(limits.endorser_service),
        );
        let deliver = DeliverService::new(
            channels.clone(),
            AccessControl::new(self.msp.clone()),
            self.metrics.clone(),
            DeliverOptions {
                time_window: self.config.authentication_time_window,
                bind_to_tls: self.config.tls.enabled && self.config.tls.client_auth_required,
                concurrency: NonZeroUsize::new(limits.deliver_service),
            },
            stop.clone(),
        );
        Routes::new(transport.service())
            .add_service(
                EndorserServer::new(endorser)
                    .max_decoding_message_size(receive)
                    .max_encoding_message_size(send),
            )
            .add_service(
                DeliverServer::new(deliver)
                    .max_decoding_message_size(receive)
                    .max_encoding_message_size(send),
            )
    }
}
