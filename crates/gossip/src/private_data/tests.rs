use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_protos::gossip::{GossipMessage, PrivatePayload};

use super::*;
use crate::config::Config;
use crate::context::LocalPeer;
use crate::crypto::Identity;
use crate::event::{ChannelOrg, ChannelSetup, Event};
use crate::message::{Envelope, own_alive, own_state_info};
use crate::node::{Gossip, Setup};
use crate::testing::{Trusting, local_peer, recorded, start};
use crate::types::OrgId;

const CHANNEL: &str = "harbour";
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct NoBlock;

impl Payload for NoBlock {
    fn number(&self) -> u64 {
        0
    }

    fn encoded(&self) -> &Bytes {
        unreachable!("no blocks here")
    }
}

/// These peers and no other.
#[derive(Debug)]
struct These(BTreeSet<PkiId>);

impl Eligibility for These {
    fn permits(&self, peer: &Identity) -> bool {
        self.0.contains(&peer.pki_id())
    }
}

#[derive(Clone, Debug)]
struct Sent {
    to: PkiId,
    kind: FrameKind,
    message: GossipMessage,
}

impl Sent {
    fn digests(&self) -> &[PvtDataDigest] {
        match &self.message.content {
            Some(Content::PrivateReq(request)) => &request.digests,
            other => panic!("{other:?} is no request"),
        }
    }
}

struct Stage {
    gossip: Gossip<NoBlock>,
    now: Instant,
    sent: Vec<Sent>,
    acknowledged: Vec<(u64, Result<(), SendError>)>,
    fetched: Vec<(u64, Fetched)>,
    to_store: Vec<(PkiId, u64)>,
    to_read: Vec<(PkiId, u64, Vec<PvtDataDigest>)>,
}

/// Members of the channel, beside this peer of Org1MSP: organisation, name, ledger height.
const MEMBERS: [(&str, &str, u64); 5] = [
    ("Org1MSP", "ash", 10),
    ("Org1MSP", "elm", 10),
    ("Org1MSP", "fir", 10),
    ("Org2MSP", "oak", 10),
    ("Org2MSP", "yew", 50),
];

fn peer(name: &str) -> LocalPeer {
    let org = if name == "stranger" {
        "Org9MSP"
    } else {
        "Org2MSP"
    };
    let org = MEMBERS
        .iter()
        .find(|it| it.1 == name)
        .map_or(org, |it| it.0);
    local_peer(org, name, true, start())
}

fn id(name: &str) -> PkiId {
    peer(name).pki_id()
}

fn these(names: &[&str]) -> Arc<dyn Eligibility> {
    Arc::new(These(names.iter().map(|name| id(name)).collect()))
}

impl Stage {
    fn new() -> Self {
        Self::in_channel(CHANNEL)
    }

    fn in_channel(channel: &str) -> Self {
        let now = start();
        let me = local_peer("Org1MSP", "me", true, now);
        let config = Config {
            internal_endpoint: me.internal_endpoint.clone(),
            external_endpoint: me.external_endpoint.clone(),
            ..Config::default()
        };
        let gossip = Gossip::new(Setup {
            config: Arc::new(config),
            identity: me.identity,
            signer: Arc::new(Trusting),
            seed: [3; 32],
            now,
            unix_nanos: 1_000,
        });
        let mut stage = Self {
            gossip: gossip.unwrap(),
            now,
            sent: Vec::new(),
            acknowledged: Vec::new(),
            fetched: Vec::new(),
            to_store: Vec::new(),
            to_read: Vec::new(),
        };
        let org = |org: &str| ChannelOrg {
            org: OrgId::from(org),
            anchor_peers: Vec::new(),
        };
        let channel = ChannelId::from(channel);
        stage.event(Event::ChannelJoined(ChannelSetup {
            channel: channel.clone(),
            sequence: 1,
            orgs: vec![org("Org1MSP"), org("Org2MSP")],
            height: 1,
            block_gossip: true,
        }));
        for (_, name, height) in MEMBERS {
            stage.alive(name, 1);
            let peer = peer(name);
            let info =
                own_state_info(&peer, &channel, 1, height, false, Vec::new(), &Trusting).unwrap();
            stage.message(name, Message::StateInfo(Box::new(info)));
        }
        stage.sent.clear();
        stage
    }

