//! Key material for development networks, in the folder layout of Fabric's cryptogen.
//!
//! ```text
//! ordererOrganizations/example.com/{ca,tlsca,msp,orderers/NODE/{msp,tls},users/USER/{msp,tls}}
//! peerOrganizations/org1.example.com/{ca,tlsca,msp,peers/NODE/{msp,tls},users/USER/{msp,tls}}
//! ```
//!
//! Every organisation has a CA for identities and one for TLS. Keys are P-256, node OUs are on, and
//! the TLS certificates of nodes name localhost, 127.0.0.1 and ::1 besides their host name, so that
//! Fabric's own tools can be pointed at the folders. Private keys are readable by their owner alone.

mod authority;
mod organization;
#[cfg(test)]
mod tests;

pub use authority::Authority;
pub(crate) use organization::write_file;
pub use organization::{Kind, MspFolder, Organization, Specification, TlsFolder};
