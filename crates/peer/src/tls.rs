//! The peer's TLS material: from the files that core.yaml names, and from its channels.
//!
//! Which servers and clients the peer trusts grows and shrinks with its channels: besides the files
//! of core.yaml it takes the TLS CAs of every application organisation of every channel
//! (Fabric: `Peer.updateTrustedRoots`).
//!
//! # Differences
//!
//! A Go peer reads its certificates once. Ours takes a renewed pair of certificate and key from the same
//! files while it runs ([`PeerTls::renew`]); what is connected stays connected.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use selvedge_transport::{
    ClientAuth, ClientTls, CurrentIdentity, ServerTls, TlsError, TlsIdentity, certificates_from_pem,
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
    client_identity: CurrentIdentity,
    server_files: KeyPairFiles,
    /// `None`: those of the server.
    client_files: Option<KeyPairFiles>,
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
        let (identity, client_identity) = identities(server, config.client.as_ref())?;
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
        Ok(Some(Self {
            server: ServerTls::new(identity, auth, certificates(all))?,
            client_identity: CurrentIdentity::new(client_identity),
            server_files: server.clone(),
            client_files: config.client.clone(),
            server_roots,
            client_roots,
        }))
    }

    /// For the peer's server. Follows [`Self::update`].
    pub fn server(&self) -> &Arc<ServerTls> {
        &self.server
    }

    /// What the peer presents when it connects.
    pub fn client_identity(&self) -> &CurrentIdentity {
        &self.client_identity
    }

    /// Reads certificates and keys again. True if one has been renewed, which counts from the next
    /// connection on. After an error everything is as it was. Reads up to four small files.
    pub fn renew(&self) -> Result<bool, TlsSetupError> {
        let (server, client) = identities(&self.server_files, self.client_files.as_ref())?;
        let mut renewed = false;
        if server.certificate() != self.server.identity().certificate() {
            self.server.set_identity(server)?;
            renewed = true;
        }
        if client.certificate() != self.client_identity.get().certificate() {
            self.client_identity.set(client);
            renewed = true;
        }
        Ok(renewed)
    }

    /// For connections to other peers, by the channels as they are now.
    pub fn client(&self, channels: &Channels) -> Result<ClientTls, TlsError> {
        let of_channels = channel_roots(channels);
        let roots = certificates(self.server_roots.iter().chain(&of_channels));
        ClientTls::new(&roots, Some(self.client_identity.get()), None)
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

/// What the peer presents as a server, and what as a client.
fn identities(
    server: &KeyPairFiles,
    client: Option<&KeyPairFiles>,
) -> Result<(TlsIdentity, TlsIdentity), TlsSetupError> {
    let server = key_pair(server)?;
    let client = match client {
        Some(files) => key_pair(files)?,
        None => server.clone(),
    };
    Ok((server, client))
}

fn key_pair(files: &KeyPairFiles) -> Result<TlsIdentity, TlsSetupError> {
    let certificate = read(files.cert_key, &files.cert_file)?;
    let private_key = read(files.key_key, &files.key_file)?;
    TlsIdentity::from_pem(&certificate, &private_key).map_err(|source| {
        let (key, path) = match source {
            TlsError::KeyPem(_) | TlsError::Key(_) | TlsError::KeyMismatch => {
                (files.key_key, &files.key_file)
            }
            _ => (files.cert_key, &files.cert_file),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(files: &KeyPairFiles) {
        let pair = rcgen::generate_simple_self_signed(vec!["peer".to_owned()]).unwrap();
        std::fs::write(&files.cert_file, pair.cert.pem()).unwrap();
        std::fs::write(&files.key_file, pair.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_renewed_pair_is_taken_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let pair = |name: &str| KeyPairFiles {
            cert_file: folder.path().join(format!("{name}.crt")),
            key_file: folder.path().join(format!("{name}.key")),
            cert_key: "peer.tls.cert.file",
            key_key: "peer.tls.key.file",
        };
        let (files, next) = (pair("now"), pair("next"));
        write_pair(&files);
        write_pair(&next);
        let tls = PeerTls::load(&TlsConfig {
            enabled: true,
            client_auth_required: false,
            server: Some(files.clone()),
            client: None,
            root_cert_file: None,
            client_root_ca_files: Vec::new(),
        });
        let tls = tls.unwrap().unwrap();
        let first = tls.server().identity().certificate().clone();
        assert!(!tls.renew().unwrap());

        std::fs::rename(&next.cert_file, &files.cert_file).unwrap();
        let error = tls.renew().unwrap_err().to_string();
        assert!(error.starts_with("peer.tls.key.file: "), "{error}");
        assert_eq!(*tls.server().identity().certificate(), first);

        std::fs::rename(&next.key_file, &files.key_file).unwrap();
        assert!(tls.renew().unwrap());
        let second = tls.server().identity().certificate().clone();
        assert_ne!(second, first);
        assert_eq!(*tls.client_identity().get().certificate(), second);
        assert!(!tls.renew().unwrap());
    }
}
