//! StateInfo: what each peer of a channel says of itself, above all the height of its ledger.
//!
//! Our own is signed and published on a tick when something changed, at once when chaincodes changed or
//! the channel is left. Those of others come by push and as snapshots, which are requested from random
//! peers of the channel's organisations. A peer without StateInfo is not in the channel as far as
//! blocks are concerned.
//!
//! A snapshot is large where there are many peers, and mostly known. So requests slow down ([`Pace`]) while
//! snapshots come, none tells of a peer that was not known to be in the channel, and nobody comes or goes; and at
//! the slowest pace one peer is asked instead of `pullPeerNum`, by turns one that is known to be in the channel.
//!
//! Two more differences from Go. Whoever is new in a channel gets the StateInfo of a few that learn so by its own,
//! at once: where few of many peers are in a channel, its requests would take long to meet them. And of one author
//! not more than eight messages are passed on in a `publishStateInfoInterval`, in which an honest one makes one or
//! two.
//!
//! StateInfo names no channel: it carries a MAC of channel name and author, so that only who knows the
//! name can tell. Messages are forgotten with their author's membership.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::Rng as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{Chaincode, StateInfoPullRequest, StateInfoSnapshot};

use super::pace::Pace;
use super::{Channel, ChannelContext, Standing, aligned, due};
use crate::config::{Config, Rules};
use crate::context::Context;
use crate::counters::DropReason;
use crate::emitter::{Emission, Route};
use crate::event::{Action, FrameKind, Payload};
use crate::membership::Member;
use crate::message::{self, StateInfo, Verified, gossip_message};
use crate::message_store::{MessageStore, Outcome};
use crate::types::{OrgId, PkiId};

/// How many peers of a channel, on average, send their StateInfo to one that is new in it.
const WELCOMES: usize = 4;

/// Messages of one author that are passed on in a `publishStateInfoInterval`, about.
const RELAYS: u32 = 8;

/// Between two snapshots for one asker.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(250);

/// The StateInfo messages of a channel, our own included.
#[derive(Debug)]
pub(super) struct StateInfos {
    store: MessageStore<PkiId, Verified<StateInfo>>,
    /// How far each peer that has not left has the chain: what its StateInfo says, or later blocks that it has
    /// shown since.
    claims: BTreeMap<PkiId, u64>,
    /// The same by height.
    by_claim: BTreeSet<(u64, PkiId)>,
    own: Own,
    /// When a message of whom was last passed on.
    relayed: BTreeMap<PkiId, Instant>,
    /// When a snapshot was last sent to whom.
    answered: BTreeMap<PkiId, Instant>,
    publish_at: Instant,
    request_at: Instant,
    request_pace: Pace,
    /// Whether a snapshot came since the last request.
    heard: bool,
    /// Whether it told of somebody new.
    learned: bool,
    /// Living members at the last request.
    alive: usize,
    sweep_at: Instant,
}

#[derive(Debug)]
struct Own {
    height: u64,
    chaincodes: Vec<Chaincode>,
    left: bool,
    changed: bool,
}

impl StateInfos {
    pub(super) fn new(height: u64, ctx: &Context<'_>) -> Self {
        let config = ctx.config;
        Self {
            store: MessageStore::new(config.limits.members.saturating_add(1)),
            claims: BTreeMap::new(),
            by_claim: BTreeSet::new(),
            own: Own {
                height,
                chaincodes: Vec::new(),
                left: false,
                changed: true,
            },
            relayed: BTreeMap::new(),
            answered: BTreeMap::new(),
            publish_at: ctx.now + config.publish_state_info_interval,
            request_at: ctx.now + config.request_state_info_interval,
            request_pace: Pace::new(),
            heard: false,
            learned: false,
            alive: 0,
            sweep_at: aligned(config.pull_interval.saturating_mul(5), ctx),
        }
    }

    /// The StateInfo of a peer that has not left.
    pub(super) fn present(&self, peer: &PkiId) -> Option<&StateInfo> {
        self.store
            .get(peer)
            .map(|info| &**info)
            .filter(|info| !info.left_channel)
    }

    /// How many messages there are, our own included.
    pub(super) fn len(&self) -> usize {
        self.store.len()
    }

    /// Of how many peers a height is known.
    pub(super) fn claimed(&self) -> usize {
        self.claims.len().max(self.by_claim.len())
    }

    /// How many peers have had a snapshot since the last sweep.
    pub(super) fn answered(&self) -> usize {
        self.answered.len()
    }

    /// Whether a peer is known to have left the channel.
    pub(super) fn has_left(&self, peer: &PkiId) -> bool {
        self.store.get(peer).is_some_and(|info| info.left_channel)
    }

