//! Reading transactions that are committed already.

use bytes::Bytes;
use prost_types::Timestamp;
use selvedge_protos::common::{ChannelHeader, Envelope, HeaderType, Payload};
use selvedge_protos::schema::decode;

use crate::action::Action;
use crate::decision::config_writes;
use crate::rwset::TxRwSet;
use crate::schemas::{CHANNEL_HEADER, ENVELOPE, PAYLOAD};

/// A transaction that was found valid when its block was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedTransaction {
    /// The transaction id.
    pub txid: String,
    /// When its client says that it was made.
    pub timestamp: Option<Timestamp>,
    /// Whether it changes the channel's configuration.
    pub is_config: bool,
    /// What it read and wrote.
    pub rwset: TxRwSet,
}

impl CommittedTransaction {
    /// Reads an envelope without checking anything. `None` if the bytes are not those of a transaction
    /// that can be valid.
    pub fn read(envelope: &Bytes) -> Option<Self> {
        let envelope: Envelope = decode(envelope.clone(), &ENVELOPE).ok()?;
        let payload: Payload = decode(envelope.payload, &PAYLOAD).ok()?;
        let header = payload.header?.channel_header;
        let header: ChannelHeader = decode(header, &CHANNEL_HEADER).ok()?;
        let kind = HeaderType::try_from(header.r#type).ok()?;
        let rwset = match kind {
            HeaderType::Config => config_writes(payload.data),
            HeaderType::EndorserTransaction => {
                let action = Action::open(payload.data).ok()?;
                let results = action.chaincode_action().ok()?.results.clone();
                TxRwSet::decode(results).ok()?
            }
            _ => return None,
        };
        Some(Self {
            txid: header.tx_id,
            timestamp: header.timestamp,
            is_config: kind == HeaderType::Config,
            rwset,
        })
    }
}

/// What a transaction wrote that was found valid when its block was committed; see
/// [`CommittedTransaction::read`].
pub fn committed_rwset(envelope: &Bytes) -> Option<TxRwSet> {
    CommittedTransaction::read(envelope).map(|transaction| transaction.rwset)
}
