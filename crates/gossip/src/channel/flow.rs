//! The life of a block in the core: arrival, verification, push, order, commit.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{DataMessage, Payload as WirePayload};

use super::arriving::Arrived;
use super::{Channel, ChannelContext};
use crate::config::Rules;
use crate::counters::DropReason;
use crate::emitter::{Emission, Route};
use crate::event::{Action, Arrival, ArrivedBlock, Payload};
use crate::membership::Member;
use crate::message::{Envelope, UnverifiedBlock, gossip_message};
use crate::ordered_buffer::{Demand, Inserted};
use crate::types::{Peer, PkiId};

/// A verified block that waits for its turn.
#[derive(Debug)]
pub(super) struct InOrder<B> {
    block: B,
    how: Arrival,
    /// From the first sign of it to its arrival.
    delay: Duration,
}

impl<B: Payload> Channel<B> {
    /// A peer pushed a block.
    pub(super) fn on_block(
        &mut self,
        from: PkiId,
        block: UnverifiedBlock,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let number = block.number;
        self.far_ahead(from, number, c);
        if self.buffer.has(number) || !self.blocks.accepts(number) {
            self.blocks.held_by(number, from);
            c.ctx.counters.duplicate_block();
            self.superfluous(from, number, c);
            return;
        }
        let arrived = ArrivedBlock {
            number,
            bytes: block.bytes,
            envelope: Some(block.envelope),
            from,
            how: Arrival::Push,
        };
        self.arrived(arrived, c);
    }

    /// A block that is not known yet came from a peer: one copy of it is to be verified.
    pub(super) fn arrived(&mut self, block: ArrivedBlock, c: &mut ChannelContext<'_, '_, B>) {
        let (from, number) = (block.from, block.number);
        let pushed = block.how == Arrival::Push;
        self.note_sign(number, from, c.now());
        match self.arriving.add(&block) {
            Arrived::Verify => {
                if pushed && self.uses_tree_with(&from, c) {
                    let age = self.signs.age(number, c.now());
                    self.tree.came_first(from, number, age, c.now());
                    self.reshape_tree(from, number, c);
                }
                self.verify(block, c);
            }
            Arrived::InProgress => {
                c.ctx.counters.duplicate_block();
                if pushed {
                    self.superfluous(from, number, c);
                }
            }
            Arrived::Full => c.ctx.dropped(DropReason::ChannelFull),
        }
    }

    fn verify(&self, block: ArrivedBlock, c: &mut ChannelContext<'_, '_, B>) {
        (c.out)(Action::VerifyBlock {
            channel: self.id.clone(),
            block,
        });
    }

    /// A block that a peer sent is good.
    pub(super) fn on_verified(
        &mut self,
        block: B,
        arrived: ArrivedBlock,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let number = arrived.number;
        let senders = self.arriving.verified(number);
        if let Some(election) = &mut self.election
            && !self.buffer.has(number)
        {
            election.block_from_peer(c.now());
        }
        for sender in &senders {
            self.backoff.clear(sender);
            self.pull_backoff.clear(sender);
        }
        self.initiator.satisfied(&number, c.now());
        if let Some(envelope) = arrived.envelope
            && self.keep(&block, envelope, &senders, c)
            && arrived.how == Arrival::Push
        {
            self.pass_on(number, Some(arrived.from), c);
        }
        let demand = match arrived.how {
            Arrival::StateTransfer => Demand::Requested,
            _ => Demand::Unasked,
        };
        self.put_in_order(block, arrived.how, demand, c);
    }

    /// A block that a peer sent is forged, or belongs elsewhere.
    pub(super) fn on_refused(&mut self, arrived: &ArrivedBlock, c: &mut ChannelContext<'_, '_, B>) {
        c.ctx.dropped(DropReason::BlockRefused);
        let (senders, next) = self.arriving.refused(arrived.number);
        for sender in &senders {
            self.tree.refused(arrived.number, sender, c.now());
        }
        // Who is far behind may lack the configuration by which the block is good.
        if self.buffer.accepts(arrived.number, Demand::Requested) {
            for sender in senders {
                self.backoff.failed(sender, c.now());
            }
        }
        let requests = self
            .initiator
            .rejected(&arrived.from, &arrived.number, c.now(), c.ctx.rng);
        self.send_requests(requests, c);
        match next {
            Some(next) => self.verify(next, c),
            None => self.review_gap(c),
        }
    }

    /// A block came from the ordering service, verified.
    pub(super) fn on_ordered(&mut self, block: B, c: &mut ChannelContext<'_, '_, B>) {
        let number = block.number();
        if let Some(election) = &mut self.election {
            election.block_from_orderer();
        }
        if self.setup.block_gossip && self.blocks.accepts(number) {
            let envelope = self.data_message(&block);
            if self.keep(&block, envelope, &BTreeSet::new(), c) {
                self.pass_on(number, None, c);
            }
        }
        self.initiator.satisfied(&number, c.now());
        self.put_in_order(block, Arrival::Orderer, Demand::Ordered, c);
    }

