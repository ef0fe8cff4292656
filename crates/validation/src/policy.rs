//! Endorsement policies of chaincodes, collections and keys.

use selvedge_msp::Identity;
use selvedge_policy::{PolicyError, PolicyManager, SignaturePolicy};
use selvedge_protos::Message;
use selvedge_protos::common::msp_principal::Classification;
use selvedge_protos::common::msp_role::MspRoleType;
use selvedge_protos::common::signature_policy::{NOutOf, Type};
use selvedge_protos::common::{
    MspPrincipal, MspRole, SignaturePolicy as Rule, SignaturePolicyEnvelope,
};
use selvedge_protos::wire::{Fields, Value, WireError, check_message, text};

/// The root group of a channel's configuration.
const ROOT: &str = "/Channel";

/// An endorsement policy, ready to be evaluated.
#[derive(Debug)]
pub(crate) enum EndorsementPolicy {
    /// A policy of its own.
    Signature(SignaturePolicy),
    /// A policy of the channel's configuration, by its path. What it says changes with the
    /// configuration.
    Reference(String),
    /// A policy that nothing satisfies, since it is malformed.
    Unusable(String),
}

impl EndorsementPolicy {
    /// Reads an encoded `ApplicationPolicy` (Fabric: `core/policy`). What cannot be read is a policy that
    /// nothing satisfies.
    pub fn from_application_policy(bytes: &[u8]) -> Self {
        match read_application_policy(bytes) {
            Ok(Some(Form::Reference(path))) => Self::Reference(path),
            Ok(Some(Form::Signature(bytes))) => {
                Self::signature(SignaturePolicy::from_unversioned_bytes(&bytes, 1))
            }
            Ok(None) => Self::Unusable("unsupported policy type".to_owned()),
            Err(error) => Self::Unusable(format!("failed to read ApplicationPolicy: {error}")),
        }
    }

    /// Reads the validation parameter of a key, a `SignaturePolicyEnvelope`. It is an error if the bytes
    /// do not parse; what parses and makes no sense is a policy that nothing satisfies.
    ///
    /// Fabric parses it and parses it again as part of an `ApplicationPolicy`, so that at the limit of
    /// nesting there is one level that the first lets pass and the second does not.
    pub fn from_validation_parameter(bytes: &[u8]) -> Result<Self, PolicyError> {
        let wrapped = SignaturePolicy::from_unversioned_bytes(bytes, 1);
        if !parses(&wrapped) {
            check_signature_policy(bytes, 0)?;
        }
        Ok(Self::signature(wrapped))
    }

    /// "So many of the members of these MSPs" (Fabric: `policydsl.SignedByNOutOfGivenRole`).
    pub fn members(required: i32, msp_ids: &[&str]) -> Self {
        let principal = |msp_id: &&str| MspPrincipal {
            principal_classification: Classification::Role.into(),
            principal: MspRole {
                msp_identifier: (*msp_id).to_owned(),
                role: MspRoleType::Member.into(),
            }
            .encode_to_vec()
            .into(),
        };
        let rule = |r#type| Rule {
            r#type: Some(r#type),
        };
        let positions = (0..).take(msp_ids.len());
        let gate = NOutOf {
            n: required,
            rules: positions
                .map(|position| rule(Type::SignedBy(position)))
                .collect(),
        };
        Self::signature(SignaturePolicy::from_envelope(&SignaturePolicyEnvelope {
            version: 0,
            rule: Some(rule(Type::NOutOf(gate))),
            identities: msp_ids.iter().map(principal).collect(),
        }))
    }

    fn signature(policy: Result<SignaturePolicy, PolicyError>) -> Self {
        match policy {
            Ok(policy) => Self::Signature(policy),
            Err(error) => Self::Unusable(error.to_string()),
        }
    }

    /// The path, if the policy refers to the root group of the configuration, which ends a Go peer.
    pub fn root_reference(&self) -> Option<&str> {
        match self {
            Self::Reference(path) if path == ROOT => Some(path),
            _ => None,
        }
    }

    /// Whether these endorsers, of whom none is in the list twice, satisfy the policy; the error says
    /// why not.
    pub fn evaluate(
        &self,
        channel: &PolicyManager,
        endorsers: &[Identity],
    ) -> Result<(), PolicyFailure> {
        let verdict = match self {
            Self::Signature(policy) => policy.evaluate_identities(endorsers),
            Self::Reference(path) => channel
                .policy(path)
                .and_then(|policy| policy.evaluate_identities(endorsers)),
            Self::Unusable(reason) => return Err(PolicyFailure(reason.clone())),
        };
        verdict.map_err(|error| PolicyFailure(error.to_string()))
    }
}

