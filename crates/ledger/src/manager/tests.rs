use super::*;
use crate::test_support::{CHANNEL, chain, copy_folder, scratch};
use crate::testing::FailingDisk;

fn open(folder: &Path) -> LedgerManager {
    LedgerManager::open(folder, Options::default()).unwrap()
}

#[test]
fn channels_are_made_and_found_again() {
    let folder = scratch();
    let blocks = chain(3);
    let manager = open(folder.path());
    assert!(manager.channels().unwrap().is_empty());
    assert!(matches!(
        manager.open_channel(CHANNEL),
        Err(LedgerError::UnknownChannel { .. })
    ));
    let store = manager.create_channel(CHANNEL, &blocks[0]).unwrap();
    assert_eq!((store.height(), store.channel()), (1, CHANNEL));
    assert!(matches!(
        manager.create_channel(CHANNEL, &blocks[0]),
        Err(LedgerError::ChannelExists { .. })
    ));
    store.append_batch(&blocks[1..]).unwrap();
    assert_eq!(manager.open_channel(CHANNEL).unwrap().height(), 3);
    drop((manager, store));

    let manager = open(folder.path());
    assert_eq!(manager.channels().unwrap(), [CHANNEL]);
    assert_eq!(manager.open_channel(CHANNEL).unwrap().height(), 3);
    assert!(
        folder
            .path()
            .join("ledgersData/chains/chains/mychannel/blockfile_000000")
            .exists()
    );
}

#[test]
fn a_data_directory_has_one_owner() {
    let folder = scratch();
    let manager = open(folder.path());
    let error = LedgerManager::open(folder.path(), Options::default()).unwrap_err();
    assert!(
        error.to_string().contains("another process holds"),
        "{error}"
    );
    drop(manager);
    open(folder.path());
}

#[test]
fn genesis_blocks_of_others_are_refused() {
    let folder = scratch();
    let manager = open(folder.path());
    let blocks = chain(2);
    let refusal =
        |channel: &str, block: &Block| manager.create_channel(channel, block).unwrap_err();
    assert!(matches!(
        refusal("../evil", &blocks[0]),
        LedgerError::InvalidChannelId { .. }
    ));
    assert!(matches!(
        refusal("other", &blocks[0]),
        LedgerError::WrongChannel { .. }
    ));
    assert!(matches!(
        refusal(CHANNEL, &blocks[1]),
        LedgerError::UnexpectedNumber {
            expected: 0,
            found: 1,
            ..
        }
    ));
    assert!(matches!(
        refusal(CHANNEL, &Block::default()),
        LedgerError::WrongChannel { .. }
    ));
    let mut wrong = blocks[0].clone();
    wrong.header.as_mut().unwrap().data_hash = vec![1].into();
    assert!(matches!(
        refusal(CHANNEL, &wrong),
        LedgerError::WrongDataHash { .. }
    ));
    assert!(manager.channels().unwrap().is_empty());
    manager.create_channel(CHANNEL, &blocks[0]).unwrap();
}

#[test]
fn a_join_that_stops_anywhere_leaves_a_channel_or_none() {
    let blocks = chain(2);
    let join = |folder: &Path, budget, loses_power| {
        let disk = FailingDisk::new(budget);
        let manager = LedgerManager::open_on(folder, Arc::new(disk.clone()), Options::default());
        let made = manager.and_then(|manager| manager.create_channel(CHANNEL, &blocks[0]));
        let made = made.map(drop);
        if loses_power {
            disk.cut_power(false);
        }
        (made, disk.used())
    };
    let (made, steps) = join(scratch().path(), u64::MAX, true);
    made.unwrap();
    // Most steps are bytes of the block, of which every 32nd is enough here.
    let telling = |budget: &u64| *budget < 10 || *budget + 10 > steps || budget.is_multiple_of(32);
    let budgets = (0..=steps).filter(telling);
    for (budget, loses_power) in budgets.flat_map(|budget| [(budget, false), (budget, true)]) {
        let folder = scratch();
        let (made, _) = join(folder.path(), budget, loses_power);
        assert_eq!(made.is_ok(), budget == steps);

        let manager = open(folder.path());
        let channels = manager.channels().unwrap();
        assert!(made.is_err() || channels == [CHANNEL]);
        let store = match channels.as_slice() {
            [] => manager.create_channel(CHANNEL, &blocks[0]).unwrap(),
            _ => manager.open_channel(CHANNEL).unwrap(),
        };
        store.append(&blocks[1]).unwrap();
        assert_eq!(store.height(), 2);
    }
}

