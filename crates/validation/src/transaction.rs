//! What the bytes of a transaction say, without asking the state: form, headers, signatures.
//!
//! The order of checks is Fabric's (`core/common/validation`, msgvalidation;
//! `txvalidator/v20/plugindispatcher`, dispatcher), for the first that fails gives the code.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use selvedge_channel::ChannelConfig;
use selvedge_msp::Identity;
use selvedge_policy::{SignedData, valid_identities};
use selvedge_protos::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};
use selvedge_protos::envelope::transaction_id;
use selvedge_protos::protos::{
    ChaincodeEvent, ChaincodeHeaderExtension, ChaincodeId, TxValidationCode,
};
use selvedge_protos::schema::decode;
use selvedge_protos::sha256_of_parts;

use crate::action::{Action, ActionFault, Searchable};
use crate::error::Reason;
use crate::rwset::TxRwSet;
use crate::schemas::{
    CHAINCODE_EVENT, CHANNEL_HEADER, ENVELOPE, HEADER_EXTENSION, PAYLOAD, SIGNATURE_HEADER,
};

/// A transaction, opened as far as it goes.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The id in the channel header; empty if there is none.
    pub txid: Arc<str>,
    /// What was found.
    pub outcome: Outcome,
    /// Whether it is an endorsed transaction by its header, valid or not.
    pub is_endorsed: bool,
    /// What it read and wrote, if that can be read, be it valid or not, and whatever its header says: the
    /// search for changes of key-level policies does not look there.
    pub rwset: Option<TxRwSet>,
    /// Whether Fabric can search it for changes of key-level policies.
    pub searchable: Searchable,
}

/// What can be said of a transaction without the state.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is invalid.
    Invalid(Rejection),
    /// Fabric has no verdict.
    Undecidable(Reason),
    /// A config transaction, with its config envelope.
    Config(Bytes),
    /// An endorsed transaction. If its id is in the ledger already, that comes before a rejection.
    Endorsed(Result<Invocation, Rejection>),
}

/// Why a transaction is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub code: TxValidationCode,
    pub reason: String,
}

/// An invocation of a chaincode whose form is right.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub chaincode: ChaincodeId,
    pub event: Bytes,
    /// Who endorsed with a valid signature, each once.
    pub endorsers: Vec<Identity>,
}

fn reject<T>(code: TxValidationCode, reason: impl ToString) -> Result<T, Rejection> {
    Err(Rejection {
        code,
        reason: reason.to_string(),
    })
}

impl Opened {
    /// Opens the bytes of an envelope and checks all signatures. Costs one pass of decoding, one
    /// signature check for the creator and one for each endorser.
    pub fn open(envelope: &Bytes, config: &ChannelConfig) -> Self {
        let envelope: Envelope = match decode(envelope.clone(), &ENVELOPE) {
            Ok(envelope) => envelope,
            Err(error) => {
                let reason = format!("its envelope does not parse: {error}");
                return Self::unreadable(TxValidationCode::InvalidOtherReason, reason);
            }
        };
        let payload: Payload = match decode(envelope.payload.clone(), &PAYLOAD) {
            Ok(payload) => payload,
            Err(error) => {
                let reason = format!("its payload does not parse: {error}");
                return Self::unreadable(TxValidationCode::BadPayload, reason);
            }
        };
        let action = Action::open(payload.data.clone());
        let searchable = Action::searchable(&action);
        let Some(header) = payload.header else {
            return Self {
                txid: "".into(),
                outcome: Outcome::Undecidable(Reason::NoHeader),
                is_endorsed: false,
                rwset: None,
                searchable,
            };
        };
        let channel_header: Result<ChannelHeader, _> =
            decode(header.channel_header.clone(), &CHANNEL_HEADER);
        let (txid, is_endorsed) = match &channel_header {
            Ok(header) => (
                header.tx_id.as_str().into(),
                is_type(header, HeaderType::EndorserTransaction),
            ),
            Err(_) => ("".into(), false),
        };
        let results = action.as_ref().ok();
        let results = results.and_then(|action| action.chaincode_action().ok());
        let rwset = results.map(|action| TxRwSet::decode(action.results.clone()));
        let layers = Layers {
            config,
            envelope: &envelope,
            header: &header,
            data: &payload.data,
            action: &action,
            rwset: rwset.as_ref(),
        };
        let outcome = match channel_header {
            Ok(header) => layers.judge(&header),
            Err(error) => {
                let reason = format!("its channel header does not parse: {error}");
                reject(TxValidationCode::BadCommonHeader, reason)
            }
        };
        Self {
            txid,
            outcome: outcome.unwrap_or_else(Outcome::Invalid),
            is_endorsed,
            rwset: rwset.and_then(Result::ok),
            searchable,
        }
    }

