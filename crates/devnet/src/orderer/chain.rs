//! The chain of an ordering node: who may add to it, and the one task that does.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use selvedge_channel::ChannelConfig;
use selvedge_ledger::{BlockStore, Options};
use selvedge_msp::SigningIdentity;
use selvedge_protos::Message;
use selvedge_protos::block::header_hash;
use selvedge_protos::common::{Block, Envelope};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::OrdererError;
use super::admission::{Admitted, Refusal, admit, readmit};
use super::cutter::{Batch, Cutter};
use super::writer::{BlockWriter, last_config};

/// Messages that have been taken but not ordered; when there are more, clients wait.
const MAX_WAITING: usize = 1024;

/// What all streams of the node share.
pub(super) struct Chain {
    store: BlockStore,
    config: ArcSwap<ChannelConfig>,
    signer: SigningIdentity,
    submissions: mpsc::Sender<Submission>,
}

struct Submission {
    admitted: Admitted,
    /// The configuration under which it was admitted.
    sequence: u64,
}

impl Chain {
    /// Opens the chain in `folder`, or begins it with the genesis block. The sequencer must be run,
    /// or nothing will ever be ordered. Reads and writes files.
    pub(super) fn open(
        folder: &Path,
        channel_id: &str,
        genesis: &Block,
        signer: SigningIdentity,
    ) -> Result<(Arc<Self>, Sequencer), OrdererError> {
        let files = folder.join("chains").join(channel_id);
        let index = folder.join("index").join(channel_id);
        let store = BlockStore::open(channel_id, &files, &index, &Options::default())?;
        if store.height() == 0 {
            store.append(genesis)?;
        }
        let first = store.header(0)?.as_ref().map(header_hash);
        if first != genesis.header.as_ref().map(header_hash) {
            return Err(OrdererError::OtherGenesis {
                folder: folder.to_owned(),
                channel_id: channel_id.to_owned(),
            });
        }
        let last = block(&store, store.height().saturating_sub(1))?;
        let config = block(
            &store,
            last_config(&last).ok_or(OrdererError::NoLastConfig)?,
        )?;
        let config = ChannelConfig::from_block(&config)?;
        let writer = BlockWriter::after(&last, signer.clone()).ok_or(OrdererError::NoLastConfig)?;
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let chain = Arc::new(Self {
            store,
            config: ArcSwap::from_pointee(config),
            signer,
            submissions: sender,
        });
        let sequencer = Sequencer {
            chain: chain.clone(),
            submissions: receiver,
            cutter: Cutter::default(),
            writer,
            deadline: None,
        };
        Ok((chain, sequencer))
    }

    /// Checks a message and queues it. Waits while the queue is full. That it is queued means that
    /// it will be ordered unless the configuration changes before or the node dies.
    pub(super) async fn submit(&self, message: Envelope) -> Result<(), Refusal> {
        let config = self.config();
        let submission = Submission {
            admitted: admit(&config, &self.signer, message)?,
            sequence: config.sequence(),
        };
        let sent = self.submissions.send(submission).await;
        sent.map_err(|_| Refusal::Unavailable)
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<ChannelConfig> {
        self.config.load_full()
    }

    /// The blocks.
    pub(super) fn store(&self) -> &BlockStore {
        &self.store
    }

    /// Whether messages can no longer be ordered.
    pub(super) fn is_halted(&self) -> bool {
        self.submissions.is_closed()
    }
}

fn block(store: &BlockStore, number: u64) -> Result<Block, OrdererError> {
    let block = store.block(number)?;
    block.ok_or(OrdererError::NoLastConfig)
}

/// The only one that adds blocks.
pub(super) struct Sequencer {
    chain: Arc<Chain>,
    submissions: mpsc::Receiver<Submission>,
    cutter: Cutter,
    writer: BlockWriter,
    /// When pending messages become a block, full or not.
    deadline: Option<Instant>,
}

impl Sequencer {
    /// Orders what is submitted, until `stop`: then orders what is queued already, and returns. After
    /// an error nothing more is ordered, and clients are told that the node is unavailable.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), OrdererError> {
        let channel = self.chain.store.channel().to_owned();
        let ended = self.sequence(stop).await;
        if let Err(error) = &ended {
            tracing::error!(channel, %error, "The ordering node has stopped ordering");
        }
        ended
    }

    async fn sequence(mut self, stop: CancellationToken) -> Result<(), OrdererError> {
        loop {
            let deadline = self.deadline;
            let timeout = async move {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = timeout => self.cut().await?,
                submission = self.submissions.recv() => match submission {
                    Some(submission) => self.order(submission).await?,
                    None => break,
                },
            }
        }
        self.submissions.close();
        while let Some(submission) = self.submissions.recv().await {
            self.order(submission).await?;
        }
        self.cut().await
    }

    async fn order(&mut self, submission: Submission) -> Result<(), OrdererError> {
        let config = self.chain.config();
        let admitted = if submission.sequence < config.sequence() {
            match readmit(&config, &self.chain.signer, submission.admitted) {
                Ok(admitted) => admitted,
                Err(refusal) => {
                    let channel = config.channel_id();
                    tracing::warn!(channel, %refusal, "Dropping a message: the configuration has changed since it was taken");
                    return Ok(());
                }
            }
        } else {
            submission.admitted
        };
        match admitted {
            Admitted::Normal(message) => {
                let limits = config.orderer().batch_size();
                let batches = self.cutter.ordered(message, limits);
                if !batches.is_empty() {
                    self.deadline = None;
                }
                for batch in batches {
                    self.write(batch, false).await?;
                }
                if self.cutter.is_pending() {
                    let timeout = config.orderer().batch_timeout();
                    self.deadline.get_or_insert(Instant::now() + timeout);
                }
                Ok(())
            }
            Admitted::Config(change) => {
                self.cut().await?;
                self.write(vec![change.message], true).await?;
                self.chain.config.store(Arc::new(change.config));
                Ok(())
            }
        }
    }

    /// Makes a block of what is pending.
    async fn cut(&mut self) -> Result<(), OrdererError> {
        self.deadline = None;
        match self.cutter.cut() {
            Some(batch) => self.write(batch, false).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, batch: Batch, is_config: bool) -> Result<(), OrdererError> {
        let envelopes = batch.iter().map(|message| message.encode_to_vec().into());
        let envelopes: Vec<Bytes> = envelopes.collect();
        let block = self.writer.write(envelopes, is_config)?;
        let store = self.chain.store.clone();
        let appended = tokio::task::spawn_blocking(move || store.append(&block)).await;
        appended.map_err(|_| OrdererError::Stopped)??;
        Ok(())
    }
}
