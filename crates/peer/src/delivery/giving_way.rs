//! When a leader that reaches no ordering node lets another peer of its organisation lead.
//!
//! # Differences
//!
//! A Go peer gives way when the pauses between its attempts add up to
//! `peer.deliveryclient.reconnectTotalTimeThreshold`, an hour by default, and fetches no more (Fabric:
//! `core/deliverservice`, `blocksprovider`). For that hour its organisation has no new blocks where another of its
//! peers may well reach the ordering service. So there is `peer.deliveryclient.giveWayAfter` here, 20 s by default:
//! whichever of both is shorter counts, and who wants Go's hour sets both to it. It is measured on the clock,
//! attempts included.
//!
//! Nor does the leader stop before there is another one: it goes on trying, and gives way only to a peer that can
//! lead, which the core knows. It is asked again and again.
//!
//! As in Fabric a static leader (`peer.gossip.orgLeader`) never gives way. On BFT channels, under the policy
//! `cluster`, a Go peer does not either; this one does wherever there are elections, since its followers depend on
//! it there as well.

use std::time::{Duration, Instant};

use selvedge_gossip::event::Event;
use selvedge_gossip::types::ChannelId;
use selvedge_orderer_client::FetchStatus;
use tokio::sync::{mpsc, watch};

use crate::gossip::PeerBlock;
use crate::health::Reachability;

/// When to give way, by what a fetcher says of itself.
#[derive(Debug)]
struct Patience {
    after: Duration,
    reachability: Reachability,
    /// When giving way was last asked for, or the leader began to lead.
    asked: Instant,
}

impl Patience {
    fn new(after: Duration, now: Instant) -> Self {
        Self {
            after,
            reachability: Reachability::new(now),
            asked: now,
        }
    }

    /// How long to wait still, if nothing changes; `None` while an ordering node is reached.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let silence = self.reachability.unreachable_for(now)?;
        let since_asked = now.saturating_duration_since(self.asked);
        Some(self.after.saturating_sub(silence.min(since_asked)))
    }
}

/// Asks gossip to give way whenever no ordering node could be reached for `after`.
pub(super) async fn give_way(
    channel: ChannelId,
    after: Duration,
    mut status: watch::Receiver<FetchStatus>,
    events: mpsc::Sender<Event<PeerBlock>>,
) {
    let mut patience = Patience::new(after, Instant::now());
    loop {
        let now = Instant::now();
        patience
            .reachability
            .observe(&status.borrow_and_update(), now);
        let rest = patience.rest(now);
        if rest == Some(Duration::ZERO) {
            patience.asked = now;
            let event = Event::OrdererUnreachable(channel.clone());
            if events.send(event).await.is_err() {
                return;
            }
            continue;
        }
        let changed = match rest {
            Some(rest) => tokio::time::timeout(rest, status.changed()).await,
            None => Ok(status.changed().await),
        };
        if matches!(changed, Ok(Err(_))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use selvedge_orderer_client::Phase;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn status(phase: Phase, failures: u32) -> FetchStatus {
        FetchStatus {
            phase,
            orderer: None,
            failures,
            last_error: None,
            next_block: 7,
        }
    }

    #[test]
    fn patience_ends_after_the_time_that_is_set_and_again_after_as_much() {
        let start = Instant::now();
        let mut patience = Patience::new(SECOND * 20, start);
        patience
            .reachability
            .observe(&status(Phase::Pausing, 1), start);
        let rest = |patience: &Patience, seconds| patience.rest(start + SECOND * seconds);
        assert_eq!(rest(&patience, 0), Some(SECOND * 20));
        assert_eq!(rest(&patience, 19), Some(SECOND));
        assert_eq!(rest(&patience, 20), Some(Duration::ZERO));
        patience.asked = start + SECOND * 21;
        assert_eq!(rest(&patience, 21), Some(SECOND * 20));
        assert_eq!(rest(&patience, 50), Some(Duration::ZERO));
    }

    #[test]
    fn a_service_that_is_reached_is_not_given_up() {
        let start = Instant::now();
        let mut patience = Patience::new(SECOND * 20, start);
        let receiving = status(Phase::Receiving, 0);
        patience.reachability.observe(&receiving, start);
        assert_eq!(patience.rest(start + SECOND * 3600), None);
        let pausing = status(Phase::Pausing, 1);
        let lost = start + SECOND * 4000;
        patience.reachability.observe(&pausing, lost);
        assert_eq!(patience.rest(lost), Some(SECOND * 20));
    }

    #[tokio::test]
    async fn gossip_is_asked_again_and_again_while_no_node_is_reached() {
        let (sender, status) = watch::channel(status(Phase::Pausing, 1));
        let (events, mut asked) = mpsc::channel(1);
        let channel = ChannelId::from("ch");
        let short = Duration::from_millis(1);
        let asking = tokio::spawn(give_way(channel.clone(), short, status, events));
        for _ in 0..3 {
            let event = asked.recv().await;
            assert!(matches!(event, Some(Event::OrdererUnreachable(it)) if it == channel));
        }
        drop(sender);
        while asked.recv().await.is_some() {}
        asking.await.unwrap();
    }
}
