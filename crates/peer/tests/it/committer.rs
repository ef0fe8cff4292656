//! The committer: order, batches, config blocks, and what makes it stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use selvedge_gossip::event::Arrival;
use selvedge_ledger::Options;
use selvedge_peer::channel::{Channel, ChannelEvent, Channels, CommitQueue};
use selvedge_peer::health::ChannelHealth;
use selvedge_peer::metrics::Metrics;
use selvedge_protos::common::Block;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{
    CHANNEL, Chain, Network, as_ordered, demand_capability, join, remove_organization, soon, until,
    verified,
};

/// How long each block was on its way, as gossip says.
const DELAY: Duration = Duration::from_millis(250);

/// A channel with a committer.
struct Bench {
    network: Network,
    channels: Channels,
    channel: Arc<Channel>,
    metrics: Metrics,
    events: mpsc::Receiver<ChannelEvent>,
    queue: CommitQueue,
    tasks: TaskTracker,
    stop: CancellationToken,
    _channel_events: mpsc::Receiver<ChannelEvent>,
}

impl Bench {
    async fn new(options: Options) -> Self {
        let network = Network::new();
        let (channels, channel_events) = network.channels_with("data", options);
        join(&channels, network.genesis_bytes()).await.unwrap();
        let channel = channels.get(CHANNEL).unwrap();
        // No room: the committer waits until its events are taken.
        let (sender, events) = mpsc::channel(1);
        let metrics = Metrics::new("1").unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let queue = CommitQueue::start(
            channel.clone(),
            metrics.channel(CHANNEL),
            sender,
            &tasks,
            stop.clone(),
        );
        Self {
            network,
            channels,
            channel,
            metrics,
            events,
            queue,
            tasks,
            stop,
            _channel_events: channel_events,
        }
    }

    fn push(&self, blocks: &[Block]) {
        for block in blocks {
            self.queue
                .push(verified(block), Arrival::Push, DELAY)
                .unwrap();
        }
    }

    /// What the committer tells until it has told of `last`, or of its end: numbers, `config` for a
    /// new configuration, or the reason of the end.
    async fn told(&mut self, last: u64) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(event) = soon(self.events.recv()).await {
            match event {
                ChannelEvent::Committed { number, .. } => {
                    told.push(number.to_string());
                    if number == last {
                        break;
                    }
                }
                ChannelEvent::Reconfigured { .. } => told.push("config".to_owned()),
                ChannelEvent::Failed { reason, .. } => {
                    told.push(reason.to_string());
                    break;
                }
                ChannelEvent::Opened(_) | ChannelEvent::Leadership { .. } => {
                    panic!("this is not the committer's to tell")
                }
            }
        }
        told
    }
}

