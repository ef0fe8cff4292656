//! Blocks among peers of this project: whole along a tree, announced beside it (after Plumtree: Leitão,
//! Pereira, Rodrigues, "Epidemic Broadcast Trees", 2007).
//!
//! For peers that show in their alive messages that they do this ([`extension`](crate::extension)); all others
//! are pushed to as in Fabric, and see nothing of it. Each channel has its own tree, without a root: blocks
//! flow through it from whoever has them first, so a new leader needs no new one.
//!
//! 1. A **block** that comes from the ordering service, or first from a peer, goes whole and at once to all
//!    neighbours in the tree that are not known to have it: [`MAX_NEIGHBOURS`] at most.
//! 2. It is **announced** to `propagatePeerNum` random peers and to the two beside us in the order of PKI-IDs.
//! 3. Who lacks an announced block **asks** for it: at once if no neighbour is expected to send it, otherwise
//!    if none has after a wait; and after each further wait the next one that announced it. Whoever is asked
//!    sends the block and is a neighbour from then on, on both sides. So the tree grows, and closes around
//!    peers that are gone, slow or lie.
//! 4. Who receives a whole block for a second time answers with an **announcement** of it. An announcement from
//!    a neighbour says that it is none any more: that is how circles are cut, and how a peer that has enough
//!    neighbours declines another one.
//!
//! 5. Who has no neighbour at all **joins**: it asks two random peers for a place; the one whose block comes
//!    first keeps it. So the tree is there before the first block, and closes around a neighbour that is gone
//!    before the next one. It does so ever less often while no blocks come that way, as where everybody fetches
//!    from the ordering service.
//!
//! 6. Who hears a block announced well before it comes **tries** the announcer: asks it for a place, so that the next
//!    block comes from both, and rule 4 cuts the slower one off. One at a time, and ever less often while those that
//!    are tried are no quicker. So the tree takes to the short ways.
//!
//! The wait is twice the time that answers took lately, or that announcements were ahead of the block, and twice as
//! long after each peer that is asked in vain. So it lasts as long as large blocks take on narrow links: what is
//! asked for earlier is one more copy, and comes behind the one that is on its way. Pull rounds and `gap` wait as
//! long. A block that nobody delivers is left to `gap`.
//!
//! On the wire an announcement is a digest (`DataDigest`) and a question a request (`DataRequest`), with the
//! nonce 0, which no hello has; the answer is a pushed block (`DataMessage`). Who joins sends a question for no
//! block; who has no place to give answers with an announcement of none. Nothing of it is trusted: an
//! announcement costs a question at most, a question is answered twice for each block, a forged answer sends
//! us to the next peer, and all that is remembered has a bound.
//!
//! # Why this way
//!
//! Simulated, one region, 200 blocks of 20 kB, four a second, seed 1: milliseconds from the first peer to the
//! last, and whole blocks received by each peer for each block.
//!
//! | | 10 peers: p50 | p99 | copies | 100 peers: p50 | p99 | copies |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | Fabric's rules | 4783 | 11502 | 3.03 | 8528 | 13753 | 3.05 |
//! | pushed to three random peers, gaps pulled | 7.0 | 294 | 3.31 | 299 | 794 | 2.92 |
//! | announced and asked for | 9.3 | 24.5 | 1.00 | 17.9 | 40.1 | 1.00 |
//! | with a tree of 4 neighbours | 5.0 | 5.4 | 1.00 | 14.8 | 16.8 | 1.00 |
//! | of 6 | 5.0 | 5.4 | 1.00 | 13.1 | 13.7 | 1.00 |
//! | of 6, joined before the first block | 4.8 | 5.2 | 1.01 | 12.3 | 13.0 | 1.01 |
//! | this: and reshaped since | 4.6 | 4.9 | 1.01 | 9.4 | 12.1 | 1.02 |
//!
//! Without the joining the first block took 300 ms among 1,000 peers that know 100 others each: a few were told by
//! nobody, and learnt of it with the second one. Two are joined because the first copy then comes the shorter
//! way: with one it is 15.3 ms among 100.
//!
//! The first and the last line: `cargo run --release -p selvedge-simulator --example compare -- 100 200`. The
//! second is this crate before it had this module, the third and fourth are [`MAX_NEIGHBOURS`] of 0 and 4.
//! Without rule 6 the tree stays as the first block made it. Six regions of the planet, means of seeds 1 to 3:
//!
//! | | 10 peers: p50 | 100 peers: p50 | a peer of 100: p99 | copies | 100 in 4 organisations: p50 | copies |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | as the first block made it | 112.7 | 155.9 | 171.4 | 1.04 | 141.8 | 1.02 |
//! | reshaped | 111.3 | 124.0 | 128.4 | 1.04 | 131.4 | 1.04 |
//!
//! The worst of the 200 blocks are the first ones and take 300 to 500 ms either way. Trying at leads of 1 ms costs a
//! twentieth more copies and gains little; at 5 ms, nothing is gained among ten in one region. To send whole blocks
//! to who is tried, before it has sent one, costs copies and gains nothing.
//!
//! Announcements alone take three ways for each hop where the tree takes one, which costs most where the ways
//! are long. More than 6 neighbours change nothing. Hop counts (Berendea and others, "Fair and Efficient Gossip
//! in Hyperledger Fabric", 2020) send several copies in the first hops by design.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use selvedge_protos::gossip::GossipMessage;