    fn alive(&mut self, name: &str, sequence: u64) {
        let peer = peer(name);
        let identity = peer.identity.clone();
        self.event(Event::Connected {
            identity,
            endpoint: None,
        });
        let alive = own_alive(&peer, sequence, self.now, self.now, &Trusting).unwrap();
        self.message(name, Message::Alive(alive));
    }

    fn event(&mut self, event: Event<NoBlock>) {
        let mut actions = Vec::new();
        self.gossip
            .handle(event, self.now, &mut |action| actions.push(action));
        for action in actions {
            match action {
                Action::Send { to, frame, kind } => {
                    let envelope = Envelope::from_frame(frame).unwrap();
                    assert!(
                        envelope.signature().is_empty()
                            || kind == FrameKind::Alive
                            || kind == FrameKind::StateInfo
                    );
                    let message = GossipMessage::decode(envelope.payload().clone()).unwrap();
                    let to = to.pki_id;
                    self.sent.push(Sent { to, kind, message });
                }
                Action::SendAcknowledged { id, result } => self.acknowledged.push((id, result)),
                Action::PrivateDataFetched { id, fetched } => self.fetched.push((id, fetched)),
                Action::StorePrivateData { from, nonce, .. } => self.to_store.push((from, nonce)),
                Action::ReadPrivateData {
                    asker,
                    nonce,
                    digests,
                    ..
                } => self.to_read.push((asker.pki_id(), nonce, digests)),
                _ => {}
            }
        }
    }

    fn message(&mut self, from: &str, message: Message) {
        let from = id(from);
        self.event(Event::Message { from, message });
    }

    /// Lets time pass; everybody stays alive.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.gossip.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.event(Event::Wakeup);
        }
        self.now = end;
    }

    fn take(&mut self, kind: FrameKind) -> Vec<Sent> {
        let all = std::mem::take(&mut self.sent);
        let (taken, rest) = all.into_iter().partition(|sent| sent.kind == kind);
        self.sent = rest;
        taken
    }

    /// Pushes; returns whom to, and the nonce.
    fn push(
        &mut self,
        eligible: Arc<dyn Eligibility>,
        max_peers: usize,
        min_acks: usize,
    ) -> (Vec<PkiId>, u64) {
        self.event(Event::SendWithAck(SendWithAck {
            id: 7,
            channel: ChannelId::from(CHANNEL),
            data: Box::new(data("writes")),
            eligible,
            max_peers,
            min_acks,
            timeout: 3 * SECOND,
        }));
        let sent = self.take(FrameKind::PrivateData);
        let nonce = sent.first().map_or(0, |sent| sent.message.nonce);
        assert!(sent.iter().all(|sent| sent.message.nonce == nonce));
        (sent.into_iter().map(|sent| sent.to).collect(), nonce)
    }

    fn ack(&mut self, from: PkiId, nonce: u64, error: &str) {
        let error = error.to_owned();
        self.event(Event::Message {
            from,
            message: Message::Ack { nonce, error },
        });
    }

    fn fetch(&mut self, items: Vec<MissingItem>) -> Vec<Sent> {
        self.event(Event::FetchPrivateData(FetchPrivateData {
            id: 9,
            channel: ChannelId::from(CHANNEL),
            items,
            timeout: 60 * SECOND,
        }));
        self.take(FrameKind::PrivateRequest)
    }

    /// The peer that was asked answers with payloads for these; returns what is asked next.
    fn respond(&mut self, request: &Sent, digests: &[PvtDataDigest]) -> Vec<Sent> {
        self.respond_as(request.to, request.message.nonce, digests)
    }

    fn respond_as(&mut self, from: PkiId, nonce: u64, digests: &[PvtDataDigest]) -> Vec<Sent> {
        let elements = digests.iter().map(|digest| PvtDataElement {
            digest: Some(digest.clone()),
            payload: vec![Bytes::from_static(b"writes")],
        });
        let response = Box::new(RemotePvtDataResponse {
            elements: elements.collect(),
        });
        let channel = ChannelId::from(CHANNEL);
        let message = Message::PrivateResponse(channel, nonce, response);
        self.event(Event::Message { from, message });
        self.take(FrameKind::PrivateRequest)
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.gossip.counters().drops_of(reason)
    }
}

