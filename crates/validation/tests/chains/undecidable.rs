//! Inputs that stop or kill a Go peer: no verdict, unless an operator states one.

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::common::{ConfigEnvelope, HeaderType};
use selvedge_protos::lifecycle::{ChaincodeValidationInfo, StateData, StateMetadata, state_data};
use selvedge_protos::protos::TxValidationCode::{self, *};
use selvedge_protos::protos::{
    ChaincodeActionPayload, CollectionConfig, CollectionConfigPackage, StaticCollectionConfig,
    Transaction, collection_config,
};
use selvedge_validation::{Options, Reason, Undecidable, ValidationError};

use crate::draft::{
    Draft, Members, block, collection, metadata, namespace, private, results, sign,
};
use crate::support::{Chain, Peer};

/// The block that the tests make.
const NUMBER: u64 = 110;

struct Fixture {
    peer: Peer,
    members: Members,
}

impl Fixture {
    fn new() -> Self {
        Self {
            peer: Peer::at(&Chain::read("raft"), NUMBER),
            members: Members::read(),
        }
    }

    fn codes(&self, drafts: &[Bytes]) -> Vec<TxValidationCode> {
        self.stated(drafts, &[]).unwrap()
    }

    /// The verdicts, if these are stated.
    fn stated(
        &self,
        drafts: &[Bytes],
        stated: &[(usize, TxValidationCode)],
    ) -> Result<Vec<TxValidationCode>, Undecidable> {
        let stated = stated.iter();
        let validator = self.peer.validator(Options {
            stated: stated
                .map(|(position, code)| ((NUMBER, *position), *code))
                .collect(),
            ..Options::default()
        });
        let block = block(NUMBER, drafts.iter().cloned());
        let memory = &self.peer.memory;
        match validator.validate_block(&block, memory, memory) {
            Ok(verdicts) => Ok(verdicts.iter().map(|verdict| verdict.code).collect()),
            Err(ValidationError::Undecidable(error)) => {
                assert_eq!(error.block, NUMBER);
                Err(error)
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn undecidable(&self, drafts: &[Bytes]) -> (usize, Reason) {
        let error = self.stated(drafts, &[]).unwrap_err();
        (error.transaction, error.reason)
    }

    fn put(&self, key: &str) -> Bytes {
        Draft::put(&self.members, "assets", key).build()
    }
}

#[test]
fn an_unreadable_chaincode_action_before_a_write() {
    let fixture = Fixture::new();
    let mut draft = Draft::put(&fixture.members, "assets", "a");
    draft.chaincode_action = Some(Bytes::from_static(b"\xff"));
    let (junk, write) = (draft.build(), fixture.put("b"));
    // Alone, last, or before a transaction that writes nothing, it is just invalid.
    assert_eq!(
        fixture.codes(std::slice::from_ref(&junk)),
        [BadResponsePayload]
    );
    assert_eq!(
        fixture.codes(&[write.clone(), junk.clone()]),
        [Valid, BadResponsePayload]
    );
    let reads = Draft::new(&fixture.members, "assets", results([])).build();
    assert_eq!(
        fixture.codes(&[junk.clone(), reads]),
        [BadResponsePayload, Valid]
    );
    let block = [junk, write];
    let (position, reason) = fixture.undecidable(&block);
    assert_eq!(position, 0);
    assert!(
        matches!(reason, Reason::NotSearchable { waiting: 1, .. }),
        "{reason}"
    );
    let codes = fixture.stated(&block, &[(0, BadResponsePayload)]);
    assert_eq!(codes.unwrap(), [BadResponsePayload, Valid]);
    // A statement on the one that waits does as well.
    let codes = fixture.stated(&block, &[(1, InvalidOtherReason)]);
    assert_eq!(codes.unwrap(), [BadResponsePayload, InvalidOtherReason]);
    let error = fixture.stated(&block, &[(0, Valid)]).unwrap_err();
    assert_eq!(error.reason, Reason::StatedValid);
}

#[test]
fn transactions_that_cannot_be_searched() {
    let fixture = Fixture::new();
    let with_data = |data: Bytes| {
        let mut draft = Draft::put(&fixture.members, "assets", "a");
        draft.transaction = Some(data);
        draft.build()
    };
    let envelope_junk = Bytes::from_static(b"\xff");
    let transaction_junk = with_data(Bytes::from_static(b"\xff"));
    for (junk, code) in [
        (envelope_junk, InvalidOtherReason),
        (transaction_junk, InvalidEndorserTransaction),
    ] {
        assert_eq!(fixture.codes(std::slice::from_ref(&junk)), [code]);
        let (position, reason) = fixture.undecidable(&[junk, fixture.put("b")]);
        assert_eq!(position, 0);
        assert!(matches!(reason, Reason::NotSearchable { .. }), "{reason}");
    }
    let no_action = with_data(Transaction::default().encode_to_vec().into());
    let reads = Draft::new(&fixture.members, "assets", results([])).build();
    let codes = fixture.codes(std::slice::from_ref(&no_action));
    assert_eq!(codes, [InvalidEndorserTransaction]);
    let (position, reason) = fixture.undecidable(&[no_action, reads]);
    assert_eq!(position, 0);
    assert!(
        matches!(reason, Reason::CrashesSearch { checked: 1, .. }),
        "{reason}"
    );
}

#[test]
fn an_action_without_an_endorsed_part() {
    let fixture = Fixture::new();
    let mut draft = Draft::put(&fixture.members, "assets", "a");
    let payload = ChaincodeActionPayload {
        chaincode_proposal_payload: Bytes::from_static(b"proposal"),
        action: None,
    };
    draft.action_payload = Some(payload.encode_to_vec().into());
    assert_eq!(
        fixture.undecidable(&[draft.build()]),
        (0, Reason::NoEndorsedAction)
    );
    // Where the check does not come so far, the peer survives.
    draft.signs_wrongly = true;
    assert_eq!(fixture.codes(&[draft.build()]), [BadCreatorSignature]);
}

#[test]
fn a_payload_without_a_header() {
    let fixture = Fixture::new();
    let bare = sign(
        &fixture.members.client,
        None,
        Bytes::from_static(b"data"),
        false,
    );
    let block = [fixture.put("a"), bare];
    assert_eq!(fixture.undecidable(&block), (1, Reason::NoHeader));
    let codes = fixture.stated(&block, &[(1, BadCommonHeader)]);
    assert_eq!(codes.unwrap(), [Valid, BadCommonHeader]);
}

#[test]
fn a_junk_policy_of_a_key() {
    let mut fixture = Fixture::new();
    fixture
        .peer
        .memory
        .set("assets", "a", b"1", Some(metadata(b"junk")));
    let block = [fixture.put("b"), fixture.put("a")];
    let (position, reason) = fixture.undecidable(&block);
    assert_eq!(position, 1);
    assert!(
        matches!(&reason, Reason::JunkKeyPolicy { key, .. } if key.contains("\"a\"")),
        "{reason}"
    );
    let codes = fixture.stated(&block, &[(1, Valid)]);
    assert_eq!(codes.unwrap(), [Valid, Valid]);

    let junk = Bytes::from_static(b"\xff");
    fixture.peer.memory.set("assets", "a", b"1", Some(junk));
    let (_, reason) = fixture.undecidable(&block);
    assert!(matches!(reason, Reason::JunkMetadata { .. }), "{reason}");
}

#[test]
fn hashed_writes_to_a_collection_that_is_not_defined() {
    let fixture = Fixture::new();
    let draft = |chaincode: &str, name: &str| {
        Draft::new(&fixture.members, chaincode, private(chaincode, name, "k"))
    };
    assert_eq!(fixture.codes(&[draft("vault", "shared").build()]), [Valid]);
    for (chaincode, name) in [
        ("vault", "nosuch"),
        ("vault", ""),
        ("assets", "shared"),
        ("nosuch", "shared"),
        ("nosuch", "_implicit_org_Org1MSP"),
    ] {
        let mut draft = draft(chaincode, name);
        let undefined = Reason::UndefinedCollection {
            namespace: chaincode.to_owned(),
            collection: name.to_owned(),
        };
        let expected = (0, undefined);
        assert_eq!(fixture.undecidable(&[draft.build()]), expected);
        // That it is invalid does not help.
        draft.signs_wrongly = true;
        assert_eq!(fixture.undecidable(&[draft.build()]), expected);
        let codes = fixture.stated(&[draft.build()], &[(0, BadCreatorSignature)]);
        assert_eq!(codes.unwrap(), [BadCreatorSignature]);
        draft.header_type = HeaderType::Message;
        assert_eq!(fixture.codes(&[draft.build()]), [BadCommonHeader]);
    }
    // Implicit collections have a configuration, even of organisations that are not in the channel.
    let stranger = draft("vault", "_implicit_org_NoMSP").build();
    assert_eq!(fixture.codes(&[stranger]), [EndorsementPolicyFailure]);
}

#[test]
fn hashed_writes_to_a_collection_without_members() {
    let mut fixture = Fixture::new();
    let config = StaticCollectionConfig {
        name: "shared".to_owned(),
        ..StaticCollectionConfig::default()
    };
    let payload = collection_config::Payload::StaticCollectionConfig(config);
    let package = CollectionConfigPackage {
        config: vec![CollectionConfig {
            payload: Some(payload),
        }],
    };
    let value = state_bytes(package.encode_to_vec());
    let key = "namespaces/fields/vault/Collections";
    fixture.peer.memory.set("_lifecycle", key, &value, None);

    let mut draft = Draft::new(&fixture.members, "vault", private("vault", "shared", "k"));
    for signs_wrongly in [false, true] {
        draft.signs_wrongly = signs_wrongly;
        let (position, reason) = fixture.undecidable(&[fixture.put("b"), draft.build()]);
        assert_eq!(position, 1);
        assert!(
            matches!(&reason, Reason::CollectionMembers { collection, .. } if collection == "shared"),
            "{reason}"
        );
    }
    // It may stand there without writes.
    let mut part = namespace("vault", &["k"], &[]);
    part.collection_hashed_rwset = vec![collection("shared", &[], &[])];
    let draft = Draft::new(&fixture.members, "vault", results([part]));
    assert_eq!(fixture.codes(&[draft.build()]), [Valid]);
}

#[test]
fn a_change_of_policy_that_is_never_judged() {
    let fixture = Fixture::new();
    let change = || {
        let part = namespace("assets", &[], &[("a", b"")]);
        Draft::new(&fixture.members, "assets", results([part]))
    };
    let write = fixture.put("a");
    let mut unsigned = change();
    unsigned.signs_wrongly = true;
    let block = [unsigned.build(), write.clone()];
    let (position, reason) = fixture.undecidable(&block);
    assert_eq!(position, 0);
    let never = Reason::NeverJudged {
        namespace: "assets".to_owned(),
        waiting: 1,
    };
    assert_eq!(reason, never);
    let codes = fixture.stated(&block, &[(0, BadCreatorSignature)]);
    assert_eq!(codes.unwrap(), [BadCreatorSignature, Valid]);

    // The search for changes does not ask what the headers say.
    let mut message = change();
    message.header_type = HeaderType::Message;
    let (_, reason) = fixture.undecidable(&[message.build(), write.clone()]);
    assert_eq!(reason, never);
    let mut headless = change();
    headless.channel_header = Some(Bytes::from_static(b"\xff"));
    let (_, reason) = fixture.undecidable(&[headless.build(), write.clone()]);
    assert_eq!(reason, never);
    let codes = fixture.codes(&[headless.build(), fixture.put("b")]);
    assert_eq!(codes, [BadCommonHeader, Valid]);

    // The same change in an earlier block, and again in this one.
    let again = change();
    let mut peer = fixture.peer.clone();
    peer.memory.txids.insert(again.txid());
    let later = Fixture {
        peer,
        members: Members::read(),
    };
    let (_, reason) = later.undecidable(&[again.build(), write.clone()]);
    assert_eq!(reason, never);

    // Invalid in one namespace, and it is by chance which of the two is looked at first.
    let parts = [
        namespace("assets", &[], &[("a", b"")]),
        namespace("nosuch", &["b"], &[]),
    ];
    let two = Draft::new(&fixture.members, "assets", results(parts)).build();
    assert_eq!(
        fixture.codes(std::slice::from_ref(&two)),
        [InvalidChaincode]
    );
    let (_, reason) = fixture.undecidable(&[two, write.clone()]);
    assert_eq!(reason, never);

    // Judged, be it valid or not.
    let judged = change().build();
    assert_eq!(
        fixture.codes(&[judged, write.clone()]),
        [Valid, EndorsementPolicyFailure]
    );
    let insufficient = change().endorsed_by(&[]).build();
    assert_eq!(
        fixture.codes(&[insufficient, write]),
        [EndorsementPolicyFailure, Valid]
    );
}

#[test]
fn private_keys_depend_on_each_other_too() {
    let fixture = Fixture::new();
    let draft = |keys: &[&str], policies: &[(&str, &[u8])]| {
        let mut part = namespace("vault", &[], &[]);
        part.collection_hashed_rwset = vec![collection("shared", keys, policies)];
        Draft::new(&fixture.members, "vault", results([part])).build()
    };
    assert_eq!(
        fixture.codes(&[
            draft(&[], &[("a", b"")]),
            draft(&["a"], &[]),
            draft(&["b"], &[])
        ]),
        [Valid, EndorsementPolicyFailure, Valid]
    );
}

fn state_bytes(bytes: Vec<u8>) -> Vec<u8> {
    let data = StateData {
        r#type: Some(state_data::Type::Bytes(bytes.into())),
    };
    data.encode_to_vec()
}

#[test]
fn definitions_that_cannot_be_used() {
    let fixture = Fixture::new();
    let with = |key: &str, value: &[u8]| {
        let mut peer = fixture.peer.clone();
        let (namespace, key) = match key.strip_prefix("lscc/") {
            Some(key) => ("lscc", key.to_owned()),
            None => ("_lifecycle", format!("namespaces/{key}")),
        };
        peer.memory.set(namespace, &key, value, None);
        let members = Members::read();
        Fixture { peer, members }
    };
    let info = |plugin: &str, parameter: &'static [u8]| {
        let info = ChaincodeValidationInfo {
            validation_plugin: plugin.to_owned(),
            validation_parameter: Bytes::from_static(parameter),
        };
        state_bytes(info.encode_to_vec())
    };
    let put =
        |fixture: &Fixture, chaincode: &str| Draft::put(&fixture.members, chaincode, "a").build();
    let other_type = StateMetadata {
        datatype: "ChaincodeParameters".to_owned(),
        fields: Vec::new(),
    };
    for (key, value) in [
        ("metadata/assets", &other_type.encode_to_vec()[..]),
        ("metadata/assets", b"\xff"),
        ("fields/assets/Sequence", &state_bytes(vec![1])),
        ("fields/assets/Sequence", b"\xff"),
        ("fields/assets/ValidationInfo", &state_bytes(vec![0xff])),
        ("fields/assets/EndorsementInfo", &state_bytes(vec![0xff])),
        ("fields/assets/Collections", &state_bytes(vec![0xff])),
        ("fields/assets/Collections", b"\x08\x05"),
    ] {
        let fixture = with(key, value);
        let (_, reason) = fixture.undecidable(&[put(&fixture, "assets")]);
        assert!(
            matches!(reason, Reason::Definition { .. }),
            "{key}: {reason}"
        );
    }
    let fixture = with("lscc/nosuch", b"anything");
    let legacy = Reason::LegacyChaincode {
        namespace: "nosuch".to_owned(),
    };
    assert_eq!(fixture.undecidable(&[put(&fixture, "nosuch")]), (0, legacy));
    let validation = "fields/assets/ValidationInfo";
    let fixture = with(validation, &info("vscc", b"\x12\x08/Channel"));
    let root = Reason::RootAsPolicy {
        title: "policy of chaincode assets".to_owned(),
        path: "/Channel".to_owned(),
    };
    assert_eq!(fixture.undecidable(&[put(&fixture, "assets")]), (0, root));
    let fixture = with(validation, &info("custom", b"\x12\x01/"));
    let (_, reason) = fixture.undecidable(&[put(&fixture, "assets")]);
    assert!(matches!(reason, Reason::Plugin { .. }), "{reason}");
    for (value, code) in [
        (info("", b"\x12\x01/"), InvalidChaincode),
        (info("vscc", b""), InvalidChaincode),
        (info("vscc", b"\xff"), EndorsementPolicyFailure),
        (info("vscc", b"\x12\x01/"), EndorsementPolicyFailure),
    ] {
        let fixture = with(validation, &value);
        assert_eq!(fixture.codes(&[put(&fixture, "assets")]), [code]);
    }
}

/// A recorded block with a config update, and a peer that is to validate it.
fn config_update() -> (Peer, selvedge_protos::common::Block) {
    let chain = Chain::read("raft");
    let (block, _) = chain.blocks().nth(83).unwrap();
    (Peer::at(&chain, 83), block)
}

#[test]
fn a_config_transaction_that_has_company() {
    let (peer, mut update) = config_update();
    let members = Members::read();
    assert!(peer.validate(&update).is_ok());
    let put = Draft::put(&members, "assets", "a").build();
    update.data.as_mut().unwrap().data.push(put);
    let error = peer.validate(&update).unwrap_err();
    let ValidationError::Undecidable(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.reason, Reason::ConfigurationNotAlone);
}

#[test]
fn a_configuration_that_does_not_follow() {
    let (peer, update) = config_update();
    let envelope = update.data.as_ref().unwrap().data[0].clone();
    let opened = selvedge_protos::envelope::OpenedEnvelope::decode(envelope).unwrap();
    let original = ConfigEnvelope::decode(opened.data.clone()).unwrap();
    let members = Members::read();
    let signed = |data: Bytes| {
        let signature_header = selvedge_protos::common::SignatureHeader {
            creator: members.client.serialized().clone(),
            nonce: Bytes::from_static(b"nonce"),
        };
        let header = selvedge_protos::common::Header {
            channel_header: opened.channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        let envelope = sign(&members.client, Some(header), data, false);
        peer.validate(&block(83, [envelope]))
    };
    assert!(signed(original.encode_to_vec().into()).is_ok());
    let without_data = signed(Bytes::new()).unwrap();
    assert_eq!(without_data[0].code, InvalidConfigTransaction);

    let mut skipped = original.clone();
    skipped.config.as_mut().unwrap().sequence += 1;
    let mut other = original.clone();
    let root = other.config.as_mut().unwrap().channel_group.as_mut();
    root.unwrap().mod_policy = "Readers".to_owned();
    let mut bare = original;
    bare.last_update = None;
    for data in [
        skipped.encode_to_vec(),
        other.encode_to_vec(),
        bare.encode_to_vec(),
        vec![0xff],
    ] {
        let error = signed(data.into()).unwrap_err();
        let ValidationError::Undecidable(error) = error else {
            panic!("{error}");
        };
        assert!(
            matches!(error.reason, Reason::Configuration(_)),
            "{}",
            error.reason
        );
    }
}
