//! The task that owns the gossip core: feeds it what happens and does what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_gossip::crypto::Identity;
use selvedge_gossip::event::{Action, Arrival, ChannelOrg, ChannelSetup, Event, Notice};
use selvedge_gossip::node::Gossip;
use selvedge_gossip::send_queue::Lane;
use selvedge_gossip::types::{ChannelId, OrgId, PkiId};
use selvedge_transport::gossip::{GossipTransport, SendOutcome};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::anchors;
use super::errands::{self, Errands};
use super::status::{self, GossipStatus};
use super::{IdentityTable, PeerBlock};
use crate::channel::{Channel, CommitQueue};
use crate::logging::LogLimit;
use crate::metrics::Metrics;

/// Events that may wait for the core.
pub const EVENT_QUEUE: usize = 512;

/// A word to the driver from the rest of the peer.
pub enum Command {
    /// A channel's ledger is open, or its configuration has changed.
    Configure {
        /// The channel.
        channel: Arc<Channel>,
        /// Where its blocks go.
        queue: CommitQueue,
        /// Told when the election makes this peer the leader, or unmakes it.
        leads: watch::Sender<bool>,
    },
    /// What is known and counted?
    Status(oneshot::Sender<GossipStatus>),
}

/// What the driver is made from.
pub struct Parts {
    /// The protocol.
    pub core: Gossip<PeerBlock>,
    /// The streams to other peers.
    pub transport: GossipTransport,
    /// Identities for those who verify elsewhere.
    pub identities: IdentityTable,
    /// Errands: whatever takes time.
    pub errands: Errands,
    /// `peer.deliveryclient.blockGossipEnabled`.
    pub block_gossip: bool,
    /// Where drops are counted.
    pub metrics: Metrics,
}

/// See the module's documentation.
pub struct Driver {
    parts: Parts,
    channels: BTreeMap<ChannelId, Link>,
    actions: Vec<Action<PeerBlock>>,
    /// Identities that an event has put in doubt.
    suspects: Vec<Identity>,
}

/// A channel as the driver sees it.
struct Link {
    channel: Arc<Channel>,
    queue: CommitQueue,
    /// Told of every change of leadership; whoever follows sees the last one.
    leads: watch::Sender<bool>,
}

