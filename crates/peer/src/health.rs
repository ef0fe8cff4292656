//! What `/healthz` says of a peer's channels.
//!
//! Three things are wrong enough for a peer to be called unhealthy: a channel that has stopped, a
//! ledger that takes no more blocks, and an ordering service that a leading peer has not reached for
//! [`UNREACHABLE_TOO_LONG`]. Operators use `/healthz` as a liveness probe, so what may well be over in
//! a moment is not told: an ordering service may be restarted, and a peer that is restarted because
//! of it has gained nothing. How long it has been out of reach is a metric from the first second on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use selvedge_orderer_client::{FetchStatus, Phase};

use crate::channel::Channels;

/// A leading peer without an ordering service for this long is unhealthy.
pub const UNREACHABLE_TOO_LONG: Duration = Duration::from_secs(5 * 60);
/// An ordering node that accepts a request and ends it at once is not reached.
const STABLE: Duration = Duration::from_secs(10);

/// Whether blocks can be had from the ordering service, by what a fetcher says of itself.
///
/// A state machine: [`Self::observe`] each status, ask at any time. Statuses may be left out in
/// between.
#[derive(Debug)]
pub struct Reachability {
    /// Since when no ordering node was reached for long.
    missed_since: Option<Instant>,
    /// Since when blocks can come.
    receiving_since: Option<Instant>,
    failures: u32,
    next_block: u64,
    last_error: Option<String>,
}

impl Reachability {
    /// Nothing has been tried yet.
    pub fn new(now: Instant) -> Self {
        Self {
            missed_since: Some(now),
            receiving_since: None,
            failures: 0,
            next_block: 0,
            last_error: None,
        }
    }

    /// Takes note of a status.
    pub fn observe(&mut self, status: &FetchStatus, now: Instant) {
        if self.is_stable(now) {
            self.missed_since = None;
        }
        let interrupted = status.failures > self.failures;
        if status.phase != Phase::Receiving || interrupted {
            self.receiving_since = None;
            self.missed_since.get_or_insert(now);
        }
        if status.phase == Phase::Receiving {
            self.receiving_since.get_or_insert(now);
        }
        if status.next_block > self.next_block && self.next_block > 0 {
            // A block is proof enough.
            self.missed_since = (status.phase != Phase::Receiving).then_some(now);
        }
        self.next_block = status.next_block;
        self.failures = status.failures;
        if status.last_error.is_some() {
            self.last_error.clone_from(&status.last_error);
        }
    }

    /// For how long no ordering node has been reached; `None` while one is.
    pub fn unreachable_for(&self, now: Instant) -> Option<Duration> {
        let since = self.missed_since.filter(|_| !self.is_stable(now))?;
        Some(now.saturating_duration_since(since))
    }

    /// The last failure, in words.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    fn is_stable(&self, now: Instant) -> bool {
        self.receiving_since
            .is_some_and(|since| now.saturating_duration_since(since) >= STABLE)
    }
}

/// What is known of the channels' health. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct ChannelHealth(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Channels that have stopped, with the reason.
    stopped: BTreeMap<String, Arc<str>>,
    /// Channels in which this peer fetches from the ordering service.
    ordering: BTreeMap<String, Reachability>,
}

impl ChannelHealth {
    /// A channel has stopped for good.
    pub fn stopped(&self, channel: &str, reason: Arc<str>) {
        self.0.lock().stopped.insert(channel.to_owned(), reason);
    }

    /// Whether a channel has stopped.
    pub fn has_stopped(&self, channel: &str) -> bool {
        self.0.lock().stopped.contains_key(channel)
    }

    /// How fetching from the ordering service fares in a channel.
    pub fn observe_ordering(&self, channel: &str, status: &FetchStatus) {
        let now = Instant::now();
        let mut inner = self.0.lock();
        inner
            .ordering
            .entry(channel.to_owned())
            .or_insert_with(|| Reachability::new(now))
            .observe(status, now);
    }

    /// The peer no longer fetches from the ordering service in a channel.
    pub fn forget_ordering(&self, channel: &str) {
        self.0.lock().ordering.remove(channel);
    }

    /// For how long the ordering service has been out of reach, for each channel in which this peer
    /// fetches; zero where it is not.
    pub fn ordering_unreachable(&self) -> Vec<(String, Duration)> {
        let now = Instant::now();
        let inner = self.0.lock();
        let channels = inner.ordering.iter();
        channels
            .map(|(channel, it)| (channel.clone(), it.unreachable_for(now).unwrap_or_default()))
            .collect()
    }

