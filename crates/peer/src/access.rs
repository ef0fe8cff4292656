//! Who may call what: resources, the policies behind them, and their evaluation.
//!
//! A resource of the peer as a whole (joining a channel, listing channels) is guarded by a role in
//! the peer's own organisation. A resource of one channel is guarded by a policy of that channel:
//! the one that the channel's ACLs name for the resource, else Fabric's default
//! (core/aclmgmt: default and resource providers; core/policy).

use selvedge_msp::Msp;
use selvedge_policy::SignedData;
use selvedge_protos::Message;
use selvedge_protos::common::{MspPrincipal, MspRole, msp_principal, msp_role};

use crate::channel::Channel;

/// The policy that guards reading a channel where the channel names no other.
pub const APPLICATION_READERS: &str = "/Channel/Application/Readers";

/// A resource of the peer as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerResource {
    /// `cscc/JoinChain`: administrators of the peer's organisation.
    JoinChain,
    /// `cscc/GetChannels`: members of the peer's organisation.
    GetChannels,
}

impl PeerResource {
    const fn role(self) -> (msp_role::MspRoleType, &'static str) {
        match self {
            Self::JoinChain => (msp_role::MspRoleType::Admin, "Admins"),
            Self::GetChannels => (msp_role::MspRoleType::Member, "Members"),
        }
    }
}

/// A resource of one channel. All of them are open to the channel's readers unless its ACLs say
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelResource(&'static str);

impl ChannelResource {
    /// `cscc/GetConfigBlock`
    pub const GET_CONFIG_BLOCK: Self = Self("cscc/GetConfigBlock");
    /// `cscc/GetChannelConfig`
    pub const GET_CHANNEL_CONFIG: Self = Self("cscc/GetChannelConfig");
    /// `qscc/GetChainInfo`
    pub const GET_CHAIN_INFO: Self = Self("qscc/GetChainInfo");
    /// `qscc/GetBlockByNumber`
    pub const GET_BLOCK_BY_NUMBER: Self = Self("qscc/GetBlockByNumber");
    /// `qscc/GetBlockByHash`
    pub const GET_BLOCK_BY_HASH: Self = Self("qscc/GetBlockByHash");
    /// `qscc/GetTransactionByID`
    pub const GET_TRANSACTION_BY_ID: Self = Self("qscc/GetTransactionByID");
    /// `qscc/GetBlockByTxID`
    pub const GET_BLOCK_BY_TX_ID: Self = Self("qscc/GetBlockByTxID");
    /// `event/Block`
    pub const BLOCK_EVENTS: Self = Self("event/Block");
    /// `event/FilteredBlock`
    pub const FILTERED_BLOCK_EVENTS: Self = Self("event/FilteredBlock");

    /// The name by which a channel's ACLs know the resource.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Why a request was turned away.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The caller's identity cannot be read by the peer's own MSP.
    #[error(
        "Failed deserializing proposal creator during channelless check policy with policy \
         [{policy}]: [{reason}]"
    )]
    UnknownIdentity {
        /// The local policy.
        policy: &'static str,
        /// What the MSP says.
        reason: String,
    },
    /// The caller is not what the local policy asks for.
    #[error(
        "Failed verifying that proposal's creator satisfies local MSP principal during \
         channelless check policy with policy [{policy}]: [{reason}]"
    )]
    NotEntitled {
        /// The local policy.
        policy: &'static str,
        /// What the MSP says.
        reason: String,
    },
    /// The signature is not the caller's.
    #[error("the signature over the proposal is not the creator's: {0}")]
    Signature(String),
    /// The channel's policy is not met.
    #[error(
        "Failed evaluating policy on signed data during check policy on channel [{channel}] with \
         policy [{policy}]: [{reason}]"
    )]
    Policy {
        /// The channel.
        channel: String,
        /// The full path of the policy.
        policy: String,
        /// What the evaluation says.
        reason: String,
    },
}

/// Evaluates the guards of peer and channel resources.
#[derive(Clone)]
pub struct AccessControl {
    local_msp: Msp,
}

impl AccessControl {
    /// `local_msp` is the MSP of the peer's own organisation.
    pub fn new(local_msp: Msp) -> Self {
        Self { local_msp }
    }

    /// May the signer use a resource of the peer as a whole?
    pub fn check_peer(
        &self,
        resource: PeerResource,
        signed: &SignedData,
    ) -> Result<(), AccessError> {
        let (role, policy) = resource.role();
        let identity = self
            .local_msp
            .deserialize(&signed.identity)
            .map_err(|error| AccessError::UnknownIdentity {
                policy,
                reason: error.to_string(),
            })?;
        let principal = MspPrincipal {
            principal_classification: msp_principal::Classification::Role.into(),
            principal: MspRole {
                msp_identifier: self.local_msp.id().to_owned(),
                role: role.into(),
            }
            .encode_to_vec()
            .into(),
        };
        self.local_msp
            .satisfies(&identity, &principal)
            .map_err(|error| AccessError::NotEntitled {
                policy,
                reason: error.to_string(),
            })?;
        identity
            .verify(&signed.data, &signed.signature)
            .map_err(|error| AccessError::Signature(error.to_string()))
    }

    /// May the signer use a resource of `channel`?
    pub fn check_channel(
        &self,
        resource: ChannelResource,
        channel: &Channel,
        signed: &SignedData,
    ) -> Result<(), AccessError> {
        let config = channel.config();
        let path = config
            .application()
            .acl(resource.name())
            .unwrap_or(APPLICATION_READERS);
        let refuse = |reason: String| AccessError::Policy {
            channel: channel.id().to_owned(),
            policy: path.to_owned(),
            reason,
        };
        let signed = std::slice::from_ref(signed);
        config
            .policies()
            .evaluate(path, signed)
            .map_err(|error| refuse(error.to_string()))
    }
}
