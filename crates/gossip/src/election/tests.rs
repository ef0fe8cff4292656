use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::GossipMessage;
use selvedge_protos::gossip::gossip_message::{Content, Tag};

use super::*;
use crate::config::Config;
use crate::context::LocalPeer;
use crate::counters::Counters;
use crate::emitter::Emitter;
use crate::identity::IdentityStore;
use crate::testing::{Trusting, local_peer, start};
use crate::types::Clock;

const CHANNEL: &str = "harbour";
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The others, as the test says.
#[derive(Default)]
struct Team {
    in_channel: BTreeSet<PkiId>,
    gone: BTreeSet<PkiId>,
    elsewhere: usize,
}

impl Colleagues for Team {
    fn in_channel(&self) -> BTreeSet<PkiId> {
        self.in_channel.difference(&self.gone).copied().collect()
    }

    fn alive_count(&self) -> usize {
        self.in_channel().len() + self.elsewhere
    }

    fn is_gone(&self, peer: &PkiId) -> bool {
        self.gone.contains(peer)
    }
}

struct Stage {
    config: Config,
    /// Peers in the order of their PKI-IDs; this peer is the one in the middle.
    peers: Vec<LocalPeer>,
    me: LocalPeer,
    start: Instant,
    now: Instant,
    clock: Clock,
    identities: IdentityStore,
    rng: StdRng,
    emitter: Emitter,
    counters: Counters,
    election: Election,
    team: Team,
    sequence: u64,
    /// What this peer said, with the seconds since the start: whether it was a declaration.
    said: Vec<(f64, bool)>,
    /// Whether it leads, each time that changed.
    changes: Vec<bool>,
    leaders: Vec<Option<PkiId>>,
}

const LOWEST: usize = 0;
const LOWER: usize = 1;
const ME: usize = 2;
const HIGHER: usize = 3;

impl Stage {
    fn new() -> Self {
        Self::with(&[])
    }

    /// This peer has joined the channel; of these others it knows.
    fn with(known: &[usize]) -> Self {
        let now = start();
        let mut peers: Vec<LocalPeer> = ["ash", "elm", "fir", "oak", "yew"]
            .map(|name| local_peer("Org1MSP", name, true, now))
            .into();
        peers.sort_by_key(LocalPeer::pki_id);
        let me = peers[ME].clone();
        let clock = Clock::new(now, 1_000);
        let mut identities = IdentityStore::new(me.identity.clone(), 10, now);
        for peer in &peers {
            identities.learn(&peer.identity, &clock, now);
        }
        let config = Config {
            use_leader_election: true,
            ..Config::default()
        };
        let team = Team {
            in_channel: known.iter().map(|peer| peers[*peer].pki_id()).collect(),
            ..Team::default()
        };
        let mut rng = StdRng::seed_from_u64(1);
        let mut emitter = Emitter::new();
        let mut counters = Counters::default();
        let election = {
            let ctx = Context {
                now,
                clock: &clock,
                config: &config,
                me: &me,
                signer: &Trusting,
                rng: &mut rng,
                identities: &identities,
                emitter: &mut emitter,
                counters: &mut counters,
            };
            Election::new(ChannelId::from(CHANNEL), &team, &ctx)
        };
        Self {
            config,
            peers,
            me,
            start: now,
            now,
            clock,
            identities,
            rng,
            emitter,
            counters,
            election,
            team,
            sequence: 0,
            said: Vec::new(),
            changes: Vec::new(),
            leaders: Vec::new(),
        }
    }

    /// This peer leads, and knows of these others.
    fn leading(known: &[usize]) -> Self {
        let mut stage = Self::with(known);
        stage.pass(6 * SECOND);
        assert!(stage.election.leads());
        stage.said.clear();
        stage
    }

    fn id(&self, peer: usize) -> PkiId {
        self.peers[peer].pki_id()
    }

