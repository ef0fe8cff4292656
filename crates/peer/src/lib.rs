//! The node: configuration, channels, services, operations.

pub mod config;
pub mod logging;
pub mod metrics;
pub mod operations;
