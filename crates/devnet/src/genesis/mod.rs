//! Genesis blocks of application channels, as Fabric's configtxgen makes them.
//!
//! The channel has capabilities V2_0 (application V2_5), so that Go peers of v2.5 and of v3 can join
//! it. Its policies are those of Fabric's sample profiles: `ANY Readers`, `ANY Writers`,
//! `MAJORITY Admins`, `MAJORITY Endorsement`; every element's mod policy is `Admins`.

mod policies;

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use selvedge_msp::msp_config_from_directory;
use selvedge_protos::Message;
use selvedge_protos::block::data_hash;
use selvedge_protos::common::msp_role::MspRoleType::{self, Admin, Client, Member, Peer};
use selvedge_protos::common::{
    Block, BlockData, BlockDataHashingStructure, BlockHeader, BlockMetadata, BlockMetadataIndex,
    Capabilities, Capability, Config, ConfigEnvelope, ConfigGroup, ConfigValue, Envelope,
    HashingAlgorithm, Header, HeaderType, LastConfig, Metadata, OrdererAddresses,
    OrdererBlockMetadata, Payload, SignatureHeader,
};
use selvedge_protos::envelope::transaction_id;
use selvedge_protos::etcdraft::{ConfigMetadata, Consenter, Options as RaftOptions};
use selvedge_protos::orderer::{BatchSize, BatchTimeout, ChannelRestrictions, ConsensusType};
use selvedge_protos::protos::{AnchorPeer, AnchorPeers};

use crate::error::{DevnetError, file_error};
use crate::material::Organization;
use crate::messages::{channel_header, nonce};
use policies::{Rule, add_policies};

/// Metadata slots that a block has; Fabric always makes them all.
const METADATA_SLOTS: usize = 5;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What a channel begins with.
#[derive(Debug, Clone)]
pub struct ChannelSpecification<'a> {
    /// The channel's name.
    pub channel_id: &'a str,
    /// The ordering organisation; its first host is the only consenter.
    pub ordering: &'a Organization,
    /// Where that node listens.
    pub orderer: Address,
    /// The peer organisations with their anchor peers.
    pub applications: Vec<(&'a Organization, Vec<Address>)>,
    /// When a block is full.
    pub batch_size: BatchSize,
    /// When a block is cut though it is not full.
    pub batch_timeout: Duration,
}

impl ChannelSpecification<'_> {
    /// The genesis block. Two blocks of the same specification differ in nonce and time.
    pub fn genesis_block(&self) -> Result<Block, DevnetError> {
        Ok(genesis_block(self.channel_id, self.channel_group()?))
    }

    fn channel_group(&self) -> Result<ConfigGroup, DevnetError> {
        let mut group = group();
        add_policies(&mut group, &META_POLICIES);
        let algorithm = HashingAlgorithm {
            name: "SHA256".to_owned(),
        };
        add_value(&mut group, "HashingAlgorithm", &algorithm);
        let structure = BlockDataHashingStructure { width: u32::MAX };
        add_value(&mut group, "BlockDataHashingStructure", &structure);
        add_value(&mut group, "Capabilities", &capability("V2_0"));
        let orderer = self.orderer_group()?;
        group.groups.insert("Orderer".to_owned(), orderer);
        let application = self.application_group()?;
        group.groups.insert("Application".to_owned(), application);
        Ok(group)
    }

    fn orderer_group(&self) -> Result<ConfigGroup, DevnetError> {
        let mut group = group();
        add_policies(&mut group, &META_POLICIES);
        add_policies(&mut group, &[("BlockValidation", Rule::Any("Writers"))]);
        add_value(&mut group, "BatchSize", &self.batch_size);
        let timeout = BatchTimeout {
            timeout: go_duration(self.batch_timeout),
        };
        add_value(&mut group, "BatchTimeout", &timeout);
        let restrictions = ChannelRestrictions { max_count: 0 };
        add_value(&mut group, "ChannelRestrictions", &restrictions);
        add_value(&mut group, "Capabilities", &capability("V2_0"));
        let consensus = ConsensusType {
            r#type: "etcdraft".to_owned(),
            metadata: self.consenters()?.encode_to_vec().into(),
            state: 0,
        };
        add_value(&mut group, "ConsensusType", &consensus);

        let policies: [RolePolicy; 3] = [
            ("Readers", &[Member]),
            ("Writers", &[Member]),
            ("Admins", &[Admin]),
        ];
        let mut organization = organization_group(self.ordering, &policies)?;
        let endpoints = OrdererAddresses {
            addresses: vec![self.orderer.to_string()],
        };
        add_value(&mut organization, "Endpoints", &endpoints);
        let name = self.ordering.specification().name.clone();
        group.groups.insert(name, organization);
        Ok(group)
    }

    fn consenters(&self) -> Result<ConfigMetadata, DevnetError> {
        let hosts = self.ordering.specification().hosts.iter().take(1);
        let consenter = |host: &String| {
            let certificate = read(&self.ordering.node_tls(host).certificate)?;
            Ok(Consenter {
                host: self.orderer.host.clone(),
                port: u32::from(self.orderer.port),
                client_tls_cert: certificate.clone(),
                server_tls_cert: certificate,
            })
        };
        Ok(ConfigMetadata {
            consenters: hosts.map(consenter).collect::<Result<_, DevnetError>>()?,
            options: Some(RaftOptions {
                tick_interval: "500ms".to_owned(),
                election_tick: 10,
                heartbeat_tick: 1,
                max_inflight_blocks: 5,
                snapshot_interval_size: 16 * 1024 * 1024,
            }),
        })
    }

    fn application_group(&self) -> Result<ConfigGroup, DevnetError> {
        let mut group = group();
        add_policies(&mut group, &META_POLICIES);
        let endorsement = Rule::Majority("Endorsement");
        let names = ["LifecycleEndorsement", "Endorsement"];
        add_policies(&mut group, &names.map(|name| (name, endorsement)));
        add_value(&mut group, "Capabilities", &capability("V2_5"));
        for (organization, anchors) in &self.applications {
            let name = organization.specification().name.clone();
            let organization = application_organization(organization, anchors)?;
            group.groups.insert(name, organization);
        }
        Ok(group)
    }
}

