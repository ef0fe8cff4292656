//! The life of a block in the core: arrival, verification, push, order, commit.

use std::collections::BTreeSet;

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

impl<B: Payload> Channel<B> {
    /// A peer pushed a block.
    pub(super) fn on_block(
        &mut self,
        from: PkiId,
        block: UnverifiedBlock,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let number = block.number;
        if self.buffer.has(number) || !self.blocks.accepts(number) {
            self.blocks.held_by(number, from);
            c.ctx.counters.duplicate_block();
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
        match self.arriving.add(&block) {
            Arrived::Verify => self.verify(block, c),
            Arrived::InProgress => c.ctx.counters.duplicate_block(),
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
        }
        self.initiator.satisfied(&number, c.now());
        if let Some(envelope) = arrived.envelope {
            let source = (arrived.how == Arrival::Push).then_some(arrived.from);
            self.keep(&block, envelope, source, &senders, c);
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
            self.keep(&block, envelope, None, &BTreeSet::new(), c);
            if let Some(emission) = self.emission(number, None) {
                c.ctx.emit(emission);
            }
        }
        self.initiator.satisfied(&number, c.now());
        self.put_in_order(block, Arrival::Orderer, Demand::Ordered, c);
    }

    /// Stores a verified block to be served, and pushes it on if it was pushed to us by `source`.
    ///
    /// Blocks that were pulled are served but not pushed, as in Fabric.
    fn keep(
        &mut self,
        block: &B,
        envelope: Envelope,
        source: Option<PkiId>,
        holders: &BTreeSet<PkiId>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let number = block.number();
        let added = self.blocks.add(number, block.clone(), envelope, c.ctx.now);
        for holder in holders {
            self.blocks.held_by(number, *holder);
        }
        if added
            && source.is_some()
            && let Some(emission) = self.emission(number, source)
        {
            c.ctx.emit(emission);
        }
    }

    fn emission(&self, number: u64, received_from: Option<PkiId>) -> Option<Emission> {
        let envelope = self.blocks.get(number)?.clone();
        Some(Emission {
            route: Route::Block(self.id.clone(), number),
            envelope,
            received_from,
        })
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
    pub(super) fn push_targets(
        &mut self,
        number: u64,
        count: usize,
        received_from: Option<PkiId>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Vec<Peer> {
        let (identities, me) = (c.ctx.identities, c.ctx.me);
        let lacks = |peer: &PkiId, height: u64| match c.ctx.config.rules {
            Rules::Selvedge => {
                let known = height > number || self.blocks.is_held_by(number, peer);
                !known && Some(*peer) != received_from
            }
            Rules::Fabric => true,
        };
        let wants = |member: &Member| {
            let peer = member.pki_id();
            let info = self.state_infos.present(&peer);
            identities.org(&peer) == Some(me.org())
                && info.is_some_and(|info| lacks(&peer, info.ledger_height))
        };
        let chosen = c.view.select(count, c.ctx.rng, wants);
        let mut peers: Vec<Peer> = chosen.into_iter().map(Member::peer).collect();
        // Where the sender was not left out before, as in Fabric, it is now.
        peers.retain(|peer| Some(peer.pki_id) != received_from);
        for peer in &peers {
            self.blocks.held_by(number, peer.pki_id);
        }
        peers
    }

    fn put_in_order(
        &mut self,
        block: B,
        how: Arrival,
        demand: Demand,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let (number, bytes) = (block.number(), block.encoded().len());
        match self.buffer.insert(number, bytes, (block, how), demand) {
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
        self.refill();
        self.advance(c);
    }

    /// Blocks that were too far ahead when they came, and are kept for serving, may be near enough now.
    fn refill(&mut self) {
        let end = self.buffer.end(Demand::Unasked);
        let kept: Vec<u64> = self
            .blocks
            .numbers()
            .filter(|number| *number < end && !self.buffer.has(*number))
            .collect();
        for number in kept {
            if let Some((block, bytes)) = self.blocks.block(number) {
                let entry = (block, Arrival::Push);
                self.buffer.insert(number, bytes, entry, Demand::Unasked);
            }
        }
    }

    /// Hands out what is in order, then looks at what is missing.
    fn advance(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        while let Some((block, how)) = self.buffer.take_next() {
            (c.out)(Action::Deliver {
                channel: self.id.clone(),
                block,
                how,
            });
        }
        self.review_gap(c);
    }
}
