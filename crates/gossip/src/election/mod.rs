//! Who of an organisation fetches a channel's blocks from the ordering service (Fabric: `gossip/election`).
//!
//! A peer that knows of no leader sends a proposal to all peers of its organisation in the channel and
//! waits for `leaderElectionDuration`. If meanwhile nobody declared itself and nobody with a lower PKI-ID
//! proposed itself, it leads: it declares that at once and then every half `leaderAliveThreshold`. A
//! follower that hears no declaration for `leaderAliveThreshold` proposes itself. Of two leaders, as after a
//! partition, the one with the higher PKI-ID steps down at the other's declaration; otherwise a sitting
//! leader stays, whoever comes. Before its first proposal a peer waits until the membership is the same
//! in two looks, `membershipSampleInterval` apart, at most for `startupGracePeriod`. A leader that cannot
//! reach the ordering service gives way and proposes itself no more until somebody else has declared itself
//! or six thresholds have passed.
//!
//! When the channel's configuration no longer contains the organisation, its peers no longer talk about the
//! channel, so that each leads for itself: only the ordering service can tell them that they are back. They
//! agree on one again when it has.
//!
//! Leadership messages are signed, go from their author to each peer of the organisation in the channel,
//! and are not passed on. They carry the start of the election at this peer and a number that counts from 1.
//!
//! ```text
//! Settling ---> Proposing ---> Leading ---> Following (gives way, or somebody lower leads)
//!     |          ^    |                         |
//!     |          |    +--> Following <----------+
//!     +----------+---------- nobody declares itself in time
//! ```
//!
//! # Differences from Fabric, on purpose
//!
//! All are compatible with Go peers in the same organisation; a dispute ends as they expect, with the lower
//! PKI-ID.
//!
//! - **A leader that is known to be dead, or to have left the channel, is not waited for.** Go looks at
//!   declarations only, and in windows of `leaderAliveThreshold`, so that up to two of them pass.
//! - **A leader answers a proposal** with a declaration, as Go does to a declaration of somebody else. Who
//!   proposes does not know of it yet. It does so at most twice a second.
//! - **Declarations are believed before the author's StateInfo is known.** In Go those are dropped, so that a
//!   peer that starts may declare itself beside the leader. For the same end a proposal of the first moments
//!   (`startupGracePeriod`) is repeated for those who were not there to hear it.
//! - **A message that comes from somebody else than its author** is dropped. Nobody passes them on, and so
//!   nobody can replay them.
//! - **A leader gives way only if somebody else of its organisation is in the channel.** Otherwise the channel
//!   would have no leader for a minute.
//! - **A leader also gives way when it lags**: when for `leaderAliveThreshold` it got new blocks from other
//!   peers and none from the ordering service. These blocks are verified, so nobody can make that up.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::counters::DropReason;
use crate::emitter::{Emission, Route};
use crate::event::{Action, Notice};
use crate::message::{Leadership, Verified, own_leadership};
use crate::message_store::{MessageStore, Outcome};
use crate::types::{ChannelId, PeerTime, PkiId};

/// Between two declarations that answer others.
const ANSWER_PAUSE: Duration = Duration::from_millis(500);

/// Who gives way does not propose itself for this many `leaderAliveThreshold`s (Fabric: `Yield`).
const YIELD_THRESHOLDS: u32 = 6;

/// Leadership messages are remembered for this many `leaderAliveThreshold`s (Fabric:
/// `MsgExpirationTimeout`).
const EXPIRATION_THRESHOLDS: u32 = 10;

/// The other peers of our organisation, as the channel knows them.
pub trait Colleagues {
    /// Those that are alive and known to be in the channel.
    fn in_channel(&self) -> BTreeSet<PkiId>;
    /// How many are alive, whether or not they are in the channel.
    fn alive_count(&self) -> usize;
    /// Whether a peer is known to be dead or to have left the channel. One that was never heard of is not.
    fn is_gone(&self, peer: &PkiId) -> bool;
}

