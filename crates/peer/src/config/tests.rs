use std::time::Duration;

use rstest::rstest;
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::StatedVerdicts;

use super::*;

const FILE: &str = "/etc/fabric/core.yaml";

/// The least that a node needs.
const MINIMAL: &str = "
peer:
  address: peer0.org1:7051
  listenAddress: 0.0.0.0:7051
  fileSystemPath: /var/peer
  mspConfigPath: msp
  localMspId: Org1MSP
";

fn sources(yaml: &str, env: &[(&str, &str)]) -> Sources {
    try_sources(yaml, env).unwrap()
}

fn try_sources(yaml: &str, env: &[(&str, &str)]) -> Result<Sources, ConfigError> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Sources::new(Path::new(FILE), yaml, env)
}

fn minimal_with(yaml: &str, env: &[(&str, &str)]) -> PeerConfig {
    sources(&format!("{MINIMAL}{yaml}"), env)
        .peer()
        .unwrap()
        .config
}

fn value_errors(yaml: &str, env: &[(&str, &str)]) -> Vec<ValueError> {
    match sources(&format!("{MINIMAL}{yaml}"), env).peer() {
        Err(ConfigError::Values(errors)) => errors,
        other => panic!("expected wrong values, got {other:?}"),
    }
}

fn warnings(yaml: &str, env: &[(&str, &str)]) -> Vec<String> {
    sources(&format!("{MINIMAL}{yaml}"), env)
        .peer()
        .unwrap()
        .warnings
}

#[test]
fn absent_keys_take_the_defaults_of_fabric() {
    let config = minimal_with("", &[]);
    assert_eq!(config.address, "peer0.org1:7051");
    assert_eq!(config.gossip.endpoint, "peer0.org1:7051");
    assert_eq!(
        config.gossip,
        GossipConfig {
            endpoint: "peer0.org1:7051".to_owned(),
            ..GossipConfig::default()
        }
    );
    assert_eq!(
        config.gossip.alive_expiration_check_interval(),
        Duration::from_millis(2500)
    );
    assert_eq!(
        config.gossip.leadership_expiration(),
        Duration::from_secs(100)
    );
    assert_eq!(config.delivery_client, DeliveryClientConfig::default());
    assert_eq!(config.keepalive, KeepaliveConfig::default());
    assert_eq!(config.gateway, GatewayConfig::default());
    assert_eq!(config.tls, TlsConfig::default());
    assert_eq!(config.operations.listen_address, None);
    assert_eq!(config.metrics, MetricsProvider::Disabled);
    assert_eq!(config.authentication_time_window, Duration::from_secs(900));
    assert_eq!(config.max_recv_msg_size, 104_857_600);
    assert_eq!(config.local_msp.config_path, Path::new("/etc/fabric/msp"));
    assert_eq!(
        config.ledger.snapshots_root_dir,
        Path::new("/var/peer/snapshots")
    );
    assert_eq!(config.limits, LimitsConfig::default());
    assert!(config.validator_pool_size >= 1);
}

#[test]
fn the_environment_wins_over_the_file() {
    let yaml = "
  id: from-file
  gossip:
    bootstrap: a:1
    useLeaderElection: true
    pullInterval: 7s
  tls:
    clientAuthRequired: true
operations:
  listenAddress: 127.0.0.1:9443
";
    let config = minimal_with(
        yaml,
        &[
            ("CORE_PEER_ID", "from-environment"),
            ("CORE_PEER_GOSSIP_BOOTSTRAP", " b:1  c:2\td:3 "),
            ("CORE_PEER_GOSSIP_PULLINTERVAL", "1m30s"),
            ("CORE_PEER_GOSSIP_USELEADERELECTION", ""),
            ("CORE_OPERATIONS_LISTENADDRESS", "0.0.0.0:0"),
            ("PEER_ID", "not ours"),
            ("core_peer_id", "not ours either"),
        ],
    );
    assert_eq!(config.id, "from-environment");
    assert_eq!(config.gossip.bootstrap, ["b:1", "c:2", "d:3"]);
    assert_eq!(config.gossip.pull_interval, Duration::from_secs(90));
    assert!(
        !config.gossip.use_leader_election,
        "an empty variable is false, as in Fabric"
    );
    assert!(config.tls.client_auth_required);
    assert_eq!(
        config.operations.listen_address.as_deref(),
        Some("0.0.0.0:0")
    );
}

