//! The task that follows the channels: tells gossip, the ordering service client, TLS and metrics what
//! has happened in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_channel::ChannelConfig;
use selvedge_gossip::event::{Arrival, Event};
use selvedge_gossip::types::{ChannelId, OrgId};
use selvedge_transport::gossip::GossipTransport;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::channel::{Channel, ChannelEvent, Channels, CommitQueue};
use crate::delivery::{ChannelDelivery, Delivery};
use crate::gossip::{Command, PeerBlock};
use crate::metrics::{ChannelMetrics, Metrics};
use crate::tls::PeerTls;

/// A block that lies in the ledger, for those who follow.
#[derive(Debug, Clone)]
pub struct CommittedBlock {
    /// The channel.
    pub channel: Arc<str>,
    /// The block.
    pub number: u64,
    /// How it reached this peer.
    pub how: Arrival,
}

/// Channels that have stopped, with the reason.
pub type FailedChannels = Arc<Mutex<BTreeMap<String, Arc<str>>>>;

/// What the conductor speaks to.
pub struct Conductor {
    pub(crate) channels: Channels,
    pub(crate) channel_events: mpsc::Sender<ChannelEvent>,
    pub(crate) gossip_events: mpsc::Sender<Event<PeerBlock>>,
    pub(crate) gossip_commands: mpsc::Sender<Command>,
    pub(crate) transport: GossipTransport,
    pub(crate) tls: Option<Arc<PeerTls>>,
    /// `None`: this peer leads in no channel.
    pub(crate) delivery: Option<Delivery>,
    pub(crate) committed: broadcast::Sender<CommittedBlock>,
    pub(crate) failed: FailedChannels,
    pub(crate) metrics: Metrics,
    /// Stops the committers.
    pub(crate) stop: CancellationToken,
}

/// A channel that is being followed.
struct Followed {
    queue: CommitQueue,
    delivery: Option<ChannelDelivery>,
    metrics: ChannelMetrics,
}

/// The gossip driver has gone: the peer is stopping.
struct Stopping;

impl Conductor {
    /// Follows until the peer stops.
    pub async fn run(self, mut events: mpsc::Receiver<ChannelEvent>) {
        let mut followed = BTreeMap::new();
        loop {
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                event = events.recv() => event,
            };
            let Some(event) = event else { break };
            if self.handle(event, &mut followed).await.is_err() {
                break;
            }
        }
        for (_, channel) in followed {
            if let Some(delivery) = channel.delivery {
                delivery.stop().await;
            }
        }
    }

    async fn handle(
        &self,
        event: ChannelEvent,
        followed: &mut BTreeMap<Arc<str>, Followed>,
    ) -> Result<(), Stopping> {
        match event {
            ChannelEvent::Opened(channel) => {
                let link = self.open(&channel).await?;
                followed.insert(channel.shared_id(), link);
            }
            ChannelEvent::Committed { channel, blocks } => {
                if let Some(link) = followed.get(channel.id()) {
                    self.committed(&channel, link, &blocks).await?;
                }
            }
            ChannelEvent::Reconfigured { channel, before } => {
                if let Some(link) = followed.get(channel.id()) {
                    self.reconfigured(&channel, link, &before).await?;
                }
            }
            ChannelEvent::Failed { channel, reason } => {
                self.failed.lock().insert(channel.id().to_owned(), reason);
                if let Some(delivery) = followed
                    .get_mut(channel.id())
                    .and_then(|link| link.delivery.take())
                {
                    delivery.stop().await;
                }
            }
        }
        Ok(())
    }

    async fn open(&self, channel: &Arc<Channel>) -> Result<Followed, Stopping> {
        let queue = CommitQueue::start(
            channel.clone(),
            self.channel_events.clone(),
            self.stop.clone(),
        );
        self.trust();
        self.configure(channel, &queue).await?;
        let metrics = self.metrics.channel(channel.id());
        metrics.set_height(channel.ledger().height());
        let delivery = self.delivery.as_ref().and_then(|delivery| {
            let tip = channel.tip()?;
            Some(delivery.start(channel, tip))
        });
        metrics.set_leader(delivery.is_some());
        Ok(Followed {
            queue,
            delivery,
            metrics,
        })
    }

    async fn committed(
        &self,
        channel: &Arc<Channel>,
        link: &Followed,
        blocks: &[(u64, Arrival)],
    ) -> Result<(), Stopping> {
        let height = channel.ledger().height();
        link.metrics.set_height(height);
        for (number, how) in blocks {
            link.metrics.blocks_received(*how).inc();
            // Nobody may be listening.
            let _ = self.committed.send(CommittedBlock {
                channel: channel.shared_id(),
                number: *number,
                how: *how,
            });
        }
        let event = Event::Committed {
            channel: ChannelId::from(channel.id()),
            height,
        };
        self.gossip_events.send(event).await.map_err(|_| Stopping)
    }

    async fn reconfigured(
        &self,
        channel: &Arc<Channel>,
        link: &Followed,
        before: &ChannelConfig,
    ) -> Result<(), Stopping> {
        let config = channel.config();
        let changes = config.changes_since(before);
        tracing::info!(
            target: "peer", channel = channel.id(),
            "configuration sequence {} is in force", config.sequence()
        );
        if !changes.msps.is_empty() {
            self.trust();
        }
        if !changes.anchor_peers.is_empty() {
            self.configure(channel, &link.queue).await?;
        }
        if !changes.msps.is_empty() {
            let orgs = changes
                .msps
                .iter()
                .map(|id| OrgId::from(id.as_str()))
                .collect();
            self.gossip_events
                .send(Event::Suspect(orgs))
                .await
                .map_err(|_| Stopping)?;
        }
        if changes.orderer_endpoints || !changes.msps.is_empty() {
            if let Some(delivery) = &link.delivery {
                delivery.reconfigure(channel);
            }
        }
        Ok(())
    }

    async fn configure(&self, channel: &Arc<Channel>, queue: &CommitQueue) -> Result<(), Stopping> {
        let config = channel.config();
        let orgs: BTreeSet<_> = config
            .application()
            .organizations()
            .values()
            .map(|org| org.msp_id.as_str())
            .collect();
        tracing::info!(
            target: "gossip.gossip",
            "Joining gossip network of channel {} with {} organizations", channel.id(), orgs.len()
        );
        let command = Command::Configure(channel.clone(), queue.clone());
        self.gossip_commands
            .send(command)
            .await
            .map_err(|_| Stopping)
    }

    /// Takes the TLS CAs of all channels as they are now.
    fn trust(&self) {
        let Some(tls) = &self.tls else { return };
        if let Err(error) = tls.update(&self.channels) {
            tracing::warn!(
                target: "peer",
                "Failed to update trusted roots from latest config block: {error}"
            );
        }
        match tls.client(&self.channels) {
            Ok(client) => self.transport.set_client_tls(client),
            Err(error) => {
                tracing::warn!(target: "peer", "TLS to other peers keeps its roots: {error}")
            }
        }
    }
}