    /// Opens the first transaction of a channel, which is joined and not validated: nobody signed it.
    pub fn open_genesis(envelope: &Bytes) -> Self {
        let layers = decode(envelope.clone(), &ENVELOPE)
            .and_then(|Envelope { payload, .. }| decode::<Payload>(payload, &PAYLOAD));
        let Ok(payload) = layers else {
            let reason = "the first block of the channel does not parse".to_owned();
            return Self::unreadable(TxValidationCode::BadPayload, reason);
        };
        let header = payload.header.unwrap_or_default().channel_header;
        let header: ChannelHeader = decode(header, &CHANNEL_HEADER).unwrap_or_default();
        Self {
            txid: header.tx_id.into(),
            outcome: Outcome::Config(payload.data),
            is_endorsed: false,
            rwset: None,
            searchable: Searchable::Yes,
        }
    }

    fn unreadable(code: TxValidationCode, reason: String) -> Self {
        Self {
            txid: "".into(),
            searchable: Searchable::No(reason.clone()),
            outcome: Outcome::Invalid(Rejection { code, reason }),
            is_endorsed: false,
            rwset: None,
        }
    }
}

fn is_type(header: &ChannelHeader, header_type: HeaderType) -> bool {
    header.r#type == i32::from(header_type)
}

/// The layers of a transaction that has a header.
struct Layers<'a> {
    config: &'a ChannelConfig,
    envelope: &'a Envelope,
    header: &'a Header,
    data: &'a Bytes,
    action: &'a Result<Action, ActionFault>,
    rwset: Option<&'a Result<TxRwSet, selvedge_protos::DecodeError>>,
}

