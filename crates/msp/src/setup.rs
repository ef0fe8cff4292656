//! From an MSP's definition to the MSP, with every check that Fabric makes on the way.
//!
//! A definition that Fabric takes must be taken here too, or one organisation could stop a channel
//! for the peers that refuse it.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use selvedge_protos::{Message, msp as pb};

use crate::certificate::Certificate;
use crate::chain::Authorities;
use crate::credential::Credential;
use crate::crl::RevocationList;
use crate::error::{CertificateError, MspError};
use crate::key::{MessageHash, PublicKey};
use crate::messages;
use crate::msp::{Inner, Msp, MspVersion};
use crate::node_ou::{NodeOu, NodeOus, NodeRole};
use crate::pem;
use crate::shared::{self, Identities};

const TYPE_FABRIC: i32 = 0;
const TYPE_IDEMIX: i32 = 1;

impl Msp {
    /// Sets up an MSP from its definition in a channel configuration. A signing identity in the
    /// definition is passed over. Only X.509 MSPs are supported: Idemix, which Fabric offers for
    /// channels below V3_0, is refused. One that was set up before and is still used is found again.
    pub fn from_config(config: &pb::MspConfig, version: MspVersion) -> Result<Self, MspError> {
        if config.r#type != TYPE_FABRIC {
            return Err(MspError::UnsupportedType {
                msp: name_of(config),
                found: config.r#type,
            });
        }
        shared::msp(&config.config, version, || {
            let definition = messages::fabric_msp_config(config.config.clone())?;
            Inner::new(&definition, config.config.clone(), version)
        })
    }
}

/// The name in a definition of a kind that is not supported.
fn name_of(config: &pb::MspConfig) -> String {
    if config.r#type != TYPE_IDEMIX {
        return String::new();
    }
    pb::IdemixMspConfig::decode(config.config.as_ref())
        .map(|definition| definition.name)
        .unwrap_or_default()
}

impl Inner {
    fn new(
        definition: &pb::FabricMspConfig,
        encoded: Bytes,
        version: MspVersion,
    ) -> Result<Self, MspError> {
        let crypto = definition.crypto_config.clone().unwrap_or_default();
        let mut msp = Self {
            id: definition.name.clone(),
            version,
            definition: encoded,
            identities: Identities::default(),
            authorities: Authorities::default(),
            internal: Vec::new(),
            revocation_lists: Vec::new(),
            tls_roots: Vec::new(),
            tls_intermediates: Vec::new(),
            required_units: HashMap::new(),
            node_ous: NodeOus::default(),
            admins: Vec::new(),
            message_hash: match crypto.signature_hash_family.as_str() {
                "" | "SHA2" => MessageHash::Sha256,
                "SHA3" => MessageHash::Sha3,
                _ => MessageHash::Unknown,
            },
            chain_hash: match crypto.identity_identifier_hash_function.as_str() {
                "" | "SHA256" => &digest::SHA256,
                "SHA384" => &digest::SHA384,
                "SHA3_256" => &digest::SHA3_256,
                "SHA3_384" => &digest::SHA3_384,
                other => {
                    return Err(MspError::Definition {
                        msp: definition.name.clone(),
                        reason: format!("hash function not recognized '{other}'"),
                    });
                }
            },
        };
        msp.set_up_authorities(definition)?;
        msp.revocation_lists = msp.read_revocation_lists(definition)?;
        msp.check_authorities()?;
        msp.set_up_tls(definition)?;
        msp.required_units = msp.read_required_units(definition)?;
        if version > MspVersion::V1_0
            && let Some(node_ous) = &definition.fabric_node_ous
        {
            msp.node_ous = msp.read_node_ous(node_ous)?;
        }
        msp.set_up_admins(definition)?;
        Ok(msp)
    }

    fn error(&self, reason: impl Into<String>) -> MspError {
        MspError::Definition {
            msp: self.id.clone(),
            reason: reason.into(),
        }
    }

    fn read_certificate(&self, what: &str, pem: &[u8]) -> Result<Certificate, MspError> {
        Certificate::from_pem(pem).map_err(|error| self.error(format!("{what}: {error}")))
    }

    fn read_certificates(
        &self,
        what: &str,
        pems: &[Bytes],
    ) -> Result<Vec<Arc<Certificate>>, MspError> {
        pems.iter()
            .map(|pem| self.read_certificate(what, pem).map(Arc::new))
            .collect()
    }

