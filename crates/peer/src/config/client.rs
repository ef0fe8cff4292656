//! What the command line reads of the configuration: how to reach a peer and an ordering node,
//! and as whom (internal/peer/common).

use std::path::PathBuf;
use std::time::Duration;

use super::node::{bccsp, local_msp};
use super::reader::Reader;
use super::types::{BccspConfig, LocalMspConfig};

const DEFAULT_CONN_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_MESSAGE_SIZE: usize = 100 * 1024 * 1024;

/// The configuration of a command line that talks to a peer or an ordering node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// `peer.localMspId` and `peer.mspConfigPath`: who signs.
    pub local_msp: LocalMspConfig,
    /// `peer.BCCSP`.
    pub bccsp: BccspConfig,
    /// The keys below `peer`.
    pub peer: RemoteConfig,
    /// The keys below `orderer`; Fabric's command line sets them with flags.
    pub orderer: RemoteConfig,
}

/// How to reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteConfig {
    /// host:port; empty if not set.
    pub address: String,
    /// Limit for establishing a connection.
    pub conn_timeout: Duration,
    /// Whether to use TLS.
    pub tls_enabled: bool,
    /// PEM file of the CAs that the node's certificate may come from.
    pub root_cert_file: Option<PathBuf>,
    /// Whether to present a certificate.
    pub client_auth_required: bool,
    /// The certificate to present.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key.
    pub client_key_file: Option<PathBuf>,
    /// The name to expect in the node's certificate instead of the host's.
    pub server_host_override: Option<String>,
    /// The node's certificate is checked as if it were this much earlier.
    pub handshake_time_shift: Duration,
    /// Bytes.
    pub max_recv_msg_size: usize,
    /// Bytes.
    pub max_send_msg_size: usize,
}

pub(super) fn client_config(reader: &mut Reader<'_>) -> ClientConfig {
    ClientConfig {
        local_msp: local_msp(reader),
        bccsp: bccsp(reader),
        peer: RemoteConfig {
            address: reader.text("peer.address").unwrap_or_default(),
            conn_timeout: reader.interval("peer.client.connTimeout", DEFAULT_CONN_TIMEOUT),
            tls_enabled: reader.flag("peer.tls.enabled", false),
            root_cert_file: reader.path("peer.tls.rootcert.file"),
            client_auth_required: reader.flag("peer.tls.clientAuthRequired", false),
            client_cert_file: reader.path("peer.tls.clientCert.file"),
            client_key_file: reader.path("peer.tls.clientKey.file"),
            server_host_override: reader.text("peer.tls.serverhostoverride"),
            handshake_time_shift: reader.duration("peer.tls.handshakeTimeShift", Duration::ZERO),
            max_recv_msg_size: reader.positive("peer.maxRecvMsgSize", DEFAULT_MESSAGE_SIZE),
            max_send_msg_size: reader.positive("peer.maxSendMsgSize", DEFAULT_MESSAGE_SIZE),
        },
        orderer: RemoteConfig {
            address: reader.text("orderer.address").unwrap_or_default(),
            conn_timeout: reader.interval("orderer.client.connTimeout", DEFAULT_CONN_TIMEOUT),
            tls_enabled: reader.flag("orderer.tls.enabled", false),
            root_cert_file: reader.path("orderer.tls.rootcert.file"),
            client_auth_required: reader.flag("orderer.tls.clientAuthRequired", false),
            client_cert_file: reader.path("orderer.tls.clientCert.file"),
            client_key_file: reader.path("orderer.tls.clientKey.file"),
            server_host_override: reader.text("orderer.tls.serverhostoverride"),
            handshake_time_shift: reader.duration("orderer.tls.handshakeTimeShift", Duration::ZERO),
            max_recv_msg_size: DEFAULT_MESSAGE_SIZE,
            max_send_msg_size: DEFAULT_MESSAGE_SIZE,
        },
    }
}
