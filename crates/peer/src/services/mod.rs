//! The gRPC services that clients call.

pub mod deliver;
pub mod endorser;
mod filtered;
pub mod filters;
pub mod proposal;
pub mod snapshot;

use std::num::NonZeroUsize;

use tokio::sync::Semaphore;
use tonic::Status;

#[cfg(feature = "fuzzing")]
pub(crate) use filtered::filter;

/// Permits of a service with a limit on concurrent requests (`peer.limits.concurrency`).
fn permits(limit: Option<NonZeroUsize>) -> usize {
    limit.map_or(Semaphore::MAX_PERMITS, |limit| {
        limit.get().min(Semaphore::MAX_PERMITS)
    })
}

/// The refusal of a request beyond the limit, in Fabric's words.
fn too_many(service: &str, limit: Option<NonZeroUsize>) -> Status {
    let limit = limit.map_or(0, NonZeroUsize::get);
    Status::unknown(format!(
        "too many requests for {service}, exceeding concurrency limit ({limit})"
    ))
}
