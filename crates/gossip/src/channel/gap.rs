//! What is missing, and whom to ask for it.
//!
//! There is a gap when a block is known to exist that is not here: a later block has come or was announced, or a
//! peer's StateInfo is ahead. Push delivers out of order by some milliseconds, and a StateInfo may overtake
//! the block, so a gap must last for a moment before anybody is asked. Then:
//!
//! 1. A peer of our organisation that is known to have the missing block, or a later one, is asked by
//!    pull: hello, digest, request, update, at its own pace of two round trips. If its digest does not
//!    name the block, or it does not answer, the next one is asked.
//! 2. If the block is older than what is kept for pull, or pull did not help, a range is requested by
//!    state transfer, where it is enabled, of any peer of the channel whose ledger is high enough; and
//!    more ranges at once, as far as the ordered buffer reaches, until the gap is closed.
//!
//! A peer that does not deliver what it is said to have is avoided for a while ([`super::backoff`]). So
//! a liar costs one attempt a second, then one a minute, and everybody else is asked meanwhile. Who was asked
//! by pull alone is avoided for pull alone, where state transfer is enabled: after a restart a peer has its
//! blocks in the ledger only.
//!
//! Fabric leaves a gap to the next pull round (4 s) or the next check (10 s). Both remain as a last
//! resort.

use std::time::{Duration, Instant};

use selvedge_protos::gossip::RemoteStateRequest;
use selvedge_protos::gossip::gossip_message::{Content, Tag};

use super::{Channel, ChannelContext, Standing, due};
use crate::config::Rules;
use crate::counters::DropReason;
use crate::event::{Action, Arrival, ArrivedBlock, FrameKind, Notice, Payload};
use crate::membership::Member;
use crate::message::{StatePayload, gossip_message};
use crate::ordered_buffer::Demand;
use crate::state_transfer::{Admitted, Server};
use crate::types::PkiId;

/// How long a block may be overtaken by a later one before it is asked for.
const PATIENCE_WITH_BLOCKS: Duration = Duration::from_millis(30);
/// How long it may be overtaken by a StateInfo.
const PATIENCE_WITH_HEIGHTS: Duration = Duration::from_millis(200);
/// Between two attempts to fill a gap.
const RETRY: Duration = Duration::from_millis(300);
/// The same while nobody is left to be asked.
const RETRY_IN_VAIN: Duration = Duration::from_secs(1);
/// How much of a [lag](Channel::lag) one peer alone may claim, blocks.
const MAX_UNSUPPORTED_LAG: u64 = 1000;
/// Attempts by pull before state transfer is tried.
const PULL_ATTEMPTS: u32 = 2;

/// The first missing block.
#[derive(Debug)]
pub(super) struct Gap {
    number: u64,
    next_attempt: Instant,
    attempts: u32,
    /// Who was asked by the last attempt.
    asked: Option<PkiId>,
}

impl Gap {
    pub(super) fn next_attempt(&self) -> Instant {
        self.next_attempt
    }
}

impl<B: Payload> Channel<B> {
    /// A peer has shown a block that is too far ahead to be taken: it is asked for those before it.
    pub(super) fn far_ahead(
        &mut self,
        from: PkiId,
        number: u64,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let is_far = !self.buffer.accepts(number, Demand::Unasked);
        if is_far && c.ctx.config.rules == Rules::Selvedge && self.state_infos.shown(from, number) {
            self.review_gap(c);
        }
    }

    /// Looks again whether something is missing; to be called whenever that may have changed.
    pub(super) fn review_gap(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let now = c.now();
        self.review_signs(now);
        let Some((number, patience)) = self.first_missing(now) else {
            self.gap = None;
            self.catching_up = false;
            return;
        };
        if c.ctx.config.rules == Rules::Selvedge {
            self.note_gap(number, now + patience);
        }
        if self.catching_up {
            self.request_ranges(c);
        }
    }

    fn note_gap(&mut self, number: u64, first_attempt: Instant) {
        match &mut self.gap {
            Some(gap) if gap.number == number => {
                if gap.attempts == 0 {
                    gap.next_attempt = gap.next_attempt.min(first_attempt);
                }
            }
            gap => {
                *gap = Some(Gap {
                    number,
                    next_attempt: first_attempt,
                    attempts: 0,
                    asked: None,
                });
            }
        }
    }

    /// The first block that exists, is not here and would be taken; and how long to wait for it.
    fn first_missing(&self, now: Instant) -> Option<(u64, Duration)> {
        if self.standing != Standing::Member {
            return None;
        }
        let number = self
            .buffer
            .missing(self.buffer.end(Demand::Requested))
            .next()?;
        let blocks = self.buffer.highest().max(self.blocks.highest());
        if blocks.is_some_and(|highest| highest >= number) {
            return Some((number, PATIENCE_WITH_BLOCKS));
        }
        let claimed = self.highest_claim(now)?;
        let patience = PATIENCE_WITH_HEIGHTS.max(self.tree.patience());
        (claimed > number).then_some((number, patience))
    }

