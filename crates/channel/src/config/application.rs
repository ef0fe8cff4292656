//! What the configuration says about the peers.

use std::collections::BTreeMap;

use selvedge_protos::protos::AcLs;

use super::capabilities::ChannelCapabilities;
use super::group::Group;
use super::organization::{ApplicationOrg, MspCollector, application_org};
use super::{CAPABILITIES, ConfigError};

/// The section `/Channel/Application`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationConfig {
    acls: BTreeMap<String, String>,
    organizations: BTreeMap<String, ApplicationOrg>,
}

impl ApplicationConfig {
    pub(super) fn read(
        group: &Group<'_>,
        capabilities: &ChannelCapabilities,
        msps: &mut MspCollector,
    ) -> Result<Self, ConfigError> {
        group.allow_values(&[ACLS, CAPABILITIES])?;
        if group.has_value(ACLS) && !capabilities.acls() {
            let reason = "ACLs need an application capability of V1_2 or later";
            return Err(ConfigError::invalid(&group.path_of(ACLS), reason));
        }
        let organizations = group.groups().map(|(name, group)| {
            let organization = application_org(name, &group, msps)?;
            Ok((name.to_owned(), organization))
        });
        Ok(Self {
            organizations: organizations.collect::<Result<_, ConfigError>>()?,
            acls: read_acls(group)?,
        })
    }

    /// The organisations by the names of their groups.
    pub fn organizations(&self) -> &BTreeMap<String, ApplicationOrg> {
        &self.organizations
    }

    /// The path of the policy that guards a resource, such as `qscc/GetChainInfo`; `None` if the
    /// channel leaves it at Fabric's default.
    pub fn acl(&self, resource: &str) -> Option<&str> {
        self.acls.get(resource).map(String::as_str)
    }

    /// All configured ACLs: resource and policy path.
    pub fn acls(&self) -> &BTreeMap<String, String> {
        &self.acls
    }
}

const ACLS: &str = "ACLs";

/// A policy without a path is one of `/Channel/Application`; an empty one counts as not configured.
fn read_acls(group: &Group<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let AcLs { acls } = group.value(ACLS)?;
    let paths = acls.into_iter().filter_map(|(resource, acl)| {
        let policy = acl.policy_ref;
        if policy.is_empty() {
            tracing::warn!(resource, "the ACL names no policy; the default applies");
            return None;
        }
        let is_path = policy.starts_with('/');
        let path = if is_path {
            policy
        } else {
            group.path_of(&policy)
        };
        Some((resource, path))
    });
    Ok(paths.collect())
}
