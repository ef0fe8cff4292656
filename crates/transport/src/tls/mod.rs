//! TLS material and configurations, for servers and for clients.
//!
//! Two things differ from the web's habits. A Fabric peer asks every client for a certificate but
//! does not insist (`peer.tls.clientAuthRequired: false`), since gossip binds its handshake to the
//! certificate's hash whoever issued it. And the set of CAs whose clients are welcome grows with
//! the configuration of each channel, so sessions are never resumed: a resumed session would skip
//! the check against the present set.

mod client;
mod error;
mod server;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use client::ClientTls;
pub use error::{HandshakeError, TlsError};
pub use server::{ClientAuth, ServerTls};

/// The protocol name that gRPC negotiates.
const ALPN_HTTP2: &[u8] = b"h2";

/// A TLS certificate chain with its private key. Cheap to clone.
#[derive(Clone)]
pub struct TlsIdentity {
    key: Arc<CertifiedKey>,
    certificate: Bytes,
}

impl TlsIdentity {
    /// Reads a certificate chain (leaf first) and a private key, both PEM, and checks that they
    /// belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates_from_pem(certificates)?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::KeyPem(e.to_string()))?;
        Self::from_der(chain, key)
    }

    /// As [`from_pem`](Self::from_pem), from DER.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let leaf = chain.first().ok_or(TlsError::NoCertificate)?;
        let certificate = Bytes::copy_from_slice(leaf);
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|e| TlsError::Key(e.to_string()))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| TlsError::KeyMismatch)?;
        Ok(Self {
            key: Arc::new(key),
            certificate,
        })
    }

    /// The leaf certificate, DER.
    pub fn certificate(&self) -> &Bytes {
        &self.certificate
    }

    /// SHA-256 of the leaf certificate's DER: what a gossip handshake and a Deliver request name.
    pub fn certificate_hash(&self) -> [u8; 32] {
        selvedge_protos::sha256(&self.certificate)
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

/// The identity that connections are made with, which can be exchanged at any time. Clones share it.
#[derive(Debug, Clone)]
pub struct CurrentIdentity(Arc<ArcSwap<TlsIdentity>>);

impl CurrentIdentity {
    /// As it is at first.
    pub fn new(identity: TlsIdentity) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(identity)))
    }

    /// As it is now. Who needs it twice for one connection asks once.
    pub fn get(&self) -> TlsIdentity {
        TlsIdentity::clone(&self.0.load())
    }

    /// For connections from now on.
    pub fn set(&self, identity: TlsIdentity) {
        self.0.store(Arc::new(identity));
    }
}

/// All certificates of a PEM file, in its order. Other sections are skipped, as Go does.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::CertificatePem(e.to_string()))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(certificates)
}

/// A root store of whatever parses. A channel may list a broken certificate; it must not take the
/// others' trust away, so it is logged and left out.
fn root_store(roots: &[CertificateDer<'static>]) -> rustls::RootCertStore {
    let mut store = rustls::RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(roots.iter().cloned());
    if ignored > 0 {
        tracing::warn!(
            ignored,
            of = roots.len(),
            "TLS CA certificates that do not parse are left out"
        );
    }
    store
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .clone()
}

#[cfg(test)]
mod tests;
