//! Whatever comes in: no panic, no unbounded growth, no busy loop.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_gossip::config::{Config, Limits};
use selvedge_gossip::event::{
    Action, Arrival, ArrivedBlock, ChannelOrg, ChannelSetup, DialOutcome, DialPurpose, Event,
    FrameKind,
};
use selvedge_gossip::message::{Envelope, decode, gossip_message, verify};
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_gossip::private_data::{
    Everybody, FetchPrivateData, MissingItem, Organisations, SendWithAck,
};
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, Peer, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    Acknowledgement, AliveMessage, DataDigest, DataMessage, DataRequest, DataUpdate, GossipHello,
    GossipMessage, LeadershipMessage, Member, MembershipRequest, MembershipResponse, Payload,
    PeerTime, PrivateDataMessage, PrivatePayload, Properties, PvtDataDigest, PvtDataElement,
    RemotePvtDataRequest, RemotePvtDataResponse, RemoteStateRequest, RemoteStateResponse,
    StateInfo, StateInfoPullRequest, StateInfoSnapshot,
};
use support::keys::{HashCrypto, identity, signer};
use support::network::TestBlock;
use support::recorded::{Known, RecordedCrypto, json, read};

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

const ORGS: [&str; 3] = ["Org1", "Org2", "Org3"];
const CHANNELS: [&str; 2] = ["one", "two"];

