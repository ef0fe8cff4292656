//! Recorded chains, and tools to tamper with their blocks.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::{BlockFault, BlockRef, BlockVerifier, ChannelConfig, VerifiedBlock};
use selvedge_msp::{SigningIdentity, load_signing_identity};
use selvedge_protos::Message;
use selvedge_protos::block::{data_hash, header_bytes};
use selvedge_protos::common::{
    Block, BlockMetadataIndex, IdentifierHeader, Metadata, MetadataSignature, SignatureHeader,
};
use serde_json::Value;

pub fn testdata(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

pub fn read(path: &str) -> Bytes {
    let path = testdata(path);
    fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into()
}

pub fn json(path: &str) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// Block files of a folder by their numbers.
pub fn blocks(folder: &str) -> Vec<Bytes> {
    let mut names: Vec<_> = fs::read_dir(testdata(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let paths = names.iter().map(|name| format!("{folder}/{name}"));
    paths.map(|path| read(&path)).collect()
}

#[derive(Debug)]
/// A peer's view of a channel: the latest block and the configuration that counts for the next one.
pub struct Chain {
    pub verifier: BlockVerifier,
    pub tip: VerifiedBlock,
}

impl Chain {
    pub fn join(genesis: Bytes) -> Self {
        let (tip, config) = BlockVerifier::trust_genesis(genesis).unwrap();
        Self {
            verifier: BlockVerifier::new(Arc::new(config)),
            tip,
        }
    }

    /// The chain of a folder up to and including block `number`.
    pub fn up_to(folder: &str, number: usize) -> Self {
        let mut blocks = blocks(folder).into_iter().take(number + 1);
        let mut chain = Self::join(blocks.next().unwrap());
        blocks.for_each(|block| chain.append(block));
        chain
    }

    pub fn append(&mut self, bytes: Bytes) {
        let block = self
            .verifier
            .verify_next(bytes, &self.tip.block_ref())
            .unwrap();
        if block.is_config() {
            let config = ChannelConfig::from_block(block.block()).unwrap();
            self.verifier.config().check_successor(&config).unwrap();
            self.verifier = BlockVerifier::new(Arc::new(config));
        }
        self.tip = block;
    }

    pub fn tip(&self) -> BlockRef {
        self.tip.block_ref()
    }

    /// Why the block is refused as the next one.
    pub fn fault(&self, block: impl Into<Candidate>) -> BlockFault {
        let Candidate(bytes) = block.into();
        let error = self.verifier.verify_next(bytes, &self.tip()).unwrap_err();
        assert_eq!(error.channel, self.verifier.config().channel_id());
        *error.fault
    }

    pub fn accepts(&self, block: impl Into<Candidate>) -> bool {
        let Candidate(bytes) = block.into();
        self.verifier.verify_next(bytes, &self.tip()).is_ok()
    }
}

/// A block in either form.
pub struct Candidate(Bytes);

impl From<Bytes> for Candidate {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&Block> for Candidate {
    fn from(block: &Block) -> Self {
        Self(block.encode_to_vec().into())
    }
}

pub fn decode(bytes: Bytes) -> Block {
    Block::decode(bytes).unwrap()
}

pub fn data(block: &mut Block) -> &mut Vec<Bytes> {
    &mut block.data.as_mut().unwrap().data
}

pub fn slots(block: &mut Block) -> &mut Vec<Bytes> {
    &mut block.metadata.as_mut().unwrap().metadata
}

/// Sets the data hash to that of the transactions.
pub fn rehash(block: &mut Block) {
    let hash = data_hash(block.data.as_ref().unwrap());
    block.header.as_mut().unwrap().data_hash = Bytes::copy_from_slice(&hash);
}

pub fn signatures(block: &Block) -> Metadata {
    selvedge_protos::block::metadata(block, BlockMetadataIndex::Signatures).unwrap()
}

pub fn set_signatures(block: &mut Block, metadata: &Metadata) {
    slots(block)[BlockMetadataIndex::Signatures as usize] = metadata.encode_to_vec().into();
}

/// Signs the block anew, in place of all its signatures.
pub fn sign(block: &mut Block, signers: &[&SigningIdentity]) {
    let mut metadata = signatures(block);
    metadata.signatures = signers
        .iter()
        .map(|signer| signature_of(block, &metadata.value, signer))
        .collect();
    set_signatures(block, &metadata);
}

/// A signature by a signer who gives its identity.
pub fn signature_of(block: &Block, value: &[u8], signer: &SigningIdentity) -> MetadataSignature {
    let header = SignatureHeader {
        creator: signer.serialized().clone(),
        nonce: Bytes::from_static(b"a nonce of some 24 bytes"),
    };
    let signature_header = Bytes::from(header.encode_to_vec());
    MetadataSignature {
        signature: signer
            .sign(&signed_bytes(block, value, &signature_header))
            .unwrap(),
        signature_header,
        identifier_header: Bytes::new(),
    }
}

/// A signature by a signer who gives its number among the consenters.
pub fn numbered_signature_of(
    block: &Block,
    value: &[u8],
    number: u32,
    signer: &SigningIdentity,
) -> MetadataSignature {
    let header = IdentifierHeader {
        identifier: number,
        nonce: Bytes::from_static(b"a nonce of some 24 bytes"),
    };
    let identifier_header = Bytes::from(header.encode_to_vec());
    MetadataSignature {
        signature: signer
            .sign(&signed_bytes(block, value, &identifier_header))
            .unwrap(),
        signature_header: Bytes::new(),
        identifier_header,
    }
}

fn signed_bytes(block: &Block, value: &[u8], header: &[u8]) -> Vec<u8> {
    [value, header, &header_bytes(block.header.as_ref().unwrap())].concat()
}

pub fn orderer(chain: &str, number: usize) -> SigningIdentity {
    let path = format!(
        "{chain}/crypto/ordererOrganizations/orderer.example.com/orderers/\
         orderer{number}.orderer.example.com/msp"
    );
    load_signing_identity(testdata(&path), "OrdererMSP").unwrap()
}

pub fn peer(chain: &str, organization: usize) -> SigningIdentity {
    let path = format!(
        "{chain}/crypto/peerOrganizations/org{organization}.example.com/peers/\
         peer0.org{organization}.example.com/msp"
    );
    load_signing_identity(testdata(&path), &format!("Org{organization}MSP")).unwrap()
}
