//! One MSP: the certificate authorities of an organisation, and what it makes of certificates.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_protos::common::MspPrincipal;

use crate::certificate::Certificate;
use crate::chain::{Authorities, Chain};
use crate::credential::Credential;
use crate::crl::RevocationList;
use crate::error::{ChainError, MspError};
use crate::identity::Identity;
use crate::key::{MessageHash, PublicKey};
use crate::messages;
use crate::node_ou::NodeOus;
use crate::shared::Identities;

/// The rules that an MSP goes by, chosen by the capabilities of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MspVersion {
    /// No capability: no NodeOUs.
    V1_0,
    /// Channel capability V1_1: clients and peers told apart by NodeOUs.
    V1_1,
    /// V1_3 and V1_4_2: combined and anonymity principals.
    V1_3,
    /// V1_4_3 and V2_0: admins and orderers by NodeOUs.
    V1_4_3,
    /// V3_0: Ed25519. Also the version of a node's local MSP.
    V3_0,
}

/// An X.509 MSP. Clones are cheap.
#[derive(Clone)]
pub struct Msp(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: String,
    pub(crate) version: MspVersion,
    pub(crate) definition: Bytes,
    /// Those that managers remember.
    pub(crate) identities: Identities,
    pub(crate) authorities: Authorities,
    /// The authorities that have intermediate authorities below them; they vouch for nobody else.
    pub(crate) internal: Vec<Bytes>,
    pub(crate) revocation_lists: Vec<RevocationList>,
    pub(crate) tls_roots: Vec<Bytes>,
    pub(crate) tls_intermediates: Vec<Bytes>,
    /// Organizational units of which an identity must have one, with the certifiers of each.
    pub(crate) required_units: HashMap<String, Vec<Vec<u8>>>,
    pub(crate) node_ous: NodeOus,
    /// DER of the admins named by certificate.
    pub(crate) admins: Vec<Bytes>,
    pub(crate) message_hash: MessageHash,
    pub(crate) chain_hash: &'static aws_lc_rs::digest::Algorithm,
}

impl Msp {
    /// The MSP id, such as `Org1MSP`.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The rules that this MSP goes by.
    pub fn version(&self) -> MspVersion {
        self.0.version
    }

    /// The encoded `FabricMSPConfig` that this MSP was made from.
    pub fn definition(&self) -> &Bytes {
        &self.0.definition
    }

    /// DER of the roots that TLS certificates of this organisation are issued under.
    pub fn tls_root_certs(&self) -> &[Bytes] {
        &self.0.tls_roots
    }

    /// DER of the intermediate TLS certificate authorities.
    pub fn tls_intermediate_certs(&self) -> &[Bytes] {
        &self.0.tls_intermediates
    }

    /// Reads a serialized identity, which must name this MSP. Costs a signature check or more,
    /// see [`crate::MspManager`] for a cache.
    pub fn deserialize(&self, serialized: &[u8]) -> Result<Identity, MspError> {
        let serialized = Bytes::copy_from_slice(serialized);
        let identity = messages::serialized_identity(serialized.clone())?;
        if identity.mspid != self.id() {
            return Err(MspError::OtherMsp {
                expected: self.id().to_owned(),
                found: identity.mspid,
            });
        }
        self.identity_from_pem(&identity.id_bytes, serialized)
    }

    /// Whether the identity is valid under this MSP, also if it was read with another one, such as an
    /// earlier definition of this MSP.
    pub fn validate(&self, identity: &Identity) -> Result<(), MspError> {
        self.own(identity)?.validate()
    }

    /// Whether the identity satisfies the principal under this MSP.
    pub fn satisfies(&self, identity: &Identity, principal: &MspPrincipal) -> Result<(), MspError> {
        self.own(identity)?.satisfies(principal)
    }

    fn own(&self, identity: &Identity) -> Result<Identity, MspError> {
        if Arc::ptr_eq(&self.0, &identity.msp().0) {
            Ok(identity.clone())
        } else {
            self.deserialize(identity.serialized())
        }
    }

    pub(crate) fn identity_from_pem(
        &self,
        pem: &[u8],
        serialized: Bytes,
    ) -> Result<Identity, MspError> {
        let credential = self.0.read_credential(pem)?;
        Ok(Identity::new(self.clone(), serialized, credential))
    }
}

