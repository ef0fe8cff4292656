//! One peer with one channel, whose surroundings the test plays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::Content;
use selvedge_protos::gossip::{self, GossipMessage};

use crate::channel::{ChannelContext, Channels};
use crate::config::Config;
use crate::context::{Context, LocalPeer};
use crate::counters::{Counters, DropReason};
use crate::crypto::Identity;
use crate::emitter::{Emission, Emitter};
use crate::event::{Action, ArrivedBlock, ChannelOrg, ChannelSetup, FrameKind, Notice, Payload};
use crate::identity::IdentityStore;
use crate::membership::View;
use crate::message::{
    self, Envelope, Message, Pull, PullStep, StateInfo, StatePayload, UnverifiedBlock, Verified,
};
pub(super) use crate::testing::Trusting;
use crate::testing::{local_peer, start};
use crate::types::{ChannelId, Clock, OrgId, Peer, PkiId};

pub(super) const CHANNEL: &str = "harbour";
pub(super) const MY_ORG: &str = "Org1MSP";
pub(super) const OTHER_ORG: &str = "Org2MSP";
pub(super) const STRANGERS: &str = "Org9MSP";

/// A block whose bytes say whether it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestBlock {
    number: u64,
    bytes: Bytes,
}

impl Payload for TestBlock {
    fn number(&self) -> u64 {
        self.number
    }

    fn encoded(&self) -> &Bytes {
        &self.bytes
    }
}

pub(super) fn good(number: u64) -> Bytes {
    format!("good {number}").into()
}

pub(super) fn block(number: u64) -> TestBlock {
    TestBlock {
        number,
        bytes: good(number),
    }
}

/// A peer beside the one that is tested.
#[derive(Clone)]
pub(super) struct Other(pub(super) LocalPeer);

impl Other {
    pub(super) fn id(&self) -> PkiId {
        self.0.pki_id()
    }

    pub(super) fn state_info(&self, sequence: u64, height: u64) -> Verified<StateInfo> {
        self.state_info_of(CHANNEL, sequence, height, false)
    }

    pub(super) fn state_info_of(
        &self,
        channel: &str,
        sequence: u64,
        height: u64,
        left: bool,
    ) -> Verified<StateInfo> {
        let channel = ChannelId::from(channel);
        message::own_state_info(
            &self.0,
            &channel,
            sequence,
            height,
            left,
            Vec::new(),
            &Trusting,
        )
        .unwrap()
    }
}

/// A frame that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) to: PkiId,
    pub(super) kind: FrameKind,
    pub(super) message: GossipMessage,
}

impl Sent {
    /// The inner nonce of a pull message, the outer one of any other.
    pub(super) fn nonce(&self) -> u64 {
        match self.message.content.as_ref().unwrap() {
            Content::Hello(hello) => hello.nonce,
            Content::DataDig(digest) => digest.nonce,
            Content::DataReq(request) => request.nonce,
            Content::DataUpdate(update) => update.nonce,
            _ => self.message.nonce,
        }
    }

    /// The block numbers of a digest or a request.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let digests = match self.message.content.as_ref().unwrap() {
            Content::DataDig(digest) => &digest.digests,
            Content::DataReq(request) => &request.digests,
            other => panic!("{other:?} has no numbers"),
        };
        let text = digests.iter().map(|it| std::str::from_utf8(it).unwrap());
        text.map(|number| number.parse().unwrap()).collect()
    }

    pub(super) fn range(&self) -> (u64, u64) {
        match self.message.content.as_ref().unwrap() {
            Content::StateRequest(request) => (request.start_seq_num, request.end_seq_num),
            other => panic!("{other:?} has no range"),
        }
    }

    pub(super) fn payloads(&self) -> Vec<gossip::Payload> {
        match self.message.content.as_ref().unwrap() {
            Content::StateResponse(response) => response.payloads.clone(),
            other => panic!("{other:?} has no payloads"),
        }
    }

    /// The authors in a snapshot, in its order.
    pub(super) fn authors(&self) -> Vec<PkiId> {
        let Content::StateSnapshot(snapshot) = self.message.content.as_ref().unwrap() else {
            panic!("not a snapshot");
        };
        let infos = snapshot.elements.iter().map(|envelope| {
            let message = GossipMessage::decode(envelope.payload.clone()).unwrap();
            match message.content.unwrap() {
                Content::StateInfo(info) => PkiId::from_slice(&info.pki_id).unwrap(),
                other => panic!("{other:?} in a snapshot"),
            }
        });
        infos.collect()
    }
}

