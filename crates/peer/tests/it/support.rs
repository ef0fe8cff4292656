//! Organisations, a channel between two of them, and blocks of it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost_types::Timestamp;
use selvedge_channel::config_update::{compute, propose};
use selvedge_channel::{BlockVerifier, ChannelConfig, VerifiedBlock};
use selvedge_devnet::genesis::{Address, ChannelSpecification};
use selvedge_devnet::material::{Organization, Specification};
use selvedge_devnet::signed_envelope;
use selvedge_devnet::traffic::Author;
use selvedge_gossip::event::Arrival;
use selvedge_ledger::{LedgerManager, Options};
use selvedge_msp::{Msp, SigningIdentity};
use selvedge_peer::channel::{
    Channel, ChannelEvent, ChannelOptions, Channels, CommitQueue, JoinError,
};
use selvedge_peer::metrics::Metrics;
use selvedge_policy::parse_policy;
use selvedge_protos::Message;
use selvedge_protos::block::{data_hash, header_bytes, header_hash, metadata_slot};
use selvedge_protos::common::{
    Block, BlockData, BlockHeader, BlockMetadata, BlockMetadataIndex, Config, ConfigSignature,
    ConfigUpdate, ConfigUpdateEnvelope, Envelope, HeaderType, LastConfig, Metadata,
    MetadataSignature, OrdererBlockMetadata, Policy, SignatureHeader, policy,
};
use selvedge_protos::envelope::OpenedEnvelope;
use selvedge_protos::msp::{FabricMspConfig, MspConfig};
use selvedge_protos::orderer::BatchSize;
use selvedge_protos::protos::{AcLs, ApiResource, TxValidationCode};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub const CHANNEL: &str = "testchannel";
/// Nothing here takes nearly as long.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Awaits what must come soon.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it takes too long")
}

/// Asks again and again until it is so.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let asking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !condition().await {
            tick.tick().await;
        }
    };
    let result = tokio::time::timeout(DEADLINE, asking).await;
    result.unwrap_or_else(|_| panic!("it did not become so in time: {what}"));
}

/// Two organisations in a channel, a third one that is in none, and an ordering organisation.
pub struct Network {
    pub folder: TempDir,
    pub ordering: Organization,
    pub organizations: Vec<Organization>,
    pub genesis: Block,
}

impl Network {
    pub fn new() -> Self {
        Self::of_channel(CHANNEL)
    }

    /// Whose ordering node nobody will find.
    pub fn of_channel(channel_id: &str) -> Self {
        Self::with_orderer(channel_id, 9)
    }

    pub fn with_orderer(channel_id: &str, orderer_port: u16) -> Self {
        Self::with(channel_id, orderer_port, None)
    }

    /// With an anchor peer of Org1 that listens at this port of the machine.
    pub fn with_anchor(port: u16) -> Self {
        Self::with(CHANNEL, 9, Some(port))
    }

    fn with(channel_id: &str, orderer_port: u16, anchor: Option<u16>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("crypto");
        let ordering = Organization::write(&root, Specification::orderer()).unwrap();
        let organizations: Vec<_> = (1..=3)
            .map(|number| Organization::write(&root, Specification::peers(number, 1)).unwrap())
            .collect();
        let mut network = Self {
            folder,
            ordering,
            organizations,
            genesis: Block::default(),
        };
        network.genesis = network.genesis_of(channel_id, orderer_port, anchor);
        network
    }

    /// The first block of a channel of the same two organisations.
    pub fn genesis_of(&self, channel_id: &str, orderer_port: u16, anchor: Option<u16>) -> Block {
        let address = |port| Address {
            host: "127.0.0.1".to_owned(),
            port,
        };
        let anchors = [anchor.map(address).into_iter().collect(), Vec::new()];
        let specification = ChannelSpecification {
            channel_id,
            ordering: &self.ordering,
            orderer: address(orderer_port),
            applications: self.organizations.iter().zip(anchors).collect(),
            batch_size: BatchSize {
                max_message_count: 10,
                absolute_max_bytes: 1 << 20,
                preferred_max_bytes: 1 << 20,
            },
            batch_timeout: Duration::from_secs(2),
        };
        specification.genesis_block().unwrap()
    }

    /// Organisations count from 1.
    pub fn org(&self, number: usize) -> &Organization {
        &self.organizations[number - 1]
    }

    pub fn admin(&self, org: usize) -> SigningIdentity {
        self.org(org).user_identity("Admin").unwrap()
    }

    pub fn user(&self, org: usize) -> SigningIdentity {
        self.org(org).user_identity("User1").unwrap()
    }

    pub fn peer(&self, org: usize) -> SigningIdentity {
        self.org(org).node_identity("peer0").unwrap()
    }

