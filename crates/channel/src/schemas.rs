//! The fields of the messages that a configuration consists of, so that they are decoded as Go decodes
//! them: an organisation may put bytes into its own values that Go takes and prost does not.

use bytes::Bytes;
use selvedge_protos::common::{
    BlockDataHashingStructure, Capabilities, ConfigEnvelope, ConfigUpdate, ConfigUpdateEnvelope,
    Consortium, HashingAlgorithm, LastConfig, OrdererAddresses, OrdererBlockMetadata, Orderers,
};
use selvedge_protos::envelope::ENVELOPE;
use selvedge_protos::etcdraft::ConfigMetadata;
use selvedge_protos::msp::MspConfig;
use selvedge_protos::orderer::{
    BatchSize, BatchTimeout, ChannelRestrictions, ConsensusType, KafkaBrokers,
};
use selvedge_protos::protos::{AcLs, AnchorPeers};
use selvedge_protos::schema::Kind::{Bytes as Octets, Message as Nested, Varint};
use selvedge_protos::schema::{self, Schema};
use selvedge_protos::{DecodeError, Message};

/// A message whose fields are stated here.
pub(crate) trait Described: Message + Default {
    /// Its fields.
    const SCHEMA: &'static Schema;
}

/// Decodes a message that Go's library would decode.
pub(crate) fn decode<M: Described>(bytes: Bytes) -> Result<M, DecodeError> {
    schema::decode(bytes, M::SCHEMA)
}

/// Decodes the data of a config transaction, as Go would.
pub fn decode_config_envelope(bytes: Bytes) -> Result<ConfigEnvelope, DecodeError> {
    decode(bytes)
}

macro_rules! describe {
    ($($message:ty: [$(($number:literal, $kind:expr)),*];)*) => {
        $(impl Described for $message {
            const SCHEMA: &'static Schema = &Schema(&[$(($number, $kind)),*]);
        })*
    };
}

describe! {
    ConfigEnvelope: [(1, Nested(&CONFIG)), (2, Nested(&ENVELOPE))];
    ConfigUpdateEnvelope: [(1, Octets), (2, Nested(&TWO_OCTETS))];
    ConfigUpdate: [
        (1, Octets),
        (2, Nested(&GROUP)),
        (3, Nested(&GROUP)),
        (5, Nested(&TWO_OCTETS))
    ];
    HashingAlgorithm: [(1, Octets)];
    BlockDataHashingStructure: [(1, Varint)];
    OrdererAddresses: [(1, Octets)];
    Consortium: [(1, Octets)];
    Capabilities: [(1, Nested(&CAPABILITY_ENTRY))];
    Orderers: [(1, Nested(&CONSENTER))];
    ConsensusType: [(1, Octets), (2, Octets), (3, Varint)];
    BatchSize: [(1, Varint), (2, Varint), (3, Varint)];
    BatchTimeout: [(1, Octets)];
    KafkaBrokers: [(1, Octets)];
    ChannelRestrictions: [(1, Varint)];
    AcLs: [(1, Nested(&RESOURCE_ENTRY))];
    AnchorPeers: [(1, Nested(&ANCHOR_PEER))];
    MspConfig: [(1, Varint), (2, Octets)];
    ConfigMetadata: [(1, Nested(&RAFT_CONSENTER)), (2, Nested(&RAFT_OPTIONS))];
    LastConfig: [(1, Varint)];
    OrdererBlockMetadata: [(1, Nested(LastConfig::SCHEMA)), (2, Octets)];
}

const CONFIG: Schema = Schema(&[(1, Varint), (2, Nested(&GROUP))]);
static GROUP: Schema = Schema(&[
    (1, Varint),
    (2, Nested(&GROUP_ENTRY)),
    (3, Nested(&VALUE_ENTRY)),
    (4, Nested(&POLICY_ENTRY)),
    (5, Octets),
]);
static GROUP_ENTRY: Schema = Schema(&[(1, Octets), (2, Nested(&GROUP))]);
const VALUE_ENTRY: Schema = Schema(&[(1, Octets), (2, Nested(&VALUE))]);
const VALUE: Schema = Schema(&[(1, Varint), (2, Octets), (3, Octets)]);
const POLICY_ENTRY: Schema = Schema(&[(1, Octets), (2, Nested(&CONFIG_POLICY))]);
const CONFIG_POLICY: Schema = Schema(&[(1, Varint), (2, Nested(&POLICY)), (3, Octets)]);
const POLICY: Schema = Schema(&[(1, Varint), (2, Octets)]);

