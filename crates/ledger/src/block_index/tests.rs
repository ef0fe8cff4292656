use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::store::MemoryStore;
use crate::test_support::{chain, envelope, next_block};

fn entry(spans: Vec<EnvelopeSpan>) -> BlockEntry {
    BlockEntry {
        place: Place {
            file: 3,
            offset: 1 << 33,
            length: 700,
        },
        header_hash: [9; 32],
        spans,
    }
}

proptest! {
    #[test]
    fn entries_come_back(first in any::<u32>(), lengths in vec(any::<u32>(), 0..20)) {
        let mut offset = u64::from(first);
        let spans = lengths.iter().map(|length| {
            let span = EnvelopeSpan { offset, length: u64::from(*length) };
            offset += span.length;
            span
        });
        let entry = entry(spans.collect());
        prop_assert_eq!(decode_block(encode_block(&entry).into()).unwrap(), entry);
    }

    #[test]
    fn damaged_entries_are_errors(bytes in vec(any::<u8>(), 0..60)) {
        let _ = decode_block(bytes.clone().into());
        let _ = decode_transaction(&bytes);
    }

    #[test]
    fn ids_are_ordered_by_length_then_bytes(one in "[a-z]{0,300}", other in "[a-z]{0,300}") {
        let expected = (one.len(), &one).cmp(&(other.len(), &other));
        prop_assert_eq!(id_key(&one).cmp(&id_key(&other)), expected);
    }
}

#[test]
fn long_ids_have_bounded_keys_of_their_own() {
    let one = "x".repeat(1 << 20);
    let other = format!("{}y", "x".repeat((1 << 20) - 1));
    assert!(id_key(&one).len() < 1100);
    assert_ne!(id_key(&one), id_key(&other));
    assert_ne!(
        id_key(&"x".repeat(MAX_ID_IN_KEY)),
        id_key(&"x".repeat(MAX_ID_IN_KEY + 1))
    );
}

/// The entries of a block at the end of `chain`.
fn entries(chain: &[Block]) -> Arc<BlockEntries> {
    let number = chain.len() as u64 - 1;
    let block = chain.last().unwrap();
    Arc::new(BlockEntries::new(number, block, entry(vec![])))
}

#[test]
fn the_first_occurrence_of_an_id_stays() {
    let index = BlockIndex::open(Arc::new(MemoryStore::new())).unwrap();
    let envelopes = |ids: &[&str]| ids.iter().map(|id| envelope(id, b"")).collect();
    let mut chain = vec![next_block(None, envelopes(&["a", "b", "b"]), &[1, 2, 0])];
    let first = entries(&chain);
    chain.push(next_block(chain.last(), envelopes(&["b", "c", "d"]), &[9]));
    index.commit(&[first, entries(&chain)]).unwrap();
    chain.push(next_block(chain.last(), envelopes(&["a", "e"]), &[9, 0]));
    index.commit(&[entries(&chain)]).unwrap();

    let place = |id| {
        let found = index.transaction(&id_key(id)).unwrap();
        found.map(|entry| (entry.block, entry.index, entry.code))
    };
    assert_eq!(place("a"), Some((0, 0, 1)));
    assert_eq!(place("b"), Some((0, 1, 2)));
    assert_eq!(place("c"), Some((1, 1, 254)));
    assert_eq!(place("e"), Some((2, 1, 0)));
    assert_eq!(place("f"), None);
    assert_eq!(index.savepoint().unwrap(), Some(2));
}

#[test]
fn an_index_of_another_format_is_emptied() {
    let store = Arc::new(MemoryStore::new());
    let index = BlockIndex::open(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    index.commit(&[entries(&chain(1))]).unwrap();
    let index = BlockIndex::open(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    assert_eq!(index.savepoint().unwrap(), Some(0));

    let mut batch = Batch::default();
    batch.put(Table::Meta, FORMAT_KEY, "of the future");
    store.commit(batch, Durability::Process).unwrap();
    let index = BlockIndex::open(store).unwrap();
    assert_eq!(index.savepoint().unwrap(), None);
    assert_eq!(index.block(0).unwrap(), None);
}