#[test]
fn keys_do_not_distinguish_case_and_may_be_written_with_dots() {
    let config = minimal_with(
        "  GOSSIP: {ORGleader: true}\n  tls.enabled: false\nLEDGER:\n  history.enableHistoryDatabase: true\n",
        &[],
    );
    assert!(config.gossip.org_leader);
    assert!(config.ledger.history_enabled);
}

#[test]
fn lists_in_the_file_may_be_one_text() {
    let as_text = minimal_with("  gossip: {bootstrap: 'a:1 b:2'}", &[]);
    let as_list = minimal_with("  gossip: {bootstrap: ['a:1', b:2]}", &[]);
    assert_eq!(as_text.gossip.bootstrap, ["a:1", "b:2"]);
    assert_eq!(as_text, as_list);
}

#[test]
fn paths_count_from_the_folder_of_the_file() {
    let config = minimal_with(
        "
  tls:
    enabled: true
    cert: {file: tls/server.crt}
    key: {file: /keys/server.key}
    rootcert: {file: tls/ca.crt}
    clientRootCAs: {files: [tls/ca.crt, /other/ca.crt]}
  BCCSP: {SW: {FileKeyStore: {KeyStore: keystore}}}
",
        &[("CORE_PEER_FILESYSTEMPATH", "data")],
    );
    let server = config.tls.server.unwrap();
    assert_eq!(server.cert_file, Path::new("/etc/fabric/tls/server.crt"));
    assert_eq!(server.key_file, Path::new("/keys/server.key"));
    assert_eq!(config.tls.client.unwrap().cert_file, server.cert_file);
    assert_eq!(
        config.tls.root_cert_file.unwrap(),
        Path::new("/etc/fabric/tls/ca.crt")
    );
    assert_eq!(
        config.tls.client_root_ca_files,
        [
            Path::new("/etc/fabric/tls/ca.crt"),
            Path::new("/other/ca.crt")
        ]
    );
    assert_eq!(config.file_system_path, Path::new("/etc/fabric/data"));
    assert_eq!(
        config.bccsp.key_store.unwrap(),
        Path::new("/etc/fabric/keystore")
    );
}

#[test]
fn defaults_that_depend_on_other_keys() {
    let config = minimal_with("  gossip: {aliveTimeInterval: 2s, endpoint: inside:1}", &[]);
    assert_eq!(
        config.gossip.alive_expiration_timeout,
        Duration::from_secs(10)
    );
    assert_eq!(config.gossip.reconnect_interval, Duration::from_secs(10));
    assert_eq!(config.gossip.endpoint, "inside:1");
}

#[rstest]
#[case::default("", 20)]
#[case::fabrics_key_if_shorter("reconnectTotalTimeThreshold: 5s", 5)]
#[case::fabrics_key_if_longer("reconnectTotalTimeThreshold: 60s", 20)]
#[case::own_key("giveWayAfter: 90s", 90)]
#[case::both("giveWayAfter: 2h", 3600)]
#[case::none("giveWayAfter: 0s, reconnectTotalTimeThreshold: 0s", 20)]
fn a_leader_gives_way_after_the_shorter_of_two_times(#[case] yaml: &str, #[case] seconds: u64) {
    let config = minimal_with(&format!("  deliveryclient: {{{yaml}}}"), &[]);
    assert_eq!(
        config.delivery_client.patience(),
        Duration::from_secs(seconds)
    );
}

