//! Pushes that are to be acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use selvedge_protos::gossip::gossip_message::{Content, Tag};

use super::{AckFailure, SendError, SendWithAck};
use crate::channel::{ChannelContext, Channels};
use crate::counters::DropReason;
use crate::event::{Action, FrameKind, Payload};
use crate::message::{Envelope, gossip_message};
use crate::types::{OrgId, Peer, PkiId};

/// Pushes under way. An endorser has one for each collection of each transaction that it endorses at a time.
const MAX_PUSHES: usize = 10_000;

/// Of what a peer says when it refuses, at most so much is kept.
const MAX_REASON: usize = 500;

/// Pushes under way, by nonce.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    under_way: BTreeMap<u64, Push>,
}

#[derive(Debug)]
struct Push {
    id: u64,
    min_acks: usize,
    waiting: BTreeSet<PkiId>,
    acknowledged: usize,
    failures: Vec<(PkiId, AckFailure)>,
    /// The result is out; what still comes is only counted.
    reported: bool,
    until: Instant,
}

impl Pushes {
    /// Sends a message and waits for acknowledgements.
    pub(super) fn start<B: Payload>(
        &mut self,
        send: SendWithAck,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let id = send.id;
        if let Err(error) = self.try_start(send, channels, c) {
            (c.out)(Action::SendAcknowledged {
                id,
                result: Err(error),
            });
        }
    }

    fn try_start<B: Payload>(
        &mut self,
        send: SendWithAck,
        channels: &Channels<B>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Result<(), SendError> {
        if self.under_way.len() >= MAX_PUSHES {
            return Err(SendError::TooMany(MAX_PUSHES));
        }
        let peers = targets(&send, channels, c)?;
        let nonce = c.ctx.rng.random();
        let mut push = Push {
            id: send.id,
            min_acks: send.min_acks,
            waiting: peers.iter().map(|peer| peer.pki_id).collect(),
            acknowledged: 0,
            failures: Vec::new(),
            reported: false,
            until: c.ctx.now + send.timeout,
        };
        let content = Content::PrivateData(*send.data);
        let message = gossip_message(Tag::ChanOnly, Some(&send.channel), nonce, content);
        let envelope = Envelope::unsigned(&message);
        for to in peers {
            c.ctx.counters.private_data.pushed += 1;
            (c.out)(Action::Send {
                to,
                frame: envelope.frame().clone(),
                kind: FrameKind::PrivateData,
                channel: Some(send.channel.clone()),
            });
        }
        push.report(c);
        if !push.waiting.is_empty() {
            self.under_way.insert(nonce, push);
        }
        Ok(())
    }

    /// A peer acknowledges something, or refuses it.
    pub(super) fn on_ack<B>(
        &mut self,
        from: PkiId,
        nonce: u64,
        error: String,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let Some(push) = self.under_way.get_mut(&nonce) else {
            return c.ctx.dropped(DropReason::UnknownNonce);
        };
        if !push.waiting.remove(&from) {
            return c.ctx.dropped(DropReason::UnknownNonce);
        }
        if error.is_empty() {
            push.acknowledged += 1;
            c.ctx.counters.private_data.acknowledged += 1;
        } else {
            c.ctx.counters.private_data.refused += 1;
            let reason = error.chars().take(MAX_REASON).collect();
            push.failures.push((from, AckFailure::Refused(reason)));
        }
        push.report(c);
        if push.waiting.is_empty() {
            self.under_way.remove(&nonce);
        }
    }

    /// Nothing will come of this peer.
    pub(super) fn unreachable<B>(&mut self, peer: &PkiId, c: &mut ChannelContext<'_, '_, B>) {
        self.under_way.retain(|_, push| {
            if push.waiting.remove(peer) {
                push.failures.push((*peer, AckFailure::Unreachable));
                c.ctx.counters.private_data.unanswered += 1;
                push.report(c);
            }
            !push.waiting.is_empty()
        });
    }

    /// Gives up those whose time is over.
    pub(super) fn wake<B>(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        self.under_way.retain(|_, push| {
            let over = push.until <= c.ctx.now;
            if over {
                for peer in std::mem::take(&mut push.waiting) {
                    push.failures.push((peer, AckFailure::TimedOut));
                    c.ctx.counters.private_data.unanswered += 1;
                }
                push.report(c);
            }
            !over
        });
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.under_way.values().map(|push| push.until).min()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }
}

impl Push {
    /// Reports the result once it is certain.
    fn report<B>(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        if self.reported {
            return;
        }
        let result = if self.acknowledged >= self.min_acks {
            Ok(())
        } else if self.acknowledged + self.waiting.len() < self.min_acks {
            Err(SendError::TooFewAcks {
                required: self.min_acks,
                acknowledged: self.acknowledged,
                failures: std::mem::take(&mut self.failures),
            })
        } else {
            return;
        };
        self.reported = true;
        (c.out)(Action::SendAcknowledged {
            id: self.id,
            result,
        });
    }
}

/// Whom to send to: eligible peers at random, one of each organisation first.
fn targets<B: Payload>(
    send: &SendWithAck,
    channels: &Channels<B>,
    c: &mut ChannelContext<'_, '_, B>,
) -> Result<Vec<Peer>, SendError> {
    if send.max_peers == 0 && send.min_acks == 0 {
        return Ok(Vec::new());
    }
    let channel = channels
        .get(&send.channel)
        .ok_or_else(|| SendError::UnknownChannel(send.channel.clone()))?;
    let eligible = channel.peers(c.view).filter_map(|(member, _)| {
        let identity = c.ctx.identities.get(&member.pki_id())?;
        let permitted = send.eligible.permits(identity);
        permitted.then(|| (identity.org(), member.peer()))
    });
    let mut eligible: Vec<(&OrgId, Peer)> = eligible.collect();
    let found = eligible.len().min(send.max_peers);
    if found < send.min_acks {
        return Err(SendError::TooFewPeers {
            required: send.min_acks,
            found,
        });
    }
    spread(&mut eligible, c.ctx.rng);
    let chosen = eligible.into_iter().take(send.max_peers);
    Ok(chosen.map(|(_, peer)| peer).collect())
}

/// Shuffles peers, then puts one of each organisation first.
fn spread(peers: &mut [(&OrgId, Peer)], rng: &mut StdRng) {
    peers.shuffle(rng);
    let mut seen = BTreeSet::new();
    let second: BTreeSet<PkiId> = peers
        .iter()
        .filter(|(org, _)| !seen.insert(*org))
        .map(|(_, peer)| peer.pki_id)
        .collect();
    peers.sort_by_key(|(_, peer)| second.contains(&peer.pki_id));
}
