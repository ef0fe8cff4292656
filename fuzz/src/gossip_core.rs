//! The gossip core behind its event interface: bytes become a script of what happens to a peer.
//!
//! The network is hostile: other peers say anything, out of turn and damaged, give true and false answers
//! to what they are asked, come, go and are revoked. What the peer itself vouches for is true, however late
//! it comes and in whatever order: verdicts on blocks, reads of the ledger, heights, configurations.
//!
//! After each event must hold:
//!
//! - what leaves is bounded, and so are membership, identities, channels and buffered blocks;
//! - blocks are delivered in order, each once, and only genuine ones;
//! - whatever leaves, another peer would accept: it decodes, and every signature in it is right; blocks in
//!   it are genuine;
//! - nothing of a channel goes to an organisation that is not in it, no internal endpoint leaves the
//!   organisation, and a peer never sends to itself;
//! - leadership changes when it is said to, and each push and fetch of private data ends once;
//! - after a wake-up the next deadline is ahead.
//!
//! In the end, with time alone, whatever was to be sent or fetched has an end; and with one honest peer that
//! has blocks more, every channel gets these, whatever liars have said before and however they are silent.

mod peers;
mod script;
mod speech;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_gossip::config::{Config, Limits, Rules};
use selvedge_gossip::crypto::{Crypto as _, Identity};
use selvedge_gossip::event::{
    Action, Arrival, ArrivedBlock, ChannelOrg, ChannelSetup, DialOutcome, DialPurpose, Event,
    FrameKind, Payload as _,
};
use selvedge_gossip::message::{Alive, Message, PullStep, Verified, check_sender, decode, verify};
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_gossip::private_data::{
    Everybody, FetchPrivateData, MissingItem, Organisations, SendWithAck,
};
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, Peer, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::Content;
use selvedge_protos::gossip::{Envelope, GossipMessage, PvtDataDigest, PvtDataElement};

use peers::{BEGIN, CHANNELS, Hashes, ORGS, PEERS, Peers, TestBlock, endpoints, my_key};
use script::Script;
use speech::Known;

/// Events of one run; what follows in the bytes is not looked at.
const MAX_STEPS: usize = 600;
/// Actions of one event. There are two channels, ten members, and no list of more than sixteen.
const MAX_ACTIONS: usize = 500;
/// Bytes that one event sends. Blocks here are tiny.
const MAX_SENT: usize = 200_000;
/// Answers that wait at a time: the oldest comes before another one is awaited.
const MAX_WAITING: usize = 64;
/// Questions and nonces of the peer that others remember.
const MAX_REMEMBERED: usize = 32;
/// Blocks that the core buffers at most twice of.
const BLOCK_BUFFER: usize = 10;

/// So low that some runs meet them. In others there is room for all peers.
const LIMITS: Limits = Limits {
    members: 10,
    identities: 16,
    emitter_queue: 50,
    relayed_state_infos: 5,
    channels: 2,
};

/// Runs the script in `bytes`.
pub fn gossip_core(bytes: &[u8]) {
    let _ = play(bytes);
}

/// Runs the script in `bytes`. Returns what the core was seen to do: kinds of frames, and other actions.
pub fn play(bytes: &[u8]) -> BTreeSet<&'static str> {
    let mut script = Script::new(bytes);
    let mut world = World::new(&mut script);
    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
    }
    world.end();
    world.recover();
    world.seen
}

/// What the peer's own node has to tell it.
enum Answer {
    Dialed(Endpoint, DialPurpose),
    Block(ChannelId, ArrivedBlock),
    Committed(ChannelId, u64),
    Read {
        channel: ChannelId,
        to: Peer,
        nonce: u64,
        start: u64,
        end: u64,
    },
    Stored(PkiId, u64),
    PrivateRead(ChannelId, PkiId, u64, Vec<PvtDataDigest>),
    Revalidated(Identity),
    Rechecked(ChannelId, Vec<Identity>),
}

/// The ledger of a channel.
struct Ledger {
    /// The number of the next block that is to be delivered.
    next: u64,
    /// Blocks in it.
    height: u64,
    /// Of the last configuration.
    sequence: u64,
}

