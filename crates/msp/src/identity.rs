//! Identities: a certificate under an MSP.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_protos::common::MspPrincipal;
use selvedge_protos::msp as pb;

use crate::certificate::Certificate;
use crate::credential::Credential;
use crate::error::{CertificateError, MspError, SignatureError};
use crate::messages;
use crate::msp::Msp;

/// The verdict on this many principals is remembered for each identity.
const MAX_REMEMBERED_PRINCIPALS: usize = 64;

/// Verdicts on principals with more bytes than this are not remembered.
const MAX_REMEMBERED_PRINCIPAL: usize = 4 << 10;

/// An identity under the MSP that it names: a certificate that the MSP could read and, if it is
/// signed with ECDSA, has a chain to one of the MSP's roots. Whether the identity is valid is a
/// further question, see [`Identity::validate`].
///
/// An identity keeps the MSP that it was read with. After a config update it has to be read anew
/// ([`crate::MspManager::renew`]). Clones are cheap and share what was found out.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    msp: Msp,
    serialized: Bytes,
    credential: Credential,
    validity: OnceLock<Result<(), MspError>>,
    principals: Mutex<HashMap<(i32, Bytes), Result<(), MspError>>>,
}

/// An [`Identity`] as long as somebody else keeps it.
pub(crate) struct WeakIdentity(Weak<Inner>);

impl WeakIdentity {
    pub(crate) fn upgrade(&self) -> Option<Identity> {
        self.0.upgrade().map(Identity)
    }
}

impl Identity {
    pub(crate) fn new(msp: Msp, serialized: Bytes, credential: Credential) -> Self {
        Self(Arc::new(Inner {
            msp,
            serialized,
            credential,
            validity: OnceLock::new(),
            principals: Mutex::default(),
        }))
    }

    pub(crate) fn downgrade(&self) -> WeakIdentity {
        WeakIdentity(Arc::downgrade(&self.0))
    }

    /// Whether both are one copy.
    #[cfg(test)]
    pub(crate) fn shares_with(&self, other: &Identity) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The MSP that this identity belongs to.
    pub fn msp(&self) -> &Msp {
        &self.0.msp
    }

    /// The id of that MSP.
    pub fn msp_id(&self) -> &str {
        self.0.msp.id()
    }

    /// The `SerializedIdentity` message as it was received.
    pub fn serialized(&self) -> &Bytes {
        &self.0.serialized
    }

    /// The certificate as Fabric compares it: with its signature in low-S form, which may differ
    /// from what was received.
    pub fn certificate_der(&self) -> &Bytes {
        &self.certificate().der
    }

    /// The subject's organizational units, in order.
    pub fn organizational_units(&self) -> &[String] {
        &self.certificate().organizational_units
    }

    /// The end of the certificate's validity. No rule of an MSP looks at it.
    pub fn expires_at(&self) -> SystemTime {
        system_time(self.certificate().not_after)
    }

    /// Whether both are the same certificate of the same MSP, however serialized.
    pub fn is_same(&self, other: &Identity) -> bool {
        self.msp_id() == other.msp_id() && self.certificate_der() == other.certificate_der()
    }

    /// Whether the MSP takes this identity for valid: key algorithm, chain, revocation,
    /// organizational units. Time plays no part in it, so the verdict is found once and kept.
    pub fn validate(&self) -> Result<(), MspError> {
        self.0
            .validity
            .get_or_init(|| {
                let verdict = self.0.msp.0.validate(&self.0.credential);
                if let Err(error) = &verdict {
                    tracing::warn!(
                        subject = self.certificate().common_name,
                        serial = self.certificate().serial_hex(),
                        "Could not validate identity: {error}"
                    );
                }
                verdict
            })
            .clone()
    }

    /// Whether this identity satisfies the principal; the error says why it does not. Verdicts are
    /// remembered, a bounded number of them.
    pub fn satisfies(&self, principal: &MspPrincipal) -> Result<(), MspError> {
        if principal.principal.len() > MAX_REMEMBERED_PRINCIPAL {
            return self.0.msp.check_principal(self, principal);
        }
        // A copy, since the message may lie in a buffer as large as a block.
        let key = (
            principal.principal_classification,
            Bytes::copy_from_slice(&principal.principal),
        );
        if let Some(verdict) = self.0.principals.lock().get(&key) {
            return verdict.clone();
        }
        let verdict = self.0.msp.check_principal(self, principal);
        let mut remembered = self.0.principals.lock();
        if remembered.len() >= MAX_REMEMBERED_PRINCIPALS {
            remembered.clear();
        }
        remembered.insert(key, verdict.clone());
        verdict
    }

    /// Whether `signature` is this identity's over `message`. ECDSA with SHA-256, whatever the
    /// curve, S in the lower half; bytes after the DER signature do not matter. Costs one signature
    /// check: for P-256 about 40 microseconds, and 20 if the key has been used often.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let hash = self.0.msp.0.message_hash;
        self.certificate()
            .key
            .verify_message(message, signature, hash)
    }

    pub(crate) fn credential(&self) -> &Credential {
        &self.0.credential
    }

    fn certificate(&self) -> &Certificate {
        &self.0.credential.certificate
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("msp", &self.msp_id())
            .field("subject", &self.certificate().common_name)
            .field("serial", &self.certificate().serial_hex())
            .finish()
    }
}

/// When the certificate of a serialized identity expires, without asking any MSP.
pub fn expires_at(serialized: &[u8]) -> Result<SystemTime, MspError> {
    let identity = messages::serialized_identity(Bytes::copy_from_slice(serialized))?;
    Certificate::from_pem(&identity.id_bytes)
        .map(|certificate| system_time(certificate.not_after))
        .map_err(|source| MspError::Certificate {
            msp: identity.mspid,
            source,
        })
}

/// Seconds since 1970 as a time; what the clock cannot express becomes 1970.
fn system_time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Whether a serialized identity is one PEM block labelled as a certificate or not labelled, with
/// nothing after it, whose ECDSA signature is in canonical DER (Fabric's `IsWellFormed`, which
/// transactions have to pass). The MSP that it names is not asked.
pub fn is_well_formed(identity: &pb::SerializedIdentity) -> Result<(), MspError> {
    let wrong = |source| MspError::Certificate {
        msp: identity.mspid.clone(),
        source,
    };
    let (block, rest) =
        crate::pem::decode(&identity.id_bytes).ok_or(wrong(CertificateError::NotPem))?;
    if !rest.is_empty() {
        return Err(wrong(CertificateError::TrailingData));
    }
    if !matches!(block.label.as_str(), crate::pem::CERTIFICATE | "") {
        return Err(wrong(CertificateError::Malformed { part: "PEM label" }));
    }
    let certificate = Certificate::from_der(block.contents.into()).map_err(wrong)?;
    let is_canonical = !certificate.is_ecdsa_signed()
        || crate::key::canonical_ecdsa(certificate.signature())
            .is_ok_and(|canonical| canonical == certificate.signature());
    if is_canonical {
        Ok(())
    } else {
        Err(wrong(CertificateError::Malformed {
            part: "signature, which is not canonical",
        }))
    }
}
