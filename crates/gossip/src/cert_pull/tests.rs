use std::collections::BTreeSet;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use selvedge_protos::gossip::GossipMessage;
use selvedge_protos::gossip::gossip_message::Content;

use super::*;
use crate::config::Config;
use crate::context::LocalPeer;
use crate::counters::Counters;
use crate::emitter::Emitter;
use crate::identity::IdentityStore;
use crate::testing::{Trusting, local_peer, start};
use crate::types::Clock;
use selvedge_protos::Message as _;

const MY_ORG: &str = "Org1MSP";
const OTHER_ORG: &str = "Org2MSP";
const THIRD_ORG: &str = "Org3MSP";

/// One peer's identity pull; the test plays the others.
struct World {
    me: LocalPeer,
    now: Instant,
    config: Config,
    view: View,
    identities: IdentityStore,
    counters: Counters,
    rng: StdRng,
    cert_pull: CertPull,
    sent: Vec<(PkiId, GossipMessage)>,
}

type Out<'a> = &'a mut dyn FnMut(Action<()>);

impl World {
    fn new(external: bool) -> Self {
        let now = start();
        let me = local_peer(MY_ORG, "me", external, now);
        let config = Config::default();
        let mut world = Self {
            now,
            view: View::default(),
            identities: IdentityStore::new(me.identity.clone(), 100, now),
            counters: Counters::default(),
            rng: StdRng::seed_from_u64(5),
            cert_pull: CertPull {
                identities: BTreeMap::new(),
                initiator: Initiator::new(Timing::of(&config), 6, now),
                responder: Responder::new(&Timing::of(&config)),
            },
            sent: Vec::new(),
            me,
            config,
        };
        world.act(|it, ctx, _, _| *it = CertPull::new(ctx));
        world
    }

    /// Lets the machine act with a context around the rest of the world.
    fn act<T>(
        &mut self,
        act: impl FnOnce(&mut CertPull, &mut Context<'_>, &View, Out<'_>) -> T,
    ) -> T {
        let clock = Clock::new(self.now, 1_000);
        let mut emitter = Emitter::new();
        let mut ctx = Context {
            now: self.now,
            clock: &clock,
            config: &self.config,
            me: &self.me,
            signer: &Trusting,
            rng: &mut self.rng,
            identities: &self.identities,
            emitter: &mut emitter,
            counters: &mut self.counters,
        };
        let sent = &mut self.sent;
        let mut out = |action: Action<()>| match action {
            Action::Send { to, frame, .. } => {
                let envelope = Envelope::from_frame(frame).unwrap();
                let message = GossipMessage::decode(envelope.payload().clone()).unwrap();
                sent.push((to.pki_id, message));
            }
            other => panic!("unexpected {other:?}"),
        };
        act(&mut self.cert_pull, &mut ctx, &self.view, &mut out)
    }

    fn peer(&mut self, org: &str, name: &str, external: bool) -> LocalPeer {
        let peer = local_peer(org, name, external, self.now);
        let clock = Clock::new(self.now, 1_000);
        self.identities.learn(&peer.identity, &clock, self.now);
        let alive = message::own_alive(&peer, 1, self.now, self.now, &Trusting).unwrap();
        self.view.enter(alive, self.now);
        peer
    }

    /// A peer whose identity was pulled.
    fn pulled(&mut self, org: &str, name: &str, external: bool) -> LocalPeer {
        let peer = self.peer(org, name, external);
        let identity = message::own_peer_identity(&peer, &Trusting).unwrap();
        self.cert_pull.identities.insert(identity.pki_id, identity);
        peer
    }

    fn handle(
        &mut self,
        from: &LocalPeer,
        nonce: u64,
        step: PullStep<Verified<PeerIdentity>>,
    ) -> BTreeSet<PkiId> {
        let from = from.pki_id();
        let pull = Pull { nonce, step };
        let learned = self.act(|it, ctx, view, out| it.handle(from, pull, ctx, view, out));
        learned
            .into_iter()
            .map(|identity| identity.pki_id)
            .collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.act(|it, ctx, view, out| it.wake(ctx, view, out));
    }

    /// The identities in the only message that was sent.
    fn ids(&mut self) -> BTreeSet<PkiId> {
        assert_eq!(self.sent.len(), 1);
        let (_, message) = self.sent.remove(0);
        let id = |bytes: &Bytes| PkiId::from_slice(bytes).unwrap();
        match message.content.unwrap() {
            Content::DataDig(digest) => digest.digests.iter().map(id).collect(),
            Content::DataReq(request) => request.digests.iter().map(id).collect(),
            Content::DataUpdate(update) => update
                .data
                .iter()
                .map(|envelope| {
                    let nested = GossipMessage::decode(envelope.payload.clone()).unwrap();
                    match nested.content.unwrap() {
                        Content::PeerIdentity(identity) => id(&identity.pki_id),
                        other => panic!("{other:?} in an update"),
                    }
                })
                .collect(),
            other => panic!("{other:?} names no identities"),
        }
    }
}

