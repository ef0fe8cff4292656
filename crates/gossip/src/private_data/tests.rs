//! A peer of Org1MSP in a channel with five others, whose surroundings the tests play.

mod fetching;
mod pushing;
mod serving;

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
                Action::Send {
                    to, frame, kind, ..
                } => {
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
