use std::fs;
use std::path::Path;

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::common::{Capability, ConfigGroup, ConfigValue};
use selvedge_protos::orderer::{BatchSize, BatchTimeout, ConsensusType};
use selvedge_protos::protos::{AcLs, ApiResource};

use super::*;

fn recorded(chain: &str, number: u64) -> Config {
    let path = format!("../../testdata/{chain}/orderer-blocks/{number:06}.block");
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let block = Block::decode(Bytes::from(bytes)).unwrap();
    config_of_channel(&block).unwrap().1
}

fn read(config: &Config) -> Result<ChannelConfig, ConfigError> {
    ChannelConfig::from_config("vectors", config.clone())
}

/// The error after a change to the raft channel's first configuration.
fn error(change: impl FnOnce(&mut ConfigGroup)) -> String {
    let mut config = recorded("raft", 0);
    change(config.channel_group.as_mut().unwrap());
    read(&config).unwrap_err().to_string()
}

fn group<'a>(root: &'a mut ConfigGroup, path: &str) -> &'a mut ConfigGroup {
    path.split('/').fold(root, |group, name| {
        group
            .groups
            .get_mut(name)
            .unwrap_or_else(|| panic!("{name}"))
    })
}

fn set(group: &mut ConfigGroup, name: &str, value: &impl Message) {
    let value = ConfigValue {
        value: value.encode_to_vec().into(),
        ..Default::default()
    };
    group.values.insert(name.to_owned(), value);
}

fn capabilities(names: &[&str]) -> common::Capabilities {
    let capabilities = names.iter().map(|name| (name.to_string(), Capability {}));
    common::Capabilities {
        capabilities: capabilities.collect(),
    }
}

fn addresses(addresses: &[&str]) -> OrdererAddresses {
    OrdererAddresses {
        addresses: addresses.iter().map(ToString::to_string).collect(),
    }
}

macro_rules! assert_says {
    ($text:expr, $part:expr) => {
        let text = $text;
        assert!(text.contains($part), "{text}");
    };
}

#[test]
fn reads_a_raft_channel() {
    let config = read(&recorded("raft", 0)).unwrap();
    assert_eq!((config.channel_id(), config.sequence()), ("vectors", 0));
    assert!(!config.allows_consenter_signatures());
    assert!(config.capabilities().application.any_of(&["V2_5"]));
    assert!(config.orderer_addresses().is_empty());

    let organizations = config.application().organizations();
    let names: Vec<_> = organizations.keys().collect();
    assert_eq!(names, ["Org1", "Org2"]);
    let org1 = config.application_org("Org1MSP").unwrap();
    let anchor_peer = AnchorPeer {
        host: "127.0.0.1".to_owned(),
        port: 20603,
    };
    assert_eq!(org1.anchor_peers, [anchor_peer]);
    assert!(config.application_org("OrdererMSP").is_none());

    let orderer = config.orderer();
    assert_eq!(orderer.consensus_type(), "etcdraft");
    let raft = orderer.raft_metadata().unwrap().unwrap();
    assert_eq!(raft.consenters.len(), 1);
    assert!(orderer.consenters().is_empty());
    assert!(!orderer.is_in_maintenance());
    assert_eq!(orderer.batch_size().max_message_count, 60);
    assert_eq!(orderer.batch_timeout().as_millis(), 300);
    assert_eq!(orderer.max_channels(), 0);
    let organization = &orderer.organizations()["Orderer"];
    assert_eq!(organization.msp_id, "OrdererMSP");
    assert_eq!(organization.endpoints, ["127.0.0.1:20600"]);
    assert_eq!(organization.tls_ca_certs.len(), 1);

    for msp_id in ["Org1MSP", "Org2MSP", "OrdererMSP"] {
        assert!(config.msps().msp(msp_id).is_some(), "{msp_id}");
    }
    assert!(
        config
            .policies()
            .policy("/Channel/Application/Org1/Admins")
            .is_ok()
    );
}

