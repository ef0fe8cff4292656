//! Every recorded block, and every block that a Go peer refused.

use bytes::Bytes;
use selvedge_channel::config_update::{self, UpdateError};
use selvedge_channel::{
    BlockFault, BlockVerifier, ChannelConfig, ConfigChanges, EnvelopeFault, config_from_block,
    decode_config_envelope, last_config_number,
};
use selvedge_protos::Message;
use selvedge_protos::common::{Block, Header, Payload};
use selvedge_protos::envelope::OpenedEnvelope;

use crate::support::*;

/// Verifies a recorded chain and compares it with what the Go peer made of it. Returns the numbers
/// of its config blocks.
fn check_chain(
    chain: &mut Chain,
    blocks: Vec<Bytes>,
    expected: &str,
    mut last_config: u64,
) -> Vec<u64> {
    let expected = json(expected);
    let expected = expected["blocks"].as_array().unwrap();
    let mut config_blocks = Vec::new();
    for bytes in blocks {
        chain.append(bytes.clone());
        let block = &chain.tip;
        let expected = expected
            .iter()
            .find(|expected| expected["number"] == block.number())
            .unwrap();
        assert_eq!(hex::encode(block.header_hash()), expected["headerHash"]);
        assert_eq!(hex::encode(block.previous_hash()), expected["previousHash"]);
        assert_eq!(*block.bytes(), bytes);
        assert_eq!(*block.block(), decode(bytes));
        let transactions = expected["txs"].as_array().unwrap();
        let is_config = transactions.len() == 1 && transactions[0]["type"] == "CONFIG";
        assert_eq!(block.is_config(), is_config);
        let config = config_from_block(block.block()).unwrap();
        assert_eq!(config.is_some(), is_config);
        if is_config {
            last_config = block.number();
            config_blocks.push(last_config);
        }
        assert_eq!(last_config_number(block.block()).unwrap(), last_config);
    }
    config_blocks
}

#[test]
fn every_raft_block_is_verified_as_the_configuration_changes() {
    let mut blocks = blocks("raft/orderer-blocks");
    let rest = blocks.split_off(1);
    let mut chain = Chain::join(blocks.remove(0));
    assert!(!chain.verifier.config().allows_consenter_signatures());
    assert_eq!(last_config_number(chain.tip.block()).unwrap(), 0);
    let config_blocks = check_chain(&mut chain, rest, "raft/expected.json", 0);
    assert_eq!(config_blocks, [41, 83, 134, 137, 139, 152, 157, 160]);
    assert_eq!(chain.tip.number(), 169);
    assert_eq!(chain.verifier.config().sequence(), 8);
    assert!(
        chain.verifier.config().allows_consenter_signatures(),
        "raised to V3_0"
    );
}

#[test]
fn every_forged_block_that_a_go_peer_takes_is_verified() {
    let mut chain = Chain::up_to("raft/orderer-blocks", 169);
    let blocks = blocks("forged/orderer-blocks");
    check_chain(&mut chain, blocks, "forged/expected.json", 160);
    assert_eq!(chain.tip.number(), 174);
}

#[test]
fn every_bft_block_is_verified_whichever_quorum_signed_it() {
    for folder in ["bft/orderer-blocks", "bft/peer-blocks"] {
        let mut blocks = blocks(folder);
        let rest = blocks.split_off(1);
        let mut chain = Chain::join(blocks.remove(0));
        assert!(chain.verifier.config().allows_consenter_signatures());
        let config_blocks = check_chain(&mut chain, rest, "bft/expected.json", 0);
        assert_eq!(config_blocks, [8, 13]);
        assert_eq!(chain.tip.number(), 18);
    }
}

#[test]
fn blocks_that_come_by_gossip_are_verified_by_number() {
    let mut chain = Chain::join(read("bft/orderer-blocks/000000.block"));
    for bytes in blocks("bft/orderer-blocks").into_iter().skip(1) {
        let number = chain.tip.number() + 1;
        let verifier = &chain.verifier;
        let block = verifier.verify_expecting(bytes.clone(), number).unwrap();
        block.follows(&chain.tip()).unwrap();
        assert!(verifier.verify(bytes.clone()).is_ok());
        let error = verifier
            .verify_expecting(bytes.clone(), number + 1)
            .unwrap_err();
        assert!(
            matches!(*error.fault, BlockFault::WrongNumber { .. }),
            "{error}"
        );
        chain.append(bytes);
    }
}

#[test]
fn headers_alone_are_verified_as_attestations() {
    for folder in ["raft/orderer-blocks", "bft/orderer-blocks"] {
        let mut blocks = blocks(folder).into_iter();
        let mut chain = Chain::join(blocks.next().unwrap());
        for bytes in blocks {
            let header = Block {
                data: None,
                ..decode(bytes.clone())
            };
            let header = Bytes::from(header.encode_to_vec());
            let attestation = chain
                .verifier
                .verify_attestation(header, &chain.tip())
                .unwrap();
            chain.append(bytes);
            assert_eq!(attestation.block_ref(), chain.tip());
        }
    }
}

