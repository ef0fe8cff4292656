//! What can be wrong with TLS material and with a handshake, in words for an operator.

use std::io;

use rustls::{AlertDescription, CertificateError};

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file is not PEM.
    #[error("the TLS certificate is not valid PEM: {0}")]
    CertificatePem(String),
    /// The key file is not PEM.
    #[error("the TLS private key is not valid PEM: {0}")]
    KeyPem(String),
    /// A PEM file without a certificate.
    #[error("found no CERTIFICATE section in the PEM file")]
    NoCertificate,
    /// A key of a kind that TLS cannot use.
    #[error("the TLS private key cannot be used: {0}")]
    Key(String),
    /// The key is not that of the certificate.
    #[error("the TLS private key does not belong to the TLS certificate; check the pair of files")]
    KeyMismatch,
    /// A host name that no certificate could carry.
    #[error("`{0}` is neither a DNS name nor an IP address, so no TLS certificate can match it")]
    ServerName(String),
    /// rustls refused the configuration.
    #[error("TLS configuration: {0}")]
    Configuration(String),
}

/// Why a TLS handshake came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// No configured CA issued the other side's certificate. Key material that was generated anew
    /// has CAs of the old names with other keys.
    #[error(
        "its TLS certificate was issued by an unknown CA (one of the same name with another key \
         does not count); add the CA to the TLS root certificates"
    )]
    UnknownCa,
    /// Past its end.
    #[error("its TLS certificate has expired; it must be renewed ({0})")]
    Expired(String),
    /// Before its start.
    #[error("its TLS certificate is not valid yet; check the clocks ({0})")]
    NotYetValid(String),
    /// The certificate is for other names. One that has a common name alone matches nothing.
    #[error(
        "its TLS certificate is not for this name; a subject alternative name is needed, \
         the common name does not count ({0})"
    )]
    WrongName(String),
    /// Anything else about the certificate.
    #[error("its TLS certificate was refused: {0}")]
    Certificate(String),
    /// The other side wants a client certificate and got none.
    #[error("it requires a client certificate, and none was sent")]
    CertificateRequired,
    /// The other side refused what we sent.
    #[error("it refused the connection with the TLS alert {0}")]
    Alert(String),
    /// No TLS at the other side, or something else in between.
    #[error("it does not speak TLS: {0}")]
    NotTls(String),
    /// Connection lost meanwhile.
    #[error("the connection ended during the TLS handshake: {0}")]
    Io(String),
    /// Any other protocol trouble.
    #[error("TLS: {0}")]
    Protocol(String),
}

impl HandshakeError {
    /// Finds the TLS reason inside an I/O error, if there is one.
    pub(crate) fn from_io(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        tls.map_or_else(|| Self::Io(error.to_string()), Self::from_tls)
    }

    fn from_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(reason) => Self::from_certificate(reason),
            rustls::Error::NoCertificatesPresented => Self::CertificateRequired,
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
                Self::CertificateRequired
            }
            rustls::Error::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            rustls::Error::InvalidMessage(reason) => Self::NotTls(format!("{reason:?}")),
            other => Self::Protocol(other.to_string()),
        }
    }

    fn from_certificate(reason: &CertificateError) -> Self {
        let text = reason.to_string();
        match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownCa,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Self::Expired(text)
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid(text)
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName(text)
            }
            _ => Self::Certificate(text),
        }
    }
}
