//! Our own tampered copies of recorded blocks. Each is refused, and for the right reason; where a
//! change would be caught by an earlier check, the block is signed anew with a recorded key so that
//! the check in question decides.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::{
    BlockFault, BlockVerifier, ChannelConfig, EnvelopeFault, MAX_SIGNATURES, MAX_SIGNED_BYTES,
    config_from_block,
};
use selvedge_protos::Message;
use selvedge_protos::common::{Block, ChannelHeader, Envelope, Header, HeaderType, Payload};

use crate::support::*;

/// The raft chain up to a block, and the block after it, which has several transactions.
fn raft() -> (Chain, Block) {
    let number = 31;
    let block = decode(blocks("raft/orderer-blocks")[number + 1].clone());
    assert!(block.data.as_ref().unwrap().data.len() > 2);
    (Chain::up_to("raft/orderer-blocks", number), block)
}

fn bft() -> (Chain, Block) {
    let number = 4;
    let block = decode(blocks("bft/orderer-blocks")[number + 1].clone());
    (Chain::up_to("bft/orderer-blocks", number), block)
}

macro_rules! assert_fault {
    ($fault:expr, $pattern:pat) => {
        let fault = $fault;
        assert!(matches!(fault, $pattern), "{fault}");
    };
}

#[test]
fn blocks_signed_anew_by_an_orderer_are_taken() {
    let (chain, mut block) = raft();
    assert!(chain.accepts(&block));
    sign(&mut block, &[&orderer("raft", 1)]);
    assert!(chain.accepts(&block));
    data(&mut block).pop();
    rehash(&mut block);
    sign(&mut block, &[&orderer("raft", 1)]);
    assert!(chain.accepts(&block));
}

#[test]
fn forged_signatures() {
    let (chain, block) = raft();
    let with = |change: fn(&mut Vec<u8>)| {
        let mut block = block.clone();
        let mut metadata = signatures(&block);
        let mut signature = metadata.signatures[0].signature.to_vec();
        change(&mut signature);
        metadata.signatures[0].signature = signature.into();
        set_signatures(&mut block, &metadata);
        chain.fault(&block)
    };
    assert_fault!(
        with(|signature| signature[10] ^= 1),
        BlockFault::NotSigned { .. }
    );
    assert_fault!(with(Vec::clear), BlockFault::NotSigned { .. });

    let mut other_value = block.clone();
    let mut metadata = signatures(&block);
    metadata.value = Bytes::from_static(b"another value");
    set_signatures(&mut other_value, &metadata);
    assert_fault!(chain.fault(&other_value), BlockFault::NotSigned { .. });

    let mut junk = block;
    slots(&mut junk)[0] = Bytes::from_static(&[0x12, 200]);
    assert_fault!(chain.fault(&junk), BlockFault::Malformed { .. });
}

#[test]
fn signers_that_are_no_ordering_nodes() {
    let (chain, block) = raft();
    let admin = testdata(
        "raft/crypto/ordererOrganizations/orderer.example.com/users/Admin@orderer.example.com/msp",
    );
    let stranger = orderer("bft", 1);
    for signer in [peer("raft", 1), peer("raft", 2), stranger] {
        let mut block = block.clone();
        sign(&mut block, &[&signer]);
        assert_fault!(chain.fault(&block), BlockFault::NotSigned { .. });
    }
    // The policy asks for members of the ordering organisation, whatever their role.
    let admin = selvedge_msp::load_signing_identity(&admin, "OrdererMSP").unwrap();
    let mut by_admin = block.clone();
    sign(&mut by_admin, &[&admin]);
    assert!(chain.accepts(&by_admin));

    let mut among_others = block;
    sign(&mut among_others, &[&peer("raft", 1), &orderer("raft", 1)]);
    assert!(
        chain.accepts(&among_others),
        "one valid signature is enough"
    );
}

