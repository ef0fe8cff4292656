//! PKI-IDs and their identities (Fabric: `gossip/identity`).
//!
//! An identity enters when a stream is opened, in an alive message, or by identity pull; always after
//! [`Identity::check`]. It leaves when its certificate ends, when it is revoked, or when it was not used for
//! an hour; our own stays. It is used whenever its owner sends something or a message of its owner
//! comes, and as long as its owner is a member, dead or alive: in Fabric each attempt to reach it counts.
//! Whoever removes one also purges the peer from membership and channels, stops handing the identity out
//! and closes the stream (the node does all of that).
//!
//! A peer that comes back with a new certificate has a new PKI-ID, so renewal needs no code here: both are
//! separate entries, and the old one leaves when it ends or is no longer used.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::crypto::{Identity, IdentitySource};
use crate::types::{Clock, OrgId, PkiId};

/// An identity of which nothing was heard for this long is forgotten (Fabric: `usageThreshold`).
const USAGE_THRESHOLD: Duration = Duration::from_secs(3600);

/// How often unused identities are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(360);

/// How long what was checked may be under way. For so long an identity that was revoked is not taken in again, and
/// identities of an organisation whose rules have changed are to be checked once more.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// The identities that a node knows.
#[derive(Debug)]
pub struct IdentityStore {
    own: PkiId,
    entries: BTreeMap<PkiId, Entry>,
    /// Revoked ones, and until when they are refused.
    revoked: BTreeMap<PkiId, Instant>,
    /// Organisations whose rules changed, and until when new identities of them may have been checked before.
    suspects: BTreeMap<OrgId, Instant>,
    capacity: usize,
    next_sweep: Instant,
}

#[derive(Debug)]
struct Entry {
    identity: Identity,
    ends: Option<Instant>,
    used: Instant,
}

/// What became of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was unknown.
    New,
    /// It was known.
    Known,
    /// Its certificate has ended.
    Expired,
    /// It was revoked a moment ago.
    Revoked,
    /// There is no room.
    Full,
}

impl Learned {
    /// Whether the identity is in the store now.
    pub fn is_there(self) -> bool {
        matches!(self, Self::New | Self::Known)
    }
}

impl IdentityStore {
    /// A store that holds `own`, which it never forgets.
    pub fn new(own: Identity, capacity: usize, now: Instant) -> Self {
        let pki_id = own.pki_id();
        let entry = Entry {
            identity: own,
            ends: None,
            used: now,
        };
        Self {
            own: pki_id,
            entries: BTreeMap::from([(pki_id, entry)]),
            revoked: BTreeMap::new(),
            suspects: BTreeMap::new(),
            capacity,
            next_sweep: now + SWEEP_INTERVAL,
        }
    }

    /// Adds an identity that passed its check.
    pub fn learn(&mut self, identity: &Identity, clock: &Clock, now: Instant) -> Learned {
        if let Some(entry) = self.entries.get_mut(&identity.pki_id()) {
            entry.used = now;
            return Learned::Known;
        }
        if self
            .revoked
            .get(&identity.pki_id())
            .is_some_and(|until| now < *until)
        {
            return Learned::Revoked;
        }
        let end = identity.expires_at();
        if end.is_some_and(|end| end < clock.unix_nanos(now)) {
            return Learned::Expired;
        }
        // Fabric wipes an identity out a millisecond after its end.
        let ends = end.and_then(|end| clock.instant_of(end.saturating_add(1_000_000), now));
        if self.entries.len() >= self.capacity {
            return Learned::Full;
        }
        if let Some(ends) = ends {
            self.next_sweep = self.next_sweep.min(ends);
        }
        let entry = Entry {
            identity: identity.clone(),
            ends,
            used: now,
        };
        self.entries.insert(identity.pki_id(), entry);
        Learned::New
    }

    /// The identity that goes by `pki_id`.
    pub fn get(&self, pki_id: &PkiId) -> Option<&Identity> {
        self.entries.get(pki_id).map(|entry| &entry.identity)
    }

    /// The organisation of the peer `pki_id`.
    pub fn org(&self, pki_id: &PkiId) -> Option<&OrgId> {
        self.get(pki_id).map(Identity::org)
    }

    /// All identities, by PKI-ID.
    pub fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.entries.values().map(|entry| &entry.identity)
    }

    /// How many there are, our own included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: our own is always there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Notes that something was heard of `pki_id`.
    pub fn touch(&mut self, pki_id: &PkiId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(pki_id) {
            entry.used = now;
        }
    }

    /// Removes an identity that is no longer valid; our own stays. `false`: it is not there.
    pub fn revoke(&mut self, pki_id: &PkiId, now: Instant) -> bool {
        if *pki_id == self.own || self.entries.remove(pki_id).is_none() {
            return false;
        }
        self.revoked.retain(|_, until| now < *until);
        self.revoked.insert(*pki_id, now + UNDER_WAY);
        true
    }

    /// The rules by which identities of these organisations are valid have changed. Returns those that are to be
    /// checked once more; our own is not. More may come: see [`Self::is_suspect`].
    pub fn suspect(&mut self, orgs: Vec<OrgId>, now: Instant) -> Vec<Identity> {
        self.suspects.retain(|_, until| now < *until);
        let until = now + UNDER_WAY;
        self.suspects
            .extend(orgs.into_iter().map(|org| (org, until)));
        let known = self.iter().filter(|identity| {
            identity.pki_id() != self.own && self.suspects.get(identity.org()) == Some(&until)
        });
        known.cloned().collect()
    }

    /// Whether a new identity may have been checked before the rules of its organisation changed.
    pub fn is_suspect(&self, identity: &Identity, now: Instant) -> bool {
        let until = self.suspects.get(identity.org());
        until.is_some_and(|until| now < *until)
    }

    /// Removes and returns what has ended or was not used for long. `is_member` tells whose owners are members.
    pub fn sweep(&mut self, now: Instant, is_member: impl Fn(&PkiId) -> bool) -> Vec<PkiId> {
        if now < self.next_sweep {
            return Vec::new();
        }
        let own = self.own;
        let gone: Vec<PkiId> = self
            .entries
            .iter()
            .filter(|(pki_id, entry)| {
                let ended = entry.ends.is_some_and(|ends| ends <= now);
                let unused = now.saturating_duration_since(entry.used) > USAGE_THRESHOLD;
                **pki_id != own && (ended || (unused && !is_member(pki_id)))
            })
            .map(|(pki_id, _)| *pki_id)
            .collect();
        for pki_id in &gone {
            self.entries.remove(pki_id);
        }
        let first_end = self.entries.values().filter_map(|entry| entry.ends).min();
        let regular = now + SWEEP_INTERVAL;
        self.next_sweep = first_end.map_or(regular, |end| end.min(regular));
        gone
    }

    /// When [`Self::sweep`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.next_sweep
    }
}

impl IdentitySource for IdentityStore {
    fn identity(&self, pki_id: &PkiId) -> Option<Identity> {
        self.get(pki_id).cloned()
    }
}
