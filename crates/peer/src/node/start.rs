//! The start of a peer, step by step.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rand::TryRngCore;
use selvedge_gossip::crypto::{Crypto, Identity};
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_ledger::LedgerManager;
use selvedge_msp::{Msp, MspError, SigningIdentity, load_signing_identity};
use selvedge_transport::gossip::GossipTransport;
use selvedge_transport::services::protos::deliver_server::DeliverServer;
use selvedge_transport::services::protos::endorser_server::EndorserServer;
use selvedge_transport::services::protos::snapshot_server::SnapshotServer;
use selvedge_transport::{ConnectionCounters, ServeError, bind, serve};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use super::certificates::{self, Certificate};
use super::renewal::Renewal;
use super::{Node, StartError, observe, settings};
use crate::access::AccessControl;
use crate::channel::Channels;
use crate::conductor::Conductor;
use crate::config::{MetricsProvider, PeerConfig};
use crate::delivery::Delivery;
use crate::gossip::{
    Driver, EVENT_QUEUE, Errands, IdentityTable, Inbound, Parts, PeerBlock, PeerCrypto, PeerSigner,
};
use crate::health::ChannelHealth;
use crate::logging::LogControl;
use crate::metrics::Metrics;
use crate::operations::{self, HealthChecks, Operations, OperationsServer, Version};
use crate::services::deliver::DeliverService;
use crate::services::endorser::EndorserService;
use crate::services::snapshot::SnapshotService;
use crate::tls::PeerTls;

/// What happens in channels and may wait for the conductor.
const CHANNEL_EVENTS: usize = 64;
/// Words that may wait for the gossip driver.
const COMMANDS: usize = 64;
/// Committed blocks that a slow follower may be behind before it misses some.
const COMMITTED_BLOCKS: usize = 1024;

/// What is read before anything runs.
pub(super) struct Starter {
    config: PeerConfig,
    log: LogControl,
    msp: Msp,
    signer: SigningIdentity,
    tls: Option<Arc<PeerTls>>,
    metrics: Metrics,
    checks: HealthChecks,
}

impl Starter {
    /// Reads what is on disk and small.
    pub(super) fn new(config: PeerConfig, log: LogControl) -> Result<Self, StartError> {
        tracing::info!(target: "nodeCmd", "Starting peer:\n Version: {}", Version::CURRENT.version);
        if config.gossip.use_leader_election && config.gossip.org_leader {
            return Err(StartError::TwoKindsOfLeader);
        }
        let directory = &config.local_msp.config_path;
        let signer = load_signing_identity(directory, &config.local_msp.id)
            .map_err(|source| unusable_msp(&config, source))?;
        let msp = signer.identity().msp().clone();
        let tls = PeerTls::load(&config.tls)?.map(Arc::new);
        let metrics = Metrics::new(Version::CURRENT.version)?;
        metrics.observe_log(log.clone());
        Ok(Self {
            config,
            log,
            msp,
            signer,
            tls,
            metrics,
            checks: HealthChecks::default(),
        })
    }

