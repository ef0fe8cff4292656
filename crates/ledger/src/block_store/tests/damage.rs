//! Files and indexes that are not as they were written.

use super::*;

/// File, offset and block that a corruption names.
fn named(error: &LedgerError) -> (PathBuf, u64, u64) {
    match error {
        LedgerError::Corrupt {
            path,
            offset,
            block,
            ..
        } => (path.clone(), *offset, *block),
        other => panic!("{other}"),
    }
}

/// Where blocks that are all in one file begin, and where the last one ends.
fn offsets(blocks: &[Block]) -> Vec<usize> {
    let mut offsets = vec![0];
    let mut end = 0;
    for block in blocks {
        let (header, data) = (block.header.as_ref(), block.data.as_ref());
        let record = Record::new(header.unwrap(), data.unwrap(), block.metadata.as_ref());
        end += record.length() as usize;
        offsets.push(end);
    }
    offsets
}

fn cut(file: &Path, length: u64) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(length).unwrap();
}

#[test]
fn a_last_block_cut_anywhere_is_taken_off() {
    let blocks = chain(4);
    let offsets = offsets(&blocks);
    for keeps_index in [true, false] {
        for end in offsets[3]..offsets[4] {
            let mut place = Place::new();
            drop(place.filled(&blocks));
            if !keeps_index {
                place.lose_index();
            }
            cut(&place.file(0), end as u64);
            let store = place.open().unwrap();
            assert_holds(&store, &blocks[..3]);
            assert_eq!(store.transaction_status("tx-6").unwrap(), None);
            let length = fs::metadata(place.file(0)).unwrap().len();
            assert_eq!(length, offsets[3] as u64);
            store.append(&blocks[3]).unwrap();
            assert_holds(&store, &blocks);
        }
    }
}

#[test]
fn any_changed_byte_of_header_or_data_is_found_and_named() {
    let blocks = chain(4);
    let offsets = offsets(&blocks);
    // Number of slots, and for each slot its length and itself: not covered by any hash.
    let slots = &blocks[0].metadata.as_ref().unwrap().metadata;
    let metadata = 1 + slots.iter().map(|slot| 1 + slot.len()).sum::<usize>();
    let mut place = Place::new();
    place.options.recent_blocks_bytes = 0;
    let store = place.filled(&blocks);
    let sound = fs::read(place.file(0)).unwrap();
    let mut found_by_scanning = 0;
    for block in [1, 3] {
        for at in offsets[block]..offsets[block + 1] - metadata {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(place.file(0), &bytes).unwrap();
            let (offset, number) = (offsets[block] as u64, block as u64);
            let read = store.block_bytes(number).unwrap_err();
            assert_eq!(named(&read), (place.file(0), offset, number));
            assert_eq!(store.block(2).unwrap().as_ref(), Some(&blocks[2]));

            let scanned = Place::new();
            fs::write(scanned.file(0), &bytes).unwrap();
            match scanned.open() {
                Err(error) => {
                    assert_eq!(named(&error), (scanned.file(0), offset, number));
                    assert_eq!(fs::read(scanned.file(0)).unwrap(), bytes);
                    let again = scanned.open().unwrap_err();
                    assert_eq!(again.to_string(), error.to_string());
                    found_by_scanning += 1;
                }
                // A length that reaches beyond the end of the file is that of an incomplete block.
                Ok(store) => {
                    assert!(at < offsets[block] + 2, "byte {at}");
                    assert_eq!(store.height(), number);
                }
            }
        }
    }
    assert!(found_by_scanning > 300);
}

#[test]
fn a_corrupt_last_block_is_not_cut_off() {
    let blocks = chain(3);
    let offsets = offsets(&blocks);
    let place = Place::new();
    drop(place.filled(&blocks));
    let sound = fs::read(place.file(0)).unwrap();
    let mut bytes = sound.clone();
    bytes[offsets[2] + 50] ^= 0x40;
    fs::write(place.file(0), &bytes).unwrap();
    for _ in 0..2 {
        let error = place.open().unwrap_err();
        assert_eq!(named(&error), (place.file(0), offsets[2] as u64, 2));
        let text = format!(
            "block 2 at offset {} of {}",
            offsets[2],
            place.file(0).display()
        );
        assert!(error.to_string().starts_with(&text), "{error}");
        assert_eq!(fs::read(place.file(0)).unwrap(), bytes);
    }
    fs::write(place.file(0), &sound).unwrap();
    assert_holds(&place.open().unwrap(), &blocks);
}

#[test]
fn an_incomplete_block_before_other_files_is_corrupt() {
    let mut place = Place::with_small_files();
    drop(place.filled(&chain(6)));
    let length = fs::metadata(place.file(1)).unwrap().len();
    cut(&place.file(1), length - 1);
    place.lose_index();
    assert_eq!(named(&place.open().unwrap_err()).0, place.file(1));
}