fn data(writes: &str) -> PrivateDataMessage {
    PrivateDataMessage {
        payload: Some(PrivatePayload {
            collection_name: "secrets".to_owned(),
            namespace: "cargo".to_owned(),
            tx_id: "tx1".to_owned(),
            private_rwset: Bytes::copy_from_slice(writes.as_bytes()),
            ..Default::default()
        }),
    }
}

fn digest(number: u64) -> PvtDataDigest {
    PvtDataDigest {
        tx_id: format!("tx{number}"),
        namespace: "cargo".to_owned(),
        collection: "secrets".to_owned(),
        block_seq: 5,
        seq_in_block: number,
    }
}

fn item(number: u64, preferred: &[&str], eligible: &[&str]) -> MissingItem {
    MissingItem {
        digest: digest(number),
        preferred: these(preferred),
        eligible: these(eligible),
        purged_at: None,
    }
}

#[test]
fn a_push_goes_to_eligible_peers_one_of_each_organisation_first() {
    for _ in 0..20 {
        let mut stage = Stage::new();
        let (to, _) = stage.push(Arc::new(Everybody), 2, 0);
        let orgs: BTreeSet<OrgId> = to
            .iter()
            .map(|to| stage.gossip.identities().org(to).unwrap().clone())
            .collect();
        assert_eq!((to.len(), orgs.len()), (2, 2));
        let (to, _) = stage.push(Arc::new(Everybody), 9, 0);
        assert_eq!(to.into_iter().collect::<BTreeSet<_>>().len(), 5);
        let (to, _) = stage.push(these(&["elm", "stranger"]), 9, 0);
        assert_eq!(to, [id("elm")]);
        let own = Organisations(BTreeSet::from([OrgId::from("Org2MSP")]));
        let (to, _) = stage.push(Arc::new(own), 9, 0);
        assert_eq!(
            to.into_iter().collect::<BTreeSet<_>>(),
            BTreeSet::from([id("oak"), id("yew")])
        );
    }
}

#[test]
fn a_push_has_succeeded_when_enough_peers_have_acknowledged_it() {
    let mut stage = Stage::new();
    let (to, nonce) = stage.push(Arc::new(Everybody), 4, 2);
    stage.ack(to[0], nonce, "");
    assert!(stage.acknowledged.is_empty());
    stage.ack(to[1], nonce, "no room");
    assert!(stage.acknowledged.is_empty());
    stage.ack(to[2], nonce, "");
    assert_eq!(stage.acknowledged, [(7, Ok(()))]);
    // What comes later is neither an error nor told again.
    stage.ack(to[3], nonce, "");
    assert_eq!(stage.acknowledged.len(), 1);
    assert_eq!(stage.drops(DropReason::UnknownNonce), 0);
    let counted = stage.gossip.counters().private_data;
    assert_eq!(
        (counted.pushed, counted.acknowledged, counted.refused),
        (4, 3, 1)
    );
}