    pub(super) async fn start(self) -> Result<Node, StartError> {
        let operations = self.start_operations().await?;
        let listener = bind(&*self.config.listen_address).await?;
        let address = listener.local_addr().map_err(|source| ServeError::Bind {
            address: self.config.listen_address.clone(),
            source,
        })?;
        let ledgers = self.open_ledgers().await?;

        let (channel_events_in, channel_events) = mpsc::channel(CHANNEL_EVENTS);
        let (gossip_events_in, gossip_events) = mpsc::channel(EVENT_QUEUE);
        let (commands_in, commands) = mpsc::channel(COMMANDS);
        let (committed, _) = broadcast::channel(COMMITTED_BLOCKS);
        let channels = Channels::new(
            ledgers,
            settings::channels(&self.config),
            channel_events_in.clone(),
        );
        let health = ChannelHealth::default();
        let identities = IdentityTable::default();
        let crypto = PeerCrypto::new(
            self.msp.clone(),
            self.signer.clone(),
            channels.clone(),
            identities.clone(),
        );
        let crypto = Arc::new(crypto.map_err(|source| unusable_msp(&self.config, source))?);
        let client_tls = match &self.tls {
            Some(tls) => Some(tls.client(&channels)?),
            None => None,
        };
        let core = self.core(&*crypto, &identities)?;
        let delivery = self.delivery(gossip_events_in.clone(), &health)?;
        let (transport, transport_events) =
            GossipTransport::new(crypto.clone(), client_tls, settings::streams(&self.config));

        // From here on there is something to stop, which dropping the node does.
        let mut node = Node {
            address,
            operations,
            channels,
            commands: commands_in,
            committed,
            transport,
            metrics: self.metrics.clone(),
            parts: JoinSet::new(),
            work: TaskTracker::new(),
            stop: CancellationToken::new(),
            stop_work: CancellationToken::new(),
        };
        let connections = Arc::new(ConnectionCounters::default());
        self.observe(&node, &health, connections.clone());

        let inbound = Inbound {
            crypto: crypto.clone(),
            identities: identities.clone(),
            events: gossip_events_in.clone(),
            metrics: self.metrics.clone(),
        };
        let workers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        node.parts
            .spawn(inbound.run(transport_events, workers, node.stop_work.clone()));
        let driver = Driver::new(Parts {
            core,
            transport: node.transport.clone(),
            identities,
            errands: Errands::new(
                node.transport.clone(),
                crypto,
                gossip_events_in.clone(),
                node.work.clone(),
            ),
            block_gossip: self.config.delivery_client.block_gossip_enabled,
            metrics: self.metrics.clone(),
        });
        node.parts
            .spawn(driver.run(gossip_events, commands, node.stop_work.clone()));
        let conductor = Conductor {
            channels: node.channels.clone(),
            channel_events: channel_events_in,
            gossip_events: gossip_events_in,
            gossip_commands: node.commands.clone(),
            transport: node.transport.clone(),
            tls: self.tls.clone(),
            delivery,
            static_leader: self.config.gossip.org_leader,
            committed: node.committed.clone(),
            health: health.clone(),
            metrics: self.metrics.clone(),
            stop: node.stop_work.clone(),
        };
        node.parts.spawn(conductor.run(channel_events));
        open_channels(&node.channels, &health).await?;
        let server = self.server(listener, &node, connections);
        node.parts.spawn(server);

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
        Ok(node)
    }

    async fn start_operations(&self) -> Result<Option<OperationsServer>, StartError> {
        let served = self.config.metrics == MetricsProvider::Prometheus;
        let operations = Operations {
            health: self.checks.clone(),
            version: Version::CURRENT,
            log: self.log.clone(),
            metrics: served.then(|| self.metrics.clone()),
        };
        Ok(operations::start(&self.config.operations, operations).await?)
    }

