//! A block as event listeners see it who may know that transactions happened, not what they did.

use selvedge_protos::common::{
    Block, BlockMetadataIndex, ChannelHeader, Envelope, HeaderType, Payload,
};
use selvedge_protos::envelope::{CHANNEL_HEADER, ENVELOPE, PAYLOAD};
use selvedge_protos::protos::filtered_transaction::Data;
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, FilteredBlock,
    FilteredChaincodeAction, FilteredTransaction, FilteredTransactionActions,
    ProposalResponsePayload, Transaction, TransactionAction, TxValidationCode,
};
use selvedge_protos::schema::decode;
use selvedge_protos::transaction::{
    CHAINCODE_ACTION, CHAINCODE_ACTION_PAYLOAD, CHAINCODE_EVENT, PROPOSAL_RESPONSE_PAYLOAD,
    TRANSACTION,
};
use selvedge_protos::{DecodeError, block::metadata_slot};

/// Reduces a block to ids, types, verdicts and the names of chaincode events
/// (Fabric: core/peer, `toFilteredBlock`). Envelopes that do not parse are left out.
pub fn filter(block: &Block) -> Result<FilteredBlock, DecodeError> {
    let verdicts = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
    let mut filtered = FilteredBlock {
        number: block.header.as_ref().map_or(0, |header| header.number),
        ..Default::default()
    };
    let envelopes = block.data.iter().flat_map(|data| &data.data);
    for (index, bytes) in envelopes.enumerate() {
        let Ok(envelope) = decode::<Envelope>(bytes.clone(), &ENVELOPE) else {
            continue;
        };
        let payload: Payload = decode(envelope.payload, &PAYLOAD)?;
        let Some(header) = payload.header else {
            continue;
        };
        let header: ChannelHeader = decode(header.channel_header, &CHANNEL_HEADER)?;
        let code = verdicts
            .get(index)
            .copied()
            .map_or(TxValidationCode::NotValidated as i32, i32::from);
        let data = if header.r#type == HeaderType::EndorserTransaction as i32 {
            let transaction: Transaction = decode(payload.data, &TRANSACTION)?;
            Some(Data::TransactionActions(actions(transaction.actions)?))
        } else {
            None
        };
        filtered.channel_id = header.channel_id;
        filtered.filtered_transactions.push(FilteredTransaction {
            txid: header.tx_id,
            r#type: header.r#type,
            tx_validation_code: code,
            data,
        });
    }
    Ok(filtered)
}

fn actions(actions: Vec<TransactionAction>) -> Result<FilteredTransactionActions, DecodeError> {
    let mut chaincode_actions = Vec::new();
    for action in actions {
        let payload: ChaincodeActionPayload = decode(action.payload, &CHAINCODE_ACTION_PAYLOAD)?;
        let Some(endorsed) = payload.action else {
            continue;
        };
        let response = endorsed.proposal_response_payload;
        let response: ProposalResponsePayload = decode(response, &PROPOSAL_RESPONSE_PAYLOAD)?;
        let action: ChaincodeAction = decode(response.extension, &CHAINCODE_ACTION)?;
        let event: ChaincodeEvent = decode(action.events, &CHAINCODE_EVENT)?;
        if !event.chaincode_id.is_empty() {
            // The event's own payload stays out.
            let event = ChaincodeEvent {
                payload: Default::default(),
                ..event
            };
            chaincode_actions.push(FilteredChaincodeAction {
                chaincode_event: Some(event),
            });
        }
    }
    Ok(FilteredTransactionActions { chaincode_actions })
}
