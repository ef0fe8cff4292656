//! Transactions at the limits, and mutated ones: a verdict, or the statement that there is none, and
//! never a panic.

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use selvedge_policy::parse_policy;
use selvedge_protos::Message;
use selvedge_protos::common::Block;
use selvedge_protos::protos::TxValidationCode::{self, *};
use selvedge_protos::rwset::TxReadWriteSet;
use selvedge_validation::{TxVerdict, ValidationError};

use crate::draft::{Draft, Members, block, metadata, namespace, private, results};
use crate::support::{Chain, Peer};

const NUMBER: u64 = 110;

struct Fixture {
    peer: Peer,
    members: Members,
    /// The recorded blocks before.
    blocks: Vec<Block>,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let chain = Chain::read("raft");
    let count = usize::try_from(NUMBER).unwrap();
    Fixture {
        peer: Peer::at(&chain, NUMBER),
        members: Members::read(),
        blocks: chain.blocks().take(count).map(|(block, _)| block).collect(),
    }
});

fn code(peer: &Peer, transaction: Bytes) -> Result<TxValidationCode, ValidationError> {
    let verdicts = peer.validate(&block(NUMBER, [transaction]))?;
    assert_eq!(verdicts.len(), 1);
    Ok(verdicts[0].code)
}

/// The field of a message with bytes in it.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![tag];
    prost_length(&mut field, content.len());
    field.extend_from_slice(content);
    field
}

fn prost_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// A policy for members of Org1 within this many gates, without recursion.
fn nested_policy(gates: usize) -> Vec<u8> {
    let mut rule = vec![0x08, 0];
    for _ in 0..gates {
        rule = field(0x12, &[vec![0x08, 1], field(0x12, &rule)].concat());
    }
    let principals = parse_policy("OR('Org1MSP.member')").unwrap().identities;
    [
        field(0x12, &rule),
        field(0x1a, &principals[0].encode_to_vec()),
    ]
    .concat()
}

#[test]
fn policies_of_keys_as_deep_as_fabric_takes_them() {
    let fixture = &*FIXTURE;
    let [org1, org2] = &fixture.members.peers;
    let write = |endorser| {
        let draft = Draft::put(&fixture.members, "assets", "deep");
        draft.endorsed_by(&[endorser]).build()
    };
    for gates in [0, 1, 60, 4998] {
        let mut peer = fixture.peer.clone();
        let policy = metadata(&nested_policy(gates));
        peer.memory.set("assets", "deep", b"1", Some(policy));
        assert_eq!(code(&peer, write(org1)).unwrap(), Valid, "{gates}");
        let other = code(&peer, write(org2)).unwrap();
        assert_eq!(other, EndorsementPolicyFailure, "{gates}");
    }
    let with_gates = |gates| {
        let mut peer = fixture.peer.clone();
        let policy = metadata(&nested_policy(gates));
        peer.memory.set("assets", "deep", b"1", Some(policy));
        code(&peer, write(org1))
    };
    // It parses, but not any more as a part of what Fabric makes of it.
    assert_eq!(with_gates(4999).unwrap(), EndorsementPolicyFailure);
    for gates in [5000, 50_000] {
        let error = with_gates(gates).unwrap_err();
        assert!(matches!(error, ValidationError::Undecidable(_)), "{error}");
    }
}