    /// Takes in roots and intermediates, in low-S form.
    fn set_up_authorities(&mut self, definition: &pb::FabricMspConfig) -> Result<(), MspError> {
        const ROOT: &str = "root certificate";
        const INTERMEDIATE: &str = "intermediate certificate";
        if definition.root_certs.is_empty() {
            return Err(self.error("expected at least one CA certificate"));
        }
        let given = Authorities::new(
            &self.read_certificates(ROOT, &definition.root_certs)?,
            &self.read_certificates(INTERMEDIATE, &definition.intermediate_certs)?,
        );
        let admit = |what, pems: &[Bytes]| -> Result<Vec<Arc<Certificate>>, MspError> {
            pems.iter()
                .map(|pem| {
                    let certificate = self.read_certificate(what, pem)?;
                    if let PublicKey::Other { algorithm } = certificate.key {
                        return Err(self.error(format!("{what}: key of {algorithm}")));
                    }
                    Credential::new(certificate, &given)
                        .map(|credential| credential.certificate)
                        .map_err(|error| self.error(format!("{what}: {error}")))
                })
                .collect()
        };
        self.authorities = Authorities::new(
            &admit(ROOT, &definition.root_certs)?,
            &admit(INTERMEDIATE, &definition.intermediate_certs)?,
        );
        Ok(())
    }

    fn read_revocation_lists(
        &self,
        definition: &pb::FabricMspConfig,
    ) -> Result<Vec<RevocationList>, MspError> {
        definition
            .revocation_list
            .iter()
            .map(|list| {
                RevocationList::from_bytes(list)
                    .map_err(|error| self.error(format!("revocation list: {error}")))
            })
            .collect()
    }

    /// Checks each authority, and notes those that have intermediates below them.
    fn check_authorities(&mut self) -> Result<(), MspError> {
        let Authorities {
            roots,
            intermediates,
        } = &self.authorities;
        for authority in roots.iter().chain(intermediates) {
            self.check_authority(authority, &self.authorities)?;
        }
        let mut internal = Vec::new();
        for intermediate in intermediates {
            let chain = self
                .authorities
                .unique_chain(intermediate)
                .map_err(|source| self.chain_error(source))?;
            internal.extend(chain.iter().skip(1).map(|above| above.der.clone()));
        }
        self.internal = internal;
        Ok(())
    }

    fn check_authority(
        &self,
        certificate: &Arc<Certificate>,
        authorities: &Authorities,
    ) -> Result<(), MspError> {
        let wrong = |reason: &str| {
            self.error(format!(
                "CA Certificate '{}' (SN: {}): {reason}",
                certificate.common_name,
                certificate.serial_hex()
            ))
        };
        if !certificate.is_ca() {
            return Err(wrong("does not have the CA attribute"));
        }
        if certificate.extensions.subject_key_id.is_none() {
            return Err(wrong("has no Subject Key Identifier extension"));
        }
        let chain = authorities
            .unique_chain(certificate)
            .map_err(|error| wrong(&format!("is not valid: {error}")))?;
        self.check_revocation(certificate, &chain)
    }

    fn set_up_tls(&mut self, definition: &pb::FabricMspConfig) -> Result<(), MspError> {
        let authorities = Authorities::new(
            &self.read_certificates("TLS root certificate", &definition.tls_root_certs)?,
            &self.read_certificates(
                "TLS intermediate certificate",
                &definition.tls_intermediate_certs,
            )?,
        );
        for authority in authorities.roots.iter().chain(&authorities.intermediates) {
            self.check_authority(authority, &authorities)?;
        }
        self.tls_roots = all_certificates(&definition.tls_root_certs);
        self.tls_intermediates = all_certificates(&definition.tls_intermediate_certs);
        Ok(())
    }

    fn read_required_units(
        &self,
        definition: &pb::FabricMspConfig,
    ) -> Result<HashMap<String, Vec<Vec<u8>>>, MspError> {
        let mut units: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        for unit in &definition.organizational_unit_identifiers {
            let certifiers = self.certifiers_of(&unit.certificate)?;
            let known = units
                .entry(unit.organizational_unit_identifier.clone())
                .or_default();
            if !known.contains(&certifiers) {
                known.push(certifiers);
            }
        }
        Ok(units)
    }

