//! Connections: gRPC over TLS, in and out, and the authenticated streams of gossip.
//!
//! Everything that Fabric's nodes say to each other travels over gRPC. This crate turns sockets
//! into authenticated, bounded conversations and knows nothing of what is said in them:
//!
//! - [`services`]: the generated clients and servers of Fabric's services. Their messages are in
//!   `selvedge_protos`. Generated clients are built on a [`tonic::transport::Channel`] (see
//!   [`channel`]) or on a [`Connection`].
//! - [`ServerTls`] and [`ClientTls`]: certificates and roots, which can change while serving.
//! - [`serve`]: a gRPC server. Every request carries a [`TlsPeer`] extension, which says who is at
//!   the other end of the connection.
//! - [`dial`]: one outgoing connection, whose TLS certificate is known and whose end is final;
//!   [`channel`]: one that reconnects by itself.
//! - [`codec`]: messages as the bytes that were on the wire, for what is hashed, stored or passed on.
//! - [`gossip`]: streams between peers that have proven their identities to each other, one to a
//!   PKI-ID, with bounded queues.
//!
//! Message sizes are bounded where a service is made (`max_decoding_message_size`), usually by
//! [`MAX_MESSAGE_SIZE`]; connections, handshakes and everything else by [`ServerOptions`].

// Left as `cargo xtask codegen` writes it.
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic, rust_2018_idioms)]
mod generated {
    pub mod discovery;
    pub mod gateway;
    pub mod gossip;
    pub mod orderer;
    pub mod protos;
}

pub mod codec;
mod connect;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod gossip;
mod incoming;
mod io;
mod log_limit;
mod server;
mod tls;

#[cfg(test)]
mod testing;

/// The generated gRPC clients and servers, by Fabric's package names.
pub mod services {
    pub use crate::generated::{discovery, gateway, gossip, orderer, protos};
}

pub use connect::{ConnectError, ConnectOptions, Connection, Endpoint, channel, dial};
pub use io::TlsPeer;
pub use server::{ConnectionCounters, ServeError, ServerOptions, bind, serve};
pub use tls::{
    ClientAuth, ClientTls, CurrentIdentity, HandshakeError, ServerTls, TlsError, TlsIdentity,
    certificates_from_pem,
};

/// Fabric's default for `peer.maxRecvMsgSize` and `peer.maxSendMsgSize`, bytes.
pub const MAX_MESSAGE_SIZE: usize = 100 * 1024 * 1024;