use super::pulling::digests;
use super::{Channel, ChannelContext};
use crate::config::Rules;
use crate::counters::DropReason;
use crate::event::{Action, FrameKind, Payload};
use crate::membership::Member;
use crate::message::{Envelope, PullKind, PullStep};
use crate::ordered_buffer::Demand;
use crate::pull::encode;
use crate::types::PkiId;

/// The nonce of announcements and of what is asked for on them. No hello has it.
pub(super) const NONCE: u64 = 0;

/// Neighbours in the tree. A peer that asks beyond that gets its block and no more.
pub(super) const MAX_NEIGHBOURS: usize = 6;
/// From a reason to join to doing so: others may become known, or a block may come.
const JOIN_DELAY: Duration = Duration::from_millis(100);
/// Peers that are asked for a place by one that has no neighbour.
const JOINED: usize = 2;
/// From one attempt to join to the next; twice as long after each that brought no block.
const JOIN_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_JOIN_PAUSE: Duration = Duration::from_secs(512);
/// An announcement that comes so long before the block is worth a try of its sender as a neighbour.
const LEAD: Duration = Duration::from_millis(2);
/// While answers take longer, no neighbours are tried: blocks take long on the wire, announcements are ahead of them
/// by that, and a try costs one more copy.
const SLOW: Duration = Duration::from_millis(400);
/// Announced blocks that have not come, at a time.
pub(super) const MAX_ANNOUNCED: usize = 64;
/// Peers that are remembered as announcers of one block.
const MAX_ANNOUNCERS: usize = 8;
/// Numbers of one announcement or question that are looked at.
const MAX_NUMBERS: usize = 16;
/// How long an answer is expected to take before one was seen.
const FIRST_GUESS: Duration = Duration::from_millis(25);
/// Bounds of the wait for a block.
const SHORTEST_WAIT: Duration = Duration::from_millis(30);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// It is twice as long after each that was asked in vain for a block, so many times.
const MOST_DOUBLINGS: u32 = 3;

#[derive(Debug)]
struct Announcer {
    peer: PkiId,
    since: Instant,
    asked: Option<Instant>,
}

/// A block that others have.
#[derive(Debug)]
struct Announced {
    by: Vec<Announcer>,
    /// The first announcement.
    since: Instant,
    /// When the next one is asked.
    ask_at: Instant,
    /// All were asked: it is remembered for what it says of the time that they take.
    exhausted: bool,
    /// Whether that was put off since the block was asked for another way.
    put_off: bool,
}

impl Announced {
    /// When a peer was asked.
    fn asked(&self, peer: &PkiId) -> Option<Instant> {
        let announcer = self.by.iter().find(|announcer| announcer.peer == *peer);
        announcer.and_then(|announcer| announcer.asked)
    }
}

/// What is to be done about an announced block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It is here, or out of reach.
    Settled,
    /// It is being verified.
    Verifying,
    /// It was asked for another way.
    Requested,
    /// It is missing.
    Missing,
}