impl Inner {
    /// Reads a certificate that may belong to a member or an authority of this MSP.
    pub(crate) fn read_credential(&self, pem: &[u8]) -> Result<Credential, MspError> {
        let certificate = Certificate::from_pem(pem).map_err(|source| MspError::Certificate {
            msp: self.id.clone(),
            source,
        })?;
        if let PublicKey::Other { algorithm } = certificate.key {
            return Err(self.key_error(algorithm));
        }
        Credential::new(certificate, &self.authorities).map_err(|source| self.chain_error(source))
    }

    /// The rules behind [`Identity::validate`].
    pub(crate) fn validate(&self, credential: &Credential) -> Result<(), MspError> {
        let key = &credential.certificate.key;
        let is_supported = match key {
            PublicKey::Ecdsa { .. } | PublicKey::EcdsaP224 { .. } => true,
            PublicKey::Ed25519 { .. } => self.version >= MspVersion::V3_0,
            PublicKey::Rsa { .. } | PublicKey::Other { .. } => false,
        };
        if !is_supported {
            return Err(self.key_error(key.algorithm()));
        }
        let chain = self
            .leaf_chain(credential)
            .map_err(|source| self.chain_error(source))?;
        self.check_revocation(&credential.certificate, chain)?;
        self.check_organizational_units(credential)
    }

    /// The chain of an identity: not an authority itself, and issued by one that has no
    /// intermediate authorities below it.
    fn leaf_chain<'a>(&self, credential: &'a Credential) -> Result<&'a Chain, ChainError> {
        if credential.certificate.is_ca() {
            return Err(ChainError::IsAuthority);
        }
        let chain = credential.chain.as_ref().map_err(Clone::clone)?;
        let Some(issuer) = chain.get(1) else {
            return Err(ChainError::TooShort {
                length: chain.len(),
            });
        };
        self.check_not_internal(issuer)?;
        Ok(chain)
    }

    /// The id of the authorities that vouch for an identity: a hash over their certificates.
    /// Organizational units count together with it, and only if there is a valid chain.
    pub(crate) fn certifiers_id(&self, credential: &Credential) -> Option<Vec<u8>> {
        let chain = self.leaf_chain(credential).ok()?;
        Some(self.hash_of_chain(chain.get(1..).unwrap_or_default()))
    }

    fn key_error(&self, algorithm: &'static str) -> MspError {
        MspError::KeyAlgorithm {
            msp: self.id.clone(),
            algorithm,
        }
    }

    pub(crate) fn chain_error(&self, source: ChainError) -> MspError {
        MspError::Chain {
            msp: self.id.clone(),
            source,
        }
    }

    /// An authority that has others below it does not vouch for anybody else.
    pub(crate) fn check_not_internal(&self, authority: &Certificate) -> Result<(), ChainError> {
        if self.internal.contains(&authority.der) {
            return Err(ChainError::ParentIsInternal {
                parent: authority.common_name.clone(),
            });
        }
        Ok(())
    }

    /// Whether a list of the certificate's issuer revokes it.
    pub(crate) fn check_revocation(
        &self,
        certificate: &Certificate,
        chain: &Chain,
    ) -> Result<(), MspError> {
        let Some(issuer) = chain.get(1) else {
            return Ok(());
        };
        if issuer.extensions.subject_key_id.is_none() {
            return Err(MspError::Definition {
                msp: self.id.clone(),
                reason: format!(
                    "authority '{}' has no subject key identifier",
                    issuer.common_name
                ),
            });
        }
        for list in &self.revocation_lists {
            match list.revokes(certificate, issuer) {
                Some(false) => {}
                Some(true) => {
                    return Err(MspError::Revoked {
                        msp: self.id.clone(),
                        serial: certificate.serial_hex(),
                    });
                }
                None => {
                    return Err(MspError::AnonymousRevocationList {
                        msp: self.id.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn hash_of_chain(&self, chain: &[Arc<Certificate>]) -> Vec<u8> {
        let mut context = aws_lc_rs::digest::Context::new(self.chain_hash);
        for certificate in chain {
            context.update(&certificate.der);
        }
        context.finish().as_ref().to_vec()
    }
}

impl fmt::Debug for Msp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Msp")
            .field("id", &self.0.id)
            .field("version", &self.0.version)
            .field("roots", &self.0.authorities.roots.len())
            .field("intermediates", &self.0.authorities.intermediates.len())
            .finish()
    }
}
