//! Batches what is pushed to other peers (Fabric: `gossip/gossip/batcher.go`).
//!
//! Messages leave together when [`max_propagation_burst_size`](crate::config::Config) of them wait or
//! when the oldest has waited for `max_propagation_burst_latency`, `propagate_iterations` times each. Who
//! gets them is decided by the node when they leave.
//!
//! Difference from Go: its emitter ticks every 10 ms whatever happens, so each hop costs 5 ms on average.
//! Ours opens its window with a message: the first one after a pause leaves at once, and only those that
//! follow within the latency wait for its end. There are never more batches than in Go, and a lone block
//! is not delayed.
//!
//! And there is a second, slow batch for the alive messages that tell nothing but that a member is still
//! there ([`Emission::can_wait`]). They are most of what a calm network sends: with 80 peers each passes on 16
//! of them a second. They wait for a tenth of `aliveTimeInterval` (a fiftieth of `aliveExpirationTimeout` at
//! most) and leave together, so that the node can pack many into one frame.

use std::mem;
use std::time::Instant;

use crate::config::{Config, Rules};
use crate::message::Envelope;
use crate::types::{ChannelId, PkiId};

/// With so many messages the slow batch does not wait: they make some 100 kB.
const SLOW_BATCH_SIZE: usize = 256;

/// Whom a message is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A block: members of our organisation in the channel that are not known to have it.
    Block(ChannelId, u64),
    /// A leadership message: all members of our organisation in the channel.
    Leadership(ChannelId),
    /// StateInfo: the organisations of the channel, if it is known and the author has an external
    /// endpoint; otherwise our organisation.
    StateInfo {
        /// `None`: a channel that this peer has not joined.
        channel: Option<ChannelId>,
        /// Its author.
        author: PkiId,
    },
    /// An alive message: everybody who may know its author.
    Alive {
        /// Its author.
        author: PkiId,
        /// Its author was known to be alive before, so that nobody waits for it.
        is_routine: bool,
    },
}

impl Route {
    /// Whether a message may leave with the slow batch.
    fn can_wait(&self) -> bool {
        matches!(self, Self::Alive { is_routine, .. } if *is_routine)
    }
}

/// A message to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// To whom.
    pub route: Route,
    /// What.
    pub envelope: Envelope,
    /// Whom it came from and must not go back to; `None` if it is our own.
    pub received_from: Option<PkiId>,
}

/// The two batching queues.
#[derive(Debug, Default)]
pub struct Emitter {
    prompt: Queue,
    slow: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// No batch leaves before, unless it is full.
    window_end: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    emission: Emission,
    iterations_left: usize,
}

impl Emitter {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a message. `false`: the queue is full and it was not taken.
    ///
    /// In the slow queue the newest message of an author takes the place of an older one, so that whoever
    /// signs many has no more of them passed on.
    #[must_use]
    pub fn add(&mut self, emission: Emission, config: &Config) -> bool {
        if config.propagate_iterations == 0 {
            return true;
        }
        let waits = emission.route.can_wait() && config.rules == Rules::Selvedge;
        let queue = match waits {
            true => &mut self.slow,
            false => &mut self.prompt,
        };
        if waits && let Some(older) = queue.same_route(&emission.route) {
            older.emission = emission;
            return true;
        }
        if queue.waiting.len() >= config.limits.emitter_queue {
            return false;
        }
        queue.waiting.push(Waiting {
            emission,
            iterations_left: config.propagate_iterations,
        });
        true
    }

    /// The batch that is due at `now`, in the order in which its messages came.
    pub fn take_due(&mut self, config: &Config, now: Instant) -> Vec<Emission> {
        let mut batch = self.take_prompt(config, now);
        batch.append(&mut self.take_slow(config, now));
        batch
    }

    fn take_prompt(&mut self, config: &Config, now: Instant) -> Vec<Emission> {
        let queue = &mut self.prompt;
        let latency = config.max_propagation_burst_latency;
        if queue.waiting.is_empty() {
            return Vec::new();
        }
        if config.rules == Rules::Fabric {
            // On average a message waits half the time between two ticks.
            queue.window_end.get_or_insert(now + latency / 2);
        }
        if !queue.is_due(config.max_propagation_burst_size.max(1), now) {
            return Vec::new();
        }
        queue.window_end = match config.rules {
            Rules::Selvedge => Some(now + latency),
            Rules::Fabric => None,
        };
        queue.take()
    }

    fn take_slow(&mut self, config: &Config, now: Instant) -> Vec<Emission> {
        let queue = &mut self.slow;
        if queue.waiting.is_empty() {
            return Vec::new();
        }
        let window = (config.alive_time_interval / 10).min(config.alive_expiration_timeout / 50);
        queue.window_end.get_or_insert(now + window);
        if !queue.is_due(SLOW_BATCH_SIZE, now) {
            return Vec::new();
        }
        let batch = queue.take();
        queue.window_end = (!queue.waiting.is_empty()).then_some(now + window);
        batch
    }

