//! The tree of policies of one channel.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_msp::{Identity, MspManager};
use selvedge_protos::common::implicit_meta_policy::Rule;
use selvedge_protos::common::policy::PolicyType;
use selvedge_protos::common::{self as pb, ConfigGroup};
use selvedge_protos::schema::{self, Kind, Schema};

use crate::error::PolicyError;
use crate::signature_policy::SignaturePolicy;
use crate::signed_data::{SignedData, valid_identities};

/// The path of the root of a channel's configuration.
const ROOT: &str = "Channel";

const IMPLICIT_META: Schema = Schema(&[(1, Kind::Bytes), (2, Kind::Varint)]);

/// A policy of a channel's configuration.
#[derive(Clone)]
pub struct Policy {
    rule: Arc<PolicyRule>,
    msps: Arc<MspManager>,
}

/// The two kinds of policies that a configuration can hold.
#[derive(Debug)]
enum PolicyRule {
    Signature(SignaturePolicy),
    ImplicitMeta(ImplicitMetaPolicy),
}

/// A number of the policies of one name in the groups below.
#[derive(Debug)]
struct ImplicitMetaPolicy {
    /// `None` stands for a group that has no such policy, which is as if it were never satisfied.
    sub_policies: Vec<Option<Arc<PolicyRule>>>,
    required: usize,
    name: String,
}

impl Policy {
    /// Evaluates the policy over signatures. Each is checked once, however many signature policies
    /// stand below an implicit meta policy.
    pub fn evaluate(&self, signed: &[SignedData]) -> Result<(), PolicyError> {
        let identities = valid_identities(signed, &self.msps);
        self.rule
            .evaluate(&identities)
            .map_err(|error| match error {
                PolicyError::IdentitiesNotSatisfied => PolicyError::NotSatisfied {
                    given: signed.len(),
                    valid: identities.len(),
                },
                error => error,
            })
    }

    /// Evaluates the policy over identities whose signatures were checked. The caller sees to it that
    /// no identity is in the list twice.
    pub fn evaluate_identities(&self, identities: &[Identity]) -> Result<(), PolicyError> {
        self.rule.evaluate(identities)
    }

    /// The policy as a signature policy, if it is one.
    pub fn as_signature_policy(&self) -> Option<&SignaturePolicy> {
        match &*self.rule {
            PolicyRule::Signature(policy) => Some(policy),
            PolicyRule::ImplicitMeta(_) => None,
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(formatter)
    }
}

impl PolicyRule {
    fn evaluate(&self, identities: &[Identity]) -> Result<(), PolicyError> {
        match self {
            Self::Signature(policy) => policy.evaluate_identities(identities),
            Self::ImplicitMeta(policy) => policy.evaluate(identities),
        }
    }
}

impl ImplicitMetaPolicy {
    fn new(value: &Bytes, groups: &BTreeMap<String, PolicyManager>) -> Result<Self, PolicyError> {
        let definition: pb::ImplicitMetaPolicy = schema::decode(value.clone(), &IMPLICIT_META)
            .map_err(|error| PolicyError::Decode {
                what: "ImplicitMetaPolicy",
                reason: error.to_string(),
            })?;
        let sub_policies: Vec<_> = groups
            .values()
            .map(|group| {
                let policy = group.policy(&definition.sub_policy).ok()?;
                Some(policy.rule.clone())
            })
            .collect();
        let count = sub_policies.len();
        let required = match Rule::try_from(definition.rule) {
            Ok(_) if count == 0 => 0,
            Ok(Rule::Any) => 1,
            Ok(Rule::All) => count,
            Ok(Rule::Majority) => count / 2 + 1,
            Err(_) => 0,
        };
        Ok(Self {
            sub_policies,
            required,
            name: definition.sub_policy,
        })
    }

