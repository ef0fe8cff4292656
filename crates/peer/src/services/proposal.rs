//! A signed proposal, opened and checked.

use selvedge_msp::Identity;
use selvedge_policy::SignedData;
use selvedge_protos::common::{ChannelHeader, Header, HeaderType, SignatureHeader};
use selvedge_protos::envelope::transaction_id;
use selvedge_protos::protos::{
    ChaincodeHeaderExtension, ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload,
    Proposal, SignedProposal,
};
use selvedge_protos::{DecodeError, Message, sha256_of_parts};

/// Why a proposal is not worth processing.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// One of its layers does not parse.
    #[error("error unmarshalling {layer}: {source}")]
    Malformed {
        /// The layer, by its message name.
        layer: &'static str,
        /// What the decoder says.
        source: DecodeError,
    },
    /// It names no chaincode.
    #[error("ChaincodeHeaderExtension.ChaincodeId is nil")]
    NoChaincodeId,
    /// It names the chaincode "".
    #[error("ChaincodeHeaderExtension.ChaincodeId.Name is empty")]
    EmptyChaincodeName,
    /// The invocation has no specification.
    #[error("chaincode invocation spec did not contain chaincode spec")]
    NoChaincodeSpec,
    /// The invocation has no arguments at all.
    #[error("chaincode input did not contain any input")]
    NoInput,
    /// Its type is none that a client proposes.
    #[error("invalid header type {}", header_type_name(*.0))]
    HeaderType(i32),
    /// Its epoch is not 0.
    #[error("epoch is non-zero")]
    Epoch,
    /// It has no nonce.
    #[error("nonce is empty")]
    NoNonce,
    /// It has no creator.
    #[error("creator is empty")]
    NoCreator,
    /// Its transaction id is not the hash of nonce and creator.
    #[error("incorrectly computed txid '{found}' -- expected '{expected}'")]
    TransactionId {
        /// As the proposal says.
        found: String,
        /// As computed.
        expected: String,
    },
    /// There is nothing to sign.
    #[error("empty proposal bytes")]
    NoBytes,
    /// Nobody signed.
    #[error("empty signature bytes")]
    NoSignature,
    /// No MSP knows the creator.
    #[error("access denied: channel [{channel}] creator org unknown, creator is malformed")]
    UnknownCreator {
        /// The channel, empty for none.
        channel: String,
    },
    /// The creator's certificate or signature is not valid.
    #[error("access denied: channel [{channel}] creator org [{organisation}]")]
    AccessDenied {
        /// The channel, empty for none.
        channel: String,
        /// The creator's MSP.
        organisation: String,
    },
}

/// A proposal with every layer opened. Nothing of it is believed before [`validate`](Self::validate).
#[derive(Debug)]
pub struct UnpackedProposal {
    /// Channel, type and transaction id.
    pub channel_header: ChannelHeader,
    /// Creator and nonce.
    pub signature_header: SignatureHeader,
    /// The chaincode that is called.
    pub chaincode: String,
    /// Its function and arguments.
    pub input: ChaincodeInput,
    /// What an endorsement refers to: the hash over both headers and the payload without its
    /// transient fields.
    pub hash: [u8; 32],
    /// What the creator signed.
    pub signed: SignedData,
}

impl UnpackedProposal {
    /// Opens all layers (Fabric: `endorser.UnpackProposal`).
    pub fn open(signed: &SignedProposal) -> Result<Self, ProposalError> {
        let proposal =
            Proposal::decode(signed.proposal_bytes.clone()).map_err(layer("Proposal"))?;
        let header = Header::decode(proposal.header).map_err(layer("Header"))?;
        let channel_header =
            ChannelHeader::decode(header.channel_header.clone()).map_err(layer("ChannelHeader"))?;
        let signature_header = SignatureHeader::decode(header.signature_header.clone())
            .map_err(layer("SignatureHeader"))?;
        let extension = ChaincodeHeaderExtension::decode(channel_header.extension.clone())
            .map_err(layer("ChaincodeHeaderExtension"))?;
        let chaincode = extension
            .chaincode_id
            .ok_or(ProposalError::NoChaincodeId)?
            .name;
        if chaincode.is_empty() {
            return Err(ProposalError::EmptyChaincodeName);
        }
        let payload = ChaincodeProposalPayload::decode(proposal.payload)
            .map_err(layer("ChaincodeProposalPayload"))?;
        let invocation = ChaincodeInvocationSpec::decode(payload.input.clone())
            .map_err(layer("ChaincodeInvocationSpec"))?;
        let spec = invocation
            .chaincode_spec
            .ok_or(ProposalError::NoChaincodeSpec)?;
        let input = spec.input.ok_or(ProposalError::NoInput)?;
        let public = ChaincodeProposalPayload {
            input: payload.input,
            ..Default::default()
        };
        let hash = sha256_of_parts([
            header.channel_header.as_ref(),
            header.signature_header.as_ref(),
            public.encode_to_vec().as_slice(),
        ]);
        Ok(Self {
            signed: SignedData {
                data: signed.proposal_bytes.clone(),
                identity: signature_header.creator.clone(),
                signature: signed.signature.clone(),
            },
            channel_header,
            signature_header,
            chaincode,
            input,
            hash,
        })
    }

