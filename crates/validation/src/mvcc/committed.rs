//! Reading the write-sets of transactions that are committed already.

use bytes::Bytes;
use selvedge_protos::common::{ChannelHeader, Envelope, HeaderType, Payload};
use selvedge_protos::schema::decode;

use crate::action::Action;
use crate::decision::config_writes;
use crate::rwset::TxRwSet;
use crate::schemas::{CHANNEL_HEADER, ENVELOPE, PAYLOAD};

/// What a transaction wrote that was found valid when its block was committed. Checks nothing.
/// `None` if the bytes are not those of such a transaction.
pub fn committed_rwset(envelope: &Bytes) -> Option<TxRwSet> {
    let envelope: Envelope = decode(envelope.clone(), &ENVELOPE).ok()?;
    let payload: Payload = decode(envelope.payload, &PAYLOAD).ok()?;
    let header = payload.header?.channel_header;
    let header: ChannelHeader = decode(header, &CHANNEL_HEADER).ok()?;
    match HeaderType::try_from(header.r#type).ok()? {
        HeaderType::Config => Some(config_writes(payload.data)),
        HeaderType::EndorserTransaction => {
            let action = Action::open(payload.data).ok()?;
            let results = action.chaincode_action().ok()?.results.clone();
            TxRwSet::decode(results).ok()
        }
        _ => None,
    }
}
