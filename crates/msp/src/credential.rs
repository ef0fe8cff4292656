//! A certificate together with what leads from it to a root.

use std::sync::Arc;

use crate::certificate::Certificate;
use crate::chain::{Authorities, Chain};
use crate::error::ChainError;

/// A certificate that an MSP has read, with its signature in low-S form.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) certificate: Arc<Certificate>,
    /// The one chain, or why there is none. Only certificates that are not signed with ECDSA get
    /// this far without a chain.
    pub(crate) chain: Result<Chain, ChainError>,
}

impl Credential {
    /// Reads a certificate as Fabric's `sanitizeCert` does: an ECDSA signature is brought into
    /// low-S form, and to know the signer there must be exactly one chain. An authority that signed
    /// itself is taken at its own word here.
    pub(crate) fn new(
        certificate: Certificate,
        authorities: &Authorities,
    ) -> Result<Self, ChainError> {
        let certificate = Arc::new(certificate);
        if !certificate.is_ecdsa_signed() {
            let chain = authorities.unique_chain(&certificate);
            return Ok(Self { certificate, chain });
        }
        if certificate.is_ca() && certificate.is_signed_by(&certificate) {
            let certificate = lowered(&certificate, &certificate)?;
            Authorities::new(
                std::slice::from_ref(&certificate),
                &authorities.intermediates,
            )
            .unique_chain(&certificate)?;
            let chain = authorities.unique_chain(&certificate);
            return Ok(Self { certificate, chain });
        }
        let mut chain = authorities.unique_chain(&certificate)?;
        let parent = chain.get(1).ok_or(ChainError::TooShort {
            length: chain.len(),
        })?;
        let certificate = lowered(&certificate, parent)?;
        if let Some(leaf) = chain.first_mut() {
            *leaf = certificate.clone();
        }
        Ok(Self {
            certificate,
            chain: Ok(chain),
        })
    }
}

fn lowered(
    certificate: &Arc<Certificate>,
    signer: &Certificate,
) -> Result<Arc<Certificate>, ChainError> {
    match certificate.low_s_form(signer) {
        Ok(None) => Ok(certificate.clone()),
        Ok(Some(rewritten)) => Ok(Arc::new(rewritten)),
        // Cannot happen: the signature was checked with the signer's key.
        Err(_) => Err(ChainError::NotSignedByAuthority {
            authority: signer.common_name.clone(),
        }),
    }
}