#[rstest]
#[case::file(
    "  deliveryclient: {addressOverrides: [{from: 'a:1', to: 'b:2', caCertsFile: ca.pem}, {FROM: 'c:3', to: 'd:4'}]}",
    ""
)]
#[case::variable(
    "",
    "[{from: 'a:1', to: 'b:2', caCertsFile: ca.pem}, {from: 'c:3', to: 'd:4'}]"
)]
fn address_overrides(#[case] yaml: &str, #[case] variable: &str) {
    let env = [("CORE_PEER_DELIVERYCLIENT_ADDRESSOVERRIDES", variable)];
    let env = if variable.is_empty() {
        &[][..]
    } else {
        &env[..]
    };
    let overrides = minimal_with(yaml, env).delivery_client.address_overrides;
    let expected = |from: &str, to: &str, file: Option<&str>| AddressOverride {
        from: from.to_owned(),
        to: to.to_owned(),
        ca_certs_file: file.map(PathBuf::from),
    };
    assert_eq!(
        overrides,
        [
            expected("a:1", "b:2", Some("ca.pem")),
            expected("c:3", "d:4", None)
        ]
    );
}

#[rstest]
#[case::file(
    "ledger: {statedVerdicts: [{channel: ch, block: 7, transaction: 3, code: BAD_PAYLOAD}]}",
    ""
)]
#[case::variable("", "[{channel: ch, block: 7, transaction: 3, code: BAD_PAYLOAD}]")]
fn verdicts_can_be_stated(#[case] yaml: &str, #[case] variable: &str) {
    let env = [("CORE_LEDGER_STATEDVERDICTS", variable)];
    let env = &env[..usize::from(!variable.is_empty())];
    let stated = minimal_with(yaml, env).ledger.stated_verdicts;
    let verdicts = [((7, 3), TxValidationCode::BadPayload)];
    let verdicts = StatedVerdicts::from(verdicts);
    assert_eq!(stated, [("ch".to_owned(), verdicts)].into());
}

#[test]
fn builders_and_system_chaincodes() {
    let config = minimal_with(
        "
chaincode:
  mode: dev
  system: {_lifecycle: enable, cscc: ENABLED, qscc: disable}
  externalBuilders:
    - {name: ccaas_builder, path: /opt/ccaas, propagateEnvironment: [A, B]}
",
        &[],
    );
    assert!(config.chaincode.dev_mode);
    assert_eq!(config.chaincode.system, ["_lifecycle", "cscc"]);
    let builder = &config.chaincode.external_builders[0];
    assert_eq!(
        (builder.name.as_str(), builder.propagate_environment.len()),
        ("ccaas_builder", 2)
    );
}