struct World {
    gossip: Gossip<TestBlock>,
    limits: Limits,
    now: Instant,
    ledgers: BTreeMap<ChannelId, Ledger>,
    /// Comes some time, but not when the core likes it.
    waiting: VecDeque<Answer>,
    /// What the peer has asked others, and whom.
    questions: VecDeque<(PkiId, GossipMessage)>,
    nonces: VecDeque<u64>,
    leads: BTreeSet<ChannelId>,
    /// Pushes and fetches that have not ended.
    awaited: BTreeSet<u64>,
    next_id: u64,
    seen: BTreeSet<&'static str>,
}

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let flags = script.byte();
        let flag = |bit: u8| flags >> bit & 1 == 0;
        let limits = match flag(4) {
            true => LIMITS,
            false => Limits {
                members: 30,
                identities: 30,
                ..LIMITS
            },
        };
        let mut config = Config {
            internal_endpoint: Endpoint::from("me.internal:7051"),
            external_endpoint: Endpoint::from(if flag(0) { "me:7051" } else { "" }),
            bootstrap: vec![endpoints(3).0, endpoints(4).0],
            use_leader_election: flag(1),
            limits: limits.clone(),
            rules: if flag(2) {
                Rules::Selvedge
            } else {
                Rules::Fabric
            },
            ..Config::default()
        };
        config.state.enabled = flag(3);
        config.state.block_buffer_size = BLOCK_BUFFER;
        let now = Instant::now();
        let gossip = Gossip::new(Setup {
            config: Arc::new(config),
            identity: Peers::get().me().clone(),
            signer: my_key(),
            seed: [script.byte(); 32],
            now,
            unix_nanos: BEGIN,
        });
        let mut world = Self {
            gossip: gossip.expect("a configuration that can be used"),
            limits,
            now,
            ledgers: BTreeMap::new(),
            waiting: VecDeque::new(),
            questions: VecDeque::new(),
            nonces: VecDeque::new(),
            leads: BTreeSet::new(),
            awaited: BTreeSet::new(),
            next_id: 0,
            seen: BTreeSet::new(),
        };
        world.handle(Event::Wakeup);
        world
    }

    /// Lets one thing happen.
    fn step(&mut self, script: &mut Script<'_>) {
        while self.waiting.len() > MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.answer(oldest, script);
        }
        match script.byte() % 40 {
            0..=2 => {
                // Mostly short.
                let time = u64::from(script.byte()).pow(2);
                self.pass(Duration::from_millis(time / 8));
            }
            3..=6 => self.sleep(),
            7..=17 => self.say(script),
            18..=23 => self.reply(script),
            24..=27 => {
                let index = script.choice(self.waiting.len());
                if let Some(answer) = self.waiting.remove(index) {
                    self.answer(answer, script);
                }
            }
            28..=30 => self.connection(script),
            31 | 32 => self.channel(script),
            33 | 34 => self.ordered(script),
            35 => self.trust(script),
            36 => self.push(script),
            37 => self.fetch(script),
            38 => {
                let channel = channel(script);
                self.handle(match script.once_in(2) {
                    true => Event::OrdererUnreachable(channel),
                    false => Event::Chaincodes(channel, vec![Default::default(); script.choice(3)]),
                });
            }
            _ if script.once_in(8) => {
                let minutes = u64::from(script.byte());
                self.pass(Duration::from_secs(60 * minutes));
            }
            _ => self.pull(script),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.handle(Event::Wakeup);
    }

    /// Until something is due.
    fn sleep(&mut self) {
        self.now = self.deadline().max(self.now);
        self.handle(Event::Wakeup);
    }

    fn deadline(&self) -> Instant {
        let deadline = self.gossip.next_deadline();
        deadline.expect("there is always something to do later")
    }

    fn known<'a>(&'a self, channel: &'a ChannelId, nonces: &'a [u64]) -> Known<'a> {
        Known {
            channel,
            next: self.ledgers.get(channel).map_or(0, |ledger| ledger.next),
            nonces,
        }
    }

    fn say(&mut self, script: &mut Script<'_>) {
        let (speaker, channel) = (speech::peer(script), channel(script));
        self.nonces.make_contiguous();
        let known = self.known(&channel, self.nonces.as_slices().0);
        let said = speech::anything(script, speaker, &known);
        let frame = match script.once_in(6) {
            true => speech::damaged(script, &said, speaker),
            false => said.frame().clone(),
        };
        self.receive(Peers::get().other(speaker).pki_id(), frame);
    }

    /// Somebody says hello and requests at once, whatever the answer.
    fn pull(&mut self, script: &mut Script<'_>) {
        let (speaker, channel) = (speech::peer(script), channel(script));
        let known = self.known(&channel, &[]);
        for said in speech::pull(script, &known) {
            let frame = said.frame().clone();
            self.receive(Peers::get().other(speaker).pki_id(), frame);
        }
    }

    fn reply(&mut self, script: &mut Script<'_>) {
        // Most are answered while the answer is waited for.
        let recent = self.questions.len().min(6);
        let index = match script.once_in(8) {
            true => script.choice(self.questions.len()),
            false => self.questions.len() - recent + script.choice(recent),
        };
        let Some((to, question)) = self.questions.get(index) else {
            return;
        };
        let named = std::str::from_utf8(&question.channel).expect("a name of ours");
        let channel = match named {
            "" => channel(script),
            name => ChannelId::from(name),
        };
        let known = self.known(&channel, &[]);
        let Some(answer) = speech::answer(script, question, &known) else {
            return;
        };
        let (from, frame) = (*to, answer.frame().clone());
        // Most are asked once.
        if !script.once_in(4) {
            self.questions.remove(index);
        }
        self.receive(from, frame);
    }

    /// As the node does it: nothing enters the core that does not decode and verify.
    fn receive(&mut self, from: PkiId, frame: Bytes) {
        let known = self.gossip.identities();
        let Ok(received) = decode(frame) else {
            return;
        };
        let Ok(verified) = verify(received, &Hashes, known) else {
            return;
        };
        let message = verified.message;
        if check_sender(&message, &from, &Hashes, known).is_ok() {
            self.handle(Event::Message { from, message });
        }
    }

    fn connection(&mut self, script: &mut Script<'_>) {
        let peer = speech::peer(script);
        let identity = Peers::get().other(peer);
        self.handle(match script.byte() % 8 {
            0..=3 => Event::Connected {
                identity: identity.clone(),
                endpoint: script.once_in(2).then(|| endpoints(peer).0),
            },
            4 => Event::Disconnected(identity.pki_id()),
            5 => Event::Unreachable(identity.pki_id()),
            _ => Event::IdentityChanged {
                old: identity.pki_id(),
            },
        });
    }

    fn channel(&mut self, script: &mut Script<'_>) {
        // The last is never joined.
        let channel = ChannelId::from(CHANNELS[script.choice(CHANNELS.len() - 1)]);
        let kind = script.byte();
        if kind.is_multiple_of(8) {
            self.handle(Event::ChannelLeft(channel));
            return;
        }
        let first = match script.choice(4) {
            0 => script.number().min(1 << 40),
            small => small as u64,
        };
        let ledger = self.ledgers.entry(channel.clone()).or_insert(Ledger {
            next: first,
            height: first,
            sequence: 0,
        });
        ledger.sequence += 1;
        let out_of_date = script.once_in(8);
        let members = script.byte();
        let orgs = ORGS.iter().zip(0..3).filter(|(_, bit)| match bit {
            0 => members & 0b1_1100 != 0,
            bit => members >> bit & 1 == 0,
        });
        let setup = ChannelSetup {
            sequence: match out_of_date {
                true => ledger.sequence / 2,
                false => ledger.sequence,
            },
            orgs: orgs
                .map(|(org, number)| ChannelOrg {
                    org: OrgId::from(*org),
                    anchor_peers: vec![endpoints(number + 6).1],
                })
                .collect(),
            height: ledger.height,
            block_gossip: members & 0x80 == 0,
            channel: channel.clone(),
        };
        self.handle(match kind % 2 {
            0 => Event::ChannelJoined(setup),
            _ => Event::ChannelUpdated(setup),
        });
    }

    fn ordered(&mut self, script: &mut Script<'_>) {
        let channel = channel(script);
        let Some(ledger) = self.ledgers.get(&channel) else {
            return;
        };
        let number = match script.once_in(4) {
            true => script.near(ledger.next),
            false => ledger.next,
        };
        let block = TestBlock::genuine(&channel, number);
        self.handle(Event::BlockFromOrderer { channel, block });
    }

    /// Trust in identities changes.
    fn trust(&mut self, script: &mut Script<'_>) {
        let peer = Peers::get().other(script.byte()).pki_id();
        self.handle(match script.choice(3) {
            0 => Event::Suspect(vec![OrgId::from(ORGS[script.choice(ORGS.len())])]),
            1 => Event::IdentityRevoked(peer),
            _ => Event::ReaderRefused {
                channel: channel(script),
                peer,
            },
        });
    }

    fn push(&mut self, script: &mut Script<'_>) {
        let id = self.awaited_id();
        self.handle(Event::SendWithAck(SendWithAck {
            id,
            channel: channel(script),
            data: Box::default(),
            eligible: Arc::new(Everybody),
            max_peers: script.choice(6),
            min_acks: script.choice(4),
            timeout: Duration::from_secs(3),
        }));
    }

    fn fetch(&mut self, script: &mut Script<'_>) {
        let id = self.awaited_id();
        let channel = channel(script);
        let items = (0..script.choice(8)).map(|item| MissingItem {
            digest: PvtDataDigest {
                tx_id: item.to_string(),
                ..PvtDataDigest::default()
            },
            preferred: Arc::new(Organisations([OrgId::from(ORGS[1])].into())),
            eligible: Arc::new(Everybody),
            purged_at: (item % 3 == 0).then_some(30),
        });
        let items = items.collect();
        self.handle(Event::FetchPrivateData(FetchPrivateData {
            id,
            channel,
            items,
            timeout: Duration::from_secs(20),
        }));
    }

    fn awaited_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.awaited.insert(id);
        id
    }

    /// Reports what the core has asked for, as it is.
    fn answer(&mut self, answer: Answer, script: &mut Script<'_>) {
        let event = match answer {
            Answer::Dialed(endpoint, purpose) => {
                let outcome = match (script.byte() % 4, &purpose) {
                    (0, _) => DialOutcome::Failed,
                    (_, DialPurpose::Ping(_)) => DialOutcome::Answered,
                    (1, DialPurpose::Identify) => {
                        DialOutcome::Identified(Peers::get().other(script.byte()).clone())
                    }
                    (_, DialPurpose::Identify) => {
                        let at = |number: &u8| {
                            let (internal, external) = endpoints(*number);
                            internal == endpoint || external == endpoint
                        };
                        match (0..PEERS).find(at) {
                            Some(peer) => DialOutcome::Identified(Peers::get().other(peer).clone()),
                            None => DialOutcome::Failed,
                        }
                    }
                };
                Event::Dialed {
                    endpoint,
                    purpose,
                    outcome,
                }
            }
            Answer::Block(channel, arrived) => {
                match TestBlock::verify(&channel, arrived.number, &arrived.bytes) {
                    Some(block) => Event::BlockVerified {
                        channel,
                        block,
                        arrived,
                    },
                    None => Event::BlockRefused { channel, arrived },
                }
            }
            Answer::Committed(channel, height) => {
                let ledger = self.ledgers.get_mut(&channel).expect("its channel");
                ledger.height = ledger.height.max(height);
                Event::Committed {
                    channel,
                    height: ledger.height,
                }
            }
            Answer::Read {
                channel,
                to,
                nonce,
                start,
                end,
            } => {
                let height = self.ledgers[&channel].height;
                let there = end.min(height.saturating_sub(1));
                let blocks = (start..=there)
                    .take_while(|number| *number < height)
                    .map(|number| TestBlock::genuine(&channel, number).encoded().clone());
                Event::BlocksRead {
                    blocks: blocks.collect(),
                    channel,
                    to,
                    nonce,
                    start,
                }
            }
            Answer::Stored(to, nonce) => Event::PrivateDataStored {
                to,
                nonce,
                stored: match script.once_in(3) {
                    true => Err("no".to_owned()),
                    false => Ok(()),
                },
            },
            Answer::PrivateRead(channel, to, nonce, digests) => {
                let elements = digests.into_iter().map(|digest| PvtDataElement {
                    digest: Some(digest),
                    payload: vec![Bytes::from_static(b"writes")],
                });
                Event::PrivateDataRead {
                    channel,
                    to,
                    nonce,
                    elements: elements.collect(),
                }
            }
            Answer::Revalidated(identity) => match script.once_in(3) {
                true => Event::IdentityRevoked(identity.pki_id()),
                false => return,
            },
            Answer::Rechecked(channel, peers) => match script.pick(&peers) {
                Some(peer) if script.once_in(3) => Event::ReaderRefused {
                    channel,
                    peer: peer.pki_id(),
                },
                _ => return,
            },
        };
        self.handle(event);
    }

    /// Gives the core an event and looks at what comes of it.
    fn handle(&mut self, event: Event<TestBlock>) {
        let woken = matches!(event, Event::Wakeup);
        let mut actions = Vec::new();
        self.gossip
            .handle(event, self.now, &mut |action| actions.push(action));
        assert!(actions.len() < MAX_ACTIONS, "{} actions", actions.len());
        let mut sent = 0;
        for action in actions {
            if let Action::Send { frame, .. } = &action {
                sent += frame.len();
            }
            self.act(action);
        }
        assert!(sent < MAX_SENT, "{sent} bytes at once");
        assert!(!woken || self.deadline() > self.now, "it must sleep");
        self.check_bounds();
    }

    fn check_bounds(&self) {
        assert!(self.gossip.members().len() <= self.limits.members);
        assert!(self.gossip.identities().len() <= self.limits.identities);
        assert!(self.gossip.channels().iter().count() <= self.limits.channels);
        for channel in self.gossip.channels().iter() {
            assert!(channel.buffered_blocks() <= 2 * BLOCK_BUFFER);
        }
    }

    fn act(&mut self, action: Action<TestBlock>) {
        self.seen.insert(name_of(&action));
        match action {
            Action::Send { to, frame, kind } => self.sent(to.pki_id, frame, kind),
            Action::Deliver { channel, block, .. } => self.deliver(channel, &block),
            Action::Dial { endpoint, purpose } => {
                self.waiting.push_back(Answer::Dialed(endpoint, purpose))
            }
            Action::VerifyBlock { channel, block } => {
                assert_ne!(block.how, Arrival::Orderer);
                self.waiting.push_back(Answer::Block(channel, block));
            }
            Action::ReadBlocks {
                channel,
                to,
                nonce,
                start,
                end,
            } => {
                assert!(start <= end && end - start < 100, "{start} to {end}");
                self.waiting.push_back(Answer::Read {
                    channel,
                    to,
                    nonce,
                    start,
                    end,
                });
            }
            Action::StorePrivateData {
                from, nonce, data, ..
            } => {
                assert!(data.payload.is_some());
                self.waiting.push_back(Answer::Stored(from, nonce));
            }
            Action::ReadPrivateData {
                channel,
                asker,
                nonce,
                digests,
            } => {
                let asker = asker.pki_id();
                self.waiting
                    .push_back(Answer::PrivateRead(channel, asker, nonce, digests));
            }
            Action::Revalidate(identity) => self.waiting.push_back(Answer::Revalidated(identity)),
            Action::RecheckReaders { channel, peers } => {
                self.waiting.push_back(Answer::Rechecked(channel, peers));
            }
            Action::LeadershipChanged { channel, leads } => {
                let changed = match leads {
                    true => self.leads.insert(channel),
                    false => self.leads.remove(&channel),
                };
                assert!(changed, "leadership must change when it is said to");
            }
            Action::SendAcknowledged { id, .. } | Action::PrivateDataFetched { id, .. } => {
                assert!(self.awaited.remove(&id), "{id} ends twice");
            }
            Action::IdentityLearned(identity) => {
                assert!(Hashes.validate(identity.serialized()).is_ok());
            }
            Action::IdentityPurged(peer) => assert_ne!(peer, Peers::get().me().pki_id()),
            Action::Disconnect { .. } | Action::Notice(_) => {}
        }
    }

    fn deliver(&mut self, channel: ChannelId, block: &TestBlock) {
        let ledger = self.ledgers.get_mut(&channel).expect("a joined channel");
        assert_eq!(block.number(), ledger.next, "blocks come in order");
        let genuine = TestBlock::genuine(&channel, ledger.next);
        assert_eq!(*block, genuine);
        ledger.next += 1;
        let height = ledger.next;
        self.waiting.push_back(Answer::Committed(channel, height));
    }

    /// Looks at a frame as another peer would.
    fn sent(&mut self, to: PkiId, frame: Bytes, kind: FrameKind) {
        let peers = Peers::get();
        assert_ne!(to, peers.me().pki_id());
        let envelope = Envelope::decode(frame.clone()).expect("an envelope");
        let message = GossipMessage::decode(envelope.payload).expect("a message");
        let received = decode(frame).expect("a message as it should be");
        let verified = verify(received, &Hashes, peers).expect("a genuine message");
        assert!(verified.refused.is_empty(), "{:?}", verified.refused);
        self.check(&verified.message, peers.org(&to));
        let nonce = match &message.content {
            Some(Content::Hello(hello)) => hello.nonce,
            Some(Content::DataReq(request)) => request.nonce,
            _ => message.nonce,
        };
        remember(&mut self.nonces, nonce);
        let asks = matches!(
            kind,
            FrameKind::MembershipRequest
                | FrameKind::Hello
                | FrameKind::Request
                | FrameKind::StateInfoPullRequest
                | FrameKind::StateRequest
                | FrameKind::PrivateData
                | FrameKind::PrivateRequest
        );
        if asks {
            remember(&mut self.questions, (to, message));
        }
    }

    /// Holds a message against the rules of who may have it.
    fn check(&self, message: &Message, to: &OrgId) {
        let is_ours = to == Peers::get().me().org();
        let no_secret =
            |alive: &Verified<Alive>| assert!(is_ours || !alive.envelope().has_secret());
        let in_channel = |channel: &ChannelId| {
            let channel = self.gossip.channels().get(channel).expect("a channel");
            let orgs = &channel.setup().orgs;
            assert!(orgs.iter().any(|org| org.org == *to), "{to} is not in it");
        };
        let genuine = |channel: &ChannelId, number, bytes: &Bytes| {
            assert!(TestBlock::verify(channel, number, bytes).is_some());
        };
        match message {
            Message::Alive(alive) => no_secret(alive),
            Message::MembershipRequest { asker, .. } => no_secret(asker),
            Message::MembershipResponse { alive, dead, .. } => {
                alive.iter().chain(dead).for_each(no_secret);
            }
            Message::Block(channel, block) => {
                in_channel(channel);
                genuine(channel, block.number, &block.bytes);
            }
            Message::BlockPull(channel, pull) => {
                in_channel(channel);
                if let PullStep::Update(blocks) = &pull.step {
                    for block in blocks {
                        genuine(channel, block.number, &block.bytes);
                    }
                }
            }
            Message::StateRequest { channel, .. } => in_channel(channel),
            Message::StateResponse {
                channel, payloads, ..
            } => {
                in_channel(channel);
                for block in payloads {
                    genuine(channel, block.number, &block.bytes);
                }
            }
            Message::Leadership(channel, _) => {
                in_channel(channel);
                assert!(is_ours);
            }
            Message::PrivateData(channel, ..)
            | Message::PrivateRequest(channel, ..)
            | Message::PrivateResponse(channel, ..)
            | Message::StateInfoSnapshot(channel, _) => in_channel(channel),
            Message::IdentityPull(_)
            | Message::StateInfo(_)
            | Message::StateInfoPullRequest { .. }
            | Message::Ack { .. }
            | Message::Empty => {}
        }
    }

    /// Time passes, and nothing else happens.
    fn end(&mut self) {
        let end = self.now + Duration::from_secs(60);
        while !self.awaited.is_empty() && self.deadline() <= end {
            self.sleep();
        }
        assert!(self.awaited.is_empty(), "{:?}", self.awaited);
    }
}

