//! Peers that lie, break or flood: what they send has no effect on those that are honest.
//!
//! Arbitrary sequences of events are the fuzz target `gossip_core` (`fuzz/`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_gossip::counters::DropReason;
use selvedge_gossip::crypto::{Crypto, Identity, IdentityFacts, IdentitySource, Refusal};
use selvedge_gossip::event::{ChannelSetup, Event, FrameKind};
use selvedge_gossip::message::{
    Envelope, Message, MessageError, PullStep, decode, gossip_message, verify,
};
use selvedge_gossip::types::{ChannelId, OrgId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    AliveMessage, Chaincode, DataDigest, DataMessage, DataRequest, DataUpdate, Empty, GossipHello,
    GossipMessage, LeadershipMessage, Member, MembershipResponse, Payload, PeerIdentity, PeerTime,
    Properties, PullMsgType, RemotePvtDataRequest, RemoteStateRequest, RemoteStateResponse,
    StateInfo, StateInfoPullRequest, StateInfoSnapshot,
};
use selvedge_protos::identity::pki_id;
use support::keys::{HashCrypto, identity, serialized, signer};
use support::network::{Network, peers};
use support::recorded::{Known, RecordedCrypto, json, read};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const CHANNEL: &str = "mychannel";

/// Knows some, and counts the identities and signatures that are checked.
#[derive(Default)]
struct Counting {
    known: BTreeMap<PkiId, Identity>,
    identities: AtomicUsize,
    signatures: AtomicUsize,
}

impl Counting {
    fn knows(peers: &[Identity]) -> Self {
        let known = peers.iter().map(|peer| (peer.pki_id(), peer.clone()));
        Self {
            known: known.collect(),
            ..Self::default()
        }
    }

    /// How many identities and signatures were checked.
    fn checked(&self) -> (usize, usize) {
        let counters = [&self.identities, &self.signatures];
        let [identities, signatures] = counters.map(|it| it.load(Ordering::Relaxed));
        (identities, signatures)
    }
}

impl Crypto for Counting {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        self.identities.fetch_add(1, Ordering::Relaxed);
        HashCrypto.validate(serialized)
    }

    fn verify(&self, identity: &Identity, message: &[u8], found: &[u8]) -> Result<(), Refusal> {
        self.signatures.fetch_add(1, Ordering::Relaxed);
        HashCrypto.verify(identity, message, found)
    }
}

impl IdentitySource for Counting {
    fn identity(&self, peer: &PkiId) -> Option<Identity> {
        self.known.get(peer).cloned()
    }
}

