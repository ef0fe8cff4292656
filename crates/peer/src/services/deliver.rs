//! `protos.Deliver`: hands out the blocks of a channel, those that are there and those to come
//! (Fabric: common/deliver, core/peer deliver events).
//!
//! Blocks with private data are delivered once there is a store for it; until then that call is
//! refused as not implemented.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt};
use selvedge_policy::SignedData;
use selvedge_protos::Message;
use selvedge_protos::common::{
    Block, ChannelHeader, Envelope, Payload, SignatureHeader, Status as Code,
};
use selvedge_protos::orderer::seek_info::{SeekBehavior, SeekContentType};
use selvedge_protos::orderer::{SeekInfo, seek_position};
use selvedge_protos::protos::DeliverResponse;
use selvedge_protos::protos::deliver_response::Type;
use selvedge_transport::TlsPeer;
use selvedge_transport::services::protos::deliver_server::Deliver;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::{filtered, permits, too_many};
use crate::access::{AccessControl, ChannelResource};
use crate::channel::{Channel, Channels};
use crate::metrics::Metrics;

/// Blocks that may wait for a slow client before reading the next from disk waits too.
const SEND_QUEUE: usize = 4;

/// What the service needs to know of the peer.
#[derive(Clone)]
pub struct DeliverService {
    channels: Channels,
    access: AccessControl,
    metrics: Metrics,
    options: DeliverOptions,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Settings of the service.
#[derive(Debug, Clone)]
pub struct DeliverOptions {
    /// How far a request's time may be from ours (peer.authentication.timewindow).
    pub time_window: Duration,
    /// Must requests name the TLS certificate that they come with (mutual TLS)?
    pub bind_to_tls: bool,
    /// Streams at the same time (peer.limits.concurrency.deliverService); `None` is no limit.
    pub concurrency: Option<NonZeroUsize>,
}

impl DeliverService {
    /// A service over the peer's channels. Streams run as `tasks` and end when `stop` is cancelled.
    pub fn new(
        channels: Channels,
        access: AccessControl,
        metrics: Metrics,
        options: DeliverOptions,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(permits(options.concurrency)));
        Self {
            channels,
            access,
            metrics,
            options,
            permits,
            tasks,
            stop,
        }
    }

