//! Who is who in a Fabric network: certificates, identities, membership service providers (MSPs),
//! principals and signing.
//!
//! An organisation is described to others by its MSP: the certificate authorities that it trusts,
//! lists of revoked certificates, and rules about organizational units. Every node and client has a
//! certificate from one of these authorities; the certificate together with the MSP's id is its
//! [`Identity`]. What an identity may do is written in policies, whose smallest parts are principals:
//! "a peer of Org1MSP", "an admin of OrdererMSP", "exactly this certificate".
//!
//! - [`Msp`] judges identities. It is made from a channel's configuration ([`Msp::from_config`], with
//!   the [`MspVersion`] that the channel's capabilities ask for) or from a folder
//!   ([`Msp::from_directory`]).
//! - [`MspManager`] holds all MSPs of a channel and reads identities of any of them. It has the
//!   cache, so use it rather than a bare [`Msp`] wherever identities come in more than once.
//! - [`Identity`] verifies signatures, says whether it is valid and which principals it satisfies.
//! - [`SigningIdentity`] signs ([`load_signing_identity`]).
//!
//! # The verdict is Fabric's
//!
//! Peers that disagree on the validity of a signature or of an identity disagree on the validity of
//! a transaction. So the checks follow those of Fabric's `msp` package and `bccsp/sw`, and of Go's
//! `crypto/x509` and `encoding/pem` beneath them, down to the encodings that are acceptable:
//!
//! - Signatures over messages ([`Identity::verify`]): SHA-256 whatever the curve; bytes that follow
//!   the DER pass; S must be in the lower half. Ed25519 over the message itself.
//! - Time: a chain is judged at one second after the start of the certificate's validity, so expired
//!   certificates stay valid members. Only the own signing certificate must not have expired.
//! - A certificate with a high-S signature is rewritten to low S before it is compared or hashed.
//! - Exactly one chain must lead to a root. An authority that has intermediate authorities below it
//!   no longer vouches for identities.
//! - The extended key usages, if there are any, must include server authentication (Go's default).
//!
//! # Deliberate differences
//!
//! - Idemix MSPs are refused with [`MspError::UnsupportedType`]. Go knows them on channels below V3_0.
//! - A node cannot sign with a key on P-224; signatures of others with such keys count as in Go.
//! - A chain with an intermediate authority in which explicit certificate policies are required is
//!   refused; Go evaluates the policies.
//! - Name constraints on URIs compare hosts, and quoted mailboxes are refused under name constraints.

mod asn1;
mod cache;
mod certificate;
mod chain;
mod constraints;
mod credential;
mod crl;
mod curve_p224;
mod der;
mod directory;
mod ecdsa;
mod error;
mod extensions;
mod identity;
mod key;
mod manager;
mod messages;
mod msp;
mod node_ou;
mod p256;
mod pem;
mod principal;
mod second_reading;
mod setup;
mod shared;
mod signing;
mod uri;
mod x509_text;

#[cfg(test)]
mod tests;

pub use directory::msp_config_from_directory;
pub use error::{CertificateError, ChainError, MspError, SignatureError};
pub use identity::{Identity, expires_at, is_well_formed};
pub use manager::MspManager;
pub use msp::{Msp, MspVersion};
pub use signing::{SigningIdentity, load_signing_identity};