    pub fn orderer(&self) -> SigningIdentity {
        self.ordering.node_identity("orderer").unwrap()
    }

    /// The MSP of an organisation, as its peers have it.
    pub fn msp(&self, org: usize) -> Msp {
        self.peer(org).identity().msp().clone()
    }

    pub fn genesis_bytes(&self) -> Bytes {
        self.genesis.encode_to_vec().into()
    }

    /// A member of an organisation whose certificate was valid until a moment ago.
    pub fn expired(&self, org: usize, role: &str) -> SigningIdentity {
        self.expired_with_key(org, role).0
    }

    /// The same with the private key, PEM.
    pub fn expired_with_key(&self, org: usize, role: &str) -> (SigningIdentity, String) {
        let now = time::OffsetDateTime::now_utc();
        let validity = now - Duration::from_secs(200)..now - Duration::from_secs(2);
        self.issue(org, role, "expired", validity, 1)
    }

    /// A member of an organisation with a certificate of one's own, and the private key, PEM.
    pub fn issue(
        &self,
        org: usize,
        role: &str,
        name: &str,
        validity: Range<time::OffsetDateTime>,
        serial: u64,
    ) -> (SigningIdentity, String) {
        let mut params = rcgen::CertificateParams::default();
        let mut subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::CommonName, name);
        subject.push(rcgen::DnType::OrganizationalUnitName, role);
        params.distinguished_name = subject;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.not_before = validity.start;
        params.not_after = validity.end;
        params.serial_number = Some(serial.into());
        let own = rcgen::KeyPair::generate().unwrap();
        let issued = params.signed_by(&own, &self.authority(org)).unwrap();
        let (certificate, key) = (issued.pem(), own.serialize_pem());
        let identity =
            SigningIdentity::from_pem(&self.msp(org), certificate.as_bytes(), key.as_bytes());
        (identity.unwrap(), key)
    }

    /// The list by which an organisation revokes one certificate, PEM.
    pub fn revocation_list(&self, org: usize, serial: u64) -> String {
        let now = time::OffsetDateTime::now_utc();
        let revoked = rcgen::RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::from_secs(86_400),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.authority(org)).unwrap();
        list.pem().unwrap()
    }

    fn authority(&self, org: usize) -> rcgen::Issuer<'static, rcgen::KeyPair> {
        let ca = self.org(org).msp().join("../ca");
        let files = std::fs::read_dir(&ca).unwrap();
        let certificate = files
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|end| end == "pem"))
            .unwrap();
        let certificate = std::fs::read_to_string(certificate).unwrap();
        let key = std::fs::read_to_string(ca.join("priv_sk")).unwrap();
        let key = rcgen::KeyPair::from_pem(&key).unwrap();
        rcgen::Issuer::from_ca_cert_pem(&certificate, key).unwrap()
    }

    /// Channels over a fresh ledger folder, with room for the events of a test.
    pub fn channels(&self, folder: &str) -> (Channels, mpsc::Receiver<ChannelEvent>) {
        self.channels_with(folder, Options::default())
    }

    pub fn channels_with(
        &self,
        folder: &str,
        options: Options,
    ) -> (Channels, mpsc::Receiver<ChannelEvent>) {
        let path = self.folder.path().join(folder);
        let (events, receiver) = mpsc::channel(100);
        let ledgers = LedgerManager::open(&path, options).unwrap();
        let channels = Channels::new(ledgers, ChannelOptions::default(), events);
        (channels, receiver)
    }

    /// The folder of the block files of the test's channel.
    pub fn block_files(&self, folder: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(folder);
        path.join("ledgersData/chains/chains").join(CHANNEL)
    }
}

/// Joins as the services do, away from asynchronous tasks.
pub async fn join(channels: &Channels, genesis: Bytes) -> Result<(), JoinError> {
    let channels = channels.clone();
    let joining = tokio::task::spawn_blocking(move || {
        let genesis = channels.check_genesis(genesis)?;
        channels.join(genesis)
    });
    joining.await.unwrap()
}

