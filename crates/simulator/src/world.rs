//! The peers, the queue of what happens, and time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index;
use selvedge_gossip::event::{
    Action, Arrival, ArrivedBlock, ChannelOrg, ChannelSetup, Event, Notice, Payload,
};
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, Peer, PkiId};

use crate::SimulationError;
use crate::block::SimBlock;
use crate::inboxes::Inboxes;
use crate::introductions;
use crate::liars::Lie;
use crate::options::{Options, SLOW_BITS_PER_SECOND};
use crate::outboxes::Outboxes;
use crate::peer::{SimPeer, channel_name, org_name};
use crate::queue::{Happening, Queue};
use crate::report::{Measures, Report};
use crate::troubles::{GRACE, LOOK, SETTLING};
use crate::wires::{Nanos, Wires};

/// To verify a block.
const VERIFICATION: Nanos = 1_000_000;
/// To commit a block; blocks of a peer one after the other.
const COMMIT: Nanos = 5_000_000;
/// To read blocks from the ledger.
const READ: Nanos = 1_000_000;

/// See the module's documentation.
pub(crate) struct World {
    pub(crate) options: Options,
    /// An instant to count from; only differences matter.
    pub(crate) base: Instant,
    pub(crate) now: Nanos,
    pub(crate) queue: Queue,
    pub(crate) peers: Vec<SimPeer>,
    /// The places of all peers that there are or were.
    pub(crate) by_id: BTreeMap<PkiId, usize>,
    pub(crate) by_endpoint: BTreeMap<Endpoint, usize>,
    pub(crate) channels: Vec<ChannelId>,
    pub(crate) wires: Wires,
    pub(crate) outboxes: Outboxes,
    pub(crate) inboxes: Inboxes,
    /// Whom each peer knows of in the beginning.
    pub(crate) known: Vec<BTreeSet<usize>>,
    pub(crate) connected: BTreeSet<(usize, usize)>,
    pub(crate) rng: StdRng,
    pub(crate) measures: Measures,
    pub(crate) measuring: bool,
    /// Ledgers of honest peers that lack blocks.
    pub(crate) incomplete: usize,
    pub(crate) last_cut: Nanos,
    /// Until then peers are restarted.
    pub(crate) restarts_end: Nanos,
    /// By channel: the newest block of the ordering service.
    pub(crate) newest: Vec<u64>,
    /// When it was last looked whether everything has settled.
    looked: Nanos,
    /// Events that peers were told.
    pub(crate) handled: u64,
    /// When each peer was last down or cut off.
    pub(crate) troubled: Vec<Nanos>,
}

impl World {
    pub(crate) fn new(options: &Options) -> Result<Self, SimulationError> {
        let mut rng = StdRng::seed_from_u64(options.seed);
        let base = Instant::now();
        let lies = lies(options, &mut rng);
        let peers = (0..options.peers)
            .map(|index| SimPeer::new(index, options, base, lies.get(&index).copied()))
            .collect::<Result<Vec<_>, _>>()?;
        let by_id = peers.iter().enumerate();
        let by_id = by_id.map(|(index, peer)| (peer.identity.pki_id(), index));
        let mut by_endpoint: BTreeMap<Endpoint, usize> = BTreeMap::new();
        for (index, peer) in peers.iter().enumerate() {
            by_endpoint.extend(peer.endpoints().map(|endpoint| (endpoint, index)));
        }
        Ok(Self {
            base,
            now: 0,
            queue: Queue::default(),
            by_id: by_id.collect(),
            by_endpoint,
            channels: (0..options.channels)
                .map(|channel| ChannelId::new(channel_name(channel)))
                .collect(),
            wires: Wires::new(options),
            outboxes: Outboxes::new(options),
            inboxes: slow_readers(options, &mut rng),
            known: introductions::acquaintances(options, &mut rng),
            connected: BTreeSet::new(),
            rng,
            measures: Measures::new(options),
            measuring: false,
            incomplete: (options.peers - lies.len()) * options.channels,
            last_cut: 0,
            restarts_end: 0,
            newest: vec![0; options.channels],
            looked: 0,
            handled: 0,
            troubled: vec![0; options.peers],
            peers,
            options: options.clone(),
        })
    }

    pub(crate) fn run(mut self) -> Report {
        for index in 0..self.peers.len() {
            self.join_channels(index);
        }
        let begin = if self.options.cold_start {
            Duration::from_secs(60)
        } else {
            for index in 0..self.peers.len() {
                self.introduce(index);
            }
            self.spread_heights();
            Duration::from_secs(5)
        };
        self.plan(nanos(begin));
        let end = self.last_cut + nanos(self.options.patience);
        while let Some((at, happening)) = self.queue.next() {
            if at > end || self.is_done() {
                break;
            }
            self.now = at;
            self.happen(happening);
        }
        self.finish()
    }