const META_POLICIES: [(&str, Rule<'static>); 3] = [
    ("Readers", Rule::Any("Readers")),
    ("Writers", Rule::Any("Writers")),
    ("Admins", Rule::Majority("Admins")),
];

/// A policy's name, and the roles of which any may sign.
type RolePolicy = (&'static str, &'static [MspRoleType]);

fn application_organization(
    organization: &Organization,
    anchors: &[Address],
) -> Result<ConfigGroup, DevnetError> {
    let policies: [RolePolicy; 4] = [
        ("Readers", &[Admin, Peer, Client]),
        ("Writers", &[Admin, Client]),
        ("Admins", &[Admin]),
        ("Endorsement", &[Peer]),
    ];
    let mut group = organization_group(organization, &policies)?;
    if !anchors.is_empty() {
        add_value(&mut group, "AnchorPeers", &anchor_peers(anchors));
    }
    Ok(group)
}

/// The value `AnchorPeers` of an organisation.
pub fn anchor_peers(anchors: &[Address]) -> AnchorPeers {
    let anchor = |address: &Address| AnchorPeer {
        host: address.host.clone(),
        port: i32::from(address.port),
    };
    AnchorPeers {
        anchor_peers: anchors.iter().map(anchor).collect(),
    }
}

fn organization_group(
    organization: &Organization,
    policies: &[RolePolicy],
) -> Result<ConfigGroup, DevnetError> {
    let mut group = group();
    let msp_id = &organization.specification().msp_id;
    for (name, roles) in policies {
        add_policies(&mut group, &[(name, Rule::Roles(msp_id, roles))]);
    }
    let msp = msp_config_from_directory(organization.msp(), msp_id)?;
    add_value(&mut group, "MSP", &msp);
    Ok(group)
}

fn group() -> ConfigGroup {
    ConfigGroup {
        mod_policy: "Admins".to_owned(),
        ..ConfigGroup::default()
    }
}

fn add_value(group: &mut ConfigGroup, name: &str, value: &impl Message) {
    let value = ConfigValue {
        version: 0,
        value: value.encode_to_vec().into(),
        mod_policy: "Admins".to_owned(),
    };
    group.values.insert(name.to_owned(), value);
}

fn capability(name: &str) -> Capabilities {
    Capabilities {
        capabilities: [(name.to_owned(), Capability {})].into(),
    }
}

/// A duration in the notation of Go, exactly.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1, "ns")];
    let exact = units.iter().find(|(unit, _)| nanos.is_multiple_of(*unit));
    let (unit, name) = exact.copied().unwrap_or((1, "ns"));
    format!("{}{name}", nanos / unit)
}

/// A block 0 that holds this configuration (Fabric: common/genesis).
fn genesis_block(channel_id: &str, group: ConfigGroup) -> Block {
    let config = ConfigEnvelope {
        config: Some(Config {
            sequence: 0,
            channel_group: Some(group),
        }),
        last_update: None,
    };
    let nonce = nonce();
    let mut channel_header = channel_header(HeaderType::Config, channel_id);
    channel_header.version = 1;
    channel_header.tx_id = transaction_id(&nonce, &[]);
    let signature_header = SignatureHeader {
        creator: Bytes::new(),
        nonce,
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: config.encode_to_vec().into(),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    let data = BlockData {
        data: vec![envelope.encode_to_vec().into()],
    };
    let last_config = LastConfig { index: 0 };
    let signatures = OrdererBlockMetadata {
        last_config: Some(last_config),
        consenter_metadata: Bytes::new(),
    };
    Block {
        header: Some(BlockHeader {
            number: 0,
            previous_hash: Bytes::new(),
            data_hash: data_hash(&data).to_vec().into(),
        }),
        data: Some(data),
        metadata: Some(metadata(plain(&signatures), plain(&last_config))),
    }
}

fn plain(value: &impl Message) -> Metadata {
    Metadata {
        value: value.encode_to_vec().into(),
        signatures: Vec::new(),
    }
}

/// Block metadata with two slots filled and the others empty. The slot LAST_CONFIG only repeats
/// what the slot SIGNATURES says, but Fabric still fills it.
#[allow(deprecated)]
pub(crate) fn metadata(signatures: Metadata, last_config: Metadata) -> BlockMetadata {
    let mut slots = vec![Bytes::new(); METADATA_SLOTS];
    let filled = [
        (BlockMetadataIndex::Signatures, signatures),
        (BlockMetadataIndex::LastConfig, last_config),
    ];
    for (index, metadata) in filled {
        let index = usize::try_from(index as i32).unwrap_or(usize::MAX);
        if let Some(slot) = slots.get_mut(index) {
            *slot = metadata.encode_to_vec().into();
        }
    }
    BlockMetadata { metadata: slots }
}

fn read(path: &Path) -> Result<Bytes, DevnetError> {
    let content = fs::read(path).map_err(file_error("cannot read", path))?;
    Ok(content.into())
}

#[cfg(test)]
mod tests;
