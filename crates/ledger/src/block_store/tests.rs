use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::store::{Batch, Durability, Entries, MemoryStore, StoreError, Table};
use crate::test_support::{CHANNEL, chain, copy_folder, envelope, next_block, recorded, scratch};
use crate::testing::{CrashingStore, FailingDisk, contents, open_block_store};

mod crash;
mod damage;
mod indexing;
mod snapshot;

/// Where one chain is kept for a test, on disk but for the index.
struct Place {
    folder: tempfile::TempDir,
    index: Arc<MemoryStore>,
    options: Options,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: scratch(),
            index: Arc::new(MemoryStore::new()),
            options: Options::default(),
        }
    }

    /// With block files that have room for about two blocks of [`chain`].
    fn with_small_files() -> Self {
        let mut place = Self::new();
        place.options.max_file_bytes = 500;
        place
    }

    fn files(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, number: u32) -> PathBuf {
        self.files().join(format!("blockfile_{number:06}"))
    }

    /// On a disk that does not really sync, which takes most of the time otherwise.
    fn open(&self) -> Result<BlockStore, LedgerError> {
        self.open_on(Arc::new(FailingDisk::endless()))
    }

    fn open_on(&self, disk: Arc<dyn Disk>) -> Result<BlockStore, LedgerError> {
        let index: Arc<dyn Store> = Arc::clone(&self.index) as _;
        BlockStore::open_on(CHANNEL, disk, self.files(), index, &self.options)
    }

    fn lose_index(&mut self) {
        self.index = Arc::new(MemoryStore::new());
    }

    /// Opens the chain and stores `blocks`.
    fn filled(&self, blocks: &[Block]) -> BlockStore {
        let store = self.open().unwrap();
        store.append_batch(blocks).unwrap();
        store
    }
}

/// Checks that a store holds exactly these blocks, by every way to ask for them.
fn assert_holds(store: &BlockStore, blocks: &[Block]) {
    assert_eq!(store.height(), blocks.len() as u64);
    let headers: Vec<_> = blocks
        .iter()
        .map(|block| block.header.clone().unwrap())
        .collect();
    let info = store.info();
    assert_eq!(info.height, blocks.len() as u64);
    let tip_hash = headers.last().map(|header| header_hash(header).to_vec());
    assert_eq!(info.current_block_hash, tip_hash.unwrap_or_default());
    let previous = headers.last().map(|header| header.previous_hash.clone());
    assert_eq!(info.previous_block_hash, previous.unwrap_or_default());

    for (number, (block, header)) in (0..).zip(blocks.iter().zip(&headers)) {
        let bytes = Some(Bytes::from(block.encode_to_vec()));
        assert_eq!(store.block_bytes(number).unwrap(), bytes, "block {number}");
        assert_eq!(store.block(number).unwrap().as_ref(), Some(block));
        assert_eq!(store.header(number).unwrap().as_ref(), Some(header));
        let hash = header_hash(header);
        assert_eq!(store.number_by_hash(&hash).unwrap(), Some(number));
        assert_eq!(store.block_by_hash(&hash).unwrap(), bytes);
        let envelopes = &block.data.as_ref().unwrap().data;
        for (index, envelope) in (0..).zip(envelopes) {
            assert_eq!(
                store.envelope(number, index).unwrap().as_ref(),
                Some(envelope)
            );
        }
        assert_eq!(
            store.envelope(number, envelopes.len() as u64).unwrap(),
            None
        );
    }
    let end = blocks.len() as u64;
    assert_eq!(store.block_bytes(end).unwrap(), None);
    assert_eq!(store.header(u64::MAX).unwrap(), None);
    assert_eq!(store.envelope(end, 0).unwrap(), None);
    let numbers: Vec<_> = store.blocks_from(0).map(|block| block.unwrap().0).collect();
    assert_eq!(numbers, (0..end).collect::<Vec<_>>());
}