    fn start(
        &self,
        request: Request<Streaming<Envelope>>,
        form: Form,
    ) -> Result<Response<ResponseStream>, Status> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            return Err(too_many("/protos.Deliver", self.options.concurrency));
        };
        let tls_hash = request
            .extensions()
            .get::<TlsPeer>()
            .and_then(|peer| peer.certificate_hash());
        let (replies, stream) = mpsc::channel(SEND_QUEUE);
        let session = Session {
            service: self.clone(),
            form,
            tls_hash,
            replies,
        };
        self.tasks.spawn(async move {
            let _permit = permit;
            let Session {
                service, replies, ..
            } = &session;
            service.metrics.deliver().streams_opened.inc();
            let served = service
                .stop
                .run_until_cancelled(session.run(request.into_inner()));
            if served.await.is_none() {
                // A client that is slow as well finds the end of the stream.
                let _ = replies.try_send(Err(Status::unavailable("the peer is stopping")));
            }
            service.metrics.deliver().streams_closed.inc();
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

type ResponseStream = Pin<Box<dyn Stream<Item = Result<DeliverResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Deliver for DeliverService {
    type DeliverStream = ResponseStream;
    type DeliverFilteredStream = ResponseStream;
    type DeliverWithPrivateDataStream = ResponseStream;

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<ResponseStream>, Status> {
        self.start(request, Form::Whole)
    }

    async fn deliver_filtered(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<ResponseStream>, Status> {
        self.start(request, Form::Filtered)
    }

    async fn deliver_with_private_data(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<ResponseStream>, Status> {
        Err(Status::unimplemented(
            "this peer keeps no private data yet: use Deliver",
        ))
    }
}

/// How a client wants its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Filtered,
}

impl Form {
    const fn resource(self) -> ChannelResource {
        match self {
            Self::Whole => ChannelResource::BLOCK_EVENTS,
            Self::Filtered => ChannelResource::FILTERED_BLOCK_EVENTS,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Whole => "block",
            Self::Filtered => "filtered_block",
        }
    }
}

/// One stream of seek requests and their answers.
struct Session {
    service: DeliverService,
    form: Form,
    tls_hash: Option<[u8; 32]>,
    replies: mpsc::Sender<Result<DeliverResponse, Status>>,
}

/// The client has gone.
struct Gone;

/// Ends a request: with a status for the client, or because nobody listens.
enum End {
    Status(Code),
    Gone,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Session {
    async fn run(&self, mut requests: Streaming<Envelope>) {
        loop {
            let envelope = tokio::select! {
                request = requests.next() => request,
                () = self.replies.closed() => return,
            };
            let envelope = match envelope {
                Some(Ok(envelope)) => envelope,
                Some(Err(reason)) => {
                    tracing::warn!(target: "common.deliver", %reason, "Error reading from client");
                    return;
                }
                None => return,
            };
            let code = match self.answer(envelope).await {
                Ok(()) => Code::Success,
                Err(End::Status(code)) => code,
                Err(End::Gone) => return,
            };
            let sent = self.send(Type::Status(code.into())).await;
            if code != Code::Success || sent.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, envelope: Envelope) -> Result<(), End> {
        let seek = SeekRequest::open(envelope).map_err(bad_request)?;
        self.check_header(&seek.header).map_err(bad_request)?;
        let channel_id = &seek.header.channel_id;
        let channel = self
            .service
            .channels
            .get(channel_id)
            .ok_or(End::Status(Code::NotFound))?;
        let (filtered, label) = (self.form == Form::Filtered, self.form.label());
        self.service
            .metrics
            .deliver()
            .request_received(channel_id, filtered, label);
        let result = self.deliver(&channel, &seek).await;
        let success = result.is_ok();
        self.service
            .metrics
            .deliver()
            .request_completed(channel_id, filtered, label, success);
        result
    }

    fn check_header(&self, header: &ChannelHeader) -> Result<(), String> {
        let timestamp = header
            .timestamp
            .ok_or("channel header in envelope must contain timestamp")?;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
        let apart = seconds.abs_diff(i128::try_from(now.as_nanos()).unwrap_or(i128::MAX));
        let window = self.service.options.time_window;
        if apart > window.as_nanos() {
            return Err(format!(
                "envelope timestamp is more than {window:?} apart from current server time"
            ));
        }
        if !self.service.options.bind_to_tls {
            return Ok(());
        }
        match self.tls_hash {
            _ if header.tls_cert_hash.is_empty() => {
                Err("client didn't include its TLS cert hash".to_owned())
            }
            None => Err("client didn't send a TLS certificate".to_owned()),
            Some(actual) if actual[..] == header.tls_cert_hash[..] => Ok(()),
            Some(_) => Err("the TLS cert hash is not that of the client's certificate".to_owned()),
        }
    }

    async fn deliver(&self, channel: &Channel, seek: &SeekRequest) -> Result<(), End> {
        let mut guard = Guard::new(self, channel, seek);
        guard.check()?;
        let mut heights = channel.committed();
        let height = *heights.borrow();
        let (mut number, last) =
            range(&seek.info, channel.ledger().first_block(), height).map_err(End::Status)?;
        let fail_if_not_ready = seek.info.behavior == SeekBehavior::FailIfNotReady as i32;
        let deliver = self.service.metrics.deliver();
        let sent =
            deliver.blocks_sent(channel.id(), self.form == Form::Filtered, self.form.label());
        loop {
            // As in Fabric, whoever is told of a block can read what it has changed.
            if number >= *heights.borrow() {
                if fail_if_not_ready {
                    return Err(End::Status(Code::NotFound));
                }
                tokio::select! {
                    waited = heights.wait_for(|height| *height > number) => {
                        if waited.is_err() {
                            return Err(End::Status(Code::ServiceUnavailable));
                        }
                    }
                    () = self.replies.closed() => return Err(End::Gone),
                }
            }
            let block = self.read(channel, number).await?;
            guard.check()?;
            self.send_block(block, seek).await?;
            sent.inc();
            if number == last {
                return Ok(());
            }
            number = number.saturating_add(1);
        }
    }

    async fn send_block(&self, block: Block, seek: &SeekRequest) -> Result<(), Gone> {
        let reply = match self.form {
            Form::Whole => Type::Block(seek.shape(block)),
            Form::Filtered => match filtered::filter(&block) {
                Ok(block) => Type::FilteredBlock(block),
                Err(reason) => {
                    tracing::warn!(
                        target: "common.deliver",
                        "Failed to generate filtered block due to: {reason}"
                    );
                    Type::Status(Code::BadRequest.into())
                }
            },
        };
        self.send(reply).await
    }

    async fn read(&self, channel: &Channel, number: u64) -> Result<Block, End> {
        let ledger = channel.ledger().clone();
        let tasks = &self.service.tasks;
        let block = tasks.spawn_blocking(move || ledger.block(number));
        match block.await {
            Ok(Ok(Some(block))) => Ok(block),
            Ok(Ok(None)) => Err(End::Status(Code::NotFound)),
            Ok(Err(reason)) => {
                tracing::error!(target: "common.deliver", %reason, "Error reading from channel");
                Err(End::Status(Code::InternalServerError))
            }
            Err(_) => Err(End::Status(Code::InternalServerError)),
        }
    }

    async fn send(&self, reply: Type) -> Result<(), Gone> {
        let reply = DeliverResponse {
            r#type: Some(reply),
        };
        self.replies.send(Ok(reply)).await.map_err(|_| Gone)
    }
}

/// One request, opened.
struct SeekRequest {
    header: ChannelHeader,
    signed: SignedData,
    info: SeekInfo,
}

impl SeekRequest {
    fn open(envelope: Envelope) -> Result<Self, String> {
        let text = |error: selvedge_protos::DecodeError| error.to_string();
        let payload = Payload::decode(envelope.payload.clone()).map_err(text)?;
        let headers = payload.header.ok_or("envelope has no header")?;
        let header = ChannelHeader::decode(headers.channel_header).map_err(text)?;
        let signature_header = SignatureHeader::decode(headers.signature_header).map_err(text)?;
        let info = SeekInfo::decode(payload.data).map_err(text)?;
        let signed = SignedData {
            data: envelope.payload,
            identity: signature_header.creator,
            signature: envelope.signature,
        };
        Ok(Self {
            header,
            signed,
            info,
        })
    }

    /// Attestations carry no data, unless the block configures the channel.
    fn shape(&self, block: Block) -> Block {
        let attestation = self.info.content_type == SeekContentType::HeaderWithSig as i32;
        if attestation && !is_config(&block) {
            Block {
                data: None,
                ..block
            }
        } else {
            block
        }
    }
}

/// The first block to send and the last, of a ledger with the blocks from `oldest` on and before `height`
/// (Fabric: common/deliver, `deliverBlocks`, and the iterator of the block ledger). The oldest block is
/// number 0, also where the ledger begins later and has none.
fn range(info: &SeekInfo, oldest: u64, height: u64) -> Result<(u64, u64), Code> {
    use seek_position::Type;
    let (Some(start), Some(stop)) = (&info.start, &info.stop) else {
        return Err(Code::BadRequest);
    };
    let newest = height.saturating_sub(1);
    let first = match &start.r#type {
        Some(Type::Oldest(_)) => 0,
        // The next one, if the snapshot that the channel was joined by is all there is.
        Some(Type::Newest(_)) => newest.max(oldest),
        Some(Type::NextCommit(_)) => height,
        // A start beyond the next block to come is not waited for.
        Some(Type::Specified(specified)) if specified.number <= height => specified.number,
        Some(Type::Specified(_)) | None => return Err(Code::NotFound),
    };
    if first < oldest {
        return Err(Code::NotFound);
    }
    let last = match &stop.r#type {
        Some(Type::Oldest(_)) => first,
        Some(Type::Newest(_)) if start == stop => first,
        Some(Type::Newest(_)) => newest,
        Some(Type::Specified(specified)) if specified.number < first => {
            return Err(Code::BadRequest);
        }
        Some(Type::Specified(specified)) => specified.number,
        // Fabric does not look at these: the stop is block 0, which is never if the start is later.
        Some(Type::NextCommit(_)) | None => 0,
    };
    Ok((first, last))
}

/// For [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) fn seek(envelope: Envelope, oldest: u64, height: u64) -> Option<(u64, u64)> {
    let request = SeekRequest::open(envelope).ok()?;
    range(&request.info, oldest, height).ok()
}

fn is_config(block: &Block) -> bool {
    selvedge_channel::config_from_block(block).is_ok_and(|config| config.is_some())
}

/// Access is checked at the start and again whenever the channel's configuration has changed; it
/// ends when the client's certificate does.
struct Guard<'a> {
    session: &'a Session,
    channel: &'a Channel,
    seek: &'a SeekRequest,
    checked_at: Option<u64>,
    expires_at: Option<SystemTime>,
}

impl<'a> Guard<'a> {
    fn new(session: &'a Session, channel: &'a Channel, seek: &'a SeekRequest) -> Self {
        let identity = channel
            .config()
            .msps()
            .deserialize(&seek.signed.identity)
            .ok();
        let expires_at = identity.map(|identity| identity.expires_at());
        Self {
            session,
            channel,
            seek,
            checked_at: None,
            expires_at,
        }
    }

    fn check(&mut self) -> Result<(), End> {
        let forbidden = |reason: &dyn std::fmt::Display| {
            let channel = self.channel.id();
            tracing::warn!(
                target: "common.deliver",
                "[channel: {channel}] Client is not authorized: {reason}"
            );
            End::Status(Code::Forbidden)
        };
        if self.expires_at.is_some_and(|end| end < SystemTime::now()) {
            return Err(forbidden(&"deliver client identity expired"));
        }
        let sequence = self.channel.config().sequence();
        if self.checked_at == Some(sequence) {
            return Ok(());
        }
        let resource = self.session.form.resource();
        let access = &self.session.service.access;
        access
            .check_channel(resource, self.channel, &self.seek.signed)
            .map_err(|reason| forbidden(&reason))?;
        self.checked_at = Some(sequence);
        Ok(())
    }
}

fn bad_request(reason: String) -> End {
    tracing::warn!(target: "common.deliver", "bad deliver request: {reason}");
    End::Status(Code::BadRequest)
}

#[cfg(test)]
mod tests;