#[test]
fn blocks_as_a_go_peer_committed_them_are_taken_from_the_ledger() {
    for folder in ["bft/peer-blocks", "forged/peer-blocks"] {
        for bytes in blocks(folder) {
            let block = BlockVerifier::from_ledger("channel", bytes.clone()).unwrap();
            assert_eq!(*block.bytes(), bytes);
            let mut damaged = decode(bytes);
            data(&mut damaged)[0] = Bytes::from_static(b"damaged");
            let damaged = Bytes::from(damaged.encode_to_vec());
            let error = BlockVerifier::from_ledger("channel", damaged).unwrap_err();
            assert!(
                matches!(*error.fault, BlockFault::WrongDataHash { .. }),
                "{error}"
            );
        }
    }
}

#[test]
fn what_a_go_peer_refuses_is_refused_for_the_same_reason() {
    let mut chain = Chain::up_to("raft/orderer-blocks", 169);
    blocks("forged/orderer-blocks")
        .into_iter()
        .for_each(|block| chain.append(block));
    let results = json("forged/refused/results.json");
    let results = results.as_object().unwrap();
    assert_eq!(results.len(), 9);
    for (file, result) in results {
        let fault = chain.fault(read(&format!("forged/refused/{file}")));
        let reason = result["reason"].as_str().unwrap();
        let is_the_same = match &fault {
            BlockFault::NotSigned { .. } => reason.contains("policy evaluation failed"),
            BlockFault::WrongDataHash { header, computed } => {
                reason.contains("DataHash is different")
                    && reason.contains(&format!("Header: {header}, Data: {computed}"))
            }
            BlockFault::Empty => reason.ends_with("empty block"),
            BlockFault::NotWellFormed { index: 0, fault } => match fault {
                EnvelopeFault::Invalid(_) => reason.contains("transaction 0 is invalid"),
                EnvelopeFault::NoPayload => reason.ends_with("transaction 0 has no payload"),
                EnvelopeFault::NoSignature => reason.ends_with("transaction 0 has no signature"),
                EnvelopeFault::NotCanonical => reason.contains("does not match its raw form"),
                _ => false,
            },
            _ => false,
        };
        assert!(is_the_same, "{file}: {fault}, in Fabric: {reason:.200}");
    }
}

/// What each config update of a chain changes, by block number.
fn changes(chain: &str) -> Vec<(u64, ConfigChanges)> {
    let blocks = blocks(&format!("{chain}/orderer-blocks"));
    let mut current = ChannelConfig::from_block(&decode(blocks[0].clone())).unwrap();
    let mut changes = Vec::new();
    for block in blocks.into_iter().skip(1).map(decode) {
        if config_from_block(&block).unwrap().is_some() {
            let next = ChannelConfig::from_block(&block).unwrap();
            changes.push((block.header.unwrap().number, next.changes_since(&current)));
            assert!(next.changes_since(&next).is_empty());
            current = next;
        }
    }
    changes
}

#[test]
fn config_updates_tell_what_they_change() {
    let none = ConfigChanges::default;
    let msp = |id: &str| [id.to_owned()].into();
    let expected = [
        (
            41,
            ConfigChanges {
                anchor_peers: msp("Org1MSP"),
                ..none()
            },
        ),
        (
            83,
            ConfigChanges {
                acls: true,
                ..none()
            },
        ),
        (134, none()), // batch size
        (
            137,
            ConfigChanges {
                capabilities: true,
                ..none()
            },
        ),
        (139, none()), // batch size
        (
            152,
            ConfigChanges {
                organizations_joined: msp("Org3MSP"),
                anchor_peers: msp("Org3MSP"),
                msps: msp("Org3MSP"),
                policies: true,
                ..none()
            },
        ),
        (
            157, // a CRL
            ConfigChanges {
                msps: msp("Org3MSP"),
                ..none()
            },
        ),
        (
            160, // a further root and an intermediate CA
            ConfigChanges {
                msps: msp("Org2MSP"),
                ..none()
            },
        ),
    ];
    assert_eq!(changes("raft"), expected);
    let consenters = || ConfigChanges {
        orderer_endpoints: true,
        consensus: true,
        policies: true,
        ..none()
    };
    assert_eq!(changes("bft"), [(8, consenters()), (13, consenters())]);
}

#[test]
fn a_config_update_counts_whatever_the_signature_header_around_it() {
    let chain = Chain::up_to("raft/orderer-blocks", 40);
    let mut block = decode(read("raft/orderer-blocks/000041.block"));
    let opened = OpenedEnvelope::decode(data(&mut block)[0].clone()).unwrap();
    let recorded = decode_config_envelope(opened.data).unwrap();
    let check = |edit: fn(&mut Header)| {
        let mut proposed = recorded.clone();
        let update = proposed.last_update.as_mut().unwrap();
        let mut payload = Payload::decode(update.payload.clone()).unwrap();
        edit(payload.header.as_mut().unwrap());
        update.payload = payload.encode_to_vec().into();
        config_update::check(chain.verifier.config(), &proposed)
    };
    assert!(check(|_| {}).is_ok());
    assert!(check(|header| header.signature_header = Bytes::from_static(b"\xff")).is_ok());
    let error = check(|header| header.channel_header = Bytes::from_static(b"\xff")).unwrap_err();
    assert!(matches!(
        error,
        UpdateError::Malformed {
            what: "channel header",
            ..
        }
    ));
}
