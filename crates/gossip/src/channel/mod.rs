//! One channel: who is in it, and how its blocks get here and onward.
//!
//! ```text
//!   push, pull, state transfer                    ordering service
//!             |                                          |
//!        arriving: one copy of each is verified          |
//!             |                                          |
//!             +-------------------+----------------------+
//!                                 |
//!                block store ---- + ---- ordered buffer ----> committer
//!                 |       |                     |
//!              pushed   served             gaps: pull from a peer
//!              onward   to those           that has the block,
//!                       who pull           state transfer
//! ```
//!
//! [`Channels`] holds all channels and finds the one that a message is for. A message of a channel is
//! taken only from a peer whose organisation is in the channel; blocks are pulled from and pushed to
//! peers of our own organisation that have shown by a StateInfo message that they are in it.
//!
//! Source of the rules: Fabric gossip/gossip/channel, gossip/gossip/chanstate, gossip/state.
//!
//! | file | subject |
//! | --- | --- |
//! | `routing` | all channels; which one a message is for |
//! | `state_info` | StateInfo: published, requested, answered, kept |
//! | `relay` | StateInfo of channels that this peer is not in |
//! | `flow` | the life of a block: arrival, verification, push, order, commit |
//! | `arriving` | blocks in verification |
//! | `block_store` | the newest blocks, and who has them |
//! | `tree` | whole blocks along a tree of this project's peers, announcements beside it |
//! | `pulling` | the four steps of block pull |
//! | `gap` | what is missing, and whom to ask for it |
//! | `leading` | the election of who fetches blocks from the ordering service |
//! | `signs` | since when blocks are known to exist |
//! | `backoff` | peers that did not deliver, which are asked last; nobody is disconnected for it |
//! | `pace` | how often to ask |
//! | `occupancy` | how much all that is |
//!
//! # Differences from Fabric, on purpose
//!
//! - **Gaps are filled when they are seen**; see `gap`.
//! - **Peers of this project** send whole blocks to each other along a tree; see `tree`.
//! - **Who has a block is not sent it**: whoever sent it to us, was sent it, listed it in a digest, or
//!   published a higher ledger.
//! - **Blocks below our next one** are dropped without verification, whether or not they would still fit
//!   into the block store. Fabric verifies, stores and forwards them after a restart.
//! - **A peer that has left the channel** (by its StateInfo) is not sent blocks. Fabric goes on.
//! - **In calm** a channel asks less often, for snapshots of StateInfo (`state_info`) and for blocks
//!   (`pulling`), down to an eighth of the configured pace.
//! - **Whoever is new** in the channel is told of us by a few at once; see `state_info`.
//! - **Snapshots** are answered at most four times a second for each asker.
//! - When the channel's configuration no longer contains **our own organisation**, the channel falls
//!   silent. Fabric keeps the last configuration that did and goes on asking, in vain.

mod arriving;
mod backoff;
mod block_store;
mod flow;
mod gap;
mod leading;
mod occupancy;
mod pace;
mod pulling;
mod relay;
mod routing;
mod signs;
mod state_info;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use selvedge_protos::gossip::GossipMessage;

use self::arriving::Arriving;
use self::backoff::Backoff;
use self::block_store::BlockStore;
use self::flow::InOrder;
use self::gap::Gap;
use self::pace::Pace;
pub use self::routing::Channels;
use self::signs::Signs;
use self::state_info::StateInfos;
use self::tree::Tree;
use crate::context::{Context, LocalPeer};
use crate::counters::DropReason;
use crate::election::Election;
use crate::event::{Action, ChannelSetup, FrameKind, Notice, Payload};
use crate::identity::IdentityStore;
use crate::membership::{Member, View};
use crate::message::{Envelope, Message};
use crate::ordered_buffer::{Demand, Limits, OrderedBuffer};
use crate::pull::{Initiator, Responder, Timing};
use crate::state_transfer::{Requester, Server};
use crate::types::{ChannelId, Endpoint, OrgId, Peer, PkiId};

/// What a channel may look at and use while it handles an event.
pub struct ChannelContext<'a, 'c, B> {
    /// The node's.
    pub ctx: &'a mut Context<'c>,
    /// Who is alive.
    pub view: &'a View,
    /// Takes actions.
    pub out: &'a mut dyn FnMut(Action<B>),
}

