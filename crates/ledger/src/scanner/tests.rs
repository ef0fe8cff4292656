use std::fs;

use super::*;
use crate::block_format::Record;
use crate::test_support::chain;

fn record(block: &Block) -> Vec<u8> {
    let (header, data) = (block.header.as_ref(), block.data.as_ref());
    let record = Record::new(header.unwrap(), data.unwrap(), block.metadata.as_ref());
    let mut bytes = Vec::new();
    record.write(&mut bytes).unwrap();
    bytes
}

fn folder_of(contents: &[&[u8]]) -> (tempfile::TempDir, BlockFiles) {
    let folder = tempfile::tempdir().unwrap();
    let files = BlockFiles::new(folder.path().to_owned());
    for (number, content) in (0..).zip(contents) {
        fs::write(files.path(number), content).unwrap();
    }
    (folder, files)
}

#[derive(Debug, PartialEq)]
struct Scan {
    blocks: Vec<u64>,
    end: (u32, u64),
    torn: bool,
}

fn scan(files: &BlockFiles) -> Result<Scan, LedgerError> {
    let mut scanner = Scanner::from_start(files, files.last()?.unwrap());
    let mut blocks = Vec::new();
    while let Some(block) = scanner.next_block()? {
        blocks.push(block.number);
    }
    Ok(Scan {
        blocks,
        end: scanner.position(),
        torn: scanner.torn().is_some(),
    })
}

#[test]
fn empty_files_are_gone_over() {
    let records: Vec<_> = chain(2).iter().map(record).collect();
    let (_folder, files) = folder_of(&[b"", &records[0], b"", b"", &records[1], b""]);
    let expected = Scan {
        blocks: vec![0, 1],
        end: (5, 0),
        torn: false,
    };
    assert_eq!(scan(&files).unwrap(), expected);
}

#[test]
fn zeros_at_the_end_can_be_cut_off() {
    let first = record(&chain(1)[0]);
    for zeros in [1, 8, 9, 10, 11, 600, 2 * READ_AHEAD] {
        let content = [first.as_slice(), &vec![0; zeros]].concat();
        let (_folder, files) = folder_of(&[&content]);
        let end = (0, first.len() as u64);
        let expected = Scan {
            blocks: vec![0],
            end,
            torn: true,
        };
        assert_eq!(scan(&files).unwrap(), expected, "{zeros}");
    }
}

/// Several blocks may have been written and not synced; not so many as lie behind.
#[test]
fn zeros_before_blocks_can_be_cut_off_near_the_end_only() {
    let records: Vec<_> = chain(2).iter().map(record).collect();
    let first = records[0].len() as u64;
    let zeros = |behind: usize| {
        let mut content = records[0].clone();
        content.extend([0; 600]);
        content.extend(&records[1]);
        content.extend(vec![7; behind]);
        content
    };
    for (contents, torn) in [
        (vec![zeros(0)], true),
        (vec![zeros(10_000)], true),
        (vec![zeros(MAX_UNSYNCED_BYTES as usize)], false),
        (vec![zeros(0), records[1].clone()], false),
    ] {
        let contents: Vec<_> = contents.iter().map(Vec::as_slice).collect();
        let (_folder, files) = folder_of(&contents);
        match scan(&files) {
            Ok(scan) => assert!(torn && scan.torn && scan.end == (0, first)),
            Err(LedgerError::Corrupt { offset, block, .. }) => {
                assert!(!torn && (offset, block) == (first, 1));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_few_zeros_and_then_something_are_corrupt() {
    for zeros in [1, 5, 9, 12] {
        let mut content = record(&chain(1)[0]);
        content.extend(vec![0; zeros]);
        content.extend([1; 4]);
        content.extend([0; 30]);
        let (_folder, files) = folder_of(&[&content]);
        let error = scan(&files).unwrap_err();
        assert!(
            matches!(error, LedgerError::Corrupt { block: 1, .. }),
            "{zeros}"
        );
    }
}

#[test]
fn a_length_that_is_none_is_corrupt() {
    let content = [record(&chain(1)[0]).as_slice(), &[0xff; 20]].concat();
    let (_folder, files) = folder_of(&[&content]);
    assert!(matches!(
        scan(&files),
        Err(LedgerError::Corrupt { block: 1, .. })
    ));
}

#[test]
fn a_block_that_is_not_the_next_is_corrupt() {
    let records: Vec<_> = chain(3).iter().map(record).collect();
    let (_folder, files) = folder_of(&[&records[0], &records[2]]);
    let error = scan(&files).unwrap_err();
    assert!(error.to_string().contains("its number is 2"), "{error}");
}

#[test]
fn sectors_of_zeros_are_seen_where_they_lie_in_the_file() {
    let unwritten = |bytes: &[u8], offset| {
        let sectors = unwritten_sectors(bytes, offset);
        sectors
            .map(|sector| (sector.start, sector.end))
            .collect::<Vec<_>>()
    };
    let mut record = vec![1; 3000];
    assert_eq!(unwritten(&record, 100), []);
    record[412..924].fill(0);
    assert_eq!(unwritten(&record, 100), [(412, 924)]);
    assert_eq!(unwritten(&record, 101), []);
    let mut record = vec![1; 600];
    record[512..].fill(0);
    assert_eq!(unwritten(&record, 0), [(512, 600)]);
    assert_eq!(unwritten(&record[..513], 0), [(512, 513)]);
    assert_eq!(unwritten(&[], 7), []);
}

/// A block whose record, at the beginning of a file, is so long that the last `tail` bytes lie in a sector of
/// their own. It has many verdicts, all zeros.
fn block_with_tail(tail: usize, signatures: usize, commit_hash: &[u8]) -> Block {
    (0..SECTOR)
        .map(|more| {
            let mut block = chain(1).remove(0);
            block.metadata.as_mut().unwrap().metadata = vec![
                vec![1; signatures + more].into(),
                Bytes::new(),
                vec![0; 2 * SECTOR].into(),
                Bytes::new(),
                Bytes::copy_from_slice(commit_hash),
            ];
            block
        })
        .find(|block| record(block).len() % SECTOR == tail)
        .unwrap()
}

fn is_torn(record: &[u8]) -> bool {
    let (_folder, files) = folder_of(&[record]);
    let scan = scan(&files).unwrap();
    assert_eq!(scan.blocks.is_empty(), scan.torn);
    scan.torn
}

#[test]
fn a_last_sector_that_was_lost_is_seen_by_its_lengths_or_the_commit_hash() {
    for tail in 4..60 {
        let mut record = record(&block_with_tail(tail, 1, &[7; 34]));
        assert!(!is_torn(&record));
        let length = record.len();
        record[length - tail..].fill(0);
        assert!(is_torn(&record), "{tail}");
    }
    // A hash may end with a zero, and a block with empty slots.
    assert!(!is_torn(&record(&block_with_tail(
        2,
        1,
        &[&[7; 32][..], &[0; 2]].concat()
    ))));
    assert!(!is_torn(&record(&block_with_tail(30, 1, &[]))));
}

#[test]
fn a_sector_of_signatures_that_was_lost_is_seen() {
    let mut record = record(&block_with_tail(100, 3 * SECTOR, &[7; 34]));
    assert!(!is_torn(&record));
    record[2 * SECTOR..3 * SECTOR].fill(0);
    assert!(is_torn(&record));
}
