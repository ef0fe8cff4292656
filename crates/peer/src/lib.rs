//! The node: configuration, channels, services, operations.

pub mod config;
