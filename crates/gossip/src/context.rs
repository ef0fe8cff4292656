//! What every state machine of a node may look at and use while it handles an event.

use std::time::Instant;

use bytes::Bytes;
use rand::rngs::StdRng;

use crate::config::Config;
use crate::counters::{Counters, DropReason};
use crate::crypto::{Identity, Signer};
use crate::emitter::{Emission, Emitter};
use crate::identity::IdentityStore;
use crate::message::Envelope;
use crate::types::{Clock, Endpoint, OrgId, PkiId};

/// The peer that this node is.
#[derive(Clone, Debug)]
pub struct LocalPeer {
    /// Its identity.
    pub identity: Identity,
    /// Published within the organisation.
    pub internal_endpoint: Endpoint,
    /// Published to other organisations; may be empty.
    pub external_endpoint: Endpoint,
    /// What its alive messages say beside: see [`extension`](crate::extension). Empty: as Fabric's.
    pub metadata: Bytes,
    /// When it was started.
    pub started: Instant,
    /// The same in nanoseconds since 1970: the incarnation of all that it signs.
    pub incarnation: u64,
}

impl LocalPeer {
    /// Its PKI-ID.
    pub fn pki_id(&self) -> PkiId {
        self.identity.pki_id()
    }

    /// Its organisation.
    pub fn org(&self) -> &OrgId {
        self.identity.org()
    }
}

/// The surroundings of a state machine. Made by the node for each event; the parts that a state machine
/// owns are its own fields instead.
pub struct Context<'a> {
    /// The time of the event.
    pub now: Instant,
    /// Wall time.
    pub clock: &'a Clock,
    /// The settings.
    pub config: &'a Config,
    /// This peer.
    pub me: &'a LocalPeer,
    /// Signs in this peer's name.
    pub signer: &'a dyn Signer,
    /// The only source of randomness.
    pub rng: &'a mut StdRng,
    /// Known identities.
    pub identities: &'a IdentityStore,
    /// Takes what is pushed.
    pub emitter: &'a mut Emitter,
    /// Counts.
    pub counters: &'a mut Counters,
}

impl Context<'_> {
    /// The organisation of a peer, if its identity is known.
    pub fn org_of(&self, pki_id: &PkiId) -> Option<&OrgId> {
        self.identities.org(pki_id)
    }

    /// Whether a peer is known to be of our organisation.
    pub fn in_my_org(&self, pki_id: &PkiId) -> bool {
        self.org_of(pki_id) == Some(self.me.org())
    }

    /// Counts a drop.
    pub fn dropped(&mut self, reason: DropReason) {
        self.counters.dropped(reason);
    }

    /// Queues a message for pushing.
    pub fn emit(&mut self, emission: Emission) {
        if !self.emitter.add(emission, self.config) {
            self.counters.dropped(DropReason::EmitterFull);
        }
    }

    /// Signs a message in this peer's name. `None`: the key failed, which is logged and counted.
    pub fn sign(&mut self, message: &selvedge_protos::gossip::GossipMessage) -> Option<Envelope> {
        match Envelope::signed(message, self.signer) {
            Ok(envelope) => Some(envelope),
            Err(error) => {
                tracing::error!(%error, "gossip message not sent");
                self.counters.dropped(DropReason::SignFailed);
                None
            }
        }
    }
}
