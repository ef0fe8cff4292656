//! The task that fetches the blocks of one channel.

use std::collections::HashMap;
use std::sync::Arc;

use selvedge_msp::SigningIdentity;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::addresses::{AddressOverride, Orderer, OrdererAddresses};
use crate::deliver::{Content, Requester};
use crate::error::FetchError;
use crate::headers::{Progress, await_censorship};
use crate::options::{FetchOptions, Mode};
use crate::retry::{Next, Retry};
use crate::sources::Sources;
use crate::verifier::{Accepted, ChainVerifier};

/// What a fetcher is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Connecting to an ordering node.
    Connecting,
    /// Blocks were asked for, and come when there are any.
    Receiving,
    /// Pausing after a failure.
    Pausing,
    /// Ended: told to, or given up.
    Stopped,
}

/// How a fetcher fares; for health checks and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchStatus {
    /// What it is doing.
    pub phase: Phase,
    /// The ordering node in question.
    pub orderer: Option<String>,
    /// Failures since the last block.
    pub failures: u32,
    /// The last failure, until the next block.
    pub last_error: Option<String>,
    /// The number of the block that is due.
    pub next_block: u64,
}

/// Fetches the blocks of one channel until it is stopped or dropped.
#[derive(Debug)]
pub struct BlockFetcher {
    addresses: watch::Sender<OrdererAddresses>,
    status: watch::Receiver<FetchStatus>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _stop_when_dropped: DropGuard,
}

impl BlockFetcher {
    /// Begins to fetch the blocks that `verifier` says are due. They come out of the receiver, in
    /// order, verified. When the receiver says that there are no more, the fetcher has ended; its
    /// status tells why.
    ///
    /// Must be called in a tokio runtime.
    pub fn start<V: ChainVerifier>(
        channel_id: &str,
        signer: SigningIdentity,
        verifier: V,
        addresses: OrdererAddresses,
        overrides: HashMap<String, AddressOverride>,
        options: FetchOptions,
    ) -> (Self, mpsc::Receiver<V::Block>) {
        let (blocks, receiver) = mpsc::channel(options.buffer.max(1));
        let (status, status_receiver) = watch::channel(FetchStatus {
            phase: Phase::Connecting,
            orderer: None,
            failures: 0,
            last_error: None,
            next_block: verifier.next_number(),
        });
        let (addresses_sender, updates) = watch::channel(addresses.clone());
        let stop = CancellationToken::new();
        let task = FetchTask {
            sources: Sources::new(addresses, overrides),
            retry: Retry::new(&options),
            requester: Arc::new(Requester {
                channel_id: channel_id.to_owned(),
                signer,
                options,
            }),
            verifier,
            updates,
            blocks,
            status,
        };
        let fetcher = Self {
            addresses: addresses_sender,
            status: status_receiver,
            task: tokio::spawn(task.run(stop.clone())),
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
        };
        (fetcher, receiver)
    }

    /// Tells where ordering nodes are now, when a config block came another way. If that is news,
    /// the connection is made anew.
    pub fn update(&self, addresses: OrdererAddresses) {
        self.addresses.send_replace(addresses);
    }

    /// How it fares, now and with each change.
    pub fn status(&self) -> watch::Receiver<FetchStatus> {
        self.status.clone()
    }

    /// Ends the fetcher and waits until its connections are closed.
    pub async fn stop(self) {
        self.stop.cancel();
        // It cannot fail but by a panic, which the runtime has reported.
        let _ = self.task.await;
    }
}

struct FetchTask<V: ChainVerifier> {
    requester: Arc<Requester>,
    verifier: V,
    sources: Sources,
    retry: Retry,
    updates: watch::Receiver<OrdererAddresses>,
    blocks: mpsc::Sender<V::Block>,
    status: watch::Sender<FetchStatus>,
}