#[test]
fn folders_without_a_first_block_are_no_channels() {
    let folder = scratch();
    let manager = open(folder.path());
    let chains = folder.path().join("ledgersData/chains/chains");
    fs::create_dir(chains.join("empty")).unwrap();
    fs::create_dir(chains.join("Not-A-Channel")).unwrap();
    fs::write(chains.join("file"), b"").unwrap();
    let joining = chains.join(CHANNEL);
    fs::create_dir(&joining).unwrap();
    fs::write(joining.join("blockfile_000000"), b"").unwrap();
    assert!(manager.channels().unwrap().is_empty());

    // What a Go peer has left without a byte of a block is replaced, anything else is kept.
    let genesis = &chain(1)[0];
    fs::write(joining.join("blockfile_000000"), b"\xff\x7f").unwrap();
    assert!(matches!(
        manager.create_channel(CHANNEL, genesis),
        Err(LedgerError::NoGenesisBlock { .. })
    ));
    fs::write(joining.join("blockfile_000000"), b"").unwrap();
    assert_eq!(
        manager.create_channel(CHANNEL, genesis).unwrap().height(),
        1
    );
}

#[test]
fn the_data_directory_of_a_go_peer_is_taken_over() {
    let folder = scratch();
    let ledgers = folder.path().join("ledgersData");
    let chain = ledgers.join("chains/chains/labchannel");
    copy_folder(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/go-peer"),
        &chain,
    );
    for database in ["chains/index", "ledgerProvider", "stateLeveldb", "fileLock"] {
        fs::create_dir_all(ledgers.join(database)).unwrap();
        fs::write(ledgers.join(database).join("CURRENT"), b"MANIFEST-000000\n").unwrap();
    }
    let manager = open(folder.path());
    assert_eq!(manager.channels().unwrap(), ["labchannel"]);
    assert_eq!(manager.open_channel("labchannel").unwrap().height(), 8);
    for database in ["chains/index", "ledgerProvider", "stateLeveldb"] {
        assert_eq!(fs::read_dir(ledgers.join(database)).unwrap().count(), 1);
    }
}

/// A snapshot of a channel without keys and transactions.
fn snapshot(folder: &Path) {
    let metadata = SnapshotMetadata {
        channel: CHANNEL.into(),
        last_block: 4,
        last_block_hash: vec![1; 32].into(),
        previous_block_hash: vec![2; 32].into(),
        commit_hash: Some([3; 32]),
        files: BTreeMap::new(),
    };
    metadata.write(folder).unwrap();
}

#[test]
fn an_import_that_fails_at_any_operation_is_none_or_whole() {
    let files = scratch();
    snapshot(files.path());
    // As if the power had failed there.
    let import = |folder: &Path, budget| {
        let disk = FailingDisk::by_operation(budget);
        let made = LedgerManager::open_on(folder, Arc::new(disk.clone()), Options::default())
            .map_err(SnapshotError::from)
            .and_then(|manager| manager.create_from_snapshot(files.path(), |_, _| Ok(())));
        let made = made.map(drop);
        disk.cut_power(false);
        (made, disk.used())
    };
    let (made, steps) = import(scratch().path(), u64::MAX);
    made.unwrap();
    assert!(steps > 10, "{steps}");
    for budget in 0..=steps {
        let folder = scratch();
        let (made, _) = import(folder.path(), budget);
        assert_eq!(made.is_ok(), budget == steps);

        let manager = open(folder.path());
        if manager.channels().unwrap().is_empty() {
            assert!(made.is_err());
            let again = manager.create_from_snapshot(files.path(), |_, _| Ok(()));
            again.unwrap();
        }
        let store = manager.open_channel(CHANNEL).unwrap();
        assert_eq!((store.first_block(), store.height()), (5, 5));
        let state = manager.open_state(CHANNEL).unwrap();
        assert_eq!(state.savepoint().unwrap(), Some(4));
    }
}

#[test]
fn a_snapshot_that_does_not_fit_leaves_nothing() {
    let (folder, files) = (scratch(), scratch());
    snapshot(files.path());
    let manager = open(folder.path());
    let refused = manager.create_from_snapshot(files.path(), |channel, state| {
        assert_eq!((channel, state.savepoint().unwrap()), (CHANNEL, Some(4)));
        Err("it is strange".to_owned())
    });
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.ends_with("cannot be served: it is strange"),
        "{refused}"
    );
    assert!(manager.channels().unwrap().is_empty());
    manager.create_channel(CHANNEL, &chain(1)[0]).unwrap();
    let again = manager.create_from_snapshot(files.path(), |_, _| Ok(()));
    assert!(matches!(
        again,
        Err(SnapshotError::Ledger(LedgerError::ChannelExists { .. }))
    ));
}
