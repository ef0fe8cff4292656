//! Why a channel configuration cannot be used.

use selvedge_msp::MspError;
use selvedge_policy::PolicyError;
use selvedge_protos::DecodeError;

use super::capabilities::Part;
use crate::envelope::HeaderFault;

/// Why a channel configuration cannot be used. Elements are named by their path in the configuration
/// tree, such as `/Channel/Orderer/BatchSize`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The block that should hold the configuration has no transaction.
    #[error("the block has no transactions")]
    EmptyBlock,
    /// The headers around the configuration cannot be read.
    #[error("the config transaction cannot be read: {0}")]
    Unreadable(#[from] HeaderFault),
    /// A message of the configuration does not parse.
    #[error("{path} does not parse: {source}")]
    Malformed {
        /// Which one.
        path: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A block that should hold a configuration holds something else.
    #[error("the block is no config block")]
    NotConfig,
    /// The configuration lacks a part that a channel must have.
    #[error("{path} is missing")]
    Missing {
        /// Which part.
        path: String,
    },
    /// The configuration has an element that has no place there.
    #[error("{path} is not allowed")]
    NotAllowed {
        /// Which element.
        path: String,
    },
    /// A value that Fabric does not accept.
    #[error("{path}: {reason}")]
    Invalid {
        /// Which value.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The channel needs a capability that this software does not have.
    #[error(
        "{part} capability {capability} is required but not supported; a newer version of this \
         peer is needed to serve the channel"
    )]
    UnsupportedCapability {
        /// Whose capability.
        part: Part,
        /// Its name.
        capability: String,
    },
    /// The name of the channel breaks Fabric's rules.
    #[error(
        "bad channel name '{found}': it must have 1 to 249 of a-z, 0-9, '.' and '-', and begin with \
         a letter"
    )]
    ChannelName {
        /// The name.
        found: String,
    },
    /// The name of an element breaks Fabric's rules.
    #[error("bad name '{found}' of a configuration element")]
    ElementName {
        /// The name.
        found: String,
    },
    /// The configuration is of another channel.
    #[error("the configuration is of channel '{found}', not of '{expected}'")]
    WrongChannel {
        /// The channel that it should be of.
        expected: String,
        /// The channel that it is of.
        found: String,
    },
    /// Two organisations define the same MSP differently.
    #[error("MSP {id} is defined in two different ways")]
    ConflictingMsp {
        /// The MSP.
        id: String,
    },
    /// The MSP of an organisation cannot be used.
    #[error("{path}: {source}")]
    Msp {
        /// Where it is defined.
        path: String,
        /// What is wrong with it.
        source: MspError,
    },
    /// The MSPs do not go together.
    #[error("the MSPs of the channel: {0}")]
    MspManager(#[source] MspError),
    /// The policies cannot be used.
    #[error("the policies of the channel: {0}")]
    Policies(#[source] PolicyError),
    /// The new configuration may not come after the current one.
    #[error("{0}")]
    NotASuccessor(String),
}

impl ConfigError {
    pub(crate) fn malformed(path: impl Into<String>) -> impl FnOnce(DecodeError) -> Self {
        let path = path.into();
        move |source| Self::Malformed { path, source }
    }

    pub(super) fn invalid(path: &str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn missing(path: &str) -> Self {
        Self::Missing {
            path: path.to_owned(),
        }
    }
}