#[test]
fn reads_a_bft_channel() {
    let config = ChannelConfig::from_config("bftvectors", recorded("bft", 0)).unwrap();
    assert!(config.allows_consenter_signatures());
    let orderer = config.orderer();
    assert_eq!(orderer.consensus_type(), "BFT");
    assert!(orderer.raft_metadata().unwrap().is_none());
    let numbers: Vec<_> = orderer
        .consenters()
        .iter()
        .map(|consenter| consenter.id)
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(orderer.organizations()["Orderer"].endpoints.len(), 4);
}

#[test]
fn a_peer_needs_application_and_orderer_section() {
    for section in ["Application", "Orderer"] {
        let text = error(|root| drop(root.groups.remove(section)));
        assert_eq!(text, format!("/Channel/{section} is missing"));
    }
    let empty = Config::default();
    assert_says!(read(&empty).unwrap_err().to_string(), "/Channel is missing");
}

#[test]
fn an_unsupported_capability_stops_the_channel() {
    let text = error(|root| set(root, "Capabilities", &capabilities(&["V2_0", "V4_0"])));
    assert_says!(
        text,
        "Channel capability V4_0 is required but not supported"
    );
    let text = error(|root| {
        let application = group(root, "Application");
        set(application, "Capabilities", &capabilities(&["V2_5", "V9"]));
    });
    assert_says!(
        text,
        "Application capability V9 is required but not supported"
    );
    // The ordering service's capabilities are its own business.
    let mut config = recorded("raft", 0);
    let root = config.channel_group.as_mut().unwrap();
    set(
        group(root, "Orderer"),
        "Capabilities",
        &capabilities(&["V9"]),
    );
    assert!(read(&config).is_ok());
}

#[test]
fn capabilities_come_to_the_ordering_service_first() {
    let text = error(|root| drop(group(root, "Orderer").values.remove("Capabilities")));
    assert_says!(
        text,
        "/Channel/Capabilities: capabilities need those of the orderer"
    );
}

#[test]
fn values_that_fabric_refuses() {
    let text = error(|root| {
        set(
            root,
            "HashingAlgorithm",
            &HashingAlgorithm { name: "MD5".into() },
        )
    });
    assert_says!(text, "/Channel/HashingAlgorithm: 'MD5' is unknown");
    let text = error(|root| drop(root.values.remove("HashingAlgorithm")));
    assert_says!(text, "/Channel/HashingAlgorithm: '' is unknown");
    let width = BlockDataHashingStructure { width: 7 };
    let text = error(|root| set(root, "BlockDataHashingStructure", &width));
    assert_says!(text, "the width must be 4294967295, it is 7");

    let batch = |max_message_count, absolute_max_bytes, preferred_max_bytes| {
        error(|root| {
            let size = BatchSize {
                max_message_count,
                absolute_max_bytes,
                preferred_max_bytes,
            };
            set(group(root, "Orderer"), "BatchSize", &size);
        })
    };
    assert_says!(batch(0, 2, 1), "max_message_count is 0");
    assert_says!(batch(1, 0, 1), "absolute_max_bytes is 0");
    assert_says!(batch(1, 1, 0), "preferred_max_bytes is 0");
    assert_says!(
        batch(1, 1, 2),
        "preferred_max_bytes (2) is above absolute_max_bytes (1)"
    );
    for timeout in ["", "0s", "-1s", "soon"] {
        let timeout = BatchTimeout {
            timeout: timeout.to_owned(),
        };
        let text = error(|root| set(group(root, "Orderer"), "BatchTimeout", &timeout));
        assert_says!(text, "is no duration above zero");
    }
    let text = error(|root| {
        let value = ConfigValue {
            value: Bytes::from_static(&[0xff]),
            ..Default::default()
        };
        let orderer = group(root, "Orderer");
        orderer.values.insert("BatchSize".to_owned(), value);
    });
    assert_says!(text, "/Channel/Orderer/BatchSize does not parse");
}

