use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn any_bytes(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=most).prop_map(Bytes::from)
}

fn any_block() -> impl Strategy<Value = Block> {
    (
        (any::<u64>(), any_bytes(40), any_bytes(40)),
        vec(any_bytes(300), 0..6),
        vec(any_bytes(20), 0..6),
    )
        .prop_map(
            |((number, data_hash, previous_hash), data, metadata)| Block {
                header: Some(BlockHeader {
                    number,
                    previous_hash,
                    data_hash,
                }),
                data: Some(BlockData { data }),
                metadata: Some(BlockMetadata { metadata }),
            },
        )
}

fn record_of(block: &Block) -> (Vec<u8>, Vec<EnvelopeSpan>) {
    let (header, data) = (block.header.as_ref(), block.data.as_ref());
    let record = Record::new(header.unwrap(), data.unwrap(), block.metadata.as_ref());
    let mut bytes = Vec::new();
    record.write(&mut bytes).unwrap();
    assert_eq!(record.length(), bytes.len() as u64);
    (bytes, record.spans())
}

proptest! {
    #[test]
    fn a_block_comes_back_as_it_was(block in any_block()) {
        let (record, spans) = record_of(&block);
        let (length, prefix) = read_prefix(&record).unwrap().unwrap();
        prop_assert_eq!(length + prefix as u64, record.len() as u64);

        let record = Bytes::from(record);
        let (read, read_spans) = read_block(record.slice(prefix..), prefix).unwrap();
        prop_assert_eq!(&read_spans, &spans);
        for (span, envelope) in spans.iter().zip(&block.data.as_ref().unwrap().data) {
            let bytes = record.slice(span.offset as usize..(span.offset + span.length) as usize);
            prop_assert_eq!(&read_envelope(bytes).unwrap(), envelope);
        }
        prop_assert_eq!(&read_header(record.clone()).unwrap(), block.header.as_ref().unwrap());
        prop_assert_eq!(read, block);
    }

    #[test]
    fn a_cut_record_is_no_block(block in any_block(), at in any::<prop::sample::Index>()) {
        let (record, _) = record_of(&block);
        let cut = &record[..at.index(record.len())];
        if let Some((length, prefix)) = read_prefix(cut).unwrap() {
            prop_assert!(length + prefix as u64 > cut.len() as u64);
            prop_assert!(read_block(Bytes::copy_from_slice(&cut[prefix..]), prefix).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_harm_nothing(bytes in any_bytes(400)) {
        let _ = read_prefix(&bytes);
        let _ = read_header(bytes.clone());
        let _ = read_envelope(bytes.clone());
        if let Ok((block, _)) = read_block(bytes.clone(), 0) {
            let (record, _) = record_of(&block);
            let (_, prefix) = read_prefix(&record).unwrap().unwrap();
            let (again, _) = read_block(Bytes::from(record).slice(prefix..), prefix).unwrap();
            prop_assert_eq!(again, block);
        }
    }

    #[test]
    fn varints_are_protobuf_varints(value in any::<u64>()) {
        let mut ours = Vec::new();
        push_varint(value, &mut ours);
        let mut theirs = Vec::new();
        prost::encoding::encode_varint(value, &mut theirs);
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(varint_length(value), ours.len() as u64);
        prop_assert_eq!(read_varint(&mut ours.as_slice()), Ok(value));
    }
}

#[test]
fn huge_counts_and_lengths_are_refused_before_memory_is_taken() {
    let mut bytes = vec![1, 0, 0];
    push_varint(u64::MAX, &mut bytes);
    bytes.push(0);
    let refused = read_block(bytes.into(), 0).unwrap_err();
    assert_eq!(
        refused,
        FormatError::Length {
            length: u64::MAX,
            remaining: 1
        }
    );

    let mut bytes = vec![1];
    push_varint(1 << 40, &mut bytes);
    let refused = read_block(bytes.into(), 0).unwrap_err();
    assert_eq!(
        refused,
        FormatError::Length {
            length: 1 << 40,
            remaining: 0
        }
    );
}

#[test]
fn varints_beyond_64_bits_are_refused() {
    assert_eq!(read_varint(&mut &[0xff; 11][..]), Err(FormatError::Varint));
    let mut most = vec![0xff; 9];
    most.push(1);
    assert_eq!(read_varint(&mut most.as_slice()), Ok(u64::MAX));
    most[9] = 2;
    assert_eq!(read_varint(&mut most.as_slice()), Err(FormatError::Varint));
    assert_eq!(read_prefix(&[0x80; 9]), Ok(None));
    assert_eq!(read_prefix(&[0x80; 10]), Err(FormatError::Varint));
}
