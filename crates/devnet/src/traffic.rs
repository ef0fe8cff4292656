//! A steady flow of endorsed transactions.

use std::time::Duration;

use bytes::Bytes;
use rand::RngCore;
use selvedge_msp::{SignatureError, SigningIdentity};
use selvedge_protos::common::{Envelope, HeaderType, Status};
use selvedge_protos::envelope::transaction_id;
use selvedge_protos::kvrwset::{KvWrite, KvrwSet};
use selvedge_protos::lifecycle::state_data::Type;
use selvedge_protos::lifecycle::{
    ChaincodeEndorsementInfo, ChaincodeValidationInfo, StateData, StateMetadata,
};
use selvedge_protos::protos::{
    ApplicationPolicy, ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction,
    ChaincodeHeaderExtension, ChaincodeId, ChaincodeInput, ChaincodeInvocationSpec,
    ChaincodeProposalPayload, ChaincodeSpec, Endorsement, ProposalResponsePayload, Response,
    Transaction, TransactionAction, application_policy, chaincode_spec,
};
use selvedge_protos::rwset::{NsReadWriteSet, TxReadWriteSet, tx_read_write_set};
use selvedge_protos::{Message, sha256_of_parts};
use selvedge_transport::services::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::messages::{channel_header, sign, signature_header};

/// The chaincode that the transactions claim to be of.
const CHAINCODE: &str = "kv";
const CHAINCODE_VERSION: &str = "1.0";
/// Transactions that have been sent and not answered.
const MAX_UNANSWERED: usize = 64;
/// A flow that has fallen behind for longer does not catch up.
const MAX_LAG: Duration = Duration::from_secs(1);

/// Who makes transactions for which channel.
#[derive(Clone)]
pub struct Author {
    /// The channel.
    pub channel_id: String,
    /// The creator.
    pub client: SigningIdentity,
    /// Who endorses.
    pub endorsers: Vec<SigningIdentity>,
}

impl Author {
    /// A transaction that writes one key, endorsed by everybody. Costs one signature for the client
    /// and one for each endorser. It is valid if the chaincode is [defined](Self::define).
    pub fn put(&self, key: &str, value: Bytes) -> Result<Envelope, SignatureError> {
        self.transaction(&Invocation {
            chaincode: CHAINCODE,
            version: CHAINCODE_VERSION,
            arguments: vec![
                Bytes::from_static(b"put"),
                key.to_owned().into(),
                value.clone(),
            ],
            writes: vec![(key.to_owned(), value)],
        })
    }

    /// A transaction that defines the chaincode of the others, as `peer lifecycle chaincode commit`
    /// makes it; the channel's default policy is that for its endorsements. Endorsed by everybody, which
    /// must be a majority of the organisations. It counts from the next block on.
    pub fn define(&self) -> Result<Envelope, SignatureError> {
        let fields = [
            ("Collections", Type::Bytes(Bytes::new())),
            ("EndorsementInfo", encoded(&endorsement_info())),
            ("Sequence", Type::Int64(1)),
            ("ValidationInfo", encoded(&validation_info())),
        ];
        let metadata = StateMetadata {
            datatype: "ChaincodeDefinition".to_owned(),
            fields: [
                "Sequence",
                "EndorsementInfo",
                "ValidationInfo",
                "Collections",
            ]
            .map(str::to_owned)
            .into(),
        };
        let mut writes: Vec<_> = fields
            .into_iter()
            .map(|(name, value)| {
                let data = StateData {
                    r#type: Some(value),
                };
                let key = format!("namespaces/fields/{CHAINCODE}/{name}");
                (key, Bytes::from(data.encode_to_vec()))
            })
            .collect();
        let key = format!("namespaces/metadata/{CHAINCODE}");
        writes.push((key, metadata.encode_to_vec().into()));
        self.transaction(&Invocation {
            chaincode: "_lifecycle",
            version: "syscc",
            arguments: vec![Bytes::from_static(b"CommitChaincodeDefinition")],
            writes,
        })
    }

    fn transaction(&self, invocation: &Invocation) -> Result<Envelope, SignatureError> {
        let signature_header = signature_header(&self.client);
        let mut channel_header = channel_header(HeaderType::EndorserTransaction, &self.channel_id);
        channel_header.tx_id = transaction_id(&signature_header.nonce, &signature_header.creator);
        let extension = ChaincodeHeaderExtension {
            chaincode_id: Some(invocation.chaincode("")),
        };
        channel_header.extension = extension.encode_to_vec().into();

        let proposal = invocation.proposal();
        let proposal_hash = sha256_of_parts([
            channel_header.encode_to_vec().as_slice(),
            signature_header.encode_to_vec().as_slice(),
            proposal.as_slice(),
        ]);
        let response = ProposalResponsePayload {
            proposal_hash: proposal_hash.to_vec().into(),
            extension: invocation.action().encode_to_vec().into(),
        };
        let response = Bytes::from(response.encode_to_vec());
        let endorsements = self.endorsers.iter().map(|peer| endorse(peer, &response));
        let payload = ChaincodeActionPayload {
            chaincode_proposal_payload: proposal.into(),
            action: Some(ChaincodeEndorsedAction {
                endorsements: endorsements.collect::<Result<_, _>>()?,
                proposal_response_payload: response,
            }),
        };
        let transaction = Transaction {
            actions: vec![TransactionAction {
                header: signature_header.encode_to_vec().into(),
                payload: payload.encode_to_vec().into(),
            }],
        };
        let data = transaction.encode_to_vec().into();
        sign(&self.client, &channel_header, &signature_header, data)
    }
}

