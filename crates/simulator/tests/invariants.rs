//! What must hold in any simulation.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use selvedge_simulator::options::Partition;
use selvedge_simulator::report::FramesDropped;
use selvedge_simulator::{Options, Place, Report, Rules, run};

fn sound(options: &Options) -> Report {
    let report = run(options).unwrap();
    assert_eq!(report.violations, Vec::<String>::new(), "{options:?}");
    assert_eq!(report.incomplete, 0);
    report
}

#[test]
fn one_seed_gives_one_report() {
    let options = Options {
        peers: 20,
        loss_per_million: 20_000,
        liars_per_mille: 100,
        ..Options::default()
    };
    assert_eq!(run(&options).unwrap(), run(&options).unwrap());
    let other = Options {
        seed: 2,
        ..options.clone()
    };
    assert_ne!(run(&options).unwrap(), run(&other).unwrap());
}

#[test]
fn everybody_gets_every_block_whatever_is_lost() {
    for seed in 0..8 {
        sound(&Options {
            seed,
            peers: 12,
            loss_per_million: 100_000,
            ..Options::default()
        });
    }
}

#[test]
fn everybody_gets_every_block_after_a_cold_start_in_two_organisations() {
    for seed in 0..3 {
        sound(&Options {
            seed,
            peers: 12,
            orgs: 2,
            channels: 2,
            cold_start: true,
            ..Options::default()
        });
    }
}

#[test]
fn a_partition_heals() {
    for seed in 0..4 {
        sound(&Options {
            seed,
            peers: 12,
            blocks: 80,
            partition: Some(Partition {
                begin: Duration::from_secs(3),
                length: Duration::from_secs(12),
                per_mille: 400,
            }),
            patience: Duration::from_secs(200),
            ..Options::default()
        });
    }
}

#[test]
fn restarted_peers_catch_up() {
    for seed in 0..4 {
        sound(&Options {
            seed,
            peers: 12,
            blocks: 120,
            restarts_per_hour: 1200.0,
            patience: Duration::from_secs(200),
            ..Options::default()
        });
    }
}

#[test]
fn liars_harm_nobody_else() {
    let mut refused = 0;
    for seed in 0..6 {
        let report = sound(&Options {
            seed,
            peers: 16,
            liars_per_mille: 400,
            patience: Duration::from_secs(200),
            ..Options::default()
        });
        refused += report.drops.get("BlockRefused").copied().unwrap_or(0);
    }
    assert!(refused > 0);
}

#[test]
fn liars_hardly_delay_anybody_else() {
    for seed in 0..3 {
        let honest = Options {
            seed,
            peers: 60,
            ..Options::default()
        };
        let with_liars = Options {
            liars_per_mille: 250,
            ..honest.clone()
        };
        let (before, after) = (sound(&honest), sound(&with_liars));
        assert!(after.reach_all_ms.p50 < 3.0 * before.reach_all_ms.p50);
        assert!(after.every_peer_ms.p99 < 5.0 * before.every_peer_ms.p99);
        assert!(after.reach_all_ms.max < 500.0, "{}", after.reach_all_ms.max);
    }
}

#[test]
fn everything_at_once() {
    for seed in 0..4 {
        sound(&Options {
            seed,
            peers: 20,
            orgs: 2,
            channels: 2,
            blocks: 60,
            place: Place::Planet,
            loss_per_million: 30_000,
            liars_per_mille: 150,
            restarts_per_hour: 600.0,
            partition: Some(Partition {
                begin: Duration::from_secs(4),
                length: Duration::from_secs(8),
                per_mille: 300,
            }),
            patience: Duration::from_secs(300),
            ..Options::default()
        });
    }
}

#[test]
fn slow_readers_and_broken_streams_hold_up_nobody_else() {
    for seed in 0..4 {
        let calm = Options {
            seed,
            peers: 20,
            blocks: 80,
            ..Options::default()
        };
        let report = sound(&Options {
            breaks_per_hour: 3000.0,
            half_open_per_hour: 600.0,
            slow_per_mille: 100,
            patience: Duration::from_secs(200),
            ..calm.clone()
        });
        let calm = sound(&calm);
        // A slow peer is slow itself; half of the others have no stream to those that are in trouble.
        assert!(report.reach_half_ms.p50 < 2.0 * calm.reach_half_ms.p50);
        assert!(report.every_peer_ms.p50 < 2.0 * calm.every_peer_ms.p50);
    }
}

#[test]
fn narrow_links_overflow_and_catch_up_and_hold_up_nobody_else() {
    let calm = Options {
        seed: 2,
        peers: 20,
        blocks: 600,
        rate: 40.0,
        ..Options::default()
    };
    let report = sound(&Options {
        narrow_per_hour: 600.0,
        patience: Duration::from_secs(200),
        ..calm.clone()
    });
    let FramesDropped {
        liveness,
        control,
        bulk,
    } = report.frames_dropped;
    assert!(bulk > 0, "the links are too wide");
    assert!(control <= bulk / 100, "{control} of control, {bulk} blocks");
    assert_eq!(liveness, 0);
    // So many have no narrow link at any time.
    let others = |report: &Report| {
        report
            .curve
            .iter()
            .find(|(_, share)| *share >= 0.8)
            .unwrap()
            .0
    };
    let (before, after) = (others(&sound(&calm)), others(&report));
    assert!(after < 1.5 * before, "{after} and {before} ms");
}

