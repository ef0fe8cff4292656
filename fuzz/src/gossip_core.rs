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

mod invariants;
mod peers;
mod recovery;
mod script;
mod speech;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_gossip::config::{Config, Limits, Rules};
use selvedge_gossip::crypto::Identity;
use selvedge_gossip::event::{
    ArrivedBlock, ChannelOrg, ChannelSetup, DialOutcome, DialPurpose, Event, Payload as _,
};
use selvedge_gossip::message::{check_sender, decode, verify};
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_gossip::private_data::{
    Everybody, FetchPrivateData, MissingItem, Organisations, SendWithAck,
};
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, Peer, PkiId};
use selvedge_protos::gossip::{GossipMessage, PvtDataDigest, PvtDataElement};

use peers::{BEGIN, CHANNELS, Hashes, ORGS, PEERS, Peers, TestBlock, endpoints, my_key};
use script::Script;
use speech::Known;

/// Events of one run; what follows in the bytes is not looked at.
const MAX_STEPS: usize = 600;
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
