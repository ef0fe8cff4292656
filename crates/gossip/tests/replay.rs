//! A node in the place of a recorded peer: it hears what that peer heard, with that peer's key, and must
//! answer what asks for an answer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_gossip::config::Config;
use selvedge_gossip::counters::DropReason;
use selvedge_gossip::event::{
    Action, ArrivedBlock, ChannelOrg, ChannelSetup, Event, FrameKind, Payload,
};
use selvedge_gossip::message::{Alive, Message, PullStep, Verified, decode, verify};
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::common::Block;
use support::recorded::{CHANNEL, RecordedCrypto, RecordedPeer, json, peers, read, transcript};

#[derive(Clone, Debug)]
struct RecordedBlock {
    number: u64,
    bytes: Bytes,
}

impl Payload for RecordedBlock {
    fn number(&self) -> u64 {
        self.number
    }

    fn encoded(&self) -> &Bytes {
        &self.bytes
    }
}

/// 2026-11-22, a little before the recordings.
const START: u64 = 1_795_361_000_000_000_000;

struct Replay {
    crypto: RecordedCrypto,
    gossip: Gossip<RecordedBlock>,
    now: Instant,
    peers: Vec<RecordedPeer>,
    /// What the node sent while it handled the last message: to whom, and the verified message.
    sent: Vec<(PkiId, Message)>,
    delivered: Vec<u64>,
    /// Blocks pushed since the last came from the ordering node.
    pushed: Vec<Bytes>,
    equal_pushes: usize,
    /// Messages to the other organisation.
    sent_abroad: usize,
    /// Leadership messages: when, to whom, and whether they declare.
    leadership: Vec<(Instant, PkiId, bool)>,
    leads: bool,
}

/// No secret is in a message that leaves the organisation.
fn assert_no_secret(message: &Message) {
    let bare = |alive: &Verified<Alive>| assert!(!alive.envelope().has_secret());
    match message {
        Message::Alive(alive) => bare(alive),
        Message::MembershipRequest { asker, .. } => bare(asker),
        Message::MembershipResponse { alive, dead, .. } => alive.iter().chain(dead).for_each(bare),
        _ => {}
    }
}

impl Replay {
    fn new(observer: &str, height: u64) -> Self {
        let crypto = RecordedCrypto::new();
        let peers = peers(&crypto);
        let me = peers.iter().find(|peer| peer.name == observer).unwrap();
        let config = Config {
            internal_endpoint: Endpoint::from(me.internal_endpoint.as_str()),
            external_endpoint: Endpoint::from(me.endpoint.as_str()),
            use_leader_election: true,
            ..Config::default()
        };
        let now = Instant::now();
        let gossip = Gossip::new(Setup {
            config: Arc::new(config),
            identity: me.identity.clone(),
            signer: me.signer(),
            seed: [7; 32],
            now,
            unix_nanos: START,
        })
        .unwrap();
        let mut replay = Self {
            crypto,
            gossip,
            now,
            peers,
            sent: Vec::new(),
            delivered: Vec::new(),
            pushed: Vec::new(),
            equal_pushes: 0,
            sent_abroad: 0,
            leadership: Vec::new(),
            leads: false,
        };
        let orgs = ["Org1MSP", "Org2MSP"].map(|org| ChannelOrg {
            org: OrgId::from(org),
            anchor_peers: Vec::new(),
        });
        replay.event(Event::ChannelJoined(ChannelSetup {
            channel: ChannelId::from(CHANNEL),
            sequence: 1,
            orgs: orgs.into(),
            height,
            block_gossip: true,
        }));
        replay
    }

    fn peer(&self, name: &str) -> &RecordedPeer {
        self.peers.iter().find(|peer| peer.name == name).unwrap()
    }

