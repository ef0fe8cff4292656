//! The rules of one channel, as its latest config block states them.
//!
//! The checks are those of Fabric's `channelconfig.NewBundle`, with what a Fabric peer demands
//! beyond it: an application and an orderer section, and no capability that it does not support.

mod application;
mod capabilities;
mod changes;
mod duration;
mod error;
mod group;
mod names;
mod orderer;
mod organization;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use selvedge_msp::MspManager;
use selvedge_policy::PolicyManager;
use selvedge_protos::common::{
    self, Block, BlockDataHashingStructure, Config, Consortium, HashingAlgorithm, OrdererAddresses,
    Orderers,
};
use selvedge_protos::msp::MspConfig;

pub use application::ApplicationConfig;
pub use capabilities::{Capabilities, ChannelCapabilities, Part};
pub use changes::ConfigChanges;
pub use error::ConfigError;
pub use names::check_channel_id;
pub use orderer::OrdererConfig;
pub use organization::{AnchorPeer, ApplicationOrg, OrdererOrg};

use crate::config_block::config_of_channel;
use group::Group;
use organization::{MspCollector, consortium_org};

/// The configuration of a channel. Immutable: a config update makes a new one. Share it as
/// `Arc<ChannelConfig>`.
pub struct ChannelConfig {
    channel_id: String,
    config: Config,
    capabilities: ChannelCapabilities,
    orderer_addresses: Vec<String>,
    application: ApplicationConfig,
    orderer: OrdererConfig,
    /// MSP ids of consortium organisations by their paths; `None` without a consortiums section.
    consortium_msp_ids: Option<BTreeMap<String, String>>,
    msp_configs: BTreeMap<String, MspConfig>,
    msps: Arc<MspManager>,
    policies: PolicyManager,
}

impl ChannelConfig {
    /// Reads the configuration that a config block holds. The channel is the one that the block's
    /// transaction names. Costs the parsing of all certificates of the channel.
    pub fn from_block(block: &Block) -> Result<Self, ConfigError> {
        let (channel_id, config) = config_of_channel(block)?;
        Self::from_config(&channel_id, config)
    }

    /// Reads a configuration that is already taken from its block.
    pub fn from_config(channel_id: &str, config: Config) -> Result<Self, ConfigError> {
        check_channel_id(channel_id)?;
        let root = config
            .channel_group
            .as_ref()
            .ok_or_else(|| ConfigError::missing("/Channel"))?;
        let sections = Sections::of(Group::root(root))?;
        let capabilities = sections.capabilities()?;
        let orderer_addresses = read_channel_values(&sections.channel, &capabilities)?;

        let mut msps = MspCollector::new(capabilities.msp_version());
        let application = ApplicationConfig::read(&sections.application, &capabilities, &mut msps)?;
        let orderer = OrdererConfig::read(&sections.orderer, &capabilities, &mut msps)?;
        let consortium_msp_ids = match sections.channel.group(CONSORTIUMS) {
            Some(consortiums) => Some(read_consortiums(&consortiums, &mut msps)?),
            None => None,
        };
        let (msps, msp_configs) = msps.into_manager()?;

        let policies = PolicyManager::new(root, msps.clone()).map_err(ConfigError::Policies)?;
        Ok(Self {
            channel_id: channel_id.to_owned(),
            capabilities,
            orderer_addresses,
            application,
            orderer,
            consortium_msp_ids,
            msp_configs,
            msps,
            policies,
            config,
        })
    }

    /// The channel's name.
    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// How many updates the configuration has seen.
    pub fn sequence(&self) -> u64 {
        self.config.sequence
    }

    /// The configuration as a message.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the channel asks of the software that serves it.
    pub fn capabilities(&self) -> &ChannelCapabilities {
        &self.capabilities
    }

    /// Whether blocks may be signed by numbered consenters (channel capability V3_0), whatever the
    /// consensus type is at present.
    pub fn allows_consenter_signatures(&self) -> bool {
        self.capabilities.v3_0()
    }

    /// The MSPs of all organisations.
    pub fn msps(&self) -> &Arc<MspManager> {
        &self.msps
    }

    /// The policies of the channel.
    pub fn policies(&self) -> &PolicyManager {
        &self.policies
    }

    /// Addresses of ordering nodes that no organisation claims; only in channels below capability
    /// V3_0.
    pub fn orderer_addresses(&self) -> &[String] {
        &self.orderer_addresses
    }

    /// The section `/Channel/Application`.
    pub fn application(&self) -> &ApplicationConfig {
        &self.application
    }

    /// The section `/Channel/Orderer`.
    pub fn orderer(&self) -> &OrdererConfig {
        &self.orderer
    }

    /// The application organisation with this MSP.
    pub fn application_org(&self, msp_id: &str) -> Option<&ApplicationOrg> {
        let mut organizations = self.application.organizations().values();
        organizations.find(|organization| organization.msp_id == msp_id)
    }
}

impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelConfig")
            .field("channel_id", &self.channel_id)
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}

const APPLICATION: &str = "Application";
const ORDERER: &str = "Orderer";
const CONSORTIUMS: &str = "Consortiums";
const CAPABILITIES: &str = "Capabilities";
const ORDERERS: &str = "Orderers";
const ORDERER_ADDRESSES: &str = "OrdererAddresses";
const HASHING_ALGORITHM: &str = "HashingAlgorithm";
const BLOCK_DATA_HASHING_STRUCTURE: &str = "BlockDataHashingStructure";
const CONSORTIUM: &str = "Consortium";

/// The groups that a peer's channel must have.
struct Sections<'a> {
    channel: Group<'a>,
    orderer: Group<'a>,
    application: Group<'a>,
}

impl<'a> Sections<'a> {
    fn of(channel: Group<'a>) -> Result<Self, ConfigError> {
        channel.check_names()?;
        channel.allow_groups(&[APPLICATION, ORDERER, CONSORTIUMS])?;
        let section = |name| {
            let missing = || ConfigError::missing(&channel.path_of(name));
            channel.group(name).ok_or_else(missing)
        };
        Ok(Self {
            orderer: section(ORDERER)?,
            application: section(APPLICATION)?,
            channel,
        })
    }

    /// Reads all capabilities first, since they decide how the rest is read, and stops where one is
    /// not supported.
    fn capabilities(&self) -> Result<ChannelCapabilities, ConfigError> {
        if !self.orderer.has_value(CAPABILITIES) {
            for section in [&self.channel, &self.application] {
                if section.has_value(CAPABILITIES) {
                    let reason = "capabilities need those of the orderer section first";
                    return Err(ConfigError::invalid(&section.path_of(CAPABILITIES), reason));
                }
            }
        }
        let read = |section: &Group<'_>, part| -> Result<Capabilities, ConfigError> {
            let common::Capabilities { capabilities } = section.value(CAPABILITIES)?;
            Ok(Capabilities::new(part, capabilities.into_keys()))
        };
        let capabilities = ChannelCapabilities {
            channel: read(&self.channel, Part::Channel)?,
            orderer: read(&self.orderer, Part::Orderer)?,
            application: read(&self.application, Part::Application)?,
        };
        capabilities.check_supported()?;
        Ok(capabilities)
    }
}

/// Checks the values of the root group and returns the orderer addresses.
fn read_channel_values(
    channel: &Group<'_>,
    capabilities: &ChannelCapabilities,
) -> Result<Vec<String>, ConfigError> {
    channel.allow_values(&[
        HASHING_ALGORITHM,
        BLOCK_DATA_HASHING_STRUCTURE,
        ORDERER_ADDRESSES,
        ORDERERS,
        CONSORTIUM,
        CAPABILITIES,
    ])?;
    let _only_parsed: (Orderers, Consortium) =
        (channel.value(ORDERERS)?, channel.value(CONSORTIUM)?);
    let HashingAlgorithm { name } = channel.value(HASHING_ALGORITHM)?;
    if !matches!(name.as_str(), "SHA256" | "SHA3_256") {
        let reason = format!("'{name}' is unknown; SHA256 and SHA3_256 are allowed");
        return Err(ConfigError::invalid(
            &channel.path_of(HASHING_ALGORITHM),
            reason,
        ));
    }
    let BlockDataHashingStructure { width } = channel.value(BLOCK_DATA_HASHING_STRUCTURE)?;
    if width != u32::MAX {
        let reason = format!("the width must be {}, it is {width}", u32::MAX);
        let path = channel.path_of(BLOCK_DATA_HASHING_STRUCTURE);
        return Err(ConfigError::invalid(&path, reason));
    }
    let OrdererAddresses { addresses } = channel.value(ORDERER_ADDRESSES)?;
    let path = channel.path_of(ORDERER_ADDRESSES);
    if addresses.is_empty() && !capabilities.org_specific_orderer_endpoints() {
        return Err(ConfigError::invalid(&path, "there must be some"));
    }
    if !addresses.is_empty() && capabilities.v3_0() {
        let reason = "with channel capability V3_0 only organisations have orderer addresses";
        return Err(ConfigError::invalid(&path, reason));
    }
    Ok(addresses)
}

/// Consortiums have no meaning to a peer, but their MSPs count among the channel's, as in Fabric.
/// Returns the MSP ids by the paths of the organisations.
fn read_consortiums(
    consortiums: &Group<'_>,
    msps: &mut MspCollector,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut msp_ids = BTreeMap::new();
    for (_, consortium) in consortiums.groups() {
        consortium.allow_values(&["ChannelCreationPolicy"])?;
        for (_, organization) in consortium.groups() {
            let msp_id = consortium_org(&organization, msps)?;
            msp_ids.insert(organization.path, msp_id);
        }
    }
    Ok(msp_ids)
}

#[cfg(test)]
mod tests;