#[test]
fn a_claimed_identity_needs_its_key() {
    let (chain, mut block) = raft();
    let mut metadata = signatures(&block);
    let mut stolen = metadata.signatures[0].clone();
    let own = signature_of(&block, &metadata.value, &peer("raft", 1));
    stolen.signature = own.signature;
    metadata.signatures = vec![stolen];
    set_signatures(&mut block, &metadata);
    assert_fault!(chain.fault(&block), BlockFault::NotSigned { .. });
}

#[test]
fn too_many_signatures() {
    let (chain, mut block) = raft();
    let mut metadata = signatures(&block);
    metadata.signatures = vec![metadata.signatures[0].clone(); MAX_SIGNATURES];
    set_signatures(&mut block, &metadata);
    assert!(chain.accepts(&block));
    metadata.signatures.push(metadata.signatures[0].clone());
    set_signatures(&mut block, &metadata);
    assert_fault!(chain.fault(&block), BlockFault::TooMany { .. });

    // Few bytes more in the block, many more to check.
    metadata.signatures.truncate(100);
    metadata.value = vec![7; MAX_SIGNED_BYTES / 50].into();
    set_signatures(&mut block, &metadata);
    assert_fault!(chain.fault(&block), BlockFault::TooMany { .. });
}

#[test]
fn headers_that_do_not_fit() {
    let (chain, block) = raft();
    let with = |change: fn(&mut Block)| {
        let mut block = block.clone();
        change(&mut block);
        sign(&mut block, &[&orderer("raft", 1)]);
        chain.fault(&block)
    };
    assert_fault!(
        with(|block| block.header.as_mut().unwrap().number += 1),
        BlockFault::WrongNumber { .. }
    );
    assert_fault!(
        with(|block| block.header.as_mut().unwrap().number = u64::MAX),
        BlockFault::WrongNumber { .. }
    );
    assert_fault!(
        with(|block| block.header.as_mut().unwrap().previous_hash = Bytes::new()),
        BlockFault::WrongPreviousHash { .. }
    );
    assert_fault!(
        with(|block| block.header.as_mut().unwrap().data_hash = vec![7; 5000].into()),
        BlockFault::WrongDataHash { .. }
    );
    assert_fault!(
        with(|block| data(block).swap(0, 1)),
        BlockFault::WrongDataHash { .. }
    );
    assert_fault!(
        with(|block| drop(data(block).pop())),
        BlockFault::WrongDataHash { .. }
    );
    let mut headless = block.clone();
    headless.header = None;
    assert_fault!(chain.fault(&headless), BlockFault::NoHeader);
    assert_fault!(chain.fault(Bytes::new()), BlockFault::NoHeader);
}

/// The header changes, the signatures stay: whatever else fits, the signatures do not.
#[test]
fn a_header_that_was_never_signed() {
    let (chain, mut block) = raft();
    data(&mut block).pop();
    rehash(&mut block);
    assert_fault!(chain.fault(&block), BlockFault::NotSigned { .. });
}

