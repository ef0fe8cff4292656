//! Messages of which a part lies: what is wrong with it costs little, and hides nothing of the rest.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use selvedge_gossip::crypto::{Crypto, Identity, IdentityFacts, IdentitySource, Refusal};
use selvedge_gossip::message::{
    Envelope, Message, MessageError, PullStep, decode, gossip_message, verify,
};
use selvedge_gossip::types::{ChannelId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    AliveMessage, Chaincode, DataDigest, DataMessage, DataUpdate, Empty, GossipMessage, Member,
    MembershipResponse, Payload, PeerIdentity, PeerTime, Properties, PullMsgType,
    RemoteStateResponse, StateInfo, StateInfoSnapshot,
};
use selvedge_protos::identity::pki_id;
use support::forgery::{CHANNEL, data, payload, unsigned};
use support::keys::{HashCrypto, identity, serialized, signer};

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
