//! What a config update changes, so that nobody is told of an update that does not concern them.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_protos::common::ConfigGroup;

use super::{ChannelConfig, ConfigError};

/// What differs between two configurations of a channel, by subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// MSP ids of application organisations that joined.
    pub organizations_joined: BTreeSet<String>,
    /// MSP ids of application organisations that left.
    pub organizations_left: BTreeSet<String>,
    /// MSP ids of application organisations whose anchor peers differ, joined and left ones
    /// included.
    pub anchor_peers: BTreeSet<String>,
    /// Ids of the MSPs that came, went or differ, of all sections. Identities and TLS certificates
    /// of these must be judged anew.
    pub msps: BTreeSet<String>,
    /// Addresses of ordering nodes, or the CAs of their TLS certificates.
    pub orderer_endpoints: bool,
    /// Consensus type, its configuration, or the set of consenters.
    pub consensus: bool,
    /// Any policy, in any section.
    pub policies: bool,
    /// Any capability.
    pub capabilities: bool,
    /// Any ACL.
    pub acls: bool,
}

impl ConfigChanges {
    /// Whether nothing of the above differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ChannelConfig {
    /// What differs from an earlier configuration.
    pub fn changes_since(&self, earlier: &Self) -> ConfigChanges {
        let (old, new) = (earlier.anchor_peers_by_msp(), self.anchor_peers_by_msp());
        let (old_orderer, new_orderer) = (earlier.orderer(), self.orderer());
        ConfigChanges {
            organizations_joined: keys_beyond(&new, &old),
            organizations_left: keys_beyond(&old, &new),
            anchor_peers: differing_keys(&old, &new),
            msps: differing_keys(&earlier.msp_configs, &self.msp_configs),
            orderer_endpoints: earlier.orderer_addresses != self.orderer_addresses
                || old_orderer.organizations() != new_orderer.organizations(),
            consensus: old_orderer.consensus_type() != new_orderer.consensus_type()
                || old_orderer.consensus_metadata() != new_orderer.consensus_metadata()
                || old_orderer.consenters() != new_orderer.consenters(),
            policies: !same_policies(earlier.root(), self.root()),
            capabilities: earlier.capabilities != self.capabilities,
            acls: earlier.application.acls() != self.application.acls(),
        }
    }

    /// Checks that `next` may take the place of this configuration: the next in sequence, of the
    /// same channel, with the same sections, and no organisation that changes its MSP's id
    /// (Fabric: `Bundle.ValidateNew`). Whether the update was authorised is another question.
    pub fn check_successor(&self, next: &Self) -> Result<(), ConfigError> {
        if self.channel_id != next.channel_id {
            return Err(ConfigError::WrongChannel {
                expected: self.channel_id.clone(),
                found: next.channel_id.clone(),
            });
        }
        if self.sequence().checked_add(1) != Some(next.sequence()) {
            let (current, next) = (self.sequence(), next.sequence());
            return refuse(format!("sequence {next} cannot follow sequence {current}"));
        }
        let (old_type, new_type) = (self.orderer.consensus_type(), next.orderer.consensus_type());
        if old_type != new_type && !self.capabilities.consensus_type_migration() {
            return refuse(format!(
                "the consensus type may not change from '{old_type}' to '{new_type}'"
            ));
        }
        if self.consortium_msp_ids.is_some() != next.consortium_msp_ids.is_some() {
            return refuse("the section Consortiums may not come or go".to_owned());
        }
        self.check_msp_ids(next)
    }

    fn check_msp_ids(&self, next: &Self) -> Result<(), ConfigError> {
        let (old, new) = (self.msp_id_by_organization(), next.msp_id_by_organization());
        for (organization, old_id) in &old {
            if let Some(new_id) = new.get(organization).filter(|new_id| *new_id != old_id) {
                return refuse(format!(
                    "{organization} may not change its MSP id from {old_id} to {new_id}"
                ));
            }
        }
        Ok(())
    }

    fn msp_id_by_organization(&self) -> BTreeMap<String, &str> {
        let application = self.application.organizations().values();
        let orderer = self.orderer.organizations().values();
        let consortiums = self.consortium_msp_ids.iter().flatten();
        let application = application.map(|org| {
            (
                format!("/Channel/Application/{}", org.name),
                org.msp_id.as_str(),
            )
        });
        let orderer = orderer.map(|org| {
            (
                format!("/Channel/Orderer/{}", org.name),
                org.msp_id.as_str(),
            )
        });
        let consortiums = consortiums.map(|(path, msp_id)| (path.clone(), msp_id.as_str()));
        application.chain(orderer).chain(consortiums).collect()
    }

    fn anchor_peers_by_msp(&self) -> BTreeMap<String, BTreeSet<&super::AnchorPeer>> {
        let mut anchor_peers = BTreeMap::<_, BTreeSet<_>>::new();
        for organization in self.application.organizations().values() {
            let of_msp = anchor_peers.entry(organization.msp_id.clone()).or_default();
            of_msp.extend(&organization.anchor_peers);
        }
        anchor_peers
    }

    fn root(&self) -> Option<&ConfigGroup> {
        self.config.channel_group.as_ref()
    }
}

fn refuse<T>(reason: String) -> Result<T, ConfigError> {
    Err(ConfigError::NotASuccessor(reason))
}

fn keys_beyond<V>(map: &BTreeMap<String, V>, other: &BTreeMap<String, V>) -> BTreeSet<String> {
    let beyond = map.keys().filter(|key| !other.contains_key(*key));
    beyond.cloned().collect()
}

fn differing_keys<V: PartialEq>(
    old: &BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
) -> BTreeSet<String> {
    let keys = old.keys().chain(new.keys());
    keys.filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect()
}

/// Compares the policies of two trees of bounded depth; versions and modification policies do not
/// matter.
fn same_policies(old: Option<&ConfigGroup>, new: Option<&ConfigGroup>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return old.is_none() && new.is_none();
    };
    let policies = |group: &ConfigGroup| -> BTreeMap<_, _> {
        let policies = group.policies.iter();
        policies
            .map(|(name, policy)| (name.clone(), policy.policy.clone()))
            .collect()
    };
    let mut groups = old.groups.keys().chain(new.groups.keys());
    policies(old) == policies(new)
        && groups.all(|name| same_policies(old.groups.get(name), new.groups.get(name)))
}