#[test]
fn a_new_chain_is_empty() {
    let place = Place::new();
    let store = place.open().unwrap();
    assert_holds(&store, &[]);
    assert_eq!(store.info(), BlockchainInfo::default());
    assert_eq!(store.number_by_hash(&[0; 32]).unwrap(), None);
    assert_eq!(store.number_by_hash(b"short").unwrap(), None);
    assert_eq!(store.transaction("tx-0").unwrap(), None);
    store.append_batch(&[]).unwrap();
    assert_holds(&store, &[]);
}

#[test]
fn blocks_can_be_read_at_once_and_after_reopening() {
    let place = Place::new();
    let blocks = chain(5);
    let store = place.open().unwrap();
    for (height, block) in (1..).zip(&blocks) {
        store.append(block).unwrap();
        assert_eq!(store.height(), height);
    }
    assert_holds(&store, &blocks);
    drop(store);
    assert_holds(&place.open().unwrap(), &blocks);
}

#[test]
fn the_same_on_disk() {
    let folder = scratch();
    let open = || {
        let (files, index) = (folder.path().join("files"), folder.path().join("index"));
        BlockStore::open(CHANNEL, &files, &index, &Options::default()).unwrap()
    };
    let blocks = chain(6);
    let store = open();
    store.append_batch(&blocks[..4]).unwrap();
    drop(store);
    let store = open();
    assert_holds(&store, &blocks[..4]);
    store.append_batch(&blocks[4..]).unwrap();
    assert_holds(&store, &blocks);
}

#[test]
fn transactions_are_found_by_id() {
    let place = Place::new();
    let store = place.filled(&chain(3));
    let found = store.transaction("tx-3").unwrap().unwrap();
    assert_eq!(found.envelope, envelope("tx-3", b"content of tx-3"));
    let status = TransactionStatus {
        block: 1,
        index: 1,
        code: 11,
    };
    assert_eq!(found.status, status);
    assert_eq!(store.transaction_status("tx-3").unwrap(), Some(status));
    assert_eq!(
        store.block_by_transaction_id("tx-3").unwrap(),
        store.block_bytes(1).unwrap()
    );
    assert_eq!(store.transaction("tx-6").unwrap(), None);
    assert_eq!(store.transaction_status("tx-6").unwrap(), None);
    assert_eq!(store.block_by_transaction_id("tx-6").unwrap(), None);
}

#[test]
fn envelopes_that_do_not_parse_are_found_under_the_empty_id() {
    let place = Place::new();
    let junk = Bytes::from_static(b"\xff\xff");
    let store = place.filled(&[next_block(None, vec![junk.clone()], &[2])]);
    assert_eq!(store.transaction("").unwrap().unwrap().envelope, junk);
}

#[test]
fn an_id_too_long_for_a_key_is_found() {
    let place = Place::new();
    let id = "i".repeat(100_000);
    let store = place.filled(&[next_block(None, vec![envelope(&id, b"")], &[])]);
    assert_eq!(store.transaction(&id).unwrap().unwrap().status.code, 254);
    assert_eq!(store.transaction(&id[1..]).unwrap(), None);
}

#[test]
fn a_block_without_metadata_reads_as_one_with_none() {
    let place = Place::new();
    let mut block = chain(1).swap_remove(0);
    block.metadata = None;
    let store = place.filled(std::slice::from_ref(&block));
    block.metadata = Some(selvedge_protos::common::BlockMetadata::default());
    assert_holds(&store, &[block]);
    assert_eq!(store.transaction_status("tx-0").unwrap().unwrap().code, 254);
}