    fn act(
        &mut self,
        act: impl FnOnce(&mut Election, &Team, &mut Context<'_>, &mut dyn FnMut(Action<()>)),
    ) {
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
        let (changes, leaders) = (&mut self.changes, &mut self.leaders);
        let mut out = |action| match action {
            Action::LeadershipChanged { channel, leads } => {
                assert_eq!(channel.as_str(), CHANNEL);
                assert_ne!(changes.last().copied().unwrap_or(false), leads);
                changes.push(leads);
            }
            Action::Notice(Notice::LeaderChanged { leader, .. }) => leaders.push(leader),
            other => panic!("unexpected {other:?}"),
        };
        act(&mut self.election, &self.team, &mut ctx, &mut out);
        assert_eq!(
            self.election.leads(),
            self.changes.last() == Some(&true),
            "who is told to lead leads"
        );
        self.listen();
    }

    /// Notes what this peer says.
    fn listen(&mut self) {
        let emissions = std::mem::take(&mut self.emitter).take_due(&self.config, self.now);
        for emission in emissions {
            assert_eq!(emission.route, Route::Leadership(ChannelId::from(CHANNEL)));
            let message = GossipMessage::decode(emission.envelope.payload().clone()).unwrap();
            assert_eq!((message.tag(), message.nonce), (Tag::ChanAndOrg, 0));
            assert_eq!(message.channel, CHANNEL.as_bytes());
            let Some(Content::LeadershipMsg(said)) = message.content else {
                panic!("not a leadership message");
            };
            self.sequence += 1;
            let time = said.timestamp.unwrap();
            assert_eq!((time.inc_num, time.seq_num), (1_000, self.sequence));
            assert_eq!(said.pki_id, self.me.pki_id().as_bytes());
            let seconds = (self.now - self.start).as_secs_f64();
            self.said.push((seconds, said.is_declaration));
        }
    }

    /// Lets time pass, with every wake-up that falls due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.election.next_deadline() <= end {
            self.now = self.now.max(self.election.next_deadline());
            self.wake();
            assert!(self.election.next_deadline() > self.now, "a busy loop");
        }
        self.now = end;
    }

    fn wake(&mut self) {
        self.act(|election, team, ctx, out| election.wake(team, ctx, out));
    }

    fn message(&mut self, peer: usize, is_declaration: bool) -> Verified<Leadership> {
        // Later than all before, as each peer's messages are.
        let since = self.now - self.start;
        let time = PeerTime {
            incarnation: 7,
            sequence: u64::try_from(since.as_nanos()).unwrap() * 10 + u64::from(is_declaration),
        };
        let channel = ChannelId::from(CHANNEL);
        own_leadership(&self.peers[peer], &channel, time, is_declaration, &Trusting).unwrap()
    }

    fn hear(&mut self, peer: usize, is_declaration: bool) {
        let (from, message) = (self.id(peer), self.message(peer, is_declaration));
        self.hear_from(from, &message);
    }

    fn hear_from(&mut self, from: PkiId, message: &Verified<Leadership>) {
        self.act(|election, team, ctx, out| election.handle(from, message, team, ctx, out));
        if self.election.next_deadline() <= self.now {
            self.wake();
        }
    }

    fn declares(&mut self, peer: usize) {
        self.hear(peer, true);
    }

    fn proposes(&mut self, peer: usize) {
        self.hear(peer, false);
    }

    fn give_way(&mut self) {
        self.act(|election, team, ctx, out| election.give_way("of the test", team, ctx, out));
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters.drops_of(reason)
    }
}

#[test]
fn who_is_alone_proposes_itself_leads_and_says_so_every_half_threshold() {
    let mut stage = Stage::new();
    stage.pass(17 * SECOND);
    assert_eq!(
        stage.said,
        [(1.0, false), (6.0, true), (11.0, true), (16.0, true)]
    );
    assert_eq!(stage.changes, [true]);
    assert_eq!(stage.election.leader(), Some(stage.me.pki_id()));
}

#[test]
fn nobody_proposes_itself_while_the_membership_grows() {
    let mut stage = Stage::new();
    for look in 1..=4 {
        stage.team.elsewhere = look;
        stage.pass(SECOND);
    }
    assert!(stage.said.is_empty());
    stage.pass(SECOND);
    assert_eq!(stage.said, [(5.0, false)]);
}