    /// All blocks have arrived, and what was planned has happened.
    fn is_done(&mut self) -> bool {
        let calm = self.restarts_end.max(self.last_cut);
        if self.incomplete > 0 || self.now <= calm {
            return false;
        }
        if !self.settles() {
            return true;
        }
        let settled = calm + nanos(SETTLING);
        let look_at = settled.max(self.looked + nanos(LOOK));
        if self.now <= look_at {
            return false;
        }
        // Where frames are lost, a living peer may be doubted for a moment, or a second one lead.
        self.looked = self.now;
        self.unsettled().is_empty() || self.now > settled + nanos(GRACE)
    }

    fn finish(mut self) -> Report {
        let honest_incomplete = self.incomplete;
        if honest_incomplete > 0 && self.options.state_transfer {
            let short = self.short_ledgers();
            let ledgers =
                format!("{honest_incomplete} ledgers did not become complete, such as {short:?}");
            self.measures.violated(ledgers);
        }
        if self.looked > 0 {
            for found in self.unsettled() {
                self.measures.violated(found);
            }
        }
        let mut arrivals: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut drops: BTreeMap<String, u64> = BTreeMap::new();
        for peer in &self.peers {
            let counters = peer.gossip.counters();
            for (name, how) in [
                ("orderer", Arrival::Orderer),
                ("push", Arrival::Push),
                ("pull", Arrival::Pull),
                ("state_transfer", Arrival::StateTransfer),
            ] {
                *arrivals.entry(name).or_default() += counters.blocks_by(how);
            }
            for (reason, count) in counters.drops() {
                *drops.entry(format!("{reason:?}")).or_default() += count;
            }
        }
        let seconds = Duration::from_nanos(self.now).as_secs_f64();
        let honest = self.peers.iter().filter(|peer| peer.lie.is_none()).count();
        let mut report = self.measures.report(&self.options, honest, seconds);
        report.arrivals = arrivals;
        report.drops = drops;
        report.incomplete = honest_incomplete;
        report
    }

    /// The heights of some honest peers that lack blocks.
    fn short_ledgers(&self) -> Vec<(usize, &[u64])> {
        let peers = self.peers.iter().enumerate();
        let honest = peers.filter(|(_, peer)| peer.lie.is_none());
        let ledgers = honest.map(|(index, peer)| (index, peer.heights.as_slice()));
        let is_short = |(_, heights): &(usize, &[u64])| {
            heights.iter().any(|height| *height <= self.options.blocks)
        };
        ledgers.filter(is_short).take(3).collect()
    }

    /// Enters the blocks, the partition and the restarts.
    fn plan(&mut self, begin: Nanos) {
        let interval = nanos(self.options.interval());
        let channels = self.options.channels;
        for channel in 0..channels {
            let offset = interval * channel as u64 / channels as u64;
            for number in 1..=self.options.blocks {
                let at = begin + offset + interval * (number - 1);
                self.queue.enter(at, Happening::Cut { channel, number });
                self.last_cut = self.last_cut.max(at);
            }
        }
        if let Some(partition) = self.options.partition {
            let from = begin + nanos(partition.begin);
            let until = from + nanos(partition.length);
            self.queue
                .enter(from, Happening::Partition { begins: true });
            self.queue
                .enter(until, Happening::Partition { begins: false });
            self.restarts_end = self.restarts_end.max(until);
        }
        let Options {
            restarts_per_hour,
            churn_per_hour,
            breaks_per_hour,
            half_open_per_hour,
            narrow_per_hour,
            outages_per_hour,
            ..
        } = self.options;
        self.now_and_then(begin, restarts_per_hour, || Happening::Stop);
        self.now_and_then(begin, churn_per_hour, || Happening::Leave);
        self.now_and_then(begin, narrow_per_hour, || Happening::Narrow);
        self.now_and_then(begin, outages_per_hour, || Happening::Outage);
        for (rate, half_open) in [(breaks_per_hour, false), (half_open_per_hour, true)] {
            self.now_and_then(begin, rate, || Happening::Break { half_open });
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Frame(arriving) => self.arrive(arriving),
            Happening::TakenIn { peer } => self.taken_in(peer),
            Happening::UplinkFree { peer } => self.uplink_free(peer),
            Happening::Told { peer, run, event } => {
                if self
                    .peers
                    .get(peer)
                    .is_some_and(|it| it.run == run && it.up)
                {
                    let committed = match &*event {
                        Event::Committed { channel, .. } => Some(channel.clone()),
                        _ => None,
                    };
                    self.tell(peer, *event);
                    if let Some(channel) = committed.and_then(|id| self.channel(&id)) {
                        self.fetch_soon(peer, channel);
                    }
                }
            }
            Happening::Wake { peer, run } => self.wake(peer, run),
            Happening::Cut { channel, number } => self.cut(channel, number),
            Happening::Partition { begins } => self.part(begins),
            Happening::Stop => self.stop_one(),
            Happening::Outage => self.outage(),
            Happening::OrderingMissed { peer } => self.ordering_missed(peer),
            Happening::Start { peer } => self.start(peer),
            Happening::Leave => self.leave_one(),
            Happening::Come { place } => self.come(place),
            Happening::Break { half_open } => self.break_one(half_open),
            Happening::Narrow => self.narrow_one(),
            Happening::Widen { peer } => self.widen(peer),
            Happening::Broken { one, other } => self.broken(one, other),
            Happening::Fetch { peer, run, channel } => self.fetch(peer, run, channel),
            Happening::Heights => self.spread_heights(),
        }
    }

