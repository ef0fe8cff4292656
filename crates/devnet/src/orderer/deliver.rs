//! Handing out blocks (Fabric: common/deliver).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use selvedge_ledger::LedgerError;
use selvedge_msp::expires_at;
use selvedge_policy::SignedData;
use selvedge_protos::Message;
use selvedge_protos::common::{Block, Envelope, Status};
use selvedge_protos::envelope::OpenedEnvelope;
use selvedge_protos::orderer::deliver_response::Type as Response;
use selvedge_protos::orderer::seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse};
use selvedge_protos::orderer::seek_position::Type as Position;
use selvedge_protos::orderer::{DeliverResponse, SeekInfo, SeekPosition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::admission::signed_data;
use super::chain::Chain;

/// How far the clock of a client may be off (Fabric: `General.Authentication.TimeWindow`).
const TIME_WINDOW: Duration = Duration::from_secs(15 * 60);
const READERS: &str = "/Channel/Readers";
const READERS_IN_MAINTENANCE: &str = "/Channel/Orderer/Readers";

pub(super) type Responses = mpsc::Sender<Result<DeliverResponse, tonic::Status>>;

/// One stream: requests one after the other, each answered with blocks and a status. The first that
/// does not succeed ends the stream.
pub(super) async fn serve(
    chain: Arc<Chain>,
    mut requests: Streaming<Envelope>,
    responses: Responses,
    stop: CancellationToken,
) {
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            () = responses.closed() => return,
            () = stop.cancelled() => Ok(None),
        };
        let Ok(Some(request)) = request else { return };
        let delivery = Delivery {
            chain: &chain,
            responses: &responses,
            stop: &stop,
        };
        let status = match delivery.run(request).await {
            Ok(()) => Status::Success,
            Err(End::Status(status, reason)) => {
                tracing::warn!(?status, reason, "Rejecting a deliver request");
                status
            }
            Err(End::Gone) => return,
        };
        let sent = responses.send(Ok(status_response(status))).await;
        if status != Status::Success || sent.is_err() {
            return;
        }
    }
}

fn status_response(status: Status) -> DeliverResponse {
    DeliverResponse {
        r#type: Some(Response::Status(status as i32)),
    }
}

/// Why a request ends without success.
enum End {
    /// The client is told this, the log the reason.
    Status(Status, String),
    /// The client has gone.
    Gone,
}

impl From<LedgerError> for End {
    fn from(error: LedgerError) -> Self {
        Self::Status(Status::InternalServerError, error.to_string())
    }
}

fn refuse<T>(status: Status, reason: impl Into<String>) -> Result<T, End> {
    Err(End::Status(status, reason.into()))
}

struct Delivery<'a> {
    chain: &'a Chain,
    responses: &'a Responses,
    stop: &'a CancellationToken,
}

