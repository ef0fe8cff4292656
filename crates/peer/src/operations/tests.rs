use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as RcKeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::config::{OperationsConfig, Sources};
use crate::logging::LogControl;

fn operations() -> Operations {
    Operations {
        health: HealthChecks::default(),
        version: Version {
            commit_sha: Some("abc1234"),
            version: "1.2.3",
        },
        log: LogControl::detached("info").unwrap(),
        metrics: Some(Metrics::new("1.2.3").unwrap()),
    }
}

/// The section `operations` of a core.yaml.
fn config(operations: &str) -> OperationsConfig {
    let yaml = format!(
        "peer: {{address: 'a:1', listenAddress: 'a:1', fileSystemPath: /x, mspConfigPath: /x, localMspId: x}}\noperations: {operations}\n"
    );
    let sources = Sources::new(Path::new("/core.yaml"), &yaml, []).unwrap();
    sources.peer().unwrap().config.operations
}

async fn start_plain(operations: Operations) -> OperationsServer {
    start(&config("{listenAddress: '127.0.0.1:0'}"), operations)
        .await
        .unwrap()
        .unwrap()
}

/// Sends one request; the status, the content type and the body of the response.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    body: &str,
) -> (u16, String, String) {
    let text = format!(
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let content_type = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    (
        status,
        content_type.unwrap_or_default().to_owned(),
        body.to_owned(),
    )
}

async fn call(address: SocketAddr, request: &str, body: &str) -> (u16, String, String) {
    exchange(TcpStream::connect(address).await.unwrap(), request, body).await
}

#[tokio::test]
async fn health_follows_the_checks() {
    let operations = operations();
    let well = Arc::new(AtomicBool::new(true));
    let state = well.clone();
    let check = move || {
        let state = state.clone();
        async move {
            if state.load(Ordering::SeqCst) {
                Ok(())
            } else {
                Err("disk is full".to_owned())
            }
        }
    };
    operations.health.register("ledger", check).unwrap();
    let again = operations.health.register("ledger", || async { Ok(()) });
    assert_eq!(
        again.unwrap_err().to_string(),
        "'ledger' is already registered"
    );
    let server = start_plain(operations.clone()).await;

    let (status, content_type, body) = call(server.address(), "GET /healthz", "").await;
    assert_eq!((status, content_type.as_str()), (200, "application/json"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["status"], "OK");
    assert!(
        answer["time"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
    assert_eq!(answer.get("failed_checks"), None);

    well.store(false, Ordering::SeqCst);
    let (status, _, body) = call(server.address(), "GET /healthz", "").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &answer["status"]),
        (503, &json!("Service Unavailable"))
    );
    assert_eq!(
        answer["failed_checks"],
        json!([{"component": "ledger", "reason": "disk is full"}])
    );

    operations.health.deregister("ledger");
    assert_eq!(call(server.address(), "GET /healthz", "").await.0, 200);
    assert_eq!(call(server.address(), "POST /healthz", "").await.0, 405);
    server.stop().await;
}

#[tokio::test]
async fn version_and_unknown_paths() {
    let server = start_plain(operations()).await;
    assert_eq!(
        call(server.address(), "GET /version", "").await,
        (
            200,
            "application/json".to_owned(),
            r#"{"CommitSHA":"abc1234","Version":"1.2.3"}"#.to_owned()
        )
    );
    assert_eq!(
        call(server.address(), "PUT /version", "").await.2,
        r#"{"Error":"invalid request method: PUT"}"#
    );
    assert_eq!(call(server.address(), "GET /other", "").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn the_log_specification_can_be_changed() {
    let operations = operations();
    let server = start_plain(operations.clone()).await;
    let address = server.address();
    assert_eq!(
        call(address, "GET /logspec", "").await.2,
        r#"{"spec":"info"}"#
    );

    let (status, _, body) = call(address, "PUT /logspec", r#"{"spec":"warn:gossip=debug"}"#).await;
    assert_eq!((status, body.as_str()), (204, ""));
    assert_eq!(operations.log.spec(), "gossip=debug:warn");
    assert_eq!(
        call(address, "GET /logspec", "").await.2,
        r#"{"spec":"gossip=debug:warn"}"#
    );

    let (status, content_type, body) = call(address, "PUT /logspec", r#"{"spec":"loud"}"#).await;
    assert_eq!((status, content_type.as_str()), (400, "application/json"));
    assert_eq!(
        body,
        r#"{"error":"invalid logging specification 'loud': bad segment 'loud'"}"#
    );
    assert_eq!(call(address, "PUT /logspec", "not json").await.0, 400);
    assert_eq!(
        call(address, "PUT /logspec", &" ".repeat(100_000)).await.0,
        400
    );
    assert_eq!(
        call(address, "DELETE /logspec", "").await.2,
        r#"{"error":"invalid request method: DELETE"}"#
    );
    assert_eq!(operations.log.spec(), "gossip=debug:warn");
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_served_unless_disabled() {
    let server = start_plain(operations()).await;
    let (status, content_type, body) = call(server.address(), "GET /metrics", "").await;
    assert_eq!(
        (status, content_type.as_str()),
        (200, "text/plain; version=0.0.4")
    );
    assert!(
        body.contains("fabric_version{version=\"1.2.3\"} 1"),
        "{body}"
    );
    assert!(body.contains("process_resident_memory_bytes"), "{body}");
    server.stop().await;

    let server = start_plain(Operations {
        metrics: None,
        ..operations()
    })
    .await;
    assert_eq!(call(server.address(), "GET /metrics", "").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let server = start_plain(operations()).await;
    let address = server.address();
    let error = start(
        &config(&format!("{{listenAddress: '{address}'}}")),
        operations(),
    )
    .await;
    let message = error.unwrap_err().to_string();
    assert!(
        message.starts_with(&format!(
            "operations.listenAddress: cannot listen on {address}: "
        )) && message.ends_with("; another process uses this port"),
        "{message}"
    );
    assert!(
        start(&config("{}"), operations()).await.unwrap().is_none(),
        "no address, no endpoint"
    );
}

/// A CA and a certificate for 127.0.0.1 that is good for server and client.
struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_key = RcKeyPair::generate().unwrap();
        let mut ca = CertificateParams::new([]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let key = RcKeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        for (name, text) in [
            ("ca.pem", ca_cert.pem()),
            ("cert.pem", leaf.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, required: bool, client_cas: &str) -> OperationsConfig {
        config(&format!(
            "{{listenAddress: '127.0.0.1:0', tls: {{enabled: true, cert: {{file: {}}}, key: {{file: {}}}, clientAuthRequired: {required}, clientRootCAs: {{files: [{client_cas}]}}}}}}",
            self.path("cert.pem").display(),
            self.path("key.pem").display(),
        ))
    }

    async fn call(
        &self,
        address: SocketAddr,
        with_certificate: bool,
        request: &str,
    ) -> std::io::Result<u16> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if with_certificate {
            let chain = vec![CertificateDer::from_pem_file(self.path("cert.pem")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(self.path("key.pem")).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        let text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await?;
        let response = String::from_utf8(response).unwrap();
        Ok(response.split(' ').nth(1).unwrap().parse().unwrap())
    }
}

#[tokio::test]
async fn with_tls_some_resources_need_a_certificate() {
    let pki = Pki::new();
    let cas = pki.path("ca.pem").display().to_string();
    let server = start(&pki.config(false, &cas), operations())
        .await
        .unwrap()
        .unwrap();
    let address = server.address();
    for (path, anonymous) in [
        ("/healthz", 200),
        ("/version", 200),
        ("/logspec", 401),
        ("/metrics", 401),
    ] {
        let request = format!("GET {path}");
        assert_eq!(
            pki.call(address, false, &request).await.unwrap(),
            anonymous,
            "{path}"
        );
        assert_eq!(
            pki.call(address, true, &request).await.unwrap(),
            200,
            "{path}"
        );
    }
    server.stop().await;

    let server = start(&pki.config(true, &cas), operations())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        pki.call(server.address(), true, "GET /healthz")
            .await
            .unwrap(),
        200
    );
    pki.call(server.address(), false, "GET /healthz")
        .await
        .unwrap_err();
    server.stop().await;
}

#[tokio::test]
async fn wrong_tls_files_are_named() {
    let pki = Pki::new();
    let message = async |config: &OperationsConfig| {
        start(config, operations()).await.unwrap_err().to_string()
    };
    let error = message(&pki.config(true, "")).await;
    assert!(
        error.contains("operations.tls.clientRootCAs.files names no CA"),
        "{error}"
    );
    let error = message(&pki.config(false, "/nowhere/ca.pem")).await;
    assert!(
        error.contains("/nowhere/ca.pem (configured as operations.tls.clientRootCAs"),
        "{error}"
    );

    let good = std::fs::read(pki.path("cert.pem")).unwrap();
    std::fs::write(pki.path("cert.pem"), "junk").unwrap();
    let error = message(&pki.config(false, "")).await;
    assert!(
        error.starts_with("operations.tls.cert.file: ") && error.contains("no PEM"),
        "{error}"
    );
    std::fs::write(pki.path("cert.pem"), good).unwrap();

    std::fs::write(
        pki.path("key.pem"),
        RcKeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    let error = message(&pki.config(false, "")).await;
    assert!(error.starts_with("operations.tls.key.file: "), "{error}");
    std::fs::remove_file(pki.path("key.pem")).unwrap();
    let error = message(&pki.config(false, "")).await;
    assert!(
        error.contains("(configured as operations.tls.key.file)"),
        "{error}"
    );
}
