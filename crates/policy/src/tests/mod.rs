//! Policies over identities of a recorded network.

mod config;
mod evaluation;
mod support;
mod text;
