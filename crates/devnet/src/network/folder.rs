//! What a network consists of on disk.
//!
//! ```text
//! network.json                   what was made, ports included
//! genesis.block                  block 0 of the channel
//! crypto/                        keys and certificates, as cryptogen lays them out
//! orderer/                       blocks of the ordering node
//! peers/peer0.org1.example.com/  core.yaml; admin.env for Fabric's command line; data/
//! ```
//!
//! A folder that holds a network already is used as it is, so that the chain goes on.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use selvedge_protos::Message;
use selvedge_protos::common::Block;
use selvedge_protos::orderer::BatchSize;
use serde::{Deserialize, Serialize};

use super::core_yaml;
use crate::error::{DevnetError, file_error};
use crate::genesis::{Address, ChannelSpecification};
use crate::material::{Organization, Specification, write_file};
use crate::options::Options;
use crate::ports::HeldPort;

/// The channel of every development network.
pub const CHANNEL: &str = "devnet";
const FORMAT: u32 = 1;
const DESCRIPTION: &str = "network.json";
const ABSOLUTE_MAX_BYTES: u32 = 10 * 1024 * 1024;
const PREFERRED_MAX_BYTES: u32 = 2 * 1024 * 1024;

/// Contents of `network.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    orgs: u16,
    peers: u16,
    orderer_port: u16,
    /// By organisation, then by peer.
    ports: Vec<Vec<PeerPorts>>,
}

/// Where one peer listens, on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerPorts {
    pub(super) service: u16,
    pub(super) chaincode: u16,
    pub(super) operations: u16,
}

/// A network on disk.
pub(super) struct NetworkFolder {
    pub(super) root: PathBuf,
    pub(super) ordering: Organization,
    pub(super) organizations: Vec<Organization>,
    pub(super) genesis: Block,
    description: Description,
    /// Those of its ports that were free, until each node listens.
    _held: Vec<HeldPort>,
}

/// One peer of it.
pub(super) struct PeerPlace<'a> {
    /// Such as `peer0.org1.example.com`.
    pub(super) name: String,
    pub(super) organization: &'a Organization,
    /// Such as `peer0`.
    pub(super) host: &'a str,
    pub(super) ports: PeerPorts,
    /// The folder with its core.yaml.
    pub(super) folder: PathBuf,
}

impl NetworkFolder {
    /// Opens the network in `root`, or makes one there.
    pub(super) fn open_or_create(root: &Path, options: &Options) -> Result<Self, DevnetError> {
        if root.join(DESCRIPTION).exists() {
            Self::open(root, options)
        } else {
            Self::create(root, options)
        }
    }

    fn open(root: &Path, options: &Options) -> Result<Self, DevnetError> {
        let path = root.join(DESCRIPTION);
        let text = fs::read_to_string(&path).map_err(file_error("cannot read", &path))?;
        let unusable = |reason: String| DevnetError::Folder {
            folder: root.to_owned(),
            reason,
        };
        let description: Description = serde_json::from_str(&text)
            .map_err(|error| unusable(format!("{DESCRIPTION} cannot be read: {error}")))?;
        let Description {
            format,
            orgs,
            peers,
            ..
        } = description;
        if format != FORMAT {
            return Err(unusable(format!(
                "{DESCRIPTION} has format {format}, expected {FORMAT}"
            )));
        }
        if (orgs, peers) != (options.orgs, options.peers) {
            let reason = format!(
                "it holds a network of {orgs} organisations with {peers} peers each; run it with \
                 --orgs {orgs} --peers {peers}, or choose another folder"
            );
            return Err(unusable(reason));
        }
        let path = root.join("genesis.block");
        let genesis = fs::read(&path).map_err(file_error("cannot read", &path))?;
        let genesis = Block::decode(genesis.as_slice())
            .map_err(|error| unusable(format!("genesis.block cannot be read: {error}")))?;
        let crypto = root.join("crypto");
        let organizations =
            (1..=orgs).map(|number| Organization::at(&crypto, Specification::peers(number, peers)));
        Ok(Self {
            root: root.to_owned(),
            ordering: Organization::at(&crypto, Specification::orderer()),
            organizations: organizations.collect(),
            genesis,
            // A node whose port is taken says so.
            _held: description
                .all_ports()
                .filter_map(|port| hold(HeldPort::of(port).ok()?))
                .collect(),
            description,
        })
    }