/// CVE-2023-46132: the same bytes cut at other places have the same data hash and signatures.
#[test]
fn the_same_bytes_cut_differently() {
    let (chain, block) = raft();
    let recut = |cut: fn(&[Bytes]) -> Vec<Bytes>| {
        let mut block = block.clone();
        let envelopes = data(&mut block).clone();
        *data(&mut block) = cut(&envelopes);
        assert_eq!(data(&mut block).concat(), envelopes.concat());
        chain.fault(&block)
    };
    // Two envelopes in one: the later fields override the earlier ones.
    assert_fault!(
        recut(|envelopes| {
            let joined = Bytes::from(envelopes[..2].concat());
            [&[joined], &envelopes[2..]].concat()
        }),
        BlockFault::NotWellFormed {
            index: 0,
            fault: EnvelopeFault::NotCanonical
        }
    );
    // All in one, which would make it a block with a single transaction.
    assert_fault!(
        recut(|envelopes| vec![envelopes.concat().into()]),
        BlockFault::NotWellFormed { .. }
    );
    // An envelope cut between payload and signature.
    assert_fault!(
        recut(|envelopes| {
            let Envelope { signature, .. } = Envelope::decode(envelopes[0].clone()).unwrap();
            let at = envelopes[0].len() - signature.len() - 2;
            let halves = [envelopes[0].slice(..at), envelopes[0].slice(at..)];
            [&halves, &envelopes[1..]].concat()
        }),
        BlockFault::NotWellFormed {
            index: 0,
            fault: EnvelopeFault::NoSignature
        }
    );
    // An empty envelope between two others.
    assert_fault!(
        recut(|envelopes| [&envelopes[..1], &[Bytes::new()], &envelopes[1..]].concat()),
        BlockFault::NotWellFormed {
            index: 1,
            fault: EnvelopeFault::NoPayload
        }
    );
    // A byte given to the neighbour.
    assert_fault!(
        recut(|envelopes| {
            let (first, second) = (&envelopes[0], &envelopes[1]);
            let at = first.len() - 1;
            let second = Bytes::from([&first[at..], second].concat());
            [&[first.slice(..at), second], &envelopes[2..]].concat()
        }),
        BlockFault::NotWellFormed { .. }
    );
}

#[test]
fn a_config_block_is_cut_differently() {
    let number = 40;
    let chain = Chain::up_to("raft/orderer-blocks", number);
    let config = decode(blocks("raft/orderer-blocks")[number + 1].clone());
    assert!(chain.accepts(&config));
    let mut halves = config;
    let envelope = data(&mut halves)[0].clone();
    *data(&mut halves) = vec![envelope.slice(..100), envelope.slice(100..)];
    assert_fault!(chain.fault(&halves), BlockFault::NotWellFormed { .. });
}

/// A transaction to order, for a channel of any name.
fn envelope(channel_id: &str, header_type: HeaderType) -> Bytes {
    let channel_header = ChannelHeader {
        r#type: header_type as i32,
        channel_id: channel_id.to_owned(),
        ..Default::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data: Bytes::from_static(b"data"),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    };
    envelope.encode_to_vec().into()
}

#[test]
fn foreign_channels() {
    let (chain, block) = raft();
    let with = |envelope: Bytes| {
        let mut block = block.clone();
        data(&mut block)[0] = envelope;
        rehash(&mut block);
        sign(&mut block, &[&orderer("raft", 1)]);
        block
    };
    let own = with(envelope("vectors", HeaderType::EndorserTransaction));
    assert!(chain.accepts(&own));
    // Blocks from gossip may not begin so; those from an ordering node have proven where they belong.
    let gossiped = |block: &Block| {
        assert!(chain.accepts(block));
        let number = block.header.as_ref().unwrap().number;
        let bytes = block.encode_to_vec().into();
        *chain
            .verifier
            .verify_expecting(bytes, number)
            .unwrap_err()
            .fault
    };
    let foreign = with(envelope("vectors2", HeaderType::EndorserTransaction));
    assert_fault!(gossiped(&foreign), BlockFault::WrongChannel { .. });
    let nameless = with(envelope("", HeaderType::EndorserTransaction));
    assert_fault!(gossiped(&nameless), BlockFault::WrongChannel { .. });
    let headless = Envelope {
        payload: Bytes::from_static(&[0x12, 1, 7]),
        signature: Bytes::from_static(b"signature"),
    };
    let headless = with(headless.encode_to_vec().into());
    assert_fault!(gossiped(&headless), BlockFault::ChannelUnreadable(_));
    let mut config = block.clone();
    *data(&mut config) = vec![envelope("vectors2", HeaderType::Config)];
    rehash(&mut config);
    sign(&mut config, &[&orderer("raft", 1)]);
    assert_fault!(chain.fault(&config), BlockFault::WrongChannel { .. });

    let other_chain = Chain::up_to("bft/orderer-blocks", 0);
    let other = blocks("raft/orderer-blocks")[1].clone();
    let error = other_chain.verifier.verify_expecting(other, 1).unwrap_err();
    assert!(
        matches!(&*error.fault, BlockFault::WrongChannel { found } if found == "vectors"),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "block [1] of channel bftvectors is refused: it belongs to channel 'vectors'"
    );
}

