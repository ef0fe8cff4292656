use super::*;
use crate::testing::CrashingStore;

fn on_both(test: impl Fn(&StateDatabase)) {
    test(&StateDatabase::in_memory().unwrap());
    let folder = tempfile::tempdir().unwrap();
    test(&StateDatabase::open(folder.path()).unwrap());
}

fn value(text: &str, block: u64) -> VersionedValue {
    VersionedValue {
        value: Bytes::copy_from_slice(text.as_bytes()),
        metadata: Bytes::new(),
        version: Version {
            block_num: block,
            tx_num: 3,
        },
    }
}

const CC: Namespace<'static> = Namespace::public("cc");
const HASHES: Namespace<'static> = Namespace::hashed("cc", "c");

fn commit(state: &StateDatabase, updates: &StateUpdates) {
    state.commit(updates, Durability::Process).unwrap();
}

fn keys(state: &StateDatabase, from: &str, to: Option<&str>) -> Vec<String> {
    state
        .range(CC, from.as_bytes(), to.map(str::as_bytes))
        .map(|entry| String::from_utf8(entry.unwrap().0.to_vec()).unwrap())
        .collect()
}

#[test]
fn a_block_sets_and_deletes_keys_and_moves_the_savepoint() {
    on_both(|state| {
        assert_eq!(state.savepoint().unwrap(), None);
        let mut updates = StateUpdates::new(0);
        let with_metadata = VersionedValue {
            metadata: Bytes::from_static(b"m"),
            ..value("v", 0)
        };
        updates.put(CC, b"a", with_metadata.clone());
        updates.put(CC, b"b", value("w", 0));
        assert!(!state.may_have_metadata("cc"));
        commit(state, &updates);
        assert_eq!(state.savepoint().unwrap(), Some(0));
        assert_eq!(state.get(CC, b"a").unwrap(), Some(with_metadata));
        assert!(state.may_have_metadata("cc"));
        assert!(!state.may_have_metadata("other"));

        let mut updates = StateUpdates::new(1);
        updates.delete(CC, b"a");
        updates.delete(CC, b"never");
        updates.delete(CC, b"b");
        updates.put(CC, b"b", value("x", 1));
        commit(state, &updates);
        assert_eq!(state.get(CC, b"a").unwrap(), None);
        assert_eq!(state.get(CC, b"b").unwrap(), Some(value("x", 1)));
    });
}

#[test]
fn blocks_come_in_order() {
    on_both(|state| {
        let refused = |block| {
            let result = state.commit(&StateUpdates::new(block), Durability::Process);
            matches!(result, Err(StateError::UnexpectedBlock { .. }))
        };
        assert!(refused(1));
        commit(state, &StateUpdates::new(0));
        assert!(refused(0));
        assert!(refused(2));
        commit(state, &StateUpdates::new(1));
    });
}

#[test]
fn ranges_keep_to_their_namespace() {
    on_both(|state| {
        let mut updates = StateUpdates::new(0);
        for key in ["", "a", "ab", "b", "\u{0}composite", "\u{10ffff}"] {
            updates.put(CC, key.as_bytes(), value("v", 0));
        }
        updates.put(Namespace::public("c"), b"a", value("v", 0));
        updates.put(Namespace::public("cc1"), b"a", value("v", 0));
        updates.put(HASHES, b"a", value("v", 0));
        commit(state, &updates);
        let all = ["", "\u{0}composite", "a", "ab", "b", "\u{10ffff}"];
        assert_eq!(keys(state, "", None), all);
        assert_eq!(keys(state, "a", Some("b")), ["a", "ab"]);
        assert!(keys(state, "b", Some("a")).is_empty());
        assert!(keys(state, "a", Some("a")).is_empty());
        let namespaces: BTreeSet<_> = state
            .entries()
            .map(|entry| String::from_utf8(entry.unwrap().namespace.to_vec()).unwrap())
            .collect();
        assert!(namespaces.iter().eq(["c", "cc", "cc$$hc", "cc1"]));
    });
}

#[test]
fn private_keys_expire_unless_they_are_written_again() {
    on_both(|state| {
        let mut updates = StateUpdates::new(0);
        for key in [b"kept", b"gone", b"late", b"just"] {
            updates.put_expiring(HASHES, key, value("v", 0), Some(2));
        }
        updates.put(HASHES, b"stays", value("v", 0));
        commit(state, &updates);
        let mut updates = StateUpdates::new(1);
        updates.put_expiring(HASHES, b"kept", value("w", 1), Some(3));
        commit(state, &updates);
        assert!(state.get(HASHES, b"gone").unwrap().is_some());
        let mut updates = StateUpdates::new(2);
        updates.put(HASHES, b"just", value("w", 2));
        commit(state, &updates);
        let is_there = |key: &[u8]| state.get(HASHES, key).unwrap().is_some();
        assert!(is_there(b"kept") && is_there(b"just") && is_there(b"stays"));
        assert!(!is_there(b"gone") && !is_there(b"late"));
        commit(state, &StateUpdates::new(3));
        assert!(!is_there(b"kept") && is_there(b"just") && is_there(b"stays"));
        assert!(state.store.range(Table::Expiry, &[], None).next().is_none());
    });
}

