//! The operations endpoint: health, version, log levels and metrics over HTTP
//! (core/operations, common/fabhttp).
//!
//! | path       | methods  | with TLS, a client certificate is needed |
//! |------------|----------|------------------------------------------|
//! | `/healthz` | GET      | no                                       |
//! | `/version` | GET      | no                                       |
//! | `/logspec` | GET, PUT | yes                                      |
//! | `/metrics` | GET      | yes                                      |
//!
//! `operations.tls.clientAuthRequired` makes every connection need one.

mod health;
mod router;
mod server;

pub use health::{AlreadyRegistered, FailedCheck, HealthChecks};
pub use server::{OperationsError, OperationsServer, start};

use crate::logging::LogControl;
use crate::metrics::Metrics;

/// What the endpoint shows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operations {
    /// Run for each request of `/healthz`.
    pub health: HealthChecks,
    /// Answer of `/version`.
    pub version: Version,
    /// Behind `/logspec`.
    pub log: LogControl,
    /// Behind `/metrics`; none if `metrics.provider` is `disabled`.
    pub metrics: Option<Metrics>,
}

/// The program's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Version {
    /// The commit it was built from, if the build was told.
    #[serde(rename = "CommitSHA", skip_serializing_if = "Option::is_none")]
    pub commit_sha: Option<&'static str>,
    /// The version number.
    #[serde(rename = "Version")]
    pub version: &'static str,
}

impl Version {
    /// The version of this build. The commit is that of the variable SELVEDGE_COMMIT during the
    /// build.
    pub const CURRENT: Self = Self {
        commit_sha: option_env!("SELVEDGE_COMMIT"),
        version: env!("CARGO_PKG_VERSION"),
    };
}

#[cfg(test)]
mod tests;
