use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn on_both(test: impl Fn(&dyn Store)) {
    test(&MemoryStore::new());
    test(&Cached::new(Arc::new(MemoryStore::new())));
    let folder = tempfile::tempdir().unwrap();
    test(&FjallStore::open(folder.path()).unwrap());
}

fn put(entries: &[(Table, &str, &str)]) -> Batch {
    let mut batch = Batch::default();
    for (table, key, value) in entries {
        batch.put(*table, *key, *value);
    }
    batch
}

fn keys(store: &dyn Store, from: &str, to: Option<&str>) -> Vec<String> {
    store
        .range(Table::Blocks, from.as_bytes(), to.map(str::as_bytes))
        .map(|entry| String::from_utf8(entry.unwrap().0.to_vec()).unwrap())
        .collect()
}

#[test]
fn tables_do_not_mix() {
    on_both(|store| {
        let batch = put(&[(Table::Blocks, "k", "1"), (Table::Hashes, "k", "2")]);
        assert_eq!(batch.len(), 2);
        store.commit(batch, Durability::Disk).unwrap();
        let value = |table| store.get(table, b"k").unwrap();
        assert_eq!(value(Table::Blocks).as_deref(), Some(&b"1"[..]));
        assert_eq!(value(Table::Hashes).as_deref(), Some(&b"2"[..]));
        assert_eq!(value(Table::Meta), None);
    });
}

#[test]
fn the_later_change_of_a_batch_counts() {
    on_both(|store| {
        let mut batch = put(&[
            (Table::Meta, "a", "1"),
            (Table::Meta, "a", "2"),
            (Table::Meta, "b", "1"),
        ]);
        batch.delete(Table::Meta, "b");
        batch.delete(Table::Meta, "never");
        batch.delete(Table::Meta, "c");
        batch.put(Table::Meta, "c", "");
        store.commit(batch, Durability::Process).unwrap();
        assert_eq!(
            store.get(Table::Meta, b"a").unwrap().as_deref(),
            Some(&b"2"[..])
        );
        assert_eq!(store.get(Table::Meta, b"b").unwrap(), None);
        assert_eq!(
            store.get(Table::Meta, b"c").unwrap().as_deref(),
            Some(&b""[..])
        );
    });
}

#[test]
fn ranges_are_half_open_and_sorted() {
    on_both(|store| {
        let batch = put(&[
            (Table::Blocks, "b", ""),
            (Table::Blocks, "a", ""),
            (Table::Blocks, "ab", ""),
            (Table::Blocks, "c", ""),
        ]);
        store.commit(batch, Durability::Process).unwrap();
        assert_eq!(keys(store, "a", None), ["a", "ab", "b", "c"]);
        assert_eq!(keys(store, "ab", Some("c")), ["ab", "b"]);
        assert!(keys(store, "b", Some("b")).is_empty());
        assert!(keys(store, "c", Some("a")).is_empty());
    });
}

#[test]
fn impossible_keys_are_refused_and_nothing_is_stored() {
    on_both(|store| {
        for key in [vec![], vec![1; MAX_KEY_LENGTH + 1]] {
            let length = key.len();
            let mut batch = put(&[(Table::Meta, "a", "1")]);
            batch.put(Table::Meta, key, "");
            match store.commit(batch, Durability::Process) {
                Err(StoreError::KeyLength { length: found, .. }) => assert_eq!(found, length),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(store.get(Table::Meta, b"a").unwrap(), None);
        let mut longest = Batch::default();
        longest.put(Table::Meta, vec![1; MAX_KEY_LENGTH], "");
        store.commit(longest, Durability::Process).unwrap();
    });
}

#[test]
fn an_empty_batch_changes_nothing() {
    on_both(|store| {
        assert!(Batch::default().is_empty());
        store.commit(Batch::default(), Durability::Disk).unwrap();
    });
}

#[test]
fn clearing_leaves_nothing() {
    on_both(|store| {
        let batch = put(&[(Table::Meta, "a", "1"), (Table::Blocks, "b", "1")]);
        store.commit(batch, Durability::Process).unwrap();
        store.clear().unwrap();
        assert_eq!(store.get(Table::Meta, b"a").unwrap(), None);
        assert!(keys(store, "", None).is_empty());
        let batch = put(&[(Table::Blocks, "c", "1")]);
        store.commit(batch, Durability::Process).unwrap();
        assert_eq!(keys(store, "", None), ["c"]);
    });
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    for (round, durability) in [Durability::Process, Durability::Disk]
        .into_iter()
        .enumerate()
    {
        let store = FjallStore::open(folder.path()).unwrap();
        assert_eq!(keys(&store, "", None).len(), round);
        let key = format!("key {round}");
        store
            .commit(put(&[(Table::Blocks, &key, "")]), durability)
            .unwrap();
    }
    let store = FjallStore::open(folder.path()).unwrap();
    store.clear().unwrap();
    drop(store);
    let store = FjallStore::open(folder.path()).unwrap();
    assert!(keys(&store, "", None).is_empty());
}

#[test]
fn damaged_files_are_told_from_a_failing_disk() {
    let folder = tempfile::tempdir().unwrap();
    drop(FjallStore::open(folder.path()).unwrap());
    std::fs::write(folder.path().join("version"), b"something else").unwrap();
    assert!(matches!(
        FjallStore::open(folder.path()),
        Err(StoreError::Damaged(_))
    ));
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(
        FjallStore::open(&file.path().join("below a file")),
        Err(StoreError::Database(_))
    ));
}

#[test]
fn a_store_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let _store = FjallStore::open(folder.path()).unwrap();
    assert!(matches!(
        FjallStore::open(folder.path()),
        Err(StoreError::Database(_))
    ));
}