#[test]
fn a_membership_that_never_settles_is_not_waited_for_beyond_the_grace_period() {
    let mut stage = Stage::new();
    for look in 1..=30 {
        stage.team.elsewhere = look;
        stage.pass(SECOND / 2);
    }
    assert_eq!(stage.said, [(15.0, false)]);
}

#[test]
fn whoever_hears_of_a_leader_follows_it_while_it_is_heard() {
    for leader in [LOWER, HIGHER] {
        let mut stage = Stage::with(&[LOWER, HIGHER]);
        stage.pass(SECOND / 2);
        for _ in 0..10 {
            stage.declares(leader);
            stage.pass(5 * SECOND);
        }
        assert!(stage.said.is_empty());
        assert_eq!(stage.election.leader(), Some(stage.id(leader)));
        assert_eq!(stage.leaders, [Some(stage.id(leader))]);
        assert!(stage.changes.is_empty());
    }
}

#[test]
fn a_declaration_ends_a_candidature() {
    let mut stage = Stage::with(&[HIGHER]);
    stage.pass(3 * SECOND);
    assert_eq!(stage.said.len(), 1);
    stage.declares(HIGHER);
    stage.pass(9 * SECOND);
    assert_eq!(stage.said.len(), 1);
    assert!(stage.changes.is_empty());
}

#[test]
fn the_lowest_candidate_leads() {
    // Proposals come before or after our own.
    for after in [SECOND / 2, 3 * SECOND] {
        let mut stage = Stage::with(&[LOWER, HIGHER]);
        stage.pass(after);
        stage.proposes(HIGHER);
        stage.pass(8 * SECOND);
        assert_eq!(stage.changes, [true]);

        let mut stage = Stage::with(&[LOWER, HIGHER]);
        stage.pass(after);
        stage.proposes(LOWER);
        stage.pass(Duration::from_secs(9) - after);
        assert_eq!(stage.said, [(1.0, false)]);
        assert!(stage.changes.is_empty());
    }
}

#[test]
fn a_better_candidate_that_does_not_declare_itself_is_waited_for_once() {
    let mut stage = Stage::with(&[LOWER]);
    stage.pass(2 * SECOND);
    stage.proposes(LOWER);
    stage.pass(20 * SECOND);
    assert_eq!(stage.said, [(1.0, false), (16.0, false), (21.0, true)]);
}

#[test]
fn a_better_candidate_that_dies_is_not_waited_for() {
    let mut stage = Stage::with(&[LOWEST, LOWER]);
    stage.pass(2 * SECOND);
    stage.proposes(LOWEST);
    stage.proposes(LOWER);
    stage.pass(5 * SECOND);
    let gone = stage.id(LOWEST);
    stage.team.gone.insert(gone);
    assert!(!stage.election.awaits_the_gone(&stage.team));
    let gone = stage.id(LOWER);
    stage.team.gone.insert(gone);
    assert!(stage.election.awaits_the_gone(&stage.team));
    stage.wake();
    assert_eq!(stage.said, [(1.0, false), (7.0, false)]);

    // Before the decision, too.
    let mut stage = Stage::with(&[LOWER]);
    stage.pass(2 * SECOND);
    stage.proposes(LOWER);
    let gone = stage.id(LOWER);
    stage.team.gone.insert(gone);
    stage.pass(4 * SECOND);
    assert_eq!(stage.changes, [true]);
}

#[test]
fn a_silent_leader_is_replaced() {
    let mut stage = Stage::with(&[HIGHER]);
    stage.declares(HIGHER);
    stage.pass(10 * SECOND - MILLISECOND);
    assert_eq!(stage.election.leader(), Some(stage.id(HIGHER)));
    stage.pass(6 * SECOND);
    assert_eq!(stage.said, [(10.0, false), (15.0, true)]);
    let (higher, me) = (stage.id(HIGHER), stage.id(ME));
    assert_eq!(stage.leaders, [Some(higher), None, Some(me)]);
}

#[test]
fn a_proposal_heard_before_the_leader_is_missed_counts() {
    let mut stage = Stage::with(&[LOWER, HIGHER]);
    stage.declares(HIGHER);
    stage.pass(8 * SECOND);
    stage.proposes(LOWER);
    stage.pass(10 * SECOND);
    assert_eq!(stage.said, [(10.0, false)]);
    assert!(stage.changes.is_empty());
}

