//! Who gets what is pushed, decided when a batch leaves (Fabric: `gossipBatch`).
//!
//! | what | whom | how many |
//! | --- | --- | --- |
//! | block | members of our organisation in the channel that are not known to have it | `propagatePeerNum`; announced to those that use the tree |
//! | leadership | members of our organisation in the channel | all |
//! | StateInfo of an author with an external endpoint | organisations of the channel | `propagatePeerNum` |
//! | StateInfo otherwise, or of an unknown channel | our organisation | `propagatePeerNum` |
//! | alive of our organisation without external endpoint | our organisation | `propagatePeerNum` |
//! | alive of our organisation | everybody | `propagatePeerNum` |
//! | alive of another organisation | that one and ours, only peers with an external endpoint | `propagatePeerNum` |
//!
//! Never back to the sender or to the author. Secrets leave for our organisation only.
//!
//! Difference from Go: there the peers of a batch are drawn first and those that must not get a message are
//! struck off, so fewer are reached; here only those that may get it are drawn. And Go returns 7 to 13 % of
//! alive messages to their author.

use std::time::Instant;

use super::Gossip;
use crate::context::Context;
use crate::counters::DropReason;
use crate::emitter::{Emission, Route};
use crate::event::{Action, FrameKind, Payload};
use crate::membership::View;
use crate::types::PkiId;

impl<B: Payload> Gossip<B> {
    /// Sends what is due to be pushed.
    pub(super) fn push(&mut self, now: Instant, out: &mut dyn FnMut(Action<B>)) {
        for emission in self.emitter.take_due(&self.config, now) {
            let kind = match &emission.route {
                Route::Alive { author } => {
                    self.push_alive(*author, &emission, now, out);
                    continue;
                }
                Route::Block(..) => FrameKind::Block,
                Route::Leadership(_) => FrameKind::Leadership,
                Route::StateInfo { .. } => FrameKind::StateInfo,
            };
            let from = emission.received_from;
            let targets = self.with_channels(now, out, |channels, c| {
                channels.targets(&emission.route, from, c)
            });
            let Some(targets) = targets else {
                self.counters.dropped(DropReason::UnknownChannel);
                continue;
            };
            for to in targets {
                out(Action::Send {
                    to,
                    frame: emission.envelope.frame().clone(),
                    kind,
                });
            }
        }
    }

    fn push_alive(
        &mut self,
        author: PkiId,
        emission: &Emission,
        now: Instant,
        out: &mut dyn FnMut(Action<B>),
    ) {
        let (ctx, parts) = self.split(now);
        let view = parts.membership.view();
        let identities = ctx.identities;
        let my_org = ctx.me.org();
        let Some(author_org) = identities.org(&author) else {
            ctx.counters.dropped(DropReason::UnknownIdentity);
            return;
        };
        let published = has_external_endpoint(&author, &ctx, view);
        let chosen = view.select(ctx.config.propagate_peer_num, ctx.rng, |member| {
            let peer = member.pki_id();
            let Some(org) = identities.org(&peer) else {
                return false;
            };
            let permitted = if author_org == my_org {
                published || org == my_org
            } else {
                (org == my_org || org == author_org) && !member.external_endpoint().is_empty()
            };
            permitted && Some(peer) != emission.received_from && peer != author
        });
        let mut without_secret = None;
        for member in chosen {
            let envelope = if identities.org(&member.pki_id()) == Some(my_org) {
                &emission.envelope
            } else {
                without_secret.get_or_insert_with(|| emission.envelope.without_secret())
            };
            out(Action::Send {
                to: member.peer(),
                frame: envelope.frame().clone(),
                kind: FrameKind::Alive,
            });
        }
    }
}

/// Whether a peer, which may be ourselves, publishes an external endpoint.
fn has_external_endpoint(peer: &PkiId, ctx: &Context<'_>, view: &View) -> bool {
    if *peer == ctx.me.pki_id() {
        return !ctx.me.external_endpoint.is_empty();
    }
    view.get(peer)
        .is_some_and(|member| !member.external_endpoint().is_empty())
}
