//! The update that leads from one configuration to another (Fabric: configtxlator `compute_update`).

use std::collections::BTreeMap;

use selvedge_protos::common::{Config, ConfigGroup, ConfigPolicy, ConfigUpdate, ConfigValue};

use super::UpdateError;

/// Computes the smallest update from `original` to `updated`: versions in `updated` do not matter,
/// its contents and mod policies do.
pub fn compute(
    channel_id: &str,
    original: &Config,
    updated: &Config,
) -> Result<ConfigUpdate, UpdateError> {
    let root = |config: &Config| {
        let group = config.channel_group.clone();
        group.ok_or(UpdateError::Missing("channel group"))
    };
    let difference = compare_groups(&root(original)?, &root(updated)?);
    if !difference.changed {
        return Err(UpdateError::Empty);
    }
    Ok(ConfigUpdate {
        channel_id: channel_id.to_owned(),
        read_set: Some(difference.read),
        write_set: Some(difference.write),
        ..ConfigUpdate::default()
    })
}

/// Read and write set of one group.
struct Difference {
    read: ConfigGroup,
    write: ConfigGroup,
    changed: bool,
}

/// The members of a group of one kind.
struct Members<T> {
    read: BTreeMap<String, T>,
    write: BTreeMap<String, T>,
    /// Unchanged members, by version alone; named only if the group gains or loses members.
    same: BTreeMap<String, T>,
    gained_or_lost: bool,
}

impl<T: Clone> Members<T> {
    fn new() -> Self {
        Self {
            read: BTreeMap::new(),
            write: BTreeMap::new(),
            same: BTreeMap::new(),
            gained_or_lost: false,
        }
    }

    fn is_unchanged(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }

    fn name_unchanged(&mut self) {
        self.read.extend(self.same.clone());
        self.write.extend(std::mem::take(&mut self.same));
    }
}

fn compare_groups(original: &ConfigGroup, updated: &ConfigGroup) -> Difference {
    let mut groups = compare_subgroups(&original.groups, &updated.groups);
    let mut values = compare_leaves(&original.values, &updated.values);
    let mut policies = compare_leaves(&original.policies, &updated.policies);
    let itself_changed = groups.gained_or_lost
        || values.gained_or_lost
        || policies.gained_or_lost
        || original.mod_policy != updated.mod_policy;
    let changed = itself_changed
        || !(groups.is_unchanged() && values.is_unchanged() && policies.is_unchanged());
    let mut write = ConfigGroup {
        version: original.version,
        ..ConfigGroup::default()
    };
    if itself_changed {
        groups.name_unchanged();
        values.name_unchanged();
        policies.name_unchanged();
        write.version = original.version.saturating_add(1);
        write.mod_policy.clone_from(&updated.mod_policy);
    }
    write.groups = groups.write;
    write.values = values.write;
    write.policies = policies.write;
    let read = ConfigGroup {
        version: original.version,
        groups: groups.read,
        values: values.read,
        policies: policies.read,
        ..ConfigGroup::default()
    };
    Difference {
        read,
        write,
        changed,
    }
}

fn compare_subgroups(
    original: &BTreeMap<String, ConfigGroup>,
    updated: &BTreeMap<String, ConfigGroup>,
) -> Members<ConfigGroup> {
    let mut members = Members::new();
    members.gained_or_lost = original.keys().any(|key| !updated.contains_key(key));
    for (key, after) in updated {
        let Some(before) = original.get(key) else {
            members.gained_or_lost = true;
            let mut new = compare_groups(&ConfigGroup::default(), after).write;
            new.version = 0;
            new.mod_policy.clone_from(&after.mod_policy);
            members.write.insert(key.clone(), new);
            continue;
        };
        let difference = compare_groups(before, after);
        if difference.changed {
            members.read.insert(key.clone(), difference.read);
            members.write.insert(key.clone(), difference.write);
        } else {
            members.same.insert(key.clone(), difference.read);
        }
    }
    members
}

/// A value or a policy.
trait Leaf: Clone + Default + PartialEq {
    fn version(&self) -> u64;
    fn at_version(self, version: u64) -> Self;
}

impl Leaf for ConfigValue {
    fn version(&self) -> u64 {
        self.version
    }

    fn at_version(self, version: u64) -> Self {
        Self { version, ..self }
    }
}

impl Leaf for ConfigPolicy {
    fn version(&self) -> u64 {
        self.version
    }

    fn at_version(self, version: u64) -> Self {
        Self { version, ..self }
    }
}

fn compare_leaves<T: Leaf>(
    original: &BTreeMap<String, T>,
    updated: &BTreeMap<String, T>,
) -> Members<T> {
    let mut members = Members::new();
    members.gained_or_lost = original.keys().any(|key| !updated.contains_key(key));
    for (key, after) in updated {
        let Some(before) = original.get(key) else {
            members.gained_or_lost = true;
            members
                .write
                .insert(key.clone(), after.clone().at_version(0));
            continue;
        };
        let version = before.version();
        if after.clone().at_version(version) == *before {
            let named = T::default().at_version(version);
            members.same.insert(key.clone(), named);
        } else {
            let next = after.clone().at_version(version.saturating_add(1));
            members.write.insert(key.clone(), next);
        }
    }
    members
}
