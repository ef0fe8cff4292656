//! Single blocks from the deliver service of a peer or of an ordering node.

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use selvedge_peer::config::RemoteConfig;
use selvedge_protos::Message as _;
use selvedge_protos::common::{Block, ChannelHeader, Envelope, HeaderType, Status};
use selvedge_protos::orderer::{
    SeekInfo, SeekNewest, SeekOldest, SeekPosition, SeekSpecified, deliver_response, seek_info,
    seek_position,
};
use selvedge_protos::protos;
use selvedge_transport::Connection;
use selvedge_transport::services::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_transport::services::protos::deliver_client::DeliverClient;
use tracing::info;

use super::connection::connect;
use super::identity::{Identity, channel_header};
use super::rpc_error;

/// Which block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The last one.
    Newest,
    /// The first one.
    Oldest,
    /// The one with this number; the service waits until there is one.
    Number(u64),
}

/// A client of a deliver service for one channel.
#[derive(Debug)]
pub struct Deliver<'a> {
    service: Service,
    identity: &'a Identity,
    channel_id: String,
    best_effort: bool,
    tls_cert_hash: Bytes,
}

/// The two kinds of node have services that differ in name alone.
#[derive(Debug)]
enum Service {
    Peer(DeliverClient<Connection>),
    Orderer(AtomicBroadcastClient<Connection>),
}

/// The first message of an answer.
enum Answer {
    Status(i32),
    Block(Block),
}

impl<'a> Deliver<'a> {
    /// Connects to a peer.
    pub async fn from_peer(
        config: &RemoteConfig,
        identity: &'a Identity,
        channel_id: String,
        best_effort: bool,
    ) -> anyhow::Result<Self> {
        let remote = connect(config, "peer", "deliver client").await?;
        let client = DeliverClient::new(remote.connection)
            .max_decoding_message_size(config.max_recv_msg_size);
        Ok(Self {
            service: Service::Peer(client),
            identity,
            channel_id,
            best_effort,
            tls_cert_hash: remote.tls_cert_hash,
        })
    }

    /// Connects to an ordering node.
    pub async fn from_orderer(
        config: &RemoteConfig,
        identity: &'a Identity,
        channel_id: String,
        best_effort: bool,
    ) -> anyhow::Result<Self> {
        let remote = connect(config, "orderer", "orderer client").await?;
        let client = AtomicBroadcastClient::new(remote.connection)
            .max_decoding_message_size(config.max_recv_msg_size);
        Ok(Self {
            service: Service::Orderer(client),
            identity,
            channel_id,
            best_effort,
            tls_cert_hash: remote.tls_cert_hash,
        })
    }

    /// Fetches one block.
    pub async fn block(&mut self, position: Position) -> anyhow::Result<Block> {
        let request = self.seek(position)?;
        match self
            .first_answer(request)
            .await
            .context("error receiving")?
        {
            Answer::Block(block) => {
                let number = block.header.as_ref().map_or(0, |header| header.number);
                info!(target: "cli.common", "Received block: {number}");
                Ok(block)
            }
            Answer::Status(status) => {
                let name = Status::try_from(status).map_or_else(
                    |_| status.to_string(),
                    |status| status.as_str_name().to_owned(),
                );
                info!(target: "cli.common", "Expect block, but got status: &{{{name}}}");
                bail!("can't read the block: &{{{name}}}")
            }
        }
    }

    fn seek(&self, position: Position) -> anyhow::Result<Envelope> {
        let position = SeekPosition {
            r#type: Some(match position {
                Position::Newest => seek_position::Type::Newest(SeekNewest {}),
                Position::Oldest => seek_position::Type::Oldest(SeekOldest {}),
                Position::Number(number) => {
                    seek_position::Type::Specified(SeekSpecified { number })
                }
            }),
        };
        let error_response = if self.best_effort {
            seek_info::SeekErrorResponse::BestEffort
        } else {
            seek_info::SeekErrorResponse::Strict
        };
        let seek = SeekInfo {
            start: Some(position),
            stop: Some(position),
            behavior: seek_info::SeekBehavior::BlockUntilReady.into(),
            error_response: error_response.into(),
            ..SeekInfo::default()
        };
        let header = ChannelHeader {
            tls_cert_hash: self.tls_cert_hash.clone(),
            ..channel_header(HeaderType::DeliverSeekInfo, &self.channel_id)
        };
        self.identity.envelope(&header, seek.encode_to_vec().into())
    }

    async fn first_answer(&mut self, request: Envelope) -> anyhow::Result<Answer> {
        let request = tokio_stream::once(request);
        let failed = |status| rpc_error(&status);
        let answer = match &mut self.service {
            Service::Peer(client) => {
                use protos::deliver_response::Type;
                let mut answers = client.deliver(request).await.map_err(failed)?.into_inner();
                let answer = answers.message().await.map_err(failed)?;
                answer
                    .and_then(|answer| answer.r#type)
                    .map(|answer| match answer {
                        Type::Status(status) => Ok(Answer::Status(status)),
                        Type::Block(block) => Ok(Answer::Block(block)),
                        _ => Err(anyhow!("response error: neither a block nor a status")),
                    })
            }
            Service::Orderer(client) => {
                use deliver_response::Type;
                let mut answers = client.deliver(request).await.map_err(failed)?.into_inner();
                let answer = answers.message().await.map_err(failed)?;
                answer
                    .and_then(|answer| answer.r#type)
                    .map(|answer| match answer {
                        Type::Status(status) => Ok(Answer::Status(status)),
                        Type::Block(block) => Ok(Answer::Block(block)),
                    })
            }
        };
        answer.unwrap_or_else(|| Err(anyhow!("the stream ended without an answer")))
    }
}