/// What a client sends and Go ordering nodes let pass must not stop a peer: Go takes a known field
/// of another wire type for an unknown one.
#[test]
fn odd_headers_that_go_reads_are_read() {
    let (chain, mut block) = raft();
    let mut channel_header = ChannelHeader {
        channel_id: "vectors".to_owned(),
        ..Default::default()
    }
    .encode_to_vec();
    channel_header.extend([0x0a, 1, 7]); // `type` as bytes
    assert!(
        ChannelHeader::decode(&channel_header[..]).is_err(),
        "prost refuses it"
    );
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.into(),
            signature_header: Bytes::new(),
        }),
        data: Bytes::new(),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    };
    data(&mut block)[0] = envelope.encode_to_vec().into();
    rehash(&mut block);
    sign(&mut block, &[&orderer("raft", 1)]);
    assert!(chain.accepts(&block));
}

#[test]
fn missing_metadata_and_data() {
    let (chain, block) = raft();
    let mut without = block.clone();
    without.metadata = None;
    assert_fault!(
        chain.fault(&without),
        BlockFault::NoMetadata { found: 0, .. }
    );
    let mut few = block.clone();
    slots(&mut few).truncate(4);
    assert_fault!(chain.fault(&few), BlockFault::NoMetadata { found: 4, .. });
    let few = Bytes::from(few.encode_to_vec());
    assert!(
        chain.verifier.verify(few).is_ok(),
        "gossip asks for one slot"
    );
    let mut unsigned = block.clone();
    slots(&mut unsigned)[0] = Bytes::new();
    assert_fault!(chain.fault(&unsigned), BlockFault::NotSigned { .. });
    let mut empty = block.clone();
    data(&mut empty).clear();
    assert_fault!(chain.fault(&empty), BlockFault::Empty);
    empty.data = None;
    assert_fault!(chain.fault(&empty), BlockFault::Empty);
    // An attestation is no block.
    let header = Bytes::from(empty.encode_to_vec());
    assert!(
        chain
            .verifier
            .verify_attestation(header, &chain.tip())
            .is_ok()
    );
}

#[test]
fn attestations_are_checked_like_blocks() {
    let (chain, mut block) = bft();
    block.data = None;
    let attest = |block: &Block| {
        let bytes = Bytes::from(block.encode_to_vec());
        chain.verifier.verify_attestation(bytes, &chain.tip())
    };
    assert!(attest(&block).is_ok());
    let mut other_data = block.clone();
    other_data.header.as_mut().unwrap().data_hash = Bytes::from_static(&[7; 32]);
    assert_fault!(
        *attest(&other_data).unwrap_err().fault,
        BlockFault::NotSigned { .. }
    );
    let mut later = block.clone();
    later.header.as_mut().unwrap().number += 1;
    assert_fault!(
        *attest(&later).unwrap_err().fault,
        BlockFault::WrongNumber { .. }
    );
    let mut few = block;
    slots(&mut few).truncate(4);
    assert_fault!(
        *attest(&few).unwrap_err().fault,
        BlockFault::NoMetadata { .. }
    );
}