#[test]
fn a_leader_that_is_known_to_be_gone_is_replaced_at_once() {
    let mut stage = Stage::with(&[HIGHER]);
    stage.declares(HIGHER);
    stage.pass(2 * SECOND);
    assert!(!stage.election.awaits_the_gone(&stage.team));
    let gone = stage.id(HIGHER);
    stage.team.gone.insert(gone);
    assert!(stage.election.awaits_the_gone(&stage.team));
    stage.wake();
    stage.pass(5 * SECOND);
    assert_eq!(stage.said, [(2.0, false), (7.0, true)]);
}

#[test]
fn a_leader_that_speaks_although_it_is_said_to_be_gone_is_believed() {
    let mut stage = Stage::with(&[HIGHER]);
    let gone = stage.id(HIGHER);
    stage.team.gone.insert(gone);
    stage.declares(HIGHER);
    assert!(!stage.election.awaits_the_gone(&stage.team));
    stage.pass(9 * SECOND);
    assert!(stage.said.is_empty());
    // Once it was there, it can be missed again.
    stage.team.gone.clear();
    stage.declares(HIGHER);
    assert!(!stage.election.awaits_the_gone(&stage.team));
    stage.team.gone.insert(gone);
    assert!(stage.election.awaits_the_gone(&stage.team));
}

#[test]
fn of_two_leaders_the_lower_stays() {
    let mut stage = Stage::leading(&[HIGHER]);
    stage.pass(SECOND);
    stage.declares(HIGHER);
    assert!(stage.election.leads());
    // The other one must know at once.
    assert_eq!(stage.said, [(7.0, true)]);

    let mut stage = Stage::leading(&[LOWER]);
    stage.pass(SECOND);
    stage.declares(LOWER);
    stage.pass(9 * SECOND);
    assert_eq!(stage.changes, [true, false]);
    assert!(stage.said.is_empty());
    assert_eq!(stage.election.leader(), Some(stage.id(LOWER)));
}

#[test]
fn a_sitting_leader_stays_when_a_lower_peer_comes_and_answers_its_proposal() {
    let mut stage = Stage::leading(&[]);
    let newcomer = stage.id(LOWEST);
    stage.team.in_channel.insert(newcomer);
    stage.pass(SECOND);
    stage.proposes(LOWEST);
    assert_eq!(stage.said, [(7.0, true)]);
    stage.pass(10 * SECOND);
    assert_eq!(stage.changes, [true]);
    assert_eq!(stage.said, [(7.0, true), (12.0, true), (17.0, true)]);
}

#[test]
fn a_flood_is_answered_twice_a_second() {
    let mut stage = Stage::leading(&[HIGHER]);
    for step in 0..2_000_u64 {
        stage.hear(HIGHER, step % 2 == 0);
        stage.pass(MILLISECOND);
    }
    assert!((3..=5).contains(&stage.said.len()), "{:?}", stage.said);
}

#[test]
fn a_proposal_is_repeated_for_those_who_came_after_it() {
    let mut stage = Stage::new();
    stage.pass(3 * SECOND);
    let newcomer = stage.id(HIGHER);
    stage.team.in_channel.insert(newcomer);
    stage.pass(4 * SECOND);
    assert_eq!(stage.said, [(1.0, false), (6.0, false)]);
    stage.declares(HIGHER);
    assert!(stage.changes.is_empty());

    // Not for ever.
    let mut stage = Stage::new();
    for peer in [LOWEST, LOWER, HIGHER, 4] {
        stage.pass(4 * SECOND);
        let newcomer = stage.id(peer);
        stage.team.in_channel.insert(newcomer);
    }
    assert_eq!(stage.changes, [true]);
    assert_eq!(stage.said.last(), Some(&(16.0, true)));
}

