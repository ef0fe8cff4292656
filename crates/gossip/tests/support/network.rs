//! A network of gossip nodes in memory, on virtual time: latency, loss, partitions, crashes. One seed, one
//! run. It checks what must hold in any run: secrets stay within the organisation, blocks are delivered in
//! order, and a node that was woken up sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use selvedge_gossip::config::Config;
use selvedge_gossip::crypto::Identity;
use selvedge_gossip::event::{
    Action, Arrival, ChannelOrg, ChannelSetup, DialOutcome, DialPurpose, Event, FrameClass,
    FrameKind, Notice, Payload,
};
use selvedge_gossip::message::{Envelope, MessageError, decode, verify};
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_gossip::private_data::{Fetched, SendError};
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::Content;
use selvedge_protos::gossip::{GossipMessage, PrivateDataMessage, PvtDataDigest, PvtDataElement};

use super::keys::{HashCrypto, identity, signer};

/// A block whose verification is looking at its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestBlock {
    pub number: u64,
    pub bytes: Bytes,
}

impl TestBlock {
    pub fn new(number: u64) -> Self {
        let mut bytes = format!("block {number};").into_bytes();
        bytes.resize(500, b'.');
        Self {
            number,
            bytes: bytes.into(),
        }
    }

    fn verify(number: u64, bytes: &Bytes) -> Option<Self> {
        (TestBlock::new(number).bytes == *bytes).then(|| TestBlock::new(number))
    }
}

impl Payload for TestBlock {
    fn number(&self) -> u64 {
        self.number
    }

    fn encoded(&self) -> &Bytes {
        &self.bytes
    }
}

/// How the network behaves.
#[derive(Clone, Debug)]
pub struct Link {
    pub latency: std::ops::Range<Duration>,
    /// Frames lost, of 1000.
    pub loss: u32,
    /// What every node can receive of blocks, in bytes a second, one frame after the other. Whatever else is sent is
    /// small, and overtakes them.
    pub downlink: Option<u32>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1)..Duration::from_millis(5),
            loss: 0,
            downlink: None,
        }
    }
}

/// A node and what has become of it.
pub struct Node {
    pub org: String,
    pub identity: Identity,
    pub config: Arc<Config>,
    pub gossip: Gossip<TestBlock>,
    pub up: bool,
    /// Blocks in the ledger, by channel; a ledger begins with block 0.
    pub ledgers: BTreeMap<ChannelId, Vec<TestBlock>>,
    pub arrivals: Vec<(Instant, u64, Arrival)>,
    pub notices: Vec<Notice>,
    pub refused: Vec<MessageError>,
    /// The channels whose blocks it would fetch from the ordering service.
    pub leads: BTreeSet<ChannelId>,
    /// Private data, by transaction and collection.
    pub private: BTreeMap<(String, String), Bytes>,
    /// Results of pushes and fetches.
    pub acknowledged: Vec<(u64, Result<(), SendError>)>,
    pub fetched: Vec<(u64, Fetched)>,
    pub connected: BTreeSet<usize>,
    /// Until when its downlink is busy with what was sent to it.
    downlink_busy: Instant,
}

enum Due {
    Event(usize, Box<Event<TestBlock>>),
    Frame {
        from: usize,
        to: usize,
        frame: Bytes,
    },
}

pub struct Network {
    pub now: Instant,
    pub start: Instant,
    pub nodes: Vec<Node>,
    pub link: Link,
    /// PKI-IDs of nodes that have a new certificate now.
    former: BTreeMap<PkiId, usize>,
    /// Organisations whose identities are no longer valid.
    pub invalid_orgs: BTreeSet<String>,
    /// Pairs that cannot reach each other.
    pub cut: BTreeSet<(usize, usize)>,
    /// Two nodes, of which what the first sends to the second is noted.
    watching: Option<(usize, usize, Vec<FrameKind>)>,
    /// Frames sent, by kind.
    pub sent: BTreeMap<FrameKind, u64>,
    /// Bytes of blocks sent over a [`Link::downlink`].
    pub block_bytes: u64,
    /// A running hash of all that was sent.
    pub trace: [u8; 32],
    due: BTreeMap<(Instant, u64), Due>,
    sequence: u64,
    rng: StdRng,
    seed: u64,
}

