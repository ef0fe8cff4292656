//! What an ordering node checks before it takes a message (Fabric: orderer/common/msgprocessor).

use std::time::SystemTime;

use bytes::Bytes;
use selvedge_channel::config_update::{self, UpdateError};
use selvedge_channel::{ChannelConfig, ConfigError};
use selvedge_msp::{SignatureError, SigningIdentity, expires_at};
use selvedge_policy::{PolicyError, SignedData};
use selvedge_protos::Message;
use selvedge_protos::common::{Envelope, HeaderType, Status};
use selvedge_protos::envelope::{EnvelopeError, OpenedEnvelope};

use crate::messages::signed_envelope;

/// The policy that a message's creator has to satisfy.
const WRITERS: &str = "/Channel/Writers";
const WRITERS_IN_MAINTENANCE: &str = "/Channel/Orderer/Writers";

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its layers do not parse.
    #[error("could not determine channel ID: {0}")]
    Malformed(#[from] EnvelopeError),
    /// It is for a channel that is not served here.
    #[error("channel {0:?} does not exist")]
    UnknownChannel(String),
    /// Only ordering nodes make messages of this type.
    #[error("message of type {0} cannot be processed directly")]
    NotForClients(i32),
    /// It is larger than any block may be.
    #[error("message payload is {found} bytes and exceeds maximum allowed {allowed} bytes")]
    TooLarge {
        /// Payload and signature.
        found: usize,
        /// The channel's absolute maximum.
        allowed: u32,
    },
    /// Its creator's certificate has expired.
    #[error("broadcast client identity expired")]
    Expired,
    /// Its creator may not write, or did not sign it.
    #[error("{policy} is not satisfied: permission denied: {source}")]
    Forbidden {
        /// The policy that applies.
        policy: &'static str,
        /// What it says.
        source: PolicyError,
    },
    /// The channel's configuration does not allow ordinary messages at present.
    #[error("normal transactions are rejected: maintenance mode")]
    Maintenance,
    /// It would change the configuration in a way that is not allowed.
    #[error("error applying config update to existing channel: {0}")]
    Update(#[from] UpdateError),
    /// The configuration that it leads to is not usable.
    #[error("the config update leads to an unusable configuration: {0}")]
    Unusable(#[source] Box<ConfigError>),
    /// It would change who orders, which a development node cannot.
    #[error(
        "the consensus type, its metadata and its state cannot change on a development ordering node"
    )]
    Consensus,
    /// The node cannot sign the new configuration.
    #[error("the ordering node cannot sign: {0}")]
    Signing(#[from] SignatureError),
    /// The node is stopping, or could not write a block.
    #[error("the ordering node takes no more messages")]
    Unavailable,
}

impl Refusal {
    /// The status that a client gets (Fabric: orderer/common/broadcast, `ClassifyError`).
    pub fn status(&self) -> Status {
        match self {
            Self::Forbidden { .. } => Status::Forbidden,
            Self::Maintenance | Self::Unavailable => Status::ServiceUnavailable,
            _ => Status::BadRequest,
        }
    }
}

/// A message that may be ordered under the configuration that it was checked against.
pub(super) enum Admitted {
    /// It is ordered as it came.
    Normal(Envelope),
    /// It changes the configuration.
    Config(Box<Reconfiguration>),
}

/// What a config update leads to.
pub(super) struct Reconfiguration {
    /// The update as the client sent it.
    update: Envelope,
    /// The new configuration, signed by this node: the one transaction of a config block.
    pub(super) message: Envelope,
    /// What it says.
    pub(super) config: ChannelConfig,
}

/// Checks a message as it comes from a client.
pub(super) fn admit(
    config: &ChannelConfig,
    signer: &SigningIdentity,
    message: Envelope,
) -> Result<Admitted, Refusal> {
    let opened = OpenedEnvelope::open(message.clone())?;
    let header = &opened.channel_header;
    if header.channel_id != config.channel_id() {
        return Err(Refusal::UnknownChannel(header.channel_id.clone()));
    }
    match HeaderType::try_from(header.r#type) {
        Ok(HeaderType::Config) => Err(Refusal::NotForClients(header.r#type)),
        // Channels were made with it while there was a system channel.
        #[allow(deprecated)]
        Ok(HeaderType::OrdererTransaction) => Err(Refusal::NotForClients(header.r#type)),
        Ok(HeaderType::ConfigUpdate) => {
            check(config, &opened)?;
            reconfigure(config, signer, message)
        }
        _ if config.orderer().is_in_maintenance() => Err(Refusal::Maintenance),
        _ => {
            check(config, &opened)?;
            Ok(Admitted::Normal(message))
        }
    }
}

/// Checks again what was admitted under an older configuration (Fabric: consensus/etcdraft,
/// `ordered`): a config update is applied anew.
pub(super) fn readmit(
    config: &ChannelConfig,
    signer: &SigningIdentity,
    admitted: Admitted,
) -> Result<Admitted, Refusal> {
    match admitted {
        Admitted::Normal(message) => admit(config, signer, message),
        Admitted::Config(change) => admit(config, signer, change.update),
    }
}

fn check(config: &ChannelConfig, message: &OpenedEnvelope) -> Result<(), Refusal> {
    let allowed = config.orderer().batch_size().absolute_max_bytes;
    let found = message.payload_bytes.len() + message.signature.len();
    if found > usize::try_from(allowed).unwrap_or(usize::MAX) {
        return Err(Refusal::TooLarge { found, allowed });
    }
    let creator = &message.signature_header.creator;
    if expires_at(creator).is_ok_and(|time| time <= SystemTime::now()) {
        return Err(Refusal::Expired);
    }
    let policy = if config.orderer().is_in_maintenance() {
        WRITERS_IN_MAINTENANCE
    } else {
        WRITERS
    };
    let verdict = config.policies().evaluate(policy, &[signed_data(message)]);
    verdict.map_err(|source| Refusal::Forbidden { policy, source })
}

/// What the creator of an envelope has signed.
pub(super) fn signed_data(message: &OpenedEnvelope) -> SignedData {
    SignedData {
        data: message.payload_bytes.clone(),
        identity: message.signature_header.creator.clone(),
        signature: message.signature.clone(),
    }
}

fn reconfigure(
    config: &ChannelConfig,
    signer: &SigningIdentity,
    update: Envelope,
) -> Result<Admitted, Refusal> {
    let proposed = config_update::propose(config, &update)?;
    let data = proposed.encode_to_vec().into();
    let next = proposed.config.unwrap_or_default();
    let unusable = |error| Refusal::Unusable(Box::new(error));
    let next = ChannelConfig::from_config(config.channel_id(), next).map_err(unusable)?;
    config.check_successor(&next).map_err(unusable)?;
    if ordering(config) != ordering(&next) {
        return Err(Refusal::Consensus);
    }
    let message = signed_envelope(signer, HeaderType::Config, config.channel_id(), data)?;
    // Once more for the result: its size counts, and that this node may sign it.
    check(config, &OpenedEnvelope::open(message.clone())?)?;
    Ok(Admitted::Config(Box::new(Reconfiguration {
        update,
        message,
        config: next,
    })))
}

/// Who orders, and how.
fn ordering(config: &ChannelConfig) -> (&str, &Bytes, bool) {
    let orderer = config.orderer();
    (
        orderer.consensus_type(),
        orderer.consensus_metadata(),
        orderer.is_in_maintenance(),
    )
}
