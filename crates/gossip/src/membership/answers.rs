//! Membership requests and responses: who is told what about whom.
//!
//! Difference from Go: a peer is answered at most [`MAX_ANSWERS`] times within a second. Go answers each
//! request, and a response is many times as large as the request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{Envelope as WireEnvelope, MembershipRequest, MembershipResponse};

use super::Membership;
use crate::context::Context;
use crate::counters::DropReason;
use crate::event::{Action, FrameKind};
use crate::message::{Alive, Envelope, Verified, gossip_message};
use crate::types::{OrgId, Peer, PkiId};

/// Answers for one peer within [`WINDOW`]. An honest one asks every few seconds, and once more for each
/// channel in which we are an anchor peer.
const MAX_ANSWERS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// How often each peer was answered lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Start of the window, and answers within it.
    answered: BTreeMap<PkiId, (Instant, u32)>,
}

impl Pace {
    pub(super) fn len(&self) -> usize {
        self.answered.len()
    }

    fn admits(&mut self, asker: PkiId, now: Instant) -> bool {
        self.answered
            .retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
        let (_, count) = self.answered.entry(asker).or_insert((now, 0));
        *count += 1;
        *count <= MAX_ANSWERS
    }
}

impl Membership {
    /// A peer asks whom we know. `asker` was made by the peer at the other end; the node has checked that.
    pub fn handle_request<B>(
        &mut self,
        nonce: u64,
        asker: Verified<Alive>,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        if asker.pki_id == ctx.me.pki_id() {
            return ctx.dropped(DropReason::OwnMessage);
        }
        if !self.pace.admits(asker.pki_id, ctx.now) {
            return ctx.dropped(DropReason::TooOften);
        }
        let to = Peer {
            pki_id: asker.pki_id,
            endpoint: match &asker.internal_endpoint {
                Some(endpoint) if !endpoint.is_empty() => endpoint.clone(),
                _ => asker.endpoint.clone(),
            },
        };
        let asker_endpoint = asker.endpoint.clone();
        let asker_org = asker.author().org().clone();
        self.learn_alive(asker, ctx, out);
        let Some(own) = self.own_for_answers(ctx) else {
            return;
        };
        let disclosure = Disclosure {
            to_org: &asker_org,
            to_has_endpoint: !asker_endpoint.is_empty(),
            my_org: ctx.me.org(),
        };
        if !disclosure.permits(&own) {
            out(Action::Disconnect {
                peer: to.pki_id,
                reason: "it must not know of us, yet asked for our membership",
            });
            ctx.dropped(DropReason::NotEligible);
            return;
        }
        let disclosed = |message: &Verified<Alive>| -> Option<WireEnvelope> {
            disclosure
                .permits(message)
                .then(|| disclosure.envelope(message).proto().clone())
        };
        let mut alive: Vec<WireEnvelope> = self
            .view
            .alive()
            .filter_map(|member| disclosed(member.message()))
            .collect();
        alive.extend(disclosed(&own));
        let dead = self
            .view
            .dead()
            .filter_map(|member| disclosed(member.message()))
            .collect();
        let content = Content::MemRes(MembershipResponse { alive, dead });
        let response = Envelope::unsigned(&gossip_message(Tag::Empty, None, nonce, content));
        out(Action::Send {
            to,
            frame: response.frame().clone(),
            kind: FrameKind::MembershipResponse,
            channel: None,
        });
    }
}

/// A membership request; its secret goes to our own organisation only.
pub(super) fn request_to<B>(
    to: Peer,
    own: &Verified<Alive>,
    same_org: bool,
    nonce: u64,
) -> Action<B> {
    let own = if same_org {
        own.envelope().clone()
    } else {
        own.envelope().without_secret()
    };
    let content = Content::MemReq(MembershipRequest {
        self_information: Some(own.proto().clone()),
        known: Vec::new(),
    });
    let request = Envelope::unsigned(&gossip_message(Tag::Empty, None, nonce, content));
    Action::Send {
        to,
        frame: request.frame().clone(),
        kind: FrameKind::MembershipRequest,
        channel: None,
    }
}

/// What a peer may know of others.
struct Disclosure<'a> {
    to_org: &'a OrgId,
    to_has_endpoint: bool,
    my_org: &'a OrgId,
}

impl Disclosure<'_> {
    fn permits(&self, message: &Verified<Alive>) -> bool {
        let org = message.author().org();
        if org == self.to_org {
            return true;
        }
        org == self.my_org && !message.endpoint.is_empty() && self.to_has_endpoint
    }

    fn envelope(&self, message: &Verified<Alive>) -> Envelope {
        if self.to_org == self.my_org {
            message.envelope().clone()
        } else {
            message.envelope().without_secret()
        }
    }
}
