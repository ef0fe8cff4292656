//! Entries of missing private data: order, priorities, eligibility, expiry.

use super::*;

fn name(collection: &str) -> CollectionName {
    CollectionName {
        chaincode: "cc".into(),
        collection: collection.into(),
    }
}

fn writes(collection: &str, transactions: &[u64], is_eligible: bool) -> MissingWrites {
    MissingWrites {
        name: name(collection),
        transactions: transactions.iter().copied().collect(),
        expires: None,
        is_eligible,
    }
}

/// What lacks, by block, collection and transactions.
fn missing(entries: &[(u64, &str, &[u64])]) -> MissingInBlocks {
    let mut missing = MissingInBlocks::new();
    for (block, collection, transactions) in entries {
        let block = missing.entry(*block).or_default();
        block.insert(name(collection), transactions.iter().copied().collect());
    }
    missing
}

/// Commits blocks, each of which lacks something.
fn committed(blocks: Vec<Vec<MissingWrites>>) -> StateDatabase {
    let state = StateDatabase::in_memory().unwrap();
    for (block, lacks) in (0..).zip(blocks) {
        let mut rows = MissingRows::new(block);
        for lack in lacks {
            rows.add(lack);
        }
        commit(&state, rows);
    }
    state
}

fn commit(state: &StateDatabase, rows: MissingRows) {
    let mut updates = StateUpdates::new(rows.block);
    updates
        .add_missing_data(rows, &state.missing_data())
        .unwrap();
    state.commit(&updates, Durability::Process).unwrap();
}

fn high(data: &MissingData, blocks: usize) -> MissingInBlocks {
    data.most_recent(Priority::High, u64::MAX, blocks).unwrap()
}

#[test]
fn the_newest_blocks_come_first() {
    let state = committed(vec![
        vec![writes("a", &[0, 300], true)],
        vec![],
        vec![
            writes("a", &[1], true),
            writes("b", &[1, 2], true),
            writes("c", &[5], false),
        ],
        vec![writes("c", &[0], false)],
    ]);
    let data = state.missing_data();
    assert_eq!(data.height().unwrap(), 4);
    let newest = missing(&[(2, "a", &[1]), (2, "b", &[1, 2])]);
    assert_eq!(high(&data, 1), newest);
    let mut all = newest;
    all.extend(missing(&[(0, "a", &[0, 300])]));
    assert_eq!(high(&data, 5), all);
    let older = data.most_recent(Priority::High, 2, 5).unwrap();
    assert_eq!(older, missing(&[(0, "a", &[0, 300])]));
    assert!(high(&data, 0).is_empty());
    assert!(data.most_recent(Priority::High, 0, 5).unwrap().is_empty());
    assert_eq!(data.is_missing(2, 5, &name("c")).unwrap(), Some(false));
    assert_eq!(data.is_missing(2, 2, &name("b")).unwrap(), Some(true));
    assert_eq!(data.is_missing(2, 2, &name("a")).unwrap(), None);
}

#[test]
fn what_has_come_is_taken_out_and_what_could_not_be_had_is_put_back() {
    let state = committed(vec![vec![
        writes("a", &[0, 1, 2], true),
        writes("b", &[4], true),
    ]]);
    let data = state.missing_data();
    data.settle(
        &missing(&[(0, "a", &[1])]),
        &missing(&[(0, "a", &[2]), (0, "b", &[4, 9])]),
    )
    .unwrap();
    assert_eq!(high(&data, 9), missing(&[(0, "a", &[0])]));
    let low = || data.most_recent(Priority::Low, 9, 9).unwrap();
    assert_eq!(low(), missing(&[(0, "a", &[2]), (0, "b", &[4])]));
    assert_eq!(data.is_missing(0, 2, &name("a")).unwrap(), Some(true));
    // Nothing changes for what is not listed, or is put back already.
    data.settle(&missing(&[(7, "a", &[1])]), &missing(&[(0, "a", &[2])]))
        .unwrap();
    assert_eq!(low(), missing(&[(0, "a", &[2]), (0, "b", &[4])]));
    data.settle(
        &missing(&[(0, "a", &[0, 2]), (0, "b", &[4])]),
        &MissingInBlocks::new(),
    )
    .unwrap();
    assert!(high(&data, 9).is_empty() && low().is_empty());
}