    fn pass(&mut self, until: Instant) {
        while let Some(deadline) = self.gossip.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.event(Event::Wakeup);
        }
        self.now = self.now.max(until);
    }

    fn event(&mut self, event: Event<RecordedBlock>) {
        let mut actions = Vec::new();
        self.gossip
            .handle(event, self.now, &mut |action| actions.push(action));
        for action in actions {
            match action {
                Action::Send {
                    to, frame, kind, ..
                } => {
                    if kind == FrameKind::Block {
                        self.pushed.push(frame.clone());
                    }
                    // What we send must pass our own checks.
                    let received = decode(frame).unwrap();
                    let identities = self.gossip.identities();
                    let verified = verify(received, &self.crypto, identities).unwrap();
                    assert!(verified.refused.is_empty());
                    if identities.org(&to.pki_id) != Some(self.gossip.me().org()) {
                        assert_no_secret(&verified.message);
                        self.sent_abroad += 1;
                    }
                    if let Message::Leadership(_, said) = &verified.message {
                        self.leadership
                            .push((self.now, to.pki_id, said.is_declaration));
                    }
                    self.sent.push((to.pki_id, verified.message));
                }
                Action::LeadershipChanged { leads, .. } => self.leads = leads,
                Action::VerifyBlock { channel, block } => self.verify_block(channel, block),
                Action::Deliver { channel, block, .. } => {
                    self.delivered.push(block.number);
                    let height = block.number + 1;
                    self.event(Event::Committed { channel, height });
                }
                _ => {}
            }
        }
    }

    fn verify_block(&mut self, channel: ChannelId, arrived: ArrivedBlock) {
        let block = Block::decode(arrived.bytes.clone()).unwrap();
        assert_eq!(block.header.unwrap().number, arrived.number);
        self.event(Event::BlockVerified {
            channel,
            block: RecordedBlock {
                number: arrived.number,
                bytes: arrived.bytes.clone(),
            },
            arrived,
        });
    }

    /// The recorded peer was its organisation's leader: what it pushed it had from an ordering node.
    fn order(&mut self, frame: &Bytes) {
        self.pushed.clear();
        self.event(Event::BlockFromOrderer {
            channel: ChannelId::from(CHANNEL),
            block: block_in(frame),
        });
        self.pass(self.now + Duration::from_millis(10));
        // Byte for byte what the Go peer sent.
        if self.pushed.contains(frame) {
            self.equal_pushes += 1;
        }
    }

    /// Hears `frame` from the peer `from` and returns what is sent back to it.
    fn hear(&mut self, from: &str, frame: &Bytes) -> Vec<Message> {
        let peer = self.peer(from).identity.clone();
        let received = decode(frame.clone()).unwrap();
        // The author may be unknown: messages of the recorded peer's other streams were not heard.
        let Ok(verified) = verify(received, &self.crypto, self.gossip.identities()) else {
            return Vec::new();
        };
        self.sent.clear();
        self.event(Event::Message {
            from: peer.pki_id(),
            message: verified.message,
        });
        let back = self.sent.iter().filter(|(to, _)| *to == peer.pki_id());
        back.map(|(_, message)| message.clone()).collect()
    }
}

/// Replays a conversation; returns the replay and how many messages of each kind were answered.
fn replay(name: &str) -> (Replay, BTreeMap<String, usize>) {
    let (observer, entries) = transcript(name);
    let first_block = entries
        .iter()
        .filter(|entry| entry.kind == "data-msg")
        .map(|entry| block_in(&entry.frame).number)
        .min();
    let mut replay = Replay::new(&observer, first_block.unwrap_or(1));
    let start = replay.now;
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &entries {
        replay.pass(start + Duration::from_secs_f64(entry.seconds));
        if entry.to != observer {
            if entry.kind == "data-msg" {
                replay.order(&entry.frame);
            }
            continue;
        }
        if entry.kind.starts_with("conn-establish") {
            let identity = replay.peer(&entry.from).identity.clone();
            replay.event(Event::Connected {
                identity,
                endpoint: None,
            });
            continue;
        }
        let heard = {
            let identities = replay.gossip.identities();
            let received = decode(entry.frame.clone()).unwrap();
            match verify(received, &replay.crypto, identities) {
                Ok(verified) => verified.message,
                Err(_) => continue,
            }
        };
        let back = replay.hear(&entry.from, &entry.frame);
        if back.iter().any(|answer| answers(&heard, answer)) {
            *answered.entry(entry.kind.clone()).or_default() += 1;
        }
    }
    (replay, answered)
}

