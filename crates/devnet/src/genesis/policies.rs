//! The policies that a channel begins with.

use selvedge_protos::Message;
use selvedge_protos::common::implicit_meta_policy::Rule as MetaRule;
use selvedge_protos::common::msp_principal::Classification;
use selvedge_protos::common::msp_role::MspRoleType;
use selvedge_protos::common::policy::PolicyType;
use selvedge_protos::common::signature_policy::{NOutOf, Type};
use selvedge_protos::common::{
    ConfigGroup, ConfigPolicy, ImplicitMetaPolicy, Policy, SignaturePolicy, SignaturePolicyEnvelope,
};
use selvedge_protos::common::{MspPrincipal, MspRole};

/// One policy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule<'a> {
    /// Any of the policies of this name one level below.
    Any(&'a str),
    /// More than half of them.
    Majority(&'a str),
    /// A member of an MSP in one of these roles.
    Roles(&'a str, &'a [MspRoleType]),
}

impl Rule<'_> {
    fn policy(self) -> Policy {
        let (kind, value) = match self {
            Self::Any(name) => (PolicyType::ImplicitMeta, meta(MetaRule::Any, name)),
            Self::Majority(name) => (PolicyType::ImplicitMeta, meta(MetaRule::Majority, name)),
            Self::Roles(msp_id, roles) => (PolicyType::Signature, any_role(msp_id, roles)),
        };
        Policy {
            r#type: kind as i32,
            value: value.into(),
        }
    }
}

pub(super) fn add_policies(group: &mut ConfigGroup, policies: &[(&str, Rule<'_>)]) {
    for (name, rule) in policies {
        let policy = ConfigPolicy {
            version: 0,
            policy: Some(rule.policy()),
            mod_policy: "Admins".to_owned(),
        };
        group.policies.insert((*name).to_owned(), policy);
    }
}

fn meta(rule: MetaRule, sub_policy: &str) -> Vec<u8> {
    let policy = ImplicitMetaPolicy {
        sub_policy: sub_policy.to_owned(),
        rule: rule as i32,
    };
    policy.encode_to_vec()
}

fn any_role(msp_id: &str, roles: &[MspRoleType]) -> Vec<u8> {
    let principal = |role: &MspRoleType| MspPrincipal {
        principal_classification: Classification::Role as i32,
        principal: MspRole {
            msp_identifier: msp_id.to_owned(),
            role: *role as i32,
        }
        .encode_to_vec()
        .into(),
    };
    let signed_by = |(index, _)| SignaturePolicy {
        r#type: Some(Type::SignedBy(index)),
    };
    let any = NOutOf {
        n: 1,
        rules: (0..).zip(roles).map(signed_by).collect(),
    };
    let policy = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(SignaturePolicy {
            r#type: Some(Type::NOutOf(any)),
        }),
        identities: roles.iter().map(principal).collect(),
    };
    policy.encode_to_vec()
}