    /// Peers by how far they have the chain, the furthest first.
    pub(super) fn by_height(&self) -> impl Iterator<Item = (u64, PkiId)> + '_ {
        self.by_claim.iter().rev().copied()
    }

    /// A peer has pushed or announced a block, so it has those before it. True if that is news.
    pub(super) fn shown(&mut self, peer: PkiId, number: u64) -> bool {
        let known = self.claims.get(&peer).copied();
        let is_news = known.is_some_and(|height| height < number);
        if is_news {
            self.set_claim(peer, Some(number));
        }
        is_news
    }

    /// A peer did not deliver blocks from `number` on. True if its StateInfo says that it has them; if later
    /// blocks alone have shown that, they may not be in its ledger yet, and count no more.
    pub(super) fn retract(&mut self, peer: PkiId, number: u64) -> bool {
        let height = self.present(&peer).map(|info| info.ledger_height);
        self.set_claim(peer, height);
        height.is_some_and(|height| height > number)
    }

    fn set_claim(&mut self, peer: PkiId, height: Option<u64>) {
        let before = match height {
            Some(height) => {
                self.by_claim.insert((height, peer));
                self.claims.insert(peer, height)
            }
            None => self.claims.remove(&peer),
        };
        if let Some(before) = before.filter(|before| Some(*before) != height) {
            self.by_claim.remove(&(before, peer));
        }
    }

    pub(super) fn set_height(&mut self, height: u64) {
        self.own.changed |= height != self.own.height;
        self.own.height = height;
    }

    pub(super) fn leave(&mut self) {
        self.own.left = true;
    }

    /// Others have forgotten our StateInfo: it is published on the next tick.
    pub(super) fn announce(&mut self) {
        self.own.changed = true;
    }

    pub(super) fn rejoin(&mut self) {
        self.own.left = false;
    }

    pub(super) fn remove(&mut self, peer: &PkiId) {
        self.store.remove(peer);
        self.set_claim(*peer, None);
        self.relayed.remove(peer);
        self.answered.remove(peer);
    }

    /// Forgets the peers of all other organisations and returns them.
    pub(super) fn retain_orgs(&mut self, orgs: &BTreeSet<OrgId>) -> Vec<PkiId> {
        self.remove_where(|info| !orgs.contains(info.author().org()))
    }

    fn remove_where(&mut self, unwanted: impl Fn(&Verified<StateInfo>) -> bool) -> Vec<PkiId> {
        let infos = self.store.iter();
        let gone: Vec<PkiId> = infos
            .filter(|(_, info)| unwanted(info))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in &gone {
            self.remove(peer);
        }
        gone
    }

    fn add(&mut self, info: Verified<StateInfo>, now: Instant) -> Outcome {
        let peer = info.pki_id;
        let height = (!info.left_channel).then_some(info.ledger_height);
        let outcome = self.store.add(peer, info.time, info, now);
        if outcome == Outcome::Added {
            self.set_claim(peer, height);
        }
        outcome
    }

    /// In how many intervals the next request is due.
    fn pace_requests(&mut self, alive: usize, rules: Rules) -> u32 {
        let nothing_new = self.heard && !self.learned && alive == self.alive;
        (self.heard, self.learned, self.alive) = (false, false, alive);
        self.request_pace
            .next(nothing_new && !self.claims.is_empty(), rules)
    }

    /// Asks again `by` then, and at full pace.
    pub(super) fn hasten(&mut self, by: Instant) {
        self.request_pace.quicken();
        self.request_at = self.request_at.min(by);
    }

    /// Whether a message that `author` has just published may be passed on.
    fn may_relay(&mut self, author: PkiId, config: &Config, now: Instant) -> bool {
        let pause = config.publish_state_info_interval / RELAYS;
        let last = self.relayed.get(&author);
        let may = config.rules == Rules::Fabric || last.is_none_or(|last| now >= *last + pause);
        if may {
            self.relayed.insert(author, now);
        }
        may
    }

    /// Looks whether somebody came or went since the last request; if so, the next one is due `by` then.
    pub(super) fn compare_alive(&mut self, alive: usize, by: Instant) {
        if alive != self.alive {
            self.hasten(by);
        }
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let publish = self.own.changed.then_some(self.publish_at);
        publish
            .into_iter()
            .fold(self.request_at.min(self.sweep_at), Instant::min)
    }
}

impl<B: Payload> Channel<B> {
    /// A StateInfo message with this channel's MAC was pushed to us.
    pub(super) fn on_state_info(
        &mut self,
        from: PkiId,
        info: Verified<StateInfo>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let (author, has_left) = (info.pki_id, info.left_channel);
        let envelope = info.envelope().clone();
        let is_new = self.state_infos.store.get(&author).is_none();
        if !self.keep_state_info(info, c.ctx) {
            return;
        }
        let now = c.now();
        if self.state_infos.may_relay(author, c.ctx.config, now) {
            c.ctx.emit(Emission {
                route: Route::StateInfo {
                    channel: Some(self.id.clone()),
                    author,
                },
                envelope,
                received_from: Some(from),
            });
        } else {
            c.ctx.dropped(DropReason::TooOften);
        }
        if is_new && !has_left {
            self.welcome(author, c);
        }
        self.review_gap(c);
    }

