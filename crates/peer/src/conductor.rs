//! The task that follows the channels: tells gossip, the ordering service client, TLS and metrics what
//! has happened in them.
//!
//! # Differences
//!
//! A Go peer lists in its StateInfo the chaincodes that it has installed and that its organisation has
//! approved, and `_lifecycle` in any case, since discovery sends clients there for endorsements (Fabric:
//! `core/chaincode/lifecycle`, MetadataManager). This peer endorses none of them, so it lists none.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_channel::ChannelConfig;
use selvedge_gossip::event::{Arrival, Event};
use selvedge_gossip::types::{ChannelId, OrgId};
use selvedge_transport::gossip::GossipTransport;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::{Channel, ChannelEvent, Channels, CommitQueue};
use crate::delivery::{ChannelDelivery, Delivery};
use crate::gossip::{Command, PeerBlock};
use crate::health::ChannelHealth;
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

/// What the conductor speaks to.
pub struct Conductor {
    pub(crate) channels: Channels,
    pub(crate) channel_events: mpsc::Sender<ChannelEvent>,
    pub(crate) gossip_events: mpsc::Sender<Event<PeerBlock>>,
    pub(crate) gossip_commands: mpsc::Sender<Command>,
    pub(crate) transport: GossipTransport,
    pub(crate) tls: Option<Arc<PeerTls>>,
    /// `None`: this peer never leads.
    pub(crate) delivery: Option<Delivery>,
    /// Leads in every channel, whatever others do (`peer.gossip.orgLeader`).
    pub(crate) static_leader: bool,
    pub(crate) committed: broadcast::Sender<CommittedBlock>,
    pub(crate) health: ChannelHealth,
    pub(crate) metrics: Metrics,
    /// Stops the committers.
    pub(crate) stop: CancellationToken,
}

/// A channel that is being followed.
struct Followed {
    queue: CommitQueue,
    /// The height of the ledger that gossip knows of.
    announced: watch::Sender<u64>,
    /// Set by gossip when this peer is elected, or no longer.
    leads: watch::Sender<bool>,
    delivery: Option<ChannelDelivery>,
    metrics: ChannelMetrics,
}

/// The gossip driver has gone: the peer is stopping.
struct Stopping;

