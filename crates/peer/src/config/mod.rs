//! The peer's configuration: Fabric's core.yaml and its `CORE_*` environment variables.

mod types;

pub use types::*;