#[test]
fn bft_needs_a_quorum_of_different_consenters() {
    let (chain, block) = bft();
    let recorded = signatures(&block);
    assert_eq!(recorded.signatures.len(), 3, "a quorum of four consenters");
    let with = |signatures: Vec<_>| {
        let mut block = block.clone();
        let mut metadata = recorded.clone();
        metadata.signatures = signatures;
        set_signatures(&mut block, &metadata);
        block
    };
    let [a, b, c] = &recorded.signatures[..] else {
        unreachable!()
    };
    assert!(chain.accepts(&with(vec![c.clone(), b.clone(), a.clone()])));
    let below = with(vec![a.clone(), b.clone()]);
    assert_fault!(chain.fault(&below), BlockFault::NotSigned { .. });
    let twice = with(vec![a.clone(), b.clone(), b.clone(), a.clone()]);
    assert_fault!(chain.fault(&twice), BlockFault::NotSigned { .. });
}

#[test]
fn bft_consenters_are_known_by_their_numbers() {
    let (chain, mut block) = bft();
    let mut metadata = signatures(&block);
    let signers: Vec<_> = (1..=5).map(|number| orderer("bft", number)).collect();
    let mut fault_with = |numbers: &[(u32, usize)]| {
        let by = |&(number, signer): &(u32, usize)| {
            numbered_signature_of(&block, &metadata.value, number, &signers[signer - 1])
        };
        metadata.signatures = numbers.iter().map(by).collect();
        set_signatures(&mut block, &metadata);
        (!chain.accepts(&block)).then(|| chain.fault(&block))
    };
    assert!(fault_with(&[(1, 1), (2, 2), (3, 3)]).is_none());
    assert!(
        fault_with(&[(9, 1), (1, 1), (2, 2), (3, 3)]).is_none(),
        "9 is passed over"
    );
    for numbers in [
        &[(1, 1), (2, 2), (4, 3)][..], // 3 signs as 4
        &[(1, 1), (2, 2), (5, 5)],     // 5 is no consenter yet
        &[(1, 1), (2, 2), (1, 1)],     // 1 signs twice
        &[(1, 1), (2, 1), (3, 1)],     // 1 signs for all
        &[],
    ] {
        assert!(
            matches!(fault_with(numbers), Some(BlockFault::NotSigned { .. })),
            "{numbers:?}"
        );
    }
    // The same consenter by number and by identity counts once.
    let mut twice = block.clone();
    let mut metadata = signatures(&twice);
    metadata.signatures = vec![
        numbered_signature_of(&twice, &metadata.value, 1, &signers[0]),
        signature_of(&twice, &metadata.value, &signers[0]),
        signature_of(&twice, &metadata.value, &signers[1]),
    ];
    set_signatures(&mut twice, &metadata);
    assert_fault!(chain.fault(&twice), BlockFault::NotSigned { .. });
    metadata
        .signatures
        .push(signature_of(&twice, &metadata.value, &signers[2]));
    set_signatures(&mut twice, &metadata);
    assert!(chain.accepts(&twice));
}

/// Block 8 adds a fifth consenter, block 13 removes one: the quorum and its members change with them.
#[test]
fn the_bft_quorum_follows_the_configuration() {
    for (config_block, quorum) in [(8, 4), (13, 3)] {
        let chain = Chain::up_to("bft/orderer-blocks", config_block);
        let config = chain.verifier.config();
        let consenters: Vec<_> = config.orderer().consenters().iter().map(|c| c.id).collect();
        let strangers: Vec<_> = (1..=5)
            .filter(|number| !consenters.contains(number))
            .collect();
        let mut block = decode(blocks("bft/orderer-blocks")[config_block + 1].clone());
        let mut metadata = signatures(&block);
        let mut accepts = |numbers: &[u32]| {
            let by = |number: &u32| {
                let signer = orderer("bft", usize::try_from(*number).unwrap());
                numbered_signature_of(&block, &metadata.value, *number, &signer)
            };
            metadata.signatures = numbers.iter().map(by).collect();
            set_signatures(&mut block, &metadata);
            chain.accepts(&block)
        };
        assert!(accepts(&consenters[..quorum]), "after block {config_block}");
        assert!(
            !accepts(&consenters[..quorum - 1]),
            "after block {config_block}"
        );
        for stranger in strangers {
            assert!(!accepts(&[&consenters[..quorum - 1], &[stranger]].concat()));
        }
    }
}