impl Driver {
    /// A driver of a core that has no channels yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            channels: BTreeMap::new(),
            actions: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// Runs until `stop` is cancelled or all senders are gone.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<Event<PeerBlock>>,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        self.handle(Event::Wakeup);
        loop {
            let deadline = self.parts.core.next_deadline();
            let wakeup = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                () = wakeup => self.handle(Event::Wakeup),
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Configure {
                channel,
                queue,
                leads,
            } => {
                self.configure(Link {
                    channel,
                    queue,
                    leads,
                });
            }
            Command::Status(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(status::of(&self.parts.core, &self.parts.transport));
            }
        }
    }

    fn configure(&mut self, link: Link) {
        let id = ChannelId::from(link.channel.id());
        let setup = setup(&link.channel, self.parts.block_gossip);
        let known = self.channels.insert(id, link).is_some();
        self.handle(if known {
            Event::ChannelUpdated(setup)
        } else {
            Event::ChannelJoined(setup)
        });
    }

    fn event(&mut self, event: Event<PeerBlock>) {
        let connected = match &event {
            Event::Connected { identity, .. } => Some(identity.pki_id()),
            _ => None,
        };
        self.handle(event);
        if let Some(peer) = connected
            && self.parts.core.identities().get(&peer).is_none()
        {
            self.parts.identities.remove(&peer);
        }
    }

    fn handle(&mut self, event: Event<PeerBlock>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.parts
            .core
            .handle(event, Instant::now(), &mut |action| actions.push(action));
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.actions = actions;
        if !self.suspects.is_empty() {
            let suspects = std::mem::take(&mut self.suspects);
            self.parts.errands.revalidate(suspects);
        }
    }

    fn perform(&mut self, action: Action<PeerBlock>) {
        let Parts {
            transport,
            identities,
            errands,
            ..
        } = &self.parts;
        match action {
            Action::Send {
                to,
                frame,
                kind,
                channel,
            } => {
                let size = frame.len() as u64;
                let lane = Lane::of(kind, channel);
                let sent = transport.send(&errands::address(&to), lane, frame);
                // The transport counts what it drops.
                if sent == SendOutcome::Queued {
                    let gossip = self.parts.metrics.gossip();
                    gossip.bytes_sent(kind.name()).inc_by(size);
                }
            }
            Action::Dial { endpoint, purpose } => errands.dial(endpoint, purpose),
            Action::Disconnect { peer, reason } => {
                tracing::debug!(target: "gossip.comm", %peer, reason, "closing the stream");
                transport.close(&peer.0);
            }
            Action::VerifyBlock { channel, block } => match self.channels.get(&channel) {
                Some(link) => errands.verify(channel, &link.channel, block),
                None => errands.refuse(channel, block),
            },
            Action::Deliver {
                channel,
                block,
                how,
                delay,
            } => self.deliver(&channel, block, how, delay),
            Action::ReadBlocks {
                channel,
                to,
                nonce,
                start,
                end,
            } => {
                if let Some(link) = self.channels.get(&channel) {
                    errands.read(channel, &link.channel, to, nonce, start, end);
                }
            }
            Action::LeadershipChanged { channel, leads } => {
                if let Some(link) = self.channels.get(&channel) {
                    link.leads.send_replace(leads);
                }
            }
            // There are no private data collections here yet, which other peers are told.
            Action::StorePrivateData { from, nonce, .. } => {
                errands.tell(Event::PrivateDataStored {
                    to: from,
                    nonce,
                    stored: Err("this peer does not keep private data".to_owned()),
                });
            }
            Action::ReadPrivateData {
                channel,
                asker,
                nonce,
                ..
            } => errands.tell(Event::PrivateDataRead {
                channel,
                to: asker.pki_id(),
                nonce,
                elements: Vec::new(),
            }),
            Action::SendAcknowledged { .. } | Action::PrivateDataFetched { .. } => {}
            Action::IdentityLearned(identity) => identities.insert(identity),
            Action::IdentityPurged(pki_id) => identities.remove(&pki_id),
            Action::Revalidate(identity) => self.suspects.push(identity),
            Action::RecheckReaders { channel, peers } => errands.recheck_readers(channel, peers),
            Action::Notice(notice) => self.notice(&notice),
        }
    }

    fn deliver(&self, channel: &ChannelId, block: PeerBlock, how: Arrival, delay: Duration) {
        let Some(link) = self.channels.get(channel) else {
            return;
        };
        if link.queue.push(block.into_inner(), how, delay).is_err() {
            // The core holds back more than the queue takes, so the committer has stopped, which it
            // has reported itself.
            tracing::debug!(target: "gossip.state", %channel, "block for a stopped committer");
        }
    }

    fn notice(&self, notice: &Notice) {
        let name = |peer: &PkiId| self.name(peer);
        match notice {
            Notice::PeerAlive(peer) => {
                tracing::debug!(target: "gossip.discovery", "{} is alive", name(peer));
            }
            Notice::PeerDead { peer, reason } => {
                tracing::warn!(
                    target: "gossip.discovery", "{} is taken for dead: {reason}", name(peer)
                );
            }
            Notice::PeerForgotten(peer) => {
                tracing::info!(target: "gossip.discovery", "{} is forgotten", name(peer));
            }
            Notice::MembershipChanged {
                channel,
                online,
                offline,
            } => {
                let list = |peers: &[PkiId]| peers.iter().map(name).collect::<Vec<_>>().join(", ");
                tracing::info!(
                    target: "gossip.channel",
                    "[{channel}] Membership view has changed. peers went online: [{}] , peers went \
                     offline: [{}]",
                    list(online),
                    list(offline)
                );
            }
            Notice::LeaderChanged { channel, leader } => {
                let leader = leader.as_ref().map_or_else(|| "nobody".to_owned(), name);
                tracing::info!(target: "gossip.election", "[{channel}] {leader} leads");
            }
            Notice::LeftBehind { channel, blocks } => {
                static LEFT_BEHIND: LogLimit = LogLimit::every_seconds(60);
                if let Some(suppressed) = LEFT_BEHIND.pass() {
                    tracing::warn!(
                        target: "gossip.state", suppressed,
                        "[{channel}] The ledger lacks {blocks} blocks that other peers say to have, more than \
                         they keep for pull, and will not catch up: this peer does not lead, and \
                         peer.gossip.state.enabled is false. Set it to true and start the peer again."
                    );
                }
            }
            Notice::SameIdentityElsewhere { endpoint } => tracing::error!(
                target: "gossip.discovery",
                "a peer at {endpoint} uses this peer's identity: two processes must not share a \
                 certificate"
            ),
            Notice::ConnectFailed { endpoint, reason } => {
                tracing::warn!(target: "gossip.gossip", "Could not connect to {endpoint} : {reason}");
            }
        }
    }

    /// The endpoint by which a person knows the peer.
    fn name(&self, peer: &PkiId) -> String {
        let member = self.parts.core.members().get(peer);
        match member.map(|member| member.preferred_endpoint()) {
            Some(endpoint) if !endpoint.is_empty() => endpoint.to_string(),
            _ => format!("{peer:?}"),
        }
    }
}

/// What gossip must know of a channel.
fn setup(channel: &Channel, block_gossip: bool) -> ChannelSetup {
    let config = channel.config();
    let orgs = config.application().organizations().values();
    ChannelSetup {
        channel: ChannelId::from(channel.id()),
        sequence: config.sequence(),
        orgs: orgs
            .map(|org| ChannelOrg {
                org: OrgId::from(org.msp_id.as_str()),
                anchor_peers: anchors::endpoints(channel.id(), org),
            })
            .collect(),
        height: channel.ledger().height(),
        block_gossip: block_gossip && !config.orderer().is_bft(),
    }
}
