//! Every recorded message of a real network: decodes, its signatures and PKI-IDs check out, and it becomes
//! what its type says.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use selvedge_gossip::context::LocalPeer;
use selvedge_gossip::crypto::Identity;
use selvedge_gossip::message::{
    Envelope, Message, MessageError, PullStep, Verification, decode, own_leadership, verify,
};
use selvedge_gossip::types::{ChannelId, Endpoint, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::GossipMessage;
use selvedge_protos::gossip::gossip_message::Content;
use serde_json::Value;
use support::recorded::{
    CHANNEL, Known, RecordedCrypto, check_signature, json, peers, pki_id, read, transcript,
};

fn index() -> Vec<Value> {
    json("index.json").as_array().unwrap().clone()
}

fn message_of(frame: &Bytes) -> GossipMessage {
    let envelope = Envelope::from_frame(frame.clone()).unwrap();
    GossipMessage::decode(envelope.payload().clone()).unwrap()
}

/// What the type of a recording must become.
fn fits(kind: &str, message: &Message) -> bool {
    use PullStep::{Digest, Hello, Request, Update};
    match (kind, message) {
        ("ack", Message::Ack { error, .. }) => error.is_empty(),
        ("alive", Message::Alive(_))
        | ("data-msg", Message::Block(..))
        | ("leadership-declaration" | "leadership-proposal", Message::Leadership(..))
        | ("membership-request", Message::MembershipRequest { .. })
        | ("membership-response", Message::MembershipResponse { .. })
        | ("private-data", Message::PrivateData(..))
        | ("private-req", Message::PrivateRequest(..))
        | ("private-res", Message::PrivateResponse(..))
        | ("state-info-pull-request", Message::StateInfoPullRequest { .. })
        | ("state-info-snapshot", Message::StateInfoSnapshot(..))
        | ("state-request", Message::StateRequest { .. })
        | ("state-response", Message::StateResponse { .. }) => true,
        ("state-info", Message::StateInfo(info)) => !info.left_channel,
        ("state-info-left", Message::StateInfo(info)) => info.left_channel,
        (_, Message::BlockPull(_, pull)) => matches!(
            (kind, &pull.step),
            ("hello-block", Hello)
                | ("digest-block", Digest(_))
                | ("data-request-block", Request(_))
                | ("data-update-block", Update(_))
        ),
        (_, Message::IdentityPull(pull)) => matches!(
            (kind, &pull.step),
            ("hello-identity", Hello)
                | ("digest-identity", Digest(_))
                | ("data-request-identity", Request(_))
                | ("data-update-identity", Update(_))
        ),
        _ => false,
    }
}

/// The authors of all signed parts, in order.
fn authors(message: &Message) -> Vec<PkiId> {
    let id = |identity: &Identity| identity.pki_id();
    match message {
        Message::Alive(alive) => vec![id(alive.author())],
        Message::MembershipRequest { asker, .. } => vec![id(asker.author())],
        Message::MembershipResponse { alive, dead, .. } => alive
            .iter()
            .chain(dead)
            .map(|alive| id(alive.author()))
            .collect(),
        Message::StateInfo(info) => vec![id(info.author())],
        Message::StateInfoSnapshot(_, infos) => {
            infos.iter().map(|info| id(info.author())).collect()
        }
        Message::Leadership(_, leadership) => vec![id(leadership.author())],
        Message::IdentityPull(pull) => match &pull.step {
            PullStep::Update(identities) => identities
                .iter()
                .map(|identity| id(identity.author()))
                .collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

#[test]
fn every_message_verifies_and_becomes_what_its_type_says() {
    let crypto = RecordedCrypto::new();
    let known = Known::all(&crypto);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for entry in index() {
        let file = entry["file"].as_str().unwrap();
        let kind = entry["type"].as_str().unwrap();
        let frame = Bytes::from(read(file));
        *kinds.entry(kind.to_owned()).or_default() += 1;
        assert_eq!(
            hex::encode(selvedge_protos::sha256(&frame)),
            entry["sha256"].as_str().unwrap()
        );
        // Fabric's encoding is canonical, so envelopes survive being taken apart.
        let envelope = Envelope::from_frame(frame.clone()).unwrap();
        assert_eq!(envelope.proto().encode_to_vec(), frame, "{file}");
        assert_eq!(
            message_of(&frame).encode_to_vec(),
            *envelope.payload(),
            "{file}"
        );

        let received = decode(frame.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
        let before = *crypto.checks.lock().unwrap();
        let verified = verify(received, &crypto, &known);
        if kind.starts_with("conn-establish") {
            assert!(
                matches!(verified, Err(MessageError::OutOfPlace { .. })),
                "{file}"
            );
            check_handshake(&frame, &entry);
            continue;
        }
        let Verification { message, refused } =
            verified.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(refused.is_empty(), "{file}: {refused:?}");
        assert!(fits(kind, &message), "{file}: {message:?}");

        let signatures = entry["signatures"].as_array().unwrap();
        let by: Vec<PkiId> = signatures
            .iter()
            .filter(|signature| !signature["where"].as_str().unwrap().contains("secret"))
            .map(|signature| pki_id(&signature["pkiId"]))
            .collect();
        assert_eq!(authors(&message), by, "{file}");
        let checks = *crypto.checks.lock().unwrap() - before;
        assert_eq!(
            checks,
            signatures.len(),
            "{file}: every signature is checked once"
        );
        check_channel(&message, &entry, file);
    }
    assert_eq!(kinds.len(), 26, "{kinds:?}");
}

fn check_handshake(frame: &Bytes, entry: &Value) {
    let Some(Content::Conn(conn)) = message_of(frame).content else {
        panic!("{entry}");
    };
    let crypto = RecordedCrypto::new();
    let identity = Identity::check(&conn.identity, &crypto).unwrap();
    assert_eq!(conn.pki_id, identity.pki_id().as_bytes());
    assert_eq!(identity.pki_id(), pki_id(&entry["sender"]["pkiId"]));
    let envelope = Envelope::from_frame(frame.clone()).unwrap();
    let serialized = selvedge_protos::msp::SerializedIdentity::decode(conn.identity).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&serialized.id_bytes).unwrap();
    check_signature(&pem.contents, envelope.payload(), envelope.signature()).unwrap();
}

fn check_channel(message: &Message, entry: &Value, file: &str) {
    let channel = ChannelId::from(CHANNEL);
    match message {
        Message::StateInfo(info) => {
            assert_eq!(info.channel_mac, channel.mac(&info.pki_id), "{file}");
        }
        Message::StateInfoPullRequest { channel_mac } => {
            assert_eq!(
                *channel_mac,
                channel.mac(&pki_id(&entry["sender"]["pkiId"])),
                "{file}"
            );
        }
        Message::Block(named, _)
        | Message::BlockPull(named, _)
        | Message::StateInfoSnapshot(named, _)
        | Message::StateRequest { channel: named, .. }
        | Message::StateResponse { channel: named, .. }
        | Message::Leadership(named, _)
        | Message::PrivateData(named, ..)
        | Message::PrivateRequest(named, ..)
        | Message::PrivateResponse(named, ..) => assert_eq!(*named, channel, "{file}"),
        _ => assert!(entry["channel"].is_null(), "{file}"),
    }
}

#[test]
fn leadership_messages_are_built_as_they_were_recorded() {
    let crypto = RecordedCrypto::new();
    let known = Known::all(&crypto);
    let peers = peers(&crypto);
    let mut built = 0;
    for entry in index() {
        if !entry["type"].as_str().unwrap().starts_with("leadership") {
            continue;
        }
        let frame = Bytes::from(read(entry["file"].as_str().unwrap()));
        let received = decode(frame.clone()).unwrap();
        let Message::Leadership(channel, said) = verify(received, &crypto, &known).unwrap().message
        else {
            panic!("{entry}");
        };
        let peer = peers
            .iter()
            .find(|peer| peer.identity.pki_id() == said.pki_id)
            .unwrap();
        let me = LocalPeer {
            identity: peer.identity.clone(),
            internal_endpoint: Endpoint::from(peer.internal_endpoint.as_str()),
            external_endpoint: Endpoint::from(peer.endpoint.as_str()),
            metadata: Bytes::new(),
            started: Instant::now(),
            incarnation: 1,
        };
        let signer = peer.signer();
        let again = own_leadership(
            &me,
            &channel,
            said.time,
            said.is_declaration,
            signer.as_ref(),
        )
        .unwrap();
        let recorded = Envelope::from_frame(frame).unwrap();
        assert_eq!(again.envelope().payload(), recorded.payload(), "{entry}");
        // Signatures differ each time; ours is as good.
        let received = decode(again.envelope().frame().clone()).unwrap();
        assert!(verify(received, &crypto, &known).is_ok(), "{entry}");
        built += 1;
    }
    assert_eq!(built, 11);
}

#[test]
fn a_message_whose_author_is_unknown_is_refused_unless_it_brings_the_identity() {
    let crypto = RecordedCrypto::new();
    let nobody = Known::default();
    for entry in index() {
        let kind = entry["type"].as_str().unwrap();
        let frame = Bytes::from(read(entry["file"].as_str().unwrap()));
        let outcome = verify(decode(frame).unwrap(), &crypto, &nobody);
        let brings_identity = entry["variant"]
            .as_str()
            .is_some_and(|variant| variant.starts_with("identity"));
        match kind {
            "alive" => assert_eq!(outcome.is_ok(), brings_identity, "{entry}"),
            "state-info" | "state-info-left" | "leadership-declaration" | "leadership-proposal" => {
                assert!(
                    matches!(outcome, Err(MessageError::UnknownAuthor { .. })),
                    "{entry}"
                );
            }
            "data-update-identity" => assert!(outcome.unwrap().refused.is_empty(), "{entry}"),
            "state-info-snapshot" => {
                let Verification { message, refused } = outcome.unwrap();
                assert!(
                    authors(&message).is_empty() && !refused.is_empty(),
                    "{entry}"
                );
            }
            _ => {}
        }
    }
}

#[test]
fn a_changed_payload_signature_or_secret_is_refused() {
    let crypto = RecordedCrypto::new();
    let known = Known::all(&crypto);
    let mut tried = 0;
    for entry in index() {
        if !entry["signed"].as_bool().unwrap()
            || entry["type"].as_str().unwrap().starts_with("conn")
        {
            continue;
        }
        let frame = Bytes::from(read(entry["file"].as_str().unwrap()));
        let original = Envelope::from_frame(frame).unwrap().proto().clone();
        let refused = |envelope: selvedge_protos::gossip::Envelope| {
            let frame = Bytes::from(envelope.encode_to_vec());
            match decode(frame) {
                Ok(received) => verify(received, &crypto, &known).is_err(),
                Err(_) => true,
            }
        };
        assert!(!refused(original.clone()));

        let mut unsigned = original.clone();
        unsigned.signature = Bytes::new();
        assert!(refused(unsigned), "{entry}");

        let mut changed = original.clone();
        let mut payload = changed.payload.to_vec();
        *payload.last_mut().unwrap() ^= 1;
        changed.payload = payload.into();
        assert!(refused(changed), "{entry}");

        if let Some(secret) = &original.secret_envelope {
            let mut forged = original.clone();
            let mut secret = secret.clone();
            let mut payload = secret.payload.to_vec();
            *payload.last_mut().unwrap() ^= 1;
            secret.payload = payload.into();
            forged.secret_envelope = Some(secret);
            assert!(refused(forged), "{entry}");
        }
        tried += 1;
    }
    assert!(tried > 30, "{tried}");
}

#[test]
fn a_wrong_tag_is_refused() {
    let untagged = ["ack", "private-data", "private-req", "private-res"];
    for entry in index() {
        let kind = entry["type"].as_str().unwrap();
        if untagged.contains(&kind) || kind.starts_with("conn") {
            continue;
        }
        let frame = Bytes::from(read(entry["file"].as_str().unwrap()));
        let legal = message_of(&frame).tag;
        for tag in (0..=6).filter(|tag| *tag != legal) {
            let mut message = message_of(&frame);
            message.tag = tag;
            let envelope = Envelope::unsigned(&message);
            assert!(
                matches!(
                    decode(envelope.frame().clone()),
                    Err(MessageError::WrongTag { .. })
                ),
                "{entry}"
            );
        }
    }
}

#[test]
fn conversations_verify_with_what_handshakes_and_messages_reveal() {
    for name in ["transcript", "transcript-crossorg", "transcript-catchup"] {
        let crypto = RecordedCrypto::new();
        let known = Known::all(&crypto);
        let (_, entries) = transcript(name);
        for entry in &entries {
            let received = decode(entry.frame.clone()).unwrap();
            if entry.kind.starts_with("conn-establish") {
                continue;
            }
            let Verification { message, refused } = verify(received, &crypto, &known).unwrap();
            assert!(refused.is_empty());
            assert!(fits(&entry.kind, &message), "{}: {message:?}", entry.kind);
        }
        assert!(entries.len() > 100);
    }
}
