//! Block pull: the pull engine's four steps over the block store.
//!
//! Digests are block numbers as decimal text. Rounds go to random peers of our organisation that are in
//! the channel; exchanges between the rounds are started by `gap`. Rounds slow down ([`Pace`](super::pace::Pace))
//! while no block comes and none is known to be missing: whoever misses the first one after that learns so from
//! the StateInfo of those who have it.
//!
//! While updates are late, blocks are asked for one by one, the first that is missing: the link may be narrow, and what
//! was asked for before is on its way.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;

use super::{Channel, ChannelContext, tree};
use crate::counters::DropReason;
use crate::event::{Arrival, ArrivedBlock, Payload};
use crate::membership::Member;
use crate::message::{Pull, PullKind, PullStep, UnverifiedBlock};
use crate::ordered_buffer::Demand;
use crate::pull::{Request, encode};
use crate::types::PkiId;

/// Numbers of one digest or request that are looked at. An honest peer sends eleven.
const MAX_NUMBERS: usize = 1000;
/// An update is cut before it grows beyond this, after its first block. Go peers accept 100 MiB.
const MAX_UPDATE_BYTES: usize = 64 << 20;

impl<B: Payload> Channel<B> {
    /// A block pull message came.
    pub(super) fn on_pull(
        &mut self,
        from: PkiId,
        pull: Pull<UnverifiedBlock>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        if !self.exchanges_blocks_with(&from, c.ctx.identities, c.ctx.me) {
            c.ctx.dropped(DropReason::NotEligible);
            return;
        }
        let Pull { nonce, step } = pull;
        let in_tree = nonce == tree::NONCE && self.uses_tree_with(&from, c);
        let outcome = match step {
            PullStep::Digest(digests) if in_tree => {
                self.on_announcement(from, &numbers(&digests, c), c);
                Ok(())
            }
            PullStep::Request(digests) if in_tree => {
                self.on_ask(from, &numbers(&digests, c), c);
                Ok(())
            }
            PullStep::Hello => self.on_hello(from, nonce, c),
            PullStep::Digest(digests) => self.on_digest(from, nonce, &digests, c),
            PullStep::Request(digests) => self.on_request(from, nonce, &digests, c),
            PullStep::Update(blocks) => self.on_update(from, nonce, blocks, c),
        };
        if let Err(reason) = outcome {
            c.ctx.dropped(reason);
        }
    }