#[test]
fn slow_peers_of_many_channels_catch_up() {
    // More than they can read, and when it is over, some six megabytes for each of them to fetch in 20 channels.
    sound(&Options {
        seed: 0,
        peers: 12,
        orgs: 2,
        channels: 20,
        blocks: 30,
        rate: 1.0,
        slow_per_mille: 200,
        patience: Duration::from_secs(300),
        ..Options::default()
    });
}

#[test]
fn a_go_peer_drops_what_finds_its_queue_full_whatever_it_is() {
    let report = run(&Options {
        peers: 10,
        blocks: 200,
        rate: 20.0,
        send_buffer: 2,
        slow_per_mille: 400,
        rules: Rules::Fabric,
        patience: Duration::from_secs(200),
        ..Options::default()
    });
    let dropped = report.unwrap().frames_dropped;
    assert!(
        dropped.bulk > 0 && dropped.control + dropped.liveness > 0,
        "{dropped}"
    );
}

#[test]
fn elected_leaders_fetch_whatever_happens() {
    for seed in 0..4 {
        sound(&Options {
            seed,
            peers: 12,
            orgs: 2,
            blocks: 160,
            elections: true,
            restarts_per_hour: 900.0,
            partition: Some(Partition {
                begin: Duration::from_secs(4),
                length: Duration::from_secs(20),
                per_mille: 400,
            }),
            patience: Duration::from_secs(300),
            ..Options::default()
        });
    }
}

#[test]
fn who_comes_in_the_place_of_another_gets_everything() {
    for seed in 0..3 {
        sound(&Options {
            seed,
            peers: 12,
            orgs: 2,
            blocks: 160,
            churn_per_hour: 900.0,
            patience: Duration::from_secs(300),
            ..Options::default()
        });
    }
}

#[test]
fn a_leader_without_its_ordering_node_gives_way() {
    for seed in 0..3 {
        sound(&Options {
            seed,
            peers: 8,
            blocks: 160,
            elections: true,
            outages_per_hour: 400.0,
            patience: Duration::from_secs(300),
            ..Options::default()
        });
    }
}

#[test]
fn an_organisation_whose_leader_lies_is_served_by_another() {
    let mut transferred = 0;
    for seed in 0..4 {
        let report = sound(&Options {
            seed,
            peers: 10,
            orgs: 2,
            elections: true,
            liars_per_mille: 750,
            patience: Duration::from_secs(300),
            ..Options::default()
        });
        transferred += report.arrivals["state_transfer"];
    }
    assert!(transferred > 0);
}

#[test]
fn nobody_is_suspected_falsely() {
    let report = sound(&Options {
        peers: 80,
        channels: 3,
        blocks: 40,
        rate: 0.5,
        ..Options::default()
    });
    assert_eq!(report.false_suspicions, 0);
}

#[test]
fn large_networks_know_a_part_of_themselves() {
    sound(&Options {
        peers: 300,
        blocks: 10,
        ..Options::default()
    });
}

#[test]
fn fabrics_rules_are_slower() {
    let fabric = Options {
        peers: 30,
        rules: Rules::Fabric,
        ..Options::default()
    };
    let selvedge = Options {
        rules: Rules::Selvedge,
        ..fabric.clone()
    };
    let (fabric, selvedge) = (sound(&fabric), sound(&selvedge));
    assert!(fabric.reach_all_ms.p50 > 5.0 * selvedge.reach_all_ms.p50);
}

#[test]
fn nonsense_is_refused() {
    let nonsense = [
        Options {
            orgs: 0,
            ..Options::default()
        },
        Options {
            orgs: 11,
            ..Options::default()
        },
        Options {
            blocks: 0,
            ..Options::default()
        },
        Options {
            rate: f64::NAN,
            ..Options::default()
        },
        Options {
            rate: -1.0,
            ..Options::default()
        },
        Options {
            peers: 1_000_000,
            ..Options::default()
        },
        Options {
            channels: 0,
            ..Options::default()
        },
    ];
    for options in nonsense {
        assert!(run(&options).is_err(), "{options:?}");
    }
}

#[test]
fn a_report_serializes_with_the_names_that_are_promised() {
    let report = sound(&Options::default());
    let json = serde_json::to_value(&report).unwrap();
    for name in [
        "rules",
        "peers",
        "blocks",
        "reach_all_ms",
        "reach_99_percent_ms",
        "bytes_per_peer_per_block",
        "block_copies_per_peer_per_block",
    ] {
        assert!(json.get(name).is_some(), "{name}");
    }
    assert!(json["reach_all_ms"]["p99"].is_number());
    assert!(report.to_string().contains("all peers"));
}
