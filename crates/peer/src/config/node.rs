//! From the layers to a [`PeerConfig`]: one function for each section, keys and defaults as in
//! Fabric (core/peer, gossip/*, core/deliverservice, internal/peer/node, core/chaincode).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::StatedVerdicts;

use super::address::{self, own_address, split_host_port};
use super::gossip::gossip;
use super::layers::Layers;
use super::reader::Reader;
use super::types::*;

const DEFAULT_TIME_WINDOW: Duration = Duration::from_secs(15 * 60);
const DEFAULT_MESSAGE_SIZE: usize = 100 * 1024 * 1024;
/// Fabric's gRPC server gives up a TLS handshake after this time.
const DEFAULT_CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a node keeps its data.
pub(super) fn file_system_path(reader: &mut Reader<'_>) -> PathBuf {
    required_path(reader, "peer.fileSystemPath")
}

/// Reads everything; what is wrong is left in `reader.errors`.
pub(super) fn peer_config(
    reader: &mut Reader<'_>,
    layers: &Layers,
    local_ip: impl Fn() -> Option<Ipv4Addr>,
) -> PeerConfig {
    let address = address(reader, local_ip);
    let file_system_path = file_system_path(reader);
    PeerConfig {
        config_file: layers.file.clone(),
        id: reader.text("peer.id").unwrap_or_default(),
        network_id: reader.text("peer.networkId").unwrap_or_default(),
        listen_address: required_address(reader, "peer.listenAddress"),
        chaincode_listen_address: reader.address("peer.chaincodeListenAddress"),
        chaincode_address: reader.address("peer.chaincodeAddress"),
        gateway: gateway(reader),
        keepalive: keepalive(reader),
        gossip: gossip(reader, &address),
        tls: tls(reader),
        authentication_time_window: reader
            .interval("peer.authentication.timewindow", DEFAULT_TIME_WINDOW),
        local_msp: local_msp(reader),
        bccsp: bccsp(reader),
        delivery_client: delivery_client(reader),
        discovery: discovery(reader),
        limits: LimitsConfig {
            endorser_service: reader.number("peer.limits.concurrency.endorserService", 0),
            deliver_service: reader.number("peer.limits.concurrency.deliverService", 0),
            gateway_service: reader.number("peer.limits.concurrency.gatewayService", 0),
        },
        connection_timeout: reader.interval("peer.connectiontimeout", DEFAULT_CONNECTION_TIMEOUT),
        max_recv_msg_size: reader.positive("peer.maxRecvMsgSize", DEFAULT_MESSAGE_SIZE),
        max_send_msg_size: reader.positive("peer.maxSendMsgSize", DEFAULT_MESSAGE_SIZE),
        validator_pool_size: reader.positive("peer.validatorPoolSize", cores()),
        auth_filters: auth_filters(reader),
        profile_enabled: reader.flag("peer.profile.enabled", false),
        chaincode: chaincode(reader),
        ledger: ledger(reader, &file_system_path),
        operations: operations(reader),
        metrics: metrics(reader),
        address,
        file_system_path,
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn required_address(reader: &mut Reader<'_>, key: &'static str) -> String {
    let errors = reader.errors.len();
    let found = reader.address(key);
    if found.is_none() && reader.errors.len() == errors {
        reader.wrong(key, address::EXPECTED);
    }
    found.unwrap_or_default()
}

fn required_path(reader: &mut Reader<'_>, key: &'static str) -> PathBuf {
    let errors = reader.errors.len();
    let found = reader.path(key);
    if found.is_none() && reader.errors.len() == errors {
        reader.wrong(key, "a path");
    }
    found.unwrap_or_default()
}

fn address(reader: &mut Reader<'_>, local_ip: impl Fn() -> Option<Ipv4Addr>) -> String {
    let configured = required_address(reader, "peer.address");
    let detect = reader.flag("peer.addressAutoDetect", false);
    let Some((host, port)) = split_host_port(&configured) else {
        return configured;
    };
    let own = own_address(&configured, host, port, detect, local_ip);
    own.unwrap_or_else(|| {
        reader.wrong(
            "peer.address",
            "host:port with the host's name or address, since no IPv4 address other than loopback was found to take its place",
        );
        configured.clone()
    })
}

fn gateway(reader: &mut Reader<'_>) -> GatewayConfig {
    let default = GatewayConfig::default();
    GatewayConfig {
        enabled: reader.flag("peer.gateway.enabled", default.enabled),
        endorsement_timeout: reader.duration(
            "peer.gateway.endorsementTimeout",
            default.endorsement_timeout,
        ),
        broadcast_timeout: reader
            .duration("peer.gateway.broadcastTimeout", default.broadcast_timeout),
        dial_timeout: reader.duration("peer.gateway.dialTimeout", default.dial_timeout),
    }
}

fn keepalive(reader: &mut Reader<'_>) -> KeepaliveConfig {
    let default = KeepaliveConfig::default();
    KeepaliveConfig {
        interval: reader.interval("peer.keepalive.interval", default.interval),
        timeout: reader.interval("peer.keepalive.timeout", default.timeout),
        min_interval: reader.duration("peer.keepalive.minInterval", default.min_interval),
        client: ClientKeepalive {
            interval: reader.interval("peer.keepalive.client.interval", default.client.interval),
            timeout: reader.interval("peer.keepalive.client.timeout", default.client.timeout),
        },
        delivery_client: ClientKeepalive {
            interval: reader.interval(
                "peer.keepalive.deliveryClient.interval",
                default.delivery_client.interval,
            ),
            timeout: reader.interval(
                "peer.keepalive.deliveryClient.timeout",
                default.delivery_client.timeout,
            ),
        },
    }
}

/// A certificate with its key; a mistake if one of them is missing.
fn key_pair(
    reader: &mut Reader<'_>,
    cert_key: &'static str,
    key_key: &'static str,
) -> Option<KeyPairFiles> {
    match (reader.path(cert_key), reader.path(key_key)) {
        (Some(cert_file), Some(key_file)) => Some(KeyPairFiles {
            cert_file,
            key_file,
            cert_key,
            key_key,
        }),
        (None, None) => None,
        (None, Some(_)) => {
            reader.wrong(cert_key, format!("a path, since {key_key} is set"));
            None
        }
        (Some(_), None) => {
            reader.wrong(key_key, format!("a path, since {cert_key} is set"));
            None
        }
    }
}

pub(super) fn tls(reader: &mut Reader<'_>) -> TlsConfig {
    let enabled = reader.flag("peer.tls.enabled", false);
    let server = key_pair(reader, "peer.tls.cert.file", "peer.tls.key.file");
    if enabled && server.is_none() {
        reader.wrong(
            "peer.tls.cert.file",
            "a path, since peer.tls.enabled is true",
        );
    }
    let client = key_pair(
        reader,
        "peer.tls.clientCert.file",
        "peer.tls.clientKey.file",
    )
    .or_else(|| server.clone());
    TlsConfig {
        enabled,
        client_auth_required: reader.flag("peer.tls.clientAuthRequired", false),
        server,
        client,
        root_cert_file: reader.path("peer.tls.rootcert.file"),
        client_root_ca_files: reader.paths("peer.tls.clientRootCAs.files"),
    }
}

pub(super) fn local_msp(reader: &mut Reader<'_>) -> LocalMspConfig {
    reader.only(
        "peer.localMspType",
        "bccsp",
        "bccsp; Idemix is not supported",
    );
    LocalMspConfig {
        id: reader.required("peer.localMspId", "the name of the peer's MSP"),
        config_path: required_path(reader, "peer.mspConfigPath"),
    }
}

pub(super) fn bccsp(reader: &mut Reader<'_>) -> BccspConfig {
    reader.only(
        "peer.BCCSP.Default",
        "SW",
        "SW: keys in files; keys in an HSM (PKCS11) are not supported",
    );
    reader.only("peer.BCCSP.SW.Hash", "SHA2", "SHA2");
    reader.only("peer.BCCSP.SW.Security", "256", "256");
    BccspConfig {
        key_store: reader.path("peer.BCCSP.SW.FileKeyStore.KeyStore"),
    }
}

fn delivery_client(reader: &mut Reader<'_>) -> DeliveryClientConfig {
    let default = DeliveryClientConfig::default();
    DeliveryClientConfig {
        block_gossip_enabled: reader.flag(
            "peer.deliveryclient.blockGossipEnabled",
            default.block_gossip_enabled,
        ),
        reconnect_total_time_threshold: reader.interval(
            "peer.deliveryclient.reconnectTotalTimeThreshold",
            default.reconnect_total_time_threshold,
        ),
        give_way_after: reader.interval("peer.deliveryclient.giveWayAfter", default.give_way_after),
        conn_timeout: reader.interval("peer.deliveryclient.connTimeout", default.conn_timeout),
        reconnect_backoff_threshold: reader.interval(
            "peer.deliveryclient.reConnectBackoffThreshold",
            default.reconnect_backoff_threshold,
        ),
        minimal_reconnect_interval: reader.duration(
            "peer.deliveryclient.minimalReconnectInterval",
            default.minimal_reconnect_interval,
        ),
        block_censorship_timeout: reader.duration(
            "peer.deliveryclient.blockCensorshipTimeoutKey",
            default.block_censorship_timeout,
        ),
        address_overrides: address_overrides(reader),
        policy: reader.choice(
            "peer.deliveryclient.policy",
            &[
                ("simple", DeliveryPolicy::Simple),
                ("cluster", DeliveryPolicy::Cluster),
            ],
            default.policy,
        ),
    }
}

fn address_overrides(reader: &mut Reader<'_>) -> Vec<AddressOverride> {
    reader.records(
        "peer.deliveryclient.addressOverrides",
        "{from: host:port, to: host:port, caCertsFile: path}",
        |record| {
            let addresses = (record.text("from")?, record.text("to")?);
            let well_formed = [&addresses.0, &addresses.1]
                .iter()
                .all(|text| split_host_port(text).is_some());
            (well_formed && record.has_only(&["from", "to", "cacertsfile"])).then(|| {
                AddressOverride {
                    from: addresses.0,
                    to: addresses.1,
                    // Fabric does not take this path from the folder of core.yaml on.
                    ca_certs_file: record.text("cacertsfile").map(PathBuf::from),
                }
            })
        },
    )
}

fn discovery(reader: &mut Reader<'_>) -> DiscoveryConfig {
    DiscoveryConfig {
        enabled: reader.flag("peer.discovery.enabled", false),
        auth_cache_enabled: reader.flag("peer.discovery.authCacheEnabled", false),
        auth_cache_max_size: reader.number("peer.discovery.authCacheMaxSize", 0),
        auth_cache_purge_retention_ratio: reader
            .ratio("peer.discovery.authCachePurgeRetentionRatio", 0.0),
        org_members_allowed_access: reader.flag("peer.discovery.orgMembersAllowedAccess", false),
    }
}

fn auth_filters(reader: &mut Reader<'_>) -> Vec<AuthFilter> {
    reader.records(
        "peer.handlers.authFilters",
        "{name: DefaultAuth, ExpirationCheck or TimeWindowCheck}; filters from a library cannot be loaded",
        |record| match (record.text("name")?.as_str(), record.text("library")) {
            ("DefaultAuth", None) => Some(AuthFilter::Default),
            ("ExpirationCheck", None) => Some(AuthFilter::ExpirationCheck),
            ("TimeWindowCheck", None) => Some(AuthFilter::TimeWindowCheck),
            _ => None,
        },
    )
}

fn chaincode(reader: &mut Reader<'_>) -> ChaincodeConfig {
    const MINIMUM: Duration = Duration::from_secs(1);
    const MINIMUM_STARTUP: Duration = Duration::from_secs(5);
    const DEFAULT_EXECUTION: Duration = Duration::from_secs(30);
    let execute_timeout = reader.duration("chaincode.executetimeout", DEFAULT_EXECUTION);
    ChaincodeConfig {
        dev_mode: reader.choice("chaincode.mode", &[("net", false), ("dev", true)], false),
        execute_timeout: if execute_timeout < MINIMUM {
            DEFAULT_EXECUTION
        } else {
            execute_timeout
        },
        install_timeout: reader.duration("chaincode.installTimeout", Duration::ZERO),
        startup_timeout: reader
            .duration("chaincode.startuptimeout", Duration::ZERO)
            .max(MINIMUM_STARTUP),
        keepalive: Duration::from_secs(reader.number("chaincode.keepalive", 0)),
        system: reader
            .section("chaincode.system")
            .into_iter()
            .filter(|(_, state)| is_enabled(state))
            .map(|(name, _)| name)
            .collect(),
        external_builders: reader.records(
            "chaincode.externalBuilders",
            "{name: text, path: path, propagateEnvironment: [variables]}",
            |record| {
                let mut propagate_environment = record.texts("propagateenvironment");
                if propagate_environment.is_empty() {
                    propagate_environment = record.texts("environmentwhitelist");
                }
                Some(ExternalBuilder {
                    name: record.text("name")?,
                    path: PathBuf::from(record.text("path")?),
                    propagate_environment,
                })
            },
        ),
    }
}

/// The words that Fabric takes for "on" under `chaincode.system`.
fn is_enabled(state: &str) -> bool {
    matches!(
        state.trim().to_lowercase().as_str(),
        "true" | "t" | "1" | "enable" | "enabled" | "yes"
    )
}

fn ledger(reader: &mut Reader<'_>, file_system_path: &std::path::Path) -> LedgerConfig {
    const SNAPSHOTS: &str = "ledger.snapshots.rootDir";
    let snapshots_root_dir = reader
        .text(SNAPSHOTS)
        .map_or_else(|| file_system_path.join("snapshots"), PathBuf::from);
    if !snapshots_root_dir.is_absolute() && file_system_path.is_absolute() {
        reader.wrong(SNAPSHOTS, "an absolute path");
    }
    reader.choice(
        "ledger.state.stateDatabase",
        &[
            ("goleveldb (CouchDB is not supported)", ()),
            ("goleveldb", ()),
        ],
        (),
    );
    LedgerConfig {
        total_query_limit: reader.number("ledger.state.totalQueryLimit", 10_000),
        history_enabled: reader.flag("ledger.history.enableHistoryDatabase", false),
        stated_verdicts: stated_verdicts(reader),
        snapshots_root_dir,
        coll_elg_proc_max_db_batch_size: reader
            .number("ledger.pvtdataStore.collElgProcMaxDbBatchSize", 5000),
        coll_elg_proc_db_batches_interval: Duration::from_millis(
            reader.number("ledger.pvtdataStore.collElgProcDbBatchesInterval", 1000),
        ),
        deprioritized_data_reconciler_interval: reader.duration(
            "ledger.pvtdataStore.deprioritizedDataReconcilerInterval",
            Duration::from_secs(60 * 60),
        ),
        purge_interval: reader.number("ledger.pvtdataStore.purgeInterval", 100),
        purged_key_audit_logging: reader.flag("ledger.pvtdataStore.purgedKeyAuditLogging", true),
    }
}

pub(super) fn stated_verdicts(reader: &mut Reader<'_>) -> BTreeMap<String, StatedVerdicts> {
    const KEY: &str = "ledger.statedVerdicts";
    let records = reader.records(
        KEY,
        "{channel: name, block: number, transaction: position from 0, code: name of a validation code}",
        |record| {
            if !record.has_only(&["channel", "block", "transaction", "code"]) {
                return None;
            }
            let position: (u64, usize) = (
                record.text("block")?.parse().ok()?,
                record.text("transaction")?.parse().ok()?,
            );
            let code = TxValidationCode::from_str_name(&record.text("code")?)
                .filter(|code| *code != TxValidationCode::NotValidated)?;
            Some((record.text("channel")?, position, code))
        },
    );
    let mut stated = BTreeMap::<String, StatedVerdicts>::new();
    for (channel, position, code) in records {
        let before = stated.entry(channel).or_default().insert(position, code);
        if before.is_some_and(|before| before != code) {
            reader.wrong(KEY, "one verdict for each transaction");
        }
    }
    stated
}

fn operations(reader: &mut Reader<'_>) -> OperationsConfig {
    let enabled = reader.flag("operations.tls.enabled", false);
    let server = key_pair(
        reader,
        "operations.tls.cert.file",
        "operations.tls.key.file",
    );
    let client_auth_required = reader.flag("operations.tls.clientAuthRequired", false);
    let client_root_ca_files = reader.paths("operations.tls.clientRootCAs.files");
    if enabled && server.is_none() {
        reader.wrong(
            "operations.tls.cert.file",
            "a path, since operations.tls.enabled is true",
        );
    }
    OperationsConfig {
        listen_address: reader.address("operations.listenAddress"),
        tls: server
            .filter(|_| enabled)
            .map(|server| OperationsTlsConfig {
                server,
                client_auth_required,
                client_root_ca_files,
            }),
    }
}

fn metrics(reader: &mut Reader<'_>) -> MetricsProvider {
    const PROVIDER: &str = "metrics.provider";
    let (provider, statsd) = reader.choice(
        PROVIDER,
        &[
            ("disabled", (MetricsProvider::Disabled, false)),
            ("prometheus", (MetricsProvider::Prometheus, false)),
            ("statsd", (MetricsProvider::Disabled, true)),
        ],
        (MetricsProvider::Disabled, false),
    );
    if statsd {
        reader.warn(
            PROVIDER,
            "is statsd, which Selvedge does not support: no metrics; use prometheus instead",
        );
    }
    provider
}
