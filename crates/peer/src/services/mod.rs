//! The gRPC services that clients call.

pub mod deliver;
pub mod endorser;
mod filtered;
pub mod proposal;
