//! Blocks from ordering nodes into gossip, for the channels in which this peer leads.
//!
//! What is fetched is verified, waits until the channel's ordered buffer has room, and goes to the
//! gossip core, which puts it in order with what comes by other ways and, where block gossip is on,
//! passes it on (Fabric: core/deliverservice, `GossipBlockHandler`).

mod giving_way;
mod verifier;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use selvedge_channel::{ChannelConfig, VerifiedBlock};
use selvedge_gossip::event::Event;
use selvedge_gossip::types::ChannelId;
use selvedge_msp::SigningIdentity;
use selvedge_orderer_client::{
    AddressOverride, BlockFetcher, FetchOptions, FetchStatus, Mode, OrdererAddresses,
};
use selvedge_transport::{ConnectOptions, CurrentIdentity};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::channel::Channel;
use crate::config::{DeliveryPolicy, PeerConfig};
use crate::gossip::PeerBlock;
use crate::health::ChannelHealth;
use crate::tls::{TlsSetupError, read_roots};
use giving_way::give_way;
use verifier::DeliveryVerifier;

/// How the peer reaches ordering nodes, for all channels.
pub struct Delivery {
    signer: SigningIdentity,
    overrides: HashMap<String, AddressOverride>,
    options: FetchOptions,
    policy: DeliveryPolicy,
    /// See `giving_way`.
    give_way_after: Duration,
    block_gossip: bool,
    /// Blocks beyond the ledger's height that the ordered buffer takes.
    lookahead: u64,
    events: mpsc::Sender<Event<PeerBlock>>,
    health: ChannelHealth,
}

/// The delivery of one channel. It ends when this is dropped.
pub struct ChannelDelivery {
    channel: Arc<Channel>,
    fetcher: BlockFetcher,
    mode: Mode,
    health: ChannelHealth,
    /// The intake, and what watches the fetcher. They end with this.
    tasks: JoinSet<()>,
}

impl Delivery {
    /// Reads the CA files of address overrides.
    pub fn new(
        config: &PeerConfig,
        signer: SigningIdentity,
        client_identity: Option<CurrentIdentity>,
        events: mpsc::Sender<Event<PeerBlock>>,
        health: ChannelHealth,
    ) -> Result<Self, TlsSetupError> {
        let client = &config.delivery_client;
        let keepalive = config.keepalive.delivery_client;
        let options = FetchOptions {
            tls_enabled: config.tls.enabled,
            tls_identity: client_identity.filter(|_| config.tls.client_auth_required),
            connect: ConnectOptions {
                timeout: client.conn_timeout,
                keepalive_interval: keepalive.interval,
                keepalive_timeout: keepalive.timeout,
            },
            retry_initial: client.minimal_reconnect_interval,
            retry_max: client.reconnect_backoff_threshold,
            // It goes on until another peer leads; see `giving_way`.
            give_up_after: None,
            censorship_timeout: client.block_censorship_timeout,
            max_message: config.max_recv_msg_size,
            buffer: FETCHED_BLOCKS,
            ..FetchOptions::default()
        };
        let mut overrides = HashMap::new();
        for entry in &client.address_overrides {
            let tls_roots = match &entry.ca_certs_file {
                Some(path) => read_roots("peer.deliveryclient.addressOverrides", path)?,
                None => Vec::new(),
            };
            overrides.insert(
                entry.from.clone(),
                AddressOverride {
                    to: entry.to.clone(),
                    tls_roots,
                },
            );
        }
        let buffer = u64::try_from(config.gossip.state.block_buffer_size).unwrap_or(u64::MAX);
        Ok(Self {
            signer,
            overrides,
            options,
            policy: client.policy,
            give_way_after: client.patience(),
            block_gossip: client.block_gossip_enabled,
            lookahead: buffer.max(1).saturating_mul(2),
            events,
            health,
        })
    }