#[test]
fn elements_that_have_no_place() {
    for (path, value) in [
        ("", "BatchSize"),
        ("Application", "Endpoints"),
        ("Application/Org1", "Endpoints"),
        ("Orderer", "AnchorPeers"),
        ("Orderer/Orderer", "AnchorPeers"),
    ] {
        let text = error(|root| {
            let group = if path.is_empty() {
                root
            } else {
                group(root, path)
            };
            group
                .values
                .insert(value.to_owned(), ConfigValue::default());
        });
        assert_says!(text, &format!("{value} is not allowed"));
    }
    for (path, name) in [("Application/Org1", "Team"), ("Orderer/Orderer", "Team")] {
        let text = error(|root| {
            let group = group(root, path);
            group.groups.insert(name.to_owned(), ConfigGroup::default());
        });
        assert_eq!(text, format!("/Channel/{path}/{name} is not allowed"));
    }
    let text = error(|root| drop(root.groups.insert("Other".into(), ConfigGroup::default())));
    assert_eq!(text, "/Channel/Other is not allowed");
}

#[test]
fn names_that_have_no_place() {
    let text = error(|root| {
        let application = group(root, "Application");
        application
            .policies
            .insert("a policy".to_owned(), Default::default());
    });
    assert_says!(text, "bad name 'a policy'");
    let error = ChannelConfig::from_config("Vectors", recorded("raft", 0)).unwrap_err();
    assert_says!(error.to_string(), "bad channel name 'Vectors'");
    let text = self::error(|root| {
        let mut deep = ConfigGroup::default();
        for _ in 0..90 {
            deep = ConfigGroup {
                groups: [("a".to_owned(), deep)].into(),
                ..Default::default()
            };
        }
        group(root, "Application")
            .groups
            .insert("Deep".to_owned(), deep);
    });
    assert_says!(text, "groups nest too deeply");
}

#[test]
fn msps_are_defined_once_or_alike() {
    let mut config = recorded("raft", 0);
    let root = config.channel_group.as_mut().unwrap();
    let orderer = group(root, "Orderer/Orderer").values["MSP"].clone();
    let org1 = group(root, "Application/Org1").clone();
    group(root, "Application/Org2")
        .values
        .insert("MSP".to_owned(), orderer);
    let config = read(&config).unwrap();
    assert!(config.application_org("OrdererMSP").is_some());

    let text = error(|root| {
        let mut other = org1;
        let mut msp = MspConfig::decode(other.values["MSP"].value.clone()).unwrap();
        let mut fabric = selvedge_protos::msp::FabricMspConfig::decode(msp.config.clone()).unwrap();
        fabric.tls_root_certs.clear();
        msp.config = fabric.encode_to_vec().into();
        set(&mut other, "MSP", &msp);
        group(root, "Application")
            .groups
            .insert("Org3".to_owned(), other);
    });
    assert_eq!(text, "MSP Org1MSP is defined in two different ways");
    let text = error(|root| drop(group(root, "Application/Org1").values.remove("MSP")));
    assert_says!(text, "/Channel/Application/Org1/MSP");
}

