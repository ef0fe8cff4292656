//! How late blocks are: measurements, to be run with `--release` on a machine that is otherwise quiet.
//!
//! Ten peers of one organisation, one of which leads; the others live on what it spreads, four blocks of one
//! transaction a second. The delay of a block at a peer counts from its commit at the first peer.

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
const LEADER: At = At(1, 0);

/// Of the Go followers' delay, at p50 and at p99.
const ALLOWED_SHARE: f64 = 0.2;

/// A Go peer leads eight Go peers and one of ours, which must not wait more than a fifth of what the Go
/// followers wait.
#[allow(clippy::print_stdout, reason = "this is what it is for")]
pub fn one_among_nine(fabric: &Fabric) {
    let ours = At(1, 9);
    let kind_of = |at| match at == ours {
        true => Kind::Selvedge,
        false => Kind::Fabric,
    };
    let (network, delays) = spread(fabric, kind_of);
    let followers = delays.values().flatten().filter(|(at, _)| *at != LEADER);
    let (selvedge, go): (Vec<_>, Vec<_>) = followers.copied().partition(|(at, _)| *at == ours);
    let [go, selvedge] =
        [go, selvedge].map(|delays| Delays::of(delays.into_iter().map(|(_, delay)| delay)));
    let arrivals: BTreeMap<_, _> = ["push", "pull", "state_transfer"]
        .into_iter()
        .map(|way| (way, network.arrived(ours, way)))
        .collect();
    println!(
        "Go followers    {go}\nSelvedge        {selvedge}\narrivals        {}",
        json!(arrivals)
    );
    assert!(
        selvedge.p50 <= go.p50.mul_f64(ALLOWED_SHARE),
        "p50 {selvedge} against {go}"
    );
    assert!(
        selvedge.p99 <= go.p99.mul_f64(ALLOWED_SHARE),
        "p99 {selvedge} against {go}"
    );
}

/// Ten Go peers, then ten of ours in their place.
#[allow(clippy::print_stdout, reason = "this is what it is for")]
pub fn ten_and_ten(fabric: &Fabric) {
    let [go, selvedge] = [Kind::Fabric, Kind::Selvedge].map(|kind| {
        let (_network, delays) = spread(fabric, |_| kind);
        let arrivals = delays.values().flatten().filter(|(at, _)| *at != LEADER);
        let every = Delays::of(arrivals.map(|(_, delay)| *delay));
        let of_block = |arrivals: &Vec<(At, Duration)>| {
            let delays = arrivals.iter().map(|(_, delay)| *delay);
            delays.max().unwrap()
        };
        let last = Delays::of(delays.values().map(of_block));
        println!("{kind:?}: every follower {every}\n{kind:?}: the last peer  {last}");
        (every, last)
    });
    let (every, last) = selvedge;
    let milliseconds = Duration::from_millis;
    assert!(every.p50 <= milliseconds(20), "{every}");
    assert!(last.p99 <= milliseconds(100), "{last}");
    assert!(last.max <= milliseconds(500), "{last}");
    assert!(
        last.p50 <= go.1.p50.mul_f64(0.01),
        "{last} against {}",
        go.1
    );
}

/// For each block, the delay at each peer.
type BlockDelays = BTreeMap<u64, Vec<(At, Duration)>>;

/// Runs the peers, orders the blocks and waits until every peer has them all.
fn spread(fabric: &Fabric, kind_of: impl Fn(At) -> Kind) -> (Network, BlockDelays) {
    let mut network = Network::start(fabric, Plan::new(&[PEERS]));
    let peers: Vec<_> = (0..usize::from(PEERS)).map(|peer| At(1, peer)).collect();
    for at in &peers {
        let lead = match *at == LEADER {
            true => Lead::Always,
            false => Lead::Never,
        };
        network.start_peer(*at, kind_of(*at), lead);
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
    let delays = (first..network.height()).map(|block| {
        let times = commits.iter().map(|(at, commits)| (*at, commits[&block]));
        let earliest = times.clone().map(|(_, time)| time).min().unwrap();
        let delay = |(at, time): (At, SystemTime)| (at, time.duration_since(earliest).unwrap());
        (block, times.map(delay).collect())
    });
    let delays = delays.collect();
    (network, delays)
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
    fn of(delays: impl Iterator<Item = Duration>) -> Self {
        let mut delays: Vec<_> = delays.collect();
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
