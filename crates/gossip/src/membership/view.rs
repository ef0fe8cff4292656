//! Who is there: the part of membership that others read.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Instant;

use rand::Rng;
use rand::rngs::StdRng;

use crate::extension;
use crate::message::{Alive, Verified};
use crate::types::{Endpoint, Peer, PkiId};

/// A peer that was heard of, alive or dead.
#[derive(Clone, Debug)]
pub struct Member {
    alive: Verified<Alive>,
    /// Kept when a later message comes without the secret.
    internal_endpoint: Option<Endpoint>,
    last_seen: Instant,
    /// Place among the living; `None`: dead.
    slot: Option<usize>,
}

impl Member {
    /// Its PKI-ID.
    pub fn pki_id(&self) -> PkiId {
        self.alive.pki_id
    }

    /// Its external endpoint; empty if it has none.
    pub fn external_endpoint(&self) -> &Endpoint {
        &self.alive.endpoint
    }

    /// Its internal endpoint, known within the organisation only.
    pub fn internal_endpoint(&self) -> Option<&Endpoint> {
        self.internal_endpoint.as_ref()
    }

    /// Where to dial it: the internal endpoint if it is known (Fabric: `PreferredEndpoint`).
    pub fn preferred_endpoint(&self) -> &Endpoint {
        match &self.internal_endpoint {
            Some(endpoint) if !endpoint.is_empty() => endpoint,
            _ => &self.alive.endpoint,
        }
    }

    /// Whether it exchanges blocks along a tree; see [`extension`](crate::extension).
    pub fn speaks_extension(&self) -> bool {
        extension::is_spoken_by(&self.alive.metadata)
    }

    /// Its newest alive message.
    pub fn message(&self) -> &Verified<Alive> {
        &self.alive
    }

    /// When that came.
    pub fn last_seen(&self) -> Instant {
        self.last_seen
    }

    /// Whether it is taken to be alive.
    pub fn is_alive(&self) -> bool {
        self.slot.is_some()
    }

    /// Whom to send to.
    pub fn peer(&self) -> Peer {
        Peer {
            pki_id: self.pki_id(),
            endpoint: self.preferred_endpoint().clone(),
        }
    }
}

/// All members by PKI-ID, and the living in a list that can be drawn from.
#[derive(Debug, Default)]
pub struct View {
    members: BTreeMap<PkiId, Member>,
    living: Vec<PkiId>,
}

impl View {
    /// The member `pki_id`, alive or dead. Never this peer itself.
    pub fn get(&self, pki_id: &PkiId) -> Option<&Member> {
        self.members.get(pki_id)
    }

    /// Whether `pki_id` is alive.
    pub fn is_alive(&self, pki_id: &PkiId) -> bool {
        self.get(pki_id).is_some_and(Member::is_alive)
    }

    /// The living, in the order of their PKI-IDs.
    pub fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.is_alive())
    }

    /// The dead, in the order of their PKI-IDs.
    pub fn dead(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.is_alive())
    }

    /// How many are alive.
    pub fn alive_count(&self) -> usize {
        self.living.len()
    }

    /// How many there are, dead or alive.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Up to `count` living members that `wanted` accepts, drawn at random without repetition (Fabric:
    /// `filter.SelectPeers`). Costs as many steps as members are looked at.
    pub fn select<'a>(
        &'a self,
        count: usize,
        rng: &mut StdRng,
        mut wanted: impl FnMut(&Member) -> bool,
    ) -> Vec<&'a Member> {
        let mut selected = Vec::with_capacity(count.min(self.living.len()));
        // Fisher and Yates' shuffle, done only as far as needed: `moved` holds what an untouched list
        // would have swapped.
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        for step in 0..self.living.len() {
            if selected.len() == count {
                break;
            }
            let drawn = rng.random_range(step..self.living.len());
            let here = moved.remove(&step).unwrap_or(step);
            let index = if drawn == step {
                here
            } else {
                moved.insert(drawn, here).unwrap_or(drawn)
            };
            let member = self.living.get(index).and_then(|pki_id| self.get(pki_id));
            if let Some(member) = member
                && wanted(member)
            {
                selected.push(member);
            }
        }
        selected
    }

    /// The first living member after a PKI-ID that `wanted` accepts, and the first one before it, where the
    /// last is followed by the first again.
    pub fn beside(&self, pki_id: &PkiId, wanted: impl Fn(&Member) -> bool) -> [Option<&Member>; 2] {
        let before = || self.members.range(..*pki_id);
        let after = || self.members.range((Excluded(*pki_id), Unbounded));
        let suits = |member: &&Member| member.is_alive() && wanted(member);
        let next = after().chain(before()).map(|(_, it)| it).find(suits);
        let previous = before().rev().chain(after().rev()).map(|(_, it)| it);
        [next, { previous }.find(suits)]
    }

    /// Enters a member or replaces its message; it is alive from now on, or dead.
    pub(super) fn put(&mut self, alive: Verified<Alive>, is_alive: bool, now: Instant) {
        let pki_id = alive.pki_id;
        let known = self.members.get(&pki_id);
        let internal_endpoint = alive
            .internal_endpoint
            .clone()
            .or_else(|| known?.internal_endpoint.clone());
        let slot = known.and_then(|member| member.slot);
        let member = Member {
            alive,
            internal_endpoint,
            last_seen: now,
            slot,
        };
        self.members.insert(pki_id, member);
        if is_alive {
            self.enlist(pki_id);
        } else {
            self.strike(&pki_id);
        }
    }

    /// Takes a member for dead.
    pub(super) fn bury(&mut self, pki_id: &PkiId) {
        self.strike(pki_id);
    }

    /// Forgets a member.
    pub(super) fn remove(&mut self, pki_id: &PkiId) -> Option<Member> {
        self.strike(pki_id);
        self.members.remove(pki_id)
    }

    fn enlist(&mut self, pki_id: PkiId) {
        if let Some(member) = self.members.get_mut(&pki_id)
            && member.slot.is_none()
        {
            member.slot = Some(self.living.len());
            self.living.push(pki_id);
        }
    }

    fn strike(&mut self, pki_id: &PkiId) {
        let Some(slot) = self
            .members
            .get_mut(pki_id)
            .and_then(|member| member.slot.take())
        else {
            return;
        };
        self.living.swap_remove(slot);
        if let Some(moved) = self.living.get(slot)
            && let Some(member) = self.members.get_mut(moved)
        {
            member.slot = Some(slot);
        }
    }
}

#[cfg(test)]
impl View {
    /// Enters a living member, for the tests of what stands on membership.
    pub(crate) fn enter(&mut self, alive: Verified<Alive>, now: Instant) {
        self.put(alive, true, now);
    }
}
