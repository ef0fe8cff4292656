//! Validating a block of 500 transactions with two endorsements each, and the one thing that cannot be
//! left out: three signature checks for each, on as many threads.
//!
//! The block holds the recorded transactions of the raft channel that both organisations endorsed, as
//! often as it takes. A transaction that stands in the block again is a duplicate, which costs the same.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use selvedge_channel::ChannelConfig;
use selvedge_msp::Identity;
use selvedge_protos::Message;
use selvedge_protos::common::{Block, BlockData, Envelope, Payload, SignatureHeader};
use selvedge_protos::lifecycle::{
    ChaincodeValidationInfo, StateData, StateMetadata, state_data::Type,
};
use selvedge_protos::protos::{ChaincodeActionPayload, Transaction};
use selvedge_validation::{Options, SourceError, StateReader, TransactionIds, Validator};

const TRANSACTIONS: usize = 500;

fn read_block(number: u64) -> Block {
    let path = format!("../../testdata/raft/orderer-blocks/{number:06}.block");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    Block::decode(&fs::read(path).expect("recorded block")[..]).expect("a block")
}

/// The definition of every chaincode: the channel's default policy.
struct Definitions {
    metadata: Bytes,
    validation_info: Bytes,
}

impl Definitions {
    fn new() -> Self {
        let metadata = StateMetadata {
            datatype: "ChaincodeDefinition".to_owned(),
            fields: Vec::new(),
        };
        let info = ChaincodeValidationInfo {
            validation_plugin: "vscc".to_owned(),
            validation_parameter: Bytes::from_static(b"\x12\x20/Channel/Application/Endorsement"),
        };
        let info = StateData {
            r#type: Some(Type::Bytes(info.encode_to_vec().into())),
        };
        Self {
            metadata: metadata.encode_to_vec().into(),
            validation_info: info.encode_to_vec().into(),
        }
    }
}

impl StateReader for Definitions {
    fn value(&self, _: &str, key: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(if key.starts_with("namespaces/metadata/") {
            Some(self.metadata.clone())
        } else {
            let is_info = key.ends_with("/ValidationInfo");
            is_info.then(|| self.validation_info.clone())
        })
    }

    fn metadata(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }

    fn hashed_metadata(&self, _: &str, _: &str, _: &[u8]) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }
}

impl TransactionIds for Definitions {
    fn contains(&self, _: &str) -> Result<bool, SourceError> {
        Ok(false)
    }
}

/// What was signed, by whom, and the signature.
type Signed = (Identity, Vec<u8>, Bytes);

/// The signatures of a transaction.
fn signatures(envelope: &Bytes, config: &ChannelConfig) -> Option<Vec<Signed>> {
    let msps = config.msps();
    let envelope = Envelope::decode(envelope.clone()).ok()?;
    let payload = Payload::decode(envelope.payload.clone()).ok()?;
    let header = SignatureHeader::decode(payload.header?.signature_header).ok()?;
    let creator = msps.deserialize(&header.creator).ok()?;
    let transaction = Transaction::decode(payload.data).ok()?;
    let action = transaction.actions.first()?.payload.clone();
    let action = ChaincodeActionPayload::decode(action).ok()?.action?;
    let mut signed = vec![(creator, envelope.payload.to_vec(), envelope.signature)];
    for endorsement in action.endorsements {
        let endorser = msps.deserialize(&endorsement.endorser).ok()?;
        let data = [&action.proposal_response_payload[..], &endorsement.endorser].concat();
        signed.push((endorser, data, endorsement.signature));
    }
    Some(signed)
}

fn check_on_all_threads(signed: &[Signed], workers: usize) {
    thread::scope(|scope| {
        for part in signed.chunks(signed.len().div_ceil(workers)) {
            scope.spawn(move || {
                for (identity, data, signature) in part {
                    identity.verify(data, signature).expect("valid");
                }
            });
        }
    });
}

fn validate(criterion: &mut Criterion) {
    let config = ChannelConfig::from_block(&read_block(0)).expect("a config block");
    let config = Arc::new(config);
    let recorded = (7..32).flat_map(|number| read_block(number).data.unwrap_or_default().data);
    let recorded: Vec<(Bytes, Vec<Signed>)> = recorded
        .filter_map(|envelope| {
            let signed = signatures(&envelope, &config)?;
            (signed.len() == 3).then_some((envelope, signed))
        })
        .collect();
    let (envelopes, signed): (Vec<_>, Vec<_>) =
        recorded.into_iter().cycle().take(TRANSACTIONS).unzip();
    let signed: Vec<Signed> = signed.into_iter().flatten().collect();
    let mut block = read_block(7);
    block.data = Some(BlockData { data: envelopes });
    let state = Definitions::new();

    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut group = criterion.benchmark_group("block of 500");
    group.throughput(Throughput::Elements(
        u64::try_from(TRANSACTIONS).expect("fits"),
    ));
    for workers in (1..=cores).take(2).chain((cores > 2).then_some(cores)) {
        let options = Options {
            workers: NonZeroUsize::new(workers).expect("not 0"),
            ..Options::default()
        };
        let validator = Validator::new(config.clone(), options).expect("V2_0");
        let verdicts = validator.validate_block(&block, &state, &state);
        let counts = |verdicts: Vec<selvedge_validation::TxVerdict>| {
            let passed = verdicts
                .iter()
                .filter(|verdict| matches!(verdict.code.as_str_name(), "VALID" | "DUPLICATE_TXID"));
            passed.count()
        };
        assert_eq!(counts(verdicts.expect("verdicts")), TRANSACTIONS);
        group.bench_function(format!("signatures alone, {workers} threads"), |bencher| {
            bencher.iter(|| check_on_all_threads(black_box(&signed), workers));
        });
        group.bench_function(format!("prepare, {workers} threads"), |bencher| {
            bencher.iter(|| validator.prepare(black_box(&block)));
        });
        group.bench_function(format!("validate, {workers} threads"), |bencher| {
            bencher.iter(|| validator.validate_block(black_box(&block), &state, &state));
        });
    }
    group.finish();
}

criterion_group!(benches, validate);
criterion_main!(benches);