impl<B> ChannelContext<'_, '_, B> {
    fn now(&self) -> Instant {
        self.ctx.now
    }

    /// A peer with its endpoint, as far as that is known.
    fn peer(&self, pki_id: PkiId) -> Peer {
        let endpoint = self.view.get(&pki_id).map_or_else(
            || Endpoint::from(""),
            |member| member.preferred_endpoint().clone(),
        );
        Peer { pki_id, endpoint }
    }

    /// Sends a message between two peers.
    pub(crate) fn send(&mut self, to: PkiId, message: &GossipMessage, kind: FrameKind) {
        let to = self.peer(to);
        (self.out)(Action::Send {
            to,
            frame: Envelope::unsigned(message).frame().clone(),
            kind,
            channel: channel_of(message),
        });
    }
}

/// The channel that one of our own messages names, if it names one.
fn channel_of(message: &GossipMessage) -> Option<ChannelId> {
    let name = std::str::from_utf8(&message.channel).ok()?;
    (!name.is_empty()).then(|| ChannelId::from(name))
}

/// Whether this peer takes part in the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    /// It has left, and says so.
    Left,
    /// The configuration does not contain its organisation.
    Removed,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Channel<B> {
    id: ChannelId,
    setup: ChannelSetup,
    orgs: BTreeSet<OrgId>,
    standing: Standing,
    state_infos: StateInfos,
    arriving: Arriving,
    blocks: BlockStore<B>,
    tree: Tree,
    buffer: OrderedBuffer<InOrder<B>>,
    signs: Signs,
    initiator: Initiator<u64>,
    pull_pace: Pace,
    /// The height at the last round of block pull.
    pulled_at: u64,
    responder: Responder,
    requester: Requester,
    server: Server,
    /// Peers that did not deliver.
    backoff: Backoff,
    /// Peers that did not deliver by pull, and may have the block in their ledgers.
    pull_backoff: Backoff,
    /// `None`: it has no say in who leads.
    election: Option<Election>,
    gap: Option<Gap>,
    /// The height at the last check, if the ledger was [left behind](crate::event::Notice::LeftBehind) then.
    left_behind_at: Option<u64>,
    /// State transfer is under way; see `gap`.
    catching_up: bool,
    timers: Timers,
    /// Peers of the channel when they were last compared.
    tracked: BTreeSet<PkiId>,
}

#[derive(Debug)]
struct Timers {
    check_state: Instant,
    track_members: Instant,
}

impl<B: Payload> Channel<B> {
    fn new(setup: ChannelSetup, ctx: &Context<'_>) -> Self {
        let config = ctx.config;
        let timing = Timing::of(config);
        let buffer_size = u64::try_from(config.state.block_buffer_size).unwrap_or(u64::MAX);
        let exchanges = config.pull_peer_num.saturating_mul(2).max(4);
        let mut channel = Self {
            id: setup.channel.clone(),
            orgs: BTreeSet::new(),
            standing: Standing::Member,
            state_infos: StateInfos::new(setup.height, ctx),
            arriving: Arriving::default(),
            blocks: BlockStore::new(
                config.max_block_count_to_store,
                config.pull_interval.saturating_mul(100),
            ),
            tree: Tree::default(),
            buffer: OrderedBuffer::new(setup.height, Limits::for_block_buffer_size(buffer_size)),
            signs: Signs::default(),
            initiator: Initiator::new(timing, exchanges, ctx.now),
            pull_pace: Pace::new(),
            pulled_at: 0,
            responder: Responder::new(&timing),
            requester: Requester::new(config),
            server: Server::new(config.state.channel_size),
            backoff: Backoff::default(),
            pull_backoff: Backoff::default(),
            election: None,
            gap: None,
            left_behind_at: None,
            catching_up: false,
            timers: Timers {
                check_state: aligned(config.state.check_interval, ctx),
                track_members: aligned(config.membership_tracker_interval, ctx),
            },
            tracked: BTreeSet::new(),
            setup,
        };
        channel.configure(ctx);
        channel
    }

    /// Its name.
    pub fn id(&self) -> &ChannelId {
        &self.id
    }

    /// What was last configured.
    pub fn setup(&self) -> &ChannelSetup {
        &self.setup
    }

    /// The ledger's height as last reported.
    pub fn height(&self) -> u64 {
        self.buffer.height()
    }

