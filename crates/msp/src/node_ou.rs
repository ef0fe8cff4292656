//! Organizational units: those that an MSP requires of its members, and those by which it tells
//! clients, peers, admins and orderers apart (NodeOUs).

use crate::credential::Credential;
use crate::error::MspError;
use crate::msp::Inner;

/// What an identity is by its organizational unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeRole {
    Client,
    Peer,
    Admin,
    Orderer,
}

/// An organizational unit that makes its members something.
#[derive(Clone, Debug)]
pub(crate) struct NodeOu {
    pub(crate) role: NodeRole,
    pub(crate) name: String,
    /// If given, only these authorities can say so (see `Inner::certifiers_id`).
    pub(crate) certifiers: Option<Vec<u8>>,
}

/// The NodeOUs of an MSP.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeOus {
    /// Whether every identity must be exactly one of these.
    pub(crate) enforced: bool,
    pub(crate) units: Vec<NodeOu>,
}

impl NodeOus {
    pub(crate) fn defines(&self, role: NodeRole) -> bool {
        self.units.iter().any(|unit| unit.role == role)
    }

    /// If two roles share a name, the later counts.
    fn by_name(&self, name: &str) -> Option<&NodeOu> {
        self.units.iter().rev().find(|unit| unit.name == name)
    }
}

impl Inner {
    pub(crate) fn check_organizational_units(
        &self,
        credential: &Credential,
    ) -> Result<(), MspError> {
        let units = &credential.certificate.organizational_units;
        let certifiers = self.certifiers_id(credential);
        let wrong = |reason| MspError::OrganizationalUnits {
            msp: self.id.clone(),
            units: units.clone(),
            reason,
        };
        // Without a chain nobody vouches for the units, and they count for nothing.
        let vouched = certifiers
            .as_ref()
            .map(|_| units.as_slice())
            .unwrap_or_default();

        let has_required = |unit: &String| {
            self.required_units.get(unit).is_some_and(|allowed| {
                certifiers
                    .as_ref()
                    .is_some_and(|certifiers| allowed.contains(certifiers))
            })
        };
        if !self.required_units.is_empty() && !vouched.iter().any(has_required) {
            return Err(wrong("none of them is one that the MSP requires"));
        }
        if !self.node_ous.enforced {
            return Ok(());
        }
        let mut roles = 0;
        for node_ou in vouched
            .iter()
            .filter_map(|unit| self.node_ous.by_name(unit))
        {
            if node_ou.certifiers.is_some() && node_ou.certifiers != certifiers {
                return Err(wrong("certifiersIdentifier does not match"));
            }
            roles += 1;
            if roles > 1 {
                return Err(wrong(
                    "the identity must be one of client, peer, admin and orderer, not several",
                ));
            }
        }
        if roles == 0 {
            return Err(wrong(
                "none of them resolves to client, peer, orderer, or admin role",
            ));
        }
        Ok(())
    }

    /// Whether the units give the identity this role. Who certified them is not asked here; the
    /// validation of the identity does.
    pub(crate) fn check_role(
        &self,
        credential: &Credential,
        role: NodeRole,
    ) -> Result<(), &'static str> {
        if !self.node_ous.enforced {
            return Err("NodeOUs not activated, cannot tell apart identities");
        }
        let Some(node_ou) = self.node_ous.units.iter().find(|unit| unit.role == role) else {
            return Err("the MSP defines no NodeOU for this role");
        };
        let is_vouched = self.certifiers_id(credential).is_some();
        let units = &credential.certificate.organizational_units;
        if is_vouched && units.contains(&node_ou.name) {
            Ok(())
        } else {
            Err("its certificate does not contain the organizational unit of this role")
        }
    }
}