/// Whether a `SignaturePolicyEnvelope` parses that stands within so many other messages, be it a policy
/// that makes sense or not.
pub(crate) fn check_signature_policy(bytes: &[u8], enclosing: usize) -> Result<(), PolicyError> {
    let policy = SignaturePolicy::from_unversioned_bytes(bytes, enclosing);
    if parses(&policy) {
        return Ok(());
    }
    policy.map(drop)
}

fn parses(policy: &Result<SignaturePolicy, PolicyError>) -> bool {
    !matches!(
        policy,
        Err(PolicyError::Decode { .. } | PolicyError::TooDeep { .. })
    )
}

/// Why a policy is not satisfied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PolicyFailure(pub String);

/// The forms of an `ApplicationPolicy`.
enum Form {
    Signature(Vec<u8>),
    Reference(String),
}

/// Which form the message has: of two the last counts, and the parts of one that stands twice are
/// merged, which for protobuf messages is to string their bytes together.
fn read_application_policy(bytes: &[u8]) -> Result<Option<Form>, WireError> {
    let mut form = None;
    for field in Fields::of(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Bytes(policy)) => {
                check_message(policy)?;
                match &mut form {
                    Some(Form::Signature(parts)) => parts.extend_from_slice(policy),
                    _ => form = Some(Form::Signature(policy.to_vec())),
                }
            }
            (2, Value::Bytes(path)) => form = Some(Form::Reference(text(path)?.to_owned())),
            _ => {}
        }
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use selvedge_policy::parse_policy;
    use selvedge_protos::protos::{ApplicationPolicy, application_policy};

    use super::*;

    fn application_policy(form: application_policy::Type) -> Vec<u8> {
        let policy = ApplicationPolicy { r#type: Some(form) };
        policy.encode_to_vec()
    }

    #[test]
    fn reads_both_forms() {
        let own = parse_policy("OR('Org1MSP.member')").unwrap();
        let own = application_policy(application_policy::Type::SignaturePolicy(own));
        assert!(matches!(
            EndorsementPolicy::from_application_policy(&own),
            EndorsementPolicy::Signature(_)
        ));
        let path = "/Channel/Application/Endorsement".to_owned();
        let reference = application_policy::Type::ChannelConfigPolicyReference(path.clone());
        let reference = application_policy(reference);
        assert!(matches!(
            EndorsementPolicy::from_application_policy(&reference),
            EndorsementPolicy::Reference(found) if found == path
        ));
        let both = [own.clone(), reference.clone()].concat();
        assert!(matches!(
            EndorsementPolicy::from_application_policy(&both),
            EndorsementPolicy::Reference(_)
        ));
        let both = [reference, own].concat();
        assert!(matches!(
            EndorsementPolicy::from_application_policy(&both),
            EndorsementPolicy::Signature(_)
        ));
    }

    #[test]
    fn malformed_policies_are_never_satisfied() {
        for bytes in [&b""[..], b"\x0a\x00", b"\xff", b"\x12\x01\xff", b"\x18\x01"] {
            let policy = EndorsementPolicy::from_application_policy(bytes);
            assert!(
                matches!(policy, EndorsementPolicy::Unusable(_)),
                "{bytes:x?}: {policy:?}"
            );
        }
    }

    #[test]
    fn a_validation_parameter_that_parses_is_a_policy() {
        assert!(EndorsementPolicy::from_validation_parameter(b"\xff").is_err());
        assert!(EndorsementPolicy::from_validation_parameter(b"\x12\x02\x08").is_err());
        for meaningless in [&b"\x08\x07"[..], b"\x12\x02\x08\x05"] {
            let policy = EndorsementPolicy::from_validation_parameter(meaningless);
            assert!(matches!(policy, Ok(EndorsementPolicy::Unusable(_))));
        }
        let policy = parse_policy("OR('Org1MSP.member')").unwrap();
        let policy = EndorsementPolicy::from_validation_parameter(&policy.encode_to_vec());
        assert!(matches!(policy, Ok(EndorsementPolicy::Signature(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_policy(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = EndorsementPolicy::from_application_policy(&bytes);
            let _ = EndorsementPolicy::from_validation_parameter(&bytes);
        }
    }
}
