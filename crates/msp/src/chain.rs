//! The way from a certificate to a root that an MSP trusts.
//!
//! The rules are those of Go's `Certificate.Verify` as Fabric calls it: time stands at one second
//! after the start of the certificate's validity, so that expired certificates pass; every
//! certificate of the chain must be valid at that moment, those above the leaf must be allowed to
//! sign certificates and stand within their path length, and the extended key usages, where there
//! are any, must include that of a TLS server. Fabric demands exactly one chain, since with two it
//! would not be clear who vouches for the identity.
//!
//! Differences: a chain in which policy constraints require explicit certificate policies is
//! refused, whereas Go evaluates the policies.

use std::sync::Arc;

use crate::certificate::Certificate;
use crate::constraints;
use crate::error::ChainError;
use crate::extensions::ServerUse;

/// From the certificate itself to a root.
pub(crate) type Chain = Vec<Arc<Certificate>>;

/// More signature checks than these for one certificate are refused, as in Go: cross-signed
/// authorities could otherwise make the search explode.
const MAX_SIGNATURE_CHECKS: usize = 100;

/// The certificate authorities that an MSP trusts, each once.
#[derive(Debug, Default, Clone)]
pub(crate) struct Authorities {
    pub(crate) roots: Vec<Arc<Certificate>>,
    pub(crate) intermediates: Vec<Arc<Certificate>>,
}

impl Authorities {
    pub(crate) fn new(roots: &[Arc<Certificate>], intermediates: &[Arc<Certificate>]) -> Self {
        Self {
            roots: without_duplicates(roots),
            intermediates: without_duplicates(intermediates),
        }
    }

    /// The one chain from `certificate` to a root.
    pub(crate) fn unique_chain(&self, certificate: &Arc<Certificate>) -> Result<Chain, ChainError> {
        let mut search = Search {
            authorities: self,
            time: certificate.not_before.saturating_add(1),
            checks: 0,
            found: Vec::new(),
            obstacle: None,
        };
        search.check_validity(certificate)?;
        if self.roots.iter().any(|root| root.der == certificate.der) {
            search.found.push(vec![certificate.clone()]);
        } else {
            search.extend(std::slice::from_ref(certificate));
        }
        let mut obstacle = search.obstacle;
        let mut chains = search.found;
        chains.retain(|chain| match check_whole(chain) {
            Ok(()) => true,
            Err(error) => {
                obstacle = Some(error);
                false
            }
        });
        let count = chains.len();
        match (chains.pop(), count) {
            (Some(chain), 1) if constraints::common_name_is_free(&borrowed(&chain)) => Ok(chain),
            (Some(_), 1) => Err(ChainError::NameConstraints),
            (Some(_), count) => Err(ChainError::NotUnique { count }),
            (None, _) => Err(obstacle.unwrap_or(ChainError::UnknownAuthority)),
        }
    }
}

struct Search<'a> {
    authorities: &'a Authorities,
    time: i64,
    checks: usize,
    found: Vec<Chain>,
    /// The first reason for which an authority of the right name was passed over.
    obstacle: Option<ChainError>,
}

