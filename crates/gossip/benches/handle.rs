//! Handling one message: decoding, and what the core does with it. Verification is left out.
//!
//! A peer among 80 of its organisation, in one channel. Before the times it prints how often memory is
//! allocated for each message.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench may panic, and prints"
)]

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use selvedge_gossip::config::Config;
use selvedge_gossip::context::LocalPeer;
use selvedge_gossip::crypto::{Crypto, Identity, IdentityFacts, Refusal, SignError, Signer};
use selvedge_gossip::event::{Arrival, ArrivedBlock, ChannelOrg, ChannelSetup, Event, Payload};
use selvedge_gossip::extension;
use selvedge_gossip::message::{self, Message, Pull, PullStep, gossip_message};
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, PkiId};
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{DataMessage, Payload as WirePayload};
use selvedge_protos::msp::SerializedIdentity;

const PEERS: usize = 80;
const CHANNEL: &str = "mychannel";
const BLOCK_SIZE: usize = 20_000;
/// Neighbours in the tree.
const NEIGHBOURS: u64 = 6;

/// Believes everything.
struct Trusting;

impl Crypto for Trusting {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        let identity = SerializedIdentity::decode(serialized.clone()).unwrap();
        Ok(IdentityFacts {
            org: OrgId::new(identity.mspid),
            expires_at: None,
        })
    }

    fn verify(&self, _: &Identity, _: &[u8], _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Signer for Trusting {
    fn sign(&self, _: &[u8]) -> Result<Bytes, SignError> {
        Ok(Bytes::from_static(&[7; 71]))
    }
}

#[derive(Clone)]
struct Block {
    number: u64,
    bytes: Bytes,
}

impl Payload for Block {
    fn number(&self) -> u64 {
        self.number
    }

    fn encoded(&self) -> &Bytes {
        &self.bytes
    }
}

fn local(number: usize, now: Instant) -> LocalPeer {
    let serialized = SerializedIdentity {
        mspid: "Org1MSP".to_owned(),
        id_bytes: format!("{number:0800}").into(),
    };
    let identity = Identity::check(&serialized.encode_to_vec().into(), &Trusting).unwrap();
    let endpoint = Endpoint::from(format!("peer{number}.org1.example.com:7051").as_str());
    LocalPeer {
        identity,
        internal_endpoint: endpoint.clone(),
        external_endpoint: endpoint,
        metadata: extension::metadata(),
        started: now,
        incarnation: 1_000_000_000,
    }
}

/// The peer, and what the others have to say. Each message of theirs is a new one.
struct World {
    core: Gossip<Block>,
    peers: Vec<LocalPeer>,
    channel: ChannelId,
    now: Instant,
    said: u64,
    next_block: u64,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let me = local(0, now);
        let mut config = Config {
            internal_endpoint: me.internal_endpoint.clone(),
            external_endpoint: me.external_endpoint.clone(),
            ..Config::default()
        };
        config.state.enabled = true;
        let setup = Setup {
            config: Arc::new(config),
            identity: me.identity,
            signer: Arc::new(Trusting),
            seed: [1; 32],
            now,
            unix_nanos: me.incarnation,
        };
        let mut world = Self {
            core: Gossip::new(setup).unwrap(),
            peers: (1..PEERS).map(|number| local(number, now)).collect(),
            channel: ChannelId::from(CHANNEL),
            now,
            said: 0,
            next_block: 1,
        };
        world.join();
        world.meet();
        for _ in 0..NEIGHBOURS {
            for event in world.block() {
                world.handle(event);
            }
        }
        world
    }

    fn join(&mut self) {
        let setup = ChannelSetup {
            channel: self.channel.clone(),
            sequence: 1,
            orgs: vec![ChannelOrg {
                org: OrgId::from("Org1MSP"),
                anchor_peers: Vec::new(),
            }],
            height: 1,
            block_gossip: true,
        };
        self.handle(Event::ChannelJoined(setup));
    }

    fn meet(&mut self) {
        for peer in 0..self.peers.len() {
            let identity = self.peers[peer].identity.clone();
            self.handle(Event::Connected {
                identity,
                endpoint: None,
            });
            let alive = self.alive(peer);
            self.handle(alive);
            let info = self.state_info(peer);
            self.handle(info);
        }
    }

    fn handle(&mut self, event: Event<Block>) {
        // So much later that a batch of the emitter leaves with each message.
        self.now += Duration::from_millis(11);
        self.core.handle(event, self.now, &mut |action| {
            black_box(action);
        });
    }

    fn id(&self, peer: usize) -> PkiId {
        self.peers[peer].pki_id()
    }

    /// The next to speak.
    fn speaker(&mut self) -> usize {
        self.said += 1;
        usize::try_from(self.said).unwrap() % self.peers.len()
    }

    fn signed_alive(&self, peer: usize) -> message::Verified<message::Alive> {
        let (me, now) = (&self.peers[peer], self.now);
        message::own_alive(me, self.said, now, now, &Trusting).unwrap()
    }

    fn alive(&mut self, peer: usize) -> Event<Block> {
        self.said += 1;
        Event::Message {
            from: self.id(peer),
            message: Message::Alive(self.signed_alive(peer)),
        }
    }

    fn state_info(&mut self, peer: usize) -> Event<Block> {
        self.said += 1;
        let (me, channel) = (&self.peers[peer], &self.channel);
        let info = message::own_state_info(me, channel, self.said, 1, false, Vec::new(), &Trusting);
        Event::Message {
            from: self.id(peer),
            message: Message::StateInfo(Box::new(info.unwrap())),
        }
    }

    fn membership_request(&mut self) -> Event<Block> {
        let peer = self.speaker();
        let message = Message::MembershipRequest {
            nonce: self.said,
            asker: Box::new(self.signed_alive(peer)),
        };
        Event::Message {
            from: self.id(peer),
            message,
        }
    }

    fn hello(&mut self) -> Event<Block> {
        let peer = self.speaker();
        let pull = Pull {
            nonce: self.said,
            step: PullStep::Hello,
        };
        Event::Message {
            from: self.id(peer),
            message: Message::BlockPull(self.channel.clone(), pull),
        }
    }

    /// The next block from a neighbour, that it is good, and that it is committed.
    fn block(&mut self) -> [Event<Block>; 3] {
        let number = self.next_block;
        self.next_block += 1;
        let from = self.id(usize::try_from(number % NEIGHBOURS).unwrap());
        let received = message::decode(block_frame(number)).unwrap();
        let known = self.core.identities();
        let message = message::verify(received, &Trusting, known).unwrap().message;
        let Message::Block(channel, block) = message.clone() else {
            unreachable!()
        };
        let arrived = ArrivedBlock {
            number,
            bytes: block.bytes.clone(),
            envelope: Some(block.envelope),
            from,
            how: Arrival::Push,
        };
        let verified = Event::BlockVerified {
            channel: channel.clone(),
            block: Block {
                number,
                bytes: block.bytes,
            },
            arrived,
        };
        let committed = Event::Committed {
            channel,
            height: number + 1,
        };
        [Event::Message { from, message }, verified, committed]
    }
}