/// What a peer is made from.
pub struct PeerSpec {
    pub org: String,
    pub name: String,
    pub external: bool,
}

pub fn internal(name: &str) -> Endpoint {
    Endpoint::new(format!("{name}.internal:7051"))
}

pub fn external(name: &str) -> Endpoint {
    Endpoint::new(format!("{name}.example.com:7051"))
}

/// `count` peers of `org` with external endpoints.
pub fn peers(org: &str, count: usize) -> Vec<PeerSpec> {
    (0..count)
        .map(|number| PeerSpec {
            org: org.to_owned(),
            name: format!("peer{number}.{org}"),
            external: true,
        })
        .collect()
}

impl Network {
    /// Peers that all have the first peer of their organisation as bootstrap peer. `adjust` changes the
    /// default settings.
    pub fn new(seed: u64, specs: &[PeerSpec], adjust: impl Fn(&mut Config)) -> Self {
        let start = Instant::now();
        let mut network = Self {
            now: start,
            start,
            nodes: Vec::new(),
            link: Link::default(),
            former: BTreeMap::new(),
            invalid_orgs: BTreeSet::new(),
            cut: BTreeSet::new(),
            watching: None,
            sent: BTreeMap::new(),
            block_bytes: 0,
            trace: [0; 32],
            due: BTreeMap::new(),
            sequence: 0,
            rng: StdRng::seed_from_u64(seed),
            seed,
        };
        for spec in specs {
            let first = specs.iter().find(|other| other.org == spec.org).unwrap();
            let mut config = Config {
                internal_endpoint: internal(&spec.name),
                external_endpoint: if spec.external {
                    external(&spec.name)
                } else {
                    Endpoint::from("")
                },
                bootstrap: vec![internal(&first.name)],
                ..Config::default()
            };
            adjust(&mut config);
            let identity = identity(&spec.org, &spec.name);
            let config = Arc::new(config);
            let gossip = network.gossip(&identity, &config, network.nodes.len());
            network.nodes.push(Node {
                org: spec.org.clone(),
                identity,
                config,
                gossip,
                up: true,
                ledgers: BTreeMap::new(),
                arrivals: Vec::new(),
                notices: Vec::new(),
                refused: Vec::new(),
                leads: BTreeSet::new(),
                private: BTreeMap::new(),
                acknowledged: Vec::new(),
                fetched: Vec::new(),
                connected: BTreeSet::new(),
                downlink_busy: start,
            });
        }
        network
    }

