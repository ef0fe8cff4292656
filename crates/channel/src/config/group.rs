//! Access to one group of the configuration tree.

use std::collections::BTreeMap;

use selvedge_protos::common::ConfigGroup;

use super::ConfigError;
use super::names::check_config_id;
use crate::schemas::{Described, decode};

/// How deep the tree may be. Fabric's deepest path is `/Channel/Consortiums/name/organisation`.
const MAX_DEPTH: usize = 16;

/// A group and where it stands.
#[derive(Clone)]
pub(super) struct Group<'a> {
    pub path: String,
    group: &'a ConfigGroup,
}

impl<'a> Group<'a> {
    pub fn root(group: &'a ConfigGroup) -> Self {
        Self {
            path: "/Channel".to_owned(),
            group,
        }
    }

    /// The path of an element of this group.
    pub fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    pub fn has_value(&self, name: &str) -> bool {
        self.group.values.contains_key(name)
    }

    /// The sub-group of that name.
    pub fn group(&self, name: &str) -> Option<Group<'a>> {
        self.group.groups.get(name).map(|group| Group {
            path: self.path_of(name),
            group,
        })
    }

    /// All sub-groups by name.
    pub fn groups(&self) -> impl Iterator<Item = (&'a str, Group<'a>)> + '_ {
        self.group.groups.iter().map(|(name, group)| {
            let path = self.path_of(name);
            (name.as_str(), Group { path, group })
        })
    }

    /// Decodes a value; one that is absent counts as an empty message, as in Fabric.
    pub fn value<M: Described>(&self, name: &str) -> Result<M, ConfigError> {
        match self.group.values.get(name) {
            None => Ok(M::default()),
            Some(value) => {
                decode(value.value.clone()).map_err(ConfigError::malformed(self.path_of(name)))
            }
        }
    }

    /// Refuses values of other names.
    pub fn allow_values(&self, names: &[&str]) -> Result<(), ConfigError> {
        self.allow(self.group.values.keys(), names)
    }

    /// Refuses sub-groups of other names.
    pub fn allow_groups(&self, names: &[&str]) -> Result<(), ConfigError> {
        self.allow(self.group.groups.keys(), names)
    }

    fn allow<'n>(
        &self,
        mut found: impl Iterator<Item = &'n String>,
        names: &[&str],
    ) -> Result<(), ConfigError> {
        match found.find(|found| !names.contains(&found.as_str())) {
            None => Ok(()),
            Some(other) => Err(ConfigError::NotAllowed {
                path: self.path_of(other),
            }),
        }
    }

    /// Checks the names of all elements at and below this group.
    pub fn check_names(&self) -> Result<(), ConfigError> {
        check_names(self.group, MAX_DEPTH)
    }
}

fn check_names(group: &ConfigGroup, depth: usize) -> Result<(), ConfigError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(ConfigError::invalid("/Channel", "groups nest too deeply"));
    };
    let ConfigGroup {
        groups,
        values,
        policies,
        ..
    } = group;
    check_keys(groups)?;
    check_keys(values)?;
    check_keys(policies)?;
    groups
        .values()
        .try_for_each(|group| check_names(group, depth))
}

fn check_keys<T>(elements: &BTreeMap<String, T>) -> Result<(), ConfigError> {
    elements.keys().try_for_each(|name| check_config_id(name))
}