#[test]
fn what_does_not_follow_is_refused_and_changes_nothing() {
    let place = Place::new();
    let blocks = chain(4);
    let store = place.filled(&blocks[..2]);
    let refusal = |block: &Block| store.append(block).unwrap_err().to_string();
    let changed = |change: &dyn Fn(&mut Block)| {
        let mut block = blocks[2].clone();
        change(&mut block);
        refusal(&block)
    };
    assert_eq!(
        refusal(&blocks[3]),
        "channel mychannel: expected block 2, found block 3"
    );
    assert_eq!(
        refusal(&blocks[1]),
        "channel mychannel: expected block 2, found block 1"
    );
    let tip = hex::encode(&store.info().current_block_hash);
    assert_eq!(
        changed(&|block| block.header.as_mut().unwrap().previous_hash = vec![0xab].into()),
        format!(
            "channel mychannel: block 2 names ab as the hash of the block before it, which is {tip}"
        )
    );
    assert_eq!(
        changed(&|block| block.header = None),
        "channel mychannel: a block without header cannot be stored"
    );
    assert_eq!(
        changed(&|block| block.data = None),
        "channel mychannel: a block without data cannot be stored"
    );
    let (good, bad) = (blocks[2].clone(), blocks[2].clone());
    let error = store.append_batch(&[good, bad]).unwrap_err();
    assert!(matches!(
        error,
        LedgerError::UnexpectedNumber {
            expected: 3,
            found: 2,
            ..
        }
    ));

    assert_eq!(store.poisoned(), None);
    assert_holds(&store, &blocks[..2]);
    store.append_batch(&blocks[2..]).unwrap();
    assert_holds(&store, &blocks);
}

#[test]
fn files_are_followed_by_the_next_when_full() {
    let place = Place::with_small_files();
    let blocks = chain(7);
    let store = place.open().unwrap();
    store.append_batch(&blocks[..3]).unwrap();
    for block in &blocks[3..] {
        store.append(block).unwrap();
    }
    assert_holds(&store, &blocks);
    let lengths: Vec<_> = (0..4)
        .map(|file| fs::metadata(place.file(file)).unwrap().len())
        .collect();
    assert!(
        lengths.iter().all(|length| (1..=500).contains(length)),
        "{lengths:?}"
    );
    assert!(!place.file(4).exists());
    drop(store);
    assert_holds(&place.open().unwrap(), &blocks);
}

#[test]
fn a_block_larger_than_a_file_has_one_of_its_own() {
    let mut place = Place::with_small_files();
    let first = next_block(None, vec![envelope("a", &[1; 2000])], &[0]);
    let second = next_block(Some(&first), vec![envelope("b", b"")], &[0]);
    let third = next_block(Some(&second), vec![envelope("c", &[3; 2000])], &[0]);
    let blocks = [first, second, third];
    let store = place.filled(&blocks);
    assert_holds(&store, &blocks);
    assert!(place.file(2).exists() && !place.file(3).exists());
    drop(store);
    place.lose_index();
    assert_holds(&place.open().unwrap(), &blocks);
}

#[test]
fn blocks_that_fit_into_no_cache_are_read_from_the_files() {
    let mut place = Place::new();
    place.options.recent_blocks_bytes = 0;
    let blocks = chain(4);
    assert_holds(&place.filled(&blocks), &blocks);
}

