//! The metrics of the deliver service and of the endorser service.

use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use super::group::Group;

/// `deliver_*`.
#[derive(Debug, Clone)]
pub struct DeliverMetrics {
    /// Streams opened.
    pub streams_opened: IntCounter,
    /// Streams closed.
    pub streams_closed: IntCounter,
    requests_received: IntCounterVec,
    requests_completed: IntCounterVec,
    blocks_sent: IntCounterVec,
}

impl DeliverMetrics {
    pub(super) fn new(group: &Group<'_>) -> prometheus::Result<Self> {
        const LABELS: [&str; 3] = ["channel", "filtered", "data_type"];
        Ok(Self {
            streams_opened: group.counter(
                "deliver_streams_opened",
                "The number of GRPC streams that have been opened for the deliver service.",
            )?,
            streams_closed: group.counter(
                "deliver_streams_closed",
                "The number of GRPC streams that have been closed for the deliver service.",
            )?,
            requests_received: group.counters(
                "deliver_requests_received",
                "The number of deliver requests that have been received.",
                &LABELS,
            )?,
            requests_completed: group.counters(
                "deliver_requests_completed",
                "The number of deliver requests that have been completed.",
                &["channel", "filtered", "data_type", "success"],
            )?,
            blocks_sent: group.counters(
                "deliver_blocks_sent",
                "The number of blocks sent by the deliver service.",
                &LABELS,
            )?,
        })
    }

    /// A request for blocks of a channel that exists arrived. `data_type` is `block`,
    /// `filtered_block`, `block_and_pvtdata` or `header`.
    pub fn request_received(&self, channel: &str, filtered: bool, data_type: &str) {
        self.requests_received
            .with_label_values(&[channel, text_of(filtered), data_type])
            .inc();
    }

    /// A request ended; `success`: with status SUCCESS.
    pub fn request_completed(&self, channel: &str, filtered: bool, data_type: &str, success: bool) {
        self.requests_completed
            .with_label_values(&[channel, text_of(filtered), data_type, text_of(success)])
            .inc();
    }

    /// Blocks sent for one kind of request; keep the result for the length of the request.
    #[must_use]
    pub fn blocks_sent(&self, channel: &str, filtered: bool, data_type: &str) -> IntCounter {
        self.blocks_sent
            .with_label_values(&[channel, text_of(filtered), data_type])
    }
}

/// `endorser_*`.
#[derive(Debug, Clone)]
pub struct EndorserMetrics {
    /// Proposals received.
    pub proposals_received: IntCounter,
    /// Proposals answered with an endorsement or a result.
    pub successful_proposals: IntCounter,
    /// Proposals that are malformed or wrongly signed.
    pub proposal_validation_failures: IntCounter,
    proposal_duration: HistogramVec,
    proposal_acl_failures: IntCounterVec,
    endorsement_failures: IntCounterVec,
    duplicate_transaction_failures: IntCounterVec,
    proposal_simulation_failures: IntCounterVec,
}

impl EndorserMetrics {
    pub(super) fn new(group: &Group<'_>) -> prometheus::Result<Self> {
        const LABELS: [&str; 2] = ["channel", "chaincode"];
        Ok(Self {
            proposals_received: group.counter(
                "endorser_proposals_received",
                "The number of proposals received.",
            )?,
            successful_proposals: group.counter(
                "endorser_successful_proposals",
                "The number of successful proposals.",
            )?,
            proposal_validation_failures: group.counter(
                "endorser_proposal_validation_failures",
                "The number of proposals that have failed initial validation.",
            )?,
            proposal_duration: group.histograms(
                "endorser_proposal_duration",
                "The time to complete a proposal.",
                &["channel", "chaincode", "success"],
            )?,
            proposal_acl_failures: group.counters(
                "endorser_proposal_acl_failures",
                "The number of proposals that failed ACL checks.",
                &LABELS,
            )?,
            endorsement_failures: group.counters(
                "endorser_endorsement_failures",
                "The number of failed endorsements.",
                &["channel", "chaincode", "chaincodeerror"],
            )?,
            duplicate_transaction_failures: group.counters(
                "endorser_duplicate_transaction_failures",
                "The number of failed proposals due to duplicate transaction ID.",
                &LABELS,
            )?,
            proposal_simulation_failures: group.counters(
                "endorser_proposal_simulation_failures",
                "The number of failed proposal simulations",
                &LABELS,
            )?,
        })
    }

    // Channel and chaincode names come from clients. Call the following only with names that
    // exist here, or a client could fill the memory with labels.

    /// How long a proposal to a chaincode that exists took.
    pub fn proposal_done(&self, channel: &str, chaincode: &str, success: bool, seconds: f64) {
        self.proposal_duration
            .with_label_values(&[channel, chaincode, text_of(success)])
            .observe(seconds);
    }

    /// A proposal whose creator may not do what it asks for.
    pub fn acl_failure(&self, channel: &str, chaincode: &str) {
        self.proposal_acl_failures
            .with_label_values(&[channel, chaincode])
            .inc();
    }

    /// A proposal that was not endorsed; `chaincode_error`: because the chaincode said so.
    pub fn endorsement_failure(&self, channel: &str, chaincode: &str, chaincode_error: bool) {
        self.endorsement_failures
            .with_label_values(&[channel, chaincode, text_of(chaincode_error)])
            .inc();
    }

    /// A proposal with the id of a transaction that is in the ledger.
    pub fn duplicate_transaction(&self, channel: &str, chaincode: &str) {
        self.duplicate_transaction_failures
            .with_label_values(&[channel, chaincode])
            .inc();
    }

    /// A proposal whose execution failed.
    pub fn simulation_failure(&self, channel: &str, chaincode: &str) {
        self.proposal_simulation_failures
            .with_label_values(&[channel, chaincode])
            .inc();
    }
}

fn text_of(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}