impl Conductor {
    /// Follows until the peer stops. When this returns, the committers have written their last block.
    pub async fn run(self, mut events: mpsc::Receiver<ChannelEvent>) {
        let committers = TaskTracker::new();
        let mut followed = BTreeMap::new();
        loop {
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                event = events.recv() => event,
            };
            let Some(event) = event else { break };
            if self
                .handle(event, &mut followed, &committers)
                .await
                .is_err()
            {
                break;
            }
        }
        // Whoever waits to tell something more need not.
        drop(events);
        for (_, channel) in followed {
            if let Some(delivery) = channel.delivery {
                delivery.stop().await;
            }
        }
        committers.close();
        committers.wait().await;
    }

    async fn handle(
        &self,
        event: ChannelEvent,
        followed: &mut BTreeMap<Arc<str>, Followed>,
        committers: &TaskTracker,
    ) -> Result<(), Stopping> {
        match event {
            ChannelEvent::Opened(channel) => {
                let link = self.open(&channel, committers).await?;
                followed.insert(channel.shared_id(), link);
            }
            ChannelEvent::Committed {
                channel,
                number,
                how,
            } => {
                if let Some(link) = followed.get(channel.id()) {
                    self.committed(&channel, link, number, how).await?;
                }
            }
            ChannelEvent::Reconfigured { channel, before } => {
                if let Some(link) = followed.get_mut(channel.id()) {
                    self.reconfigured(&channel, link, &before).await?;
                }
            }
            ChannelEvent::Leadership { channel, leads } => {
                if let Some(link) = followed.get_mut(channel.id()) {
                    self.lead(&channel, link, leads).await;
                }
            }
            ChannelEvent::Failed { channel, reason } => {
                self.health.stopped(channel.id(), reason);
                if let Some(link) = followed.get_mut(channel.id()) {
                    link.stop_delivery().await;
                }
                // A peer that takes no blocks must not be elected to fetch them, nor be sent any. A
                // Go peer would have ended.
                let left = ChannelId::from(channel.id());
                self.tell_gossip(Event::ChannelLeft(left)).await?;
            }
        }
        Ok(())
    }

    async fn open(
        &self,
        channel: &Arc<Channel>,
        committers: &TaskTracker,
    ) -> Result<Followed, Stopping> {
        let metrics = self.metrics.channel(channel.id());
        let height = channel.ledger().height();
        metrics.set_height(height);
        let queue = CommitQueue::start(
            channel.clone(),
            metrics.clone(),
            self.channel_events.clone(),
            committers,
            self.stop.clone(),
        );
        self.trust();
        let mut link = Followed {
            queue,
            announced: watch::Sender::new(height),
            leads: watch::Sender::new(false),
            delivery: None,
            metrics,
        };
        self.configure(channel, &link).await?;
        if self.static_leader {
            self.start_delivery(channel, &mut link);
        } else {
            let changes = link.leads.subscribe();
            let events = self.channel_events.clone();
            committers.spawn(follow_election(
                channel.clone(),
                changes,
                events,
                self.stop.clone(),
            ));
        }
        Ok(link)
    }

    /// Follows the election of the organisation's leader in a channel.
    async fn lead(&self, channel: &Arc<Channel>, link: &mut Followed, leads: bool) {
        if leads == link.delivery.is_some() || self.health.has_stopped(channel.id()) {
            return;
        }
        if leads {
            tracing::info!(
                target: "gossip.service",
                "Elected as a leader, starting delivery service for channel {}", channel.id()
            );
            self.start_delivery(channel, link);
        } else {
            tracing::info!(
                target: "gossip.service",
                "Renounced leadership, stopping delivery service for channel {}", channel.id()
            );
            link.stop_delivery().await;
        }
    }

    fn start_delivery(&self, channel: &Arc<Channel>, link: &mut Followed) {
        link.delivery = self
            .delivery
            .as_ref()
            .and_then(|delivery| delivery.start(channel, link.announced.subscribe()));
        link.metrics.set_leader(link.delivery.is_some());
    }

    async fn committed(
        &self,
        channel: &Arc<Channel>,
        link: &Followed,
        number: u64,
        how: Arrival,
    ) -> Result<(), Stopping> {
        // Not the ledger's: it may have a further block that is not in the state yet.
        let height = number.saturating_add(1);
        link.metrics.set_height(height);
        link.metrics.blocks_received(how).inc();
        // Nobody may be listening.
        let _ = self.committed.send(CommittedBlock {
            channel: channel.shared_id(),
            number,
            how,
        });
        self.tell_gossip(Event::Committed {
            channel: ChannelId::from(channel.id()),
            height,
        })
        .await?;
        // Only now: blocks that are let in by this height stand behind it in gossip's queue.
        link.announced.send_replace(height);
        Ok(())
    }

    async fn reconfigured(
        &self,
        channel: &Arc<Channel>,
        link: &mut Followed,
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
        // The consensus type decides whether blocks are pushed.
        if !changes.anchor_peers.is_empty() || changes.consensus {
            self.configure(channel, link).await?;
        }
        if !changes.msps.is_empty() {
            let orgs = changes.msps.iter();
            let orgs = orgs.map(|id| OrgId::from(id.as_str())).collect();
            self.tell_gossip(Event::Suspect(orgs)).await?;
        }
        if let (Some(settings), Some(running)) = (&self.delivery, &link.delivery) {
            if settings.is_outdated(running) {
                link.stop_delivery().await;
                self.start_delivery(channel, link);
            } else if changes.orderer_endpoints || !changes.msps.is_empty() {
                running.update_addresses();
            }
        }
        Ok(())
    }

    async fn tell_gossip(&self, event: Event<PeerBlock>) -> Result<(), Stopping> {
        self.gossip_events.send(event).await.map_err(|_| Stopping)
    }

    async fn configure(&self, channel: &Arc<Channel>, link: &Followed) -> Result<(), Stopping> {
        tracing::info!(
            target: "gossip.gossip",
            "Joining gossip network of channel {} with {} organizations",
            channel.id(),
            channel.config().application().organizations().len()
        );
        let command = Command::Configure {
            channel: channel.clone(),
            queue: link.queue.clone(),
            leads: link.leads.clone(),
        };
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

impl Followed {
    async fn stop_delivery(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.stop().await;
            self.metrics.set_leader(false);
        }
    }
}

/// Tells the conductor of elections, the last one if several come at once.
async fn follow_election(
    channel: Arc<Channel>,
    mut changes: watch::Receiver<bool>,
    events: mpsc::Sender<ChannelEvent>,
    stop: CancellationToken,
) {
    while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
        let leads = *changes.borrow_and_update();
        let event = ChannelEvent::Leadership {
            channel: channel.clone(),
            leads,
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}