    /// The check of the component `channels`: those that have stopped, and ledgers of `channels` that
    /// take no more blocks.
    pub fn check_channels(&self, channels: &Channels) -> Result<(), String> {
        let inner = self.0.lock();
        let mut reasons: Vec<_> = inner
            .stopped
            .iter()
            .map(|(channel, reason)| format!("channel {channel} has stopped: {reason}"))
            .collect();
        let poisoned = channels.all().into_iter().filter_map(|channel| {
            // One that has stopped says why already.
            if inner.stopped.contains_key(channel.id()) {
                return None;
            }
            let reason = channel.ledger().poisoned()?;
            Some(format!(
                "the ledger of channel {} takes no more blocks: {reason}",
                channel.id()
            ))
        });
        reasons.extend(poisoned);
        verdict(&reasons)
    }

    /// The check of the component `ordering_service`.
    pub fn check_ordering(&self) -> Result<(), String> {
        self.check_ordering_at(Instant::now())
    }

    fn check_ordering_at(&self, now: Instant) -> Result<(), String> {
        let inner = self.0.lock();
        let reasons: Vec<_> = inner
            .ordering
            .iter()
            .filter_map(|(channel, it)| {
                let missed = it.unreachable_for(now)?;
                (missed >= UNREACHABLE_TOO_LONG).then(|| {
                    let minutes = missed.as_secs() / 60;
                    let error = it.last_error().unwrap_or("no answer");
                    format!(
                        "channel {channel} has had no ordering node for {minutes} minutes: {error}"
                    )
                })
            })
            .collect();
        verdict(&reasons)
    }
}

fn verdict(reasons: &[String]) -> Result<(), String> {
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: Phase, failures: u32, next_block: u64) -> FetchStatus {
        FetchStatus {
            phase,
            orderer: Some("orderer:7050".to_owned()),
            failures,
            last_error: (failures > 0).then(|| "orderer:7050: connection refused".to_owned()),
            next_block,
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_connection_is_well() {
        let start = Instant::now();
        let mut it = Reachability::new(start);
        it.observe(&status(Phase::Connecting, 0, 7), start);
        it.observe(&status(Phase::Receiving, 0, 7), after(start, 1));
        assert_eq!(it.unreachable_for(after(start, 11)), None);
        assert_eq!(it.unreachable_for(after(start, 100_000)), None);
    }

    #[test]
    fn a_service_that_is_gone_is_noticed_and_its_return_too() {
        let start = Instant::now();
        let mut it = Reachability::new(start);
        it.observe(&status(Phase::Receiving, 0, 7), start);
        it.observe(&status(Phase::Receiving, 0, 8), after(start, 1));
        it.observe(&status(Phase::Pausing, 1, 8), after(start, 20));
        it.observe(&status(Phase::Connecting, 1, 8), after(start, 21));
        it.observe(&status(Phase::Pausing, 2, 8), after(start, 22));
        let missed = it.unreachable_for(after(start, 320));
        assert_eq!(missed, Some(Duration::from_secs(300)));
        assert_eq!(it.last_error(), Some("orderer:7050: connection refused"));

        it.observe(&status(Phase::Receiving, 2, 8), after(start, 330));
        assert!(it.unreachable_for(after(start, 331)).is_some(), "too early");
        assert_eq!(it.unreachable_for(after(start, 340)), None);
        it.observe(&status(Phase::Pausing, 3, 8), after(start, 400));
        assert_eq!(
            it.unreachable_for(after(start, 401)),
            Some(Duration::from_secs(1)),
            "a new trouble is counted from its own beginning"
        );
    }

    #[test]
    fn a_node_that_accepts_and_refuses_in_turn_is_not_reached() {
        let start = Instant::now();
        let mut it = Reachability::new(start);
        for round in 0..100 {
            let failures = u32::try_from(round).unwrap();
            it.observe(
                &status(Phase::Receiving, failures, 7),
                after(start, 4 * round),
            );
            // Every other failure happens between two looks.
            if round % 2 == 0 {
                let pausing = status(Phase::Pausing, failures + 1, 7);
                it.observe(&pausing, after(start, 4 * round + 1));
            }
        }
        let missed = it.unreachable_for(after(start, 400));
        assert_eq!(missed, Some(Duration::from_secs(400)));
    }

    #[test]
    fn a_block_is_proof() {
        let start = Instant::now();
        let mut it = Reachability::new(start);
        it.observe(&status(Phase::Pausing, 9, 7), start);
        it.observe(&status(Phase::Receiving, 0, 8), after(start, 400));
        assert_eq!(it.unreachable_for(after(start, 401)), None);
    }

    #[test]
    fn only_long_trouble_is_told() {
        let health = ChannelHealth::default();
        // The trouble begins between the two.
        let before = Instant::now();
        health.observe_ordering("ch", &status(Phase::Pausing, 1, 7));
        let begun = Instant::now();
        let at = |start, seconds| health.check_ordering_at(after(start, seconds));
        assert_eq!(at(before, 299), Ok(()));
        assert_eq!(
            at(begun, 301),
            Err(
                "channel ch has had no ordering node for 5 minutes: orderer:7050: \
                 connection refused"
                    .to_owned()
            )
        );
        health.forget_ordering("ch");
        assert_eq!(at(begun, 100_000), Ok(()));
    }
}
