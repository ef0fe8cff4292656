//! Decoding and verifying gossip messages as a peer does, with real keys: what comes for the first time, and
//! copies of it that other neighbours send.
//!
//! 80 peers of one organisation. An alive message, and a snapshot with the StateInfo of all of them.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use selvedge_devnet::material::{Organization, Specification};
use selvedge_gossip::context::LocalPeer;
use selvedge_gossip::crypto::{Identity, IdentitySource};
use selvedge_gossip::message::{self, gossip_message};
use selvedge_gossip::types::{ChannelId, Endpoint, PkiId};
use selvedge_ledger::{LedgerManager, Options};
use selvedge_msp::{Msp, SigningIdentity};
use selvedge_peer::channel::{ChannelOptions, Channels};
use selvedge_peer::gossip::{IdentityTable, PeerCrypto, PeerSigner};
use selvedge_protos::gossip::StateInfoSnapshot;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use tempfile::TempDir;
use tokio::sync::mpsc;

const PEERS: u16 = 80;

/// Knows everybody.
struct Everybody(Vec<Identity>);

impl IdentitySource for Everybody {
    fn identity(&self, pki_id: &PkiId) -> Option<Identity> {
        let found = self.0.iter().find(|identity| identity.pki_id() == *pki_id);
        found.cloned()
    }
}

struct Bench {
    signers: Vec<SigningIdentity>,
    channels: Channels,
    known: Everybody,
    alive: Bytes,
    snapshot: Bytes,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let crypto = folder.path().join("crypto");
        let specification = Specification::peers(1, PEERS);
        let organization = Organization::write(&crypto, specification).expect("keys");
        let identity = |number| organization.node_identity(&format!("peer{number}"));
        let signers: Result<Vec<_>, _> = (0..PEERS).map(identity).collect();
        let signers = signers.expect("identities");
        let ledgers = LedgerManager::open(&folder.path().join("ledgers"), Options::default());
        let (events, _) = mpsc::channel(1);
        let ledgers = ledgers.expect("a ledger folder");
        let channels = Channels::new(ledgers, ChannelOptions::default(), events);
        let checker = crypto_of(&signers[0], &channels);
        let known = signers
            .iter()
            .map(|signer| Identity::check(signer.serialized(), &checker).expect("valid"))
            .collect();
        let mut bench = Self {
            signers,
            channels,
            known: Everybody(known),
            alive: Bytes::new(),
            snapshot: Bytes::new(),
            _folder: folder,
        };
        bench.alive = bench.alive_message();
        bench.snapshot = bench.snapshot_message();
        bench
    }

    /// That of a peer that has just started.
    fn crypto(&self) -> PeerCrypto {
        crypto_of(&self.signers[0], &self.channels)
    }

    fn local(&self, number: usize) -> LocalPeer {
        let endpoint = Endpoint::from(format!("peer{number}.org1.example.com:7051").as_str());
        LocalPeer {
            identity: self.known.0[number].clone(),
            internal_endpoint: endpoint.clone(),
            external_endpoint: endpoint,
            metadata: Bytes::new(),
            started: Instant::now(),
            incarnation: 1_700_000_000_000_000_000,
        }
    }

    fn alive_message(&self) -> Bytes {
        let (me, now) = (self.local(1), Instant::now());
        let signer = PeerSigner(self.signers[1].clone());
        let alive = message::own_alive(&me, 1, now, now, &signer).expect("signed");
        alive.envelope().frame().clone()
    }

    fn snapshot_message(&self) -> Bytes {
        let channel = ChannelId::from("mychannel");
        let elements = (0..usize::from(PEERS)).map(|number| {
            let (me, signer) = (self.local(number), PeerSigner(self.signers[number].clone()));
            let info = message::own_state_info(&me, &channel, 1, 100, false, Vec::new(), &signer);
            info.expect("signed").envelope().proto().clone()
        });
        let content = Content::StateSnapshot(StateInfoSnapshot {
            elements: elements.collect(),
        });
        let message = gossip_message(Tag::ChanOrOrg, Some(&channel), 0, content);
        message::Envelope::unsigned(&message).frame().clone()
    }

    fn verify(&self, frame: &Bytes, crypto: &PeerCrypto) {
        let received = message::decode(frame.clone()).expect("well formed");
        let verification = message::verify(received, crypto, &self.known).expect("signed");
        assert!(verification.refused.is_empty());
        black_box(verification);
    }
}

fn crypto_of(signer: &SigningIdentity, channels: &Channels) -> PeerCrypto {
    let msp: Msp = signer.identity().msp().clone();
    let table = IdentityTable::default();
    PeerCrypto::new(msp, signer.clone(), channels.clone(), table).expect("an MSP")
}

fn benches(criterion: &mut Criterion) {
    let bench = Bench::new();
    let warm = bench.crypto();
    let kinds = [
        ("alive", &bench.alive, 1),
        ("snapshot", &bench.snapshot, u64::from(PEERS)),
    ];
    for (kind, frame, messages) in kinds {
        let mut group = criterion.benchmark_group(kind);
        group.throughput(Throughput::Elements(messages));
        group.bench_function("first", |bencher| {
            // The identities are known, the signatures are not.
            let fresh = || {
                let crypto = bench.crypto();
                for identity in &bench.known.0 {
                    Identity::check(identity.serialized(), &crypto).expect("valid");
                }
                crypto
            };
            bencher.iter_batched_ref(fresh, |it| bench.verify(frame, it), BatchSize::LargeInput);
        });
        group.bench_function("copy", |bencher| {
            bencher.iter(|| bench.verify(frame, &warm));
        });
        group.finish();
    }
}

criterion_group!(verify_messages, benches);
criterion_main!(verify_messages);