fn block_frame(number: u64) -> Bytes {
    let payload = WirePayload {
        seq_num: number,
        data: vec![7; BLOCK_SIZE].into(),
        private_data: Vec::new(),
    };
    let content = Content::DataMsg(DataMessage {
        payload: Some(payload),
    });
    let channel = ChannelId::from(CHANNEL);
    let message = gossip_message(Tag::ChanAndOrg, Some(&channel), 0, content);
    message::Envelope::unsigned(&message).frame().clone()
}

/// What is handled: its name, and how the next one is made.
type Kind = (&'static str, fn(&mut World) -> Vec<Event<Block>>);

const KINDS: [Kind; 6] = [
    ("alive", |world| {
        let peer = world.speaker();
        vec![world.alive(peer)]
    }),
    ("alive, a copy", |world| {
        let from = world.id(0);
        let old = world.peers[0].clone();
        let old = message::own_alive(&old, 0, world.now, world.now, &Trusting).unwrap();
        let message = Message::Alive(old);
        vec![Event::Message { from, message }]
    }),
    ("StateInfo", |world| {
        let peer = world.speaker();
        vec![world.state_info(peer)]
    }),
    ("membership request", |world| {
        vec![world.membership_request()]
    }),
    ("hello", |world| vec![world.hello()]),
    ("block, its verdict and its commit", |world| {
        world.block().into()
    }),
];

fn frames() -> [(&'static str, Bytes); 2] {
    let now = Instant::now();
    let alive = message::own_alive(&local(1, now), 1, now, now, &Trusting).unwrap();
    [
        ("alive", alive.envelope().frame().clone()),
        ("block", block_frame(1)),
    ]
}

fn count_allocations() {
    const ROUNDS: u64 = 300;
    println!("allocations for one message:");
    for (kind, frame) in frames() {
        let count = allocation_counter::measure(|| {
            black_box(message::decode(frame.clone()).unwrap());
        });
        println!("  decode {kind}: {}", count.count_total);
    }
    for (kind, make) in &KINDS {
        let mut world = World::new();
        let mut total = 0;
        for _ in 0..ROUNDS {
            for event in make(&mut world) {
                total += allocation_counter::measure(|| world.handle(event)).count_total;
            }
        }
        println!("  handle {kind}: {:.1}", total as f64 / ROUNDS as f64);
    }
}

fn benches(criterion: &mut Criterion) {
    count_allocations();
    let mut group = criterion.benchmark_group("decode");
    for (kind, frame) in frames() {
        group.bench_function(kind, |bencher| {
            bencher.iter(|| message::decode(black_box(frame.clone())).unwrap());
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("handle");
    for (kind, make) in &KINDS {
        let world = RefCell::new(World::new());
        group.bench_function(*kind, |bencher| {
            bencher.iter_batched(
                || make(&mut world.borrow_mut()),
                |events| {
                    let mut world = world.borrow_mut();
                    for event in events {
                        world.handle(event);
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(handle, benches);
criterion_main!(handle);