/// Has the channel's committer take blocks, and waits until they are in the ledger.
pub async fn commit_by_queue(channel: &Arc<Channel>, blocks: &[Block]) {
    let (events, mut told) = mpsc::channel(100);
    let metrics = Metrics::new("1").unwrap().channel(CHANNEL);
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let queue = CommitQueue::start(channel.clone(), metrics, events, &tasks, stop.clone());
    // Before the first is pushed, since it may be committed at once.
    let last = channel.ledger().height() + blocks.len() as u64 - 1;
    for block in blocks {
        queue
            .push(
                verified_of(channel.id(), block),
                Arrival::Orderer,
                Duration::ZERO,
            )
            .unwrap();
    }
    loop {
        match soon(told.recv()).await.unwrap() {
            ChannelEvent::Committed { number, .. } if number == last => break,
            ChannelEvent::Failed { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
    stop.cancel();
    tasks.close();
    soon(tasks.wait()).await;
}

/// The blocks of the test's channel as its ordering service would make them.
#[derive(Clone)]
pub struct Chain {
    pub blocks: Vec<Block>,
    channel_id: String,
    config: Arc<ChannelConfig>,
    last_config: u64,
    orderer: SigningIdentity,
    admins: Vec<SigningIdentity>,
    author: Author,
}

impl Chain {
    pub fn new(network: &Network) -> Self {
        Self::of_channel(network, CHANNEL)
    }

    pub fn of_channel(network: &Network, channel_id: &str) -> Self {
        let config = ChannelConfig::from_block(&network.genesis).unwrap();
        Self {
            channel_id: channel_id.to_owned(),
            blocks: vec![network.genesis.clone()],
            config: Arc::new(config),
            last_config: 0,
            orderer: network.orderer(),
            admins: vec![
                network.admin(1),
                network.admin(2),
                network.ordering.user_identity("Admin").unwrap(),
            ],
            author: Author {
                channel_id: channel_id.to_owned(),
                client: network.user(1),
                endorsers: vec![network.peer(1), network.peer(2)],
            },
        }
    }

    /// A block with one transaction for each key.
    pub fn push(&mut self, keys: &[&str]) -> Block {
        let envelopes = self.envelopes(keys);
        self.push_envelopes(envelopes, false)
    }

    /// The definition of the chaincode that the transactions are of.
    pub fn definition(&self) -> Bytes {
        self.author.define().unwrap().encode_to_vec().into()
    }

    /// One transaction for each key.
    pub fn envelopes(&self, keys: &[&str]) -> Vec<Bytes> {
        let value = Bytes::from_static(b"value");
        let envelopes = keys.iter().map(|key| {
            let envelope = self.author.put(key, value.clone()).unwrap();
            Bytes::from(envelope.encode_to_vec())
        });
        envelopes.collect()
    }

    /// A config block with what `change` makes of the configuration.
    pub fn push_config(&mut self, change: impl FnOnce(&mut Config)) -> Block {
        let current = self.config.config();
        let mut updated = current.clone();
        // So that something changes in any case.
        set_acl(
            &mut updated,
            &format!("test/{}", current.sequence),
            "Readers",
        );
        change(&mut updated);
        let update = compute(&self.channel_id, current, &updated).unwrap();
        let content = propose(&self.config, &self.signed(&update)).unwrap();
        let config = ChannelConfig::from_config(&self.channel_id, content.config.clone().unwrap());
        // No block is valid after one whose configuration is not supported.
        if let Ok(config) = config {
            self.config = Arc::new(config);
        }
        let data = content.encode_to_vec().into();
        let envelope =
            signed_envelope(&self.orderer, HeaderType::Config, &self.channel_id, data).unwrap();
        self.push_envelopes(vec![envelope.encode_to_vec().into()], true)
    }

    /// An update of the configuration, signed by all administrators.
    fn signed(&self, update: &ConfigUpdate) -> Envelope {
        let update = Bytes::from(update.encode_to_vec());
        let sign = |admin: &SigningIdentity| {
            let header = SignatureHeader {
                creator: admin.serialized().clone(),
                nonce: Bytes::from_static(b"nonce"),
            };
            let header = header.encode_to_vec();
            let signature = admin.sign(&[header.as_slice(), &update].concat()).unwrap();
            ConfigSignature {
                signature_header: header.into(),
                signature,
            }
        };
        let envelope = ConfigUpdateEnvelope {
            signatures: self.admins.iter().map(sign).collect(),
            config_update: update.clone(),
        };
        let data = envelope.encode_to_vec().into();
        signed_envelope(
            &self.admins[0],
            HeaderType::ConfigUpdate,
            &self.channel_id,
            data,
        )
        .unwrap()
    }

    /// A block with these transactions.
    pub fn push_envelopes(&mut self, data: Vec<Bytes>, is_config: bool) -> Block {
        let last = self.blocks.last().unwrap().header.as_ref().unwrap();
        let data = BlockData { data };
        let header = BlockHeader {
            number: last.number + 1,
            previous_hash: header_hash(last).to_vec().into(),
            data_hash: data_hash(&data).to_vec().into(),
        };
        if is_config {
            self.last_config = header.number;
        }
        let block = Block {
            metadata: Some(BlockMetadata {
                metadata: self.metadata(&header),
            }),
            header: Some(header),
            data: Some(data),
        };
        self.blocks.push(block.clone());
        block
    }

    fn metadata(&self, header: &BlockHeader) -> Vec<Bytes> {
        let last_config = LastConfig {
            index: self.last_config,
        };
        let value = OrdererBlockMetadata {
            last_config: Some(last_config),
            consenter_metadata: Bytes::new(),
        };
        let value = value.encode_to_vec();
        let signer = SignatureHeader {
            creator: self.orderer.serialized().clone(),
            nonce: Bytes::from_static(b"nonce"),
        };
        let signer = signer.encode_to_vec();
        let signed = [value.as_slice(), &signer, &header_bytes(header)].concat();
        let signatures = Metadata {
            value: value.into(),
            signatures: vec![MetadataSignature {
                signature_header: signer.into(),
                signature: self.orderer.sign(&signed).unwrap(),
                identifier_header: Bytes::new(),
            }],
        };
        let config = Metadata {
            value: last_config.encode_to_vec().into(),
            signatures: Vec::new(),
        };
        let mut slots = vec![Bytes::new(); 5];
        slots[0] = signatures.encode_to_vec().into();
        slots[1] = config.encode_to_vec().into();
        slots
    }
}

/// A block as if verification had just let it pass.
pub fn verified(block: &Block) -> VerifiedBlock {
    verified_of(CHANNEL, block)
}

fn verified_of(channel: &str, block: &Block) -> VerifiedBlock {
    BlockVerifier::from_ledger(channel, block.encode_to_vec().into()).unwrap()
}

/// A committed block without what its committer has written into it.
pub fn as_ordered(block: &Block) -> Block {
    let mut block = block.clone();
    let slots = &mut block.metadata.as_mut().unwrap().metadata;
    slots[2] = Bytes::new();
    slots[4] = Bytes::new();
    block
}

/// The verdicts in a block, by name.
pub fn verdicts(block: &Block) -> Vec<&'static str> {
    let filter = metadata_slot(block, BlockMetadataIndex::TransactionsFilter);
    let name = |code: &u8| {
        TxValidationCode::try_from(i32::from(*code))
            .unwrap()
            .as_str_name()
    };
    filter.iter().map(name).collect()
}

/// The id of a transaction of a block.
pub fn transaction_id(block: &Block, index: usize) -> String {
    let envelope = block.data.as_ref().unwrap().data[index].clone();
    OpenedEnvelope::decode(envelope)
        .unwrap()
        .channel_header
        .tx_id
}

/// Demands an application capability of the channel's peers.
pub fn demand_capability(config: &mut Config, name: &str) {
    let root = config.channel_group.as_mut().unwrap();
    let application = root.groups.get_mut("Application").unwrap();
    let value = application.values.get_mut("Capabilities").unwrap();
    let mut capabilities =
        selvedge_protos::common::Capabilities::decode(value.value.clone()).unwrap();
    capabilities
        .capabilities
        .insert(name.to_owned(), Default::default());
    value.value = capabilities.encode_to_vec().into();
}

/// Guards a resource of the channel by a policy.
pub fn set_acl(config: &mut Config, resource: &str, policy: &str) {
    let root = config.channel_group.as_mut().unwrap();
    let application = root.groups.get_mut("Application").unwrap();
    let value = application.values.entry("ACLs".to_owned()).or_default();
    value.mod_policy = "Admins".to_owned();
    let mut acls = AcLs::decode(value.value.clone()).unwrap();
    let policy = ApiResource {
        policy_ref: policy.to_owned(),
    };
    acls.acls.insert(resource.to_owned(), policy);
    value.value = acls.encode_to_vec().into();
}

/// Adds a revocation list to the MSP of an organisation.
pub fn add_revocation_list(config: &mut Config, name: &str, list: String) {
    let root = config.channel_group.as_mut().unwrap();
    let application = root.groups.get_mut("Application").unwrap();
    let org = application.groups.get_mut(name).unwrap();
    let value = org.values.get_mut("MSP").unwrap();
    let mut msp = MspConfig::decode(value.value.clone()).unwrap();
    let mut fabric = FabricMspConfig::decode(msp.config).unwrap();
    fabric.revocation_list.push(list.into());
    msp.config = fabric.encode_to_vec().into();
    value.value = msp.encode_to_vec().into();
}

/// Takes an organisation out of the channel.
pub fn remove_organization(config: &mut Config, name: &str) {
    let root = config.channel_group.as_mut().unwrap();
    let application = root.groups.get_mut("Application").unwrap();
    application.groups.remove(name).unwrap();
}

/// Lets those read the channel whom a policy in Fabric's policy language names.
pub fn set_readers(config: &mut Config, policy: &str) {
    let root = config.channel_group.as_mut().unwrap();
    let application = root.groups.get_mut("Application").unwrap();
    let readers = application.policies.get_mut("Readers").unwrap();
    readers.policy = Some(Policy {
        r#type: policy::PolicyType::Signature.into(),
        value: parse_policy(policy).unwrap().encode_to_vec().into(),
    });
}

pub fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