    /// Sends our StateInfo to one that is new in the channel, if by lot we are among the few that do.
    fn welcome(&self, peer: PkiId, c: &mut ChannelContext<'_, '_, B>) {
        let me = c.ctx.me;
        let may_know = c.ctx.in_my_org(&peer) || !me.external_endpoint.is_empty();
        let others = self.state_infos.claims.len().max(1);
        let chosen = c.ctx.rng.random_range(0..others) < WELCOMES;
        let own = self.state_infos.store.get(&me.pki_id());
        if let Some(own) = own
            && (may_know && chosen && c.view.is_alive(&peer))
            && c.ctx.config.rules == Rules::Selvedge
        {
            let to = c.peer(peer);
            (c.out)(Action::Send {
                to,
                frame: own.envelope().frame().clone(),
                kind: FrameKind::StateInfo,
                channel: Some(self.id.clone()),
            });
        }
    }

    /// A snapshot came, pushed or requested.
    pub(super) fn on_snapshot(
        &mut self,
        infos: Vec<Verified<StateInfo>>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.state_infos.heard = true;
        for info in infos {
            if info.channel_mac != self.id.mac(&info.pki_id) {
                c.ctx.dropped(DropReason::UnknownChannel);
            } else if info.pki_id == c.ctx.me.pki_id() {
                c.ctx.dropped(DropReason::OwnMessage);
            } else if c.view.get(&info.pki_id).is_some() {
                let is_new = self.state_infos.store.get(&info.pki_id).is_none();
                let kept = self.keep_state_info(info, c.ctx);
                self.state_infos.learned |= kept && is_new;
            } else {
                // Of somebody who has left membership meanwhile, or is not in it yet.
                c.ctx.dropped(DropReason::UnknownIdentity);
            }
        }
        self.review_gap(c);
    }

    /// Has those of whom we have a StateInfo message held against the configuration that is in force now
    /// (Fabric: `stateInfoCache.validate`).
    pub(super) fn recheck_readers(&self, c: &mut ChannelContext<'_, '_, B>) {
        let me = c.ctx.me.pki_id();
        let authors = self.state_infos.store.iter().map(|(_, info)| info.author());
        let peers: Vec<_> = authors.filter(|it| it.pki_id() != me).cloned().collect();
        if !peers.is_empty() {
            (c.out)(Action::RecheckReaders {
                channel: self.id.clone(),
                peers,
            });
        }
    }

    /// Keeps a StateInfo message if its author may be in the channel and it is news.
    fn keep_state_info(&mut self, info: Verified<StateInfo>, ctx: &mut Context<'_>) -> bool {
        if info.pki_id == ctx.me.pki_id() {
            ctx.dropped(DropReason::OwnMessage);
            return false;
        }
        if !self.orgs.contains(info.author().org()) {
            ctx.dropped(DropReason::ForeignOrg);
            return false;
        }
        match self.state_infos.add(info, ctx.now) {
            Outcome::Added => {
                self.tree.may_join(ctx.now);
                true
            }
            Outcome::Stale => {
                ctx.dropped(DropReason::Duplicate);
                false
            }
            Outcome::Full => {
                ctx.dropped(DropReason::ChannelFull);
                false
            }
        }
    }

    /// Somebody asks whose StateInfo we know; its MAC was found to be this channel's.
    pub(super) fn on_state_info_pull_request(
        &mut self,
        from: PkiId,
        org: &OrgId,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let now = c.now();
        let last = self.state_infos.answered.get(&from);
        if last.is_some_and(|last| now < *last + SNAPSHOT_PAUSE) {
            return c.ctx.dropped(DropReason::TooOften);
        }
        self.state_infos.answered.insert(from, now);
        let elements = self.snapshot_for(org, c);
        let content = Content::StateSnapshot(StateInfoSnapshot { elements });
        let message = gossip_message(Tag::ChanOrOrg, Some(&self.id), 0, content);
        c.send(from, &message, FrameKind::StateInfoSnapshot);
    }

