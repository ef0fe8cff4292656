//! The typed configuration of a peer: the tree of core.yaml with its names in Rust's spelling.
//!
//! `Default` gives what Fabric's code assumes where a key is absent, which is not always what its
//! sample core.yaml says (for instance, block gossip is on where the key is missing and off in the
//! sample file of v3). Host names stay unresolved strings of the form `host:port`; paths are
//! absolute or relative to the folder of core.yaml, already joined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_validation::StatedVerdicts;

use super::error::ConfigError;
use super::gossip::GossipConfig;

/// The whole configuration of a peer, immutable after loading.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerConfig {
    /// The core.yaml that was read; relative paths in it count from its folder.
    pub config_file: PathBuf,
    /// `peer.id`: a name for this peer in logs.
    pub id: String,
    /// `peer.networkId`: separates networks that share a host.
    pub network_id: String,
    /// `peer.listenAddress`: where the gRPC server listens.
    pub listen_address: String,
    /// The address that other peers of the organisation reach this peer at: `peer.address` after
    /// Fabric's rule for unspecified hosts and `peer.addressAutoDetect`.
    pub address: String,
    /// `peer.chaincodeListenAddress`, if given.
    pub chaincode_listen_address: Option<String>,
    /// `peer.chaincodeAddress`, if given.
    pub chaincode_address: Option<String>,
    /// `peer.gateway`.
    pub gateway: GatewayConfig,
    /// `peer.keepalive`.
    pub keepalive: KeepaliveConfig,
    /// `peer.gossip`.
    pub gossip: GossipConfig,
    /// `peer.tls`.
    pub tls: TlsConfig,
    /// `peer.authentication.timewindow`: how far a proposal's timestamp may be from our clock.
    pub authentication_time_window: Duration,
    /// `peer.fileSystemPath`: root of everything that the peer stores.
    pub file_system_path: PathBuf,
    /// `peer.mspConfigPath` and `peer.localMspId`.
    pub local_msp: LocalMspConfig,
    /// `peer.BCCSP`.
    pub bccsp: BccspConfig,
    /// `peer.deliveryclient`.
    pub delivery_client: DeliveryClientConfig,
    /// `peer.discovery`.
    pub discovery: DiscoveryConfig,
    /// `peer.limits.concurrency`.
    pub limits: LimitsConfig,
    /// `peer.connectiontimeout`: limit for a TLS handshake with the gRPC server.
    pub connection_timeout: Duration,
    /// `peer.maxRecvMsgSize`, bytes.
    pub max_recv_msg_size: usize,
    /// `peer.maxSendMsgSize`, bytes.
    pub max_send_msg_size: usize,
    /// `peer.validatorPoolSize`: transactions validated at once; the number of cores if absent.
    pub validator_pool_size: usize,
    /// `peer.handlers.authFilters`: the filters in front of the endorser, in order.
    pub auth_filters: Vec<AuthFilter>,
    /// `peer.profile.enabled`; accepted without effect, profiles of Go are not ours to give.
    pub profile_enabled: bool,
    /// `chaincode`.
    pub chaincode: ChaincodeConfig,
    /// `ledger`.
    pub ledger: LedgerConfig,
    /// `operations`.
    pub operations: OperationsConfig,
    /// `metrics.provider`.
    pub metrics: MetricsProvider,
}

/// `peer.gateway`: the service that client libraries of Fabric 2.4 and later use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Whether the service is offered.
    pub enabled: bool,
    /// How long to wait for endorsements of other peers.
    pub endorsement_timeout: Duration,
    /// How long to wait for ordering nodes.
    pub broadcast_timeout: Duration,
    /// How long to wait for a connection.
    pub dial_timeout: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            endorsement_timeout: Duration::from_secs(10),
            broadcast_timeout: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(30),
        }
    }
}

/// Interval and timeout of HTTP/2 pings on connections that we opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKeepalive {
    /// Ping after this time without activity.
    pub interval: Duration,
    /// Close if no answer comes within this time.
    pub timeout: Duration,
}

impl Default for ClientKeepalive {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(20),
        }
    }
}

/// `peer.keepalive`: HTTP/2 pings of the server and of both kinds of client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepaliveConfig {
    /// The server pings a client after this time without activity.
    pub interval: Duration,
    /// The server closes if no answer comes within this time.
    pub timeout: Duration,
    /// A client that pings more often than this is disconnected.
    pub min_interval: Duration,
    /// Connections to other peers.
    pub client: ClientKeepalive,
    /// Connections to ordering nodes.
    pub delivery_client: ClientKeepalive,
}