#[test]
fn a_push_that_nobody_must_acknowledge_succeeds_at_once() {
    let mut stage = Stage::new();
    let (to, nonce) = stage.push(Arc::new(Everybody), 3, 0);
    assert_eq!(stage.acknowledged, [(7, Ok(()))]);
    stage.ack(to[0], nonce, "");
    stage.pass(4 * SECOND);
    assert_eq!(stage.acknowledged.len(), 1);
    assert_eq!(stage.gossip.counters().private_data.unanswered, 2);
    // Nor does one that goes to nobody.
    let (to, _) = stage.push(Arc::new(Everybody), 0, 0);
    assert!(to.is_empty());
    assert_eq!(stage.acknowledged.len(), 2);
}

#[test]
fn a_push_fails_as_soon_as_too_few_can_acknowledge_it() {
    let mut stage = Stage::new();
    let (to, nonce) = stage.push(Arc::new(Everybody), 3, 2);
    stage.ack(to[0], nonce, &"x".repeat(5_000));
    stage.event(Event::Unreachable(to[1]));
    let failures = vec![
        (to[0], AckFailure::Refused("x".repeat(500))),
        (to[1], AckFailure::Unreachable),
    ];
    let error = SendError::TooFewAcks {
        required: 2,
        acknowledged: 0,
        failures,
    };
    assert_eq!(stage.acknowledged, [(7, Err(error))]);

    let mut stage = Stage::new();
    let (to, nonce) = stage.push(Arc::new(Everybody), 2, 2);
    stage.ack(to[0], nonce, "");
    stage.pass(3 * SECOND - Duration::from_millis(1));
    assert!(stage.acknowledged.is_empty());
    stage.pass(SECOND);
    let error = SendError::TooFewAcks {
        required: 2,
        acknowledged: 1,
        failures: vec![(to[1], AckFailure::TimedOut)],
    };
    assert_eq!(stage.acknowledged, [(7, Err(error))]);
    stage.ack(to[1], nonce, "");
    assert_eq!(stage.drops(DropReason::UnknownNonce), 1);
}

#[test]
fn a_push_is_not_begun_when_too_few_peers_are_known() {
    let mut stage = Stage::new();
    let (to, _) = stage.push(these(&["ash", "oak"]), 5, 3);
    assert!(to.is_empty());
    let error = SendError::TooFewPeers {
        required: 3,
        found: 2,
    };
    assert_eq!(stage.acknowledged, [(7, Err(error))]);
    // So does one that may go to fewer than must acknowledge it.
    stage.push(Arc::new(Everybody), 1, 2);
    assert!(matches!(
        stage.acknowledged[1].1,
        Err(SendError::TooFewPeers {
            required: 2,
            found: 1
        })
    ));
    stage.event(Event::SendWithAck(SendWithAck {
        id: 8,
        channel: ChannelId::from("elsewhere"),
        data: Box::new(data("writes")),
        eligible: Arc::new(Everybody),
        max_peers: 1,
        min_acks: 0,
        timeout: SECOND,
    }));
    assert!(matches!(
        stage.acknowledged[2],
        (8, Err(SendError::UnknownChannel(_)))
    ));
}

#[test]
fn acknowledgements_count_once_from_those_who_were_sent_to() {
    let mut stage = Stage::new();
    let (to, nonce) = stage.push(these(&["ash", "elm"]), 2, 2);
    stage.ack(id("fir"), nonce, "");
    stage.ack(to[0], nonce.wrapping_add(1), "");
    stage.ack(to[0], nonce, "");
    stage.ack(to[0], nonce, "");
    assert!(stage.acknowledged.is_empty());
    assert_eq!(stage.drops(DropReason::UnknownNonce), 3);
    stage.ack(to[1], nonce, "");
    assert_eq!(stage.acknowledged, [(7, Ok(()))]);
}

