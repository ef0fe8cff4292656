//! Channels: joined, opened again, and closed because of what is in their ledgers.

use std::path::Path;

use selvedge_ledger::{LedgerError, LedgerManager, Options};
use selvedge_peer::channel::{ChannelError, ChannelEvent, JoinError};
use selvedge_protos::Message;
use selvedge_protos::common::Block;

use crate::support::{
    CHANNEL, Chain, Network, as_ordered, commit_by_queue, demand_capability, join, read,
    remove_organization,
};

#[tokio::test]
async fn a_joined_channel_is_told_of_and_opens_again() {
    let network = Network::new();
    {
        let (channels, mut events) = network.channels("data");
        join(&channels, network.genesis_bytes()).await.unwrap();
        let Some(ChannelEvent::Opened(channel)) = events.recv().await else {
            panic!("the channel is not told of");
        };
        assert_eq!(channel.id(), CHANNEL);
        assert_eq!(channel.ledger().height(), 1);
        assert_eq!(channel.config().sequence(), 0);
        let chain = Chain::new(&network).push(&["a"]);
        commit_by_queue(&channel, &[chain]).await;
    }
    let (channels, _events) = network.channels("data");
    let opener = channels.clone();
    let failures = tokio::task::spawn_blocking(move || opener.open_all())
        .await
        .unwrap();
    assert!(failures.is_empty());
    assert_eq!(channels.get(CHANNEL).unwrap().ledger().height(), 2);
    assert!(channels.get("other").is_none());
}

#[tokio::test]
async fn of_two_joins_at_once_one_succeeds() {
    let network = Network::new();
    let (channels, _events) = network.channels("data");
    let genesis = network.genesis_bytes();
    let (first, second) = tokio::join!(
        join(&channels, genesis.clone()),
        join(&channels, genesis.clone())
    );
    let exists = |result: &Result<(), JoinError>| matches!(result, Err(JoinError::Exists { .. }));
    assert!(
        first.is_ok() && exists(&second) || second.is_ok() && exists(&first),
        "{first:?} {second:?}"
    );
    assert!(exists(&join(&channels, genesis).await));
    assert_eq!(channels.ids(), [CHANNEL]);
}

#[tokio::test]
async fn a_peer_that_stops_takes_no_more_channels() {
    let network = Network::new();
    let (channels, events) = network.channels("data");
    drop(events);
    let error = join(&channels, network.genesis_bytes()).await.unwrap_err();
    assert!(matches!(error, JoinError::Stopping), "{error}");
}

#[tokio::test]
async fn a_genesis_block_with_an_unknown_capability_is_refused() {
    let network = Network::new();
    let (channels, _events) = network.channels("data");
    let mut chain = Chain::new(&network);
    let mut block = chain.push_config(|config| demand_capability(config, "V9_9"));
    let header = block.header.as_mut().unwrap();
    header.number = 0;
    header.previous_hash.clear();
    let error = join(&channels, block.encode_to_vec().into())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, JoinError::Unfit { .. }), "{text}");
    assert!(text.contains("V9_9"), "{text}");
    assert!(channels.ids().is_empty());
    // Nothing of it stays: the channel can still be joined.
    join(&channels, network.genesis_bytes()).await.unwrap();
}

#[tokio::test]
async fn one_channel_that_does_not_open_leaves_the_others_alone() {
    let network = Network::new();
    let other = Network::of_channel("other");
    {
        let (channels, _events) = network.channels("data");
        join(&channels, network.genesis_bytes()).await.unwrap();
        join(&channels, other.genesis_bytes()).await.unwrap();
        // The ledger takes it, since it is not its business; a committer would not.
        let channel = channels.get(CHANNEL).unwrap();
        let block = Chain::new(&network).push_config(|config| demand_capability(config, "V9_9"));
        channel.ledger().append(&block).unwrap();
    }
    let (channels, _events) = network.channels("data");
    let opener = channels.clone();
    let failures = tokio::task::spawn_blocking(move || opener.open_all())
        .await
        .unwrap();
    assert_eq!(channels.ids(), ["other"]);
    let [failure] = failures.as_slice() else {
        panic!("{failures:?}");
    };
    assert!(matches!(failure, ChannelError::Commit { channel, .. } if channel == CHANNEL));
    assert!(failure.to_string().contains("V9_9"), "{failure}");
}