fn block_in(frame: &Bytes) -> RecordedBlock {
    let crypto = RecordedCrypto::new();
    let nobody = support::recorded::Known::default();
    let received = decode(frame.clone()).unwrap();
    match verify(received, &crypto, &nobody).unwrap().message {
        Message::Block(_, block) => RecordedBlock {
            number: block.number,
            bytes: block.bytes,
        },
        other => panic!("{other:?}"),
    }
}

/// Whether `answer` is what `message` asks for.
fn answers(message: &Message, answer: &Message) -> bool {
    match (message, answer) {
        (
            Message::MembershipRequest { nonce, asker },
            Message::MembershipResponse {
                nonce: back, alive, ..
            },
        ) => nonce == back && alive.iter().any(|alive| alive.pki_id == asker.pki_id),
        (Message::IdentityPull(asked), Message::IdentityPull(back)) => {
            asked.nonce == back.nonce
                && matches!(
                    (&asked.step, &back.step),
                    (PullStep::Hello, PullStep::Digest(_))
                )
        }
        (Message::BlockPull(_, asked), Message::BlockPull(_, back)) => {
            asked.nonce == back.nonce
                && matches!(
                    (&asked.step, &back.step),
                    (PullStep::Hello, PullStep::Digest(_))
                )
        }
        (Message::StateInfoPullRequest { .. }, Message::StateInfoSnapshot(..)) => true,
        _ => false,
    }
}

fn count(name: &str, kind: &str) -> usize {
    let (observer, entries) = transcript(name);
    entries
        .iter()
        .filter(|entry| entry.to == observer && entry.kind == kind)
        .count()
}

#[test]
fn a_conversation_within_an_organisation_is_answered() {
    let name = "transcript";
    let (replay, answered) = replay(name);
    for kind in ["membership-request", "hello-identity"] {
        assert_eq!(answered[kind], count(name, kind), "{kind}");
    }
    // The first ones come before the StateInfo of the asker.
    for kind in ["state-info-pull-request", "hello-block"] {
        assert!(
            answered[kind] + 4 >= count(name, kind),
            "{kind}: {answered:?}"
        );
    }
    assert!(replay.delivered.len() > 20, "{:?}", replay.delivered);
    assert!(replay.equal_pushes > 20, "{}", replay.equal_pushes);
    assert!(
        replay
            .delivered
            .windows(2)
            .all(|pair| pair[0] + 1 == pair[1])
    );
    let counters = replay.gossip.counters();
    for reason in [
        DropReason::ForeignOrg,
        DropReason::AskerMismatch,
        DropReason::NotEligible,
        DropReason::BlockRefused,
    ] {
        assert_eq!(counters.drops_of(reason), 0, "{reason:?}");
    }
}

/// The recorded peer led its organisation's channel and declared so every five seconds.
#[test]
fn a_leader_declares_itself_as_often_as_the_recorded_one() {
    let (replay, _) = replay("transcript");
    let other = replay.peer("org1.peer2").identity.pki_id();
    let declared: Vec<Instant> = replay
        .leadership
        .iter()
        .filter(|(_, to, is_declaration)| *to == other && *is_declaration)
        .map(|(at, ..)| *at)
        .collect();
    let recorded = transcript("transcript").1;
    let recorded = recorded
        .iter()
        .filter(|entry| entry.kind == "leadership-declaration");
    // One more of them answered a third peer, and ours takes part from the first second of the recording on.
    assert!(declared.len() + 2 >= recorded.count(), "{}", declared.len());
    assert!(replay.leads);
    for pair in declared.windows(2) {
        assert_eq!(pair[1] - pair[0], Duration::from_secs(5));
    }
}

