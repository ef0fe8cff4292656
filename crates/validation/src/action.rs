//! The layers below the payload of an endorsed transaction.
//!
//! Fabric opens them at four places with four different demands: the check of the transaction
//! (`core/common/validation`), the dispatcher (`protoutil.GetActionFromEnvelope`), the search for changes
//! of key-level policies (`statebased`, `extractDependenciesForTx`) and the search for private data
//! (`gossip/privdata`, `getTxInfoFromTransactionBytes`). Here they are opened once, as far as they
//! parse, and each place asks what it needs.

use bytes::Bytes;
use selvedge_protos::DecodeError;
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeActionPayload, Endorsement, ProposalResponsePayload, Transaction,
};
use selvedge_protos::schema::decode;

use crate::schemas::{
    CHAINCODE_ACTION, CHAINCODE_ACTION_PAYLOAD, PROPOSAL_RESPONSE_PAYLOAD, TRANSACTION,
};

/// The first action of a transaction.
#[derive(Debug)]
pub(crate) struct Action {
    /// How many actions there are.
    pub count: usize,
    /// The action's signature header.
    pub header: Bytes,
    /// What was endorsed.
    pub content: Result<Content, ActionFault>,
}

/// What was proposed and what came of it.
#[derive(Debug)]
pub(crate) struct Content {
    /// The proposal's payload, without transient data.
    pub proposal_payload: Bytes,
    /// The proposal response payload as the endorsers signed it.
    pub response_bytes: Bytes,
    /// The hash of the proposal in it.
    pub proposal_hash: Bytes,
    /// Who endorsed.
    pub endorsements: Vec<Endorsement>,
    /// The chaincode action in the response payload; `None` if there are no bytes of it.
    pub chaincode_action: Option<Result<ChaincodeAction, DecodeError>>,
}

/// Why the layers cannot be opened down to the proposal response payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ActionFault {
    #[error("its transaction does not parse: {0}")]
    Transaction(DecodeError),
    #[error("it has no action")]
    NoAction,
    #[error("its chaincode action payload does not parse: {0}")]
    Payload(DecodeError),
    #[error("its chaincode action payload has no endorsed action")]
    NoEndorsedAction,
    #[error("its proposal response payload does not parse: {0}")]
    ResponsePayload(DecodeError),
    #[error("its chaincode action does not parse: {0}")]
    ChaincodeAction(DecodeError),
}

/// Whether Fabric can search a transaction for changes of key-level policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Searchable {
    /// It can.
    Yes,
    /// It gives up, and later transactions wait for ever.
    No(String),
    /// It crashes.
    Crash(String),
}

impl Action {
    /// Opens the data of a payload.
    pub fn open(data: Bytes) -> Result<Self, ActionFault> {
        let transaction: Transaction =
            decode(data, &TRANSACTION).map_err(ActionFault::Transaction)?;
        let count = transaction.actions.len();
        let action = transaction.actions.into_iter().next();
        let action = action.ok_or(ActionFault::NoAction)?;
        Ok(Self {
            count,
            header: action.header,
            content: Content::open(action.payload),
        })
    }

    /// The chaincode action, where the dispatcher finds it.
    pub fn chaincode_action(&self) -> Result<&ChaincodeAction, String> {
        let content = self.content.as_ref().map_err(ToString::to_string)?;
        if content.response_bytes.is_empty() {
            return Err("it has no proposal response payload".to_owned());
        }
        match &content.chaincode_action {
            Some(Ok(action)) => Ok(action),
            Some(Err(error)) => Err(ActionFault::ChaincodeAction(error.clone()).to_string()),
            None => Err("its response payload is missing extension".to_owned()),
        }
    }

    /// Whether the search for changes of key-level policies gets through.
    pub fn searchable(opened: &Result<Self, ActionFault>) -> Searchable {
        let content = opened.as_ref().and_then(|action| action.content.as_ref());
        match content {
            Ok(Content {
                chaincode_action: Some(Err(error)),
                ..
            }) => Searchable::No(ActionFault::ChaincodeAction(error.clone()).to_string()),
            Ok(_) => Searchable::Yes,
            Err(fault @ (ActionFault::NoAction | ActionFault::NoEndorsedAction)) => {
                Searchable::Crash(fault.to_string())
            }
            Err(fault) => Searchable::No(fault.to_string()),
        }
    }
}

impl Content {
    fn open(payload: Bytes) -> Result<Self, ActionFault> {
        let payload: ChaincodeActionPayload =
            decode(payload, &CHAINCODE_ACTION_PAYLOAD).map_err(ActionFault::Payload)?;
        let action = payload.action.ok_or(ActionFault::NoEndorsedAction)?;
        let response_bytes = action.proposal_response_payload;
        let response: ProposalResponsePayload =
            decode(response_bytes.clone(), &PROPOSAL_RESPONSE_PAYLOAD)
                .map_err(ActionFault::ResponsePayload)?;
        let extension = response.extension;
        Ok(Self {
            proposal_payload: payload.chaincode_proposal_payload,
            response_bytes,
            proposal_hash: response.proposal_hash,
            endorsements: action.endorsements,
            chaincode_action: (!extension.is_empty()).then(|| decode(extension, &CHAINCODE_ACTION)),
        })
    }
}
