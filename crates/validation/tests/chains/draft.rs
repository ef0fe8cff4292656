//! Endorsed transactions made for a test, layer by layer, with recorded keys.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use selvedge_msp::{SigningIdentity, load_signing_identity};
use selvedge_protos::Message;
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, ChannelHeader, Envelope, Header, HeaderType, Payload,
    SignatureHeader,
};
use selvedge_protos::envelope::transaction_id;
use selvedge_protos::kvrwset::{
    HashedRwSet, KvMetadataEntry, KvMetadataWrite, KvMetadataWriteHash, KvWrite, KvWriteHash,
    KvrwSet,
};
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeHeaderExtension,
    ChaincodeId, Endorsement, ProposalResponsePayload, Transaction, TransactionAction,
};
use selvedge_protos::rwset::{CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet};
use selvedge_protos::{sha256, sha256_of_parts};

use crate::support::testdata;

/// Nodes and users of the recorded organisations.
pub struct Members {
    pub client: SigningIdentity,
    pub peers: [SigningIdentity; 2],
}

impl Members {
    pub fn read() -> Self {
        let load = |organization: u32, member: &str| {
            let domain = format!("org{organization}.example.com");
            let path = format!("raft/crypto/peerOrganizations/{domain}/{member}{domain}/msp");
            load_signing_identity(testdata(&path), &format!("Org{organization}MSP")).unwrap()
        };
        Self {
            client: load(1, "users/User1@"),
            peers: [load(1, "peers/peer0."), load(2, "peers/peer0.")],
        }
    }

    pub fn both(&self) -> Vec<&SigningIdentity> {
        self.peers.iter().collect()
    }
}

/// The number of the next nonce.
static NONCE: AtomicU32 = AtomicU32::new(0);

/// A transaction in the making. What is `Some` takes the place of the layer that would be made.
pub struct Draft<'a> {
    pub client: &'a SigningIdentity,
    pub endorsers: Vec<&'a SigningIdentity>,
    pub nonce: Vec<u8>,
    pub chaincode: String,
    pub event: Bytes,
    pub results: Bytes,
    pub chaincode_action: Option<Bytes>,
    pub response_payload: Option<Bytes>,
    pub action_payload: Option<Bytes>,
    pub transaction: Option<Bytes>,
    pub channel_header: Option<Bytes>,
    pub header_type: HeaderType,
    pub signs_wrongly: bool,
}

impl<'a> Draft<'a> {
    /// A transaction of a chaincode that both organisations endorse.
    pub fn new(members: &'a Members, chaincode: &str, results: TxReadWriteSet) -> Self {
        let nonce = NONCE.fetch_add(1, Ordering::Relaxed);
        Self {
            client: &members.client,
            endorsers: members.both(),
            nonce: format!("nonce {nonce}").into(),
            chaincode: chaincode.to_owned(),
            event: Bytes::new(),
            results: results.encode_to_vec().into(),
            chaincode_action: None,
            response_payload: None,
            action_payload: None,
            transaction: None,
            channel_header: None,
            header_type: HeaderType::EndorserTransaction,
            signs_wrongly: false,
        }
    }

    /// A write of one public key.
    pub fn put(members: &'a Members, chaincode: &str, key: &str) -> Self {
        let part = namespace(chaincode, &[key], &[]);
        Self::new(members, chaincode, results([part]))
    }