/// See the module's documentation. Verification answers at once and a committer commits at once,
/// unless the test holds them.
pub(super) struct World {
    pub(super) config: Config,
    pub(super) me: LocalPeer,
    pub(super) now: Instant,
    pub(super) counters: Counters,
    pub(super) view: View,
    pub(super) channels: Channels<TestBlock>,
    clock: Clock,
    pub(super) identities: IdentityStore,
    emitter: Emitter,
    rng: StdRng,
    pub(super) sent: Vec<Sent>,
    pub(super) delivered: Vec<u64>,
    /// How long each delivered block was on its way.
    pub(super) delays: BTreeMap<u64, Duration>,
    pub(super) reads: Vec<(Peer, u64, u64, u64)>,
    pub(super) notices: Vec<Notice>,
    pub(super) rechecked: Vec<Identity>,
    pub(super) verifying: VecDeque<ArrivedBlock>,
    pub(super) hold_verification: bool,
    pub(super) hold_commits: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Config::default(), 1)
    }

    pub(super) fn with_state_transfer() -> Self {
        let mut config = Config::default();
        config.state.enabled = true;
        Self::with(config, 1)
    }

    pub(super) fn with(config: Config, height: u64) -> Self {
        let now = start();
        let me = local_peer(MY_ORG, "me", true, now);
        let mut world = Self {
            clock: Clock::new(now, 1_000_000_000),
            identities: IdentityStore::new(me.identity.clone(), 10_000, now),
            emitter: Emitter::new(),
            rng: StdRng::seed_from_u64(11),
            channels: Channels::new(&config),
            counters: Counters::default(),
            view: View::default(),
            config,
            me,
            now,
            sent: Vec::new(),
            delivered: Vec::new(),
            delays: BTreeMap::new(),
            reads: Vec::new(),
            notices: Vec::new(),
            rechecked: Vec::new(),
            verifying: VecDeque::new(),
            hold_verification: false,
            hold_commits: false,
        };
        world.join(&[MY_ORG, OTHER_ORG], 1, height);
        world
    }

    pub(super) fn setup(orgs: &[&str], sequence: u64, height: u64) -> ChannelSetup {
        let org = |org: &&str| ChannelOrg {
            org: OrgId::from(*org),
            anchor_peers: Vec::new(),
        };
        ChannelSetup {
            channel: ChannelId::from(CHANNEL),
            sequence,
            orgs: orgs.iter().map(org).collect(),
            height,
            block_gossip: true,
        }
    }

    pub(super) fn join(&mut self, orgs: &[&str], sequence: u64, height: u64) {
        let setup = Self::setup(orgs, sequence, height);
        self.act(|channels, c| {
            channels.join(setup, c);
        });
    }

    /// A peer whose identity is known and who is alive.
    pub(super) fn peer(&mut self, org: &str, name: &str) -> Other {
        self.peer_with(org, name, true)
    }

    pub(super) fn peer_with(&mut self, org: &str, name: &str, external: bool) -> Other {
        self.enter(Other(local_peer(org, name, external, self.now)))
    }

    fn enter(&mut self, other: Other) -> Other {
        self.identities
            .learn(&other.0.identity, &self.clock, self.now);
        let alive = message::own_alive(&other.0, 1, self.now, self.now, &Trusting).unwrap();
        self.view.enter(alive, self.now);
        other
    }

    /// The same, and it has published a ledger of this height.
    pub(super) fn member(&mut self, org: &str, name: &str, height: u64) -> Other {
        let other = self.peer(org, name);
        self.publish(other, height)
    }

    /// A member of our organisation that uses the tree.
    pub(super) fn tree_member(&mut self, name: &str) -> Other {
        let mut other = Other(local_peer(MY_ORG, name, true, self.now));
        other.0.metadata = crate::extension::metadata();
        let other = self.enter(other);
        self.publish(other, 1)
    }

    fn publish(&mut self, other: Other, height: u64) -> Other {
        self.message(
            &other,
            Message::StateInfo(Box::new(other.state_info(1, height))),
        );
        self.take_emissions();
        other
    }

    /// Lets the channels handle something, then answers what they want.
    pub(super) fn act<T>(
        &mut self,
        action: impl FnOnce(&mut Channels<TestBlock>, &mut ChannelContext<'_, '_, TestBlock>) -> T,
    ) -> T {
        let mut actions = Vec::new();
        let result = self.act_only(action, &mut actions);
        self.perform(actions);
        result
    }

    fn act_only<T>(
        &mut self,
        action: impl FnOnce(&mut Channels<TestBlock>, &mut ChannelContext<'_, '_, TestBlock>) -> T,
        actions: &mut Vec<Action<TestBlock>>,
    ) -> T {
        let mut ctx = Context {
            now: self.now,
            clock: &self.clock,
            config: &self.config,
            me: &self.me,
            signer: &Trusting,
            rng: &mut self.rng,
            identities: &self.identities,
            emitter: &mut self.emitter,
            counters: &mut self.counters,
        };
        let mut out = |action| actions.push(action);
        let mut c = ChannelContext {
            ctx: &mut ctx,
            view: &self.view,
            out: &mut out,
        };
        action(&mut self.channels, &mut c)
    }

    fn perform(&mut self, actions: Vec<Action<TestBlock>>) {
        let mut todo = VecDeque::from(actions);
        let id = ChannelId::from(CHANNEL);
        loop {
            let mut more = Vec::new();
            let Some(action) = todo.pop_front() else {
                break;
            };
            match action {
                Action::Send {
                    to, frame, kind, ..
                } => {
                    let envelope = Envelope::from_frame(frame).unwrap();
                    let message = GossipMessage::decode(envelope.payload().clone()).unwrap();
                    self.sent.push(Sent {
                        to: to.pki_id,
                        kind,
                        message,
                    });
                }
                Action::VerifyBlock { block, .. } if self.hold_verification => {
                    self.verifying.push_back(block);
                }
                Action::VerifyBlock { block, .. } => {
                    self.act_only(|channels, c| judge(channels, block, c), &mut more);
                }
                Action::Deliver { block, delay, .. } => {
                    self.delivered.push(block.number);
                    self.delays.insert(block.number, delay);
                    if !self.hold_commits {
                        let height = block.number + 1;
                        self.act_only(
                            |channels, c| channels.on_committed(&id, height, c),
                            &mut more,
                        );
                    }
                }
                Action::ReadBlocks {
                    to,
                    nonce,
                    start,
                    end,
                    ..
                } => self.reads.push((to, nonce, start, end)),
                Action::Notice(notice) => self.notices.push(notice),
                Action::RecheckReaders { peers, .. } => self.rechecked = peers,
                other => panic!("unexpected {other:?}"),
            }
            todo.extend(more);
        }
    }

    /// Gives the verdict on the oldest block that is being verified.
    pub(super) fn finish_verification(&mut self) {
        let block = self.verifying.pop_front().unwrap();
        self.act(|channels, c| judge(channels, block, c));
    }

    pub(super) fn message(&mut self, from: &Other, message: Message) {
        let left = self.act(|channels, c| channels.handle(from.id(), message, c));
        assert_eq!(left, None);
    }

    pub(super) fn push(&mut self, from: &Other, number: u64) {
        self.push_bytes(from, number, good(number));
    }

    pub(super) fn push_bytes(&mut self, from: &Other, number: u64, bytes: Bytes) {
        let message = Message::Block(ChannelId::from(CHANNEL), wire_block(number, bytes));
        self.message(from, message);
    }

    pub(super) fn pull(&mut self, from: &Other, nonce: u64, step: PullStep<UnverifiedBlock>) {
        let message = Message::BlockPull(ChannelId::from(CHANNEL), Pull { nonce, step });
        self.message(from, message);
    }

    pub(super) fn respond(&mut self, from: &Other, nonce: u64, numbers: &[u64]) {
        let payload = |number: &u64| StatePayload {
            number: *number,
            bytes: good(*number),
            private_data: Vec::new(),
        };
        let message = Message::StateResponse {
            channel: ChannelId::from(CHANNEL),
            nonce,
            payloads: numbers.iter().map(payload).collect(),
        };
        self.message(from, message);
    }

    pub(super) fn order(&mut self, number: u64) {
        let id = ChannelId::from(CHANNEL);
        self.act(|channels, c| channels.on_ordered(&id, block(number), c));
    }

    pub(super) fn commit(&mut self, height: u64) {
        let id = ChannelId::from(CHANNEL);
        self.act(|channels, c| channels.on_committed(&id, height, c));
    }

    /// Lets time pass, with every wake-up that falls due.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.channels.next_deadline().filter(|due| *due <= end) {
            let late = self.now.max(due);
            assert!(late >= self.now);
            self.now = late;
            self.act(|channels, c| channels.wake(c));
            let next = self.channels.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "a busy loop");
        }
        self.now = end;
    }

    pub(super) fn take_sent(&mut self, kind: FrameKind) -> Vec<Sent> {
        let all = std::mem::take(&mut self.sent);
        let (taken, rest) = all.into_iter().partition(|sent| sent.kind == kind);
        self.sent = rest;
        taken
    }

    pub(super) fn take_emissions(&mut self) -> Vec<Emission> {
        std::mem::take(&mut self.emitter).take_due(&self.config, self.now)
    }

    pub(super) fn targets(&mut self, emission: &Emission) -> BTreeSet<PkiId> {
        let from = emission.received_from;
        let targets = self.act(|channels, c| channels.targets(&emission.route, from, c));
        let peers = targets.unwrap().into_iter().map(|peer| peer.pki_id);
        peers.collect()
    }

    pub(super) fn drops(&self, reason: DropReason) -> u64 {
        self.counters.drops_of(reason)
    }
}

fn judge(
    channels: &mut Channels<TestBlock>,
    arrived: ArrivedBlock,
    c: &mut ChannelContext<'_, '_, TestBlock>,
) {
    let id = ChannelId::from(CHANNEL);
    let number = arrived.number;
    if arrived.bytes == good(number) {
        channels.on_verified(&id, block(number), arrived, c);
    } else {
        channels.on_refused(&id, &arrived, c);
    }
}

/// A block as it comes in a data message.
pub(super) fn wire_block(number: u64, bytes: Bytes) -> UnverifiedBlock {
    let payload = gossip::Payload {
        seq_num: number,
        data: bytes.clone(),
        private_data: Vec::new(),
    };
    let content = Content::DataMsg(gossip::DataMessage {
        payload: Some(payload),
    });
    let channel = ChannelId::from(CHANNEL);
    let tag = gossip::gossip_message::Tag::ChanAndOrg;
    let message = message::gossip_message(tag, Some(&channel), 0, content);
    UnverifiedBlock {
        number,
        bytes,
        envelope: Envelope::unsigned(&message),
    }
}

pub(super) fn digests(numbers: &[u64]) -> Vec<Bytes> {
    let text = numbers.iter().map(u64::to_string);
    text.map(Bytes::from).collect()
}

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
