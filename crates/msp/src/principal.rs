//! Principals: the descriptions of identities that policies are made of.

use selvedge_protos::Message;
use selvedge_protos::common::msp_identity_anonymity::MspIdentityAnonymityType;
use selvedge_protos::common::msp_principal::Classification;
use selvedge_protos::common::msp_role::MspRoleType;
use selvedge_protos::common::{
    CombinedPrincipal, MspIdentityAnonymity, MspPrincipal, MspRole, OrganizationUnit,
};
use selvedge_protos::schema::Schema;

use crate::error::MspError;
use crate::identity::Identity;
use crate::messages::{self, ANONYMITY, COMBINED, ORGANIZATION_UNIT, ROLE};
use crate::msp::{Inner, Msp, MspVersion};
use crate::node_ou::NodeRole;

impl Msp {
    /// The rules behind [`Identity::satisfies`].
    pub(crate) fn check_principal(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), MspError> {
        self.flatten(principal)?
            .iter()
            .try_for_each(|principal| self.check_simple(identity, principal))
    }

    /// Replaces combined principals by their members, in order. Like Go this sets no limit to their
    /// depth, so there is no recursion; the number of members is bounded by the length of the message.
    fn flatten(&self, principal: &MspPrincipal) -> Result<Vec<MspPrincipal>, MspError> {
        let mut simple = Vec::new();
        let mut rest = vec![principal.clone()];
        while let Some(next) = rest.pop() {
            if next.principal_classification() != Classification::Combined {
                simple.push(next);
                continue;
            }
            if self.version() < MspVersion::V1_3 {
                return Err(unknown_kind(&next));
            }
            let combined: CombinedPrincipal = decode("CombinedPrincipal", &next, &COMBINED)?;
            if combined.principals.is_empty() {
                return Err(invalid("no principals in CombinedPrincipal"));
            }
            rest.extend(combined.principals.into_iter().rev());
        }
        Ok(simple)
    }

    fn check_simple(&self, identity: &Identity, principal: &MspPrincipal) -> Result<(), MspError> {
        match Classification::try_from(principal.principal_classification) {
            Ok(Classification::Role) => self.check_role_principal(identity, principal),
            Ok(Classification::OrganizationUnit) => self.check_unit_principal(identity, principal),
            Ok(Classification::Identity) => self.check_identity_principal(identity, principal),
            Ok(Classification::Anonymity) if self.version() >= MspVersion::V1_3 => {
                check_anonymity_principal(principal)
            }
            Ok(Classification::Anonymity | Classification::Combined) | Err(_) => {
                Err(unknown_kind(principal))
            }
        }
    }

    fn check_role_principal(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), MspError> {
        let role: MspRole = decode("MSPRole", principal, &ROLE)?;
        self.check_msp(&role.msp_identifier)?;
        let by_node_ou = self.version() >= MspVersion::V1_4_3 && self.0.node_ous.enforced;
        match MspRoleType::try_from(role.role) {
            Ok(MspRoleType::Member) => identity.validate(),
            Ok(MspRoleType::Admin) if self.0.is_named_admin(identity) => Ok(()),
            Ok(MspRoleType::Admin) if by_node_ou => {
                self.check_node_role(identity, NodeRole::Admin, "an admin")
            }
            Ok(MspRoleType::Admin) => Err(MspError::Role {
                msp: self.id().to_owned(),
                role: "an admin",
                reason: "its certificate is none of the admin certificates",
            }),
            Ok(MspRoleType::Client) => self.check_node_role(identity, NodeRole::Client, "a client"),
            Ok(MspRoleType::Peer) => self.check_node_role(identity, NodeRole::Peer, "a peer"),
            Ok(MspRoleType::Orderer) if by_node_ou => {
                self.check_node_role(identity, NodeRole::Orderer, "an orderer")
            }
            Ok(MspRoleType::Orderer) | Err(_) => {
                Err(invalid(&format!("invalid MSP role type {}", role.role)))
            }
        }
    }

    fn check_node_role(
        &self,
        identity: &Identity,
        role: NodeRole,
        name: &'static str,
    ) -> Result<(), MspError> {
        identity.validate()?;
        self.0
            .check_role(identity.credential(), role)
            .map_err(|reason| MspError::Role {
                msp: self.id().to_owned(),
                role: name,
                reason,
            })
    }

    /// The certificate must be the principal's, and that must be valid.
    fn check_identity_principal(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), MspError> {
        let named = self.deserialize(&principal.principal)?;
        if named.certificate_der() != identity.certificate_der() {
            return Err(MspError::NoMatch);
        }
        named.validate()
    }

    fn check_unit_principal(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), MspError> {
        let unit: OrganizationUnit = decode("OrganizationUnit", principal, &ORGANIZATION_UNIT)?;
        self.check_msp(&unit.msp_identifier)?;
        identity.validate()?;
        let certifiers = self.0.certifiers_id(identity.credential());
        let is_member = identity
            .organizational_units()
            .contains(&unit.organizational_unit_identifier);
        if is_member && certifiers.as_deref() == Some(&unit.certifiers_identifier[..]) {
            Ok(())
        } else {
            Err(MspError::NoMatch)
        }
    }

    fn check_msp(&self, expected: &str) -> Result<(), MspError> {
        if expected == self.id() {
            Ok(())
        } else {
            Err(MspError::MemberOfOtherMsp {
                expected: expected.to_owned(),
                found: self.id().to_owned(),
            })
        }
    }
}

impl Inner {
    /// Admins named by certificate are valid: the MSP would not have been set up otherwise.
    fn is_named_admin(&self, identity: &Identity) -> bool {
        self.admins.contains(identity.certificate_der())
    }
}

fn check_anonymity_principal(principal: &MspPrincipal) -> Result<(), MspError> {
    let anonymity: MspIdentityAnonymity = decode("MSPIdentityAnonymity", principal, &ANONYMITY)?;
    match MspIdentityAnonymityType::try_from(anonymity.anonymity_type) {
        Ok(MspIdentityAnonymityType::Nominal) => Ok(()),
        Ok(MspIdentityAnonymityType::Anonymous) => Err(MspError::Anonymous),
        Err(_) => Err(invalid(&format!(
            "unknown principal anonymity type {}",
            anonymity.anonymity_type
        ))),
    }
}

fn decode<M: Message + Default>(
    what: &'static str,
    principal: &MspPrincipal,
    schema: &Schema,
) -> Result<M, MspError> {
    messages::decode(what, principal.principal.clone(), schema)
}

fn invalid(reason: &str) -> MspError {
    MspError::Principal {
        reason: reason.to_owned(),
    }
}

fn unknown_kind(principal: &MspPrincipal) -> MspError {
    invalid(&format!(
        "invalid principal type {}",
        principal.principal_classification
    ))
}