#[rstest]
#[case::duration("  gossip: {pullInterval: 4}", "peer.gossip.pullInterval", "4", "unit")]
#[case::negative(
    "  gossip: {pullInterval: -4s}",
    "peer.gossip.pullInterval",
    "-4s",
    "unit"
)]
#[case::flag(
    "  gossip: {orgLeader: yes}",
    "peer.gossip.orgLeader",
    "yes",
    "true or false"
)]
#[case::number(
    "  gossip: {pullPeerNum: three}",
    "peer.gossip.pullPeerNum",
    "three",
    "whole number"
)]
#[case::negative_number(
    "  gossip: {pullPeerNum: -1}",
    "peer.gossip.pullPeerNum",
    "-1",
    "zero or more"
)]
#[case::too_large(
    "  gossip: {state: {maxRetries: 99999999999}}",
    "peer.gossip.state.maxRetries",
    "99999999999",
    "smaller"
)]
#[case::address(
    "  gossip: {externalEndpoint: peer0}",
    "peer.gossip.externalEndpoint",
    "peer0",
    "host:port"
)]
#[case::map_for_text("  id: [a, b]", "peer.id", "[a, b]", "a text")]
#[case::hsm("  BCCSP: {Default: PKCS11}", "peer.BCCSP.Default", "PKCS11", "HSM")]
#[case::msp_type("  localMspType: idemix", "peer.localMspType", "idemix", "bccsp")]
#[case::policy(
    "  deliveryclient: {policy: quorum}",
    "peer.deliveryclient.policy",
    "quorum",
    "simple or cluster"
)]
#[case::overrides(
    "  deliveryclient: {addressOverrides: [{from: a, to: 'b:1'}]}",
    "peer.deliveryclient.addressOverrides",
    "[{from, to}]",
    "host:port"
)]
#[case::stated_code(
    "ledger: {statedVerdicts: [{channel: ch, block: 7, transaction: 0, code: GOOD}]}",
    "ledger.statedVerdicts",
    "[{channel, block, transaction, code}]",
    "validation code"
)]
#[case::stated_twice(
    "ledger: {statedVerdicts: [{channel: ch, block: 7, transaction: 0, code: VALID}, {channel: ch, block: 7, transaction: 0, code: BAD_RWSET}]}",
    "ledger.statedVerdicts",
    "[{channel, block, transaction, code}, {channel, block, transaction, code}]",
    "one verdict"
)]
#[case::plugin(
    "  handlers: {authFilters: [{name: Mine, library: /x.so}]}",
    "peer.handlers.authFilters",
    "[{name, library}]",
    "library"
)]
#[case::database(
    "ledger: {state: {stateDatabase: mongo}}",
    "ledger.state.stateDatabase",
    "mongo",
    "goleveldb"
)]
#[case::couch_db(
    "ledger: {state: {stateDatabase: CouchDB}}",
    "ledger.state.stateDatabase",
    "CouchDB",
    "not supported"
)]
#[case::snapshots(
    "ledger: {snapshots: {rootDir: snapshots}}",
    "ledger.snapshots.rootDir",
    "snapshots",
    "absolute"
)]
#[case::provider(
    "metrics: {provider: graphite}",
    "metrics.provider",
    "graphite",
    "prometheus"
)]
fn wrong_values_are_named(
    #[case] yaml: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] expected: &str,
) {
    let errors = value_errors(yaml, &[]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = &errors[0];
    assert_eq!(
        (error.key.as_str(), error.value.as_deref()),
        (key, Some(value))
    );
    assert!(error.expected.contains(expected), "{}", error.expected);
    let Origin::File { path, line } = &error.origin else {
        panic!("{:?}", error.origin)
    };
    assert_eq!((path.as_path(), *line), (Path::new(FILE), 8));
}

#[test]
fn wrong_variables_are_named() {
    let errors = value_errors("", &[("CORE_PEER_GOSSIP_BOOTSTRAP", "a:1,b:2")]);
    let message = ConfigError::Values(errors).to_string();
    assert_eq!(
        message,
        "environment variable CORE_PEER_GOSSIP_BOOTSTRAP: peer.gossip.bootstrap is \"a:1,b:2\", \
         expected a list of host:port, such as peer0.example.com:7051 or [::1]:7051; in an \
         environment variable, separated by white space"
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let error = sources("peer:\n  gossip: {orgLeader: 7, pullInterval: soon}\n", &[]).peer();
    let message = error.unwrap_err().to_string();
    let keys = [
        "orgLeader",
        "pullInterval",
        "peer.address",
        "fileSystemPath",
        "localMspId",
    ];
    for key in keys {
        assert!(message.contains(key), "{key} is missing in {message}");
    }
    assert!(
        message.contains("/etc/fabric/core.yaml: peer.fileSystemPath is not set, expected a path"),
        "{message}"
    );
}

#[test]
fn keys_that_exclude_each_other() {
    let both = value_errors("  gossip: {orgLeader: true, useLeaderElection: true}", &[]);
    assert!(both[0].expected.contains("useLeaderElection"), "{both:?}");

    let half = value_errors("  tls: {clientCert: {file: a.crt}}", &[]);
    assert_eq!(half[0].key, "peer.tls.clientKey.file");

    let no_pair = value_errors("  tls: {enabled: true}", &[]);
    assert_eq!(no_pair[0].key, "peer.tls.cert.file");

    let twice = try_sources("peer: {id: a, ID: b}", &[])
        .unwrap_err()
        .to_string();
    assert!(
        twice.contains("peer.ID") && twice.contains("line 1"),
        "{twice}"
    );
}

#[rstest]
#[case::tab("peer:\n\tid: x\n", 2)]
#[case::unclosed("peer:\n  id: \"x\n", 2)]
#[case::not_a_map("just text\n", 1)]
#[case::duplicate("peer:\n  id: a\n  id: b\n", 3)]
#[case::indentation("peer:\n  id: a\n tls:\n  enabled: true\n", 3)]
fn unreadable_yaml_is_located(#[case] yaml: &str, #[case] at: u64) {
    match try_sources(yaml, &[]) {
        Err(ConfigError::Yaml {
            path,
            line,
            column,
            message,
        }) => {
            assert_eq!((path.as_path(), line), (Path::new(FILE), at), "{message}");
            assert!(column >= 1 && !message.contains('\n'), "{column} {message}");
        }
        other => panic!("expected a YAML error, got {other:?}"),
    }
}

#[rstest]
#[case(
    "  gossip: {useLeaderElecton: true}",
    "peer.gossip.useLeaderElecton; did you mean peer.gossip.useLeaderElection?"
)]
#[case(
    "  gossip: {leaderElection: true}",
    "peer.gossip.leaderElection; did you mean peer.gossip.useLeaderElection?"
)]
#[case(
    "  orgLeader: true",
    "peer.orgLeader; did you mean peer.gossip.orgLeader?"
)]
#[case(
    "  gosip: {pullInterval: 1s}",
    "peer.gosip.pullInterval; did you mean peer.gossip.pullInterval?"
)]
#[case("  colour: blue", "peer.colour")]
#[case(
    "operation: {listenAddress: 'a:1'}",
    "operation.listenAddress; did you mean operations.listenAddress?"
)]
fn misspelled_keys_are_named(#[case] yaml: &str, #[case] expected: &str) {
    assert_eq!(
        warnings(yaml, &[]),
        [format!("{FILE} line 8: unknown key {expected}")]
    );
}

