//! Who is alive (Fabric: `gossip/discovery`).
//!
//! Every peer signs an alive message each `aliveTimeInterval` and pushes it; whoever hears of it passes it
//! on. Nothing heard of a peer for `aliveExpirationTimeout`, or a failed send: it is dead, until an alive
//! message with a later time resurrects it. The dead are pinged each `reconnectInterval` and forgotten
//! after `msgExpirationFactor` expirations, unless they are bootstrap or anchor peers. Each `pullInterval`
//! a few peers are asked whom they know (membership request and response), and so is each bootstrap and
//! anchor peer until it has answered once (`connect`).
//!
//! What other organisations get to know (Fabric: the disclosure policy): of us and of themselves, never of
//! third ones; of us only those peers that publish an external endpoint, and only if the asker does; never
//! a secret, that is the internal endpoint.
//!
//! Differences from Go, none visible on the wire except by what is left out:
//! - A membership request goes out with the secret only to a peer that is known to be of our organisation.
//!   Go sends it also to peers whose organisation it does not know (any more).
//! - A bootstrap or anchor endpoint that is being tried, or whose peer is alive, is not tried a second time
//!   for another channel.
//! - Bootstrap and anchor peers are tried again sooner; see `connect`.
//! - Each attempt carries a fresh alive message; Go repeats the first one.
//! - A peer of which nothing was heard for half of `aliveExpirationTimeout` is asked itself. And nobody is taken
//!   for dead at the first look after this peer itself has slept, on a paused host for instance.
//! - Without an external endpoint only members of the own organisation are asked for their membership; others
//!   end the stream of such an asker.
//! - When membership is full, the member that is dead for longest makes room; while all are alive new ones
//!   are refused and counted. Go has no bound.

mod answers;
mod connect;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config::{Config, Limits, Rules};
use crate::context::Context;
use crate::counters::DropReason;
use crate::emitter::{Emission, Route};
use crate::event::{Action, DialOutcome, DialPurpose, Notice};
use crate::extension;
use crate::message::{Alive, Verified, own_alive};
use crate::message_store::{MessageStore, Outcome};
use crate::occupancy::Tally;
use crate::types::{Endpoint, OrgId, Peer, PeerTime, PkiId};

use answers::{Pace, request_to};
use connect::Connects;
pub use view::{Member, View};

/// Silent peers that are asked for a sign of life at one check.
const MAX_ASKED: usize = 16;

/// The least time between two complaints that somebody else uses our identity.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// The membership state machine.
#[derive(Debug)]
pub struct Membership {
    view: View,
    /// When each peer made the newest message that is known of it, whichever way that came: what is older
    /// is a copy or a replay. Expires, and with it the peer.
    heard: MessageStore<PkiId, ()>,
    /// When each peer made the newest message that was passed on.
    passed_on: BTreeMap<PkiId, PeerTime>,
    sequence: u64,
    own: Option<Verified<Alive>>,
    connects: Connects,
    pace: Pace,
    /// Bootstrap and anchor endpoints: who listens there is never forgotten.
    kept: BTreeSet<Endpoint>,
    timers: Timers,
}

#[derive(Debug)]
struct Timers {
    send_alive: Instant,
    check_alive: Instant,
    sync: Instant,
    reconnect: Instant,
    /// When a complaint about somebody with our identity is due again. Wakes nobody.
    complain: Instant,
}

impl Membership {
    /// A membership of nobody. Bootstrap peers are tried at the first [`Self::wake`].
    pub fn new(ctx: &Context<'_>) -> Self {
        let config = ctx.config;
        let time_to_live = config
            .alive_expiration_timeout
            .saturating_mul(config.msg_expiration_factor.max(1));
        let mut membership = Self {
            view: View::default(),
            heard: MessageStore::expiring(config.limits.members.saturating_mul(2), time_to_live),
            passed_on: BTreeMap::new(),
            sequence: 0,
            own: None,
            connects: Connects::default(),
            pace: Pace::default(),
            kept: config.bootstrap.iter().cloned().collect(),
            timers: Timers {
                send_alive: ctx.now + config.alive_time_interval,
                check_alive: ctx.now + config.alive_expiration_check_interval,
                sync: ctx.now,
                reconnect: ctx.now + config.reconnect_interval,
                complain: ctx.now,
            },
        };
        for endpoint in &config.bootstrap {
            membership.connect(endpoint.clone(), ctx.me.org().clone(), ctx);
        }
        membership
    }

