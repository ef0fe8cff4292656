//! A steady flow of endorsed transactions.

use std::time::Duration;

use bytes::Bytes;
use rand::RngCore;
use selvedge_msp::{SignatureError, SigningIdentity};
use selvedge_protos::common::{Envelope, HeaderType, Status};
use selvedge_protos::envelope::transaction_id;
use selvedge_protos::kvrwset::{KvWrite, KvrwSet};
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeHeaderExtension,
    ChaincodeId, ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload, ChaincodeSpec,
    Endorsement, ProposalResponsePayload, Response, Transaction, TransactionAction, chaincode_spec,
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
    /// and one for each endorser.
    pub fn put(&self, key: &str, value: Bytes) -> Result<Envelope, SignatureError> {
        let signature_header = signature_header(&self.client);
        let mut channel_header = channel_header(HeaderType::EndorserTransaction, &self.channel_id);
        channel_header.tx_id = transaction_id(&signature_header.nonce, &signature_header.creator);
        let extension = ChaincodeHeaderExtension {
            chaincode_id: Some(chaincode("")),
        };
        channel_header.extension = extension.encode_to_vec().into();

        let proposal = proposal(key, &value);
        let proposal_hash = sha256_of_parts([
            channel_header.encode_to_vec().as_slice(),
            signature_header.encode_to_vec().as_slice(),
            proposal.as_slice(),
        ]);
        let response = ProposalResponsePayload {
            proposal_hash: proposal_hash.to_vec().into(),
            extension: action(key, value).encode_to_vec().into(),
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

fn chaincode(version: &str) -> ChaincodeId {
    ChaincodeId {
        name: CHAINCODE.to_owned(),
        version: version.to_owned(),
        ..ChaincodeId::default()
    }
}

fn proposal(key: &str, value: &Bytes) -> Vec<u8> {
    let args = [
        Bytes::from_static(b"put"),
        key.to_owned().into(),
        value.clone(),
    ];
    let invocation = ChaincodeInvocationSpec {
        chaincode_spec: Some(ChaincodeSpec {
            r#type: chaincode_spec::Type::Golang as i32,
            chaincode_id: Some(chaincode("")),
            input: Some(ChaincodeInput {
                args: args.into(),
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

fn action(key: &str, value: Bytes) -> ChaincodeAction {
    let writes = KvrwSet {
        writes: vec![KvWrite {
            key: key.to_owned(),
            is_delete: false,
            value,
        }],
        ..KvrwSet::default()
    };
    let results = TxReadWriteSet {
        data_model: tx_read_write_set::DataModel::Kv as i32,
        ns_rwset: vec![NsReadWriteSet {
            namespace: CHAINCODE.to_owned(),
            rwset: writes.encode_to_vec().into(),
            ..NsReadWriteSet::default()
        }],
    };
    ChaincodeAction {
        results: results.encode_to_vec().into(),
        response: Some(Response {
            status: 200,
            ..Response::default()
        }),
        chaincode_id: Some(chaincode(CHAINCODE_VERSION)),
        ..ChaincodeAction::default()
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