    fn create(root: &Path, options: &Options) -> Result<Self, DevnetError> {
        let crypto = root.join("crypto");
        if crypto.exists() {
            return Err(DevnetError::Folder {
                folder: root.to_owned(),
                reason: format!(
                    "it holds key material but no {DESCRIPTION}; remove it, or choose another folder"
                ),
            });
        }
        let ordering = Organization::write(&crypto, Specification::orderer())?;
        let organizations = (1..=options.orgs)
            .map(|number| Organization::write(&crypto, Specification::peers(number, options.peers)))
            .collect::<Result<Vec<_>, _>>()?;
        let (description, held) = Description::with_free_ports(options)?;
        let network = Self {
            root: root.to_owned(),
            genesis: genesis(options, &description, &ordering, &organizations)?,
            ordering,
            organizations,
            description,
            _held: held.into_iter().filter_map(hold).collect(),
        };
        let path = root.join("genesis.block");
        let block = network.genesis.encode_to_vec();
        fs::write(&path, block).map_err(file_error("cannot write", &path))?;
        for peer in network.peers() {
            core_yaml::write(&network, &peer)?;
        }
        // Last, since it says that the rest is there.
        let text = serde_json::to_string_pretty(&network.description).unwrap_or_default();
        write_file(&root.join(DESCRIPTION), &text)?;
        Ok(network)
    }

    /// Where the ordering node listens.
    pub(super) fn orderer_address(&self) -> Address {
        loopback(self.description.orderer_port)
    }

    /// The host name of the ordering node, without its domain.
    pub(super) fn orderer_host(&self) -> &str {
        let hosts = self.ordering.specification().hosts.first();
        hosts.map_or("", String::as_str)
    }

    /// All peers, organisation by organisation.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerPlace<'_>> {
        let organizations = self.organizations.iter().zip(&self.description.ports);
        organizations.flat_map(|(organization, ports)| {
            let hosts = organization.specification().hosts.iter();
            hosts.zip(ports).map(|(host, ports)| {
                let name = organization.node_name(host);
                PeerPlace {
                    folder: self.root.join("peers").join(&name),
                    name,
                    organization,
                    host,
                    ports: *ports,
                }
            })
        })
    }
}

impl PeerPlace<'_> {
    /// Where it listens.
    pub(super) fn address(&self) -> Address {
        loopback(self.ports.service)
    }
}

impl Description {
    /// No two of the ports are the same.
    fn with_free_ports(options: &Options) -> Result<(Self, Vec<HeldPort>), DevnetError> {
        let mut held = Vec::new();
        let mut free = || {
            let port = HeldPort::free().map_err(DevnetError::Ports)?;
            let number = port.number();
            held.push(port);
            Ok::<_, DevnetError>(number)
        };
        let mut ports = Vec::new();
        for _ in 0..options.orgs {
            let mut organization = Vec::new();
            for _ in 0..options.peers {
                organization.push(PeerPorts {
                    service: free()?,
                    chaincode: free()?,
                    operations: free()?,
                });
            }
            ports.push(organization);
        }
        let description = Self {
            format: FORMAT,
            orgs: options.orgs,
            peers: options.peers,
            orderer_port: free()?,
            ports,
        };
        Ok((description, held))
    }

    fn all_ports(&self) -> impl Iterator<Item = u16> {
        let peers = self.ports.iter().flatten();
        let peers = peers.flat_map(|peer| [peer.service, peer.chaincode, peer.operations]);
        peers.chain([self.orderer_port])
    }
}

/// Elsewhere nobody could listen on a port that is held.
fn hold(port: HeldPort) -> Option<HeldPort> {
    cfg!(target_os = "linux").then_some(port)
}

fn genesis(
    options: &Options,
    description: &Description,
    ordering: &Organization,
    organizations: &[Organization],
) -> Result<Block, DevnetError> {
    let anchors = description.ports.iter().map(|ports| {
        let first = ports.first();
        first
            .map(|ports| loopback(ports.service))
            .into_iter()
            .collect()
    });
    let channel = ChannelSpecification {
        channel_id: CHANNEL,
        ordering,
        orderer: loopback(description.orderer_port),
        applications: organizations.iter().zip(anchors).collect(),
        batch_size: BatchSize {
            max_message_count: options.block_size,
            absolute_max_bytes: ABSOLUTE_MAX_BYTES,
            preferred_max_bytes: PREFERRED_MAX_BYTES,
        },
        batch_timeout: options.batch_timeout,
    };
    channel.genesis_block()
}

pub(super) fn loopback(port: u16) -> Address {
    Address {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port,
    }
}
