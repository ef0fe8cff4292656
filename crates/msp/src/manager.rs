//! All MSPs of a channel, and a cache of the identities that were seen.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_protos::common::MspPrincipal;

use crate::cache::SecondChanceCache;
use crate::error::MspError;
use crate::identity::Identity;
use crate::messages;
use crate::msp::Msp;
use crate::shared::MAX_REMEMBERED_SIZE;

/// The number of identities that a manager remembers, each with what was found out about it: its
/// validity and the principals that it satisfies. Go keeps 100 for each MSP.
const REMEMBERED_IDENTITIES: usize = 1000;

/// All MSPs of a channel, or the one local MSP of a node.
pub struct MspManager {
    msps: BTreeMap<String, Msp>,
    identities: Mutex<SecondChanceCache<Bytes, Identity>>,
}

impl MspManager {
    /// The same MSP may be given several times, but not two that differ under one id.
    pub fn new(msps: impl IntoIterator<Item = Msp>) -> Result<Self, MspError> {
        let mut by_id: BTreeMap<String, Msp> = BTreeMap::new();
        for msp in msps {
            match by_id.entry(msp.id().to_owned()) {
                Entry::Vacant(entry) => {
                    entry.insert(msp);
                }
                Entry::Occupied(entry) if entry.get().definition() == msp.definition() => {}
                Entry::Occupied(_) => {
                    return Err(MspError::Redefined {
                        msp: msp.id().to_owned(),
                    });
                }
            }
        }
        Ok(Self {
            msps: by_id,
            identities: Mutex::new(SecondChanceCache::new(REMEMBERED_IDENTITIES)),
        })
    }

    /// The MSP with this id.
    pub fn msp(&self, id: &str) -> Option<&Msp> {
        self.msps.get(id)
    }

    /// All MSPs, in the order of their ids.
    pub fn msps(&self) -> impl Iterator<Item = &Msp> {
        self.msps.values()
    }

    /// Reads a serialized identity of any of the MSPs. The identity keeps the bytes as they are.
    /// Whether it is valid is a further question. A first reading costs a signature check or more;
    /// identities that can be read are remembered by their exact bytes, and shared with all managers that
    /// have the same MSP.
    pub fn deserialize(&self, serialized: &[u8]) -> Result<Identity, MspError> {
        if let Some(known) = self.identities.lock().get(serialized) {
            return Ok(known.clone());
        }
        let serialized = Bytes::copy_from_slice(serialized);
        let identity = messages::serialized_identity(serialized.clone())?;
        let Some(msp) = self.msps.get(&identity.mspid) else {
            return Err(MspError::UnknownMsp {
                msp: identity.mspid,
            });
        };
        let identity = match msp.0.identities.get(&serialized) {
            Some(known) => known,
            None => msp.identity_from_pem(&identity.id_bytes, serialized)?,
        };
        if identity.serialized().len() <= MAX_REMEMBERED_SIZE {
            msp.0.identities.insert(&identity);
            self.identities
                .lock()
                .insert(identity.serialized().clone(), identity.clone());
        }
        Ok(identity)
    }

    /// Reads a serialized identity, which must be valid.
    pub fn deserialize_and_validate(&self, serialized: &[u8]) -> Result<Identity, MspError> {
        let identity = self.deserialize(serialized)?;
        identity.validate()?;
        Ok(identity)
    }

    /// The identity under these MSPs, if it is valid under them: to be asked of every identity that is
    /// kept for long whenever a channel's configuration has changed, since an identity stays with the
    /// MSP that it was read with.
    pub fn renew(&self, identity: &Identity) -> Result<Identity, MspError> {
        self.deserialize_and_validate(identity.serialized())
    }

    /// Whether the identity is valid, by the MSP that it was read with.
    pub fn validate(&self, identity: &Identity) -> Result<(), MspError> {
        identity.validate()
    }

    /// Whether the identity satisfies the principal, by the MSP that it was read with.
    pub fn satisfies(&self, identity: &Identity, principal: &MspPrincipal) -> Result<(), MspError> {
        identity.satisfies(principal)
    }
}

impl std::fmt::Debug for MspManager {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MspManager")
            .field("msps", &self.msps.keys())
            .finish()
    }
}