    pub(crate) fn channel(&self, id: &ChannelId) -> Option<usize> {
        self.channels.iter().position(|channel| channel == id)
    }

    pub(crate) fn join_channels(&mut self, index: usize) {
        for channel in 0..self.options.channels {
            let setup = self.setup(index, channel);
            self.tell(index, Event::ChannelJoined(setup));
        }
        self.tell(index, Event::Wakeup);
    }

    fn setup(&self, index: usize, channel: usize) -> ChannelSetup {
        let org = |org: usize| ChannelOrg {
            org: OrgId::new(org_name(org)),
            anchor_peers: (self
                .peers
                .get(org)
                .map(|peer| &peer.config.external_endpoint))
            .cloned()
            .filter(|endpoint| !endpoint.is_empty())
            .into_iter()
            .collect(),
        };
        let heights = self.peers.get(index).map(|peer| peer.heights.as_slice());
        let height = heights.and_then(|heights| heights.get(channel).copied());
        ChannelSetup {
            channel: ChannelId::new(channel_name(channel)),
            sequence: 1,
            orgs: (0..self.options.orgs).map(org).collect(),
            height: height.unwrap_or(1),
            block_gossip: true,
        }
    }

    fn wake(&mut self, index: usize, run: u32) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if peer.run != run || !peer.up || peer.wake_at != Some(now) {
            return;
        }
        peer.wake_at = None;
        self.tell(index, Event::Wakeup);
        let asleep = self.peers.get(index).and_then(|peer| peer.wake_at);
        if asleep.is_some_and(|at| at <= now) {
            self.measures
                .violated(format!("peer {index} does not sleep"));
        }
    }

    /// Lets a peer handle an event, does what it asks for, and notes when it wants to be woken.
    pub(crate) fn tell(&mut self, index: usize, event: Event<SimBlock>) {
        let instant = self.base + Duration::from_nanos(self.now);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let mut actions = Vec::new();
        peer.gossip
            .handle(event, instant, &mut |action| actions.push(action));
        if let Some(deadline) = peer.gossip.next_deadline() {
            let wait = deadline.saturating_duration_since(self.base);
            let at = nanos(wait).max(self.now);
            if peer
                .wake_at
                .is_none_or(|planned| at < planned || planned < self.now)
            {
                peer.wake_at = Some(at);
                let run = peer.run;
                self.queue.enter(at, Happening::Wake { peer: index, run });
            }
        }
        self.sample(index);
        for action in actions {
            self.act(index, action);
        }
    }

    pub(crate) fn tell_later(&mut self, index: usize, delay: Nanos, event: Event<SimBlock>) {
        let Some(run) = self.peers.get(index).map(|peer| peer.run) else {
            return;
        };
        let happening = Happening::Told {
            peer: index,
            run,
            event: Box::new(event),
        };
        self.queue.enter(self.now + delay, happening);
    }

    fn act(&mut self, index: usize, action: Action<SimBlock>) {
        match action {
            Action::Send {
                to,
                frame,
                kind,
                channel,
            } => self.send(index, &to.pki_id, frame, kind, channel),
            Action::Dial { endpoint, purpose } => self.dial(index, endpoint, purpose),
            Action::VerifyBlock { channel, block } => {
                let event = verdict(channel, block);
                self.tell_later(index, VERIFICATION, event);
            }
            Action::Deliver { channel, block, .. } => self.deliver(index, &channel, &block),
            Action::ReadBlocks {
                channel,
                to,
                nonce,
                start,
                end,
            } => self.read(index, channel, to, nonce, start, end),
            Action::Disconnect { peer, .. } => {
                if let Some(peer) = self.by_id.get(&peer) {
                    self.connected.remove(&pair(index, *peer));
                    self.outboxes.forget(index, *peer);
                }
            }
            Action::Notice(Notice::PeerDead { peer, .. }) => self.suspects(index, &peer),
            Action::IdentityLearned(_)
            | Action::IdentityPurged(_)
            | Action::Revalidate(_)
            | Action::RecheckReaders { .. }
            | Action::SendAcknowledged { .. }
            | Action::PrivateDataFetched { .. }
            | Action::StorePrivateData { .. }
            | Action::ReadPrivateData { .. }
            | Action::Notice(_) => {}
            Action::LeadershipChanged { channel, leads } => self.leads(index, &channel, leads),
        }
    }

    /// The committer of a peer gets a block.
    fn deliver(&mut self, index: usize, channel: &ChannelId, block: &SimBlock) {
        let Some(number_of_channel) = self.channel(channel) else {
            return self.measures.violated("a block of no channel".to_owned());
        };
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(height) = peer.heights.get_mut(number_of_channel) else {
            return;
        };
        let number = block.number();
        if number != *height {
            let expected = *height;
            return self.measures.violated(format!(
                "peer {index} was handed block {number} where {expected} is next"
            ));
        }
        if *block != SimBlock::genuine(channel.as_str(), number) {
            return self
                .measures
                .violated(format!("peer {index} was handed a forged block"));
        }
        *height += 1;
        let height = *height;
        let free = peer.committer_free.max(self.now) + COMMIT;
        peer.committer_free = free;
        let honest = peer.lie.is_none();
        if honest {
            self.measures.arrived(number_of_channel, number, self.now);
            if height == self.options.blocks + 1 {
                self.incomplete -= 1;
            }
        }
        let channel = channel.clone();
        let event = Event::Committed { channel, height };
        self.tell_later(index, free - self.now, event);
    }

    fn read(
        &mut self,
        index: usize,
        channel: ChannelId,
        to: Peer,
        nonce: u64,
        start: u64,
        end: u64,
    ) {
        let position = self.channel(&channel);
        let heights = self.peers.get(index).map(|peer| &peer.heights);
        let height = heights
            .zip(position)
            .and_then(|(heights, position)| heights.get(position).copied())
            .unwrap_or(0);
        let blocks = (start..end.saturating_add(1).min(height))
            .map(|number| {
                SimBlock::genuine(channel.as_str(), number)
                    .encoded()
                    .clone()
            })
            .collect();
        let event = Event::BlocksRead {
            channel,
            to,
            nonce,
            start,
            blocks,
        };
        self.tell_later(index, READ, event);
    }
}