    /// Starts to fetch what comes after the ledger's last block. `announced` is the height that the
    /// gossip core knows of. `None` if the ledger is empty, which no channel's is.
    pub fn start(
        &self,
        channel: &Arc<Channel>,
        announced: watch::Receiver<u64>,
    ) -> Option<ChannelDelivery> {
        let (tip, config) = channel.position()?;
        let mode = self.mode(&config);
        let disseminate = self.block_gossip && !config.orderer().is_bft();
        tracing::info!(
            target: "deliveryClient", channel = channel.id(),
            "This peer will retrieve blocks from ordering service {}",
            if disseminate {
                "and disseminate to other peers in the organization"
            } else {
                "(will not disseminate them to other peers in the organization)"
            }
        );
        let (fetcher, blocks) = BlockFetcher::start(
            channel.id(),
            self.signer.clone(),
            DeliveryVerifier::new(config.clone(), tip),
            OrdererAddresses::from(&*config),
            self.overrides.clone(),
            FetchOptions {
                mode,
                ..self.options.clone()
            },
        );
        let intake = Intake {
            id: ChannelId::from(channel.id()),
            announced,
            lookahead: self.lookahead,
            events: self.events.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(intake.run(blocks));
        let status = fetcher.status();
        tasks.spawn(keep_record(
            channel.id().to_owned(),
            status.clone(),
            self.health.clone(),
        ));
        let id = ChannelId::from(channel.id());
        let patience = self.give_way_after;
        tasks.spawn(give_way(id, patience, status, self.events.clone()));
        Some(ChannelDelivery {
            channel: channel.clone(),
            fetcher,
            mode,
            health: self.health.clone(),
            tasks,
        })
    }

    /// How much a single ordering node of the channel is trusted.
    fn mode(&self, config: &ChannelConfig) -> Mode {
        if config.orderer().is_bft() && self.policy == DeliveryPolicy::Cluster {
            Mode::Bft
        } else {
            Mode::Cft
        }
    }

    /// Whether a change of configuration asks for another kind of delivery than the one that runs.
    pub fn is_outdated(&self, running: &ChannelDelivery) -> bool {
        self.mode(&running.channel.config()) != running.mode
    }
}

impl ChannelDelivery {
    /// Follows a change of the ordering nodes' addresses or CAs.
    pub fn update_addresses(&self) {
        self.fetcher
            .update(OrdererAddresses::from(&*self.channel.config()));
    }

    /// Ends it in order: when this returns nothing more goes to the gossip core.
    pub async fn stop(self) {
        let Self {
            channel,
            fetcher,
            health,
            mut tasks,
            ..
        } = self;
        fetcher.stop().await;
        tasks.shutdown().await;
        health.forget_ordering(channel.id());
    }
}

/// Keeps the record of how fetching fares.
async fn keep_record(
    channel: String,
    mut status: watch::Receiver<FetchStatus>,
    health: ChannelHealth,
) {
    loop {
        health.observe_ordering(&channel, &status.borrow_and_update());
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// From the fetcher to the gossip core, no faster than blocks are committed.
struct Intake {
    id: ChannelId,
    /// The height of the ledger that the core has been told of. Not the ledger's own: what lies
    /// beyond the core's window it refuses, and nobody would fetch it again.
    announced: watch::Receiver<u64>,
    lookahead: u64,
    events: mpsc::Sender<Event<PeerBlock>>,
}

impl Intake {
    async fn run(mut self, mut blocks: mpsc::Receiver<VerifiedBlock>) {
        let mut ahead = Ahead::default();
        while let Some(block) = blocks.recv().await {
            let (number, length) = (block.number(), block.bytes().len());
            let room = self.announced.wait_for(|height| {
                ahead.committed(*height);
                number < height.saturating_add(self.lookahead) && ahead.has_room(length)
            });
            if room.await.is_err() {
                return;
            }
            ahead.push(number, length);
            let event = Event::BlockFromOrderer {
                channel: self.id.clone(),
                block: block.into(),
            };
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// Verified blocks that wait for room.
const FETCHED_BLOCKS: usize = 2;
/// Bytes of blocks that were handed to the core and are not committed, unless one alone is larger. The
/// core takes every block that was ordered, so memory is bounded here.
const BYTES_AHEAD: usize = 16 << 20;

/// What was handed to the core and is not committed.
#[derive(Default)]
struct Ahead {
    /// Number and length of each block.
    blocks: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Ahead {
    fn push(&mut self, number: u64, length: usize) {
        self.blocks.push_back((number, length));
        self.bytes = self.bytes.saturating_add(length);
    }

    fn committed(&mut self, height: u64) {
        while let Some((number, length)) = self.blocks.front().copied()
            && number < height
        {
            self.bytes = self.bytes.saturating_sub(length);
            self.blocks.pop_front();
        }
    }

    fn has_room(&self, length: usize) -> bool {
        self.blocks.is_empty() || self.bytes.saturating_add(length) <= BYTES_AHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_is_bounded_in_bytes_and_one_block_always_goes() {
        let mut ahead = Ahead::default();
        assert!(ahead.has_room(BYTES_AHEAD * 3));
        for number in 5..9 {
            assert!(ahead.has_room(BYTES_AHEAD / 4));
            ahead.push(number, BYTES_AHEAD / 4);
        }
        assert!(!ahead.has_room(1));
        ahead.committed(5);
        assert!(!ahead.has_room(1), "block 5 is not in a ledger of height 5");
        ahead.committed(7);
        assert!(ahead.has_room(BYTES_AHEAD / 2));
        assert!(!ahead.has_room(BYTES_AHEAD / 2 + 1));
        ahead.committed(100);
        assert!(ahead.has_room(usize::MAX));
    }
}