impl Layers<'_> {
    fn judge(&self, channel_header: &ChannelHeader) -> Result<Outcome, Rejection> {
        let signature_header = self.check_headers(channel_header)?;
        self.check_creator(channel_header, &signature_header)?;
        if is_type(channel_header, HeaderType::Config) {
            if self.data.is_empty() {
                let reason = "its payload has no data";
                return reject(TxValidationCode::InvalidConfigTransaction, reason);
            }
            return Ok(Outcome::Config(self.data.clone()));
        }
        if !is_type(channel_header, HeaderType::EndorserTransaction) {
            let reason = format!(
                "transactions of type {} are not committed",
                channel_header.r#type
            );
            return reject(TxValidationCode::UnsupportedTxPayload, reason);
        }
        let txid = transaction_id(&signature_header.nonce, &signature_header.creator);
        if channel_header.tx_id != txid {
            let reason = format!("its id is {:?}, expected {txid}", channel_header.tx_id);
            return reject(TxValidationCode::BadProposalTxid, reason);
        }
        let rejected = match self.check_proposal() {
            Ok(None) => None,
            Ok(Some(reason)) => return Ok(Outcome::Undecidable(reason)),
            Err(reason) => Some(reason),
        };
        if let Some(reason) = rejected {
            return reject(TxValidationCode::InvalidEndorserTransaction, reason);
        }
        Ok(Outcome::Endorsed(self.invocation(channel_header)))
    }

    /// Fabric: `validateCommonHeader`.
    fn check_headers(&self, channel_header: &ChannelHeader) -> Result<SignatureHeader, Rejection> {
        let bad = |reason: String| reject(TxValidationCode::BadCommonHeader, reason);
        let signature_header = read_signature_header(&self.header.signature_header);
        let signature_header = match signature_header {
            Ok(header) => header,
            Err(reason) => return bad(reason),
        };
        let known = [
            HeaderType::EndorserTransaction,
            HeaderType::ConfigUpdate,
            HeaderType::Config,
        ];
        if !known
            .into_iter()
            .any(|known| is_type(channel_header, known))
        {
            return bad(format!("invalid header type {}", channel_header.r#type));
        }
        if channel_header.epoch != 0 {
            return bad(format!("its epoch is {}, expected 0", channel_header.epoch));
        }
        match check_signature_header(&signature_header) {
            Ok(()) => Ok(signature_header),
            Err(reason) => bad(reason.to_owned()),
        }
    }

    /// Fabric: `checkSignatureFromCreator`. A transaction for another channel is judged there by the
    /// MSPs that the peer happens to know under that name: here, and on peers that are not in that
    /// channel, by none.
    fn check_creator(
        &self,
        channel_header: &ChannelHeader,
        signature_header: &SignatureHeader,
    ) -> Result<(), Rejection> {
        let bad = |reason: String| reject(TxValidationCode::BadCreatorSignature, reason);
        let (expected, found) = (self.config.channel_id(), &channel_header.channel_id);
        if found != expected {
            return bad(format!(
                "it is for channel {found:?}, expected {expected:?}"
            ));
        }
        let msps = self.config.msps();
        let creator = match msps.deserialize_and_validate(&signature_header.creator) {
            Ok(creator) => creator,
            Err(error) => return bad(format!("its creator: {error}")),
        };
        let Envelope { payload, signature } = self.envelope;
        match creator.verify(payload, signature) {
            Ok(()) => Ok(()),
            Err(error) => bad(format!("its creator's signature: {error}")),
        }
    }

    /// Whether the transaction holds one action that stems from the proposal in it (Fabric:
    /// `validateEndorserTransaction`). The error says why not; a reason, that Fabric crashes.
    fn check_proposal(&self) -> Result<Option<Reason>, String> {
        let action = self.action.as_ref().map_err(ToString::to_string)?;
        if action.count != 1 {
            let reason = "only one action per transaction is supported, it contains";
            return Err(format!("{reason} {}", action.count));
        }
        let header = read_signature_header(&action.header)?;
        check_signature_header(&header)?;
        let content = match &action.content {
            Err(ActionFault::NoEndorsedAction) => return Ok(Some(Reason::NoEndorsedAction)),
            content => content.as_ref().map_err(ToString::to_string)?,
        };
        if content.proposal_payload.is_empty() || self.header.channel_header.is_empty() {
            return Err("it has no proposal payload".to_owned());
        }
        let hash = sha256_of_parts([
            &self.header.channel_header[..],
            &action.header,
            &content.proposal_payload,
        ]);
        if content.proposal_hash[..] != hash {
            return Err("its proposal hash does not match".to_owned());
        }
        Ok(None)
    }

    /// Fabric: `dispatcherImpl.Dispatch`, up to where it looks for the definitions of chaincodes.
    fn invocation(&self, channel_header: &ChannelHeader) -> Result<Invocation, Rejection> {
        let extension = decode(channel_header.extension.clone(), &HEADER_EXTENSION);
        let extension: ChaincodeHeaderExtension = match extension {
            Ok(extension) => extension,
            Err(error) => {
                let reason = format!("its header extension does not parse: {error}");
                return reject(TxValidationCode::BadHeaderExtension, reason);
            }
        };
        let no_action = |reason| reject(TxValidationCode::BadResponsePayload, reason);
        let action = match self.action {
            Ok(action) => action,
            Err(fault) => return no_action(fault.to_string()),
        };
        let (content, chaincode_action) = match (&action.content, action.chaincode_action()) {
            (Ok(content), Ok(chaincode_action)) => (content, chaincode_action),
            (Err(fault), _) => return no_action(fault.to_string()),
            (_, Err(reason)) => return no_action(reason),
        };
        let rwset = match self.rwset {
            Some(Ok(rwset)) => rwset,
            Some(Err(error)) => {
                let reason = format!("its results do not parse: {error}");
                return reject(TxValidationCode::BadRwset, reason);
            }
            None => return no_action("it has no results".to_owned()),
        };
        let proposed = extension.chaincode_id;
        let chaincode = check_chaincode(proposed.as_ref(), chaincode_action.chaincode_id.as_ref())?;
        check_event(&chaincode_action.events, &chaincode.name)?;
        check_namespaces(rwset)?;
        Ok(Invocation {
            chaincode: chaincode.clone(),
            event: chaincode_action.events.clone(),
            endorsers: valid_identities(&signatures(content), self.config.msps()),
        })
    }
}

fn read_signature_header(bytes: &Bytes) -> Result<SignatureHeader, String> {
    decode(bytes.clone(), &SIGNATURE_HEADER)
        .map_err(|error| format!("a signature header does not parse: {error}"))
}

/// Fabric: `validateSignatureHeader`.
fn check_signature_header(header: &SignatureHeader) -> Result<(), &'static str> {
    if header.nonce.is_empty() {
        Err("a signature header has no nonce")
    } else if header.creator.is_empty() {
        Err("a signature header has no creator")
    } else {
        Ok(())
    }
}