#[test]
fn ten_thousand_writes() {
    let fixture = &*FIXTURE;
    let keys: Vec<String> = (0..10_000).map(|number| format!("k{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let parts = results([namespace("assets", &keys, &[])]);
    let draft = Draft::new(&fixture.members, "assets", parts).build();
    let verdicts = fixture.peer.validate(&block(NUMBER, [draft])).unwrap();
    let transaction = verdicts[0].transaction.as_ref().unwrap();
    assert_eq!(transaction.rwset.namespaces[0].writes.len(), 10_000);
}

/// What Go takes for unknown fields does not spoil a message.
#[test]
fn fields_of_other_types_are_passed_over() {
    let fixture = &*FIXTURE;
    let deep_group = [vec![0x7b; 3000], vec![0x7c; 3000]].concat();
    for junk in [&[0x10, 5][..], &deep_group] {
        let mut draft = Draft::put(&fixture.members, "assets", "a");
        let part = results([namespace("assets", &["a"], &[])]);
        draft.results = [&part.encode_to_vec(), junk].concat().into();
        let verdicts = fixture.peer.validate(&block(NUMBER, [draft.build()]));
        let verdict = verdicts.unwrap().remove(0);
        assert_eq!(verdict.code, Valid, "{}", verdict.reason);
        let rwset = verdict.transaction.unwrap().rwset;
        assert_eq!(rwset.namespaces[0].writes[0].key, "a");
    }
}

#[test]
fn each_namespace_is_asked_for_its_own_policy() {
    let fixture = &*FIXTURE;
    let [org1, org2] = &fixture.members.peers;
    let draft =
        |chaincode: &str, results: TxReadWriteSet| Draft::new(&fixture.members, chaincode, results);
    let both = || {
        results([
            namespace("vault", &["a"], &[]),
            namespace("assets", &["a"], &[]),
        ])
    };
    let verdict = |draft: Draft<'_>| code(&fixture.peer, draft.build()).unwrap();
    // vault needs a peer of one organisation, assets of both
    let vault = || results([namespace("vault", &["a"], &[])]);
    assert_eq!(verdict(draft("vault", vault()).endorsed_by(&[org1])), Valid);
    assert_eq!(
        verdict(draft("vault", both()).endorsed_by(&[org1])),
        EndorsementPolicyFailure
    );
    assert_eq!(verdict(draft("vault", both())), Valid);
    // the invoked chaincode counts even if it writes nothing
    assert_eq!(
        verdict(draft("assets", vault()).endorsed_by(&[org1])),
        EndorsementPolicyFailure
    );
    for (collection, endorser, code) in [
        ("shared", org1, Valid),
        ("org1only", org1, EndorsementPolicyFailure),
        ("_implicit_org_Org1MSP", org1, Valid),
        ("_implicit_org_Org1MSP", org2, EndorsementPolicyFailure),
    ] {
        let draft = draft("vault", private("vault", collection, "k"));
        assert_eq!(
            verdict(draft.endorsed_by(&[endorser])),
            code,
            "{collection}"
        );
    }
    let draft = draft("vault", private("vault", "org1only", "k"));
    assert_eq!(verdict(draft), Valid);
}

#[test]
fn workers_make_no_difference() {
    use selvedge_validation::Options;
    let fixture = &*FIXTURE;
    let widest = fixture.blocks.iter().max_by_key(|block| {
        let data = block.data.as_ref().unwrap();
        data.data.len()
    });
    let verdicts = |workers: usize| {
        let validator = fixture.peer.validator(Options {
            workers: workers.try_into().unwrap(),
            ..Options::default()
        });
        let memory = &fixture.peer.memory;
        validator
            .validate_block(widest.unwrap(), memory, memory)
            .unwrap()
    };
    let alone = verdicts(1);
    assert!(alone.len() > 10);
    assert_eq!(alone, verdicts(3));
    assert_eq!(alone, verdicts(64));
}

#[test]
fn a_block_prepared_by_another_configuration_is_prepared_again() {
    let fixture = &*FIXTURE;
    let stale = Peer::join(&fixture.blocks[0]);
    let put = Draft::put(&fixture.members, "assets", "a").build();
    let prepared = stale
        .validator(Default::default())
        .prepare(&block(NUMBER, [put]));
    assert_eq!(prepared.number(), NUMBER);
    let memory = &fixture.peer.memory;
    let validator = fixture.peer.validator(Default::default());
    let verdicts = validator.decide(prepared, memory, memory).unwrap();
    assert_eq!(verdicts[0].code, Valid);
}

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
}

impl Mutation {
    fn any() -> impl Strategy<Value = Self> {
        let index = any::<prop::sample::Index>;
        let bytes = prop::collection::vec(any::<u8>(), 1..8);
        prop_oneof![
            (index(), 1..=u8::MAX).prop_map(|(at, bits)| Self::Flip(at, bits)),
            index().prop_map(Self::Cut),
            (index(), bytes).prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            (index(), 1usize..40).prop_map(|(at, count)| Self::Remove(at, count)),
        ]
    }

    fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if bytes.is_empty() {
            return bytes;
        }
        match self {
            Self::Flip(at, bits) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..bytes.len().min(at + count));
            }
        }
        bytes
    }
}

