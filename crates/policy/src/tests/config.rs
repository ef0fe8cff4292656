//! The tree of a channel's policies.

use std::fs;

use proptest::prelude::*;
use selvedge_protos::Message;
use selvedge_protos::common::policy::PolicyType;
use selvedge_protos::common::{
    Block, ConfigEnvelope, ConfigGroup, ConfigPolicy, Envelope, ImplicitMetaPolicy, Payload,
};

use super::support::{
    Network, config_policy, group, implicit_meta_policy, signature_policy, testdata,
};
use crate::{PolicyError, PolicyManager};

fn organization(number: u32) -> ConfigGroup {
    let policy = |role: &str| signature_policy(&format!("OR('Org{number}MSP.{role}')"));
    group(
        vec![("Readers", policy("member")), ("Admins", policy("admin"))],
        vec![],
    )
}

fn channel() -> ConfigGroup {
    let application = group(
        vec![
            ("Readers", implicit_meta_policy("ANY Readers")),
            ("Admins", implicit_meta_policy("MAJORITY Admins")),
            ("Everybody", implicit_meta_policy("ALL Readers")),
            ("Missing", implicit_meta_policy("ANY Nothing")),
        ],
        vec![
            ("Org1", organization(1)),
            ("Org2", organization(2)),
            ("Org3", organization(3)),
        ],
    );
    let empty = group(
        vec![
            ("Any", implicit_meta_policy("ANY Admins")),
            ("All", implicit_meta_policy("ALL Admins")),
            ("Majority", implicit_meta_policy("MAJORITY Admins")),
        ],
        vec![],
    );
    group(
        vec![("Admins", implicit_meta_policy("ANY Admins"))],
        vec![("Application", application), ("Empty", empty)],
    )
}

#[test]
fn implicit_meta_policies_ask_the_groups_below() {
    let network = Network::new();
    let manager = PolicyManager::new(&channel(), network.msps.clone()).unwrap();
    let satisfies =
        |path: &str, names: &[&str]| manager.evaluate(path, &network.signed(names)).is_ok();

    assert!(satisfies("/Channel/Application/Readers", &["user1.2"]));
    assert!(!satisfies("/Channel/Application/Readers", &["!user1.2"]));
    assert!(!satisfies("/Channel/Application/Admins", &["admin.1"]));
    assert!(!satisfies(
        "/Channel/Application/Admins",
        &["admin.1", "user1.2"]
    ));
    assert!(satisfies(
        "/Channel/Application/Admins",
        &["admin.1", "admin.3"]
    ));
    assert!(!satisfies(
        "/Channel/Application/Everybody",
        &["user1.1", "user1.2"]
    ));
    assert!(satisfies(
        "/Channel/Application/Everybody",
        &["user1.1", "user1.2", "peer0.3"]
    ));
    assert!(!satisfies("/Channel/Application/Missing", &["admin.1"]));
    // The Admins of Application, itself a majority; Empty has none.
    assert!(satisfies("/Channel/Admins", &["admin.1", "admin.2"]));
    assert!(!satisfies("/Channel/Admins", &["admin.1"]));
    for path in ["Any", "All", "Majority"] {
        assert!(satisfies(&format!("/Channel/Empty/{path}"), &[]));
    }
    assert_eq!(
        manager
            .evaluate("/Channel/Application/Admins", &network.signed(&["admin.1"]))
            .unwrap_err()
            .to_string(),
        "implicit policy evaluation failed - 1 sub-policies were satisfied, but this policy \
         requires 2 of the 'Admins' sub-policies to be satisfied"
    );
    assert_eq!(
        manager.evaluate(
            "/Channel/Application/Org1/Admins",
            &network.signed(&["user1.1", "!user2.1"])
        ),
        Err(PolicyError::NotSatisfied { given: 2, valid: 1 })
    );
}

#[test]
fn paths() {
    let network = Network::new();
    let root = PolicyManager::new(&channel(), network.msps.clone()).unwrap();
    let application = root.group(&["Application"]).unwrap();
    assert_eq!(application.path(), "Channel/Application");
    let found = |manager: &PolicyManager, path: &str| manager.policy(path).is_ok();

    assert!(found(&root, "/Channel/Admins"));
    assert!(found(&root, "Admins"));
    assert!(found(&root, "Application/Org1/Admins"));
    assert!(found(&root, "/Channel/Application/Org1/Admins"));
    assert!(found(application, "Org1/Admins"));
    assert!(found(application, "/Channel/Application/Org1/Admins"));
    assert!(root.group(&["Application", "Org1"]).is_some());
    assert!(root.group(&["Application", "Org9"]).is_none());

    for path in [
        "",
        "/",
        "/Channel",
        "/Channel/",
        "Channel/Admins",
        "/Channel/Application/Org9/Admins",
        "/Application/Admins",
        "/Other/Admins",
        "Application",
        "/Channel/é",
    ] {
        let error = root.policy(path).unwrap_err();
        assert_eq!(error, PolicyError::NotFound { path: path.into() });
    }
    // A group does not know what stands above it.
    assert!(!found(application, "/Channel/Admins"));
    // Fabric does not look at the character after its own path.
    assert!(found(&root, "/Channel.Admins"));
    assert_eq!(root.names().count(), 14);
}