/// The chaincode that was proposed must be the one that acted; of the action a version is asked, any.
fn check_chaincode<'a>(
    proposed: Option<&ChaincodeId>,
    acted: Option<&'a ChaincodeId>,
) -> Result<&'a ChaincodeId, Rejection> {
    let (Some(proposed), Some(acted)) = (proposed, acted) else {
        let reason = "its header extension or chaincode action names no chaincode";
        return reject(TxValidationCode::InvalidOtherReason, reason);
    };
    let invalid = |reason: String| reject(TxValidationCode::InvalidChaincode, reason);
    if proposed.name.is_empty() {
        return invalid("the name of its chaincode is empty".to_owned());
    }
    if proposed.name != acted.name {
        let (proposed, acted) = (&proposed.name, &acted.name);
        return invalid(format!(
            "it proposes chaincode {proposed:?} and comes from {acted:?}"
        ));
    }
    if acted.version.is_empty() {
        return invalid("the version of its chaincode is empty".to_owned());
    }
    Ok(acted)
}

fn check_event(event: &Bytes, chaincode: &str) -> Result<(), Rejection> {
    if event.is_empty() {
        return Ok(());
    }
    let bad = |reason: String| reject(TxValidationCode::InvalidOtherReason, reason);
    match decode::<ChaincodeEvent>(event.clone(), &CHAINCODE_EVENT) {
        Err(error) => bad(format!("its chaincode event does not parse: {error}")),
        Ok(event) if event.chaincode_id != chaincode => {
            let found = event.chaincode_id;
            bad(format!(
                "its event is of chaincode {found:?}, expected {chaincode:?}"
            ))
        }
        Ok(_) => Ok(()),
    }
}

fn check_namespaces(rwset: &TxRwSet) -> Result<(), Rejection> {
    let mut names: Vec<_> = rwset
        .namespaces
        .iter()
        .map(|part| &part.namespace)
        .collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair.first() == pair.last()) {
        None => Ok(()),
        Some(pair) => {
            let reason = format!("duplicate namespace {:?} in its results", pair.first());
            reject(TxValidationCode::IllegalWriteset, reason)
        }
    }
}

/// An endorser signs the response payload with its own identity behind it.
fn signatures(content: &crate::action::Content) -> Vec<SignedData> {
    let signed = |endorsement: &selvedge_protos::protos::Endorsement| {
        let (response, endorser) = (&content.response_bytes, &endorsement.endorser);
        let mut data = BytesMut::with_capacity(response.len() + endorser.len());
        data.put_slice(response);
        data.put_slice(endorser);
        SignedData {
            data: data.freeze(),
            identity: endorser.clone(),
            signature: endorsement.signature.clone(),
        }
    };
    content.endorsements.iter().map(signed).collect()
}

#[cfg(test)]
mod tests;