#[test]
fn entries_expire_with_their_data() {
    let expiring = |collection, expires, is_eligible| MissingWrites {
        expires: Some(expires),
        ..writes(collection, &[0], is_eligible)
    };
    let state = committed(vec![
        vec![
            expiring("short", 2, true),
            expiring("shut", 2, false),
            expiring("long", 3, true),
        ],
        vec![],
    ]);
    let data = state.missing_data();
    data.settle(&MissingInBlocks::new(), &missing(&[(0, "short", &[0])]))
        .unwrap();
    assert_eq!(data.is_missing(0, 0, &name("short")).unwrap(), Some(true));
    commit(&state, MissingRows::new(2));
    for gone in ["short", "shut"] {
        assert_eq!(data.is_missing(0, 0, &name(gone)).unwrap(), None, "{gone}");
    }
    assert_eq!(high(&data, 9), missing(&[(0, "long", &[0])]));
    // One that is written again while it expires is not shown.
    let row = Row {
        group: HIGH,
        block: 0,
        name: name("short"),
        expires: Some(2),
        transactions: BTreeSet::from([0]),
    };
    let mut batch = Batch::default();
    row.write(&mut batch);
    state.store().commit(batch, Durability::Process).unwrap();
    assert_eq!(high(&data, 9), missing(&[(0, "long", &[0])]));
    commit(&state, MissingRows::new(3));
    assert!(high(&data, 9).is_empty());
    let expiries = state
        .store()
        .range(Table::MissingData, &[EXPIRY], Some(&[CONVERSION]));
    assert_eq!(expiries.count(), 0);
}

#[test]
fn a_new_member_becomes_eligible_for_what_was_before() {
    let shut = |transactions| {
        vec![
            writes("shut", transactions, false),
            writes("shut2", &[0], false),
        ]
    };
    let state = committed(vec![shut(&[0]), shut(&[1]), shut(&[2])]);
    let mut rows = MissingRows::new(3);
    rows.make_eligible(&name("shut"));
    rows.add(writes("shut", &[3], false));
    commit(&state, rows);
    let data = state.missing_data();
    assert!(high(&data, 9).is_empty());
    assert!(data.convert(2).unwrap());
    assert_eq!(
        high(&data, 9),
        missing(&[(1, "shut", &[1]), (2, "shut", &[2])])
    );
    assert!(!data.convert(2).unwrap());
    let converted = missing(&[(0, "shut", &[0]), (1, "shut", &[1]), (2, "shut", &[2])]);
    assert_eq!(high(&data, 9), converted);
    assert!(!data.convert(2).unwrap());
    assert_eq!(data.is_missing(3, 3, &name("shut")).unwrap(), Some(false));
    assert_eq!(data.is_missing(0, 0, &name("shut2")).unwrap(), Some(false));
}

#[test]
fn blocks_are_accounted_for_in_order() {
    let state = committed(vec![vec![]]);
    let data = state.missing_data();
    let refused = data.add(MissingRows::new(2));
    assert!(matches!(
        refused,
        Err(StateError::UnexpectedBlock {
            savepoint: Some(0),
            found: 2
        })
    ));
    let mut rows = MissingRows::new(1);
    rows.add(writes("a", &[0], true));
    data.add(rows).unwrap();
    assert_eq!((data.height().unwrap(), high(&data, 1).len()), (2, 1));
}

#[test]
fn damaged_entries_are_told() {
    let state = committed(vec![]);
    let mut batch = Batch::default();
    batch.put(Table::MissingData, row_key(HIGH, 1, &name("a")), [0x80]);
    state.store().commit(batch, Durability::Process).unwrap();
    let found = state
        .missing_data()
        .most_recent(Priority::High, u64::MAX, 1);
    assert!(matches!(found, Err(StateError::Damaged(_))));
}

/// A state as after a snapshot of block 9, with private keys of the collections `a` and `b`.
fn of_snapshot() -> StateDatabase {
    let state = StateDatabase::in_memory().unwrap();
    let mut import = crate::state::StateImport::new(&state);
    for (collection, key, block, transaction) in [
        ("a", "1", 3, 0),
        ("a", "2", 3, 0),
        ("a", "3", 3, 2),
        ("b", "1", 3, 0),
        ("b", "2", 7, 1),
    ] {
        let value = crate::state::VersionedValue {
            value: Bytes::copy_from_slice(format!("hash of {key}").as_bytes()),
            metadata: Bytes::new(),
            version: selvedge_protos::kvrwset::Version {
                block_num: block,
                tx_num: transaction,
            },
        };
        import
            .put(&format!("cc$$h{collection}"), key.as_bytes(), &value, None)
            .unwrap();
    }
    import.finish(9).unwrap();
    state
}

