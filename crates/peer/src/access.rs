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
/// The policy that guards proposing transactions where the channel names no other.
pub const APPLICATION_WRITERS: &str = "/Channel/Application/Writers";

/// A resource of the peer as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerResource {
    /// `cscc/JoinChain`: administrators of the peer's organisation.
    JoinChain,
    /// `cscc/GetChannels`: members of the peer's organisation.
    GetChannels,
    /// `cscc/JoinChainBySnapshot`: administrators.
    JoinChainBySnapshot,
    /// `cscc/JoinBySnapshotStatus`: administrators.
    JoinBySnapshotStatus,
    /// `snapshot/submitrequest`: administrators.
    SubmitSnapshotRequest,
    /// `snapshot/cancelrequest`: administrators.
    CancelSnapshotRequest,
    /// `snapshot/listpending`: administrators.
    ListPendingSnapshots,
}

impl PeerResource {
    const fn role(self) -> (msp_role::MspRoleType, &'static str) {
        match self {
            Self::GetChannels => (msp_role::MspRoleType::Member, "Members"),
            Self::JoinChain
            | Self::JoinChainBySnapshot
            | Self::JoinBySnapshotStatus
            | Self::SubmitSnapshotRequest
            | Self::CancelSnapshotRequest
            | Self::ListPendingSnapshots => (msp_role::MspRoleType::Admin, "Admins"),
        }
    }
}

/// A resource of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelResource {
    name: &'static str,
    /// The policy that guards it unless the channel's ACLs name another.
    default: &'static str,
}

impl ChannelResource {
    const fn for_readers(name: &'static str) -> Self {
        Self {
            name,
            default: APPLICATION_READERS,
        }
    }

    /// `peer/Propose`: proposals to chaincodes of users.
    pub const PROPOSE: Self = Self {
        name: "peer/Propose",
        default: APPLICATION_WRITERS,
    };
    /// `cscc/GetConfigBlock`
    pub const GET_CONFIG_BLOCK: Self = Self::for_readers("cscc/GetConfigBlock");
    /// `cscc/GetChannelConfig`
    pub const GET_CHANNEL_CONFIG: Self = Self::for_readers("cscc/GetChannelConfig");
    /// `qscc/GetChainInfo`
    pub const GET_CHAIN_INFO: Self = Self::for_readers("qscc/GetChainInfo");
    /// `qscc/GetBlockByNumber`
    pub const GET_BLOCK_BY_NUMBER: Self = Self::for_readers("qscc/GetBlockByNumber");
    /// `qscc/GetBlockByHash`
    pub const GET_BLOCK_BY_HASH: Self = Self::for_readers("qscc/GetBlockByHash");
    /// `qscc/GetTransactionByID`
    pub const GET_TRANSACTION_BY_ID: Self = Self::for_readers("qscc/GetTransactionByID");
    /// `qscc/GetBlockByTxID`
    pub const GET_BLOCK_BY_TX_ID: Self = Self::for_readers("qscc/GetBlockByTxID");
    /// `event/Block`
    pub const BLOCK_EVENTS: Self = Self::for_readers("event/Block");
    /// `event/FilteredBlock`
    pub const FILTERED_BLOCK_EVENTS: Self = Self::for_readers("event/FilteredBlock");

    /// The name by which a channel's ACLs know the resource.
    pub const fn name(self) -> &'static str {
        self.name
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
    /// The policy that the channel's ACLs name is not met.
    #[error("failed evaluating policy on signed data during check policy [{policy}]: [{reason}]")]
    Acl {
        /// The full path of the policy.
        policy: String,
        /// What the evaluation says.
        reason: String,
    },
    /// The default policy is not met.
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
        let acl = config.application().acl(resource.name);
        let path = acl.unwrap_or(resource.default);
        let evaluated = config
            .policies()
            .evaluate(path, std::slice::from_ref(signed));
        evaluated.map_err(|error| {
            let (policy, reason) = (path.to_owned(), error.to_string());
            match acl {
                Some(_) => AccessError::Acl { policy, reason },
                None => AccessError::Policy {
                    channel: channel.id().to_owned(),
                    policy,
                    reason,
                },
            }
        })
    }
}
