//! TLS for accepted connections: certificate and client CAs can be exchanged while serving.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{ALPN_HTTP2, TlsError, TlsIdentity, provider, root_store};

/// What is asked of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Ask for a certificate; take any, or none. Possession of its key is proven, its issuer is
    /// not looked at. Fabric's `peer.tls.clientAuthRequired: false`.
    Request,
    /// Insist on a certificate of one of the client CAs.
    Require,
}

/// The TLS side of a server. Connections keep what they were accepted with; a change counts from
/// the next handshake on.
pub struct ServerTls {
    client_auth: ClientAuth,
    current: ArcSwap<Current>,
    /// Serializes changes, which are made from the present value.
    change: Mutex<()>,
}

/// What one handshake uses, as one piece.
pub(crate) struct Current {
    pub(crate) identity: TlsIdentity,
    pub(crate) config: Arc<rustls::ServerConfig>,
    client_roots: Vec<CertificateDer<'static>>,
}

impl ServerTls {
    /// `client_roots` matters with [`ClientAuth::Require`] only. An empty set refuses every client
    /// until [`set_client_roots`](Self::set_client_roots) brings one.
    pub fn new(
        identity: TlsIdentity,
        client_auth: ClientAuth,
        client_roots: Vec<CertificateDer<'static>>,
    ) -> Result<Arc<Self>, TlsError> {
        let current = Current::new(identity, client_auth, client_roots)?;
        Ok(Arc::new(Self {
            client_auth,
            current: ArcSwap::from_pointee(current),
            change: Mutex::new(()),
        }))
    }

    /// Presents another certificate from the next handshake on.
    pub fn set_identity(&self, identity: TlsIdentity) -> Result<(), TlsError> {
        self.replace(|now| (identity, now.client_roots.clone()))
    }

    /// Takes another set of client CAs from the next handshake on.
    pub fn set_client_roots(&self, roots: Vec<CertificateDer<'static>>) -> Result<(), TlsError> {
        self.replace(|now| (now.identity.clone(), roots))
    }

    /// The certificate that is presented now.
    pub fn identity(&self) -> TlsIdentity {
        self.current.load().identity.clone()
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    fn replace(
        &self,
        next: impl FnOnce(&Current) -> (TlsIdentity, Vec<CertificateDer<'static>>),
    ) -> Result<(), TlsError> {
        let _one_at_a_time = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let (identity, roots) = next(&self.current.load());
        self.current
            .store(Arc::new(Current::new(identity, self.client_auth, roots)?));
        Ok(())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("client_auth", &self.client_auth)
            .field("client_roots", &self.current.load().client_roots.len())
            .finish_non_exhaustive()
    }
}

impl Current {
    fn new(
        identity: TlsIdentity,
        client_auth: ClientAuth,
        client_roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let verifier = Arc::new(ClientVerifier::new(client_auth, &client_roots)?);
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Configuration(e.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key.clone())));
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            identity,
            config: Arc::new(config),
            client_roots,
        })
    }
}

/// Asks for a certificate always, and judges it as [`ClientAuth`] says.
#[derive(Debug)]
struct ClientVerifier {
    provider: Arc<CryptoProvider>,
    judge: Judge,
}

#[derive(Debug)]
enum Judge {
    AcceptAny,
    RefuseAll,
    Chain(Arc<dyn ClientCertVerifier>),
}

impl ClientVerifier {
    fn new(client_auth: ClientAuth, roots: &[CertificateDer<'static>]) -> Result<Self, TlsError> {
        let provider = provider();
        let judge = match client_auth {
            ClientAuth::Request => Judge::AcceptAny,
            ClientAuth::Require => {
                let store = root_store(roots);
                if store.is_empty() {
                    Judge::RefuseAll
                } else {
                    WebPkiClientVerifier::builder_with_provider(store.into(), provider.clone())
                        .build()
                        .map(Judge::Chain)
                        .map_err(|e| TlsError::Configuration(e.to_string()))?
                }
            }
        };
        Ok(Self { provider, judge })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        !matches!(self.judge, Judge::AcceptAny)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.judge {
            Judge::Chain(verifier) => verifier.root_hint_subjects(),
            Judge::AcceptAny | Judge::RefuseAll => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match &self.judge {
            Judge::AcceptAny => Ok(ClientCertVerified::assertion()),
            Judge::RefuseAll => Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer,
            )),
            Judge::Chain(verifier) => verifier.verify_client_cert(end_entity, intermediates, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
