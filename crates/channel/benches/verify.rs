//! Verifying a block of 500 transactions, and the three things that cannot be left out: one
//! signature check, one SHA-256 over the transactions, one pass of decoding.
//!
//! The block is made of a recorded transaction, 500 times, and signed with the recorded ordering
//! node's key.

#![allow(clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use selvedge_channel::BlockVerifier;
use selvedge_msp::{SigningIdentity, load_signing_identity};
use selvedge_protos::block::{data_hash, header_bytes};
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, BlockMetadata, Metadata, MetadataSignature, SignatureHeader,
};
use selvedge_protos::{Message, sha256_of_parts};

const TRANSACTIONS: usize = 500;

fn testdata(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/raft")
        .join(path)
}

fn read_block(number: u64) -> Bytes {
    let path = testdata(&format!("orderer-blocks/{number:06}.block"));
    fs::read(path).expect("recorded block").into()
}

fn orderer() -> SigningIdentity {
    let path = "crypto/ordererOrganizations/orderer.example.com/orderers/\
                orderer1.orderer.example.com/msp";
    load_signing_identity(testdata(path), "OrdererMSP").expect("recorded key")
}

/// A block with everything that the baselines need of it.
struct Subject {
    encoded: Bytes,
    transactions: Vec<Bytes>,
    signed: Vec<u8>,
    signature: Bytes,
}

fn block_of(transaction: Bytes, signer: &SigningIdentity) -> Subject {
    let data = BlockData {
        data: vec![transaction; TRANSACTIONS],
    };
    let header = BlockHeader {
        number: 1,
        previous_hash: Bytes::from_static(&[7; 32]),
        data_hash: Bytes::copy_from_slice(&data_hash(&data)),
    };
    let signature_header = SignatureHeader {
        creator: signer.serialized().clone(),
        nonce: Bytes::from_static(&[7; 24]),
    };
    let signature_header = Bytes::from(signature_header.encode_to_vec());
    let value = Bytes::from_static(b"last config and consenter metadata");
    let signed = [&value[..], &signature_header, &header_bytes(&header)].concat();
    let signature = signer.sign(&signed).expect("signature");
    let metadata = Metadata {
        value,
        signatures: vec![MetadataSignature {
            signature_header,
            signature: signature.clone(),
            identifier_header: Bytes::new(),
        }],
    };
    let mut slots = vec![Bytes::new(); 5];
    slots[0] = metadata.encode_to_vec().into();
    let block = Block {
        header: Some(header),
        data: Some(data),
        metadata: Some(BlockMetadata { metadata: slots }),
    };
    let encoded = Bytes::from(block.encode_to_vec());
    let decoded = Block::decode(encoded.clone()).expect("a block");
    Subject {
        transactions: decoded.data.expect("data").data,
        encoded,
        signed,
        signature,
    }
}

fn verify(criterion: &mut Criterion) {
    let (_, config) = BlockVerifier::trust_genesis(read_block(0)).expect("recorded genesis");
    let verifier = BlockVerifier::new(Arc::new(config));
    let signer = orderer();
    let recorded = Block::decode(read_block(20)).expect("recorded block");
    let transaction = recorded.data.expect("data").data.swap_remove(0);
    let subject = block_of(transaction, &signer);

    let mut group = criterion.benchmark_group("block of 500 transactions");
    let bytes = u64::try_from(subject.encoded.len()).unwrap_or_default();
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| {
            verifier
                .verify_expecting(black_box(subject.encoded.clone()), 1)
                .expect("valid")
        });
    });
    group.bench_function("part: signature", |bencher| {
        let identity = signer.identity();
        bencher.iter(|| identity.verify(black_box(&subject.signed), &subject.signature));
    });
    group.bench_function("part: sha-256", |bencher| {
        bencher
            .iter(|| sha256_of_parts(black_box(&subject.transactions).iter().map(Bytes::as_ref)));
    });
    group.bench_function("part: decoding", |bencher| {
        bencher.iter(|| Block::decode(black_box(subject.encoded.clone())).expect("a block"));
    });
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
