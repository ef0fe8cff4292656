//! What it costs to check a signature, to read an identity for the first time and to find it in the
//! cache, and to ask for a principal. The raw signature check is the yardstick.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use criterion::{Criterion, criterion_group, criterion_main};
use selvedge_msp::{MspManager, load_signing_identity};
use selvedge_protos::Message;
use selvedge_protos::common::msp_principal::Classification;
use selvedge_protos::common::msp_role::MspRoleType;
use selvedge_protos::common::{MspPrincipal, MspRole};

fn benches(criterion: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(
        "../../testdata/raft/crypto/peerOrganizations/org1.example.com/peers/peer0.org1.example.com/msp",
    );
    let signer = load_signing_identity(folder, "Org1MSP").unwrap();
    let msp = signer.identity().msp();
    let message = vec![7; 1000];
    let signature = signer.sign(&message).unwrap();

    let key =
        EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let raw = key
        .sign(&aws_lc_rs::rand::SystemRandom::new(), &message)
        .unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    criterion.bench_function("aws-lc verify", |bencher| {
        bencher.iter(|| public.verify(&message, raw.as_ref()).unwrap());
    });
    criterion.bench_function("Identity::verify", |bencher| {
        bencher.iter(|| signer.identity().verify(&message, &signature).unwrap());
    });
    criterion.bench_function("SigningIdentity::sign", |bencher| {
        bencher.iter(|| signer.sign(black_box(&message)).unwrap());
    });
    criterion.bench_function("deserialize and validate, first time", |bencher| {
        bencher.iter(|| {
            let identity = msp.deserialize(signer.serialized()).unwrap();
            identity.validate().unwrap();
        });
    });
    let manager = MspManager::new([msp.clone()]).unwrap();
    criterion.bench_function("deserialize and validate, cached", |bencher| {
        bencher.iter(|| {
            manager
                .deserialize_and_validate(signer.serialized())
                .unwrap()
        });
    });
    let role = MspRole {
        msp_identifier: "Org1MSP".to_owned(),
        role: MspRoleType::Peer.into(),
    };
    let principal = MspPrincipal {
        principal_classification: Classification::Role.into(),
        principal: role.encode_to_vec().into(),
    };
    criterion.bench_function("Identity::satisfies, cached", |bencher| {
        bencher.iter(|| signer.identity().satisfies(black_box(&principal)).unwrap());
    });
}

criterion_group!(group, benches);
criterion_main!(group);
