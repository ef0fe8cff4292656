//! The messages that identities and MSPs are written in, decoded where Go would decode them.

use bytes::Bytes;
use selvedge_protos::msp::{FabricMspConfig, SerializedIdentity};
use selvedge_protos::schema::{self, Kind, Schema};
use selvedge_protos::{DecodeError, Message};

use crate::error::MspError;

/// Two fields of bytes or text, which is what several messages are.
const TWO_BYTES: Schema = Schema(&[(1, Kind::Bytes), (2, Kind::Bytes)]);

/// MSPPrincipal.
const PRINCIPAL: Schema = Schema(&[(1, Kind::Varint), (2, Kind::Bytes)]);
/// MSPRole.
pub(crate) const ROLE: Schema = Schema(&[(1, Kind::Bytes), (2, Kind::Varint)]);
/// OrganizationUnit.
pub(crate) const ORGANIZATION_UNIT: Schema =
    Schema(&[(1, Kind::Bytes), (2, Kind::Bytes), (3, Kind::Bytes)]);
/// MSPIdentityAnonymity.
pub(crate) const ANONYMITY: Schema = Schema(&[(1, Kind::Varint)]);
/// CombinedPrincipal.
pub(crate) const COMBINED: Schema = Schema(&[(1, Kind::Message(&PRINCIPAL))]);

const NODE_OUS: Schema = Schema(&[
    (1, Kind::Varint),
    (2, Kind::Message(&TWO_BYTES)),
    (3, Kind::Message(&TWO_BYTES)),
    (4, Kind::Message(&TWO_BYTES)),
    (5, Kind::Message(&TWO_BYTES)),
]);

const SIGNING_IDENTITY: Schema = Schema(&[(1, Kind::Bytes), (2, Kind::Message(&TWO_BYTES))]);

const FABRIC_MSP_CONFIG: Schema = Schema(&[
    (1, Kind::Bytes),
    (2, Kind::Bytes),
    (3, Kind::Bytes),
    (4, Kind::Bytes),
    (5, Kind::Bytes),
    (6, Kind::Message(&SIGNING_IDENTITY)),
    (7, Kind::Message(&TWO_BYTES)),
    (8, Kind::Message(&TWO_BYTES)),
    (9, Kind::Bytes),
    (10, Kind::Bytes),
    (11, Kind::Message(&NODE_OUS)),
]);

pub(crate) fn serialized_identity(bytes: Bytes) -> Result<SerializedIdentity, MspError> {
    decode("serialized identity", bytes, &TWO_BYTES)
}

pub(crate) fn fabric_msp_config(bytes: Bytes) -> Result<FabricMspConfig, MspError> {
    decode("FabricMSPConfig", bytes, &FABRIC_MSP_CONFIG)
}

pub(crate) fn decode<M: Message + Default>(
    what: &'static str,
    bytes: Bytes,
    schema: &Schema,
) -> Result<M, MspError> {
    schema::decode(bytes, schema).map_err(|error: DecodeError| MspError::Decode {
        what,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_another_type_is_unknown_as_in_go() {
        let identity = SerializedIdentity {
            mspid: "Org1MSP".into(),
            id_bytes: Bytes::from_static(b"certificate"),
        };
        let mut bytes = identity.encode_to_vec();
        bytes.extend([0x10, 7]);
        assert!(SerializedIdentity::decode(&bytes[..]).is_err());
        assert_eq!(serialized_identity(bytes.into()), Ok(identity));
        assert!(serialized_identity(Bytes::from_static(&[0x0a, 9])).is_err());
    }
}
