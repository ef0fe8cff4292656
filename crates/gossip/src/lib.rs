//! Fabric's gossip protocol as state machines without I/O.
pub mod config;
pub mod crypto;
pub mod event;
pub mod message;
pub mod types;

#[cfg(test)]
mod testing;
