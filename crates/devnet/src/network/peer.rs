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
use tokio::sync::mpsc;

use super::folder::{CHANNEL, PeerPlace};
use crate::error::{DevnetError, file_error};
use crate::spread::Way;

/// A block that one of the peers has committed.
pub(super) struct Commit {
    pub(super) number: u64,
    pub(super) way: Way,
    pub(super) at: Instant,
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
}

/// A running peer that has joined the channel.
pub(super) struct Peer {
    name: String,
    node: Node,
    channel: Arc<Channel>,
}

impl Newcomer {
    /// Starts a peer from its core.yaml, as `selvedge node start` would but without the process's
    /// environment. Its commits go to `commits`.
    pub(super) async fn start(
        place: &PeerPlace<'_>,
        log: LogControl,
        commits: mpsc::Sender<Commit>,
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
        tokio::spawn(forward(node.committed_blocks(), name.clone(), commits));
        Ok(Self {
            name: name.clone(),
            node,
        })
    }

    /// Joins the channel, unless the peer has joined in an earlier run.
    pub(super) async fn join(self, genesis: &Block) -> Result<Peer, DevnetError> {
        let Self { name, node } = self;
        if node.channel(CHANNEL).is_none() {
            let genesis = genesis.encode_to_vec().into();
            node.join(genesis).await.map_err(failed(&name))?;
        }
        let channel = node.channel(CHANNEL).ok_or_else(|| DevnetError::Peer {
            name: name.clone(),
            source: format!("channel {CHANNEL} is not open").into(),
        })?;
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

/// Hands on what a peer commits, with the time, until the peer stops or nobody listens.
async fn forward(
    mut blocks: broadcast::Receiver<CommittedBlock>,
    peer: String,
    commits: mpsc::Sender<Commit>,
) {
    loop {
        let block = match blocks.recv().await {
            Ok(block) => block,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(peer, missed, "Blocks are missing from the measurement");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let commit = Commit {
            number: block.number,
            way: way(block.how),
            at: Instant::now(),
        };
        if commits.send(commit).await.is_err() {
            return;
        }
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