#[test]
fn preferred_peers_are_asked_first_and_then_any_that_may_have_it() {
    let mut stage = Stage::new();
    let requests = stage.fetch(vec![
        item(1, &["oak"], &["ash", "oak"]),
        item(2, &["oak"], &["oak"]),
        item(3, &[], &["elm"]),
        item(4, &["stranger"], &[]),
    ]);
    assert_eq!(requests.len(), 2);
    let oak = requests.iter().find(|it| it.to == id("oak")).unwrap();
    let elm = requests.iter().find(|it| it.to == id("elm")).unwrap();
    assert_eq!(oak.digests(), [digest(1), digest(2)]);
    assert_eq!(elm.digests(), [digest(3)]);
    // Oak has but one; the other is asked of ash at once, while elm takes its time.
    let next = stage.respond(oak, &[digest(2)]);
    assert_eq!(next.len(), 1);
    assert_eq!(
        (next[0].to, next[0].digests()),
        (id("ash"), &[digest(1)][..])
    );
    assert!(stage.respond(&next[0], &[]).is_empty());
    assert!(stage.fetched.is_empty());
    assert!(stage.respond(elm, &[digest(3)]).is_empty());
    let (key, fetched) = stage.fetched.pop().unwrap();
    assert_eq!(key, 9);
    let found: Vec<&PvtDataDigest> = fetched
        .elements
        .iter()
        .map(|element| element.digest.as_ref().unwrap())
        .collect();
    assert_eq!(found, [&digest(2), &digest(3)]);
    let missing: BTreeSet<u64> = fetched.missing.iter().map(|it| it.seq_in_block).collect();
    assert_eq!(missing, BTreeSet::from([1, 4]));
    assert!(fetched.purged.is_empty());
}

#[test]
fn an_element_without_payload_is_not_there() {
    let mut stage = Stage::new();
    let requests = stage.fetch(vec![item(1, &[], &["ash"])]);
    let response = Box::new(RemotePvtDataResponse {
        elements: vec![PvtDataElement {
            digest: Some(digest(1)),
            payload: Vec::new(),
        }],
    });
    let nonce = requests[0].message.nonce;
    stage.message(
        "ash",
        Message::PrivateResponse(ChannelId::from(CHANNEL), nonce, response),
    );
    assert_eq!(stage.fetched[0].1.missing, [digest(1)]);
    assert_eq!(stage.drops(DropReason::Unsolicited), 0);
}

#[test]
fn a_response_counts_only_for_what_was_asked_of_that_peer() {
    let mut stage = Stage::new();
    let requests = stage.fetch(vec![item(1, &["ash"], &[]), item(2, &["elm"], &[])]);
    let ash = requests.iter().find(|it| it.to == id("ash")).unwrap();
    let nonce = ash.message.nonce;
    stage.respond_as(id("elm"), nonce, &[digest(1)]);
    stage.respond_as(id("ash"), nonce.wrapping_add(1), &[digest(1)]);
    assert_eq!(stage.drops(DropReason::UnknownNonce), 2);
    // Elm was asked for the second.
    stage.respond(ash, &[digest(2), digest(8), digest(1), digest(1)]);
    assert_eq!(stage.drops(DropReason::Unsolicited), 3);
    stage.respond(ash, &[digest(1)]);
    assert_eq!(stage.drops(DropReason::UnknownNonce), 3);
    assert!(stage.fetched.is_empty());
    stage.pass(6 * SECOND);
    let fetched = &stage.fetched[0].1;
    assert_eq!(fetched.elements.len(), 1);
    assert_eq!(fetched.missing, [digest(2)]);
}

#[test]
fn a_silent_or_unreachable_peer_is_not_waited_for_long() {
    let mut stage = Stage::new();
    let requests = stage.fetch(vec![item(1, &["ash"], &["ash", "elm", "fir"])]);
    assert_eq!(requests[0].to, id("ash"));
    stage.pass(5 * SECOND - Duration::from_millis(1));
    assert!(stage.take(FrameKind::PrivateRequest).is_empty());
    stage.pass(Duration::from_millis(2));
    let second = stage.take(FrameKind::PrivateRequest);
    assert_eq!(second.len(), 1);
    stage.event(Event::Unreachable(second[0].to));
    let third = stage.take(FrameKind::PrivateRequest);
    assert_eq!(third.len(), 1);
    let asked = BTreeSet::from([requests[0].to, second[0].to, third[0].to]);
    assert_eq!(asked.len(), 3, "each once");
    stage.respond(&third[0], &[digest(1)]);
    assert_eq!(stage.fetched[0].1.elements.len(), 1);
}