#[test]
fn broken_policies_stop_the_channel_and_are_named() {
    let network = Network::new();
    let error = |policy: ConfigPolicy| {
        let root = group(
            vec![],
            vec![("Org1", group(vec![("Admins", policy)], vec![]))],
        );
        match PolicyManager::new(&root, network.msps.clone()).unwrap_err() {
            PolicyError::InConfig { name, path, source } => {
                assert_eq!((name.as_str(), path.as_str()), ("Admins", "Channel/Org1"));
                *source
            }
            other => panic!("{other}"),
        }
    };
    assert_eq!(error(ConfigPolicy::default()), PolicyError::Empty);
    for (kind, found) in [(PolicyType::Unknown, 0), (PolicyType::Msp, 2)] {
        assert_eq!(
            error(config_policy(kind, Vec::new())),
            PolicyError::UnknownType { found }
        );
    }
    assert_eq!(
        error(config_policy(PolicyType::Signature, Vec::new())),
        PolicyError::Empty
    );
    for kind in [PolicyType::Signature, PolicyType::ImplicitMeta] {
        assert!(matches!(
            error(config_policy(kind, vec![0xff])),
            PolicyError::Decode { .. }
        ));
    }
}

#[test]
fn an_unknown_rule_is_satisfied_by_nobody_alone() {
    let network = Network::new();
    let odd = ImplicitMetaPolicy {
        sub_policy: "Admins".into(),
        rule: 9,
    };
    let odd = config_policy(PolicyType::ImplicitMeta, odd.encode_to_vec());
    let root = group(vec![("Odd", odd)], vec![("Org1", organization(1))]);
    let manager = PolicyManager::new(&root, network.msps.clone()).unwrap();
    assert!(manager.evaluate("Odd", &[]).is_ok());
    assert!(
        manager
            .evaluate("Odd", &network.signed(&["admin.1"]))
            .is_err()
    );
}

#[test]
fn the_policies_of_a_recorded_channel() {
    let network = Network::new();
    let path = testdata("raft/orderer-blocks/000000.block");
    let block = Block::decode(fs::read(path).unwrap().as_slice()).unwrap();
    let envelope = Envelope::decode(block.data.unwrap().data[0].as_ref()).unwrap();
    let payload = Payload::decode(envelope.payload.as_ref()).unwrap();
    let config = ConfigEnvelope::decode(payload.data.as_ref()).unwrap();
    let root = config.config.unwrap().channel_group.unwrap();
    let manager = PolicyManager::new(&root, network.msps.clone()).unwrap();
    let satisfies =
        |path: &str, names: &[&str]| manager.evaluate(path, &network.signed(names)).is_ok();
    assert!(satisfies("/Channel/Application/Readers", &["user1.1"]));
    assert!(satisfies("/Channel/Application/Writers", &["user1.2"]));
    assert!(satisfies(
        "/Channel/Application/Endorsement",
        &["peer0.1", "peer0.2"]
    ));
    assert!(!satisfies(
        "/Channel/Application/Endorsement",
        &["peer0.1", "peer1.1"]
    ));
    assert!(satisfies(
        "/Channel/Application/Admins",
        &["admin.1", "admin.2"]
    ));
    assert!(!satisfies(
        "/Channel/Orderer/Admins",
        &["admin.1", "admin.2"]
    ));
    assert!(!satisfies("/Channel/Application/Readers", &["user1.3"]));
    assert!(manager.policy("/Channel/Orderer/BlockValidation").is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn junk_policies_do_no_harm(
        kind in 0i32..5,
        value in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        thread_local!(static NETWORK: Network = Network::new());
        NETWORK.with(|network| {
            let mut policy = config_policy(PolicyType::Signature, value);
            policy.policy.as_mut().unwrap().r#type = kind;
            let root = group(vec![("P", policy)], vec![("Org1", organization(1))]);
            if let Ok(manager) = PolicyManager::new(&root, network.msps.clone()) {
                let _ = manager.evaluate("P", &[]);
            }
        });
    }
}