impl Default for KeepaliveConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2 * 60 * 60),
            timeout: Duration::from_secs(20),
            min_interval: Duration::from_secs(60),
            client: ClientKeepalive::default(),
            delivery_client: ClientKeepalive::default(),
        }
    }
}

/// A certificate and its private key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPairFiles {
    /// The certificate, with its intermediates if there are any.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
    /// The key of core.yaml that names the certificate.
    pub(crate) cert_key: &'static str,
    /// The key of core.yaml that names the private key.
    pub(crate) key_key: &'static str,
}

impl KeyPairFiles {
    /// Reads both files. An error names the file and the key of core.yaml that points to it.
    pub fn read(&self) -> Result<KeyPair, ConfigError> {
        Ok(KeyPair {
            cert_pem: read_file(&self.cert_file, self.cert_key)?,
            key_pem: read_file(&self.key_file, self.key_key)?,
        })
    }
}

/// A certificate and its private key, PEM.
#[derive(Clone)]
pub struct KeyPair {
    /// The certificate, with its intermediates if there are any.
    pub cert_pem: Vec<u8>,
    /// The private key; not part of the debug output.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

/// Reads a file that `key` of core.yaml names.
pub fn read_file(path: &Path, key: &'static str) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        key: Some(key),
        source,
    })
}

/// `peer.tls`. File contents are read where they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Whether the server and all clients use TLS.
    pub enabled: bool,
    /// Whether clients of our server must present a certificate.
    pub client_auth_required: bool,
    /// `peer.tls.cert.file` and `peer.tls.key.file`; present if TLS is enabled.
    pub server: Option<KeyPairFiles>,
    /// `peer.tls.clientCert.file` and `peer.tls.clientKey.file`, or else the server's pair.
    pub client: Option<KeyPairFiles>,
    /// `peer.tls.rootcert.file`: trusted for outbound connections besides the channels' MSPs.
    pub root_cert_file: Option<PathBuf>,
    /// `peer.tls.clientRootCAs.files`: trusted for inbound connections besides the channels' MSPs.
    pub client_root_ca_files: Vec<PathBuf>,
}

/// The peer's own MSP. Of the types that Fabric knows, `bccsp` (X.509) is supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMspConfig {
    /// `peer.localMspId`.
    pub id: String,
    /// `peer.mspConfigPath`.
    pub config_path: PathBuf,
}

/// `peer.BCCSP`: where private keys live. Only the software provider is supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BccspConfig {
    /// `SW.FileKeyStore.KeyStore`; the MSP's `keystore` folder if absent.
    pub key_store: Option<PathBuf>,
}

/// `peer.deliveryclient`: fetching blocks from ordering nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryClientConfig {
    /// Whether a leader passes blocks on to the peers of its organisation.
    pub block_gossip_enabled: bool,
    /// After how much reconnecting in vain an elected leader gives way at the latest.
    pub reconnect_total_time_threshold: Duration,
    /// `giveWayAfter`, which no Go peer has: the same, much sooner.
    pub give_way_after: Duration,
    /// Limit for establishing a connection.
    pub conn_timeout: Duration,
    /// The longest pause between two attempts.
    pub reconnect_backoff_threshold: Duration,
    /// The shortest pause between two attempts.
    pub minimal_reconnect_interval: Duration,
    /// On BFT channels: how long headers may come without their block before the source counts as
    /// censoring.
    pub block_censorship_timeout: Duration,
    /// Addresses of ordering nodes that are reached elsewhere than the channel says.
    pub address_overrides: Vec<AddressOverride>,
    /// How to fetch blocks on BFT channels.
    pub policy: DeliveryPolicy,
}

impl Default for DeliveryClientConfig {
    fn default() -> Self {
        Self {
            block_gossip_enabled: true,
            reconnect_total_time_threshold: Duration::from_secs(60 * 60),
            give_way_after: Duration::from_secs(20),
            conn_timeout: Duration::from_secs(3),
            reconnect_backoff_threshold: Duration::from_secs(60 * 60),
            minimal_reconnect_interval: Duration::from_millis(100),
            block_censorship_timeout: Duration::from_secs(30),
            address_overrides: Vec::new(),
            policy: DeliveryPolicy::Cluster,
        }
    }
}

impl DeliveryClientConfig {
    /// How long an elected leader goes without an ordering node before it gives way.
    pub fn patience(&self) -> Duration {
        self.give_way_after.min(self.reconnect_total_time_threshold)
    }
}