#[test]
fn a_fetch_ends_in_time() {
    let mut stage = Stage::new();
    stage.event(Event::FetchPrivateData(FetchPrivateData {
        id: 9,
        channel: ChannelId::from(CHANNEL),
        items: vec![item(1, &[], &["ash", "elm", "fir", "oak"])],
        timeout: 7 * SECOND,
    }));
    stage.pass(8 * SECOND);
    assert_eq!(stage.take(FrameKind::PrivateRequest).len(), 2);
    assert_eq!(stage.fetched[0].1.missing, [digest(1)]);
    stage.pass(60 * SECOND);
    assert_eq!(stage.fetched.len(), 1);
}

#[test]
fn what_others_have_purged_is_not_asked_for() {
    let mut stage = Stage::new();
    // Yew's ledger has 50 blocks, those of the others 10.
    let purged = |number, at, eligible: &[&str]| MissingItem {
        purged_at: Some(at),
        ..item(number, &[], eligible)
    };
    let requests = stage.fetch(vec![
        purged(1, 50, &["ash", "yew"]),
        purged(2, 51, &["yew"]),
        purged(3, 50, &["ash"]),
    ]);
    let asked: usize = requests.iter().map(|request| request.digests().len()).sum();
    assert_eq!(asked, 2);
    for request in &requests {
        stage.respond(request, request.digests());
    }
    assert_eq!(stage.fetched[0].1.purged, [digest(1)]);
    assert_eq!(stage.fetched[0].1.elements.len(), 2);
}

#[test]
fn many_items_are_asked_for_in_pieces() {
    let mut stage = Stage::new();
    let items = (0..2_500).map(|number| item(number, &["ash"], &[]));
    let requests = stage.fetch(items.collect());
    let sizes: Vec<usize> = requests
        .iter()
        .map(|request| request.digests().len())
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
    for request in &requests {
        stage.respond(request, request.digests());
    }
    assert_eq!(stage.fetched[0].1.elements.len(), 2_500);
}

#[test]
fn a_fetch_without_peers_or_channel_ends_at_once() {
    let mut stage = Stage::new();
    assert!(stage.fetch(vec![item(1, &["stranger"], &[])]).is_empty());
    assert_eq!(stage.fetched[0].1.missing, [digest(1)]);
    stage.event(Event::FetchPrivateData(FetchPrivateData {
        id: 10,
        channel: ChannelId::from("elsewhere"),
        items: vec![item(1, &["ash"], &[])],
        timeout: SECOND,
    }));
    assert_eq!(stage.fetched[1].0, 10);
    assert_eq!(stage.fetched[1].1.missing, [digest(1)]);
    // One that wants nothing, too.
    stage.fetch(Vec::new());
    assert_eq!(stage.fetched[2].1, Fetched::default());
}

#[test]
fn what_is_pushed_to_us_is_acknowledged_when_it_is_stored() {
    let mut stage = Stage::new();
    for (nonce, stored) in [(5, Ok(())), (6, Err("no room".to_owned()))] {
        let push = Message::PrivateData(ChannelId::from(CHANNEL), nonce, Box::new(data("writes")));
        stage.message("oak", push);
        assert!(stage.take(FrameKind::Ack).is_empty());
        let (to, of) = stage.to_store.pop().unwrap();
        assert_eq!((to, of), (id("oak"), nonce));
        let error = stored.clone().err().unwrap_or_default();
        stage.event(Event::PrivateDataStored { to, nonce, stored });
        let acks = stage.take(FrameKind::Ack);
        assert_eq!((acks.len(), acks[0].to), (1, id("oak")));
        let content = Content::Ack(Acknowledgement { error });
        let expected = gossip_message(Tag::Undefined, None, nonce, content);
        assert_eq!(acks[0].message, expected);
    }
    // Without a write-set there is nothing to be stored.
    let channel = || ChannelId::from(CHANNEL);
    let empty = Box::new(PrivateDataMessage { payload: None });
    stage.message("oak", Message::PrivateData(channel(), 7, empty));
    stage.message(
        "oak",
        Message::PrivateData(channel(), 8, Box::new(data(""))),
    );
    assert!(stage.to_store.is_empty());
    assert_eq!(stage.drops(DropReason::Malformed), 2);
}