fn recordings() -> Vec<Bytes> {
    json("index.json")
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| Bytes::from(read(entry["file"].as_str().unwrap())))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..600)) {
        let _ = decode(Bytes::from(bytes.clone()));
        let envelope = selvedge_protos::gossip::Envelope {
            payload: bytes.into(),
            ..Default::default()
        };
        let _ = decode(envelope.encode_to_vec().into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each recording, with some bytes of its payload changed, cut off or repeated.
    #[test]
    fn damaged_recordings_are_handled(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let crypto = RecordedCrypto::new();
        let known = Known::all(&crypto);
        for frame in recordings() {
            let mut envelope = Envelope::from_frame(frame).unwrap().proto().clone();
            let mut payload = envelope.payload.to_vec();
            for (place, value) in &changes {
                let place = place.index(payload.len());
                payload[place] = *value;
            }
            if truncate {
                payload.truncate(cut.index(payload.len()));
            }
            envelope.payload = payload.into();
            if let Ok(received) = decode(envelope.encode_to_vec().into()) {
                let _ = verify(received, &crypto, &known);
            }
        }
    }
}

/// An alive message of `peer` that `key` has signed.
fn alive_of(peer: &Identity, key: &Identity, sequence: u64) -> selvedge_protos::gossip::Envelope {
    alive_with(peer.serialized().clone(), key, sequence)
}

/// The same of one whose identity need not be valid.
fn alive_with(identity: Bytes, key: &Identity, sequence: u64) -> selvedge_protos::gossip::Envelope {
    let pki_id = pki_id(&identity).unwrap();
    let content = Content::AliveMsg(AliveMessage {
        membership: Some(Member {
            pki_id: Bytes::copy_from_slice(&pki_id),
            ..Member::default()
        }),
        timestamp: Some(PeerTime {
            inc_num: 0,
            seq_num: sequence,
        }),
        identity,
    });
    let message = gossip_message(Tag::Empty, None, 0, content);
    let envelope = Envelope::signed(&message, signer(key).as_ref()).unwrap();
    envelope.proto().clone()
}

/// Verifies a membership response. Returns how many are alive and dead in it, and why others are not.
fn verified_response(
    alive: Vec<selvedge_protos::gossip::Envelope>,
    dead: Vec<selvedge_protos::gossip::Envelope>,
    crypto: &Counting,
) -> (usize, usize, Vec<MessageError>) {
    let content = Content::MemRes(MembershipResponse { alive, dead });
    let message = gossip_message(Tag::Empty, None, 1, content);
    let received = decode(Envelope::unsigned(&message).frame().clone()).unwrap();
    let verified = verify(received, crypto, crypto).unwrap();
    let Message::MembershipResponse { alive, dead, .. } = verified.message else {
        panic!("another message");
    };
    (alive.len(), dead.len(), verified.refused)
}

/// A message may hold 50,000 others. Whoever fills it with forged ones costs no more than a few signatures.
#[test]
fn many_forged_messages_in_one_are_not_all_looked_at() {
    let liar = identity("Org1", "liar");
    let peer = |number: usize| identity("Org1", &format!("peer{number}"));
    let honest = |number| alive_of(&peer(number), &peer(number), 1);
    let messages: Vec<_> = (0..100)
        .map(honest)
        .chain((100..1_100).map(|number| alive_of(&peer(number), &liar, 1)))
        .chain((1_100..1_200).map(honest))
        .collect();
    let crypto = Counting::default();
    let (alive, dead, refused) = verified_response(messages.clone(), messages, &crypto);
    assert_eq!(crypto.checked().1, 100 + 512);
    assert_eq!((alive, dead), (100, 0));
    let given_up = |unread| MessageError::GivenUp { unread };
    // Of whom one was forged, no other is looked at.
    let repeated = MessageError::Repeated { unread: 512 };
    let rest = [given_up(488 + 100), given_up(1_200 - 512), repeated];
    assert_eq!(refused.len(), 512 + rest.len());
    assert_eq!(refused[512..], rest);
}

/// Nor are many invalid identities validated.
#[test]
fn many_invalid_identities_in_one_are_not_all_looked_at() {
    let liar = identity("Org1", "liar");
    let stranger = |number: usize| serialized("Org1", &format!("invalid {number}"));
    let known: Vec<_> = (0..100)
        .map(|number| identity("Org1", &format!("peer{number}")))
        .collect();
    let messages: Vec<_> = (0..1_000)
        .map(|number| alive_with(stranger(number), &liar, 1))
        .chain(known.iter().map(|peer| alive_of(peer, peer, 1)))
        .collect();
    let crypto = Counting::knows(&known);
    let (alive, _, refused) = verified_response(messages, Vec::new(), &crypto);
    assert_eq!(crypto.checked(), (64, 100));
    assert_eq!(alive, 100, "who is known is not hidden by strangers");
    assert_eq!(refused.len(), 64 + 1);
    assert_eq!(refused[64], MessageError::GivenUp { unread: 936 });
}

/// As long as there are not more authors than signatures that may be bad, forged messages hide no others.
#[test]
fn forged_messages_hide_none_of_other_authors() {
    let liar = identity("Org1", "liar");
    let peer = |number: usize| identity("Org1", &format!("peer{number}"));
    let peers: Vec<_> = (0..600).map(peer).collect();
    let (slandered, honest) = peers.split_at(500);
    let mut messages = Vec::new();
    for sequence in 0..4 {
        messages.extend(slandered.iter().map(|peer| alive_of(peer, &liar, sequence)));
    }
    messages.extend(honest.iter().map(|peer| alive_of(peer, peer, 1)));
    let crypto = Counting::knows(&peers);
    let (alive, _, refused) = verified_response(messages, Vec::new(), &crypto);
    assert_eq!(crypto.checked(), (0, 500 + 100));
    assert_eq!(alive, 100);
    assert_eq!(refused[500..], [MessageError::Repeated { unread: 1_500 }]);
}

/// Whoever answers an identity pull with messages of one author over and over has four of them verified.
#[test]
fn many_identities_of_one_author_in_one_are_not_all_looked_at() {
    let liar = identity("Org1", "liar");
    let update = |number: u64| {
        let content = Content::PeerIdentity(PeerIdentity {
            pki_id: Bytes::copy_from_slice(liar.pki_id().as_bytes()),
            cert: liar.serialized().clone(),
            metadata: Bytes::new(),
        });
        let message = gossip_message(Tag::Empty, None, number, content);
        let envelope = Envelope::signed(&message, signer(&liar).as_ref()).unwrap();
        envelope.proto().clone()
    };
    let content = Content::DataUpdate(DataUpdate {
        nonce: 1,
        data: (0..1_000).map(update).collect(),
        msg_type: PullMsgType::IdentityMsg.into(),
    });
    let frame = Envelope::unsigned(&gossip_message(Tag::Empty, None, 1, content));
    let crypto = Counting::knows(std::slice::from_ref(&liar));
    let received = decode(frame.frame().clone()).unwrap();
    let refused = verify(received, &crypto, &crypto).unwrap().refused;
    assert_eq!(crypto.checked(), (0, 4));
    assert_eq!(refused, [MessageError::Repeated { unread: 996 }]);
}

/// Nor does it help to fill it with messages of one's own, and others are not hidden by them.
#[test]
fn many_messages_of_one_author_in_one_are_not_all_looked_at() {
    let (peer, liar) = (identity("Org1", "peer"), identity("Org1", "liar"));
    let mut messages: Vec<_> = (0..1_000).map(|it| alive_of(&liar, &liar, it)).collect();
    messages.push(alive_of(&peer, &peer, 1));
    let crypto = Counting::default();
    let (alive, dead, refused) = verified_response(messages, Vec::new(), &crypto);
    assert_eq!((alive, dead), (4 + 1, 0));
    assert_eq!(crypto.checked().1, 4 + 1);
    assert_eq!(refused, [MessageError::Repeated { unread: 996 }]);
}

/// An alive message of `peer` after `alter`.
fn altered_alive(
    peer: &Identity,
    alter: impl FnOnce(&mut GossipMessage, &mut Member),
) -> selvedge_protos::gossip::Envelope {
    let mut member = Member {
        pki_id: Bytes::copy_from_slice(peer.pki_id().as_bytes()),
        ..Member::default()
    };
    let mut message = gossip_message(Tag::Empty, None, 0, Content::Empty(Empty {}));
    alter(&mut message, &mut member);
    message.content = Some(Content::AliveMsg(AliveMessage {
        membership: Some(member),
        timestamp: Some(PeerTime::default()),
        identity: peer.serialized().clone(),
    }));
    let envelope = Envelope::signed(&message, signer(peer).as_ref()).unwrap();
    envelope.proto().clone()
}

fn signed(peer: &Identity, content: Option<Content>) -> selvedge_protos::gossip::Envelope {
    let mut message = gossip_message(Tag::Empty, None, 0, Content::Empty(Empty {}));
    message.content = content;
    let envelope = Envelope::signed(&message, signer(peer).as_ref()).unwrap();
    envelope.proto().clone()
}

/// What Go repeats, since it has no such bounds, and more: every entry is refused by itself.
#[test]
fn an_entry_that_is_refused_hides_no_others() {
    let (peer, liar) = (identity("Org1", "peer"), identity("Org1", "liar"));
    let at =
        |endpoint: &str| altered_alive(&liar, |_, member| member.endpoint = endpoint.to_owned());
    let heavy = altered_alive(&liar, |_, member| member.metadata = vec![0; 4097].into());
    // Means nothing in an alive message.
    let padded = |size| {
        altered_alive(&liar, |message, _| {
            message.channel = vec![b'x'; size].into()
        })
    };
    let state_info = Content::StateInfo(StateInfo::default());
    let many = Content::DataDig(DataDigest {
        digests: vec![Bytes::new(); 50_001],
        ..DataDigest::default()
    });
    let truncated = selvedge_protos::gossip::Envelope {
        payload: Bytes::from_static(&[0x2a, 0x7f]),
        ..Default::default()
    };
    let bad = [
        (at(&"x".repeat(301)), "message_bad_field"),
        (at("peer\n:7051"), "message_bad_field"),
        (heavy, "message_bad_field"),
        (padded(200 << 10), "message_too_large"),
        // The list itself is larger than one without blocks needs to be.
        (padded(20 << 20), "message_too_large"),
        (signed(&liar, Some(many)), "message_too_many_elements"),
        (signed(&liar, Some(state_info)), "message_wrong_nesting"),
        (signed(&liar, None), "message_without_content"),
        (truncated, "message_truncated"),
    ];
    for (bad, reason) in bad {
        let entries = vec![alive_of(&peer, &peer, 1), bad, alive_of(&peer, &peer, 2)];
        let crypto = Counting::default();
        let (alive, dead, refused) = verified_response(entries.clone(), entries, &crypto);
        assert_eq!((alive, dead), (2, 2), "{reason}");
        let reasons: Vec<_> = refused.iter().map(MessageError::reason).collect();
        assert_eq!(reasons, [reason; 2]);
    }
}

/// A field with a length, which is below 2^14.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let [low, high] =
        [content.len() & 0x7f, content.len() >> 7].map(|it| u8::try_from(it).unwrap());
    [&[number << 3 | 2, low | 0x80, high], content].concat()
}

