//! Many small networks, each with its own mixture of trouble, and what went wrong in them:
//! `cargo run --release -p selvedge-simulator --example sweep -- [number of seeds] [first seed]`.

#![allow(clippy::print_stdout, reason = "it prints its result")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use selvedge_simulator::options::Partition;
use selvedge_simulator::report::FramesDropped;
use selvedge_simulator::{Options, Place, run};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut number = |default| match numbers.next() {
        Some(Ok(number)) => number,
        _ => default,
    };
    let (count, first) = (number(100), number(0));
    let begin = Instant::now();
    let (mut bad, mut dropped) = (0u64, FramesDropped::default());
    for seed in first..first.saturating_add(count) {
        let done = seed - first;
        if done > 0 && done.is_multiple_of(1000) {
            println!("{done} seeds in {:.0?}", begin.elapsed());
        }
        let options = trouble(seed);
        let result = run(&options);
        if let Ok(report) = &result {
            dropped += report.frames_dropped;
        }
        match result {
            Ok(report) if report.violations.is_empty() => {}
            Ok(report) => {
                bad += 1;
                println!("seed {seed}: {:?}\n{options:?}", report.violations);
            }
            Err(error) => {
                bad += 1;
                println!("seed {seed}: {error}");
            }
        }
    }
    println!("{count} seeds from {first} on, {bad} with violations; full send queues: {dropped}");
    ExitCode::from(u8::from(bad > 0))
}

/// A network whose size and troubles follow from its seed.
fn trouble(seed: u64) -> Options {
    // Digits of a number in mixed bases: every combination occurs. It is scattered, so that a few hundred seeds
    // in a row have some of everything.
    let mut rest = (seed ^ (seed >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let mut digit = |base: u64| {
        let digit = rest % base;
        rest /= base;
        digit
    };
    let place = match digit(3) {
        0 => Place::Machine,
        1 => Place::Region,
        _ => Place::Planet,
    };
    let loss_per_million = match digit(3) {
        0 => 0,
        1 => 10_000,
        _ => 100_000,
    };
    let liars_per_mille = match digit(3) {
        0 => 0,
        1 => 150,
        _ => 400,
    };
    let partition = (digit(2) == 1).then_some(Partition {
        begin: Duration::from_secs(2),
        length: Duration::from_secs(9),
        per_mille: 400,
    });
    let restarts_per_hour = if digit(2) == 1 { 900.0 } else { 0.0 };
    let orgs = 1 + digit(3) as usize;
    let cold_start = digit(4) == 1;
    let (breaks_per_hour, half_open_per_hour) = match digit(3) {
        0 => (3000.0, 300.0),
        _ => (0.0, 0.0),
    };
    let slow_per_mille = if digit(3) == 0 { 120 } else { 0 };
    // Some leader must be honest: see the option.
    let elections = (liars_per_mille == 0 || orgs > 1) && digit(3) == 0;
    let churn_per_hour = if digit(3) == 0 { 400.0 } else { 0.0 };
    let outages_per_hour = if elections && digit(2) == 1 {
        900.0
    } else {
        0.0
    };
    // So many blocks on narrow links, and so little room for them, that send queues overflow.
    let (narrow_per_hour, send_buffer, rate, blocks) = match digit(3) {
        0 => (2000.0, 20, 15.0, 90),
        _ => (0.0, 200, 4.0, 50),
    };
    Options {
        seed,
        peers: 6 + 3 * orgs + (seed % 7) as usize,
        orgs,
        channels: 1 + (seed % 2) as usize,
        blocks,
        rate,
        place,
        loss_per_million,
        liars_per_mille,
        partition,
        restarts_per_hour,
        churn_per_hour,
        cold_start,
        breaks_per_hour,
        half_open_per_hour,
        narrow_per_hour,
        outages_per_hour,
        send_buffer,
        slow_per_mille,
        elections,
        patience: Duration::from_secs(300),
        ..Options::default()
    }
}