    /// Who is there.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How much there is; see [`occupancy`](crate::occupancy).
    pub(crate) fn occupancy(&self, config: &Config, tally: &mut Tally) {
        let Limits {
            members,
            identities,
            ..
        } = config.limits;
        tally.note("members", self.view.len(), members);
        let authors = members.saturating_mul(2);
        tally.note("authors of alive messages", self.heard.len(), authors);
        tally.note("alive messages passed on", self.passed_on.len(), authors);
        tally.note("membership askers", self.pace.len(), identities);
        let kept = self.kept.len();
        tally.note("endpoints that are tried", self.connects.len(), kept);
    }

    /// Sets the endpoints of anchor peers of all channels. Their peers are never forgotten; those that are no
    /// longer among them are not tried any more.
    pub fn keep(&mut self, anchors: impl Iterator<Item = Endpoint>, ctx: &Context<'_>) {
        self.kept = ctx
            .config
            .bootstrap
            .iter()
            .cloned()
            .chain(anchors)
            .collect();
        self.connects.retain(&self.kept);
    }

    /// Tries to reach the peer that listens at `endpoint` and is said to be of `org`, until it answers a
    /// membership request.
    pub fn connect(&mut self, endpoint: Endpoint, org: OrgId, ctx: &Context<'_>) {
        let foreign = org != *ctx.me.org();
        if is_own_endpoint(&endpoint, ctx) || (foreign && ctx.me.external_endpoint.is_empty()) {
            return;
        }
        let reached = self.view.alive().any(|member| {
            *member.external_endpoint() == endpoint || member.internal_endpoint() == Some(&endpoint)
        });
        if !reached {
            self.connects.start(endpoint, org, ctx.now);
        }
    }

    /// An alive message came by itself.
    pub fn handle_alive<B>(
        &mut self,
        from: PkiId,
        alive: Verified<Alive>,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        if self.is_own(&alive, ctx, out) {
            return;
        }
        let author = alive.pki_id;
        let known = self.heard.time_of(&author);
        let newer = known.is_none_or(|known| alive.time > known);
        // What came in a membership response first is still passed on when it comes by itself.
        let in_passing = known == Some(alive.time)
            && self.view.is_alive(&author)
            && self.passed_on.get(&author) != known.as_ref();
        if !newer && !in_passing {
            return ctx.dropped(DropReason::Duplicate);
        }
        let emission = Emission {
            route: Route::Alive {
                author,
                is_routine: self.view.is_alive(&author),
            },
            envelope: alive.envelope().clone(),
            received_from: Some(from),
        };
        let time = alive.time;
        if in_passing || self.learn_alive(alive, ctx, out) {
            self.passed_on.insert(author, time);
            ctx.emit(emission);
        }
    }

    /// A peer tells whom it knows, or passes on what it has heard ([`extension::PASSED_ON`]).
    pub fn handle_response<B>(
        &mut self,
        from: PkiId,
        nonce: u64,
        alive: Vec<Verified<Alive>>,
        dead: Vec<Verified<Alive>>,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        if nonce == extension::PASSED_ON {
            for message in alive {
                self.handle_alive(from, message, ctx, out);
            }
            return;
        }
        self.connects.acknowledged(nonce);
        for message in alive {
            if !self.is_own(&message, ctx, out) {
                self.learn_alive(message, ctx, out);
            }
        }
        for message in dead {
            let pki_id = message.pki_id;
            if pki_id == ctx.me.pki_id() || self.view.get(&pki_id).is_some() {
                ctx.dropped(DropReason::Duplicate);
            } else if self.is_news(&message, ctx, out) {
                self.view.put(message, false, ctx.now);
            }
        }
    }