/// The election of one channel's leader, as this peer takes part in it.
#[derive(Debug)]
pub struct Election {
    channel: ChannelId,
    alive_threshold: Duration,
    /// Of the last message of ours.
    time: PeerTime,
    phase: Phase,
    /// Who last declared itself.
    leader: Option<PkiId>,
    /// Peers with lower PKI-IDs that proposed themselves since the last declaration.
    candidates: BTreeSet<PkiId>,
    heard: MessageStore<PkiId, ()>,
    /// Until then the membership may still be growing.
    grace_ends: Instant,
    /// This peer has given way and does not propose itself until then.
    yields_until: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    /// The membership may not be complete yet.
    Settling {
        next_look: Instant,
        seen: (usize, usize),
    },
    /// Somebody else leads, or is expected to.
    Following {
        until: Instant,
        /// It was said to be gone when it last declared itself, so that says nothing.
        doubtful: bool,
    },
    /// This peer has proposed itself.
    Proposing {
        until: Instant,
        /// To whom.
        audience: BTreeSet<PkiId>,
    },
    /// This peer leads.
    Leading {
        declared: Instant,
        declare_at: Instant,
        /// Since when blocks come from other peers and none from the ordering service.
        lags_since: Option<Instant>,
    },
}

impl Election {
    /// An election that begins now, in a channel whose leader is not known.
    pub fn new(channel: ChannelId, peers: &dyn Colleagues, ctx: &Context<'_>) -> Self {
        let config = &ctx.config.election;
        Self {
            channel,
            alive_threshold: config.leader_alive_threshold,
            time: PeerTime {
                incarnation: ctx.clock.unix_nanos(ctx.now),
                sequence: 0,
            },
            phase: Phase::Settling {
                next_look: ctx.now + config.membership_sample_interval,
                seen: size(peers),
            },
            leader: None,
            candidates: BTreeSet::new(),
            heard: MessageStore::expiring(
                ctx.config.limits.members,
                config
                    .leader_alive_threshold
                    .saturating_mul(EXPIRATION_THRESHOLDS),
            ),
            grace_ends: ctx.now + config.startup_grace_period,
            yields_until: None,
        }
    }

    /// Who leads, as far as this peer knows; may be itself.
    pub fn leader(&self) -> Option<PkiId> {
        self.leader
    }

    /// How many peers with lower PKI-IDs have proposed themselves.
    pub fn candidates(&self) -> usize {
        self.candidates.len()
    }

    /// Of how many peers a leadership message is remembered.
    pub fn heard(&self) -> usize {
        self.heard.len()
    }