/// Go repeats the unknown fields of envelopes, and fields of the wrong wire type are unknown to it.
#[test]
fn an_envelope_that_only_go_can_read_hides_no_others() {
    let (peer, liar) = (identity("Org1", "peer"), identity("Org1", "liar"));
    let honest = alive_of(&peer, &peer, 1).encode_to_vec();
    let with = |unknown: &[u8]| {
        let envelope = alive_of(&liar, &liar, 1);
        [&envelope.encode_to_vec(), unknown].concat()
    };
    let groups = |depth| [vec![0x7b; depth], vec![0x7c; depth]].concat();
    let mut envelopes = vec![with(&[0x08, 0x05]), with(&field(3, &[0x08, 0x05]))];
    // The decoder's own limit is about 100, which entries of a list reach sooner than by themselves.
    for depth in (90..105).chain([1_000]) {
        envelopes.push(with(&groups(depth)));
        envelopes.push(with(&field(3, &groups(depth))));
    }
    let mut unreadable = 0;
    for bad in &envelopes {
        let content = [
            field(1, &honest),
            field(1, bad),
            field(2, bad),
            field(2, &honest),
        ];
        // The tag, and the response.
        let message = [vec![0x18, 1], field(7, &content.concat())].concat();
        let frame = field(1, &message);
        let crypto = Counting::default();
        let verified = verify(decode(frame.into()).unwrap(), &crypto, &crypto).unwrap();
        let Message::MembershipResponse { alive, dead, .. } = verified.message else {
            panic!("another message");
        };
        for list in [&alive, &dead] {
            assert!(list.iter().any(|message| message.pki_id == peer.pki_id()));
        }
        assert_eq!(alive.len() + dead.len() + verified.refused.len(), 4);
        let reasons = verified.refused.iter().map(MessageError::reason);
        unreadable += reasons
            .filter(|it| ["message_malformed", "message_truncated"].contains(it))
            .count();
    }
    // Of the depths that were tried the decoder can read some.
    assert!((8..2 * envelopes.len()).contains(&unreadable));
}