    /// How many blocks the ledger lacks, as far as is known from peers that did not fail to deliver lately.
    /// Nobody has proved what they say: two must say so, and for what the highest says alone no more than
    /// [`MAX_UNSUPPORTED_LAG`] counts.
    pub fn lag(&self, now: Instant) -> u64 {
        let mut claims = self.claims(now).map(|(height, _)| height);
        let highest = claims.next().unwrap_or(0);
        let supported = claims.next().unwrap_or(0);
        let height = self.buffer.height();
        let alone = highest.saturating_sub(height).min(MAX_UNSUPPORTED_LAG);
        supported.saturating_sub(height).max(alone)
    }

    /// The highest ledger that a peer says to have, unless it did not deliver lately.
    fn highest_claim(&self, now: Instant) -> Option<u64> {
        self.claims(now).next().map(|(height, _)| height)
    }

    /// The ledgers that peers say to have, the highest first, without those that did not deliver lately.
    pub(super) fn claims(&self, now: Instant) -> impl Iterator<Item = (u64, PkiId)> {
        let claims = self.state_infos.by_height();
        claims.filter(move |(_, peer)| !self.backoff.avoids(peer, now))
    }

    pub(super) fn wake_gap(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let now = c.now();
        for silent in self.requester.expire(now) {
            self.backoff.failed(silent, now);
        }
        let check = due(
            &mut self.timers.check_state,
            c.ctx.config.state.check_interval,
            now,
        );
        self.review_gap(c);
        if check && self.first_missing(now).is_some() {
            self.request_ranges(c);
        }
        if check {
            self.notice_left_behind(c);
        }
        if self.gap.as_ref().is_some_and(|gap| now >= gap.next_attempt) {
            self.attempt(c);
        }
    }

    /// Tells at each check, once the ledger has stood still since the one before, that what is missing will not
    /// come: so it is in Fabric too, where `state.enabled` is false by default, without a word.
    fn notice_left_behind(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let config = c.ctx.config;
        let fetches = config.state.enabled || config.org_leader || self.leads();
        let blocks = self.lag(c.now());
        if fetches || self.standing != Standing::Member || blocks <= config.max_block_count_to_store
        {
            self.left_behind_at = None;
            return;
        }
        let height = self.buffer.height();
        if self.left_behind_at.replace(height) == Some(height) {
            (c.out)(Action::Notice(Notice::LeftBehind {
                channel: self.id.clone(),
                blocks,
            }));
        }
    }

    /// One attempt to fill the gap.
    fn attempt(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let now = c.now();
        let Some(mut gap) = self.gap.take() else {
            return;
        };
        let in_progress = self.arriving.contains(gap.number)
            || self.tree.awaits(gap.number, now)
            || self.initiator.awaits(&gap.number)
            || self.requester.awaits(gap.number);
        if in_progress {
            gap.next_attempt = now + RETRY;
            self.gap = Some(gap);
            return;
        }
        if let Some(asked) = gap.asked.take() {
            match c.ctx.config.state.enabled {
                true => self.pull_backoff.failed(asked, now),
                false => self.backoff.failed(asked, now),
            }
        }
        gap.attempts = gap.attempts.saturating_add(1);
        gap.asked = self.pull_from_a_holder(gap.number, c);
        let by_pull = gap.asked.is_some();
        let try_state = !by_pull || gap.attempts > PULL_ATTEMPTS;
        let requested = try_state && self.request_ranges(c);
        let pause = if by_pull || requested {
            RETRY
        } else {
            RETRY_IN_VAIN
        };
        gap.next_attempt = now + pause;
        self.gap = Some(gap);
    }

