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

use std::mem;
use std::time::Instant;

use crate::config::{Config, Rules};
use crate::message::Envelope;
use crate::types::{ChannelId, PkiId};

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
    },
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

/// The batching queue.
#[derive(Debug)]
pub struct Emitter {
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
        Self {
            waiting: Vec::new(),
            window_end: None,
        }
    }

    /// Queues a message. `false`: the queue is full and it was not taken.
    #[must_use]
    pub fn add(&mut self, emission: Emission, config: &Config) -> bool {
        if config.propagate_iterations == 0 {
            return true;
        }
        if self.waiting.len() >= config.limits.emitter_queue {
            return false;
        }
        self.waiting.push(Waiting {
            emission,
            iterations_left: config.propagate_iterations,
        });
        true
    }

    /// The batch that is due at `now`, in the order in which its messages came.
    pub fn take_due(&mut self, config: &Config, now: Instant) -> Vec<Emission> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let latency = config.max_propagation_burst_latency;
        if config.rules == Rules::Fabric {
            // On average a message waits half the time between two ticks.
            self.window_end.get_or_insert(now + latency / 2);
        }
        let window_open = self.window_end.is_some_and(|end| now < end);
        let full = self.waiting.len() >= config.max_propagation_burst_size.max(1);
        if window_open && !full {
            return Vec::new();
        }
        self.window_end = match config.rules {
            Rules::Selvedge => Some(now + latency),
            Rules::Fabric => None,
        };
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

    /// When the next batch is due. In the past if it is due already.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        self.window_end
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Default for Emitter {
    fn default() -> Self {
        Self::new()
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
}
