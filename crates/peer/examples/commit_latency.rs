//! How long it takes to validate and commit a block of one transaction, sync included: half of all blocks,
//! 99 of 100, the slowest.
//!
//! `cargo run --release -p selvedge-peer --example commit_latency [BLOCKS] [DIR]`

#![allow(missing_docs, clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_devnet::genesis::{Address, ChannelSpecification};
use selvedge_devnet::material::{Organization, Specification};
use selvedge_devnet::traffic::Author;
use selvedge_ledger::{LedgerManager, Options};
use selvedge_peer::commit::Committer;
use selvedge_protos::Message;
use selvedge_protos::block::data_hash;
use selvedge_protos::common::{Block, BlockData, BlockHeader, BlockMetadataIndex, Envelope};
use selvedge_protos::orderer::BatchSize;
use selvedge_protos::protos::TxValidationCode;

const CHANNEL: &str = "latency";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let blocks = arguments.next().map_or(Ok(2000), |text| text.parse())?;
    let folder = match arguments.next() {
        Some(parent) => tempfile::tempdir_in(PathBuf::from(parent))?,
        None => tempfile::tempdir()?,
    };
    let crypto = folder.path().join("crypto");
    let ordering = Organization::write(&crypto, Specification::orderer())?;
    let organization = Organization::write(&crypto, Specification::peers(1, 1))?;
    let specification = ChannelSpecification {
        channel_id: CHANNEL,
        ordering: &ordering,
        orderer: Address {
            host: "127.0.0.1".to_owned(),
            port: 7050,
        },
        applications: vec![(&organization, Vec::new())],
        batch_size: BatchSize {
            max_message_count: 1,
            absolute_max_bytes: 1 << 20,
            preferred_max_bytes: 1 << 20,
        },
        batch_timeout: Duration::from_secs(2),
    };
    let mut genesis = specification.genesis_block()?;
    if let Some(metadata) = &mut genesis.metadata {
        let slots = &mut metadata.metadata;
        slots.resize(5, Bytes::new());
        if let Some(slot) = slots.get_mut(BlockMetadataIndex::TransactionsFilter as usize) {
            *slot = Bytes::from_static(&[TxValidationCode::Valid as u8]);
        }
    }
    let author = Author {
        channel_id: CHANNEL.to_owned(),
        client: organization.user_identity("User1")?,
        endorsers: vec![organization.node_identity("peer0")?],
    };
    let ledgers = LedgerManager::open(&folder.path().join("data"), Options::default())?;
    let store = ledgers.create_channel(CHANNEL, &genesis)?;
    let state = ledgers.open_state(CHANNEL)?;
    let mut committer = Committer::open(store, state, selvedge_validation::Options::default())?;
    commit(&mut committer, author.define()?)?;

    let mut times = Vec::with_capacity(blocks);
    for number in 0..blocks {
        let value = Bytes::from(vec![b'v'; 100]);
        let envelope = author.put(&format!("key{number}"), value)?;
        times.push(commit(&mut committer, envelope)?);
    }
    times.sort_unstable();
    let quantile = |share: usize| {
        let time = times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        time.copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    println!(
        "{blocks} blocks of one transaction: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
        quantile(50),
        quantile(99),
        quantile(100)
    );
    Ok(())
}

/// Commits the envelope as the next block, which needs no signatures: they are checked before a block
/// reaches its committer.
fn commit(committer: &mut Committer, envelope: Envelope) -> Result<Duration, Box<dyn Error>> {
    let info = committer.blocks().info();
    let data = BlockData {
        data: vec![envelope.encode_to_vec().into()],
    };
    let block = Block {
        header: Some(BlockHeader {
            number: info.height,
            previous_hash: info.current_block_hash,
            data_hash: data_hash(&data).to_vec().into(),
        }),
        data: Some(data),
        metadata: None,
    };
    let started = Instant::now();
    let prepared = committer.validator().prepare(&block);
    let committed = committer.commit(block, prepared)?;
    let took = started.elapsed();
    let verdict = committed.transactions.first();
    match verdict.map(|transaction| transaction.code) {
        Some(TxValidationCode::Valid) => Ok(took),
        code => Err(format!("the transaction is not valid: {code:?}").into()),
    }
}