/// Whom to ask, and who did not answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asks {
    pub(super) ask: BTreeMap<PkiId, Vec<u64>>,
    pub(super) silent: Vec<PkiId>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Tree {
    neighbours: BTreeSet<PkiId>,
    /// The neighbour from which the newest block came, and the next one is expected.
    upstream: Option<PkiId>,
    announced: BTreeMap<u64, Announced>,
    /// When to join, unless there is a neighbour by then.
    join_at: Option<Instant>,
    /// No attempt to join before.
    join_from: Option<Instant>,
    join_pause: Duration,
    /// From a question or the first sign of a block to the block, lately at worst.
    answer_time: Duration,
    /// Who was asked for a place because it had a block sooner.
    tried: Option<PkiId>,
    /// No other one is asked before; twice as long after each that did not send a block first.
    try_from: Option<Instant>,
    try_pause: Duration,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            neighbours: BTreeSet::new(),
            upstream: None,
            announced: BTreeMap::new(),
            join_at: None,
            join_from: None,
            join_pause: JOIN_PAUSE,
            answer_time: FIRST_GUESS,
            tried: None,
            try_from: None,
            try_pause: JOIN_PAUSE,
        }
    }
}

impl Tree {
    /// Who is sent whole blocks.
    pub(super) fn neighbours(&self) -> impl Iterator<Item = &PkiId> {
        self.neighbours.iter()
    }

    /// How many announced blocks have not come.
    pub(super) fn expected(&self) -> usize {
        self.announced.len()
    }

    /// There may be a reason to join: a peer has become known, or a neighbour was lost.
    pub(super) fn may_join(&mut self, now: Instant) {
        if self.neighbours.is_empty() && self.join_at.is_none() {
            let soon = now + JOIN_DELAY;
            self.join_at = Some(self.join_from.map_or(soon, |from| from.max(soon)));
        }
    }

    /// Whether to join now.
    fn joins(&mut self, now: Instant) -> bool {
        if self.join_at.is_none_or(|at| now < at) {
            return false;
        }
        self.join_at = None;
        let joins = self.neighbours.is_empty();
        if joins {
            self.join_from = Some(now + self.join_pause);
            self.join_pause = (self.join_pause * 2).min(LONGEST_JOIN_PAUSE);
        }
        joins
    }

    /// A peer asked for a block. Whether it is a neighbour from now on.
    pub(super) fn adopt(&mut self, peer: PkiId) -> bool {
        if self.neighbours.len() < MAX_NEIGHBOURS {
            self.neighbours.insert(peer);
        }
        self.neighbours.contains(&peer)
    }

    /// The first copy of a block came from a peer, unasked or asked for, `age` after the first sign of it.
    ///
    /// A liar that announces blocks before they exist can lengthen the wait, to the bound at most, and until it is
    /// avoided: its signs are forgotten then.
    pub(super) fn came_first(&mut self, from: PkiId, number: u64, age: Duration, now: Instant) {
        self.adopt(from);
        self.upstream = Some(from);
        self.join_pause = JOIN_PAUSE;
        let announced = self.announced.get(&number);
        let asked = announced.and_then(|announced| announced.asked(&from));
        let (sample, weight) = match asked {
            Some(asked) => (now.saturating_duration_since(asked), 8),
            // What comes soon after the first sign of it says little of how long others take.
            None => (age, 16),
        };
        if !sample.is_zero() {
            let smoothed = (self.answer_time * (weight - 1) + sample) / weight;
            self.answer_time = smoothed.max(sample).min(LONGEST_WAIT / 2);
        }
    }

    /// Who announced a block well before its first copy came, just now and unasked; if it is time to try another
    /// neighbour.
    fn sooner(
        &mut self,
        from: &PkiId,
        number: u64,
        avoid: impl Fn(&PkiId) -> bool,
        now: Instant,
    ) -> Option<PkiId> {
        if self.tried.take_if(|tried| tried == from).is_some() {
            self.try_pause /= 2;
        }
        let announcers = &self.announced.get(&number)?.by;
        if announcers.iter().any(|announcer| announcer.asked.is_some()) {
            return None;
        }
        let first = announcers.first()?;
        let lead = now.saturating_duration_since(first.since);
        let worth_it = lead >= LEAD && self.answer_time <= SLOW;
        if !worth_it || self.try_from.is_some_and(|from| now < from) || avoid(&first.peer) {
            return None;
        }
        let pause = self.try_pause.clamp(JOIN_PAUSE, LONGEST_JOIN_PAUSE);
        self.try_from = Some(now + pause);
        self.try_pause = pause * 2;
        self.tried = Some(first.peer);
        self.tried
    }