#[tokio::test]
async fn a_damaged_block_closes_its_channel_until_it_is_cut_off_and_comes_again() {
    let network = Network::new();
    let mut chain = Chain::new(&network);
    let blocks = [chain.push(&["a"]), chain.push(&["b"]), chain.push(&["c"])];
    {
        let (channels, _events) = network.channels("data");
        join(&channels, network.genesis_bytes()).await.unwrap();
        let channel = channels.get(CHANNEL).unwrap();
        commit_by_queue(&channel, &blocks).await;
    }
    let sound = network.folder.path().join("sound");
    copy_folder(&network.folder.path().join("data"), &sound);
    let file = network.block_files("data").join("blockfile_000000");
    let mut bytes = read(&file);
    let second = chain.blocks[1].data.as_ref().unwrap().data[0].clone();
    let place = bytes
        .windows(second.len())
        .position(|window| window == second)
        .unwrap();
    bytes[place + second.len() / 2] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let index = network.folder.path().join("data/ledgersData/selvedge");
    std::fs::remove_dir_all(index).unwrap();

    let (channels, _events) = network.channels("data");
    let opener = channels.clone();
    let failures = tokio::task::spawn_blocking(move || opener.open_all())
        .await
        .unwrap();
    assert!(channels.ids().is_empty());
    let [ChannelError::Ledger { source, .. }] = failures.as_slice() else {
        panic!("{failures:?}");
    };
    assert!(
        matches!(source, LedgerError::Corrupt { block: 1, .. }),
        "{source}"
    );
    let folder = network.folder.path().join("data");
    let command = format!(
        "`selvedge ledger repair {} --channel {CHANNEL}`",
        folder.display()
    );
    assert!(source.to_string().contains(&command), "{source}");
    drop((channels, failures));

    {
        let ledgers = LedgerManager::open(&folder, Options::default()).unwrap();
        let damage = ledgers.find_damage(CHANNEL, &mut |_| {}).unwrap().unwrap();
        assert_eq!(damage.cut.height(), 1);
        ledgers.cut(&damage.cut).unwrap();
    }
    let ledgers = ["data", "sound"].map(async |name| {
        let (channels, _events) = network.channels(name);
        let opener = channels.clone();
        let failures = tokio::task::spawn_blocking(move || opener.open_all()).await;
        assert!(failures.unwrap().is_empty());
        let channel = channels.get(CHANNEL).unwrap();
        let lacks = &blocks[channel.ledger().height() as usize - 1..];
        if !lacks.is_empty() {
            commit_by_queue(&channel, lacks).await;
        }
        let blocks = (0..4).map(|number| channel.ledger().block(number).unwrap().unwrap());
        let state = channel.state().database().entries().map(Result::unwrap);
        (
            lacks.len(),
            blocks.collect::<Vec<_>>(),
            state.collect::<Vec<_>>(),
        )
    });
    let [repaired, sound] = ledgers;
    let (repaired, sound) = (repaired.await, sound.await);
    assert_eq!((repaired.0, sound.0), (3, 0));
    // With verdicts and commit hashes in the metadata.
    assert_eq!(repaired.1, sound.1);
    assert_eq!(repaired.2, sound.2);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn the_configuration_in_force_is_that_of_the_last_config_block() {
    let network = Network::new();
    let mut chain = Chain::new(&network);
    let blocks = [
        chain.push(&["a"]),
        chain.push_config(|config| remove_organization(config, "Org2")),
        chain.push(&["b"]),
    ];
    let config_block = |channel: &selvedge_peer::channel::Channel| {
        Block::decode(channel.config_block().unwrap()).unwrap()
    };
    {
        let (channels, _events) = network.channels("data");
        join(&channels, network.genesis_bytes()).await.unwrap();
        let channel = channels.get(CHANNEL).unwrap();
        assert_eq!(channel.config().application().organizations().len(), 2);
        commit_by_queue(&channel, &blocks).await;
        assert_eq!(channel.config().application().organizations().len(), 1);
        assert_eq!(as_ordered(&config_block(&channel)), blocks[1]);
    }
    let (channels, _events) = network.channels("data");
    let opener = channels.clone();
    tokio::task::spawn_blocking(move || opener.open_all())
        .await
        .unwrap();
    let channel = channels.get(CHANNEL).unwrap();
    assert_eq!(channel.config().application().organizations().len(), 1);
    assert_eq!(channel.config().sequence(), 1);
    assert_eq!(as_ordered(&config_block(&channel)), blocks[1]);
}

#[tokio::test]
async fn a_paused_channel_is_not_opened_until_it_is_resumed() {
    let network = Network::new();
    let folder = network.folder.path().join("data");
    let at_next_start = async || {
        let (channels, _events) = network.channels("data");
        let opener = channels.clone();
        let failures = tokio::task::spawn_blocking(move || opener.open_all()).await;
        assert!(failures.unwrap().is_empty());
        (
            channels.ids(),
            join(&channels, network.genesis_bytes()).await,
        )
    };
    assert!(at_next_start().await.1.is_ok());
    let ledgers = || LedgerManager::open(&folder, Options::default()).unwrap();
    ledgers().pause(CHANNEL).unwrap();
    let (open, joined) = at_next_start().await;
    assert!(open.is_empty());
    let refused = joined.unwrap_err().to_string();
    let reason = format!("ledger [{CHANNEL}] already exists with state [INACTIVE]");
    assert!(refused.ends_with(&reason), "{refused}");
    ledgers().resume(CHANNEL).unwrap();
    assert_eq!(at_next_start().await.0, [CHANNEL]);
}
