//! Calls of a peer's system chaincodes, by signed proposals.

use anyhow::anyhow;
use bytes::Bytes;
use selvedge_peer::config::RemoteConfig;
use selvedge_protos::Message as _;
use selvedge_protos::common::{ChannelHeader, Header, HeaderType};
use selvedge_protos::envelope::transaction_id;
use selvedge_protos::protos::{
    ChaincodeHeaderExtension, ChaincodeId, ChaincodeInput, ChaincodeInvocationSpec,
    ChaincodeProposalPayload, ChaincodeSpec, Proposal, Response, SignedProposal, chaincode_spec,
};
use selvedge_transport::Connection;
use selvedge_transport::services::protos::endorser_client::EndorserClient;

use super::connection::connect;
use super::identity::{Identity, channel_header};
use super::rpc_error;

/// A client of a peer's endorser service.
#[derive(Debug)]
pub struct Endorser<'a> {
    client: EndorserClient<Connection>,
    identity: &'a Identity,
}

impl<'a> Endorser<'a> {
    /// Connects to the peer.
    pub async fn connect(config: &RemoteConfig, identity: &'a Identity) -> anyhow::Result<Self> {
        let remote = connect(config, "peer", "endorser client").await?;
        let client = EndorserClient::new(remote.connection)
            .max_decoding_message_size(config.max_recv_msg_size)
            .max_encoding_message_size(config.max_send_msg_size);
        Ok(Self { client, identity })
    }

    /// Calls a system chaincode outside of any channel.
    pub async fn call(
        &mut self,
        kind: HeaderType,
        chaincode: &str,
        arguments: Vec<Bytes>,
    ) -> anyhow::Result<Response> {
        let proposal = proposal(self.identity, kind, chaincode, arguments)?;
        let answer = self.client.process_proposal(proposal).await;
        let answer = answer.map_err(|status| rpc_error(&status))?.into_inner();
        answer
            .response
            .ok_or_else(|| anyhow!("the peer's answer has no response in it"))
    }
}

/// A proposal as Fabric's `protoutil.CreateProposalFromCIS` makes it, signed.
fn proposal(
    identity: &Identity,
    kind: HeaderType,
    chaincode: &str,
    arguments: Vec<Bytes>,
) -> anyhow::Result<SignedProposal> {
    let chaincode_id = Some(ChaincodeId {
        name: chaincode.to_owned(),
        ..ChaincodeId::default()
    });
    let invocation = ChaincodeInvocationSpec {
        chaincode_spec: Some(ChaincodeSpec {
            r#type: chaincode_spec::Type::Golang.into(),
            chaincode_id: chaincode_id.clone(),
            input: Some(ChaincodeInput {
                args: arguments,
                ..ChaincodeInput::default()
            }),
            ..ChaincodeSpec::default()
        }),
    };
    let signature_header = identity.signature_header();
    let channel_header = ChannelHeader {
        tx_id: transaction_id(&signature_header.nonce, &signature_header.creator),
        extension: ChaincodeHeaderExtension { chaincode_id }
            .encode_to_vec()
            .into(),
        ..channel_header(kind, "")
    };
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: signature_header.encode_to_vec().into(),
    };
    let payload = ChaincodeProposalPayload {
        input: invocation.encode_to_vec().into(),
        ..ChaincodeProposalPayload::default()
    };
    let proposal = Proposal {
        header: header.encode_to_vec().into(),
        payload: payload.encode_to_vec().into(),
        extension: Bytes::new(),
    };
    let proposal_bytes = Bytes::from(proposal.encode_to_vec());
    let signature = identity.sign(&proposal_bytes)?;
    Ok(SignedProposal {
        proposal_bytes,
        signature,
    })
}