#[test]
fn strangers_push_and_get_nothing() {
    let mut stage = Stage::new();
    let identity = peer("stranger").identity;
    stage.event(Event::Connected {
        identity,
        endpoint: None,
    });
    let channel = ChannelId::from(CHANNEL);
    let elsewhere = ChannelId::from("elsewhere");
    let request = || {
        Box::new(RemotePvtDataRequest {
            digests: vec![digest(1)],
        })
    };
    let push = Message::PrivateData(channel.clone(), 5, Box::new(data("writes")));
    stage.message("stranger", push);
    stage.message(
        "stranger",
        Message::PrivateRequest(channel.clone(), 6, request()),
    );
    stage.message(
        "stranger",
        Message::PrivateResponse(channel.clone(), 6, Box::default()),
    );
    assert_eq!(stage.drops(DropReason::ForeignOrg), 3);
    stage.message("oak", Message::PrivateRequest(elsewhere, 6, request()));
    assert_eq!(stage.drops(DropReason::UnknownChannel), 1);
    // Of a channel that we have left.
    stage.event(Event::ChannelLeft(channel.clone()));
    stage.message("oak", Message::PrivateRequest(channel, 6, request()));
    assert_eq!(stage.drops(DropReason::UnknownChannel), 2);
    assert!(stage.to_store.is_empty() && stage.to_read.is_empty());
}

#[test]
fn a_flood_of_pushes_and_requests_is_bounded() {
    let mut stage = Stage::new();
    for nonce in 0..500 {
        let channel = ChannelId::from(CHANNEL);
        let push = Message::PrivateData(channel.clone(), nonce, Box::new(data("writes")));
        stage.message("oak", push);
        stage.message(
            "oak",
            Message::PrivateRequest(channel, nonce, Box::default()),
        );
    }
    assert_eq!(stage.to_store.len(), MAX_STORES_OF_A_PEER);
    assert_eq!(stage.to_read.len(), MAX_READS_OF_A_PEER);
    assert_eq!(stage.drops(DropReason::PrivateDataFull), 1_000 - 120);
    // Another peer is served all the same, and so is this one when something is done.
    let channel = ChannelId::from(CHANNEL);
    let request = || Message::PrivateRequest(ChannelId::from(CHANNEL), 1, Box::default());
    stage.message("ash", request());
    assert_eq!(stage.to_read.len(), MAX_READS_OF_A_PEER + 1);
    stage.event(Event::PrivateDataRead {
        channel,
        to: id("oak"),
        nonce: 3,
        elements: Vec::new(),
    });
    assert_eq!(stage.take(FrameKind::PrivateResponse).len(), 1);
    stage.message("oak", request());
    assert_eq!(stage.to_read.len(), MAX_READS_OF_A_PEER + 2);
}

#[test]
fn a_response_is_cut_before_it_is_too_large() {
    let mut stage = Stage::new();
    let channel = ChannelId::from(CHANNEL);
    stage.message(
        "oak",
        Message::PrivateRequest(channel.clone(), 1, Box::default()),
    );
    let half = Bytes::from(vec![0; MAX_RESPONSE_BYTES / 2]);
    let element = |number, payload: &Bytes| PvtDataElement {
        digest: Some(digest(number)),
        payload: vec![payload.clone()],
    };
    let elements = vec![
        element(1, &half),
        element(2, &half),
        element(3, &Bytes::from_static(b"small")),
    ];
    stage.event(Event::PrivateDataRead {
        channel,
        to: id("oak"),
        nonce: 1,
        elements,
    });
    let sent = stage.take(FrameKind::PrivateResponse);
    let Some(Content::PrivateRes(response)) = &sent[0].message.content else {
        panic!("{:?}", sent[0].kind);
    };
    let numbers = response
        .elements
        .iter()
        .map(|it| it.digest.as_ref().unwrap().seq_in_block);
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 3]);
}

