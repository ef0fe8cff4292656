//! TLS for outgoing connections.

use std::fmt;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::{CertificateDer, ServerName};

use super::{ALPN_HTTP2, TlsError, TlsIdentity, provider, root_store};

/// How to trust a server, and how to show oneself to it. Cheap to clone; immutable.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<rustls::ClientConfig>,
    identity: Option<TlsIdentity>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Trusts servers whose chain ends at one of `roots`. `identity` is sent if the server asks.
    /// `server_name` (`peer.tls.serverhostoverride`) stands in for the name that was dialled.
    pub fn new(
        roots: &[CertificateDer<'static>],
        identity: Option<TlsIdentity>,
        server_name: Option<&str>,
    ) -> Result<Self, TlsError> {
        let server_name = server_name.map(parse_server_name).transpose()?;
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Configuration(e.to_string()))?
            .with_root_certificates(root_store(roots));
        let mut config = match &identity {
            Some(identity) => {
                let resolver: Arc<dyn ResolvesClientCert> =
                    Arc::new(SingleCertAndKey::from(identity.key.clone()));
                builder.with_client_cert_resolver(resolver)
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            identity,
            server_name,
        })
    }

    /// The certificate that is sent to servers that ask for one.
    pub fn identity(&self) -> Option<&TlsIdentity> {
        self.identity.as_ref()
    }

    pub(crate) fn config(&self) -> Arc<rustls::ClientConfig> {
        self.config.clone()
    }

    /// The name that the server's certificate must carry when `host` is dialled.
    pub(crate) fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => parse_server_name(host),
        }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("client_certificate", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

fn parse_server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))
}
