//! The four resources.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Json, Router};
use http::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::{FailedCheck, Operations};

const HEALTH_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Log specifications are short.
const MAX_BODY: usize = 64 * 1024;

/// What the server knows of a client. Every request carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// The endpoint has no TLS.
    Plain,
    /// TLS without a client certificate.
    Anonymous,
    /// TLS with a certificate from one of the client CAs.
    Verified,
}

pub(super) fn router(operations: Operations) -> Router {
    let mut protected = Router::new().route("/logspec", any(log_spec));
    if operations.metrics.is_some() {
        protected = protected.route("/metrics", any(metrics));
    }
    Router::new()
        .merge(protected.layer(from_fn(require_certificate)))
        .route("/healthz", any(health))
        .route("/version", any(version))
        .with_state(operations)
}

async fn require_certificate(
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    match client {
        Client::Plain | Client::Verified => next.run(request).await,
        Client::Anonymous => StatusCode::UNAUTHORIZED.into_response(),
    }
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    time: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_checks: Vec<FailedCheck>,
}

async fn health(State(operations): State<Operations>, method: Method) -> Response {
    if method != Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Ok(failed_checks) = tokio::time::timeout(HEALTH_TIMEOUT, operations.health.run()).await
    else {
        return StatusCode::REQUEST_TIMEOUT.into_response();
    };
    let (code, status) = if failed_checks.is_empty() {
        (StatusCode::OK, "OK")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
    };
    let time = jiff::Timestamp::now().to_string();
    (
        code,
        Json(Health {
            status,
            time,
            failed_checks,
        }),
    )
        .into_response()
}

async fn version(State(operations): State<Operations>, method: Method) -> Response {
    #[derive(Serialize)]
    struct Refusal {
        #[serde(rename = "Error")]
        error: String,
    }
    if method != Method::GET {
        let error = format!("invalid request method: {method}");
        return (StatusCode::BAD_REQUEST, Json(Refusal { error })).into_response();
    }
    Json(operations.version).into_response()
}

#[derive(Debug, Serialize, Deserialize)]
struct Spec {
    #[serde(default)]
    spec: String,
}

async fn log_spec(State(operations): State<Operations>, method: Method, body: Body) -> Response {
    match method {
        Method::GET => Json(Spec {
            spec: operations.log.spec(),
        })
        .into_response(),
        Method::PUT => match set_log_spec(&operations, body).await {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(error) => bad_request(error),
        },
        method => bad_request(format!("invalid request method: {method}")),
    }
}

async fn set_log_spec(operations: &Operations, body: Body) -> Result<(), String> {
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY))
        .await
        .map_err(|_| "the request took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    let spec: Spec = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    operations
        .log
        .activate_spec(&spec.spec)
        .map_err(|error| error.to_string())?;
    tracing::info!(target: "flogging.httpadmin", spec = operations.log.spec(), "log specification changed");
    Ok(())
}

fn bad_request(error: String) -> Response {
    #[derive(Serialize)]
    struct Refusal {
        error: String,
    }
    (StatusCode::BAD_REQUEST, Json(Refusal { error })).into_response()
}

async fn metrics(State(operations): State<Operations>) -> Response {
    let Some(metrics) = &operations.metrics else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match metrics.serve().await {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(target: "operations.runner", %error, "metrics cannot be printed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