/// How long one honest peer may take to bring what is missing, whatever happened before.
const RECOVERY: Duration = Duration::from_secs(120);

impl World {
    /// An honest peer comes that has more blocks of every channel.
    fn recover(&mut self) {
        if self.limits.members == LIMITS.members {
            // There may be no room for it.
            return;
        }
        let helper = Peers::get().helper();
        let channels: Vec<_> = self.ledgers.keys().cloned().collect();
        self.answer_all();
        let mut heights = BTreeMap::new();
        for channel in channels {
            let ledger = self.ledgers.get_mut(&channel).expect("a ledger");
            ledger.sequence += 1;
            heights.insert(channel.clone(), ledger.next + 5);
            let org = |org: &str| ChannelOrg {
                org: OrgId::from(org),
                anchor_peers: Vec::new(),
            };
            let setup = ChannelSetup {
                channel,
                sequence: ledger.sequence,
                orgs: ORGS.map(org).into(),
                height: ledger.height,
                block_gossip: true,
            };
            self.handle(Event::ChannelJoined(setup));
        }
        self.handle(Event::Connected {
            identity: helper.clone(),
            endpoint: None,
        });
        self.questions.clear();
        let end = self.now + RECOVERY;
        let mut time = 0;
        while heights
            .iter()
            .any(|(channel, height)| self.ledgers[channel].next < *height)
        {
            assert!(self.now < end, "{heights:?} are never reached");
            time += 1;
            for (channel, height) in &heights {
                for said in speech::honest(channel, *height, time) {
                    self.receive(helper.pki_id(), said.frame().clone());
                }
            }
            let until = self.now + Duration::from_secs(1);
            while self.now < until {
                self.answer_all();
                while let Some((to, question)) = self.questions.pop_front() {
                    let channel = std::str::from_utf8(&question.channel).expect("a name of ours");
                    let height = heights.get(channel).copied().unwrap_or_default();
                    if to == helper.pki_id()
                        && let Some(answer) = speech::honest_answer(&question, height)
                    {
                        self.receive(to, answer.frame().clone());
                    }
                }
                self.answer_all();
                self.now = self.deadline().clamp(self.now, until);
                self.handle(Event::Wakeup);
            }
        }
    }