    fn on_hello(
        &mut self,
        from: PkiId,
        nonce: u64,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Result<(), DropReason> {
        self.responder.on_hello(from, nonce, c.now())?;
        let digests = digests(self.blocks.numbers());
        if !digests.is_empty() {
            self.send_step(from, nonce, PullStep::Digest(digests), c);
        }
        Ok(())
    }

    fn on_digest(
        &mut self,
        from: PkiId,
        nonce: u64,
        digests: &[Bytes],
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Result<(), DropReason> {
        self.initiator.expects_digest(&from, nonce, c.now())?;
        let for_gap = self.gap_asked(&from);
        let mut wanted = Vec::new();
        for number in numbers(digests, c) {
            self.blocks.held_by(number, from);
            self.note_sign(number, from, c.now());
            let lacking = !self.buffer.has(number) && !self.arriving.contains(number);
            // What the tree may still bring is left to it.
            let due = for_gap || self.signs.age(number, c.now()) >= self.tree.patience();
            if lacking && due && self.buffer.wants(number, Demand::Unasked) {
                wanted.push(number);
            }
        }
        if self.initiator.is_slow() {
            wanted = wanted.into_iter().min().into_iter().collect();
        }
        let requests = self
            .initiator
            .on_digest(from, nonce, wanted, c.now(), c.ctx.rng)?;
        self.send_requests(requests, c);
        self.gap_answered(&from, c);
        Ok(())
    }

    fn on_request(
        &mut self,
        from: PkiId,
        nonce: u64,
        digests: &[Bytes],
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Result<(), DropReason> {
        self.responder.on_request(from, nonce, c.now())?;
        let mut bytes = 0usize;
        let mut data = Vec::new();
        for number in numbers(digests, c) {
            let Some(envelope) = self.blocks.get(number) else {
                continue;
            };
            bytes = bytes.saturating_add(envelope.frame().len());
            if bytes > MAX_UPDATE_BYTES && !data.is_empty() {
                break;
            }
            data.push(envelope.proto().clone());
            self.blocks.held_by(number, from);
        }
        if !data.is_empty() {
            self.send_step(from, nonce, PullStep::Update(data), c);
        }
        Ok(())
    }

    fn on_update(
        &mut self,
        from: PkiId,
        nonce: u64,
        blocks: Vec<UnverifiedBlock>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Result<(), DropReason> {
        // A block that comes twice in one update counts once.
        let mut by_number: BTreeMap<u64, UnverifiedBlock> = BTreeMap::new();
        for block in blocks {
            by_number.entry(block.number).or_insert(block);
        }
        let asked_for =
            self.initiator
                .on_update(from, nonce, by_number.keys().copied(), c.now())?;
        for (number, block) in by_number {
            self.blocks.held_by(number, from);
            if self.buffer.has(number) {
                c.ctx.counters.duplicate_block();
            } else if !asked_for.contains(&number) {
                c.ctx.dropped(DropReason::Unsolicited);
            } else {
                let arrived = ArrivedBlock {
                    number,
                    bytes: block.bytes,
                    envelope: Some(block.envelope),
                    from,
                    how: Arrival::Pull,
                };
                self.arrived(arrived, c);
            }
        }
        Ok(())
    }

    /// Lets the timers of the pull run out, and starts a round if one is due.
    pub(super) fn wake_pull(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let requests = self.initiator.on_wakeup(c.now(), c.ctx.rng);
        self.send_requests(requests, c);
        if self.initiator.round_due(c.now()) {
            let height = self.buffer.height();
            let highest = self.state_infos.by_height().next();
            // Whoever claims more may have failed us lately, so that there is no gap to be closed by it.
            let behind = self.gap.is_some() || highest.is_some_and(|(claim, _)| claim > height);
            let calm = !behind && self.pulled_at == height;
            self.pulled_at = height;
            let intervals = self.pull_pace.next(calm, c.ctx.config.rules);
            self.initiator.skip(intervals - 1);
            let (identities, me) = (c.ctx.identities, c.ctx.me);
            let suits =
                |member: &Member| self.exchanges_blocks_with(&member.pki_id(), identities, me);
            let chosen = c.view.select(c.ctx.config.pull_peer_num, c.ctx.rng, suits);
            let chosen: Vec<PkiId> = chosen.into_iter().map(Member::pki_id).collect();
            for peer in chosen {
                self.say_hello(peer, c);
            }
        }
    }

    /// Begins an exchange with a peer. `false`: there is one already, or too many.
    pub(super) fn say_hello(&mut self, peer: PkiId, c: &mut ChannelContext<'_, '_, B>) -> bool {
        let nonce = self.initiator.hello(peer, c.now(), c.ctx.rng);
        if let Some(nonce) = nonce {
            self.send_step(peer, nonce, PullStep::Hello, c);
        }
        nonce.is_some()
    }

    pub(super) fn send_requests(
        &self,
        requests: Vec<Request<u64>>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        for request in requests {
            let step = PullStep::Request(digests(request.items));
            self.send_step(request.to, request.nonce, step, c);
        }
    }

    pub(super) fn send_step(
        &self,
        to: PkiId,
        nonce: u64,
        step: PullStep<selvedge_protos::gossip::Envelope>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let (message, kind) = encode(&PullKind::Blocks(self.id.clone()), nonce, step);
        c.send(to, &message, kind);
    }
}

/// Block numbers as decimal text, all in one piece of memory.
pub(super) fn digests(numbers: impl IntoIterator<Item = u64>) -> Vec<Bytes> {
    let (mut text, mut ends) = (String::new(), Vec::with_capacity(16));
    for number in numbers {
        // A string takes everything.
        let _ = write!(text, "{number}");
        ends.push(text.len());
    }
    let text = Bytes::from(text);
    let mut start = 0;
    let mut cut = |end| text.slice(std::mem::replace(&mut start, end)..end);
    ends.into_iter().map(&mut cut).collect()
}

/// The numbers in a digest or request, within bounds; what is no number is counted.
fn numbers<B>(digests: &[Bytes], c: &mut ChannelContext<'_, '_, B>) -> Vec<u64> {
    let mut numbers = Vec::with_capacity(digests.len().min(MAX_NUMBERS));
    for digest in digests.iter().take(MAX_NUMBERS) {
        let text = std::str::from_utf8(digest).ok();
        match text.and_then(|text| text.parse::<u64>().ok()) {
            Some(number) => numbers.push(number),
            None => c.ctx.dropped(DropReason::Unsolicited),
        }
    }
    for _ in digests.iter().skip(MAX_NUMBERS).take(1) {
        c.ctx.dropped(DropReason::ChannelFull);
    }
    numbers
}