    async fn open_ledgers(&self) -> Result<LedgerManager, StartError> {
        let path = self.config.file_system_path.clone();
        let options = selvedge_ledger::Options {
            snapshots: Some(self.config.ledger.snapshots_root_dir.clone()),
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

    fn core(
        &self,
        crypto: &dyn Crypto,
        identities: &IdentityTable,
    ) -> Result<Gossip<PeerBlock>, StartError> {
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
            config: Arc::new(settings::gossip(&self.config)),
            identity,
            signer: Arc::new(PeerSigner(self.signer.clone())),
            seed,
            now: Instant::now(),
            unix_nanos: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
        })?)
    }

    /// `None` where this peer never leads.
    fn delivery(
        &self,
        events: mpsc::Sender<selvedge_gossip::event::Event<PeerBlock>>,
        health: &ChannelHealth,
    ) -> Result<Option<Delivery>, StartError> {
        let gossip = &self.config.gossip;
        if !gossip.org_leader && !gossip.use_leader_election {
            return Ok(None);
        }
        let identity = self.tls.as_ref().map(|tls| tls.client_identity().clone());
        let signer = self.signer.clone();
        let delivery = Delivery::new(&self.config, signer, identity, events, health.clone())?;
        Ok(Some(delivery))
    }

    fn observe(&self, node: &Node, health: &ChannelHealth, connections: Arc<ConnectionCounters>) {
        if let Err(error) = observe::register_health(&self.checks, health, &node.channels) {
            tracing::error!(target: "nodeCmd", "health checks: {error}");
        }
        let streams = node.transport.metrics().clone();
        observe::count(&self.metrics, connections, streams, health.clone());
        observe::ask_gossip(&self.metrics, node.commands.clone());

        let expires_at = self.signer.identity().expires_at();
        self.metrics
            .set_certificate_expiry("enrollment", expires_at);
        let enrollment = Certificate {
            role: "enrollment",
            expires_at,
        };
        node.work
            .spawn(certificates::watch(enrollment, node.stop_work.clone()));
        if let Some(tls) = &self.tls {
            let renewal = Renewal {
                tls: tls.clone(),
                channels: node.channels.clone(),
                transport: node.transport.clone(),
                metrics: self.metrics.clone(),
            };
            node.work.spawn(renewal.run(node.stop_work.clone()));
        }
    }

    fn server(
        &self,
        listener: TcpListener,
        node: &Node,
        connections: Arc<ConnectionCounters>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let routes = self.routes(node);
        let tls = self.tls.as_ref().map(|tls| tls.server().clone());
        let options = settings::server(&self.config, connections);
        let stop = node.stop.clone();
        async move {
            if let Err(error) = serve(listener, tls, routes, options, stop.cancelled_owned()).await
            {
                tracing::error!(target: "nodeCmd", "grpc server exited with error: {error}");
            }
        }
    }

    fn routes(&self, node: &Node) -> Routes {
        let (receive, send) = (self.config.max_recv_msg_size, self.config.max_send_msg_size);
        let endorser = EndorserService::new(
            self.msp.clone(),
            self.signer.clone(),
            node.channels.clone(),
            self.metrics.clone(),
            settings::endorser(&self.config),
            node.work.clone(),
        );
        let deliver = DeliverService::new(
            node.channels.clone(),
            AccessControl::new(self.msp.clone()),
            self.metrics.clone(),
            settings::deliver(&self.config),
            node.work.clone(),
            node.stop.clone(),
        );
        let snapshot = SnapshotService::new(
            node.channels.clone(),
            AccessControl::new(self.msp.clone()),
            node.work.clone(),
        );
        let routes = Routes::new(node.transport.service())
            .add_service(
                SnapshotServer::new(snapshot)
                    .max_decoding_message_size(receive)
                    .max_encoding_message_size(send),
            )
            .add_service(
                EndorserServer::new(endorser)
                    .max_decoding_message_size(receive)
                    .max_encoding_message_size(send),
            )
            .add_service(
                DeliverServer::new(deliver)
                    .max_decoding_message_size(receive)
                    .max_encoding_message_size(send),
            );
        let measured = routes.into_axum_router().layer(self.metrics.grpc().layer());
        Routes::from(measured)
    }
}

fn unusable_msp(config: &PeerConfig, source: MspError) -> StartError {
    StartError::Msp {
        directory: config.local_msp.config_path.display().to_string(),
        source,
    }
}

/// Opens every channel there is. One that cannot be opened does not stop the others.
async fn open_channels(channels: &Channels, health: &ChannelHealth) -> Result<(), StartError> {
    let opener = channels.clone();
    let failures = tokio::task::spawn_blocking(move || opener.open_all()).await?;
    for failure in failures {
        tracing::error!(target: "peer", "a channel stays closed: {failure}");
        health.stopped(failure.channel(), failure.to_string().into());
    }
    Ok(())
}
