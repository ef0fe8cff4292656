//! A small channel with key material, for tests.

use std::time::Duration;

use bytes::Bytes;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use selvedge_channel::ChannelConfig;
use selvedge_channel::config_update::compute;
use selvedge_msp::{Msp, SigningIdentity};
use selvedge_protos::Message;
use selvedge_protos::common::{
    Block, Config, ConfigSignature, ConfigUpdateEnvelope, Envelope, HeaderType,
};
use selvedge_protos::orderer::BatchSize;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::genesis::{Address, ChannelSpecification, anchor_peers};
use crate::material::{Organization, Specification};
use crate::messages::{signature_header, signed_envelope};
use crate::orderer::BlockWriter;
use crate::traffic::Author;

pub const CHANNEL: &str = "testchannel";

/// Two peer organisations with one peer each, and an ordering organisation.
pub struct TestNetwork {
    pub folder: TempDir,
    pub ordering: Organization,
    pub organizations: Vec<Organization>,
    pub genesis: Block,
}

impl TestNetwork {
    pub fn new(max_message_count: u32, batch_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("crypto");
        let ordering = Organization::write(&root, Specification::orderer()).unwrap();
        let organizations: Vec<_> = (1..=2)
            .map(|number| Organization::write(&root, Specification::peers(number, 1)).unwrap())
            .collect();
        let anchors = |port| vec![address(port)];
        let specification = ChannelSpecification {
            channel_id: CHANNEL,
            ordering: &ordering,
            orderer: address(7050),
            applications: organizations
                .iter()
                .zip([anchors(7051), anchors(8051)])
                .collect(),
            batch_size: BatchSize {
                max_message_count,
                absolute_max_bytes: 100_000,
                preferred_max_bytes: 20_000,
            },
            batch_timeout,
        };
        let genesis = specification.genesis_block().unwrap();
        Self {
            folder,
            ordering,
            organizations,
            genesis,
        }
    }

    pub fn config(&self) -> ChannelConfig {
        ChannelConfig::from_block(&self.genesis).unwrap()
    }

    pub fn orderer_identity(&self) -> SigningIdentity {
        self.ordering.node_identity("orderer").unwrap()
    }

    pub fn user(&self, organization: usize, user: &str) -> SigningIdentity {
        self.organizations[organization]
            .user_identity(user)
            .unwrap()
    }

    pub fn peer(&self, organization: usize) -> SigningIdentity {
        self.organizations[organization]
            .node_identity("peer0")
            .unwrap()
    }

    pub fn ordering_admin(&self) -> SigningIdentity {
        self.ordering.user_identity("Admin").unwrap()
    }

    /// A client of Org1 whose certificate has expired.
    pub fn expired_client(&self) -> SigningIdentity {
        let organization = &self.organizations[0];
        let folder = organization.msp().join("../ca");
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let ca_key = KeyPair::from_pem(&read("priv_sk")).unwrap();
        let ca = read("ca.org1.example.com-cert.pem");
        let ca = Issuer::from_ca_cert_pem(&ca, ca_key).unwrap();
        // The CA's own certificate begins five minutes ago.
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "client");
        params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(200);
        params.not_after = OffsetDateTime::now_utc() - Duration::from_secs(100);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap().pem();
        let msp = Msp::from_directory(organization.msp(), "Org1MSP").unwrap();
        let key = key.serialize_pem();
        SigningIdentity::from_pem(&msp, certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    /// A chain with a block for each key after those that are there.
    pub fn extend(&self, chain: &[Block], keys: &[&str]) -> Vec<Block> {
        let mut chain = chain.to_vec();
        let last = chain.last().unwrap();
        let mut writer = BlockWriter::after(last, self.orderer_identity()).unwrap();
        for key in keys {
            let envelope = self.transaction(key).encode_to_vec().into();
            chain.push(writer.write(vec![envelope], false).unwrap());
        }
        chain
    }

    /// A transaction of User1 of Org1 whose key is `key`.
    pub fn transaction(&self, key: &str) -> Envelope {
        let author = Author {
            channel_id: CHANNEL.to_owned(),
            client: self.user(0, "User1"),
            endorsers: vec![self.peer(0), self.peer(1)],
        };
        author.put(key, Bytes::from_static(b"value")).unwrap()
    }
}

pub fn address(port: u16) -> Address {
    Address {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

/// An update from `current` to what `change` makes of it, signed by `signers`; the first sends it.
pub fn signed_update(
    current: &Config,
    signers: &[&SigningIdentity],
    change: impl FnOnce(&mut Config),
) -> Envelope {
    let mut updated = current.clone();
    change(&mut updated);
    let update = compute(CHANNEL, current, &updated).unwrap();
    signed(update.encode_to_vec().into(), signers)
}

/// A config update, already encoded, signed by `signers`; the first sends it.
pub fn signed(config_update: Bytes, signers: &[&SigningIdentity]) -> Envelope {
    let sign = |signer: &&SigningIdentity| {
        let header = signature_header(signer).encode_to_vec();
        let message = [header.as_slice(), &config_update].concat();
        ConfigSignature {
            signature_header: header.into(),
            signature: signer.sign(&message).unwrap(),
        }
    };
    let envelope = ConfigUpdateEnvelope {
        signatures: signers.iter().map(sign).collect(),
        config_update: config_update.clone(),
    };
    let data = envelope.encode_to_vec().into();
    signed_envelope(signers[0], HeaderType::ConfigUpdate, CHANNEL, data).unwrap()
}

/// Sets the anchor peers of an application organisation.
pub fn set_anchors(config: &mut Config, organization: &str, ports: &[u16]) {
    let root = config.channel_group.as_mut().unwrap();
    let application = root.groups.get_mut("Application").unwrap();
    let organization = application.groups.get_mut(organization).unwrap();
    let anchors: Vec<_> = ports.iter().copied().map(address).collect();
    let value = organization.values.get_mut("AnchorPeers").unwrap();
    value.value = anchor_peers(&anchors).encode_to_vec().into();
}

/// Sets the most messages of a block.
pub fn set_batch_count(config: &mut Config, count: u32) {
    let root = config.channel_group.as_mut().unwrap();
    let orderer = root.groups.get_mut("Orderer").unwrap();
    let value = orderer.values.get_mut("BatchSize").unwrap();
    let mut size = BatchSize::decode(value.value.clone()).unwrap();
    size.max_message_count = count;
    value.value = size.encode_to_vec().into();
}
