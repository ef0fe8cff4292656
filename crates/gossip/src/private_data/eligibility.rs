//! Who may have something.

use std::collections::BTreeSet;
use std::fmt;

use crate::crypto::Identity;
use crate::types::OrgId;

/// A choice among the peers of a channel: the members of a collection, the endorsers of a transaction.
///
/// Fabric evaluates a collection's policy over a signature of the peer (`privdata.Filter`), for which it takes
/// that of its StateInfo. That one is checked here before a peer counts as one of the channel, so the identity
/// is enough.
pub trait Eligibility: fmt::Debug + Send + Sync {
    /// Whether this peer is one of them. Called for each peer of the channel, on the core's own task: must not
    /// block.
    fn permits(&self, peer: &Identity) -> bool;
}

/// All peers of the channel.
#[derive(Clone, Copy, Debug)]
pub struct Everybody;

impl Eligibility for Everybody {
    fn permits(&self, _: &Identity) -> bool {
        true
    }
}

/// The peers of these organisations.
#[derive(Clone, Debug)]
pub struct Organisations(pub BTreeSet<OrgId>);

impl Eligibility for Organisations {
    fn permits(&self, peer: &Identity) -> bool {
        self.0.contains(peer.org())
    }
}
