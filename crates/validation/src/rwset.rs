//! The read-write set of a transaction, decoded once.
//!
//! A transaction's results are nested messages: a `TxReadWriteSet` holds one `NsReadWriteSet` for
//! each chaincode namespace, in which the public reads and writes and the hashed ones of each private
//! data collection are encoded messages again. [`TxRwSet::decode`] opens all layers; what comes after
//! validation (MVCC, the update batch, the history) takes the decoded form from the verdict.
//!
//! Decoding fails where Fabric's does (`rwsetutil.TxRwSet.FromProtoBytes`). Keys, values and hashes
//! keep the order in which they stand in the bytes, repeated ones included.

use bytes::Bytes;
use selvedge_protos::DecodeError;
use selvedge_protos::kvrwset::{
    HashedRwSet, KvMetadataWrite, KvMetadataWriteHash, KvRead, KvReadHash, KvWrite, KvWriteHash,
    KvrwSet, RangeQueryInfo,
};
use selvedge_protos::rwset::{CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet};
use selvedge_protos::schema::decode;

use crate::schemas::{HASHED_RW_SET, KV_RW_SET, TX_READ_WRITE_SET};

/// What a transaction read and wrote, by namespace in the order of the bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TxRwSet {
    /// The namespaces. In a transaction that is VALID each name stands once.
    pub namespaces: Vec<NsRwSet>,
}

/// What a transaction read and wrote in one namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NsRwSet {
    /// The chaincode's name, or a system namespace such as `_lifecycle`. The channel configuration
    /// is in the namespace with the empty name.
    pub namespace: String,
    /// Keys read, each with the version that was found; without one where the key was absent.
    pub reads: Vec<KvRead>,
    /// Range queries, with what they returned or a summary of it.
    pub range_queries: Vec<RangeQueryInfo>,
    /// Keys written or deleted; see [`is_delete`].
    pub writes: Vec<KvWrite>,
    /// Keys whose metadata was written; without entries it is deleted.
    pub metadata_writes: Vec<KvMetadataWrite>,
    /// The hashed reads and writes of private data collections.
    pub collections: Vec<CollHashedRwSet>,
}

/// What a transaction read and wrote in one private data collection, keys and values as SHA-256.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CollHashedRwSet {
    /// The collection's name.
    pub collection: String,
    /// Keys read.
    pub reads: Vec<KvReadHash>,
    /// Keys written, deleted or purged; see [`is_hashed_delete`].
    pub writes: Vec<KvWriteHash>,
    /// Keys whose metadata was written.
    pub metadata_writes: Vec<KvMetadataWriteHash>,
    /// The hash over the clear-text write-set; empty if the collection was only read.
    pub pvt_rwset_hash: Bytes,
}

impl TxRwSet {
    /// Decodes the bytes of a `TxReadWriteSet` with all that is nested in it. Values share `bytes`.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let message: TxReadWriteSet = decode(bytes, &TX_READ_WRITE_SET)?;
        let namespaces = message.ns_rwset.into_iter().map(NsRwSet::open);
        Ok(Self {
            namespaces: namespaces.collect::<Result<_, _>>()?,
        })
    }

    /// The first part with this name.
    pub fn namespace(&self, name: &str) -> Option<&NsRwSet> {
        self.namespaces.iter().find(|part| part.namespace == name)
    }
}