fn encoded(message: &impl Message) -> Type {
    Type::Bytes(message.encode_to_vec().into())
}

fn endorsement_info() -> ChaincodeEndorsementInfo {
    ChaincodeEndorsementInfo {
        version: CHAINCODE_VERSION.to_owned(),
        endorsement_plugin: "escc".to_owned(),
        ..ChaincodeEndorsementInfo::default()
    }
}

fn validation_info() -> ChaincodeValidationInfo {
    let policy = ApplicationPolicy {
        r#type: Some(application_policy::Type::ChannelConfigPolicyReference(
            "/Channel/Application/Endorsement".to_owned(),
        )),
    };
    ChaincodeValidationInfo {
        validation_plugin: "vscc".to_owned(),
        validation_parameter: policy.encode_to_vec().into(),
    }
}

/// What a transaction claims to be the outcome of.
struct Invocation {
    chaincode: &'static str,
    version: &'static str,
    arguments: Vec<Bytes>,
    writes: Vec<(String, Bytes)>,
}

impl Invocation {
    fn chaincode(&self, version: &str) -> ChaincodeId {
        ChaincodeId {
            name: self.chaincode.to_owned(),
            version: version.to_owned(),
            ..ChaincodeId::default()
        }
    }

    fn proposal(&self) -> Vec<u8> {
        let invocation = ChaincodeInvocationSpec {
            chaincode_spec: Some(ChaincodeSpec {
                r#type: chaincode_spec::Type::Golang as i32,
                chaincode_id: Some(self.chaincode("")),
                input: Some(ChaincodeInput {
                    args: self.arguments.clone(),
                    ..ChaincodeInput::default()
                }),
                ..ChaincodeSpec::default()
            }),
        };
        let payload = ChaincodeProposalPayload {
            input: invocation.encode_to_vec().into(),
            ..ChaincodeProposalPayload::default()
        };
        payload.encode_to_vec()
    }

    fn action(&self) -> ChaincodeAction {
        let writes = self.writes.iter().map(|(key, value)| KvWrite {
            key: key.clone(),
            is_delete: false,
            value: value.clone(),
        });
        let rwset = KvrwSet {
            writes: writes.collect(),
            ..KvrwSet::default()
        };
        let results = TxReadWriteSet {
            data_model: tx_read_write_set::DataModel::Kv as i32,
            ns_rwset: vec![NsReadWriteSet {
                namespace: self.chaincode.to_owned(),
                rwset: rwset.encode_to_vec().into(),
                ..NsReadWriteSet::default()
            }],
        };
        ChaincodeAction {
            results: results.encode_to_vec().into(),
            response: Some(Response {
                status: 200,
                ..Response::default()
            }),
            chaincode_id: Some(self.chaincode(self.version)),
            ..ChaincodeAction::default()
        }
    }
}

fn endorse(peer: &SigningIdentity, response: &Bytes) -> Result<Endorsement, SignatureError> {
    let endorser = peer.serialized().clone();
    let signed = [response.as_ref(), endorser.as_ref()].concat();
    Ok(Endorsement {
        signature: peer.sign(&signed)?,
        endorser,
    })
}

/// Why the flow has ended though nobody asked for it.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// The client or an endorser cannot sign.
    #[error("cannot sign a transaction: {0}")]
    Signing(#[from] SignatureError),
    /// The connection to the ordering node broke.
    #[error("the ordering node ended the flow of transactions: {0}")]
    Connection(#[from] tonic::Status),
    /// The ordering node did not take a transaction.
    #[error("the ordering node refused a transaction with status {status}: {info}")]
    Refused {
        /// Its status, one of Fabric's.
        status: i32,
        /// Its reason.
        info: String,
    },
    /// The ordering node closed the stream.
    #[error("the ordering node closed the stream of transactions")]
    Closed,
}

/// Sends `rate` transactions a second over one Broadcast stream until an error or until dropped;
/// publishes how many were taken. A flow that is held up catches up one second at most.
pub async fn flow(
    author: Author,
    rate: f64,
    orderer: Channel,
    taken: watch::Sender<u64>,
) -> Result<(), TrafficError> {
    if rate <= 0.0 {
        return std::future::pending().await;
    }
    let (sender, receiver) = mpsc::channel(MAX_UNANSWERED);
    let mut client = AtomicBroadcastClient::new(orderer);
    let sending = send(author, rate, sender);
    let answers = async {
        let messages = ReceiverStream::new(receiver);
        let mut responses = client.broadcast(messages).await?.into_inner();
        while let Some(response) = responses.message().await? {
            if response.status != Status::Success as i32 {
                let (status, info) = (response.status, response.info);
                return Err(TrafficError::Refused { status, info });
            }
            taken.send_modify(|taken| *taken += 1);
        }
        Err(TrafficError::Closed)
    };
    tokio::select! {
        ended = answers => ended,
        Err(error) = sending => Err(error),
    }
}

async fn send(
    author: Author,
    rate: f64,
    sender: mpsc::Sender<Envelope>,
) -> Result<(), TrafficError> {
    let mut due = Instant::now();
    let gap = Duration::from_secs_f64(1.0 / rate);
    for number in 0u64.. {
        tokio::time::sleep_until(due).await;
        due = (due + gap).max(Instant::now() - MAX_LAG);
        let mut value = vec![0; 100];
        rand::rng().fill_bytes(&mut value);
        let transaction = author.put(&format!("key{number}"), value.into())?;
        if sender.send(transaction).await.is_err() {
            break;
        }
    }
    Ok(())
}
