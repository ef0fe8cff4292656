//! Who leads the channel: its [`election`](crate::election), and what of the channel it must know.

use std::collections::BTreeSet;

use super::state_info::StateInfos;
use super::{Channel, ChannelContext, Standing};
use crate::counters::DropReason;
use crate::election::{Colleagues, Election};
use crate::event::Payload;
use crate::identity::IdentityStore;
use crate::membership::{Member, View};
use crate::message::{Leadership, Verified};
use crate::types::{OrgId, PkiId};

/// The peers of our organisation in a channel.
struct OrgPeers<'a> {
    org: &'a OrgId,
    view: &'a View,
    identities: &'a IdentityStore,
    state_infos: &'a StateInfos,
    standing: Standing,
}

impl<'a> OrgPeers<'a> {
    fn of<'v: 'a, 'c: 'a, B>(
        standing: Standing,
        state_infos: &'a StateInfos,
        c: &ChannelContext<'v, 'c, B>,
    ) -> Self {
        Self {
            org: c.ctx.me.org(),
            view: c.view,
            identities: c.ctx.identities,
            state_infos,
            standing,
        }
    }

    fn alive(&self) -> impl Iterator<Item = PkiId> {
        let alive = self.view.alive().map(Member::pki_id);
        alive.filter(|peer| self.identities.org(peer) == Some(self.org))
    }
}

impl Colleagues for OrgPeers<'_> {
    fn in_channel(&self) -> BTreeSet<PkiId> {
        self.alive()
            .filter(|peer| {
                self.standing == Standing::Member && self.state_infos.present(peer).is_some()
            })
            .collect()
    }

    fn alive_count(&self) -> usize {
        self.alive().count()
    }

    fn is_gone(&self, peer: &PkiId) -> bool {
        let dead = self.view.get(peer).is_some_and(|member| !member.is_alive());
        dead || self.state_infos.has_left(peer)
    }
}

impl<B: Payload> Channel<B> {
    /// Who of our organisation leads the channel, as far as is known; may be this peer. `None` also where no
    /// leader is elected.
    pub fn leader(&self) -> Option<PkiId> {
        self.election.as_ref().and_then(Election::leader)
    }

    /// Whether this peer was elected to fetch the channel's blocks from the ordering service.
    pub fn leads(&self) -> bool {
        self.election.as_ref().is_some_and(Election::leads)
    }

    /// Takes part in elections from now on, if the settings say so.
    pub(super) fn start_election(&mut self, c: &ChannelContext<'_, '_, B>) {
        if c.ctx.config.use_leader_election && self.election.is_none() {
            let peers = OrgPeers::of(self.standing, &self.state_infos, c);
            self.election = Some(Election::new(self.id.clone(), &peers, c.ctx));
        }
    }

    /// Takes part no more.
    pub(super) fn stop_election(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        if let Some(mut election) = self.election.take() {
            election.stop(c.out);
        }
    }

    /// A leadership message came.
    pub(super) fn on_leadership(
        &mut self,
        from: PkiId,
        message: &Verified<Leadership>,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        match &mut self.election {
            Some(election) => {
                let peers = OrgPeers::of(self.standing, &self.state_infos, c);
                election.handle(from, message, &peers, c.ctx, c.out);
            }
            None => c.ctx.dropped(DropReason::NotHandled),
        }
    }

    /// The ordering service cannot be reached.
    pub(super) fn on_orderer_unreachable(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        if let Some(election) = &mut self.election {
            let peers = OrgPeers::of(self.standing, &self.state_infos, c);
            let reason = "it cannot reach the ordering service";
            election.give_way(reason, &peers, c.ctx, c.out);
        }
    }

    pub(super) fn wake_election(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        if let Some(election) = &mut self.election {
            let peers = OrgPeers::of(self.standing, &self.state_infos, c);
            election.wake(&peers, c.ctx, c.out);
        }
    }

    /// Whether the leader is waited for in vain. Cheap enough to be asked whenever the node wakes up.
    pub(super) fn awaits_the_gone(&mut self, c: &ChannelContext<'_, '_, B>) -> bool {
        let peers = OrgPeers::of(self.standing, &self.state_infos, c);
        let election = self.election.as_mut();
        election.is_some_and(|election| election.awaits_the_gone(&peers))
    }
}