#[test]
fn orderer_addresses_go_by_capability() {
    let mut config = recorded("raft", 0);
    let root = config.channel_group.as_mut().unwrap();
    set(root, "OrdererAddresses", &addresses(&["host:7050"]));
    assert_eq!(read(&config).unwrap().orderer_addresses(), ["host:7050"]);

    let with = |version: &str, global: &[&str], own: Option<&[&str]>| {
        let mut config = recorded("raft", 0);
        let root = config.channel_group.as_mut().unwrap();
        set(root, "Capabilities", &capabilities(&[version]));
        set(root, "OrdererAddresses", &addresses(global));
        let organization = group(root, "Orderer/Orderer");
        organization.values.remove("Endpoints");
        if let Some(own) = own {
            set(organization, "Endpoints", &addresses(own));
        }
        read(&config).map(drop).map_err(|error| error.to_string())
    };
    assert!(with("V3_0", &[], Some(&["host:7050"])).is_ok());
    assert_says!(
        with("V3_0", &["host:7050"], Some(&["host:7050"])).unwrap_err(),
        "only organisations have orderer addresses"
    );
    assert_says!(
        with("V3_0", &[], None).unwrap_err(),
        "/Channel/Orderer/Orderer: with channel capability V3_0 it needs orderer endpoints"
    );
    assert!(with("V2_0", &[], None).is_ok());
    assert!(with("V1_3", &["host:7050"], None).is_ok());
    assert_says!(with("V1_3", &[], None).unwrap_err(), "there must be some");
    assert_says!(
        with("V1_3", &["host:7050"], Some(&["host:7050"])).unwrap_err(),
        "/Channel/Orderer/Orderer/Endpoints is not allowed"
    );
}

#[test]
fn acls_become_paths() {
    let resource = |policy: &str| ApiResource {
        policy_ref: policy.to_owned(),
    };
    let acls = AcLs {
        acls: [
            ("qscc/GetChainInfo".to_owned(), resource("Readers")),
            ("event/Block".to_owned(), resource("/Channel/Readers")),
            ("cscc/GetConfigBlock".to_owned(), resource("")),
        ]
        .into(),
    };
    let mut config = recorded("raft", 0);
    let root = config.channel_group.as_mut().unwrap();
    set(group(root, "Application"), "ACLs", &acls);
    let config = read(&config).unwrap();
    let acl = |resource| config.application().acl(resource);
    assert_eq!(
        acl("qscc/GetChainInfo"),
        Some("/Channel/Application/Readers")
    );
    assert_eq!(acl("event/Block"), Some("/Channel/Readers"));
    assert_eq!(acl("cscc/GetConfigBlock"), None);
    let text = error(|root| {
        let application = group(root, "Application");
        set(application, "ACLs", &acls);
        set(application, "Capabilities", &capabilities(&["V1_1"]));
    });
    assert_says!(text, "ACLs need an application capability");
}

#[test]
fn policies_must_be_readable() {
    let text = error(|root| {
        let policies = &mut group(root, "Application/Org1").policies;
        policies.get_mut("Readers").unwrap().policy = None;
    });
    assert_says!(text, "the policies of the channel");
}

#[test]
fn msps_of_consortiums_count() {
    let mut config = recorded("raft", 0);
    let root = config.channel_group.as_mut().unwrap();
    let mut org2 = group(root, "Application").groups.remove("Org2").unwrap();
    org2.values.remove("AnchorPeers");
    let consortium = ConfigGroup {
        groups: [("Org2".to_owned(), org2)].into(),
        ..Default::default()
    };
    let consortiums = ConfigGroup {
        groups: [("Sample".to_owned(), consortium)].into(),
        ..Default::default()
    };
    root.groups.insert("Consortiums".to_owned(), consortiums);
    let with = read(&config).unwrap();
    assert!(with.msps().msp("Org2MSP").is_some());
    assert!(with.application_org("Org2MSP").is_none());

    let mut next = recorded("raft", 0);
    next.sequence = 1;
    let without = read(&next).unwrap();
    let error = with.check_successor(&without).unwrap_err();
    assert_says!(error.to_string(), "Consortiums");
}