impl NsRwSet {
    fn open(message: NsReadWriteSet) -> Result<Self, DecodeError> {
        let public: KvrwSet = decode(message.rwset, &KV_RW_SET)?;
        let collections = message.collection_hashed_rwset.into_iter();
        Ok(Self {
            namespace: message.namespace,
            reads: public.reads,
            range_queries: public.range_queries_info,
            writes: public.writes,
            metadata_writes: public.metadata_writes,
            collections: collections
                .map(CollHashedRwSet::open)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether anything is written here: a key, metadata, or the like in a collection.
    pub fn has_writes(&self) -> bool {
        let private = |part: &CollHashedRwSet| part.has_writes();
        !self.writes.is_empty()
            || !self.metadata_writes.is_empty()
            || self.collections.iter().any(private)
    }
}

impl CollHashedRwSet {
    fn open(message: CollectionHashedReadWriteSet) -> Result<Self, DecodeError> {
        let hashed: HashedRwSet = decode(message.hashed_rwset, &HASHED_RW_SET)?;
        Ok(Self {
            collection: message.collection_name,
            reads: hashed.hashed_reads,
            writes: hashed.hashed_writes,
            metadata_writes: hashed.metadata_writes,
            pvt_rwset_hash: message.pvt_rwset_hash,
        })
    }

    /// Whether a key or metadata is written in this collection.
    pub fn has_writes(&self) -> bool {
        !self.writes.is_empty() || !self.metadata_writes.is_empty()
    }
}

/// Whether a write removes its key: an empty value does, too
/// (Fabric: `rwsetutil.IsKVWriteDelete`).
pub fn is_delete(write: &KvWrite) -> bool {
    write.is_delete || write.value.is_empty()
}

/// Whether a hashed write removes its key: no hash, or that of the empty value, does, too
/// (Fabric: `rwsetutil.IsKVWriteHashDelete`).
pub fn is_hashed_delete(write: &KvWriteHash) -> bool {
    write.is_delete || write.value_hash.is_empty() || write.value_hash[..] == SHA256_OF_NOTHING
}

/// SHA-256 of no bytes.
const SHA256_OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

#[cfg(test)]
mod tests {
    use selvedge_protos::Message;

    use super::*;

    #[test]
    fn an_empty_value_is_a_delete() {
        let write = |is_delete, value: &'static [u8]| KvWrite {
            key: "k".into(),
            is_delete,
            value: Bytes::from_static(value),
        };
        assert!(is_delete(&write(true, b"v")));
        assert!(is_delete(&write(false, b"")));
        assert!(!is_delete(&write(false, b"v")));
    }

    #[test]
    fn the_hash_of_an_empty_value_is_a_delete() {
        let write = |is_delete, value_hash: Vec<u8>| KvWriteHash {
            is_delete,
            value_hash: value_hash.into(),
            ..Default::default()
        };
        let hash = |value| selvedge_protos::sha256(value).to_vec();
        assert!(is_hashed_delete(&write(true, hash(b"v"))));
        assert!(is_hashed_delete(&write(false, Vec::new())));
        assert!(is_hashed_delete(&write(false, hash(b""))));
        assert!(!is_hashed_delete(&write(false, hash(b"v"))));
    }

    #[test]
    fn decodes_every_layer_or_nothing() {
        let part = |rwset: Vec<u8>, hashed: Vec<u8>| TxReadWriteSet {
            data_model: 0,
            ns_rwset: vec![NsReadWriteSet {
                namespace: "cc".into(),
                rwset: rwset.into(),
                collection_hashed_rwset: vec![CollectionHashedReadWriteSet {
                    collection_name: "c".into(),
                    hashed_rwset: hashed.into(),
                    pvt_rwset_hash: Bytes::from_static(&[7]),
                }],
            }],
        };
        let decode = |message: TxReadWriteSet| TxRwSet::decode(message.encode_to_vec().into());
        let public = KvrwSet {
            writes: vec![KvWrite::default(); 2],
            ..Default::default()
        };
        let hashed = HashedRwSet {
            hashed_reads: vec![KvReadHash::default()],
            ..Default::default()
        };
        let set = decode(part(public.encode_to_vec(), hashed.encode_to_vec())).unwrap();
        let namespace = set.namespace("cc").unwrap();
        assert_eq!(namespace.writes.len(), 2);
        assert!(namespace.has_writes());
        assert_eq!(namespace.collections[0].reads.len(), 1);
        assert!(!namespace.collections[0].has_writes());
        assert_eq!(namespace.collections[0].pvt_rwset_hash[..], [7]);
        assert!(set.namespace("other").is_none());

        assert!(decode(part(vec![0xff], Vec::new())).is_err());
        assert!(decode(part(Vec::new(), vec![0xff])).is_err());
        assert!(TxRwSet::decode(Bytes::from_static(&[0x12])).is_err());
        assert_eq!(TxRwSet::decode(Bytes::new()).unwrap(), TxRwSet::default());
    }
}
