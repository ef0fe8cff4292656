//! Signature policies: which principals have to sign (Fabric's `cauthdsl`).

mod decode;

use selvedge_msp::{Identity, MspManager};
use selvedge_protos::Message;
use selvedge_protos::common::{MspPrincipal, SignaturePolicyEnvelope};

use crate::error::PolicyError;
use crate::signed_data::{SignedData, valid_identities};
use decode::{Decoded, Rule, decode};

/// A policy over principals: a tree of "n of these", with principals at its leaves. The tree may be as
/// deep as Go's decoder allows, about 5,000 gates in each other; no recursion goes over it.
///
/// Evaluation is Fabric's: from left to right and without looking back. A principal takes the first
/// identity that satisfies it and is not taken yet, and every rule of a gate is tried even if enough
/// are satisfied already; so a policy may fail although another choice would satisfy it.
#[derive(Clone, Debug, PartialEq)]
pub struct SignaturePolicy {
    /// The first is the root.
    rules: Vec<Rule>,
    principals: Vec<MspPrincipal>,
}

impl SignaturePolicy {
    /// Decodes and checks a `SignaturePolicyEnvelope`, whose version must be 0: a policy of a channel's
    /// configuration.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        let decoded = decode(bytes, 0)?;
        if decoded.version != 0 {
            return Err(PolicyError::Version {
                found: decoded.version,
            });
        }
        Self::checked(decoded)
    }

    /// Decodes and checks a `SignaturePolicyEnvelope` whose version does not matter: a policy of a
    /// chaincode, a collection or a key. `enclosing` is the number of messages that it stands in, which
    /// count where the depth is limited. What does not parse is [`PolicyError::Decode`] or
    /// [`PolicyError::TooDeep`]; other errors speak of a policy that parses.
    pub fn from_unversioned_bytes(bytes: &[u8], enclosing: usize) -> Result<Self, PolicyError> {
        Self::checked(decode(bytes, enclosing)?)
    }

    /// Checks a policy: its rules must be complete and refer to principals that are there. The version
    /// does not matter, as in Fabric where policies come in this form (those of chaincodes).
    pub fn from_envelope(envelope: &SignaturePolicyEnvelope) -> Result<Self, PolicyError> {
        Self::from_unversioned_bytes(&envelope.encode_to_vec(), 0)
    }

    fn checked(decoded: Decoded) -> Result<Self, PolicyError> {
        let length = decoded.principals.len();
        let mut to_check = vec![0];
        while let Some(position) = to_check.pop() {
            match decoded.rules.get(position) {
                None | Some(Rule::Empty) => return Err(PolicyError::Empty),
                Some(Rule::OutOf { rules, .. }) => to_check.extend(rules),
                Some(Rule::SignedBy(index)) => {
                    let principal = usize::try_from(*index).ok();
                    if principal.is_none_or(|position| position >= length) {
                        let index = *index;
                        return Err(PolicyError::PrincipalOutOfRange { index, length });
                    }
                }
            }
        }
        Ok(Self {
            rules: decoded.rules,
            principals: decoded.principals,
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
        // The root is evaluated as the only rule of a gate around it.
        let mut gates = vec![Gate::new(1, &[0], vec![false; identities.len()])];
        while let Some(gate) = gates.last_mut() {
            if let Some((position, rest)) = gate.rules.split_first() {
                gate.rules = rest;
                match self.rules.get(*position) {
                    Some(Rule::OutOf { required, rules }) => {
                        let below = Gate::new(*required, rules, gate.taken.clone());
                        gates.push(below);
                    }
                    Some(Rule::SignedBy(index)) => {
                        gate.satisfied += i32::from(self.take(*index, identities, &mut gate.taken));
                    }
                    Some(Rule::Empty) | None => {}
                }
                continue;
            }
            let is_satisfied = gate.satisfied >= gate.required;
            let below = gates.pop();
            match (gates.last_mut(), below) {
                (Some(gate), Some(below)) if is_satisfied => {
                    gate.satisfied += 1;
                    gate.taken = below.taken;
                }
                (None, _) if is_satisfied => return Ok(()),
                _ => {}
            }
        }
        Err(PolicyError::IdentitiesNotSatisfied)
    }

    /// Gives a principal the first identity that satisfies it and is not taken.
    fn take(&self, principal: i32, identities: &[Identity], taken: &mut [bool]) -> bool {
        let position = usize::try_from(principal).ok();
        let Some(principal) = position.and_then(|position| self.principals.get(position)) else {
            return false;
        };
        let mut candidates = identities.iter().zip(taken);
        let signer =
            candidates.find(|(identity, taken)| !**taken && identity.satisfies(principal).is_ok());
        signer.is_some_and(|(_, taken)| {
            *taken = true;
            true
        })
    }
}

/// A gate that is being evaluated.
struct Gate<'a> {
    required: i32,
    satisfied: i32,
    /// The rules that are yet to be tried.
    rules: &'a [usize],
    /// The identities that satisfied rules have taken. If the gate is not satisfied, the gate around
    /// it goes on with its own.
    taken: Vec<bool>,
}

impl<'a> Gate<'a> {
    fn new(required: i32, rules: &'a [usize], taken: Vec<bool>) -> Self {
        Self {
            required,
            satisfied: 0,
            rules,
            taken,
        }
    }
}