fn check(outcome: Result<Vec<TxVerdict>, ValidationError>, count: usize) {
    match outcome {
        Ok(verdicts) => {
            assert_eq!(verdicts.len(), count);
            for verdict in verdicts {
                let is_valid = verdict.code == Valid;
                assert_eq!(verdict.transaction.is_some(), is_valid);
                assert_ne!(verdict.code, NotValidated);
            }
        }
        Err(ValidationError::Undecidable(error)) => assert!(error.transaction < count),
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any transaction of the chain, changed anywhere.
    #[test]
    fn mutated_envelopes(
        number in any::<prop::sample::Index>(),
        position in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(Mutation::any(), 1..4),
    ) {
        let fixture = &*FIXTURE;
        let mut block = number.get(&fixture.blocks).clone();
        block.header.as_mut().unwrap().number = NUMBER;
        let data = &mut block.data.as_mut().unwrap().data;
        let position = position.index(data.len());
        for mutation in &mutations {
            data[position] = mutation.apply(&data[position]).into();
        }
        let count = data.len();
        check(fixture.peer.validate(&block), count);
    }

    /// A transaction with one layer changed and everything above it made and signed anew.
    #[test]
    fn mutated_layers(
        layer in 0..6,
        mutations in prop::collection::vec(Mutation::any(), 1..4),
        before_a_write in any::<bool>(),
    ) {
        let fixture = &*FIXTURE;
        let mut results = private("vault", "shared", "k");
        let part = namespace("assets", &["a", "b"], &[("a", b"")]);
        results.ns_rwset.push(part);
        let mut draft = Draft::new(&fixture.members, "vault", results);
        let mutate = |bytes: &Bytes| {
            let change = |bytes: Vec<u8>, mutation: &Mutation| mutation.apply(&bytes);
            Bytes::from(mutations.iter().fold(bytes.to_vec(), change))
        };
        let envelope = selvedge_protos::envelope::OpenedEnvelope::decode(draft.build()).unwrap();
        let transaction = selvedge_protos::protos::Transaction::decode(envelope.data.clone());
        let payload = transaction.unwrap().actions[0].payload.clone();
        let action =
            selvedge_protos::protos::ChaincodeActionPayload::decode(payload.clone()).unwrap();
        let response = action.action.unwrap().proposal_response_payload;
        let extension =
            selvedge_protos::protos::ProposalResponsePayload::decode(response.clone())
                .unwrap()
                .extension;
        match layer {
            0 => draft.results = mutate(&draft.results),
            1 => draft.chaincode_action = Some(mutate(&extension)),
            2 => draft.response_payload = Some(mutate(&response)),
            3 => draft.action_payload = Some(mutate(&payload)),
            4 => draft.transaction = Some(mutate(&envelope.data)),
            _ => {
                let header = envelope.channel_header.encode_to_vec();
                draft.channel_header = Some(mutate(&header.into()));
            }
        }
        let mut transactions = vec![draft.build()];
        if before_a_write {
            transactions.push(Draft::put(&fixture.members, "assets", "a").build());
        }
        let count = transactions.len();
        check(fixture.peer.validate(&block(NUMBER, transactions)), count);
    }

    #[test]
    fn junk_in_the_definitions(
        key in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(Mutation::any(), 1..4),
    ) {
        let fixture = &*FIXTURE;
        let mut peer = fixture.peer.clone();
        let keys = peer.memory.keys("_lifecycle");
        let key = key.get(&keys);
        let value = selvedge_validation::StateReader::value(&peer.memory, "_lifecycle", key);
        let mut value = value.unwrap().unwrap().to_vec();
        for mutation in &mutations {
            value = mutation.apply(&value);
        }
        peer.memory.set("_lifecycle", key, &value, None);
        let private = Draft::new(&fixture.members, "vault", private("vault", "shared", "k"));
        let transactions = [
            Draft::put(&fixture.members, "assets", "a").build(),
            private.build(),
        ];
        check(peer.validate(&block(NUMBER, transactions)), 2);
    }
}
