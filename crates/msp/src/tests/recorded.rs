//! Identities and MSP definitions of recorded networks, with the verdicts of their Go peers.

use std::collections::BTreeMap;
use std::fs;

use selvedge_protos::Message;
use selvedge_protos::common::{Block, ConfigEnvelope, ConfigGroup, Envelope, Payload};

use super::support::{serialize, testdata};
use crate::{Identity, Msp, MspError, MspManager, MspVersion, SigningIdentity};

/// The MSPs in a config block, by the rules of a version.
fn msps_of_block(chain: &str, number: u64, version: MspVersion) -> MspManager {
    let path = testdata(&format!("{chain}/orderer-blocks/{number:06}.block"));
    let block = Block::decode(fs::read(path).unwrap().as_slice()).unwrap();
    let envelope = Envelope::decode(block.data.unwrap().data[0].as_ref()).unwrap();
    let payload = Payload::decode(envelope.payload.as_ref()).unwrap();
    let config = ConfigEnvelope::decode(payload.data.as_ref()).unwrap();
    let mut msps = Vec::new();
    collect(
        &config.config.unwrap().channel_group.unwrap(),
        version,
        &mut msps,
    );
    MspManager::new(msps).unwrap()
}

fn collect(group: &ConfigGroup, version: MspVersion, msps: &mut Vec<Msp>) {
    if let Some(value) = group.values.get("MSP") {
        let config = selvedge_protos::msp::MspConfig::decode(value.value.as_ref()).unwrap();
        msps.push(Msp::from_config(&config, version).unwrap());
    }
    for below in group.groups.values() {
        collect(below, version, msps);
    }
}

fn minted(msps: &MspManager, msp_id: &str, name: &str) -> Result<Identity, MspError> {
    let path = testdata(&format!(
        "raft/crypto/minted/{name}/signcerts/{name}-cert.pem"
    ));
    msps.deserialize_and_validate(&serialize(msp_id, &fs::read(path).unwrap()))
}

#[test]
fn the_first_configuration() {
    let msps = msps_of_block("raft", 0, MspVersion::V1_4_3);
    let ids: Vec<_> = msps.msps().map(Msp::id).collect();
    assert_eq!(ids, ["OrdererMSP", "Org1MSP", "Org2MSP"]);
    for msp in msps.msps() {
        assert_eq!(msp.tls_root_certs().len(), 1);
    }
    assert!(minted(&msps, "Org2MSP", "minted-peer").is_ok());
    assert!(minted(&msps, "Org2MSP", "short-peer").is_ok());
    assert!(minted(&msps, "Org1MSP", "short-user").is_ok());
    assert!(matches!(
        minted(&msps, "Org2MSP", "minted-noou"),
        Err(MspError::OrganizationalUnits { .. })
    ));
    assert!(matches!(
        minted(&msps, "Org2MSP", "minted-wrong-ca"),
        Err(MspError::Chain { .. })
    ));
    assert!(minted(&msps, "Org1MSP", "minted-wrong-ca").is_ok());
    for (msp, name) in [("Org2MSP", "ed-peer"), ("Org1MSP", "ed-user")] {
        assert!(matches!(
            minted(&msps, msp, name),
            Err(MspError::KeyAlgorithm { .. })
        ));
    }
    let v3 = msps_of_block("raft", 0, MspVersion::V3_0);
    for (msp, name) in [("Org2MSP", "ed-peer"), ("Org1MSP", "ed-user")] {
        assert!(minted(&v3, msp, name).is_ok());
    }
}

/// The numbers of the recorded config blocks.
fn config_blocks(chain: &str) -> Vec<u64> {
    let expected = fs::read_to_string(testdata(&format!("{chain}/expected.json"))).unwrap();
    let mut numbers: Vec<u64> = vec![0];
    let mut number: Option<u64> = None;
    for line in expected.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("\"number\": ") {
            number = rest.trim_end_matches(',').parse().ok();
        }
        if line.starts_with("\"type\": \"CONFIG\"") {
            numbers.extend(number);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[test]
fn configurations_with_intermediates_and_revocation() {
    let numbers = config_blocks("raft");
    assert!(numbers.len() > 5, "{numbers:?}");
    let last = *numbers.last().unwrap();
    let msps = msps_of_block("raft", last, MspVersion::V3_0);
    assert!(minted(&msps, "Org2MSP", "ica-peer").is_ok());
    assert!(minted(&msps, "Org2MSP", "ica-user").is_ok());
    // The second root of Org2 has an intermediate below it.
    assert!(matches!(
        minted(&msps, "Org2MSP", "root2-peer"),
        Err(MspError::Chain {
            source: crate::ChainError::ParentIsInternal { .. },
            ..
        })
    ));
    assert!(minted(&msps, "Org2MSP", "minted-peer").is_ok());
    assert!(matches!(
        minted(&msps, "Org3MSP", "revoked-peer-Org3"),
        Err(MspError::Revoked { .. })
    ));
    let mut verdicts = BTreeMap::new();
    for number in numbers {
        let msps = msps_of_block("raft", number, MspVersion::V3_0);
        let verdict = minted(&msps, "Org3MSP", "revoked-peer-Org3");
        verdicts
            .entry(match verdict {
                Ok(_) => "valid",
                Err(MspError::UnknownMsp { .. }) => "before it joined",
                Err(MspError::Revoked { .. }) => "revoked",
                Err(other) => panic!("{other}"),
            })
            .or_insert(number);
    }
    assert!(verdicts["before it joined"] < verdicts["valid"]);
    assert!(verdicts["valid"] < verdicts["revoked"]);
}

#[test]
fn every_recorded_folder_can_sign() {
    let mut count = 0;
    for chain in ["raft", "bft", "gossip"] {
        for (kind, nodes) in [
            ("peerOrganizations", &["peers", "users"][..]),
            ("ordererOrganizations", &["orderers", "users"]),
        ] {
            let Ok(organizations) = fs::read_dir(testdata(&format!("{chain}/crypto/{kind}")))
            else {
                continue;
            };
            for organization in organizations {
                for nodes in nodes {
                    let Ok(nodes) = fs::read_dir(organization.as_ref().unwrap().path().join(nodes))
                    else {
                        continue;
                    };
                    for node in nodes {
                        check_folder(&node.unwrap().path().join("msp"));
                        count += 1;
                    }
                }
            }
        }
    }
    assert!(count > 20, "{count}");
}

fn check_folder(path: &std::path::Path) {
    let msp = Msp::from_directory(path, "SomeMSP").unwrap();
    let file = |folder: &str| {
        let entry = fs::read_dir(path.join(folder)).unwrap().next().unwrap();
        fs::read(entry.unwrap().path()).unwrap()
    };
    let signing = SigningIdentity::from_pem(&msp, &file("signcerts"), &file("keystore")).unwrap();
    let signature = signing.sign(b"message").unwrap();
    assert_eq!(signing.identity().verify(b"message", &signature), Ok(()));
    assert_eq!(signing.identity().validate(), Ok(()));
}
