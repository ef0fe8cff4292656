//! A block as event listeners see it who may know that transactions happened, not what they did.

use selvedge_protos::Message;
use selvedge_protos::common::{
    Block, BlockMetadataIndex, ChannelHeader, Envelope, HeaderType, Payload,
};
use selvedge_protos::protos::filtered_transaction::Data;
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, FilteredBlock,
    FilteredChaincodeAction, FilteredTransaction, FilteredTransactionActions,
    ProposalResponsePayload, Transaction, TransactionAction, TxValidationCode,
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
        let Ok(envelope) = Envelope::decode(bytes.clone()) else {
            continue;
        };
        let payload = Payload::decode(envelope.payload)?;
        let Some(header) = payload.header else {
            continue;
        };
        let header = ChannelHeader::decode(header.channel_header)?;
        let code = verdicts
            .get(index)
            .copied()
            .map_or(TxValidationCode::NotValidated as i32, i32::from);
        let data = if header.r#type == HeaderType::EndorserTransaction as i32 {
            let transaction = Transaction::decode(payload.data)?;
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
        let Some(endorsed) = ChaincodeActionPayload::decode(action.payload)?.action else {
            continue;
        };
        let response = ProposalResponsePayload::decode(endorsed.proposal_response_payload)?;
        let action = ChaincodeAction::decode(response.extension)?;
        let event = ChaincodeEvent::decode(action.events)?;
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
