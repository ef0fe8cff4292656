//! What the configuration says about the ordering service.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use selvedge_protos::common::{Consenter, Orderers};
use selvedge_protos::etcdraft::ConfigMetadata;
use selvedge_protos::orderer::consensus_type::State;
use selvedge_protos::orderer::{
    BatchSize, BatchTimeout, ChannelRestrictions, ConsensusType, KafkaBrokers,
};

use super::capabilities::ChannelCapabilities;
use super::group::Group;
use super::organization::{MspCollector, OrdererOrg, orderer_org};
use super::{CAPABILITIES, ConfigError, ORDERERS, duration};
use crate::schemas::decode;

/// The section `/Channel/Orderer`.
#[derive(Debug, Clone, PartialEq)]
pub struct OrdererConfig {
    consensus_type: ConsensusType,
    batch_size: BatchSize,
    batch_timeout: Duration,
    consenters: Vec<Consenter>,
    max_channels: u64,
    organizations: BTreeMap<String, OrdererOrg>,
}

impl OrdererConfig {
    pub(super) fn read(
        group: &Group<'_>,
        capabilities: &ChannelCapabilities,
        msps: &mut MspCollector,
    ) -> Result<Self, ConfigError> {
        group.allow_values(&[
            CONSENSUS_TYPE,
            BATCH_SIZE,
            BATCH_TIMEOUT,
            KAFKA_BROKERS,
            CHANNEL_RESTRICTIONS,
            ORDERERS,
            CAPABILITIES,
        ])?;
        let _ignored_as_in_fabric: KafkaBrokers = group.value(KAFKA_BROKERS)?;
        let Orderers { consenter_mapping } = group.value(ORDERERS)?;
        let ChannelRestrictions { max_count } = group.value(CHANNEL_RESTRICTIONS)?;
        let mut config = Self {
            consensus_type: group.value(CONSENSUS_TYPE)?,
            batch_size: read_batch_size(group)?,
            batch_timeout: read_batch_timeout(group)?,
            consenters: consenter_mapping,
            max_channels: max_count,
            organizations: BTreeMap::new(),
        };
        let endpoints_allowed = capabilities.org_specific_orderer_endpoints();
        for (name, group) in group.groups() {
            let organization = orderer_org(name, &group, msps, endpoints_allowed)?;
            if capabilities.v3_0() && organization.endpoints.is_empty() {
                let reason = "with channel capability V3_0 it needs orderer endpoints of its own";
                return Err(ConfigError::invalid(&group.path, reason));
            }
            config.organizations.insert(name.to_owned(), organization);
        }
        Ok(config)
    }

    /// The consensus type, such as `etcdraft` or `BFT`.
    pub fn consensus_type(&self) -> &str {
        &self.consensus_type.r#type
    }

    /// Whether the ordering nodes run a protocol that tolerates malicious ones among them.
    pub fn is_bft(&self) -> bool {
        self.consensus_type() == "BFT"
    }

    /// The consensus type's own configuration; its message depends on the type.
    pub fn consensus_metadata(&self) -> &Bytes {
        &self.consensus_type.metadata
    }

    /// The configuration of a Raft ordering service, with its consenters; `None` for other types.
    pub fn raft_metadata(&self) -> Result<Option<ConfigMetadata>, ConfigError> {
        if self.consensus_type() != "etcdraft" {
            return Ok(None);
        }
        decode(self.consensus_metadata().clone())
            .map(Some)
            .map_err(ConfigError::malformed(
                "/Channel/Orderer/ConsensusType metadata",
            ))
    }

    /// Whether the ordering service is under maintenance, which a change of consensus type needs.
    pub fn is_in_maintenance(&self) -> bool {
        self.consensus_type.state == State::Maintenance as i32
    }

    /// How many transactions and bytes a block may hold.
    pub fn batch_size(&self) -> &BatchSize {
        &self.batch_size
    }

    /// How long transactions wait for more before a block is cut.
    pub fn batch_timeout(&self) -> Duration {
        self.batch_timeout
    }

    /// The consenters of a BFT ordering service by their numbers; empty for others.
    pub fn consenters(&self) -> &[Consenter] {
        &self.consenters
    }

    /// How many channels the ordering service allows; 0 for any number.
    pub fn max_channels(&self) -> u64 {
        self.max_channels
    }

    /// Its organisations by the names of their groups.
    pub fn organizations(&self) -> &BTreeMap<String, OrdererOrg> {
        &self.organizations
    }
}

const CONSENSUS_TYPE: &str = "ConsensusType";
const BATCH_SIZE: &str = "BatchSize";
const BATCH_TIMEOUT: &str = "BatchTimeout";
const KAFKA_BROKERS: &str = "KafkaBrokers";
const CHANNEL_RESTRICTIONS: &str = "ChannelRestrictions";

fn read_batch_size(group: &Group<'_>) -> Result<BatchSize, ConfigError> {
    let size: BatchSize = group.value(BATCH_SIZE)?;
    let limits = [
        ("max_message_count", size.max_message_count),
        ("absolute_max_bytes", size.absolute_max_bytes),
        ("preferred_max_bytes", size.preferred_max_bytes),
    ];
    let path = group.path_of(BATCH_SIZE);
    if let Some((limit, _)) = limits.iter().find(|(_, value)| *value == 0) {
        return Err(ConfigError::invalid(&path, format!("{limit} is 0")));
    }
    if size.preferred_max_bytes > size.absolute_max_bytes {
        let reason = format!(
            "preferred_max_bytes ({}) is above absolute_max_bytes ({})",
            size.preferred_max_bytes, size.absolute_max_bytes
        );
        return Err(ConfigError::invalid(&path, reason));
    }
    Ok(size)
}

fn read_batch_timeout(group: &Group<'_>) -> Result<Duration, ConfigError> {
    let BatchTimeout { timeout } = group.value(BATCH_TIMEOUT)?;
    match duration::parse(&timeout) {
        Some(parsed) if !parsed.is_zero() => Ok(parsed),
        _ => {
            let reason = format!("'{timeout}' is no duration above zero, such as 2s");
            Err(ConfigError::invalid(&group.path_of(BATCH_TIMEOUT), reason))
        }
    }
}
