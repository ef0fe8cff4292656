//! The verdicts of Go peers on recorded chains.

use std::sync::Arc;

use selvedge_channel::ChannelConfig;
use selvedge_protos::Message;
use selvedge_protos::common::{Capabilities, Capability};
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::{Options, TransactionKind, Validator};

use crate::support::{Chain, Peer};

/// Validates a chain from where the peer stands, or from its first block, and compares every verdict.
fn replay(chain: &Chain, peer: Option<Peer>) -> (Peer, usize) {
    let (mut peer, mut compared) = (peer, 0);
    let mut differences = Vec::new();
    for (block, expected) in chain.blocks() {
        let peer = peer.get_or_insert_with(|| Peer::join(&block));
        let number = block.header.as_ref().unwrap().number;
        let verdicts = peer
            .validate(&block)
            .unwrap_or_else(|error| panic!("block {number}: {error}"));
        assert_eq!(verdicts.len(), expected.len(), "block {number}");
        for (position, (verdict, expected)) in verdicts.iter().zip(expected).enumerate() {
            if verdict.code != expected.before_mvcc() {
                differences.push(format!(
                    "{number}/{position} {}: {:?} ({}), expected {:?}",
                    expected.label, verdict.code, verdict.reason, expected.code
                ));
            }
            assert_eq!(*verdict.txid, *expected.txid, "{number}/{position}");
            let is_valid = verdict.code == TxValidationCode::Valid;
            assert_eq!(verdict.transaction.is_some(), is_valid);
            assert_eq!(verdict.reason.is_empty(), is_valid);
            compared += 1;
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        peer.commit(&verdicts, expected);
    }
    (peer.unwrap(), compared)
}

#[test]
fn raft_and_then_forged() {
    let (peer, compared) = replay(&Chain::read("raft"), None);
    assert_eq!(compared, 512);
    let (_, compared) = replay(&Chain::read("forged"), Some(peer));
    assert_eq!(compared, 26);
}

#[test]
fn bft() {
    let (_, compared) = replay(&Chain::read("bft"), None);
    assert_eq!(compared, 34);
}

#[test]
fn a_valid_transaction_is_handed_on_decoded() {
    let chain = Chain::read("raft");
    let peer = Peer::at(&chain, 32);
    let (block, expected) = chain.blocks().nth(32).unwrap();
    let verdicts = peer.validate(&block).unwrap();
    let transaction = verdicts[0].transaction.as_ref().unwrap();
    assert_eq!(*transaction.txid, *expected[0].txid);
    let TransactionKind::Endorser { chaincode, .. } = &transaction.kind else {
        panic!("{transaction:?}");
    };
    let part = transaction.rwset.namespace(&chaincode.name).unwrap();
    assert!(part.has_writes());
}

#[test]
fn channels_with_the_legacy_lifecycle_are_refused() {
    let (genesis, _) = Chain::read("raft").blocks().next().unwrap();
    let recorded = ChannelConfig::from_block(&genesis).unwrap();
    let with_capability = |name: &str| {
        let mut config = recorded.config().clone();
        let root = config.channel_group.as_mut().unwrap();
        let application = root.groups.get_mut("Application").unwrap();
        let value = application.values.get_mut("Capabilities").unwrap();
        let capability = (name.to_owned(), Capability::default());
        let capabilities = Capabilities {
            capabilities: [capability].into(),
        };
        value.value = capabilities.encode_to_vec().into();
        let config = ChannelConfig::from_config(recorded.channel_id(), config).unwrap();
        Validator::new(Arc::new(config), Options::default())
    };
    for current in ["V2_0", "V2_5"] {
        assert!(with_capability(current).is_ok());
    }
    for legacy in ["V1_2", "V1_3", "V1_4_2"] {
        let error = with_capability(legacy).unwrap_err();
        assert_eq!(error.channel, "vectors");
        assert!(error.to_string().contains("legacy lifecycle"), "{error}");
    }
}
