//! The metrics that each channel has.

use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, Result};

use selvedge_gossip::event::Arrival;

use super::group::Group;
use super::set_count;

/// The ways on which blocks reach a peer, in the order of their counters.
const ARRIVALS: [Arrival; 4] = [
    Arrival::Orderer,
    Arrival::Push,
    Arrival::Pull,
    Arrival::StateTransfer,
];

/// Seconds, from a hop in one region to the checks for gaps that come every ten seconds and beyond.
const PROPAGATION_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// The value of the label `arrival`.
fn arrival_name(arrival: Arrival) -> &'static str {
    match arrival {
        Arrival::Orderer => "orderer",
        Arrival::Push => "push",
        Arrival::Pull => "pull",
        Arrival::StateTransfer => "state_transfer",
    }
}

/// The families that have a label `channel`.
#[derive(Debug)]
pub(super) struct ChannelFamilies {
    peers_known: GaugeVec,
    leader: GaugeVec,
    state_height: GaugeVec,
    state_commit_duration: HistogramVec,
    payload_buffer_size: GaugeVec,
    ledger_height: GaugeVec,
    block_processing_time: HistogramVec,
    block_storage_time: HistogramVec,
    block_file_time: HistogramVec,
    state_db_time: HistogramVec,
    transaction_count: IntCounterVec,
    blocks_received: IntCounterVec,
    ordering_unreachable: GaugeVec,
    block_propagation: HistogramVec,
    block_delay: HistogramVec,
    lag: GaugeVec,
}

impl ChannelFamilies {
    pub fn new(group: &Group<'_>) -> Result<Self> {
        const CHANNEL: [&str; 1] = ["channel"];
        Ok(Self {
            peers_known: group.gauges(
                "gossip_membership_total_peers_known",
                "Total known peers",
                &CHANNEL,
            )?,
            leader: group.gauges(
                "gossip_leader_election_leader",
                "Peer is leader (1) or follower (0)",
                &CHANNEL,
            )?,
            state_height: group.gauges("gossip_state_height", "Current ledger height", &CHANNEL)?,
            state_commit_duration: group.histograms(
                "gossip_state_commit_duration",
                "Time it takes to commit a block in seconds",
                &CHANNEL,
            )?,
            payload_buffer_size: group.gauges(
                "gossip_payload_buffer_size",
                "Size of the payload buffer",
                &CHANNEL,
            )?,
            ledger_height: group.gauges(
                "ledger_blockchain_height",
                "Height of the chain in blocks.",
                &CHANNEL,
            )?,
            block_processing_time: group.ledger_histograms(
                "ledger_block_processing_time",
                "Time taken in seconds for ledger block processing.",
            )?,
            block_storage_time: group.ledger_histograms(
                "ledger_blockstorage_and_pvtdata_commit_time",
                "Time taken in seconds for committing the block and private data to storage.",
            )?,
            block_file_time: group.ledger_histograms(
                "ledger_blockstorage_commit_time",
                "Time taken in seconds for committing the block to storage.",
            )?,
            state_db_time: group.ledger_histograms(
                "ledger_statedb_commit_time",
                "Time taken in seconds for committing block changes to state db.",
            )?,
            transaction_count: group.counters(
                "ledger_transaction_count",
                "Number of transactions processed.",
                &[
                    "channel",
                    "transaction_type",
                    "chaincode",
                    "validation_code",
                ],
            )?,
            blocks_received: group.counters(
                "selvedge_blocks_received_total",
                "New blocks, by the way on which they arrived.",
                &["channel", "arrival"],
            )?,
            ordering_unreachable: group.gauges(
                "selvedge_ordering_service_unreachable_seconds",
                "For how long a leading peer has not reached an ordering node; 0 while it does.",
                &CHANNEL,
            )?,
            block_propagation: group.histograms_of(
                "selvedge_block_propagation_seconds",
                "Time from the first sign of a block to its arrival here.",
                &CHANNEL,
                &PROPAGATION_BUCKETS,
            )?,
            block_delay: group.histograms(
                "selvedge_block_delay_seconds",
                "Time from the timestamp of the last transaction in a block to its commit here.",
                &CHANNEL,
            )?,
            lag: group.gauges(
                "selvedge_ledger_lag_blocks",
                "Blocks that other peers say to have and this one lacks; of what one alone says at most 1000.",
                &CHANNEL,
            )?,
        })
    }