#[test]
fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDatabase::open(folder.path()).unwrap();
    let mut updates = StateUpdates::new(0);
    let with_metadata = VersionedValue {
        metadata: Bytes::from_static(b"m"),
        ..value("v", 0)
    };
    updates.put(CC, b"a", with_metadata.clone());
    state.commit(&updates, Durability::Disk).unwrap();
    drop(state);
    let state = StateDatabase::open(folder.path()).unwrap();
    assert_eq!(state.savepoint().unwrap(), Some(0));
    assert_eq!(state.get(CC, b"a").unwrap(), Some(with_metadata));
    assert!(state.may_have_metadata("cc"));
}

#[test]
fn another_format_is_refused_and_damage_is_told() {
    let store = Arc::new(MemoryStore::new());
    let mut batch = Batch::default();
    batch.put(Table::Meta, FORMAT_KEY, "other");
    store.commit(batch, Durability::Process).unwrap();
    assert!(matches!(
        StateDatabase::on(store),
        Err(StateError::Format { .. })
    ));
    let store = Arc::new(MemoryStore::new());
    let state = StateDatabase::on(store.clone()).unwrap();
    for damage in [vec![], vec![0; 23], vec![0xff; 30]] {
        let mut batch = Batch::default();
        batch.put(Table::State, entry::state_key(CC, b"a"), damage);
        store.commit(batch, Durability::Process).unwrap();
        assert!(matches!(state.get(CC, b"a"), Err(StateError::Damaged(_))));
    }
}

#[test]
fn keys_may_be_of_any_length() {
    on_both(|state| {
        let long = |end: &str| format!("{}{end}", "k".repeat(70_000));
        let mut updates = StateUpdates::new(0);
        for (end, text) in [("b", "1"), ("a", "2"), ("", "3")] {
            updates.put(CC, long(end).as_bytes(), value(text, 0));
        }
        updates.put(CC, b"k", value("4", 0));
        updates.put_expiring(HASHES, long("").as_bytes(), value("v", 0), Some(1));
        commit(state, &updates);
        assert_eq!(
            state.get(CC, long("a").as_bytes()).unwrap(),
            Some(value("2", 0))
        );
        assert_eq!(state.get(CC, long("c").as_bytes()).unwrap(), None);
        let found = keys(state, "", None);
        assert!(found.iter().eq(["k", &long(""), &long("a"), &long("b")]));
        assert!(
            keys(state, &long("a"), Some(&long("b")))
                .iter()
                .eq([&long("a")])
        );
        let entries = state.entries().map(|entry| entry.unwrap().key.len());
        assert!(entries.eq([1, 70_000, 70_001, 70_001, 70_000]));

        let mut updates = StateUpdates::new(1);
        updates.delete(CC, long("a").as_bytes());
        commit(state, &updates);
        assert!(
            keys(state, "", None)
                .iter()
                .eq(["k", &long(""), &long("b")])
        );
        assert_eq!(state.get(HASHES, long("").as_bytes()).unwrap(), None);
    });
}

#[test]
fn after_a_failed_write_nothing_is_taken_until_reopened() {
    for takes_effect in [false, true] {
        let store = Arc::new(CrashingStore::new());
        let open = || StateDatabase::on(Arc::clone(&store) as _).unwrap();
        let state = open();
        commit(&state, &StateUpdates::new(0));
        store.fail_after(0, takes_effect);
        let mut updates = StateUpdates::new(1);
        updates.put(CC, b"a", value("v", 1));
        let failed = state.commit(&updates, Durability::Process);
        assert!(matches!(failed, Err(StateError::Store(_))));
        store.fail_after(usize::MAX, false);
        match state.commit(&updates, Durability::Process) {
            Err(StateError::Poisoned(cause)) => assert!(cause.contains("no space left")),
            other => panic!("{other:?}"),
        }
        assert!(state.get(CC, b"b").unwrap().is_none());
        let state = open();
        if !takes_effect {
            commit(&state, &updates);
        }
        assert_eq!(state.savepoint().unwrap(), Some(1));
        assert_eq!(state.get(CC, b"a").unwrap(), Some(value("v", 1)));
    }
}

#[test]
fn damage_is_remembered_if_the_state_can_be_made_anew() {
    let damaged = |expendable: bool| {
        let store = Arc::new(MemoryStore::new());
        let state = StateDatabase::on(store.clone()).unwrap();
        if expendable {
            state.set_expendable();
        }
        let mut batch = Batch::default();
        batch.put(Table::State, entry::state_key(CC, b"a"), "short");
        store.commit(batch, Durability::Process).unwrap();
        (store, state)
    };
    let is_refused = |store| match StateDatabase::on(store) {
        Err(StateError::Format { found, .. }) => found == "damaged",
        _ => false,
    };
    let find: [fn(&StateDatabase) -> bool; 2] = [
        |state| state.get(CC, b"a").is_err(),
        |state| state.range(CC, b"", None).any(|entry| entry.is_err()),
    ];
    for find in find {
        let (store, state) = damaged(true);
        assert!(state.get(CC, b"b").unwrap().is_none());
        assert!(!is_refused(store.clone()), "nobody has seen the damage");
        assert!(find(&state));
        assert!(is_refused(store));
        let (store, state) = damaged(false);
        assert!(find(&state));
        assert!(!is_refused(store));
    }
}
