//! Reading the tree of a signature policy, however deep, as Go's library reads it.
//!
//! Go decodes messages nested 10,000 deep, prost 100, and a policy is a tree of messages; so the tree
//! is read here, with a stack of its own, into a flat list of rules.

use selvedge_protos::common::MspPrincipal;
use selvedge_protos::schema::{self, Kind, Schema};
use selvedge_protos::wire::{Fields, Value, WireError, low_32_bits};

use crate::error::PolicyError;

/// The messages that may be nested in each other, the outermost included
/// (Go: `protowire.DefaultRecursionLimit`).
const MAX_NESTED_MESSAGES: usize = 10_000;

const PRINCIPAL: Schema = Schema(&[(1, Kind::Varint), (2, Kind::Bytes)]);

/// One rule of a tree; rules refer to others by their positions in the list.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    /// A rule of no kind.
    Empty,
    /// The principal at this position has to sign.
    SignedBy(i32),
    /// That many of these rules have to be satisfied.
    OutOf { required: i32, rules: Vec<usize> },
}

/// The content of a `SignaturePolicyEnvelope`.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub version: i32,
    /// The first is the root; none if the envelope has no rule. Rules that a later field replaced
    /// stay in the list.
    pub rules: Vec<Rule>,
    pub principals: Vec<MspPrincipal>,
}

/// Decodes an envelope that stands within `enclosing` other messages.
pub(super) fn decode(bytes: &[u8], enclosing: usize) -> Result<Decoded, PolicyError> {
    let mut decoded = Decoded::default();
    for field in Fields::of(bytes) {
        let field = field.map_err(malformed)?;
        match (field.number, field.value) {
            (1, Value::Varint(version)) => decoded.version = low_32_bits(version).cast_signed(),
            (2, Value::Bytes(rule)) => {
                if decoded.rules.is_empty() {
                    decoded.rules.push(Rule::Empty);
                }
                read_tree(&mut decoded.rules, rule, enclosing + 1)?;
            }
            (3, Value::Bytes(principal)) => {
                let bytes = bytes::Bytes::copy_from_slice(principal);
                let principal =
                    schema::decode(bytes, &PRINCIPAL).map_err(|error| PolicyError::Decode {
                        what: "MSPPrincipal",
                        reason: error.to_string(),
                    })?;
                decoded.principals.push(principal);
            }
            _ => {}
        }
    }
    Ok(decoded)
}

/// A message of the tree that is not read to its end.
struct Open<'a> {
    /// The rule that the message is about.
    rule: usize,
    /// A rule is a `SignaturePolicy`; if it is a gate, there is a `NOutOf` in it.
    is_gate: bool,
    fields: Fields<'a>,
}

/// Reads the root rule from `bytes`. What is there already is merged with it, as for any message
/// that stands twice.
fn read_tree(rules: &mut Vec<Rule>, bytes: &[u8], enclosing: usize) -> Result<(), PolicyError> {
    let mut stack = vec![Open {
        rule: 0,
        is_gate: false,
        fields: Fields::of(bytes),
    }];
    while let Some(open) = stack.last_mut() {
        let Some(field) = open.fields.next() else {
            stack.pop();
            continue;
        };
        let field = field.map_err(malformed)?;
        let (position, is_gate) = (open.rule, open.is_gate);
        let added = rules.len();
        let Some(rule) = rules.get_mut(position) else {
            return Err(PolicyError::Empty);
        };
        let next = match (is_gate, field.number, field.value) {
            (false, 1, Value::Varint(index)) => {
                *rule = Rule::SignedBy(low_32_bits(index).cast_signed());
                continue;
            }
            (false, 2, Value::Bytes(gate)) => {
                if !matches!(rule, Rule::OutOf { .. }) {
                    *rule = Rule::OutOf {
                        required: 0,
                        rules: Vec::new(),
                    };
                }
                Open {
                    rule: position,
                    is_gate: true,
                    fields: Fields::of(gate),
                }
            }
            (true, 1, Value::Varint(n)) => {
                if let Rule::OutOf { required, .. } = rule {
                    *required = low_32_bits(n).cast_signed();
                }
                continue;
            }
            (true, 2, Value::Bytes(below)) => {
                if let Rule::OutOf { rules, .. } = rule {
                    rules.push(added);
                }
                rules.push(Rule::Empty);
                Open {
                    rule: added,
                    is_gate: false,
                    fields: Fields::of(below),
                }
            }
            _ => continue,
        };
        stack.push(next);
        if enclosing + stack.len() > MAX_NESTED_MESSAGES {
            return Err(PolicyError::TooDeep {
                limit: MAX_NESTED_MESSAGES,
            });
        }
    }
    Ok(())
}

fn malformed(error: WireError) -> PolicyError {
    PolicyError::Decode {
        what: "SignaturePolicyEnvelope",
        reason: error.to_string(),
    }
}
