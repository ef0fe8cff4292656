//! Watches a network run.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, timeout};

use super::Network;
use super::compare::first_difference;
use super::peer::News;
use crate::error::DevnetError;
use crate::spread::Spread;
use crate::summary::Summary;
use crate::view::{PeerStatus, Status, View};

/// How often the view is brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// A network that orders blocks and in which none reaches every peer for so long has failed.
const MAX_STALL: Duration = Duration::from_secs(60);
/// How long news of commits may take at the end.
const MAX_WAIT_FOR_NEWS: Duration = Duration::from_secs(2);
/// Delays that the live view looks at.
const LATEST_DELAYS: usize = 2000;

pub(super) struct Monitor<'a> {
    network: &'a Network,
    /// The blocks of earlier runs, which do not count.
    before: u64,
    /// The last block that counts.
    last: Option<u64>,
    news: mpsc::Receiver<News>,
    /// Transactions that the ordering node has taken.
    taken: watch::Receiver<u64>,
    spread: Spread,
    begun: Option<Instant>,
    /// Blocks on every peer, and since when so many.
    progress: (u64, Instant),
}

impl<'a> Monitor<'a> {
    pub(super) fn new(
        network: &'a Network,
        before: u64,
        blocks: Option<u64>,
        news: mpsc::Receiver<News>,
        taken: watch::Receiver<u64>,
    ) -> Self {
        let last = blocks.map(|blocks| before.saturating_add(blocks));
        let first = before.saturating_add(1);
        Self {
            spread: Spread::new(network.peers.len(), first..=last.unwrap_or(u64::MAX)),
            network,
            before,
            last,
            news,
            taken,
            begun: None,
            progress: (0, Instant::now()),
        }
    }

    /// The last block that counts, if the run has an end.
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    /// Time since the flow of transactions began.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.map(|begun| begun.elapsed()).unwrap_or_default()
    }

    /// The flow of transactions begins.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.begun = Some(now);
        self.progress.1 = now;
    }

    /// Measures and shows until the condition holds, or until no block gets through any more.
    pub(super) async fn watch(
        &mut self,
        view: &mut View,
        until: impl Fn(&Status) -> bool,
    ) -> Result<(), DevnetError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(news) = self.news.recv() => self.hear(news),
                _ = tick.tick() => {
                    let status = self.status().await;
                    view.update(&status);
                    if until(&status) {
                        return Ok(());
                    }
                    self.check_progress(&status)?;
                }
            }
        }
    }

    fn check_progress(&mut self, status: &Status) -> Result<(), DevnetError> {
        let committed = status.on_every_peer();
        let (before, since) = self.progress;
        if committed != before || self.begun.is_none() {
            self.progress = (committed, Instant::now());
        } else if since.elapsed() > MAX_STALL && (self.last.is_some() || status.ordered > committed)
        {
            return Err(DevnetError::Stalled {
                seconds: MAX_STALL.as_secs(),
                ordered: status.ordered,
                committed,
            });
        }
        Ok(())
    }

    async fn status(&self) -> Status {
        let mut status = Status {
            elapsed: self.elapsed(),
            ordered: blocks(self.network.orderer.store().height()),
            transactions: *self.taken.borrow(),
            arrivals: self.spread.arrivals(),
            delays: self.spread.latest_delays(LATEST_DELAYS),
            ..Status::default()
        };
        for peer in &self.network.peers {
            let counters = peer.counters().await;
            status.duplicates += counters.duplicates;
            status.bytes_sent += counters.bytes_sent;
            status.peers.push(PeerStatus {
                name: peer.name().to_owned(),
                blocks: blocks(peer.store().height()),
                known: counters.known,
                in_channel: counters.in_channel,
            });
        }
        status
    }

    /// Listens until all that peers have committed is counted.
    async fn hear_of(&mut self, status: &Status) {
        let last = self.last.unwrap_or(u64::MAX);
        let counted = |peer: &PeerStatus| peer.blocks.min(last).saturating_sub(self.before);
        let expected: u64 = status.peers.iter().map(counted).sum();
        let complete = status.peers.iter().map(counted).min().unwrap_or_default();
        while self.spread.arrivals().total() < expected || self.spread.complete() < complete {
            let Some(news) = self.news.recv().await else {
                return;
            };
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Arrived { number, way } => self.spread.arrived(number, way),
            News::Committed { number, at } => self.spread.committed(number, at),
        }
    }

    /// Compares the chains and sums up.
    pub(super) async fn summary(mut self, view: &View) -> Result<Summary, DevnetError> {
        let status = self.status().await;
        // The news of a commit may come later than the commit.
        let late = timeout(MAX_WAIT_FOR_NEWS, self.hear_of(&status)).await;
        if late.is_err() {
            view.say("not every commit was heard of in time; arrivals and delays lack some");
        }
        // Without a number of blocks to reach, every peer must have what any has.
        let last = self.last.unwrap_or_else(|| status.longest());
        let peers = self.network.peers.iter();
        let stores = peers.map(|peer| (peer.name().to_owned(), peer.store().clone()));
        let reference = self.network.orderer.store().clone();
        let difference = first_difference(reference, stores.collect(), last).await?;
        if let Some(difference) = &difference {
            view.say(difference);
        }
        Ok(Summary {
            peers: status.peers.len(),
            blocks: last.min(status.on_every_peer()).saturating_sub(self.before),
            identical: difference.is_none(),
            delay_ms: self.spread.delays(),
            arrivals: self.spread.arrivals(),
            duplicates: status.duplicates,
            bytes_sent: status.bytes_sent,
        })
    }
}

/// Blocks without the genesis block.
fn blocks(height: u64) -> u64 {
    height.saturating_sub(1)
}
