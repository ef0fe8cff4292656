//! Signature policies: which principals have to sign (Fabric's `cauthdsl`).

use selvedge_msp::{Identity, MspManager};
use selvedge_protos::Message;
use selvedge_protos::common::signature_policy::Type;
use selvedge_protos::common::{self as pb, MspPrincipal, SignaturePolicyEnvelope};

use crate::error::PolicyError;
use crate::signed_data::{SignedData, valid_identities};

/// Rules may be nested this deep. The decoder's own limit of 100 nested messages lies below it.
const MAX_DEPTH: usize = 100;

/// A policy over principals: a tree of "n of these", with principals at its leaves.
///
/// Evaluation is Fabric's: from left to right and without looking back. A principal takes the first
/// identity that satisfies it and is not taken yet, and every rule of a gate is tried even if enough
/// are satisfied already; so a policy may fail although another choice would satisfy it.
#[derive(Clone, Debug, PartialEq)]
pub struct SignaturePolicy {
    rule: Rule,
    principals: Vec<MspPrincipal>,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    SignedBy(usize),
    OutOf { required: i32, rules: Vec<Rule> },
}

impl SignaturePolicy {
    /// Decodes and checks a `SignaturePolicyEnvelope`, whose version must be 0.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        let envelope =
            SignaturePolicyEnvelope::decode(bytes).map_err(|error| PolicyError::Decode {
                what: "SignaturePolicyEnvelope",
                reason: error.to_string(),
            })?;
        if envelope.version != 0 {
            return Err(PolicyError::Version {
                found: envelope.version,
            });
        }
        Self::from_envelope(&envelope)
    }

    /// Checks a policy: its rules must be complete and refer to principals that are there. The version
    /// does not matter, as in Fabric where policies come in this form (those of chaincodes).
    pub fn from_envelope(envelope: &SignaturePolicyEnvelope) -> Result<Self, PolicyError> {
        let rule = envelope.rule.as_ref().ok_or(PolicyError::Empty)?;
        Ok(Self {
            rule: compile(rule, envelope.identities.len(), 0)?,
            principals: envelope.identities.clone(),
        })
    }

    /// The principals that the rules refer to.
    pub fn principals(&self) -> &[MspPrincipal] {
        &self.principals
    }

    /// Evaluates the policy over signatures; those that are invalid are left out.
    pub fn evaluate(&self, signed: &[SignedData], msps: &MspManager) -> Result<(), PolicyError> {
        let identities = valid_identities(signed, msps);
        self.evaluate_identities(&identities)
            .map_err(|_| PolicyError::NotSatisfied {
                given: signed.len(),
                valid: identities.len(),
            })
    }

    /// Evaluates the policy over identities whose signatures were checked. The caller sees to it that
    /// no identity is in the list twice.
    pub fn evaluate_identities(&self, identities: &[Identity]) -> Result<(), PolicyError> {
        let mut taken = vec![false; identities.len()];
        if self.is_satisfied(&self.rule, identities, &mut taken) {
            Ok(())
        } else {
            Err(PolicyError::IdentitiesNotSatisfied)
        }
    }

    /// If the rule is not satisfied, `taken` is of no further use.
    fn is_satisfied(&self, rule: &Rule, identities: &[Identity], taken: &mut Vec<bool>) -> bool {
        match rule {
            Rule::SignedBy(index) => {
                let Some(principal) = self.principals.get(*index) else {
                    return false;
                };
                let signer = identities
                    .iter()
                    .zip(taken.iter_mut())
                    .find(|(identity, taken)| !**taken && identity.satisfies(principal).is_ok());
                signer.is_some_and(|(_, taken)| {
                    *taken = true;
                    true
                })
            }
            Rule::OutOf { required, rules } => {
                let mut satisfied = 0;
                for rule in rules {
                    let mut attempt = taken.clone();
                    if self.is_satisfied(rule, identities, &mut attempt) {
                        satisfied += 1;
                        *taken = attempt;
                    }
                }
                satisfied >= *required
            }
        }
    }
}

fn compile(
    policy: &pb::SignaturePolicy,
    principals: usize,
    depth: usize,
) -> Result<Rule, PolicyError> {
    if depth > MAX_DEPTH {
        return Err(PolicyError::TooDeep { limit: MAX_DEPTH });
    }
    match policy.r#type.as_ref().ok_or(PolicyError::Empty)? {
        Type::SignedBy(index) => match usize::try_from(*index) {
            Ok(position) if position < principals => Ok(Rule::SignedBy(position)),
            _ => Err(PolicyError::PrincipalOutOfRange {
                index: *index,
                length: principals,
            }),
        },
        Type::NOutOf(gate) => Ok(Rule::OutOf {
            required: gate.n,
            rules: gate
                .rules
                .iter()
                .map(|rule| compile(rule, principals, depth + 1))
                .collect::<Result<_, _>>()?,
        }),
    }
}