    /// Tells the core all that it has asked its own node for.
    fn answer_all(&mut self) {
        let mut plainly = Script::new(&[]);
        while let Some(answer) = self.waiting.pop_front() {
            self.answer(answer, &mut plainly);
        }
    }
}

fn name_of(action: &Action<TestBlock>) -> &'static str {
    match action {
        Action::Send { kind, .. } => kind.name(),
        Action::Dial { .. } => "dials",
        Action::Disconnect { .. } => "disconnects",
        Action::VerifyBlock { .. } => "verifies a block",
        Action::Deliver { how, .. } => match how {
            Arrival::Orderer => "delivers an ordered block",
            Arrival::Push => "delivers a pushed block",
            Arrival::Pull => "delivers a pulled block",
            Arrival::StateTransfer => "delivers a transferred block",
        },
        Action::ReadBlocks { .. } => "reads blocks",
        Action::LeadershipChanged { leads: true, .. } => "leads",
        Action::LeadershipChanged { leads: false, .. } => "leads no more",
        Action::SendAcknowledged { result, .. } => match result {
            Ok(()) => "has pushed private data",
            Err(_) => "has not pushed private data",
        },
        Action::PrivateDataFetched { fetched, .. } => match fetched.elements.is_empty() {
            true => "has not fetched private data",
            false => "has fetched private data",
        },
        Action::StorePrivateData { .. } => "stores private data",
        Action::ReadPrivateData { .. } => "reads private data",
        Action::IdentityLearned(_) => "learns an identity",
        Action::IdentityPurged(_) => "forgets an identity",
        Action::Revalidate(_) => "revalidates",
        Action::RecheckReaders { .. } => "rechecks readers",
        Action::Notice(_) => "tells",
    }
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() >= MAX_REMEMBERED {
        list.pop_front();
    }
    list.push_back(item);
}

fn channel(script: &mut Script<'_>) -> ChannelId {
    ChannelId::from(CHANNELS[script.choice(CHANNELS.len())])
}
