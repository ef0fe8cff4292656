//! Random changes to the bytes of a block. None may panic, and whatever still passes must say the
//! same as the original: what the ordering nodes signed cannot change.

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use selvedge_channel::{BlockVerifier, VerifiedBlock};

use crate::support::*;

/// A chain and the encoded block after it.
#[derive(Debug)]
struct Subject {
    chain: Chain,
    next: Bytes,
    verified: VerifiedBlock,
}

impl Subject {
    fn new(folder: &str, number: usize) -> Self {
        let chain = Chain::up_to(folder, number);
        let next = blocks(folder)[number + 1].clone();
        let verified = chain
            .verifier
            .verify_next(next.clone(), &chain.tip())
            .unwrap();
        Self {
            chain,
            next,
            verified,
        }
    }

    fn check(&self, bytes: Bytes) -> Result<(), TestCaseError> {
        let verifier = &self.chain.verifier;
        let tip = self.chain.tip();
        let _ = verifier.verify_attestation(bytes.clone(), &tip);
        let _ = BlockVerifier::trust_genesis(bytes.clone());
        let _ = BlockVerifier::from_ledger("channel", bytes.clone());
        let results = [
            verifier.verify_next(bytes.clone(), &tip),
            verifier.verify(bytes),
        ];
        for block in results.into_iter().flatten() {
            prop_assert_eq!(block.header_hash(), self.verified.header_hash());
            prop_assert_eq!(&block.block().data, &self.verified.block().data);
            let value = |block: &VerifiedBlock| signatures(block.block()).value;
            prop_assert_eq!(value(&block), value(&self.verified));
        }
        Ok(())
    }
}

static RAFT: LazyLock<Subject> = LazyLock::new(|| Subject::new("raft/orderer-blocks", 31));
static BFT: LazyLock<Subject> = LazyLock::new(|| Subject::new("bft/orderer-blocks", 4));
static CONFIG: LazyLock<Subject> = LazyLock::new(|| Subject::new("bft/orderer-blocks", 7));

fn subject() -> impl Strategy<Value = &'static Subject> {
    prop_oneof![Just(&RAFT), Just(&BFT), Just(&CONFIG)].prop_map(|subject| &**subject)
}

/// A change at one place: positions are fractions of the length.
#[derive(Debug, Clone)]
enum Mutation {
    Set(f64, u8),
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    Copy(f64, f64, usize),
    Truncate(f64),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || prop_oneof![3 => 0.0..1.0, 1 => 0.0..0.01, 1 => 0.95..1.0];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        2 => (at(), 1..40_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => (at(), at(), 1..2000_usize).prop_map(|(from, to, count)| Mutation::Copy(from, to, count)),
        1 => at().prop_map(Mutation::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let place = |at: f64| ((bytes.len() as f64 * at) as usize).min(bytes.len());
    match mutation {
        Mutation::Set(at, byte) => {
            let at = place(*at);
            if let Some(place) = bytes.get_mut(at) {
                *place = *byte;
            }
        }
        Mutation::Insert(at, inserted) => {
            let at = place(*at);
            bytes.splice(at..at, inserted.iter().copied());
        }
        Mutation::Remove(at, count) => {
            let at = place(*at);
            bytes.drain(at..(at + count).min(bytes.len()));
        }
        Mutation::Copy(from, to, count) => {
            let (from, to) = (place(*from), place(*to));
            let copied = bytes[from..(from + count).min(bytes.len())].to_vec();
            bytes.splice(to..to, copied);
        }
        Mutation::Truncate(at) => {
            let at = place(*at);
            bytes.truncate(at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_blocks_never_say_anything_else(
        subject in subject(),
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let mut bytes = subject.next.to_vec();
        mutations.iter().for_each(|mutation| apply(&mut bytes, mutation));
        subject.check(bytes.into())?;
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!BFT.chain.accepts(Bytes::from(bytes)));
    }
}
