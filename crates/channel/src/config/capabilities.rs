//! Capabilities: what a channel asks of the software that serves it.
//!
//! A capability is required by being listed; a node that does not know it must not go on, since it
//! would reach other verdicts than its neighbours (Fabric: `common/capabilities`).

use std::collections::BTreeSet;
use std::fmt;

use selvedge_msp::MspVersion;

use super::ConfigError;

/// The three parts of a channel that have capabilities of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole channel: orderers and peers.
    Channel,
    /// The ordering service.
    Orderer,
    /// The peers.
    Application,
}

impl Part {
    /// What Fabric v3.1 knows, and so do we.
    fn supported(self) -> &'static [&'static str] {
        match self {
            Self::Channel => &["V1_1", "V1_3", "V1_4_2", "V1_4_3", "V2_0", "V3_0"],
            Self::Orderer => &["V1_1", "V1_4_2", "V2_0"],
            Self::Application => &[
                "V1_1",
                "V1_2",
                "V1_3",
                "V1_4_2",
                "V2_0",
                "V2_5",
                "V1_1_PVTDATA_EXPERIMENTAL",
                "V1_1_RESOURCETREE_EXPERIMENTAL",
            ],
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel => "Channel",
            Self::Orderer => "Orderer",
            Self::Application => "Application",
        })
    }
}

/// The capabilities that one part of a channel requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    part: Part,
    required: BTreeSet<String>,
}

impl Capabilities {
    pub(super) fn new(part: Part, required: impl IntoIterator<Item = String>) -> Self {
        Self {
            part,
            required: required.into_iter().collect(),
        }
    }

    /// Their names, such as `V2_0`.
    pub fn required(&self) -> &BTreeSet<String> {
        &self.required
    }

    /// Whether one of `names` is required.
    pub fn any_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.required.contains(*name))
    }

    /// An error that names the first capability that is required and not supported.
    pub fn check_supported(&self) -> Result<(), ConfigError> {
        let known = self.part.supported();
        let unknown = self
            .required
            .iter()
            .find(|name| !known.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some(name) => Err(ConfigError::UnsupportedCapability {
                part: self.part,
                capability: name.clone(),
            }),
        }
    }
}

/// The capabilities of all parts of a channel, and what follows from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelCapabilities {
    /// Those of the channel as a whole.
    pub channel: Capabilities,
    /// Those of the ordering service. A peer does not act on them, nor does it refuse a channel for
    /// them, as in Fabric.
    pub orderer: Capabilities,
    /// Those of the peers.
    pub application: Capabilities,
}

impl ChannelCapabilities {
    /// Checks those that concern a peer: the channel's and the application's
    /// (Fabric: `capabilitiesSupportedOrPanic` in `core/peer`).
    pub fn check_supported(&self) -> Result<(), ConfigError> {
        self.application.check_supported()?;
        self.channel.check_supported()
    }

    /// V3_0: blocks may be signed by a quorum of consenters that are named by their numbers, Ed25519
    /// keys count, and orderer addresses stand with the organisations only.
    pub fn v3_0(&self) -> bool {
        self.channel.any_of(&["V3_0"])
    }

    /// The rules that the channel's MSPs go by.
    pub fn msp_version(&self) -> MspVersion {
        let by_capability: [(&[&str], _); 4] = [
            (&["V3_0"], MspVersion::V3_0),
            (&["V1_4_3", "V2_0"], MspVersion::V1_4_3),
            (&["V1_3", "V1_4_2"], MspVersion::V1_3),
            (&["V1_1"], MspVersion::V1_1),
        ];
        let version = by_capability
            .into_iter()
            .find(|(names, _)| self.channel.any_of(names));
        version.map_or(MspVersion::V1_0, |(_, version)| version)
    }

    /// Orderer organisations may have addresses of their own.
    pub(super) fn org_specific_orderer_endpoints(&self) -> bool {
        self.channel.any_of(&["V1_4_2", "V1_4_3", "V2_0", "V3_0"])
    }

    /// The consensus type may change.
    pub(super) fn consensus_type_migration(&self) -> bool {
        self.org_specific_orderer_endpoints()
    }

    /// ACLs may be configured.
    pub(super) fn acls(&self) -> bool {
        self.application
            .any_of(&["V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_capability_is_named() {
        let capabilities =
            |part, names: &[&str]| Capabilities::new(part, names.iter().map(ToString::to_string));
        let supported = capabilities(Part::Application, &["V2_0", "V2_5"]);
        assert!(supported.check_supported().is_ok());
        assert!(supported.any_of(&["V2_5"]) && !supported.any_of(&["V3_0"]));
        let error = capabilities(Part::Channel, &["V2_0", "V9_9"])
            .check_supported()
            .unwrap_err();
        assert!(
            error.to_string().contains("Channel capability V9_9"),
            "{error}"
        );
    }
}
