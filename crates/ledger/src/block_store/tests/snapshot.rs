use std::collections::BTreeMap;

use super::*;
use crate::bootstrap::SNAPSHOT_INFO_FILE;
use crate::snapshot::SnapshotMetadata;

/// Makes a place one of a chain that begins after these blocks, whose ids are known.
fn begin_after(place: &Place, blocks: &[Block]) {
    let last = blocks.last().unwrap().header.clone().unwrap();
    let metadata = SnapshotMetadata {
        channel: CHANNEL.into(),
        last_block: last.number,
        last_block_hash: Bytes::copy_from_slice(&header_hash(&last)),
        previous_block_hash: last.previous_hash,
        commit_hash: Some([7; 32]),
        files: BTreeMap::new(),
    };
    Bootstrap::write(place.files(), &metadata).unwrap();
    let index = BlockIndex::open(place.index.clone()).unwrap();
    let ids = (0..2 * blocks.len()).map(|number| Ok::<_, IndexError>(format!("tx-{number}")));
    index.import(ids, last.number).unwrap();
}

#[test]
fn a_chain_begins_after_a_snapshot() {
    let blocks = chain(9);
    let place = Place::new();
    begin_after(&place, &blocks[..5]);
    let store = place.open().unwrap();
    assert_eq!((store.first_block(), store.height()), (5, 5));
    assert_eq!(store.snapshot_commit_hash(), Some([7; 32]));
    let refused = store.append(&blocks[6]);
    assert!(matches!(refused, Err(LedgerError::UnexpectedNumber { .. })));
    for block in &blocks[5..8] {
        store.append(block).unwrap();
    }
    let ids = |store: &BlockStore, last| {
        let ids = store.transaction_ids(last).unwrap();
        ids.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let expected = |count: usize| (0..count).map(|number| format!("tx-{number}"));
    assert!(ids(&store, 6).into_iter().eq(expected(14)));
    drop(store);

    let store = place.open().unwrap();
    let info = store.info();
    assert_eq!((store.first_block(), info.height), (5, 8));
    let bootstrap = info.bootstrapping_snapshot_info.unwrap();
    assert_eq!(bootstrap.last_block_in_snapshot, 4);
    assert!(store.has_transaction("tx-3").unwrap());
    let status = store.transaction_status("tx-3");
    assert!(matches!(
        status,
        Err(LedgerError::TransactionInSnapshot { first: 5, .. })
    ));
    assert_eq!(store.transaction_status("tx-13").unwrap().unwrap().block, 6);
    assert_eq!(store.block(7).unwrap().as_ref(), Some(&blocks[7]));
    assert!(matches!(
        store.block(4),
        Err(LedgerError::BeforeSnapshot { block: 4, first: 5 })
    ));
    store.append(&blocks[8]).unwrap();
    assert!(ids(&store, 8).into_iter().eq(expected(18)));
}

#[test]
fn the_last_block_after_a_snapshot_may_be_torn() {
    let blocks = chain(7);
    let place = Place::new();
    begin_after(&place, &blocks[..5]);
    let store = place.open().unwrap();
    store.append(&blocks[5]).unwrap();
    drop(store);
    // The index knows nothing of block 5 then, as after a power cut.
    let torn = fs::read(place.file(0)).unwrap();
    for length in 0..torn.len() {
        let other = Place::new();
        begin_after(&other, &blocks[..5]);
        fs::write(other.file(0), &torn[..length]).unwrap();
        let store = other.open().unwrap();
        assert_eq!(store.height(), 5, "{length}");
        store.append(&blocks[5]).unwrap();
        drop(store);
        assert_eq!(other.open().unwrap().height(), 6);
    }
    let other = Place::new();
    begin_after(&other, &blocks[..5]);
    fs::write(other.file(0), &torn).unwrap();
    assert_eq!(other.open().unwrap().height(), 6);
}

#[test]
fn what_came_before_the_chain_cannot_be_made_anew() {
    let blocks = chain(7);
    let place = Place::new();
    begin_after(&place, &blocks[..5]);
    place.open().unwrap().append(&blocks[5]).unwrap();
    place.index.clear().unwrap();
    let lost = place.open();
    assert!(matches!(
        lost,
        Err(LedgerError::SnapshotIndexLost { first: 5, .. })
    ));

    // As a Go peer leaves it.
    let place = Place::new();
    fs::write(place.files().join(SNAPSHOT_INFO_FILE), b"").unwrap();
    assert!(matches!(
        place.open(),
        Err(LedgerError::SnapshotInfo { .. })
    ));
}

#[test]
fn long_ids_are_told_whole() {
    let long = |end: &str| format!("{}{end}", "a".repeat(2000));
    let envelopes = vec![
        envelope(&long("1"), b""),
        envelope("short", b""),
        envelope("", b""),
    ];
    let blocks = [next_block(None, envelopes, &[0, 0, 0])];
    let place = Place::new();
    let store = place.filled(&blocks);
    let ids = store.transaction_ids(0).unwrap();
    let ids = ids.collect::<Result<Vec<_>, _>>().unwrap();
    assert!(ids.iter().any(|id| *id == long("1")) && ids.iter().any(|id| id == "short"));

    let other = Place::new();
    let index = BlockIndex::open(other.index.clone()).unwrap();
    let all = ids.iter().cloned().map(Ok::<_, IndexError>);
    index.import(all, 7).unwrap();
    let found = index.transaction_ids(7).map(Result::unwrap);
    assert!(found.eq(ids.into_iter().map(IndexedId::Text)));
}
