//! Peers that lie, break or flood: what they send has no effect on those that are honest.
//!
//! Arbitrary sequences of events are the fuzz target `gossip_core` (`fuzz/`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_gossip::crypto::{Crypto, Identity, IdentityFacts, IdentitySource, Refusal};
use selvedge_gossip::event::{ChannelSetup, Event, FrameKind};
use selvedge_gossip::message::{Envelope, Message, MessageError, decode, gossip_message, verify};
use selvedge_gossip::types::{ChannelId, OrgId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    AliveMessage, Member, MembershipResponse, PeerTime, RemotePvtDataRequest, RemoteStateRequest,
};
use support::keys::{HashCrypto, identity, signer};
use support::network::{Network, peers};
use support::recorded::{Known, RecordedCrypto, json, read};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const CHANNEL: &str = "mychannel";

/// Knows nobody, and counts the signatures that are checked.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Crypto for Counting {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        HashCrypto.validate(serialized)
    }

    fn verify(&self, identity: &Identity, message: &[u8], found: &[u8]) -> Result<(), Refusal> {
        self.0.fetch_add(1, Ordering::Relaxed);
        HashCrypto.verify(identity, message, found)
    }
}

impl IdentitySource for Counting {
    fn identity(&self, _: &PkiId) -> Option<Identity> {
        None
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

/// A message may hold 50,000 others. Whoever fills it with forged ones costs no more than a few signatures.
#[test]
fn many_forged_messages_in_one_are_not_all_looked_at() {
    let alive = |peer: &Identity, key: &Identity| {
        let content = Content::AliveMsg(AliveMessage {
            membership: Some(Member {
                pki_id: Bytes::copy_from_slice(peer.pki_id().as_bytes()),
                ..Member::default()
            }),
            timestamp: Some(PeerTime::default()),
            identity: peer.serialized().clone(),
        });
        let message = gossip_message(Tag::Empty, None, 0, content);
        let envelope = Envelope::signed(&message, signer(key).as_ref()).unwrap();
        envelope.proto().clone()
    };
    let (peer, liar) = (identity("Org1", "peer"), identity("Org1", "liar"));
    let mut messages = vec![alive(&peer, &peer); 100];
    messages.extend(vec![alive(&peer, &liar); 1_000]);
    messages.extend(vec![alive(&peer, &peer); 100]);
    let response = Content::MemRes(MembershipResponse {
        alive: messages.clone(),
        dead: messages,
    });
    let message = gossip_message(Tag::Empty, None, 1, response);
    let received = decode(Envelope::unsigned(&message).frame().clone()).unwrap();
    let crypto = Counting::default();
    let verified = verify(received, &crypto, &crypto).unwrap();
    assert_eq!(crypto.0.load(Ordering::Relaxed), 100 + 64);
    let Message::MembershipResponse { alive, dead, .. } = verified.message else {
        panic!("another message");
    };
    assert_eq!((alive.len(), dead.len()), (100, 0));
    let given_up = |unread| MessageError::GivenUp { unread };
    assert_eq!(verified.refused.len(), 64 + 2);
    assert_eq!(
        verified.refused[64..],
        [given_up(936 + 100), given_up(1_200)]
    );
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