    /// Whether the newest block that was pushed came from this peer first: a copy of it that is superfluous was
    /// overtaken by what came another way.
    fn is_upstream(&self, peer: &PkiId) -> bool {
        self.upstream.as_ref() == Some(peer)
    }

    /// No whole blocks unasked from a peer, nor to it.
    pub(super) fn unlink(&mut self, peer: &PkiId) {
        self.neighbours.remove(peer);
        if self.upstream.as_ref() == Some(peer) {
            self.upstream = None;
        }
    }

    /// A peer is gone: what it was expected to send is asked of others at once.
    pub(super) fn forget(&mut self, peer: &PkiId, now: Instant) {
        let expected = self.upstream.as_ref() == Some(peer);
        self.unlink(peer);
        self.announced.retain(|_, announced| {
            let asked = announced
                .by
                .iter()
                .any(|it| it.peer == *peer && it.asked.is_some());
            announced.by.retain(|it| it.peer != *peer);
            if expected || asked {
                announced.ask_at = announced.ask_at.min(now);
            }
            !announced.by.is_empty()
        });
        self.may_join(now);
    }

    /// A peer says that it has a block that is not here. `false`: there is no room to note that.
    pub(super) fn announced(&mut self, number: u64, by: PkiId, now: Instant) -> bool {
        let wait = self.patience();
        if self.announced.len() >= MAX_ANNOUNCED && !self.announced.contains_key(&number) {
            match self.announced.last_entry() {
                Some(last) if *last.key() > number => last.remove(),
                _ => return false,
            };
        }
        let announced = self.announced.entry(number).or_insert(Announced {
            by: Vec::new(),
            since: now,
            ask_at: now + wait,
            exhausted: false,
            put_off: false,
        });
        if announced.by.iter().any(|announcer| announcer.peer == by) {
            return true;
        }
        let room = announced.by.len() < MAX_ANNOUNCERS;
        if room {
            if std::mem::take(&mut announced.exhausted) {
                announced.ask_at = now;
            }
            announced.by.push(Announcer {
                peer: by,
                since: now,
                asked: None,
            });
        }
        room
    }

    /// A block is here now. Returns who announced it.
    pub(super) fn settled(&mut self, number: u64) -> impl Iterator<Item = PkiId> + use<> {
        let announced = self.announced.remove(&number);
        let by = announced.map(|announced| announced.by).unwrap_or_default();
        by.into_iter().map(|announcer| announcer.peer)
    }

    /// What a peer sent for a block is no good: the next one is asked at once.
    pub(super) fn refused(&mut self, number: u64, from: &PkiId, now: Instant) {
        self.unlink(from);
        self.may_join(now);
        if let Some(announced) = self.announced.get_mut(&number) {
            announced.by.retain(|announcer| announcer.peer != *from);
            announced.ask_at = now;
        }
    }

    /// Whether a block may still come this way.
    pub(super) fn awaits(&self, number: u64, now: Instant) -> bool {
        let announced = self.announced.get(&number);
        announced.is_some_and(|announced| now < announced.since + self.wait() * 3)
    }

