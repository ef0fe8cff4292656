//! Who gets alive messages.
//!
//! | of whom | whom |
//! | --- | --- |
//! | our organisation, without external endpoint | our organisation |
//! | our organisation | everybody |
//! | another organisation | that one and ours, only peers with an external endpoint |
//!
//! `propagatePeerNum` of them, never the sender or the author. Secrets leave for our organisation only.
//!
//! All messages of a batch that the same peers may have go to the same few, and to those that understand it
//! in one frame each ([`extension::passed_on`]).
//!
//! Difference from Go: it returns 7 to 13 % of alive messages to their author.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Gossip;
use crate::config::Rules;
use crate::context::Context;
use crate::counters::DropReason;
use crate::emitter::Emission;
use crate::event::{Action, FrameKind, Payload};
use crate::extension;
use crate::membership::{Member, View};
use crate::message::Envelope;
use crate::types::{OrgId, PkiId};

/// Larger ones are sent message by message, bytes. An alive message has a few hundred, 64 thousand with its
/// author's identity at worst.
const MAX_BUNDLE: usize = 1 << 20;

impl<B: Payload> Gossip<B> {
    /// Sends alive messages, each beside its author.
    pub(super) fn push_alive(
        &mut self,
        batch: &[(PkiId, Emission)],
        now: Instant,
        out: &mut dyn FnMut(Action<B>),
    ) {
        let (ctx, parts) = self.split(now);
        let view = parts.membership.view();
        let (identities, my_org) = (ctx.identities, ctx.me.org());
        let count = ctx.config.propagate_peer_num;
        let mut drawn: BTreeMap<Audience<'_>, Vec<&Member>> = BTreeMap::new();
        let mut bundles: BTreeMap<PkiId, (&Member, Vec<Envelope>)> = BTreeMap::new();
        for (author, emission) in batch {
            let Some(org) = identities.org(author) else {
                ctx.counters.dropped(DropReason::UnknownIdentity);
                continue;
            };
            let audience = Audience {
                org,
                published: has_external_endpoint(author, &ctx, view),
            };
            if ctx.config.rules == Rules::Fabric {
                drawn.clear();
            }
            let members = drawn.entry(audience).or_insert_with(|| {
                // Two more, since sender and author may be among them.
                view.select(count.saturating_add(2), ctx.rng, |member| {
                    let org = identities.org(&member.pki_id());
                    org.is_some_and(|org| audience.includes(member, org, my_org))
                })
            });
            let mut without_secret = None;
            let others = members.iter().map(|member| (member.pki_id(), *member));
            let others =
                others.filter(|(peer, _)| Some(*peer) != emission.received_from && peer != author);
            for (peer, member) in others.take(count) {
                let envelope = if identities.org(&peer) == Some(my_org) {
                    &emission.envelope
                } else {
                    without_secret.get_or_insert_with(|| emission.envelope.without_secret())
                };
                let (_, bundle) = bundles.entry(peer).or_insert((member, Vec::new()));
                bundle.push(envelope.clone());
            }
        }
        for (member, bundle) in bundles.into_values() {
            send_alive(member, bundle, out);
        }
    }
}

/// To a peer that understands it, several alive messages go in one frame.
fn send_alive<B>(member: &Member, bundle: Vec<Envelope>, out: &mut dyn FnMut(Action<B>)) {
    let mut send = |frame: &Envelope, kind| {
        out(Action::Send {
            to: member.peer(),
            frame: frame.frame().clone(),
            kind,
            channel: None,
        });
    };
    let size = |envelopes: &[Envelope]| envelopes.iter().map(|it| it.frame().len()).sum::<usize>();
    if bundle.len() > 1 && size(&bundle) <= MAX_BUNDLE && member.speaks_extension() {
        let alive = bundle.iter().map(|it| it.proto().clone()).collect();
        send(&extension::passed_on(alive), FrameKind::AliveBundle);
    } else {
        for envelope in &bundle {
            send(envelope, FrameKind::Alive);
        }
    }
}

/// Who may know of the members of an organisation that publish an external endpoint, or do not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Audience<'a> {
    org: &'a OrgId,
    published: bool,
}

impl Audience<'_> {
    fn includes(&self, member: &Member, org: &OrgId, my_org: &OrgId) -> bool {
        if self.org == my_org {
            self.published || org == my_org
        } else {
            (org == my_org || org == self.org) && !member.external_endpoint().is_empty()
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

#[cfg(test)]
mod tests {
    use selvedge_protos::gossip::GossipMessage;

    use super::*;
    use crate::message;
    use crate::testing::{Trusting, local_peer, start};

    /// An envelope whose frame has so many bytes, some thousand at least.
    fn envelope(frame: usize) -> Envelope {
        let with = |padding: usize| {
            Envelope::unsigned(&GossipMessage {
                channel: vec![b'x'; padding].into(),
                ..GossipMessage::default()
            })
        };
        let overhead = with(frame).frame().len() - frame;
        let envelope = with(frame - overhead);
        assert_eq!(envelope.frame().len(), frame);
        envelope
    }

    /// What goes to a peer that has to be sent frames of these sizes.
    fn sent(sizes: &[usize], speaks_extension: bool) -> Vec<FrameKind> {
        let now = start();
        let mut peer = local_peer("Org1MSP", "peer", true, now);
        if speaks_extension {
            peer.metadata = extension::metadata();
        }
        let mut view = View::default();
        let alive = message::own_alive(&peer, 1, now, now, &Trusting).unwrap();
        view.enter(alive, now);
        let member = view.get(&peer.pki_id()).unwrap();
        let bundle = sizes.iter().map(|size| envelope(*size)).collect();
        let (mut kinds, mut bytes) = (Vec::new(), 0);
        let mut out = |action: Action<()>| match action {
            Action::Send { frame, kind, .. } => {
                kinds.push(kind);
                bytes += frame.len();
            }
            other => panic!("{other:?}"),
        };
        send_alive(member, bundle, &mut out);
        assert!(bytes >= sizes.iter().sum::<usize>(), "nothing is left out");
        kinds
    }

    #[test]
    fn several_go_in_one_frame_to_whom_understands_it() {
        assert_eq!(sent(&[5000; 3], true), [FrameKind::AliveBundle]);
        assert_eq!(sent(&[5000; 3], false), [FrameKind::Alive; 3]);
        assert_eq!(sent(&[5000], true), [FrameKind::Alive]);
    }

    #[test]
    fn a_bundle_beyond_its_limit_is_sent_message_by_message() {
        let half = MAX_BUNDLE / 2;
        assert_eq!(sent(&[half, half], true), [FrameKind::AliveBundle]);
        assert_eq!(sent(&[half, half + 1], true), [FrameKind::Alive; 2]);
    }
}
