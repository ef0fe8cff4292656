//! What can be wrong with policies, and why one is not satisfied.

use thiserror::Error;

/// Why a policy cannot be made, or is not satisfied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The policy does not decode.
    #[error("{what} does not decode: {reason}")]
    Decode {
        /// The message.
        what: &'static str,
        /// The decoder's reason.
        reason: String,
    },
    /// Only version 0 of signature policies exists.
    #[error("this evaluator only understands messages of version 0, but version was {found}")]
    Version {
        /// The version.
        found: i32,
    },
    /// A rule is empty.
    #[error("empty policy element")]
    Empty,
    /// A rule refers to a principal that is not in the list.
    #[error("identity index out of range, requested {index}, but identities length is {length}")]
    PrincipalOutOfRange {
        /// The index.
        index: i32,
        /// The number of principals.
        length: usize,
    },
    /// Rules are nested too deep.
    #[error("policy is nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A policy of the configuration cannot be made.
    #[error("policy {name} at path {path}: {source}")]
    InConfig {
        /// The policy.
        name: String,
        /// The group that it stands in.
        path: String,
        /// What is wrong with it.
        source: Box<PolicyError>,
    },
    /// The policy's type is none that a configuration may have.
    #[error("unknown policy type {found}")]
    UnknownType {
        /// The type number.
        found: i32,
    },
    /// There is no policy of this name, which is as if it rejected everything.
    #[error("no such policy: '{path}'")]
    NotFound {
        /// The path that was asked for.
        path: String,
    },
    /// The signatures do not satisfy a signature policy.
    #[error(
        "signature set did not satisfy policy ({valid} of {given} signatures are valid and of different identities)"
    )]
    NotSatisfied {
        /// The number of signatures.
        given: usize,
        /// The number of different identities whose signature is valid.
        valid: usize,
    },
    /// The identities do not satisfy a signature policy.
    #[error("identities did not satisfy policy")]
    IdentitiesNotSatisfied,
    /// Too few of the policies that an implicit meta policy is made of are satisfied.
    #[error(
        "implicit policy evaluation failed - {satisfied} sub-policies were satisfied, but this \
         policy requires {required} of the '{sub_policy}' sub-policies to be satisfied"
    )]
    SubPolicies {
        /// The number of satisfied sub-policies.
        satisfied: usize,
        /// The number that is needed.
        required: usize,
        /// The name of the sub-policies.
        sub_policy: String,
    },
    /// The text of a policy cannot be understood.
    #[error("policy text, at character {position}: {reason}")]
    Text {
        /// Where, counted from 0.
        position: usize,
        /// What is wrong.
        reason: String,
    },
}
