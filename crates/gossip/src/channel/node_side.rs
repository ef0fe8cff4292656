//! What the node calls.

use std::time::Instant;

use bytes::Bytes;
use selvedge_protos::gossip::Chaincode;

use super::gap::Gap;
use super::{Channel, ChannelContext, Standing, due};
use crate::context::Context;
use crate::counters::DropReason;
use crate::event::{Action, ArrivedBlock, ChannelSetup, Payload};
use crate::membership::View;
use crate::message::Message;
use crate::types::{OrgId, Peer, PkiId};

impl<B: Payload> Channel<B> {
    /// A newer configuration; an older one than known is ignored. Organisations that are no longer in
    /// the channel are forgotten at once. A channel that was left is joined again.
    pub fn configure(&mut self, setup: &ChannelSetup, ctx: &mut Context<'_>) {
        if setup.sequence >= self.setup.sequence {
            self.setup = setup.clone();
            self.apply_setup(ctx.me.org());
        }
        if self.standing == Standing::Left {
            self.standing = Standing::Member;
            self.state_infos.rejoin();
            self.publish(ctx);
        }
    }

    /// Leaves the channel: says so at once, and takes part no more. The channel stays, to say so to
    /// those who ask, as in Fabric.
    pub fn leave(&mut self, ctx: &mut Context<'_>) {
        if self.standing == Standing::Member {
            self.standing = Standing::Left;
            self.gap = None;
            self.state_infos.leave();
            self.publish(ctx);
        }
    }

    /// A message for this channel came: it has its name, or a MAC that proves knowledge of it.
    pub fn handle_message(
        &mut self,
        from: PkiId,
        message: Message,
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) {
        let c = &mut ChannelContext { ctx, view, out };
        let Some(org) = self.admit(&from, c.ctx) else {
            return;
        };
        match message {
            Message::StateInfo(info) => self.on_state_info(from, *info, c),
            Message::StateInfoPullRequest { .. } => self.on_state_info_pull_request(from, &org, c),
            Message::StateInfoSnapshot(_, infos) => self.on_snapshot(infos, c),
            Message::Block(_, block) => self.on_block(from, block, c),
            Message::BlockPull(_, pull) => self.on_pull(from, pull, c),
            Message::StateRequest {
                nonce, start, end, ..
            } => self.on_state_request(from, nonce, start, end, c),
            Message::StateResponse {
                nonce, payloads, ..
            } => self.on_state_response(from, nonce, payloads, c),
            // Leader election and private data will stand beside the channel.
            _ => c.ctx.dropped(DropReason::NotHandled),
        }
    }

    /// The chaincodes that this peer can execute; published at once.
    pub fn chaincodes(&mut self, chaincodes: Vec<Chaincode>, ctx: &mut Context<'_>) {
        self.state_infos.set_chaincodes(chaincodes);
        self.publish(ctx);
    }

    /// A block came from the ordering service, verified. It is refused if
    /// [`Channel::accepts_ordered`] says so.
    pub fn block_from_orderer(
        &mut self,
        block: B,
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) {
        self.on_ordered(block, &mut ChannelContext { ctx, view, out });
    }

    /// A block that a peer sent is good.
    pub fn block_verified(
        &mut self,
        block: B,
        arrived: ArrivedBlock,
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) {
        self.on_verified(block, arrived, &mut ChannelContext { ctx, view, out });
    }

    /// A block that a peer sent is forged, or belongs elsewhere.
    pub fn block_refused(
        &mut self,
        arrived: ArrivedBlock,
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) {
        self.on_refused(&arrived, &mut ChannelContext { ctx, view, out });
    }

    /// The ledger has `height` blocks now.
    pub fn committed(
        &mut self,
        height: u64,
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) {
        self.on_committed(height, &mut ChannelContext { ctx, view, out });
    }

    /// The ledger was read for another peer.
    pub fn blocks_read(
        &mut self,
        to: Peer,
        nonce: u64,
        start: u64,
        blocks: Vec<Bytes>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        self.server.done(&to.pki_id);
        self.respond(to, nonce, start, blocks, out);
    }

    /// A peer is gone for good: its identity was purged or it left membership.
    pub fn forget(&mut self, peer: &PkiId) {
        self.state_infos.remove(peer);
        self.forget_claims(peer);
    }

    /// A peer cannot be reached now: what it was asked for is asked of others.
    pub fn unreachable(
        &mut self,
        peer: &PkiId,
        ctx: &mut Context<'_>,
        view: &View,
        out: &mut dyn FnMut(Action<B>),
    ) {
        let pulling = self.initiator.is_open(peer);
        self.initiator.forget(peer);
        self.requester.forget(peer);
        if pulling || self.gap.is_some() {
            self.backoff.failed(*peer, ctx.now);
            self.review_gap(&mut ChannelContext { ctx, view, out });
        }
    }

    /// Whether an organisation is in the channel.
    pub fn has_org(&self, org: &OrgId) -> bool {
        self.orgs.contains(org)
    }

    /// Whether a peer has shown by its StateInfo that it is in the channel (Fabric:
    /// `EligibleForChannel`); nobody is while we are not in it ourselves.
    pub fn is_member(&self, peer: &PkiId) -> bool {
        self.standing == Standing::Member && self.state_infos.present(peer).is_some()
    }

    /// Whether a peer is known to have a block: its ledger is higher, it sent the block, was sent it, or
    /// listed it.
    pub fn knows_block(&self, peer: &PkiId, number: u64) -> bool {
        let info = self.state_infos.present(peer);
        info.is_some_and(|info| info.ledger_height > number) || self.blocks.is_held_by(number, peer)
    }

    /// A block was sent to a peer.
    pub fn sent_block(&mut self, peer: &PkiId, number: u64) {
        self.blocks.held_by(number, *peer);
    }

    /// Does what is due.
    pub fn wake(&mut self, ctx: &mut Context<'_>, view: &View, out: &mut dyn FnMut(Action<B>)) {
        let c = &mut ChannelContext { ctx, view, out };
        let now = c.now();
        if now < self.deadline() {
            return;
        }
        self.blocks.sweep(now);
        self.wake_state_info(c);
        self.wake_pull(c);
        self.wake_gap(c);
        let tracking = c.ctx.config.membership_tracker_interval;
        if due(&mut self.timers.track_members, tracking, now) {
            self.track_members(c);
        }
    }

    /// When [`Channel::wake`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        Some(self.deadline())
    }

    fn deadline(&self) -> Instant {
        let sometimes = [
            self.blocks.next_deadline(),
            self.requester.next_deadline(),
            self.gap.as_ref().map(Gap::next_attempt),
        ];
        [
            self.state_infos.next_deadline(),
            self.initiator.next_deadline(),
            self.timers.track_members,
        ]
        .into_iter()
        .chain(sometimes.into_iter().flatten())
        .fold(self.timers.check_state, Instant::min)
    }
}
