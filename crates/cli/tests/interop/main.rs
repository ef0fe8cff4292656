//! Selvedge among real nodes of Fabric: the peers and ordering nodes of a release, and ours, in one
//! network on loopback.
//!
//! Runs where `FABRIC_BIN` names a directory with Fabric's released binaries; every scenario is reported
//! as ignored where it does not. Scenarios with two releases in one network also need `FABRIC_BIN_OLD`, a
//! directory of an earlier one. One scenario runs at a time, since each is a network of several
//! processes:
//!
//! ```text
//! FABRIC_BIN=/opt/fabric/bin cargo test -p selvedge --test interop
//! FABRIC_BIN=/opt/fabric/bin cargo test -p selvedge --test interop -- election
//! FABRIC_BIN=/opt/fabric-3/bin FABRIC_BIN_OLD=/opt/fabric-2.5/bin cargo test -p selvedge --test interop -- releases
//! FABRIC_BIN=/opt/fabric/bin cargo test --release -p selvedge --test interop -- --ignored --nocapture
//! ```
//!
//! The last of these measures; see `spread`.
//!
//! - [`fabric`]: the binaries; [`process`]: nodes and conditions; [`files`]: their configuration.
//! - [`network`]: a network; [`client`]: what is done to it; [`observe`]: what its peers tell.
//! - the others: scenarios.
//!
//! No scenario waits a time and hopes: each waits for conditions, read from metrics and command lines of
//! both kinds of peer. A scenario that fails leaves its folder, with every node's log, and says where;
//! `INTEROP_LOGGING_SPEC` becomes the `FABRIC_LOGGING_SPEC` of the peers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod client;
mod command_line;
mod election;
mod fabric;
mod files;
mod gossip;
mod identity;
mod network;
mod observe;
mod ordering;
mod process;
mod recovery;
mod releases;
mod spread;

use std::io::Write as _;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use fabric::Fabric;

/// A scenario, its name, and what it needs.
struct Scenario {
    name: &'static str,
    play: fn(&Fabric),
    needs: Needs,
    measures: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Any release from v2.5 on.
    OneRelease,
    /// A release of version 3.
    V3,
    /// Two releases.
    Older,
}

impl Needs {
    /// Why a scenario cannot be played.
    fn lacks(self, fabric: &Fabric) -> Option<String> {
        match self {
            Self::V3 if !fabric.has_v3() => Some(format!("with_fabric_{}", fabric.version())),
            Self::Older => fabric.older().err().map(|reason| {
                complain(&format!("networks of two releases: {reason}"));
                "without_FABRIC_BIN_OLD".to_owned()
            }),
            _ => None,
        }
    }
}

const fn scenario(name: &'static str, play: fn(&Fabric)) -> Scenario {
    Scenario {
        name,
        play,
        needs: Needs::OneRelease,
        measures: false,
    }
}

const SCENARIOS: &[Scenario] = &[
    scenario(
        "membership_is_complete_on_both_sides_across_organisations_by_anchor_peers",
        gossip::membership,
    ),
    scenario(
        "blocks_travel_by_gossip_alone_both_ways",
        gossip::dissemination,
    ),
    scenario(
        "state_transfer_both_ways_while_the_ordering_node_is_down",
        gossip::state_transfer,
    ),
    scenario(
        "leaders_hand_over_when_killed_both_ways",
        election::hand_over,
    ),
    scenario("renewed_certificates_are_taken_over", identity::renewal),
    scenario(
        "peers_whose_certificates_end_are_shut_out_until_they_have_new_ones",
        identity::expiry,
    ),
    scenario("a_removed_organisation_is_shut_out", identity::removal),
    scenario("mutual_tls", ordering::mutual_tls),
    Scenario {
        needs: Needs::V3,
        ..scenario("bft_ordering_and_the_loss_of_a_node", ordering::bft)
    },
    Scenario {
        needs: Needs::Older,
        ..scenario("two_releases_and_ours_in_one_network", releases::mixed)
    },
    scenario("a_killed_peer_comes_back_with_what_it_had", recovery::kills),
    scenario("the_folder_of_a_go_peer_is_taken_over", recovery::take_over),
    scenario("the_command_lines_work_against_both", command_line::channel),
    Scenario {
        measures: true,
        ..scenario("one_follower_among_nine_go_peers", spread::one_among_nine)
    },
    Scenario {
        measures: true,
        ..scenario("ten_go_peers_and_ten_of_ours", spread::ten_and_ten)
    },
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let fabric = Fabric::from_environment();
    if let Err(reason) = &fabric {
        complain(&format!(
            "the interop suite needs Fabric's released binaries: {reason}. Set FABRIC_BIN to the \
             directory that holds them."
        ));
    }
    let trials = SCENARIOS.iter().map(|scenario| trial(scenario, &fabric));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn complain(reason: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {reason}\n");
}

fn trial(scenario: &Scenario, fabric: &Result<Fabric, String>) -> Trial {
    let Scenario {
        name,
        play,
        needs,
        measures,
    } = *scenario;
    let fabric = match fabric {
        Err(_) => {
            let name = format!("SKIPPED_without_FABRIC_BIN::{name}");
            return Trial::test(name, || Ok(())).with_ignored_flag(true);
        }
        Ok(fabric) => fabric.clone(),
    };
    if let Some(lack) = needs.lacks(&fabric) {
        let name = format!("SKIPPED_{lack}::{name}");
        return Trial::test(name, || Ok(())).with_ignored_flag(true);
    }
    let name = format!("fabric_{}::{name}", fabric.version());
    Trial::test(name, move || {
        play(&fabric);
        Ok(())
    })
    .with_ignored_flag(measures)
}