/// What a peer says is, apart from nonces that it draws itself, what Go peers said in a recorded network.
#[test]
fn messages_are_built_as_they_were_recorded() {
    let mut seen = BTreeSet::new();
    for message in recorded() {
        let name = std::str::from_utf8(&message.channel).unwrap().to_owned();
        let nonce = message.nonce;
        match message.content.clone().unwrap() {
            Content::PrivateData(data) => {
                let mut stage = Stage::in_channel(&name);
                stage.event(Event::SendWithAck(SendWithAck {
                    id: 1,
                    channel: ChannelId::from(name.as_str()),
                    data: Box::new(data),
                    eligible: Arc::new(Everybody),
                    max_peers: 1,
                    min_acks: 1,
                    timeout: SECOND,
                }));
                let mut sent = stage.take(FrameKind::PrivateData).pop().unwrap().message;
                sent.nonce = nonce;
                assert_eq!(sent, message);
                seen.insert("push");
            }
            Content::Ack(ack) => {
                let mut stage = Stage::new();
                let push =
                    Message::PrivateData(ChannelId::from(CHANNEL), nonce, Box::new(data("writes")));
                stage.message("oak", push);
                assert!(ack.error.is_empty());
                stage.event(Event::PrivateDataStored {
                    to: id("oak"),
                    nonce,
                    stored: Ok(()),
                });
                assert_eq!(stage.take(FrameKind::Ack).pop().unwrap().message, message);
                seen.insert("ack");
            }
            Content::PrivateReq(request) => {
                let mut stage = Stage::in_channel(&name);
                let items = request.digests.iter().map(|digest| MissingItem {
                    digest: digest.clone(),
                    ..item(0, &["ash"], &[])
                });
                stage.event(Event::FetchPrivateData(FetchPrivateData {
                    id: 1,
                    channel: ChannelId::from(name.as_str()),
                    items: items.collect(),
                    timeout: SECOND,
                }));
                let mut sent = stage.take(FrameKind::PrivateRequest).pop().unwrap().message;
                sent.nonce = nonce;
                assert_eq!(sent, message);
                seen.insert("request");
            }
            Content::PrivateRes(response) => {
                let mut stage = Stage::in_channel(&name);
                let channel = ChannelId::from(name.as_str());
                let request = Message::PrivateRequest(channel.clone(), nonce, Box::default());
                stage.message("oak", request);
                stage.event(Event::PrivateDataRead {
                    channel,
                    to: id("oak"),
                    nonce,
                    elements: response.elements,
                });
                let sent = stage.take(FrameKind::PrivateResponse).pop().unwrap();
                assert_eq!(sent.message, message);
                seen.insert("response");
            }
            _ => {}
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn nothing_is_kept_of_what_is_over() {
    let mut stage = Stage::new();
    assert_eq!(stage.gossip.private_data_mut().next_deadline(), None);
    stage.push(Arc::new(Everybody), 3, 1);
    stage.fetch(vec![item(1, &[], &["ash", "elm"])]);
    assert_eq!(stage.gossip.private_data_mut().pushes.len(), 1);
    assert_eq!(stage.gossip.private_data_mut().fetches.len(), (1, 1));
    stage.pass(11 * SECOND);
    assert_eq!(stage.gossip.private_data_mut().pushes.len(), 0);
    assert_eq!(stage.gossip.private_data_mut().fetches.len(), (0, 0));
    assert_eq!(stage.gossip.private_data_mut().next_deadline(), None);
}