    /// The number of the next block that the committer will get.
    pub fn next_block(&self) -> u64 {
        self.buffer.next()
    }

    /// Blocks that wait for an earlier one, or for the committer.
    pub fn buffered_blocks(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a block of this number from the ordering service would be taken. Whoever fetches there
    /// waits until it is: what comes too early is refused, and nobody fetches it again.
    pub fn accepts_ordered(&self, number: u64) -> bool {
        self.buffer.accepts(number, Demand::Ordered)
    }

    /// The living peers of the channel that have published a StateInfo and not left (Fabric:
    /// `GetPeers`), with their ledger heights.
    pub fn peers<'a>(&'a self, view: &'a View) -> impl Iterator<Item = (&'a Member, u64)> {
        let active = self.standing == Standing::Member;
        view.alive().filter(move |_| active).filter_map(|member| {
            let info = self.state_infos.present(&member.pki_id())?;
            Some((member, info.ledger_height))
        })
    }

    /// A newer configuration. Organisations that are no longer in it are forgotten at once.
    fn update(&mut self, setup: ChannelSetup, ctx: &Context<'_>) {
        if setup.sequence < self.setup.sequence {
            return;
        }
        self.setup = setup;
        self.configure(ctx);
    }

    /// Asks at full pace again: something happened by which others may know more than we do.
    fn hasten(&mut self, ctx: &Context<'_>) {
        self.pull_pace.quicken();
        self.initiator.hasten(ctx.now);
        self.state_infos
            .hasten(ctx.now + ctx.config.request_state_info_interval);
    }

    /// A stream to a peer has ended, and with it what was under way.
    fn disconnected(&mut self, peer: &PkiId, ctx: &Context<'_>) {
        if self.state_infos.present(peer).is_some() {
            self.hasten(ctx);
        }
    }

    fn configure(&mut self, ctx: &Context<'_>) {
        self.hasten(ctx);
        self.orgs = self.setup.orgs.iter().map(|it| it.org.clone()).collect();
        let contained = self.orgs.contains(ctx.me.org());
        match self.standing {
            Standing::Member if !contained => self.standing = Standing::Removed,
            Standing::Removed if contained => {
                self.standing = Standing::Member;
                self.state_infos.announce();
            }
            _ => {}
        }
        for peer in self.state_infos.retain_orgs(&self.orgs) {
            self.forget_claims(&peer);
        }
    }

    /// Leaves the channel: says so, and takes part no more.
    fn leave(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        if self.standing != Standing::Left {
            self.standing = Standing::Left;
            self.gap = None;
            self.tree = Tree::default();
            self.stop_election(c);
            self.state_infos.leave();
            self.publish(c);
        }
    }

    /// Comes back after [`Channel::leave`].
    fn rejoin(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        if self.standing == Standing::Left {
            self.standing = match self.orgs.contains(c.ctx.me.org()) {
                true => Standing::Member,
                false => Standing::Removed,
            };
            self.state_infos.rejoin();
            self.hasten(c.ctx);
            self.start_election(c);
            self.publish(c);
        }
    }

    /// A message came for this channel: it has its name, or a MAC that proves knowledge of it.
    fn on_message(&mut self, from: PkiId, message: Message, c: &mut ChannelContext<'_, '_, B>) {
        let Some(org) = self.admit(&from, c.ctx) else {
            return;
        };
        match message {
            Message::StateInfo(info) => self.on_state_info(from, *info, c),
            Message::StateInfoPullRequest { .. } => self.on_state_info_pull_request(from, &org, c),
            Message::StateInfoSnapshot(_, infos) => self.on_snapshot(infos, c),
            Message::Block(_, block) => self.on_block(from, block, c),
            Message::BlockPull(_, pull) => self.on_pull(from, pull, c),
            Message::StateRequest {
                nonce, start, end, ..
            } => self.on_state_request(from, nonce, start, end, c),
            Message::StateResponse {
                nonce, payloads, ..
            } => self.on_state_response(from, nonce, payloads, c),
            Message::Leadership(_, leadership) => self.on_leadership(from, &leadership, c),
            _ => c.ctx.dropped(DropReason::NotHandled),
        }
    }

