//! Policies: who has to sign for something to count.
//!
//! A channel's configuration names a policy for everything that is to be decided: who may read the
//! channel, who may change its configuration, which ordering nodes' signatures make a block valid.
//! There are two kinds.
//!
//! - A *signature policy* ([`SignaturePolicy`]) is a tree of "n of these", with principals of the
//!   MSPs at its leaves: `OutOf(2, 'Org1MSP.peer', 'Org2MSP.peer', 'Org3MSP.peer')`.
//! - An *implicit meta policy* asks for any, all or the majority of the policies of one name in the
//!   groups below its own: `MAJORITY Admins` of `/Channel/Application` asks the `Admins` policies of
//!   the organisations.
//!
//! [`PolicyManager`] holds the tree of a channel, from which [`Policy`]s are taken by path and
//! evaluated over [`SignedData`]: signatures with what they sign and who is said to have made them.
//! Invalid signatures are left out, and each identity counts once.
//!
//! Verdicts are Fabric's (`common/cauthdsl`, `common/policies`), greedy evaluation included: see
//! [`SignaturePolicy`]. One difference in cost, not in verdict: signatures are checked once for an
//! implicit meta policy, not once for each policy below it.

mod error;
mod manager;
mod signature_policy;
mod signed_data;
mod text;

#[cfg(test)]
mod tests;

pub use error::PolicyError;
pub use manager::{Policy, PolicyManager};
pub use signature_policy::SignaturePolicy;
pub use signed_data::{SignedData, valid_identities};
pub use text::{parse_implicit_meta_policy, parse_policy};