#[test]
fn a_huge_state_info_hides_no_others() {
    let (peer, liar) = (identity("Org1", "peer"), identity("Org1", "liar"));
    let channel = ChannelId::from(CHANNEL);
    let info = |peer: &Identity, name: usize| {
        let content = Content::StateInfo(StateInfo {
            timestamp: Some(PeerTime::default()),
            pki_id: Bytes::copy_from_slice(peer.pki_id().as_bytes()),
            channel_mac: Bytes::copy_from_slice(&channel.mac(&peer.pki_id())),
            properties: Some(Properties {
                chaincodes: vec![Chaincode {
                    name: "x".repeat(name),
                    ..Chaincode::default()
                }],
                ..Properties::default()
            }),
        });
        signed(peer, Some(content))
    };
    let content = Content::StateSnapshot(StateInfoSnapshot {
        elements: vec![info(&liar, 200 << 10), info(&peer, 10)],
    });
    let frame = unsigned(Tag::ChanOrOrg, true, content);
    let crypto = Counting::knows(&[peer, liar]);
    let verified = verify(decode(frame).unwrap(), &crypto, &crypto).unwrap();
    let Message::StateInfoSnapshot(_, infos) = verified.message else {
        panic!("another message");
    };
    assert_eq!(infos.len(), 1);
    let reasons: Vec<_> = verified.refused.iter().map(MessageError::reason).collect();
    assert_eq!(reasons, ["message_too_large"]);
}

#[test]
fn a_block_that_is_none_hides_no_others() {
    let wrapped = |channel: &str, content| {
        let message = gossip_message(Tag::ChanAndOrg, Some(&channel.into()), 0, content);
        Envelope::unsigned(&message).proto().clone()
    };
    let block = |number| Content::DataMsg(data(number));
    let content = Content::DataUpdate(DataUpdate {
        nonce: 7,
        data: vec![
            wrapped(CHANNEL, block(1)),
            wrapped("another", block(2)),
            wrapped(CHANNEL, Content::Empty(Empty {})),
            wrapped(CHANNEL, Content::DataMsg(DataMessage::default())),
            wrapped(CHANNEL, block(3)),
        ],
        msg_type: PullMsgType::BlockMsg.into(),
    });
    let received = decode(unsigned(Tag::ChanAndOrg, true, content)).unwrap();
    let crypto = Counting::default();
    let verified = verify(received, &crypto, &crypto).unwrap();
    let Message::BlockPull(_, pull) = verified.message else {
        panic!("another message");
    };
    let PullStep::Update(blocks) = pull.step else {
        panic!("another step");
    };
    let numbers: Vec<_> = blocks.iter().map(|block| block.number).collect();
    assert_eq!(numbers, [1, 3]);
    let reasons: Vec<_> = verified.refused.iter().map(MessageError::reason).collect();
    let expected = [
        "message_bad_channel",
        "message_wrong_nesting",
        "message_bad_field",
    ];
    assert_eq!(reasons, expected);
}