#[test]
fn misspelled_variables_are_named() {
    assert_eq!(
        warnings(
            "",
            &[("CORE_PEER_GOSSIP_BOOTSTRP", "a:1"), ("CORE_WHATEVER", "1")]
        ),
        [
            "environment variable CORE_PEER_GOSSIP_BOOTSTRP matches no configuration key; did you mean CORE_PEER_GOSSIP_BOOTSTRAP?",
            "environment variable CORE_WHATEVER matches no configuration key",
        ]
    );
}

#[test]
fn what_fabric_knows_is_not_warned_of() {
    let yaml = "
  gossip: {stateInfoRetentionInterval: , nonBlockingCommitMode: true}
  handlers: {endorsers: {escc: {name: DefaultEndorsement, library: }}}
  BCCSP: {PKCS11: {Library: , Pin: }}
vm: {docker: {hostConfig: {NetworkMode: host, LogConfig: {Type: json-file}}}}
chaincode: {builder: x, system: {mine: enable}}
ledger: {blockchain: }
";
    let env = [
        ("CORE_VM_ENDPOINT", ""),
        ("CORE_VM_DOCKER_HOSTCONFIG_NETWORKMODE", "net"),
        ("CORE_PEER_TLS_SERVERHOSTOVERRIDE", "x"),
    ];
    assert_eq!(warnings(yaml, &env), Vec::<String>::new());
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let statsd = warnings("metrics: {provider: statsd}", &[]);
    assert_eq!(statsd.len(), 1);
    assert!(statsd[0].starts_with(&format!("{FILE} line 8: metrics.provider is statsd")));
    assert!(warnings("", &[("CORE_LOGGING_LEVEL", "debug")])[0].contains("FABRIC_LOGGING_SPEC"));
}

