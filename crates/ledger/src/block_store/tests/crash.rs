//! The process ends, or the power fails, at each byte and each operation of an append.

use super::*;

/// Runs `action` on a disk that stops after a budget, for each budget until the action succeeds;
/// `check` sees what is left each time, and whether success was told.
fn at_every_step(
    place: impl Fn() -> Place,
    action: impl Fn(&BlockStore) -> Result<(), LedgerError>,
    after_crash: impl Fn(&FailingDisk),
    check: impl Fn(&Place, bool),
) {
    for budget in 0.. {
        let place = place();
        // Opening takes some of the budget too; a crash there is one to recover from as well.
        let disk = FailingDisk::new(budget);
        let told = match place.open_on(Arc::new(disk.clone())) {
            Ok(store) => action(&store).is_ok(),
            Err(_) => false,
        };
        let complete = disk.used() < budget;
        after_crash(&disk);
        check(&place, told);
        if complete {
            assert!(told && budget > 150, "{budget}");
            return;
        }
    }
}

/// After a crash the chain has between `old` and `new` blocks, `new` if that was told; it is whole
/// and goes on.
fn whole(blocks: &[Block], old: usize, new: usize) -> impl Fn(&Place, bool) {
    move |place, told| {
        let store = place.open().unwrap();
        let height = store.height() as usize;
        assert!((old..=new).contains(&height), "height {height}");
        assert!(!told || height == new);
        assert_holds(&store, &blocks[..height]);
        store.append_batch(&blocks[height..]).unwrap();
        assert_holds(&store, blocks);
        drop(store);
        assert_holds(&place.open().unwrap(), blocks);
    }
}

#[test]
fn the_process_ends_within_an_append() {
    let blocks = chain(5);
    at_every_step(
        || {
            let place = Place::new();
            place.filled(&blocks[..3]);
            place
        },
        |store| store.append(&blocks[3]),
        |_| {},
        whole(&blocks, 3, 4),
    );
}

#[test]
fn the_process_ends_within_a_batch_over_several_files() {
    let blocks = chain(7);
    at_every_step(
        || {
            let place = Place::with_small_files();
            place.filled(&blocks[..1]);
            place
        },
        |store| store.append_batch(&blocks[1..6]),
        |_| {},
        whole(&blocks, 1, 6),
    );
}

#[test]
fn the_power_fails_within_appends() {
    let blocks = chain(5);
    for zeros in [false, true] {
        at_every_step(
            || {
                let place = Place::with_small_files();
                place.filled(&blocks[..2]);
                place
            },
            |store| {
                store.append(&blocks[2])?;
                store.append(&blocks[3])
            },
            |disk| disk.cut_power(zeros),
            whole(&blocks, 2, 4),
        );
    }
}

#[test]
fn the_power_fails_and_the_index_is_lost() {
    let blocks = chain(5);
    at_every_step(
        || {
            let mut place = Place::with_small_files();
            place.filled(&blocks[..2]);
            place.lose_index();
            place
        },
        |store| store.append_batch(&blocks[2..4]),
        |disk| disk.cut_power(false),
        whole(&blocks, 2, 4),
    );
}

#[test]
fn a_last_block_with_sectors_that_never_reached_the_disk_is_taken_off() {
    let mut blocks = chain(2);
    blocks.push(next_block(
        blocks.last(),
        vec![envelope("x", &[7; 4000])],
        &[0],
    ));
    let place = Place::new();
    drop(place.filled(&blocks[..2]));
    let written = Place::new();
    drop(written.filled(&blocks));
    let mut bytes = fs::read(written.file(0)).unwrap();
    bytes[1024..1536].fill(0);
    fs::write(place.file(0), &bytes).unwrap();

    let store = place.open().unwrap();
    assert_holds(&store, &blocks[..2]);
    store.append(&blocks[2]).unwrap();
    assert_holds(&store, &blocks);
}

#[test]
fn the_index_fails_when_the_block_is_safe() {
    let blocks = chain(4);
    for takes_effect in [false, true] {
        let place = Place::new();
        let disk = FailingDisk::endless();
        let index = Arc::new(CrashingStore::new());
        let open = || {
            let index = Arc::clone(&index) as _;
            open_block_store(CHANNEL, &disk, place.files(), index, &place.options).unwrap()
        };
        let store = open();
        store.append_batch(&blocks[..2]).unwrap();
        store.wait_for_index().unwrap();
        index.fail_after(0, takes_effect);
        store.append(&blocks[2]).unwrap();
        let error = store.wait_for_index().unwrap_err();
        assert!(matches!(error, LedgerError::Poisoned { .. }));
        let cause = store.poisoned().unwrap();
        assert!(cause.contains("no space left"), "{cause}");
        let error = store.append(&blocks[3]).unwrap_err();
        assert!(matches!(error, LedgerError::Poisoned { .. }));
        assert_holds(&store, &blocks[..3]);
        drop(store);
        index.fail_after(usize::MAX, false);
        let store = open();
        assert_holds(&store, &blocks[..3]);
        store.append(&blocks[3]).unwrap();
        assert_holds(&store, &blocks);
    }
}