/// What is kept and passed on is small, whatever fields it was blown up with.
#[test]
fn a_huge_signed_message_is_refused() {
    let liar = identity("Org1", "liar");
    let padded = |size: usize| {
        let alive = altered_alive(&liar, |message, _| {
            message.channel = Bytes::from(vec![b'x'; size]);
        });
        decode(alive.encode_to_vec().into())
    };
    assert!(padded(100).is_ok());
    let refused = padded(200 << 10).unwrap_err();
    assert!(matches!(refused, MessageError::FrameTooLarge { .. }));
}

fn verified(frame: &Bytes) -> Message {
    let crypto = Counting::default();
    let received = decode(frame.clone()).unwrap();
    verify(received, &crypto, &crypto).unwrap().message
}

fn is_slice_of(frame: &Bytes, part: &Bytes) -> bool {
    frame.as_ptr_range().contains(&part.as_ptr())
}

/// What is kept of a message is counted by the sizes of its blocks.
#[test]
fn a_small_block_does_not_keep_a_large_frame_in_memory() {
    let padding = || Bytes::from(vec![0; 1 << 20]);
    let kept = |payloads: Vec<Payload>| -> Vec<bool> {
        let content = Content::StateResponse(RemoteStateResponse { payloads });
        let frame = unsigned(Tag::ChanOrOrg, true, content);
        let Message::StateResponse { payloads, .. } = verified(&frame) else {
            panic!("another message");
        };
        let blocks = payloads.iter().map(|payload| &payload.bytes);
        blocks.map(|block| is_slice_of(&frame, block)).collect()
    };
    let large = |number| Payload {
        data: padding(),
        ..payload(number)
    };
    let padded = |number| Payload {
        private_data: vec![padding()],
        ..payload(number)
    };
    assert_eq!(kept(vec![large(1)]), [true]);
    assert_eq!(kept(vec![padded(1)]), [false]);
    assert_eq!(kept(vec![large(1), payload(2)]), [true, false]);
    assert_eq!(kept((1..=3).map(large).collect()), [false; 3]);
}

#[test]
fn a_block_that_was_pushed_with_padding_is_kept_and_passed_on_without() {
    let padding = || Bytes::from(vec![0; 1 << 20]);
    let channel = ChannelId::from(CHANNEL);
    let envelope = |payload: Payload| {
        let content = Content::DataMsg(DataMessage {
            payload: Some(payload),
        });
        let message = gossip_message(Tag::ChanAndOrg, Some(&channel), 0, content);
        Envelope::unsigned(&message).proto().clone()
    };
    let pushed = |envelope: &selvedge_protos::gossip::Envelope| {
        let frame = Bytes::from(envelope.encode_to_vec());
        let Message::Block(_, block) = verified(&frame) else {
            panic!("another message");
        };
        let shared = is_slice_of(&frame, &block.bytes);
        (block, shared)
    };
    let (plain, shared) = pushed(&envelope(payload(1)));
    assert!(shared);
    let private_data = envelope(Payload {
        private_data: vec![padding()],
        ..payload(1)
    });
    let mut signed = envelope(payload(1));
    signed.signature = padding();
    for padded in [&private_data, &signed] {
        let (block, shared) = pushed(padded);
        assert!(!shared);
        assert_eq!(block, plain);
    }
    let (large, shared) = pushed(&envelope(Payload {
        data: padding(),
        ..payload(1)
    }));
    assert!(shared && is_slice_of(large.envelope.frame(), &large.bytes));

    let content = Content::DataUpdate(DataUpdate {
        nonce: 7,
        data: vec![private_data, signed],
        msg_type: PullMsgType::BlockMsg.into(),
    });
    let Message::BlockPull(_, pull) = verified(&unsigned(Tag::ChanAndOrg, true, content)) else {
        panic!("another message");
    };
    assert_eq!(pull.step, PullStep::Update(vec![plain.clone(), plain]));
}

/// Two organisations of two peers each, in one channel, that know each other.
fn two_orgs() -> Network {
    let mut specs = peers("Org1", 2);
    specs.extend(peers("Org2", 2));
    let mut network = Network::new(9, &specs, |config| config.state.enabled = true);
    network.join_all(CHANNEL);
    let complete = |network: &Network| (0..4).all(|node| network.alive(node).len() == 3);
    assert!(network.run_until(60 * SECOND, complete));
    network.run(20 * SECOND);
    network
}

