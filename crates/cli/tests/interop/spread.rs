//! How late blocks are: a measurement, to be run with `--release` on a machine that is otherwise quiet.
//!
//! Ten peers of one organisation. A Go peer leads, eight Go peers and one of ours live on what it spreads,
//! four blocks of one transaction a second. The delay of a block at a peer counts from its commit at the
//! first peer.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use serde_json::json;

use super::fabric::Fabric;
use super::network::{At, Kind, Lead, Network, Plan};

const PEERS: u16 = 10;
const BLOCKS: u64 = 240;
const GAP: Duration = Duration::from_millis(250);
/// Of the Go followers' delay, at p50 and at p99.
const ALLOWED: f64 = 0.2;

/// Ours must not wait more than a fifth of what the Go followers wait.
#[allow(clippy::print_stdout, reason = "this is what it is for")]
pub fn one_among_nine(fabric: &Fabric) {
    let mut network = Network::start(fabric, Plan::new(&[PEERS]));
    let peers: Vec<_> = (0..usize::from(PEERS)).map(|peer| At(1, peer)).collect();
    let (leader, ours) = (peers[0], peers[9]);
    for at in &peers {
        let kind = if *at == ours {
            Kind::Selvedge
        } else {
            Kind::Fabric
        };
        let lead = if *at == leader {
            Lead::Always
        } else {
            Lead::Never
        };
        network.start_peer(*at, kind, lead);
    }
    for at in &peers {
        network.await_known(*at, u32::from(PEERS) - 1);
    }
    let first = network.height();
    network.order_steadily(BLOCKS, GAP);
    network.await_all_blocks(&peers);

    let commits: Vec<_> = peers
        .iter()
        .map(|at| (*at, commits(&network.log(*at))))
        .collect();
    let (mut go, mut selvedge) = (Vec::new(), Vec::new());
    for block in first..network.height() {
        let times = commits.iter().map(|(at, commits)| (*at, commits[&block]));
        let times: Vec<_> = times.collect();
        let earliest = times.iter().map(|(_, time)| *time).min().unwrap();
        for (at, time) in times.into_iter().filter(|(at, _)| *at != leader) {
            let delays = if at == ours { &mut selvedge } else { &mut go };
            delays.push(time.duration_since(earliest).unwrap());
        }
    }
    let [go, selvedge] = [go, selvedge].map(Delays::of);
    let arrivals: BTreeMap<_, _> = ["push", "pull", "state_transfer"]
        .into_iter()
        .map(|way| (way, network.arrived(ours, way)))
        .collect();
    println!(
        "Go followers    {go}\nSelvedge        {selvedge}\narrivals        {}",
        json!(arrivals)
    );
    assert!(
        selvedge.p50 <= go.p50.mul_f64(ALLOWED),
        "p50 {selvedge} against {go}"
    );
    assert!(
        selvedge.p99 <= go.p99.mul_f64(ALLOWED),
        "p99 {selvedge} against {go}"
    );
}

/// When a peer committed which block, by its log.
fn commits(log: &str) -> BTreeMap<u64, SystemTime> {
    let commit = |line: &str| {
        let number = line.split_once("Committed block [")?.1;
        let number = number.split_once(']')?.0.parse().ok()?;
        // After the colour: `2026-11-22 19:32:58.647 UTC`.
        let mut words = line.split_once(" UTC ")?.0.rsplit(' ');
        let (time, date) = (words.next()?, words.next()?);
        let date = &date[date.len().checked_sub("2026-11-22".len())?..];
        let time: Timestamp = format!("{date}T{time}Z").parse().ok()?;
        Some((number, SystemTime::try_from(time).ok()?))
    };
    log.lines().filter_map(commit).collect()
}

/// Quantiles of delays.
struct Delays {
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Delays {
    fn of(mut delays: Vec<Duration>) -> Self {
        delays.sort();
        let last = delays.len() - 1;
        Self {
            p50: delays[last / 2],
            p99: delays[last * 99 / 100],
            max: delays[last],
        }
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, max } = self;
        write!(f, "p50 {p50:?}  p99 {p99:?}  max {max:?}")
    }
}
