//! Chains as clients make them, for benchmarks and examples.

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::block::{data_hash, header_hash};
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, Payload,
    SignatureHeader,
};

/// The usual size of a transaction with two endorsements.
const TRANSACTION_BYTES: usize = 4000;

/// The id of a transaction of [`next_block`]; they are numbered through the chain.
pub(crate) fn transaction_id(number: u64) -> String {
    hex::encode(selvedge_protos::sha256(&number.to_be_bytes()))
}

fn envelope(number: u64) -> Bytes {
    let channel_header = ChannelHeader {
        channel_id: "bench".into(),
        tx_id: transaction_id(number),
        ..ChannelHeader::default()
    };
    let signature_header = SignatureHeader {
        creator: vec![1; 800].into(),
        nonce: vec![2; 24].into(),
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: vec![3; TRANSACTION_BYTES - 1100].into(),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: vec![4; 71].into(),
    };
    envelope.encode_to_vec().into()
}

/// The block after `previous`, as a peer commits it, with valid transactions.
pub(crate) fn next_block(previous: Option<&BlockHeader>, transactions: u64) -> Block {
    let number = previous.map_or(0, |header| header.number + 1);
    let ids = number * transactions..(number + 1) * transactions;
    let data = BlockData {
        data: ids.map(envelope).collect(),
    };
    let verdicts: Bytes = data.data.iter().map(|_| 0).collect();
    Block {
        header: Some(BlockHeader {
            number,
            previous_hash: previous.map_or(Bytes::new(), |header| {
                Bytes::copy_from_slice(&header_hash(header))
            }),
            data_hash: Bytes::copy_from_slice(&data_hash(&data)),
        }),
        data: Some(data),
        metadata: Some(BlockMetadata {
            metadata: vec![vec![5; 900].into(), Bytes::new(), verdicts],
        }),
    }
}