/// What may happen to a node. Numbers choose peers, channels and times from small sets, so that events meet.
#[derive(Clone, Debug)]
enum Step {
    Pass(u32),
    Say {
        from: u8,
        content: u8,
        about: u8,
        channel: u8,
        numbers: (u64, u64),
    },
    Connected(u8),
    Disconnected(u8),
    Unreachable(u8),
    Changed(u8),
    Dialed {
        peer: u8,
        ping: bool,
        outcome: u8,
    },
    Join {
        channel: u8,
        sequence: u64,
        orgs: u8,
        height: u64,
    },
    Leave(u8),
    Ordered {
        channel: u8,
        number: u64,
    },
    Verdict {
        channel: u8,
        from: u8,
        number: u64,
        good: bool,
        how: u8,
    },
    Committed {
        channel: u8,
        height: u64,
    },
    Read {
        channel: u8,
        to: u8,
        nonce: u64,
        start: u64,
        count: u8,
    },
    Suspect(u8),
    Revoked(u8),
    OrdererUnreachable(u8),
    Push {
        channel: u8,
        peers: u8,
        acks: u8,
    },
    Fetch {
        channel: u8,
        items: u8,
    },
    Stored(u8),
    PrivateRead(u8),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..40u64, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

/// A number that our own ledger or an ordering node vouches for.
fn vouched() -> impl Strategy<Value = u64> {
    prop_oneof![0..40u64, 0..1u64 << 40]
}

fn step() -> impl Strategy<Value = Step> {
    let small = any::<u8>;
    prop_oneof![
        4 => (0..40_000u32).prop_map(Step::Pass),
        12 => (small(), small(), small(), small(), (number(), number())).prop_map(
            |(from, content, about, channel, numbers)| Step::Say { from, content, about, channel, numbers }
        ),
        2 => small().prop_map(Step::Connected),
        1 => small().prop_map(Step::Disconnected),
        1 => small().prop_map(Step::Unreachable),
        1 => small().prop_map(Step::Changed),
        2 => (small(), any::<bool>(), small())
            .prop_map(|(peer, ping, outcome)| Step::Dialed { peer, ping, outcome }),
        2 => (small(), number(), small(), vouched()).prop_map(
            |(channel, sequence, orgs, height)| Step::Join { channel, sequence, orgs, height }
        ),
        1 => small().prop_map(Step::Leave),
        3 => (small(), vouched()).prop_map(|(channel, number)| Step::Ordered { channel, number }),
        3 => (small(), small(), vouched(), any::<bool>(), small()).prop_map(
            |(channel, from, number, good, how)| Step::Verdict { channel, from, number, good, how }
        ),
        2 => (small(), vouched()).prop_map(|(channel, height)| Step::Committed { channel, height }),
        1 => (small(), small(), number(), vouched(), small()).prop_map(
            |(channel, to, nonce, start, count)| Step::Read { channel, to, nonce, start, count }
        ),
        1 => small().prop_map(Step::Suspect),
        1 => small().prop_map(Step::Revoked),
        1 => small().prop_map(Step::OrdererUnreachable),
        2 => (small(), small(), small())
            .prop_map(|(channel, peers, acks)| Step::Push { channel, peers, acks }),
        2 => (small(), small()).prop_map(|(channel, items)| Step::Fetch { channel, items }),
        1 => small().prop_map(Step::Stored),
        1 => small().prop_map(Step::PrivateRead),
    ]
}

fn peer(number: u8) -> selvedge_gossip::crypto::Identity {
    let number = usize::from(number) % 24;
    identity(ORGS[number % ORGS.len()], &format!("peer{number}"))
}

fn channel(number: u8) -> ChannelId {
    ChannelId::from(CHANNELS[usize::from(number) % CHANNELS.len()])
}

fn bytes_of(pki_id: PkiId) -> Bytes {
    Bytes::copy_from_slice(pki_id.as_bytes())
}

fn alive_of(about: u8, numbers: (u64, u64)) -> Envelope {
    let author = peer(about);
    let content = Content::AliveMsg(AliveMessage {
        membership: Some(Member {
            endpoint: if about.is_multiple_of(3) {
                String::new()
            } else {
                format!("peer{about}:7051")
            },
            metadata: Bytes::new(),
            pki_id: bytes_of(author.pki_id()),
        }),
        timestamp: Some(PeerTime {
            inc_num: numbers.0,
            seq_num: numbers.1,
        }),
        identity: author.serialized().clone(),
    });
    let signer = signer(&author);
    Envelope::signed(
        &gossip_message(Tag::Empty, None, 0, content),
        signer.as_ref(),
    )
    .unwrap()
    .with_secret(&format!("peer{about}.internal:7051"), signer.as_ref())
    .unwrap()
}

fn state_info_of(about: u8, channel_number: u8, numbers: (u64, u64)) -> Envelope {
    let author = peer(about);
    let content = Content::StateInfo(StateInfo {
        timestamp: Some(PeerTime {
            inc_num: 1,
            seq_num: numbers.0,
        }),
        pki_id: bytes_of(author.pki_id()),
        channel_mac: Bytes::copy_from_slice(&channel(channel_number).mac(&author.pki_id())),
        properties: Some(Properties {
            ledger_height: numbers.1,
            left_channel: numbers.0.is_multiple_of(7),
            chaincodes: Vec::new(),
        }),
    });
    let message = gossip_message(Tag::ChanOrOrg, None, 0, content);
    Envelope::signed(&message, signer(&author).as_ref()).unwrap()
}

fn block_of(channel_number: u8, number: u64) -> Envelope {
    let content = Content::DataMsg(DataMessage {
        payload: Some(Payload {
            seq_num: number,
            data: TestBlock::new(number).bytes,
            private_data: Vec::new(),
        }),
    });
    Envelope::unsigned(&gossip_message(
        Tag::ChanAndOrg,
        Some(&channel(channel_number)),
        0,
        content,
    ))
}

/// A message that an authenticated peer might send, sensible or not.
fn said(content: u8, from: u8, about: u8, channel_number: u8, numbers: (u64, u64)) -> Envelope {
    let named = channel(channel_number);
    let (nonce, other) = numbers;
    let block_pull = content.is_multiple_of(2);
    let msg_type = if block_pull { 1 } else { 2 };
    let (pull_tag, pull_channel) = if block_pull {
        (Tag::ChanAndOrg, Some(&named))
    } else {
        (Tag::Empty, None)
    };
    let digests = vec![
        Bytes::from(other.to_string()),
        bytes_of(peer(about).pki_id()),
        Bytes::from_static(b"no number"),
    ];
    let mac = Bytes::copy_from_slice(&named.mac(&peer(from).pki_id()));
    let digest = |number: u64| PvtDataDigest {
        tx_id: (number % 8).to_string(),
        ..Default::default()
    };
    let (tag, channel, content) = match content % 19 {
        0 => return alive_of(about, numbers),
        1 => return state_info_of(about, channel_number, numbers),
        2 => return block_of(channel_number, other),
        3 => {
            let request = MembershipRequest {
                self_information: Some(alive_of(from, numbers).proto().clone()),
                known: Vec::new(),
            };
            (Tag::Empty, None, Content::MemReq(request))
        }
        4 => {
            let response = MembershipResponse {
                alive: vec![alive_of(about, numbers).proto().clone()],
                dead: vec![alive_of(about.wrapping_add(1), numbers).proto().clone()],
            };
            (Tag::Empty, None, Content::MemRes(response))
        }
        5 | 6 => {
            let hello = GossipHello {
                nonce,
                metadata: Bytes::new(),
                msg_type,
            };
            (pull_tag, pull_channel, Content::Hello(hello))
        }
        7 => (
            pull_tag,
            pull_channel,
            Content::DataDig(DataDigest {
                nonce,
                digests,
                msg_type,
            }),
        ),
        8 => (
            pull_tag,
            pull_channel,
            Content::DataReq(DataRequest {
                nonce,
                digests,
                msg_type,
            }),
        ),
        9 => {
            let data = vec![block_of(channel_number, other).proto().clone()];
            let update = DataUpdate {
                nonce,
                data,
                msg_type: 1,
            };
            (Tag::ChanAndOrg, Some(&named), Content::DataUpdate(update))
        }
        10 => {
            let request = StateInfoPullRequest { channel_mac: mac };
            (Tag::ChanOrOrg, None, Content::StateInfoPullReq(request))
        }
        11 => {
            let elements = vec![
                state_info_of(about, channel_number, numbers)
                    .proto()
                    .clone(),
            ];
            let snapshot = StateInfoSnapshot { elements };
            (
                Tag::ChanOrOrg,
                Some(&named),
                Content::StateSnapshot(snapshot),
            )
        }
        12 => {
            let request = RemoteStateRequest {
                start_seq_num: nonce,
                end_seq_num: other,
            };
            (Tag::ChanOrOrg, Some(&named), Content::StateRequest(request))
        }
        13 => {
            let author = peer(about);
            let leadership = LeadershipMessage {
                pki_id: bytes_of(author.pki_id()),
                timestamp: Some(PeerTime {
                    inc_num: 1,
                    seq_num: nonce,
                }),
                is_declaration: other.is_multiple_of(2),
            };
            let content = Content::LeadershipMsg(leadership);
            let message = gossip_message(Tag::ChanAndOrg, Some(&named), 0, content);
            return Envelope::signed(&message, signer(&author).as_ref()).unwrap();
        }
        14 => {
            let payload = PrivatePayload {
                private_rwset: Bytes::from_static(b"writes"),
                ..Default::default()
            };
            let data = PrivateDataMessage {
                payload: (!other.is_multiple_of(5)).then_some(payload),
            };
            (Tag::ChanOnly, Some(&named), Content::PrivateData(data))
        }
        15 => {
            let request = RemotePvtDataRequest {
                digests: vec![digest(other)],
            };
            (Tag::ChanOnly, Some(&named), Content::PrivateReq(request))
        }
        16 => {
            let element = |number, payload| PvtDataElement {
                digest: Some(digest(number)),
                payload,
            };
            let response = RemotePvtDataResponse {
                elements: vec![
                    element(other, vec![Bytes::from_static(b"writes")]),
                    element(other / 8, Vec::new()),
                    PvtDataElement::default(),
                ],
            };
            (Tag::ChanOnly, Some(&named), Content::PrivateRes(response))
        }
        17 => {
            let error = if other.is_multiple_of(3) { "no" } else { "" };
            let ack = Acknowledgement {
                error: error.to_owned(),
            };
            (Tag::Undefined, None, Content::Ack(ack))
        }
        _ => {
            let payload = Payload {
                seq_num: other,
                data: TestBlock::new(other).bytes,
                private_data: Vec::new(),
            };
            let response = RemoteStateResponse {
                payloads: vec![payload],
            };
            (
                Tag::ChanOrOrg,
                Some(&named),
                Content::StateResponse(response),
            )
        }
    };
    Envelope::unsigned(&gossip_message(tag, channel, nonce, content))
}

/// `nonces` are those of private data that the node has sent, `next_id` is for the next that it is to send.
fn event_of(
    step: &Step,
    gossip: &Gossip<TestBlock>,
    nonces: &[u64],
    next_id: u64,
) -> Option<Event<TestBlock>> {
    Some(match *step {
        Step::Pass(_) => Event::Wakeup,
        Step::Say {
            from,
            content,
            about,
            channel,
            mut numbers,
        } => {
            if matches!(content % 19, 16 | 17) && !nonces.is_empty() {
                let index = usize::try_from(numbers.0 % nonces.len() as u64).unwrap();
                numbers.0 = nonces[index];
            }
            let frame = said(content, from, about, channel, numbers).frame().clone();
            let received = decode(frame).unwrap();
            let verified = verify(received, &HashCrypto, gossip.identities()).ok()?;
            Event::Message {
                from: peer(from).pki_id(),
                message: verified.message,
            }
        }
        Step::Connected(number) => Event::Connected {
            identity: peer(number),
            endpoint: None,
        },
        Step::Disconnected(number) => Event::Disconnected(peer(number).pki_id()),
        Step::Unreachable(number) => Event::Unreachable(peer(number).pki_id()),
        Step::Changed(number) => Event::IdentityChanged {
            old: peer(number).pki_id(),
        },
        Step::Dialed {
            peer: number,
            ping,
            outcome,
        } => Event::Dialed {
            endpoint: Endpoint::new(format!("peer{}:7051", number % 24)),
            purpose: if ping {
                DialPurpose::Ping(peer(number).pki_id())
            } else {
                DialPurpose::Identify
            },
            outcome: match outcome % 3 {
                0 => DialOutcome::Failed,
                1 => DialOutcome::Answered,
                _ => DialOutcome::Identified(peer(outcome)),
            },
        },
        Step::Join {
            channel: number,
            sequence,
            orgs,
            height,
        } => Event::ChannelJoined(ChannelSetup {
            channel: channel(number),
            sequence,
            orgs: ORGS
                .iter()
                .enumerate()
                .filter(|(index, _)| orgs >> index & 1 == 1)
                .map(|(index, org)| ChannelOrg {
                    org: OrgId::from(*org),
                    anchor_peers: vec![Endpoint::new(format!("peer{index}:7051"))],
                })
                .collect(),
            height,
            block_gossip: orgs & 8 == 0,
        }),
        Step::Leave(number) => Event::ChannelLeft(channel(number)),
        Step::Ordered {
            channel: number,
            number: block,
        } => Event::BlockFromOrderer {
            channel: channel(number),
            block: TestBlock::new(block),
        },
        Step::Verdict {
            channel: number,
            from,
            number: block,
            good,
            how,
        } => {
            let arrived = ArrivedBlock {
                number: block,
                bytes: TestBlock::new(block).bytes,
                envelope: (how % 3 != 2).then(|| block_of(number, block)),
                from: peer(from).pki_id(),
                how: [Arrival::Push, Arrival::Pull, Arrival::StateTransfer][usize::from(how) % 3],
            };
            let channel = channel(number);
            if good {
                Event::BlockVerified {
                    channel,
                    block: TestBlock::new(block),
                    arrived,
                }
            } else {
                Event::BlockRefused { channel, arrived }
            }
        }
        Step::Committed {
            channel: number,
            height,
        } => Event::Committed {
            channel: channel(number),
            height,
        },
        Step::Read {
            channel: number,
            to,
            nonce,
            start,
            count,
        } => Event::BlocksRead {
            channel: channel(number),
            to: Peer {
                pki_id: peer(to).pki_id(),
                endpoint: Endpoint::from("peer:7051"),
            },
            nonce,
            start,
            blocks: vec![Bytes::from_static(b"block"); usize::from(count % 16)],
        },
        Step::Suspect(number) => {
            Event::Suspect(vec![OrgId::from(ORGS[usize::from(number) % ORGS.len()])])
        }
        Step::Revoked(number) => Event::IdentityRevoked(peer(number).pki_id()),
        Step::OrdererUnreachable(number) => Event::OrdererUnreachable(channel(number)),
        Step::Push {
            channel: number,
            peers,
            acks,
        } => Event::SendWithAck(SendWithAck {
            id: next_id,
            channel: channel(number),
            data: Box::default(),
            eligible: Arc::new(Everybody),
            max_peers: usize::from(peers % 6),
            min_acks: usize::from(acks % 4),
            timeout: Duration::from_secs(3),
        }),
        Step::Fetch {
            channel: number,
            items,
        } => {
            let items = (0..items % 8).map(|item| MissingItem {
                digest: PvtDataDigest {
                    tx_id: item.to_string(),
                    ..Default::default()
                },
                preferred: Arc::new(Organisations([OrgId::from("Org2")].into())),
                eligible: Arc::new(Everybody),
                purged_at: (item % 3 == 0).then_some(30),
            });
            Event::FetchPrivateData(FetchPrivateData {
                id: next_id,
                channel: channel(number),
                items: items.collect(),
                timeout: Duration::from_secs(20),
            })
        }
        Step::Stored(number) => Event::PrivateDataStored {
            to: peer(number).pki_id(),
            nonce: 1,
            stored: Ok(()),
        },
        Step::PrivateRead(number) => Event::PrivateDataRead {
            channel: channel(number),
            to: peer(number).pki_id(),
            nonce: 1,
            elements: Vec::new(),
        },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Any sequence of events, honest or not, sensible or not.
    #[test]
    fn any_sequence_of_events_is_survived(steps in vec(step(), 1..250), seed in any::<u64>()) {
        let limits = Limits { members: 10, identities: 16, emitter_queue: 50, relayed_state_infos: 5, channels: 1 };
        let mut config = Config {
            internal_endpoint: Endpoint::from("me.internal:7051"),
            external_endpoint: Endpoint::from("me:7051"),
            bootstrap: vec![Endpoint::from("peer3:7051")],
            limits: limits.clone(),
            ..Config::default()
        };
        config.state.enabled = seed % 2 == 0;
        config.use_leader_election = seed % 3 != 0;
        let me = identity("Org1", "me");
        let mut now = Instant::now();
        let mut random = [0; 32];
        random[..8].copy_from_slice(&seed.to_le_bytes());
        let mut gossip: Gossip<TestBlock> = Gossip::new(Setup {
            config: Arc::new(config),
            identity: me.clone(),
            signer: signer(&me),
            seed: random,
            now,
            unix_nanos: 1_700_000_000_000_000_000,
        })
        .unwrap();
        let mut delivered: std::collections::BTreeMap<ChannelId, u64> = Default::default();
        let mut leads = BTreeSet::new();
        let mut nonces = Vec::new();
        let mut awaited = BTreeSet::new();
        for (id, step) in (0..).zip(&steps) {
            if let Step::Pass(millis) = step {
                now += Duration::from_millis(u64::from(*millis));
            }
            let Some(event) = event_of(step, &gossip, &nonces, id) else { continue };
            let woken = matches!(event, Event::Wakeup);
            if matches!(step, Step::Push { .. } | Step::Fetch { .. }) {
                awaited.insert(id);
            }
            let mut actions = Vec::new();
            gossip.handle(event, now, &mut |action| actions.push(action));
            prop_assert!(actions.len() < 500, "{} actions", actions.len());
            for action in actions {
                match action {
                    Action::Deliver { channel, block, .. } => {
                        if let Some(last) = delivered.insert(channel, block.number) {
                            prop_assert!(block.number > last, "{} after {last}", block.number);
                        }
                    }
                    Action::Send { to, frame, kind } => {
                        prop_assert_ne!(to.pki_id, me.pki_id());
                        if matches!(kind, FrameKind::PrivateData | FrameKind::PrivateRequest) {
                            let envelope = Envelope::from_frame(frame).unwrap();
                            let message = GossipMessage::decode(envelope.payload().clone()).unwrap();
                            nonces.push(message.nonce);
                        }
                    }
                    Action::LeadershipChanged { channel, leads: true } => {
                        prop_assert!(leads.insert(channel));
                    }
                    Action::LeadershipChanged { channel, leads: false } => {
                        prop_assert!(leads.remove(&channel));
                    }
                    Action::SendAcknowledged { id, .. } | Action::PrivateDataFetched { id, .. } => {
                        prop_assert!(awaited.remove(&id), "{id} has one result");
                    }
                    _ => {}
                }
            }
            let deadline = gossip.next_deadline().unwrap();
            prop_assert!(!woken || deadline > now);
            prop_assert!(gossip.members().len() <= limits.members);
            prop_assert!(gossip.identities().len() <= limits.identities);
            prop_assert!(gossip.channels().iter().count() <= limits.channels);
        }
        // Whatever was to be sent or fetched has an end.
        let end = now + Duration::from_secs(60);
        while let Some(due) = gossip.next_deadline().filter(|due| *due <= end) {
            now = now.max(due);
            gossip.handle(Event::Wakeup, now, &mut |action| {
                if let Action::SendAcknowledged { id, .. } | Action::PrivateDataFetched { id, .. } = action {
                    awaited.remove(&id);
                }
            });
        }
        prop_assert!(awaited.is_empty(), "{awaited:?}");
    }
}