#[test]
fn a_leader_without_ordering_service_gives_way_until_another_has_led() {
    let mut stage = Stage::leading(&[HIGHER]);
    stage.give_way();
    assert_eq!(stage.changes, [true, false]);
    stage.proposes(HIGHER);
    stage.pass(20 * SECOND);
    stage.declares(HIGHER);
    assert!(stage.said.is_empty());
    // Its own turn has come again.
    let gone = stage.id(HIGHER);
    stage.team.gone.insert(gone);
    stage.wake();
    stage.pass(5 * SECOND);
    assert_eq!(stage.changes, [true, false, true]);
}

#[test]
fn a_leader_that_gave_way_comes_back_when_nobody_leads() {
    let mut stage = Stage::leading(&[HIGHER]);
    stage.give_way();
    stage.pass(59 * SECOND);
    assert!(stage.said.is_empty());
    stage.pass(6 * SECOND);
    assert_eq!(stage.said, [(66.0, false), (71.0, true)]);
}

#[test]
fn nobody_gives_way_to_nobody() {
    let mut stage = Stage::leading(&[]);
    stage.give_way();
    assert_eq!(stage.changes, [true]);
    // Nor does a follower.
    let mut stage = Stage::with(&[HIGHER]);
    stage.declares(HIGHER);
    stage.give_way();
    assert_eq!(stage.election.leader(), Some(stage.id(HIGHER)));
}

#[test]
fn a_leader_that_lags_gives_way() {
    let mut stage = Stage::leading(&[HIGHER]);
    stage.pass(SECOND);
    let block = |stage: &mut Stage| {
        let now = stage.now;
        stage.election.block_from_peer(now);
    };
    block(&mut stage);
    stage.pass(9 * SECOND);
    // One block from the ordering service is enough.
    stage.election.block_from_orderer();
    stage.pass(20 * SECOND);
    assert_eq!(stage.changes, [true]);
    block(&mut stage);
    stage.pass(5 * SECOND);
    block(&mut stage);
    stage.pass(4 * SECOND);
    assert_eq!(stage.changes, [true]);
    stage.pass(SECOND);
    assert_eq!(stage.changes, [true, false]);
}

#[test]
fn who_leaves_the_channel_leads_no_more() {
    let mut stage = Stage::leading(&[HIGHER]);
    let mut told = Vec::new();
    stage
        .election
        .stop(&mut |action: Action<()>| told.push(action));
    assert!(
        told.iter()
            .any(|it| matches!(it, Action::LeadershipChanged { leads: false, .. }))
    );
}

#[test]
fn messages_that_are_not_their_authors_own_or_not_new_change_nothing() {
    let mut stage = Stage::with(&[LOWER, HIGHER]);
    stage.pass(SECOND / 2);
    let declaration = stage.message(LOWER, true);
    let (higher, lower, me) = (stage.id(HIGHER), stage.id(LOWER), stage.id(ME));
    stage.hear_from(higher, &declaration);
    assert_eq!(stage.drops(DropReason::NotFromAuthor), 1);
    let own = stage.message(ME, true);
    stage.hear_from(me, &own);
    assert_eq!(stage.drops(DropReason::OwnMessage), 1);
    let stranger = local_peer("Org2MSP", "ash", true, stage.now);
    stage
        .identities
        .learn(&stranger.identity, &stage.clock, stage.now);
    let channel = ChannelId::from(CHANNEL);
    let time = PeerTime::default();
    let foreign = own_leadership(&stranger, &channel, time, true, &Trusting).unwrap();
    stage.hear_from(stranger.pki_id(), &foreign);
    assert_eq!(stage.drops(DropReason::ForeignOrg), 1);
    assert_eq!(stage.election.leader(), None);

    stage.hear_from(lower, &declaration);
    assert_eq!(stage.election.leader(), Some(lower));
    stage.pass(12 * SECOND);
    assert_eq!(stage.election.leader(), None);
    stage.hear_from(lower, &declaration);
    assert_eq!(stage.drops(DropReason::Duplicate), 1);
    assert_eq!(stage.election.leader(), None);
}

#[test]
fn what_was_heard_is_forgotten_in_the_end() {
    let mut stage = Stage::with(&[LOWER]);
    stage.declares(LOWER);
    stage.pass(199 * SECOND);
    assert_eq!(stage.election.heard.len(), 1);
    stage.pass(2 * SECOND);
    assert!(stage.election.heard.is_empty());
}
