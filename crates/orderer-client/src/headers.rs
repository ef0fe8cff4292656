//! Watching the headers of the nodes that are not the source of blocks.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::addresses::Orderer;
use crate::censorship::{BlockProgress, Detector, HeaderSeen, Verdict};
use crate::deliver::{Content, Requester};
use crate::error::FetchError;
use crate::retry::scaled;
use crate::verifier::ChainVerifier;

/// Headers that wait to be looked at, of all nodes.
const BUFFER: usize = 64;

/// How far the blocks are, with the verifier as of the last one.
#[derive(Debug, Clone)]
pub(crate) struct Progress<V> {
    pub(crate) verifier: V,
    pub(crate) held_up: bool,
}

/// Returns when the source of blocks is found to withhold some. Pending for ever without other
/// nodes to ask. Dropping the future ends all header streams.
pub(crate) async fn await_censorship<V: ChainVerifier>(
    requester: Arc<Requester>,
    others: Vec<Arc<Orderer>>,
    mut progress: watch::Receiver<Progress<V>>,
) {
    let mut detector = Detector::new(requester.options.censorship_timeout);
    let mut last_seen: Vec<Option<HeaderSeen>> = vec![None; others.len()];
    let (seen, mut headers) = mpsc::channel(BUFFER);
    let mut receivers = JoinSet::new();
    for (source, orderer) in others.into_iter().enumerate() {
        let progress = progress.clone();
        let receiver = HeaderReceiver {
            requester: requester.clone(),
            orderer,
            progress,
            source,
        };
        receivers.spawn(receiver.run(seen.clone()));
    }
    loop {
        let blocks = {
            let progress = progress.borrow_and_update();
            BlockProgress {
                next: progress.verifier.next_number(),
                held_up: progress.held_up,
            }
        };
        let last = last_seen.iter().flatten().copied();
        let deadline = match detector.judge(Instant::now(), blocks, last) {
            Verdict::Censorship => return,
            Verdict::Suspicious(deadline) => Some(deadline),
            Verdict::Fine => None,
        };
        let timeout = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = progress.changed() => {
                if changed.is_err() {
                    // The source has ended by itself.
                    std::future::pending::<()>().await;
                }
            }
            Some((source, header)) = headers.recv() => {
                if let Some(last) = last_seen.get_mut(source) {
                    *last = Some(header);
                }
            }
            () = timeout => {}
        }
    }
}

/// Follows the headers of one node, for ever.
struct HeaderReceiver<V> {
    requester: Arc<Requester>,
    orderer: Arc<Orderer>,
    progress: watch::Receiver<Progress<V>>,
    source: usize,
}

impl<V: ChainVerifier> HeaderReceiver<V> {
    async fn run(self, seen: mpsc::Sender<(usize, HeaderSeen)>) {
        let mut verifier: Option<V> = None;
        let mut failures = 0;
        loop {
            let from = self.starting_point(verifier.take());
            let verifier = verifier.insert(from);
            let before = verifier.next_number();
            let error = self.receive(verifier, &seen).await;
            failures = if verifier.next_number() > before {
                0
            } else {
                failures + 1
            };
            let options = &self.requester.options;
            let pause = scaled(options.retry_initial, 2.0, failures).min(options.retry_max);
            tracing::debug!(
                target: "peer.blocksprovider", channel = %self.requester.channel_id,
                "Header receiver to: {}, had stopped, retry in {pause:?}: {error}",
                self.orderer.address,
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// After the last block or the last header, whichever is later.
    fn starting_point(&self, own: Option<V>) -> V {
        let blocks = self.progress.borrow().verifier.clone();
        match own {
            Some(own) if own.next_number() > blocks.next_number() => own,
            _ => blocks,
        }
    }

    async fn receive(
        &self,
        verifier: &mut V,
        seen: &mpsc::Sender<(usize, HeaderSeen)>,
    ) -> FetchError {
        let start = verifier.next_number();
        let stream = self
            .requester
            .deliver(&self.orderer, Content::Headers, start, || {})
            .await;
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        loop {
            let header = match stream.next().await {
                Ok(header) => header,
                Err(error) => return error,
            };
            match verifier.attest(header) {
                Ok(attested) => {
                    let header = HeaderSeen {
                        number: attested.number,
                        at: Instant::now(),
                    };
                    if seen.send((self.source, header)).await.is_err() {
                        return FetchError::Stopped;
                    }
                }
                Err(refusal) => {
                    let (orderer, number) = (self.orderer.address.clone(), verifier.next_number());
                    return FetchError::Block {
                        orderer,
                        number,
                        refusal,
                    };
                }
            }
        }
    }
}
