//! `protos.Endorser`: proposals to the system chaincodes.
//!
//! Chaincodes of users are not executed yet: a proposal to one is answered as by a Fabric peer on
//! which the chaincode is not installed.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use selvedge_msp::{Msp, SigningIdentity};
use selvedge_protos::Message;
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeId, Endorsement, ProposalResponse, ProposalResponsePayload, Response,
    SignedProposal,
};
use selvedge_transport::services::protos::endorser_server::Endorser;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};

use super::proposal::UnpackedProposal;
use super::{filters, permits, too_many};
use crate::access::{AccessControl, ChannelResource};
use crate::channel::{Channel, Channels};
use crate::metrics::Metrics;
use crate::scc::{self, Context, cscc, qscc};

/// A status from which on a chaincode's answer is not endorsed (shim: `ERRORTHRESHOLD`).
const ERROR_THRESHOLD: i32 = 400;
/// A status from which on it is a failure (shim: `ERROR`).
const ERROR: i32 = 500;

/// Fabric's; proposals to them need not come from a channel's writers.
const SYSTEM_CHAINCODES: [&str; 4] = ["_lifecycle", "lscc", cscc::NAME, qscc::NAME];

/// Settings of the service.
#[derive(Debug, Clone, Default)]
pub struct EndorserOptions {
    /// Proposals that are processed at the same time (peer.limits.concurrency.endorserService); more
    /// are refused. `None` is no limit.
    pub concurrency: Option<NonZeroUsize>,
    /// Whether creators with an expired certificate are refused (`ExpirationCheck` among
    /// peer.handlers.authFilters).
    pub check_expiration: bool,
    /// How far a proposal's time may be from ours (`TimeWindowCheck` among them).
    pub time_window: Option<Duration>,
}

/// The endorser service.
#[derive(Clone)]
pub struct EndorserService {
    inner: Arc<Inner>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

struct Inner {
    local_msp: Msp,
    signer: SigningIdentity,
    channels: Channels,
    access: AccessControl,
    metrics: Metrics,
    options: EndorserOptions,
}

impl EndorserService {
    /// `local_msp` is the MSP of the peer's own organisation, `signer` the peer itself. Proposals are
    /// processed as `tasks`.
    pub fn new(
        local_msp: Msp,
        signer: SigningIdentity,
        channels: Channels,
        metrics: Metrics,
        options: EndorserOptions,
        tasks: TaskTracker,
    ) -> Self {
        let access = AccessControl::new(local_msp.clone());
        let inner = Arc::new(Inner {
            local_msp,
            signer,
            channels,
            access,
            metrics,
            options,
        });
        Self {
            permits: Arc::new(Semaphore::new(permits(inner.options.concurrency))),
            inner,
            tasks,
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
            let limit = self.inner.options.concurrency;
            return Err(too_many("/protos.Endorser", limit));
        };
        let inner = self.inner.clone();
        let signed = request.into_inner();
        let work = self.tasks.spawn_blocking(move || {
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
        self.filter(signed)?;
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
        if is_known(&proposal.chaincode) {
            let seconds = started.elapsed().as_secs_f64();
            let endorser = self.metrics.endorser();
            endorser.proposal_done(proposal.channel_id(), &proposal.chaincode, success, seconds);
        }
        Ok(answer)
    }

    fn filter(&self, signed: &SignedProposal) -> Result<(), String> {
        if self.options.check_expiration {
            filters::check_expiration(signed).map_err(|error| error.to_string())?;
        }
        if let Some(window) = self.options.time_window {
            filters::check_time_window(signed, window, SystemTime::now())
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn check(&self, proposal: &UnpackedProposal, channel: Option<&Channel>) -> Result<(), String> {
        let checked = match channel {
            None => proposal.validate(&self.local_msp),
            Some(channel) => proposal.validate(&**channel.config().msps()),
        };
        checked.map_err(|reason| {
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
            .has_transaction(id)
            .map_err(|error| error.to_string())?;
        if known {
            if is_known(&proposal.chaincode) {
                let endorser = self.metrics.endorser();
                endorser.duplicate_transaction(channel.id(), &proposal.chaincode);
            }
            let creator = hex::encode(&proposal.signature_header.creator);
            return Err(format!(
                "duplicate transaction found [{id}]. Creator [{creator}]"
            ));
        }
        if SYSTEM_CHAINCODES.contains(&proposal.chaincode.as_str()) {
            // They check for themselves.
            return Ok(());
        }
        self.access
            .check_channel(ChannelResource::PROPOSE, channel, &proposal.signed)
            .map_err(|refusal| refusal.to_string())
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
            if !proposal.channel_id().is_empty() {
                let endorser = self.metrics.endorser();
                endorser.endorsement_failure(proposal.channel_id(), &proposal.chaincode, true);
            }
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

/// Whether a chaincode is answered here. Others are named by clients, so no metric may have their names.
fn is_known(chaincode: &str) -> bool {
    matches!(chaincode, cscc::NAME | qscc::NAME)
}
