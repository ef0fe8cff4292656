//! What must hold of whatever the core does.

use bytes::Bytes;
use selvedge_gossip::crypto::Crypto as _;
use selvedge_gossip::event::{Action, Arrival, Event, FrameClass, FrameKind, Payload as _};
use selvedge_gossip::message::{Alive, Message, PullStep, Verified, decode, verify};
use selvedge_gossip::types::{ChannelId, OrgId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::Content;
use selvedge_protos::gossip::{Envelope, GossipMessage};

use super::peers::{Hashes, Peers, TestBlock};
use super::{Answer, World, remember};

/// Actions of one event. There are two channels, a few members, and no list of more than sixteen.
const MAX_ACTIONS: usize = 500;
/// Bytes that one event sends. Blocks here are tiny.
const MAX_SENT: usize = 200_000;

impl World {
    /// Gives the core an event and looks at what comes of it.
    pub(super) fn handle(&mut self, event: Event<TestBlock>) {
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
        for size in self.gossip.occupancy() {
            assert!(!size.is_exceeded(), "{size:?}");
        }
    }

    fn act(&mut self, action: Action<TestBlock>) {
        self.seen.insert(name_of(&action));
        match action {
            Action::Send {
                to,
                frame,
                kind,
                channel,
            } => {
                let is_bulk = kind.class() == FrameClass::Bulk;
                assert!(!is_bulk || channel.is_some(), "{kind:?} of no channel");
                self.sent(to.pki_id, frame, kind);
            }
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
