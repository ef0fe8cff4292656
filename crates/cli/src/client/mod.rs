//! gRPC clients of a peer and of an ordering node, as the configured identity.

mod connection;
mod deliver;
mod endorser;
mod identity;
mod snapshot;

use selvedge_peer::config::{ClientConfig, Sources};
use selvedge_peer::logging;
use tonic::{Code, Status};

use crate::failure::Failure;
pub use deliver::{Deliver, Position};
pub use endorser::Endorser;
pub use identity::Identity;
pub use snapshot::Snapshots;

/// Reads the configuration, and loads the identity that it names. The log is set up by the environment.
pub fn configured() -> Result<(ClientConfig, Identity), Failure> {
    logging::init_from_environment()?;
    let loaded = Sources::discover()
        .and_then(|sources| sources.client())
        .map_err(|error| {
            Failure::Setup(format!(
                "Fatal error when initializing core config : {error}"
            ))
        })?;
    for warning in loaded.warnings {
        tracing::warn!(target: "main", "{warning}");
    }
    let identity = Identity::load(&loaded.config.local_msp)
        .map_err(|error| Failure::Setup(format!("Cannot run peer because {error}")))?;
    Ok((loaded.config, identity))
}

/// A gRPC failure in the words of Go's library, which scripts know.
fn rpc_error(status: &Status) -> anyhow::Error {
    let code = match status.code() {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    };
    anyhow::anyhow!("rpc error: code = {code} desc = {}", status.message())
}