/// One entry of `peer.deliveryclient.addressOverrides`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressOverride {
    /// The address in the channel configuration.
    pub from: String,
    /// The address to use instead.
    pub to: String,
    /// PEM file with the TLS roots of the new address; the organisation's if absent.
    pub ca_certs_file: Option<PathBuf>,
}

/// `peer.deliveryclient.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryPolicy {
    /// Trust one ordering node, as on CFT channels.
    Simple,
    /// On BFT channels, watch the headers of other ordering nodes.
    Cluster,
}

/// `peer.discovery`: the service discovery endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveryConfig {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Whether verdicts on clients are cached.
    pub auth_cache_enabled: bool,
    /// Size of that cache.
    pub auth_cache_max_size: usize,
    /// Share of the cache that a purge leaves.
    pub auth_cache_purge_retention_ratio: f64,
    /// Whether members who are no admins may ask outside of a channel.
    pub org_members_allowed_access: bool,
}

/// `peer.limits.concurrency`: requests served at once; 0 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Endorser service.
    pub endorser_service: usize,
    /// Deliver service.
    pub deliver_service: usize,
    /// Gateway service.
    pub gateway_service: usize,
}

/// A filter of `peer.handlers.authFilters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFilter {
    /// `DefaultAuth`: lets everything pass.
    Default,
    /// `ExpirationCheck`: refuses proposals signed with an expired certificate.
    ExpirationCheck,
    /// `TimeWindowCheck`: refuses proposals whose timestamp is too far from our clock.
    TimeWindowCheck,
}

/// `chaincode`, as far as a peer without Docker has a use for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaincodeConfig {
    /// `chaincode.mode` is `dev`: chaincodes are started by hand.
    pub dev_mode: bool,
    /// Limit for one invocation.
    pub execute_timeout: Duration,
    /// Limit for building a package.
    pub install_timeout: Duration,
    /// Limit for the start of a chaincode.
    pub startup_timeout: Duration,
    /// Pings to chaincodes; none if zero.
    pub keepalive: Duration,
    /// Names of the enabled system chaincodes.
    pub system: Vec<String>,
    /// `chaincode.externalBuilders`.
    pub external_builders: Vec<ExternalBuilder>,
}

/// One entry of `chaincode.externalBuilders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalBuilder {
    /// Its name.
    pub name: String,
    /// The folder with its `bin`.
    pub path: PathBuf,
    /// Environment variables that its programs see.
    pub propagate_environment: Vec<String>,
}

/// `ledger`. Of the state databases that Fabric knows, the embedded one is supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConfig {
    /// `ledger.state.totalQueryLimit`: records that one query returns at most.
    pub total_query_limit: u32,
    /// `ledger.history.enableHistoryDatabase`.
    pub history_enabled: bool,
    /// `ledger.statedVerdicts`, which no Go peer has: for transactions on which Fabric's rules give no
    /// verdict, so that their channel stops before them.
    pub stated_verdicts: BTreeMap<String, StatedVerdicts>,
    /// `ledger.snapshots.rootDir`.
    pub snapshots_root_dir: PathBuf,
    /// `ledger.pvtdataStore.collElgProcMaxDbBatchSize`.
    pub coll_elg_proc_max_db_batch_size: u32,
    /// `ledger.pvtdataStore.collElgProcDbBatchesInterval`, milliseconds.
    pub coll_elg_proc_db_batches_interval: Duration,
    /// `ledger.pvtdataStore.deprioritizedDataReconcilerInterval`.
    pub deprioritized_data_reconciler_interval: Duration,
    /// `ledger.pvtdataStore.purgeInterval`, blocks.
    pub purge_interval: u64,
    /// `ledger.pvtdataStore.purgedKeyAuditLogging`.
    pub purged_key_audit_logging: bool,
}

/// `operations`: the HTTP endpoint for health, version, log levels and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationsConfig {
    /// host:port, port 0 for any free one. Without an address the endpoint is off (Fabric would
    /// take a random port).
    pub listen_address: Option<String>,
    /// `operations.tls`, if enabled.
    pub tls: Option<OperationsTlsConfig>,
}

/// `operations.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationsTlsConfig {
    /// The server's certificate and key.
    pub server: KeyPairFiles,
    /// Whether every client must present a certificate.
    pub client_auth_required: bool,
    /// PEM files of the CAs that client certificates must come from.
    pub client_root_ca_files: Vec<PathBuf>,
}

/// `metrics.provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsProvider {
    /// No metrics.
    Disabled,
    /// `/metrics` of the operations endpoint.
    Prometheus,
}