fn digests<'a>(peers: impl IntoIterator<Item = &'a LocalPeer>) -> Vec<Bytes> {
    let ids = peers.into_iter().map(|peer| peer.pki_id());
    ids.map(|id| Bytes::copy_from_slice(id.as_bytes()))
        .collect()
}

fn announced(peer: &LocalPeer) -> Verified<PeerIdentity> {
    message::own_peer_identity(peer, &Trusting).unwrap()
}

fn hello_nonce(message: &GossipMessage) -> u64 {
    match &message.content {
        Some(Content::Hello(hello)) => hello.nonce,
        other => panic!("{other:?} is no hello"),
    }
}

#[test]
fn other_organisations_get_what_concerns_them_and_is_published() {
    let mut world = World::new(true);
    let friend = world.pulled(MY_ORG, "friend", true);
    let hidden = world.pulled(MY_ORG, "hidden", false);
    let foreigner = world.pulled(OTHER_ORG, "foreigner", true);
    let third = world.pulled(THIRD_ORG, "third", true);
    let me = world.me.pki_id();
    let all = [&friend, &hidden, &foreigner, &third];

    world.handle(&friend, 1, PullStep::Hello);
    let everybody: BTreeSet<PkiId> = all.iter().map(|peer| peer.pki_id()).chain([me]).collect();
    assert_eq!(world.ids(), everybody);

    let for_foreigner = BTreeSet::from([me, friend.pki_id(), foreigner.pki_id()]);
    world.handle(&foreigner, 2, PullStep::Hello);
    assert_eq!(world.ids(), for_foreigner);
    // And it gets no more by asking for it.
    let mut asked = digests(all);
    asked.push(Bytes::copy_from_slice(me.as_bytes()));
    world.handle(&foreigner, 2, PullStep::Request(asked));
    assert_eq!(world.ids(), for_foreigner);
}

#[test]
fn without_external_endpoint_we_stay_unknown_to_others() {
    let mut world = World::new(false);
    let foreigner = world.pulled(OTHER_ORG, "foreigner", true);
    world.handle(&foreigner, 2, PullStep::Hello);
    assert_eq!(world.ids(), [foreigner.pki_id()].into());
}

#[test]
fn identities_are_pulled_and_then_handed_on() {
    let mut world = World::new(true);
    let friend = world.peer(MY_ORG, "friend", true);
    let new = local_peer(MY_ORG, "new", true, world.now);
    world.pass(Duration::from_secs(4));
    let (to, hello) = world.sent.remove(0);
    assert_eq!(to, friend.pki_id());
    let nonce = hello_nonce(&hello);
    let offered = digests([&new, &world.me.clone()]);
    world.handle(&friend, nonce, PullStep::Digest(offered));
    assert_eq!(world.ids(), [new.pki_id()].into());
    let learned = world.handle(&friend, nonce, PullStep::Update(vec![announced(&new)]));
    assert_eq!(learned, [new.pki_id()].into());
    assert_eq!(world.cert_pull.len(), 2);
    world.handle(&friend, 9, PullStep::Hello);
    assert!(world.ids().contains(&new.pki_id()));
    world.cert_pull.forget(&new.pki_id());
    world.handle(&friend, 10, PullStep::Hello);
    assert!(!world.ids().contains(&new.pki_id()));
}

#[test]
fn what_was_not_asked_for_is_not_learned() {
    let mut world = World::new(true);
    let friend = world.peer(MY_ORG, "friend", true);
    let wanted = local_peer(MY_ORG, "wanted", true, world.now);
    let smuggled = local_peer(MY_ORG, "smuggled", true, world.now);
    world.pass(Duration::from_secs(4));
    let nonce = hello_nonce(&world.sent.remove(0).1);
    let update = || PullStep::Update(vec![announced(&wanted), announced(&smuggled)]);
    assert!(world.handle(&friend, nonce ^ 1, update()).is_empty());
    assert!(world.handle(&friend, nonce, update()).is_empty());
    world.handle(&friend, nonce, PullStep::Digest(digests([&wanted])));
    let learned = world.handle(&friend, nonce, update());
    assert_eq!(learned, [wanted.pki_id()].into());
    assert_eq!(world.counters.drops_of(DropReason::Unsolicited), 3);
}

#[test]
fn names_that_are_no_pki_ids_are_counted() {
    let mut world = World::new(true);
    let friend = world.peer(MY_ORG, "friend", true);
    world.handle(&friend, 1, PullStep::Hello);
    let junk = vec![
        Bytes::new(),
        Bytes::from_static(b"short"),
        vec![7; 33].into(),
    ];
    world.handle(&friend, 1, PullStep::Request(junk));
    assert_eq!(world.counters.drops_of(DropReason::Unsolicited), 3);
}

#[test]
fn a_peer_without_known_identity_gets_nothing() {
    let mut world = World::new(true);
    let unknown = local_peer(MY_ORG, "unknown", true, world.now);
    world.handle(&unknown, 1, PullStep::Hello);
    world.handle(&unknown, 1, PullStep::Request(digests([&world.me.clone()])));
    assert!(world.sent.is_empty());
    assert_eq!(world.counters.drops_of(DropReason::UnknownIdentity), 2);
}
