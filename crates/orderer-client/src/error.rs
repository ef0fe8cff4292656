//! Why fetching from an ordering node came to an end.

use selvedge_msp::SignatureError;
use selvedge_protos::common::Status;
use selvedge_transport::{ConnectError, TlsError};

use crate::verifier::Refusal;

/// Why fetching from one ordering node has ended. All but the last few mean: try another one.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not reached.
    #[error("could not dial endpoint '{orderer}': {source}")]
    Connect {
        /// The node's address.
        orderer: String,
        /// Why.
        source: ConnectError,
    },
    /// Its TLS roots, or our certificate, cannot be used.
    #[error("could not dial endpoint '{orderer}': {source}")]
    Tls {
        /// The node's address.
        orderer: String,
        /// Why.
        source: TlsError,
    },
    /// The stream broke.
    #[error("error reading from the deliver stream of orderer `{orderer}`: {status}")]
    Stream {
        /// The node's address.
        orderer: String,
        /// What gRPC says.
        status: Box<tonic::Status>,
    },
    /// The stream ended without a reason.
    #[error("orderer `{orderer}` hung up without sending status")]
    HungUp {
        /// The node's address.
        orderer: String,
    },
    /// It said that it will not go on.
    #[error("received bad status {} from orderer `{orderer}`{}", name(*.status), advice(*.status))]
    Status {
        /// The node's address.
        orderer: String,
        /// The number of the status; see `common.Status`.
        status: i32,
    },
    /// It claims to be done with a request that has no end.
    #[error("received success for a seek that should never complete from orderer `{orderer}`")]
    Success {
        /// The node's address.
        orderer: String,
    },
    /// Not a Deliver response.
    #[error("orderer `{orderer}` sent a response that does not parse: {reason}")]
    Malformed {
        /// The node's address.
        orderer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It sent a block that is not the next one, or not a valid one.
    #[error("block [{number}] from orderer [{orderer}] could not be verified: {refusal}")]
    Block {
        /// The node's address.
        orderer: String,
        /// The block that was due.
        number: u64,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// Others have blocks that it withholds.
    #[error("block censorship detected, endpoint: {orderer}")]
    Censorship {
        /// The node's address.
        orderer: String,
    },
    /// The channel's configuration names no ordering node.
    #[error("could not get orderer endpoints: no endpoints currently defined")]
    NoOrderers,
    /// This node cannot sign its requests.
    #[error("could not create a signed Deliver SeekInfo message: {0}")]
    Sign(#[from] SignatureError),
    /// The addresses have changed: connect anew, without a pause.
    #[error("the ordering endpoints have been refreshed")]
    Refreshed,
    /// Nobody takes blocks any more, or the fetcher is being stopped.
    #[error("stopped")]
    Stopped,
}

impl FetchError {
    /// The phrase that Fabric logs before such an error, and that operators look for.
    pub(crate) fn headline(&self) -> &'static str {
        match self {
            Self::Connect { .. } | Self::Tls { .. } | Self::NoOrderers => {
                "Could not connect to ordering service"
            }
            Self::Censorship { .. } => "Censorship suspicion",
            _ => "Got error while attempting to receive blocks",
        }
    }
}

fn name(status: i32) -> String {
    match Status::try_from(status) {
        Ok(status) => status.as_str_name().to_owned(),
        Err(_) => status.to_string(),
    }
}

fn advice(status: i32) -> &'static str {
    match Status::try_from(status) {
        Ok(Status::Forbidden) => {
            "; this peer's organisation may not read the channel, or its certificate has expired"
        }
        Ok(Status::NotFound) => "; it does not know the channel",
        _ => "",
    }
}