/// Who lies, and how. The leaders do not, or where those are elected, nobody in the first organisation.
fn lies(options: &Options, rng: &mut StdRng) -> BTreeMap<usize, Lie> {
    let may_lie = |peer: &usize| !options.elections || !peer.is_multiple_of(options.orgs);
    let followers: Vec<usize> = (options.orgs..options.peers).filter(may_lie).collect();
    let count = followers.len() * options.liars_per_mille as usize / 1000;
    let chosen = index::sample(rng, followers.len(), count);
    let liars = chosen
        .into_iter()
        .filter_map(|at| followers.get(at).copied());
    liars.zip(Lie::ALL.into_iter().cycle()).collect()
}

/// Who reads slowly; the first peers do not.
fn slow_readers(options: &Options, rng: &mut StdRng) -> Inboxes {
    let followers = options.peers - options.orgs;
    let count = followers * options.slow_per_mille as usize / 1000;
    let mut inboxes = Inboxes::default();
    if count > 0 {
        for follower in index::sample(rng, followers, count) {
            inboxes.slow_down(follower + options.orgs, SLOW_BITS_PER_SECOND);
        }
    }
    inboxes
}

fn verdict(channel: ChannelId, arrived: ArrivedBlock) -> Event<SimBlock> {
    match SimBlock::verify(channel.as_str(), arrived.number, &arrived.bytes) {
        Some(block) => Event::BlockVerified {
            channel,
            block,
            arrived,
        },
        None => Event::BlockRefused { channel, arrived },
    }
}

pub(crate) fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
