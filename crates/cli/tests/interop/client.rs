//! What clients of a network do: send transactions and config updates, and ask who is there.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use rand::RngCore as _;
use selvedge_channel::config_update::compute;
use selvedge_devnet::material::{Organization, TlsFolder};
use selvedge_devnet::signed_envelope;
use selvedge_devnet::traffic::Author;
use selvedge_msp::SigningIdentity;
use selvedge_protos::Message as _;
use selvedge_protos::common::{
    Config, ConfigGroup, ConfigSignature, ConfigUpdateEnvelope, Envelope, HeaderType,
    SignatureHeader, Status,
};
use selvedge_protos::discovery::{
    AuthInfo, PeerMembershipQuery, Query, Request, SignedRequest, query, query_result,
};
use selvedge_transport::services::discovery::discovery_client::DiscoveryClient;
use selvedge_transport::services::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_transport::{ClientTls, ConnectOptions, TlsIdentity, certificates_from_pem, channel};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::network::{At, CHANNEL, Network};
use super::process::eventually;

impl Network {
    /// Defines the chaincode of all transactions, which no peer needs to have installed to validate them.
    pub fn define_chaincode(&mut self) {
        let definition = self.author().define().unwrap();
        self.broadcast(0, vec![definition]);
    }

    /// Has the ordering service make so many blocks of one valid transaction each.
    pub fn order(&mut self, blocks: u64) {
        self.order_at(0, blocks);
    }

    /// As [`Self::order`], by the ordering node with this number.
    pub fn order_at(&mut self, node: usize, blocks: u64) {
        let transactions = self.transactions(blocks);
        self.broadcast(node, transactions);
    }

    /// As [`Self::order`], with a gap between two transactions.
    pub fn order_steadily(&mut self, blocks: u64, gap: Duration) {
        let transactions = self.transactions(blocks);
        let mut client = AtomicBroadcastClient::new(self.orderer(0));
        self.runtime.block_on(async {
            let (sender, receiver) = mpsc::channel(1);
            let sending = async {
                let mut ticks = tokio::time::interval(gap);
                for transaction in transactions {
                    ticks.tick().await;
                    sender.send(transaction).await.unwrap();
                }
                drop(sender);
            };
            let answers = async {
                let stream = ReceiverStream::new(receiver);
                let mut answers = client.broadcast(stream).await.unwrap().into_inner();
                while let Some(answer) = answers.message().await.unwrap() {
                    assert_eq!(answer.status(), Status::Success, "{}", answer.info);
                }
            };
            tokio::join!(sending, answers);
        });
        self.grow(blocks);
    }

    fn transactions(&self, count: u64) -> Vec<Envelope> {
        let author = self.author();
        let transaction = |_| author.put("key", vec![7; 1000].into()).unwrap();
        (0..count).map(transaction).collect()
    }

    /// A client of Org1; the first peers of all organisations endorse.
    fn author(&self) -> Author {
        let endorser = |organization: &Organization| organization.node_identity("peer0").unwrap();
        Author {
            channel_id: CHANNEL.to_owned(),
            client: self.organizations[0].user_identity("User1").unwrap(),
            endorsers: self.organizations.iter().map(endorser).collect(),
        }
    }

    /// A connection to an ordering node, by the TLS material of a user of Org1.
    fn orderer(&self, node: usize) -> Channel {
        let authority = self.ordering.user_tls("Admin").authority;
        let tls = self.organizations[0].user_tls("User1");
        self.connect(&self.orderer_address(node), tls, &authority).0
    }

    /// A channel to a node, and the hash of the certificate that it will see of us.
    fn connect(
        &self,
        address: &str,
        client: TlsFolder,
        authority: &std::path::Path,
    ) -> (Channel, Bytes) {
        let read = |path| fs::read(path).unwrap();
        let identity = TlsIdentity::from_pem(&read(client.certificate), &read(client.key)).unwrap();
        let hash = identity.certificate_hash().to_vec().into();
        let roots = certificates_from_pem(&fs::read(authority).unwrap()).unwrap();
        let tls = ClientTls::new(&roots, Some(identity), None).unwrap();
        let _inside = self.runtime.enter();
        let endpoint = address.parse().unwrap();
        (
            channel(&endpoint, Some(tls), &ConnectOptions::default()),
            hash,
        )
    }

