//! Anti-entropy of identities: each peer pulls from random others the identities that it lacks.
//!
//! What is exchanged are `PeerIdentity` messages, signed by their owners, named by PKI-ID. Identities that
//! came another way (in a handshake, in an alive message) are known, but cannot be handed on, since their
//! owner's signature is missing; so they are pulled all the same, as in Fabric.
//!
//! A peer of our organisation may have all identities. One of another organisation gets those of its own
//! and of ours, and of these only living or dead members with an external endpoint.
//!
//! Source of the rules: Fabric gossip/gossip/certstore and `sameOrgOrOurOrgPullFilter`.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use selvedge_protos::gossip;

use crate::config::Config;
use crate::context::Context;
use crate::counters::DropReason;
use crate::event::{Action, FrameKind};
use crate::membership::{Member, View};
use crate::message::{self, Envelope, PeerIdentity, Pull, PullKind, PullStep, Verified};
use crate::occupancy::Tally;
use crate::pull::{Initiator, NONCES_OF_A_PEER, Request, Responder, Timing, encode};
use crate::types::{Endpoint, OrgId, Peer, PkiId};

/// An update is cut before it grows beyond this. Go peers accept 100 MiB.
const MAX_UPDATE_BYTES: usize = 64 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub struct CertPull {
    identities: BTreeMap<PkiId, Verified<PeerIdentity>>,
    initiator: Initiator<PkiId>,
    responder: Responder,
}

impl CertPull {
    /// Has our own identity to offer.
    pub fn new(ctx: &mut Context<'_>) -> Self {
        let timing = Timing::of(ctx.config);
        let exchanges = ctx.config.pull_peer_num.saturating_mul(2).max(4);
        let mut identities = BTreeMap::new();
        match message::own_peer_identity(ctx.me, ctx.signer) {
            Ok(own) => {
                identities.insert(own.pki_id, own);
            }
            Err(error) => {
                tracing::error!(%error, "other peers cannot pull this peer's identity");
                ctx.dropped(DropReason::SignFailed);
            }
        }
        Self {
            identities,
            initiator: Initiator::new(timing, exchanges, ctx.now),
            responder: Responder::new(&timing),
        }
    }

    /// An identity pull message came. Returns the identities that it brought.
    pub fn handle<B>(
        &mut self,
        from: PkiId,
        pull: Pull<Verified<PeerIdentity>>,
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) -> Vec<Verified<PeerIdentity>> {
        let Pull { nonce, step } = pull;
        let outcome = match step {
            PullStep::Hello => self.on_hello(from, nonce, ctx, view, out),
            PullStep::Digest(digests) => self.on_digest(from, nonce, &digests, ctx, view, out),
            PullStep::Request(digests) => self.on_request(from, nonce, &digests, ctx, view, out),
            PullStep::Update(identities) => self.on_update(from, nonce, identities, ctx),
        };
        outcome.unwrap_or_else(|reason| {
            ctx.dropped(reason);
            Vec::new()
        })
    }

    /// The identity of a peer must not be handed out any more.
    pub fn forget(&mut self, peer: &PkiId) {
        self.identities.remove(peer);
        self.initiator.forget(peer);
    }

    /// Does what is due.
    pub fn wake<B>(&mut self, ctx: &mut Context<'_>, view: &View, out: &mut dyn FnMut(Action<B>)) {
        let requests = self.initiator.on_wakeup(ctx.now, ctx.rng);
        send_requests(requests, view, out);
        if self.initiator.round_due(ctx.now) {
            let chosen = view.select(ctx.config.pull_peer_num, ctx.rng, |_| true);
            for peer in chosen.into_iter().map(Member::pki_id) {
                if let Some(nonce) = self.initiator.hello(peer, ctx.now, ctx.rng) {
                    send(peer, nonce, PullStep::Hello, view, out);
                }
            }
        }
    }