    /// The channel that the proposal is for, empty for the peer itself.
    pub fn channel_id(&self) -> &str {
        &self.channel_header.channel_id
    }

    /// Checks form, transaction id, the creator's validity and signature. `creator` finds and
    /// validates an identity in the MSPs of the proposal's channel, or in the peer's own.
    pub fn validate(&self, creator: impl CreatorLookup) -> Result<(), ProposalError> {
        self.check_form()?;
        let channel = || self.channel_id().to_owned();
        let identity = creator
            .deserialize(&self.signature_header.creator)
            .ok_or_else(|| ProposalError::UnknownCreator { channel: channel() })?;
        let denied = || ProposalError::AccessDenied {
            channel: channel(),
            organisation: identity.msp_id().to_owned(),
        };
        if let Err(reason) = creator.validate(&identity) {
            tracing::warn!(target: "endorser", %reason, "access denied: identity is not valid");
            return Err(denied());
        }
        identity
            .verify(&self.signed.data, &self.signed.signature)
            .map_err(|reason| {
                tracing::warn!(
                    target: "endorser", %reason,
                    "access denied: creator's signature over the proposal is not valid"
                );
                denied()
            })
    }

    fn check_form(&self) -> Result<(), ProposalError> {
        let kind = self.channel_header.r#type;
        if !matches!(
            HeaderType::try_from(kind),
            Ok(HeaderType::EndorserTransaction | HeaderType::Config)
        ) {
            return Err(ProposalError::HeaderType(kind));
        }
        if self.channel_header.epoch != 0 {
            return Err(ProposalError::Epoch);
        }
        if self.signature_header.nonce.is_empty() {
            return Err(ProposalError::NoNonce);
        }
        if self.signature_header.creator.is_empty() {
            return Err(ProposalError::NoCreator);
        }
        let expected = transaction_id(&self.signature_header.nonce, &self.signature_header.creator);
        if self.channel_header.tx_id != expected {
            let found = self.channel_header.tx_id.clone();
            return Err(ProposalError::TransactionId { found, expected });
        }
        if self.signed.data.is_empty() {
            return Err(ProposalError::NoBytes);
        }
        if self.signed.signature.is_empty() {
            return Err(ProposalError::NoSignature);
        }
        Ok(())
    }
}

/// The MSPs against which a proposal's creator is held.
pub trait CreatorLookup {
    /// The identity, if an MSP recognises it.
    fn deserialize(&self, creator: &[u8]) -> Option<Identity>;
    /// Is its certificate valid?
    fn validate(&self, identity: &Identity) -> Result<(), selvedge_msp::MspError>;
}

impl CreatorLookup for &selvedge_msp::Msp {
    fn deserialize(&self, creator: &[u8]) -> Option<Identity> {
        selvedge_msp::Msp::deserialize(self, creator).ok()
    }

    fn validate(&self, identity: &Identity) -> Result<(), selvedge_msp::MspError> {
        selvedge_msp::Msp::validate(self, identity)
    }
}

impl CreatorLookup for &selvedge_msp::MspManager {
    fn deserialize(&self, creator: &[u8]) -> Option<Identity> {
        selvedge_msp::MspManager::deserialize(self, creator).ok()
    }

    fn validate(&self, identity: &Identity) -> Result<(), selvedge_msp::MspError> {
        selvedge_msp::MspManager::validate(self, identity)
    }
}

/// As Go prints it: by its name, or as a number if it has none.
fn header_type_name(kind: i32) -> String {
    match HeaderType::try_from(kind) {
        Ok(known) => known.as_str_name().to_owned(),
        Err(_) => kind.to_string(),
    }
}

fn layer(layer: &'static str) -> impl Fn(DecodeError) -> ProposalError {
    move |source| ProposalError::Malformed { layer, source }
}