    /// A dial of ours has ended.
    pub fn handle_dialed<B>(
        &mut self,
        endpoint: &Endpoint,
        purpose: &DialPurpose,
        outcome: &DialOutcome,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        match purpose {
            DialPurpose::Identify => {
                let ready = self.connects.identified(endpoint, outcome, ctx, out);
                if let Some((peer, org, nonce)) = ready {
                    self.ask(&peer, &org, nonce, ctx, out);
                }
            }
            DialPurpose::Ping(pki_id) => {
                let dead = self.view.get(pki_id).filter(|member| !member.is_alive());
                let Some(peer) = dead.map(Member::peer) else {
                    return;
                };
                if *outcome != DialOutcome::Failed
                    && let Some(org) = ctx.org_of(pki_id).cloned()
                {
                    self.ask(&peer, &org, 0, ctx, out);
                }
            }
        }
    }

    /// Dialling or sending to a peer failed: it is presumed dead. It had no stream then; if it has one now, it has
    /// made that since, and will say so.
    pub fn unreachable<B>(&mut self, pki_id: &PkiId, out: &mut dyn FnMut(Action<B>)) {
        if self.view.is_alive(pki_id) {
            self.bury(pki_id, "it cannot be reached", out);
        }
    }

    /// Forgets a peer whose identity is gone. Who listens at a kept endpoint by another identity is looked for
    /// there: nobody else may know of it.
    pub fn purge(&mut self, pki_id: &PkiId, ctx: &Context<'_>) {
        self.passed_on.remove(pki_id);
        self.connects.forget(pki_id, ctx);
        let Some(member) = self.view.remove(pki_id) else {
            return;
        };
        let org = member.message().author().org();
        let internal = member.internal_endpoint();
        for endpoint in internal.into_iter().chain([member.external_endpoint()]) {
            if self.kept.contains(endpoint) {
                self.connect(endpoint.clone(), org.clone(), ctx);
            }
        }
    }

