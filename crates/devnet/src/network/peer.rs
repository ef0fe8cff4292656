//! One peer of the network, as the network sees it.

use std::sync::Arc;
use std::time::Instant;

use selvedge_gossip::event::Arrival;
use selvedge_ledger::BlockStore;
use selvedge_peer::channel::Channel;
use selvedge_peer::conductor::CommittedBlock;
use selvedge_peer::config::{ConfigError, Sources};
use selvedge_peer::logging::LogControl;
use selvedge_peer::node::Node;
use selvedge_protos::Message;
use selvedge_protos::common::Block;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, watch};

use super::folder::{CHANNEL, PeerPlace};
use crate::error::{DevnetError, file_error};
use crate::spread::Way;

/// What is new at some peer.
pub(super) enum News {
    /// A block has come.
    Arrived {
        /// Its number.
        number: u64,
        /// How.
        way: Way,
    },
    /// A block lies in the ledger.
    Committed {
        /// Its number.
        number: u64,
        /// Since when.
        at: Instant,
    },
}

/// What a peer has counted since its start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    /// Other peers that it knows to be alive, now.
    pub(super) known: usize,
    /// Those of them that it knows to be in the channel, which is what blocks are pushed by.
    pub(super) in_channel: usize,
    /// Blocks that came though they were there.
    pub(super) duplicates: u64,
    /// Bytes sent to other peers.
    pub(super) bytes_sent: u64,
}

/// A running peer that is not in the channel yet.
pub(super) struct Newcomer {
    name: String,
    node: Node,
    news: mpsc::Sender<News>,
}

/// A running peer that has joined the channel.
pub(super) struct Peer {
    name: String,
    node: Node,
    channel: Arc<Channel>,
}

impl Newcomer {
    /// Starts a peer from its core.yaml, as `selvedge node start` would but without the process's
    /// environment. The ways that blocks come are told to `news`.
    pub(super) async fn start(
        place: &PeerPlace<'_>,
        log: LogControl,
        news: mpsc::Sender<News>,
    ) -> Result<Self, DevnetError> {
        let name = &place.name;
        let file = place.folder.join("core.yaml");
        let yaml = std::fs::read_to_string(&file).map_err(file_error("cannot read", &file))?;
        let sources = Sources::new(&file, &yaml, std::iter::empty::<(String, String)>());
        let loaded = sources.and_then(|sources| sources.peer());
        let loaded = loaded.map_err(failed::<ConfigError>(name))?;
        for warning in loaded.warnings {
            tracing::warn!(peer = name, "{warning}");
        }
        let node = Node::start(loaded.config, log)
            .await
            .map_err(failed(name))?;
        tokio::spawn(tell_ways(
            node.committed_blocks(),
            name.clone(),
            news.clone(),
        ));
        Ok(Self {
            name: name.clone(),
            node,
            news,
        })
    }

    /// Joins the channel, unless the peer has joined in an earlier run. Commits from now on are told.
    pub(super) async fn join(self, genesis: &Block) -> Result<Peer, DevnetError> {
        let Self { name, node, news } = self;
        if node.channel(CHANNEL).is_none() {
            let genesis = genesis.encode_to_vec().into();
            node.join(genesis).await.map_err(failed(&name))?;
        }
        let channel = node.channel(CHANNEL).ok_or_else(|| DevnetError::Peer {
            name: name.clone(),
            source: format!("channel {CHANNEL} is not open").into(),
        })?;
        tokio::spawn(tell_commits(channel.ledger().subscribe(), news));
        Ok(Peer {
            name,
            node,
            channel,
        })
    }
}

impl Peer {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn store(&self) -> &BlockStore {
        self.channel.ledger()
    }

    pub(super) async fn counters(&self) -> Counters {
        let Some(status) = self.node.gossip_status().await else {
            return Counters::default();
        };
        let mut channels = status.channels.iter();
        let channel = channels.find(|channel| channel.channel.as_str() == CHANNEL);
        Counters {
            known: status.peers.len(),
            in_channel: channel.map_or(0, |channel| channel.peers.len()),
            duplicates: status.counters.duplicate_blocks(),
            bytes_sent: status.bytes_sent,
        }
    }

    pub(super) async fn stop(self) {
        self.node.stop().await;
    }
}

/// Tells the ways that blocks come, until the peer stops or nobody listens.
async fn tell_ways(
    mut blocks: broadcast::Receiver<CommittedBlock>,
    peer: String,
    news: mpsc::Sender<News>,
) {
    loop {
        let block = match blocks.recv().await {
            Ok(block) => block,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(peer, missed, "Arrivals are missing from the count");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let (number, way) = (block.number, way(block.how));
        if news.send(News::Arrived { number, way }).await.is_err() {
            return;
        }
    }
}

/// Tells when the ledger grows, until it is closed or nobody listens. The ledger itself is asked,
/// since everything after it may be late for reasons of its own.
async fn tell_commits(mut heights: watch::Receiver<u64>, news: mpsc::Sender<News>) {
    let mut next = *heights.borrow_and_update();
    while heights.changed().await.is_ok() {
        let (height, at) = (*heights.borrow_and_update(), Instant::now());
        for number in next..height {
            if news.send(News::Committed { number, at }).await.is_err() {
                return;
            }
        }
        next = height;
    }
}

fn way(how: Arrival) -> Way {
    match how {
        Arrival::Orderer => Way::Orderer,
        Arrival::Push => Way::Push,
        Arrival::Pull => Way::Pull,
        Arrival::StateTransfer => Way::State,
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    name: &str,
) -> impl FnOnce(E) -> DevnetError {
    let name = name.to_owned();
    move |source| DevnetError::Peer {
        name,
        source: source.into(),
    }
}
