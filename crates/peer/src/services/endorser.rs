//! `protos.Endorser`: proposals to the system chaincodes.
//!
//! Chaincodes of users are not executed yet: a proposal to one is answered as by a Fabric peer on
//! which the chaincode is not installed.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use selvedge_msp::{Msp, SigningIdentity};
use selvedge_protos::Message;
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeId, Endorsement, ProposalResponse, ProposalResponsePayload, Response,
    SignedProposal,
};
use selvedge_transport::services::protos::endorser_server::Endorser;
use tokio::sync::Semaphore;
use tonic::{Request, Status};

use super::proposal::{ProposalError, UnpackedProposal};
use super::{permits, too_many};
use crate::access::AccessControl;
use crate::channel::{Channel, Channels};
use crate::metrics::Metrics;
use crate::scc::{self, Context, cscc, qscc};

/// A status from which on a chaincode's answer is not endorsed (shim: `ERRORTHRESHOLD`).
const ERROR_THRESHOLD: i32 = 400;
/// A status from which on it is a failure (shim: `ERROR`).
const ERROR: i32 = 500;

/// The endorser service.
#[derive(Clone)]
pub struct EndorserService {
    inner: Arc<Inner>,
    permits: Arc<Semaphore>,
    limit: Option<NonZeroUsize>,
}

struct Inner {
    local_msp: Msp,
    signer: SigningIdentity,
    channels: Channels,
    access: AccessControl,
    metrics: Metrics,
}

impl EndorserService {
    /// `limit` is the number of proposals that are processed at the same time
    /// (peer.limits.concurrency.endorserService); more are refused, as in Fabric.
    pub fn new(
        local_msp: Msp,
        signer: SigningIdentity,
        channels: Channels,
        metrics: Metrics,
        limit: Option<NonZeroUsize>,
    ) -> Self {
        let access = AccessControl::new(local_msp.clone());
        let inner = Arc::new(Inner {
            local_msp,
            signer,
            channels,
            access,
            metrics,
        });
        Self {
            inner,
            permits: Arc::new(Semaphore::new(permits(limit))),
            limit,
        }
    }
}

#[tonic::async_trait]
impl Endorser for EndorserService {
    async fn process_proposal(
        &self,
        request: Request<SignedProposal>,
    ) -> Result<tonic::Response<ProposalResponse>, Status> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            return Err(too_many("/protos.Endorser", self.limit));
        };
        let inner = self.inner.clone();
        let signed = request.into_inner();
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            inner.process(&signed)
        });
        let answer = work
            .await
            .map_err(|failure| Status::internal(failure.to_string()))?;
        answer.map(tonic::Response::new).map_err(Status::unknown)
    }
}

impl Inner {
    /// Faults of the proposal itself are errors of the call; faults in processing it are answers
    /// with status 500.
    fn process(&self, signed: &SignedProposal) -> Result<ProposalResponse, String> {
        self.metrics.endorser().proposals_received.inc();
        let started = std::time::Instant::now();
        let proposal = UnpackedProposal::open(signed).map_err(|reason| {
            self.metrics.endorser().proposal_validation_failures.inc();
            tracing::warn!(target: "endorser", %reason, "Failed to unpack proposal");
            reason.to_string()
        })?;
        let channel = match proposal.channel_id() {
            "" => None,
            id => match self.channels.get(id) {
                Some(channel) => Some(channel),
                None => return Ok(failed(format!("channel '{id}' not found"))),
            },
        };
        self.check(&proposal, channel.as_deref())?;
        let answer = self
            .call(&proposal)
            .and_then(|response| self.answer(&proposal, response));
        let answer = answer.unwrap_or_else(failed);
        let endorsed = answer.endorsement.is_some();
        let success = endorsed || proposal.channel_id().is_empty();
        if success {
            self.metrics.endorser().successful_proposals.inc();
        }
        if matches!(proposal.chaincode.as_str(), cscc::NAME | qscc::NAME) {
            let seconds = started.elapsed().as_secs_f64();
            let endorser = self.metrics.endorser();
            endorser.proposal_done(proposal.channel_id(), &proposal.chaincode, success, seconds);
        }
        Ok(answer)
    }