    /// All StateInfo messages; for another organisation without those of our own peers that have no
    /// external endpoint (Fabric: `createStateInfoSnapshot`).
    ///
    /// The surest come first. A Go peer stops reading at the first author whose identity it does not know
    /// (Fabric: `handleStateInfSnapshot`), which a peer of a third organisation may be to it for good.
    fn snapshot_for(
        &self,
        org: &OrgId,
        c: &ChannelContext<'_, '_, B>,
    ) -> Vec<selvedge_protos::gossip::Envelope> {
        let me = c.ctx.me;
        let disclosed = |info: &Verified<StateInfo>| {
            if org == me.org() || info.author().org() != me.org() {
                true
            } else if info.pki_id == me.pki_id() {
                !me.external_endpoint.is_empty()
            } else {
                let member = c.view.get(&info.pki_id);
                member.is_some_and(|member| !member.external_endpoint().is_empty())
            }
        };
        let doubt = |info: &&Verified<StateInfo>| {
            let author = info.author();
            let sure = [
                author.pki_id() == me.pki_id(),
                author.org() == me.org(),
                author.org() == org,
            ];
            sure.map(|sure| !sure)
        };
        let infos = self.state_infos.store.iter().map(|(_, info)| info);
        let mut infos: Vec<_> = infos.filter(|info| disclosed(info)).collect();
        infos.sort_by_key(doubt);
        infos
            .into_iter()
            .map(|info| info.envelope().proto().clone())
            .collect()
    }

    /// The chaincodes that this peer can execute; published at once.
    pub(super) fn set_chaincodes(
        &mut self,
        chaincodes: Vec<Chaincode>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.state_infos.own.chaincodes = chaincodes;
        self.publish(c);
    }

    /// Signs our StateInfo and pushes it.
    pub(super) fn publish(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let own = &self.state_infos.own;
        let info = message::own_state_info(
            c.ctx.me,
            &self.id,
            c.ctx.clock.unix_nanos(c.now()),
            own.height,
            own.left,
            own.chaincodes.clone(),
            c.ctx.signer,
        );
        let info = match info {
            Ok(info) => info,
            Err(error) => {
                tracing::error!(channel = %self.id, %error, "StateInfo not published");
                c.ctx.dropped(DropReason::SignFailed);
                return;
            }
        };
        self.state_infos.own.changed = false;
        let envelope = info.envelope().clone();
        let author = info.pki_id;
        let now = c.now();
        self.state_infos.store.add(author, info.time, info, now);
        c.ctx.emit(Emission {
            route: Route::StateInfo {
                channel: Some(self.id.clone()),
                author,
            },
            envelope,
            received_from: None,
        });
    }

    pub(super) fn wake_state_info(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let config = c.ctx.config;
        let now = c.now();
        let infos = &mut self.state_infos;
        let publish = due(
            &mut infos.publish_at,
            config.publish_state_info_interval,
            now,
        );
        let request = now >= infos.request_at;
        if request {
            let intervals = infos.pace_requests(c.view.alive_count(), config.rules);
            infos.request_at = now + config.request_state_info_interval * intervals;
        }
        let sweep = due(
            &mut infos.sweep_at,
            config.pull_interval.saturating_mul(5),
            now,
        );
        if publish && infos.own.changed && c.view.alive_count() > 0 {
            self.publish(c);
        }
        if request && self.standing == Standing::Member {
            self.request_state_infos(c);
        }
        if sweep {
            self.sweep_state_infos(c);
        }
    }

    fn request_state_infos(&self, c: &mut ChannelContext<'_, '_, B>) {
        let identities = c.ctx.identities;
        let slowest = self.state_infos.request_pace.is_slowest();
        let known_ones = slowest && c.ctx.rng.random_bool(0.5);
        let in_channel = |member: &Member| {
            let peer = member.pki_id();
            let org = identities.org(&peer);
            org.is_some_and(|org| self.orgs.contains(org))
                && (!known_ones || self.state_infos.present(&peer).is_some())
        };
        let count = match slowest {
            true => 1,
            false => c.ctx.config.pull_peer_num,
        };
        let chosen: Vec<PkiId> = c
            .view
            .select(count, c.ctx.rng, in_channel)
            .into_iter()
            .map(Member::pki_id)
            .collect();
        let mac = self.id.mac(&c.ctx.me.pki_id());
        let content = Content::StateInfoPullReq(StateInfoPullRequest {
            channel_mac: mac.to_vec().into(),
        });
        let message = gossip_message(Tag::ChanOrOrg, None, 0, content);
        for peer in chosen {
            c.send(peer, &message, FrameKind::StateInfoPullRequest);
        }
    }

    /// Forgets the peers that have left membership.
    fn sweep_state_infos(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let me = c.ctx.me.pki_id();
        let gone = self
            .state_infos
            .remove_where(|info| info.pki_id != me && c.view.get(&info.pki_id).is_none());
        for peer in gone {
            self.forget_claims(&peer);
        }
        let now = c.now();
        self.state_infos
            .answered
            .retain(|_, last| now < *last + SNAPSHOT_PAUSE);
    }
}