    fn gossip(&self, identity: &Identity, config: &Arc<Config>, index: usize) -> Gossip<TestBlock> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&(index as u64).to_le_bytes());
        Gossip::new(Setup {
            config: config.clone(),
            identity: identity.clone(),
            signer: signer(identity),
            seed,
            now: self.now,
            unix_nanos: self.unix_nanos(),
        })
        .unwrap()
    }

    pub fn id(&self, node: usize) -> PkiId {
        self.nodes[node].identity.pki_id()
    }

    fn index_of(&self, pki_id: &PkiId) -> usize {
        let former = self.former.get(pki_id).copied();
        former.unwrap_or_else(|| {
            (0..self.nodes.len())
                .find(|node| self.id(*node) == *pki_id)
                .unwrap()
        })
    }

    /// All nodes join `channel`, whose organisations are those of all nodes, with the first peer of each as
    /// anchor peer.
    pub fn join_all(&mut self, channel: &str) {
        for node in 0..self.nodes.len() {
            self.join(node, channel);
        }
    }

    /// The same for one.
    pub fn join(&mut self, node: usize, channel: &str) {
        let setup = self.channel_setup(channel);
        let ledger = vec![TestBlock::new(0)];
        self.nodes[node]
            .ledgers
            .insert(setup.channel.clone(), ledger);
        self.event(node, Event::ChannelJoined(setup));
    }

    pub fn channel_setup(&self, channel: &str) -> ChannelSetup {
        let orgs: BTreeSet<String> = self.nodes.iter().map(|node| node.org.clone()).collect();
        ChannelSetup {
            channel: ChannelId::from(channel),
            sequence: 1,
            orgs: orgs
                .iter()
                .map(|org| ChannelOrg {
                    org: OrgId::from(org.as_str()),
                    anchor_peers: self
                        .nodes
                        .iter()
                        .filter(|node| node.org == *org)
                        .map(|node| node.config.external_endpoint.clone())
                        .filter(|endpoint| !endpoint.is_empty())
                        .take(1)
                        .collect(),
                })
                .collect(),
            height: 1,
            block_gossip: true,
        }
    }

    pub fn stop(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.nodes[node].connected.clear();
        for other in &mut self.nodes {
            other.connected.remove(&node);
        }
    }

    /// Starts a stopped node afresh; its ledgers are kept, its channels joined again.
    pub fn restart(&mut self, node: usize) {
        let (identity, config) = (
            self.nodes[node].identity.clone(),
            self.nodes[node].config.clone(),
        );
        self.nodes[node].gossip = self.gossip(&identity, &config, node + 1000);
        self.nodes[node].up = true;
        self.nodes[node].leads.clear();
        let ledgers: Vec<(ChannelId, u64)> = self.nodes[node]
            .ledgers
            .iter()
            .map(|(channel, ledger)| (channel.clone(), ledger.len() as u64))
            .collect();
        for (channel, height) in ledgers {
            let mut setup = self.channel_setup(channel.as_str());
            setup.height = height;
            self.event(node, Event::ChannelJoined(setup));
        }
    }

    /// Starts a stopped node with another certificate, at the same endpoints.
    pub fn renew(&mut self, node: usize, name: &str) {
        self.former.insert(self.id(node), node);
        self.nodes[node].identity = identity(&self.nodes[node].org, name);
        self.restart(node);
    }

    /// Cuts all connections between two groups.
    pub fn partition(&mut self, left: &[usize], right: &[usize]) {
        for a in left {
            for b in right {
                self.cut.insert((*a, *b));
                self.cut.insert((*b, *a));
            }
        }
    }

    /// Lets `node` handle an event now.
    pub fn event(&mut self, node: usize, event: Event<TestBlock>) {
        if !self.nodes[node].up {
            return;
        }
        let woken = matches!(event, Event::Wakeup);
        let mut actions = Vec::new();
        let now = self.now;
        self.nodes[node]
            .gossip
            .handle(event, now, &mut |action| actions.push(action));
        if woken {
            let deadline = self.nodes[node].gossip.next_deadline().unwrap();
            assert!(deadline > now, "a node that was woken up must sleep");
        }
        for action in actions {
            self.act(node, action);
        }
    }

    /// Gives a frame to `to` as if `from` had sent it.
    pub fn frame(&mut self, from: usize, to: usize, frame: Bytes) {
        if !self.nodes[to].up {
            return;
        }
        let received = match decode(frame) {
            Ok(received) => received,
            Err(error) => return self.nodes[to].refused.push(error),
        };
        let known = self.nodes[to].gossip.identities();
        match verify(received, &HashCrypto, known) {
            Ok(verification) => {
                self.nodes[to].refused.extend(verification.refused);
                let from = self.id(from);
                let message = verification.message;
                self.event(to, Event::Message { from, message });
            }
            Err(error) => self.nodes[to].refused.push(error),
        }
    }

    /// Hands a block to `node` as if it came from an ordering node.
    pub fn order(&mut self, node: usize, channel: &str, number: u64) {
        let channel = ChannelId::from(channel);
        let block = TestBlock::new(number);
        self.event(node, Event::BlockFromOrderer { channel, block });
    }

    fn after(&mut self, delay: Duration, due: Due) {
        self.sequence += 1;
        self.due.insert((self.now + delay, self.sequence), due);
    }

    fn latency(&mut self) -> Duration {
        let range = self.link.latency.clone();
        self.rng.random_range(range)
    }

    fn act(&mut self, node: usize, action: Action<TestBlock>) {
        match action {
            Action::Send {
                to,
                frame,
                kind,
                channel,
            } => {
                assert!(
                    kind.class() != FrameClass::Bulk || channel.is_some(),
                    "{kind:?}"
                );
                let received = decode(frame.clone()).unwrap();
                assert_eq!(received.label(), kind.name(), "both ends count alike");
                *self.sent.entry(kind).or_default() += 1;
                let now = (self.now - self.start).as_nanos().to_le_bytes();
                self.trace = selvedge_protos::sha256_of_parts([
                    self.trace.as_ref(),
                    now.as_ref(),
                    to.pki_id.as_bytes(),
                    frame.as_ref(),
                ]);
                let receiver = self.index_of(&to.pki_id);
                if let Some((from, to, kinds)) = &mut self.watching
                    && (*from, *to) == (node, receiver)
                {
                    kinds.push(kind);
                }
                self.send(node, &to.pki_id, frame, kind.class());
            }
            Action::Dial { endpoint, purpose } => self.dial(node, endpoint, purpose),
            Action::Disconnect { peer, .. } => {
                let peer = self.index_of(&peer);
                self.nodes[node].connected.remove(&peer);
                self.nodes[peer].connected.remove(&node);
            }
            Action::VerifyBlock { channel, block } => {
                let event = match TestBlock::verify(block.number, &block.bytes) {
                    Some(verified) => Event::BlockVerified {
                        channel,
                        block: verified,
                        arrived: block,
                    },
                    None => Event::BlockRefused {
                        channel,
                        arrived: block,
                    },
                };
                self.after(
                    Duration::from_micros(200),
                    Due::Event(node, Box::new(event)),
                );
            }
            Action::Deliver {
                channel,
                block,
                how,
                ..
            } => {
                let now = self.now;
                let state = &mut self.nodes[node];
                let ledger = state.ledgers.get_mut(&channel).unwrap();
                assert_eq!(
                    block.number,
                    ledger.len() as u64,
                    "blocks are delivered in order"
                );
                state.arrivals.push((now, block.number, how));
                ledger.push(block);
                let height = ledger.len() as u64;
                let event = Event::Committed { channel, height };
                self.after(Duration::from_millis(2), Due::Event(node, Box::new(event)));
            }
            Action::ReadBlocks {
                channel,
                to,
                nonce,
                start,
                end,
            } => {
                let blocks = self.nodes[node].ledgers[&channel]
                    .iter()
                    .filter(|block| (start..=end).contains(&block.number))
                    .map(|block| block.bytes.clone())
                    .collect();
                let event = Event::BlocksRead {
                    channel,
                    to,
                    nonce,
                    start,
                    blocks,
                };
                self.after(Duration::from_millis(1), Due::Event(node, Box::new(event)));
            }
            Action::LeadershipChanged { channel, leads } => {
                let led = &mut self.nodes[node].leads;
                let changed = if leads {
                    led.insert(channel)
                } else {
                    led.remove(&channel)
                };
                assert!(changed, "leadership must change when it is said to");
            }
            Action::SendAcknowledged { id, result } => {
                self.nodes[node].acknowledged.push((id, result));
            }
            Action::PrivateDataFetched { id, fetched } => {
                self.nodes[node].fetched.push((id, fetched));
            }
            Action::StorePrivateData {
                from, nonce, data, ..
            } => self.store_private_data(node, from, nonce, &data),
            Action::ReadPrivateData {
                channel,
                asker,
                nonce,
                digests,
            } => self.read_private_data(node, channel, &asker, nonce, &digests),
            Action::Notice(notice) => self.nodes[node].notices.push(notice),
            Action::RecheckReaders { .. } => {}
            Action::Revalidate(identity) => {
                if self.invalid_orgs.contains(identity.org().as_str()) {
                    let revoked = Event::IdentityRevoked(identity.pki_id());
                    self.after(Duration::ZERO, Due::Event(node, Box::new(revoked)));
                }
            }
            Action::IdentityLearned(_) | Action::IdentityPurged(_) => {}
        }
    }

    /// Notes from now on what `from` sends to `to`.
    pub fn watch(&mut self, from: usize, to: usize) {
        self.watching = Some((from, to, Vec::new()));
    }

    /// What was noted; ends that.
    pub fn watched(&mut self) -> Vec<FrameKind> {
        self.watching
            .take()
            .map_or_else(Vec::new, |(.., kinds)| kinds)
    }

    /// Whether both ends find the other's identity valid when a stream is opened.
    fn shake_hands(&self, one: usize, other: usize) -> bool {
        let valid = |node: usize| {
            let node = &self.nodes[node];
            let ends = node.identity.expires_at().unwrap_or(u64::MAX);
            !self.invalid_orgs.contains(&node.org) && self.unix_nanos() < ends
        };
        valid(one) && valid(other)
    }

    fn unix_nanos(&self) -> u64 {
        let since_start = u64::try_from((self.now - self.start).as_nanos()).unwrap();
        1_700_000_000_000_000_000 + since_start
    }

    fn send(&mut self, from: usize, to: &PkiId, frame: Bytes, class: FrameClass) {
        let peer = self.index_of(to);
        let mut delay = self.latency();
        let open = self.nodes[from].connected.contains(&peer);
        if !self.nodes[peer].up
            || self.cut.contains(&(from, peer))
            || !(open || self.shake_hands(from, peer))
        {
            return self.after(delay, Due::Event(from, Box::new(Event::Unreachable(*to))));
        }
        if self.nodes[from].org != self.nodes[peer].org {
            assert_no_secret(&frame);
        }
        if self.id(peer) != *to {
            // The handshake shows that somebody else of the organisation answers.
            let changed = Event::IdentityChanged { old: *to };
            return self.after(delay, Due::Event(from, Box::new(changed)));
        }
        if self.nodes[from].connected.insert(peer) {
            self.nodes[peer].connected.insert(from);
            for (one, other) in [(from, peer), (peer, from)] {
                let identity = self.nodes[other].identity.clone();
                let connected = Event::Connected {
                    identity,
                    endpoint: None,
                };
                self.after(Duration::ZERO, Due::Event(one, Box::new(connected)));
            }
        }
        if class == FrameClass::Bulk {
            delay += self.through_downlink(peer, frame.len());
        }
        if self.rng.random_range(0..1000) >= self.link.loss {
            self.after(
                delay,
                Due::Frame {
                    from,
                    to: peer,
                    frame,
                },
            );
        }
    }

    /// How long a frame takes to a node behind those that are on their way to it.
    fn through_downlink(&mut self, node: usize, length: usize) -> Duration {
        let Some(downlink) = self.link.downlink else {
            return Duration::ZERO;
        };
        let length = u32::try_from(length).unwrap();
        let begin = self.nodes[node].downlink_busy.max(self.now);
        let end = begin + Duration::from_secs(1) * length / downlink;
        self.nodes[node].downlink_busy = end;
        self.block_bytes += u64::from(length);
        end - self.now
    }

    /// Stores what was pushed, unless it says that it cannot be.
    fn store_private_data(
        &mut self,
        node: usize,
        from: PkiId,
        nonce: u64,
        data: &PrivateDataMessage,
    ) {
        let payload = data.payload.as_ref().unwrap();
        let stored = if payload.collection_name == "refused" {
            Err("no room".to_owned())
        } else {
            let key = (payload.tx_id.clone(), payload.collection_name.clone());
            let written = payload.private_rwset.clone();
            self.nodes[node].private.insert(key, written);
            Ok(())
        };
        let event = Event::PrivateDataStored {
            to: from,
            nonce,
            stored,
        };
        self.after(Duration::from_millis(1), Due::Event(node, Box::new(event)));
    }

    /// Reads what was asked for. The collections of an organisation, named `ORG...`, are for it alone.
    fn read_private_data(
        &mut self,
        node: usize,
        channel: ChannelId,
        asker: &Identity,
        nonce: u64,
        digests: &[PvtDataDigest],
    ) {
        let private = &self.nodes[node].private;
        let found = digests.iter().filter_map(|digest| {
            let key = (digest.tx_id.clone(), digest.collection.clone());
            let foreign = key.1.starts_with("Org") && !key.1.starts_with(asker.org().as_str());
            let written = private.get(&key).filter(|_| !foreign)?;
            Some(PvtDataElement {
                digest: Some(digest.clone()),
                payload: vec![written.clone()],
            })
        });
        let event = Event::PrivateDataRead {
            channel,
            to: asker.pki_id(),
            nonce,
            elements: found.collect(),
        };
        self.after(Duration::from_millis(1), Due::Event(node, Box::new(event)));
    }

    fn dial(&mut self, node: usize, endpoint: Endpoint, purpose: DialPurpose) {
        let found = (0..self.nodes.len()).find(|other| {
            let config = &self.nodes[*other].config;
            config.internal_endpoint == endpoint || config.external_endpoint == endpoint
        });
        let reached =
            found.filter(|other| self.nodes[*other].up && !self.cut.contains(&(node, *other)));
        let outcome = match (reached, &purpose) {
            (None, _) => DialOutcome::Failed,
            (Some(_), DialPurpose::Ping(_)) => DialOutcome::Answered,
            (Some(other), DialPurpose::Identify) => {
                DialOutcome::Identified(self.nodes[other].identity.clone())
            }
        };
        let event = Event::Dialed {
            endpoint,
            purpose,
            outcome,
        };
        let delay = self.latency() * 2;
        self.after(delay, Due::Event(node, Box::new(event)));
    }

    /// Lets `duration` pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let wakeup = self
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.up)
                .filter_map(|(index, node)| Some((node.gossip.next_deadline()?, index)))
                .min();
            let due = self.due.keys().next().map(|(at, _)| *at);
            let next = match (due, wakeup) {
                (Some(due), Some((wakeup, _))) => due.min(wakeup),
                (Some(due), None) => due,
                (None, Some((wakeup, _))) => wakeup,
                (None, None) => end,
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if due == Some(next) {
                match self.due.pop_first().unwrap().1 {
                    Due::Event(node, event) => self.event(node, *event),
                    Due::Frame { from, to, frame } => self.frame(from, to, frame),
                }
            } else if let Some((_, node)) = wakeup {
                self.event(node, Event::Wakeup);
            } else {
                break;
            }
        }
        self.now = end;
    }

    /// Lets time pass until `done`, at most `limit`; says whether it came to that.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while self.now < end {
            if done(self) {
                return true;
            }
            self.run(Duration::from_millis(100));
        }
        done(self)
    }

    /// Whom `node` takes to be alive, as indices.
    pub fn alive(&self, node: usize) -> BTreeSet<usize> {
        let members = self.nodes[node].gossip.members();
        members
            .alive()
            .map(|member| self.index_of(&member.pki_id()))
            .collect()
    }

    pub fn height(&self, node: usize, channel: &str) -> u64 {
        self.nodes[node].ledgers[channel].len() as u64
    }
}

/// No envelope within a frame has a secret.
fn assert_no_secret(frame: &Bytes) {
    let envelope = Envelope::from_frame(frame.clone()).unwrap();
    assert!(!envelope.has_secret(), "a secret leaves the organisation");
    let message = GossipMessage::decode(envelope.payload().clone()).unwrap();
    let nested = match message.content.unwrap() {
        Content::MemReq(request) => vec![request.self_information.unwrap()],
        Content::MemRes(response) => [response.alive, response.dead].concat(),
        Content::StateSnapshot(snapshot) => snapshot.elements,
        Content::DataUpdate(update) => update.data,
        _ => Vec::new(),
    };
    for envelope in nested {
        assert!(
            envelope.secret_envelope.is_none(),
            "a nested secret leaves the organisation"
        );
    }
}