    /// Whom to ask now. Those that `avoid` names are asked after all others. What was asked for another way is
    /// put off once: whoever was asked there may never have had it, whoever announced it most likely has.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        need: impl Fn(u64) -> Need,
        avoid: impl Fn(&PkiId) -> bool,
    ) -> Asks {
        let mut asks = Asks::default();
        let wait = self.wait();
        self.announced.retain(|number, announced| {
            if announced.ask_at > now {
                return true;
            }
            match need(*number) {
                Need::Settled => return false,
                Need::Requested if announced.put_off => {}
                Need::Requested | Need::Verifying => {
                    announced.put_off = true;
                    announced.ask_at = now + wait;
                    return true;
                }
                Need::Missing => {}
            }
            let asked = announced.by.iter().filter(|it| it.asked.is_some());
            let in_vain = asked.clone().zip(1..=MOST_DOUBLINGS).last();
            let doublings = in_vain.map_or(0, |(_, count)| count);
            if let Some(last) = asked.max_by_key(|it| it.asked)
                && !announced.exhausted
            {
                asks.silent.push(last.peer);
            }
            let mut rest: Vec<&mut Announcer> = announced
                .by
                .iter_mut()
                .filter(|announcer| announcer.asked.is_none())
                .collect();
            rest.sort_by_key(|announcer| avoid(&announcer.peer));
            let Some(next) = rest.into_iter().next() else {
                announced.exhausted = true;
                announced.ask_at = announced.since + LONGEST_WAIT;
                return now < announced.ask_at;
            };
            next.asked = Some(now);
            announced.ask_at = now + (wait * 2u32.pow(doublings)).min(LONGEST_WAIT);
            asks.ask.entry(next.peer).or_default().push(*number);
            true
        });
        asks
    }

    /// When [`Tree::take_due`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let asks = self.announced.values().map(|it| it.ask_at);
        asks.chain(self.join_at).min()
    }

    /// How long whatever shows that a block is there may overtake it.
    pub(super) fn patience(&self) -> Duration {
        match self.upstream {
            Some(_) => self.wait(),
            None => Duration::ZERO,
        }
    }

    /// How long to wait for a block before another peer is asked.
    fn wait(&self) -> Duration {
        (self.answer_time * 2).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }
}

impl<B: Payload> Channel<B> {
    /// Whether blocks are exchanged with a peer in this way.
    pub(super) fn uses_tree_with(&self, peer: &PkiId, c: &ChannelContext<'_, '_, B>) -> bool {
        c.ctx.config.rules == Rules::Selvedge
            && c.view.get(peer).is_some_and(Member::speaks_extension)
            && self.exchanges_blocks_with(peer, c.ctx.identities, c.ctx.me)
    }

    /// Asks random peers for a place in the tree.
    fn join_tree(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        if c.ctx.config.rules == Rules::Fabric {
            return;
        }
        let (identities, me, now) = (c.ctx.identities, c.ctx.me, c.now());
        let suits = |member: &Member| {
            let peer = member.pki_id();
            member.speaks_extension()
                && !self.backoff.avoids(&peer, now)
                && self.exchanges_blocks_with(&peer, identities, me)
        };
        let chosen = c.view.select(JOINED, c.ctx.rng, suits);
        let chosen: Vec<PkiId> = chosen.into_iter().map(Member::pki_id).collect();
        for peer in chosen {
            self.tree.adopt(peer);
            self.send_step(peer, NONCE, PullStep::Request(Vec::new()), c);
        }
    }

    /// The first copy of a block came from a neighbour. Who could have sent it sooner is asked for a place, and
    /// adopted when it does.
    pub(super) fn reshape_tree(
        &mut self,
        from: PkiId,
        number: u64,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        let avoid = |peer: &PkiId| self.backoff.avoids(peer, c.now());
        if let Some(peer) = self.tree.sooner(&from, number, avoid, c.now()) {
            self.send_step(peer, NONCE, PullStep::Request(Vec::new()), c);
        }
    }

    /// Sends a block to all neighbours that are not known to have it.
    pub(super) fn push_along_tree(&mut self, number: u64, c: &mut ChannelContext<'_, '_, B>) {
        let neighbours: Vec<PkiId> = self.tree.neighbours().copied().collect();
        for peer in neighbours {
            if !c.view.is_alive(&peer) || !self.uses_tree_with(&peer, c) {
                self.tree.unlink(&peer);
            } else if self.lacks(&peer, number) {
                self.send_block(peer, number, c);
                self.blocks.held_by(number, peer);
            }
        }
    }