/// Signatures by number mean nothing where the channel has no numbered consenters.
#[test]
fn numbers_do_not_count_below_v3_0() {
    let (chain, mut block) = raft();
    let mut metadata = signatures(&block);
    metadata.signatures = vec![numbered_signature_of(
        &block,
        &metadata.value,
        1,
        &orderer("raft", 1),
    )];
    set_signatures(&mut block, &metadata);
    assert_fault!(chain.fault(&block), BlockFault::NotSigned { .. });
}

#[test]
fn a_channel_without_block_validation_takes_no_block() {
    let genesis = decode(read("raft/orderer-blocks/000000.block"));
    let mut config = config_from_block(&genesis)
        .unwrap()
        .unwrap()
        .config
        .unwrap();
    let root = config.channel_group.as_mut().unwrap();
    let orderer = root.groups.get_mut("Orderer").unwrap();
    orderer.policies.remove("BlockValidation").unwrap();
    let config = ChannelConfig::from_config("vectors", config).unwrap();
    let verifier = BlockVerifier::new(Arc::new(config));
    let block = read("raft/orderer-blocks/000001.block");
    assert_fault!(
        *verifier.verify(block).unwrap_err().fault,
        BlockFault::NoPolicy { .. }
    );
}

#[test]
fn genesis_blocks_that_are_none() {
    let fault = |bytes: Bytes| *BlockVerifier::trust_genesis(bytes).unwrap_err().fault;
    let genesis = read("raft/orderer-blocks/000000.block");
    let (block, config) = BlockVerifier::trust_genesis(genesis.clone()).unwrap();
    assert_eq!((block.number(), config.channel_id()), (0, "vectors"));

    let blocks = blocks("raft/orderer-blocks");
    assert_fault!(fault(blocks[1].clone()), BlockFault::NotGenesis);
    assert_fault!(fault(blocks[41].clone()), BlockFault::NotGenesis);
    let with = |change: fn(&mut Block)| {
        let mut block = decode(genesis.clone());
        change(&mut block);
        fault(block.encode_to_vec().into())
    };
    assert_fault!(with(|block| data(block).clear()), BlockFault::Empty);
    assert_fault!(
        with(|block| data(block).push(Bytes::new())),
        BlockFault::NotConfig
    );
    assert_fault!(
        with(|block| data(block)[0] = envelope("vectors", HeaderType::EndorserTransaction)),
        BlockFault::NotConfig
    );
    assert_fault!(
        with(|block| block.header.as_mut().unwrap().data_hash = Bytes::new()),
        BlockFault::WrongDataHash { .. }
    );
    assert_fault!(
        with(|block| {
            data(block)[0] = envelope("vectors", HeaderType::Config);
            rehash(block);
        }),
        BlockFault::Config(_)
    );
    assert_fault!(fault(genesis.slice(..500)), BlockFault::Malformed { .. });
}

#[test]
fn truncated_at_every_byte() {
    let chain = Chain::up_to("bft/orderer-blocks", 0);
    let bytes = blocks("bft/orderer-blocks")[1].clone();
    assert!(chain.accepts(bytes.clone()));
    for length in 0..bytes.len() {
        let truncated = bytes.slice(..length);
        assert!(!chain.accepts(truncated), "the first {length} bytes");
    }
}

#[test]
fn lengths_beyond_the_end() {
    let chain = Chain::up_to("bft/orderer-blocks", 0);
    for tag in [0x0a, 0x12, 0x1a] {
        for length in [
            &[0x7f][..],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ] {
            let bytes = Bytes::from([&[tag], length].concat());
            assert_fault!(chain.fault(bytes), BlockFault::Malformed { .. });
        }
    }
}
