//! One connection to a node, as configured.

use std::error::Error as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use selvedge_peer::config::RemoteConfig;
use selvedge_transport::{
    ClientTls, ConnectOptions, Connection, Endpoint, TlsIdentity, certificates_from_pem, dial,
};

/// A connection, and the hash of the certificate that we presented on it.
#[derive(Debug)]
pub(super) struct Remote {
    pub connection: Connection,
    /// Empty if none was presented. Deliver requests name it.
    pub tls_cert_hash: Bytes,
}

/// Connects. `section` is where the configuration stands in core.yaml, `client` how messages call
/// us.
pub(super) async fn connect(
    config: &RemoteConfig,
    section: &str,
    client: &str,
) -> anyhow::Result<Remote> {
    let endpoint: Endpoint = config
        .address
        .parse()
        .with_context(|| format!("{client} cannot connect ({section}.address)"))?;
    let tls = tls(config, section)?;
    let options = ConnectOptions {
        timeout: config.conn_timeout,
        ..ConnectOptions::default()
    };
    let connection = dial(&endpoint, tls.as_ref(), &options)
        .await
        .map_err(|error| {
            // The address stands in front already.
            let reason = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            anyhow!("{client} failed to connect to {endpoint}: {reason}")
        })?;
    let presented = tls.as_ref().and_then(ClientTls::identity);
    let tls_cert_hash =
        presented.map(|identity| Bytes::copy_from_slice(&identity.certificate_hash()));
    Ok(Remote {
        connection,
        tls_cert_hash: tls_cert_hash.unwrap_or_default(),
    })
}

fn tls(config: &RemoteConfig, section: &str) -> anyhow::Result<Option<ClientTls>> {
    if !config.tls_enabled {
        return Ok(None);
    }
    if !config.handshake_time_shift.is_zero() {
        bail!("shifting the time of TLS handshakes is not supported");
    }
    let key = |name: &str| format!("{section}.tls.{name}.file");
    let roots = read(config.root_cert_file.as_deref(), &key("rootcert"))?;
    let roots = certificates_from_pem(&roots)
        .with_context(|| format!("unable to load {}", key("rootcert")))?;
    let identity = if config.client_auth_required {
        let private_key = read(config.client_key_file.as_deref(), &key("clientKey"))?;
        let certificate = read(config.client_cert_file.as_deref(), &key("clientCert"))?;
        let identity = TlsIdentity::from_pem(&certificate, &private_key);
        let files = format!(
            "unable to use {} and {}",
            key("clientCert"),
            key("clientKey")
        );
        Some(identity.context(files)?)
    } else {
        None
    };
    let tls = ClientTls::new(&roots, identity, config.server_host_override.as_deref());
    Ok(Some(tls.with_context(|| format!("{section}.tls"))?))
}

/// The content of the file that `key` names.
fn read(path: Option<&Path>, key: &str) -> anyhow::Result<Vec<u8>> {
    let path = path.ok_or_else(|| anyhow!("unable to load {key}: not set"))?;
    std::fs::read(path).with_context(|| format!("unable to load {key}: {}", path.display()))
}