    pub fn endorsed_by(mut self, endorsers: &[&'a SigningIdentity]) -> Self {
        self.endorsers = endorsers.to_vec();
        self
    }

    pub fn txid(&self) -> String {
        transaction_id(&self.nonce, self.client.serialized())
    }

    pub fn build(&self) -> Bytes {
        let signature_header: Bytes = SignatureHeader {
            creator: self.client.serialized().clone(),
            nonce: self.nonce.clone().into(),
        }
        .encode_to_vec()
        .into();
        let channel_header = self.channel_header();
        let transaction = self.transaction(&channel_header, &signature_header);
        let header = Header {
            channel_header,
            signature_header,
        };
        sign(
            self.client,
            Some(header),
            self.transaction.clone().unwrap_or(transaction),
            self.signs_wrongly,
        )
    }

    fn chaincode_id(&self) -> Option<ChaincodeId> {
        Some(ChaincodeId {
            name: self.chaincode.clone(),
            version: "1".to_owned(),
            path: String::new(),
        })
    }

    fn channel_header(&self) -> Bytes {
        let made = || {
            let extension = ChaincodeHeaderExtension {
                chaincode_id: self.chaincode_id(),
            };
            let header = ChannelHeader {
                r#type: self.header_type.into(),
                channel_id: "vectors".to_owned(),
                tx_id: self.txid(),
                extension: extension.encode_to_vec().into(),
                ..ChannelHeader::default()
            };
            header.encode_to_vec().into()
        };
        self.channel_header.clone().unwrap_or_else(made)
    }

    fn transaction(&self, channel_header: &Bytes, signature_header: &Bytes) -> Bytes {
        let proposal = Bytes::from_static(b"proposal");
        let hash = sha256_of_parts([&channel_header[..], signature_header, &proposal]);
        let chaincode_action = ChaincodeAction {
            results: self.results.clone(),
            events: self.event.clone(),
            response: None,
            chaincode_id: self.chaincode_id(),
        };
        let chaincode_action = chaincode_action.encode_to_vec().into();
        let response_payload = ProposalResponsePayload {
            proposal_hash: Bytes::copy_from_slice(&hash),
            extension: self.chaincode_action.clone().unwrap_or(chaincode_action),
        };
        let response_payload = response_payload.encode_to_vec().into();
        let response_payload = self.response_payload.clone().unwrap_or(response_payload);
        let endorsement = |peer: &&SigningIdentity| Endorsement {
            endorser: peer.serialized().clone(),
            signature: peer
                .sign(&[&response_payload[..], peer.serialized()].concat())
                .unwrap(),
        };
        let payload = ChaincodeActionPayload {
            chaincode_proposal_payload: proposal,
            action: Some(ChaincodeEndorsedAction {
                endorsements: self.endorsers.iter().map(endorsement).collect(),
                proposal_response_payload: response_payload,
            }),
        };
        let payload = payload.encode_to_vec().into();
        let action = TransactionAction {
            header: signature_header.clone(),
            payload: self.action_payload.clone().unwrap_or(payload),
        };
        let transaction = Transaction {
            actions: vec![action],
        };
        transaction.encode_to_vec().into()
    }
}

/// A signed envelope.
pub fn sign(signer: &SigningIdentity, header: Option<Header>, data: Bytes, wrongly: bool) -> Bytes {
    let payload: Bytes = Payload { header, data }.encode_to_vec().into();
    let signed = if wrongly {
        b"something else"
    } else {
        &payload[..]
    };
    let signature = signer.sign(signed).unwrap();
    Envelope { payload, signature }.encode_to_vec().into()
}

pub fn block(number: u64, transactions: impl IntoIterator<Item = Bytes>) -> Block {
    Block {
        header: Some(BlockHeader {
            number,
            ..BlockHeader::default()
        }),
        data: Some(BlockData {
            data: transactions.into_iter().collect(),
        }),
        metadata: None,
    }
}

pub fn results<const N: usize>(parts: [NsReadWriteSet; N]) -> TxReadWriteSet {
    TxReadWriteSet {
        data_model: 0,
        ns_rwset: parts.into(),
    }
}

fn entries(policy: &[u8]) -> Vec<KvMetadataEntry> {
    vec![KvMetadataEntry {
        name: "VALIDATION_PARAMETER".to_owned(),
        value: Bytes::copy_from_slice(policy),
    }]
}

/// Metadata as the state keeps it.
pub fn metadata(policy: &[u8]) -> Bytes {
    let metadata = KvMetadataWrite {
        key: String::new(),
        entries: entries(policy),
    };
    metadata.encode_to_vec().into()
}

/// Writes of public keys, and of the policies of others.
pub fn namespace(name: &str, keys: &[&str], policies: &[(&str, &[u8])]) -> NsReadWriteSet {
    let write = |key: &&str| KvWrite {
        key: (*key).to_owned(),
        is_delete: false,
        value: Bytes::from_static(b"value"),
    };
    let policy = |(key, policy): &(&str, &[u8])| KvMetadataWrite {
        key: (*key).to_owned(),
        entries: entries(policy),
    };
    let rwset = KvrwSet {
        writes: keys.iter().map(write).collect(),
        metadata_writes: policies.iter().map(policy).collect(),
        ..KvrwSet::default()
    };
    NsReadWriteSet {
        namespace: name.to_owned(),
        rwset: rwset.encode_to_vec().into(),
        collection_hashed_rwset: Vec::new(),
    }
}

/// Hashed writes to a collection, and of the policies of others.
pub fn collection(
    name: &str,
    keys: &[&str],
    policies: &[(&str, &[u8])],
) -> CollectionHashedReadWriteSet {
    let hash = |text: &str| Bytes::copy_from_slice(&sha256(text.as_bytes()));
    let write = |key: &&str| KvWriteHash {
        key_hash: hash(key),
        value_hash: hash("value"),
        ..KvWriteHash::default()
    };
    let policy = |(key, policy): &(&str, &[u8])| KvMetadataWriteHash {
        key_hash: hash(key),
        entries: entries(policy),
    };
    let hashed = HashedRwSet {
        hashed_writes: keys.iter().map(write).collect(),
        metadata_writes: policies.iter().map(policy).collect(),
        ..HashedRwSet::default()
    };
    CollectionHashedReadWriteSet {
        collection_name: name.to_owned(),
        hashed_rwset: hashed.encode_to_vec().into(),
        pvt_rwset_hash: hash("writes"),
    }
}

/// Hashed writes of one key to a collection of a chaincode.
pub fn private(chaincode: &str, collection_name: &str, key: &str) -> TxReadWriteSet {
    let mut part = namespace(chaincode, &[], &[]);
    part.collection_hashed_rwset = vec![collection(collection_name, &[key], &[])];
    results([part])
}
