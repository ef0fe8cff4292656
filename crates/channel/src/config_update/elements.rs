//! A configuration tree as a flat map from names to elements, and back.

use std::collections::BTreeMap;
use std::fmt;

use selvedge_protos::common::{ConfigGroup, ConfigPolicy, ConfigValue};

use super::UpdateError;

/// The longest name of one element, in bytes.
const MAX_IDENTIFIER: usize = 249;
/// The mod policy that elements without one get when the configuration is changed at all.
const DEFAULT_MOD_POLICY: &str = "Admins";

/// What kind of element, and where in the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElementName {
    kind: ElementKind,
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ElementKind {
    Group,
    Value,
    Policy,
}

/// One element, borrowed from the tree that it stands in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Element<'a> {
    Group(&'a ConfigGroup),
    Value(&'a ConfigValue),
    Policy(&'a ConfigPolicy),
}

/// The elements of a tree by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Elements<'a>(BTreeMap<ElementName, Element<'a>>);

impl ElementName {
    fn group(path: String) -> Self {
        let kind = ElementKind::Group;
        Self { kind, path }
    }

    fn value(path: String) -> Self {
        let kind = ElementKind::Value;
        Self { kind, path }
    }

    fn policy(path: String) -> Self {
        let kind = ElementKind::Policy;
        Self { kind, path }
    }

    /// The path of the group itself, or of the group that a value or policy stands in.
    pub(super) fn group_path(&self) -> &str {
        match self.kind {
            ElementKind::Group => &self.path,
            ElementKind::Value | ElementKind::Policy => {
                self.path.rsplit_once('/').map_or("", |(group, _)| group)
            }
        }
    }
}

impl fmt::Display for ElementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ElementKind::Group => "group",
            ElementKind::Value => "value",
            ElementKind::Policy => "policy",
        };
        write!(f, "{kind} {}", self.path)
    }
}

impl<'a> Element<'a> {
    pub(super) fn version(&self) -> u64 {
        match self {
            Self::Group(group) => group.version,
            Self::Value(value) => value.version,
            Self::Policy(policy) => policy.version,
        }
    }

    pub(super) fn mod_policy(&self) -> &'a str {
        match self {
            Self::Group(group) => &group.mod_policy,
            Self::Value(value) => &value.mod_policy,
            Self::Policy(policy) => &policy.mod_policy,
        }
    }
}

impl<'a> Elements<'a> {
    /// Flattens a tree whose root is the group `/Channel`; no tree gives no elements.
    ///
    /// The decoder's limit of nesting bounds the recursion.
    pub(super) fn of(root: Option<&'a ConfigGroup>) -> Result<Self, UpdateError> {
        let mut elements = Self::default();
        if let Some(root) = root {
            elements.add_group("/Channel".to_owned(), root)?;
        }
        Ok(elements)
    }

    fn add_group(&mut self, path: String, group: &'a ConfigGroup) -> Result<(), UpdateError> {
        for (key, child) in &group.groups {
            self.add_group(below(&path, key)?, child)?;
        }
        for (key, value) in &group.values {
            let name = ElementName::value(below(&path, key)?);
            self.0.insert(name, Element::Value(value));
        }
        for (key, policy) in &group.policies {
            let name = ElementName::policy(below(&path, key)?);
            self.0.insert(name, Element::Policy(policy));
        }
        self.0
            .insert(ElementName::group(path), Element::Group(group));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, name: &ElementName) -> Option<&Element<'a>> {
        self.0.get(name)
    }

    pub(super) fn contains(&self, name: &ElementName) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &ElementName> {
        self.0.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ElementName, &Element<'a>)> {
        self.0.iter()
    }

    /// The elements that the earlier set lacks or has in another version.
    pub(super) fn changed_since(&self, earlier: &Elements<'_>) -> Self {
        let changed = self.0.iter().filter(|(name, element)| {
            earlier.get(name).map(Element::version) != Some(element.version())
        });
        Self(
            changed
                .map(|(name, element)| (name.clone(), *element))
                .collect(),
        )
    }

    /// These elements with those of `changes` in their place or beside them.
    pub(super) fn overlaid(&self, changes: &Self) -> Self {
        let mut result = self.clone();
        let changes = changes.0.iter();
        result
            .0
            .extend(changes.map(|(name, element)| (name.clone(), *element)));
        result
    }

    /// Builds the tree again: each group with the members that it lists, each taken from this map,
    /// whether or not the group's own copy of them differs.
    pub(super) fn assemble(&self) -> Result<ConfigGroup, UpdateError> {
        let capabilities = ElementName::value("/Channel/Orderer/Capabilities".to_owned());
        let assembler = Assembler {
            elements: self,
            fill_mod_policies: self.contains(&capabilities),
        };
        assembler.group("/Channel")
    }
}

struct Assembler<'a> {
    elements: &'a Elements<'a>,
    /// Channels of Fabric v1.0 have elements without mod policy, which could never be changed; from
    /// the first capabilities on they get one (FAB-5309, FAB-6080).
    fill_mod_policies: bool,
}

impl Assembler<'_> {
    fn group(&self, path: &str) -> Result<ConfigGroup, UpdateError> {
        let name = ElementName::group(path.to_owned());
        let Some(Element::Group(group)) = self.elements.get(&name) else {
            return Err(UpdateError::Incomplete(name));
        };
        let mut result = ConfigGroup {
            version: group.version,
            mod_policy: self.filled(&group.mod_policy),
            ..ConfigGroup::default()
        };
        for key in group.groups.keys() {
            let child = self.group(&format!("{path}/{key}"))?;
            result.groups.insert(key.clone(), child);
        }
        for key in group.values.keys() {
            let name = ElementName::value(format!("{path}/{key}"));
            let Some(Element::Value(value)) = self.elements.get(&name) else {
                return Err(UpdateError::Incomplete(name));
            };
            let mod_policy = self.filled(&value.mod_policy);
            let value = (*value).clone();
            let value = ConfigValue {
                mod_policy,
                ..value
            };
            result.values.insert(key.clone(), value);
        }
        for key in group.policies.keys() {
            let name = ElementName::policy(format!("{path}/{key}"));
            let Some(Element::Policy(policy)) = self.elements.get(&name) else {
                return Err(UpdateError::Incomplete(name));
            };
            let mod_policy = self.filled(&policy.mod_policy);
            let policy = (*policy).clone();
            let policy = ConfigPolicy {
                mod_policy,
                ..policy
            };
            result.policies.insert(key.clone(), policy);
        }
        Ok(result)
    }

    fn filled(&self, mod_policy: &str) -> String {
        if mod_policy.is_empty() && self.fill_mod_policies {
            DEFAULT_MOD_POLICY.to_owned()
        } else {
            mod_policy.to_owned()
        }
    }
}

fn below(path: &str, key: &str) -> Result<String, UpdateError> {
    check_identifier(key)?;
    Ok(format!("{path}/{key}"))
}

/// Refuses keys that cannot name an element: letters, digits, dots and dashes, at most 249 of them,
/// and not `.` or `..`.
pub fn check_identifier(identifier: &str) -> Result<(), UpdateError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let reason = if identifier.is_empty() {
        "it is empty"
    } else if identifier.len() > MAX_IDENTIFIER {
        "it is longer than 249 bytes"
    } else if identifier == "." || identifier == ".." {
        "it is . or .."
    } else if !identifier.bytes().all(allowed) {
        "only letters, digits, dots and dashes are allowed"
    } else {
        return Ok(());
    };
    Err(UpdateError::IllegalIdentifier {
        identifier: identifier.chars().take(64).collect(),
        reason,
    })
}