    /// When the next batch is due. In the past if it is due already.
    pub fn next_deadline(&self) -> Option<Instant> {
        let queues = [&self.prompt, &self.slow].into_iter();
        queues
            .filter(|queue| !queue.waiting.is_empty())
            .filter_map(|queue| queue.window_end)
            .min()
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.prompt.waiting.len() + self.slow.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Queue {
    fn same_route(&mut self, route: &Route) -> Option<&mut Waiting> {
        let mut waiting = self.waiting.iter_mut();
        waiting.find(|waiting| waiting.emission.route == *route)
    }

    /// Whether the window is over, or not open, or so many wait that it does not matter.
    fn is_due(&self, full: usize, now: Instant) -> bool {
        self.waiting.len() >= full || self.window_end.is_none_or(|end| end <= now)
    }

    /// All that waits; what must leave again stays, too.
    fn take(&mut self) -> Vec<Emission> {
        let mut batch = Vec::with_capacity(self.waiting.len());
        for mut waiting in mem::take(&mut self.waiting) {
            waiting.iterations_left -= 1;
            if waiting.iterations_left == 0 {
                batch.push(waiting.emission);
            } else {
                batch.push(waiting.emission.clone());
                self.waiting.push(waiting);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use selvedge_protos::gossip::GossipMessage;

    use super::*;
    use crate::testing::start;

    fn emission(number: u64) -> Emission {
        Emission {
            route: Route::Block(ChannelId::from("mychannel"), number),
            envelope: Envelope::unsigned(&GossipMessage::default()),
            received_from: None,
        }
    }

    fn numbers(batch: &[Emission]) -> Vec<u64> {
        let number = |emission: &Emission| match emission.route {
            Route::Block(_, number) => number,
            _ => unreachable!(),
        };
        batch.iter().map(number).collect()
    }

    const LATENCY: Duration = Duration::from_millis(10);

    #[test]
    fn the_first_leaves_at_once_and_what_follows_waits_for_the_window() {
        let (config, now) = (Config::default(), start());
        let mut emitter = Emitter::new();
        assert!(emitter.add(emission(1), &config));
        assert_eq!(numbers(&emitter.take_due(&config, now)), [1]);
        assert_eq!(emitter.next_deadline(), None);

        assert!(emitter.add(emission(2), &config));
        assert!(emitter.add(emission(3), &config));
        assert!(emitter.take_due(&config, now).is_empty());
        assert_eq!(emitter.next_deadline(), Some(now + LATENCY));
        assert_eq!(numbers(&emitter.take_due(&config, now + LATENCY)), [2, 3]);
        assert!(emitter.is_empty());
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let (config, now) = (Config::default(), start());
        let mut emitter = Emitter::new();
        assert!(emitter.add(emission(0), &config));
        emitter.take_due(&config, now);
        for number in 1..=10 {
            assert!(emitter.take_due(&config, now).is_empty());
            assert!(emitter.add(emission(number), &config));
        }
        assert_eq!(emitter.take_due(&config, now).len(), 10);
    }

    #[test]
    fn each_message_is_pushed_as_often_as_configured() {
        let mut config = Config {
            propagate_iterations: 3,
            ..Config::default()
        };
        let now = start();
        let mut emitter = Emitter::new();
        assert!(emitter.add(emission(1), &config));
        for round in 0..3 {
            assert_eq!(emitter.take_due(&config, now + LATENCY * round).len(), 1);
        }
        assert!(emitter.is_empty());

        config.propagate_iterations = 0;
        assert!(emitter.add(emission(2), &config));
        assert!(emitter.is_empty());
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let mut config = Config::default();
        config.limits.emitter_queue = 2;
        let mut emitter = Emitter::new();
        assert!(emitter.add(emission(1), &config));
        assert!(emitter.add(emission(2), &config));
        assert!(!emitter.add(emission(3), &config));
        assert_eq!(emitter.len(), 2);
    }

    #[test]
    fn routine_alive_messages_leave_together_and_hold_up_nothing() {
        let (config, now) = (Config::default(), start());
        let by = |author: usize, is_routine| Emission {
            route: Route::Alive {
                author: PkiId([u8::try_from(author).unwrap(); 32]),
                is_routine,
            },
            ..emission(0)
        };
        let alive = |is_routine| by(1, is_routine);
        let window = config.alive_time_interval / 10;
        let mut emitter = Emitter::new();
        assert!(emitter.add(alive(true), &config));
        assert!(emitter.take_due(&config, now).is_empty());
        assert_eq!(emitter.next_deadline(), Some(now + window));

        assert!(emitter.add(by(2, true), &config));
        assert!(emitter.add(alive(false), &config));
        let prompt = emitter.take_due(&config, now + window / 2);
        assert_eq!(prompt, [alive(false)]);
        assert_eq!(emitter.take_due(&config, now + window).len(), 2);
        assert!(emitter.is_empty());

        for author in 0..SLOW_BATCH_SIZE {
            assert!(emitter.take_due(&config, now).is_empty());
            assert!(emitter.add(by(author, true), &config));
        }
        assert_eq!(emitter.take_due(&config, now).len(), SLOW_BATCH_SIZE);
    }

    #[test]
    fn of_one_author_only_the_newest_alive_message_waits() {
        let config = Config {
            propagate_iterations: 2,
            ..Config::default()
        };
        let mut now = start();
        let alive = |number| Emission {
            route: Route::Alive {
                author: PkiId([1; 32]),
                is_routine: true,
            },
            ..emission(number)
        };
        let newer = Emission {
            received_from: Some(PkiId([2; 32])),
            ..alive(0)
        };
        let mut emitter = Emitter::new();
        for _ in 0..100 {
            assert!(emitter.add(alive(0), &config));
        }
        assert!(emitter.add(newer.clone(), &config));
        assert!(emitter.take_due(&config, now).is_empty());
        for _ in 0..2 {
            let deadline = emitter.next_deadline().unwrap();
            assert!(deadline > now);
            now = deadline;
            assert_eq!(emitter.take_due(&config, now), std::slice::from_ref(&newer));
        }
        assert!(emitter.is_empty());
    }
}
