use std::time::Duration;

use selvedge_channel::{BlockVerifier, ChannelConfig, last_config_number};
use selvedge_policy::parse_policy;
use selvedge_protos::common::{ConfigPolicy, SignaturePolicyEnvelope, policy::PolicyType};

use super::*;
use crate::testing::{CHANNEL, TestNetwork};

#[test]
fn durations_are_exact_in_go_notation() {
    let cases = [
        (Duration::from_secs(2), "2s"),
        (Duration::from_millis(500), "500ms"),
        (Duration::from_millis(1500), "1500ms"),
        (Duration::from_micros(1500), "1500000ns"),
    ];
    for (duration, expected) in cases {
        assert_eq!(go_duration(duration), expected);
    }
}

#[test]
fn the_genesis_block_is_a_usable_configuration() {
    let network = TestNetwork::new(25, Duration::from_millis(700));
    let bytes = network.genesis.encode_to_vec().into();
    let (block, config) = BlockVerifier::trust_genesis(bytes).unwrap();
    assert_eq!(block.number(), 0);
    assert!(block.is_config());
    assert_eq!(last_config_number(block.block()).unwrap(), 0);
    assert_eq!(config.channel_id(), CHANNEL);
    assert_eq!(config.sequence(), 0);

    let orderer = config.orderer();
    assert_eq!(orderer.consensus_type(), "etcdraft");
    assert_eq!(orderer.batch_size().max_message_count, 25);
    assert_eq!(orderer.batch_timeout(), Duration::from_millis(700));
    assert_eq!(
        orderer.organizations()["Orderer"].endpoints,
        ["127.0.0.1:7050"]
    );
    let raft = orderer.raft_metadata().unwrap().unwrap();
    let certificate = std::fs::read(network.ordering.node_tls("orderer").certificate).unwrap();
    assert_eq!(raft.consenters.len(), 1);
    assert_eq!(raft.consenters[0].server_tls_cert, certificate);

    let org2 = config.application_org("Org2MSP").unwrap();
    assert_eq!(org2.anchor_peers.len(), 1);
    assert_eq!(
        (
            org2.anchor_peers[0].host.as_str(),
            org2.anchor_peers[0].port
        ),
        ("127.0.0.1", 8051)
    );
    for msp_id in ["OrdererMSP", "Org1MSP", "Org2MSP"] {
        assert!(config.msps().msp(msp_id).is_some(), "{msp_id}");
    }
}

#[test]
fn every_policy_that_a_peer_asks_for_exists() {
    let config = TestNetwork::new(1, Duration::from_secs(1)).config();
    for path in [
        "/Channel/Readers",
        "/Channel/Writers",
        "/Channel/Admins",
        "/Channel/Orderer/BlockValidation",
        "/Channel/Orderer/Orderer/Admins",
        "/Channel/Application/Readers",
        "/Channel/Application/Writers",
        "/Channel/Application/Admins",
        "/Channel/Application/Endorsement",
        "/Channel/Application/LifecycleEndorsement",
        "/Channel/Application/Org1/Endorsement",
    ] {
        config.policies().policy(path).unwrap();
    }
}

#[test]
fn signature_policies_are_what_the_policy_language_gives() {
    let network = TestNetwork::new(1, Duration::from_secs(1));
    let config = ChannelConfig::from_block(&network.genesis).unwrap();
    let root = config.config().channel_group.as_ref().unwrap();
    let organization = &root.groups["Application"].groups["Org1"];
    let cases = [
        (
            "Readers",
            "OR('Org1MSP.admin', 'Org1MSP.peer', 'Org1MSP.client')",
        ),
        ("Writers", "OR('Org1MSP.admin', 'Org1MSP.client')"),
        ("Admins", "OR('Org1MSP.admin')"),
        ("Endorsement", "OR('Org1MSP.peer')"),
    ];
    for (name, text) in cases {
        let ConfigPolicy {
            policy, mod_policy, ..
        } = &organization.policies[name];
        let policy = policy.as_ref().unwrap();
        assert_eq!(mod_policy, "Admins");
        assert_eq!(policy.r#type, PolicyType::Signature as i32);
        let found = SignaturePolicyEnvelope::decode(policy.value.clone()).unwrap();
        assert_eq!(found, parse_policy(text).unwrap());
    }
}
