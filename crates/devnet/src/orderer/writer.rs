//! Turns batches into signed blocks (Fabric: orderer/common/multichannel, blockwriter).

use bytes::{BufMut, Bytes, BytesMut};
use selvedge_msp::{SignatureError, SigningIdentity};
use selvedge_protos::Message;
use selvedge_protos::block::{data_hash, header_bytes, header_hash, metadata as read_metadata};
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, BlockMetadataIndex, LastConfig, Metadata, MetadataSignature,
    OrdererBlockMetadata,
};
use selvedge_protos::etcdraft::BlockMetadata as RaftMetadata;

use crate::genesis::metadata;
use crate::messages::signature_header;

/// Makes the next block after the one that it stands at.
pub(crate) struct BlockWriter {
    signer: SigningIdentity,
    next: u64,
    previous_hash: Bytes,
    last_config: u64,
}

impl BlockWriter {
    /// Stands after `last`, the newest block of the chain. `None` if its metadata do not say where
    /// the latest config block is.
    pub(crate) fn after(last: &Block, signer: SigningIdentity) -> Option<Self> {
        let header = last.header.as_ref()?;
        Some(Self {
            signer,
            next: header.number.checked_add(1)?,
            previous_hash: header_hash(header).to_vec().into(),
            last_config: last_config(last)?,
        })
    }

    /// Makes and signs the next block of encoded envelopes, and stands after it from then on.
    pub(crate) fn write(
        &mut self,
        envelopes: Vec<Bytes>,
        is_config: bool,
    ) -> Result<Block, SignatureError> {
        let data = BlockData { data: envelopes };
        let header = BlockHeader {
            number: self.next,
            previous_hash: self.previous_hash.clone(),
            data_hash: data_hash(&data).to_vec().into(),
        };
        let index = if is_config {
            header.number
        } else {
            self.last_config
        };
        let signatures = self.sign(&header, index)?;
        let last_config = Metadata {
            value: LastConfig { index }.encode_to_vec().into(),
            signatures: Vec::new(),
        };
        self.next = self.next.saturating_add(1);
        self.previous_hash = header_hash(&header).to_vec().into();
        self.last_config = index;
        Ok(Block {
            header: Some(header),
            data: Some(data),
            metadata: Some(metadata(signatures, last_config)),
        })
    }

    /// The slot SIGNATURES: the orderer's metadata, signed together with the header.
    fn sign(&self, header: &BlockHeader, last_config: u64) -> Result<Metadata, SignatureError> {
        // The one consenter of a channel of type etcdraft; blocks stand for its log entries.
        let raft = RaftMetadata {
            consenter_ids: vec![1],
            next_consenter_id: 2,
            raft_index: header.number,
        };
        let consenter_metadata = Metadata {
            value: raft.encode_to_vec().into(),
            signatures: Vec::new(),
        };
        let value = OrdererBlockMetadata {
            last_config: Some(LastConfig { index: last_config }),
            consenter_metadata: consenter_metadata.encode_to_vec().into(),
        };
        let value = Bytes::from(value.encode_to_vec());
        let signature_header = signature_header(&self.signer).encode_to_vec();
        let mut signed = BytesMut::new();
        signed.put_slice(&value);
        signed.put_slice(&signature_header);
        signed.put_slice(&header_bytes(header));
        let signature = MetadataSignature {
            signature_header: signature_header.into(),
            signature: self.signer.sign(&signed)?,
            identifier_header: Bytes::new(),
        };
        Ok(Metadata {
            value,
            signatures: vec![signature],
        })
    }
}

/// The number of the latest config block as a block's signed metadata state it.
pub(super) fn last_config(block: &Block) -> Option<u64> {
    let signatures = read_metadata(block, BlockMetadataIndex::Signatures).ok()?;
    let signed = OrdererBlockMetadata::decode(signatures.value).ok()?;
    Some(signed.last_config?.index)
}
