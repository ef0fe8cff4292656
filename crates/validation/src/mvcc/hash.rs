//! The commit hash (Fabric: `kvledger`, addBlockCommitHash, and `txmgr`, update_batch_bytes).

use bytes::Bytes;
use selvedge_protos::kvrwset::Version;
use selvedge_protos::sha256_of_parts;

use super::updates::{Update, UpdateBatch};

/// The commit hash of a block, from that of the block before, the codes of its transactions as they
/// stand in its metadata, and its updates.
///
/// Block 1 is the first to have one; it follows on nothing.
pub fn commit_hash(
    previous: Option<&[u8]>,
    transactions_filter: &[u8],
    updates: &UpdateBatch,
) -> [u8; 32] {
    let mut length = Vec::new();
    push_varint(&mut length, transactions_filter.len() as u64);
    sha256_of_parts([
        &length,
        transactions_filter,
        &update_bytes(updates),
        previous.unwrap_or_default(),
    ])
}

/// The updates as one message: a repeated field of writes, in the order of namespace, public keys before
/// collections, collection, key. Namespace and collection stand in the first write of each only. The
/// channel's configuration, in the namespace with the empty name, is left out.
pub fn update_bytes(updates: &UpdateBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (namespace, updates) in &updates.namespaces {
        if namespace.is_empty() {
            continue;
        }
        let mut namespace = namespace.as_str();
        for (key, update) in &updates.public {
            push_write(&mut bytes, std::mem::take(&mut namespace), "", key, update);
        }
        for (collection, updates) in &updates.collections {
            let mut collection = collection.as_str();
            for (key, update) in updates {
                let (namespace, collection) = (
                    std::mem::take(&mut namespace),
                    std::mem::take(&mut collection),
                );
                push_write(&mut bytes, namespace, collection, key, update);
            }
        }
    }
    bytes
}

/// A `KVWrite` message as field 1.
fn push_write(
    bytes: &mut Vec<u8>,
    namespace: &str,
    collection: &str,
    key: &Bytes,
    update: &Update,
) {
    let mut write = Vec::with_capacity(
        namespace.len()
            + collection.len()
            + key.len()
            + update.value.as_ref().map_or(0, Bytes::len)
            + 48,
    );
    push_field(&mut write, 1, namespace.as_bytes());
    push_field(&mut write, 2, collection.as_bytes());
    push_field(&mut write, 3, key);
    match &update.value {
        None => write.extend([4 << 3, 1]),
        Some(value) => push_field(&mut write, 5, value),
    }
    push_field(&mut write, 6, &version_bytes(update.version));
    push_field(bytes, 1, &write);
}

/// A field of bytes, unless it is empty.
fn push_field(bytes: &mut Vec<u8>, number: u8, content: &[u8]) {
    if content.is_empty() {
        return;
    }
    bytes.push(number << 3 | 2);
    push_varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Block and transaction, each as its number of bytes followed by the bytes without leading zeros.
fn version_bytes(version: Version) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18);
    for number in [version.block_num, version.tx_num] {
        let zeros = number.leading_zeros() / 8;
        let length = 8 - zeros.min(8);
        bytes.push(length as u8);
        bytes.extend(number.to_be_bytes().into_iter().skip(zeros as usize));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_without_leading_zeros() {
        let bytes = |block_num, tx_num| version_bytes(Version { block_num, tx_num });
        assert_eq!(bytes(0, 0), [0, 0]);
        assert_eq!(bytes(1, 0), [1, 1, 0]);
        assert_eq!(bytes(0x0102, 0xff), [2, 1, 2, 1, 0xff]);
        assert_eq!(bytes(u64::MAX, 0)[0], 8);
        assert_eq!(bytes(u64::MAX, 0).len(), 10);
    }

    #[test]
    fn names_stand_in_the_first_write_only_and_the_configuration_is_left_out() {
        let update = |value: Option<&'static [u8]>| Update {
            value: value.map(Bytes::from_static),
            metadata: Bytes::from_static(b"not hashed"),
            version: Version {
                block_num: 1,
                tx_num: 0,
            },
        };
        let mut updates = UpdateBatch::default();
        let mut set = |namespace, collection, key: &'static [u8], value| {
            updates.set(
                namespace,
                collection,
                Bytes::from_static(key),
                update(value),
            );
        };
        set("", None, b"config", Some(b"c"));
        set("n", Some("c"), b"h", None);
        set("n", None, b"b", Some(b"2"));
        set("n", None, b"a", Some(b"1"));
        let version = [6 << 3 | 2, 3, 1, 1, 0];
        let mut expected = vec![10, 14, 10, 1, b'n', 26, 1, b'a', 42, 1, b'1'];
        expected.extend(version);
        expected.extend([10, 11, 26, 1, b'b', 42, 1, b'2']);
        expected.extend(version);
        expected.extend([10, 13, 18, 1, b'c', 26, 1, b'h', 32, 1]);
        expected.extend(version);
        assert_eq!(update_bytes(&updates), expected);
    }
}