    pub fn of(&self, channel_id: &str) -> ChannelMetrics {
        let channel = [channel_id];
        ChannelMetrics {
            channel_id: channel_id.to_owned(),
            peers_known: self.peers_known.with_label_values(&channel),
            leader: self.leader.with_label_values(&channel),
            state_height: self.state_height.with_label_values(&channel),
            state_commit_duration: self.state_commit_duration.with_label_values(&channel),
            payload_buffer_size: self.payload_buffer_size.with_label_values(&channel),
            ledger_height: self.ledger_height.with_label_values(&channel),
            block_processing_time: self.block_processing_time.with_label_values(&channel),
            block_storage_time: self.block_storage_time.with_label_values(&channel),
            block_file_time: self.block_file_time.with_label_values(&channel),
            state_db_time: self.state_db_time.with_label_values(&channel),
            transaction_count: self.transaction_count.clone(),
            blocks_received: ARRIVALS.map(|arrival| {
                self.blocks_received
                    .with_label_values(&[channel_id, arrival_name(arrival)])
            }),
            ordering_unreachable: self.ordering_unreachable.clone(),
            block_propagation: self.block_propagation.with_label_values(&channel),
            block_delay: self.block_delay.with_label_values(&channel),
            lag: self.lag.with_label_values(&channel),
        }
    }
}

/// The metrics of one channel. Cheap to clone; touching one takes no lock.
#[derive(Debug, Clone)]
pub struct ChannelMetrics {
    channel_id: String,
    peers_known: Gauge,
    leader: Gauge,
    state_height: Gauge,
    ledger_height: Gauge,
    payload_buffer_size: Gauge,
    transaction_count: IntCounterVec,
    blocks_received: [IntCounter; 4],
    /// Of all channels: a peer that does not lead has none.
    ordering_unreachable: GaugeVec,
    /// `gossip_state_commit_duration`, seconds: from the ordered buffer to the end of the commit.
    pub state_commit_duration: Histogram,
    /// `ledger_block_processing_time`, seconds: validation of reads and writes.
    pub block_processing_time: Histogram,
    /// `ledger_blockstorage_and_pvtdata_commit_time`, seconds: writing the block file and private data.
    pub block_storage_time: Histogram,
    /// `ledger_blockstorage_commit_time`, seconds: writing the block file.
    pub block_file_time: Histogram,
    /// `ledger_statedb_commit_time`, seconds.
    pub state_db_time: Histogram,
    /// `selvedge_block_propagation_seconds`.
    pub block_propagation: Histogram,
    /// `selvedge_block_delay_seconds`.
    pub block_delay: Histogram,
    lag: Gauge,
}

impl ChannelMetrics {
    /// The height after a commit or at the start: `ledger_blockchain_height` and
    /// `gossip_state_height`.
    pub fn set_height(&self, height: u64) {
        set_count(&self.ledger_height, height);
        set_count(&self.state_height, height);
    }

    /// `gossip_membership_total_peers_known`.
    pub fn set_peers_known(&self, count: usize) {
        set_count(&self.peers_known, count as u64);
    }

    /// `gossip_leader_election_leader`.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(if leader { 1.0 } else { 0.0 });
    }

    /// `gossip_payload_buffer_size`: blocks that wait for their turn.
    pub fn set_payload_buffer_size(&self, blocks: usize) {
        set_count(&self.payload_buffer_size, blocks as u64);
    }

    /// `selvedge_ledger_lag_blocks`.
    pub fn set_lag(&self, blocks: u64) {
        set_count(&self.lag, blocks);
    }

    /// `selvedge_ordering_service_unreachable_seconds`.
    pub fn set_ordering_unreachable(&self, time: Duration) {
        self.ordering_unreachable
            .with_label_values(&[&self.channel_id])
            .set(time.as_secs_f64());
    }

    /// Takes the channel out of `selvedge_ordering_service_unreachable_seconds`.
    pub fn forget_ordering_unreachable(&self) {
        // Fails only if it was not there.
        let _ = self
            .ordering_unreachable
            .remove_label_values(&[&self.channel_id]);
    }

    /// `selvedge_blocks_received_total`.
    #[must_use]
    pub fn blocks_received(&self, arrival: Arrival) -> &IntCounter {
        let [orderer, push, pull, state_transfer] = &self.blocks_received;
        match arrival {
            Arrival::Orderer => orderer,
            Arrival::Push => push,
            Arrival::Pull => pull,
            Arrival::StateTransfer => state_transfer,
        }
    }

    /// `ledger_transaction_count`: a committed transaction. `transaction_type` is the header
    /// type's name (`ENDORSER_TRANSACTION`), `chaincode` is `name:version` (empty if there is
    /// none), `validation_code` the code's name (`VALID`).
    pub fn transaction(&self, transaction_type: &str, chaincode: &str, validation_code: &str) {
        self.transaction_count
            .with_label_values(&[
                &self.channel_id,
                transaction_type,
                chaincode,
                validation_code,
            ])
            .inc();
    }
}