#[test]
fn a_missing_file_is_named() {
    let place = Place::with_small_files();
    drop(place.filled(&chain(6)));
    fs::remove_file(place.file(1)).unwrap();
    match place.open() {
        Err(LedgerError::MissingFile { path }) => assert_eq!(path, place.file(1)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_of_other_names_are_passed_over() {
    let blocks = chain(2);
    let place = Place::new();
    for name in [
        "blockfile_000007.bak",
        "blockfile_x",
        "blockfile_9",
        "__backupGenesisBlockBytes",
    ] {
        fs::write(place.files().join(name), b"something").unwrap();
    }
    assert_holds(&place.filled(&blocks), &blocks);
}

#[test]
fn an_index_behind_the_files_is_brought_level() {
    let blocks = chain(5);
    let place = Place::new();
    drop(place.filled(&blocks[..2]));
    let ahead = Place::new();
    drop(ahead.filled(&blocks));
    fs::copy(ahead.file(0), place.file(0)).unwrap();
    assert_holds(&place.open().unwrap(), &blocks);
}

#[test]
fn an_index_ahead_of_the_files_is_built_anew() {
    let blocks = chain(5);
    let place = Place::new();
    drop(place.filled(&blocks));
    cut(&place.file(0), offsets(&blocks)[2] as u64);
    let store = place.open().unwrap();
    assert_holds(&store, &blocks[..2]);
    for lost in ["tx-4", "tx-9"] {
        assert_eq!(store.transaction_status(lost).unwrap(), None);
    }
    let tip = header_hash(blocks[4].header.as_ref().unwrap());
    assert_eq!(store.number_by_hash(&tip).unwrap(), None);
}

#[test]
fn an_index_without_files_is_emptied() {
    let place = Place::new();
    drop(place.filled(&chain(3)));
    fs::remove_file(place.file(0)).unwrap();
    let store = place.open().unwrap();
    assert_holds(&store, &[]);
    assert_eq!(store.transaction_status("tx-0").unwrap(), None);
}

#[test]
fn an_index_of_another_chain_is_built_anew() {
    let place = Place::new();
    drop(place.filled(&chain(3)));
    let first = next_block(None, vec![envelope("other", b"1")], &[0]);
    let second = next_block(Some(&first), vec![envelope("another", b"2")], &[0]);
    let others = [first, second];
    let files = Place::new();
    drop(files.filled(&others));
    fs::copy(files.file(0), place.file(0)).unwrap();
    let store = place.open().unwrap();
    assert_holds(&store, &others);
    assert_eq!(store.transaction_status("tx-0").unwrap(), None);
}

#[test]
fn damaged_entries_of_the_index_are_errors_until_reopened() {
    let blocks = chain(3);
    let mut place = Place::new();
    place.options.recent_blocks_bytes = 0;
    let store = place.filled(&blocks);
    store.wait_for_index().unwrap();
    let damage = |table, key: &[u8], value: &[u8]| {
        let mut batch = Batch::default();
        batch.put(table, key, value);
        place.index.commit(batch, Durability::Process).unwrap();
    };
    damage(Table::Blocks, &0_u64.to_be_bytes(), b"\xff");
    let error = store.block(0).unwrap_err();
    assert!(
        error.to_string().contains("table blocks does not parse"),
        "{error}"
    );
    // Block 2 under the number of block 1.
    let entry = place.index.get(Table::Blocks, &2_u64.to_be_bytes());
    damage(
        Table::Blocks,
        &1_u64.to_be_bytes(),
        &entry.unwrap().unwrap(),
    );
    assert_eq!(named(&store.block(1).unwrap_err()).2, 1);
    let error = store.transaction("tx-2").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("table transactions does not parse"),
        "{error}"
    );
    drop(store);
    assert_holds(&place.open().unwrap(), &blocks);
    damage(Table::Blocks, &2_u64.to_be_bytes(), b"\xff");
    assert_holds(&place.open().unwrap(), &blocks);
    damage(Table::Meta, b"savepoint", b"\xff");
    assert_holds(&place.open().unwrap(), &blocks);
}

#[test]
fn a_damaged_folder_of_the_index_is_built_anew() {
    let blocks = chain(3);
    let folder = tempfile::tempdir().unwrap();
    let (files, index) = (folder.path().join("files"), folder.path().join("index"));
    let open = || BlockStore::open(CHANNEL, &files, &index, &Options::default()).unwrap();
    open().append_batch(&blocks).unwrap();

    fs::write(index.join("version"), b"nonsense").unwrap();
    assert_holds(&open(), &blocks);
    fs::remove_dir_all(index.join("keyspaces")).unwrap();
    assert_holds(&open(), &blocks);
    // As a crash leaves it while the index is made.
    fs::remove_file(index.join("version")).unwrap();
    assert_holds(&open(), &blocks);
    fs::remove_dir_all(&index).unwrap();
    assert_holds(&open(), &blocks);
}

#[test]
fn progress_is_told_while_an_index_is_built() {
    let blocks = chain(3000);
    let mut place = Place::new();
    drop(place.filled(&blocks));
    place.lose_index();
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    place.options.rebuild_observer = Some(Arc::new(move |progress: &RebuildProgress<'_>| {
        assert_eq!(progress.channel, CHANNEL);
        log.lock()
            .push((progress.height, progress.bytes, progress.total_bytes));
    }));
    drop(place.open().unwrap());
    let seen = std::mem::take(&mut *told.lock());
    let length = fs::metadata(place.file(0)).unwrap().len();
    assert_eq!(seen.last(), Some(&(3000, length, length)));
    assert!(seen.len() > 2 && seen.is_sorted(), "{seen:?}");
    drop(place.open().unwrap());
    assert!(told.lock().is_empty(), "nothing to build");
}
