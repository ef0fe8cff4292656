//! gRPC clients of a peer and of an ordering node, as the configured identity.

mod connection;
mod deliver;
mod endorser;
mod identity;

use tonic::{Code, Status};

pub use deliver::{Deliver, Position};
pub use endorser::Endorser;
pub use identity::Identity;

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