/// Of `a` the organisation is a member; of `b` data is kept for five blocks.
fn account(missing: &MissingData) {
    let accounted = missing.account_for_snapshot(10, |name, _| {
        Ok::<_, StateError>(Membership {
            is_eligible: name.collection == "a",
            block_to_live: (name.collection == "b").then_some(5),
        })
    });
    accounted.unwrap();
}

#[test]
fn a_snapshot_lacks_all_private_data_that_it_has_hashes_of() {
    let state = of_snapshot();
    let missing_data = state.missing_data();
    // The second time as after an interruption.
    for _ in 0..2 {
        account(&missing_data);
        assert_eq!(missing_data.height().unwrap(), 10);
        assert_eq!(high(&missing_data, 9), missing(&[(3, "a", &[0, 2])]));
        assert_eq!(
            missing_data.is_missing(3, 0, &name("b")).unwrap(),
            Some(false)
        );
        assert_eq!(
            missing_data.is_missing(7, 1, &name("b")).unwrap(),
            Some(false)
        );
    }
    let hashes = missing_data.boot_hashes(3, 0, &name("a")).unwrap();
    let expected = [("1", "hash of 1"), ("2", "hash of 2")];
    let expected = expected.map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
    assert_eq!(hashes, KeyHashes::from(expected));
    assert!(
        missing_data
            .boot_hashes(3, 1, &name("a"))
            .unwrap()
            .is_empty()
    );

    missing_data
        .settle(&missing(&[(3, "a", &[0])]), &missing(&[]))
        .unwrap();
    assert_eq!(high(&missing_data, 9), missing(&[(3, "a", &[2])]));
    assert!(
        missing_data
            .boot_hashes(3, 0, &name("a"))
            .unwrap()
            .is_empty()
    );
    assert_eq!(missing_data.boot_hashes(3, 2, &name("a")).unwrap().len(), 1);
    assert_eq!(missing_data.boot_hashes(3, 0, &name("b")).unwrap().len(), 1);

    // The collection's data of block 7 expires with block 13, that of block 3 with block 9 has already.
    for block in 10..13 {
        commit(&state, MissingRows::new(block));
    }
    assert_eq!(missing_data.boot_hashes(7, 1, &name("b")).unwrap().len(), 1);
    commit(&state, MissingRows::new(13));
    assert!(
        missing_data
            .boot_hashes(7, 1, &name("b"))
            .unwrap()
            .is_empty()
    );
    assert_eq!(missing_data.is_missing(7, 1, &name("b")).unwrap(), None);
    assert_eq!(missing_data.boot_hashes(3, 2, &name("a")).unwrap().len(), 1);
}

#[test]
fn an_account_that_is_refused_is_none() {
    let state = of_snapshot();
    let refused = state
        .missing_data()
        .account_for_snapshot(10, |_, block| match block {
            7 => Err(StateError::Damaged("test")),
            _ => Ok(Membership {
                is_eligible: true,
                block_to_live: None,
            }),
        });
    assert!(refused.is_err());
    assert_eq!(state.missing_data().height().unwrap(), 0);
}

#[test]
fn purges_are_remembered_by_the_last_one() {
    let state = StateDatabase::in_memory().unwrap();
    let key = Bytes::from_static(&[7; 32]);
    for (block, purges) in (0..).zip([vec![], vec![2, 5], vec![], vec![0]]) {
        let mut rows = MissingRows::new(block);
        for transaction in purges {
            rows.purge(transaction, &name("a"), &key);
        }
        commit(&state, rows);
    }
    let missing_data = state.missing_data();
    let found = missing_data.purge_of(&name("a"), &key).unwrap().unwrap();
    assert_eq!((found.block, found.transaction), (3, 0));
    assert!(found.covers(3, 0) && found.covers(2, 9) && !found.covers(3, 1));
    assert_eq!(missing_data.purge_of(&name("a"), &[7; 31]).unwrap(), None);
    assert_eq!(missing_data.purge_of(&name("b"), &key).unwrap(), None);

    let pending = missing_data.pending_purges(9).unwrap();
    let heights: Vec<_> = pending
        .iter()
        .map(|purge| (purge.block, purge.transaction))
        .collect();
    assert_eq!(heights, [(1, 5), (3, 0)]);
    assert!(
        pending
            .iter()
            .all(|purge| purge.name == name("a") && purge.key_hash == key)
    );
    missing_data.purges_done(&pending[..1]).unwrap();
    assert_eq!(missing_data.pending_purges(9).unwrap(), pending[1..]);
    assert_eq!(
        missing_data.purge_of(&name("a"), &key).unwrap(),
        Some(found)
    );
}