#[test]
fn a_snapshot_shows_all_tables_as_of_one_moment() {
    on_both(|store| {
        let before = [(Table::Blocks, "a", "1"), (Table::Hashes, "a", "1")];
        store.commit(put(&before), Durability::Process).unwrap();
        let snapshot = store.snapshot();
        let mut batch = put(&[(Table::Blocks, "b", "2"), (Table::Hashes, "a", "2")]);
        batch.delete(Table::Blocks, "a");
        store.commit(batch, Durability::Process).unwrap();

        assert_eq!(keys(&*snapshot, "", None), ["a"]);
        assert_eq!(keys(&*snapshot, "a", Some("b")), ["a"]);
        assert_eq!(keys(&*snapshot, "b", Some("a")), [""; 0]);
        let value = snapshot.get(Table::Hashes, b"a").unwrap();
        assert_eq!(value.as_deref(), Some(&b"1"[..]));
        assert_eq!(keys(&*snapshot.snapshot(), "", None), ["a"]);
        assert_eq!(keys(store, "", None), ["b"]);
        assert_eq!(keys(&*store.snapshot(), "", None), ["b"]);

        let refused = snapshot.commit(put(&before), Durability::Process);
        assert!(matches!(refused, Err(StoreError::ReadOnly)));
        assert!(matches!(snapshot.clear(), Err(StoreError::ReadOnly)));
        assert_eq!(keys(&*snapshot, "", None), ["a"]);
    });
}

proptest! {
    /// Over a store with some changes an overlay with others is what a store with all of them is.
    #[test]
    fn an_overlay_shows_its_changes_and_those_beneath(
        beneath in vec((0..20_u8, any::<Option<u8>>()), 0..20),
        above in vec((0..20_u8, any::<Option<u8>>()), 0..20),
        from in 0..20_u8,
        to in prop::option::of(0..20_u8),
    ) {
        let (base, all) = (Arc::new(MemoryStore::new()), MemoryStore::new());
        let commit = |store: &dyn Store, changes: &[(u8, Option<u8>)]| {
            let mut batch = Batch::default();
            for (key, value) in changes {
                match value {
                    Some(value) => batch.put(Table::State, [*key], [*value]),
                    None => batch.delete(Table::State, [*key]),
                }
            }
            store.commit(batch, Durability::Process).unwrap();
        };
        commit(&*base, &beneath);
        let before: Vec<_> = base.range(Table::State, &[], None).map(Result::unwrap).collect();
        let overlay = Overlay::new(base.clone());
        commit(&overlay, &above);
        commit(&all, &beneath);
        commit(&all, &above);
        let to = to.map(|to| [to]);
        let range = |store: &dyn Store| -> Vec<_> {
            let to = to.as_ref().map(|to| &to[..]);
            store.range(Table::State, &[from], to).map(Result::unwrap).collect()
        };
        prop_assert_eq!(range(&overlay), range(&all));
        prop_assert_eq!(range(&*overlay.snapshot()), range(&all));
        for key in 0..20 {
            let found = overlay.get(Table::State, &[key]).unwrap();
            prop_assert_eq!(found, all.get(Table::State, &[key]).unwrap());
        }
        let after: Vec<_> = base.range(Table::State, &[], None).map(Result::unwrap).collect();
        prop_assert_eq!(before, after);
    }
}
