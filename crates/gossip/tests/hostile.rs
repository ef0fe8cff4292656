//! Peers that lie, break or flood: what they send has no effect on those that are honest.
//!
//! Arbitrary sequences of events are the fuzz target `gossip_core` (`fuzz/`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_gossip::counters::DropReason;
use selvedge_gossip::crypto::Identity;
use selvedge_gossip::event::{ChannelSetup, Event, FrameKind};
use selvedge_gossip::message::{Envelope, MessageError, decode, gossip_message, verify};
use selvedge_gossip::types::{ChannelId, OrgId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    AliveMessage, DataDigest, DataRequest, DataUpdate, GossipHello, LeadershipMessage, Member,
    PeerTime, Properties, PullMsgType, RemotePvtDataRequest, RemoteStateRequest,
    RemoteStateResponse, StateInfo, StateInfoPullRequest,
};
use support::forgery::{CHANNEL, data, payload, unsigned};
use support::keys::signer;
use support::network::{Network, peers};
use support::recorded::{Known, RecordedCrypto, json, read};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

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
