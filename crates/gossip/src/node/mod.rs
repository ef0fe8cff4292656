//! The gossip node: all state machines of a peer behind one interface.
//!
//! [`Gossip::handle`] takes what happened and says what to do; [`Gossip::next_deadline`] says when to come
//! back with [`Event::Wakeup`] if nothing happens before. Source: Fabric's `gossip/gossip/gossip_impl.go`.
//!
//! Messages are dispatched by their kind: membership messages to [`membership`](crate::membership),
//! identity pull to [`cert_pull`](crate::cert_pull), what belongs to a channel to
//! [`channel`](crate::channel), private data and acknowledgements to [`private_data`](crate::private_data). What is pushed passes through the [`emitter`](crate::emitter) and leaves at
//! the end of the event in which it is due (`push`).
//!
//! Who fetches blocks from an ordering node is decided by each channel's [`election`](crate::election), or
//! outside, by core.yaml's `orgLeader`; its blocks come in by [`Event::BlockFromOrderer`].

mod alive;
mod push;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cert_pull::CertPull;
use crate::channel::{ChannelContext, Channels};
use crate::config::{Config, ConfigError, Rules};
use crate::context::{Context, LocalPeer};
use crate::counters::{Counters, DropReason};
use crate::crypto::{Identity, Signer};
use crate::emitter::Emitter;
use crate::event::{Action, DialOutcome, Event, Payload};
use crate::extension;
use crate::identity::{IdentityStore, Learned};
use crate::membership::{Membership, View};
use crate::message::Message;
use crate::occupancy::{Occupancy, Tally};
use crate::private_data::PrivateData;
use crate::types::{Clock, PkiId};

/// What a node is made from.
pub struct Setup {
    /// The settings, shared by all nodes of a process that have the same.
    pub config: Arc<Config>,
    /// The identity of this peer.
    pub identity: Identity,
    /// Signs with its key.
    pub signer: Arc<dyn Signer>,
    /// Seeds the only source of randomness.
    pub seed: [u8; 32],
    /// The time of the start.
    pub now: Instant,
    /// The same in nanoseconds since 1970. It is the incarnation of all that this node signs, so it must be
    /// later than at any earlier start of this peer.
    pub unix_nanos: u64,
}

/// A gossip node. See the module's documentation.
pub struct Gossip<B: Payload> {
    config: Arc<Config>,
    clock: Clock,
    me: LocalPeer,
    signer: Arc<dyn Signer>,
    rng: StdRng,
    identities: IdentityStore,
    membership: Membership,
    cert_pull: CertPull,
    channels: Channels<B>,
    private_data: PrivateData,
    emitter: Emitter,
    counters: Counters,
}

/// The state machines, beside a [`Context`] that borrows the rest.
struct Parts<'a, B: Payload> {
    membership: &'a mut Membership,
    cert_pull: &'a mut CertPull,
    channels: &'a mut Channels<B>,
    private_data: &'a mut PrivateData,
}

impl<B: Payload> Gossip<B> {
    /// A node that knows nobody. It starts to act at its first [`Event::Wakeup`].
    pub fn new(setup: Setup) -> Result<Self, ConfigError> {
        let Setup {
            config,
            identity,
            signer,
            seed,
            now,
            unix_nanos,
        } = setup;
        config.check()?;
        let clock = Clock::new(now, unix_nanos);
        let me = LocalPeer {
            identity: identity.clone(),
            internal_endpoint: config.internal_endpoint.clone(),
            external_endpoint: config.external_endpoint.clone(),
            metadata: match config.rules {
                Rules::Selvedge => extension::metadata(),
                Rules::Fabric => Bytes::new(),
            },
            started: now,
            incarnation: unix_nanos,
        };
        let identities = IdentityStore::new(identity, config.limits.identities, now);
        let mut rng = StdRng::from_seed(seed);
        let mut emitter = Emitter::new();
        let mut counters = Counters::default();
        let mut ctx = Context {
            now,
            clock: &clock,
            config: &config,
            me: &me,
            signer: signer.as_ref(),
            rng: &mut rng,
            identities: &identities,
            emitter: &mut emitter,
            counters: &mut counters,
        };
        let membership = Membership::new(&ctx);
        let cert_pull = CertPull::new(&mut ctx);
        let channels = Channels::new(&config);
        Ok(Self {
            config,
            clock,
            me,
            signer,
            rng,
            identities,
            membership,
            cert_pull,
            channels,
            private_data: PrivateData::default(),
            emitter,
            counters,
        })
    }