    fn check(&self, proposal: &UnpackedProposal, channel: Option<&Channel>) -> Result<(), String> {
        self.check_creator(proposal, channel).map_err(|reason| {
            self.metrics.endorser().proposal_validation_failures.inc();
            tracing::warn!(target: "endorser", %reason, "Failed to preProcess proposal");
            format!("error validating proposal: {reason}")
        })?;
        let Some(channel) = channel else {
            return Ok(());
        };
        let id = &proposal.channel_header.tx_id;
        let known = channel
            .ledger()
            .transaction_status(id)
            .map_err(|error| error.to_string())?;
        if known.is_some() {
            let creator = hex::encode(&proposal.signature_header.creator);
            return Err(format!(
                "duplicate transaction found [{id}]. Creator [{creator}]"
            ));
        }
        Ok(())
    }

    fn check_creator(
        &self,
        proposal: &UnpackedProposal,
        channel: Option<&Channel>,
    ) -> Result<(), CreatorError> {
        match channel {
            None => proposal.validate(&self.local_msp)?,
            Some(channel) => proposal.validate(&**channel.config().msps())?,
        }
        let identity = match channel {
            None => self
                .local_msp
                .deserialize(&proposal.signature_header.creator),
            Some(channel) => channel
                .config()
                .msps()
                .deserialize(&proposal.signature_header.creator),
        };
        match identity {
            Ok(identity) if identity.expires_at() < SystemTime::now() => Err(CreatorError::Expired),
            _ => Ok(()),
        }
    }

    fn call(&self, proposal: &UnpackedProposal) -> Result<Response, String> {
        let context = Context {
            channels: &self.channels,
            access: &self.access,
            caller: &proposal.signed,
        };
        let arguments = &proposal.input.args;
        let started = std::time::Instant::now();
        let response = match proposal.chaincode.as_str() {
            cscc::NAME => cscc::invoke(&context, arguments),
            qscc::NAME => qscc::invoke(&context, arguments),
            name => {
                let channel = proposal.channel_id();
                return Err(format!(
                    "make sure the chaincode {name} has been successfully defined on channel \
                     {channel} and try again: chaincode {name} not found"
                ));
            }
        };
        tracing::info!(
            target: "endorser",
            channel = proposal.channel_id(),
            txID = proposal.channel_header.tx_id.get(..8).unwrap_or_default(),
            "finished chaincode: {} duration: {}ms",
            proposal.chaincode,
            started.elapsed().as_millis()
        );
        Ok(response)
    }

    fn answer(
        &self,
        proposal: &UnpackedProposal,
        response: Response,
    ) -> Result<ProposalResponse, String> {
        if response.status >= ERROR {
            let payload = response_payload(proposal, &response);
            return Ok(ProposalResponse {
                response: Some(response),
                payload: payload.into(),
                ..Default::default()
            });
        }
        if proposal.channel_id().is_empty() || response.status >= ERROR_THRESHOLD {
            return Ok(ProposalResponse {
                response: Some(response),
                ..Default::default()
            });
        }
        let payload = response_payload(proposal, &response);
        let endorser = self.signer.serialized().clone();
        let signature = self
            .signer
            .sign(&[payload.as_slice(), endorser.as_ref()].concat())
            .map_err(|error| format!("endorsing with plugin failed: {error}"))?;
        Ok(ProposalResponse {
            version: 1,
            response: Some(response),
            payload: payload.into(),
            endorsement: Some(Endorsement {
                endorser,
                signature,
            }),
            ..Default::default()
        })
    }
}

/// Why a creator may not propose.
#[derive(Debug, thiserror::Error)]
enum CreatorError {
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    #[error("proposal client identity expired")]
    Expired,
}

fn response_payload(proposal: &UnpackedProposal, response: &Response) -> Vec<u8> {
    let action = ChaincodeAction {
        response: Some(response.clone()),
        chaincode_id: Some(ChaincodeId {
            name: proposal.chaincode.clone(),
            version: scc::VERSION.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    ProposalResponsePayload {
        proposal_hash: proposal.hash.to_vec().into(),
        extension: action.encode_to_vec().into(),
    }
    .encode_to_vec()
}

fn failed(message: String) -> ProposalResponse {
    tracing::warn!(target: "endorser", error = %message, "Failed to invoke chaincode");
    ProposalResponse {
        response: Some(scc::error(message)),
        ..Default::default()
    }
}