    /// Stores a verified block to be served. `false`: it is there, or too old.
    fn keep(
        &mut self,
        block: &B,
        envelope: Envelope,
        holders: &BTreeSet<PkiId>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> bool {
        let number = block.number();
        let added = self.blocks.add(number, block.clone(), envelope, c.ctx.now);
        let announcers = self.tree.settled(number);
        for holder in holders.iter().copied().chain(announcers) {
            self.blocks.held_by(number, holder);
        }
        added
    }

    /// Passes on a block that came from the ordering service or was pushed to us by `received_from`.
    ///
    /// Blocks that were pulled are served but not passed on, as in Fabric.
    fn pass_on(
        &mut self,
        number: u64,
        received_from: Option<PkiId>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.push_along_tree(number, c);
        if let Some(envelope) = self.blocks.get(number).cloned() {
            c.ctx.emit(Emission {
                route: Route::Block(self.id.clone(), number),
                envelope,
                received_from,
            });
        }
    }

    fn data_message(&self, block: &B) -> Envelope {
        let payload = WirePayload {
            seq_num: block.number(),
            data: block.encoded().clone(),
            private_data: Vec::new(),
        };
        let content = Content::DataMsg(DataMessage {
            payload: Some(payload),
        });
        Envelope::unsigned(&gossip_message(Tag::ChanAndOrg, Some(&self.id), 0, content))
    }

    /// Up to `count` random peers to push a block to: of our organisation, in the channel, and not known
    /// to have it. They are known to have it from now on.
    ///
    /// Peers that use the tree are drawn too, and get announcements instead. So a peer that does not is sent
    /// as many copies as it would be in an organisation of its like.
    pub(super) fn push_targets(
        &mut self,
        number: u64,
        count: usize,
        received_from: Option<PkiId>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Vec<Peer> {
        self.announce_beside_tree(number, count, c);
        let (identities, me) = (c.ctx.identities, c.ctx.me);
        let by_fabrics_rules = c.ctx.config.rules == Rules::Fabric;
        let in_tree = |member: &Member| !by_fabrics_rules && member.speaks_extension();
        let wants = |member: &Member| {
            let peer = member.pki_id();
            let draws = by_fabrics_rules || in_tree(member) || self.lacks(&peer, number);
            draws && self.exchanges_blocks_with(&peer, identities, me)
        };
        let chosen = c.view.select(count, c.ctx.rng, wants).into_iter();
        let pushed_to = chosen.filter(|member| !in_tree(member));
        let mut peers: Vec<Peer> = pushed_to.map(Member::peer).collect();
        peers.retain(|peer| Some(peer.pki_id) != received_from);
        for peer in &peers {
            self.blocks.held_by(number, peer.pki_id);
        }
        peers
    }

    /// Whether a peer of the channel is not known to have a block.
    pub(super) fn lacks(&self, peer: &PkiId, number: u64) -> bool {
        let info = self.state_infos.present(peer);
        info.is_some_and(|info| info.ledger_height <= number)
            && !self.blocks.is_held_by(number, peer)
    }

    fn put_in_order(
        &mut self,
        block: B,
        how: Arrival,
        demand: Demand,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let (number, bytes) = (block.number(), block.encoded().len());
        let delay = self.signs.age(number, c.now());
        let entry = InOrder { block, how, delay };
        match self.buffer.insert(number, bytes, entry, demand) {
            Inserted::Buffered => c.ctx.counters.block(how),
            Inserted::Duplicate => c.ctx.counters.duplicate_block(),
            Inserted::TooFarAhead => c.ctx.dropped(DropReason::BlockOutsideWindow),
            Inserted::Full => c.ctx.dropped(DropReason::ChannelFull),
        }
        self.advance(c);
    }

    /// The ledger has `height` blocks now.
    pub(super) fn on_committed(&mut self, height: u64, c: &mut ChannelContext<'_, '_, B>) {
        self.buffer.committed(height);
        self.state_infos.set_height(self.buffer.height());
        self.pull_pace.quicken();
        self.initiator.hasten(c.now());
        self.refill(c.now());
        self.advance(c);
    }

    /// Blocks that were too far ahead when they came, and are kept for serving, may be near enough now.
    fn refill(&mut self, now: Instant) {
        let end = self.buffer.end(Demand::Unasked);
        let kept: Vec<u64> = self
            .blocks
            .numbers()
            .filter(|number| *number < end && !self.buffer.has(*number))
            .collect();
        for number in kept {
            if let Some((block, bytes)) = self.blocks.block(number) {
                let entry = InOrder {
                    block,
                    how: Arrival::Push,
                    delay: self.signs.age(number, now),
                };
                self.buffer.insert(number, bytes, entry, Demand::Unasked);
            }
        }
    }

    /// Hands out what is in order, then looks at what is missing.
    fn advance(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        while let Some(InOrder { block, how, delay }) = self.buffer.take_next() {
            (c.out)(Action::Deliver {
                channel: self.id.clone(),
                block,
                how,
                delay,
            });
        }
        self.review_gap(c);
    }
}