fn without_org2(network: &Network) -> ChannelSetup {
    let mut setup = network.channel_setup(CHANNEL);
    setup.sequence = 2;
    setup.orgs.retain(|org| org.org == OrgId::from("Org1"));
    setup
}

/// The ledger and the private store are read on other threads: the configuration may change meanwhile.
#[test]
fn what_was_being_read_for_an_organisation_when_it_was_removed_is_not_sent() {
    let ask = |removed: bool| {
        let mut network = two_orgs();
        let channel = ChannelId::from(CHANNEL);
        let blocks = Content::StateRequest(RemoteStateRequest {
            start_seq_num: 0,
            end_seq_num: 0,
        });
        let private = Content::PrivateReq(RemotePvtDataRequest::default());
        network.watch(0, 2);
        for (tag, content) in [(Tag::ChanOrOrg, blocks), (Tag::ChanOnly, private)] {
            let message = gossip_message(tag, Some(&channel), 77, content);
            let frame = Envelope::unsigned(&message).frame().clone();
            network.frame(2, 0, frame);
        }
        if removed {
            let setup = without_org2(&network);
            network.event(0, Event::ChannelUpdated(setup));
        }
        network.run(10 * MILLISECOND);
        let mut sent = network.watched();
        sent.retain(|kind| matches!(kind, FrameKind::StateResponse | FrameKind::PrivateResponse));
        sent
    };
    let both = [FrameKind::StateResponse, FrameKind::PrivateResponse];
    assert_eq!(ask(false), both);
    assert!(ask(true).is_empty());
}

const LIAR: usize = 5;
/// Of an organisation that is not in the channel.
const STRANGER: usize = 6;

fn honest() -> std::ops::Range<usize> {
    0..LIAR
}

/// Honest peers, the liar and the stranger, who all know each other.
fn village() -> Network {
    let mut specs = peers("Org1", 6);
    specs.extend(peers("Org2", 1));
    let mut network = Network::new(13, &specs, |config| {
        config.state.enabled = true;
        config.use_leader_election = true;
    });
    network.join_all(CHANNEL);
    let setup = without_org2(&network);
    for node in 0..=LIAR {
        network.event(node, Event::ChannelUpdated(setup.clone()));
    }
    let complete = |network: &Network| (0..=STRANGER).all(|node| network.alive(node).len() == 6);
    assert!(network.run_until(60 * SECOND, complete));
    network.run(20 * SECOND);
    network
}

/// What honest peers dropped for a reason.
fn dropped(network: &Network, reason: DropReason) -> u64 {
    let counters = honest().map(|node| network.nodes[node].gossip.counters());
    counters.map(|counters| counters.drops_of(reason)).sum()
}

/// While `from` sends these frames to every honest peer, again and again, blocks arrive as ever, and
/// everybody stays known.
fn nobody_is_harmed(network: &mut Network, from: usize, frames: &[Bytes]) {
    for number in 1..=10 {
        for victim in honest() {
            for frame in frames {
                network.frame(from, victim, frame.clone());
            }
        }
        network.order(0, CHANNEL, number);
        let arrived =
            |network: &Network| honest().all(|node| network.height(node, CHANNEL) == number + 1);
        assert!(network.run_until(SECOND, arrived), "block {number}");
        network.run(5 * SECOND);
    }
    assert!(honest().all(|node| network.alive(node).len() == 6));
}

fn unsigned(tag: Tag, named: bool, content: Content) -> Bytes {
    let channel = named.then(|| ChannelId::from(CHANNEL));
    let message = gossip_message(tag, channel.as_ref(), 77, content);
    Envelope::unsigned(&message).frame().clone()
}

fn data(number: u64) -> DataMessage {
    DataMessage {
        payload: Some(payload(number)),
    }
}

fn payload(number: u64) -> Payload {
    Payload {
        seq_num: number,
        data: Bytes::from_static(b"never ordered"),
        private_data: Vec::new(),
    }
}

/// The liar's StateInfo, later than all that its core says.
fn claimed_height(network: &Network, ledger_height: u64, sequence: u64) -> Bytes {
    let liar = &network.nodes[LIAR].identity;
    let mac = ChannelId::from(CHANNEL).mac(&liar.pki_id());
    let content = Content::StateInfo(StateInfo {
        timestamp: Some(PeerTime {
            inc_num: u64::MAX,
            seq_num: sequence,
        }),
        pki_id: Bytes::copy_from_slice(liar.pki_id().as_bytes()),
        channel_mac: Bytes::copy_from_slice(&mac),
        properties: Some(Properties {
            ledger_height,
            ..Properties::default()
        }),
    });
    let message = gossip_message(Tag::ChanOrOrg, None, 0, content);
    let envelope = Envelope::signed(&message, signer(liar).as_ref()).unwrap();
    envelope.frame().clone()
}

