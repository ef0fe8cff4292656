//! A key of the state as a snapshot holds it (Fabric: `privacyenabledstate.SnapshotRecord`).

use bytes::{Buf, Bytes};
use selvedge_protos::kvrwset::Version;

use crate::state::VersionedValue;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct SnapshotRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub metadata: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub version: Bytes,
}

impl SnapshotRecord {
    pub(super) fn new(key: Bytes, value: VersionedValue) -> Self {
        Self {
            key,
            value: value.value,
            metadata: value.metadata,
            version: encode_version(value.version).into(),
        }
    }

    /// Key and content; why not, if the record cannot be of a state at `last_block`.
    pub(super) fn into_entry(
        self,
        last_block: u64,
    ) -> Result<(Bytes, VersionedValue), &'static str> {
        let version = decode_version(self.version).ok_or("the version of a key does not parse")?;
        if version.block_num > last_block {
            return Err("a key was written after the last block");
        }
        if self.value.is_empty() {
            return Err("a key has no value");
        }
        let value = VersionedValue {
            value: self.value,
            metadata: self.metadata,
            version,
        };
        Ok((self.key, value))
    }
}

/// Two numbers, each in as many bytes as it needs, with their count before them (Fabric:
/// `util.EncodeOrderPreservingVarUint64`).
fn encode_version(version: Version) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18);
    for number in [version.block_num, version.tx_num] {
        let digits = number.to_be_bytes();
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        let digits = digits.get(zeros..).unwrap_or_default();
        bytes.push(digits.len() as u8);
        bytes.extend_from_slice(digits);
    }
    bytes
}

fn decode_version(mut bytes: Bytes) -> Option<Version> {
    let mut number = || {
        let length = usize::from(bytes.try_get_u8().ok()?);
        if length > bytes.len() {
            return None;
        }
        bytes.split_to(length).iter().try_fold(0, |number, digit| {
            (number >> 56 == 0).then_some(number << 8 | u64::from(*digit))
        })
    };
    let version = Version {
        block_num: number()?,
        tx_num: number()?,
    };
    bytes.is_empty().then_some(version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_as_short_as_can_be() {
        let version = |block_num, tx_num| encode_version(Version { block_num, tx_num });
        assert_eq!(version(0, 0), [0, 0]);
        assert_eq!(version(1, 0x0100), [1, 1, 2, 1, 0]);
        assert_eq!(
            version(u64::MAX, 7),
            [8, 255, 255, 255, 255, 255, 255, 255, 255, 1, 7]
        );
    }

    #[test]
    fn malformed_versions_are_refused() {
        for bytes in [
            &b""[..],
            b"\0",
            b"\x01",
            b"\x02\x01",
            b"\0\0\0",
            b"\x09\x01\0\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(decode_version(Bytes::from_static(bytes)), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn versions_survive(block_num: u64, tx_num: u64) {
            let version = Version { block_num, tx_num };
            prop_assert_eq!(decode_version(encode_version(version).into()), Some(version));
        }
    }
}