#[tokio::test]
async fn blocks_are_committed_in_order_and_measured() {
    let mut bench = Bench::new(Options::default()).await;
    let mut chain = Chain::new(&bench.network);
    let blocks: Vec<_> = (0..200).map(|_| chain.push(&["a", "b"])).collect();
    bench.push(&blocks);
    let told = bench.told(200).await;
    let expected: Vec<_> = (1..=200).map(|number| number.to_string()).collect();
    assert_eq!(told, expected);
    assert_eq!(bench.channel.ledger().height(), 201);
    let stored = bench.channel.ledger().block(77).unwrap().unwrap();
    assert_eq!(as_ordered(&stored), blocks[76]);
    let text = bench.metrics.encode().unwrap();
    for name in [
        "gossip_state_commit_duration_count",
        "ledger_block_processing_time_count",
        "ledger_blockstorage_and_pvtdata_commit_time_count",
        "ledger_statedb_commit_time_count",
        "selvedge_block_delay_seconds_count",
        "selvedge_block_propagation_seconds_count",
    ] {
        let line = format!("{name}{{channel=\"testchannel\"}} 200");
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let sum = "selvedge_block_propagation_seconds_sum{channel=\"testchannel\"} 50";
    assert!(text.lines().any(|found| found == sum), "{sum}\n{text}");
}

#[tokio::test]
async fn a_config_block_is_in_force_before_the_height_is_told() {
    let mut bench = Bench::new(Options::default()).await;
    let mut chain = Chain::new(&bench.network);
    let blocks = [
        chain.push(&["a"]),
        chain.push_config(|config| remove_organization(config, "Org2")),
        chain.push_config(|_| ()),
        chain.push(&["b"]),
    ];
    bench.push(&blocks);
    let told = bench.told(4).await;
    assert_eq!(told, ["1", "config", "2", "config", "3", "4"]);
    assert_eq!(bench.channel.config().sequence(), 2);
    let verifier = bench.channel.verifier();
    assert!(Arc::ptr_eq(verifier.config(), &bench.channel.config()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tip_and_configuration_are_always_of_one_moment() {
    let mut bench = Bench::new(Options::default()).await;
    let mut chain = Chain::new(&bench.network);
    let channel = bench.channel.clone();
    let looks = Arc::new(AtomicU64::new(0));
    let counted = looks.clone();
    let looking = tokio::task::spawn_blocking(move || {
        loop {
            let (tip, config) = channel.position().unwrap();
            assert_eq!(config.sequence(), tip.number / 3, "at block {}", tip.number);
            counted.fetch_add(1, Ordering::SeqCst);
            if tip.number == 150 {
                return;
            }
        }
    });
    // Every third block brings a configuration, so the sequence follows from the number.
    for number in (3..=150_u64).step_by(3) {
        let before = looks.load(Ordering::SeqCst);
        bench.push(&[
            chain.push(&["a"]),
            chain.push(&["a"]),
            chain.push_config(|_| ()),
        ]);
        bench.told(number).await;
        until("it was looked at meanwhile", async || {
            looking.is_finished() || looks.load(Ordering::SeqCst) > before
        })
        .await;
    }
    soon(looking).await.unwrap();
}

#[tokio::test]
async fn an_unusable_configuration_stops_the_channel_before_it() {
    let mut bench = Bench::new(Options::default()).await;
    let mut chain = Chain::new(&bench.network);
    let blocks = [
        chain.push(&["a"]),
        chain.push(&["b"]),
        chain.push_config(|config| demand_capability(config, "V9_9")),
        chain.push(&["c"]),
    ];
    bench.push(&blocks);
    let told = bench.told(4).await;
    assert_eq!(told[..2], ["1", "2"]);
    let [.., reason] = told.as_slice() else {
        panic!("nothing was told");
    };
    assert!(reason.starts_with("block 3, transaction 0 "), "{reason}");
    assert!(reason.contains("V9_9"), "{reason}");
    assert_eq!(bench.channel.ledger().height(), 3);
    assert_eq!(bench.channel.config().sequence(), 0);
    bench.tasks.close();
    soon(bench.tasks.wait()).await;
    let refused = bench.queue.push(verified(&blocks[3]), Arrival::Push, DELAY);
    assert_eq!(refused.unwrap_err().number(), 4);
}

#[tokio::test]
async fn a_fork_stops_the_channel_after_what_was_sound() {
    let mut bench = Bench::new(Options::default()).await;
    let mut chain = Chain::new(&bench.network);
    let mut fork = chain.clone();
    let sound = [chain.push(&["a"]), chain.push(&["b"])];
    fork.push(&["x"]);
    fork.push(&["y"]);
    let forked = fork.push(&["z"]);
    bench.push(&sound);
    bench.push(&[forked]);
    let told = bench.told(3).await;
    assert_eq!(told[..2], ["1", "2"]);
    assert!(told[2].starts_with("it names "), "{told:?}");
    assert_eq!(bench.channel.ledger().height(), 3);
}

#[tokio::test]
async fn a_failed_write_stops_the_channel_and_is_named_by_the_health_check() {
    // A file for each block, so that the test can stand in the way of one.
    let mut bench = Bench::new(Options {
        max_file_bytes: 1,
        ..Options::default()
    })
    .await;
    let mut chain = Chain::new(&bench.network);
    bench.push(&[chain.push(&["a"])]);
    assert_eq!(bench.told(1).await, ["1"]);
    let health = ChannelHealth::default();
    assert_eq!(health.check_channels(&bench.channels), Ok(()));

    let obstacle = bench.network.block_files("data").join("blockfile_000002");
    std::fs::create_dir(&obstacle).unwrap();
    bench.push(&[chain.push(&["b"])]);
    let told = bench.told(2).await;
    assert!(told[0].contains("blockfile_000002"), "{told:?}");
    assert_eq!(bench.channel.ledger().height(), 2);
    let verdict = health.check_channels(&bench.channels).unwrap_err();
    assert!(
        verdict.starts_with("the ledger of channel testchannel takes no more blocks: "),
        "{verdict}"
    );
    // What is there can still be read.
    assert!(bench.channel.ledger().block(1).unwrap().is_some());

    health.stopped(CHANNEL, told[0].as_str().into());
    let verdict = health.check_channels(&bench.channels).unwrap_err();
    assert!(
        verdict.starts_with("channel testchannel has stopped: ") && !verdict.contains("; "),
        "the same is not said twice: {verdict}"
    );
}

#[tokio::test]
async fn a_stop_ends_the_committer_after_its_batch() {
    let bench = Bench::new(Options::default()).await;
    let mut chain = Chain::new(&bench.network);
    let blocks: Vec<_> = (0..100).map(|_| chain.push(&["a"])).collect();
    bench.push(&blocks);
    bench.stop.cancel();
    // Nobody takes the events any more.
    drop(bench.events);
    bench.tasks.close();
    soon(bench.tasks.wait()).await;
    let height = bench.channel.ledger().height();
    assert_eq!(bench.channel.ledger().info().height, height);
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let bench = Bench::new(Options::default()).await;
    let mut chain = Chain::new(&bench.network);
    let block = chain.push(&["a"]);
    // The committer takes some blocks and then waits for its events to be taken.
    let taken = (0..10_000)
        .take_while(|_| {
            bench
                .queue
                .push(verified(&block), Arrival::Push, DELAY)
                .is_ok()
        })
        .count();
    assert!(taken <= 256 + 8, "{taken}");
}
