//! What is taken of private data that comes after its block.
//!
//! By then keys may have been purged, here or at the peer that sends, and of blocks before a snapshot only
//! the hashes of single writes are known. So a write-set may be taken without some of its keys, as long as
//! every other key that is expected is there with its value (Fabric: `kvledger`, `extractValidPvtData`).

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::kvrwset::{KvWrite, KvrwSet};
use selvedge_protos::sha256;

use crate::missing_data::KeyHashes;
use crate::state::StateError;

/// What is known of a private write-set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The hashes of its keys with those of the values: of its transaction's hashed writes, or those that came
    /// with the snapshot ([`crate::missing_data::MissingData::boot_hashes`]).
    pub writes: KeyHashes,
    /// The hash of the whole (`pvt_rwset_hash`), unless its block came with a snapshot.
    pub whole: Option<Bytes>,
}

/// Why private data is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreconciled {
    /// Nothing is known of such a write-set.
    #[error("no such private data is expected: there are no hashes of it")]
    NotExpected,
    /// Not a `KVRWSet`.
    #[error("it does not parse: {0}")]
    Malformed(#[from] selvedge_protos::DecodeError),
    /// Another write-set, or another value of a key.
    #[error("it hashes to {found}, expected {expected}")]
    WrongHash {
        /// In hex, of the whole or of a value.
        expected: String,
        /// Likewise.
        found: String,
    },
    /// The peer that sent it has seen more purges, or left something out.
    #[error("{missing} of the keys that are expected are not in it")]
    Incomplete {
        /// How many.
        missing: usize,
    },
    /// The purges could not be looked up.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Checks a private write-set against what is known of it, and gives the bytes to store: without keys of
/// which `is_purged` says that they were purged, by their hashes, and without those that are not expected; empty if none
/// is left.
pub fn reconcile(
    rwset: &Bytes,
    expected: &Expected,
    mut is_purged: impl FnMut(&[u8]) -> Result<bool, StateError>,
) -> Result<Bytes, Unreconciled> {
    if expected.writes.is_empty() {
        return Err(Unreconciled::NotExpected);
    }
    let mut wanted = KeyHashes::new();
    for (key_hash, value_hash) in &expected.writes {
        if !is_purged(key_hash)? {
            wanted.insert(key_hash.clone(), value_hash.clone());
        }
    }
    if wanted.is_empty() {
        return Ok(Bytes::new());
    }
    let found = KvrwSet::decode(rwset.clone())?;
    let all = expected.writes.len();
    if let Some(whole) = &expected.whole
        && wanted.len() == all
        && found.writes.len() == all
    {
        check(whole, &sha256(rwset))?;
        return Ok(rwset.clone());
    }
    let mut kept = Vec::new();
    for write in found.writes {
        if let Some(value_hash) = wanted.remove(&sha256(write.key.as_bytes())[..]) {
            check_value(&value_hash, &write)?;
            kept.push(write);
        }
    }
    if !wanted.is_empty() {
        return Err(Unreconciled::Incomplete {
            missing: wanted.len(),
        });
    }
    Ok(of_writes(kept))
}

/// The bytes of a write-set.
pub(super) fn of_writes(writes: Vec<KvWrite>) -> Bytes {
    let rwset = KvrwSet {
        writes,
        ..KvrwSet::default()
    };
    rwset.encode_to_vec().into()
}

/// Of a deletion there may be no hash.
fn check_value(expected: &Bytes, write: &KvWrite) -> Result<(), Unreconciled> {
    if expected.is_empty() && write.value.is_empty() {
        return Ok(());
    }
    check(expected, &sha256(&write.value))
}

fn check(expected: &Bytes, found: &[u8]) -> Result<(), Unreconciled> {
    if expected == found {
        return Ok(());
    }
    Err(Unreconciled::WrongHash {
        expected: hex::encode(expected),
        found: hex::encode(found),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str, value: &'static str) -> KvWrite {
        KvWrite {
            key: key.into(),
            is_delete: value.is_empty(),
            value: Bytes::from_static(value.as_bytes()),
        }
    }

    fn hash(bytes: &str) -> Bytes {
        Bytes::copy_from_slice(&sha256(bytes.as_bytes()))
    }

    /// Three keys, one of them deleted.
    fn sent() -> Bytes {
        of_writes(vec![write("a", "1"), write("b", "2"), write("c", "")])
    }

    fn writes(entries: &[(&str, &str)]) -> KeyHashes {
        let entries = entries.iter();
        entries
            .map(|(key, value)| (hash(key), hash(value)))
            .collect()
    }

    fn expected() -> Expected {
        let mut writes = writes(&[("a", "1"), ("b", "2")]);
        writes.insert(hash("c"), Bytes::new());
        Expected {
            writes,
            whole: Some(Bytes::copy_from_slice(&sha256(&sent()))),
        }
    }

    fn keys(rwset: Bytes) -> Vec<String> {
        let rwset = KvrwSet::decode(rwset).unwrap();
        rwset.writes.into_iter().map(|write| write.key).collect()
    }

    fn take(rwset: &Bytes, expected: &Expected, purged: &[&str]) -> Result<Bytes, Unreconciled> {
        let purged: Vec<_> = purged.iter().map(|key| hash(key)).collect();
        reconcile(rwset, expected, |key| {
            Ok(purged.iter().any(|purged| purged == key))
        })
    }

    #[test]
    fn what_is_as_the_block_says_is_taken_as_it_is() {
        assert_eq!(take(&sent(), &expected(), &[]).unwrap(), sent());
        let other = of_writes(vec![write("a", "1"), write("b", "2"), write("d", "")]);
        let refused = take(&other, &expected(), &[]).unwrap_err();
        assert!(
            matches!(refused, Unreconciled::WrongHash { .. }),
            "{refused}"
        );
    }

    #[test]
    fn purged_keys_are_left_out() {
        let taken = take(&sent(), &expected(), &["a"]).unwrap();
        assert_eq!(keys(taken), ["b", "c"]);
        // The sender has purged it too.
        let rest = of_writes(vec![write("b", "2"), write("c", "")]);
        assert_eq!(take(&rest, &expected(), &["a"]).unwrap(), rest);
        let all = ["a", "b", "c"];
        assert_eq!(take(&sent(), &expected(), &all).unwrap(), Bytes::new());
        assert_eq!(
            take(&Bytes::new(), &expected(), &all).unwrap(),
            Bytes::new()
        );
        let forged = of_writes(vec![write("b", "3"), write("c", "")]);
        let refused = take(&forged, &expected(), &["a"]).unwrap_err();
        assert!(
            matches!(refused, Unreconciled::WrongHash { .. }),
            "{refused}"
        );
    }

    #[test]
    fn a_sender_that_has_purged_more_is_asked_again() {
        let rest = of_writes(vec![write("b", "2")]);
        let refused = take(&rest, &expected(), &["a"]).unwrap_err();
        assert!(
            matches!(refused, Unreconciled::Incomplete { missing: 1 }),
            "{refused}"
        );
    }

    #[test]
    fn of_a_snapshot_only_what_it_has_is_taken() {
        let of_snapshot = Expected {
            writes: writes(&[("b", "2")]),
            whole: None,
        };
        assert_eq!(keys(take(&sent(), &of_snapshot, &[]).unwrap()), ["b"]);
        let twice = of_writes(vec![write("b", "2"), write("b", "3")]);
        assert_eq!(keys(take(&twice, &of_snapshot, &[]).unwrap()), ["b"]);
        for wrong in [
            of_writes(vec![write("b", "3")]),
            Bytes::new(),
            Bytes::from_static(b"\xff"),
        ] {
            assert!(take(&wrong, &of_snapshot, &[]).is_err(), "{wrong:?}");
        }
        let refused = take(&sent(), &Expected::default(), &[]).unwrap_err();
        assert!(matches!(refused, Unreconciled::NotExpected), "{refused}");
    }
}
