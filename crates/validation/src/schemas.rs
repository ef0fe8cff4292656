//! The fields of the messages in a transaction and in the definitions of chaincodes.

use selvedge_protos::schema::Kind::{Bytes, Message, Varint};
use selvedge_protos::schema::Schema;

pub(crate) use selvedge_protos::envelope::{CHANNEL_HEADER, ENVELOPE, PAYLOAD, SIGNATURE_HEADER};
pub(crate) use selvedge_protos::transaction::{
    CHAINCODE_ACTION, CHAINCODE_ACTION_PAYLOAD, CHAINCODE_EVENT, HEADER_EXTENSION,
    PROPOSAL_RESPONSE_PAYLOAD, TRANSACTION,
};

pub(crate) const TX_READ_WRITE_SET: Schema =
    Schema(&[(1, Varint), (2, Message(&NS_READ_WRITE_SET))]);
const NS_READ_WRITE_SET: Schema =
    Schema(&[(1, Bytes), (2, Bytes), (3, Message(&COLLECTION_HASHED))]);
const COLLECTION_HASHED: Schema = Schema(&[(1, Bytes), (2, Bytes), (3, Bytes)]);
pub(crate) const KV_RW_SET: Schema = Schema(&[
    (1, Message(&KV_READ)),
    (2, Message(&RANGE_QUERY_INFO)),
    (3, Message(&KV_WRITE)),
    (4, Message(&KV_METADATA_WRITE)),
]);
const KV_READ: Schema = Schema(&[(1, Bytes), (2, Message(&VERSION))]);
const VERSION: Schema = Schema(&[(1, Varint), (2, Varint)]);
const RANGE_QUERY_INFO: Schema = Schema(&[
    (1, Bytes),
    (2, Bytes),
    (3, Varint),
    (4, Message(&QUERY_READS)),
    (5, Message(&MERKLE_SUMMARY)),
]);
const QUERY_READS: Schema = Schema(&[(1, Message(&KV_READ))]);
const MERKLE_SUMMARY: Schema = Schema(&[(1, Varint), (2, Varint), (3, Bytes)]);
const KV_WRITE: Schema = Schema(&[(1, Bytes), (2, Varint), (3, Bytes)]);
/// Also the form in which the state keeps the metadata of a key.
pub(crate) const KV_METADATA_WRITE: Schema = Schema(&[(1, Bytes), (2, Message(&METADATA_ENTRY))]);
const METADATA_ENTRY: Schema = Schema(&[(1, Bytes), (2, Bytes)]);
pub(crate) const HASHED_RW_SET: Schema = Schema(&[
    (1, Message(&KV_READ)),
    (2, Message(&KV_WRITE_HASH)),
    (3, Message(&KV_METADATA_WRITE)),
]);
const KV_WRITE_HASH: Schema = Schema(&[(1, Bytes), (2, Varint), (3, Bytes), (4, Varint)]);

pub(crate) const STATE_METADATA: Schema = Schema(&[(1, Bytes), (2, Bytes)]);
pub(crate) const STATE_DATA: Schema = Schema(&[(1, Varint), (2, Bytes), (3, Bytes)]);
pub(crate) const ENDORSEMENT_INFO: Schema = Schema(&[(1, Bytes), (2, Varint), (3, Bytes)]);
pub(crate) const VALIDATION_INFO: Schema = Schema(&[(1, Bytes), (2, Bytes)]);