#[test]
fn a_successor_keeps_what_must_not_change() {
    let current = read(&recorded("raft", 0)).unwrap();
    let check = |sequence, change: fn(&mut ConfigGroup)| {
        let mut next = recorded("raft", 0);
        next.sequence = sequence;
        change(next.channel_group.as_mut().unwrap());
        let next = read(&next).unwrap();
        current
            .check_successor(&next)
            .map_err(|error| error.to_string())
    };
    assert_eq!(check(1, |_| {}), Ok(()));
    assert_says!(
        check(0, |_| {}).unwrap_err(),
        "sequence 0 cannot follow sequence 0"
    );
    assert_says!(
        check(2, |_| {}).unwrap_err(),
        "sequence 2 cannot follow sequence 0"
    );
    let bft = |root: &mut ConfigGroup| {
        let consensus = ConsensusType {
            r#type: "BFT".to_owned(),
            ..Default::default()
        };
        set(group(root, "Orderer"), "ConsensusType", &consensus);
    };
    assert_eq!(check(1, bft), Ok(()), "V2_0 allows migration");
    let swapped = check(1, |root| {
        let application = group(root, "Application");
        let org1 = application.groups.remove("Org1").unwrap();
        let org2 = application.groups.insert("Org2".to_owned(), org1).unwrap();
        application.groups.insert("Org1".to_owned(), org2);
    });
    assert_eq!(
        swapped.unwrap_err(),
        "/Channel/Application/Org1 may not change its MSP id from Org1MSP to Org2MSP"
    );
    let other = ChannelConfig::from_config("other", recorded("raft", 0)).unwrap();
    assert!(current.check_successor(&other).is_err());

    let old = |bft_type: bool, sequence| {
        let mut config = recorded("raft", 0);
        config.sequence = sequence;
        let root = config.channel_group.as_mut().unwrap();
        set(root, "Capabilities", &capabilities(&["V1_3"]));
        set(root, "OrdererAddresses", &addresses(&["host:7050"]));
        group(root, "Orderer/Orderer").values.remove("Endpoints");
        if bft_type {
            bft(root);
        }
        read(&config).unwrap()
    };
    let error = old(false, 0).check_successor(&old(true, 1)).unwrap_err();
    assert_says!(error.to_string(), "may not change from 'etcdraft' to 'BFT'");
}

#[test]
fn changes_are_told_by_subject() {
    let old = read(&recorded("raft", 0)).unwrap();
    let changes = |change: fn(&mut ConfigGroup)| {
        let mut config = recorded("raft", 0);
        change(config.channel_group.as_mut().unwrap());
        read(&config).unwrap().changes_since(&old)
    };
    let none = ConfigChanges::default;
    assert!(changes(|_| {}).is_empty());
    let org2 = || [String::from("Org2MSP")].into();
    assert_eq!(
        changes(|root| drop(group(root, "Application/Org2").values.remove("AnchorPeers"))),
        ConfigChanges {
            anchor_peers: org2(),
            ..none()
        }
    );
    assert_eq!(
        changes(|root| drop(group(root, "Application").groups.remove("Org2"))),
        ConfigChanges {
            organizations_left: org2(),
            anchor_peers: org2(),
            msps: org2(),
            policies: true,
            ..none()
        }
    );
    assert_eq!(
        changes(|root| set(
            group(root, "Orderer/Orderer"),
            "Endpoints",
            &addresses(&["a:1"])
        )),
        ConfigChanges {
            orderer_endpoints: true,
            ..none()
        }
    );
    assert_eq!(
        changes(|root| set(root, "OrdererAddresses", &addresses(&["a:1"]))),
        ConfigChanges {
            orderer_endpoints: true,
            ..none()
        }
    );
    assert_eq!(
        changes(|root| set(root, "Capabilities", &capabilities(&["V3_0"]))),
        ConfigChanges {
            capabilities: true,
            ..none()
        }
    );
    assert_eq!(
        changes(|root| set(
            group(root, "Orderer"),
            "ConsensusType",
            &ConsensusType::default()
        )),
        ConfigChanges {
            consensus: true,
            ..none()
        }
    );
    assert_eq!(
        changes(|root| {
            let application = group(root, "Application");
            let readers = application.policies["Readers"].clone();
            application.policies.insert("Others".to_owned(), readers);
        }),
        ConfigChanges {
            policies: true,
            ..none()
        }
    );
}