    /// Says hello to a peer that should still have this block for pull.
    fn pull_from_a_holder(
        &mut self,
        number: u64,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Option<PkiId> {
        let now = c.now();
        let kept = c.ctx.config.max_block_count_to_store;
        let out_of_reach = |top: u64| top > number.saturating_add(kept);
        let newest = self.buffer.highest().max(self.blocks.highest());
        if newest.is_some_and(out_of_reach) {
            return None;
        }
        let (identities, me) = (c.ctx.identities, c.ctx.me);
        let holds = |member: &Member| {
            let peer = member.pki_id();
            let info = self.state_infos.present(&peer);
            let height = info.map_or(0, |info| info.ledger_height);
            let has = height > number || self.blocks.is_held_from(number, &peer);
            has && !out_of_reach(height.saturating_sub(1))
                && self.exchanges_blocks_with(&peer, identities, me)
                && !self.initiator.is_open(&peer)
                && !self.backoff.avoids(&peer, now)
                && !self.pull_backoff.avoids(&peer, now)
        };
        let chosen = c.view.select(1, c.ctx.rng, holds).first()?.pki_id();
        self.say_hello(chosen, c).then_some(chosen)
    }

    /// Whether a peer was asked about the gap.
    pub(super) fn gap_asked(&self, peer: &PkiId) -> bool {
        let asked = self.gap.as_ref().and_then(|gap| gap.asked.as_ref());
        asked == Some(peer)
    }

    /// A digest came. If it is of the peer that was asked about the gap and does not name the missing
    /// block, the next peer is asked at once.
    pub(super) fn gap_answered(&mut self, from: &PkiId, c: &mut ChannelContext<'_, '_, B>) {
        let number = match &self.gap {
            Some(gap) if gap.asked.as_ref() == Some(from) => gap.number,
            _ => return,
        };
        if !self.initiator.awaits(&number) && !self.arriving.contains(number) {
            self.attempt(c);
        }
    }

    /// Requests ranges by state transfer as far as the buffer reaches. Whether anything was requested.
    fn request_ranges(&mut self, c: &mut ChannelContext<'_, '_, B>) -> bool {
        if !c.ctx.config.state.enabled {
            return false;
        }
        let now = c.now();
        let sources: Vec<(PkiId, u64)> = self
            .state_infos
            .by_height()
            .take_while(|(height, _)| *height > self.buffer.next())
            .filter(|(_, peer)| c.view.is_alive(peer) && !self.backoff.avoids(peer, now))
            .map(|(height, peer)| (peer, height))
            .collect();
        let Some(highest) = sources.first().map(|(_, height)| *height) else {
            return false;
        };
        let end = self.buffer.end(Demand::Requested).min(highest);
        let wanted: Vec<u64> = self
            .buffer
            .missing(end)
            .filter(|number| {
                self.buffer.wants(*number, Demand::Requested)
                    && !self.arriving.contains(*number)
                    && !self.initiator.awaits(number)
                    && !self.requester.awaits(*number)
            })
            .collect();
        let requests = self.requester.plan(wanted, &sources, now, c.ctx.rng);
        self.catching_up |= !requests.is_empty();
        for request in &requests {
            let content = Content::StateRequest(RemoteStateRequest {
                start_seq_num: *request.blocks.start(),
                end_seq_num: *request.blocks.end(),
            });
            let message = gossip_message(Tag::ChanOrOrg, Some(&self.id), request.nonce, content);
            c.send(request.to, &message, FrameKind::StateRequest);
        }
        !requests.is_empty()
    }

    /// A state response came.
    pub(super) fn on_state_response(
        &mut self,
        from: PkiId,
        nonce: u64,
        payloads: Vec<StatePayload>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let range = match self.requester.on_response(&from, nonce, c.now()) {
            Ok(range) => range,
            Err(reason) => return c.ctx.dropped(reason),
        };
        if payloads.is_empty() && self.state_infos.retract(from, *range.start()) {
            self.backoff.failed(from, c.now());
        }
        let mut rest = range;
        for payload in payloads {
            let number = payload.number;
            // Each block of the range once, in ascending order, as they are read from a ledger.
            if !rest.contains(&number) {
                c.ctx.dropped(DropReason::Unsolicited);
                continue;
            }
            rest = number.saturating_add(1)..=*rest.end();
            if self.buffer.has(number) {
                c.ctx.counters.duplicate_block();
                continue;
            }
            let arrived = ArrivedBlock {
                number,
                bytes: payload.bytes,
                envelope: None,
                from,
                how: Arrival::StateTransfer,
            };
            self.arrived(arrived, c);
        }
        self.review_gap(c);
    }

    /// Somebody asks for blocks.
    pub(super) fn on_state_request(
        &mut self,
        from: PkiId,
        nonce: u64,
        start: u64,
        end: u64,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let batch_size = c.ctx.config.state.batch_size;
        let height = self.buffer.height();
        match self.server.admit(from, start, end, batch_size, height) {
            Ok(Admitted::Read { start, end }) => {
                let to = c.peer(from);
                (c.out)(Action::ReadBlocks {
                    channel: self.id.clone(),
                    to,
                    nonce,
                    start,
                    end,
                });
            }
            Ok(Admitted::Nothing) => self.respond(from, nonce, start, Vec::new(), c),
            Err(reason) => c.ctx.dropped(reason),
        }
    }

    /// The ledger was read for somebody, whose organisation may have been removed since it asked.
    pub(super) fn on_blocks_read(
        &mut self,
        to: PkiId,
        nonce: u64,
        start: u64,
        blocks: Vec<bytes::Bytes>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.server.done(&to);
        if self.admit(&to, c.ctx).is_some() {
            self.respond(to, nonce, start, blocks, c);
        }
    }

    fn respond(
        &self,
        to: PkiId,
        nonce: u64,
        start: u64,
        blocks: Vec<bytes::Bytes>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let message = Server::response(&self.id, nonce, start, blocks);
        c.send(to, &message, FrameKind::StateResponse);
    }
}