impl Search<'_> {
    /// Adds all chains that begin with `chain`. The depth is bounded by the number of checks.
    fn extend(&mut self, chain: &[Arc<Certificate>]) {
        let authorities = self.authorities;
        for root in &authorities.roots {
            if self.accepts(chain, root, true) {
                self.found.push(appended(chain, root));
            }
        }
        for intermediate in &authorities.intermediates {
            if self.accepts(chain, intermediate, false) {
                self.extend(&appended(chain, intermediate));
            }
        }
    }

    /// Whether `candidate` signed the last certificate of `chain` and may stand above it.
    fn accepts(
        &mut self,
        chain: &[Arc<Certificate>],
        candidate: &Arc<Certificate>,
        is_root: bool,
    ) -> bool {
        let Some(child) = chain.last() else {
            return false;
        };
        if child.issuer != candidate.subject {
            return false;
        }
        self.checks += 1;
        if self.checks > MAX_SIGNATURE_CHECKS {
            self.obstacle.get_or_insert(ChainError::TooManyChecks);
            return false;
        }
        if is_in(candidate, chain) {
            return false;
        }
        let verdict = if child.is_signed_by(candidate) {
            self.check_authority(candidate, chain.len() - 1, is_root)
        } else {
            Err(ChainError::NotSignedByAuthority {
                authority: candidate.common_name.clone(),
            })
        };
        match verdict {
            Ok(()) => true,
            Err(error) => {
                self.obstacle.get_or_insert(error);
                false
            }
        }
    }

    /// `below` counts the intermediate authorities below the candidate.
    fn check_authority(
        &self,
        candidate: &Certificate,
        below: usize,
        is_root: bool,
    ) -> Result<(), ChainError> {
        self.check_validity(candidate)?;
        if !is_root && !candidate.is_ca() {
            return Err(ChainError::NotAnAuthority {
                name: candidate.common_name.clone(),
            });
        }
        let path_length = candidate
            .extensions
            .basic_constraints
            .and_then(|constraints| constraints.path_length);
        match path_length {
            Some(length) if u64::try_from(below).unwrap_or(u64::MAX) > length => {
                Err(ChainError::PathTooLong {
                    authority: candidate.common_name.clone(),
                    allowed: length,
                })
            }
            _ => Ok(()),
        }
    }

    fn check_validity(&self, certificate: &Certificate) -> Result<(), ChainError> {
        if certificate.extensions.has_unknown_critical {
            return Err(ChainError::UnknownCriticalExtension {
                name: certificate.common_name.clone(),
            });
        }
        if self.time < certificate.not_before || self.time > certificate.not_after {
            return Err(ChainError::NotValidAtIssue {
                name: certificate.common_name.clone(),
                time: self.time,
                not_before: certificate.not_before,
                not_after: certificate.not_after,
            });
        }
        Ok(())
    }
}

/// What can only be judged of a whole chain.
fn check_whole(chain: &[Arc<Certificate>]) -> Result<(), ChainError> {
    for certificate in chain {
        if certificate.extensions.server_use == ServerUse::Excluded {
            return Err(ChainError::KeyUsage {
                name: certificate.common_name.clone(),
            });
        }
    }
    check_policies(chain)?;
    if constraints::are_met(&borrowed(chain)) {
        Ok(())
    } else {
        Err(ChainError::NameConstraints)
    }
}

/// Whether explicit certificate policies are there where they are required. The root's constraints do not
/// count. With an authority in between, whose policies would have to agree, what requires policies is
/// refused; see the crate's deliberate differences.
fn check_policies(chain: &[Arc<Certificate>]) -> Result<(), ChainError> {
    let Some((leaf, [between @ .., _root])) = chain.split_first() else {
        return Ok(());
    };
    let requires = |certificate: &Certificate| certificate.extensions.requires_policies;
    let refused = |certificate: &Certificate| {
        Err(ChainError::Policies {
            name: certificate.common_name.clone(),
        })
    };
    if let Some(authority) = between.iter().find(|ca| requires(ca) >= Some(0)) {
        return refused(authority);
    }
    if requires(leaf) == Some(0) && !(between.is_empty() && leaf.extensions.has_policies) {
        return refused(leaf);
    }
    Ok(())
}

/// Whether the same authority (subject, key and alternative names) is in the chain already.
fn is_in(candidate: &Certificate, chain: &[Arc<Certificate>]) -> bool {
    chain.iter().any(|certificate| {
        certificate.subject == candidate.subject
            && certificate.key_info == candidate.key_info
            && certificate.extensions.subject_alt_name == candidate.extensions.subject_alt_name
    })
}

fn appended(chain: &[Arc<Certificate>], certificate: &Arc<Certificate>) -> Chain {
    let mut longer = Vec::with_capacity(chain.len() + 1);
    longer.extend_from_slice(chain);
    longer.push(certificate.clone());
    longer
}

fn borrowed(chain: &[Arc<Certificate>]) -> Vec<&Certificate> {
    chain.iter().map(Arc::as_ref).collect()
}

fn without_duplicates(certificates: &[Arc<Certificate>]) -> Vec<Arc<Certificate>> {
    let mut unique: Vec<Arc<Certificate>> = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        if unique.iter().all(|known| known.der != certificate.der) {
            unique.push(certificate.clone());
        }
    }
    unique
}
