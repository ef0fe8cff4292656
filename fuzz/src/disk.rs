//! What a disk holds, and private data, which comes from others and is checked against what it holds.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_ledger::missing_data::KeyHashes;
use selvedge_ledger::private_data::{self, Expected};
use selvedge_ledger::state::{Namespace, StateDatabase, StateUpdates};
use selvedge_ledger::store::{Batch, Durability, MAX_KEY_LENGTH, MemoryStore, Store, Table};
use selvedge_ledger::testing::{
    FailingDisk, import_snapshot, open_block_store, read_snapshot_metadata,
};
use selvedge_protos::kvrwset::KvrwSet;
use selvedge_protos::{Message, sha256};
use tempfile::TempDir;

use crate::GENESIS;

/// A folder of one's own, in memory where that is possible: what is written there is synced.
fn folder() -> std::io::Result<TempDir> {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new())
}

/// A block file, as a disk or a Go peer may have left it: what opens as a chain can be read.
pub fn block_file(bytes: &[u8]) {
    let Ok(folder) = folder() else { return };
    let path = folder.path().join("blockfile_000000");
    if std::fs::write(path, bytes).is_err() {
        return;
    }
    let (disk, index) = (FailingDisk::endless(), Arc::new(MemoryStore::new()));
    let options = selvedge_ledger::Options::default();
    let opened = open_block_store("fuzz", &disk, folder.path(), index, &options);
    if let Ok(store) = opened {
        let _ = store.wait_for_index();
        assert_eq!(
            store.blocks_from(0).flatten().count() as u64,
            store.height()
        );
    }
}

/// Where a chain begins that a Go peer joined by a snapshot, as its folder says.
pub fn snapshot_info(bytes: &[u8]) {
    let Ok(folder) = folder() else { return };
    let path = folder.path().join("bootstrappingSnapshot.info");
    if std::fs::write(path, bytes).is_err() {
        return;
    }
    let (disk, index) = (FailingDisk::endless(), Arc::new(MemoryStore::new()));
    let options = selvedge_ledger::Options::default();
    if let Ok(store) = open_block_store("fuzz", &disk, folder.path(), index, &options) {
        assert_eq!(store.height(), store.first_block());
        assert_eq!(store.height(), store.info().height);
        assert_eq!(store.blocks_from(0).count(), 0);
    }
}

/// A row of the index of blocks that is not as it was written: the first byte chooses the table, the second
/// the length of the key.
pub fn index_rows(bytes: &[u8]) {
    const TABLES: [Table; 4] = [
        Table::Meta,
        Table::Blocks,
        Table::Hashes,
        Table::Transactions,
    ];
    let Some((&[table, length], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let (key, value) = rest.split_at(rest.len().min(usize::from(length)));
    if key.is_empty() {
        return;
    }
    let Ok(folder) = folder() else { return };
    let (disk, index) = (FailingDisk::endless(), Arc::new(MemoryStore::new()));
    let options = selvedge_ledger::Options::default();
    let open = || open_block_store("fuzz", &disk, folder.path(), index.clone(), &options);
    if let (Ok(store), Ok(genesis)) = (open(), selvedge_protos::common::Block::decode(GENESIS)) {
        let _ = store.append(&genesis);
        let _ = store.wait_for_index();
    }
    let mut batch = Batch::default();
    batch.put(TABLES[usize::from(table) % TABLES.len()], key, value);
    let _ = index.commit(batch, Durability::Process);
    let Ok(store) = open() else { return };
    let _ = store.wait_for_index();
    let _ = store.block(0);
    let _ = store.block_bytes(0);
    let _ = store.envelope(0, 0);
    let _ = store.number_by_hash(key);
    let id = String::from_utf8_lossy(key);
    let _ = store.has_transaction(&id);
    let _ = store.transaction_status(&id);
    let _ = store.transaction(&id);
    assert_eq!(store.height(), store.blocks_from(0).count() as u64);
}

/// Private data that another peer sends: whole, with keys that were purged, and with others than expected.
pub fn private_writes(bytes: &[u8]) {
    let rwset = Bytes::copy_from_slice(bytes);
    let mut writes = KeyHashes::new();
    if let Ok(decoded) = KvrwSet::decode(bytes) {
        let hash = |bytes: &[u8]| Bytes::copy_from_slice(&sha256(bytes));
        for write in decoded.writes.iter().skip(1) {
            writes.insert(hash(write.key.as_bytes()), hash(&write.value));
        }
    }
    writes.insert(Bytes::from_static(b"key"), Bytes::from_static(b"value"));
    let whole = Some(Bytes::copy_from_slice(&sha256(bytes)));
    for whole in [None, whole] {
        let writes = writes.clone();
        let expected = Expected { writes, whole };
        let _ = private_data::reconcile(&rwset, &expected, |_| Ok(false));
        let _ = private_data::reconcile(&rwset, &expected, |hash| Ok(hash == b"key"));
    }
}

/// A row of the state's database that is not as it was written: the first byte chooses the table, the
/// second the length of the key, which is as long as can be if that is 255.
pub fn state_rows(bytes: &[u8]) {
    let Some((&[table, length], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some(table) = StateDatabase::TABLES.get(usize::from(table) % StateDatabase::TABLES.len())
    else {
        return;
    };
    let (key, value) = rest.split_at(rest.len().min(usize::from(length)));
    let mut key = key.to_vec();
    match length {
        0 => return,
        u8::MAX => key.resize(MAX_KEY_LENGTH, 0),
        _ => key.push(0),
    }
    let store = Arc::new(MemoryStore::new());
    let _ = StateDatabase::on(store.clone());
    let mut batch = Batch::default();
    batch.put(*table, key.clone(), value);
    let _ = store.commit(batch, Durability::Process);
    let Ok(state) = StateDatabase::on(store) else {
        return;
    };
    let _ = state.savepoint();
    state.entries().for_each(drop);
    let namespace = Namespace::public("");
    state.range(namespace, &[], None).for_each(drop);
    let _ = state.get(namespace, key.get(1..).unwrap_or_default());
    state.history().places("", "").for_each(drop);
    for block in 0..2 {
        let _ = state.commit(&StateUpdates::new(block), Durability::Process);
    }
}

/// A snapshot: the bytes as each of its files, the others being as they should.
pub fn snapshot(bytes: &[u8]) {
    let Ok(folder) = folder() else { return };
    let file = [&[1], bytes].concat();
    // Counts that are beyond all that follows.
    let many: &[u8] = b"\x01\xff\xff\x03";
    let rows: [&[u8]; 2] = [
        b"\x01\x01\x02cc\xff\xff\x03",
        b"\x01\x01\x17cc$$h_implicit_org_Org1\xff\xff\x03",
    ];
    let kinds = [
        ("txids", many),
        ("confighistory", many),
        ("public_state", rows[0]),
        ("private_state_hashes", rows[1]),
    ];
    for (index, (name, metadata)) in kinds.into_iter().enumerate() {
        let (data_name, metadata_name) = (format!("{name}.data"), format!("{name}.metadata"));
        for (turn, pair) in [(&*file, metadata), (b"\x01", &*file)]
            .into_iter()
            .enumerate()
        {
            let folder = folder.path().join(format!("{index}{turn}"));
            if std::fs::create_dir(&folder).is_err() {
                return;
            }
            let files = [(&*data_name, pair.0), (&*metadata_name, pair.1)];
            // Any refusal will do.
            let _ = import_snapshot(&folder, &files);
        }
    }
    let _ = read_snapshot_metadata(folder.path(), bytes);
}