/// A signature with its header, or an entry of a map of bytes.
const TWO_OCTETS: Schema = Schema(&[(1, Octets), (2, Octets)]);
const CAPABILITY_ENTRY: Schema = Schema(&[(1, Octets), (2, Nested(&NOTHING))]);
const NOTHING: Schema = Schema(&[]);
const CONSENTER: Schema = Schema(&[
    (1, Varint),
    (2, Octets),
    (3, Varint),
    (4, Octets),
    (5, Octets),
    (6, Octets),
    (7, Octets),
]);
const RESOURCE_ENTRY: Schema = Schema(&[(1, Octets), (2, Nested(&RESOURCE))]);
const RESOURCE: Schema = Schema(&[(1, Octets)]);
const ANCHOR_PEER: Schema = Schema(&[(1, Octets), (2, Varint)]);
const RAFT_CONSENTER: Schema = Schema(&[(1, Octets), (2, Varint), (3, Octets), (4, Octets)]);
const RAFT_OPTIONS: Schema = Schema(&[
    (1, Octets),
    (2, Varint),
    (3, Varint),
    (4, Varint),
    (5, Varint),
]);

#[cfg(test)]
mod tests {
    use selvedge_protos::common::{Config, ConfigGroup, ConfigValue};

    use super::*;

    /// Fields that are unknown to Go: of another type than defined, and of groups in each other.
    fn odd(mut bytes: Vec<u8>) -> Bytes {
        bytes.extend([0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend([0x1b; 200].iter().chain(&[0x1c; 200]));
        bytes.into()
    }

    #[test]
    fn fields_of_other_types_are_passed_over_in_values() {
        let anchors = AnchorPeers {
            anchor_peers: vec![selvedge_protos::protos::AnchorPeer {
                host: "peer0".into(),
                port: 7051,
            }],
        };
        let bytes = odd(anchors.encode_to_vec());
        assert!(AnchorPeers::decode(&bytes[..]).is_err());
        assert_eq!(decode::<AnchorPeers>(bytes), Ok(anchors));
        assert!(decode::<AnchorPeers>(Bytes::from_static(b"\x0a\x05")).is_err());
    }

    #[test]
    fn and_in_the_tree_of_groups() {
        let value = ConfigValue {
            version: 3,
            value: Bytes::from_static(b"v"),
            mod_policy: "Admins".into(),
        };
        let mut group = ConfigGroup::default();
        group.values.insert("a".into(), value);
        let mut root = ConfigGroup::default();
        root.groups.insert("g".into(), group);
        let config = Config {
            sequence: 4,
            channel_group: Some(root),
        };
        let envelope = ConfigEnvelope {
            config: Some(config),
            last_update: None,
        };
        let bytes = odd(envelope.encode_to_vec());
        assert!(ConfigEnvelope::decode(&bytes[..]).is_err());
        assert_eq!(decode_config_envelope(bytes), Ok(envelope));
    }

    /// Groups nested without end are refused like by prost, not followed.
    #[test]
    fn the_tree_has_a_limit() {
        // Field 2 in field 2: the groups of a group, and each group in its entry.
        let nested = |levels: usize| {
            let mut bytes = Vec::new();
            for _ in 0..levels {
                let mut outer = vec![0x12];
                let mut length = bytes.len();
                while length >= 0x80 {
                    outer.push((length & 0x7f) as u8 | 0x80);
                    length >>= 7;
                }
                outer.push(length as u8);
                outer.append(&mut bytes);
                bytes = outer;
            }
            odd(bytes)
        };
        assert!(decode::<ConfigUpdate>(nested(60)).is_ok());
        assert!(decode::<ConfigUpdate>(nested(20_000)).is_err());
    }
}
