use selvedge_protos::kvrwset::KvWrite;

use super::*;

/// A write-set of these keys.
fn rwset(keys: &[&str]) -> Bytes {
    let writes = keys.iter().map(|key| KvWrite {
        key: (*key).to_owned(),
        is_delete: false,
        value: Bytes::copy_from_slice(format!("value of {key}").as_bytes()),
    });
    of_writes(writes.collect())
}

fn name(collection: &str) -> CollectionName {
    CollectionName {
        chaincode: "cc".into(),
        collection: collection.into(),
    }
}

fn new(block: u64, transaction: u64, collection: &str, keys: &[&str]) -> NewPrivateWriteSet {
    let rwset = rwset(keys);
    NewPrivateWriteSet {
        expected_hash: Some(Bytes::copy_from_slice(&sha256(&rwset))),
        writes: PrivateWriteSet {
            block,
            transaction,
            name: name(collection),
            rwset,
        },
        expires: None,
    }
}

fn purge(collection: &str, key: &str, block: u64, transaction: u64) -> Purge {
    Purge {
        name: name(collection),
        key_hash: Bytes::copy_from_slice(&sha256(key.as_bytes())),
        block,
        transaction,
    }
}

#[test]
fn data_is_found_by_block_and_by_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let all = [
        new(7, 0, "a", &["seven"]),
        new(7, 300, "a", &[]),
        new(7, 300, "b", &["b"]),
        new(8, 1, "a", &["eight"]),
        new(u64::MAX, 1, "a", &["last"]),
    ];
    PrivateDataStore::open(folder.path())
        .unwrap()
        .store(&all)
        .unwrap();
    let store = PrivateDataStore::open(folder.path()).unwrap();
    let of_block = |block| -> Vec<_> { store.of_block(block).map(Result::unwrap).collect() };
    let seventh: Vec<_> = all[..3].iter().map(|new| new.writes.clone()).collect();
    assert_eq!(of_block(7), seventh);
    assert_eq!(of_block(u64::MAX), [all[4].writes.clone()]);
    assert!(of_block(6).is_empty());
    let name = &all[0].writes.name;
    assert_eq!(store.get(8, 1, name).unwrap(), Some(rwset(&["eight"])));
    assert_eq!(store.get(8, 2, name).unwrap(), None);
}

#[test]
fn data_without_its_hash_is_not_stored_nor_what_comes_with_it() {
    let store = PrivateDataStore::in_memory();
    let mut forged = new(7, 1, "a", &["data"]);
    forged.writes.rwset = rwset(&["date"]);
    let result = store.store(&[new(7, 0, "a", &["good"]), forged]);
    let message = result.unwrap_err().to_string();
    assert!(
        message.contains("cc/a for transaction 1 of block 7"),
        "{message}"
    );
    let mut unhashed = new(7, 2, "a", &[]);
    unhashed.expected_hash = Some(Bytes::new());
    assert!(store.store(&[unhashed]).is_err());
    let mut malformed = new(7, 3, "a", &[]);
    malformed.writes.rwset = Bytes::from_static(b"\xff");
    malformed.expected_hash = Some(Bytes::copy_from_slice(&sha256(b"\xff")));
    let refused = store.store(&[malformed]).unwrap_err();
    assert!(
        matches!(refused, PrivateDataError::Malformed { .. }),
        "{refused}"
    );
    assert_eq!(store.of_block(7).count(), 0);
}

#[test]
fn expired_data_is_removed() {
    let store = PrivateDataStore::in_memory();
    let expiring = |block, expires| NewPrivateWriteSet {
        expires: Some(expires),
        ..new(block, 0, "a", &["data"])
    };
    store
        .store(&[
            expiring(1, 4),
            expiring(2, 5),
            expiring(3, u64::MAX),
            new(1, 1, "a", &["kept"]),
        ])
        .unwrap();
    assert_eq!(store.expire(3).unwrap(), 0);
    assert_eq!(store.expire(4).unwrap(), 1);
    assert_eq!(
        (store.of_block(1).count(), store.of_block(2).count()),
        (1, 1)
    );
    assert_eq!(store.expire(4).unwrap(), 0);
    assert_eq!(store.expire(u64::MAX).unwrap(), 2);
    assert_eq!(store.of_block(3).count(), 0);
    assert_eq!(store.of_block(1).count(), 1);
    let keys = store.store.range(Table::PrivateData, &[KEY], None);
    assert_eq!(keys.count(), 1, "rows of keys expire with their data");
}

#[test]
fn a_purge_removes_a_key_from_all_that_was_written_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = PrivateDataStore::open(folder.path()).unwrap();
    store
        .store(&[
            new(1, 0, "a", &["x", "y"]),
            new(2, 5, "a", &["x"]),
            new(2, 6, "a", &["x"]),
            new(3, 0, "a", &["x"]),
            new(1, 0, "b", &["x"]),
        ])
        .unwrap();
    let get = |block, transaction, collection: &str| {
        store
            .get(block, transaction, &name(collection))
            .unwrap()
            .unwrap()
    };
    assert_eq!(store.purge(&[purge("a", "z", 9, 0)]).unwrap(), 0);
    let odd = Purge {
        key_hash: Bytes::from_static(b"x"),
        ..purge("a", "x", 9, 0)
    };
    assert_eq!(store.purge(&[odd]).unwrap(), 0);
    assert_eq!(store.purge(&[purge("a", "x", 2, 5)]).unwrap(), 2);
    assert_eq!(get(1, 0, "a"), rwset(&["y"]));
    assert_eq!(get(2, 5, "a"), Bytes::new());
    for (block, transaction, collection) in [(2, 6, "a"), (3, 0, "a"), (1, 0, "b")] {
        assert_eq!(get(block, transaction, collection), rwset(&["x"]));
    }
    // Two keys of one write-set, and a key that is not there any more.
    let both = [purge("a", "x", 4, 0), purge("a", "y", 4, 0)];
    assert_eq!(store.purge(&both).unwrap(), 3);
    assert_eq!(get(1, 0, "a"), Bytes::new());
    assert_eq!(store.purge(&both).unwrap(), 0);
    // It can be written again.
    store.store(&[new(4, 1, "a", &["x"])]).unwrap();
    assert_eq!(store.purge(&[purge("a", "x", 4, 0)]).unwrap(), 0);
    assert_eq!(get(4, 1, "a"), rwset(&["x"]));
}

#[test]
fn what_was_reconciled_is_stored_without_its_hash() {
    let store = PrivateDataStore::in_memory();
    let rest = NewPrivateWriteSet {
        expected_hash: None,
        ..new(1, 0, "a", &["b"])
    };
    store.store(&[rest]).unwrap();
    assert_eq!(store.get(1, 0, &name("a")).unwrap(), Some(rwset(&["b"])));
}