    /// Counts down like Fabric, by which a policy with an unknown rule (which requires nothing) is
    /// satisfied only if none of its sub-policies is.
    fn evaluate(&self, identities: &[Identity]) -> Result<(), PolicyError> {
        let mut satisfied = 0;
        for policy in self.sub_policies.iter().flatten() {
            if policy.evaluate(identities).is_ok() {
                satisfied += 1;
                if satisfied == self.required {
                    return Ok(());
                }
            }
        }
        if satisfied == self.required {
            return Ok(());
        }
        Err(PolicyError::SubPolicies {
            satisfied,
            required: self.required,
            sub_policy: self.name.clone(),
        })
    }
}

/// The policies of a group of the configuration and of all groups below it.
pub struct PolicyManager {
    /// Such as `Channel/Application`.
    path: String,
    /// By path from here, such as `Admins` or `Org1MSP/Admins`.
    policies: BTreeMap<String, Policy>,
    groups: BTreeMap<String, PolicyManager>,
}

impl PolicyManager {
    /// Reads the policies of a channel's configuration, whose root group is given. Every policy must
    /// be complete and of a known type; implicit meta policies are tied to the groups below theirs.
    pub fn new(root: &ConfigGroup, msps: Arc<MspManager>) -> Result<Self, PolicyError> {
        Self::read(ROOT.to_owned(), root, &msps)
    }

    fn read(
        path: String,
        group: &ConfigGroup,
        msps: &Arc<MspManager>,
    ) -> Result<Self, PolicyError> {
        let mut groups = BTreeMap::new();
        for (name, group) in &group.groups {
            let manager = Self::read(format!("{path}/{name}"), group, msps)?;
            groups.insert(name.clone(), manager);
        }
        let mut policies = BTreeMap::new();
        for (name, policy) in &group.policies {
            let rule = read_policy(policy, &groups).map_err(|source| PolicyError::InConfig {
                name: name.clone(),
                path: path.clone(),
                source: Box::new(source),
            })?;
            let policy = Policy {
                rule: Arc::new(rule),
                msps: msps.clone(),
            };
            policies.insert(name.clone(), policy);
        }
        for (group, manager) in &groups {
            for (name, policy) in &manager.policies {
                policies.insert(format!("{group}/{name}"), policy.clone());
            }
        }
        Ok(Self {
            path,
            policies,
            groups,
        })
    }

    /// The policy with this path: absolute, such as `/Channel/Application/Readers`, or relative to
    /// this group. A policy that does not exist counts as one that rejects everything.
    pub fn policy(&self, path: &str) -> Result<&Policy, PolicyError> {
        let relative = match path.strip_prefix('/') {
            // Fabric takes whatever stands in the place of the slash after its own path.
            Some(absolute) => absolute
                .strip_prefix(&self.path)
                .and_then(|rest| rest.get(1..)),
            None => Some(path),
        };
        relative
            .filter(|relative| !relative.is_empty())
            .and_then(|relative| self.policies.get(relative))
            .ok_or_else(|| PolicyError::NotFound {
                path: path.to_owned(),
            })
    }

    /// Evaluates the policy with this path over signatures.
    pub fn evaluate(&self, path: &str, signed: &[SignedData]) -> Result<(), PolicyError> {
        self.policy(path)?.evaluate(signed)
    }

    /// The policies of a group below this one, by the names of the groups that lead to it.
    pub fn group(&self, path: &[&str]) -> Option<&PolicyManager> {
        path.iter()
            .try_fold(self, |manager, name| manager.groups.get(*name))
    }

    /// The path of this group, without a slash in front.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The paths of all policies, relative to this group.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }
}

impl fmt::Debug for PolicyManager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PolicyManager")
            .field("path", &self.path)
            .field("policies", &self.policies.keys())
            .finish()
    }
}

fn read_policy(
    policy: &pb::ConfigPolicy,
    groups: &BTreeMap<String, PolicyManager>,
) -> Result<PolicyRule, PolicyError> {
    let policy = policy.policy.as_ref().ok_or(PolicyError::Empty)?;
    match PolicyType::try_from(policy.r#type) {
        Ok(PolicyType::Signature) => {
            SignaturePolicy::from_bytes(&policy.value).map(PolicyRule::Signature)
        }
        Ok(PolicyType::ImplicitMeta) => {
            ImplicitMetaPolicy::new(&policy.value, groups).map(PolicyRule::ImplicitMeta)
        }
        Ok(PolicyType::Unknown | PolicyType::Msp) | Err(_) => Err(PolicyError::UnknownType {
            found: policy.r#type,
        }),
    }
}