#[test]
fn the_power_fails_while_an_index_is_made_anew() {
    let (blocks, others) = (chain(3), chain(5));
    let stale = Arc::new(CrashingStore::new());
    let place = Place::new();
    let disk = FailingDisk::endless();
    let open = |place: &Place, index: Arc<CrashingStore>| {
        open_block_store(CHANNEL, &disk, place.files(), index, &place.options).unwrap()
    };
    drop(open(&Place::new(), Arc::clone(&stale)).append_batch(&others));
    drop(place.filled(&blocks));
    let old = *stale.after_power_cut().end();
    assert_holds(&open(&place, Arc::clone(&stale)), &blocks);
    for kept in old..=*stale.after_power_cut().end() {
        let index = Arc::new(stale.with_first(kept));
        assert_holds(&open(&place, Arc::clone(&index)), &blocks);
        assert_eq!(
            contents(&*index).unwrap(),
            contents(&*stale).unwrap(),
            "{kept}"
        );
    }
}

#[test]
fn the_journal_of_the_index_is_cut_at_every_byte() {
    let blocks = chain(4);
    let folder = tempfile::tempdir().unwrap();
    let (files, index) = (folder.path().join("files"), folder.path().join("index"));
    let open = || BlockStore::open(CHANNEL, &files, &index, &Options::default()).unwrap();
    open().append_batch(&blocks[..2]).unwrap();
    let journal = journal_of(&index);
    let before = written_length(&journal);
    open().append(&blocks[2]).unwrap();
    let after = written_length(&journal);
    assert!(after > before);

    let saved = tempfile::tempdir().unwrap();
    let content = fs::read(&journal).unwrap();
    fs::remove_file(&journal).unwrap();
    copy_folder(&index, saved.path());
    for cut in before..=after {
        fs::remove_dir_all(&index).unwrap();
        copy_folder(saved.path(), &index);
        fs::write(&journal, &content[..cut]).unwrap();
        assert_holds(&open(), &blocks[..3]);
    }
    let store = open();
    store.append(&blocks[3]).unwrap();
    assert_holds(&store, &blocks);
}

fn journal_of(index: &Path) -> PathBuf {
    let entries = fs::read_dir(index).unwrap();
    let mut journals = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let journal = journals.next().unwrap();
    assert!(journals.next().is_none());
    journal
}

/// Without the zeros that a journal is filled up with.
fn written_length(journal: &Path) -> usize {
    let content = fs::read(journal).unwrap();
    let last = content.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last + 1)
}

/// The bytes are in the file by then, and nobody knows whether they are on the disk.
#[test]
fn a_block_that_could_not_be_synced_is_not_told_of() {
    let blocks = chain(4);
    let place = Place::new();
    let write = 2;
    let used = {
        let place = Place::new();
        let disk = FailingDisk::by_operation(u64::MAX);
        let store = place.open_on(Arc::new(disk.clone())).unwrap();
        store.append_batch(&blocks[..2]).unwrap();
        disk.used()
    };
    let disk = FailingDisk::by_operation(used + write);
    let store = place.open_on(Arc::new(disk)).unwrap();
    store.append_batch(&blocks[..2]).unwrap();
    let length = std::fs::metadata(place.file(0)).unwrap().len();
    let error = store.append(&blocks[2]).unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    assert!(std::fs::metadata(place.file(0)).unwrap().len() > length);
    assert!(store.poisoned().is_some());
    let refused = store.append(&blocks[2]).unwrap_err();
    assert!(matches!(refused, LedgerError::Poisoned { .. }), "{refused}");
    assert_holds(&store, &blocks[..2]);
    assert_eq!(*store.subscribe().borrow(), 2);
    drop(store);
    // What the disk has after all counts once it was read again.
    let store = place.open().unwrap();
    let height = store.height() as usize;
    store.append_batch(&blocks[height..]).unwrap();
    assert_holds(&store, &blocks);
}

#[test]
fn after_a_failed_write_nothing_is_taken_until_reopened() {
    let blocks = chain(4);
    let place = Place::new();
    let disk = FailingDisk::endless();
    let store = place.open_on(Arc::new(disk.clone())).unwrap();
    store.append_batch(&blocks[..2]).unwrap();
    disk.fail();
    let error = store.append(&blocks[2]).unwrap_err();
    let expected = format!(
        "cannot append to {}: no space left",
        place.file(0).display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(store.poisoned(), Some(expected.as_str()));
    match store.append(&blocks[2]).unwrap_err() {
        LedgerError::Poisoned { cause, .. } => assert_eq!(cause, expected),
        other => panic!("{other}"),
    }
    assert_holds(&store, &blocks[..2]);
    assert_eq!(*store.subscribe().borrow(), 2);
    drop(store);
    let store = place.open().unwrap();
    store.append_batch(&blocks[2..]).unwrap();
    assert_holds(&store, &blocks);
}
