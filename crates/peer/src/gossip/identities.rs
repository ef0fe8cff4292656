//! The identities that the core knows, for those who verify on other threads.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use selvedge_gossip::crypto::{Identity, IdentitySource};
use selvedge_gossip::types::PkiId;

/// A copy of the core's identity store, kept level by its actions. Cheap to clone.
///
/// Who has just connected is entered before the core knows of it, since messages follow at once. If the
/// core does not take the identity, the driver removes it again, so the table is as bounded as the
/// core's store.
#[derive(Clone, Default)]
pub struct IdentityTable(Arc<RwLock<HashMap<PkiId, Identity>>>);

impl IdentityTable {
    pub(crate) fn insert(&self, identity: Identity) {
        self.0.write().insert(identity.pki_id(), identity);
    }

    pub(super) fn remove(&self, pki_id: &PkiId) {
        self.0.write().remove(pki_id);
    }
}

impl IdentitySource for IdentityTable {
    fn identity(&self, pki_id: &PkiId) -> Option<Identity> {
        self.0.read().get(pki_id).cloned()
    }
}
