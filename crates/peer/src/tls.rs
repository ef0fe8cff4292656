//! The peer's TLS material: from the files that core.yaml names, and from its channels.
//!
//! Which servers and clients the peer trusts grows and shrinks with its channels: besides the files
//! of core.yaml it takes the TLS CAs of every application organisation of every channel
//! (Fabric: `Peer.updateTrustedRoots`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use selvedge_transport::{
    ClientAuth, ClientTls, ServerTls, TlsError, TlsIdentity, certificates_from_pem,
};

use crate::channel::Channels;
use crate::config::{KeyPairFiles, TlsConfig};

/// Why the TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file cannot be read.
    #[error("{key}: cannot read {}: {source}", path.display())]
    Read {
        /// The key of core.yaml.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file has not the right content.
    #[error("{key}: {}: {source}", path.display())]
    Content {
        /// The key of core.yaml.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TlsError,
    },
    /// A key is missing.
    #[error("peer.tls.enabled is true, but {0} is not set")]
    Missing(&'static str),
    /// The material does not work together.
    #[error("peer.tls: {0}")]
    Setup(#[from] TlsError),
}

/// A CA certificate, DER.
type Root = Bytes;

/// The TLS side of one peer.
pub struct PeerTls {
    server: Arc<ServerTls>,
    client_identity: TlsIdentity,
    /// Trusted servers and clients, whatever the channels say.
    server_roots: Vec<Root>,
    client_roots: Vec<Root>,
}

impl PeerTls {
    /// Reads the files. `None` if TLS is disabled.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, TlsSetupError> {
        if !config.enabled {
            return Ok(None);
        }
        let server = config
            .server
            .as_ref()
            .ok_or(TlsSetupError::Missing("peer.tls.cert.file"))?;
        let identity = key_pair("peer.tls.cert.file", "peer.tls.key.file", server)?;
        let client_identity = match &config.client {
            Some(files) => key_pair("peer.tls.clientCert.file", "peer.tls.clientKey.file", files)?,
            None => identity.clone(),
        };
        let server_roots = match &config.root_cert_file {
            Some(path) => roots("peer.tls.rootcert.file", path)?,
            None => Vec::new(),
        };
        let mut client_roots = Vec::new();
        let mut auth = ClientAuth::Request;
        // As in Fabric the files need not be there where nobody has to show a certificate.
        if config.client_auth_required {
            auth = ClientAuth::Require;
            for path in &config.client_root_ca_files {
                client_roots.extend(roots("peer.tls.clientRootCAs.files", path)?);
            }
        }
        let all = client_roots.iter().chain(&server_roots);
        let server = ServerTls::new(identity, auth, certificates(all))?;
        Ok(Some(Self {
            server,
            client_identity,
            server_roots,
            client_roots,
        }))
    }

    /// For the peer's server. Follows [`Self::update`].
    pub fn server(&self) -> &Arc<ServerTls> {
        &self.server
    }

    /// What the peer presents when it connects.
    pub fn client_identity(&self) -> &TlsIdentity {
        &self.client_identity
    }

    /// For connections to other peers, by the channels as they are now.
    pub fn client(&self, channels: &Channels) -> Result<ClientTls, TlsError> {
        let of_channels = channel_roots(channels);
        let roots = certificates(self.server_roots.iter().chain(&of_channels));
        ClientTls::new(&roots, Some(self.client_identity.clone()), None)
    }

    /// Takes the channels' CAs as they are now for connections from others.
    pub fn update(&self, channels: &Channels) -> Result<(), TlsError> {
        let of_channels = channel_roots(channels);
        let all = self
            .client_roots
            .iter()
            .chain(&self.server_roots)
            .chain(&of_channels);
        self.server.set_client_roots(certificates(all))
    }
}

fn channel_roots(channels: &Channels) -> BTreeSet<Root> {
    let mut roots = BTreeSet::new();
    for channel in channels.all() {
        let config = channel.config();
        for organization in config.application().organizations().values() {
            if let Some(msp) = config.msps().msp(&organization.msp_id) {
                roots.extend(msp.tls_root_certs().iter().cloned());
                roots.extend(msp.tls_intermediate_certs().iter().cloned());
            }
        }
    }
    roots
}

fn certificates<'a>(roots: impl Iterator<Item = &'a Root>) -> Vec<CertificateDer<'static>> {
    roots
        .map(|root| CertificateDer::from(root.to_vec()))
        .collect()
}

fn key_pair(
    certificate_key: &'static str,
    private_key_key: &'static str,
    files: &KeyPairFiles,
) -> Result<TlsIdentity, TlsSetupError> {
    let certificate = read(certificate_key, &files.cert_file)?;
    let private_key = read(private_key_key, &files.key_file)?;
    TlsIdentity::from_pem(&certificate, &private_key).map_err(|source| {
        let (key, path) = match source {
            TlsError::KeyPem(_) | TlsError::Key(_) | TlsError::KeyMismatch => {
                (private_key_key, &files.key_file)
            }
            _ => (certificate_key, &files.cert_file),
        };
        TlsSetupError::Content {
            key,
            path: path.clone(),
            source,
        }
    })
}

/// The certificates of a PEM file; `key` says in errors what it is for.
pub fn read_roots(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    certificates_from_pem(&read(key, path)?).map_err(|source| TlsSetupError::Content {
        key,
        path: path.to_owned(),
        source,
    })
}

fn roots(key: &'static str, path: &Path) -> Result<Vec<Root>, TlsSetupError> {
    let certificates = read_roots(key, path)?;
    Ok(certificates
        .iter()
        .map(|certificate| Bytes::copy_from_slice(certificate))
        .collect())
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    std::fs::read(path).map_err(|source| TlsSetupError::Read {
        key,
        path: path.to_owned(),
        source,
    })
}