    /// The id of an authority with those above it, by which organizational units refer to it
    /// (Fabric's `getCertifiersIdentifier`).
    fn certifiers_of(&self, pem: &[u8]) -> Result<Vec<u8>, MspError> {
        const WHAT: &str = "certificate of an organizational unit";
        let certificate = self.read_certificate(WHAT, pem)?;
        let credential = Credential::new(certificate, &self.authorities)
            .map_err(|error| self.error(format!("{WHAT}: {error}")))?;
        let authority = &credential.certificate;
        let is_in = |list: &[Arc<Certificate>]| list.iter().any(|known| known.der == authority.der);
        if is_in(&self.authorities.roots) {
            return Ok(self.hash_of_chain(std::slice::from_ref(authority)));
        }
        if !is_in(&self.authorities.intermediates) {
            return Err(self.error(format!("{WHAT}: not in root or intermediate certs")));
        }
        let chain = credential
            .chain
            .and_then(|chain| self.check_not_internal(authority).map(|()| chain))
            .map_err(|error| self.error(format!("{WHAT}: {error}")))?;
        Ok(self.hash_of_chain(&chain))
    }

    fn read_node_ous(&self, config: &pb::FabricNodeOUs) -> Result<NodeOus, MspError> {
        let mut given = vec![
            (NodeRole::Client, &config.client_ou_identifier),
            (NodeRole::Peer, &config.peer_ou_identifier),
        ];
        if self.version >= MspVersion::V1_4_3 {
            given.push((NodeRole::Admin, &config.admin_ou_identifier));
            given.push((NodeRole::Orderer, &config.orderer_ou_identifier));
        } else {
            let is_missing = |(_, unit): &(NodeRole, &Option<pb::FabricOuIdentifier>)| {
                unit.as_ref()
                    .is_none_or(|unit| unit.organizational_unit_identifier.is_empty())
            };
            if given.iter().any(is_missing) {
                return Err(self.error("NodeOUs must name both ClientOU and PeerOU"));
            }
        }
        let mut units = Vec::new();
        for (role, unit) in given {
            let Some(unit) = unit else { continue };
            let certifiers = if unit.certificate.is_empty() {
                None
            } else {
                Some(self.certifiers_of(&unit.certificate)?)
            };
            units.push(NodeOu {
                role,
                name: unit.organizational_unit_identifier.clone(),
                certifiers,
            });
        }
        Ok(NodeOus {
            enforced: config.enable && !units.is_empty(),
            units,
        })
    }

    fn set_up_admins(&mut self, definition: &pb::FabricMspConfig) -> Result<(), MspError> {
        let by_unit = self.node_ous.enforced && self.node_ous.defines(NodeRole::Admin);
        if self.version >= MspVersion::V1_4_3 && definition.admins.is_empty() && !by_unit {
            return Err(self
                .error("administrators must be declared when no admin ou classification is set"));
        }
        let mut admins = Vec::with_capacity(definition.admins.len());
        for (position, pem) in definition.admins.iter().enumerate() {
            let admin = self
                .read_credential(pem)
                .and_then(|admin| self.check_admin(&admin).map(|()| admin))
                .map_err(|error| self.error(format!("admin {position} is invalid: {error}")))?;
            admins.push(admin.certificate.der.clone());
        }
        self.admins = admins;
        Ok(())
    }

    /// Without NodeOUs an admin must be a valid member. With them it must be a client or, from
    /// V1_4_3 on, an admin, whose validity is then not asked for.
    fn check_admin(&self, admin: &Credential) -> Result<(), MspError> {
        if !self.node_ous.enforced {
            return self.validate(admin);
        }
        if self.version < MspVersion::V1_4_3 {
            self.validate(admin)?;
        }
        self.check_role(admin, NodeRole::Client)
            .or_else(|_| self.check_role(admin, NodeRole::Admin))
            .map_err(|reason| MspError::Role {
                msp: self.id.clone(),
                role: "a client or an admin",
                reason,
            })
    }
}

/// DER of all certificates in the PEM texts, which may hold several each.
fn all_certificates(pems: &[Bytes]) -> Vec<Bytes> {
    pems.iter()
        .flat_map(|text| pem::decode_all(text))
        .filter(|block| block.label == pem::CERTIFICATE && !block.has_headers)
        .filter_map(|block| -> Option<Bytes> {
            let parsed: Result<_, CertificateError> = Certificate::from_der(block.contents.into());
            parsed.ok().map(|certificate| certificate.der)
        })
        .collect()
}