    /// When [`CertPull::wake`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.initiator.next_deadline()
    }

    /// How many identities can be handed on.
    pub fn len(&self) -> usize {
        self.identities.len()
    }

    /// How much there is; see [`occupancy`](crate::occupancy).
    pub(crate) fn occupancy(&self, config: &Config, tally: &mut Tally) {
        let peers = config.limits.identities;
        tally.note("signed identities", self.len(), peers);
        let most = self.initiator.max_exchanges();
        tally.note("identity pulls", self.initiator.open_exchanges(), most);
        tally.note("pulled identities", self.initiator.awaited(), peers);
        let most = NONCES_OF_A_PEER.saturating_mul(peers);
        tally.note("identity pull nonces", self.responder.nonces(), most);
    }

    /// Whether there is none, not even our own.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    fn on_hello<B>(
        &mut self,
        from: PkiId,
        nonce: u64,
        ctx: &Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) -> Result<Vec<Verified<PeerIdentity>>, DropReason> {
        let org = ctx.org_of(&from).ok_or(DropReason::UnknownIdentity)?;
        self.responder.on_hello(from, nonce, ctx.now)?;
        let digests: Vec<Bytes> = self
            .identities
            .values()
            .filter(|identity| may_have(org, identity, ctx, view))
            .map(|identity| Bytes::copy_from_slice(identity.pki_id.as_bytes()))
            .collect();
        if !digests.is_empty() {
            send(from, nonce, PullStep::Digest(digests), view, out);
        }
        Ok(Vec::new())
    }

    fn on_digest<B>(
        &mut self,
        from: PkiId,
        nonce: u64,
        digests: &[Bytes],
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) -> Result<Vec<Verified<PeerIdentity>>, DropReason> {
        self.initiator.expects_digest(&from, nonce, ctx.now)?;
        let room = ctx
            .config
            .limits
            .identities
            .saturating_sub(self.identities.len());
        let ids = pki_ids(digests, ctx);
        let lacking = ids
            .into_iter()
            .filter(|id| !self.identities.contains_key(id));
        let wanted: Vec<PkiId> = lacking.take(room).collect();
        let requests = self
            .initiator
            .on_digest(from, nonce, wanted, ctx.now, ctx.rng)?;
        send_requests(requests, view, out);
        Ok(Vec::new())
    }

    fn on_request<B>(
        &mut self,
        from: PkiId,
        nonce: u64,
        digests: &[Bytes],
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) -> Result<Vec<Verified<PeerIdentity>>, DropReason> {
        let org = ctx.org_of(&from).cloned();
        let org = org.ok_or(DropReason::UnknownIdentity)?;
        self.responder.on_request(from, nonce, ctx.now)?;
        let mut bytes = 0usize;
        let data: Vec<gossip::Envelope> = pki_ids(digests, ctx)
            .iter()
            .filter_map(|id| self.identities.get(id))
            .filter(|identity| may_have(&org, identity, ctx, view))
            .map(|identity| identity.envelope())
            .take_while(|envelope| {
                bytes = bytes.saturating_add(envelope.frame().len());
                bytes <= MAX_UPDATE_BYTES
            })
            .map(|envelope| envelope.proto().clone())
            .collect();
        if !data.is_empty() {
            send(from, nonce, PullStep::Update(data), view, out);
        }
        Ok(Vec::new())
    }

    fn on_update(
        &mut self,
        from: PkiId,
        nonce: u64,
        identities: Vec<Verified<PeerIdentity>>,
        ctx: &mut Context<'_>,
    ) -> Result<Vec<Verified<PeerIdentity>>, DropReason> {
        let ids = identities.iter().map(|identity| identity.pki_id);
        let asked_for = self.initiator.on_update(from, nonce, ids, ctx.now)?;
        let mut learned = Vec::new();
        for identity in identities {
            let id = identity.pki_id;
            if !asked_for.contains(&id) {
                ctx.dropped(DropReason::Unsolicited);
            } else if self.identities.contains_key(&id) {
                ctx.dropped(DropReason::Duplicate);
            } else if self.identities.len() >= ctx.config.limits.identities {
                ctx.dropped(DropReason::IdentitiesFull);
            } else {
                self.initiator.satisfied(&id, ctx.now);
                self.identities.insert(id, identity.clone());
                learned.push(identity);
            }
        }
        Ok(learned)
    }
}

/// Whether a peer of `org` may have an identity.
fn may_have(
    org: &OrgId,
    identity: &Verified<PeerIdentity>,
    ctx: &Context<'_>,
    view: &View,
) -> bool {
    let (owner, mine) = (identity.author().org(), ctx.me.org());
    if org == mine {
        return true;
    }
    let has_external_endpoint = if identity.pki_id == ctx.me.pki_id() {
        !ctx.me.external_endpoint.is_empty()
    } else {
        let member = view.get(&identity.pki_id);
        member.is_some_and(|member| !member.external_endpoint().is_empty())
    };
    has_external_endpoint && (owner == mine || owner == org)
}

fn pki_ids(digests: &[Bytes], ctx: &mut Context<'_>) -> Vec<PkiId> {
    let mut ids = Vec::with_capacity(digests.len());
    for digest in digests {
        match PkiId::from_slice(digest) {
            Some(id) => ids.push(id),
            None => ctx.dropped(DropReason::Unsolicited),
        }
    }
    ids
}

fn send_requests<B>(requests: Vec<Request<PkiId>>, view: &View, out: &mut dyn FnMut(Action<B>)) {
    for request in requests {
        let ids = request.items.iter();
        let digests = ids
            .map(|id| Bytes::copy_from_slice(id.as_bytes()))
            .collect();
        send(
            request.to,
            request.nonce,
            PullStep::Request(digests),
            view,
            out,
        );
    }
}

fn send<B>(
    to: PkiId,
    nonce: u64,
    step: PullStep<gossip::Envelope>,
    view: &View,
    out: &mut dyn FnMut(Action<B>),
) {
    let (message, kind): (_, FrameKind) = encode(&PullKind::Identities, nonce, step);
    let endpoint = view.get(&to).map_or_else(
        || Endpoint::from(""),
        |member| member.preferred_endpoint().clone(),
    );
    let to = Peer {
        pki_id: to,
        endpoint,
    };
    let frame = Envelope::unsigned(&message).frame().clone();
    out(Action::Send {
        to,
        frame,
        kind,
        channel: None,
    });
}

#[cfg(test)]
mod tests;