    /// Announces a block to `count` random peers that are not known to have it, and to the two that stand
    /// beside us in the order of PKI-IDs. Where everybody knows everybody, the latter reach all.
    pub(super) fn announce_beside_tree(
        &self,
        number: u64,
        count: usize,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        if c.ctx.config.rules == Rules::Fabric {
            return;
        }
        let (identities, me) = (c.ctx.identities, c.ctx.me);
        let wants = |member: &Member| {
            let peer = member.pki_id();
            member.speaks_extension()
                && self.lacks(&peer, number)
                && self.exchanges_blocks_with(&peer, identities, me)
        };
        let drawn = c.view.select(count, c.ctx.rng, wants);
        let beside = c.view.beside(&me.pki_id(), wants);
        let chosen = drawn.into_iter().chain(beside.into_iter().flatten());
        let chosen: BTreeSet<PkiId> = chosen.map(Member::pki_id).collect();
        if chosen.is_empty() {
            return;
        }
        let (message, kind) = self.announcement(number);
        let frame = Envelope::unsigned(&message).frame().clone();
        for peer in chosen {
            let to = c.peer(peer);
            let frame = frame.clone();
            (c.out)(Action::Send {
                to,
                frame,
                kind,
                channel: Some(self.id.clone()),
            });
        }
    }

    fn announcement(&self, number: u64) -> (GossipMessage, FrameKind) {
        let step = PullStep::Digest(digests([number]));
        encode(&PullKind::Blocks(self.id.clone()), NONCE, step)
    }

    fn send_block(&self, to: PkiId, number: u64, c: &mut ChannelContext<'_, '_, B>) {
        if let Some(envelope) = self.blocks.get(number) {
            let to = c.peer(to);
            (c.out)(Action::Send {
                to,
                frame: envelope.frame().clone(),
                kind: FrameKind::Block,
                channel: Some(self.id.clone()),
            });
        }
    }

    /// Tells a peer that we have a block.
    pub(super) fn announce(&self, to: PkiId, number: u64, c: &mut ChannelContext<'_, '_, B>) {
        let (message, kind) = self.announcement(number);
        c.send(to, &message, kind);
    }

    /// A peer pushed a block that came another way before: it is to push no more.
    pub(super) fn superfluous(
        &mut self,
        from: PkiId,
        number: u64,
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        if self.uses_tree_with(&from, c) && !self.tree.is_upstream(&from) {
            self.tree.unlink(&from);
            self.announce(from, number, c);
        }
    }

    /// A peer has blocks, and does not exchange them with us unasked.
    pub(super) fn on_announcement(
        &mut self,
        from: PkiId,
        numbers: &[u64],
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        self.tree.unlink(&from);
        self.tree.may_join(c.now());
        for number in numbers.iter().copied().take(MAX_NUMBERS) {
            self.blocks.held_by(number, from);
            self.note_sign(number, from, c.now());
            self.far_ahead(from, number, c);
            if self.buffer.wants(number, Demand::Unasked)
                && !self.tree.announced(number, from, c.now())
            {
                c.ctx.dropped(DropReason::ChannelFull);
            }
        }
        self.wake_tree(c);
    }

    /// A peer asks for blocks that were announced to it.
    pub(super) fn on_ask(
        &mut self,
        from: PkiId,
        numbers: &[u64],
        c: &mut ChannelContext<'_, '_, B>,
    ) {
        if numbers.is_empty() && !self.tree.adopt(from) {
            self.send_step(from, NONCE, PullStep::Digest(Vec::new()), c);
        }
        for number in numbers.iter().copied().take(MAX_NUMBERS) {
            if !self.blocks.may_serve(number, from) {
                c.ctx.dropped(DropReason::Unsolicited);
                continue;
            }
            self.send_block(from, number, c);
            if !self.tree.adopt(from) {
                self.announce(from, number, c);
            }
        }
    }

    /// Asks for what was announced and has not come.
    pub(super) fn wake_tree(&mut self, c: &mut ChannelContext<'_, '_, B>) {
        let now = c.now();
        if self.tree.joins(now) {
            self.join_tree(c);
        }
        let need = |number: u64| {
            if !self.buffer.wants(number, Demand::Unasked) {
                Need::Settled
            } else if self.arriving.contains(number) {
                Need::Verifying
            } else if self.initiator.awaits(&number) || self.requester.awaits(number) {
                Need::Requested
            } else {
                Need::Missing
            }
        };
        let avoid = |peer: &PkiId| self.backoff.avoids(peer, now);
        let asks = self.tree.take_due(now, need, avoid);
        for silent in asks.silent {
            self.backoff.failed(silent, now);
        }
        for (peer, numbers) in asks.ask {
            let step = PullStep::Request(digests(numbers));
            self.send_step(peer, NONCE, step, c);
        }
    }
}