    /// Takes an event and calls `out` with each action, in order.
    pub fn handle(&mut self, event: Event<B>, now: Instant, out: &mut impl FnMut(Action<B>)) {
        let out: &mut dyn FnMut(Action<B>) = out;
        match event {
            Event::Wakeup => self.wake(now, out),
            Event::Message { from, message } => self.dispatch(from, message, now, out),
            Event::Connected { identity, .. } => {
                self.learn(&identity, now, out);
            }
            Event::Disconnected(peer) => {
                self.with_channels(now, out, |channels, c| channels.disconnected(&peer, c.ctx));
            }
            Event::Unreachable(peer) => {
                self.membership.unreachable(&peer, out);
                self.with_channels(now, out, |channels, c| channels.unreachable(&peer, c));
                self.with_private_data(now, out, |private_data, channels, c| {
                    private_data.unreachable(&peer, channels, c);
                });
            }
            Event::IdentityChanged { old } => {
                let (ctx, parts) = self.split(now);
                parts.membership.purge(&old, &ctx);
                self.channels.forget(&old);
                self.with_private_data(now, out, |private_data, channels, c| {
                    private_data.unreachable(&old, channels, c);
                });
            }
            Event::Dialed {
                endpoint,
                purpose,
                outcome,
            } => {
                if let DialOutcome::Identified(identity) = &outcome {
                    self.learn(identity, now, out);
                }
                let (mut ctx, parts) = self.split(now);
                parts
                    .membership
                    .handle_dialed(&endpoint, &purpose, &outcome, &mut ctx, out);
            }
            Event::ChannelJoined(setup) => {
                self.with_channels(now, out, |channels, c| {
                    channels.join(setup, c);
                });
                self.reach_anchors(now);
            }
            Event::ChannelUpdated(setup) => {
                self.with_channels(now, out, |channels, c| channels.update(setup, c));
                self.reach_anchors(now);
            }
            Event::ChannelLeft(channel) => {
                self.with_channels(now, out, |channels, c| channels.leave(&channel, c));
                self.reach_anchors(now);
            }
            Event::Chaincodes(channel, chaincodes) => {
                self.with_channels(now, out, |channels, c| {
                    channels.set_chaincodes(&channel, chaincodes, c);
                })
            }
            Event::BlockFromOrderer { channel, block } => {
                self.with_channels(now, out, |channels, c| {
                    channels.on_ordered(&channel, block, c)
                });
            }
            Event::OrdererUnreachable(channel) => {
                self.with_channels(now, out, |channels, c| {
                    channels.on_orderer_unreachable(&channel, c);
                });
            }
            Event::BlockVerified {
                channel,
                block,
                arrived,
            } => self.with_channels(now, out, |channels, c| {
                channels.on_verified(&channel, block, arrived, c);
            }),
            Event::BlockRefused { channel, arrived } => {
                self.with_channels(now, out, |channels, c| {
                    channels.on_refused(&channel, &arrived, c);
                });
            }
            Event::Committed { channel, height } => {
                self.with_channels(now, out, |channels, c| {
                    channels.on_committed(&channel, height, c);
                });
            }
            Event::BlocksRead {
                channel,
                to,
                nonce,
                start,
                blocks,
            } => self.with_channels(now, out, |channels, c| {
                channels.on_blocks_read(&channel, to.pki_id, nonce, start, blocks, c);
            }),
            Event::Suspect(orgs) => {
                for identity in self.identities.suspect(orgs, now) {
                    out(Action::Revalidate(identity));
                }
            }
            Event::IdentityRevoked(peer) => {
                if self.identities.revoke(&peer, now) {
                    self.purge(&peer, now, out);
                }
            }
            Event::ReaderRefused { channel, peer } => {
                self.with_channels(now, out, |channels, c| channels.refuse(&channel, &peer, c));
            }
            Event::SendWithAck(send) => {
                self.with_private_data(now, out, |private_data, channels, c| {
                    private_data.send(send, channels, c);
                });
            }
            Event::FetchPrivateData(fetch) => {
                self.with_private_data(now, out, |private_data, channels, c| {
                    private_data.fetch(fetch, channels, c);
                });
            }
            Event::PrivateDataStored { to, nonce, stored } => {
                self.with_private_data(now, out, |private_data, _, c| {
                    private_data.on_stored(to, nonce, stored, c);
                });
            }
            Event::PrivateDataRead {
                channel,
                to,
                nonce,
                elements,
            } => self.with_private_data(now, out, |private_data, channels, c| {
                private_data.on_read(&channel, to, nonce, elements, channels, c);
            }),
        }
        self.push(now, out);
    }

