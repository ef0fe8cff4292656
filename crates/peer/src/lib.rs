//! The node: configuration, channels, services, operations.

pub mod access;
pub mod channel;
pub mod conductor;
pub mod config;
pub mod delivery;
pub mod gossip;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod operations;
pub mod scc;
pub mod services;
pub mod tls;