impl Delivery<'_> {
    async fn run(&self, request: Envelope) -> Result<(), End> {
        let opened = open(request)?;
        let channel = &opened.channel_header.channel_id;
        if channel != self.chain.store().channel() {
            return refuse(Status::NotFound, format!("channel {channel:?} not found"));
        }
        let seek = SeekInfo::decode(opened.data.clone())
            .or_else(|error| refuse(Status::BadRequest, format!("seek info: {error}")))?;
        let strict = seek.error_response != SeekErrorResponse::BestEffort as i32;
        if strict && self.chain.is_halted() {
            return refuse(Status::ServiceUnavailable, "nothing is being ordered");
        }
        let mut access = Access::new(signed_data(&opened));
        access.check(self.chain)?;
        let (Some(start), Some(stop)) = (&seek.start, &seek.stop) else {
            return refuse(Status::BadRequest, "start or stop is missing");
        };
        let (first, last) = self.range(start, stop)?;
        let mut number = first;
        loop {
            if seek.behavior == SeekBehavior::FailIfNotReady as i32
                && number >= self.chain.store().height()
            {
                return refuse(Status::NotFound, format!("block {number} not found"));
            }
            self.wait_for(number).await?;
            let block = self.read(number).await?;
            access.check(self.chain)?;
            self.send(block, seek.content_type).await?;
            if number == last {
                return Ok(());
            }
            number = number.saturating_add(1);
        }
    }

    /// The first and the last block that are asked for.
    fn range(&self, start: &SeekPosition, stop: &SeekPosition) -> Result<(u64, u64), End> {
        let height = self.chain.store().height();
        let newest = height.saturating_sub(1);
        let first = match &start.r#type {
            Some(Position::Oldest(_)) => 0,
            Some(Position::Newest(_)) => newest,
            Some(Position::NextCommit(_)) => height,
            Some(Position::Specified(at)) if at.number <= height => at.number,
            Some(Position::Specified(at)) => {
                let reason = format!("block {} is beyond the next", at.number);
                return refuse(Status::NotFound, reason);
            }
            None => return refuse(Status::NotFound, "the start is no position"),
        };
        let last = match &stop.r#type {
            Some(Position::Oldest(_)) => first,
            Some(Position::Newest(_)) if start == stop => first,
            Some(Position::Newest(_)) => newest,
            Some(Position::Specified(at)) if at.number < first => {
                let reason = format!("start number {first} greater than stop {}", at.number);
                return refuse(Status::BadRequest, reason);
            }
            Some(Position::Specified(at)) => at.number,
            // As in Fabric, where these leave the stop at 0.
            Some(Position::NextCommit(_)) | None => 0,
        };
        Ok((first, last))
    }

    async fn wait_for(&self, number: u64) -> Result<(), End> {
        let mut height = self.chain.store().subscribe();
        tokio::select! {
            reached = height.wait_for(|height| *height > number) => match reached {
                Ok(_) => Ok(()),
                Err(_) => refuse(Status::ServiceUnavailable, "the ledger is closed"),
            },
            () = self.responses.closed() => Err(End::Gone),
            () = self.stop.cancelled() => {
                refuse(Status::ServiceUnavailable, "the node is stopping")
            }
        }
    }

    async fn read(&self, number: u64) -> Result<Block, End> {
        let store = self.chain.store().clone();
        let bytes = tokio::task::spawn_blocking(move || store.block_bytes(number)).await;
        let bytes = bytes.map_err(|_| End::Gone)??;
        let block = bytes.map(Block::decode).transpose();
        match block {
            Ok(Some(block)) => Ok(block),
            Ok(None) => refuse(Status::NotFound, format!("block {number} not found")),
            Err(error) => refuse(Status::InternalServerError, error.to_string()),
        }
    }

    async fn send(&self, mut block: Block, content: i32) -> Result<(), End> {
        if content == SeekContentType::HeaderWithSig as i32 && !is_config(&block) {
            block.data = None;
        }
        let response = DeliverResponse {
            r#type: Some(Response::Block(block)),
        };
        let sent = self.responses.send(Ok(response)).await;
        sent.map_err(|_| End::Gone)
    }
}

fn is_config(block: &Block) -> bool {
    matches!(selvedge_channel::config_from_block(block), Ok(Some(_)))
}

fn open(request: Envelope) -> Result<OpenedEnvelope, End> {
    let opened = OpenedEnvelope::open(request)
        .or_else(|error| refuse(Status::BadRequest, error.to_string()))?;
    let Some(timestamp) = opened.channel_header.timestamp else {
        return refuse(Status::BadRequest, "the envelope has no timestamp");
    };
    if !is_near(timestamp, SystemTime::now()) {
        let reason = format!("the envelope's time {timestamp} is not near this node's");
        return refuse(Status::BadRequest, reason);
    }
    Ok(opened)
}

fn is_near(timestamp: Timestamp, now: SystemTime) -> bool {
    let Ok(time) = SystemTime::try_from(timestamp) else {
        return false;
    };
    let apart = match now.duration_since(time) {
        Ok(apart) => apart,
        Err(error) => error.duration(),
    };
    apart <= TIME_WINDOW
}

/// Whether the client may read: asked once for each configuration, the expiry for each block
/// (Fabric: `SessionAccessControl`).
struct Access {
    client: SignedData,
    expires_at: Option<SystemTime>,
    allowed_under: Option<u64>,
}

impl Access {
    fn new(client: SignedData) -> Self {
        Self {
            expires_at: expires_at(&client.identity).ok(),
            client,
            allowed_under: None,
        }
    }

    fn check(&mut self, chain: &Chain) -> Result<(), End> {
        if self.expires_at.is_some_and(|time| time < SystemTime::now()) {
            return refuse(Status::Forbidden, "deliver client identity expired");
        }
        let config = chain.config();
        if self.allowed_under == Some(config.sequence()) {
            return Ok(());
        }
        let policy = if config.orderer().is_in_maintenance() {
            READERS_IN_MAINTENANCE
        } else {
            READERS
        };
        let client = std::slice::from_ref(&self.client);
        if let Err(error) = config.policies().evaluate(policy, client) {
            return refuse(Status::Forbidden, format!("{policy}: {error}"));
        }
        self.allowed_under = Some(config.sequence());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_be_a_quarter_of_an_hour_apart() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        assert!(is_near(at(1_000_000 - 900), now));
        assert!(is_near(at(1_000_000 + 900), now));
        assert!(!is_near(at(1_000_000 - 901), now));
        assert!(!is_near(at(1_000_000 + 901), now));
        assert!(!is_near(at(i64::MAX), now));
        assert!(!is_near(at(i64::MIN), now));
    }
}