#[test]
fn false_heights_cost_a_few_questions() {
    let mut network = village();
    let claims = [1_000, 1 << 40, u64::MAX].into_iter().zip(1..);
    let frames: Vec<_> = claims
        .map(|(height, sequence)| claimed_height(&network, height, sequence))
        .collect();
    let asked = |network: &Network| network.sent.get(&FrameKind::StateRequest).copied();
    let before = asked(&network).unwrap_or_default();
    nobody_is_harmed(&mut network, LIAR, &frames);
    // In fifty seconds, by five peers that believe it to be far ahead.
    let after = asked(&network).unwrap_or_default();
    assert!(after - before < 5 * 50, "{} questions", after - before);
    assert!(dropped(&network, DropReason::Duplicate) >= 5 * 9 * 3);
}

#[test]
fn digests_of_blocks_that_do_not_exist_lead_nowhere() {
    let mut network = village();
    let digest = |nonce, numbers: &[u64]| {
        let content = Content::DataDig(DataDigest {
            nonce,
            digests: numbers.iter().map(|it| it.to_string().into()).collect(),
            msg_type: PullMsgType::BlockMsg.into(),
        });
        unsigned(Tag::ChanAndOrg, true, content)
    };
    let far: Vec<u64> = (1_000..1_900).collect();
    // The nonce 0 is that of announcements, which nobody has to ask for.
    let frames = [digest(0, &far), digest(0, &[u64::MAX]), digest(7, &far)];
    nobody_is_harmed(&mut network, LIAR, &frames);
    assert!(dropped(&network, DropReason::UnknownNonce) >= 5 * 10);
    assert!(honest().all(|node| network.height(node, CHANNEL) == 11));
}

#[test]
fn batches_that_nobody_asked_for_are_dropped_whole() {
    let mut network = village();
    let blocks: Vec<_> = (1..1_000).map(payload).collect();
    let wrapped = |number| {
        let channel = ChannelId::from(CHANNEL);
        let content = Content::DataMsg(data(number));
        let message = gossip_message(Tag::ChanAndOrg, Some(&channel), 0, content);
        Envelope::unsigned(&message).proto().clone()
    };
    let response = Content::StateResponse(RemoteStateResponse { payloads: blocks });
    let update = Content::DataUpdate(DataUpdate {
        nonce: 7,
        data: (1..1_000).map(wrapped).collect(),
        msg_type: PullMsgType::BlockMsg.into(),
    });
    let request = Content::StateRequest(RemoteStateRequest {
        start_seq_num: 0,
        end_seq_num: u64::MAX,
    });
    let frames = [
        unsigned(Tag::ChanOrOrg, true, response),
        unsigned(Tag::ChanAndOrg, true, update),
        unsigned(Tag::ChanOrOrg, true, request),
    ];
    nobody_is_harmed(&mut network, LIAR, &frames);
    assert_eq!(dropped(&network, DropReason::BlockRefused), 0);
    assert!(dropped(&network, DropReason::UnknownNonce) >= 5 * 10);
    assert!(dropped(&network, DropReason::NotEligible) >= 5 * 10);
    assert_eq!(network.sent.get(&FrameKind::StateResponse), None);
}

