//! What is logged and measured of a committed block.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selvedge_protos::common::{Block, HeaderType};
use selvedge_protos::envelope::OpenedEnvelope;
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::TransactionKind;

use super::Queued;
use crate::commit::{CommittedBlock, CommittedTransaction};
use crate::metrics::ChannelMetrics;

/// Logs and measures. `preparation` is what the signatures took.
pub(super) fn report(
    channel: &str,
    queued: &Queued,
    block: &CommittedBlock,
    preparation: Duration,
    metrics: &ChannelMetrics,
) {
    log(channel, block, preparation);
    let times = &block.times;
    metrics
        .block_processing_time
        .observe(times.state_validation.as_secs_f64());
    for storage in [&metrics.block_storage_time, &metrics.block_file_time] {
        storage.observe(times.blocks.as_secs_f64());
    }
    metrics.state_db_time.observe(times.state.as_secs_f64());
    metrics
        .state_commit_duration
        .observe(queued.since.elapsed().as_secs_f64());
    metrics
        .block_propagation
        .observe(queued.delay.as_secs_f64());
    if let Some(age) = age(queued.block.block()) {
        metrics.block_delay.observe(age.as_secs_f64());
    }
    for transaction in &block.transactions {
        count(transaction, metrics);
    }
}

/// The words are Fabric's (`txvalidator/v20`, `txmgmt/validation`, `kvledger`), since tools look for
/// them; reasons come after.
fn log(channel: &str, block: &CommittedBlock, preparation: Duration) {
    let CommittedBlock { number, times, .. } = block;
    let validation = preparation.saturating_add(times.validation);
    tracing::info!(
        target: "committer.txvalidator",
        "[{channel}] Validated block [{number}] in {}ms", validation.as_millis()
    );
    let transactions = block.transactions.iter().enumerate();
    for (index, transaction) in
        transactions.filter(|(_, transaction)| transaction.code != TxValidationCode::Valid)
    {
        log_invalid(channel, *number, index, transaction);
    }
    let total = times.state_validation + times.blocks + times.state;
    tracing::info!(
        target: "kvledger",
        "[{channel}] Committed block [{number}] with {} transaction(s) in {}ms \
         (state_validation={}ms block_and_pvtdata_commit={}ms state_commit={}ms) commitHash=[{}]",
        block.transactions.len(),
        total.as_millis(),
        times.state_validation.as_millis(),
        times.blocks.as_millis(),
        times.state.as_millis(),
        block.commit_hash.map(hex::encode).unwrap_or_default()
    );
}

fn log_invalid(channel: &str, block: u64, index: usize, transaction: &CommittedTransaction) {
    let CommittedTransaction {
        txid, code, reason, ..
    } = transaction;
    let (txid, code) = (txid.as_deref().unwrap_or_default(), code.as_str_name());
    if transaction.kind.is_some() {
        tracing::warn!(
            target: "validation",
            "Block [{block}] Transaction index [{index}] TxId [{txid}] marked as invalid by state \
             validator. Reason code [{code}]"
        );
    } else {
        tracing::warn!(
            target: "validation", %reason,
            "Channel [{channel}]: Block [{block}] Transaction index [{index}] TxId [{txid}] marked as \
             invalid by committer. Reason code [{code}]"
        );
    }
}

/// Fabric names type and chaincode only of what passed the first part of validation: what is invalid
/// before that may name anything.
fn count(transaction: &CommittedTransaction, metrics: &ChannelMetrics) {
    const UNKNOWN: &str = "unknown";
    let code = transaction.code.as_str_name();
    match &transaction.kind {
        None => metrics.transaction(UNKNOWN, UNKNOWN, code),
        Some(TransactionKind::Config { .. }) => {
            metrics.transaction(HeaderType::Config.as_str_name(), UNKNOWN, code);
        }
        Some(TransactionKind::Endorser { chaincode, .. }) => {
            let kind = HeaderType::EndorserTransaction.as_str_name();
            let chaincode = format!("{}:{}", chaincode.name, chaincode.version);
            metrics.transaction(kind, &chaincode, code);
        }
    }
}

/// How long ago the client made the last transaction of a block, which is the newest unless clients'
/// clocks are apart. A clock ahead of ours counts as now.
fn age(block: &Block) -> Option<Duration> {
    let last = block.data.as_ref()?.data.last()?;
    let opened = OpenedEnvelope::decode(last.clone()).ok()?;
    let timestamp = opened.channel_header.timestamp?;
    let since_epoch = Duration::new(
        u64::try_from(timestamp.seconds).ok()?,
        u32::try_from(timestamp.nanos)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)?,
    );
    let made = UNIX_EPOCH.checked_add(since_epoch)?;
    Some(SystemTime::now().duration_since(made).unwrap_or_default())
}