    /// Sends messages that the ordering service takes, and counts on a block for each.
    fn broadcast(&mut self, node: usize, envelopes: Vec<Envelope>) {
        let count = envelopes.len();
        let mut client = AtomicBroadcastClient::new(self.orderer(node));
        let mut left = envelopes;
        // A node without a leader answers SERVICE_UNAVAILABLE and ends the stream.
        eventually("the ordering service takes messages", || {
            let taken = self.runtime.block_on(async {
                let stream = tokio_stream::iter(left.clone());
                let mut answers = client.broadcast(stream).await?.into_inner();
                let mut taken = 0;
                while let Some(answer) = answers.message().await? {
                    match answer.status() {
                        Status::Success => taken += 1,
                        Status::ServiceUnavailable => break,
                        status => panic!("{}: {}", status.as_str_name(), answer.info),
                    }
                }
                Ok::<_, tonic::Status>(taken)
            });
            let taken = taken.map_err(|status| status.to_string())?;
            left.drain(..taken);
            match left.len() {
                0 => Ok(()),
                left => Err(format!("{left} of {count} messages are left")),
            }
        });
        self.grow(count as u64);
    }

    /// Changes the channel's configuration, signed by the administrators of these peer organisations.
    pub fn update_config(&mut self, organizations: &[usize], change: impl FnOnce(&mut Config)) {
        let current = self.config();
        let mut updated = current.clone();
        change(&mut updated);
        let update = compute(CHANNEL, &current, &updated).unwrap();
        let config_update: Bytes = update.encode_to_vec().into();
        let administrators: Vec<_> = organizations
            .iter()
            .map(|number| &self.organizations[number - 1])
            .map(|organization| organization.user_identity("Admin").unwrap())
            .collect();
        let sign = |signer: &SigningIdentity| {
            let mut nonce = vec![0; 24];
            rand::rng().fill_bytes(&mut nonce);
            let header = SignatureHeader {
                creator: signer.serialized().clone(),
                nonce: nonce.into(),
            };
            let header = header.encode_to_vec();
            let message = [header.as_slice(), &config_update].concat();
            ConfigSignature {
                signature_header: header.into(),
                signature: signer.sign(&message).unwrap(),
            }
        };
        let envelope = ConfigUpdateEnvelope {
            signatures: administrators.iter().map(sign).collect(),
            config_update: config_update.clone(),
        };
        let data = envelope.encode_to_vec().into();
        let sender = &administrators[0];
        let envelope = signed_envelope(sender, HeaderType::ConfigUpdate, CHANNEL, data).unwrap();
        self.broadcast(0, vec![envelope]);
    }

    /// The identities of the peers in the channel of which a Go peer knows, itself included, by the
    /// organisation's MSP id: what its discovery service tells an administrator.
    pub fn discover(&self, at: At) -> Result<BTreeMap<String, Vec<Bytes>>, String> {
        let organization = self.organization(at);
        let tls = organization.user_tls("Admin");
        let authority = tls.authority.clone();
        let (channel, client_tls_cert_hash) = self.connect(&self.address(at), tls, &authority);
        let administrator = organization.user_identity("Admin").unwrap();
        let request = Request {
            authentication: Some(AuthInfo {
                client_identity: administrator.serialized().clone(),
                client_tls_cert_hash,
            }),
            queries: vec![Query {
                channel: CHANNEL.to_owned(),
                query: Some(query::Query::PeerQuery(PeerMembershipQuery::default())),
            }],
        };
        let payload = Bytes::from(request.encode_to_vec());
        let signature = administrator.sign(&payload).unwrap();
        let mut client = DiscoveryClient::new(channel);
        let answer = client.discover(SignedRequest { payload, signature });
        let answer = self.runtime.block_on(answer).map_err(|e| e.to_string())?;
        let result = answer.into_inner().results.into_iter().next();
        match result.and_then(|result| result.result) {
            Some(query_result::Result::Members(members)) => {
                let identities = |(msp_id, peers): (String, selvedge_protos::discovery::Peers)| {
                    let identities = peers.peers.into_iter().map(|peer| peer.identity);
                    (msp_id, identities.collect())
                };
                Ok(members.peers_by_org.into_iter().map(identities).collect())
            }
            other => Err(format!("{other:?}")),
        }
    }
}

/// The group of the application in a configuration.
pub fn application(config: &mut Config) -> &mut ConfigGroup {
    let root = config.channel_group.as_mut().unwrap();
    root.groups.get_mut("Application").unwrap()
}