    /// Whether this peer leads.
    pub fn leads(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// A leadership message came from the peer `from`.
    pub fn handle<B>(
        &mut self,
        from: PkiId,
        message: &Verified<Leadership>,
        peers: &dyn Colleagues,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        let author = message.pki_id;
        if author == ctx.me.pki_id() {
            return ctx.dropped(DropReason::OwnMessage);
        }
        if author != from {
            return ctx.dropped(DropReason::NotFromAuthor);
        }
        if !ctx.in_my_org(&author) {
            return ctx.dropped(DropReason::ForeignOrg);
        }
        match self.heard.add(author, message.time, (), ctx.now) {
            Outcome::Added if message.is_declaration => {
                self.on_declaration(author, peers, ctx, out);
            }
            Outcome::Added => self.on_proposal(author, ctx),
            Outcome::Stale => ctx.dropped(DropReason::Duplicate),
            Outcome::Full => ctx.dropped(DropReason::ChannelFull),
        }
    }

    fn on_declaration<B>(
        &mut self,
        author: PkiId,
        peers: &dyn Colleagues,
        ctx: &Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        if self.leads() {
            if author > ctx.me.pki_id() {
                return self.answer();
            }
            self.step_down("another peer leads that has a lower PKI-ID", out);
        }
        self.candidates.clear();
        self.yields_until = None;
        self.set_leader(Some(author), out);
        self.phase = Phase::Following {
            until: ctx.now + self.alive_threshold,
            doubtful: peers.is_gone(&author),
        };
    }

    fn on_proposal(&mut self, author: PkiId, ctx: &Context<'_>) {
        if self.leads() {
            self.answer();
        } else if author < ctx.me.pki_id() {
            self.candidates.insert(author);
        }
    }

    /// A leader lets somebody know that it leads.
    fn answer(&mut self) {
        if let Phase::Leading {
            declared,
            declare_at,
            ..
        } = &mut self.phase
        {
            *declare_at = (*declare_at).min(*declared + ANSWER_PAUSE);
        }
    }

    /// A leader that cannot reach the ordering service gives way, if there is somebody else.
    pub fn give_way<B>(
        &mut self,
        reason: &'static str,
        peers: &dyn Colleagues,
        ctx: &Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        if !self.leads() || peers.in_channel().is_empty() {
            return;
        }
        self.step_down(reason, out);
        self.candidates.clear();
        let until = ctx.now + self.alive_threshold.saturating_mul(YIELD_THRESHOLDS);
        self.yields_until = Some(until);
        self.wait_until(until);
    }

    /// A block came from the ordering service.
    pub fn block_from_orderer(&mut self) {
        if let Phase::Leading { lags_since, .. } = &mut self.phase {
            *lags_since = None;
        }
    }

    /// A block came from another peer, verified, before the ordering service sent it.
    pub fn block_from_peer(&mut self, now: Instant) {
        if let Phase::Leading { lags_since, .. } = &mut self.phase {
            lags_since.get_or_insert(now);
        }
    }

    /// A peer is gone for good: if it is waited for, that has an end at the next [`Self::wake`].
    pub fn forget(&mut self, peer: &PkiId) {
        self.candidates.remove(peer);
        self.leader.take_if(|leader| leader == peer);
    }

    /// This peer takes part no more.
    pub fn stop<B>(&mut self, out: &mut dyn FnMut(Action<B>)) {
        if self.leads() {
            self.step_down("this peer leaves the channel", out);
        }
    }

    /// Does what is due.
    pub fn wake<B>(
        &mut self,
        peers: &dyn Colleagues,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        self.heard.sweep(ctx.now);
        let due = self.deadline() <= ctx.now;
        if !due && !self.awaits_the_gone(peers) {
            return;
        }
        match &mut self.phase {
            Phase::Settling { next_look, seen } => {
                let now_seen = size(peers);
                let settled = *seen == now_seen || self.grace_ends <= ctx.now;
                *next_look = ctx.now + ctx.config.election.membership_sample_interval;
                *seen = now_seen;
                if settled {
                    self.propose(peers, ctx);
                }
            }
            Phase::Following { .. } => {
                if self.leader.is_none() {
                    // The candidates that were waited for have not declared themselves.
                    self.candidates.clear();
                }
                self.set_leader(None, out);
                self.propose(peers, ctx);
            }
            Phase::Proposing { audience, .. } => {
                let somebody_came = !peers.in_channel().is_subset(audience);
                if somebody_came && ctx.now < self.grace_ends {
                    self.propose(peers, ctx);
                } else {
                    self.decide(peers, ctx, out);
                }
            }
            Phase::Leading {
                declare_at,
                lags_since,
                ..
            } => {
                let declare = *declare_at <= ctx.now;
                let lags = lags_since.is_some_and(|since| since + self.alive_threshold <= ctx.now);
                if lags {
                    *lags_since = None;
                    self.give_way("blocks reach it from other peers only", peers, ctx, out);
                }
                if declare && self.leads() {
                    self.declare(ctx);
                }
            }
        }
    }

    /// When [`Self::wake`] has something to do; it also has when a peer is gone that is waited for.
    pub fn next_deadline(&self) -> Instant {
        let deadline = self.deadline();
        let sweep = self.heard.next_deadline();
        sweep.map_or(deadline, |sweep| sweep.min(deadline))
    }

    fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Settling { next_look, .. } => (*next_look).min(self.grace_ends),
            Phase::Following { until, .. } | Phase::Proposing { until, .. } => *until,
            Phase::Leading {
                declare_at,
                lags_since,
                ..
            } => lags_since.map_or(*declare_at, |since| {
                (*declare_at).min(since + self.alive_threshold)
            }),
        }
    }

    /// Whether this peer waits for a leader, or for candidates that are better, all of whom are gone.
    pub fn awaits_the_gone(&mut self, peers: &dyn Colleagues) -> bool {
        let Phase::Following { doubtful, .. } = &mut self.phase else {
            return false;
        };
        match &self.leader {
            Some(leader) if peers.is_gone(leader) => !*doubtful,
            Some(_) => {
                *doubtful = false;
                false
            }
            None => {
                self.candidates.retain(|peer| !peers.is_gone(peer));
                self.candidates.is_empty() && self.yields_until.is_none()
            }
        }
    }

    fn propose(&mut self, peers: &dyn Colleagues, ctx: &mut Context<'_>) {
        match self.yields_until {
            Some(until) if ctx.now < until => return self.wait_until(until),
            _ => self.yields_until = None,
        }
        self.send(false, ctx);
        self.phase = Phase::Proposing {
            until: ctx.now + ctx.config.election.leader_election_duration,
            audience: peers.in_channel(),
        };
    }

    /// The time for proposals is over.
    fn decide<B>(
        &mut self,
        peers: &dyn Colleagues,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        self.candidates.retain(|peer| !peers.is_gone(peer));
        if self.candidates.is_empty() {
            self.set_leader(Some(ctx.me.pki_id()), out);
            out(Action::LeadershipChanged {
                channel: self.channel.clone(),
                leads: true,
            });
            self.declare(ctx);
        } else {
            self.wait_until(ctx.now + self.alive_threshold);
        }
    }

    /// Waits for somebody to declare itself.
    fn wait_until(&mut self, until: Instant) {
        self.phase = Phase::Following {
            until,
            doubtful: false,
        };
    }

    fn declare(&mut self, ctx: &mut Context<'_>) {
        let lags_since = match self.phase {
            Phase::Leading { lags_since, .. } => lags_since,
            _ => None,
        };
        self.send(true, ctx);
        let pause = self.alive_threshold / 2;
        self.phase = Phase::Leading {
            declared: ctx.now,
            declare_at: ctx.now + pause.max(Duration::from_millis(1)),
            lags_since,
        };
    }

    fn send(&mut self, is_declaration: bool, ctx: &mut Context<'_>) {
        self.time.sequence += 1;
        let message = own_leadership(ctx.me, &self.channel, self.time, is_declaration, ctx.signer);
        match message {
            Ok(message) => ctx.emit(Emission {
                route: Route::Leadership(self.channel.clone()),
                envelope: message.envelope().clone(),
                received_from: None,
            }),
            Err(error) => {
                tracing::error!(channel = %self.channel, %error, "leadership message not sent");
                ctx.dropped(DropReason::SignFailed);
            }
        }
    }

    fn step_down<B>(&mut self, reason: &'static str, out: &mut dyn FnMut(Action<B>)) {
        tracing::info!(channel = %self.channel, reason, "this peer leads no longer");
        self.set_leader(None, out);
        out(Action::LeadershipChanged {
            channel: self.channel.clone(),
            leads: false,
        });
    }

    fn set_leader<B>(&mut self, leader: Option<PkiId>, out: &mut dyn FnMut(Action<B>)) {
        if self.leader != leader {
            self.leader = leader;
            out(Action::Notice(Notice::LeaderChanged {
                channel: self.channel.clone(),
                leader,
            }));
        }
    }
}

/// What must stay the same for a membership to be settled.
fn size(peers: &dyn Colleagues) -> (usize, usize) {
    (peers.alive_count(), peers.in_channel().len())
}
