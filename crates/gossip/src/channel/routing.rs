//! All channels of a peer, and which one a message is for (Fabric: `channelState`).

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use selvedge_protos::gossip::Chaincode;

use super::relay::Relay;
use super::{Channel, ChannelContext, Standing};
use crate::config::Config;
use crate::context::Context;
use crate::counters::DropReason;
use crate::emitter::Route;
use crate::event::{ArrivedBlock, ChannelSetup, Payload};
use crate::membership::Member;
use crate::message::Message;
use crate::occupancy::Tally;
use crate::types::{ChannelId, Endpoint, OrgId, Peer, PkiId};

/// See the module's documentation.
#[derive(Debug)]
pub struct Channels<B> {
    channels: BTreeMap<ChannelId, Channel<B>>,
    relay: Relay,
}

impl<B: Payload> Channels<B> {
    /// No channel yet.
    pub fn new(config: &Config) -> Self {
        Self {
            channels: BTreeMap::new(),
            relay: Relay::new(config),
        }
    }

    /// One channel.
    pub fn get(&self, channel: &ChannelId) -> Option<&Channel<B>> {
        self.channels.get(channel)
    }

    /// All channels, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Channel<B>> {
        self.channels.values()
    }

    /// How much they hold; see [`occupancy`](crate::occupancy).
    pub(crate) fn occupancy(&self, config: &Config, tally: &mut Tally) {
        let limits = &config.limits;
        tally.note("channels", self.channels.len(), limits.channels);
        let most = limits.relayed_state_infos;
        tally.note("relayed StateInfo messages", self.relay.len(), most);
        for channel in self.channels.values() {
            channel.occupancy(config, tally);
        }
    }

    /// The anchor peers of all channels that this peer takes part in.
    pub fn anchor_peers(&self) -> impl Iterator<Item = (&Endpoint, &OrgId)> {
        self.channels
            .values()
            .filter(|channel| channel.standing == Standing::Member)
            .flat_map(|channel| &channel.setup.orgs)
            .flat_map(|org| org.anchor_peers.iter().map(|anchor| (anchor, &org.org)))
    }

    /// A channel was opened, opened again, or its configuration changed. `false`: it is a new one, and
    /// there is no room for it.
    pub fn join(&mut self, setup: ChannelSetup, c: &mut ChannelContext<'_, '_, B>) -> bool {
        if let Some(channel) = self.channels.get_mut(&setup.channel) {
            channel.update(setup, c.ctx);
            channel.rejoin(c);
            channel.review_gap(c);
            return true;
        }
        if self.channels.len() >= c.ctx.config.limits.channels {
            c.ctx.dropped(DropReason::ChannelsFull);
            return false;
        }
        let mut channel = Channel::new(setup, c.ctx);
        channel.start_election(c);
        self.channels.insert(channel.id.clone(), channel);
        true
    }

    /// The configuration of a channel changed.
    pub fn update(&mut self, setup: ChannelSetup, c: &mut ChannelContext<'_, '_, B>) {
        if let Some(channel) = self.channels.get_mut(&setup.channel) {
            channel.update(setup, c.ctx);
            channel.recheck_readers(c);
            channel.review_gap(c);
        }
    }

    /// A stream to a peer has ended.
    pub fn disconnected(&mut self, peer: &PkiId, ctx: &Context<'_>) {
        for channel in self.channels.values_mut() {
            channel.disconnected(peer, ctx);
        }
    }

    /// A peer is no reader of a channel any more.
    pub fn refuse(&mut self, channel: &ChannelId, peer: &PkiId, c: &mut ChannelContext<'_, '_, B>) {
        self.with(channel, c, |channel, c| {
            channel.forget(peer);
            channel.review_gap(c);
        });
    }

    /// This peer leaves a channel. The channel stays to say so to those who ask, as in Fabric.
    pub fn leave(&mut self, channel: &ChannelId, c: &mut ChannelContext<'_, '_, B>) {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.leave(c);
        }
    }

    /// Handles a message if it belongs to a channel; gives it back otherwise. Those of private data are given
    /// back too.
    pub fn handle(
        &mut self,
        from: PkiId,
        message: Message,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Option<Message> {
        let found = match &message {
            Message::StateInfo(info) => by_mac(&mut self.channels, &info.channel_mac, &info.pki_id),
            Message::StateInfoPullRequest { channel_mac } => {
                by_mac(&mut self.channels, channel_mac, &from)
            }
            Message::StateInfoSnapshot(id, _)
            | Message::Block(id, _)
            | Message::BlockPull(id, _)
            | Message::StateRequest { channel: id, .. }
            | Message::StateResponse { channel: id, .. }
            | Message::Leadership(id, _) => self.channels.get_mut(id),
            _ => return Some(message),
        };
        match (found, message) {
            (Some(channel), message) => channel.on_message(from, message, c),
            (None, Message::StateInfo(info)) => self.relay.on_state_info(from, &info, c.ctx),
            (None, _) => c.ctx.dropped(DropReason::UnknownChannel),
        }
        None
    }

    /// Whether a peer takes part in a channel, and so do we; counts it if not.
    pub fn admits(&self, id: &ChannelId, from: &PkiId, c: &mut ChannelContext<'_, '_, B>) -> bool {
        match self.get(id) {
            Some(channel) if channel.standing == Standing::Member => {
                channel.admit(from, c.ctx).is_some()
            }
            _ => {
                c.ctx.dropped(DropReason::UnknownChannel);
                false
            }
        }
    }

    /// A block came from the ordering service, verified.
    pub fn on_ordered(&mut self, id: &ChannelId, block: B, c: &mut ChannelContext<'_, '_, B>) {
        self.with(id, c, |channel, c| channel.on_ordered(block, c));
    }

    /// A block that a peer sent is good.
    pub fn on_verified(
        &mut self,
        id: &ChannelId,
        block: B,
        arrived: ArrivedBlock,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.with(id, c, |channel, c| channel.on_verified(block, arrived, c));
    }

    /// A block that a peer sent is not.
    pub fn on_refused(
        &mut self,
        id: &ChannelId,
        arrived: &ArrivedBlock,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.with(id, c, |channel, c| channel.on_refused(arrived, c));
    }

    /// The ledger of a channel has `height` blocks now.
    pub fn on_committed(&mut self, id: &ChannelId, height: u64, c: &mut ChannelContext<'_, '_, B>) {
        self.with(id, c, |channel, c| channel.on_committed(height, c));
    }

    /// The ordering service of a channel cannot be reached.
    pub fn on_orderer_unreachable(&mut self, id: &ChannelId, c: &mut ChannelContext<'_, '_, B>) {
        self.with(id, c, |channel, c| channel.on_orderer_unreachable(c));
    }

    /// The ledger was read for another peer.
    pub fn on_blocks_read(
        &mut self,
        id: &ChannelId,
        to: PkiId,
        nonce: u64,
        start: u64,
        blocks: Vec<Bytes>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.with(id, c, |channel, c| {
            channel.on_blocks_read(to, nonce, start, blocks, c);
        });
    }

    /// The chaincodes that this peer can execute in a channel.
    pub fn set_chaincodes(
        &mut self,
        id: &ChannelId,
        chaincodes: Vec<Chaincode>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.with(id, c, |channel, c| channel.set_chaincodes(chaincodes, c));
    }

    /// A peer is gone for good.
    pub fn forget(&mut self, peer: &PkiId) {
        for channel in self.channels.values_mut() {
            channel.forget(peer);
        }
    }

    /// A peer cannot be reached now.
    pub fn unreachable(&mut self, peer: &PkiId, c: &mut ChannelContext<'_, '_, B>) {
        for channel in self.channels.values_mut() {
            channel.unreachable(peer, c);
        }
    }

    /// Whom a message of a channel is pushed to, at random where there are more than
    /// `propagatePeerNum`. `None`: the route is not that of a channel.
    pub fn targets(
        &mut self,
        route: &Route,
        received_from: Option<PkiId>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Option<Vec<Peer>> {
        let count = c.ctx.config.propagate_peer_num;
        match route {
            Route::Block(id, number) => {
                let channel = self.channels.get_mut(id)?;
                Some(channel.push_targets(*number, count, received_from, c))
            }
            Route::Leadership(id) => {
                let channel = self.channels.get(id)?;
                let (identities, me) = (c.ctx.identities, c.ctx.me);
                let members = c.view.alive().filter(|member| {
                    channel.exchanges_blocks_with(&member.pki_id(), identities, me)
                });
                Some(members.map(Member::peer).collect())
            }
            Route::StateInfo { channel, author } => {
                Some(self.state_info_targets(channel.as_ref(), author, count, received_from, c))
            }
            Route::Alive { .. } => None,
        }
    }

    /// StateInfo of an author with an external endpoint goes to all organisations of the channel, any
    /// other within our own (Fabric: `gossipBatch`).
    fn state_info_targets(
        &self,
        channel: Option<&ChannelId>,
        author: &PkiId,
        count: usize,
        received_from: Option<PkiId>,
        c: &mut ChannelContext<'_, '_, B>,
    ) -> Vec<Peer> {
        let (identities, me) = (c.ctx.identities, c.ctx.me);
        let public = if *author == me.pki_id() {
            !me.external_endpoint.is_empty()
        } else {
            let member = c.view.get(author);
            member.is_some_and(|member| !member.external_endpoint().is_empty())
        };
        let channel = channel.filter(|_| public).and_then(|id| self.get(id));
        let suits = |member: &Member| {
            let peer = member.pki_id();
            let org = identities.org(&peer);
            let in_reach = match channel {
                Some(channel) => org.is_some_and(|org| channel.orgs.contains(org)),
                None => org == Some(me.org()),
            };
            in_reach && peer != *author && Some(peer) != received_from
        };
        let chosen = c.view.select(count, c.ctx.rng, suits);
        chosen.into_iter().map(Member::peer).collect()
    }

    /// Does what is due.
    pub fn wake(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        self.relay.wake(c.now());
        let now = c.now();
        for channel in self.channels.values_mut() {
            if channel.next_deadline() <= now || channel.awaits_the_gone(c) {
                channel.wake(c);
            }
        }
    }

    /// When [`Channels::wake`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let channels = self.channels.values().map(Channel::next_deadline);
        channels.chain(self.relay.next_deadline()).min()
    }

    fn with(
        &mut self,
        id: &ChannelId,
        c: &mut ChannelContext<'_, '_, B>,
        handle: impl FnOnce(&mut Channel<B>, &mut ChannelContext<'_, '_, B>),
    ) {
        match self.channels.get_mut(id) {
            Some(channel) => handle(channel, c),
            None => c.ctx.dropped(DropReason::UnknownChannel),
        }
    }
}

/// The channel whose MAC this is in a message of `author`. Costs a hash for each channel.
fn by_mac<'a, B: Payload>(
    channels: &'a mut BTreeMap<ChannelId, Channel<B>>,
    mac: &[u8; 32],
    author: &PkiId,
) -> Option<&'a mut Channel<B>> {
    channels
        .values_mut()
        .find(|channel| channel.id.mac(author) == *mac)
}
