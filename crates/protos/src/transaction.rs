//! The fields of the messages in an endorsed transaction, which must be decoded as Go decodes them
//! ([`crate::schema`]).

use crate::schema::Kind::{Bytes, Message, Varint};
use crate::schema::Schema;

/// The fields of a [`ChaincodeHeaderExtension`](crate::protos::ChaincodeHeaderExtension).
pub const HEADER_EXTENSION: Schema = Schema(&[(2, Message(&CHAINCODE_ID))]);

/// The fields of a [`Transaction`](crate::protos::Transaction).
pub const TRANSACTION: Schema = Schema(&[(1, Message(&TRANSACTION_ACTION))]);
const TRANSACTION_ACTION: Schema = Schema(&[(1, Bytes), (2, Bytes)]);
/// The fields of a [`ChaincodeActionPayload`](crate::protos::ChaincodeActionPayload).
pub const CHAINCODE_ACTION_PAYLOAD: Schema = Schema(&[(1, Bytes), (2, Message(&ENDORSED_ACTION))]);
const ENDORSED_ACTION: Schema = Schema(&[(1, Bytes), (2, Message(&ENDORSEMENT))]);
const ENDORSEMENT: Schema = Schema(&[(1, Bytes), (2, Bytes)]);
/// The fields of a [`ProposalResponsePayload`](crate::protos::ProposalResponsePayload).
pub const PROPOSAL_RESPONSE_PAYLOAD: Schema = Schema(&[(1, Bytes), (2, Bytes)]);
/// The fields of a [`ChaincodeAction`](crate::protos::ChaincodeAction).
pub const CHAINCODE_ACTION: Schema = Schema(&[
    (1, Bytes),
    (2, Bytes),
    (3, Message(&RESPONSE)),
    (4, Message(&CHAINCODE_ID)),
]);
const RESPONSE: Schema = Schema(&[(1, Varint), (2, Bytes), (3, Bytes)]);
const CHAINCODE_ID: Schema = Schema(&[(1, Bytes), (2, Bytes), (3, Bytes)]);
/// The fields of a [`ChaincodeEvent`](crate::protos::ChaincodeEvent).
pub const CHAINCODE_EVENT: Schema = Schema(&[(1, Bytes), (2, Bytes), (3, Bytes), (4, Bytes)]);