/// The name of another peer under one's own signature, and its own message from somebody else.
#[test]
fn who_steals_a_pki_id_is_not_believed() {
    let mut network = village();
    let (victim, liar) = (
        network.nodes[1].identity.clone(),
        network.nodes[LIAR].identity.clone(),
    );
    let pki_id = Bytes::copy_from_slice(victim.pki_id().as_bytes());
    let channel = ChannelId::from(CHANNEL);
    let time = || {
        Some(PeerTime {
            inc_num: u64::MAX,
            seq_num: u64::MAX,
        })
    };
    let alive = |serialized: &Identity| {
        Content::AliveMsg(AliveMessage {
            membership: Some(Member {
                endpoint: "liar:7051".to_owned(),
                metadata: Bytes::new(),
                pki_id: pki_id.clone(),
            }),
            timestamp: time(),
            identity: serialized.serialized().clone(),
        })
    };
    let info = Content::StateInfo(StateInfo {
        timestamp: time(),
        pki_id: pki_id.clone(),
        channel_mac: Bytes::copy_from_slice(&channel.mac(&victim.pki_id())),
        properties: Some(Properties::default()),
    });
    let leadership = Content::LeadershipMsg(LeadershipMessage {
        pki_id: pki_id.clone(),
        timestamp: time(),
        is_declaration: true,
    });
    let sign = |tag, named: bool, content, key: &Identity| {
        let message = gossip_message(tag, named.then_some(&channel), 0, content);
        let envelope = Envelope::signed(&message, signer(key).as_ref()).unwrap();
        envelope.frame().clone()
    };
    let frames = [
        sign(Tag::Empty, false, alive(&victim), &liar),
        sign(Tag::Empty, false, alive(&liar), &liar),
        sign(Tag::ChanOrOrg, false, info, &liar),
        sign(Tag::ChanAndOrg, true, leadership.clone(), &liar),
    ];
    nobody_is_harmed(&mut network, LIAR, &frames);
    for node in honest() {
        let refused = &network.nodes[node].refused;
        let count =
            |wanted: fn(&MessageError) -> bool| refused.iter().filter(|it| wanted(it)).count();
        assert_eq!(count(|it| matches!(it, MessageError::Refused { .. })), 30);
        let foreign = count(|it| matches!(it, MessageError::ForeignIdentity { .. }));
        assert_eq!(foreign, 10);
    }
    let member = network.nodes[0].gossip.members().get(&victim.pki_id());
    let endpoint = member.unwrap().external_endpoint().as_str();
    assert_eq!(endpoint, "peer1.Org1.example.com:7051");
    // Signed as it should be, but passed on by somebody who is not its author.
    let genuine = sign(Tag::ChanAndOrg, true, leadership, &victim);
    network.frame(LIAR, 0, genuine);
    assert_eq!(dropped(&network, DropReason::NotFromAuthor), 1);
}

#[test]
fn a_foreign_organisation_gets_nothing_of_a_channel_that_it_is_not_in() {
    let mut network = village();
    let mac = ChannelId::from(CHANNEL).mac(&network.id(STRANGER));
    let hello = Content::Hello(GossipHello {
        nonce: 7,
        metadata: Bytes::new(),
        msg_type: PullMsgType::BlockMsg.into(),
    });
    let request = Content::DataReq(DataRequest {
        nonce: 0,
        digests: vec![Bytes::from_static(b"0")],
        msg_type: PullMsgType::BlockMsg.into(),
    });
    let blocks = Content::StateRequest(RemoteStateRequest {
        start_seq_num: 0,
        end_seq_num: 0,
    });
    let infos = Content::StateInfoPullReq(StateInfoPullRequest {
        channel_mac: Bytes::copy_from_slice(&mac),
    });
    let private = Content::PrivateReq(RemotePvtDataRequest::default());
    let frames = [
        unsigned(Tag::ChanAndOrg, true, hello),
        unsigned(Tag::ChanAndOrg, true, request),
        unsigned(Tag::ChanAndOrg, true, Content::DataMsg(data(1))),
        unsigned(Tag::ChanOrOrg, true, blocks),
        unsigned(Tag::ChanOrOrg, false, infos),
        unsigned(Tag::ChanOnly, true, private),
    ];
    let before = dropped(&network, DropReason::ForeignOrg);
    for victim in honest() {
        network.watch(victim, STRANGER);
        for frame in &frames {
            network.frame(STRANGER, victim, frame.clone());
        }
        assert!(network.watched().is_empty());
    }
    assert_eq!(dropped(&network, DropReason::ForeignOrg), before + 5 * 6);
    nobody_is_harmed(&mut network, STRANGER, &frames);
}

#[test]
fn a_peer_that_never_answers_is_not_waited_for() {
    const LATE: usize = 4;
    let mut network = village();
    let others: Vec<usize> = honest().filter(|node| *node != LATE).collect();
    network.partition(&[LATE], &others);
    network.cut.insert((LIAR, LATE));
    for number in 1..=50 {
        network.order(0, CHANNEL, number);
        network.run(20 * MILLISECOND);
    }
    assert!(
        others
            .iter()
            .all(|node| network.height(*node, CHANNEL) == 51)
    );
    assert_eq!(network.height(LATE, CHANNEL), 1);
    // The liar says that it has them all, hears every question, and is silent.
    network.cut = honest().map(|node| (LIAR, node)).collect();
    network.watch(LATE, LIAR);
    let claim = claimed_height(&network, 51, 1);
    network.frame(LIAR, LATE, claim);
    let arrived = |network: &Network| network.height(LATE, CHANNEL) == 51;
    assert!(network.run_until(10 * SECOND, arrived));
    let asked = network.watched();
    let question = |kind: &FrameKind| matches!(kind, FrameKind::Hello | FrameKind::StateRequest);
    assert!(asked.iter().any(question), "{asked:?}");
}