    /// When [`Event::Wakeup`] is due. A wake-up too early does nothing.
    pub fn next_deadline(&self) -> Option<Instant> {
        [
            self.membership.next_deadline(),
            self.identities.next_deadline(),
            self.cert_pull.next_deadline(),
        ]
        .into_iter()
        .chain(self.private_data.next_deadline())
        .chain(self.emitter.next_deadline())
        .chain(self.channels.next_deadline())
        .min()
    }

    /// This peer.
    pub fn me(&self) -> &LocalPeer {
        &self.me
    }

    /// Who is there.
    pub fn members(&self) -> &View {
        self.membership.view()
    }

    /// The identities that are known.
    pub fn identities(&self) -> &IdentityStore {
        &self.identities
    }

    /// The channels that were joined.
    pub fn channels(&self) -> &Channels<B> {
        &self.channels
    }

    /// How much is held of all that other peers can make grow. Costs a look at each channel.
    pub fn occupancy(&self) -> Vec<Occupancy> {
        let (config, mut tally) = (self.config.as_ref(), Tally::default());
        let limits = &config.limits;
        tally.note("identities", self.identities.len(), limits.identities);
        let waiting = limits.emitter_queue.saturating_mul(2);
        tally.note("messages to be pushed", self.emitter.len(), waiting);
        self.membership.occupancy(config, &mut tally);
        self.cert_pull.occupancy(config, &mut tally);
        self.channels.occupancy(config, &mut tally);
        tally.0
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    #[cfg(test)]
    pub(crate) fn private_data_mut(&mut self) -> &mut PrivateData {
        &mut self.private_data
    }

    fn split(&mut self, now: Instant) -> (Context<'_>, Parts<'_, B>) {
        let ctx = Context {
            now,
            clock: &self.clock,
            config: &self.config,
            me: &self.me,
            signer: self.signer.as_ref(),
            rng: &mut self.rng,
            identities: &self.identities,
            emitter: &mut self.emitter,
            counters: &mut self.counters,
        };
        let parts = Parts {
            membership: &mut self.membership,
            cert_pull: &mut self.cert_pull,
            channels: &mut self.channels,
            private_data: &mut self.private_data,
        };
        (ctx, parts)
    }

    fn with_channels<T>(
        &mut self,
        now: Instant,
        out: &mut dyn FnMut(Action<B>),
        act: impl FnOnce(&mut Channels<B>, &mut ChannelContext<'_, '_, B>) -> T,
    ) -> T {
        let (mut ctx, parts) = self.split(now);
        let mut c = ChannelContext {
            ctx: &mut ctx,
            view: parts.membership.view(),
            out,
        };
        act(parts.channels, &mut c)
    }

    fn with_private_data(
        &mut self,
        now: Instant,
        out: &mut dyn FnMut(Action<B>),
        act: impl FnOnce(&mut PrivateData, &Channels<B>, &mut ChannelContext<'_, '_, B>),
    ) {
        let (mut ctx, parts) = self.split(now);
        let mut c = ChannelContext {
            ctx: &mut ctx,
            view: parts.membership.view(),
            out,
        };
        act(parts.private_data, parts.channels, &mut c);
    }

    /// Gives a message to the state machine that it is for.
    fn dispatch(
        &mut self,
        from: PkiId,
        mut message: Message,
        now: Instant,
        out: &mut dyn FnMut(Action<B>),
    ) {
        if self.identities.get(&from).is_none() {
            self.counters.dropped(DropReason::UnknownIdentity);
            return;
        }
        self.identities.touch(&from, now);
        if !self.learn_authors(&mut message, now, out) {
            return;
        }
        let (mut ctx, parts) = self.split(now);
        match message {
            Message::Alive(alive) => parts.membership.handle_alive(from, alive, &mut ctx, out),
            Message::MembershipRequest { nonce, asker } if asker.pki_id == from => {
                parts
                    .membership
                    .handle_request(nonce, *asker, &mut ctx, out);
            }
            Message::MembershipRequest { .. } => ctx.dropped(DropReason::AskerMismatch),
            Message::MembershipResponse { nonce, alive, dead } => {
                parts
                    .membership
                    .handle_response(from, nonce, alive, dead, &mut ctx, out);
            }
            Message::IdentityPull(pull) => {
                let view = parts.membership.view();
                let learned = parts.cert_pull.handle(from, pull, &mut ctx, view, out);
                for identity in learned {
                    let learned = self.learn(identity.author(), now, out);
                    if matches!(learned, Learned::Expired | Learned::Revoked) {
                        self.cert_pull.forget(&identity.pki_id);
                    }
                }
            }
            Message::Empty => {}
            message => {
                let left =
                    self.with_channels(now, out, |channels, c| channels.handle(from, message, c));
                if let Some(message) = left {
                    self.with_private_data(now, out, |private_data, channels, c| {
                        if private_data.handle(from, message, channels, c).is_some() {
                            c.ctx.dropped(DropReason::NotHandled);
                        }
                    });
                }
            }
        }
    }

    /// Learns the identities of a message's authors, which alive messages may bring. What is by authors that
    /// have been revoked, or have expired, since the message was verified is left out. `false`: that is all.
    fn learn_authors(
        &mut self,
        message: &mut Message,
        now: Instant,
        out: &mut dyn FnMut(Action<B>),
    ) -> bool {
        let mut is_known = |author: &Identity| self.learn(author, now, out).is_there();
        match message {
            Message::Alive(alive) => is_known(alive.author()),
            Message::MembershipRequest { asker, .. } => is_known(asker.author()),
            Message::StateInfo(info) => is_known(info.author()),
            Message::Leadership(_, leadership) => is_known(leadership.author()),
            Message::MembershipResponse { alive, dead, .. } => {
                alive.retain(|message| is_known(message.author()));
                dead.retain(|message| is_known(message.author()));
                true
            }
            Message::StateInfoSnapshot(_, infos) => {
                infos.retain(|info| is_known(info.author()));
                true
            }
            _ => true,
        }
    }

    /// Takes an identity that passed its check into the store.
    fn learn(
        &mut self,
        identity: &Identity,
        now: Instant,
        out: &mut dyn FnMut(Action<B>),
    ) -> Learned {
        let learned = self.identities.learn(identity, &self.clock, now);
        match learned {
            Learned::New => {
                out(Action::IdentityLearned(identity.clone()));
                if self.identities.is_suspect(identity, now) {
                    out(Action::Revalidate(identity.clone()));
                }
            }
            Learned::Known => {}
            Learned::Expired | Learned::Revoked => {
                self.counters.dropped(DropReason::UnknownIdentity);
            }
            Learned::Full => self.counters.dropped(DropReason::IdentitiesFull),
        }
        learned
    }

    /// Has nothing more to do with a peer whose identity has left the store (Fabric: the purge trigger of
    /// the identity mapper).
    fn purge(&mut self, peer: &PkiId, now: Instant, out: &mut dyn FnMut(Action<B>)) {
        let (ctx, parts) = self.split(now);
        parts.membership.purge(peer, &ctx);
        self.cert_pull.forget(peer);
        self.channels.forget(peer);
        self.with_private_data(now, out, |private_data, channels, c| {
            private_data.unreachable(peer, channels, c);
        });
        out(Action::IdentityPurged(*peer));
        out(Action::Disconnect {
            peer: *peer,
            reason: "its identity is no longer valid or in use",
        });
    }

    /// Gets in touch with the anchor peers of all channels.
    fn reach_anchors(&mut self, now: Instant) {
        let (ctx, parts) = self.split(now);
        let anchors = parts.channels.anchor_peers();
        parts
            .membership
            .keep(anchors.map(|(endpoint, _)| endpoint.clone()), &ctx);
        for (endpoint, org) in parts.channels.anchor_peers() {
            parts
                .membership
                .connect(endpoint.clone(), org.clone(), &ctx);
        }
    }

    fn wake(&mut self, now: Instant, out: &mut dyn FnMut(Action<B>)) {
        let view = self.membership.view();
        let gone = self.identities.sweep(now, |peer| view.get(peer).is_some());
        for peer in gone {
            self.purge(&peer, now, out);
        }
        let (mut ctx, parts) = self.split(now);
        parts.membership.wake(&mut ctx, out);
        parts.cert_pull.wake(&mut ctx, parts.membership.view(), out);
        let mut c = ChannelContext {
            ctx: &mut ctx,
            view: parts.membership.view(),
            out,
        };
        parts.channels.wake(&mut c);
        parts.private_data.wake(parts.channels, &mut c);
    }
}
