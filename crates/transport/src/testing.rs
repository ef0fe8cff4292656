//! Certificates, servers and peers for tests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use crate::gossip::{PeerAuthenticator, PeerIdentity, PkiId, Refused};
use crate::{ClientTls, TlsIdentity};

/// A certificate authority of one test.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A certificate for loopback, valid now.
    pub(crate) fn issue(&self) -> TlsIdentity {
        self.issue_with(|_| {})
    }

    pub(crate) fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> TlsIdentity {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        TlsIdentity::from_der(vec![certificate], key).unwrap()
    }

    pub(crate) fn roots(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// A client that trusts this CA and has a certificate of it.
    pub(crate) fn client(&self) -> ClientTls {
        ClientTls::new(&self.roots(), Some(self.issue()), None).unwrap()
    }
}

pub(crate) fn days_from_now(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::days(days)
}

/// Nothing here takes nearly as long, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Awaits what must come soon.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it takes too long")
}

/// Awaits a condition.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let asking = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let result = tokio::time::timeout(DEADLINE, asking).await;
    result.unwrap_or_else(|_| panic!("it did not become so in time: {what}"));
}

/// Identities of the form `organization/name`; a signature is a hash that anybody could make,
/// which is enough to tell right from wrong.
#[derive(Clone)]
pub(crate) struct TestAuthenticator {
    pub(crate) identity: Bytes,
    pub(crate) claimed_pki_id: Option<PkiId>,
    pub(crate) forge: bool,
    pub(crate) known: Vec<(PkiId, String)>,
}

impl TestAuthenticator {
    pub(crate) fn new(identity: &str) -> Self {
        Self {
            identity: Bytes::copy_from_slice(identity.as_bytes()),
            claimed_pki_id: None,
            forge: false,
            known: Vec::new(),
        }
    }

    pub(crate) fn pki_id_of(identity: &[u8]) -> PkiId {
        selvedge_protos::sha256(identity)
    }

    fn signature(identity: &[u8], message: &[u8]) -> Bytes {
        let hash = selvedge_protos::sha256_of_parts([identity, message]);
        Bytes::copy_from_slice(&hash)
    }

    pub(crate) fn shared(self) -> Arc<dyn PeerAuthenticator> {
        Arc::new(self)
    }
}

impl PeerAuthenticator for TestAuthenticator {
    fn own_identity(&self) -> Bytes {
        self.identity.clone()
    }

    fn own_pki_id(&self) -> PkiId {
        self.claimed_pki_id
            .unwrap_or_else(|| Self::pki_id_of(&self.identity))
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, Refused> {
        let signer: &[u8] = if self.forge {
            b"somebody else"
        } else {
            &self.identity
        };
        Ok(Self::signature(signer, message))
    }

    fn identify(&self, identity: &Bytes) -> Result<PeerIdentity, Refused> {
        let text = std::str::from_utf8(identity).map_err(|e| Refused(e.to_string()))?;
        let (organization, _) = text
            .split_once('/')
            .ok_or_else(|| Refused("certificate signed by unknown authority".to_owned()))?;
        let organization = organization.to_owned();
        Ok(PeerIdentity {
            pki_id: Self::pki_id_of(identity),
            organization,
        })
    }

    fn verify(&self, identity: &Bytes, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        if Self::signature(identity, message) == signature {
            Ok(())
        } else {
            Err(Refused("signature mismatch".to_owned()))
        }
    }

    fn organization_of(&self, pki_id: &PkiId) -> Option<String> {
        self.known
            .iter()
            .find(|(known, _)| known == pki_id)
            .map(|(_, org)| org.clone())
    }
}
