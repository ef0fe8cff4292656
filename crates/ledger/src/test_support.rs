//! Chains to store.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::block::{data_hash, header_hash};
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, Payload,
};

pub(crate) const CHANNEL: &str = "mychannel";

/// An envelope of [`CHANNEL`] with a transaction id and some content.
pub(crate) fn envelope(id: &str, content: &[u8]) -> Bytes {
    let channel_header = ChannelHeader {
        channel_id: CHANNEL.into(),
        tx_id: id.into(),
        ..ChannelHeader::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            ..Header::default()
        }),
        data: Bytes::copy_from_slice(content),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    };
    envelope.encode_to_vec().into()
}

/// The block after `previous`, with these envelopes and verdicts.
pub(crate) fn next_block(previous: Option<&Block>, envelopes: Vec<Bytes>, codes: &[u8]) -> Block {
    let previous = previous.map(|block| block.header.as_ref().unwrap());
    let data = BlockData { data: envelopes };
    Block {
        header: Some(BlockHeader {
            number: previous.map_or(0, |header| header.number + 1),
            previous_hash: previous.map_or(Bytes::new(), |header| {
                Bytes::copy_from_slice(&header_hash(header))
            }),
            data_hash: Bytes::copy_from_slice(&data_hash(&data)),
        }),
        data: Some(data),
        metadata: Some(BlockMetadata {
            metadata: vec![
                Bytes::from_static(b"signatures"),
                Bytes::new(),
                Bytes::copy_from_slice(codes),
            ],
        }),
    }
}

/// A chain of `length` small blocks with two transactions each, `tx-0`, `tx-1` and so on.
pub(crate) fn chain(length: u64) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for number in 0..length {
        let envelopes = (0..2)
            .map(|index| {
                let id = format!("tx-{}", 2 * number + index);
                envelope(&id, format!("content of {id}").as_bytes())
            })
            .collect();
        blocks.push(next_block(blocks.last(), envelopes, &[0, 11]));
    }
    blocks
}

/// The blocks of a folder of recorded ones, in order.
pub(crate) fn recorded(folder: &str) -> Vec<Block> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(folder);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "block")
        })
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| Block::decode(fs::read(path).unwrap().as_slice()).unwrap())
        .collect()
}

/// A folder in memory, if the system has such a place, otherwise on disk: for tests in which what does not
/// reach the disk is made up, and that would wait for it hundreds of times.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let in_memory = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok());
    in_memory
        .flatten()
        .unwrap_or_else(|| tempfile::tempdir().unwrap())
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