#[test]
fn the_command_line_needs_little() {
    let yaml = "
peer:
  mspConfigPath: msp
  localMspId: Org1MSP
  gossip: {pullInterval: nonsense}
";
    let env = [
        ("CORE_PEER_ADDRESS", "localhost:7051"),
        ("CORE_PEER_TLS_ENABLED", "true"),
        ("CORE_PEER_TLS_ROOTCERT_FILE", "/ca.crt"),
        ("CORE_ORDERER_TLS_HANDSHAKETIMESHIFT", "24h"),
    ];
    let config = sources(yaml, &env).client().unwrap().config;
    assert_eq!(config.peer.address, "localhost:7051");
    assert!(config.peer.tls_enabled && !config.orderer.tls_enabled);
    assert_eq!(
        config.peer.root_cert_file.as_deref(),
        Some(Path::new("/ca.crt"))
    );
    assert_eq!(
        config.orderer.handshake_time_shift,
        Duration::from_secs(24 * 3600)
    );
    assert_eq!(config.peer.conn_timeout, Duration::from_secs(3));
}

#[test]
fn the_folder_of_core_yaml() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let missing = path.join("missing");
    assert!(
        matches!(find_file(Some(missing.clone())), Err(ConfigError::NoSuchFolder { path }) if path == missing)
    );
    let not_found = find_file(Some(path.clone())).unwrap_err();
    assert!(
        matches!(&not_found, ConfigError::NotFound { searched } if *searched == [path.clone()])
    );
    assert!(not_found.to_string().contains("FABRIC_CFG_PATH"));
    std::fs::write(path.join("core.yaml"), MINIMAL).unwrap();
    assert_eq!(
        find_file(Some(path.clone())).unwrap(),
        path.join("core.yaml")
    );
}

#[test]
fn missing_files_name_their_key() {
    let config = minimal_with(
        "  tls: {enabled: true, cert: {file: /nowhere/server.crt}, key: {file: /nowhere/server.key}}",
        &[],
    );
    let message = config.tls.server.unwrap().read().unwrap_err().to_string();
    assert!(
        message.starts_with("cannot read /nowhere/server.crt (configured as peer.tls.cert.file): "),
        "{message}"
    );
}

#[rstest]
#[case::v3_1(include_str!("../../testdata/core-v3.1.yaml"), false, 20_000)]
#[case::v2_5(include_str!("../../testdata/core-v2.5.yaml"), true, 1000)]
fn the_core_yaml_that_ships_with_fabric(
    #[case] yaml: &str,
    #[case] block_gossip: bool,
    #[case] retention: u64,
) {
    let env = [("CORE_PEER_ADDRESS", "peer0.org1:7051")];
    let Loaded { config, warnings } = sources(yaml, &env).peer().unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.gossip.bootstrap, ["127.0.0.1:7051"]);
    assert!(config.gossip.org_leader && !config.gossip.use_leader_election);
    assert_eq!(config.gossip.send_buff_size, 200);
    assert_eq!(config.gossip.external_endpoint, None);
    assert_eq!(
        config.gossip.pvt_data.transientstore_max_block_retention,
        retention
    );
    assert_eq!(config.delivery_client.block_gossip_enabled, block_gossip);
    assert_eq!(config.delivery_client.policy, DeliveryPolicy::Cluster);
    assert_eq!(config.limits.endorser_service, 2500);
    assert_eq!(config.local_msp.id, "SampleOrg");
    assert_eq!(
        config.file_system_path,
        Path::new("/var/hyperledger/production")
    );
    assert_eq!(
        config.chaincode.system,
        ["_lifecycle", "cscc", "lscc", "qscc"]
    );
    assert_eq!(
        config.operations.listen_address.as_deref(),
        Some("127.0.0.1:9443")
    );
    assert!(config.ledger.history_enabled);
}