    /// The organisation of a peer that sent a message of this channel, if it is in the channel.
    fn admit(&self, from: &PkiId, ctx: &mut Context<'_>) -> Option<OrgId> {
        let Some(org) = ctx.org_of(from).cloned() else {
            ctx.dropped(DropReason::UnknownIdentity);
            return None;
        };
        if !self.orgs.contains(&org) {
            ctx.dropped(DropReason::ForeignOrg);
            return None;
        }
        Some(org)
    }

    /// Whether blocks are exchanged with a peer: of our organisation, known to be in the channel
    /// (Fabric: `eligibleForChannelAndSameOrg`).
    fn exchanges_blocks_with(
        &self,
        peer: &PkiId,
        identities: &IdentityStore,
        me: &LocalPeer,
    ) -> bool {
        self.standing == Standing::Member
            && identities.org(peer) == Some(me.org())
            && self.state_infos.present(peer).is_some()
    }

    /// Forgets what a peer said of its blocks, and what it was asked for.
    fn forget_claims(&mut self, peer: &PkiId) {
        self.blocks.forget(peer);
        self.tree.unlink(peer);
        self.initiator.forget(peer);
        self.requester.forget(peer);
        self.backoff.clear(peer);
        self.pull_backoff.clear(peer);
    }

    /// A peer is gone for good: its identity was purged or it left membership.
    fn forget(&mut self, peer: &PkiId) {
        self.state_infos.remove(peer);
        self.forget_claims(peer);
        if let Some(election) = &mut self.election {
            election.forget(peer);
        }
    }

    /// A peer cannot be reached now: what it was asked for is asked of others.
    fn unreachable(&mut self, peer: &PkiId, c: &mut ChannelContext<'_, '_, B>) {
        let pulling = self.initiator.is_open(peer);
        self.initiator.forget(peer);
        self.requester.forget(peer);
        self.tree.forget(peer, c.now());
        if pulling || self.gap.is_some() {
            self.backoff.failed(*peer, c.now());
            self.review_gap(c);
        }
        self.wake_election(c);
    }

    /// Does what is due.
    fn wake(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        self.blocks.sweep(c.now());
        self.wake_state_info(c);
        self.wake_tree(c);
        self.wake_pull(c);
        self.wake_gap(c);
        self.wake_election(c);
        if due(
            &mut self.timers.track_members,
            c.ctx.config.membership_tracker_interval,
            c.now(),
        ) {
            let by = c.now() + c.ctx.config.request_state_info_interval;
            self.state_infos.compare_alive(c.view.alive_count(), by);
            self.track_members(c);
        }
    }

    /// When [`Channel::wake`] has something to do.
    fn next_deadline(&self) -> Instant {
        let always = [
            self.state_infos.next_deadline(),
            self.initiator.next_deadline(),
            self.timers.track_members,
        ];
        let sometimes = [
            self.blocks.next_deadline(),
            self.requester.next_deadline(),
            self.tree.next_deadline(),
            self.gap.as_ref().map(Gap::next_attempt),
            self.election.as_ref().map(Election::next_deadline),
        ];
        always
            .into_iter()
            .chain(sometimes.into_iter().flatten())
            .fold(self.timers.check_state, Instant::min)
    }

    /// Reports who came and went since the last look (Fabric: `membershipTracker`).
    fn track_members(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let peers = self.peers(c.view).map(|(member, _)| member.pki_id());
        let now: BTreeSet<PkiId> = peers.collect();
        if now == self.tracked {
            return;
        }
        (c.out)(Action::Notice(Notice::MembershipChanged {
            channel: self.id.clone(),
            online: now.difference(&self.tracked).copied().collect(),
            offline: self.tracked.difference(&now).copied().collect(),
        }));
        self.tracked = now;
    }
}

/// The next multiple of `interval` since the start of the peer. What a channel does by itself alone is done by all
/// channels at once, since each time to wake up costs more than what is done.
fn aligned(interval: Duration, ctx: &Context<'_>) -> Instant {
    let running = ctx.now.saturating_duration_since(ctx.me.started);
    let into = running.as_nanos() % interval.as_nanos().max(1);
    ctx.now + interval - Duration::from_nanos(u64::try_from(into).unwrap_or_default())
}

/// Whether `timer` is due; if it is, it is set again.
fn due(timer: &mut Instant, interval: Duration, now: Instant) -> bool {
    let due = now >= *timer;
    if due {
        *timer = now + interval;
    }
    due
}