    /// Does what is due.
    pub fn wake<B>(&mut self, ctx: &mut Context<'_>, out: &mut dyn FnMut(Action<B>)) {
        let config = ctx.config;
        let late = ctx.now.saturating_duration_since(self.timers.check_alive);
        if due(
            &mut self.timers.check_alive,
            config.alive_expiration_check_interval,
            ctx.now,
        ) {
            // After a sleep of this peer the others' signs of life lie where they have not been read yet.
            let slept = late > config.alive_expiration_check_interval;
            if !slept || config.rules == Rules::Fabric {
                self.bury_silent(ctx, out);
            }
            self.ask_silent(ctx, out);
        }
        if due(
            &mut self.timers.send_alive,
            config.alive_time_interval,
            ctx.now,
        ) {
            self.send_alive(ctx);
        }
        if due(&mut self.timers.sync, config.pull_interval, ctx.now) {
            self.sync(ctx, out);
        }
        if due(
            &mut self.timers.reconnect,
            config.reconnect_interval,
            ctx.now,
        ) {
            for member in self.view.dead() {
                let endpoint = member.preferred_endpoint().clone();
                if !endpoint.is_empty() {
                    let purpose = DialPurpose::Ping(member.pki_id());
                    out(Action::Dial { endpoint, purpose });
                }
            }
        }
        for (peer, org, nonce) in self.connects.wake(ctx, out) {
            self.ask(&peer, &org, nonce, ctx, out);
        }
        self.forget_expired(ctx.now, out);
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Instant {
        let timers = &self.timers;
        [
            timers.send_alive,
            timers.check_alive,
            timers.sync,
            timers.reconnect,
        ]
        .into_iter()
        .chain(self.connects.next_deadline())
        .chain(self.heard.next_deadline())
        .min()
        .unwrap_or(timers.send_alive)
    }

    /// Whether a message is our own; complains, not too often, if somebody else made it with our key.
    fn is_own<B>(
        &mut self,
        alive: &Verified<Alive>,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) -> bool {
        if alive.pki_id != ctx.me.pki_id() {
            return false;
        }
        // Others still repeat what this peer said before its last start, at other endpoints perhaps.
        let since_start = alive.time.incarnation >= ctx.me.incarnation;
        let internal_differs = alive
            .internal_endpoint
            .as_ref()
            .is_some_and(|endpoint| !endpoint.is_empty() && *endpoint != ctx.me.internal_endpoint);
        let differs = internal_differs || alive.endpoint != ctx.me.external_endpoint;
        if since_start && differs && due(&mut self.timers.complain, COMPLAINT_INTERVAL, ctx.now) {
            out(Action::Notice(Notice::SameIdentityElsewhere {
                endpoint: alive.endpoint.clone(),
            }));
        }
        ctx.dropped(DropReason::OwnMessage);
        true
    }

    /// Enters a peer, refreshes it, or resurrects it. `false`: nothing new, or no room.
    fn learn_alive<B>(
        &mut self,
        alive: Verified<Alive>,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) -> bool {
        if !self.is_news(&alive, ctx, out) {
            return false;
        }
        let pki_id = alive.pki_id;
        let was_alive = self.view.is_alive(&pki_id);
        self.view.put(alive, true, ctx.now);
        if !was_alive {
            out(Action::Notice(Notice::PeerAlive(pki_id)));
        }
        true
    }

    /// Whether a message is later than all that is known of its author, for whom there is room. Counts it
    /// otherwise.
    fn is_news<B>(
        &mut self,
        alive: &Verified<Alive>,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) -> bool {
        let pki_id = alive.pki_id;
        let member = self.view.get(&pki_id);
        let is_member = member.is_some();
        // A kept peer may be remembered for longer than its message is.
        let known = member.map(|member| member.message().time);
        if known.max(self.heard.time_of(&pki_id)) >= Some(alive.time) {
            ctx.dropped(DropReason::Duplicate);
            return false;
        }
        if !is_member && !self.make_room(ctx, out) {
            return false;
        }
        let outcome = self.heard.add(pki_id, alive.time, (), ctx.now);
        if outcome == Outcome::Full {
            ctx.dropped(DropReason::MembershipFull);
        }
        outcome == Outcome::Added
    }

    /// Makes room for one more member, by forgetting the one that is dead for longest.
    fn make_room<B>(&mut self, ctx: &mut Context<'_>, out: &mut dyn FnMut(Action<B>)) -> bool {
        if self.view.len() < ctx.config.limits.members {
            return true;
        }
        let oldest = self
            .view
            .dead()
            .min_by_key(|member| member.last_seen())
            .map(Member::pki_id);
        ctx.dropped(DropReason::MembershipFull);
        match oldest {
            Some(pki_id) => {
                self.view.remove(&pki_id);
                out(Action::Notice(Notice::PeerForgotten(pki_id)));
                true
            }
            None => false,
        }
    }

    fn bury<B>(&mut self, pki_id: &PkiId, reason: &'static str, out: &mut dyn FnMut(Action<B>)) {
        self.view.bury(pki_id);
        out(Action::Notice(Notice::PeerDead {
            peer: *pki_id,
            reason,
        }));
    }

    fn bury_silent<B>(&mut self, ctx: &Context<'_>, out: &mut dyn FnMut(Action<B>)) {
        let timeout = ctx.config.alive_expiration_timeout;
        let silent: Vec<PkiId> = self
            .view
            .alive()
            .filter(|member| ctx.now.saturating_duration_since(member.last_seen()) > timeout)
            .map(Member::pki_id)
            .collect();
        for peer in silent {
            let reason = "nothing was heard of it";
            self.bury(&peer, reason, out);
            out(Action::Disconnect { peer, reason });
        }
    }

    /// Asks those of whom little time is left for a sign of life, which a membership response is. Alive messages
    /// reach most peers, not all, and chance must not be taken for death.
    fn ask_silent<B>(&mut self, ctx: &mut Context<'_>, out: &mut dyn FnMut(Action<B>)) {
        if ctx.config.rules == Rules::Fabric {
            return;
        }
        let long = ctx.config.alive_expiration_timeout / 2;
        let silent = |member: &Member| {
            let silence = ctx.now.saturating_duration_since(member.last_seen());
            silence > long && !member.preferred_endpoint().is_empty()
        };
        let silent = self.view.select(MAX_ASKED, ctx.rng, silent);
        let peers = silent.into_iter().map(Member::peer).collect();
        self.request_from(peers, ctx, out);
    }

    fn forget_expired<B>(&mut self, now: Instant, out: &mut dyn FnMut(Action<B>)) {
        for (pki_id, ()) in self.heard.sweep(now) {
            self.passed_on.remove(&pki_id);
            let Some(member) = self.view.get(&pki_id) else {
                continue;
            };
            let kept = self.kept.contains(member.external_endpoint())
                || member
                    .internal_endpoint()
                    .is_some_and(|endpoint| self.kept.contains(endpoint));
            if !kept {
                self.view.remove(&pki_id);
                out(Action::Notice(Notice::PeerForgotten(pki_id)));
            }
        }
    }

    fn next_own(&mut self, ctx: &mut Context<'_>) -> Option<Verified<Alive>> {
        self.sequence += 1;
        let until = ctx.me.started + ctx.config.publish_cert_period;
        match own_alive(ctx.me, self.sequence, until, ctx.now, ctx.signer) {
            Ok(alive) => Some(alive),
            Err(error) => {
                tracing::error!(%error, "alive message not sent");
                ctx.dropped(DropReason::SignFailed);
                None
            }
        }
    }

    /// The last alive message that was pushed, or a first one.
    fn own_for_answers(&mut self, ctx: &mut Context<'_>) -> Option<Verified<Alive>> {
        match &self.own {
            Some(own) => Some(own.clone()),
            None => self.next_own(ctx),
        }
    }

    fn send_alive(&mut self, ctx: &mut Context<'_>) {
        if self.view.alive_count() == 0 {
            return;
        }
        let Some(own) = self.next_own(ctx) else {
            return;
        };
        ctx.emit(Emission {
            route: Route::Alive {
                author: own.pki_id,
                is_routine: self.own.is_some(),
            },
            envelope: own.envelope().clone(),
            received_from: None,
        });
        self.own = Some(own);
    }

    /// Asks a few peers whom they know (Fabric: `InitiateSync`).
    fn sync<B>(&mut self, ctx: &mut Context<'_>, out: &mut dyn FnMut(Action<B>)) {
        let peers: Vec<Peer> = self
            .view
            .select(ctx.config.pull_peer_num, ctx.rng, |_| true)
            .into_iter()
            .map(Member::peer)
            .collect();
        self.request_from(peers, ctx, out);
    }

    fn request_from<B>(
        &mut self,
        mut peers: Vec<Peer>,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        if ctx.me.external_endpoint.is_empty() {
            // Another organisation's peers must not answer such a one.
            peers.retain(|peer| ctx.in_my_org(&peer.pki_id));
        }
        if peers.is_empty() {
            return;
        }
        let Some(own) = self.next_own(ctx) else {
            return;
        };
        for peer in peers {
            let same_org = ctx.in_my_org(&peer.pki_id);
            out(request_to(peer, &own, same_org, 0));
        }
    }

    fn ask<B>(
        &mut self,
        peer: &Peer,
        org: &OrgId,
        nonce: u64,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        if let Some(own) = self.next_own(ctx) {
            out(request_to(peer.clone(), &own, org == ctx.me.org(), nonce));
        }
    }
}

/// Whether `endpoint` is where this peer itself listens (Fabric: `isMyOwnEndpoint`).
fn is_own_endpoint(endpoint: &Endpoint, ctx: &Context<'_>) -> bool {
    if *endpoint == ctx.me.internal_endpoint || *endpoint == ctx.me.external_endpoint {
        return true;
    }
    let port = |endpoint: &Endpoint| -> Option<String> {
        Some(endpoint.as_str().rsplit_once(':')?.1.to_owned())
    };
    let host = endpoint.as_str().rsplit_once(':').map(|(host, _)| host);
    matches!(host, Some("127.0.0.1" | "localhost"))
        && port(endpoint) == port(&ctx.me.internal_endpoint)
}

/// Whether the timer has run out; winds it up again if so.
fn due(timer: &mut Instant, interval: Duration, now: Instant) -> bool {
    if now < *timer {
        return false;
    }
    *timer = now + interval;
    true
}
