//! Organisations and their MSPs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_msp::{Msp, MspManager, MspVersion};
use selvedge_protos::common::OrdererAddresses;
use selvedge_protos::msp::MspConfig;
use selvedge_protos::protos::AnchorPeers;

use super::ConfigError;
use super::group::Group;

/// A peer that an organisation names as its contact for the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnchorPeer {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: i32,
}

/// An organisation with peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationOrg {
    /// The name of its group in the configuration, which need not be its MSP's id.
    pub name: String,
    /// The id of its MSP.
    pub msp_id: String,
    /// Its anchor peers, in their order in the configuration.
    pub anchor_peers: Vec<AnchorPeer>,
}

/// An organisation with ordering nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdererOrg {
    /// The name of its group in the configuration, which need not be its MSP's id.
    pub name: String,
    /// The id of its MSP.
    pub msp_id: String,
    /// Addresses of its ordering nodes, `host:port`.
    pub endpoints: Vec<String>,
    /// The certificates (DER) of the CAs that issue its TLS certificates: roots, then intermediate
    /// ones.
    pub tls_ca_certs: Vec<Bytes>,
}

/// Collects the MSPs of a channel. An MSP may be defined more than once, by an organisation that
/// has peers and ordering nodes, if the definitions are the same
/// (Fabric: `channelconfig.MSPConfigHandler`).
pub(super) struct MspCollector {
    version: MspVersion,
    defined: BTreeMap<String, (MspConfig, Msp)>,
}

impl MspCollector {
    pub fn new(version: MspVersion) -> Self {
        Self {
            version,
            defined: BTreeMap::new(),
        }
    }

    fn define(&mut self, organization: &Group<'_>) -> Result<&Msp, ConfigError> {
        let path = organization.path_of(MSP);
        let config: MspConfig = organization.value(MSP)?;
        let msp = Msp::from_config(&config, self.version).map_err(|source| ConfigError::Msp {
            path: path.clone(),
            source,
        })?;
        if msp.id().is_empty() {
            return Err(ConfigError::invalid(&path, "the MSP has no id"));
        }
        let id = msp.id().to_owned();
        let (known, msp) = self
            .defined
            .entry(id)
            .or_insert_with(|| (config.clone(), msp));
        if *known == config {
            return Ok(msp);
        }
        Err(ConfigError::ConflictingMsp {
            id: msp.id().to_owned(),
        })
    }

    /// The MSPs, and their definitions by id.
    pub fn into_manager(
        self,
    ) -> Result<(Arc<MspManager>, BTreeMap<String, MspConfig>), ConfigError> {
        let mut msps = Vec::with_capacity(self.defined.len());
        let mut configs = BTreeMap::new();
        for (id, (config, msp)) in self.defined {
            configs.insert(id, config);
            msps.push(msp);
        }
        let manager = MspManager::new(msps).map_err(ConfigError::MspManager)?;
        Ok((Arc::new(manager), configs))
    }
}

const MSP: &str = "MSP";
const ANCHOR_PEERS: &str = "AnchorPeers";
const ENDPOINTS: &str = "Endpoints";

pub(super) fn application_org(
    name: &str,
    group: &Group<'_>,
    msps: &mut MspCollector,
) -> Result<ApplicationOrg, ConfigError> {
    group.allow_groups(&[])?;
    group.allow_values(&[MSP, ANCHOR_PEERS])?;
    let AnchorPeers { anchor_peers } = group.value(ANCHOR_PEERS)?;
    let anchor_peers = anchor_peers.into_iter().map(|peer| AnchorPeer {
        host: peer.host,
        port: peer.port,
    });
    Ok(ApplicationOrg {
        name: name.to_owned(),
        msp_id: msps.define(group)?.id().to_owned(),
        anchor_peers: anchor_peers.collect(),
    })
}

pub(super) fn orderer_org(
    name: &str,
    group: &Group<'_>,
    msps: &mut MspCollector,
    endpoints_allowed: bool,
) -> Result<OrdererOrg, ConfigError> {
    group.allow_groups(&[])?;
    group.allow_values(if endpoints_allowed {
        &[MSP, ENDPOINTS]
    } else {
        &[MSP]
    })?;
    let OrdererAddresses { addresses } = group.value(ENDPOINTS)?;
    let msp = msps.define(group)?;
    let tls_ca_certs = msp
        .tls_root_certs()
        .iter()
        .chain(msp.tls_intermediate_certs());
    Ok(OrdererOrg {
        name: name.to_owned(),
        msp_id: msp.id().to_owned(),
        endpoints: addresses,
        tls_ca_certs: tls_ca_certs.cloned().collect(),
    })
}

/// An organisation of a consortium: nothing but an MSP, whose id is returned.
pub(super) fn consortium_org(
    group: &Group<'_>,
    msps: &mut MspCollector,
) -> Result<String, ConfigError> {
    group.allow_groups(&[])?;
    group.allow_values(&[MSP])?;
    msps.define(group).map(|msp| msp.id().to_owned())
}