impl<V: ChainVerifier> FetchTask<V> {
    async fn run(mut self, stop: CancellationToken) {
        let closed = self.blocks.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = closed.closed() => {}
            () = self.fetch_for_ever() => {}
        }
        self.status
            .send_modify(|status| status.phase = Phase::Stopped);
        tracing::info!(
            target: "peer.blocksprovider", channel = %self.requester.channel_id,
            "Deliverer stopped, next block [{}]", self.verifier.next_number()
        );
    }

    /// Returns when it gives up.
    async fn fetch_for_ever(&mut self) {
        loop {
            if !self.pause().await {
                return;
            }
            let Some(orderer) = self.sources.current() else {
                self.note_failure(&FetchError::NoOrderers, None);
                continue;
            };
            match self.fetch_from(&orderer).await {
                FetchError::Refreshed => {
                    tracing::info!(
                        target: "peer.blocksprovider", channel = %self.requester.channel_id,
                        "Ordering endpoints have been refreshed, disconnecting from deliver \
                         to reconnect using updated endpoints"
                    );
                    self.retry.reset();
                }
                FetchError::Stopped => return,
                error => {
                    self.note_failure(&error, Some(&orderer.address));
                    self.sources.advance();
                }
            }
        }
    }

    fn note_failure(&mut self, error: &FetchError, orderer: Option<&str>) {
        self.retry.failed();
        tracing::warn!(
            target: "peer.blocksprovider", channel = %self.requester.channel_id,
            orderer_address = orderer.unwrap_or_default(),
            "{}: {error}", error.headline()
        );
        self.status.send_modify(|status| {
            status.failures = self.retry.failures();
            status.last_error = Some(error.to_string());
        });
    }

    /// Waits as failures demand, or until there are other addresses. False to give up.
    async fn pause(&mut self) -> bool {
        let channel = &self.requester.channel_id;
        let pause = match self.retry.next(self.sources.len()) {
            Next::AtOnce => return true,
            Next::Pause(pause, total) => {
                tracing::warn!(
                    target: "peer.blocksprovider", %channel,
                    "Disconnected from ordering service. Attempt to re-connect in {pause:?}, \
                     totalDuration is {total:?}"
                );
                pause
            }
            Next::GiveUp => {
                tracing::warn!(
                    target: "peer.blocksprovider", %channel,
                    "attempted to retry block delivery for more than \
                     peer.deliveryclient.reconnectTotalTimeThreshold duration, giving up"
                );
                return false;
            }
        };
        self.status
            .send_modify(|status| status.phase = Phase::Pausing);
        let sources = &mut self.sources;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = other_addresses(&mut self.updates, sources) => self.retry.reset(),
        }
        true
    }

    /// Fetches from one node until something is wrong with it.
    async fn fetch_from(&mut self, orderer: &Arc<Orderer>) -> FetchError {
        self.status.send_modify(|status| {
            status.phase = Phase::Connecting;
            status.orderer = Some(orderer.address.clone());
        });
        let others = match self.requester.options.mode {
            Mode::Cft => Vec::new(),
            Mode::Bft => self.sources.others(),
        };
        let verifier = self.verifier.clone();
        let (progress, watched) = watch::channel(Progress {
            verifier,
            held_up: false,
        });
        let censorship = await_censorship(self.requester.clone(), others, watched);
        tokio::select! {
            error = self.receive(orderer, &progress) => error,
            () = censorship => FetchError::Censorship { orderer: orderer.address.clone() },
        }
    }

    async fn receive(
        &mut self,
        orderer: &Arc<Orderer>,
        progress: &watch::Sender<Progress<V>>,
    ) -> FetchError {
        let start = self.verifier.next_number();
        let status = &self.status;
        let requester = self.requester.clone();
        let connected = || status.send_modify(|status| status.phase = Phase::Receiving);
        let stream = tokio::select! {
            stream = requester.deliver(orderer, Content::Blocks, start, connected) => stream,
            () = other_addresses(&mut self.updates, &mut self.sources) => Err(FetchError::Refreshed),
        };
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        loop {
            let result = tokio::select! {
                next = stream.next() => next,
                () = other_addresses(&mut self.updates, &mut self.sources) => {
                    Err(FetchError::Refreshed)
                }
            };
            let taken = match result {
                Ok(bytes) => self.take(orderer, bytes, progress).await,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                return error;
            }
        }
    }

    /// Verifies a block and hands it over. When dropped, the block was either not looked at yet, or
    /// handed over.
    async fn take(
        &mut self,
        orderer: &Orderer,
        bytes: bytes::Bytes,
        progress: &watch::Sender<Progress<V>>,
    ) -> Result<(), FetchError> {
        let blocks = self.blocks.clone();
        let place = match blocks.try_reserve() {
            Ok(place) => place,
            Err(_) => {
                progress.send_modify(|progress| progress.held_up = true);
                blocks.reserve().await.map_err(|_| FetchError::Stopped)?
            }
        };
        let number = self.verifier.next_number();
        let Accepted { block, orderers } =
            self.verifier
                .accept(bytes)
                .map_err(|refusal| FetchError::Block {
                    orderer: orderer.address.clone(),
                    number,
                    refusal,
                })?;
        place.send(block);
        progress.send_replace(Progress {
            verifier: self.verifier.clone(),
            held_up: false,
        });
        self.retry.reset();
        self.status.send_modify(|status| {
            status.failures = 0;
            status.last_error = None;
            status.next_block = self.verifier.next_number();
        });
        let refreshed = orderers.is_some_and(|orderers| self.sources.update(orderers));
        if refreshed {
            Err(FetchError::Refreshed)
        } else {
            Ok(())
        }
    }
}

/// Returns when addresses came that are not those in use; they are in use then.
async fn other_addresses(updates: &mut watch::Receiver<OrdererAddresses>, sources: &mut Sources) {
    loop {
        if updates.changed().await.is_err() {
            // The fetcher is being dropped; its token ends the task.
            std::future::pending::<()>().await;
        }
        let addresses = updates.borrow_and_update().clone();
        if sources.update(addresses) {
            return;
        }
    }
}