/// The recorded peer came back while another led. It had missed that one's first declaration, and disputed.
#[test]
fn a_restarted_peer_follows_the_recorded_leader() {
    let (replay, _) = replay("transcript-catchup");
    let leader = replay.peer("org2.peer1").identity.pki_id();
    let channel = ChannelId::from(CHANNEL);
    let channel = replay.gossip.channels().get(&channel).unwrap();
    assert_eq!(channel.leader(), Some(leader));
    assert!(!replay.leads);
    assert!(replay.leadership.iter().all(|(.., declares)| !declares));
}

/// A peer that comes back declares itself before it knows of the leader, whose PKI-ID is lower: the leader
/// answered within nine milliseconds.
#[test]
fn a_recorded_dispute_is_answered_at_once() {
    let mut replay = Replay::new("org1.peer1", 1);
    // They get to know each other as the recorded ones did.
    for (_, frame) in recorded_frames("org1.peer0", &["alive", "state-info"]) {
        replay.event(Event::Connected {
            identity: replay.peer("org1.peer0").identity.clone(),
            endpoint: None,
        });
        replay.hear("org1.peer0", &frame);
    }
    replay.pass(replay.now + Duration::from_secs(8));
    assert!(replay.leads);
    let (at, declaration) = recorded_frames("org1.peer0", &["leadership-declaration"])
        .pop()
        .unwrap();
    assert_eq!(at, "messages/0098-leadership-declaration.bin");
    replay.leadership.clear();
    replay.hear("org1.peer0", &declaration);
    let now = replay.now;
    replay.pass(now);
    let other = replay.peer("org1.peer0").identity.pki_id();
    assert_eq!(replay.leadership, [(now, other, true)]);
    assert!(replay.leads);

    // The recorded leader's answer ends the dispute for the one that came back.
    let mut replay = Replay::new("org1.peer0", 1);
    replay.pass(replay.now + Duration::from_secs(8));
    assert!(replay.leads);
    let identity = replay.peer("org1.peer1").identity.clone();
    let leader = identity.pki_id();
    replay.event(Event::Connected {
        identity,
        endpoint: None,
    });
    let (_, answer) = recorded_frames("org1.peer1", &["leadership-declaration"])
        .into_iter()
        .find(|(file, _)| file == "messages/0100-leadership-declaration.bin")
        .unwrap();
    replay.hear("org1.peer1", &answer);
    assert!(!replay.leads);
    let channel = ChannelId::from(CHANNEL);
    let channel = replay.gossip.channels().get(&channel).unwrap();
    assert_eq!(channel.leader(), Some(leader));
}

/// The recorded messages of these kinds that a peer signed, whoever sent them.
fn recorded_frames(author: &str, kinds: &[&str]) -> Vec<(String, Bytes)> {
    let index = json("index.json");
    let entries = index.as_array().unwrap().iter().filter(|entry| {
        kinds.contains(&entry["type"].as_str().unwrap()) && entry["signatures"][0]["by"] == author
    });
    let file = |entry: &serde_json::Value| entry["file"].as_str().unwrap().to_owned();
    entries
        .map(|entry| (file(entry), Bytes::from(read(&file(entry)))))
        .collect()
}

#[test]
fn a_conversation_across_organisations_is_answered_without_secrets() {
    let name = "transcript-crossorg";
    let (replay, answered) = replay(name);
    assert_eq!(
        answered["membership-request"],
        count(name, "membership-request")
    );
    assert_eq!(
        answered["state-info-pull-request"],
        count(name, "state-info-pull-request")
    );
    assert!(replay.sent_abroad > 10, "{}", replay.sent_abroad);
}

#[test]
fn a_peer_that_catches_up_learns_of_all_others() {
    let (replay, _) = replay("transcript-catchup");
    let me = replay.gossip.me().pki_id();
    let own = replay.gossip.me().org().clone();
    for peer in &replay.peers {
        let id = peer.identity.pki_id();
        if id != me && *peer.identity.org() == own {
            assert!(replay.gossip.members().get(&id).is_some(), "{}", peer.name);
        }
    }
}
