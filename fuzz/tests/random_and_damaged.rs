//! Every target returns from random bytes and from damaged recordings.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use selvedge_fuzz::{GENESIS, TARGETS, gossip_core, play, seeds};

fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    target(bytes);
}

fn run_all(bytes: &[u8]) {
    for (_, target) in TARGETS {
        target(bytes);
    }
}

#[test]
fn every_target_takes_its_recordings() {
    let seeds = seeds();
    let named: BTreeSet<_> = seeds.iter().map(|(target, _)| *target).collect();
    let targets: BTreeSet<_> = TARGETS.iter().map(|(target, _)| *target).collect();
    assert_eq!(named, targets);
    for (target, bytes) in &seeds {
        run(target, bytes);
    }
    run_all(GENESIS);
}

/// What is built for the search, and what is documented, is the same list.
#[test]
fn every_target_is_built() {
    let manifest = include_str!("../Cargo.toml");
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    for (name, _) in TARGETS {
        assert!(
            manifest.contains(&format!("path = \"targets/{name}.rs\"")),
            "{name}"
        );
    }
}

/// All that the gossip core can do.
const ALL: [&str; 37] = [
    "alive",
    "membership_request",
    "membership_response",
    "hello",
    "digest",
    "request",
    "identity_update",
    "block_update",
    "block",
    "state_info",
    "state_info_pull_request",
    "state_info_snapshot",
    "state_request",
    "state_response",
    "leadership",
    "private_data",
    "private_request",
    "private_response",
    "ack",
    "dials",
    "disconnects",
    "verifies a block",
    "delivers an ordered block",
    "delivers a pushed block",
    "delivers a pulled block",
    "delivers a transferred block",
    "reads blocks",
    "leads",
    "leads no more",
    "has pushed private data",
    "has not pushed private data",
    "has fetched private data",
    "has not fetched private data",
    "stores private data",
    "reads private data",
    "revalidates",
    "rechecks readers",
];

/// The scripts lead everywhere, so that what is asserted of the core is asserted of all of it.
#[test]
fn scripts_reach_whatever_the_core_does() {
    let mut random = TestRunner::deterministic();
    let script = vec(any::<u8>(), 3000);
    let mut seen = BTreeSet::new();
    for _ in 0..400 {
        seen.extend(play(&script.new_tree(&mut random).unwrap().current()));
    }
    let missing: Vec<_> = ALL.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..400)) {
        run_all(&bytes);
    }

    /// Scripts for the gossip core need more bytes than a message.
    #[test]
    fn random_scripts(bytes in vec(any::<u8>(), 0..3000)) {
        gossip_core(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_recordings(
        (target, original) in select(seeds()),
        places in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = original;
        for (place, value) in places {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        run(target, &bytes);
    }
}
