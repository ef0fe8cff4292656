use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use tower::ServiceExt as _;

use selvedge_gossip::event::Arrival;

use super::*;

fn metrics() -> Metrics {
    Metrics::new("9.9").unwrap()
}

/// The value of the line that begins with `name`.
fn value(metrics: &Metrics, name: &str) -> Option<f64> {
    let text = metrics.encode().unwrap();
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn names_and_labels_are_fabrics() {
    let metrics = metrics();
    metrics.gossip().messages_sent.inc();
    metrics
        .deliver()
        .request_completed("ch", true, "filtered_block", false);
    metrics.endorser().proposal_done("ch", "qscc", true, 0.25);
    let channel = metrics.channel("ch");
    channel.set_height(7);
    channel.transaction("ENDORSER_TRANSACTION", "basic:1.0", "VALID");
    channel.blocks_received(Arrival::Pull).inc();
    channel.state_commit_duration.observe(0.3);
    metrics.set_certificate_expiry("enrollment", UNIX_EPOCH + Duration::from_secs(1000));

    for (name, expected) in [
        (r#"fabric_version{version="9.9"}"#, 1.0),
        ("gossip_comm_messages_sent", 1.0),
        (
            r#"deliver_requests_completed{channel="ch",data_type="filtered_block",filtered="true",success="false"}"#,
            1.0,
        ),
        (
            r#"endorser_proposal_duration_sum{chaincode="qscc",channel="ch",success="true"}"#,
            0.25,
        ),
        (r#"ledger_blockchain_height{channel="ch"}"#, 7.0),
        (r#"gossip_state_height{channel="ch"}"#, 7.0),
        (
            r#"ledger_transaction_count{chaincode="basic:1.0",channel="ch",transaction_type="ENDORSER_TRANSACTION",validation_code="VALID"}"#,
            1.0,
        ),
        (
            r#"gossip_state_commit_duration_bucket{channel="ch",le="0.5"}"#,
            1.0,
        ),
        (
            r#"selvedge_blocks_received_total{arrival="pull",channel="ch"}"#,
            1.0,
        ),
        (
            r#"selvedge_certificate_expiry_timestamp_seconds{certificate="enrollment"}"#,
            1000.0,
        ),
    ] {
        assert_eq!(value(&metrics, name), Some(expected), "{name}");
    }
}

#[test]
fn peers_that_left_are_forgotten() {
    let metrics = metrics();
    let line = r#"selvedge_gossip_peer_last_seen_timestamp_seconds{endpoint="a:1"}"#;
    metrics
        .gossip()
        .peer_seen("a:1", UNIX_EPOCH + Duration::from_secs(5));
    assert_eq!(value(&metrics, line), Some(5.0));
    metrics.gossip().peer_forgotten("a:1");
    metrics.gossip().peer_forgotten("a:1");
    assert_eq!(value(&metrics, line), None);
}

#[test]
fn totals_are_fetched_before_printing() {
    let metrics = metrics();
    metrics.before_encoding(|metrics| advance_to(&metrics.grpc().connections_opened, 12));
    assert_eq!(value(&metrics, "grpc_comm_conn_opened"), Some(12.0));
    assert_eq!(
        value(&metrics, "grpc_comm_conn_opened"),
        Some(12.0),
        "a total is not added twice"
    );
}

/// A gRPC response of two messages.
struct TwoMessages(u8);

impl http_body::Body for TwoMessages {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
        self.0 += 1;
        std::task::Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data(bytes::Bytes::from_static(
                b"\0\0\0\0\x02hi\0\0",
            )))),
            2 => Some(Ok(Frame::data(bytes::Bytes::from_static(b"\0\0\0")))),
            3 => {
                let status = HeaderValue::from_static("7");
                Some(Ok(Frame::trailers(HeaderMap::from_iter([(
                    "grpc-status".parse().unwrap(),
                    status,
                )]))))
            }
            _ => None,
        })
    }
}

#[tokio::test]
async fn requests_are_measured() {
    let metrics = metrics();
    let respond = || async { Response::new(Body::new(TwoMessages(0))) };
    let router = Router::new()
        .fallback(respond)
        .layer(metrics.grpc().layer());
    let call = async |path: &str, read: bool| {
        let request = Request::post(path)
            .body(Body::from(&b"\0\0\0\0\0"[..]))
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        if read {
            axum::body::to_bytes(response.into_body(), 100)
                .await
                .unwrap();
        }
    };
    call("/protos.Deliver/Deliver", true).await;
    call("/protos.Endorser/ProcessProposal", true).await;
    call("/protos.Endorser/ProcessProposal", false).await;
    call("/protos.Endorser/NoSuchMethod", true).await;

    let deliver = r#"{method="Deliver",service="protos_Deliver"}"#;
    assert_eq!(
        value(
            &metrics,
            &format!("grpc_server_stream_requests_received{deliver}")
        ),
        Some(1.0)
    );
    assert_eq!(
        value(
            &metrics,
            &format!("grpc_server_stream_messages_sent{deliver}")
        ),
        Some(2.0)
    );
    let completed = |code| {
        format!(
            r#"grpc_server_unary_requests_completed{{code="{code}",method="ProcessProposal",service="protos_Endorser"}}"#
        )
    };
    assert_eq!(value(&metrics, &completed("PermissionDenied")), Some(1.0));
    assert_eq!(
        value(&metrics, &completed("Canceled")),
        Some(1.0),
        "nobody read the response"
    );
    assert!(!metrics.encode().unwrap().contains("NoSuchMethod"));
}