#[test]
fn the_height_can_be_followed() {
    let place = Place::new();
    let blocks = chain(3);
    let store = place.filled(&blocks[..1]);
    let mut height = store.subscribe();
    let mut following = store.blocks_from(1);
    assert_eq!(*height.borrow_and_update(), 1);
    assert!(following.next().is_none());
    store.append_batch(&blocks[1..]).unwrap();
    assert!(height.has_changed().unwrap());
    assert_eq!(*height.borrow_and_update(), 3);
    let numbers: Vec<_> = following.map(|block| block.unwrap().0).collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn readers_run_beside_appending() {
    let mut place = Place::with_small_files();
    place.options.recent_blocks_bytes = 300;
    let blocks = chain(200);
    let store = place.open().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (store, blocks, done) = (store.clone(), &blocks, &done);
            scope.spawn(move || {
                let mut reads = 0_u64;
                while !done.load(Ordering::Acquire) || reads < 50 {
                    let height = store.height();
                    if height == 0 {
                        std::thread::yield_now();
                        continue;
                    }
                    let number = (reads * 7 + reader) % height;
                    let block = store.block(number).unwrap().unwrap();
                    assert_eq!(block, blocks[number as usize]);
                    let newest = store.block_bytes(height - 1).unwrap().unwrap();
                    assert_eq!(newest, blocks[height as usize - 1].encode_to_vec());
                    assert!(store.info().height >= height);
                    let id = format!("tx-{}", 2 * number);
                    assert_eq!(
                        store.transaction_status(&id).unwrap().unwrap().block,
                        number
                    );
                    reads += 1;
                }
            });
        }
        for block in &blocks {
            store.append(block).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert_holds(&store, &blocks);
}

#[test]
fn recorded_chains_are_stored_and_found() {
    for folder in ["raft", "bft"] {
        let blocks = recorded(&format!("{folder}/orderer-blocks"));
        let mut place = Place::new();
        assert_recorded(&place.filled(&blocks), &blocks, folder, |_| {
            "NOT_VALIDATED".into()
        });
        place.lose_index();
        let reopened = place.open().unwrap();
        assert_recorded(&reopened, &blocks, folder, |_| "NOT_VALIDATED".into());
    }
    let code = |transaction: &serde_json::Value| transaction["code"].as_str().unwrap().to_owned();
    let committed = recorded("bft/peer-blocks");
    // The genesis block is joined, so its transaction has no verdict.
    assert_recorded(
        &Place::new().filled(&committed),
        &committed,
        "bft",
        |transaction| code(transaction),
    );
}

fn assert_recorded(
    store: &BlockStore,
    blocks: &[Block],
    folder: &str,
    expected_code: impl Fn(&serde_json::Value) -> String,
) {
    assert_holds(store, blocks);
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(folder)
        .join("expected.json");
    let expected: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let info = store.info();
    assert_eq!(expected["height"], info.height);
    assert_eq!(
        expected["currentBlockHash"],
        hex::encode(&info.current_block_hash)
    );
    assert_eq!(
        expected["previousBlockHash"],
        hex::encode(&info.previous_block_hash)
    );
    let mut seen = std::collections::HashSet::new();
    for block in expected["blocks"].as_array().unwrap() {
        for transaction in block["txs"].as_array().unwrap() {
            let id = transaction["txid"].as_str().unwrap();
            if id.is_empty() || !seen.insert(id) {
                continue;
            }
            let status = store.transaction_status(id).unwrap().unwrap();
            assert_eq!(block["number"], status.block, "{id}");
            assert_eq!(transaction["i"], status.index, "{id}");
            let code = selvedge_protos::protos::TxValidationCode::try_from(i32::from(status.code));
            assert_eq!(
                code.unwrap().as_str_name(),
                expected_code(transaction),
                "{id}"
            );
        }
    }
}

/// `testdata/go-peer` is the block file of a v3.1.5 peer, whose `peer channel getinfo` said this.
#[test]
fn block_files_of_a_go_peer_are_ours_byte_for_byte() {
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/go-peer/blockfile_000000");
    let place = Place::new();
    fs::copy(&written, place.file(0)).unwrap();
    let store = place.open().unwrap();
    let info = store.info();
    assert_eq!(info.height, 8);
    assert_eq!(
        hex::encode(&info.current_block_hash),
        "78479ae19bedcbba4beec70dc75ffc052f96379a2e025a051bb42da4df4e1e56"
    );
    assert_eq!(
        hex::encode(&info.previous_block_hash),
        "784cea64333e4bbeb30bcc6be584214511af584f989a9c8feffb3e4802a676d3"
    );
    let blocks: Vec<_> = (0..8)
        .map(|number| store.block(number).unwrap().unwrap())
        .collect();
    assert_holds(&store, &blocks);

    let ours = Place::new();
    ours.filled(&blocks);
    assert_eq!(fs::read(ours.file(0)).unwrap(), fs::read(written).unwrap());
}
