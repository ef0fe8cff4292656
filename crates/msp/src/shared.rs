//! One copy of what several channels have in common.
//!
//! The organisations of a network are mostly in several channels, with the same definition in each. What an MSP
//! makes of a certificate depends on its definition and the rules that it goes by and on nothing else, not even
//! the time, so MSPs that are alike are one, in the whole process, and so are the identities that were read with
//! them. With 80 peers in 25 channels that is 80 parsed identities instead of 2,000 of nearly 4 kB each, and as
//! many chains to verify.
//!
//! Nothing is kept alive here: MSPs belong to the configurations, identities to the caches of the managers.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::cache::SecondChanceCache;
use crate::error::MspError;
use crate::identity::{Identity, WeakIdentity};
use crate::msp::{Inner, Msp, MspVersion};

/// Identities of one MSP that are found again.
const REMEMBERED_IDENTITIES: usize = 1000;

/// Identities whose serialized form is longer than this are not remembered.
pub(crate) const MAX_REMEMBERED_SIZE: usize = 16 << 10;

/// Rules and a hash of the definition.
pub(crate) type Key = (MspVersion, [u8; 32]);

pub(crate) static MSPS: Mutex<BTreeMap<Key, Weak<Inner>>> = Mutex::new(BTreeMap::new());

/// The MSP of a definition: the one that there is, or a new one.
pub(crate) fn msp(
    definition: &Bytes,
    version: MspVersion,
    make: impl FnOnce() -> Result<Inner, MspError>,
) -> Result<Msp, MspError> {
    let key = (
        version,
        selvedge_protos::sha256_of_parts([definition.as_ref()]),
    );
    let find = |known: &BTreeMap<Key, Weak<Inner>>| known.get(&key).and_then(Weak::upgrade);
    if let Some(found) = find(&MSPS.lock()) {
        return Ok(Msp(found));
    }
    let made = Arc::new(make()?);
    let mut msps = MSPS.lock();
    if let Some(found) = find(&msps) {
        return Ok(Msp(found));
    }
    msps.retain(|_, known| known.strong_count() > 0);
    msps.insert(key, Arc::downgrade(&made));
    Ok(Msp(made))
}

/// Identities that some manager remembers, by their exact bytes.
pub(crate) struct Identities(Mutex<SecondChanceCache<Bytes, WeakIdentity>>);

impl Default for Identities {
    fn default() -> Self {
        Self(Mutex::new(SecondChanceCache::new(REMEMBERED_IDENTITIES)))
    }
}

impl Identities {
    pub(crate) fn get(&self, serialized: &Bytes) -> Option<Identity> {
        self.0.lock().get(serialized)?.upgrade()
    }

    pub(crate) fn insert(&self, identity: &Identity) {
        let serialized = identity.serialized().clone();
        self.0.lock().insert(serialized, identity.downgrade());
    }
}
